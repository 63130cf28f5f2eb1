//! Crashes and faults in the committer.

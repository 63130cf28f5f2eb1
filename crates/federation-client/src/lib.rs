//! Requests to other servers: discovery, key ring, signing, back-off, one typed call each.
//!
//! Nothing is asked of other servers yet: `rooms` refuses what would need one, such as inviting their users.

//! What other servers send, at random and by changing what is good: nothing panics, nothing grows without bound, and what is accepted is the same
//! when it is read again.
//!
//! Every test is a fuzz target. The few cases of the normal run are for noticing that one has broken; `just fuzz TARGET CASES` runs as many as
//! there is time for (`docs/testing.md`).

mod canonical_json;
mod ground;
mod join_response;
mod json;
mod pdu;
mod transaction;
mod x_matrix;

use proptest::test_runner::Config;

/// How many cases: what `PROPTEST_CASES` says, or else `few`. Faults are kept nowhere but in the output: what one finds becomes a test by name.
fn cases(few: u32) -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(few);
    Config { cases, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() }
}

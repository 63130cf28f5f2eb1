//! Servers on a bad network, by seed (`docs/testing.md`). `SIMULATE_SEEDS` says how many seeds; `SIMULATE_FROM` at which they begin.

use std::env;

fn number(name: &str, otherwise: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
#[expect(clippy::print_stdout, reason = "a run of a thousand seeds tells how far it is")]
fn servers_agree_once_the_network_is_good_again() {
    let (from, count) = (number("SIMULATE_FROM", 0), number("SIMULATE_SEEDS", 10));
    let mut faults = Vec::new();
    for seed in from..from + count {
        match testkit::simulate::run(seed) {
            Ok(outcome) => println!("seed {seed}: {outcome:?}"),
            Err(fault) => {
                println!("seed {seed}: {fault}");
                faults.push(seed);
            }
        }
    }
    assert!(faults.is_empty(), "seeds {faults:?}");
}

//! Property tests draw the same cases in every run, in all packages of the workspace: `.cargo/config.toml` sets their
//! seed.
//! Proves no rule of the protocol: the seed of property tests.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngSeed, TestRunner};

/// The numbers that a property test with the default configuration draws.
fn drawn() -> Vec<u64> {
    let mut runner = TestRunner::default();
    let mut draw = || any::<u64>().new_tree(&mut runner).unwrap().current();
    (0..8).map(|_| draw()).collect()
}

#[test]
fn every_run_draws_the_same_cases() {
    let config = ProptestConfig::default();
    let hint =
        "the seed comes from .cargo/config.toml: run this by cargo, inside of the repository";
    assert!(matches!(config.rng_seed, RngSeed::Fixed(_)), "{hint}");
    assert!(config.failure_persistence.is_none(), "{hint}");
    assert_eq!(drawn(), drawn());
    // `cargo xtask explore` sets another seed.
    if config.rng_seed == RngSeed::Fixed(20_260_801) {
        assert_eq!(drawn()[0], 11_943_731_779_491_670_939);
    }
}

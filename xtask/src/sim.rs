//! `cargo xtask sim`: runs the simulator in a profile of its own.
//!
//! In: how many seeds, or which one. Out: what the simulator prints: counters, and for a failure its seed and the
//! smallest scenario that fails. Absent: the simulator itself, see `tests/sim`.

use crate::Result;
use crate::process::{cargo, run};

/// Builds the simulator and runs it with these arguments.
pub(crate) fn execute(arguments: &[String]) -> Result {
    let build = ["run", "--quiet", "--profile", "sim", "-p", "lianmai-sim", "--"];
    run(cargo().args(build).args(arguments))
}

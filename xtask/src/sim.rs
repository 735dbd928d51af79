//! `cargo xtask sim`: worlds from seeds, in a profile of their own. Comes in: how many, or which one. Goes out: what
//! the simulator prints: counters, and a failing seed with the least that it takes.

use crate::Result;
use crate::process::{cargo, run};

/// Passes everything on.
pub(crate) fn execute(arguments: &[String]) -> Result {
    let build = ["run", "--quiet", "--profile", "sim", "-p", "lianmai-sim", "--"];
    run(cargo().args(build).args(arguments))
}

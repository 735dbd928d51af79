//! `cargo xtask bench`: what a join, a member, a delivery and a puller cost, and how soon a cut is seen, on a release
//! build. Figures are for people: nothing fails because a machine is slow.

use std::process::Command;

use crate::process::{cargo, run, target};
use crate::{Result, tools};

const ALL: &[&str] = &["join", "idle", "fanout", "pullers", "cut"];

pub(crate) fn execute(asked: &[String]) -> Result {
    tools::media()?;
    let packages = ["-p", "lianmai-signal-server", "-p", "lianmai-load"];
    run(cargo().args(["build", "--release"]).args(packages))?;
    let target = target().join("release");
    let load = |arguments: &[String]| {
        let mut load = Command::new(target.join("load"));
        run(load.arg("--server").arg(target.join("signal-server")).args(arguments))
    };
    if !asked.is_empty() {
        return load(asked);
    }
    for bench in ALL {
        load(&[(*bench).to_owned()])?;
    }
    Ok(())
}

//! `cargo xtask bench`: measures on a release build what a join, a member, a delivery, a puller and a push task cost,
//! how long a member waits beside greedy others, and how soon a cut takes effect.
//!
//! In: the names of benchmarks. Out: figures for people. Absent: pass or fail; a slow machine is no failure.

use std::process::Command;

use crate::process::{cargo, run, target};
use crate::{Result, tools, wasm};

const ALL: &[&str] = &["join", "idle", "fanout", "beside", "pullers", "cut", "compose"];

/// This benchmark takes 10 minutes, so it runs only if it is named.
const HIDDEN: &str = "hidden";

pub(crate) fn execute(asked: &[String]) -> Result {
    if let [bench, minutes @ ..] = asked
        && bench == HIDDEN
    {
        return hidden(minutes);
    }
    if asked == ["wasm"] {
        return boundary();
    }
    tools::media()?;
    tools::relay()?;
    let packages = ["lianmai-signal-server", "lianmai-compositor", "lianmai-load"];
    let packages = packages.iter().flat_map(|name| ["-p", name]);
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

/// Measures the cost of an event at the boundary of WebAssembly, in a context with only what a phone offers, and
/// natively.
fn boundary() -> Result {
    wasm::execute()?;
    run(cargo().args(["build", "--release", "-q", "-p", "lianmai-load"]))?;
    let mut bench = Command::new("node");
    bench.arg("bench.mjs").current_dir(wasm::javascript());
    run(bench.env("LIANMAI_PACKAGE", target().join("npm/lianmai")))?;
    run(Command::new(target().join("release/load")).arg("decode"))
}

/// Checks whether a page in a hidden tab of Chromium stays a member.
fn hidden(minutes: &[String]) -> Result {
    tools::browser()?;
    let tarball = wasm::package()?;
    run(cargo().args(["build", "--release", "-p", "lianmai-signal-server"]))?;
    let words: Vec<&str> =
        std::iter::once("bench-hidden.mjs").chain(minutes.iter().map(String::as_str)).collect();
    wasm::packaging(&words, &tarball, &target().join("release"))
}

//! `cargo xtask page`: the page that the server embeds, and its tests. Comes in: the page's sources and the npm package. Goes
//! out: `crates/signal-server/page/dist`, which the next build of the server takes. Deliberately absent: what the files are
//! served with; that is the server's.

use std::path::PathBuf;
use std::process::Command;

use crate::process::{cargo, root, run, target};
use crate::{Result, tools, wasm};

fn folder() -> PathBuf {
    root().join("crates/signal-server/page")
}

fn tests() -> PathBuf {
    root().join("tests/page")
}

pub(crate) fn execute() -> Result {
    build()?;
    println!("the next build of the server has it: cargo build -p lianmai-signal-server");
    Ok(())
}

/// Builds the page; where nothing changed, no file changes.
pub(crate) fn build() -> Result {
    wasm::package()?;
    tools::javascript(&folder())?;
    run(Command::new("npm").args(["run", "--silent", "check"]).current_dir(folder()))?;
    let mut build = Command::new("node");
    build.current_dir(folder()).arg("build.mjs");
    run(build.arg("--sdk").arg(target().join("npm/lianmai")))
}

/// Chromium drives the page of a real server, with real media.
pub(crate) fn check() -> Result {
    tools::browser()?;
    tools::media()?;
    tools::javascript(&tests())?;
    let packages = ["lianmai-signal-server", "lianmai-example-bot"];
    run(cargo().arg("build").args(packages.iter().flat_map(|name| ["-p", name])))?;
    let mut node = Command::new("node");
    // What takes minutes hangs.
    node.current_dir(tests()).args(["--test", "--test-timeout=180000", "all.test.mjs"]);
    node.env("LIANMAI_PACKAGE", target().join("npm/lianmai"));
    let binaries = target().join("debug");
    node.env("LIANMAI_SERVER", binaries.join("signal-server"));
    run(node.env("LIANMAI_BOT", binaries.join("bot")))
}

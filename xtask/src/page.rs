//! `cargo xtask page`: builds the page that the server embeds, and runs its tests.
//!
//! In: the sources of the page, and the npm package. Out: `crates/signal-server/page/dist`, which the next build of
//! the server embeds. Absent: how the files are served; the server does that.

use std::path::PathBuf;
use std::process::Command;

use crate::process::{cargo, exclusive, root, run, target};
use crate::{Result, tools, wasm};

fn folder() -> PathBuf {
    root().join("crates/signal-server/page")
}

fn tests() -> PathBuf {
    root().join("tests/page")
}

/// The folder for the pictures of the page in the documents.
const IMAGES: &str = "docs/images";

pub(crate) fn execute(arguments: &[String]) -> Result {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => {
            build()?;
            println!("the next build of the server has it: cargo build -p lianmai-signal-server");
            Ok(())
        }
        ["--images"] => {
            build()?;
            tools::fonts()?;
            let only = ["--test-name-pattern=a picture of it", "all.test.mjs"];
            run(ready()?.args(only).env("LIANMAI_IMAGES", IMAGES))
        }
        _ => Err(format!("no such option: {}", arguments.join(" "))),
    }
}

/// Builds the page. If nothing changed, no file changes.
pub(crate) fn build() -> Result {
    // Held until the page is built, so that nobody else packs the SDK meanwhile.
    let lock = exclusive()?;
    wasm::package_under(&lock)?;
    tools::javascript(&folder())?;
    run(Command::new("npm").args(["run", "--silent", "check"]).current_dir(folder()))?;
    let mut build = Command::new("node");
    build.current_dir(folder()).arg("build.mjs");
    run(build.arg("--sdk").arg(target().join("npm/lianmai")))
}

/// Runs the tests of the page: of its room, without a browser; then in Chromium of the page of a real server with real
/// media, of push tasks, and of the JavaScript examples.
pub(crate) fn check() -> Result {
    // No bound on the time here: each test has its own.
    run(ready()?.arg("room.test.mjs"))?;
    run(ready()?.arg("all.test.mjs"))?;
    run(ready()?.arg("tasks.test.mjs"))?;
    run(ready()?.arg("examples.test.mjs"))
}

/// A command for Node in the folder of the tests. Builds and installs everything that the tests start.
fn ready() -> Result<Command> {
    tools::browser()?;
    tools::media()?;
    // The examples use the simulated phone of the package's own tests.
    tools::javascript(&wasm::javascript())?;
    tools::javascript(&tests())?;
    let packages = ["lianmai-signal-server", "lianmai-compositor", "lianmai-example-bot"];
    run(cargo().arg("build").args(packages.iter().flat_map(|name| ["-p", name])))?;
    let mut node = Command::new("node");
    node.current_dir(tests());
    node.env("LIANMAI_PACKAGE", target().join("npm/lianmai"));
    let binaries = target().join("debug");
    node.env("LIANMAI_SERVER", binaries.join("signal-server"));
    node.env("LIANMAI_BOT", binaries.join("bot"));
    Ok(node)
}

//! `cargo xtask page`: the page that the server embeds, and its tests. Comes in: the page's sources and the npm package. Goes
//! out: `crates/signal-server/page/dist`, which the next build of the server takes. Deliberately absent: what the files are
//! served with; that is the server's.

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

/// Where pictures of it are, for the documents.
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

/// Builds the page; where nothing changed, no file changes.
pub(crate) fn build() -> Result {
    // Until the page is built, too: nobody else packs the SDK anew meanwhile.
    let lock = exclusive()?;
    wasm::package_under(&lock)?;
    tools::javascript(&folder())?;
    run(Command::new("npm").args(["run", "--silent", "check"]).current_dir(folder()))?;
    let mut build = Command::new("node");
    build.current_dir(folder()).arg("build.mjs");
    run(build.arg("--sdk").arg(target().join("npm/lianmai")))
}

/// Chromium drives the page of a real server, with real media; then the examples of JavaScript run as they are.
pub(crate) fn check() -> Result {
    // Each test has a bound of its own.
    run(ready()?.arg("all.test.mjs"))?;
    run(ready()?.arg("tasks.test.mjs"))?;
    run(ready()?.arg("examples.test.mjs"))
}

/// Node in the folder of the tests, and everything that they start.
fn ready() -> Result<Command> {
    tools::browser()?;
    tools::media()?;
    // The phone of the examples is that of the package's own tests.
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

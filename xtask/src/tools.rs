//! Tools that are not crates: found, or installed when we are root, or the exact command is printed. A
//! missing tool is a failure, never a skip.

use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::process::{exists, output, run};

/// A program, how to see that it is there, and the Debian package that has it.
struct Tool {
    program: &'static str,
    version: &'static str,
    package: &'static str,
}

const MEDIA: &[Tool] = &[
    Tool { program: "ffmpeg", version: "-version", package: "ffmpeg" },
    Tool { program: "ffprobe", version: "-version", package: "ffmpeg" },
];

/// What the relay is measured beside and forwards to: a server, and its module, which is no program.
const RELAY: &[Tool] =
    &[Tool { program: "nginx", version: "-v", package: "nginx libnginx-mod-rtmp" }];

const PYTHON: &[Tool] =
    &[Tool { program: "python3", version: "--version", package: "python3 python3-venv" }];

const BROWSER: &[Tool] = &[
    Tool { program: "chromium", version: "--version", package: "chromium" },
    // For a page by https.
    Tool { program: "openssl", version: "version", package: "openssl" },
];

const GIT: &[Tool] = &[Tool { program: "git", version: "--version", package: "git" }];

/// What knows the files of this tree and applies patches.
pub(crate) fn git() -> Result {
    ensure(GIT)
}

/// What pages are tested in.
pub(crate) fn browser() -> Result {
    ensure(BROWSER)
}

/// What Chinese is drawn with.
pub(crate) fn fonts() -> Result {
    let listed = output(Command::new("fc-list").arg(":lang=zh"));
    if listed.is_ok_and(|fonts| !fonts.trim().is_empty()) {
        return Ok(());
    }
    Err("missing: a font for Chinese. Install fonts-wqy-microhei, or any other one.".into())
}

/// What the demo needs.
pub(crate) fn media() -> Result {
    ensure(MEDIA)
}

/// What the relay is measured beside.
pub(crate) fn relay() -> Result {
    ensure(RELAY)
}

/// What the tests need.
pub(crate) fn tests() -> Result {
    ensure(MEDIA)?;
    ensure(RELAY)?;
    ensure(PYTHON)
}

fn ensure(tools: &[Tool]) -> Result {
    let mut packages: Vec<_> = tools
        .iter()
        .filter(|tool| !exists(tool.program, tool.version))
        .map(|tool| tool.package)
        .collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    let command = format!("apt-get update && apt-get install -y --no-install-recommends {list}");
    if !exists("apt-get", "--version") {
        return Err(format!("missing: {list}. Install it with your package manager."));
    }
    let root = output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !root {
        return Err(format!("missing: {list}. Run: sudo sh -c '{command}'"));
    }
    println!("installing {list}");
    run(Command::new("sh").args(["-c", &command]).env("DEBIAN_FRONTEND", "noninteractive"))?;
    match tools.iter().find(|tool| !exists(tool.program, tool.version)) {
        Some(tool) => {
            Err(format!("{} was installed, but {} does not run", tool.package, tool.program))
        }
        None => Ok(()),
    }
}

/// What a folder of JavaScript is built or tested with: Node, and what its lock file names.
pub(crate) fn javascript(directory: &Path) -> Result {
    let version = output(Command::new("node").arg("--version"));
    let major = version.as_deref().ok().and_then(|version| {
        version.trim().trim_start_matches('v').split('.').next()?.parse::<u32>().ok()
    });
    if major.is_none_or(|major| major < 20) || !exists("npm", "--version") {
        return Err(
            "missing: Node 20 or later with npm. Install it from https://nodejs.org.".into()
        );
    }
    let changed =
        |path: &str| directory.join(path).metadata().and_then(|file| file.modified()).ok();
    if changed("node_modules/.package-lock.json") >= changed("package-lock.json") {
        return Ok(());
    }
    let mut install = Command::new("npm");
    run(install.args(["ci", "--no-audit", "--no-fund"]).current_dir(directory))
}

/// What a folder needs of Python: an environment with what its file of requirements names.
pub(crate) fn python(requirements: &Path, environment: &Path) -> Result {
    ensure(PYTHON)?;
    let changed = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
    // Written last: without it the environment is not complete.
    let finished = environment.join("finished");
    if changed(&finished) >= changed(requirements) {
        return Ok(());
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(environment))?;
    let mut install = Command::new(environment.join("bin/pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    run(install.arg(requirements))?;
    std::fs::write(&finished, "").map_err(|error| format!("{}: {error}", finished.display()))
}

/// The toolchain file names the target, but rustup does not always install it by itself.
pub(crate) fn wasm_target() -> Result {
    const TARGET: &str = "wasm32-unknown-unknown";
    if !exists("rustup", "--version") {
        return Err(format!("rustup is missing; the target {TARGET} must be installed by hand"));
    }
    let mut list = Command::new("rustup");
    list.args(["target", "list", "--installed"]).current_dir(crate::process::root());
    if output(&mut list)?.lines().any(|line| line == TARGET) {
        return Ok(());
    }
    run(Command::new("rustup").args(["target", "add", TARGET]).current_dir(crate::process::root()))
}

//! `cargo xtask test`: every check, in the order in which a failure is cheapest to find. Each part says how
//! long it took.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::process::{cargo, root, run, target};
use crate::{Result, api, cycles, page, purity, rules, tools, wasm};

type Part = (&'static str, fn() -> Result);

const PARTS: &[Part] = &[
    ("rules", rules::check),
    ("cycles", cycles::check),
    ("format", format),
    ("lints", lints),
    ("docs", docs),
    ("purity", purity::check),
    ("build", build),
    ("unit", unit),
    ("js", js),
    ("page", page::check),
    ("e2e", e2e),
    ("api", api::check_all),
];

/// Packages whose tests use real sockets and real media: they run after everything else.
const END_TO_END: &[&str] = &["lianmai-e2e"];

/// Tests with hundreds of clients, and those with encoders and decoders by the dozen.
const HEAVY_TESTS: &[&str] = &["storm::", "rolling::", "tasks"];

fn run_part((name, part): &Part, times: &mut Vec<(&'static str, f32)>) -> Result {
    println!("== {name}");
    let start = Instant::now();
    part()?;
    times.push((name, start.elapsed().as_secs_f32()));
    Ok(())
}

pub(crate) fn execute(names: &[String]) -> Result {
    if let Some(unknown) = names.iter().find(|name| PARTS.iter().all(|(part, _)| part != name)) {
        return Err(format!("no such part: {unknown}"));
    }
    let mut times = Vec::new();
    let wanted = |part: &str| names.is_empty() || names.iter().any(|name| name == part);
    if wanted("purity") {
        run_part(&("target", tools::wasm_target), &mut times)?;
    }
    if wanted("unit") || wanted("e2e") {
        run_part(&("tools", tools::tests), &mut times)?;
    }
    if wanted("page") {
        // Before anything is built: the server embeds it.
        run_part(&("embed", page::build), &mut times)?;
    }
    for part in PARTS {
        if wanted(part.0) {
            run_part(part, &mut times)?;
        }
    }
    println!("== times");
    for (name, seconds) in times {
        println!("{name:>8} {seconds:6.1} s");
    }
    Ok(())
}

fn format() -> Result {
    run(cargo().args(["fmt", "--all", "--check"]))
}

fn lints() -> Result {
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    let session = ["clippy", "-p", "lianmai-client-sdk", "--no-default-features"];
    run(cargo().args(session).args(["--", "-D", "warnings"]))?;
    let tls = ["clippy", "-p", "lianmai-client-sdk", "--features", "tls", "--all-targets"];
    run(cargo().args(tls).args(["--", "-D", "warnings"]))
}

fn docs() -> Result {
    let mut doc = cargo();
    doc.args(["doc", "--workspace", "--no-deps", "--document-private-items"]);
    run(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

fn build() -> Result {
    run(cargo().args(["test", "--workspace", "--no-run"]))
}

fn unit() -> Result {
    let mut test = cargo();
    test.args(["test", "--workspace"]);
    for package in END_TO_END {
        test.args(["--exclude", package]);
    }
    run(&mut test)
}

/// The npm package: built as it is packed, against a real server and what the simulator recorded; then installed as
/// packed, in projects of every kind.
fn js() -> Result {
    tools::browser()?;
    let tarball = wasm::package()?;
    run(cargo().args(["build", "-p", "lianmai-signal-server", "-p", "lianmai-sim", "--bins"]))?;
    let binaries = target().join("debug");
    let mut test = Command::new("npm");
    test.current_dir(wasm::javascript()).args(["test", "--silent"]);
    test.env("LIANMAI_PACKAGE", target().join("npm/lianmai"));
    test.env("LIANMAI_SERVER", binaries.join("signal-server"));
    run(test.env("LIANMAI_SIM", binaries.join("lianmai-sim")))?;
    // What takes minutes hangs.
    let all = ["--test", "--test-timeout=900000", "all.test.mjs"];
    wasm::packaging(&all, &tarball, &binaries)?;
    players(&binaries)
}

/// Players of web pages, in Chromium.
fn players(binaries: &Path) -> Result {
    let directory = root().join("tests/players");
    tools::javascript(&directory)?;
    let mut test = Command::new("npm");
    test.current_dir(directory).args(["test", "--silent"]);
    run(test.env("LIANMAI_SERVER", binaries.join("signal-server")))
}

fn e2e() -> Result {
    let test = |arguments: &[&str]| {
        let mut test = cargo();
        test.arg("test");
        for package in END_TO_END {
            test.args(["-p", package]);
        }
        run(test.arg("--").args(arguments))
    };
    // Real time and real encoders: four at once fill two cores without starving each other.
    let crowds = HEAVY_TESTS.iter().flat_map(|crowd| ["--skip", crowd]);
    let others: Vec<&str> = ["--test-threads", "4"].into_iter().chain(crowds).collect();
    test(&others)?;
    // A crowd takes the machine for itself.
    let alone: Vec<&str> =
        ["--test-threads", "1"].into_iter().chain(HEAVY_TESTS.iter().copied()).collect();
    test(&alone)
}

//! `cargo xtask <command>`: everything that a developer or CI runs. It has no dependencies, so that it
//! builds in a moment.

mod api;
mod bench;
mod cycles;
mod demo;
mod explore;
mod fuzz;
mod mutants;
mod page;
mod process;
mod purity;
mod references;
mod rules;
mod sim;
mod test;
mod tools;
mod wasm;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask test [PART..]   install what is missing, then check everything (or some parts:
                            rules cycles format lints docs purity build unit js page e2e
                            api)
cargo xtask demo [--no-media] [--lan ADDRESS] [--dir DIR] [-- SERVER_FLAGS..]
                            start a server with its page and three hosts, and print what to
                            open; with --lan for everybody in the network of ADDRESS
cargo xtask api [check]     write docs/api anew, from the types that the server serves; with `check` have it judged
                            by tools from npm and PyPI, and run the clients that they make of it
cargo xtask bench [wasm|join|idle|fanout|beside|pullers|cut|compose ..]
                            what a join, a member, a delivery, a puller and a push task cost,
                            and how soon a cut is seen; `compose --drift-minutes 10`: how far
                            picture and sound of a push task are apart
cargo xtask bench hidden [MINUTES]
                            whether a page in a hidden tab stays a member, for 10 minutes
cargo xtask explore --minutes N
                            fresh seeds for every property test, the simulator and the fuzz
                            bodies; prints what fails as a case for the repository
cargo xtask fuzz --minutes N [--target NAME]
                            fuzz the targets of tests/fuzz, N minutes in all (needs nightly)
cargo xtask mutants [--seeds N] [--write] [NAME..]
                            whether the simulator finds what is broken on purpose
cargo xtask page [--images] the page that the server embeds: builds it, prints what it weighs;
                            with --images draws those of docs/images anew
cargo xtask sim [--seeds N] [--seed S] [--file F] [--help]
                            client and server in virtual worlds, each from a seed
cargo xtask wasm            the npm package: builds and packs it, prints what it weighs
cargo xtask help            this text";

/// Why a command failed, for the person who ran it.
type Result<T = ()> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let outcome = match command.as_str() {
        "test" => test::execute(&rest),
        "demo" => demo::execute(&rest),
        "api" => api::execute(&rest),
        "bench" => bench::execute(&rest),
        "explore" => explore::execute(&rest),
        "fuzz" => fuzz::execute(&rest),
        "wasm" => wasm::execute(),
        "page" => page::execute(&rest),
        "sim" => sim::execute(&rest),
        "mutants" => mutants::execute(&rest),
        "" | "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(format!("no such command: {other}\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

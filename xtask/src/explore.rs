//! `cargo xtask explore --minutes N`: runs with fresh seeds what `cargo xtask test` runs with fixed seeds: all
//! property tests, the simulator, and the fuzz bodies on stable Rust.
//!
//! In: a time, which is divided equally between the three. Out: each failure, as the smallest case that was found,
//! and the place in the repository for it. Absent: changes of the repository; libFuzzer, see `cargo xtask fuzz`.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Result;
use crate::process::{cargo, combined_output, root, run, target};

/// Folders with packages that may have property tests.
const TREES: &[&str] = &["crates", "tests"];
/// Worlds in one run of the simulator: about ten seconds.
const WORLDS: u64 = 200;
/// Upper bound of the drawn seeds, which keeps them readable.
const SEEDS: u64 = 1 << 40;

pub(crate) fn execute(arguments: &[String]) -> Result {
    let time = match arguments {
        [name, minutes] if name == "--minutes" => {
            let minutes = minutes.parse().ok().filter(|minutes: &f64| *minutes > 0.0);
            let minutes = minutes.ok_or("no time given: cargo xtask explore --minutes N")?;
            Duration::from_secs_f64(minutes * 60.0)
        }
        _ => return Err("no time given: cargo xtask explore --minutes N".to_owned()),
    };
    let modules = property_tests()?;
    build(&modules)?;
    let share = time / 3;
    let mut findings = properties(&modules, share);
    findings.extend(worlds(share)?);
    findings.extend(bodies(share)?);
    if findings.is_empty() {
        println!("== explore: nothing found");
        return Ok(());
    }
    Err(format!("found:\n{}", findings.join("\n")))
}

fn random_seed() -> u64 {
    // The standard library seeds its hash maps with randomness of the system.
    RandomState::new().hash_one(Instant::now())
}

/// Modules with property tests, by package.
type Modules = BTreeMap<String, Vec<String>>;

/// Finds all files `tests/it/NAME.rs` with property tests. A property test in another place is an error, because it
/// would not be run here.
fn property_tests() -> Result<Modules> {
    let mut modules = Modules::new();
    for file in crate::rules::all_sources(TREES)? {
        let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        if !text.lines().any(|line| line.trim_start().starts_with("proptest! {")) {
            continue;
        }
        let (package, module) = place(&file)?;
        modules.entry(package).or_default().push(module);
    }
    Ok(modules)
}

/// The package of a file, and its module in the test target `it`.
fn place(file: &Path) -> Result<(String, String)> {
    let wrong = || format!("{}: property tests belong into tests/it/NAME.rs", file.display());
    let module = file.file_stem().and_then(|stem| stem.to_str()).ok_or_else(wrong)?;
    let folder = file.parent().filter(|it| it.ends_with("tests/it")).ok_or_else(wrong)?;
    let package = folder.parent().and_then(Path::parent).ok_or_else(wrong)?;
    let manifest = fs::read_to_string(package.join("Cargo.toml")).map_err(|_| wrong())?;
    let name = manifest.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    Ok((name.ok_or_else(wrong)?.to_owned(), format!("{module}::")))
}

fn build(modules: &Modules) -> Result {
    println!("== build");
    let mut tests = cargo();
    tests.args(["test", "--no-run", "--test", "it"]);
    for package in modules.keys() {
        tests.args(["-p", package]);
    }
    run(&mut tests)?;
    run(cargo().args([
        "build",
        "--profile",
        "sim",
        "-p",
        "lianmai-sim",
        "-p",
        "lianmai-fuzz-bodies",
    ]))
}

/// Runs all property tests with a fresh seed, again and again until the time is over. A package that failed is not
/// run again.
fn properties(modules: &Modules, time: Duration) -> Vec<String> {
    println!("== property tests: {} s", time.as_secs());
    let start = Instant::now();
    let (mut rounds, mut findings) = (0, BTreeMap::new());
    while start.elapsed() < time && findings.len() < modules.len() {
        let seed = random_seed();
        for (package, modules) in modules {
            if findings.contains_key(package) {
                continue;
            }
            let mut test = cargo();
            test.args(["test", "-p", package, "--test", "it", "--"]).args(modules);
            test.env("PROPTEST_RNG_SEED", seed.to_string()).env("RUST_BACKTRACE", "0");
            if let Err(text) = combined_output(&mut test) {
                findings.insert(package.clone(), finding(package, seed, &text));
            }
        }
        rounds += 1;
    }
    println!("{rounds} rounds");
    findings.into_values().collect()
}

/// The relevant part of the output of a failed run.
fn finding(package: &str, seed: u64, text: &str) -> String {
    let mut lines = vec![format!("{package}, with PROPTEST_RNG_SEED={seed}:")];
    let mut shows = false;
    for line in text.lines() {
        // For each test: the last panic, then the smallest input. Or an error of cargo.
        shows |= line.starts_with("Test failed: ") || line.starts_with("error");
        if shows {
            lines.push(format!("  {line}"));
        }
        shows &= !line.trim_start().starts_with("successes: ");
    }
    let failed =
        text.lines().filter_map(|line| line.strip_suffix(" ... FAILED")?.strip_prefix("test "));
    for test in failed {
        lines.push(format!(
            "  again: PROPTEST_RNG_SEED={seed} cargo test -p {package} --test it {test}\n  for the repository: the \
             input as a test of its own beside {test}"
        ));
    }
    lines.join("\n")
}

/// Runs the simulator until a world fails or the time is over.
fn worlds(time: Duration) -> Result<Option<String>> {
    println!("== simulator: {} s", time.as_secs());
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < time {
        let from = random_seed() % SEEDS;
        let mut simulator = Command::new(target().join("sim/lianmai-sim"));
        simulator.args(["--seeds", &WORLDS.to_string(), "--from", &from.to_string()]);
        if let Err(text) = combined_output(&mut simulator) {
            return Ok(Some(format!(
                "the simulator, from seed {from}:\n{text}\n  for the repository: the seed as a line of \
                 tests/sim/seeds/regressions.txt, or the scenario as a file tests/sim/seeds/NAME.scenario"
            )));
        }
        count += WORLDS;
    }
    println!("{count} worlds");
    Ok(None)
}

fn bodies(time: Duration) -> Result<Option<String>> {
    let seed = random_seed();
    println!("== fuzz bodies: {} s, seed {seed}", time.as_secs());
    let mut roam = Command::new(target().join("sim/roam"));
    roam.args(["--seconds", &time.as_secs().to_string(), "--seed", &seed.to_string()]);
    roam.arg("--corpus").arg(root().join("tests/fuzz/corpus"));
    roam.arg("--found").arg(target().join("explore"));
    roam.env("RUST_BACKTRACE", "0");
    match combined_output(&mut roam) {
        Ok(text) => {
            print!("{text}");
            Ok(None)
        }
        Err(text) => Ok(Some(format!("a fuzz body:\n{text}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_with_property_tests_are_found() {
        let modules = property_tests().unwrap();
        for (package, module) in [
            ("lianmai-protocol", "hostile::"),
            ("lianmai-client-sdk", "diff::"),
            ("lianmai-signal-engine", "model::"),
            ("lianmai-media-plane", "hostile::"),
        ] {
            assert!(modules[package].iter().any(|found| found == module), "{modules:?}");
        }
    }

    #[test]
    fn a_failed_run_shows_the_minimal_input() {
        let text = "test a::b ... FAILED\nthread 'a::b' panicked at x:\nTest failed: no.\n\
                    minimal failing input: n = 3\n\tsuccesses: 0\n\tlocal rejects: 0\n";
        let text = finding("p", 7, text);
        assert!(text.contains("minimal failing input: n = 3"), "{text}");
        assert!(!text.contains("panicked") && !text.contains("rejects"), "{text}");
        assert!(text.contains("PROPTEST_RNG_SEED=7 cargo test -p p --test it a::b"), "{text}");
    }
}

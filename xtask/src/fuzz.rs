//! `cargo xtask fuzz --minutes N [--target NAME]`: runs the targets of `tests/fuzz` under libFuzzer, one after the
//! other.
//!
//! In: the committed corpus. Out: figures, and the input of each finding. Absent: installing tools; changes of the
//! committed corpus. New inputs are kept below `target`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;
use crate::process::{KillOnDrop, cargo, output, root, run, target};

/// Bounds for one input: its time in seconds, its length, one allocation, and the memory in total.
const LIMITS: &[&str] = &[
    "-timeout=20",
    "-max_len=4096",
    "-malloc_limit_mb=64",
    "-rss_limit_mb=2048",
    // Tries longer inputs earlier than by default, because the inputs are programs.
    "-len_control=20",
];

/// The setting that `cargo fuzz run` uses. The check that it turns off reports false errors about linking.
const ASAN: &str = "ASAN_OPTIONS=detect_odr_violation=0";

pub(crate) fn execute(arguments: &[String]) -> Result {
    let known = targets()?;
    let Options { minutes, target } = parse(arguments)?;
    if let Some(unknown) = target.as_ref().filter(|target| !known.contains(target)) {
        return Err(format!("no such target: {unknown}. There are: {}", known.join(" ")));
    }
    let chosen = target.map_or(known, |target| vec![target]);
    tools()?;
    lock()?;
    let directory = directory();
    let mut build =
        nightly(&["cargo", "fuzz", "build", "--fuzz-dir", "tests/fuzz", "--target-dir"]);
    build.arg(&directory);
    if let [only] = &chosen[..] {
        build.arg(only);
    }
    run(&mut build)?;
    let programs = directory.join(host()?).join("release");

    let seconds = (minutes * 60.0 / chosen.len() as f64).ceil() as u64;
    let mut reports = Vec::new();
    for target in &chosen {
        println!("== {target}: {seconds} s");
        reports.push(fuzz(&programs.join(target), target, seconds, &directory)?);
    }
    println!("== fuzz");
    println!(
        "{:>14} {:>12} {:>9} {:>7} {:>11}",
        "target", "executions", "per s", "edges", "new inputs"
    );
    for (target, report) in chosen.iter().zip(&reports) {
        let Report { executions, edges, found, .. } = report;
        println!(
            "{target:>14} {executions:>12} {:>9} {edges:>7} {found:>11}",
            executions / seconds
        );
    }
    let crashed = chosen.iter().zip(&reports).filter_map(|(target, report)| {
        let input = report.crash.as_ref()?;
        let program = programs.join(target);
        Some(format!("{target} failed. See it again with\n  {ASAN} {} {input}", program.display()))
    });
    match crashed.collect::<Vec<_>>() {
        none if none.is_empty() => Ok(()),
        crashed => Err(crashed.join("\n")),
    }
}

struct Options {
    minutes: f64,
    target: Option<String>,
}

fn parse(arguments: &[String]) -> Result<Options> {
    let (mut minutes, mut target) = (None, None);
    let mut rest = arguments.iter();
    while let Some(name) = rest.next() {
        let value = rest.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--minutes" => {
                let good = value.parse().ok().filter(|minutes: &f64| *minutes > 0.0);
                minutes = Some(good.ok_or_else(|| format!("no number of minutes: {value}"))?);
            }
            "--target" => target = Some(value.clone()),
            other => return Err(format!("no such option: {other}")),
        }
    }
    let minutes = minutes.ok_or("no time given: cargo xtask fuzz --minutes N [--target NAME]")?;
    Ok(Options { minutes, target })
}

/// All targets, named after their files.
fn targets() -> Result<Vec<String>> {
    let folder = root().join("tests/fuzz/fuzz_targets");
    let entries =
        fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let stem = |path: PathBuf| Some(path.file_stem()?.to_str()?.to_owned());
    let mut names: Vec<_> = entries.flatten().filter_map(|entry| stem(entry.path())).collect();
    names.sort();
    Ok(names)
}

/// A program of the nightly toolchain, whichever toolchain runs xtask.
fn nightly(words: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly"]).args(words).current_dir(root());
    for (name, value) in cargo().get_envs() {
        if value.is_none() {
            command.env_remove(name);
        }
    }
    command
}

/// Checks that the tools exist. A missing tool is a failure: this command does not install a toolchain.
fn tools() -> Result {
    let is_installed = |command: &mut Command| {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    };
    for (is_installed, name, hint) in [
        (is_installed(Command::new("rustup").arg("--version")), "rustup", "see https://rustup.rs"),
        (
            is_installed(&mut nightly(&["cargo", "--version"])),
            "nightly",
            "rustup toolchain install nightly",
        ),
        (
            is_installed(&mut nightly(&["cargo", "fuzz", "--version"])),
            "cargo-fuzz",
            "cargo install cargo-fuzz",
        ),
        (
            is_installed(Command::new("c++").arg("--version")),
            "a C++ compiler",
            "apt-get install g++",
        ),
    ] {
        if !is_installed {
            return Err(format!(
                "libFuzzer needs nightly Rust, cargo-fuzz and a C++ compiler on this machine. \
                 Missing: {name}. Get it: {hint}\n\
                 Stable Rust replays the corpus: cargo test -p lianmai-fuzz-bodies"
            ));
        }
    }
    Ok(())
}

/// Gives the fuzz targets the same dependencies as the product: copies the workspace's lock file, to which cargo adds
/// libFuzzer.
fn lock() -> Result {
    let (from, to) = (root().join("Cargo.lock"), root().join("tests/fuzz/Cargo.lock"));
    let time = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    if time(&to) < time(&from) {
        fs::copy(&from, &to).map_err(|error| format!("{}: {error}", to.display()))?;
    }
    Ok(())
}

/// The folder for everything that is not committed.
fn directory() -> PathBuf {
    target().join("fuzz")
}

fn host() -> Result<String> {
    let text = output(&mut nightly(&["rustc", "-vV"]))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "`rustc -vV` does not print its host".to_owned())
}

#[derive(Default)]
struct Report {
    executions: u64,
    /// Covered edges in the whole program.
    edges: u64,
    /// New inputs, which reach something that no input of the corpus reaches.
    found: usize,
    /// The file of the input that failed.
    crash: Option<String>,
}

fn fuzz(program: &Path, target: &str, seconds: u64, directory: &Path) -> Result<Report> {
    let problem = |error: std::io::Error| format!("{target}: {error}");
    let folder = |name: &str| {
        let folder = directory.join(name).join(target);
        fs::create_dir_all(&folder).map(|()| folder).map_err(problem)
    };
    let (found, artifacts, logs) = (folder("found")?, folder("artifacts")?, folder("logs")?);
    let before = files(&found);
    let mut command = Command::new(program);
    // libFuzzer writes new inputs only to the first folder.
    command.arg(&found).arg(root().join("tests/fuzz/corpus").join(target));
    command.arg(format!("-artifact_prefix={}/", artifacts.display())).args(LIMITS);
    command.args([format!("-max_total_time={seconds}"), "-print_final_stats=1".to_owned()]);
    command.envs(ASAN.split_once('='));
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = KillOnDrop(child.map_err(problem)?);
    let stderr = child.0.stderr.take().ok_or("the child process has no stderr")?;
    let mut log = fs::File::create(logs.join("log")).map_err(problem)?;
    let mut report = Report::default();
    let mut show = 0;
    for line in BufReader::new(stderr).split(b'\n') {
        let line = line.map_err(problem)?;
        let line = String::from_utf8_lossy(&line);
        writeln!(log, "{line}").map_err(problem)?;
        report.read(&line);
        // Shows the panic and its message, but not the backtrace.
        match () {
            () if line.contains("panicked at") => show = 6,
            () if line.contains("ERROR: ") || line.contains("DONE") => show = 1,
            () if line.starts_with("stack backtrace") => show = 0,
            () => {}
        }
        if show > 0 {
            show -= 1;
            println!("{line}");
        }
    }
    let status = child.0.wait().map_err(problem)?;
    if !status.success() && report.crash.is_none() {
        return Err(format!("{target} failed without an input ({status}): {}", logs.display()));
    }
    report.found = files(&found).saturating_sub(before);
    Ok(report)
}

impl Report {
    /// Reads a line of libFuzzer's output.
    fn read(&mut self, line: &str) {
        if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
            self.executions = count.trim().parse().unwrap_or(0);
        }
        if let Some((_, rest)) = line.split_once(" cov: ") {
            let edges = rest.split(' ').next().unwrap_or_default();
            self.edges = edges.parse().unwrap_or(self.edges);
        }
        if let Some((_, input)) = line.split_once("Test unit written to ") {
            self.crash = Some(input.trim().to_owned());
        }
    }
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_and_a_failing_input_are_read() {
        let mut report = Report::default();
        report.read("#1675\tINITED cov: 8436 ft: 30433 corp: 1186/57Kb exec/s: 837 rss: 305Mb");
        report.read("stat::number_of_executed_units: 93103");
        assert_eq!((report.executions, report.edges), (93_103, 8_436));
        assert!(report.crash.is_none());
        report.read("artifact_prefix='./'; Test unit written to ./crash-5557");
        assert_eq!(report.crash.as_deref(), Some("./crash-5557"));
    }

    #[test]
    fn options_are_checked() {
        let parse = |words: &[&str]| {
            parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).map(|_| ())
        };
        assert!(parse(&["--minutes", "0.5", "--target", "rtmp"]).is_ok());
        for words in [&[][..], &["--minutes"], &["--minutes", "0"], &["--hours", "1"]] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}

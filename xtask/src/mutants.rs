//! `cargo xtask mutants`: tests the checkers of the simulator.
//!
//! In: the patches of `tests/sim/mutants`, each of which breaks one rule in the engine or the session. The simulator
//! must find each mutant by a checker that the patch names, and must find nothing in the unbroken sources. Out: what
//! was found, by which checker and at which seed. Absent: changes of the working tree; the work is done on a copy.
//! Only `--write` puts the table of results into the README of the simulator.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::process::{cargo, output, root, target};
use crate::{Result, tools};

const PATCHES: &str = "tests/sim/mutants";
const README: &str = "tests/sim/README.md";
const BEGIN: &str = "<!-- mutants: written by `cargo xtask mutants --write` -->";
const END: &str = "<!-- end of mutants -->";

/// A patch, and what its head states: the lines above its first difference.
struct Mutant {
    file: PathBuf,
    name: String,
    rule: String,
    /// Names of the checkers that may find the mutant; `any` stands for all.
    checkers: Vec<String>,
    what: String,
}

/// How a run of the simulator ended.
enum Outcome {
    Passed,
    /// A checker failed: its name, and the seed.
    Found(String, String),
}

pub(crate) fn execute(arguments: &[String]) -> Result {
    let (mut seeds, mut only, mut write) = ("2000".to_owned(), Vec::new(), false);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seeds" => seeds.clone_from(words.next().ok_or("--seeds needs a number")?),
            "--write" => write = true,
            name => only.push(name),
        }
    }
    tools::git()?;
    let directory = target().join("mutants");
    let copy = directory.join("src");
    let mut mutants = read()?;
    mutants.retain(|mutant| only.is_empty() || only.contains(&mutant.name.as_str()));
    if mutants.is_empty() {
        return Err("no such mutant".to_owned());
    }
    restore(&copy)?;
    if let Outcome::Found(checker, seed) = run(&directory, &seeds)? {
        return Err(format!("the unbroken sources fail: seed {seed}, checker {checker}"));
    }
    println!("unbroken: {seeds} seeds pass");
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    for mutant in &mutants {
        let start = Instant::now();
        let verdict = test_mutant(mutant, &directory, &copy, &seeds);
        let seconds = start.elapsed().as_secs();
        match verdict {
            Ok((checker, seed)) => {
                println!("{}: found by {checker}, seed {seed} ({seconds} s)", mutant.name);
                let Mutant { name, rule, what, .. } = mutant;
                rows.push(format!("| `{name}` | {rule} | {what} | `{checker}` | {seed} |"));
            }
            Err(problem) => {
                println!("{}: {problem} ({seconds} s)", mutant.name);
                failed.push(mutant.name.as_str());
            }
        }
    }
    restore(&copy)?;
    if !failed.is_empty() {
        return Err(format!("not found, or found by another checker: {}", failed.join(", ")));
    }
    if write { record(&rows) } else { Ok(()) }
}

fn test_mutant(
    mutant: &Mutant,
    directory: &Path,
    copy: &Path,
    seeds: &str,
) -> Result<(String, String)> {
    restore(copy)?;
    // Without the ceiling, git would take the paths of the patch as relative to this repository.
    let mut apply = Command::new("git");
    apply
        .arg("apply")
        .arg(&mutant.file)
        .current_dir(copy)
        .env("GIT_CEILING_DIRECTORIES", directory);
    output(&mut apply).map_err(|_| "the patch does not apply any more".to_owned())?;
    match run(directory, seeds)? {
        Outcome::Passed => Err(format!("survives {seeds} seeds")),
        Outcome::Found(checker, seed)
            if mutant.checkers.iter().any(|named| *named == checker || named == "any") =>
        {
            Ok((checker, seed))
        }
        Outcome::Found(checker, seed) => {
            Err(format!("found by `{checker}` at seed {seed}, which the patch does not name"))
        }
    }
}

/// Builds the simulator in the copy and runs it.
fn run(directory: &Path, seeds: &str) -> Result<Outcome> {
    let target = directory.join("target");
    let mut build = cargo();
    build.args(["build", "--quiet", "--profile", "sim", "-p", "lianmai-sim"]);
    build.current_dir(directory.join("src")).env("CARGO_TARGET_DIR", &target);
    // A mutant changes a few lines of one crate, so an incremental build reuses most of the previous one.
    build.env("CARGO_INCREMENTAL", "1").env("CARGO_PROFILE_SIM_DEBUG", "0");
    output(&mut build)?;
    let mut simulate = Command::new(target.join("sim").join("lianmai-sim"));
    let finished = simulate.args(["--seeds", seeds, "--no-shrink"]).output();
    let finished = finished.map_err(|error| format!("cannot run the simulator: {error}"))?;
    let text = String::from_utf8_lossy(&finished.stdout);
    let failure = text.lines().find_map(|line| line.strip_prefix("FAILED ["));
    let Some(failure) = failure else {
        return if finished.status.success() {
            Ok(Outcome::Passed)
        } else {
            Err("the simulator failed and printed no failure".to_owned())
        };
    };
    let checker = failure.split(']').next().unwrap_or_default().to_owned();
    let seed = text.lines().rfind(|line| line.starts_with("seed ")).unwrap_or_default();
    let seed = seed.split_whitespace().nth(1).unwrap_or("?").to_owned();
    Ok(Outcome::Found(checker, seed))
}

/// Makes the copy equal to the tree. Equal files are not written, so that they are not built again.
fn restore(copy: &Path) -> Result {
    let mut list = Command::new("git");
    list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let files = output(list.current_dir(root()))?;
    for file in files.split('\0').filter(|file| !file.is_empty()) {
        let (from, to) = (root().join(file), copy.join(file));
        // A deleted file whose deletion is not committed yet.
        let Ok(content) = fs::read(&from) else { continue };
        if fs::read(&to).is_ok_and(|old| old == content) {
            continue;
        }
        let problem = |error| format!("cannot write {}: {error}", to.display());
        if let Some(directory) = to.parent() {
            fs::create_dir_all(directory).map_err(problem)?;
        }
        fs::write(&to, content).map_err(problem)?;
    }
    Ok(())
}

fn read() -> Result<Vec<Mutant>> {
    let directory = root().join(PATCHES);
    let entries = fs::read_dir(&directory).map_err(|error| format!("{PATCHES}: {error}"))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "patch"));
    files.sort();
    files.into_iter().map(parse).collect()
}

fn parse(file: PathBuf) -> Result<Mutant> {
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let text = fs::read_to_string(&file).map_err(|error| format!("{name}: {error}"))?;
    let value = |key: &str| {
        let mut head = text.lines().take_while(|line| !line.starts_with("--- "));
        let line = head.find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        line.map(|value| value.trim().to_owned()).ok_or(format!("{name}: no line `{key}:`"))
    };
    let checkers = value("checker")?.split(',').map(|name| name.trim().to_owned()).collect();
    Ok(Mutant { rule: value("rule")?, what: value("what")?, checkers, name, file })
}

/// Writes the table into the README of the simulator.
fn record(rows: &[String]) -> Result {
    let file = root().join(README);
    let text = fs::read_to_string(&file).map_err(|error| format!("{README}: {error}"))?;
    let (before, rest) = text.split_once(BEGIN).ok_or(format!("{README}: no `{BEGIN}`"))?;
    let (_, after) = rest.split_once(END).ok_or(format!("{README}: no `{END}`"))?;
    let head = "| mutant | rule | what is broken | found by | seed |\n|---|---|---|---|---|";
    let table = format!("{before}{BEGIN}\n{head}\n{}\n{END}{after}", rows.join("\n"));
    fs::write(&file, table).map_err(|error| format!("{README}: {error}"))
}

//! Runs the fuzz bodies on mutations of the corpus, on stable Rust. In: seconds, a seed, folders. Out: figures, and for
//! each failing body a minimised input, as a file. Deliberately absent: the coverage that guides libFuzzer; the states
//! that some bodies report take its place.

#![allow(clippy::print_stdout)]

mod mutate;

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lianmai_fuzz_bodies::{Body, ReachedStates, TARGETS, engine_states, session_states};

use crate::mutate::{Rng, least, mutated};

/// Number of targets that run in parallel.
const THREADS: usize = 2;
/// Maximum number of runs for minimising a failing input.
const RUNS: usize = 3_000;
/// An input that takes longer than this counts as endless.
const ENDLESS: Duration = Duration::from_secs(120);
/// Maximum number of inputs of one target that are kept because they reached a new state.
const KEPT: usize = 4_000;

const USAGE: &str = "roam --seconds N --seed S --corpus FOLDER --found FOLDER";

struct Options {
    seconds: f64,
    seed: u64,
    corpus: PathBuf,
    found: PathBuf,
}

/// A target: its name and its body.
type Target = (&'static str, Body);

/// The result of one target.
struct TargetResult {
    target: &'static Target,
    runs: u64,
    /// Number of inputs that reached a new state.
    new: usize,
    fails: Option<Vec<u8>>,
}

/// The input that a thread is running, and since when.
type Running = Mutex<Option<(Instant, &'static str, Vec<u8>)>>;

fn main() -> ExitCode {
    let Some(options) = parse() else {
        println!("{USAGE}");
        return ExitCode::FAILURE;
    };
    let time = Duration::from_secs_f64(options.seconds * THREADS as f64 / TARGETS.len() as f64);
    let running = [const { Running::new(None) }; THREADS];
    let (next, over) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let all = Mutex::new(Vec::new());
    // Panics are silenced: a failure is reported once, for its minimised input.
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        for running in &running {
            scope.spawn(|| {
                while let Some(target) = TARGETS.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = roam(&options, target, time, running);
                    all.lock().unwrap_or_else(PoisonError::into_inner).push(result);
                }
                over.fetch_add(1, Ordering::Relaxed);
            });
        }
        while over.load(Ordering::Relaxed) < THREADS {
            std::thread::sleep(Duration::from_millis(100));
            if let Some((target, input)) = running.iter().find_map(endless) {
                println!("{target} takes longer than {ENDLESS:?}:");
                keep(&options, target, &input);
                // A thread cannot be stopped.
                std::process::exit(1);
            }
        }
    });
    let _ = std::panic::take_hook();
    let all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{:>14} {:>10} {:>11}", "target", "executions", "new inputs");
    let mut code = ExitCode::SUCCESS;
    for TargetResult { target, runs, new, fails } in &all {
        println!("{:>14} {runs:>10} {new:>11}", target.0);
        if let Some(input) = fails {
            println!("{} fails:", target.0);
            // Run once more, with the message of the panic.
            let _ = seen(target, input);
            keep(&options, target.0, input);
            code = ExitCode::FAILURE;
        }
    }
    code
}

fn parse() -> Option<Options> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = words.iter().position(|word| word == name)?;
        words.get(at + 1)
    };
    Some(Options {
        seconds: value("--seconds")?.parse().ok()?,
        seed: value("--seed")?.parse().ok()?,
        corpus: value("--corpus")?.into(),
        found: value("--found")?.into(),
    })
}

/// Returns an input that has run for too long.
fn endless(running: &Running) -> Option<(&'static str, Vec<u8>)> {
    let running = running.lock().unwrap_or_else(PoisonError::into_inner);
    let (since, target, input) = running.as_ref()?;
    (since.elapsed() > ENDLESS).then(|| (*target, input.clone()))
}

/// The states that a body reached, empty if it reports none; `None` if it fails.
fn seen(&(target, body): &Target, input: &[u8]) -> Option<ReachedStates> {
    catch_unwind(|| match target {
        "engine" => engine_states(input),
        "session" => session_states(input),
        _ => {
            body(input);
            ReachedStates::default()
        }
    })
    .ok()
}

fn roam(
    options: &Options,
    target: &'static Target,
    time: Duration,
    running: &Running,
) -> TargetResult {
    let watched = |input: &[u8]| {
        let set = |now| *running.lock().unwrap_or_else(PoisonError::into_inner) = now;
        set(Some((Instant::now(), target.0, input.to_vec())));
        let seen = seen(target, input);
        set(None);
        seen
    };
    let mut known = inputs(&options.corpus.join(target.0));
    let mut all = ReachedStates::default();
    let mut result = TargetResult { target, runs: 0, new: 0, fails: None };
    // Each target has its own random sequence.
    let mut rng = Rng(options.seed ^ hash(target.0.as_bytes()));
    let (start, given) = (Instant::now(), known.len());
    while start.elapsed() < time {
        let at = usize::try_from(result.runs).unwrap_or(usize::MAX);
        let input = if at < given { known[at].clone() } else { mutated(&mut rng, &known) };
        result.runs += 1;
        let Some(seen) = watched(&input) else {
            result.fails = Some(least(input, RUNS, |input| watched(input).is_none()));
            break;
        };
        let is_new = seen.names().any(|name| !all.has(name));
        all.extend(seen);
        if is_new && at >= given && result.new < KEPT {
            result.new += 1;
            known.push(input);
        }
    }
    result
}

/// The files of a folder, in a fixed order.
fn inputs(folder: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files.iter().filter_map(|file| fs::read(file).ok()).collect()
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// Writes a failing input to a file and prints its path.
fn keep(options: &Options, target: &str, input: &[u8]) {
    let folder = options.found.join(target);
    let file = folder.join(format!("{:016x}", hash(input)));
    match fs::create_dir_all(&folder).and_then(|()| fs::write(&file, input)) {
        Ok(()) => println!("  {} bytes: {}", input.len(), file.display()),
        Err(error) => println!("  {}: {error}; the input: {input:?}", file.display()),
    }
    println!("  for the repository: cp {} tests/fuzz/corpus/{target}/", file.display());
}

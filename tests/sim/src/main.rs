//! Runs worlds. Comes in: their number, or a seed or file. Goes out: counters and a hash, or a failing seed with a
//! scenario that was shrunk. `lib.rs` says what a world is.

#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use lianmai_sim::{
    Counting, Coverage, Report, record_seed, run_file, run_seed, run_tasks, shrink_seed,
};

#[global_allocator]
static COUNTING: Counting = Counting;

/// Most runs for shrinking one failure.
const SHRINK_RUNS: usize = 400;
/// Number of sessions to record, and the smallest number of inputs of each.
const TRACES: usize = 200;
const TRACE_INPUTS: usize = 60;
/// From this number of seeds on, everything must have occurred.
const WHOLE: u64 = 10_000;

/// Runs the shipped client and server in virtual worlds, each of which follows from its seed.
#[derive(Debug, Parser)]
#[command(name = "lianmai-sim")]
struct Arguments {
    /// Number of worlds. From 10,000 on, a run fails if anything of the protocol occurred too seldom.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Runs one world instead, and prints its log.
    #[arg(long)]
    seed: Option<u64>,
    /// Runs a scenario instead, in the form in which a failure prints it.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Number of threads.
    #[arg(long, default_value_t = 2)]
    threads: u8,
    /// Requires full coverage of the protocol from a smaller run, too.
    #[arg(long)]
    strict: bool,
    /// Continues after failures, and lists them.
    #[arg(long)]
    all: bool,
    /// Writes the inputs and outputs of sessions into files of this directory, 200 at most.
    #[arg(long)]
    traces: Option<PathBuf>,
    /// Only the worlds of push tasks, which are small.
    #[arg(long)]
    tasks: bool,
    /// Prints a failure without shrinking it.
    #[arg(long)]
    no_shrink: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(directory) = &arguments.traces {
        return match traces(directory, arguments.from) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("{}: {error}", directory.display());
                ExitCode::FAILURE
            }
        };
    }
    if arguments.tasks {
        return if only_tasks(&arguments) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let outcome = match (&arguments.file, arguments.seed) {
        (Some(file), _) => one_file(file),
        (None, Some(seed)) => Ok(one_seed(seed)),
        (None, None) => Ok(many(&arguments)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            println!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Records sessions of one world after the other.
fn traces(directory: &Path, from: u64) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let long = |trace: &Vec<String>| trace.len() > TRACE_INPUTS;
    let all = (from..).flat_map(record_seed).filter(long).take(TRACES);
    for (index, trace) in all.enumerate() {
        std::fs::write(directory.join(format!("{index:03}.jsonl")), trace.join("\n"))?;
    }
    Ok(())
}

/// Runs only the worlds of push tasks, until one fails.
fn only_tasks(arguments: &Arguments) -> bool {
    let seeds = match arguments.seed {
        Some(seed) => seed..seed + 1,
        None => arguments.from..arguments.from + arguments.seeds,
    };
    for seed in seeds {
        if let Some(failure) = run_tasks(seed) {
            println!("seed {seed}\nFAILED {failure}");
            return false;
        }
    }
    println!("{} worlds of tasks pass", arguments.seeds);
    true
}

fn show(report: &Report) -> bool {
    println!("seed {} hash {:016x} lines {}", report.seed, report.hash, report.lines);
    match &report.failure {
        Some(failure) => println!("FAILED {failure}"),
        None => println!("passed"),
    }
    report.failure.is_none()
}

fn one_file(file: &Path) -> Result<bool, String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let report = run_file(&text, true)?;
    println!("{}", report.text);
    Ok(show(&report))
}

fn one_seed(seed: u64) -> bool {
    let report = run_seed(seed, true);
    println!("{}", report.text);
    println!("{}", report.coverage.table());
    show(&report)
}

/// The results of all threads.
#[derive(Default)]
struct Total {
    coverage: Coverage,
    failed: Vec<Report>,
    largest: usize,
    hash: u64,
}

fn many(arguments: &Arguments) -> bool {
    let start = Instant::now();
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let total = Mutex::new(Total::default());
    // A panic is reported as a failure of its seed.
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= arguments.seeds {
                        return;
                    }
                    let report = run_seed(arguments.from + at, false);
                    let Ok(mut total) = total.lock() else { return };
                    let events = report.coverage.least_delivered;
                    if report.failure.is_none() && events < 2_000 {
                        println!("seed {} delivers only {events} events", report.seed);
                    }
                    total.coverage.merge(&report.coverage);
                    total.largest = total.largest.max(report.largest);
                    // Worlds end in any order, and the result must not depend on it.
                    total.hash ^=
                        report.hash.rotate_left(u32::try_from(report.seed % 64).unwrap_or(0));
                    if report.failure.is_some() {
                        total.failed.push(report);
                        stop.store(!arguments.all, Ordering::Relaxed);
                    }
                    let done = total.coverage.seeds + total.failed.len() as u64;
                    if done.is_multiple_of(500) {
                        println!("{done} seeds, {:.0} s", start.elapsed().as_secs_f32());
                    }
                }
            });
        }
    });
    let _ = std::panic::take_hook();
    let Ok(mut total) = total.into_inner() else { return false };
    println!("{}", total.coverage.table());
    let seconds = start.elapsed().as_secs_f32();
    println!("{seconds:.1} s, hash {:016x}, largest engine {} bytes", total.hash, total.largest);
    total.failed.sort_by_key(|report| report.seed);
    for report in &total.failed {
        show(report);
    }
    if let (Some(report), false) = (total.failed.first(), arguments.all || arguments.no_shrink) {
        shrunk(report.seed);
    }
    let missing = total.coverage.missing();
    if !missing.is_empty() {
        println!("too seldom for {} seeds: {}", arguments.seeds, missing.join("; "));
    }
    total.failed.is_empty()
        && (missing.is_empty() || !(arguments.strict || arguments.seeds >= WHOLE))
}

fn shrunk(seed: u64) {
    println!("shrinking seed {seed}");
    let Some((scenario, report)) = shrink_seed(seed, SHRINK_RUNS) else { return };
    println!("{scenario}");
    println!("{}", report.text);
    show(&report);
    println!("again: cargo xtask sim --seed {seed}; the scenario above can be run with --file");
}

//! Runs worlds: `lianmai-sim [--seeds N] [--from S] [--seed S] [--file F] [--threads T] [--strict]
//! [--all] [--no-shrink]`.

#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use lianmai_sim::{Counting, Coverage, Report, run_file, run_seed, shrink_seed};

#[global_allocator]
static COUNTING: Counting = Counting;

/// Runs that shrinking a failure may take.
const SHRINK_RUNS: usize = 400;
/// From so many seeds on everything must have occurred.
const WHOLE: u64 = 10_000;

#[derive(Debug)]
struct Arguments {
    seeds: u64,
    from: u64,
    seed: Option<u64>,
    file: Option<String>,
    threads: usize,
    strict: bool,
    /// Shows a failure as it is.
    no_shrink: bool,
    /// Goes on behind failures, and lists them.
    all: bool,
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments {
        seeds: 100,
        from: 1,
        seed: None,
        file: None,
        threads: 2,
        strict: false,
        no_shrink: false,
        all: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text}: no number"));
        match word.as_str() {
            "--seeds" => arguments.seeds = number(value()?)?,
            "--from" => arguments.from = number(value()?)?,
            "--seed" => arguments.seed = Some(number(value()?)?),
            "--file" => arguments.file = Some(value()?),
            "--threads" => {
                arguments.threads = usize::try_from(number(value()?)?).unwrap_or(1).max(1)
            }
            "--no-shrink" => arguments.no_shrink = true,
            "--strict" => arguments.strict = true,
            "--all" => arguments.all = true,
            other => return Err(format!("no such argument: {other}")),
        }
    }
    Ok(arguments)
}

fn main() -> ExitCode {
    let outcome = arguments().and_then(|arguments| match (&arguments.file, arguments.seed) {
        (Some(file), _) => one_file(file),
        (None, Some(seed)) => Ok(one_seed(seed)),
        (None, None) => Ok(many(&arguments)),
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            println!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn show(report: &Report) -> bool {
    println!("seed {} hash {:016x} lines {}", report.seed, report.hash, report.lines);
    match &report.failure {
        Some(failure) => println!("FAILED {failure}"),
        None => println!("passed"),
    }
    report.failure.is_none()
}

fn one_file(file: &str) -> Result<bool, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
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

/// What all threads add to.
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
        for _ in 0..arguments.threads {
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
                    // In any order.
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

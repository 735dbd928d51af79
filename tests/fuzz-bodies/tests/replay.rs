//! Replays the committed corpus of every fuzz target on stable Rust, without libFuzzer.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use lianmai_fuzz_bodies::{Body, TARGETS};

/// Most files of one target, and most bytes of all.
const MAX_FILES: usize = 40;
const MAX_BYTES: u64 = 300_000;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// The files of a folder; none when there is no such folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// Runs a body over every file of a folder, and says how many there are.
fn replay(folder: &Path, body: Body) -> Result<usize, String> {
    let files = files(folder);
    if files.is_empty() {
        return Err(format!("{} has no corpus", folder.display()));
    }
    for file in &files {
        let input = fs::read(file).expect("a file");
        if catch_unwind(|| body(&input)).is_err() {
            return Err(format!("{} fails", file.display()));
        }
    }
    Ok(files.len())
}

#[test]
fn the_corpus_of_every_target_passes() {
    let corpus = fuzz().join("corpus");
    let results: Vec<_> = thread::scope(|scope| {
        let run = |(target, body): &(&str, Body)| {
            let (folder, body) = (corpus.join(target), *body);
            scope.spawn(move || replay(&folder, body))
        };
        let threads: Vec<_> = TARGETS.iter().map(run).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for ((target, _), result) in TARGETS.iter().zip(results) {
        let count = result.unwrap_or_else(|problem| panic!("{problem}"));
        assert!(count <= MAX_FILES, "{target} has {count} files");
    }
}

#[test]
fn print_seen() {
    for (target, body) in [("engine", lianmai_fuzz_bodies::engine_seen as fn(&[u8]) -> lianmai_fuzz_bodies::Seen), ("session", lianmai_fuzz_bodies::session_seen)] {
        let mut counts = std::collections::BTreeMap::<String, u32>::new();
        let dir = std::env::var("DIR").map_or(fuzz().join("corpus"), PathBuf::from).join(target);
        for file in files(&dir) {
            let input = fs::read(&file).unwrap();
            match catch_unwind(|| body(&input)) {
                Ok(seen) => for name in seen.names() { *counts.entry(name.to_owned()).or_default() += 1; }
                Err(_) => println!("FAILS {}", file.display()),
            }
        }
        for (name, count) in counts { println!("{target}: {name}: {count}"); }
    }
}

#[test]
fn a_target_without_corpus_and_an_input_that_panics_are_failures() {
    let corpus = fuzz().join("corpus");
    let result = replay(&corpus.join("no such target"), |_| {});
    assert!(result.is_err_and(|problem| problem.ends_with("has no corpus")));
    let result = replay(&corpus.join("rtmp"), |_| panic!("on purpose"));
    assert!(result.is_err_and(|problem| problem.ends_with("fails")));
}

/// A binary, a body and a folder each; and no more than a clone of the repository should carry.
#[test]
fn targets_bodies_and_corpus_belong_together() {
    let names: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let stems = |folder: &str| -> Vec<String> {
        let paths = files(&fuzz().join(folder));
        paths.iter().map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(stems("fuzz_targets"), sorted);
    assert_eq!(stems("corpus"), sorted);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in &names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is a binary");
    }
    let inputs = names.iter().flat_map(|name| files(&fuzz().join("corpus").join(name)));
    let bytes: u64 = inputs.map(|input| fs::metadata(input).unwrap().len()).sum();
    assert!(bytes <= MAX_BYTES, "{bytes} bytes");
}

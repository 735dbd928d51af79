//! Replays the committed corpus of every fuzz target on stable Rust, without libFuzzer.
//! Proves no rule of the protocol: the corpus of the fuzz targets.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use lianmai_fuzz_bodies::{Body, ReachedStates, TARGETS, engine_states, session_states};

/// Maximum number of files of one target, and of bytes of all targets.
const MAX_FILES: usize = 48;
const MAX_BYTES: u64 = 300_000;

/// States of the engine that the corpus must reach, as named by its body.
const ENGINE_STATES: &[&str] = &[
    "join broadcaster",
    "join audience",
    "replayed ",
    "resumed with events",
    "resumed with messages",
    "resumed with lost messages",
    "resumed with what it must say again",
    "snapshot ahead",
    "snapshot asked",
    "snapshot epochChanged",
    "snapshot logTrimmed",
    "refused gone",
    "refused invalid",
    "refused kicked",
    "refused left",
    "refused replaced",
    "refused staleAttempt",
    "refused tokenExpired",
    "the log of another process goes on",
    "the log of another process begins anew",
    "restored after a clean stop",
    "restored after a crash",
    "restored damaged",
    "drained true",
    "write awaited",
    "late write done",
    "late write failed",
    "late URL issued",
    "late URL failed",
    "late token good",
    "publish allowed",
    "publish denied",
    "play allowed",
    "play denied",
    "cut stream",
    "cut viewer",
    "process stood still",
    "admin kick done",
    "admin kick waits",
    "admin close done",
    "admin look draining",
    "left channelClosed",
    "left kicked",
    "left left",
    "left replaced",
    "left serverRestart",
    "left timeout",
    "left tokenExpired",
    "event channelUpdate",
    "event liveRoomClose",
    "event roleChanged",
    "event streamRemoved",
    "error idReuse",
    "error idTooOld",
    "error notStored",
    "error rateLimited",
    "compared several",
];

/// States of the session that the corpus must reach.
const SESSION_STATES: &[&str] = &[
    "reply Joined",
    "reply Published",
    "reply Subscribed",
    "reply MessageSent",
    "reply TokenRenewed",
    "reconnected replayed",
    "reconnected to nothing new",
    "reconnected without some messages",
    "snapshot ahead",
    "snapshot asked",
    "snapshot epochChanged",
    "snapshot logTrimmed",
    "rejoined gone",
    "rejoined invalid",
    "connect ws://spare/v1/signal",
    "connect ws://other/v1/signal",
    "event serverRestarting",
    "event sendCommandOverTime",
    "event liveRoomClose",
    "event kicked",
    "event published",
    "event unpublished",
    "error outcomeUnknown",
    "error timeout",
    "error tooManyInFlight",
    "error notConnected",
    "close 4002",
    "close 4005",
    "ended 4503",
    "state Disconnecting",
];

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

/// Runs a body on every file of a folder, and returns their number.
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

/// All states that the corpus of a target reaches.
fn reached(target: &str, body: fn(&[u8]) -> ReachedStates) -> ReachedStates {
    let mut all = ReachedStates::default();
    for file in files(&fuzz().join("corpus").join(target)) {
        all.extend(body(&fs::read(&file).expect("a file")));
    }
    all
}

/// Asserts that the corpus reaches all of `states`. Otherwise its bytes are interpreted differently than when they were
/// found.
fn assert_reached(target: &str, seen: &ReachedStates, states: &[&str]) {
    let missing: Vec<_> = states.iter().filter(|state| !seen.has(state)).collect();
    assert!(missing.is_empty(), "nothing in the corpus of {target} reaches {missing:?}");
}

#[test]
fn the_engine_corpus_reaches_its_deep_states() {
    assert_reached("engine", &reached("engine", engine_states), ENGINE_STATES);
}

#[test]
fn the_session_corpus_reaches_its_deep_states() {
    assert_reached("session", &reached("session", session_states), SESSION_STATES);
}

#[test]
fn a_target_without_corpus_and_an_input_that_panics_are_failures() {
    let corpus = fuzz().join("corpus");
    let result = replay(&corpus.join("no such target"), |_| {});
    assert!(result.is_err_and(|problem| problem.ends_with("has no corpus")));
    let result = replay(&corpus.join("rtmp"), |_| panic!("on purpose"));
    assert!(result.is_err_and(|problem| problem.ends_with("fails")));
}

/// Each target has a binary, a body and a folder, and the corpus stays small enough for a repository.
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

//! What each fuzz target does with its bytes. Comes in: any bytes. Goes out: nothing, or a panic that
//! says what is wrong. Deliberately absent: libFuzzer, sockets, clocks and randomness, so that one input
//! gives one run, on stable Rust too.
//!
//! A body panics only when something is wrong, so besides "nothing panics" each states what must hold.
//! `tests/fuzz` calls the bodies from cargo-fuzz; `tests/replay.rs` runs them over the committed corpus.

mod calls;
mod codec;
mod engine;
mod flv;
mod program;
mod rtmp;
mod rtmp_client;
mod seen;
mod session;
mod tokens;

pub use codec::{codec_client, codec_server};
pub use engine::{engine, engine_seen};
pub use flv::flv;
pub use rtmp::rtmp;
pub use rtmp_client::rtmp_client;
pub use seen::Seen;
pub use session::{session, session_seen};
pub use tokens::tokens;

/// What a target does with its bytes.
pub type Body = fn(&[u8]);

/// Every target by name: a binary of `tests/fuzz` and a folder of its corpus each.
pub const TARGETS: &[(&str, Body)] = &[
    ("codec_client", codec_client),
    ("codec_server", codec_server),
    ("engine", engine),
    ("session", session),
    ("rtmp", rtmp),
    ("rtmp_client", rtmp_client),
    ("flv", flv),
    ("tokens", tokens),
];

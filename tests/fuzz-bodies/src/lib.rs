//! The bodies of the fuzz targets. In: any bytes. Out: nothing, or a panic that names the violated condition.
//! Deliberately absent: libFuzzer, sockets, clocks and randomness, so that one input gives one run, also on stable
//! Rust.
//!
//! A body panics only if something is wrong. Besides the absence of panics each body states which conditions must hold.
//! `tests/fuzz` calls the bodies from cargo-fuzz; `tests/replay.rs` runs them on the committed corpus.

mod calls;
mod codec;
mod engine;
mod flv;
mod program;
mod reached_states;
mod rtmp;
mod rtmp_client;
mod session;
mod tokens;

pub use codec::{codec_client, codec_server};
pub use engine::{engine, engine_states};
pub use flv::flv;
pub use reached_states::ReachedStates;
pub use rtmp::rtmp;
pub use rtmp_client::rtmp_client;
pub use session::{session, session_states};
pub use tokens::tokens;

/// The body of a target.
pub type Body = fn(&[u8]);

/// All targets by name. Each has a binary in `tests/fuzz` and a folder in its corpus.
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

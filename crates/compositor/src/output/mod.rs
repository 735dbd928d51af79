//! The output of a run: an encoder, and the publish at the receiver.
//!
//! In: frames. Out: a publish, and events about it. Deliberately absent: composition.
//!
//! ```text
//!   frames ──> Encoder (a child) ── tags ──> Publisher ── RTMP, RTMPS ──> receiver
//!                tags that are passed on ─────┘
//! ```

mod encode;
mod gop_cache;
mod publish;

pub use encode::{Encoder, EncoderEvent, OUTPUT_START_MS};
pub use gop_cache::GopCache;
pub use publish::{Publisher, PushEvent, Target};

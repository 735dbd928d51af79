//! The output of a run: an encoder, and the publish at the receiver.
//!
//! In: beats. Out: a publish, and events about it. Deliberately absent: composition.
//!
//! ```text
//!   beats ──> Encoder (a child) ── tags ──> Publisher ── RTMP, RTMPS ──> receiver
//!                tags that are passed on ─────┘
//! ```

mod encode;
mod publish;
mod tail;

pub use encode::{BEGIN, Encoder, EncoderEvent};
pub use publish::{Publisher, PushEvent, Target};
pub use tail::Tail;

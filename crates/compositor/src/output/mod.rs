//! What was composed, on its way out: an encoder, and a publish at the receiver.
//!
//! In: beats. Out: a publish, and what becomes of it. Absent: what is composed.
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

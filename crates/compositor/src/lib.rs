//! The compositor: puts the streams of a push task on one canvas, mixes their sound, and publishes the result.
//!
//! In: orders, one JSON object a line ([`message`]); streams, pulled by HTTP-FLV; images from the web. Out: one publish by
//! RTMP or RTMPS, and reports. Absent: who is seen where and whether a run may push, which the server decides;
//! other codecs than H.264 and AAC on the way out; records of what was pushed.
//!
//! It runs as a child of the server, one process for each run, and has children of its own: an ffmpeg for each
//! stream that decodes, and one that encodes. They see pipes and numbers only (ADR 0045). What is composed at which moment
//! is decided by the [`stage`], which has neither a clock nor I/O.
//!
//! ```text
//!   serve ── lines ── run ──┬── input/ ── child/ (decoder) ── nut/ ──┐
//!                           ├── images/ ─────────────────────────────┤
//!                           │                                      stage/ ── scene/, picture/, sound/
//!                           └── output/ ── child/ (encoder) ── flv ──┘  └──> RTMP (media-plane)
//! ```

pub mod child;
pub mod flv;
pub mod images;
pub mod input;
pub mod lease;
pub mod message;
pub mod nut;
pub mod output;
pub mod picture;
pub mod run;
pub mod scene;
pub mod serve;
pub mod sound;
pub mod stage;

//! The compositor: draws the streams of a push task on one canvas, mixes their sound, and publishes the result.
//!
//! In: orders, one JSON object per line ([`message`]); streams, pulled by HTTP-FLV or RTMP; images from the web. Out:
//! one publish by RTMP or RTMPS, and reports. Deliberately absent: which member is shown where and whether a run may
//! push, which the server decides; output codecs other than H.264 and AAC; records of the pushed media.
//!
//! It runs as a child process of the server, one process per run, and has child processes of its own: one ffmpeg per
//! stream that decodes, and one that encodes. They receive only pipes and numbers (ADR 0045). The [`composer`] decides
//! what is composed at each moment; it has neither a clock nor I/O.
//!
//! ```text
//!   serve ── lines ── run ──┬── input/ ── child/ (decoder) ── nut/ ──┐
//!                           ├── images/ ─────────────────────────────┤
//!                           │                                      composer/ ── scene/, picture/, sound/
//!                           └── output/ ── child/ (encoder) ── flv ──┘  └──> RTMP (media-plane)
//! ```

pub mod child;
pub mod composer;
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

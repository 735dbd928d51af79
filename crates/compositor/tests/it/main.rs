//! Proves no rule of the protocol: the compositor, as a whole.
//!
//! `stage` is in virtual time; `images` and `serve` use sockets of this machine; `loopback` uses ffmpeg, too.

#![allow(clippy::unwrap_used, reason = "tests")]

mod images;
mod loopback;
mod relay;
mod serve;
mod stage;

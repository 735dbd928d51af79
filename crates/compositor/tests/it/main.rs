//! Proves no rule of the protocol: the compositor, as a whole.
//!
//! `composer` is in virtual time; `images` and `serve` use sockets of this machine; `loopback` uses ffmpeg, too.

#![allow(clippy::unwrap_used, reason = "tests")]

mod composer;
mod images;
mod loopback;
mod relay;
mod serve;

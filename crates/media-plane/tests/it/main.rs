//! The relay from outside: sessions without I/O, hostile bytes, bounds on one peer, the hub under a paused clock, and
//! real sockets with ffmpeg.

#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

mod bounds;
mod client;
mod client_hostile;
mod enhanced;
mod flv_pulls;
mod foreign;
mod forward;
mod hangup;
mod hls;
mod hostile;
mod hub;
mod kinds;
mod late;
mod late_ffmpeg;
mod real;
mod requests;
mod samples;
mod session;
mod shares;
mod sockets;
mod support;
mod timeline;

//! The session in virtual time, and the tokio driver against a scripted server on loopback.

#![allow(clippy::unwrap_used, reason = "the helpers of a test fail like the test")]

mod support;

mod commands;
mod fold;
mod hostile;
mod joining;
mod liveness;
mod own_state;

#[cfg(feature = "tokio")]
mod driver;
#[cfg(feature = "tokio")]
mod server;

//! The session in virtual time, and the tokio driver against a scripted server on loopback.

#![allow(clippy::wildcard_imports, reason = "test modules share one vocabulary")]

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

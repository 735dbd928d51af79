//! The session in virtual time, and the tokio driver against a scripted server on loopback.

#![allow(clippy::unwrap_used, reason = "the helpers of a test fail like the test")]

mod support;

mod away;
mod commands;
mod crash;
mod delivery;
mod diff;
mod fold;
mod honest;
mod honest_server;
mod hostile;
mod joining;
mod late_leave;
mod liveness;
mod lobby;
mod own_state;
mod own_told;
mod rejoin;
mod restart;
mod restore;
mod resume;
mod tolerance;
mod waiting;
mod wanted;

#[cfg(feature = "tokio")]
mod driver;
#[cfg(feature = "tokio")]
mod server;

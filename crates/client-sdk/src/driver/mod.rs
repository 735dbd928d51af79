//! The native host of a [`crate::session::Session`]: tokio and tokio-tungstenite.
//!
//! Comes in: `async` calls of the app and the bytes of one socket after the other. Goes out: outcomes and
//! events. Deliberately absent: decisions. Everything that is decided is decided by the session.
//!
//! Two tasks per client. The *event loop* owns session, socket and timer, and never waits for the app. It
//! has one socket at most: what a closed one still says goodbye with in the background reaches nobody. The
//! *delivery* task takes the session's outputs in their order and runs handlers, fills event streams and
//! settles calls. When the app falls behind, the event loop stops reading the socket until it caught
//! up: nothing is dropped, the server feels the backpressure. That ends in a close
//! for a reader that is too slow, and in a way back by which the difference is queued behind what waits.

mod client;
mod config;
mod event_loop;
mod events;
mod hub;
mod platform;
mod socket;

pub use client::{Client, WeakClient};
pub use config::{ClientConfig, IntoUserId, JoinOptions};
pub use events::EventStream;
pub use hub::ListenerId;

//! The native host of a [`crate::session::Session`]: tokio and tokio-tungstenite.
//!
//! In: `async` calls of the app, and the bytes of one socket at a time. Out: outcomes and events. Deliberately absent:
//! decisions; the session makes all of them.
//!
//! Each client has two tasks. The *event loop* owns the session, the socket and the timer, and never waits for the app.
//! It has at most one socket: a closed one finishes its close handshake in the background, and nothing of it is
//! reported. The *delivery* task takes the session's outputs in order, runs handlers, fills event streams and settles
//! calls.
//!
//! When the app falls behind, the event loop stops reading the socket until the app has caught up: nothing is dropped,
//! and the server sees backpressure. If that lasts too long, the server closes the connection because of a slow reader.
//! The session then reconnects, and the differences are queued after the waiting events.

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

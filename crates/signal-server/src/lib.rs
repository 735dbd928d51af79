//! The Lianmai signaling server as a library: [`Server::bind`] opens the listeners, [`Server::run`] serves
//! until it is told to stop.
//!
//! Comes in: sockets, configuration, the clock, the operating system's randomness. Goes out: what the
//! engine says. Deliberately absent: decisions about channels and members; those are in `signal-engine`.
//!
//! ```text
//!   transport/accept -> http/guard -> http/public -> transport/upgrade -> transport/lobby
//!                                        |                                    | join
//!                                        v                                    v
//!                                  HTTP-FLV <- relay <- media.rs <-- shard/ (engine, outboxes) <-> sockets
//! ```
//!
//! To embed it:
//!
//! ```no_run
//! use lianmai_signal_server::{Config, Server};
//!
//! # async fn embed() -> Result<(), Box<dyn std::error::Error>> {
//! let flags = [("server.listen", "127.0.0.1:0".to_owned())];
//! let server = Server::bind(Config::load(None, std::env::vars(), &flags)?).await?;
//! println!("listening on {}", server.addresses().public);
//! let handed_over = server.run(async { drop(tokio::signal::ctrl_c().await) }).await;
//! # Ok(()) }
//! ```

pub mod auth;
pub mod cli;
pub mod config;
pub mod signing;

mod clock;
mod data_dir;
mod descriptors;
mod drain;
mod helpers;
mod http;
mod media;
mod metrics;
mod server;
mod shard;
mod store;
pub mod telemetry;
mod transport;

pub use config::Config;
pub use descriptors::raise_limit as raise_descriptor_limit;
pub use server::{Addresses, Server, StartError};

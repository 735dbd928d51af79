//! The Lianmai signaling server as a library: [`Server::bind`] opens the listeners, [`Server::run`] serves
//! until it is told to stop.
//!
//! Comes in: sockets, configuration, the clock, the operating system's randomness. Goes out: the outputs of the engine.
//! Deliberately absent: decisions about channels and members; those are in `signal-engine`.
//!
//! ```text
//!   listen/accept -> guard -> public -> upgrade -> lobby
//!                               |                    | join
//!                               v                    v
//!                   HTTP-FLV <- relay/ <----------> shard/ (engine, outboxes) <-> socket/
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
pub mod ops;
pub mod signing;

mod api;
mod clock;
mod data_dir;
mod executor;
mod hooks;
#[cfg(test)]
mod layers_tests;
mod listen;
mod media;
mod notes;
mod records;
mod relay;
mod route;
mod server;
mod shard;
mod socket;
mod tasks;

pub use config::Config;
pub use listen::descriptors::raise_limit as raise_descriptor_limit;
pub use server::{Addresses, Server, StartError};

//! The sans-IO core of the signaling server: what a channel is, who is in it, what each command does,
//! who may push and play.
//!
//! Comes in: one [`Input`] at a time with the moment it happened. Goes out: one ordered queue of
//! [`Output`]s and the next deadline. Deliberately absent: sockets, clocks, randomness of its own, tokio,
//! cryptography and logging; the shell (`signal-server`) does those and decides nothing.
//!
//! ```text
//!   frame -> [Lobby] --join--> shell verifies token --Input::Join--> [Engine] -> Output::Send ..
//!              (per connection)                     --Input::Frame-->    |       Output::MintUrls -> signer
//!                                                                     [Channel]  Output::CutStream -> relay
//! ```
//!
//! One [`Engine`] owns the channels of one shard. Reading order: [`input`], [`output`], [`lobby`],
//! [`engine`], then `channel/`.

mod admission;
mod channel;
mod context;
mod endings;
mod rate;
mod timers;

pub mod config;
pub mod engine;
pub mod input;
pub mod key;
pub mod lobby;
pub mod outbox;
pub mod output;
pub mod record;
pub mod ticket;

pub use admission::Grant;
pub use config::{AppPolicy, DuplicatePolicy, EngineConfig, STALL_MS, SessionTimers};
pub use engine::Engine;
pub use input::{
    Access, AdminCommand, ConnId, DrainPlan, Input, JoinRequest, MintId, Minted, PersistId,
    QueryId, ReconnectRequest, VerifyId,
};
pub use key::ChannelKey;
pub use lobby::{Lobby, LobbyOutput};
pub use outbox::Outbox;
pub use output::{AdminReply, Denial, MintRequest, Note, Output, Stats};
pub use record::{Restored, StoreOp};
pub use ticket::{Claims, TicketKey};

//! The sans-IO core of the signaling server: channels and their members, the effect of each command, the permission to
//! push and play.
//!
//! Comes in: one [`Input`] at a time with the moment it happened. Goes out: one ordered queue of
//! [`Output`]s and the next deadline. Deliberately absent: sockets, clocks, randomness of its own, tokio,
//! cryptography and logging; the shell (`signal-server`) does those and decides nothing.
//!
//! ```text
//!   frame -> [Lobby] --join--> shell verifies token --Input::Join--> [Engine] -> Output::Send ..
//!              (per connection)                     --Input::Frame-->    |       Output::Ask -> signer
//!                                                                     [Channel]  Output::CutStream -> relay
//! ```
//!
//! One [`Engine`] owns the channels of one shard. Reading order: [`input`], [`output`], [`lobby`],
//! [`engine`], then `channel/`.

mod channel;
mod context;
mod debts;
mod drain;
mod endings;
mod grant;
mod ids;
mod journal;
mod restrictions;
mod session_rate;
mod stopping_runs;
mod timers;

pub mod asks;
pub mod config;
pub mod engine;
pub mod event;
pub mod history;
pub mod input;
pub mod key;
pub mod lobby;
pub mod media_stats;
pub mod outbox;
pub mod output;
pub mod record;
pub mod rows;
pub mod task;
pub mod ticket;

pub use asks::{Answer, MintRequest, Question, Token, TokenRequest};
pub use config::{
    AppPolicy, DuplicatePolicy, EngineConfig, MediaAddress, STALL_MS, SessionTimers, TaskPolicy,
};
pub use drain::DrainPlan;
pub use engine::Engine;
pub use event::{Event, EventRecord, JournalRecord};
pub use grant::Grant;
pub use history::HistoryRecord;
pub use ids::{AddrId, AskId, ConnId, QueryId};
pub use input::{Access, AdminCommand, Input, JoinRequest, ReconnectRequest};
pub use key::ChannelKey;
pub use lobby::{Lobby, LobbyOutput};
pub use media_stats::{PlayStats, PushState, PushStats, StreamStats};
pub use outbox::Outbox;
pub use output::{AdminReply, Allowed, Denial, Note, Output, Publication, PushKind, Stats};
pub use record::Minted;
pub use rows::{Record, Restored, Row, RowKey, RowOp, UnknownRow};
pub use task::TaskChange;
pub use ticket::{TicketClaims, TicketKey};

//! The Lianmai signaling protocol: what travels between a client and a signaling server, as types.
//!
//! Comes in: bytes of one WebSocket text frame. Goes out: typed messages, or bytes of one frame.
//! Deliberately absent: sockets, clocks, randomness, tasks, and any knowledge of who is the client and
//! who is the server. `docs/protocol.md` is the normative text; its JSON blocks are this crate's vectors.
//!
//! Reading order: [`id`] and [`media`] name things, [`message`] holds every message, [`error`] and
//! [`close`] hold every way to say no, [`limits`] every maximum, [`codec`] turns frames into messages.

#![no_std]

extern crate alloc;

mod prelude;
mod wire_enum;

pub mod attributes;
pub mod close;
pub mod codec;
pub mod error;
pub mod id;
pub mod limits;
pub mod map;
pub mod media;
pub mod message;
#[cfg(feature = "schema")]
pub mod message_schemas;
pub mod raw;
#[cfg(feature = "schema")]
pub mod schema;
pub mod time;
pub mod wire;

pub use attributes::Attributes;
pub use close::{Action, CloseCode};
pub use error::{ErrorName, RpcError};
pub use id::{
    Appkey, ChannelName, Cid, Epoch, Gen, Mid, Pub, RequestId, SessionId, TaskId, UserId,
};
pub use map::Map;
pub use media::{KindSet, MediaKind, MediaSelector, Rights, Role};
pub use time::{MonoTime, Now, WallTime};

/// WebSocket sub-protocol that a client must offer and the server selects.
pub const SUBPROTOCOL: &str = "lianmai.v1";

/// HTTP path of the signaling WebSocket.
pub const SIGNAL_PATH: &str = "/v1/signal";

//! One socket: WebSocket frames, its reading and writing side, TLS, and its place in the limits of the listener.
//!
//! Deliberately absent: HTTP, the meaning of messages, and shards.

pub(crate) mod frame;
pub(crate) mod give_way;
pub(crate) mod halves;
pub(crate) mod places;
pub(crate) mod reader;
pub(crate) mod tls;
pub(crate) mod writer;

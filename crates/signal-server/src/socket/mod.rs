//! One socket: WebSocket frames, its reading and writing side, TLS, and its permit in the limits of the listener.
//!
//! Deliberately absent: HTTP, the meaning of messages, and shards.

pub(crate) mod connection_limit;
pub(crate) mod frame;
pub(crate) mod halves;
pub(crate) mod idle_connections;
pub(crate) mod reader;
pub(crate) mod tls;
pub(crate) mod writer;

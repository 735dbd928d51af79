//! One socket: WebSocket frames, its reading and its writing side, TLS, and its place among the others.
//!
//! Deliberately absent: HTTP, what a message means, and shards.

pub(crate) mod frame;
pub(crate) mod give_way;
pub(crate) mod halves;
pub(crate) mod places;
pub(crate) mod reader;
pub(crate) mod tls;
pub(crate) mod writer;

//! RTMP without I/O: the server side and the client side.
//!
//! In: the bytes of one connection, and the decisions of its owner. Out: one ordered queue of bytes to send and
//! events. Absent: sockets, clocks, tasks, randomness, encryption, AMF3.

pub mod amf0;
pub mod chunk;
mod client;
pub mod command;
mod error;
pub mod handshake;
pub mod limits;
pub mod message;
mod session;

pub use client::{Answer, Client, ClientEvent, ClientOutput, Target};
pub use error::RtmpError;
pub use session::{Event, MediaKind, Output, Refusal, Request, RequestKind, Session};

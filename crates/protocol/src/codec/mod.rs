//! Frames to messages and back. Comes in: the bytes of one text frame. Goes out: messages in frame order, or the
//! refusal of the frame or of an element.
//!
//! A client uses `server.rs` to read and `request.rs` to write; the other half needs feature `server`. Deliberately
//! absent: WebSocket framing, and the reaction to a refused frame.

#[cfg(feature = "server")]
mod client;
mod gate;
#[cfg(feature = "server")]
mod reply;
mod request;
mod server;

#[cfg(feature = "server")]
pub use client::{
    Element, ElementEnvelope, RequestEnvelope, decode_client_frame, read_client_frame,
};
pub use gate::FrameError;
#[cfg(feature = "server")]
pub use reply::{encode_error, encode_event, encode_notice, encode_result, join_batch};
pub use request::{EncodedCall, encode_request};
#[cfg(feature = "server")]
pub use server::decode_server_frame;
pub use server::{ServerMessage, decode_result, decode_server_text};

//! Frames to messages and back. Comes in: the bytes of one text frame. Goes out: messages in frame
//! order, or why the frame or an element of it is refused.
//!
//! Deliberately absent: WebSocket framing, and any decision what to do with a refused frame.

mod client;
mod gate;
mod server;

pub use client::{Element, Received, decode_client_frame, encode_request, read_client_frame};
pub use gate::FrameError;
pub use server::{
    ServerMessage, decode_server_frame, encode_error, encode_event, encode_notice, encode_result,
    join_batch,
};

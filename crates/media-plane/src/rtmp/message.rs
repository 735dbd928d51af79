//! Messages: what chunks carry and commands are in.
//!
//! In: bodies. Out: messages, and the numbers that their types and streams have. Absent: chunks, and
//! what a command says.

use bytes::Bytes;

/// One RTMP message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Absolute, milliseconds, wraps at 2^32.
    pub timestamp: u32,
    /// Message type, see [`message_type`].
    pub type_id: u8,
    /// Message stream.
    pub stream_id: u32,
    /// Body.
    pub payload: Bytes,
}

/// Numbers of the message types (RTMP 1.0 §5.4, §7.1).
pub mod message_type {
    /// Chunk size of the sender from here on.
    pub const SET_CHUNK_SIZE: u8 = 1;
    /// The unfinished message of a chunk stream is void.
    pub const ABORT: u8 = 2;
    /// Bytes received so far.
    pub const ACK: u8 = 3;
    /// Ping, stream begin, stream end.
    pub const USER_CONTROL: u8 = 4;
    /// How often to acknowledge.
    pub const WINDOW_ACK_SIZE: u8 = 5;
    /// How much may be unacknowledged.
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    /// Audio, an FLV audio tag body.
    pub const AUDIO: u8 = 8;
    /// Video, an FLV video tag body.
    pub const VIDEO: u8 = 9;
    /// Data behind one AMF3 marker byte.
    pub const DATA_AMF3: u8 = 15;
    /// Command behind one AMF3 marker byte.
    pub const COMMAND_AMF3: u8 = 17;
    /// Data, AMF0.
    pub const DATA: u8 = 18;
    /// Command, AMF0.
    pub const COMMAND: u8 = 20;
    /// Audio, video and data messages in one.
    pub const AGGREGATE: u8 = 22;
}

/// Chunk streams this side sends on.
pub mod chunk_stream {
    /// Protocol control.
    pub const CONTROL: u8 = 2;
    /// Commands and status.
    pub const COMMAND: u8 = 3;
    /// Audio of a play.
    pub const AUDIO: u8 = 4;
    /// Metadata of a play.
    pub const DATA: u8 = 5;
    /// Video of a play.
    pub const VIDEO: u8 = 6;
}

/// Events of user control messages.
pub(super) mod user_control {
    pub(in super::super) const STREAM_BEGIN: u16 = 0;
    pub(in super::super) const STREAM_EOF: u16 = 1;
    pub(in super::super) const PING_REQUEST: u16 = 6;
    pub(in super::super) const PING_RESPONSE: u16 = 7;
}

/// The only message stream a connection has: `createStream` always answers it, so that encoded media
/// is the same for every player.
pub const MEDIA_STREAM: u32 = 1;

/// A protocol control message on message stream 0.
pub(super) fn control(type_id: u8, payload: &[u8]) -> Message {
    Message { timestamp: 0, type_id, stream_id: 0, payload: Bytes::copy_from_slice(payload) }
}

/// A user control message with a 32-bit argument.
pub(super) fn user_control_message(event: u16, argument: u32) -> Message {
    let mut payload = [0; 6];
    payload[..2].copy_from_slice(&event.to_be_bytes());
    payload[2..].copy_from_slice(&argument.to_be_bytes());
    control(message_type::USER_CONTROL, &payload)
}

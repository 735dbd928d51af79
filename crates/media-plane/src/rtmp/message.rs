//! RTMP messages.
//!
//! In: bodies. Out: messages, and the numbers of message types and streams. Absent: chunks, see `chunk.rs`; the
//! content of commands, see `command.rs`.

use bytes::Bytes;

/// One RTMP message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Absolute timestamp in milliseconds. It wraps at 2^32.
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
    /// The chunk size that the sender uses from here on.
    pub const SET_CHUNK_SIZE: u8 = 1;
    /// Discards the unfinished message of a chunk stream.
    pub const ABORT: u8 = 2;
    /// Acknowledgement: bytes received so far.
    pub const ACK: u8 = 3;
    /// User control: ping, stream begin, stream end.
    pub const USER_CONTROL: u8 = 4;
    /// Bytes after which the receiver acknowledges.
    pub const WINDOW_ACK_SIZE: u8 = 5;
    /// Bytes that may be unacknowledged.
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    /// Audio: an FLV audio tag body.
    pub const AUDIO: u8 = 8;
    /// Video: an FLV video tag body.
    pub const VIDEO: u8 = 9;
    /// Data after one byte for AMF3.
    pub const DATA_AMF3: u8 = 15;
    /// A command after one byte for AMF3.
    pub const COMMAND_AMF3: u8 = 17;
    /// Data in AMF0.
    pub const DATA: u8 = 18;
    /// A command in AMF0.
    pub const COMMAND: u8 = 20;
    /// Aggregate: several audio, video and data messages in one.
    pub const AGGREGATE: u8 = 22;
}

/// The chunk streams that this side sends on.
pub mod chunk_stream {
    /// Protocol control messages.
    pub const CONTROL: u8 = 2;
    /// Commands and statuses.
    pub const COMMAND: u8 = 3;
    /// Audio.
    pub const AUDIO: u8 = 4;
    /// Metadata.
    pub const DATA: u8 = 5;
    /// Video.
    pub const VIDEO: u8 = 6;
}

/// Event types of user control messages.
pub(super) mod user_control {
    pub(in super::super) const STREAM_BEGIN: u16 = 0;
    pub(in super::super) const STREAM_EOF: u16 = 1;
    pub(in super::super) const PING_REQUEST: u16 = 6;
    pub(in super::super) const PING_RESPONSE: u16 = 7;
}

/// The message stream that publishes or plays. `createStream` always returns it while nothing runs, so that encoded
/// media is the same for every player.
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

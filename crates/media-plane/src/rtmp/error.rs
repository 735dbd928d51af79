//! Errors in the bytes of a peer.
//!
//! In: nothing. Out: one error type with stable code words. Absent: any text of the peer, because it may hold tokens.

use thiserror::Error;

/// A reason to close the connection. It contains no text of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RtmpError {
    /// The first byte of the handshake is not 3.
    #[error("handshakeVersion: the first byte is {0}, not 3")]
    HandshakeVersion(u8),
    /// More chunk streams than [`limits::MAX_CHUNK_STREAMS`](super::limits::MAX_CHUNK_STREAMS).
    #[error("chunkStreams: too many chunk streams")]
    ChunkStreams,
    /// The first header of a chunk stream has type 2 or 3, so it has no header to build on.
    #[error("chunkHeader: a compressed header has no predecessor")]
    ChunkHeader,
    /// A header within a message has another length or type.
    #[error("messageChanged: the header changed within a message")]
    MessageChanged,
    /// A media or control message is longer than its type allows.
    #[error("messageSize: message type {type_id} of {length} bytes")]
    MessageSize {
        /// Message type.
        type_id: u8,
        /// Announced length, bytes.
        length: usize,
    },
    /// The incomplete messages have more bytes than [`limits::MAX_PARTIAL_BYTES`](super::limits::MAX_PARTIAL_BYTES),
    /// or, while no media is expected, than
    /// [`limits::MAX_IDLE_PARTIAL_BYTES`](super::limits::MAX_IDLE_PARTIAL_BYTES).
    #[error("partialBytes: too many bytes in unfinished messages")]
    PartialBytes,
    /// A chunk size outside 1..=[`limits::MAX_CHUNK_SIZE`](super::limits::MAX_CHUNK_SIZE).
    #[error("chunkSize: {0} is out of range")]
    ChunkSize(u32),
    /// An aggregate has more than [`limits::MAX_AGGREGATED`](super::limits::MAX_AGGREGATED) messages.
    #[error("aggregate: too many messages in one")]
    Aggregate,
    /// A control message is too short.
    #[error("controlMessage: message type {0} is too short")]
    ControlMessage(u8),
    /// The peer sent more bytes than a connection may send that neither publishes nor plays.
    #[error("unauthorizedBytes: too many bytes before a permission")]
    UnauthorizedBytes,
    /// The peer sent more bytes than are held while a decision is pending.
    #[error("heldBytes: too many bytes while a decision is open")]
    HeldBytes,
    /// AMF0 data ends within a value.
    #[error("amf0Truncated: the data ends within a value")]
    Amf0Truncated,
    /// AMF0 values are nested too deeply.
    #[error("amf0Depth: nested too deep")]
    Amf0Depth,
    /// A message has too many AMF0 values.
    #[error("amf0Elements: too many values")]
    Amf0Elements,
    /// An AMF0 string is too long.
    #[error("amf0String: a string is too long")]
    Amf0String,
    /// An AMF0 marker is not supported.
    #[error("amf0Marker: marker {0:#04x} is not served")]
    Amf0Marker(u8),
    /// A command has no name, or an answer to `createStream` names no message stream.
    #[error("command: malformed command")]
    Command,
    /// A command, or a decision of the owner, does not fit the state of the connection.
    #[error("commandOrder: the command does not fit the state of the connection")]
    CommandOrder,
    /// An app, URL or stream name is longer than [`limits::MAX_NAME_BYTES`](super::limits::MAX_NAME_BYTES).
    #[error("nameSize: an app or stream name is too long")]
    NameSize,
    /// An upstream sent more than [`limits::MAX_UPSTREAM_BYTES`](super::limits::MAX_UPSTREAM_BYTES) allows.
    #[error("upstreamBytes: the upstream sends more than it has to answer")]
    UpstreamBytes,
    /// A connection made more requests than [`limits::MAX_REQUESTS`](super::limits::MAX_REQUESTS).
    #[error("requests: too many publish or play requests")]
    Requests,
}

impl RtmpError {
    /// The stable code word, which is the part of the message before the colon.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::HandshakeVersion(_) => "handshakeVersion",
            Self::ChunkStreams => "chunkStreams",
            Self::ChunkHeader => "chunkHeader",
            Self::MessageChanged => "messageChanged",
            Self::MessageSize { .. } => "messageSize",
            Self::PartialBytes => "partialBytes",
            Self::ChunkSize(_) => "chunkSize",
            Self::Aggregate => "aggregate",
            Self::ControlMessage(_) => "controlMessage",
            Self::UnauthorizedBytes => "unauthorizedBytes",
            Self::HeldBytes => "heldBytes",
            Self::Amf0Truncated => "amf0Truncated",
            Self::Amf0Depth => "amf0Depth",
            Self::Amf0Elements => "amf0Elements",
            Self::Amf0String => "amf0String",
            Self::Amf0Marker(_) => "amf0Marker",
            Self::Command => "command",
            Self::CommandOrder => "commandOrder",
            Self::NameSize => "nameSize",
            Self::UpstreamBytes => "upstreamBytes",
            Self::Requests => "requests",
        }
    }
}

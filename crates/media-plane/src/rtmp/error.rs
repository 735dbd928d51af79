//! What can be wrong with the bytes of a peer.
//!
//! In: nothing. Out: one error type with a stable code word. Absent: anything the peer sent, since
//! that may hold tokens.

use thiserror::Error;

/// A reason to close the connection. Never carries text of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RtmpError {
    /// The first byte is not 3.
    #[error("handshakeVersion: the first byte is {0}, not 3")]
    HandshakeVersion(u8),
    /// More chunk streams than [`limits::MAX_CHUNK_STREAMS`](super::limits::MAX_CHUNK_STREAMS).
    #[error("chunkStreams: too many chunk streams")]
    ChunkStreams,
    /// A compressed header without an earlier full one to build on.
    #[error("chunkHeader: a compressed header has no predecessor")]
    ChunkHeader,
    /// A header inside a message names another length or type.
    #[error("messageChanged: the header changed within a message")]
    MessageChanged,
    /// A message longer than its type may be.
    #[error("messageSize: message type {type_id} of {length} bytes")]
    MessageSize {
        /// Message type.
        type_id: u8,
        /// Announced length, bytes.
        length: usize,
    },
    /// More bytes in unfinished messages than
    /// [`limits::MAX_PARTIAL_BYTES`](super::limits::MAX_PARTIAL_BYTES), or without a publish
    /// [`limits::MAX_IDLE_PARTIAL_BYTES`](super::limits::MAX_IDLE_PARTIAL_BYTES).
    #[error("partialBytes: too many bytes in unfinished messages")]
    PartialBytes,
    /// A chunk size outside 1..=[`limits::MAX_CHUNK_SIZE`](super::limits::MAX_CHUNK_SIZE).
    #[error("chunkSize: {0} is out of range")]
    ChunkSize(u32),
    /// An aggregate of more than [`limits::MAX_AGGREGATED`](super::limits::MAX_AGGREGATED) messages.
    #[error("aggregate: too many messages in one")]
    Aggregate,
    /// A control message that is too short.
    #[error("controlMessage: message type {0} is too short")]
    ControlMessage(u8),
    /// More bytes than an unauthorised connection may send.
    #[error("unauthorizedBytes: too many bytes before a permission")]
    UnauthorizedBytes,
    /// More bytes than are held while a decision is open.
    #[error("heldBytes: too many bytes while a decision is open")]
    HeldBytes,
    /// AMF0 ends within a value.
    #[error("amf0Truncated: the data ends within a value")]
    Amf0Truncated,
    /// AMF0 nested too deep.
    #[error("amf0Depth: nested too deep")]
    Amf0Depth,
    /// AMF0 with too many values.
    #[error("amf0Elements: too many values")]
    Amf0Elements,
    /// AMF0 string too long.
    #[error("amf0String: a string is too long")]
    Amf0String,
    /// AMF0 marker that is not served.
    #[error("amf0Marker: marker {0:#04x} is not served")]
    Amf0Marker(u8),
    /// A command without its name or transaction number, or with a missing argument.
    #[error("command: malformed command")]
    Command,
    /// A command at a time when it makes no sense.
    #[error("commandOrder: the command does not fit the state of the connection")]
    CommandOrder,
    /// A name longer than [`limits::MAX_NAME_BYTES`](super::limits::MAX_NAME_BYTES).
    #[error("nameSize: an app or stream name is too long")]
    NameSize,
    /// An upstream sends more than [`limits::MAX_UPSTREAM_BYTES`](super::limits::MAX_UPSTREAM_BYTES) allow.
    #[error("upstreamBytes: the upstream sends more than it has to answer")]
    UpstreamBytes,
    /// More requests than [`limits::MAX_REQUESTS`](super::limits::MAX_REQUESTS).
    #[error("requests: too many publish or play requests")]
    Requests,
}

impl RtmpError {
    /// The stable code word: what stands before the colon.
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

//! Every bound of the RTMP side in one place.
//!
//! In: nothing. Out: constants. Absent: configuration; these bounds protect the process and are not
//! a matter of taste, what an operator may tune is in [`crate::RelayConfig`].

/// Chunk streams one connection may open. Encoders use three to six.
pub const MAX_CHUNK_STREAMS: usize = 64;
/// Longest audio or video message of a publisher, bytes.
pub const MAX_MEDIA_MESSAGE: usize = 4 << 20;
/// Longest message of any other type, and of any type while nothing is published, bytes.
pub const MAX_COMMAND_MESSAGE: usize = 64 << 10;
/// Bytes of unfinished messages over all chunk streams of a publisher.
pub const MAX_PARTIAL_BYTES: usize = 8 << 20;
/// The same while nothing is published: a player has no media to send.
pub const MAX_IDLE_PARTIAL_BYTES: usize = 64 << 10;
/// Bytes a connection may spend, handshake included, while it holds no permission to publish or play.
pub const MAX_UNAUTHORIZED_BYTES: usize = 16 << 10;
/// Bytes held unparsed while a publish or play awaits its decision.
pub const MAX_HELD_BYTES: usize = 64 << 10;
/// Publish and play requests in the life of one connection.
pub const MAX_REQUESTS: u32 = 16;
/// Longest `app` and longest stream name, each with its query, bytes.
pub const MAX_NAME_BYTES: usize = 4 << 10;

/// Nesting of AMF0 objects and arrays.
pub const AMF0_MAX_DEPTH: usize = 16;
/// AMF0 values in one message, nested ones included.
pub const AMF0_MAX_ELEMENTS: usize = 1024;
/// Longest AMF0 string or key, bytes.
pub const AMF0_MAX_STRING: usize = 32 << 10;

/// Chunk size before any `SetChunkSize` (RTMP 1.0 §5.4.1).
pub const DEFAULT_CHUNK_SIZE: usize = 128;
/// Largest chunk size taken from a peer; a larger one is an error.
pub const MAX_CHUNK_SIZE: usize = 65_536;
/// Chunk size of what this side sends after `connect`.
pub const OUT_CHUNK_SIZE: usize = 4096;

/// Acknowledgement window asked for, and used until the peer names its own, bytes.
pub const ACK_WINDOW: u32 = 2_500_000;
/// Smallest acknowledgement window served, so that a window of 1 does not cause a message per byte.
pub const MIN_ACK_WINDOW: u32 = 1024;

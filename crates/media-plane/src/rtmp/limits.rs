//! Every bound of the RTMP side in one place.
//!
//! In: nothing. Out: constants. Absent: configuration; these bounds protect the process and are not
//! a matter of taste, what an operator may tune is in [`crate::RelayConfig`].

/// Chunk streams one connection may open. Encoders use three to six.
pub const MAX_CHUNK_STREAMS: usize = 64;
/// Longest audio, video or aggregate message of a publisher, bytes. A longer one ends its publish.
pub const MAX_MEDIA_MESSAGE: usize = 8 << 20;
/// Longest data message of a publisher, bytes. A longer one is left out.
pub const MAX_DATA_MESSAGE: usize = 256 << 10;
/// Longest message of any other type, and of any type while nothing is published, bytes. A longer one is left out.
pub const MAX_COMMAND_MESSAGE: usize = 64 << 10;
/// Messages in one aggregate.
pub const MAX_AGGREGATED: usize = 4096;
/// Bytes of unfinished messages over all chunk streams of a publisher: the longest one and what is sent in between.
pub const MAX_PARTIAL_BYTES: usize = 9 << 20;
/// The same while nothing is published: a player has no media to send.
pub const MAX_IDLE_PARTIAL_BYTES: usize = 64 << 10;
/// Bytes a connection may spend, handshake included, while it holds no permission to publish or play.
pub const MAX_UNAUTHORIZED_BYTES: usize = 16 << 10;
/// The same behind a publish: an encoder that stops has media under way.
pub const MAX_LEFTOVER_BYTES: usize = 1 << 20;
/// Bytes held unparsed while a publish or play awaits its decision.
pub const MAX_HELD_BYTES: usize = 64 << 10;
/// Publish and play requests in the life of one connection.
pub const MAX_REQUESTS: u32 = 16;
/// Requests beside a publish or play that are refused with an answer; more are ignored.
pub const MAX_REFUSALS: u32 = 64;
/// Message streams of one connection, beside the one that publishes or plays.
pub const MAX_OTHER_STREAMS: u32 = 16;
/// Bytes that an upstream may send to a client of ours, handshake included, and one byte more for each
/// [`UPSTREAM_SHARE`] bytes that it was sent: it has answers, acknowledgements and pings to send, and no media.
pub const MAX_UPSTREAM_BYTES: u64 = 64 << 10;
/// See [`MAX_UPSTREAM_BYTES`].
pub const UPSTREAM_SHARE: u64 = 4;
/// Characters that are kept of the code of an upstream's answer.
pub const MAX_ANSWER_CODE: usize = 64;
/// Characters that are kept of its description.
pub const MAX_ANSWER_TEXT: usize = 200;
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
/// Largest chunk size (RTMP 1.0 §5.4.1). A chunk is never longer than its message, so it bounds nothing.
pub const MAX_CHUNK_SIZE: usize = 0x7FFF_FFFF;
/// Chunk size of what this side sends after `connect`.
pub const OUT_CHUNK_SIZE: usize = 4096;

/// Acknowledgement window asked for, and used until the peer names its own, bytes.
pub const ACK_WINDOW: u32 = 2_500_000;
/// Smallest acknowledgement window served, so that a window of 1 does not cause a message per byte.
pub const MIN_ACK_WINDOW: u32 = 1024;

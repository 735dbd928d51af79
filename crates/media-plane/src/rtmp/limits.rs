//! All bounds of the RTMP code.
//!
//! In: nothing. Out: constants. Absent: settings. These bounds protect the process; [`crate::RelayConfig`] has what
//! an operator may tune.

/// Chunk streams that one connection may open. Encoders use three to six.
pub const MAX_CHUNK_STREAMS: usize = 64;
/// Longest audio, video or aggregate message of a publisher, bytes. A longer message ends the publish.
pub const MAX_MEDIA_MESSAGE: usize = 8 << 20;
/// Longest data message of a publisher, bytes. A longer message is dropped.
pub const MAX_DATA_MESSAGE: usize = 256 << 10;
/// Longest other message, and longest message of any type while nothing is published, bytes. A longer message is
/// dropped, except that a longer control message ends the connection.
pub const MAX_COMMAND_MESSAGE: usize = 64 << 10;
/// Most messages in one aggregate.
pub const MAX_AGGREGATED: usize = 4096;
/// Bytes of incomplete messages on all chunk streams of a publisher: the longest message, and messages sent between
/// its chunks.
pub const MAX_PARTIAL_BYTES: usize = 9 << 20;
/// The same bound while nothing is published. A player has no media to send.
pub const MAX_IDLE_PARTIAL_BYTES: usize = 64 << 10;
/// Bytes that a connection may send, handshake included, before it publishes or plays.
pub const MAX_UNAUTHORIZED_BYTES: usize = 16 << 10;
/// The same bound after a publish, because media may still be under way when an encoder stops.
pub const MAX_LEFTOVER_BYTES: usize = 1 << 20;
/// Bytes held unparsed while a decision about a publish or play is pending.
pub const MAX_HELD_BYTES: usize = 64 << 10;
/// Publish and play requests of one connection, in total.
pub const MAX_REQUESTS: u32 = 16;
/// Requests during a publish or play that are refused with an answer. Further ones are ignored.
pub const MAX_REFUSALS: u32 = 64;
/// Message streams of one connection in addition to the one that publishes or plays.
pub const MAX_OTHER_STREAMS: u32 = 16;
/// Bytes that an upstream may send to a client of ours, handshake included. It may send one more byte for every
/// [`UPSTREAM_SHARE`] bytes that it receives. That is enough for answers, acknowledgements and pings; an upstream
/// sends no media to a publishing client.
pub const MAX_UPSTREAM_BYTES: u64 = 64 << 10;
/// Bytes sent to an upstream for which it may send one more byte, see [`MAX_UPSTREAM_BYTES`].
pub const UPSTREAM_SHARE: u64 = 4;
/// Longest code of an upstream's answer that is kept, characters.
pub const MAX_ANSWER_CODE: usize = 64;
/// Longest description of an upstream's answer that is kept, characters.
pub const MAX_ANSWER_TEXT: usize = 200;
/// Longest `app`, `tcUrl` and stream name, each with its query, bytes.
pub const MAX_NAME_BYTES: usize = 4 << 10;

/// Deepest nesting of AMF0 objects and arrays.
pub const AMF0_MAX_DEPTH: usize = 16;
/// AMF0 values, nested ones included, in a data message, or in each value of a command.
pub const AMF0_MAX_ELEMENTS: usize = 1024;
/// Longest AMF0 string or key, bytes.
pub const AMF0_MAX_STRING: usize = 32 << 10;

/// Chunk size before any `SetChunkSize` (RTMP 1.0 §5.4.1).
pub const DEFAULT_CHUNK_SIZE: usize = 128;
/// Largest chunk size (RTMP 1.0 §5.4.1). It bounds no memory, because a chunk is never longer than its message.
pub const MAX_CHUNK_SIZE: usize = 0x7FFF_FFFF;
/// Chunk size that this side uses after `connect`.
pub const OUT_CHUNK_SIZE: usize = 4096;

/// Acknowledgement window, bytes: the one that this side requests, and the one that it uses until the peer sets
/// another.
pub const ACK_WINDOW: u32 = 2_500_000;
/// Smallest acknowledgement window that is accepted, bytes. A window of 1 would cause a message for every byte.
pub const MIN_ACK_WINDOW: u32 = 1024;

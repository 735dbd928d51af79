//! What the relay sees of a stream, as it tells an engine. Comes in and goes out: plain values of one look. Deliberately
//! absent: what they mean (`channel/quality`).

use lianmai_protocol::{Gen, Mid};

/// What has become of the push of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushState {
    /// A publisher was accepted. This says nothing about media.
    Began,
    /// The publisher is connected and sends nothing.
    Stalled,
    /// The publisher is gone.
    Ended,
}

/// What the relay has seen of a stream since the look before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The stream.
    pub generation: Gen,
    /// Its push; `None` while nobody pushes.
    pub push: Option<PushSeen>,
    /// Those who play it, each once.
    pub plays: Vec<(Mid, PlaySeen)>,
}

/// A push since the look before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushSeen {
    /// So many milliseconds.
    pub ms: u64,
    /// Bytes of media.
    pub bytes: u64,
    /// Pictures.
    pub frames: u64,
    /// The longest distance of two keyframes in milliseconds.
    pub keyframe_ms: Option<u64>,
    /// How often nothing came for long.
    pub gaps: u64,
    /// The longest time in which nothing came, in milliseconds.
    pub longest_gap_ms: u64,
    /// Codec of the sound.
    pub audio: Option<String>,
    /// Codec of the picture.
    pub video: Option<String>,
}

/// A play since the look before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlaySeen {
    /// So many milliseconds.
    pub ms: u64,
    /// Bytes that were handed to the player.
    pub bytes: u64,
    /// The age of the oldest that waits for it, in milliseconds.
    pub lag_ms: u64,
}

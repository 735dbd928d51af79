//! Measurements of the relay on a stream. Comes in and goes out: plain values of one measurement. Deliberately absent:
//! their meaning (`channel/quality`).

use lianmai_protocol::{Gen, Mid};

/// The state of the push of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushState {
    /// A publisher was accepted. This says nothing about media.
    Began,
    /// The publisher is connected and sends nothing.
    Stalled,
    /// The publisher disconnected.
    Ended,
}

/// Measurements of a stream, since those before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamStats {
    /// The stream.
    pub generation: Gen,
    /// Its push; `None` while there is none.
    pub push: Option<PushStats>,
    /// Its plays, each viewer once.
    pub plays: Vec<(Mid, PlayStats)>,
}

/// A push since the measurement before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushStats {
    /// Length of this time in milliseconds.
    pub ms: u64,
    /// Bytes of media.
    pub bytes: u64,
    /// Frames of video.
    pub frames: u64,
    /// The longest time between two keyframes, in milliseconds.
    pub keyframe_ms: Option<u64>,
    /// Number of long gaps.
    pub gaps: u64,
    /// The longest gap, in milliseconds.
    pub longest_gap_ms: u64,
    /// Codec of the sound.
    pub audio: Option<String>,
    /// Codec of the picture.
    pub video: Option<String>,
}

/// A play since the measurement before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlayStats {
    /// Length of this time in milliseconds.
    pub ms: u64,
    /// Bytes that were handed to the player.
    pub bytes: u64,
    /// Age of the oldest data that waits for the player, in milliseconds.
    pub lag_ms: u64,
}

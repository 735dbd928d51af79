//! Sets of the kinds of media that a stream may have.
//!
//! In: what is published, and what somebody may play. Out: the set, and whether a message belongs to it. Absent: where the
//! sets come from.

use crate::rtmp::MediaKind;

/// Audio, video, both or neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Kinds {
    /// Audio is in the set.
    pub audio: bool,
    /// Video is in the set.
    pub video: bool,
}

impl Kinds {
    /// Neither.
    pub const NONE: Kinds = Kinds { audio: false, video: false };
    /// Both.
    pub const BOTH: Kinds = Kinds { audio: true, video: true };

    /// Whether messages of a kind belong to the set. Metadata describes a stream as a whole, so it belongs to the set of
    /// both.
    #[must_use]
    pub fn has(self, kind: MediaKind) -> bool {
        match kind {
            MediaKind::Audio => self.audio,
            MediaKind::Video => self.video,
            MediaKind::Metadata => self == Self::BOTH,
        }
    }

    /// What is in both sets.
    #[must_use]
    pub fn and(self, other: Kinds) -> Kinds {
        Kinds { audio: self.audio && other.audio, video: self.video && other.video }
    }

    /// What is in the set and not in the other one.
    #[must_use]
    pub fn without(self, other: Kinds) -> Kinds {
        Kinds { audio: self.audio && !other.audio, video: self.video && !other.video }
    }

    /// Adds the kind of a message; metadata adds nothing.
    pub(crate) fn add(&mut self, kind: MediaKind) {
        match kind {
            MediaKind::Audio => self.audio = true,
            MediaKind::Video => self.video = true,
            MediaKind::Metadata => {}
        }
    }

    pub(crate) fn to_bits(self) -> u8 {
        u8::from(self.audio) | u8::from(self.video) << 1
    }

    pub(crate) fn from_bits(bits: u8) -> Self {
        Self { audio: bits & 1 != 0, video: bits & 2 != 0 }
    }
}

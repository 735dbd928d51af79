//! Sets of media kinds.
//!
//! In: the kinds that a stream publishes, or that a viewer may play. Out: the set, and whether a message belongs to it.
//! Absent: who decides about the sets, see [`crate::Verdict`] and [`crate::Hub`].

use crate::rtmp::MediaKind;

/// A set of media kinds: audio, video, both or neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Kinds {
    /// Audio is in the set.
    pub audio: bool,
    /// Video is in the set.
    pub video: bool,
}

impl Kinds {
    /// The empty set.
    pub const NONE: Kinds = Kinds { audio: false, video: false };
    /// Audio and video.
    pub const BOTH: Kinds = Kinds { audio: true, video: true };

    /// Whether messages of this kind belong to the set. Metadata describes the stream as a whole, so it belongs only to
    /// the set of both kinds.
    #[must_use]
    pub fn has(self, kind: MediaKind) -> bool {
        match kind {
            MediaKind::Audio => self.audio,
            MediaKind::Video => self.video,
            MediaKind::Metadata => self == Self::BOTH,
        }
    }

    /// The kinds that are in both sets.
    #[must_use]
    pub fn and(self, other: Kinds) -> Kinds {
        Kinds { audio: self.audio && other.audio, video: self.video && other.video }
    }

    /// The kinds of this set that are not in `other`.
    #[must_use]
    pub fn without(self, other: Kinds) -> Kinds {
        Kinds { audio: self.audio && !other.audio, video: self.video && !other.video }
    }

    /// Adds the kind of a message. Metadata adds nothing.
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

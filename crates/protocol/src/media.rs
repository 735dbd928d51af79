//! Media kinds, roles and rights.

use core::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::wire::{Read, Reader, Refused, Wire, Write, Writer, text_codec};
use crate::wire_enum::wire_enum;

wire_enum! {
    /// The role of a member in its channel.
    pub enum Role {
        /// May publish and is visible to others. The default.
        Broadcaster = "broadcaster",
        /// Invisible to others; may subscribe, but not publish, and manages push tasks only as a moderator.
        Audience = "audience",
    }
}

wire_enum! {
    /// One kind of media. Audio and video travel on one push URL, the others on one each.
    pub enum MediaKind {
        /// Microphone.
        Audio = "audio",
        /// Camera.
        Video = "video",
        /// Screen.
        ScreenShare = "screenShare",
        /// Second audio, for instance accompaniment.
        SlaveAudio = "slaveAudio",
    }
}

impl MediaKind {
    /// Position in a [`KindSet`]; `None` for an unknown kind.
    #[must_use]
    pub fn index(&self) -> Option<usize> {
        match self {
            MediaKind::Audio => Some(0),
            MediaKind::Video => Some(1),
            MediaKind::ScreenShare => Some(2),
            MediaKind::SlaveAudio => Some(3),
            MediaKind::Unknown(_) => None,
        }
    }
}

/// `mediaType` of a command that may mean audio and video together (`''`) or one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MediaSelector {
    /// `''`: audio and video.
    #[default]
    Both,
    /// One kind.
    Kind(MediaKind),
}

impl MediaSelector {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            MediaSelector::Both => "",
            MediaSelector::Kind(kind) => kind.as_str(),
        }
    }

    /// The selected kinds; an unknown kind is in no set.
    #[must_use]
    pub fn kinds(&self) -> KindSet {
        match self {
            MediaSelector::Both => KindSet::AUDIO_VIDEO,
            MediaSelector::Kind(kind) => KindSet::of(kind),
        }
    }
}

text_codec!(
    MediaSelector,
    MediaSelector::Both,
    |name| Ok::<_, &str>(MediaSelector::from(name)),
    |value, writer| writer.string(value.as_str())
);

impl From<&str> for MediaSelector {
    fn from(name: &str) -> Self {
        if name.is_empty() {
            MediaSelector::Both
        } else {
            MediaSelector::Kind(MediaKind::from(name))
        }
    }
}

impl Serialize for MediaSelector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MediaSelector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = alloc::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Ok(MediaSelector::from(name.as_ref()))
    }
}

/// A set of media kinds, an array of names on the wire. The reader drops unknown names.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KindSet(u8);

impl KindSet {
    /// No kind.
    pub const NONE: KindSet = KindSet(0);
    /// Audio and video: the kinds of the main push URL.
    pub const AUDIO_VIDEO: KindSet = KindSet(0b0011);
    /// Every kind.
    pub const ALL: KindSet = KindSet(0b1111);

    /// The set of one kind; empty for an unknown kind.
    #[must_use]
    pub fn of(kind: &MediaKind) -> KindSet {
        kind.index().map_or(KindSet::NONE, |i| KindSet(1 << i))
    }

    /// Whether `kind` is in the set.
    #[must_use]
    pub fn contains(self, kind: &MediaKind) -> bool {
        let one = KindSet::of(kind);
        one != KindSet::NONE && self.0 & one.0 == one.0
    }

    /// Whether no kind is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// Kinds in either set.
    #[must_use]
    pub fn union(self, other: KindSet) -> KindSet {
        KindSet(self.0 | other.0)
    }

    /// Kinds in both sets.
    #[must_use]
    pub fn intersection(self, other: KindSet) -> KindSet {
        KindSet(self.0 & other.0)
    }

    /// Kinds of this set that are not in `other`.
    #[must_use]
    pub fn difference(self, other: KindSet) -> KindSet {
        KindSet(self.0 & !other.0)
    }

    /// The kinds in order.
    pub fn iter(self) -> impl Iterator<Item = &'static MediaKind> {
        MediaKind::ALL.iter().filter(move |kind| self.contains(kind))
    }
}

impl FromIterator<MediaKind> for KindSet {
    fn from_iter<I: IntoIterator<Item = MediaKind>>(kinds: I) -> Self {
        kinds.into_iter().fold(KindSet::NONE, |set, kind| set.union(KindSet::of(&kind)))
    }
}

impl fmt::Debug for KindSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Read for KindSet {
    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), Refused> {
        *self = KindSet::NONE;
        reader.array(&mut |reader| {
            let kind = MediaKind::from(reader.string()?.as_ref());
            *self = self.union(KindSet::of(&kind));
            Ok(())
        })
    }
}

impl Write for KindSet {
    fn write(&self, writer: &mut Writer) {
        writer.begin('[');
        for kind in self.iter() {
            writer.element(kind);
        }
        writer.end(']');
    }
}

impl Wire for KindSet {
    fn blank() -> Self {
        KindSet::NONE
    }
}

impl Serialize for KindSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        for kind in self.iter() {
            seq.serialize_element(kind)?;
        }
        seq.end()
    }
}

impl<'de> Deserialize<'de> for KindSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Kinds;
        impl<'de> Visitor<'de> for Kinds {
            type Value = KindSet;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of media kinds")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<KindSet, A::Error> {
                let mut set = KindSet::NONE;
                while let Some(kind) = seq.next_element::<MediaKind>()? {
                    set = set.union(KindSet::of(&kind));
                }
                Ok(set)
            }
        }
        deserializer.deserialize_seq(Kinds)
    }
}

/// The rights of a session (AUT-6). A token grants them; each method names the right that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase", default)]
pub struct Rights {
    /// Kinds that it may publish.
    pub publish: KindSet,
    /// Kinds that it may subscribe to.
    pub subscribe: KindSet,
    /// May be a broadcaster.
    pub broadcast: bool,
    /// May manage its own push tasks.
    pub tasks: bool,
    /// May send messages.
    pub message: bool,
    /// May moderate: kick, close the channel, mute, unpublish or change the role of others, set the channel's
    /// attributes, and manage all push tasks.
    pub moderate: bool,
}

impl Rights {
    /// The rights of a basic token or a debug join: everything but `moderate`.
    pub const MEMBER: Rights = Rights {
        publish: KindSet::ALL,
        subscribe: KindSet::ALL,
        broadcast: true,
        tasks: true,
        message: true,
        moderate: false,
    };
}

impl Default for Rights {
    /// No rights.
    fn default() -> Self {
        Rights {
            publish: KindSet::NONE,
            subscribe: KindSet::NONE,
            broadcast: false,
            tasks: false,
            message: false,
            moderate: false,
        }
    }
}

//! The messages that a late player needs.
//!
//! In: the packets of a publish, and its timeline. Out: whether a decoder can use a packet at all, and the first
//! packets of a player that comes now: the decoder headers as they were when the last group of pictures began, and
//! everything since then. From there on, a late player decodes what an early one does. Absent: clocks, and players.
//!
//! A *head* is a message that a decoder must have before the frames: a sequence header ([`Role::Config`]) or
//! additional data such as colour information ([`Role::Extra`]).

use std::sync::Arc;

use super::line::Line;
use crate::kinds::Kinds;
use crate::media::{Class, Packet, Role, Tracks};
use crate::rtmp::MediaKind;

/// Longest head, and longest metadata that is kept for late players, bytes. Real ones have a few hundred bytes.
pub(super) const MAX_HEAD_BYTES: usize = 64 << 10;
/// Heads of one publish.
const MAX_HEADS: usize = 16;
/// Total size of heads up to which each late player gets copies that carry the time of the latest packets. Longer
/// heads are handed out unchanged: no real heads are so long, and every late player would hold its own copies.
const MAX_COPIED_BYTES: usize = 4 << 10;

/// Bounds on the cached group of pictures.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupBounds {
    pub(super) bytes: usize,
    pub(super) packets: usize,
    /// Time since the keyframe of the group, ms.
    pub(super) span: u32,
}

#[derive(Debug, Default)]
pub(super) struct Cache {
    metadata: Option<Arc<Packet>>,
    /// The heads that are in force.
    heads: Vec<Arc<Packet>>,
    /// The heads that were in force when the group began, with the times that their kinds had then.
    group_heads: Vec<Arc<Packet>>,
    /// The packets from the last keyframe on. Empty before the first keyframe and after an overflow.
    group: Vec<Arc<Packet>>,
    group_bytes: usize,
    /// The tracks of the keyframe that began the group. The next keyframe of all these tracks begins the next group.
    leader: Tracks,
    /// The tracks that have had a keyframe within the group.
    open: Tracks,
    /// The kinds of the media that came.
    pub(super) has: Kinds,
}

/// A publish has more heads, or longer ones, than are kept for late players.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManyHeads;

impl Cache {
    /// Whether a decoder that received everything so far can use the packet. It cannot use a frame whose codec needs
    /// a sequence header before that header has come.
    pub(super) fn is_usable(&self, kind: MediaKind, class: Class) -> bool {
        match class.role {
            Role::Void => false,
            Role::Key | Role::Inter | Role::Sample if class.needs_config() => {
                let mut known = Tracks::default();
                for head in self.heads_of(kind, Role::Config) {
                    if head.class.codec == class.codec || head.class.codec == 0 || class.codec == 0
                    {
                        known.add(head.class.tracks);
                    }
                }
                known.holds(class.tracks)
            }
            _ => true,
        }
    }

    /// The heads of these kinds. Each has the latest time of its own kind, so that times never go back within a kind.
    pub(super) fn heads(&self, line: &Line, kinds: Kinds) -> Vec<Arc<Packet>> {
        let heads = || self.heads.iter().filter(|head| kinds.has(head.kind()));
        let bytes: usize = heads().map(|head| head.flv().len()).sum();
        let copies = bytes <= MAX_COPIED_BYTES;
        let at = |head: &Arc<Packet>| match copies {
            true => restamped(head, line.last(head.kind())),
            false => head.clone(),
        };
        heads().map(at).collect()
    }

    fn heads_of(&self, kind: MediaKind, role: Role) -> impl Iterator<Item = &Arc<Packet>> {
        self.heads.iter().filter(move |head| head.kind() == kind && head.class.role == role)
    }

    /// Takes a usable packet into the cache.
    pub(super) fn store(
        &mut self,
        packet: &Arc<Packet>,
        line: &Line,
        bounds: GroupBounds,
    ) -> Result<(), TooManyHeads> {
        self.has.add(packet.kind());
        match packet.class.role {
            Role::Metadata => {
                // No decoder needs metadata, so metadata that is too long is only for present players.
                self.metadata = Some(packet.clone()).filter(|p| p.flv().len() <= MAX_HEAD_BYTES);
            }
            Role::Config | Role::Extra => {
                self.replace_head(packet)?;
                self.append(packet, bounds);
            }
            Role::Key => {
                self.forget_other_codecs(packet);
                if self.group.is_empty() || packet.class.tracks.holds(self.leader) {
                    self.begin(packet, line, bounds);
                } else {
                    self.open.add(packet.class.tracks);
                    self.append(packet, bounds);
                }
            }
            Role::Inter if !self.open.holds(packet.class.tracks) => {}
            Role::Inter | Role::Sample => {
                self.forget_other_codecs(packet);
                self.append(packet, bounds);
            }
            Role::End | Role::Unknown | Role::Void => {}
        }
        Ok(())
    }

    /// Takes a usable packet of a kind that no player gets now. Only heads are kept, because encoders send them once.
    pub(super) fn keep(&mut self, packet: &Arc<Packet>) -> Result<(), TooManyHeads> {
        if !matches!(packet.class.role, Role::Config | Role::Extra) {
            return Ok(());
        }
        // The group has no media of this kind. If the kind begins within it, it begins with the heads of then.
        self.group_heads.retain(|head| head.kind() != packet.kind());
        self.replace_head(packet)
    }

    /// Appends the heads of these kinds to the group. Players get the kinds from now on, and their heads may have come
    /// earlier.
    pub(super) fn append_heads(&mut self, kinds: Kinds, line: &Line, bounds: GroupBounds) {
        for head in self.heads(line, kinds) {
            if self.group_heads.iter().all(|known| known.kind() != head.kind()) {
                self.append(&head, bounds);
            }
        }
    }

    /// Drops the media of kinds that no player gets any more. Their heads that are in force are kept.
    pub(super) fn forget(&mut self, kinds: Kinds) {
        if kinds.video {
            // Without pictures the group has no keyframe to begin with.
            self.drop_group();
        }
        if kinds.audio {
            let is_left = |packet: &Arc<Packet>| packet.kind() != MediaKind::Audio;
            self.group_heads.retain(is_left);
            self.group.retain(is_left);
            self.group_bytes = self.group.iter().map(|packet| packet.flv().len()).sum();
        }
        self.has = self.has.without(kinds);
    }

    /// Replaces the heads of the same role whose tracks this head covers.
    fn replace_head(&mut self, packet: &Arc<Packet>) -> Result<(), TooManyHeads> {
        let (kind, class) = (packet.kind(), packet.class);
        let place = self.heads.iter().position(|head| is_replaced(head, kind, class));
        self.heads.retain(|head| !is_replaced(head, kind, class));
        if class.role == Role::Config {
            self.forget_other_codecs(packet);
        }
        if self.heads.len() >= MAX_HEADS || packet.flv().len() > MAX_HEAD_BYTES {
            return Err(TooManyHeads);
        }
        let place = place.unwrap_or(usize::MAX).min(self.heads.len());
        self.heads.insert(place, packet.clone());
        Ok(())
    }

    /// Drops the heads of another codec for the tracks of this packet: they are no longer valid.
    fn forget_other_codecs(&mut self, packet: &Packet) {
        let (kind, class) = (packet.kind(), packet.class);
        self.heads.retain(|head| {
            head.kind() != kind
                || !class.tracks.holds(head.class.tracks)
                || head.class.codec == class.codec
                // A codec of 0 means that each track names its own codec.
                || class.codec == 0
                || head.class.codec == 0
        });
    }

    fn begin(&mut self, packet: &Arc<Packet>, line: &Line, bounds: GroupBounds) {
        self.drop_group();
        self.group_heads = self.heads(line, Kinds::BOTH);
        self.leader = packet.class.tracks;
        self.open = packet.class.tracks;
        self.add(packet, bounds);
    }

    fn append(&mut self, packet: &Arc<Packet>, bounds: GroupBounds) {
        if !self.group.is_empty() {
            self.add(packet, bounds);
        }
    }

    fn add(&mut self, packet: &Arc<Packet>, bounds: GroupBounds) {
        let begin = self.group.first().map_or(packet.timestamp(), |first| first.timestamp());
        let span = packet.timestamp().wrapping_sub(begin);
        // Audio behind the keyframe may have an earlier time. Its span wraps around and is not too long.
        let too_long = span > bounds.span && span < 1 << 31;
        let bytes = self.group_bytes + packet.flv().len();
        if bytes > bounds.bytes || self.group.len() >= bounds.packets || too_long {
            self.drop_group();
        } else {
            self.group_bytes = bytes;
            self.group.push(packet.clone());
        }
    }

    /// Drops the group. Late players then wait for the next keyframe.
    pub(super) fn drop_group(&mut self) {
        self.group = Vec::new();
        self.group_heads = Vec::new();
        self.group_bytes = 0;
        self.open = Tracks::default();
    }

    /// The tracks whose next inter frames a player can use after it got [`Cache::burst`].
    pub(super) fn open(&self, kinds: Kinds) -> Tracks {
        if kinds.video { self.open } else { Tracks::default() }
    }

    /// The first packets of a player that gets these kinds: metadata, the heads, and the group. Without video, no
    /// group is needed.
    pub(super) fn burst(&self, line: &Line, kinds: Kinds) -> Vec<Arc<Packet>> {
        let metadata = self.metadata.iter().filter(|_| kinds.has(MediaKind::Metadata)).cloned();
        if self.group.is_empty() || !kinds.video {
            metadata.chain(self.heads(line, kinds)).collect()
        } else {
            let group = self.group_heads.iter().chain(&self.group);
            metadata.chain(group.filter(|packet| kinds.has(packet.kind())).cloned()).collect()
        }
    }

    /// The metadata of the publish. It describes all kinds.
    pub(super) fn metadata(&self) -> Option<&Arc<Packet>> {
        self.metadata.as_ref()
    }
}

fn is_replaced(head: &Packet, kind: MediaKind, class: Class) -> bool {
    head.kind() == kind && head.class.role == class.role && class.tracks.holds(head.class.tracks)
}

fn restamped(head: &Arc<Packet>, time: u32) -> Arc<Packet> {
    if head.timestamp() == time { head.clone() } else { Arc::new(head.at(time)) }
}

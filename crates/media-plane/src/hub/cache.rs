//! What a late player needs.
//!
//! In: the packets of a publish. Out: whether a decoder can use a packet at all, and the first packets of a player that
//! comes now: what a decoder must know, as it was when the last group of pictures began, and everything since. So a late
//! player decodes from there on what an early one does. Absent: time, and players.

use std::sync::Arc;

use crate::kinds::Kinds;
use crate::media::{Class, Packet, Role, Tracks};
use crate::rtmp::MediaKind;

/// Longest sequence header, and longest metadata that late players get, bytes. Real ones have a few hundred.
pub(super) const MAX_HEAD_BYTES: usize = 64 << 10;
/// Sequence headers and the like of one publish.
const MAX_HEADS: usize = 16;
/// Bytes of the heads that are copied for whoever comes, to be at the time of what follows. More than that are handed out
/// as they are: real ones are not so long, and each late player would hold copies of its own.
const MAX_COPIED_BYTES: usize = 4 << 10;

/// Bounds of the group of pictures.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupBounds {
    pub(super) bytes: usize,
    pub(super) packets: usize,
    /// From its keyframe on, ms.
    pub(super) span: u32,
}

#[derive(Debug, Default)]
pub(super) struct Cache {
    metadata: Option<Arc<Packet>>,
    /// Sequence headers and the like that are in force.
    heads: Vec<Arc<Packet>>,
    /// Those that were in force when the group began, at its time.
    group_heads: Vec<Arc<Packet>>,
    /// From the last keyframe on; empty before the first one and after an overflow.
    group: Vec<Arc<Packet>>,
    group_bytes: usize,
    /// The tracks of the keyframe that began the group; the next one of them begins the next.
    leader: Tracks,
    /// The tracks that had a keyframe within the group.
    open: Tracks,
    /// The kinds that came.
    pub(super) has: Kinds,
}

/// A publish has more or longer sequence headers than are kept for late players.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManyHeads;

impl Cache {
    /// Whether a decoder that had everything so far can use the packet: it is no frame of a codec whose sequence header
    /// has yet to come.
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

    /// What decoders must know of these kinds, at the time of what follows.
    pub(super) fn heads_at(&self, time: u32, kinds: Kinds) -> Vec<Arc<Packet>> {
        let heads = || self.heads.iter().filter(|head| kinds.has(head.kind()));
        let bytes: usize = heads().map(|head| head.flv().len()).sum();
        let copies = bytes <= MAX_COPIED_BYTES;
        let at = |head: &Arc<Packet>| if copies { restamped(head, time) } else { head.clone() };
        heads().map(at).collect()
    }

    fn heads_of(&self, kind: MediaKind, role: Role) -> impl Iterator<Item = &Arc<Packet>> {
        self.heads.iter().filter(move |head| head.kind() == kind && head.class.role == role)
    }

    /// Takes a packet that is usable.
    pub(super) fn store(
        &mut self,
        packet: &Arc<Packet>,
        bounds: GroupBounds,
    ) -> Result<(), TooManyHeads> {
        self.has.add(packet.kind());
        match packet.class.role {
            Role::Metadata => {
                // No decoder needs it, so one that is too long is only for those who play now.
                self.metadata = Some(packet.clone()).filter(|p| p.flv().len() <= MAX_HEAD_BYTES);
            }
            Role::Config | Role::Extra => {
                self.replace_head(packet)?;
                self.append(packet, bounds);
            }
            Role::Key => {
                self.forget_other_codecs(packet);
                if self.group.is_empty() || packet.class.tracks.holds(self.leader) {
                    self.begin(packet, bounds);
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

    /// Takes a packet that is usable and of a kind that is handed to nobody now. What decoders must know is kept, for
    /// encoders say it once.
    pub(super) fn keep(&mut self, packet: &Arc<Packet>) -> Result<(), TooManyHeads> {
        match packet.class.role {
            Role::Config | Role::Extra => self.replace_head(packet),
            _ => Ok(()),
        }
    }

    /// A kind is handed to nobody any more. What decoders must know of it is kept.
    pub(super) fn forget(&mut self, kinds: Kinds) {
        if kinds.video {
            // A group begins with a keyframe.
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

    /// A head takes the place of those for the same tracks, or for some of them.
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

    /// What was said for another codec of these tracks is of no use any more.
    fn forget_other_codecs(&mut self, packet: &Packet) {
        let (kind, class) = (packet.kind(), packet.class);
        self.heads.retain(|head| {
            head.kind() != kind
                || !class.tracks.holds(head.class.tracks)
                || head.class.codec == class.codec
                // Each track has its own codec there.
                || class.codec == 0
                || head.class.codec == 0
        });
    }

    fn begin(&mut self, packet: &Arc<Packet>, bounds: GroupBounds) {
        self.drop_group();
        let time = packet.timestamp();
        self.group_heads = self.heads_at(time, Kinds::BOTH);
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
        // What came before the keyframe in time and behind it on the wire is not ahead of it.
        let too_long = span > bounds.span && span < 1 << 31;
        let bytes = self.group_bytes + packet.flv().len();
        if bytes > bounds.bytes || self.group.len() >= bounds.packets || too_long {
            self.drop_group();
        } else {
            self.group_bytes = bytes;
            self.group.push(packet.clone());
        }
    }

    /// A late player waits for the next keyframe then.
    pub(super) fn drop_group(&mut self) {
        self.group = Vec::new();
        self.group_heads = Vec::new();
        self.group_bytes = 0;
        self.open = Tracks::default();
    }

    /// The tracks of which a player that got [`Cache::burst`] can use what comes next.
    pub(super) fn open(&self, kinds: Kinds) -> Tracks {
        if kinds.video { self.open } else { Tracks::default() }
    }

    /// Metadata, then what decoders must know, at the time of what follows, then the group: of a player that gets these
    /// kinds. Without picture nothing of the group is needed.
    pub(super) fn burst(&self, now: u32, kinds: Kinds) -> Vec<Arc<Packet>> {
        let metadata = self.metadata.iter().filter(|_| kinds.has(MediaKind::Metadata)).cloned();
        if self.group.is_empty() || !kinds.video {
            metadata.chain(self.heads_at(now, kinds)).collect()
        } else {
            let group = self.group_heads.iter().chain(&self.group);
            metadata.chain(group.filter(|packet| kinds.has(packet.kind())).cloned()).collect()
        }
    }

    /// Metadata, which is about all kinds.
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

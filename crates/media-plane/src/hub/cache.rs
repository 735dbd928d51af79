//! The messages that a late player needs.
//!
//! In: the packets of a publish, and its timeline. Out: whether a decoder can use a packet at all, and the first
//! packets of a player that comes now: the decoder headers as they were when the last group of pictures began, and
//! everything since then. From there on, a late player decodes what an early one does. Absent: clocks, and players.
//!
//! A *header* is a message that a decoder must have before the frames: a sequence header ([`Role::Config`]) or
//! additional data such as colour information ([`Role::Extra`]).

use std::sync::Arc;

use super::timeline::Timeline;
use crate::kinds::Kinds;
use crate::media::{Class, Packet, Role, Tracks};
use crate::rtmp::MediaKind;

/// Longest header, and longest metadata that is kept for late players, bytes. Real ones have a few hundred bytes.
pub(super) const MAX_HEADER_BYTES: usize = 64 << 10;
/// Headers of one publish.
const MAX_HEADERS: usize = 16;
/// Total size of headers up to which each late player gets copies that carry the time of the latest packets. Longer
/// headers are handed out unchanged: no real headers are so long, and every late player would hold its own copies.
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
    /// The headers that are in force.
    headers: Vec<Arc<Packet>>,
    /// The headers that were in force when the group began, with the times that their kinds had then.
    group_headers: Vec<Arc<Packet>>,
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

/// A publish has more headers, or longer ones, than are kept for late players.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManyHeaders;

impl Cache {
    /// Whether a decoder that received everything so far can use the packet. It cannot use a frame whose codec needs
    /// a sequence header before that header has come.
    pub(super) fn is_usable(&self, kind: MediaKind, class: Class) -> bool {
        match class.role {
            Role::Void => false,
            Role::Key | Role::Inter | Role::Sample if class.needs_config() => {
                let mut known = Tracks::default();
                for header in self.headers_of(kind, Role::Config) {
                    if header.class.codec == class.codec
                        || header.class.codec == 0
                        || class.codec == 0
                    {
                        known.add(header.class.tracks);
                    }
                }
                known.holds(class.tracks)
            }
            _ => true,
        }
    }

    /// The headers of these kinds. Each has the latest time of its own kind, so that times never go back within a kind.
    pub(super) fn headers(&self, timeline: &Timeline, kinds: Kinds) -> Vec<Arc<Packet>> {
        let headers = || self.headers.iter().filter(|header| kinds.has(header.kind()));
        let bytes: usize = headers().map(|header| header.flv().len()).sum();
        let copies = bytes <= MAX_COPIED_BYTES;
        let at = |header: &Arc<Packet>| match copies {
            true => restamped(header, timeline.last(header.kind())),
            false => header.clone(),
        };
        headers().map(at).collect()
    }

    fn headers_of(&self, kind: MediaKind, role: Role) -> impl Iterator<Item = &Arc<Packet>> {
        self.headers.iter().filter(move |header| header.kind() == kind && header.class.role == role)
    }

    /// Takes a usable packet into the cache.
    pub(super) fn store(
        &mut self,
        packet: &Arc<Packet>,
        timeline: &Timeline,
        bounds: GroupBounds,
    ) -> Result<(), TooManyHeaders> {
        self.has.add(packet.kind());
        match packet.class.role {
            Role::Metadata => {
                // No decoder needs metadata, so metadata that is too long is only for present players.
                self.metadata = Some(packet.clone()).filter(|p| p.flv().len() <= MAX_HEADER_BYTES);
            }
            Role::Config | Role::Extra => {
                self.replace_header(packet)?;
                self.append(packet, bounds);
            }
            Role::Key => {
                self.forget_other_codecs(packet);
                if self.group.is_empty() || packet.class.tracks.holds(self.leader) {
                    self.begin(packet, timeline, bounds);
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

    /// Takes a usable packet of a kind that no player gets now. Only headers are kept, because encoders send them once.
    pub(super) fn keep(&mut self, packet: &Arc<Packet>) -> Result<(), TooManyHeaders> {
        if !matches!(packet.class.role, Role::Config | Role::Extra) {
            return Ok(());
        }
        // The group has no media of this kind. If the kind begins within it, it begins with the headers of then.
        self.group_headers.retain(|header| header.kind() != packet.kind());
        self.replace_header(packet)
    }

    /// Appends the headers of these kinds to the group. Players get the kinds from now on, and their headers may have
    /// come earlier.
    pub(super) fn append_headers(
        &mut self,
        kinds: Kinds,
        timeline: &Timeline,
        bounds: GroupBounds,
    ) {
        for header in self.headers(timeline, kinds) {
            if self.group_headers.iter().all(|known| known.kind() != header.kind()) {
                self.append(&header, bounds);
            }
        }
    }

    /// Drops the media of kinds that no player gets any more. Their headers that are in force are kept.
    pub(super) fn forget(&mut self, kinds: Kinds) {
        if kinds.video {
            // Without pictures the group has no keyframe to begin with.
            self.drop_group();
        }
        if kinds.audio {
            let is_left = |packet: &Arc<Packet>| packet.kind() != MediaKind::Audio;
            self.group_headers.retain(is_left);
            self.group.retain(is_left);
            self.group_bytes = self.group.iter().map(|packet| packet.flv().len()).sum();
        }
        self.has = self.has.without(kinds);
    }

    /// Replaces the headers of the same role whose tracks this header covers.
    fn replace_header(&mut self, packet: &Arc<Packet>) -> Result<(), TooManyHeaders> {
        let (kind, class) = (packet.kind(), packet.class);
        let place = self.headers.iter().position(|header| is_replaced(header, kind, class));
        self.headers.retain(|header| !is_replaced(header, kind, class));
        if class.role == Role::Config {
            self.forget_other_codecs(packet);
        }
        if self.headers.len() >= MAX_HEADERS || packet.flv().len() > MAX_HEADER_BYTES {
            return Err(TooManyHeaders);
        }
        let place = place.unwrap_or(usize::MAX).min(self.headers.len());
        self.headers.insert(place, packet.clone());
        Ok(())
    }

    /// Drops the headers of another codec for the tracks of this packet: they are no longer valid.
    fn forget_other_codecs(&mut self, packet: &Packet) {
        let (kind, class) = (packet.kind(), packet.class);
        self.headers.retain(|header| {
            header.kind() != kind
                || !class.tracks.holds(header.class.tracks)
                || header.class.codec == class.codec
                // A codec of 0 means that each track names its own codec.
                || class.codec == 0
                || header.class.codec == 0
        });
    }

    fn begin(&mut self, packet: &Arc<Packet>, timeline: &Timeline, bounds: GroupBounds) {
        self.drop_group();
        self.group_headers = self.headers(timeline, Kinds::BOTH);
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
        self.group_headers = Vec::new();
        self.group_bytes = 0;
        self.open = Tracks::default();
    }

    /// The tracks whose next inter frames a player can use after it got [`Cache::burst`].
    pub(super) fn open(&self, kinds: Kinds) -> Tracks {
        if kinds.video { self.open } else { Tracks::default() }
    }

    /// The first packets of a player that gets these kinds: metadata, the headers, and the group. Without video, no
    /// group is needed.
    pub(super) fn burst(&self, timeline: &Timeline, kinds: Kinds) -> Vec<Arc<Packet>> {
        let metadata = self.metadata.iter().filter(|_| kinds.has(MediaKind::Metadata)).cloned();
        if self.group.is_empty() || !kinds.video {
            metadata.chain(self.headers(timeline, kinds)).collect()
        } else {
            let group = self.group_headers.iter().chain(&self.group);
            metadata.chain(group.filter(|packet| kinds.has(packet.kind())).cloned()).collect()
        }
    }

    /// The metadata of the publish. It describes all kinds.
    pub(super) fn metadata(&self) -> Option<&Arc<Packet>> {
        self.metadata.as_ref()
    }
}

fn is_replaced(header: &Packet, kind: MediaKind, class: Class) -> bool {
    header.kind() == kind
        && header.class.role == class.role
        && class.tracks.holds(header.class.tracks)
}

fn restamped(header: &Arc<Packet>, time: u32) -> Arc<Packet> {
    if header.timestamp() == time { header.clone() } else { Arc::new(header.at(time)) }
}

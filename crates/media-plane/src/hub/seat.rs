//! One player of a stream.
//!
//! In: packets of the stream, and which kinds it gets. Out: packets in its queue: of each kind first what decoders must
//! know, then a keyframe. Absent: the stream's own state; and time.

use std::sync::Arc;

use tokio::time::Instant;

use super::cache::Cache;
use super::claim_core::{ClaimCore, Push};
use crate::config::RelayConfig;
use crate::kinds::Kinds;
use crate::media::{Packet, Role, Tracks};
use crate::rtmp::MediaKind;

#[derive(Debug)]
pub(super) struct Seat {
    pub(super) core: Arc<ClaimCore>,
    /// The video tracks that it had a keyframe of; of others it gets nothing but that.
    open: Tracks,
    /// Kinds that it gets since its start, and of which it has nothing yet.
    owed: Kinds,
    /// It gets both kinds since its start, and has no metadata yet.
    owed_metadata: bool,
    /// It wants nothing for now.
    paused: bool,
    /// When to end it if no publisher returns. Unset for a player that never had one.
    pub(super) gap_until: Option<Instant>,
}

/// A packet on its way to all players, and what stands before it for those to whom its kind is new.
pub(super) struct Parcel<'a> {
    packet: &'a Arc<Packet>,
    cache: &'a Cache,
    /// Made when the first player needs it.
    heads: Option<Vec<Arc<Packet>>>,
}

impl<'a> Parcel<'a> {
    pub(super) fn new(packet: &'a Arc<Packet>, cache: &'a Cache) -> Self {
        Self { packet, cache, heads: None }
    }

    fn heads(&mut self) -> &[Arc<Packet>] {
        let mut kinds = Kinds::NONE;
        kinds.add(self.packet.kind());
        let time = self.packet.timestamp();
        self.heads.get_or_insert_with(|| self.cache.heads_at(time, kinds))
    }
}

impl Seat {
    /// A player that comes now, at a time of the stream. What it needs to start is queued.
    pub(super) fn new(core: &Arc<ClaimCore>, published: Kinds, cache: &Cache, now: u32) -> Self {
        core.set_gets(published.and(core.allowed()));
        let mut seat = Self {
            core: core.clone(),
            open: Tracks::default(),
            owed: Kinds::NONE,
            owed_metadata: false,
            paused: false,
            gap_until: None,
        };
        seat.start(cache, now);
        seat
    }

    /// Queues what it needs to start, in place of what was queued.
    pub(super) fn start(&mut self, cache: &Cache, now: u32) {
        let gets = self.core.gets();
        self.core.start(cache.burst(now, gets));
        self.open = cache.open(gets);
        (self.owed, self.owed_metadata, self.paused) = (Kinds::NONE, false, false);
    }

    /// Wants nothing until its next start.
    pub(super) fn pause(&mut self) {
        self.core.start(Vec::new());
        self.paused = true;
    }

    /// Another publisher begins, and sends all that there is to know.
    pub(super) fn begin_anew(&mut self, published: Kinds) {
        self.refresh(published);
        self.open = Tracks::default();
        (self.owed, self.owed_metadata, self.gap_until) = (Kinds::NONE, false, None);
    }

    /// Gets what is published now and what its viewer may have now.
    pub(super) fn refresh(&mut self, published: Kinds) {
        let (before, now) = (self.core.gets(), published.and(self.core.allowed()));
        if before == now {
            return;
        }
        self.core.set_gets(now);
        let began = now.without(before);
        let owed = self.owed.and(now);
        self.owed = Kinds { audio: owed.audio || began.audio, video: owed.video || began.video };
        self.owed_metadata = now.has(MediaKind::Metadata);
        if !now.video || began.video {
            self.open = Tracks::default();
        }
    }

    /// Queues a packet, if the player can use it after all that it got.
    pub(super) fn hand(&mut self, parcel: &mut Parcel<'_>, config: &RelayConfig) -> Push {
        let packet = parcel.packet;
        let (kind, role) = (packet.kind(), packet.class.role);
        let is_new = self.owed.has(kind) && kind != MediaKind::Metadata;
        if self.paused || !self.core.gets().has(kind) {
            return Push::Queued;
        }
        let begins = match role {
            Role::Key => {
                self.open.add(packet.class.tracks);
                is_new
            }
            Role::Inter if !self.open.holds(packet.class.tracks) => return Push::Queued,
            Role::Sample => is_new,
            // It is among the heads before the first frame.
            _ if is_new => return Push::Queued,
            _ => false,
        };
        let push =
            |packet| self.core.push(packet, config.player_queue_bytes, config.player_queue_time);
        if begins {
            let metadata = parcel.cache.metadata().filter(|_| self.owed_metadata);
            for head in metadata.into_iter().chain(parcel.heads()) {
                let pushed = push(head);
                if pushed != Push::Queued {
                    return pushed;
                }
            }
            let mut begun = Kinds::NONE;
            begun.add(kind);
            (self.owed, self.owed_metadata) = (self.owed.without(begun), false);
        }
        self.core.push(packet, config.player_queue_bytes, config.player_queue_time)
    }
}

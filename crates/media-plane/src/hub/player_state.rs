//! One player of a stream, as the stream sees it.
//!
//! In: packets of the stream, and the kinds that the player gets. Out: packets in the player's queue. Each kind
//! begins with its headers; video then continues with a keyframe. Absent: the state of the stream; time.

use std::sync::Arc;

use tokio::time::Instant;

use super::cache::Cache;
use super::claim_core::{ClaimCore, Push};
use super::timeline::Timeline;
use crate::config::RelayConfig;
use crate::kinds::Kinds;
use crate::media::{Packet, Role, Tracks};
use crate::rtmp::MediaKind;

#[derive(Debug)]
pub(super) struct PlayerState {
    pub(super) core: Arc<ClaimCore>,
    /// The video tracks of which the player has received a keyframe. Of other tracks it gets no inter frames.
    open: Tracks,
    /// Kinds that the player has got since its start and of which it has received nothing yet.
    owed: Kinds,
    /// The player has come to get both kinds since its start and has no metadata yet.
    owed_metadata: bool,
    /// The player is paused and gets nothing.
    paused: bool,
    /// When the player ends if no publisher returns. Unset while there is a publisher, and for a player that never
    /// had one.
    pub(super) gap_until: Option<Instant>,
}

/// A packet on its way to all players, with the headers for the players to which its kind is new.
pub(super) struct Delivery<'a> {
    packet: &'a Arc<Packet>,
    cache: &'a Cache,
    timeline: &'a Timeline,
    /// The headers, made when the first player needs them.
    headers: Option<Vec<Arc<Packet>>>,
}

impl<'a> Delivery<'a> {
    pub(super) fn new(packet: &'a Arc<Packet>, cache: &'a Cache, timeline: &'a Timeline) -> Self {
        Self { packet, cache, timeline, headers: None }
    }

    fn headers(&mut self) -> &[Arc<Packet>] {
        let mut kinds = Kinds::NONE;
        kinds.add(self.packet.kind());
        self.headers.get_or_insert_with(|| self.cache.headers(self.timeline, kinds))
    }
}

impl PlayerState {
    /// A player that starts now. The packets that it starts with are queued.
    pub(super) fn new(
        core: &Arc<ClaimCore>,
        published: Kinds,
        cache: &Cache,
        timeline: &Timeline,
    ) -> Self {
        core.set_delivered_kinds(published.and(core.allowed()));
        let mut state = Self {
            core: core.clone(),
            open: Tracks::default(),
            owed: Kinds::NONE,
            owed_metadata: false,
            paused: false,
            gap_until: None,
        };
        state.start(cache, timeline);
        state
    }

    /// Queues the packets that a player starts with, in place of the queued ones.
    pub(super) fn start(&mut self, cache: &Cache, timeline: &Timeline) {
        let delivered = self.core.delivered_kinds();
        self.core.start(cache.burst(timeline, delivered));
        self.open = cache.open(delivered);
        (self.owed, self.owed_metadata, self.paused) = (Kinds::NONE, false, false);
    }

    /// Empties the queue. The player gets nothing until its next start.
    pub(super) fn pause(&mut self) {
        self.core.start(Vec::new());
        self.paused = true;
    }

    /// Prepares for another publisher, which sends its own headers and metadata.
    pub(super) fn begin_anew(&mut self, published: Kinds) {
        self.refresh(published);
        self.open = Tracks::default();
        (self.owed, self.owed_metadata, self.gap_until) = (Kinds::NONE, false, None);
    }

    /// Updates the kinds that the player gets: those that are published now and that its viewer may have now.
    pub(super) fn refresh(&mut self, published: Kinds) {
        let (before, now) = (self.core.delivered_kinds(), published.and(self.core.allowed()));
        if before == now {
            return;
        }
        self.core.set_delivered_kinds(now);
        let began = now.without(before);
        let owed = self.owed.and(now);
        self.owed = Kinds { audio: owed.audio || began.audio, video: owed.video || began.video };
        self.owed_metadata = now.has(MediaKind::Metadata);
        if !now.video || began.video {
            self.open = Tracks::default();
        }
    }

    /// Queues a packet if the player can use it after the packets that it received.
    pub(super) fn deliver(&mut self, delivery: &mut Delivery<'_>, config: &RelayConfig) -> Push {
        let packet = delivery.packet;
        let (kind, role) = (packet.kind(), packet.class.role);
        let is_new = self.owed.has(kind) && kind != MediaKind::Metadata;
        if self.paused || !self.core.delivered_kinds().has(kind) {
            return Push::Queued;
        }
        let begins = match role {
            Role::Key => {
                self.open.add(packet.class.tracks);
                is_new
            }
            Role::Inter if !self.open.holds(packet.class.tracks) => return Push::Queued,
            Role::Sample => is_new,
            // The header is kept in the cache, and the player gets it before the first frame.
            _ if is_new => return Push::Queued,
            _ => false,
        };
        let push =
            |packet| self.core.push(packet, config.player_queue_bytes, config.player_queue_time);
        if begins {
            let metadata = delivery.cache.metadata().filter(|_| self.owed_metadata);
            for header in metadata.into_iter().chain(delivery.headers()) {
                let pushed = push(header);
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

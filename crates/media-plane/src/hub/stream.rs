//! One stream: its claims, its publisher, its players, and what a late player needs.
//!
//! In: activations, messages, cuts, ticks. Out: packets in players' queues, facts. Absent: waiting;
//! every method holds the lock of the stream for a short time and returns.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use super::claim_core::{ClaimCore, EndReason, Push};
use super::facts::FactState;
use super::{Inner, lock};
use crate::auth::{Denied, DeniedKind, StreamName};
use crate::media::{Packet, Role, role};
use crate::rtmp::MediaKind;

/// Step of the time line between the last packet of a publisher and the first of the next, ms. Larger
/// than the interleaving of audio and video, so that it stays monotone.
const RESUME_STEP: u32 = 100;

#[derive(Debug)]
pub(super) struct Stream {
    name: StreamName,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Claims whose verdict is open or not yet acted on.
    pending: Vec<Arc<ClaimCore>>,
    publisher: Option<Current>,
    players: Vec<Seat>,
    cache: Cache,
    clock: Clock,
}

#[derive(Debug)]
struct Current {
    core: Arc<ClaimCore>,
    /// Time of the last payload, at first of the activation.
    last_payload: Instant,
    first_payload: Option<Instant>,
    flowing: bool,
    next_report: Instant,
}

#[derive(Debug)]
struct Seat {
    core: Arc<ClaimCore>,
    /// Video is left out until the next keyframe.
    waits_for_key: bool,
    /// When to end it if no publisher returns. Unset for a player that never had one.
    gap_until: Option<Instant>,
}

impl Stream {
    pub(super) fn new(name: StreamName) -> Self {
        Self { name, state: Mutex::default() }
    }

    pub(super) fn await_verdict(&self, core: &Arc<ClaimCore>) {
        lock(&self.state).pending.push(core.clone());
    }

    /// Makes the claim the publisher.
    pub(super) fn activate_publisher(
        &self,
        hub: &Inner,
        core: &Arc<ClaimCore>,
    ) -> Result<(), Denied> {
        let now = Instant::now();
        let mut state = lock(&self.state);
        refuse_ended(core)?;
        if let Some(current) = &state.publisher {
            if now.duration_since(current.last_payload) < hub.config.takeover_silence {
                return Err(Denied::new(
                    DeniedKind::Busy,
                    "streamBusy",
                    "another publisher is live",
                ));
            }
            if current.core.end(EndReason::Replaced) {
                hub.counters.replaced();
            }
            self.publisher_gone(hub, &mut state, now);
        }
        state.pending.retain(|other| other.id != core.id);
        state.publisher = Some(Current {
            core: core.clone(),
            last_payload: now,
            first_payload: None,
            flowing: false,
            next_report: now,
        });
        hub.counters.publishers.fetch_add(1, Relaxed);
        state.cache = Cache::default();
        state.clock.restart();
        for seat in &mut state.players {
            seat.waits_for_key = true;
            seat.gap_until = None;
            set_waiting(hub, &seat.core, false);
        }
        hub.facts.report(&hub.counters, &self.name, FactState::Started);
        Ok(())
    }

    /// Makes the claim a player and queues what it needs to start. Says whether audio and video are
    /// to be expected.
    pub(super) fn activate_player(
        &self,
        hub: &Inner,
        core: &Arc<ClaimCore>,
    ) -> Result<(bool, bool), Denied> {
        let mut state = lock(&self.state);
        refuse_ended(core)?;
        if state.publisher.is_none() {
            if hub.counters.waiters.load(Relaxed) >= hub.config.max_waiters {
                return Err(Denied::new(
                    DeniedKind::Overload,
                    "tooManyWaiters",
                    "too many players wait",
                ));
            }
            set_waiting(hub, core, true);
        }
        state.pending.retain(|other| other.id != core.id);
        core.start(state.cache.burst(state.clock.last));
        let waits_for_key = state.cache.group.is_empty();
        state.players.push(Seat { core: core.clone(), waits_for_key, gap_until: None });
        Ok(state.tracks())
    }

    /// Takes a message of the publisher and hands it to all players.
    pub(super) fn send(
        &self,
        hub: &Inner,
        core: &ClaimCore,
        kind: MediaKind,
        timestamp: u32,
        body: &[u8],
    ) -> Result<(), EndReason> {
        let role = role(kind, body);
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let Some(current) = state.publisher.as_mut().filter(|current| current.core.id == core.id)
        else {
            return Err(core.ended().unwrap_or(EndReason::Replaced));
        };
        if kind != MediaKind::Metadata {
            let now = Instant::now();
            current.last_payload = now;
            current.first_payload.get_or_insert(now);
            if !current.flowing {
                current.flowing = true;
                current.next_report = now + hub.config.heartbeat;
                hub.facts.report(&hub.counters, &self.name, FactState::Flowing);
            }
        }
        let time = match kind {
            // ffmpeg shows metadata at any other time as a text stream.
            MediaKind::Metadata => 0,
            MediaKind::Audio | MediaKind::Video => state.clock.map(timestamp, role),
        };
        let packet = Arc::new(Packet::new(kind, role, time, body));
        state.cache.store(&packet, hub.config.gop_bytes, hub.config.gop_packets);
        let is_video = kind == MediaKind::Video;
        state.players.retain_mut(|seat| {
            if is_video && seat.waits_for_key {
                match role {
                    Role::Header => {}
                    Role::Key => seat.waits_for_key = false,
                    Role::Frame => return true,
                }
            }
            let pushed = seat.core.push(&packet, hub.config.player_queue_bytes);
            if pushed == Push::Lagging {
                hub.counters.slow();
                tracing::info!(stream = ?self.name, code = "tooSlow", "player cut");
            }
            pushed == Push::Queued
        });
        Ok(())
    }

    /// Ends everything on the stream.
    pub(super) fn cut(&self, hub: &Inner) -> usize {
        let mut state = lock(&self.state);
        let claims =
            state.pending.iter().chain(state.publisher.as_ref().map(|current| &current.core));
        let claims = claims.chain(state.players.iter().map(|seat| &seat.core));
        let cut = claims.filter(|core| core.end(EndReason::Cut)).count();
        for seat in state.players.drain(..) {
            set_waiting(hub, &seat.core, false);
        }
        self.publisher_gone(hub, &mut state, Instant::now());
        cut
    }

    /// Gives back the place of a claim; says whether the stream is now empty.
    pub(super) fn release(&self, hub: &Inner, core: &ClaimCore) -> bool {
        let mut state = lock(&self.state);
        state.pending.retain(|other| other.id != core.id);
        state.players.retain(|seat| seat.core.id != core.id);
        set_waiting(hub, core, false);
        if state.publisher.as_ref().is_some_and(|current| current.core.id == core.id) {
            self.publisher_gone(hub, &mut state, Instant::now());
        }
        state.pending.is_empty() && state.players.is_empty() && state.publisher.is_none()
    }

    pub(super) fn tick(&self, hub: &Inner, now: Instant) {
        let mut state = lock(&self.state);
        if let Some(current) = state.publisher.as_mut().filter(|current| current.flowing) {
            if now.duration_since(current.last_payload) >= hub.config.stall_after {
                current.flowing = false;
                hub.facts.report(&hub.counters, &self.name, FactState::Stalled);
            } else if now >= current.next_report {
                current.next_report = now + hub.config.heartbeat;
                hub.facts.report(&hub.counters, &self.name, FactState::Flowing);
            }
        }
        state.players.retain(|seat| {
            let over = seat.gap_until.is_some_and(|until| until <= now);
            if over {
                seat.core.end(EndReason::StreamEnded);
                set_waiting(hub, &seat.core, false);
            }
            !over
        });
    }

    fn publisher_gone(&self, hub: &Inner, state: &mut State, now: Instant) {
        if state.publisher.take().is_none() {
            return;
        }
        hub.counters.publishers.fetch_sub(1, Relaxed);
        state.cache = Cache::default();
        for seat in &mut state.players {
            seat.gap_until = Some(now + hub.config.publisher_gap);
            set_waiting(hub, &seat.core, true);
        }
        hub.facts.report(&hub.counters, &self.name, FactState::Ended);
    }
}

impl State {
    /// Audio and video, as far as known; both while the publisher is too young to tell.
    fn tracks(&self) -> (bool, bool) {
        let first = self.publisher.as_ref().and_then(|current| current.first_payload);
        let settled = first.is_some_and(|first| first.elapsed().as_millis() >= 1000);
        match (self.cache.has_audio, self.cache.has_video) {
            (false, false) => (true, true),
            known if settled => known,
            _ => (true, true),
        }
    }
}

/// The last point at which a cut is seen as a denial: the caller holds the lock of the stream, and a
/// later cut finds the claim among publishers and players.
fn refuse_ended(core: &ClaimCore) -> Result<(), Denied> {
    match core.ended() {
        None => Ok(()),
        Some(_) => Err(Denied::new(DeniedKind::Denied, "cut", "the stream was cut meanwhile")),
    }
}

fn set_waiting(hub: &Inner, core: &ClaimCore, waiting: bool) {
    match (core.waiting.swap(waiting, Relaxed), waiting) {
        (false, true) => _ = hub.counters.waiters.fetch_add(1, Relaxed),
        (true, false) => _ = hub.counters.waiters.fetch_sub(1, Relaxed),
        _ => {}
    }
}

/// What a late player needs.
#[derive(Debug, Default)]
struct Cache {
    metadata: Option<Arc<Packet>>,
    video_header: Option<Arc<Packet>>,
    audio_header: Option<Arc<Packet>>,
    /// From the last keyframe on; empty before the first one and after an overflow.
    group: Vec<Arc<Packet>>,
    group_bytes: usize,
    has_audio: bool,
    has_video: bool,
}

impl Cache {
    fn store(&mut self, packet: &Arc<Packet>, max_bytes: usize, max_packets: usize) {
        match packet.kind() {
            MediaKind::Audio => self.has_audio = true,
            MediaKind::Video => self.has_video = true,
            MediaKind::Metadata => {}
        }
        match packet.role {
            Role::Header => {
                let place = match packet.kind() {
                    MediaKind::Metadata => &mut self.metadata,
                    MediaKind::Audio => &mut self.audio_header,
                    MediaKind::Video => &mut self.video_header,
                };
                let before = place.replace(packet.clone());
                // Frames for another decoder configuration are of no use to a late player.
                let changed = before.is_some_and(|before| before.body() != packet.body());
                if changed && packet.kind() != MediaKind::Metadata {
                    self.drop_group();
                }
            }
            Role::Key => {
                self.drop_group();
                self.append(packet, max_bytes, max_packets);
            }
            Role::Frame if !self.group.is_empty() => self.append(packet, max_bytes, max_packets),
            Role::Frame => {}
        }
    }

    fn append(&mut self, packet: &Arc<Packet>, max_bytes: usize, max_packets: usize) {
        self.group_bytes += packet.flv().len();
        if self.group_bytes > max_bytes || self.group.len() >= max_packets {
            self.drop_group();
        } else {
            self.group.push(packet.clone());
        }
    }

    fn drop_group(&mut self) {
        self.group.clear();
        self.group_bytes = 0;
    }

    /// Metadata, then decoder configurations at the time of what follows them, then the group.
    fn burst(&self, now: u32) -> Vec<Arc<Packet>> {
        let start = self.group.first().map_or(now, |packet| packet.timestamp());
        let headers =
            [&self.metadata, &self.video_header, &self.audio_header].into_iter().flatten();
        let headers = headers.map(|packet| match packet.timestamp() {
            _ if packet.kind() == MediaKind::Metadata => packet.clone(),
            timestamp if timestamp == start => packet.clone(),
            _ => Arc::new(packet.at(start)),
        });
        headers.chain(self.group.iter().cloned()).collect()
    }
}

/// The time line of the stream, which goes on when a publisher starts anew.
#[derive(Debug, Default)]
struct Clock {
    offset: u32,
    /// The current publisher has sent a frame.
    running: bool,
    /// Some publisher has sent a frame.
    used: bool,
    /// The latest time given out.
    last: u32,
}

impl Clock {
    fn restart(&mut self) {
        self.running = false;
    }

    /// Headers get the latest time: encoders send them with any.
    fn map(&mut self, timestamp: u32, role: Role) -> u32 {
        if role == Role::Header {
            return self.last;
        }
        if !self.running {
            self.running = true;
            self.offset = match self.used {
                true => self.last.wrapping_add(RESUME_STEP).wrapping_sub(timestamp),
                false => 0,
            };
            if !self.used {
                self.last = timestamp;
            }
            self.used = true;
        }
        let time = timestamp.wrapping_add(self.offset);
        // Ahead in the sense of numbers that wrap.
        if time.wrapping_sub(self.last) < 1 << 31 {
            self.last = time;
        }
        time
    }
}

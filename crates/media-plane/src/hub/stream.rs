//! One stream: its claims, its publisher, its players.
//!
//! In: activations, messages, cuts, ticks. Out: packets in players' queues, facts. Absent: waiting;
//! every method holds the lock of the stream for a short time and returns.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::cache::{Cache, GroupBounds};
use super::claim_core::{ClaimCore, EndReason, Push};
use super::facts::FactState;
use super::line::Line;
use super::{Inner, lock};
use crate::auth::{Denied, DeniedKind, StreamName};
use crate::media::{Class, Packet, Role, Survey, Told, Tracks, classify};
use crate::rtmp::MediaKind;

/// The kinds that came so long after the first one are those that the publisher sends.
pub(crate) const SETTLED: Duration = Duration::from_secs(1);

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
    /// Bytes of its group that count in the sum of all.
    counted_bytes: usize,
    line: Line,
}

#[derive(Debug)]
struct Current {
    core: Arc<ClaimCore>,
    /// Time of the last payload, at first of the activation.
    last_payload: Instant,
    first_payload: Option<Instant>,
    /// The log knows that media came without a sequence header.
    told_unusable: bool,
    survey: Survey,
    flowing: bool,
    next_report: Instant,
}

#[derive(Debug)]
struct Seat {
    core: Arc<ClaimCore>,
    /// The video tracks that it had a keyframe of; of others it gets nothing but that.
    open: Tracks,
    /// It wants nothing for now.
    paused: bool,
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
            told_unusable: false,
            survey: Survey::default(),
            flowing: false,
            next_report: now,
        });
        hub.counters.publishers.fetch_add(1, Relaxed);
        state.cache = Cache::default();
        state.line.restart();
        for seat in &mut state.players {
            seat.open = Tracks::default();
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
    ) -> Result<Option<(bool, bool)>, Denied> {
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
        core.start(state.cache.burst(state.line.last()));
        let open = state.cache.open();
        state.players.push(Seat { core: core.clone(), open, paused: false, gap_until: None });
        Ok(state.tracks())
    }

    /// Pauses a player, or gives it what it needs to start anew.
    pub(super) fn pause(&self, core: &ClaimCore, paused: bool) {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let Some(seat) = state.players.iter_mut().find(|seat| seat.core.id == core.id) else {
            return;
        };
        seat.paused = paused;
        if paused {
            core.start(Vec::new());
        } else {
            core.start(state.cache.burst(state.line.last()));
            seat.open = state.cache.open();
        }
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
        let class = classify(kind, body);
        let now = Instant::now();
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let Some(current) = state.publisher.as_mut().filter(|current| current.core.id == core.id)
        else {
            return Err(core.ended().unwrap_or(EndReason::Replaced));
        };
        if let Some(reason) = core.ended() {
            return Err(reason);
        }
        if class.role == Role::Void {
            return Ok(());
        }
        if kind != MediaKind::Metadata {
            current.last_payload = now;
            if !current.flowing {
                current.flowing = true;
                current.next_report = now + hub.config.heartbeat;
                hub.facts.report(&hub.counters, &self.name, FactState::Flowing);
            }
        }
        if !state.cache.is_usable(kind, class) {
            if !std::mem::replace(&mut current.told_unusable, true) {
                let code = "noSequenceHeader";
                tracing::warn!(stream = ?self.name, ?kind, code, "media before its sequence header is left out");
            }
            return Ok(());
        }
        if kind != MediaKind::Metadata {
            current.first_payload.get_or_insert(now);
        }
        if let Some(told) = current.survey.take(kind, class, timestamp, body, now) {
            self.tell(&told);
        }
        let time = match class.role {
            // ffmpeg shows metadata at any other time as a text stream.
            Role::Metadata => 0,
            Role::Config | Role::Extra => state.line.last(),
            _ => state.line.map(kind, timestamp, now),
        };
        let packet = Arc::new(Packet::new(kind, class, time, now, body));
        let bounds = GroupBounds {
            bytes: hub.config.gop_bytes,
            packets: hub.config.gop_packets,
            span: u32::try_from(hub.config.gop_time.as_millis()).unwrap_or(u32::MAX),
        };
        if state.cache.store(&packet, bounds).is_err() {
            core.end(EndReason::TooManyHeads);
            return Err(EndReason::TooManyHeads);
        }
        state.count_group(hub);
        state.players.retain_mut(|seat| {
            if !seat.opens(class) {
                return true;
            }
            let config = &hub.config;
            let pushed =
                seat.core.push(&packet, config.player_queue_bytes, config.player_queue_time);
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

    fn tell(&self, told: &Told) {
        let Told { video, audio, resolution, kbit_per_s, keyframes_ms } = told;
        tracing::info!(
            stream = ?self.name,
            %video,
            %resolution,
            %audio,
            kbit_per_s,
            keyframes_ms,
            "what is pushed"
        );
    }

    fn publisher_gone(&self, hub: &Inner, state: &mut State, now: Instant) {
        let Some(mut current) = state.publisher.take() else { return };
        if let Some(told) = current.survey.finish(now) {
            self.tell(&told);
        }
        hub.counters.publishers.fetch_sub(1, Relaxed);
        state.cache = Cache::default();
        state.count_group(hub);
        for seat in &mut state.players {
            seat.gap_until = Some(now + hub.config.publisher_gap);
            set_waiting(hub, &seat.core, true);
        }
        hub.facts.report(&hub.counters, &self.name, FactState::Ended);
    }
}

impl Seat {
    /// Whether the player is to get a packet, after all that it got.
    fn opens(&mut self, class: Class) -> bool {
        match class.role {
            _ if self.paused => false,
            Role::Key => {
                self.open.add(class.tracks);
                true
            }
            Role::Inter => self.open.holds(class.tracks),
            _ => true,
        }
    }
}

impl State {
    /// Counts the group, and keeps none where all together are too many bytes.
    fn count_group(&mut self, hub: &Inner) {
        let (before, mut now) = (self.counted_bytes, self.cache.group_bytes());
        let sum = &hub.counters.gop_bytes;
        if now > before && sum.load(Relaxed) - before + now > hub.config.gop_total_bytes {
            self.cache.drop_group();
            now = 0;
        }
        self.counted_bytes = now;
        sum.fetch_add(now, Relaxed);
        sum.fetch_sub(before, Relaxed);
    }

    /// Whether there are audio and video. Not known while the publisher is too young to tell.
    fn tracks(&self) -> Option<(bool, bool)> {
        let first = self.publisher.as_ref().and_then(|current| current.first_payload)?;
        let known = (self.cache.has_audio, self.cache.has_video);
        (known == (true, true) || first.elapsed() >= SETTLED).then_some(known)
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

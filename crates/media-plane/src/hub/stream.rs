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
use super::seat::{Parcel, Seat};
use super::{Inner, lock};
use crate::auth::{Denied, DeniedKind, StreamName};
use crate::media::{Kinds, Packet, Role, Survey, Told, classify};
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
    /// The kinds that are published. Unset until somebody says so.
    published: Option<Kinds>,
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
    /// The log knows that media came whose kind is not published.
    told_unpublished: bool,
    survey: Survey,
    flowing: bool,
    next_report: Instant,
}

impl Stream {
    pub(super) fn new(name: StreamName) -> Self {
        Self { name, state: Mutex::default() }
    }

    pub(super) fn await_verdict(&self, core: &Arc<ClaimCore>) {
        lock(&self.state).pending.push(core.clone());
    }

    /// Makes the claim the publisher, whose verdict names these kinds.
    pub(super) fn activate_publisher(
        &self,
        hub: &Inner,
        core: &Arc<ClaimCore>,
        kinds: Kinds,
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
            told_unpublished: false,
            survey: Survey::default(),
            flowing: false,
            next_report: now,
        });
        hub.counters.publishers.fetch_add(1, Relaxed);
        state.cache = Cache::default();
        state.line.restart();
        let published = *state.published.get_or_insert(kinds);
        for seat in &mut state.players {
            seat.begin_anew(published);
            set_waiting(hub, &seat.core, false);
        }
        hub.facts.report(&hub.counters, &self.name, FactState::Started);
        Ok(())
    }

    /// Makes the claim a player and queues what it needs to start. Says which kinds are to be expected.
    pub(super) fn activate_player(
        &self,
        hub: &Inner,
        core: &Arc<ClaimCore>,
    ) -> Result<Option<Kinds>, Denied> {
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
        let seat = Seat::new(core, state.published(), &state.cache, state.line.last());
        state.players.push(seat);
        Ok(state.tracks(core.gets()))
    }

    /// Says which kinds are published from now on.
    pub(super) fn set_published(&self, hub: &Inner, kinds: Kinds) {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let before = state.published.replace(kinds).unwrap_or(Kinds::BOTH);
        state.cache.forget(before.without(kinds));
        state.count_group(hub);
        if kinds.without(before) != Kinds::NONE
            && let Some(current) = &mut state.publisher
        {
            // Who comes now waits for the new kind, too.
            current.first_payload = current.first_payload.map(|_| Instant::now());
        }
        for seat in &mut state.players {
            seat.refresh(kinds);
        }
    }

    /// These players may have other kinds from now on.
    pub(super) fn refresh(&self, claims: &[Arc<ClaimCore>]) {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let published = state.published();
        for seat in &mut state.players {
            if claims.iter().any(|core| core.id == seat.core.id) {
                seat.refresh(published);
            }
        }
    }

    /// Pauses a player, or gives it what it needs to start anew.
    pub(super) fn pause(&self, core: &ClaimCore, paused: bool) {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let Some(seat) = state.players.iter_mut().find(|seat| seat.core.id == core.id) else {
            return;
        };
        if paused {
            seat.pause();
        } else {
            seat.start(&state.cache, state.line.last());
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
        if let Some(told) = current.survey.take(kind, class, timestamp, body, now) {
            self.tell(&told);
        }
        let is_published =
            kind == MediaKind::Metadata || state.published.unwrap_or(Kinds::BOTH).has(kind);
        if !is_published {
            if !std::mem::replace(&mut current.told_unpublished, true) {
                let code = "notPublished";
                tracing::info!(stream = ?self.name, ?kind, code, "media whose kind is not published is left out");
            }
            let packet = Arc::new(Packet::new(kind, class, state.line.last(), now, body));
            return state.cache.keep(&packet).map_err(|_| too_many_heads(core));
        }
        if kind != MediaKind::Metadata {
            current.first_payload.get_or_insert(now);
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
        state.cache.store(&packet, bounds).map_err(|_| too_many_heads(core))?;
        state.count_group(hub);
        let mut parcel = Parcel::new(&packet, &state.cache);
        state.players.retain_mut(|seat| {
            let pushed = seat.hand(&mut parcel, &hub.config);
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

    fn published(&self) -> Kinds {
        self.published.unwrap_or(Kinds::BOTH)
    }

    /// Which kinds have come of those that a player gets. Not known while it is too early to tell.
    fn tracks(&self, gets: Kinds) -> Option<Kinds> {
        let first = self.publisher.as_ref().and_then(|current| current.first_payload)?;
        let known = self.cache.has.and(gets);
        let is_settled = known == gets || first.elapsed() >= SETTLED;
        (is_settled && known != Kinds::NONE).then_some(known)
    }
}

fn too_many_heads(core: &ClaimCore) -> EndReason {
    core.end(EndReason::TooManyHeads);
    EndReason::TooManyHeads
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

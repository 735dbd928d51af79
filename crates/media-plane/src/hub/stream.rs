//! One stream: its claims, its publisher, its players.
//!
//! In: activations, messages, cuts, ticks. Out: packets in players' queues, facts. Absent: waiting;
//! every method holds the lock of the stream for a short time and returns.

use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::cache::{Cache, GroupBounds};
use super::claim_core::{ClaimCore, EndReason, Push};
use super::facts::FactState;
use super::player_state::{Delivery, PlayerState};
use super::samples::{PushMeter, StreamSample};
use super::timeline::Timeline;
use super::{Inner, lock};
use crate::auth::{Account, Denied, DeniedKind, StreamName};
use crate::kinds::Kinds;
use crate::media::{Packet, PushSummary, Role, Survey, classify};
use crate::rtmp::MediaKind;
use crate::shares::{BytesAccount, Charge};

/// The kinds that came so long after the first one are those that the publisher sends.
pub(crate) const KINDS_SETTLE_TIME: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Stream {
    name: StreamName,
    state: Mutex<StreamState>,
}

#[derive(Debug, Default)]
struct StreamState {
    /// Claims whose verdict is open or not yet acted on.
    pending: Vec<Arc<ClaimCore>>,
    publisher: Option<CurrentPublisher>,
    /// The kinds that are published. Unset until somebody says so.
    published: Option<Kinds>,
    players: Vec<PlayerState>,
    /// Players of a stream that has ended, that may get what is queued until then.
    leaving: Vec<(Instant, Arc<ClaimCore>)>,
    cache: Cache,
    timeline: Timeline,
    /// When the last sample was taken.
    sampled_at: Option<Instant>,
}

#[derive(Debug)]
struct CurrentPublisher {
    core: Arc<ClaimCore>,
    owner: Account,
    /// Charged for what the push holds.
    charged: BytesAccount,
    /// Time of the last payload, at first of the activation.
    last_payload: Instant,
    first_payload: Option<Instant>,
    /// The log knows that media came without a sequence header.
    logged_unusable: bool,
    /// The log knows that media came whose kind is not published.
    logged_unpublished: bool,
    survey: Survey,
    meter: PushMeter,
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

    /// Makes the claim the publisher, whose verdict names these kinds. Gives the account of what it holds.
    pub(super) fn activate_publisher(
        &self,
        hub: &Inner,
        core: &Arc<ClaimCore>,
        kinds: Kinds,
        owner: Option<&Account>,
    ) -> Result<BytesAccount, Denied> {
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
        let owner =
            owner.cloned().unwrap_or_else(|| Account::new(self.name.app(), self.name.name()));
        let charged = hub.shares.media(&owner, &self.name);
        state.publisher = Some(CurrentPublisher {
            core: core.clone(),
            owner,
            charged: charged.clone(),
            last_payload: now,
            first_payload: None,
            logged_unusable: false,
            logged_unpublished: false,
            survey: Survey::default(),
            meter: PushMeter::default(),
            flowing: false,
            next_report: now,
        });
        hub.counters.publishers.fetch_add(1, Relaxed);
        state.cache = Cache::default();
        state.timeline.restart();
        let published = *state.published.get_or_insert(kinds);
        for player in &mut state.players {
            player.begin_anew(published);
            set_waiting(hub, &player.core, false);
        }
        hub.facts.report(&hub.counters, &self.name, FactState::Started);
        Ok(charged)
    }

    /// Makes the claim a player and queues what it needs to start. Says which kinds are to be expected.
    pub(super) fn activate_player(
        &self,
        hub: &Inner,
        core: &Arc<ClaimCore>,
        viewer: Option<&Account>,
    ) -> Result<Option<Kinds>, Denied> {
        let mut state = lock(&self.state);
        refuse_ended(core)?;
        if state.publisher.is_none() {
            *lock(&core.slots) = Some(hub.shares.waiter(&self.name, viewer, core.peer)?);
            set_waiting(hub, core, true);
        }
        state.pending.retain(|other| other.id != core.id);
        let player = PlayerState::new(core, state.published(), &state.cache, &state.timeline);
        state.players.push(player);
        Ok(state.tracks(core.delivered_kinds()))
    }

    /// Says which kinds are published from now on.
    pub(super) fn set_published(&self, hub: &Inner, kinds: Kinds) {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let before = state.published.replace(kinds).unwrap_or(Kinds::BOTH);
        state.cache.forget(before.without(kinds));
        state.cache.append_headers(kinds.without(before), &state.timeline, group_bounds(hub));
        if kinds.without(before) != Kinds::NONE
            && let Some(current) = &mut state.publisher
        {
            // Who comes now waits for the new kind, too.
            current.first_payload = current.first_payload.map(|_| Instant::now());
        }
        for player in &mut state.players {
            player.refresh(kinds);
        }
    }

    /// These players may have other kinds from now on.
    pub(super) fn refresh(&self, claims: &[Arc<ClaimCore>]) {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let published = state.published();
        for player in &mut state.players {
            if claims.iter().any(|core| core.id == player.core.id) {
                player.refresh(published);
            }
        }
    }

    /// Whether it has a publisher.
    pub(super) fn is_live(&self) -> bool {
        lock(&self.state).publisher.is_some()
    }

    /// Pauses a player, or gives it what it needs to start anew.
    pub(super) fn pause(&self, core: &ClaimCore, paused: bool) {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let Some(player) = state.players.iter_mut().find(|player| player.core.id == core.id) else {
            return;
        };
        if paused {
            player.pause();
        } else {
            player.start(&state.cache, &state.timeline);
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
            current.meter.record(kind, class, timestamp, body.len(), now);
            if !current.flowing {
                current.flowing = true;
                current.next_report = now + hub.config.heartbeat;
                hub.facts.report(&hub.counters, &self.name, FactState::Flowing);
            }
        }
        if !state.cache.is_usable(kind, class) {
            if !std::mem::replace(&mut current.logged_unusable, true)
                && hub.log_limiter.allow(core.peer)
            {
                let code = "noSequenceHeader";
                tracing::warn!(stream = ?self.name, ?kind, code, "media before its sequence header is left out");
            }
            return Ok(());
        }
        if let Some(summary) = current.survey.take(kind, class, timestamp, body, now) {
            self.log_summary(hub, core, &summary);
        }
        let is_published =
            kind == MediaKind::Metadata || state.published.unwrap_or(Kinds::BOTH).has(kind);
        if !is_published {
            if !std::mem::replace(&mut current.logged_unpublished, true)
                && hub.log_limiter.allow(core.peer)
            {
                let code = "notPublished";
                tracing::info!(stream = ?self.name, ?kind, code, "media whose kind is not published is left out");
            }
            if !matches!(class.role, Role::Config | Role::Extra) {
                return Ok(());
            }
            let charge = state.charge(hub, Packet::memory(body)).ok_or_else(|| no_room(core))?;
            let time = state.timeline.last(kind);
            let packet = Arc::new(Packet::new(kind, class, time, now, body, Some(charge)));
            return state.cache.keep(&packet).map_err(|_| too_many_headers(core));
        }
        if kind != MediaKind::Metadata {
            current.first_payload.get_or_insert(now);
        }
        let time = match class.role {
            // ffmpeg shows metadata at any other time as a text stream.
            Role::Metadata => 0,
            Role::Config | Role::Extra => state.timeline.last(kind),
            _ => state.timeline.map(kind, timestamp, now),
        };
        let charge = state.charge(hub, Packet::memory(body)).ok_or_else(|| no_room(core))?;
        let packet = Arc::new(Packet::new(kind, class, time, now, body, Some(charge)));
        let stored = state.cache.store(&packet, &state.timeline, group_bounds(hub));
        stored.map_err(|_| too_many_headers(core))?;
        let mut delivery = Delivery::new(&packet, &state.cache, &state.timeline);
        state.players.retain_mut(|player| {
            let pushed = player.deliver(&mut delivery, &hub.config);
            if pushed == Push::Lagging {
                hub.counters.slow();
                if hub.log_limiter.allow(player.core.peer) {
                    tracing::info!(stream = ?self.name, code = "tooSlow", "player cut");
                }
            }
            pushed == Push::Queued
        });
        Ok(())
    }

    /// Makes room for what the publisher holds beside its messages; ends it where there is none.
    pub(super) fn make_room(
        &self,
        hub: &Inner,
        core: &ClaimCore,
        has_room: impl FnMut() -> bool,
    ) -> Result<(), EndReason> {
        let mut state = lock(&self.state);
        let is_ours = state.publisher.as_ref().is_some_and(|current| current.core.id == core.id);
        if is_ours && state.make_room(hub, has_room) {
            return Ok(());
        }
        core.end(EndReason::NoRoom);
        Err(core.ended().unwrap_or(EndReason::NoRoom))
    }

    /// Whose push it is, while there is one.
    pub(super) fn owner(&self) -> Option<Account> {
        lock(&self.state).publisher.as_ref().map(|current| current.owner.clone())
    }

    /// Where its publisher is from.
    pub(super) fn publisher(&self) -> Option<IpAddr> {
        lock(&self.state).publisher.as_ref().map(|current| current.core.peer)
    }

    /// Ends everything on the stream.
    pub(super) fn cut(&self, hub: &Inner) -> usize {
        let mut state = lock(&self.state);
        let claims =
            state.pending.iter().chain(state.publisher.as_ref().map(|current| &current.core));
        let claims = claims.chain(state.players.iter().map(|player| &player.core));
        let cut = claims.filter(|core| core.end(EndReason::Cut)).count();
        for player in state.players.drain(..) {
            set_waiting(hub, &player.core, false);
        }
        state.stop_leaving();
        self.publisher_gone(hub, &mut state, Instant::now());
        cut
    }

    /// Releases a claim; returns whether the stream is now empty.
    pub(super) fn release(&self, hub: &Inner, core: &ClaimCore) -> bool {
        let mut state = lock(&self.state);
        state.pending.retain(|other| other.id != core.id);
        state.players.retain(|player| player.core.id != core.id);
        state.leaving.retain(|(_, other)| other.id != core.id);
        set_waiting(hub, core, false);
        if state.publisher.as_ref().is_some_and(|current| current.core.id == core.id) {
            self.publisher_gone(hub, &mut state, Instant::now());
        }
        state.pending.is_empty()
            && state.players.is_empty()
            && state.leaving.is_empty()
            && state.publisher.is_none()
    }

    pub(super) fn tick(&self, hub: &Inner, now: Instant) {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        if let Some(current) = state.publisher.as_mut().filter(|current| current.flowing) {
            if now.duration_since(current.last_payload) >= hub.config.stall_after {
                current.flowing = false;
                hub.facts.report(&hub.counters, &self.name, FactState::Stalled);
            } else if now >= current.next_report {
                current.next_report = now + hub.config.heartbeat;
                hub.facts.report(&hub.counters, &self.name, FactState::Flowing);
            }
        }
        state.leaving.retain(|(until, core)| {
            let over = *until <= now;
            if over {
                core.stop(EndReason::TooSlow);
            }
            !over
        });
        state.players.retain(|player| {
            let over = player.gap_until.is_some_and(|until| until <= now);
            if over {
                player.core.end(EndReason::StreamEnded);
                set_waiting(hub, &player.core, false);
                state.leaving.push((now + hub.config.write_timeout, player.core.clone()));
            }
            !over
        });
    }

    /// What came since the previous sample; nothing where there is neither publisher nor viewer.
    pub(super) fn sample(&self, now: Instant) -> Option<StreamSample> {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let passed = state.sampled_at.replace(now).map_or(Duration::ZERO, |last| now - last);
        let push = state.publisher.as_mut().map(|current| current.meter.sample(now));
        let plays: Vec<_> =
            state.players.iter().filter_map(|player| player.core.sample(now)).collect();
        let stream = self.name.clone();
        (push.is_some() || !plays.is_empty()).then_some(StreamSample {
            stream,
            passed,
            push,
            plays,
        })
    }

    fn log_summary(&self, hub: &Inner, core: &ClaimCore, summary: &PushSummary) {
        if !hub.log_limiter.allow(core.peer) {
            return;
        }
        let PushSummary { video, audio, resolution, kbit_per_s, keyframes_ms } = summary;
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

    fn publisher_gone(&self, hub: &Inner, state: &mut StreamState, now: Instant) {
        let Some(mut current) = state.publisher.take() else { return };
        if let Some(summary) = current.survey.finish(now) {
            self.log_summary(hub, &current.core, &summary);
        }
        hub.counters.publishers.fetch_sub(1, Relaxed);
        state.cache = Cache::default();
        for player in &mut state.players {
            player.gap_until = Some(now + hub.config.publisher_gap);
            set_waiting(hub, &player.core, true);
        }
        hub.facts.report(&hub.counters, &self.name, FactState::Ended);
    }
}

impl StreamState {
    /// Takes memory for a message.
    fn charge(&mut self, hub: &Inner, bytes: usize) -> Option<Charge> {
        let account = self.publisher.as_ref()?.charged.clone();
        let mut charge = account.empty();
        let mut has_room = || charge.resize(bytes).is_ok();
        (has_room() || self.make_room(hub, has_room)).then_some(charge)
    }

    /// Ends those that still get what was queued when the stream ended.
    fn stop_leaving(&mut self) {
        for (_, core) in self.leaving.drain(..) {
            core.stop(EndReason::TooSlow);
        }
    }

    /// Gives up what the push can do without until there is room: first the group, then what the slowest players have yet
    /// to get, with their plays. Says whether there is room then.
    fn make_room(&mut self, hub: &Inner, mut has_room: impl FnMut() -> bool) -> bool {
        self.cache.drop_group();
        self.stop_leaving();
        loop {
            if has_room() {
                return true;
            }
            let slowest =
                self.players.iter().enumerate().max_by_key(|(_, player)| player.core.queued());
            let Some((at, player)) = slowest.filter(|(_, player)| player.core.queued() > 0) else {
                return false;
            };
            hub.counters.slow();
            if hub.log_limiter.allow(player.core.peer) {
                tracing::info!(stream = ?player.core.stream, code = "noRoom", "player cut");
            }
            player.core.stop(EndReason::TooSlow);
            self.players.swap_remove(at);
        }
    }

    fn published(&self) -> Kinds {
        self.published.unwrap_or(Kinds::BOTH)
    }

    /// Which kinds have come of those that a player gets. Not known while it is too early to tell.
    fn tracks(&self, delivered: Kinds) -> Option<Kinds> {
        let first = self.publisher.as_ref().and_then(|current| current.first_payload)?;
        let known = self.cache.has.and(delivered);
        let is_settled = known == delivered || first.elapsed() >= KINDS_SETTLE_TIME;
        (is_settled && known != Kinds::NONE).then_some(known)
    }
}

fn group_bounds(hub: &Inner) -> GroupBounds {
    GroupBounds {
        bytes: hub.config.gop_bytes,
        packets: hub.config.gop_packets,
        span: u32::try_from(hub.config.gop_time.as_millis()).unwrap_or(u32::MAX),
    }
}

fn too_many_headers(core: &ClaimCore) -> EndReason {
    core.end(EndReason::TooManyHeaders);
    EndReason::TooManyHeaders
}

fn no_room(core: &ClaimCore) -> EndReason {
    core.end(EndReason::NoRoom);
    EndReason::NoRoom
}

/// The last point at which a cut is seen as a denial: the caller holds the lock of the stream, and a
/// later cut finds the claim among publishers and players.
fn refuse_ended(core: &ClaimCore) -> Result<(), Denied> {
    match core.ended() {
        None => Ok(()),
        Some(_) => Err(Denied::new(DeniedKind::Denied, "cut", "the stream was cut meanwhile")),
    }
}

/// Counts a player as one without publisher, or not. One that lost its publisher takes no slot from those that came
/// without: its time is bounded.
fn set_waiting(hub: &Inner, core: &ClaimCore, waiting: bool) {
    if !waiting {
        *lock(&core.slots) = None;
    }
    match (core.waiting.swap(waiting, Relaxed), waiting) {
        (false, true) => _ = hub.counters.waiters.fetch_add(1, Relaxed),
        (true, false) => _ = hub.counters.waiters.fetch_sub(1, Relaxed),
        _ => {}
    }
}

//! The quality of media: figures for the history, and levels that members are told (QUA-1..). Comes in: measurements of
//! the relay, reports of clients, the ends of streams and plays. Goes out: figures of about a minute each,
//! `networkQuality`.
//!
//! ```text
//!   relay measurement --.             .--> every minute, and at the end --> figures for the history
//!                        +--> flow --+
//!   report of a client -'             `--> level of a member's streams --> changed? not too soon? --> notice
//! ```
//!
//! The level of a push goes to its publisher and to all its viewers, that of a play to its viewer alone.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lianmai_protocol::message::Notice;
use lianmai_protocol::message::notice::{Direction, NetworkQuality};
use lianmai_protocol::{Gen, Mid, MonoTime, UserId, codec};

use super::Channel;
use super::flow::{Figures, Flow, FlowKey};
use super::member::SLOT_KINDS;
use crate::context::Context;
use crate::history::{HistoryStep, Quality};
use crate::media_stats::{PushState, StreamStats};
use crate::timers::Timer;

/// Least time between two notices of one level, in milliseconds.
const LEVEL_MS: u64 = 5_000;
/// Least time for each receiver, if that is more in all: the more receivers, the fewer notices.
const LEVEL_MS_EACH: u64 = 5;

/// The owner of streams, and their viewer; `None` for the push.
type LevelKey = (UserId, Option<Mid>);

/// The quality of media in a channel, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Flows {
    flows: BTreeMap<FlowKey, Flow>,
    /// The level that was told last, and when.
    levels: BTreeMap<LevelKey, (u8, MonoTime)>,
    /// Levels that have changed, too early to be told.
    later: BTreeSet<LevelKey>,
    is_armed: bool,
}

impl Channel {
    /// A push or play was permitted. Returns its member.
    pub(super) fn flow_began(
        &mut self,
        cx: &Context,
        stream: Gen,
        viewer: Option<Mid>,
    ) -> Option<(UserId, Mid)> {
        let flow = self.flow(cx, (stream, viewer))?;
        // The relay refuses a second push with the URL of one that goes on.
        if !flow.is_active {
            flow.begin(cx.mono());
        }
        Some((flow.uid, flow.mid))
    }

    /// The flow of a stream that lives, or of its viewer.
    fn flow(&mut self, cx: &Context, key: FlowKey) -> Option<&mut Flow> {
        let (stream, viewer) = key;
        let live = self.streams.get(&stream)?;
        let owner = self.members.get(&live.owner)?;
        let slot = owner.pushes.iter().position(|push| *push == Some(stream))?;
        let (uid, mid) = match viewer {
            Some(mid) => (live.viewers.get(&mid)?.uid, mid),
            None => (owner.uid, owner.mid),
        };
        let new = || Flow::new(uid, mid, slot, cx.now);
        Some(self.flows.flows.entry(key).or_insert_with(new))
    }

    /// The relay reports the state of a push.
    pub(super) fn push_state_changed(&mut self, cx: &mut Context, stream: Gen, state: PushState) {
        let Some(owner) = self.streams.get(&stream).map(|stream| stream.owner) else { return };
        let Some(flow) = self.flow(cx, (stream, None)) else { return };
        match state {
            PushState::Began => flow.begin(cx.mono()),
            // The next measurement shows the effect.
            PushState::Stalled => return,
            PushState::Ended => {
                flow.end();
                self.record_figures(cx, (stream, None));
            }
        }
        self.level_changed(cx, (owner, None));
    }

    /// The relay has measured a stream.
    pub(crate) fn measured(&mut self, cx: &mut Context, stats: &StreamStats) {
        let stream = stats.generation;
        let Some(live) = self.streams.get(&stream) else { return };
        let Some(owner) = self.members.get(&live.owner) else { return };
        let (uid, now) = (owner.uid, cx.now);
        let loud = owner.published_on(stream).difference(owner.muted);
        let is_quiet = loud.is_empty();
        if let Some(push) = &stats.push
            && let Some(flow) = self.flow(cx, (stream, None))
        {
            flow.pushed(now, push, is_quiet);
        }
        let mut present = BTreeSet::new();
        for (mid, play) in &stats.plays {
            // A play by a task has no viewer, so its quality is not told.
            let Some(flow) = self.flow(cx, (stream, Some(*mid))) else { continue };
            flow.played(now, play);
            present.insert(*mid);
        }
        for mid in self.tracked_viewers(stream) {
            let key = (stream, Some(mid));
            let is_late = |flow: &Flow| flow.is_expected(now.mono);
            if !present.contains(&mid) && self.flows.flows.get(&key).is_some_and(is_late) {
                self.play_ended(cx, key, uid);
            } else {
                self.level_changed(cx, (uid, Some(mid)));
            }
        }
        self.level_changed(cx, (uid, None));
        for key in self.keys_of(stream) {
            if self.flows.flows.get(&key).is_some_and(|flow| flow.is_due(now.mono)) {
                self.record_figures(cx, key);
            }
        }
    }

    /// A client reports on a push or play of its own.
    pub(super) fn reported(&mut self, cx: &mut Context, key: FlowKey, figures: &Figures) {
        let Some(owner) = self.streams.get(&key.0).map(|stream| stream.owner) else { return };
        let now = cx.now;
        let Some(flow) = self.flow(cx, key) else { return };
        flow.reported(now, figures);
        if flow.is_due(now.mono) {
            self.record_figures(cx, key);
        }
        self.level_changed(cx, (owner, key.1));
    }

    /// Keys of all flows of a stream: its push first.
    fn keys_of(&self, stream: Gen) -> Vec<FlowKey> {
        let flows = self.flows.flows.range((stream, None)..);
        flows.map(|(key, _)| *key).take_while(|key| key.0 == stream).collect()
    }

    fn tracked_viewers(&self, stream: Gen) -> Vec<Mid> {
        self.keys_of(stream).into_iter().filter_map(|(_, viewer)| viewer).collect()
    }

    /// Records the figures of a flow since the last record.
    fn record_figures(&mut self, cx: &mut Context, key: FlowKey) {
        let Some(flow) = self.flows.flows.get_mut(&key) else { return };
        let Some((from, server, client)) = flow.take() else { return };
        let (uid, mid, carries) = (flow.uid, flow.mid, SLOT_KINDS[flow.slot].as_str().to_owned());
        let (direction, of) = match key.1 {
            None => (Direction::Push, None),
            Some(_) => (Direction::Pull, self.streams.get(&key.0).map(|stream| stream.owner)),
        };
        let stream = key.0;
        let quality = Quality { uid, mid, direction, of, stream, carries, from, server, client };
        self.record_step(cx, Some(uid), HistoryStep::Quality(Box::new(quality)));
    }

    /// A play is no longer there.
    fn play_ended(&mut self, cx: &mut Context, key: FlowKey, of: UserId) {
        self.record_figures(cx, key);
        let Some(flow) = self.flows.flows.remove(&key) else { return };
        let (uid, mid, stream) = (flow.uid, flow.mid, key.0);
        self.record_step(cx, Some(uid), HistoryStep::PlayEnded { uid, mid, of, stream });
        self.level_changed(cx, (of, key.1));
    }

    /// The server is about to end what a viewer plays.
    pub(super) fn play_cut(&mut self, cx: &mut Context, stream: Gen, viewer: Mid) {
        let key = (stream, Some(viewer));
        let Some(of) = self.streams.get(&stream).map(|stream| stream.owner) else { return };
        self.record_figures(cx, key);
        let Some(flow) = self.flows.flows.remove(&key) else { return };
        if flow.is_active {
            let (uid, mid) = (flow.uid, flow.mid);
            self.record_step(cx, Some(uid), HistoryStep::PlayCut { uid, mid, of, stream });
        }
        self.level_changed(cx, (of, Some(viewer)));
    }

    /// The server is about to end a stream.
    pub(super) fn push_cut(&mut self, cx: &mut Context, stream: Gen) {
        let Some(of) = self.streams.get(&stream).map(|stream| stream.owner) else { return };
        for key in self.keys_of(stream) {
            self.record_figures(cx, key);
            let Some(flow) = self.flows.flows.remove(&key) else { continue };
            if flow.is_active && key.1.is_none() {
                let (uid, mid) = (flow.uid, flow.mid);
                self.record_step(cx, Some(uid), HistoryStep::PushCut { uid, mid, stream });
            }
            self.level_changed(cx, (of, key.1));
        }
    }

    /// Records all figures, at the end of the channel or the process.
    pub(super) fn close_flows(&mut self, cx: &mut Context) {
        for key in self.flows.flows.keys().copied().collect::<Vec<_>>() {
            self.record_figures(cx, key);
        }
    }

    /// The level of a member's streams: the worst of them; `None` if none of them has a flow.
    fn level_of(&self, now: MonoTime, (owner, viewer): LevelKey) -> Option<u8> {
        let pushes = self.members.get(&owner)?.pushes.iter().flatten();
        let flows = pushes.filter_map(|push| self.flows.flows.get(&(*push, viewer)));
        flows.map(|flow| flow.level(now)).max()
    }

    /// Tells a level if it has changed, now or as soon as the interval is over.
    fn level_changed(&mut self, cx: &mut Context, key: LevelKey) {
        let now = cx.mono();
        let Some(level) = self.level_of(now, key) else {
            self.flows.levels.remove(&key);
            return;
        };
        let announced = self.flows.levels.get(&key);
        // No notice follows the end of a channel.
        if self.closed || level == announced.map_or(0, |(level, _)| *level) {
            return;
        }
        let announced_at = announced.map(|(_, at)| *at);
        let receivers = self.receivers(key);
        let wait_ms = LEVEL_MS.max(receivers.len() as u64 * LEVEL_MS_EACH);
        if announced_at.is_some_and(|at| now.since(at) < wait_ms) {
            self.flows.later.insert(key);
            if !std::mem::replace(&mut self.flows.is_armed, true) {
                cx.arm_in(LEVEL_MS, Timer::Levels(self.id));
            }
            return;
        }
        self.flows.levels.insert(key, (level, now));
        let (owner, viewer) = key;
        let direction = if viewer.is_some() { Direction::Pull } else { Direction::Push };
        let notice = level_notice(owner, direction.clone(), level);
        for uid in &receivers {
            self.send_behind_events(cx, *uid, notice.clone());
        }
        let (uid, of) = match viewer {
            Some(_) => (receivers.first().copied().unwrap_or(owner), Some(owner)),
            None => (owner, None),
        };
        self.record_step(cx, Some(uid), HistoryStep::LevelChanged { uid, direction, of, level });
    }

    /// The members that are told a level, each once.
    fn receivers(&self, (owner, viewer): LevelKey) -> BTreeSet<UserId> {
        let pushes = self.members.get(&owner).map(|member| member.pushes).unwrap_or_default();
        let streams = pushes.iter().flatten().filter_map(|push| self.streams.get(push));
        match viewer {
            Some(mid) => {
                streams.filter_map(|stream| stream.viewers.get(&mid)).map(|v| v.uid).collect()
            }
            None => {
                let viewers = streams.flat_map(|stream| stream.viewers.values());
                viewers.map(|viewer| viewer.uid).chain([owner]).collect()
            }
        }
    }

    /// Tells the levels that it was too early to tell.
    pub(crate) fn levels_due(&mut self, cx: &mut Context) {
        self.flows.is_armed = false;
        for key in std::mem::take(&mut self.flows.later) {
            self.level_changed(cx, key);
        }
    }

    /// Tells a member every level of its streams and of those that it plays (NOT-1).
    pub(super) fn notify_levels(&mut self, cx: &mut Context, uid: UserId) {
        let Some(member) = self.members.get(&uid) else { return };
        let pulls = member.pulls.iter().filter_map(|pull| self.streams.get(pull));
        let owners: BTreeSet<_> = pulls.map(|stream| stream.owner).chain([uid]).collect();
        for owner in owners {
            self.notify_levels_of(cx, uid, owner);
        }
    }

    /// Tells a member the levels of the streams of `owner`.
    pub(super) fn notify_levels_of(&mut self, cx: &mut Context, uid: UserId, owner: UserId) {
        let Some(mid) = self.members.get(&uid).map(|member| member.mid) else { return };
        for (viewer, direction) in [(None, Direction::Push), (Some(mid), Direction::Pull)] {
            if let Some((level, _)) = self.flows.levels.get(&(owner, viewer)).copied() {
                self.send_behind_events(cx, uid, level_notice(owner, direction, level));
            }
        }
    }
}

fn level_notice(uid: UserId, direction: Direction, level: u8) -> Bytes {
    let notice = Notice::NetworkQuality(NetworkQuality { uid, direction, level });
    codec::encode_notice(&notice).into()
}

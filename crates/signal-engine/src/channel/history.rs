//! Steps of a call that are not in the journal: lost connections, refused commands, issued URLs, begins and ends of
//! pushes and plays. Comes in: calls of the siblings. Goes out: steps for the history, a bounded number for each
//! member. Deliberately absent: events, which the journal has as well (`context`), and quality of media (`quality`).

use std::collections::BTreeMap;

use lianmai_protocol::message::notice::Direction;
use lianmai_protocol::{ErrorName, Gen, KindSet, MediaKind, Mid, MonoTime, UserId};

use super::Channel;
use crate::context::Context;
use crate::history::{HistoryEntry, HistoryStep};
use crate::input::Access;
use crate::media_stats::PushState;
use crate::output::Denial;

/// Most steps of one member in a window; all non-members together count as one member.
const MAX_STEPS: u32 = 120;
/// Most figures of quality of one member in a window.
const MAX_QUALITIES: u32 = 600;
/// The window, in milliseconds.
const WINDOW_MS: u64 = 60_000;

/// How many steps of each member the history got lately; `None` for non-members.
#[derive(Debug, Default)]
pub(super) struct HistoryBudget(BTreeMap<Option<UserId>, BudgetWindow>);

#[derive(Debug, Default)]
struct BudgetWindow {
    since: MonoTime,
    steps: u32,
    qualities: u32,
    missed: u32,
}

impl HistoryBudget {
    fn is_over(window: &BudgetWindow, now: MonoTime) -> bool {
        now.since(window.since) >= WINDOW_MS
    }

    /// Counts one more step of a member. Returns whether it may be recorded, and how many of an earlier window were
    /// left out.
    fn take(&mut self, now: MonoTime, of: Option<UserId>, quality: bool) -> (bool, u32) {
        let fresh = || BudgetWindow { since: now, ..BudgetWindow::default() };
        let window = self.0.entry(of).or_insert_with(fresh);
        let mut missed = 0;
        if HistoryBudget::is_over(window, now) {
            missed = std::mem::replace(window, fresh()).missed;
        }
        let (count, most) = match quality {
            true => (&mut window.qualities, MAX_QUALITIES),
            false => (&mut window.steps, MAX_STEPS),
        };
        let free = *count < most;
        if free {
            *count += 1;
        } else {
            window.missed += 1;
        }
        (free, missed)
    }
}

impl Channel {
    /// Records a step of a member, or of a non-member.
    pub(crate) fn record_step(&mut self, cx: &mut Context, of: Option<UserId>, step: HistoryStep) {
        if self.take_step(cx, of, matches!(step, HistoryStep::Quality(_))) {
            cx.record_history(&self.key, self.cid, HistoryEntry::Step(step));
        }
    }

    /// Whether one more step may be recorded; it is counted.
    fn take_step(&mut self, cx: &mut Context, of: Option<UserId>, quality: bool) -> bool {
        if !cx.config.history {
            return false;
        }
        let (free, missed) = self.history_budget.take(cx.mono(), of, quality);
        self.record_missed(cx, of, missed);
        free
    }

    fn record_missed(&self, cx: &mut Context, uid: Option<UserId>, count: u32) {
        if count > 0 {
            cx.record_history(
                &self.key,
                self.cid,
                HistoryEntry::Step(HistoryStep::Missed { uid, count }),
            );
        }
    }

    /// Records how many steps were left out in windows that are over, or in all of them.
    pub(super) fn close_budget_windows(&mut self, cx: &mut Context, all: bool) {
        let now = cx.mono();
        let over = self
            .history_budget
            .0
            .iter()
            .filter(|(_, window)| all || HistoryBudget::is_over(window, now));
        for (of, missed) in over.map(|(of, window)| (*of, window.missed)).collect::<Vec<_>>() {
            self.history_budget.0.remove(&of);
            self.record_missed(cx, of, missed);
        }
    }

    /// Records the last entries of a channel, or of this process.
    pub(crate) fn end_history(&mut self, cx: &mut Context) {
        self.close_flows(cx);
        self.close_budget_windows(cx, true);
    }

    /// A join was refused.
    pub(crate) fn join_refused(
        &mut self,
        cx: &mut Context,
        uid: Option<UserId>,
        error: &ErrorName,
    ) {
        let error = error.as_str().to_owned();
        // The uid is not verified, so the step counts for non-members.
        self.record_step(cx, None, HistoryStep::JoinRefused { uid, error });
    }

    /// A command was refused. Those about media are recorded.
    pub(super) fn command_refused(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        method: Option<&'static str>,
        error: &ErrorName,
    ) {
        let Some(method) = method.filter(|method| matches!(*method, "publish" | "subscribe"))
        else {
            return;
        };
        if let Some(mid) = self.members.get(&uid).map(|member| member.mid) {
            let (method, error) = (method.to_owned(), error.as_str().to_owned());
            self.record_step(
                cx,
                Some(uid),
                HistoryStep::CommandRefused { uid, mid, method, error },
            );
        }
    }

    /// A member has a connection again, or has lost it.
    pub(super) fn connection_changed(&mut self, cx: &mut Context, uid: UserId, connected: bool) {
        let Some(mid) = self.members.get(&uid).map(|member| member.mid) else { return };
        let step = match connected {
            true => HistoryStep::Connected { uid, mid },
            false => HistoryStep::Disconnected { uid, mid },
        };
        self.record_step(cx, Some(uid), step);
    }

    /// A URL was issued to a member.
    pub(super) fn url_issued(&mut self, cx: &mut Context, uid: UserId, stream: Gen) {
        let Some(mid) = self.members.get(&uid).map(|member| member.mid) else { return };
        let Some(owner) = self.streams.get(&stream).map(|stream| stream.owner) else { return };
        let (direction, of) = direction_for(uid, owner);
        self.record_step(cx, Some(uid), HistoryStep::UrlIssued { uid, mid, direction, of, stream });
    }

    /// The kinds that a viewer of a stream subscribes to have changed.
    pub(super) fn subscribed(
        &mut self,
        cx: &mut Context,
        (uid, mid): (UserId, Mid),
        of: UserId,
        (before, kinds): (KindSet, KindSet),
    ) {
        for media_type in kinds.difference(before).iter().cloned() {
            self.record_step(cx, Some(uid), HistoryStep::Subscribed { uid, mid, of, media_type });
        }
        for media_type in before.difference(kinds).iter().cloned() {
            self.record_step(cx, Some(uid), HistoryStep::Unsubscribed { uid, mid, of, media_type });
        }
    }

    /// A kind was muted or unmuted.
    pub(super) fn mute_changed(
        &mut self,
        cx: &mut Context,
        (uid, mid): (UserId, Mid),
        caller: UserId,
        media_type: MediaKind,
        on: bool,
    ) {
        let by = (caller != uid).then_some(caller);
        let step = match on {
            true => HistoryStep::Muted { uid, mid, media_type, by },
            false => HistoryStep::Unmuted { uid, mid, media_type, by },
        };
        self.record_step(cx, Some(caller), step);
    }

    /// The relay was told whether a URL may be used.
    pub(crate) fn judged(
        &mut self,
        cx: &mut Context,
        stream: Gen,
        access: Access,
        denied: Option<Denial>,
    ) {
        let Some(of) = self.streams.get(&stream).map(|stream| stream.owner) else { return };
        let viewer = match access {
            Access::Publish => None,
            Access::Play { viewer } if self.is_played_by_a_task(stream, viewer) => return,
            Access::Play { viewer } => Some(viewer),
        };
        if let Some(denied) = denied {
            // The member is only looked up if the step may be recorded.
            let Some(mid) = viewer.filter(|_| self.take_step(cx, None, false)) else { return };
            let uid = self.members.values().find(|member| member.mid == mid).map(|m| m.uid);
            let error = denied.code().to_owned();
            let step = HistoryStep::MediaRefused { uid, mid, of, stream, error };
            return cx.record_history(&self.key, self.cid, HistoryEntry::Step(step));
        }
        let Some((uid, mid)) = self.flow_began(cx, stream, viewer) else { return };
        let (direction, of) = direction_for(uid, of);
        self.record_step(
            cx,
            Some(uid),
            HistoryStep::MediaAllowed { uid, mid, direction, of, stream },
        );
    }

    /// The relay reports the state of a push.
    pub(crate) fn push_changed(&mut self, cx: &mut Context, stream: Gen, state: PushState) {
        let Some(uid) = self.streams.get(&stream).map(|stream| stream.owner) else { return };
        let Some(mid) = self.members.get(&uid).map(|member| member.mid) else { return };
        let step = match state {
            PushState::Began => HistoryStep::PushBegan { uid, mid, stream },
            PushState::Stalled => HistoryStep::PushStalled { uid, mid, stream },
            PushState::Ended => HistoryStep::PushEnded { uid, mid, stream },
        };
        self.record_step(cx, Some(uid), step);
        self.push_state_changed(cx, stream, state);
    }
}

/// The direction of a stream of `owner` for `uid`, and the owner if it is another member.
fn direction_for(uid: UserId, owner: UserId) -> (Direction, Option<UserId>) {
    if uid == owner { (Direction::Push, None) } else { (Direction::Pull, Some(owner)) }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: how many steps are recorded.

    use super::*;

    #[test]
    fn steps_above_the_limit_are_dropped_and_counted() {
        let (mut budget, one) = (HistoryBudget::default(), Some(UserId(1)));
        let taken = (0..MAX_STEPS + 3).filter(|_| budget.take(MonoTime(5), one, false).0).count();
        assert_eq!(taken, MAX_STEPS as usize);
        assert_eq!(budget.take(MonoTime(5), one, true), (true, 0), "figures count by themselves");
        assert_eq!(budget.take(MonoTime(5), None, false), (true, 0), "and so do others");
        assert_eq!(budget.take(MonoTime(4 + WINDOW_MS), one, false), (false, 0));
        assert_eq!(budget.take(MonoTime(5 + WINDOW_MS), one, false), (true, 4));
    }
}

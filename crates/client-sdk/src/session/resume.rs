//! Returning to a membership. In: the answer to `reconnect`, or the snapshot of the `join` that replaces the
//! membership. Out: the differences for the app, all unanswered commands once more, and at the end `reconnected`.
//! Deliberately absent: sockets and waits (`link.rs`).

use crate::prelude::*;
use alloc::sync::Arc;
use lianmai_protocol::message::Call;
use lianmai_protocol::message::media::Subscribe;
use lianmai_protocol::message::session::{Joined as JoinedMessage, Outcome, ResumeReason, Resumed};
use lianmai_protocol::raw::RawJson;
use lianmai_protocol::{Action, CloseCode, ErrorName, MonoTime, RpcError};

use super::answer::read;
use super::link::{End, Retry};
use super::liveness::Liveness;
use super::outcome::Announcement;
use super::phase::{Membership, Phase, Return, Route};
use super::restore::{Intent, StreamKey};
use super::state::State;
use super::translate::{self, Cause};
use super::{
    Change, Event, Missed, Picture, ReconnectOutcome, Session, StateReason, Work, earliest,
};

/// How the connection came back.
pub(super) struct Resumption {
    pub(super) told: Announcement,
    /// The new picture; `None` if the server replays the missed events.
    pub(super) new: Option<Picture>,
    /// Whether the app's own state is restored. Subscriptions are restored in each new epoch.
    pub(super) restore: bool,
    /// Whether the server remembers the answers of this session.
    pub(super) continues: bool,
    pub(super) why: StateReason,
}

impl Session {
    pub(super) fn resume_answer(&mut self, outcome: Result<RawJson, RpcError>) {
        let json = match outcome {
            Ok(json) => json,
            Err(error) => return self.resume_failed(error),
        };
        let Ok(mut answer) = read::<Resumed>(&json) else { return self.gap() };
        match answer.outcome {
            Outcome::Replayed => {
                let outcome = ReconnectOutcome::Replayed {
                    events: answer.replayed,
                    messages: answer.messages,
                };
                let told =
                    Announcement { outcome, missed: None, messages_lost: answer.messages_lost };
                if let Phase::Member(member) = &mut self.phase {
                    member.take_ticket(answer.ticket, answer.k);
                }
                let (why, continues) = (StateReason::Resumed, true);
                self.resumed(Resumption { told, new: None, restore: false, continues, why });
            }
            Outcome::Snapshot => match answer.snapshot.take() {
                Some(snapshot) => self.resume_snapshot(answer, *snapshot),
                None => self.gap(),
            },
            Outcome::Refused => {
                let reason = answer.reason.unwrap_or(ResumeReason::Invalid);
                self.refused(reason, answer.action);
            }
            _ => self.gap(),
        }
    }

    fn resume_snapshot(&mut self, answer: Resumed, snapshot: JoinedMessage) {
        let timers = snapshot.timers;
        let new = Picture::from_snapshot(snapshot, self.now);
        let Phase::Member(member) = &mut self.phase else { return };
        let picture = &member.picture;
        if new.own.uid != picture.own.uid {
            return self.gap();
        }
        let continues = new.epoch == picture.epoch;
        if !continues || new.own.mid != picture.own.mid {
            // Their numbers start again (RES-8).
            member.messages = 0;
        }
        member.timers = timers;
        member.take_ticket(answer.ticket, answer.k);
        let reason = answer.reason.unwrap_or(ResumeReason::Asked);
        let mut told =
            self.told_snapshot(&new, |reason| ReconnectOutcome::Snapshot { reason }, reason);
        told.messages_lost = answer.messages_lost;
        let (restore, why) = (answer.restore, StateReason::Resumed);
        self.resumed(Resumption { told, new: Some(new), restore, continues, why });
    }

    /// What the app is told about a new snapshot: messages between the two pictures are lost.
    pub(super) fn told_snapshot(
        &self,
        new: &Picture,
        outcome: impl FnOnce(ResumeReason) -> ReconnectOutcome,
        reason: ResumeReason,
    ) -> Announcement {
        let missed = self.picture().and_then(|old| {
            let from_seq = old.seq.saturating_add(1);
            if new.epoch != old.epoch || new.seq < old.seq {
                return Some(Missed { from_seq, to_seq: None });
            }
            (new.seq >= from_seq).then_some(Missed { from_seq, to_seq: Some(new.seq) })
        });
        Announcement { outcome: outcome(reason), missed, messages_lost: 0 }
    }

    /// Handles an error instead of a result: the server does not support `reconnect`, or not now.
    fn resume_failed(&mut self, error: RpcError) {
        let wait = error.data.retry_after_ms.unwrap_or(0);
        if error.data.retryable || *error.name() == ErrorName::Draining {
            let close = Some(CloseCode::NORMAL);
            return self.away(StateReason::Refused, Retry::Backoff(wait), close);
        }
        let reason = ResumeReason::Invalid;
        let action = error.data.action.unwrap_or_else(|| reason.action());
        self.refused(reason, Some(action));
    }

    fn refused(&mut self, reason: ResumeReason, action: Option<Action>) {
        let action = match action {
            None | Some(Action::Unknown(_)) => reason.action(),
            Some(known) => known,
        };
        let newer = self.has_newer_token();
        match action {
            Action::Rejoin => self.rejoin(reason),
            Action::RenewToken if newer => self.rejoin(reason),
            Action::Reconnect | Action::Redirect => self.await_closing(reason.as_str()),
            // The server has seen a later attempt than this one: the next attempt has a higher number.
            _ if reason == ResumeReason::StaleAttempt => {
                self.away(StateReason::Refused, Retry::Backoff(0), Some(CloseCode::NORMAL));
            }
            _ => {
                let (code, reason) = translate::end_of(&reason);
                self.end(End { code: code.0, reason, terminal: true, why: StateReason::Refused });
            }
        }
    }

    /// The membership cannot continue: a new one replaces it.
    fn rejoin(&mut self, reason: ResumeReason) {
        if let Phase::Member(member) = &mut self.phase {
            member.route = Route::Rejoin(reason);
        }
        self.addresses.worked();
        self.away(StateReason::Refused, Retry::Now, Some(CloseCode::NORMAL));
    }

    /// The connection is back. The app is told the differences first, then the URLs, then the answers, then
    /// `reconnected`.
    pub(super) fn resumed(&mut self, resumption: Resumption) {
        let Resumption { told, new, restore, continues, why } = resumption;
        let Phase::Member(member) = &mut self.phase else { return };
        let told = told.after(member.back.take().map(|earlier| earlier.told));
        let until = self.now + self.config.command_timeout_ms;
        member.back = Some(Return { told, pings: Vec::new(), until });
        member.gives_up = None;
        self.state = State::Joined(Liveness::new(&member.timers, self.now, self.reading_paused));
        self.addresses.worked();
        self.tell(why);
        self.ping_back();

        let mut steps = self.steps(new.as_ref());
        let intent = match (&self.phase, &new) {
            // A crash loses all subscriptions, whatever a moderator has decided meanwhile (RES-10).
            (Phase::Member(member), Some(new)) if restore || new.epoch != member.picture.epoch => {
                let unfinished = self.requests.own().chain(member.restore.queue());
                Some(Intent::of(&member.picture, unfinished))
            }
            _ => None,
        };
        let mut again = vec![];
        if let (Some(new), Phase::Member(member)) = (&new, &mut self.phase) {
            member.own_since = new.seq;
            // The snapshot is newer than all of them.
            member.learnt.clear();
            let live = &new.own.subscriptions;
            let ended =
                |asked: &Subscribe| !live.contains_key(&(asked.uid, asked.media_type.clone()));
            self.requests.ended(new.seq, ended);
        }
        if continues {
            again = self.requests.frames_again();
        } else {
            let unknown = self.requests.forget_answers();
            steps.extend(unknown.into_iter().map(Work::Unknown));
        }
        match (intent, &new) {
            (Some(mut intent), Some(new)) => {
                for call in self.requests.of_app() {
                    intent.leave_to(call, &new.own);
                }
                self.restore(&intent, new, restore);
            }
            _ if continues => {}
            // The state that the server reports is valid.
            _ => self.drop_restore(),
        }
        if let (Some(new), Phase::Member(member)) = (&new, &mut self.phase) {
            let Membership { urls, restore, .. } = &mut **member;
            urls.keep_pulls(|stream| new.has(stream) || restore.is_wanted(stream));
        }
        for step in steps.into_iter().rev() {
            self.inbox.push_front(step);
        }
        self.send_again(again);
    }

    /// The steps from the picture that the app knows to the new one, with the events for the app.
    fn steps(&self, new: Option<&Picture>) -> Vec<Work> {
        let (Some(old), Some(new)) = (self.picture(), new) else { return vec![] };
        let mut cause = Cause { uid: old.own.uid, mid: old.own.mid, requests: &self.requests };
        let told = old.diff(new).into_iter().map(|change| {
            let event = match &change {
                Change::WhileAway(event) => cause.channel_event(event),
                Change::MemberCount(count) => Some(Event::MemberCount { count: *count }),
                _ => None,
            };
            if let Change::Reentered(mid) = &change {
                cause.mid = *mid;
            }
            Work::Step(Arc::new(change), event)
        });
        told.collect()
    }

    /// Restores the app's subscriptions and, if `own`, its own state. Pending calls of the app come after that and take
    /// precedence.
    fn restore(&mut self, intent: &Intent, new: &Picture, own: bool) {
        let Phase::Member(member) = &mut self.phase else { return };
        if own {
            self.requests.push_own_first(intent.own_calls(&member.picture.own, &new.own));
        }
        let decided = |(uid, kind): &StreamKey| {
            self.requests.of_app().any(|call| match call {
                Call::Subscribe(asked) | Call::Unsubscribe(asked) => {
                    asked.uid == *uid && asked.media_type == *kind
                }
                _ => false,
            })
        };
        let lost = intent
            .streams()
            .filter(|stream| !new.own.subscriptions.contains_key(*stream) && !decided(stream));
        let (there, absent): (Vec<&StreamKey>, Vec<&StreamKey>) =
            lost.partition(|stream| new.has(stream));
        member.restore.begin(there.into_iter().cloned().collect(), self.requests.len(), self.now);
        for stream in absent {
            member.restore.want(stream.clone(), self.now);
        }
    }

    fn drop_restore(&mut self) {
        if let Phase::Member(member) = &mut self.phase {
            member.restore.drop_queue();
        }
    }

    /// Sends all commands that `reconnected` waits for, then a ping whose answer follows theirs, then the waiting
    /// commands.
    fn send_again(&mut self, again: Vec<String>) {
        let mut sent = false;
        for frame in again {
            self.send(frame);
            sent = true;
        }
        while let Some(frame) = self.requests.next_frame(true) {
            self.send(frame);
            sent = true;
        }
        if sent {
            self.ping_back();
        }
        self.send_waiting();
    }

    fn ping_back(&mut self) {
        let ping = self.ping();
        if let (Phase::Member(member), Some(id)) = (&mut self.phase, ping)
            && let Some(back) = &mut member.back
        {
            back.pings.push(id);
        }
    }

    /// A ping has its answer, and the answer shows no loss.
    pub(super) fn pinged_back(&mut self, id: u64) {
        if let Phase::Member(member) = &mut self.phase
            && let Some(back) = &mut member.back
        {
            back.pings.retain(|ping| *ping != id);
        }
        self.check_return();
    }

    /// Announces `reconnected` once everything before it is done.
    pub(super) fn check_return(&mut self) {
        let (State::Joined(_), Phase::Member(member)) = (&self.state, &mut self.phase) else {
            return;
        };
        // Steps come first; each one calls this function again.
        if let Some(Work::Step(..)) = self.inbox.front() {
            return;
        }
        let busy = self.requests.is_returning() || !member.restore.is_done();
        let over = |back: &mut Return| back.pings.is_empty() && (!busy || back.until <= self.now);
        if let Some(Return { told, .. }) = member.back.take_if(over) {
            let Announcement { outcome, missed, messages_lost } = told;
            self.event(Event::Reconnected { outcome, missed, messages_lost });
        }
    }

    /// The next deadline of the restore commands and of the announcement.
    pub(super) fn return_deadline(&self, member: &Membership) -> Option<MonoTime> {
        let State::Joined(_) = self.state else { return None };
        let paced = member.restore.next_at().filter(|_| !self.requests.is_leaving());
        let waited = member.back.as_ref().filter(|back| back.pings.is_empty());
        earliest(&[paced, waited.map(|back| back.until)])
    }
}

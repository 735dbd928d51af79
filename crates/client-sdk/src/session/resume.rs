//! Back to a membership. Comes in: what the server answers to `reconnect`, and the snapshot of a join in its
//! place. Goes out: the difference to the app, every command without an answer once more, and, when all of
//! that is over, `reconnected`. Deliberately absent: sockets and waits (`link.rs`).

use crate::prelude::*;
use alloc::sync::Arc;
use lianmai_protocol::message::Call;
use lianmai_protocol::message::media::Subscribe;
use lianmai_protocol::message::session::{Joined as JoinedMessage, Outcome, ResumeReason, Resumed};
use lianmai_protocol::raw::RawJson;
use lianmai_protocol::{Action, CloseCode, ErrorName, MonoTime, RpcError};

use super::answer::read;
use super::link::{End, Wait};
use super::liveness::Liveness;
use super::outcome::Told;
use super::restore::{Intent, Stream};
use super::state::State;
use super::stay::{Back, Membership, Route, Stay};
use super::translate::{self, Cause};
use super::{
    Change, Event, Missed, Picture, ReconnectOutcome, Session, StateReason, Work, earliest,
};

/// A connection that came back.
pub(super) struct Return {
    pub(super) told: Told,
    /// The picture now, where it is not told event by event.
    pub(super) new: Option<Picture>,
    /// Whether the app's state is said again.
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
                let told = Told { outcome, missed: None, messages_lost: answer.messages_lost };
                if let Stay::Member(member) = &mut self.stay {
                    member.take_ticket(answer.ticket, answer.k);
                }
                let (why, continues) = (StateReason::Resumed, true);
                self.back(Return { told, new: None, restore: false, continues, why });
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
        let Stay::Member(member) = &mut self.stay else { return };
        let picture = &member.picture;
        if new.own.uid != picture.own.uid {
            return self.gap();
        }
        let continues = new.epoch == picture.epoch;
        if !continues || new.own.mid != picture.own.mid {
            // They are counted anew (RES-8).
            member.messages = 0;
        }
        member.timers = timers;
        member.take_ticket(answer.ticket, answer.k);
        let reason = answer.reason.unwrap_or(ResumeReason::Asked);
        let mut told =
            self.told_snapshot(&new, |reason| ReconnectOutcome::Snapshot { reason }, reason);
        told.messages_lost = answer.messages_lost;
        let (restore, why) = (answer.restore, StateReason::Resumed);
        self.back(Return { told, new: Some(new), restore, continues, why });
    }

    /// What an app is told of a new snapshot: messages between the two pictures are lost.
    pub(super) fn told_snapshot(
        &self,
        new: &Picture,
        outcome: impl FnOnce(ResumeReason) -> ReconnectOutcome,
        reason: ResumeReason,
    ) -> Told {
        let missed = self.picture().and_then(|old| {
            let from_seq = old.seq.saturating_add(1);
            if new.epoch != old.epoch || new.seq < old.seq {
                return Some(Missed { from_seq, to_seq: None });
            }
            (new.seq >= from_seq).then_some(Missed { from_seq, to_seq: Some(new.seq) })
        });
        Told { outcome: outcome(reason), missed, messages_lost: 0 }
    }

    /// An error instead of a result: the server does not serve `reconnect`, or not now.
    fn resume_failed(&mut self, error: RpcError) {
        let wait = error.data.retry_after_ms.unwrap_or(0);
        if error.data.retryable || *error.name() == ErrorName::Draining {
            let close = Some(CloseCode::NORMAL);
            return self.away(StateReason::Refused, Wait::Backoff(wait), close);
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
            // A server that saw a later attempt than this one: the next will be later still.
            _ if reason == ResumeReason::StaleAttempt => {
                self.away(StateReason::Refused, Wait::Backoff(0), Some(CloseCode::NORMAL));
            }
            _ => {
                let (code, reason) = translate::end_of(&reason);
                self.end(End { code: code.0, reason, terminal: true, why: StateReason::Refused });
            }
        }
    }

    /// The membership cannot go on: a new one takes its place.
    fn rejoin(&mut self, reason: ResumeReason) {
        if let Stay::Member(member) = &mut self.stay {
            member.route = Route::Rejoin(reason);
        }
        self.addresses.worked();
        self.away(StateReason::Refused, Wait::None, Some(CloseCode::NORMAL));
    }

    /// The connection is there again. The app hears first what changed, then of URLs, then answers, then that
    /// it is over.
    pub(super) fn back(&mut self, back: Return) {
        let Return { told, new, restore, continues, why } = back;
        let Stay::Member(member) = &mut self.stay else { return };
        let told = told.after(member.back.take().map(|earlier| earlier.told));
        let until = self.now + self.config.command_timeout_ms;
        member.back = Some(Back { told, pings: Vec::new(), until });
        member.gives_up = None;
        self.state = State::Joined(Liveness::new(&member.timers, self.now, self.reading_paused));
        self.addresses.worked();
        self.tell(why);
        self.ping_back();

        let mut steps = self.steps(new.as_ref());
        let intent = match &self.stay {
            Stay::Member(member) if restore && new.is_some() => {
                let unfinished = self.requests.own().chain(member.restore.queue());
                Some(Intent::of(&member.picture, unfinished))
            }
            _ => None,
        };
        let mut again = vec![];
        if let (Some(new), Stay::Member(member)) = (&new, &mut self.stay) {
            member.own_since = new.seq;
            // The snapshot is newer than any of them.
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
                self.restore(&intent, new);
            }
            _ if continues => {}
            // What the server says holds.
            _ => self.drop_restore(),
        }
        if let (Some(new), Stay::Member(member)) = (&new, &mut self.stay) {
            let Membership { urls, restore, .. } = &mut **member;
            urls.keep_pulls(|stream| new.has(stream) || restore.is_wanted(stream));
        }
        for step in steps.into_iter().rev() {
            self.inbox.push_front(step);
        }
        self.send_again(again);
    }

    /// From the picture that the app knows to the new one, with what it hears of each step.
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

    /// Says again what the app was. What it asked for itself and waits for comes behind that, and wins.
    fn restore(&mut self, intent: &Intent, new: &Picture) {
        let Stay::Member(member) = &mut self.stay else { return };
        self.requests.push_own_first(intent.own_calls(&member.picture.own, &new.own));
        let decided = |(uid, kind): &Stream| {
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
        let (there, absent): (Vec<&Stream>, Vec<&Stream>) =
            lost.partition(|stream| new.has(stream));
        member.restore.begin(there.into_iter().cloned().collect(), self.requests.len(), self.now);
        for stream in absent {
            member.restore.want(stream.clone(), self.now);
        }
    }

    fn drop_restore(&mut self) {
        if let Stay::Member(member) = &mut self.stay {
            member.restore.drop_queue();
        }
    }

    /// Every command of the way back, then a ping whose answer comes behind theirs, then what waited.
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
        if let (Stay::Member(member), Some(id)) = (&mut self.stay, ping)
            && let Some(back) = &mut member.back
        {
            back.pings.push(id);
        }
    }

    /// A ping was answered as it should be.
    pub(super) fn pinged_back(&mut self, id: u64) {
        if let Stay::Member(member) = &mut self.stay
            && let Some(back) = &mut member.back
        {
            back.pings.retain(|ping| *ping != id);
        }
        self.check_return();
    }

    /// Tells the app that it is over, once it is.
    pub(super) fn check_return(&mut self) {
        let (State::Joined(_), Stay::Member(member)) = (&self.state, &mut self.stay) else {
            return;
        };
        // Steps come first, and look here again.
        if let Some(Work::Step(..)) = self.inbox.front() {
            return;
        }
        let busy = self.requests.is_returning() || !member.restore.is_done();
        let over = |back: &mut Back| back.pings.is_empty() && (!busy || back.until <= self.now);
        if let Some(Back { told, .. }) = member.back.take_if(over) {
            let Told { outcome, missed, messages_lost } = told;
            self.event(Event::Reconnected { outcome, missed, messages_lost });
        }
    }

    /// When something of the way back is due.
    pub(super) fn return_deadline(&self, member: &Membership) -> Option<MonoTime> {
        let State::Joined(_) = self.state else { return None };
        let paced = member.restore.next_at().filter(|_| !self.requests.is_leaving());
        let waited = member.back.as_ref().filter(|back| back.pings.is_empty());
        earliest(&[paced, waited.map(|back| back.until)])
    }
}

//! Entering a channel: the app's `join`, and the `join` that replaces a dead membership. In: the call and the server's
//! answers. Out: a membership, another attempt, or the end. Deliberately absent: restoring the state of an earlier
//! membership (`resume.rs`, `restore.rs`).

use crate::prelude::*;
use lianmai_protocol::message::Call;
use lianmai_protocol::message::session::{Empty, Join, Joined as JoinedMessage, ResumeReason};
use lianmai_protocol::raw::RawJson;
use lianmai_protocol::{Action, CloseCode, ErrorName, MonoTime, RpcError};

use super::answer::read;
use super::input::CallId;
use super::link::{End, Retry};
use super::liveness::Liveness;
use super::phase::{Membership, PendingJoin, Phase, Route};
use super::requests::sendable;
use super::resume::Resumption;
use super::state::State;
use super::{Change, Event, Joined, Picture, Reply, Session, StateReason};
use crate::error::CallError;

impl PendingJoin {
    /// Gives a frozen host more time, once.
    pub(super) fn wake(&mut self, until: MonoTime) {
        if !core::mem::replace(&mut self.woken, true) {
            self.deadline = self.deadline.max(until);
        }
    }
}

impl Session {
    pub(super) fn join(&mut self, call: CallId, join: Join) {
        let request = Call::Join(join.clone());
        if let Err(name) = sendable(&request) {
            return self.settle(call, Err(CallError::refused(name)));
        }
        self.end_late_leave();
        let deadline = self.now + self.config.command_timeout_ms;
        let entry =
            PendingJoin { call, join, deadline, woken: false, unanswered: 0, failure: None };
        self.phase = Phase::Joining(Box::new(entry));
        self.addresses.start_over();
        self.backoff.reset();
        self.connect();
        self.tell(StateReason::JoinCalled);
    }

    /// Handles the answer to the app's `join`.
    pub(super) fn entry_answer(&mut self, outcome: Result<RawJson, RpcError>) {
        let json = match outcome {
            Ok(json) => json,
            Err(error) => return self.entry_refused(error),
        };
        let Ok(answer) = read::<JoinedMessage>(&json) else { return self.gap() };
        let Phase::Joining(entry) = core::mem::take(&mut self.phase) else { return };
        let (session_id, deployment_id) = (answer.session_id, answer.deployment_id.clone());
        let live = Liveness::new(&answer.timers, self.now, self.reading_paused);
        let membership = Membership::new(entry.join, answer, self.now);
        let picture = membership.picture.clone();
        self.phase = Phase::Member(Box::new(membership));
        self.state = State::Joined(live);
        self.addresses.worked();
        self.change(Change::Entered(Box::new(picture.clone())));
        self.tell(StateReason::Joined);
        let joined = Joined {
            cid: picture.cid,
            uid: picture.own.uid,
            mid: picture.own.mid,
            session_id,
            deployment_id,
            picture,
        };
        self.settle(entry.call, Ok(Reply::Joined(Box::new(joined))));
        self.send_waiting();
    }

    fn entry_refused(&mut self, error: RpcError) {
        let Phase::Joining(entry) = &mut self.phase else { return };
        entry.unanswered = entry.unanswered.saturating_sub(1);
        let wait = error.data.retry_after_ms.unwrap_or(0);
        let is_elsewhere = error.data.action == Some(Action::Redirect);
        // A restart or a rate limit is temporary (IDS-9): the session waits for it if the deadline of the call allows.
        let passes = matches!(error.name(), ErrorName::Draining | ErrorName::RateLimited);
        let waits = passes && self.now + wait < entry.deadline;
        if is_elsewhere || waits {
            let name = error.name().as_str().to_owned();
            entry.failure = Some(CallError::Refused(error));
            if is_elsewhere {
                return self.await_closing(&name);
            }
            let close = Some(CloseCode::NORMAL);
            return self.away(StateReason::JoinRefused, Retry::Backoff(wait), close);
        }
        let end = End::local(CloseCode::NORMAL, "joinRefused", true, StateReason::JoinRefused);
        self.end_entry(end, CallError::Refused(error));
    }

    /// The app's `join` had no outcome in time.
    pub(super) fn join_over_time(&mut self) {
        let Phase::Joining(entry) = &mut self.phase else { return };
        let error = match entry.failure.take() {
            _ if entry.unanswered > 0 => CallError::OutcomeUnknown,
            Some(failure) => failure,
            None => CallError::Timeout,
        };
        self.event(Event::SendCommandOverTime { method: "join" });
        if self.requests.is_leaving() {
            return self.leave_late();
        }
        let end = End::local(CloseCode::NORMAL, "timeout", false, StateReason::Timeout);
        self.end_entry(end, error);
    }

    /// Ends the phase. A pending `join` fails with `error`.
    pub(super) fn end_entry(&mut self, end: End, error: CallError) {
        let call = match &self.phase {
            Phase::Joining(entry) => Some(entry.call),
            _ => None,
        };
        self.end(end);
        if let Some(call) = call {
            self.settle(call, Err(error));
        }
    }

    /// Handles the answer to a `join` that replaces a dead membership.
    pub(super) fn rejoin_answer(&mut self, outcome: Result<RawJson, RpcError>) {
        let json = match outcome {
            Ok(json) => json,
            Err(error) => return self.rejoin_refused(error),
        };
        let Ok(answer) = read::<JoinedMessage>(&json) else { return self.gap() };
        let Phase::Member(member) = &mut self.phase else { return };
        let picture = &member.picture;
        if answer.uid != picture.own.uid || answer.own.uid != picture.own.uid {
            return self.gap();
        }
        if answer.deployment_id != member.deployment_id {
            return self.foreign_deployment();
        }
        let reason = match &member.route {
            Route::Rejoin(reason) => reason.clone(),
            Route::Resume => ResumeReason::Gone,
        };
        // After a `join` the server remembers no answers, even if the membership is the same one: ids start again
        // (IDS-1).
        let continues = false;
        // Another epoch: the server crashed, and may have forgotten a part of the same membership.
        let restore = answer.mid != picture.own.mid || answer.epoch != picture.epoch;
        if restore {
            member.messages = 0;
        }
        member.timers = answer.timers;
        member.take_ticket(answer.ticket.clone(), answer.k);
        let new = Picture::from_snapshot(answer, self.now);
        let told =
            self.told_snapshot(&new, |reason| super::ReconnectOutcome::Rejoined { reason }, reason);
        self.resumed(Resumption {
            told,
            new: Some(new),
            restore,
            continues,
            why: StateReason::Rejoined,
        });
    }

    fn rejoin_refused(&mut self, error: RpcError) {
        if let Phase::Member(member) = &mut self.phase {
            member.may_be_back = false;
        }
        if error.data.action == Some(Action::Redirect) {
            return self.await_closing(error.name().as_str());
        }
        let (code, reason) = match error.name() {
            // This `join` is no call of the app that could fail. The session therefore waits and retries after a
            // temporary error, as for an unreachable server (ERR-2).
            _ if error.data.retryable => {
                let wait = Retry::Backoff(error.data.retry_after_ms.unwrap_or(0));
                return self.away(StateReason::Refused, wait, Some(CloseCode::NORMAL));
            }
            name if error.data.action == Some(Action::RenewToken) => {
                (CloseCode::TOKEN_EXPIRED, name.as_str())
            }
            ErrorName::TokenExpired => (CloseCode::TOKEN_EXPIRED, "tokenExpired"),
            name => (CloseCode::JOIN_REFUSED, name.as_str()),
        };
        self.end(End::local(code, reason, true, StateReason::Refused));
    }

    /// The address belongs to another deployment, which has other channels. Leaves that channel, and tries the other
    /// addresses with the old ticket (RES-11).
    fn foreign_deployment(&mut self) {
        let (_, leave) = self.requests.frame(&Call::Leave(Empty {}));
        self.send(leave);
        if !self.addresses.foreign() {
            let why = StateReason::WrongDeployment;
            return self.end(End::local(CloseCode::JOIN_REFUSED, "wrongDeployment", true, why));
        }
        if let Phase::Member(member) = &mut self.phase {
            member.route = member.first_route();
        }
        self.away(StateReason::WrongDeployment, Retry::Now, Some(CloseCode::NORMAL));
    }
}

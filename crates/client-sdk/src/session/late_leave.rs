//! `leave` without a connection. In: the call while there is no connection, then the server's answers. Out: the end of
//! the membership at once, followed by up to three attempts to deliver `leave`. Deliberately absent: anything about
//! these attempts that the app could see.

use crate::prelude::*;
use lianmai_protocol::codec::ServerMessage;
use lianmai_protocol::message::Call;
use lianmai_protocol::message::session::{Empty, Outcome, ResumeReason, Resumed};
use lianmai_protocol::raw::RawJson;
use lianmai_protocol::{CloseCode, RpcError};

use super::answer::read;
use super::link::{End, Retry};
use super::phase::{LateLeave, LeaveRoute, Phase, Route};
use super::state::{FirstRequest, State};
use super::{Session, StateReason};
use crate::error::CallError;

/// Number of attempts.
const MAX_ATTEMPTS: u32 = 3;
/// Time limit for all attempts; after that the membership ends with the server's grace period.
const TIME_LIMIT_MS: u64 = 10_000;
/// The random part of each pause, and the fixed part of the pause after the first attempt, which doubles.
const PAUSE_MS: u64 = 500;
/// The first attempt waits at most this long for a restarting server.
const RESTART_MS: u64 = 3_000;

impl Session {
    /// `leave` was called and is in the table. Without a connection the membership ends at once.
    pub(super) fn leave_without_connection(&mut self) {
        match (&self.phase, &self.state) {
            // `leave` is sent after the answer to `join`.
            (Phase::Joining(_), State::Entering { .. }) => {}
            (Phase::Member(_), State::Joined(_)) => self.send_waiting(),
            (Phase::Joining(_) | Phase::Member(_), _) if !self.state.is_ending() => {
                self.leave_late()
            }
            // `leave` is settled with the end that the server announced.
            _ => {}
        }
    }

    /// Ends the phase and, if there may be a membership, plans the delivery of `leave`.
    pub(super) fn leave_late(&mut self) {
        let mut planned = match self.state {
            State::Backoff { until } => until,
            _ => self.now,
        };
        let route = match &mut self.phase {
            // The same `joinId` finds the membership whose answer was lost. Without a `joinId` a new `join` would
            // create another membership, so nothing is sent.
            Phase::Joining(entry) if entry.unanswered > 0 => {
                entry.join.join_id.is_some().then(|| LeaveRoute::Join(entry.join.clone()))
            }
            Phase::Member(member) if member.route == Route::Resume => {
                if let Some((retry_after, jitter)) = member.restart_wait(0, self.now) {
                    planned = planned.max(self.now + self.backoff.asked(retry_after, jitter));
                }
                member.reconnect().map(LeaveRoute::Resume)
            }
            Phase::Member(member) if member.may_be_back => {
                Some(LeaveRoute::Join(member.rejoin(self.requests.newest_token())))
            }
            // A membership that the server refused has ended already.
            _ => None,
        };
        planned = planned.min(self.now + RESTART_MS);
        let End { code, reason, .. } = End::left();
        let unknown = route.is_some();
        let join =
            if unknown { CallError::OutcomeUnknown } else { CallError::Closed { code, reason } };
        self.end_entry(End::left(), join);
        if let Some(route) = route {
            let until = self.now + TIME_LIMIT_MS;
            self.phase = Phase::Leaving(Box::new(LateLeave { route, tries: MAX_ATTEMPTS, until }));
            let pause = self.backoff.asked(0, PAUSE_MS);
            self.state = State::Backoff { until: planned.max(self.now + pause) };
        }
    }

    /// An attempt to deliver `leave` failed.
    pub(super) fn retry_late_leave(&mut self) {
        let Phase::Leaving(late) = &self.phase else { return };
        let tried = MAX_ATTEMPTS.saturating_sub(late.tries);
        if late.tries == 0 {
            return self.end_late_leave();
        }
        // If there is only one address, this changes nothing.
        self.addresses.failed();
        let pause = self.backoff.asked(PAUSE_MS << tried, PAUSE_MS);
        self.state = State::Backoff { until: self.now + pause };
    }

    /// Ends the delivery: `leave` was delivered, or no further attempt is made.
    pub(super) fn end_late_leave(&mut self) {
        if let Phase::Leaving(_) = self.phase {
            self.end(End::left());
        }
    }

    pub(super) fn late_leave_message(&mut self, message: ServerMessage) {
        let State::Entering { asked, id, .. } = self.state else { return };
        match message {
            ServerMessage::Answer { id: Some(of), outcome } if of.0 == id => match asked {
                FirstRequest::Reconnect => self.late_leave_answer(outcome),
                FirstRequest::Join => match outcome {
                    Ok(_) => self.deliver_leave(),
                    Err(error) if error.data.retryable => self.late_leave_failed(),
                    Err(_) => self.end_late_leave(),
                },
                FirstRequest::Leave => self.end_late_leave(),
            },
            _ => self.ignored.early += 1,
        }
    }

    fn late_leave_answer(&mut self, outcome: Result<RawJson, RpcError>) {
        let Ok(json) = outcome else { return self.late_leave_failed() };
        let Ok(answer) = read::<Resumed>(&json) else { return self.late_leave_failed() };
        match answer.outcome {
            Outcome::Replayed | Outcome::Snapshot => self.deliver_leave(),
            // The membership lives, but this attempt cannot reach it.
            Outcome::Refused
                if matches!(
                    answer.reason,
                    Some(ResumeReason::Draining | ResumeReason::StaleAttempt)
                ) =>
            {
                self.late_leave_failed();
            }
            _ => self.end_late_leave(),
        }
    }

    fn deliver_leave(&mut self) {
        let (id, frame) = self.requests.frame(&Call::Leave(Empty {}));
        let give_up = self.now + self.config.command_timeout_ms;
        self.state = State::Entering { asked: FirstRequest::Leave, id, give_up };
        self.send(frame);
    }

    fn late_leave_failed(&mut self) {
        self.away(StateReason::Refused, Retry::Now, Some(CloseCode::NORMAL));
    }
}

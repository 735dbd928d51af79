//! `leave` without a connection. In: the call while there is no connection, then the server's answers. Out: the end of
//! the stay at once, followed by up to three attempts to deliver `leave`. Deliberately absent: anything about these
//! attempts that the app could see.

use crate::prelude::*;
use lianmai_protocol::codec::ServerMessage;
use lianmai_protocol::message::Call;
use lianmai_protocol::message::session::{Empty, Outcome, ResumeReason, Resumed};
use lianmai_protocol::raw::RawJson;
use lianmai_protocol::{CloseCode, RpcError};

use super::answer::read;
use super::link::{End, Wait};
use super::state::{Asked, State};
use super::stay::{Parting, Route, Stay, Way};
use super::{Session, StateReason};
use crate::error::CallError;

/// Number of attempts.
const TRIES: u32 = 3;
/// Time limit for all attempts; after that the membership ends with the server's grace period.
const WITHIN_MS: u64 = 10_000;
/// The random part of each pause, and the fixed part of the pause after the first attempt, which doubles.
const PAUSE_MS: u64 = 500;
/// The first attempt waits at most this long for a restarting server.
const RESTART_MS: u64 = 3_000;

impl Session {
    /// `leave` was called and is in the table. Without a connection the stay ends at once.
    pub(super) fn leave_without_connection(&mut self) {
        match (&self.stay, &self.state) {
            // `leave` is sent after the answer to `join`.
            (Stay::Entry(_), State::Entering { .. }) => {}
            (Stay::Member(_), State::Joined(_)) => self.send_waiting(),
            (Stay::Entry(_) | Stay::Member(_), _) if !self.state.is_ending() => self.part(),
            // `leave` is settled with the end that the server announced.
            _ => {}
        }
    }

    /// Ends the stay and, if there may be a membership, plans the delivery of `leave`.
    pub(super) fn part(&mut self) {
        let mut planned = match self.state {
            State::Backoff { until } => until,
            _ => self.now,
        };
        let way = match &mut self.stay {
            // The same `joinId` finds the membership whose answer was lost. Without a `joinId` a new `join` would
            // create another membership, so nothing is sent.
            Stay::Entry(entry) if entry.unanswered > 0 => {
                entry.join.join_id.is_some().then(|| Way::Join(entry.join.clone()))
            }
            Stay::Member(member) if member.route == Route::Resume => {
                if let Some((retry_after, jitter)) = member.restart_wait(0, self.now) {
                    planned = planned.max(self.now + self.backoff.asked(retry_after, jitter));
                }
                member.reconnect().map(Way::Resume)
            }
            Stay::Member(member) if member.may_be_back => {
                Some(Way::Join(member.rejoin(self.requests.newest_token())))
            }
            // A membership that the server refused has ended already.
            _ => None,
        };
        planned = planned.min(self.now + RESTART_MS);
        let End { code, reason, .. } = End::left();
        let unknown = way.is_some();
        let join =
            if unknown { CallError::OutcomeUnknown } else { CallError::Closed { code, reason } };
        self.end_entry(End::left(), join);
        if let Some(way) = way {
            let until = self.now + WITHIN_MS;
            self.stay = Stay::Parting(Box::new(Parting { way, tries: TRIES, until }));
            let pause = self.backoff.asked(0, PAUSE_MS);
            self.state = State::Backoff { until: planned.max(self.now + pause) };
        }
    }

    /// An attempt to deliver `leave` failed.
    pub(super) fn part_again(&mut self) {
        let Stay::Parting(parting) = &self.stay else { return };
        let tried = TRIES.saturating_sub(parting.tries);
        if parting.tries == 0 {
            return self.parted();
        }
        // If there is only one address, this changes nothing.
        self.addresses.failed();
        let pause = self.backoff.asked(PAUSE_MS << tried, PAUSE_MS);
        self.state = State::Backoff { until: self.now + pause };
    }

    /// Ends the delivery: `leave` was delivered, or no further attempt is made.
    pub(super) fn parted(&mut self) {
        if let Stay::Parting(_) = self.stay {
            self.end(End::left());
        }
    }

    pub(super) fn parting_message(&mut self, message: ServerMessage) {
        let State::Entering { asked, id, .. } = self.state else { return };
        match message {
            ServerMessage::Answer { id: Some(of), outcome } if of.0 == id => match asked {
                Asked::Reconnect => self.parting_answer(outcome),
                Asked::Join => match outcome {
                    Ok(_) => self.deliver_leave(),
                    Err(error) if error.data.retryable => self.parting_failed(),
                    Err(_) => self.parted(),
                },
                Asked::Leave => self.parted(),
            },
            _ => self.ignored.early += 1,
        }
    }

    fn parting_answer(&mut self, outcome: Result<RawJson, RpcError>) {
        let Ok(json) = outcome else { return self.parting_failed() };
        let Ok(answer) = read::<Resumed>(&json) else { return self.parting_failed() };
        match answer.outcome {
            Outcome::Replayed | Outcome::Snapshot => self.deliver_leave(),
            // The membership lives, but this attempt cannot reach it.
            Outcome::Refused
                if matches!(
                    answer.reason,
                    Some(ResumeReason::Draining | ResumeReason::StaleAttempt)
                ) =>
            {
                self.parting_failed();
            }
            _ => self.parted(),
        }
    }

    fn deliver_leave(&mut self) {
        let (id, frame) = self.requests.frame(&Call::Leave(Empty {}));
        let give_up = self.now + self.config.command_timeout_ms;
        self.state = State::Entering { asked: Asked::Leave, id, give_up };
        self.send(frame);
    }

    fn parting_failed(&mut self) {
        self.away(StateReason::Refused, Wait::None, Some(CloseCode::NORMAL));
    }
}

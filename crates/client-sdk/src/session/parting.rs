//! `leave` without a connection. Comes in: the call while the session is away, then what the server
//! answers. Goes out: the end at once, and behind it up to three attempts whose only purpose is to
//! deliver it. Deliberately absent: anything that the app could hear of that.

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

/// So many attempts.
const TRIES: u32 = 3;
/// Within this; then the server's grace ends the membership.
const WITHIN_MS: u64 = 10_000;
/// Random part of the pauses, and the fixed part of the first but one; that doubles.
const PAUSE_MS: u64 = 500;
/// The longest that the first waits for a server that restarts.
const RESTART_MS: u64 = 3_000;

impl Session {
    /// `leave` was called and waits in the table. Without a connection it is over at once.
    pub(super) fn leave_without_connection(&mut self) {
        match (&self.stay, &self.state) {
            // It follows the join.
            (Stay::Entry(_), State::Entering { .. }) => {}
            (Stay::Member(_), State::Joined(_)) => self.send_waiting(),
            (Stay::Entry(_) | Stay::Member(_), _) if !self.state.is_ending() => self.part(),
            // It follows the end that is near.
            _ => {}
        }
    }

    /// The app is out; the server learns of it if it can.
    pub(super) fn part(&mut self) {
        let mut planned = match self.state {
            State::Backoff { until } => until,
            _ => self.now,
        };
        let way = match &mut self.stay {
            // The same `joinId` finds the membership whose answer was lost. Without one nobody is disturbed.
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
            // A refused membership is left already.
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

    /// An attempt to deliver came to nothing.
    pub(super) fn part_again(&mut self) {
        let Stay::Parting(parting) = &self.stay else { return };
        let tried = TRIES.saturating_sub(parting.tries);
        if parting.tries == 0 {
            return self.parted();
        }
        // With one address this changes nothing.
        self.addresses.failed();
        let pause = self.backoff.asked(PAUSE_MS << tried, PAUSE_MS);
        self.state = State::Backoff { until: self.now + pause };
    }

    /// It is delivered, or nothing more is tried.
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
            // The membership lives, and this attempt was not the one.
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

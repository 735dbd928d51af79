//! Sockets: opening and losing them, waiting for the next one, and the end of a membership. In: reports of the
//! host and the server about the socket, and due times. Out: `Connect` and `CloseSocket`, the connection state, the
//! first request on a new socket. Deliberately absent: the answers to that request (`entry.rs`, `resume.rs`).

use crate::prelude::*;
use lianmai_protocol::codec::decode_server_text;
use lianmai_protocol::message::Call;
use lianmai_protocol::message::notice::Closing;
use lianmai_protocol::message::session::ResumeReason;
use lianmai_protocol::{Action, CloseCode};

use super::phase::{LeaveRoute, Phase, Route};
use super::requests::Due;
use super::state::{AfterClose, CloseNotice, FirstRequest, State};
use super::translate;
use super::{Change, Event, Output, Reply, Session, SocketId, StateReason, Work};
use crate::error::CallError;

/// RFC 6455: the socket was lost, or could not be opened.
const LOST: CloseCode = CloseCode(1006);

/// When the next attempt is made.
pub(super) enum Retry {
    /// At once.
    Now,
    /// After a random time, but not before this many milliseconds.
    Backoff(u64),
    /// At once at the next address. If all addresses were tried, after a random time.
    NextAddress,
}

/// How a membership, or a pending join, ends.
pub(super) struct End {
    pub(super) code: u16,
    pub(super) reason: String,
    pub(super) terminal: bool,
    pub(super) why: StateReason,
}

impl End {
    /// An end that the session decides.
    pub(super) fn local(code: CloseCode, reason: &str, terminal: bool, why: StateReason) -> End {
        End { code: code.0, reason: reason.to_owned(), terminal, why }
    }

    /// The app called `leave`.
    pub(super) fn left() -> End {
        End::local(CloseCode::NORMAL, "left", true, StateReason::Left)
    }
}

impl Session {
    pub(super) fn connect(&mut self) {
        self.socket = SocketId(self.socket.0 + 1);
        let (socket, url) = (self.socket, self.addresses.url());
        self.out.push_back(Output::Connect { socket, url });
        self.state = State::Connecting { give_up: self.now + self.config.connect_timeout_ms };
        if let Phase::Leaving(late) = &mut self.phase {
            late.tries = late.tries.saturating_sub(1);
        }
    }

    /// The socket is open: sends the first request, and nothing else until its answer (CLI-3).
    pub(super) fn opened(&mut self) {
        let State::Connecting { .. } = self.state else { return };
        let deadline = self.now + self.config.command_timeout_ms;
        let (asked, call, give_up) = match &mut self.phase {
            Phase::Joining(entry) => {
                entry.unanswered += 1;
                (FirstRequest::Join, Call::Join(entry.join.clone()), entry.deadline)
            }
            Phase::Member(member) => match &member.route {
                Route::Resume => {
                    let Some(resume) = member.reconnect() else { return };
                    (FirstRequest::Reconnect, Call::Reconnect(resume), deadline)
                }
                Route::Rejoin(_) => {
                    let join = member.rejoin(self.requests.newest_token());
                    member.may_be_back = true;
                    (FirstRequest::Join, Call::Join(join), deadline)
                }
            },
            Phase::Leaving(late) => match &mut late.route {
                LeaveRoute::Resume(resume) => {
                    resume.attempt += 1;
                    (FirstRequest::Reconnect, Call::Reconnect(resume.clone()), deadline)
                }
                LeaveRoute::Join(join) => (FirstRequest::Join, Call::Join(join.clone()), deadline),
            },
            Phase::Out => return,
        };
        if !matches!(self.phase, Phase::Leaving(_)) {
            self.event(Event::Open {});
        }
        let (id, frame) = self.requests.frame(&call);
        self.state = State::Entering { asked, id, give_up };
        self.send(frame);
    }

    pub(super) fn frame(&mut self, text: &str) {
        match &mut self.state {
            State::Idle | State::Backoff { .. } | State::Connecting { .. } => {
                self.ignored.early += 1;
                return;
            }
            State::Joined(live) => live.heard(self.now),
            State::Entering { .. } | State::Closing(_) => {}
        }
        match decode_server_text(text) {
            Ok(messages) => {
                for message in messages {
                    self.inbox.push_back(Work::Message(message));
                }
            }
            Err(_) => self.gap(),
        }
    }

    /// The host received data that no server sends.
    pub(super) fn unreadable(&mut self) {
        if matches!(self.state, State::Entering { .. } | State::Joined(_) | State::Closing(_)) {
            self.gap();
        }
    }

    /// Handles a gap: the stream of events is no longer reliable, so nothing more of it is applied (CLI-2).
    pub(super) fn gap(&mut self) {
        if let State::Closing(_) = self.state {
            // The server has already announced how the connection ends.
            self.inbox.clear();
            return;
        }
        self.settle_backoff();
        if let Phase::Member(member) = &mut self.phase
            && member.gap(self.now)
        {
            self.backoff.failed();
        }
        self.away(StateReason::Gap, Retry::Backoff(0), Some(CloseCode::GAP));
    }

    pub(super) fn closed(&mut self, code: u16, text: String) {
        let name = CloseCode(code).row().map_or(text.clone(), |row| row.name.to_owned());
        match &self.state {
            State::Idle | State::Backoff { .. } => {}
            State::Connecting { .. } => self.failed(code, text),
            State::Closing(_) => self.finish_close(),
            State::Entering { .. } | State::Joined(_) => {
                // Only `leave` ends with the reason `left`: a stray 1000 keeps the text of the transport.
                let reason = if code == CloseCode::NORMAL.0 { text } else { name };
                let then = self.after_close(code, None, 0);
                match (&self.state, &then) {
                    (State::Entering { .. }, AfterClose::Back { .. }) => self.failed(code, reason),
                    _ => {
                        let give_up = self.now;
                        self.settle_backoff();
                        self.state = State::Closing(CloseNotice { code, reason, then, give_up });
                        self.finish_close();
                    }
                }
            }
        }
    }

    /// An attempt to connect failed.
    fn failed(&mut self, code: u16, reason: String) {
        if let Phase::Joining(entry) = &mut self.phase {
            entry.failure = Some(CallError::Closed { code, reason });
        }
        // The host's socket is gone already.
        self.state = State::Backoff { until: self.now };
        self.away(StateReason::SocketClosed, Retry::NextAddress, None);
    }

    /// Handles the `closing` notice.
    pub(super) fn closing(&mut self, closing: &Closing) {
        self.redirected(closing);
        let at_least = closing.retry_after_ms.unwrap_or(0);
        let then = self.after_close(closing.code.0, Some(&closing.action), at_least);
        let give_up = self.now + self.config.closing_timeout_ms;
        let (code, reason) = (closing.code.0, closing.reason.clone());
        self.settle_backoff();
        self.state = State::Closing(CloseNotice { code, reason, then, give_up });
        self.tell(StateReason::ServerClosing);
    }

    /// Selects the address for the next attempt, if `closing` redirects the client (CLO-3).
    pub(super) fn redirected(&mut self, closing: &Closing) {
        if closing.action == Action::Redirect
            && let Some(url) = &closing.url
        {
            self.addresses.redirect(url);
        }
    }

    /// The request was refused, and `closing` follows: it contains the wait and the address.
    pub(super) fn await_closing(&mut self, reason: &str) {
        let then = AfterClose::Back { at_least: 0, anew: None };
        let give_up = self.now + self.config.closing_timeout_ms;
        let (code, reason) = (CloseCode::JOIN_REFUSED.0, reason.to_owned());
        self.state = State::Closing(CloseNotice { code, reason, then, give_up });
    }

    /// The host stops or resumes reading. Data that it could not read does not count as late.
    pub(super) fn pause_reading(&mut self, paused: bool) {
        let was_held_up = self.is_held_up();
        self.reading_paused = paused;
        let deadline = self.now + self.config.command_timeout_ms;
        match &mut self.state {
            State::Joined(live) => live.pause_reading(paused, self.now),
            State::Entering { give_up, .. } if was_held_up => *give_up = deadline,
            _ => {}
        }
    }

    /// Whether the answer that opens the channel cannot arrive because the host does not read.
    pub(super) fn is_held_up(&self) -> bool {
        self.reading_paused && matches!(self.state, State::Entering { .. })
    }

    /// Determines what to do after a close.
    fn after_close(&self, code: u16, action: Option<&Action>, at_least: u64) -> AfterClose {
        let leaving = self.requests.is_leaving() && code == CloseCode::NORMAL.0;
        // This code answers no request that the server received: the request was lost.
        let unheard =
            code == CloseCode::JOIN_TIMEOUT.0 && matches!(self.state, State::Entering { .. });
        let anew = match translate::advice(code, action) {
            _ if unheard => None,
            Action::Reconnect | Action::Redirect if !leaving => None,
            Action::Rejoin => Some(ResumeReason::Gone),
            // The app may have supplied a newer token that arrived too late.
            Action::RenewToken if self.has_newer_token() => Some(ResumeReason::TokenExpired),
            _ => return AfterClose::End,
        };
        AfterClose::Back { at_least, anew }
    }

    /// Whether the app supplied a token that has not taken effect yet.
    pub(super) fn has_newer_token(&self) -> bool {
        let Phase::Member(member) = &self.phase else { return false };
        let newest = self.requests.newest_token();
        newest.is_some_and(|token| member.join.token.as_deref() != Some(token))
    }

    /// The server closed the socket, or its time to do so is over.
    fn finish_close(&mut self) {
        let State::Closing(said) = core::mem::replace(&mut self.state, State::Idle) else { return };
        // The host's socket is gone already, or closes because of the output below.
        self.state = State::Backoff { until: self.now };
        let CloseNotice { code, reason, then, .. } = said;
        match then {
            AfterClose::End
                if self.requests.is_leaving() && matches!(self.phase, Phase::Member(_)) =>
            {
                self.end(End::left());
            }
            AfterClose::End => {
                let error = CallError::Closed { code, reason: reason.clone() };
                let end = End { code, reason, terminal: true, why: StateReason::SocketClosed };
                self.end_entry(end, error);
            }
            AfterClose::Back { at_least, anew } => {
                if let (Phase::Member(member), Some(reason)) = (&mut self.phase, anew) {
                    member.route = Route::Rejoin(reason);
                }
                if let Phase::Joining(entry) = &mut self.phase {
                    entry.failure = Some(CallError::Closed { code, reason });
                }
                self.away(StateReason::SocketClosed, Retry::Backoff(at_least), None);
            }
        }
    }

    /// Drops the connection and plans the next one. Discards received messages that were not processed: the server
    /// sends them again.
    pub(super) fn away(&mut self, why: StateReason, retry: Retry, close: Option<CloseCode>) {
        self.inbox.clear();
        self.settle_backoff();
        if let Some(code) = close
            && self.state.has_socket()
        {
            self.close_socket(code.0);
        }
        self.state = State::Backoff { until: self.now };
        let asked = match retry {
            Retry::Backoff(asked) => asked,
            Retry::Now | Retry::NextAddress => 0,
        };
        let (mut at_least, mut soon) = ((asked, 0), false);
        match &mut self.phase {
            Phase::Out => return self.state = State::Idle,
            Phase::Leaving(_) => return self.retry_late_leave(),
            Phase::Joining(_) | Phase::Member(_) if self.requests.is_leaving() => {
                return self.leave_late();
            }
            Phase::Joining(_) => {}
            Phase::Member(member) => {
                member.gives_up.get_or_insert(self.now + self.config.give_up_after_ms);
                // Evaluated first: the loss itself is not a failed attempt.
                soon = member.is_server_awaited(self.now);
                // The jitter is added to the larger wait, so that a client that is closed early does not return at the
                // same time as all others.
                if let Some(restart) = member.restart_wait(asked, self.now) {
                    at_least = restart;
                }
            }
        }
        self.extend_calls();
        let asked_until = self.now + self.backoff.asked(at_least.0, at_least.1);
        let pause = match retry {
            Retry::Now => 0,
            Retry::NextAddress if self.addresses.failed() => 0,
            Retry::Backoff(_) | Retry::NextAddress if soon => self.backoff.soon(),
            Retry::Backoff(_) | Retry::NextAddress => self.backoff.wait(self.now),
        };
        let not_before = self.backoff.not_before.max(asked_until);
        self.backoff.not_before = not_before;
        self.state = State::Backoff { until: not_before.max(self.now + pause) };
        self.tell(why);
    }

    /// Resets the backoff if the connection was stable. Must be called before its state is replaced.
    fn settle_backoff(&mut self) {
        if let State::Joined(live) = &mut self.state
            && live.take_stable(self.now)
        {
            self.backoff.reset();
        }
    }

    pub(super) fn check_link(&mut self) {
        match &self.state {
            State::Connecting { give_up } | State::Entering { give_up, .. }
                if *give_up <= self.now && !self.is_held_up() =>
            {
                self.away(StateReason::Timeout, Retry::NextAddress, Some(CloseCode::NORMAL));
            }
            State::Joined(live) if live.dead_at().is_some_and(|at| at <= self.now) => {
                self.away(StateReason::DeadPeer, Retry::Backoff(0), Some(CloseCode::IDLE));
            }
            State::Closing(said) if said.give_up <= self.now => {
                let code = said.code;
                self.close_socket(code);
                self.finish_close();
            }
            _ => {}
        }
        if let State::Backoff { until } = self.state
            && until <= self.now
        {
            self.connect();
        }
    }

    pub(super) fn check_phase(&mut self) {
        match &self.phase {
            Phase::Joining(entry) if entry.deadline <= self.now => self.join_over_time(),
            Phase::Member(member) if member.gives_up.is_some_and(|at| at <= self.now) => {
                self.end(End::local(LOST, "gaveUp", false, StateReason::GaveUp));
            }
            Phase::Leaving(late) if late.until <= self.now => self.end_late_leave(),
            _ => {}
        }
    }

    /// The host was frozen: its socket is dead, and its deadlines are out of date.
    pub(super) fn wake(&mut self) {
        let until = self.now + self.config.command_timeout_ms;
        self.requests.wake(until);
        match &mut self.phase {
            // No call of the app depends on these.
            Phase::Out | Phase::Leaving(_) => return,
            _ if self.state.is_ending() => return,
            Phase::Joining(entry) => entry.wake(until),
            Phase::Member(member) => member.gives_up = None,
        }
        self.away(StateReason::Woken, Retry::Now, Some(CloseCode::NORMAL));
    }

    pub(super) fn network_changed(&mut self) {
        match &self.state {
            State::Backoff { .. } => self.hurry(),
            State::Connecting { .. } | State::Entering { .. } | State::Joined(_)
                if !matches!(self.phase, Phase::Leaving(_)) =>
            {
                self.away(StateReason::NetworkChanged, Retry::Now, Some(CloseCode::NORMAL));
            }
            _ => {}
        }
    }

    pub(super) fn foreground(&mut self) {
        match &mut self.state {
            State::Backoff { .. } => self.hurry(),
            State::Joined(live) => {
                let begins = live.probe(self.now);
                begins.then(|| self.ping());
            }
            _ => {}
        }
    }

    /// Ends the wait before the next attempt, but for the part that the server asked for (CLI-7, RST-1).
    fn hurry(&mut self) {
        if let State::Backoff { until } = &mut self.state {
            *until = self.backoff.not_before.max(self.now).min(*until);
        }
    }

    /// Ends the phase. Events come first, then settlements.
    pub(super) fn end(&mut self, end: End) {
        self.inbox.clear();
        if self.state.has_socket() {
            self.close_socket(CloseCode::NORMAL.0);
        }
        let pending = self.requests.take_all();
        self.state = State::Idle;
        let was_member = matches!(self.phase, Phase::Member(_));
        self.phase = Phase::Out;
        if was_member {
            self.change(Change::Ended);
        }
        self.tell(end.why);
        if was_member {
            let (reason, terminal) = (end.reason.clone(), end.terminal);
            self.event(Event::Disconnected { code: end.code, reason, terminal });
        }
        for Due { call, method, sent } in pending {
            let outcome = match method {
                "leave" => Ok(Reply::Done),
                _ if sent => Err(CallError::OutcomeUnknown),
                _ => Err(CallError::Closed { code: end.code, reason: end.reason.clone() }),
            };
            self.settle(call, outcome);
        }
    }
}

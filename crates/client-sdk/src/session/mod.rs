//! The client's state machine, without I/O.
//!
//! Comes in: [`Input`]s, each with the time. Goes out: [`Output`]s in one ordered queue, and the next
//! deadline. Deliberately absent: sockets, clocks, randomness, tasks, threads; coming back after a lost
//! connection, which ends the membership here.
//!
//! A host repeats: [`Session::handle`], then [`Session::poll_output`] until `None`, then waits for
//! its socket, its app, or [`Session::next_deadline`]. Frames are worked off one message at a time as
//! outputs are polled, so [`Session::picture`] shows the channel as of the event that was polled
//! last.

mod answer;
mod config;
mod event;
mod input;
mod liveness;
mod output;
mod picture;
mod receive;
mod requests;
mod state;
mod translate;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use lianmai_protocol::codec::{ServerMessage, decode_server_frame};
use lianmai_protocol::message::Call;
use lianmai_protocol::{CloseCode, ErrorName, MonoTime};

use crate::error::CallError;

pub use config::SessionConfig;
pub use event::{Event, EventKind};
pub use input::{CallId, Command, Input};
pub use output::{Joined, Output, Reply};
pub use picture::{Change, Member, Own, OwnPublication, Picture};
pub use state::{ConnectionState, StateReason};

use requests::{Due, Requests};
use state::State;

/// One client: at most one membership at a time, any number one after the other.
pub struct Session {
    config: SessionConfig,
    now: MonoTime,
    state: State,
    /// `leave` was called: nothing more is accepted (rule B29).
    leaving: bool,
    reading_paused: bool,
    requests: Requests,
    /// Some exactly while in a channel.
    picture: Option<Picture>,
    inbox: VecDeque<ServerMessage>,
    out: VecDeque<Output>,
    ignored: Ignored,
}

/// What a session received and did not use, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ignored {
    /// Events whose number was applied already.
    pub repeats: u64,
    /// Answers to nothing that was asked.
    pub answers: u64,
    /// Frames and events without a channel to apply them to.
    pub early: u64,
}

impl Session {
    /// A session that is in no channel.
    #[must_use]
    pub fn new(config: SessionConfig) -> Self {
        Session {
            config,
            now: MonoTime::default(),
            state: State::Idle,
            leaving: false,
            reading_paused: false,
            requests: Requests::default(),
            picture: None,
            inbox: VecDeque::new(),
            out: VecDeque::new(),
            ignored: Ignored::default(),
        }
    }

    /// Takes one input. `now` must not go back; where it does, the session stays at the later time.
    pub fn handle(&mut self, now: MonoTime, input: Input<'_>) {
        // Whoever did not poll to the end gets the same outputs in the same order.
        while let Some(message) = self.inbox.pop_front() {
            self.receive(message);
        }
        self.now = self.now.max(now);
        match input {
            Input::Command { call, command } => self.command(call, command),
            Input::SocketOpened => self.opened(),
            Input::Frame(bytes) => self.frame(bytes),
            Input::SocketClosed { code, reason } => self.closed(code, reason),
            Input::Timeout => {}
            Input::ReadingPaused | Input::ReadingResumed => {
                self.reading_paused = matches!(input, Input::ReadingPaused);
                if let State::Joined(live) = &mut self.state {
                    live.pause_reading(self.reading_paused, self.now);
                }
            }
        }
        // Answers that wait in the inbox are in time.
        if self.inbox.is_empty() {
            self.check_deadlines();
        }
    }

    /// The next output, until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.out.pop_front() {
                return Some(output);
            }
            let message = self.inbox.pop_front()?;
            self.receive(message);
            // Frames may come without end: what is due does not wait for a silence between them.
            if self.inbox.is_empty() {
                self.check_deadlines();
            }
        }
    }

    /// When [`Input::Timeout`] is due; valid after the outputs were polled to the end.
    #[must_use]
    pub fn next_deadline(&self) -> Option<MonoTime> {
        let state = match &self.state {
            State::Idle | State::Joining => None,
            State::Connecting { give_up, .. } => Some(*give_up),
            State::Joined(live) => live.dead_at().into_iter().chain([live.ping_at()]).min(),
            State::Closing(farewell) => Some(farewell.give_up),
        };
        [state, self.requests.next_deadline()].into_iter().flatten().min()
    }

    /// The channel, as of the last output that was polled; `None` while in no channel.
    #[must_use]
    pub fn picture(&self) -> Option<&Picture> {
        self.picture.as_ref()
    }

    /// Where the connection is.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        self.state.public()
    }

    /// What was received and not used.
    #[must_use]
    pub fn ignored(&self) -> Ignored {
        self.ignored
    }

    fn command(&mut self, call: CallId, command: Command) {
        let request = command.into_call();
        let refusal = match (&self.state, &request) {
            (State::Idle, Call::Join(_)) => return self.join(call, request),
            (_, Call::Join(_)) => Some(CallError::refused(ErrorName::AlreadyJoined)),
            (State::Idle, _) => Some(CallError::NotJoined),
            _ if self.leaving => Some(CallError::NotJoined),
            (State::Connecting { .. }, Call::Leave(_)) => {
                // Nothing was sent: the join is over here, and nothing is left to leave.
                let end = End::local(CloseCode::NORMAL, "left", true, StateReason::Left);
                self.end(end);
                return self.settle(call, Ok(Reply::Done));
            }
            (State::Connecting { .. }, _) => Some(CallError::NotJoined),
            (State::Joining, Call::Leave(_)) => None,
            (State::Joining, _) => Some(CallError::NotJoined),
            (State::Closing(_), Call::Leave(_)) => None,
            (State::Closing(farewell), _) => {
                Some(CallError::Closed { code: farewell.code, reason: farewell.reason.clone() })
            }
            (State::Joined(_), _) => None,
        };
        if let Some(error) = refusal {
            return self.settle(call, Err(error));
        }
        let is_leave = matches!(request, Call::Leave(_));
        // There is always room for the one `leave`.
        let room = self.config.max_queued.saturating_add(usize::from(is_leave));
        let deadline = self.now + self.config.command_timeout_ms;
        if let Err(name) = self.requests.push(call, request, deadline, room) {
            return self.settle(call, Err(CallError::refused(name)));
        }
        self.leaving = is_leave;
        self.send_waiting();
    }

    fn join(&mut self, call: CallId, request: Call) {
        let deadline = self.now + self.config.command_timeout_ms;
        if let Err(name) = self.requests.push(call, request, deadline, usize::MAX) {
            return self.settle(call, Err(CallError::refused(name)));
        }
        let give_up = self.now + self.config.connect_timeout_ms;
        self.out.push_back(Output::Connect { url: self.config.url.clone() });
        self.go(State::Connecting { join: call, give_up }, StateReason::JoinCalled);
    }

    fn opened(&mut self) {
        if let State::Connecting { .. } = self.state {
            self.event(Event::Open {});
            self.state = State::Joining;
            if let Some(frame) = self.requests.next_frame() {
                self.out.push_back(Output::Send(frame));
            }
        }
    }

    fn frame(&mut self, bytes: &[u8]) {
        if let State::Idle | State::Connecting { .. } = self.state {
            self.ignored.early += 1;
            return;
        }
        if let State::Joined(live) = &mut self.state {
            live.heard(self.now);
        }
        match decode_server_frame(bytes) {
            Ok(messages) => self.inbox.extend(messages),
            Err(_) => self.gap(),
        }
    }

    fn closed(&mut self, code: u16, reason: String) {
        let known = || CloseCode(code).row().map_or(reason.clone(), |row| row.name.to_owned());
        let (code, reason, terminal) = match &self.state {
            State::Idle => return,
            State::Closing(said) => (said.code, said.reason.clone(), said.terminal),
            _ if self.leaving => (CloseCode::NORMAL.0, "left".to_owned(), true),
            // Only `leave` is a leave: a stray 1000 keeps the text of the transport.
            _ if code == CloseCode::NORMAL.0 => (code, reason, false),
            _ => (code, known(), translate::is_terminal(code, None)),
        };
        let state_reason = if self.leaving { StateReason::Left } else { StateReason::SocketClosed };
        self.end(End { code, reason, terminal, state_reason, close_socket: false });
    }

    fn check_deadlines(&mut self) {
        match &mut self.state {
            State::Connecting { join, give_up } if *give_up <= self.now => {
                let join = *join;
                self.over_time(Due { call: join, method: "join", sent: false });
            }
            State::Closing(said) if said.give_up <= self.now => {
                let (code, reason, terminal) = (said.code, said.reason.clone(), said.terminal);
                let state_reason = StateReason::ServerClosing;
                self.end(End { code, reason, terminal, state_reason, close_socket: true });
            }
            State::Joined(live) if live.dead_at().is_some_and(|at| at <= self.now) => {
                self.end(End::local(CloseCode::IDLE, "idle", false, StateReason::DeadPeer));
            }
            _ => {}
        }
        while let Some(due) = self.requests.take_due(self.now) {
            self.over_time(due);
        }
        self.send_waiting();
        if let State::Joined(live) = &mut self.state
            && live.ping_at() <= self.now
        {
            let (id, frame) = self.requests.ping_frame();
            live.pinged(id);
            live.sent(self.now);
            self.out.push_back(Output::Send(frame));
        }
    }

    /// A call had no outcome in time. Without `join` or `leave` there is nothing to stay for.
    fn over_time(&mut self, due: Due) {
        let error =
            if due.sent { CallError::OutcomeUnknown } else { CallError::Timeout { sent: false } };
        self.event(Event::SendCommandOverTime { method: due.method });
        match due.method {
            "join" => {
                // The call may still be in the table: `end` must not settle it a second time.
                let others = self.requests.take_all().into_iter().filter(|d| d.call != due.call);
                let others: Vec<Due> = others.collect();
                let end = End::local(CloseCode::NORMAL, "timeout", false, StateReason::Timeout);
                self.end_with(end, others);
            }
            "leave" => self.end(End::local(CloseCode::NORMAL, "left", true, StateReason::Left)),
            _ => {}
        }
        self.settle(due.call, Err(error));
    }

    /// The stream of events cannot be trusted any more (rule B22).
    fn gap(&mut self) {
        self.end(End::local(CloseCode::GAP, "gap", false, StateReason::Gap));
    }

    fn end(&mut self, end: End) {
        let pending = self.requests.take_all();
        self.end_with(end, pending);
    }

    /// Ends the connection and whatever hung on it. Events first, then settlements.
    fn end_with(&mut self, end: End, pending: Vec<Due>) {
        self.inbox.clear();
        if let State::Idle = self.state {
            debug_assert!(pending.is_empty(), "nothing is pending without a connection");
            return;
        }
        let was_joining = matches!(self.state, State::Joining | State::Closing(_));
        let was_joined = self.picture.is_some();
        if end.close_socket {
            self.out.push_back(Output::CloseSocket { code: end.code });
        }
        if was_joined {
            self.change(Change::Ended);
        }
        self.leaving = false;
        self.go(State::Idle, end.state_reason);
        if was_joined {
            let (reason, terminal) = (end.reason.clone(), end.terminal);
            self.event(Event::Disconnected { code: end.code, reason, terminal });
        }
        for due in pending {
            // A server that refuses a joiner by a close says so with a code of its own.
            let told = was_joining && due.method == "join" && end.code >= CloseCode::GOING_AWAY.0;
            let outcome = match due.method {
                "leave" => Ok(Reply::Done),
                _ if due.sent && !told => Err(CallError::OutcomeUnknown),
                _ => Err(CallError::Closed { code: end.code, reason: end.reason.clone() }),
            };
            self.settle(due.call, outcome);
        }
    }

    fn send_waiting(&mut self) {
        if let State::Joined(live) = &mut self.state {
            while let Some(frame) = self.requests.next_frame() {
                live.sent(self.now);
                self.out.push_back(Output::Send(frame));
            }
        }
    }

    fn go(&mut self, state: State, reason: StateReason) {
        let before = self.state.public();
        self.state = state;
        let state = self.state.public();
        if state != before {
            self.event(Event::ConnectionStateChange { state, reason });
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.picture);
        self.out.push_back(Output::Picture(Arc::new(change)));
    }

    fn event(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    fn settle(&mut self, call: CallId, outcome: Result<Reply, CallError>) {
        self.out.push_back(Output::Settled { call, outcome });
    }
}

impl fmt::Debug for Session {
    /// Where it is; what it holds is secret in part.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("state", &self.state())
            .field("seq", &self.picture.as_ref().map(|picture| picture.seq))
            .finish_non_exhaustive()
    }
}

/// How a connection ends.
struct End {
    code: u16,
    reason: String,
    terminal: bool,
    state_reason: StateReason,
    close_socket: bool,
}

impl End {
    /// An end that the session decides.
    fn local(code: CloseCode, reason: &str, terminal: bool, state_reason: StateReason) -> End {
        End { code: code.0, reason: reason.to_owned(), terminal, state_reason, close_socket: true }
    }
}

//! The client's state machine, without I/O, and the contract of its host.
//!
//! Comes in: [`Input`]s, each with the time. Goes out: [`Output`]s in one ordered queue, and the next
//! deadline. Deliberately absent: sockets, clocks, tasks, threads; entropy, which is a seed of the host.
//!
//! # How to write a host
//!
//! A host repeats three things:
//!
//! ```text
//! session.handle(now, input)
//! while let Some(output) = session.poll_output() { do it }
//! wait for: an event of a socket, a call of the app, or session.next_deadline() -> Input::Timeout
//! ```
//!
//! The host of tokio is `crate::driver`.
//!
//! **Time.** `now` is milliseconds of a clock that never goes back; where it starts does not matter, and it
//! should go on while the process sleeps. `next_deadline` holds once the outputs were polled to the end, and
//! changes with each input. A timer that fires late, twice or too early does no harm. One that is more than 3 s
//! late says that the host was frozen: the session gives its socket up, and calls get their time anew, once.
//!
//! **Randomness.** [`SessionConfig::seed`] spreads the attempts of many clients and is no secret. Each `join`
//! brings a `join_id` of 128 random bits, which is one.
//!
//! **Sockets.** [`Output::Connect`] numbers a socket. Text goes out by [`Output::Send`], in order; a socket
//! that was closed by [`Output::CloseSocket`] still sends what was handed to it before. There is one at a time, and
//! `CloseSocket` comes before the next `Connect`, unless the host said that it is gone. Everything that the host
//! reports of a socket has its number:
//!
//! | report | when | at most |
//! |---|---|---|
//! | [`Input::SocketOpened`] | the handshake is over, with sub-protocol `lianmai.v1` | once |
//! | [`Input::Frame`] | a text frame came, whole | any number, in order |
//! | [`Input::Unreadable`] | something came that no server sends (CON-12) | once |
//! | [`Input::SocketClosed`] | it ended, or could not be opened | once, the last |
//!
//! What is late is harmless: a report about a socket that the session gave up, or that it never had, changes
//! nothing and is counted in [`Ignored::late`]. The other way round the host drops what it is told about a socket
//! that is gone already. A host sends no pings, and follows no redirect: both are the session's. It answers
//! WebSocket pings where its library does not.
//!
//! **Frames.** At most 64 KiB go out, and up to 1 MiB comes in: more is `Unreadable`. URLs that `Connect` names
//! and texts that `Send` holds are not for logs: `Debug` of inputs and outputs leaves texts out.
//!
//! **Calls.** [`Input::Command`] names a call by a number of the host that no open call has. It is settled
//! exactly once by [`Output::Settled`], whatever happens to the connection, and not behind its time:
//! [`SessionConfig::command_timeout_ms`], and what a restarting server asks for or a frozen host slept. A call
//! may be made from within an event, while outputs are left to be polled: they keep their order, but the
//! session's picture is ahead of them then.
//!
//! **Order.** Outputs are in the order in which the app shall see and hear them: every event up to the one that
//! a command caused comes before the settlement of that command. [`Session::picture`] is the channel as of the
//! output that was polled last: frames are worked off one message at a time as outputs are polled. A host that
//! does not run the app's code before it polls on puts the outputs into a [`Delivery`], which keeps the picture
//! as of what the app has got, and says when to stop reading.
//!
//! **Slow apps.** A host that can stop to read its socket does so while [`Delivery::is_full`], and hands on what
//! [`Delivery::reading`] says: silence is not held against the server then. One that cannot (a browser) does
//! neither. Nothing is dropped in either case.
//!
//! **Hints.** [`Input::NetworkChanged`] and [`Input::Foreground`] only make a session faster; it does without.
//!
//! **The end.** A session that is dropped sends nothing; the server's grace ends its membership. To leave, call
//! `leave` and go on until [`Session::next_deadline`] is `None`: without a connection the app is out at once, and
//! the session still tries to tell the server.
//!
//! # Inside
//!
//! A connection that is lost is not the end of a membership: the session comes back by itself, several
//! `Connect`s one after the other, and tells what changed meanwhile. `stay.rs` says what it stays for,
//! `state.rs` where the connection is; `link.rs` loses and opens sockets, `entry.rs` joins, `resume.rs`
//! comes back, `restore.rs` says again what the app was, `parting.rs` delivers a late `leave`.

use crate::prelude::*;
mod addresses;
mod answer;
mod backoff;
mod change;
mod config;
mod delivery;
mod diff;
mod entry;
mod event;
mod input;
mod link;
mod liveness;
mod outcome;
mod output;
mod parting;
mod picture;
mod queue;
mod receive;
mod requests;
mod restore;
mod resume;
mod rng;
mod state;
mod stay;
mod translate;
mod urls;

use alloc::sync::Arc;
use core::fmt;

use lianmai_protocol::codec::ServerMessage;
use lianmai_protocol::message::session::Ping;
use lianmai_protocol::message::{Call, ChannelEvent};
use lianmai_protocol::{ErrorName, MonoTime};

use crate::error::{CallError, ConfigError};

pub use change::{CaughtUp, Change};
pub use config::SessionConfig;
pub use delivery::{Delivered, Delivery, Reader};
pub use event::{Event, EventKind};
pub use input::{CallId, Input, SocketId};
pub use lianmai_protocol::message::Call as Command;
pub use outcome::{Missed, ReconnectOutcome};
pub use output::{Joined, Output, Reply};
pub use picture::{Member, Own, OwnPublication, Picture};
pub use state::{ConnectionState, StateReason};

use addresses::Addresses;
use backoff::Backoff;
use queue::Queue;
use requests::{Due, Requests};
use state::State;
use stay::Stay;

/// A host that is so late was frozen: what its socket says is of another time.
const FROZEN_MS: u64 = 3_000;

/// One client: at most one membership at a time, any number one after the other.
pub struct Session {
    config: SessionConfig,
    now: MonoTime,
    state: State,
    /// The number of the last socket. It is there while [`State::has_socket`].
    socket: SocketId,
    stay: Stay,
    /// The state that the app was told last.
    told: ConnectionState,
    reading_paused: bool,
    requests: Requests,
    addresses: Addresses,
    backoff: Backoff,
    inbox: Queue<Work>,
    /// Whether something was worked off since deadlines were looked at.
    unchecked: bool,
    out: Queue<Output>,
    ignored: Ignored,
}

/// One thing to work off: an app sees the picture as of each.
enum Work {
    /// A message of the server.
    Message(ServerMessage),
    /// A step to a new snapshot, and what the app hears of it.
    Step(Arc<Change>, Option<Event>),
    /// A call whose outcome is not known, behind the steps.
    Unknown(CallId),
}

/// What a session received and did not use, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ignored {
    /// Events, and messages to the app alone, whose number was applied already.
    pub repeats: u64,
    /// Answers to nothing that was asked.
    pub answers: u64,
    /// Frames and messages without a channel to apply them to: before the answer that opens it, or behind
    /// `closing`.
    pub early: u64,
    /// Reports of the host about another socket than the present one.
    pub late: u64,
}

impl Session {
    /// A session that is in no channel.
    ///
    /// # Errors
    /// The addresses are none, too many, or no addresses.
    pub fn new(config: SessionConfig) -> Result<Session, ConfigError> {
        let addresses = Addresses::new(&config.urls)?;
        Ok(Session {
            now: MonoTime::default(),
            state: State::Idle,
            socket: SocketId(0),
            stay: Stay::Out,
            told: ConnectionState::Disconnected,
            reading_paused: false,
            requests: Requests::default(),
            addresses,
            backoff: Backoff::new(config.seed),
            inbox: Queue::new(),
            unchecked: false,
            out: Queue::new(),
            ignored: Ignored::default(),
            config,
        })
    }

    /// Takes one input. `now` must not go back; where it does, the session stays at the later time.
    pub fn handle(&mut self, now: MonoTime, input: Input<'_>) {
        // Whoever did not poll to the end gets the same outputs in the same order.
        while let Some(work) = self.inbox.pop_front() {
            self.work(work);
            self.unchecked = true;
        }
        if self.is_late(&input) {
            self.ignored.late += 1;
            return;
        }
        let now = self.now.max(now);
        let frozen = self.next_deadline().is_some_and(|due| now.since(due) > FROZEN_MS);
        self.now = now;
        if frozen {
            // Now there is no socket: what a dead one has to report is passed over.
            self.wake();
        }
        if self.is_late(&input) {
            self.ignored.late += 1;
        } else {
            self.take(input);
        }
        // Answers that wait in the inbox are in time.
        if self.inbox.is_empty() {
            self.check_deadlines();
        }
    }

    /// Whether it is about a socket that is not there any more.
    fn is_late(&self, input: &Input<'_>) -> bool {
        let present = self.state.has_socket().then_some(self.socket);
        input.socket().is_some_and(|socket| present != Some(socket))
    }

    fn take(&mut self, input: Input<'_>) {
        match input {
            Input::Command { call, command } => self.command(call, command),
            Input::SocketOpened { .. } => self.opened(),
            Input::Frame { text, .. } => self.frame(text),
            Input::Unreadable { .. } => self.unreadable(),
            Input::SocketClosed { code, reason, .. } => self.closed(code, reason),
            Input::Timeout => {}
            Input::ReadingPaused => self.pause_reading(true),
            Input::ReadingResumed => self.pause_reading(false),
            Input::NetworkChanged => self.network_changed(),
            Input::Foreground => self.foreground(),
        }
    }

    /// The next output, until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.out.pop_front() {
                return Some(output);
            }
            match self.inbox.pop_front() {
                Some(work) => {
                    self.work(work);
                    self.unchecked = true;
                }
                // Frames may come without end: what is due does not wait for a silence between them.
                None if self.unchecked => self.check_deadlines(),
                None => return None,
            }
        }
    }

    /// When [`Input::Timeout`] is due; valid after the outputs were polled to the end.
    #[must_use]
    pub fn next_deadline(&self) -> Option<MonoTime> {
        let state = match &self.state {
            State::Idle => None,
            State::Backoff { until } => Some(*until),
            State::Entering { .. } if self.is_held_up() => None,
            State::Connecting { give_up } | State::Entering { give_up, .. } => Some(*give_up),
            State::Joined(live) => earliest(&[live.dead_at(), Some(live.ping_at())]),
            State::Closing(farewell) => Some(farewell.give_up),
        };
        let stay = match &self.stay {
            Stay::Out => None,
            Stay::Entry(entry) => Some(entry.deadline),
            Stay::Member(member) => member.gives_up.or_else(|| self.return_deadline(member)),
            Stay::Parting(parting) => Some(parting.until),
        };
        earliest(&[state, stay, self.requests.next_deadline()])
    }

    /// The channel, as of the last output that was polled and is about the app: `Picture`, `Event` or
    /// `Settled`. `None` while in no channel; while the connection is lost it is as it was then.
    #[must_use]
    pub fn picture(&self) -> Option<&Picture> {
        match &self.stay {
            Stay::Member(member) => Some(&member.picture),
            _ => None,
        }
    }

    /// Where the connection is.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        match (&self.stay, &self.state) {
            // A late `leave` is no affair of the app.
            (Stay::Out | Stay::Parting(_), _) => ConnectionState::Disconnected,
            _ if self.state.is_ending() => ConnectionState::Disconnecting,
            (Stay::Entry(_), _) => ConnectionState::Connecting,
            (Stay::Member(_), State::Joined(_)) => ConnectionState::Connected,
            (Stay::Member(_), _) => ConnectionState::Reconnecting,
        }
    }

    /// What was received and not used.
    #[must_use]
    pub fn ignored(&self) -> Ignored {
        self.ignored
    }

    fn command(&mut self, call: CallId, request: Call) {
        let is_leave = matches!(request, Call::Leave(_));
        let refusal = match (&self.stay, &request) {
            // The session's own.
            (_, Call::Reconnect(_) | Call::Ping(_)) => {
                Some(CallError::refused(ErrorName::MethodNotFound))
            }
            (Stay::Out | Stay::Parting(_), Call::Join(join)) => {
                return self.join(call, join.clone());
            }
            (_, Call::Join(_)) => Some(CallError::refused(ErrorName::AlreadyJoined)),
            (Stay::Out | Stay::Parting(_), _) => Some(CallError::NotJoined),
            _ if self.requests.is_leaving() => Some(CallError::NotJoined),
            (Stay::Entry(_), Call::Leave(_)) => None,
            (Stay::Entry(_), _) => Some(CallError::NotJoined),
            (Stay::Member(_), _) => match &self.state {
                State::Closing(farewell) if self.state.is_ending() && !is_leave => {
                    let (code, reason) = (farewell.code, farewell.reason.clone());
                    Some(CallError::Closed { code, reason })
                }
                _ => None,
            },
        };
        if let Some(error) = refusal {
            return self.settle(call, Err(error));
        }
        if let Stay::Member(member) = &mut self.stay {
            member.restore.decided(&request, member.picture.own.uid);
        }
        // There is always room for the one `leave`.
        let room = self.config.max_queued.saturating_add(usize::from(is_leave));
        let deadline = self.now + self.config.command_timeout_ms;
        if let Err(name) = self.requests.push(call, request, deadline, room) {
            return self.settle(call, Err(CallError::refused(name)));
        }
        self.extend_calls();
        if is_leave { self.leave_without_connection() } else { self.send_waiting() }
    }

    /// Calls wait for a server that restarts (RST-1): those of before, and those until the session is back.
    fn extend_calls(&mut self) {
        if let Stay::Member(member) = &self.stay {
            self.requests.extend(member.restart_time(self.now));
        }
    }

    fn work(&mut self, work: Work) {
        match work {
            Work::Message(message) => self.receive(message),
            Work::Step(change, event) => {
                if let (Stay::Member(member), Change::WhileAway(ChannelEvent::StreamAdded(e))) =
                    (&mut self.stay, &*change)
                {
                    member.restore.appeared(&(e.uid, e.media_type.clone()), self.now);
                }
                self.apply(change);
                if let Some(event) = event {
                    self.event(event);
                }
                self.check_return();
            }
            Work::Unknown(call) => self.settle(call, Err(CallError::OutcomeUnknown)),
        }
    }

    fn check_deadlines(&mut self) {
        self.unchecked = false;
        self.check_stay();
        self.check_link();
        while let Some(due) = self.requests.take_due(self.now) {
            self.over_time(due);
        }
        self.send_waiting();
        if let State::Joined(live) = &self.state
            && live.ping_at() <= self.now
        {
            self.ping();
        }
        self.check_return();
    }

    /// A call had no outcome in time. Behind `leave` there is nothing to stay for but its delivery.
    fn over_time(&mut self, due: Due) {
        let error = if due.sent { CallError::OutcomeUnknown } else { CallError::Timeout };
        self.event(Event::SendCommandOverTime { method: due.method });
        if due.method == "leave" {
            self.part();
        }
        self.settle(due.call, Err(error));
    }

    fn send_waiting(&mut self) {
        let State::Joined(live) = &mut self.state else { return };
        if let Stay::Member(member) = &mut self.stay
            && !self.requests.is_leaving()
        {
            while let Some(call) = member.restore.take(self.now) {
                self.requests.push_own(call);
            }
        }
        while let Some(frame) = self.requests.next_frame(false) {
            live.sent(self.now);
            self.out.push_back(Output::Send { socket: self.socket, text: frame });
        }
    }

    /// Sends a frame on the present socket.
    fn send(&mut self, text: String) {
        self.out.push_back(Output::Send { socket: self.socket, text });
    }

    /// Closes the present socket.
    fn close_socket(&mut self, code: u16) {
        self.out.push_back(Output::CloseSocket { socket: self.socket, code });
    }

    /// Sends a ping, which tells the newest ticket and message that the session holds (PIN-2). Its id.
    fn ping(&mut self) -> Option<u64> {
        let (State::Joined(live), Stay::Member(member)) = (&mut self.state, &self.stay) else {
            return None;
        };
        let ping = Ping { k: member.ticket_number(), n: Some(member.messages) };
        let (id, frame) = self.requests.frame(&Call::Ping(ping));
        live.pinged(id);
        live.sent(self.now);
        self.send(frame);
        Some(id)
    }

    /// Tells the app where the connection is, if that is news.
    fn tell(&mut self, reason: StateReason) {
        let state = self.state();
        if state != self.told {
            self.told = state;
            self.event(Event::ConnectionStateChange { state, reason });
        }
    }

    fn change(&mut self, change: Change) {
        self.apply(Arc::new(change));
    }

    fn apply(&mut self, change: Arc<Change>) {
        if let Stay::Member(member) = &mut self.stay {
            change.step(&mut member.picture);
        }
        self.out.push_back(Output::Picture(change));
    }

    fn event(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    fn settle(&mut self, call: CallId, outcome: Result<Reply, CallError>) {
        self.out.push_back(Output::Settled { call, outcome });
    }
}

fn earliest(moments: &[Option<MonoTime>]) -> Option<MonoTime> {
    moments.iter().copied().flatten().min()
}

impl fmt::Debug for Session {
    /// Where it is; what it holds is secret in part.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("state", &self.state())
            .field("seq", &self.picture().map(|picture| picture.seq))
            .finish_non_exhaustive()
    }
}

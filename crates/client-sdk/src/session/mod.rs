//! The client's state machine, without I/O, and the contract for its host.
//!
//! In: [`Input`]s, each with the current time. Out: [`Output`]s in one ordered queue, and the next deadline.
//! Deliberately absent: sockets, clocks, tasks, threads and entropy; the host supplies a seed.
//!
//! # How to write a host
//!
//! A host repeats three steps:
//!
//! ```text
//! session.handle(now, input)
//! while let Some(output) = session.poll_output() { do it }
//! wait for: an event of a socket, a call of the app, or session.next_deadline() -> Input::Timeout
//! ```
//!
//! The tokio host is `crate::driver`.
//!
//! **Time.** `now` is in milliseconds of a monotonic clock with any origin; it should go on while the process sleeps.
//! Read `next_deadline` after polling all outputs; each input can change it. A timer that fires late, twice or too
//! early does no harm. A timer that is more than 3 s late shows that the host was frozen: the session then gives up its
//! socket and extends the deadline of each call, once per call.
//!
//! **Randomness.** [`SessionConfig::seed`] spreads the connection attempts of many clients over time and is not secret.
//! Each `join` contains a `join_id` of 128 random bits, which is secret.
//!
//! **Sockets.** [`Output::Connect`] gives each socket a number. The session sends text by [`Output::Send`], in order.
//! After [`Output::CloseSocket`] the host still sends the text that it received before. There is at most one socket at
//! a time: `CloseSocket` comes before the next `Connect`, unless the host reported that the socket is gone. Every
//! report of the host about a socket contains the number of that socket:
//!
//! | report | when | at most |
//! |---|---|---|
//! | [`Input::SocketOpened`] | the handshake is complete, with sub-protocol `lianmai.v1` | once |
//! | [`Input::Frame`] | a whole text frame arrived | any number, in order |
//! | [`Input::Unreadable`] | the socket received data that no server sends (CON-12) | once |
//! | [`Input::SocketClosed`] | the socket ended, or could not be opened | once, the last report |
//!
//! Late reports are harmless: a report about a socket that the session gave up or never had changes nothing and is
//! counted in [`Ignored::late`]. Likewise the host ignores outputs about a socket that is already gone. A host sends no
//! pings and follows no redirects, because the session does both. The host answers WebSocket pings if its library does
//! not.
//!
//! **Frames.** Frames to the server have at most 64 KiB, frames from the server at most 1 MiB; the host reports a
//! larger one as `Unreadable`. Do not log the URLs in `Connect` or the texts in `Send`: `Debug` of inputs and outputs
//! leaves texts out.
//!
//! **Calls.** [`Input::Command`] identifies a call by a number that the host chooses and that no open call has. The
//! session settles each call exactly once with [`Output::Settled`], even if the connection is lost. It does so within
//! [`SessionConfig::command_timeout_ms`], extended by the time that a restarting server asks for or that the host was
//! frozen. The app may make a call while it handles an event and other outputs are still to be polled: the outputs keep
//! their order, but the session's picture is then ahead of them.
//!
//! **Order.** Outputs are in the order in which the app must see them: every event up to the one that a command caused
//! comes before the settlement of that command. [`Session::picture`] is the channel as of the output that was polled
//! last, because the session processes one message at a time while outputs are polled. A host that does not run the
//! app's code between two polls puts the outputs into a [`Delivery`]. It keeps the picture as of the output that the
//! app received last, and says when to stop reading.
//!
//! **Slow apps.** A host that can stop reading its socket does so while [`Delivery::is_full`], and passes the input
//! that [`Delivery::reading`] returns to the session. The session then does not count the silence as a dead server. A
//! host that cannot stop reading (a browser) does neither. No output is dropped in either case.
//!
//! **Hints.** [`Input::NetworkChanged`] and [`Input::Foreground`] are optional; they only make a session react faster.
//!
//! **The end.** A session that is dropped sends nothing, and its membership ends with the server's grace period. To
//! leave, call `leave` and continue until [`Session::next_deadline`] is `None`. Without a connection the app is out at
//! once, but the session still tries to tell the server.
//!
//! # Inside
//!
//! A membership outlives its connection: the session reconnects by itself, with as many `Connect`s as it takes, and
//! reports what changed in the meantime. `phase.rs` holds the phase of the session, `state.rs` the state of the
//! connection. `link.rs` opens and loses sockets, `entry.rs` joins, `resume.rs` resumes, `restore.rs` restores the
//! app's state after a new membership or a crash, and `late_leave.rs` delivers a late `leave`.

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
mod late_leave;
mod link;
mod liveness;
mod outcome;
mod output;
mod phase;
mod picture;
mod queue;
mod receive;
mod requests;
mod restore;
mod resume;
mod rng;
mod state;
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
use phase::Phase;
use queue::Queue;
use requests::{Due, Requests};
use state::State;

/// A timer that is later than this shows that the host was frozen; its socket is then out of date.
const FROZEN_MS: u64 = 3_000;

/// One client: at most one membership at a time, any number one after the other.
pub struct Session {
    config: SessionConfig,
    now: MonoTime,
    state: State,
    /// The number of the last socket, which exists while [`State::has_socket`].
    socket: SocketId,
    phase: Phase,
    /// The state that the app was told last.
    announced: ConnectionState,
    reading_paused: bool,
    requests: Requests,
    addresses: Addresses,
    backoff: Backoff,
    inbox: Queue<Work>,
    /// Whether work was done since the deadlines were checked.
    unchecked: bool,
    out: Queue<Output>,
    ignored: Ignored,
}

/// One unit of work. The app sees the picture after each one.
enum Work {
    /// A message of the server.
    Message(ServerMessage),
    /// A step towards a new snapshot, and the event that the app receives for it.
    Step(Arc<Change>, Option<Event>),
    /// A call with an unknown outcome. It is settled after the steps.
    Unknown(CallId),
}

/// Counts of received data that the session did not use, since it was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ignored {
    /// Events and targeted messages whose number was applied before.
    pub repeats: u64,
    /// Answers that belong to no request.
    pub answers: u64,
    /// Frames and messages that arrived before the answer that opens the channel, or after `closing`.
    pub early: u64,
    /// Reports of the host about a socket other than the present one.
    pub late: u64,
}

impl Session {
    /// Creates a session that is in no channel.
    ///
    /// # Errors
    /// The list of addresses is empty, too long, or contains an invalid address.
    pub fn new(config: SessionConfig) -> Result<Session, ConfigError> {
        let addresses = Addresses::new(&config.urls)?;
        Ok(Session {
            now: MonoTime::default(),
            state: State::Idle,
            socket: SocketId(0),
            phase: Phase::Out,
            announced: ConnectionState::Disconnected,
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

    /// Processes one input. `now` must not go back; if it does, the session keeps the later time.
    pub fn handle(&mut self, now: MonoTime, input: Input<'_>) {
        // A host that did not poll all outputs gets the same outputs in the same order.
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
            // The session has no socket now, so the check below ignores reports of the old one.
            self.wake();
        }
        if self.is_late(&input) {
            self.ignored.late += 1;
        } else {
            self.take(input);
        }
        // Answers in the inbox arrived in time: process them before the deadlines.
        if self.inbox.is_empty() {
            self.check_deadlines();
        }
    }

    /// Whether `input` is a report about a socket other than the present one.
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

    /// Returns the next output, or `None` if there is none.
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
                // Frames may arrive without a pause, so the deadlines are also checked between them.
                None if self.unchecked => self.check_deadlines(),
                None => return None,
            }
        }
    }

    /// The time at which [`Input::Timeout`] is due. It is valid after all outputs were polled.
    #[must_use]
    pub fn next_deadline(&self) -> Option<MonoTime> {
        let state = match &self.state {
            State::Idle => None,
            State::Backoff { until } => Some(*until),
            State::Entering { .. } if self.is_held_up() => None,
            State::Connecting { give_up } | State::Entering { give_up, .. } => Some(*give_up),
            State::Joined(live) => earliest(&[live.dead_at(), Some(live.ping_at())]),
            State::Closing(notice) => Some(notice.give_up),
        };
        let phase = match &self.phase {
            Phase::Out => None,
            Phase::Joining(entry) => Some(entry.deadline),
            Phase::Member(member) => member.gives_up.or_else(|| self.return_deadline(member)),
            Phase::Leaving(late) => Some(late.until),
        };
        earliest(&[state, phase, self.requests.next_deadline()])
    }

    /// The channel as of the last polled `Picture`, `Event` or `Settled`. `None` while in no channel. While the
    /// connection is lost the picture stays as it was at the loss.
    #[must_use]
    pub fn picture(&self) -> Option<&Picture> {
        match &self.phase {
            Phase::Member(member) => Some(&member.picture),
            _ => None,
        }
    }

    /// The state of the connection.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        match (&self.phase, &self.state) {
            // The delivery of a late `leave` is invisible to the app.
            (Phase::Out | Phase::Leaving(_), _) => ConnectionState::Disconnected,
            _ if self.state.is_ending() => ConnectionState::Disconnecting,
            (Phase::Joining(_), _) => ConnectionState::Connecting,
            (Phase::Member(_), State::Joined(_)) => ConnectionState::Connected,
            (Phase::Member(_), _) => ConnectionState::Reconnecting,
        }
    }

    /// Counts of received data that the session did not use.
    #[must_use]
    pub fn ignored(&self) -> Ignored {
        self.ignored
    }

    fn command(&mut self, call: CallId, request: Call) {
        let is_leave = matches!(request, Call::Leave(_));
        let refusal = match (&self.phase, &request) {
            // Only the session itself sends these.
            (_, Call::Reconnect(_) | Call::Ping(_)) => {
                Some(CallError::refused(ErrorName::MethodNotFound))
            }
            (Phase::Out | Phase::Leaving(_), Call::Join(join)) => {
                return self.join(call, join.clone());
            }
            (_, Call::Join(_)) => Some(CallError::refused(ErrorName::AlreadyJoined)),
            (Phase::Out | Phase::Leaving(_), _) => Some(CallError::NotJoined),
            _ if self.requests.is_leaving() => Some(CallError::NotJoined),
            (Phase::Joining(_), Call::Leave(_)) => None,
            (Phase::Joining(_), _) => Some(CallError::NotJoined),
            (Phase::Member(_), _) => match &self.state {
                State::Closing(notice) if self.state.is_ending() && !is_leave => {
                    let (code, reason) = (notice.code, notice.reason.clone());
                    Some(CallError::Closed { code, reason })
                }
                _ => None,
            },
        };
        if let Some(error) = refusal {
            return self.settle(call, Err(error));
        }
        if let Phase::Member(member) = &mut self.phase {
            member.restore.decided(&request, member.picture.own.uid);
        }
        // One place is reserved for `leave`.
        let room = self.config.max_queued.saturating_add(usize::from(is_leave));
        let deadline = self.now + self.config.command_timeout_ms;
        if let Err(name) = self.requests.push(call, request, deadline, room) {
            return self.settle(call, Err(CallError::refused(name)));
        }
        self.extend_calls();
        if is_leave { self.leave_without_connection() } else { self.send_waiting() }
    }

    /// Extends all calls while the server restarts (RST-1), those made before the restart and those made until the
    /// session is back.
    fn extend_calls(&mut self) {
        if let Phase::Member(member) = &self.phase {
            self.requests.extend(member.restart_time(self.now));
        }
    }

    fn work(&mut self, work: Work) {
        match work {
            Work::Message(message) => self.receive(message),
            Work::Step(change, event) => {
                if let (Phase::Member(member), Change::WhileAway(ChannelEvent::StreamAdded(e))) =
                    (&mut self.phase, &*change)
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
        self.check_phase();
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

    /// Settles a call that had no outcome in time. After an overdue `leave` only its delivery is left to do.
    fn over_time(&mut self, due: Due) {
        let error = if due.sent { CallError::OutcomeUnknown } else { CallError::Timeout };
        self.event(Event::SendCommandOverTime { method: due.method });
        if due.method == "leave" {
            self.leave_late();
        }
        self.settle(due.call, Err(error));
    }

    fn send_waiting(&mut self) {
        let State::Joined(live) = &mut self.state else { return };
        if let Phase::Member(member) = &mut self.phase
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

    /// Sends a ping, which acknowledges the newest ticket and targeted message (PIN-2). Returns its id.
    fn ping(&mut self) -> Option<u64> {
        let (State::Joined(live), Phase::Member(member)) = (&mut self.state, &self.phase) else {
            return None;
        };
        let ping = Ping { k: member.ticket_number(), n: Some(member.messages) };
        let (id, frame) = self.requests.frame(&Call::Ping(ping));
        live.pinged(id);
        live.sent(self.now);
        self.send(frame);
        Some(id)
    }

    /// Tells the app the state of the connection, if it changed.
    fn tell(&mut self, reason: StateReason) {
        let state = self.state();
        if state != self.announced {
            self.announced = state;
            self.event(Event::ConnectionStateChange { state, reason });
        }
    }

    fn change(&mut self, change: Change) {
        self.apply(Arc::new(change));
    }

    fn apply(&mut self, change: Arc<Change>) {
        if let Phase::Member(member) = &mut self.phase {
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
    /// Only the state: other fields hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("state", &self.state())
            .field("seq", &self.picture().map(|picture| picture.seq))
            .finish_non_exhaustive()
    }
}

//! The request table: the calls that wait and those that were sent, with their ids and deadlines.
//!
//! In: calls, answers, the time, the loss of a connection. Out: frames to send, and overdue calls. Deliberately absent:
//! the meaning of answers.

use crate::prelude::*;

use lianmai_protocol::codec::EncodedCall;
use lianmai_protocol::limits::{MAX_CLIENT_FRAME_BYTES, MAX_IN_FLIGHT};
use lianmai_protocol::message::Call;
use lianmai_protocol::message::media::Subscribe;
use lianmai_protocol::{ErrorName, MonoTime, RequestId};

use super::input::CallId;

/// Who receives the outcome of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A call of the app.
    App(CallId),
    /// Nobody: the call was already settled with `OutcomeUnknown`, and its answer only corrects the picture.
    GivenUp,
    /// The session, which restores the app's state.
    Session,
}

/// A command that has no answer yet.
pub(super) struct Pending {
    pub(super) owner: Owner,
    /// Its request id; 0 until it is sent.
    pub(super) id: u64,
    /// The request.
    pub(super) request: Call,
    /// The request, encoded for the wire.
    encoded: EncodedCall,
    deadline: MonoTime,
    /// The part of the deadline, in milliseconds, that was added for a restart of the server.
    extended: u64,
    /// Whether the deadline was extended after the host was frozen.
    woken: bool,
    /// Whether `reconnected` waits for its answer.
    returning: bool,
    /// If the request took effect before this event, its effect ended with this event.
    over: u64,
}

impl Pending {
    fn new(owner: Owner, request: Call, deadline: MonoTime) -> Pending {
        let encoded = EncodedCall::new(&request);
        Pending {
            owner,
            id: 0,
            request,
            encoded,
            deadline,
            extended: 0,
            woken: false,
            returning: false,
            over: 0,
        }
    }

    fn due_at(&self) -> Option<MonoTime> {
        matches!(self.owner, Owner::App(_)).then_some(self.deadline)
    }

    /// Whether an effect that was answered at `seq` has ended.
    pub(super) fn is_over_since(&self, seq: u64) -> bool {
        seq < self.over
    }

    fn is_leave(&self) -> bool {
        matches!(self.request, Call::Leave(_))
    }

    fn into_due(self, sent: bool) -> Option<Due> {
        let Owner::App(call) = self.owner else { return None };
        Some(Due { call, method: self.request.method(), sent })
    }
}

#[derive(Default)]
pub(super) struct Requests {
    last_id: u64,
    /// First the commands that were sent, by id; then those that wait, in the order in which they will be sent.
    all: Vec<Pending>,
    /// Number of commands in `all` that were sent.
    in_flight: usize,
}

impl Requests {
    /// Adds a call to those that wait.
    ///
    /// Fails with the server's own error if there is no room for the call, or if sending it would make the server close
    /// the connection.
    pub(super) fn push(
        &mut self,
        call: CallId,
        request: Call,
        deadline: MonoTime,
        max_queued: usize,
    ) -> Result<(), ErrorName> {
        if self.waiting().len() >= max_queued {
            return Err(ErrorName::TooManyInFlight);
        }
        let pending = Pending::new(Owner::App(call), request, deadline);
        check(&pending.encoded)?;
        // `leave` goes first: it waits neither for other calls nor for the window.
        let at = if pending.is_leave() { self.in_flight } else { self.all.len() };
        self.all.insert(at, pending);
        Ok(())
    }

    /// Appends a command of the session itself.
    pub(super) fn push_own(&mut self, request: Call) {
        let mut pending = Pending::new(Owner::Session, request, MonoTime::default());
        pending.returning = true;
        self.all.push(pending);
    }

    /// Inserts commands of the session itself before all waiting commands, in their order.
    pub(super) fn push_own_first(&mut self, requests: Vec<Call>) {
        for (at, request) in requests.into_iter().enumerate() {
            let mut pending = Pending::new(Owner::Session, request, MonoTime::default());
            pending.returning = true;
            self.all.insert(self.in_flight + at, pending);
        }
    }

    /// Puts back a command whose answer came too early; it is sent again on the next connection.
    pub(super) fn put_back(&mut self, pending: Pending) {
        let at = self.sent().iter().position(|other| other.id > pending.id);
        self.all.insert(at.unwrap_or(self.in_flight), pending);
        self.in_flight += 1;
    }

    /// The frame of the next command that may be sent. At most 32 commands are without an answer (IDS-5), not counting
    /// `leave`. With `returning`, only a command that `reconnected` waits for.
    pub(super) fn next_frame(&mut self, returning: bool) -> Option<String> {
        let next = self.waiting().first()?;
        // The server executes nothing after `leave` (LEA-2).
        if self.sent().iter().any(Pending::is_leave) {
            return None;
        }
        let full = self.in_flight >= MAX_IN_FLIGHT && !next.is_leave();
        if full || (returning && !next.returning) {
            return None;
        }
        let ack = self.ack();
        let id = self.next_id();
        let pending = self.all.get_mut(self.in_flight)?;
        pending.id = id;
        self.in_flight += 1;
        Some(pending.encoded.frame(RequestId(id), ack))
    }

    /// The frames of all sent commands that have no answer, in id order with the same ids (IDS-7).
    pub(super) fn frames_again(&mut self) -> Vec<String> {
        let ack = self.ack();
        let mut frames = vec![];
        for pending in self.sent_mut() {
            pending.returning = true;
            frames.push(pending.encoded.frame(RequestId(pending.id), ack));
        }
        frames
    }

    /// The server no longer remembers the answers of this session. Repeatable calls of the app are sent again under new
    /// ids, before the waiting ones. The others are returned: their outcome is unknown. Commands of the session and
    /// calls that were settled are dropped.
    pub(super) fn forget_answers(&mut self) -> Vec<CallId> {
        let sent = core::mem::take(&mut self.in_flight);
        let (mut unknown, mut at) = (vec![], 0);
        self.all.retain_mut(|pending| {
            let was_sent = at < sent;
            at += 1;
            let Owner::App(call) = pending.owner else { return false };
            if was_sent && is_repeatable(&pending.request) {
                pending.returning = true;
                pending.over = 0;
            } else if was_sent {
                unknown.push(call);
                return false;
            }
            true
        });
        unknown
    }

    /// Builds a request that is not in the table: `join`, `reconnect`, `ping`, a late `leave`. Returns its id and
    /// frame.
    pub(super) fn frame(&mut self, call: &Call) -> (u64, String) {
        let ack = self.ack();
        let id = self.next_id();
        (id, EncodedCall::new(call).frame(RequestId(id), ack))
    }

    /// Removes and returns the command that `id` answers.
    pub(super) fn answered(&mut self, id: u64) -> Option<Pending> {
        let at = self.sent().iter().position(|pending| pending.id == id)?;
        self.in_flight -= 1;
        Some(self.all.remove(at))
    }

    /// The earliest deadline of a call.
    pub(super) fn next_deadline(&self) -> Option<MonoTime> {
        self.all.iter().filter_map(Pending::due_at).min()
    }

    /// Takes one call whose deadline is `now` or earlier. A call that was sent keeps its place in the window until its
    /// answer comes.
    pub(super) fn take_due(&mut self, now: MonoTime) -> Option<Due> {
        let due = |p: &Pending| p.due_at().is_some_and(|at| at <= now);
        let at = self.all.iter().position(due)?;
        if at >= self.in_flight {
            // A waiting call was never sent, unless it is sent again because the server forgot its answers.
            let pending = self.all.remove(at);
            let sent = pending.returning;
            return pending.into_due(sent);
        }
        let pending = self.all.get_mut(at)?;
        let Owner::App(call) = core::mem::replace(&mut pending.owner, Owner::GivenUp) else {
            return None;
        };
        Some(Due { call, method: pending.request.method(), sent: true })
    }

    /// Extends the deadline of every call by `ms` in total, however often a server restarts.
    pub(super) fn extend(&mut self, ms: u64) {
        for pending in &mut self.all {
            pending.deadline = pending.deadline + ms.saturating_sub(pending.extended);
            pending.extended = pending.extended.max(ms);
        }
    }

    /// Extends the deadline of every call to `until`, once per call, because the host was frozen.
    pub(super) fn wake(&mut self, until: MonoTime) {
        for pending in self.all.iter_mut().filter(|pending| !pending.woken) {
            pending.woken = true;
            pending.deadline = pending.deadline.max(until);
        }
    }

    /// Records that streams ended at event `seq` or earlier. A `subscribe` that took effect before then has ended with
    /// them, even if its answer comes again.
    pub(super) fn ended(&mut self, seq: u64, is_over: impl Fn(&Subscribe) -> bool) {
        for pending in self.sent_mut() {
            if let Call::Subscribe(asked) = &pending.request
                && is_over(asked)
            {
                pending.over = seq;
            }
        }
    }

    /// Sent commands whose caller still waits. One of them may have caused an event about the app itself (ORD-4).
    pub(super) fn live(&self) -> impl Iterator<Item = &Call> {
        let asked = |p: &&Pending| matches!(p.owner, Owner::App(_));
        self.sent().iter().filter(asked).map(|p| &p.request)
    }

    /// Commands of the session itself that have no answer.
    pub(super) fn own(&self) -> impl Iterator<Item = &Call> {
        self.all.iter().filter(|p| p.owner == Owner::Session).map(|p| &p.request)
    }

    /// All commands of the app.
    pub(super) fn of_app(&self) -> impl Iterator<Item = &Call> {
        self.all.iter().filter(|p| p.owner != Owner::Session).map(|p| &p.request)
    }

    /// Whether a command that `reconnected` waits for has no answer.
    pub(super) fn is_returning(&self) -> bool {
        self.all.iter().any(|pending| pending.returning)
    }

    /// Whether `leave` was called; further calls are then refused.
    pub(super) fn is_leaving(&self) -> bool {
        self.all.iter().any(Pending::is_leave)
    }

    /// The newest token that the app supplied and that has no answer.
    pub(super) fn newest_token(&self) -> Option<&str> {
        self.all.iter().rev().find_map(|pending| match &pending.request {
            Call::RenewToken(renew) => Some(renew.token.as_str()),
            _ => None,
        })
    }

    /// Empties the table: the sent calls in id order, then the others. Ids keep growing.
    pub(super) fn take_all(&mut self) -> Vec<Due> {
        let sent = core::mem::take(&mut self.in_flight);
        let all = core::mem::take(&mut self.all).into_iter().enumerate();
        let due = |(at, pending): (usize, Pending)| {
            let sent = at < sent || pending.returning;
            pending.into_due(sent)
        };
        all.filter_map(due).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    fn sent(&self) -> &[Pending] {
        &self.all[..self.in_flight]
    }

    fn sent_mut(&mut self) -> &mut [Pending] {
        &mut self.all[..self.in_flight]
    }

    fn waiting(&self) -> &[Pending] {
        &self.all[self.in_flight..]
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// The lowest id without an answer.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.sent().first().map(|oldest| oldest.id)
    }

    /// The highest id up to which every answer was received.
    fn ack(&self) -> Option<RequestId> {
        let ack = self.oldest().map_or(self.last_id, |oldest| oldest - 1);
        (ack > 0).then_some(RequestId(ack))
    }
}

/// A call that ends without an answer.
pub(super) struct Due {
    pub(super) call: CallId,
    pub(super) method: &'static str,
    pub(super) sent: bool,
}

/// Refuses a request that would make the server close the connection: one that is too long or nested too deep.
pub(super) fn sendable(call: &Call) -> Result<(), ErrorName> {
    check(&EncodedCall::new(call))
}

fn check(encoded: &EncodedCall) -> Result<(), ErrorName> {
    if encoded.is_too_deep() {
        Err(ErrorName::TooDeep)
    } else if encoded.max_bytes() > MAX_CLIENT_FRAME_BYTES {
        Err(ErrorName::FrameTooLarge)
    } else {
        Ok(())
    }
}

/// Whether a command is sent again if nobody remembers whether it took effect: its effect is the same if it runs twice
/// (docs/protocol.md §5, column *crash*). This includes `renewToken`.
fn is_repeatable(call: &Call) -> bool {
    matches!(
        call,
        Call::Publish(_)
            | Call::Unpublish(_)
            | Call::Subscribe(_)
            | Call::Unsubscribe(_)
            | Call::SetRole(_)
            | Call::Mute(_)
            | Call::Unmute(_)
            | Call::SetAttributes(_)
            | Call::RenewToken(_)
    )
}

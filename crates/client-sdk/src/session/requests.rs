//! The request table: what waits, what is on the wire, under which id, until when.
//!
//! Comes in: calls, answers, the time, the loss of a connection. Goes out: requests to send, and calls that
//! are due. Deliberately absent: what an answer means.

use std::collections::{BTreeMap, VecDeque};

use lianmai_protocol::codec::EncodedCall;
use lianmai_protocol::limits::{MAX_CLIENT_FRAME_BYTES, MAX_IN_FLIGHT, MAX_JSON_DEPTH};
use lianmai_protocol::message::Call;
use lianmai_protocol::message::media::Subscribe;
use lianmai_protocol::{ErrorName, MonoTime, RequestId};

use super::input::CallId;

/// Whom the outcome of a command concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A call of the app.
    App(CallId),
    /// A call that was told `outcomeUnknown`: the answer only corrects the picture.
    GivenUp,
    /// The session, which restores what the app was.
    Session,
}

/// A command without an answer.
pub(super) struct Pending {
    pub(super) owner: Owner,
    /// What was asked.
    pub(super) request: Call,
    /// The same for the wire.
    encoded: EncodedCall,
    deadline: MonoTime,
    /// How much of that is for the restart of the server.
    extended: u64,
    /// A frozen host got its extra time for this call already.
    woken: bool,
    /// It belongs to the way back: `reconnected` waits for its answer.
    returning: bool,
    /// What was asked for ended at this event, if it took effect before.
    over: u64,
}

impl Pending {
    fn new(owner: Owner, request: Call, deadline: MonoTime) -> Pending {
        let encoded = EncodedCall::new(&request);
        Pending {
            owner,
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

    /// Whether what an answer of then says has ended meanwhile.
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
    waiting: VecDeque<Pending>,
    in_flight: BTreeMap<u64, Pending>,
}

impl Requests {
    /// Appends a call to those that wait.
    ///
    /// Fails with the server's own error where sending it would cost the connection or the window.
    pub(super) fn push(
        &mut self,
        call: CallId,
        request: Call,
        deadline: MonoTime,
        max_queued: usize,
    ) -> Result<(), ErrorName> {
        if self.waiting.len() >= max_queued {
            return Err(ErrorName::TooManyInFlight);
        }
        let pending = Pending::new(Owner::App(call), request, deadline);
        check(&pending.request, &pending.encoded)?;
        // Who leaves waits for nobody: neither for those before it nor for the window.
        if pending.is_leave() {
            self.waiting.push_front(pending);
        } else {
            self.waiting.push_back(pending);
        }
        Ok(())
    }

    /// Appends a command of the session itself.
    pub(super) fn push_own(&mut self, request: Call) {
        let mut pending = Pending::new(Owner::Session, request, MonoTime::default());
        pending.returning = true;
        self.waiting.push_back(pending);
    }

    /// Puts commands of the session itself before all that waits, in their order.
    pub(super) fn push_own_first(&mut self, requests: Vec<Call>) {
        for request in requests.into_iter().rev() {
            let mut pending = Pending::new(Owner::Session, request, MonoTime::default());
            pending.returning = true;
            self.waiting.push_front(pending);
        }
    }

    /// Puts back a command whose answer cannot be right yet: it is asked again on the next connection.
    pub(super) fn put_back(&mut self, id: u64, pending: Pending) {
        self.in_flight.insert(id, pending);
    }

    /// The frame of the next command that may be sent: at most 32 are without an answer (IDS-5), `leave`
    /// apart. With `returning`, only what belongs to the way back.
    pub(super) fn next_frame(&mut self, returning: bool) -> Option<String> {
        let next = self.waiting.front()?;
        // Nothing behind `leave` is executed (LEA-2).
        if self.in_flight.values().any(Pending::is_leave) {
            return None;
        }
        let full = self.in_flight.len() >= MAX_IN_FLIGHT && !next.is_leave();
        if full || (returning && !next.returning) {
            return None;
        }
        let pending = self.waiting.pop_front()?;
        let (id, frame) = self.number(&pending.encoded);
        self.in_flight.insert(id, pending);
        Some(frame)
    }

    /// The frames of everything that has no answer, in id order with the same ids (IDS-7).
    pub(super) fn frames_again(&mut self) -> Vec<String> {
        let ack = self.ack();
        let mut frames = vec![];
        for (id, pending) in &mut self.in_flight {
            pending.returning = true;
            frames.push(pending.encoded.frame(RequestId(*id), ack));
        }
        frames
    }

    /// The session's memory at the server is gone. What sets a state is asked again under new ids, before
    /// what waits; what does not is over: goes out with an unknown outcome. What the app or the session
    /// gave up is forgotten.
    pub(super) fn forget_answers(&mut self) -> Vec<CallId> {
        let mut unknown = vec![];
        let mut again = VecDeque::new();
        for mut pending in std::mem::take(&mut self.in_flight).into_values() {
            let Owner::App(call) = pending.owner else { continue };
            if is_repeatable(&pending.request) {
                pending.returning = true;
                pending.over = 0;
                again.push_back(pending);
            } else {
                unknown.push(call);
            }
        }
        self.waiting.retain(|pending| pending.owner != Owner::Session);
        again.append(&mut self.waiting);
        self.waiting = again;
        unknown
    }

    /// A request that is in no table: `join`, `reconnect`, `ping`, a last `leave`. Its id and frame.
    pub(super) fn frame(&mut self, call: &Call) -> (u64, String) {
        self.number(&EncodedCall::new(call))
    }

    /// Takes the command that `id` answers.
    pub(super) fn answered(&mut self, id: u64) -> Option<Pending> {
        self.in_flight.remove(&id)
    }

    /// The earliest deadline of a call.
    pub(super) fn next_deadline(&self) -> Option<MonoTime> {
        self.all().filter_map(Pending::due_at).min()
    }

    /// Takes one call whose deadline is `now` or earlier: its method and whether it was sent. One that
    /// was sent keeps its place in the window until its answer comes.
    pub(super) fn take_due(&mut self, now: MonoTime) -> Option<Due> {
        let due = |p: &Pending| p.due_at().is_some_and(|at| at <= now);
        if let Some(pending) = self.in_flight.values_mut().find(|p| due(p)) {
            let Owner::App(call) = std::mem::replace(&mut pending.owner, Owner::GivenUp) else {
                return None;
            };
            return Some(Due { call, method: pending.request.method(), sent: true });
        }
        let at = self.waiting.iter().position(due)?;
        // What waits was never sent, or is of a session whose answers are forgotten.
        let pending = self.waiting.remove(at)?;
        let sent = pending.returning;
        pending.into_due(sent)
    }

    /// Gives every call so much more time in all, however often a server restarts.
    pub(super) fn extend(&mut self, ms: u64) {
        for pending in self.all_mut() {
            pending.deadline = pending.deadline + ms.saturating_sub(pending.extended);
            pending.extended = pending.extended.max(ms);
        }
    }

    /// Gives every call time until then, once: the host was frozen.
    pub(super) fn wake(&mut self, until: MonoTime) {
        for pending in self.all_mut().filter(|pending| !pending.woken) {
            pending.woken = true;
            pending.deadline = pending.deadline.max(until);
        }
    }

    /// These streams ended at the latest at that event: a `subscribe` that took effect before is over with it,
    /// though its answer may come again.
    pub(super) fn ended(&mut self, seq: u64, is_over: impl Fn(&Subscribe) -> bool) {
        for pending in self.in_flight.values_mut() {
            if let Call::Subscribe(asked) = &pending.request
                && is_over(asked)
            {
                pending.over = seq;
            }
        }
    }

    /// Commands on the wire whose caller still waits: what may have caused an own event (ORD-4).
    pub(super) fn live(&self) -> impl Iterator<Item = &Call> {
        let asked = |p: &&Pending| matches!(p.owner, Owner::App(_));
        self.in_flight.values().filter(asked).map(|p| &p.request)
    }

    /// What the session itself has not got an answer to.
    pub(super) fn own(&self) -> impl Iterator<Item = &Call> {
        self.all().filter(|p| p.owner == Owner::Session).map(|p| &p.request)
    }

    /// Every command of the app.
    pub(super) fn of_app(&self) -> impl Iterator<Item = &Call> {
        self.all().filter(|p| p.owner != Owner::Session).map(|p| &p.request)
    }

    /// Whether something that belongs to the way back has no answer.
    pub(super) fn is_returning(&self) -> bool {
        self.all().any(|pending| pending.returning)
    }

    /// Whether `leave` was called: nothing more is accepted.
    pub(super) fn is_leaving(&self) -> bool {
        self.all().any(Pending::is_leave)
    }

    /// The newest token that the app handed in and that has no answer.
    pub(super) fn newest_token(&self) -> Option<&str> {
        let newest = self.all().filter_map(|pending| match &pending.request {
            Call::RenewToken(renew) => Some(renew.token.as_str()),
            _ => None,
        });
        newest.last()
    }

    /// Empties the table: what was sent in id order, then what was not. Ids go on growing.
    pub(super) fn take_all(&mut self) -> Vec<Due> {
        let sent = std::mem::take(&mut self.in_flight).into_values().map(|p| (p, true));
        let waiting = std::mem::take(&mut self.waiting).into_iter().map(|p| {
            let sent = p.returning;
            (p, sent)
        });
        sent.chain(waiting).filter_map(|(pending, sent)| pending.into_due(sent)).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.in_flight.len() + self.waiting.len()
    }

    fn all(&self) -> impl Iterator<Item = &Pending> {
        self.in_flight.values().chain(&self.waiting)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Pending> {
        self.in_flight.values_mut().chain(&mut self.waiting)
    }

    fn number(&mut self, call: &EncodedCall) -> (u64, String) {
        let ack = self.ack();
        self.last_id += 1;
        (self.last_id, call.frame(RequestId(self.last_id), ack))
    }

    /// The highest id up to which every answer was received.
    fn ack(&self) -> Option<RequestId> {
        let ack = self.in_flight.keys().next().map_or(self.last_id, |oldest| oldest - 1);
        (ack > 0).then_some(RequestId(ack))
    }
}

/// A call that is over without an answer.
pub(super) struct Due {
    pub(super) call: CallId,
    pub(super) method: &'static str,
    pub(super) sent: bool,
}

/// Refuses what would cost the connection: too long, or nested too deep.
pub(super) fn sendable(call: &Call) -> Result<(), ErrorName> {
    check(call, &EncodedCall::new(call))
}

fn check(call: &Call, encoded: &EncodedCall) -> Result<(), ErrorName> {
    if let Call::Report(report) = call
        && !report.data.values().all(|value| fits(value, MAX_JSON_DEPTH - 3))
    {
        return Err(ErrorName::TooDeep);
    }
    if encoded.max_bytes() > MAX_CLIENT_FRAME_BYTES {
        Err(ErrorName::FrameTooLarge)
    } else {
        Ok(())
    }
}

/// Whether a command without an answer is asked again where nobody remembers whether it took effect: it
/// sets a state, so twice is once (docs/protocol.md §5, column *crash*). A token is one, too.
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

/// Whether `value` nests at most `depth` deep.
fn fits(value: &serde_json::Value, depth: usize) -> bool {
    use serde_json::Value;
    match value {
        Value::Array(items) => depth > 0 && items.iter().all(|v| fits(v, depth - 1)),
        Value::Object(map) => depth > 0 && map.values().all(|v| fits(v, depth - 1)),
        _ => true,
    }
}

//! The request table: what waits, what is on the wire, under which id, until when.
//!
//! Comes in: calls, answers, the time. Goes out: requests to send, and calls that are due. Deliberately
//! absent: what an answer means.

use std::collections::{BTreeMap, VecDeque};

use lianmai_protocol::codec::encode_request;
use lianmai_protocol::limits::{MAX_CLIENT_FRAME_BYTES, MAX_IN_FLIGHT, MAX_JSON_DEPTH};
use lianmai_protocol::message::session::Ping;
use lianmai_protocol::message::{Call, Request};
use lianmai_protocol::{ErrorName, MonoTime, RequestId};

use super::input::CallId;

/// A command without an answer.
pub(super) struct Pending {
    /// Whom to tell; `None` after the deadline, when the answer only corrects the picture (rule B11).
    pub(super) call: Option<CallId>,
    /// What was asked.
    pub(super) request: Call,
    deadline: MonoTime,
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
        if let Call::Report(report) = &request
            && !report.data.values().all(|value| fits(value, MAX_JSON_DEPTH - 3))
        {
            return Err(ErrorName::TooDeep);
        }
        // The id and `ack` of the real frame have at most 16 digits each.
        let probe =
            Request { id: RequestId(u64::MAX), ack: Some(RequestId(u64::MAX)), call: request };
        if encode_request(&probe).len() > MAX_CLIENT_FRAME_BYTES {
            return Err(ErrorName::FrameTooLarge);
        }
        let pending = Pending { call: Some(call), request: probe.call, deadline };
        // Who leaves waits for nobody: neither for those before it nor for the window.
        if is_leave(&pending) {
            self.waiting.push_front(pending);
        } else {
            self.waiting.push_back(pending);
        }
        Ok(())
    }

    /// The frame of the next call that may be sent: at most 32 are without an answer (rule B8), `leave` apart.
    pub(super) fn next_frame(&mut self) -> Option<String> {
        if self.in_flight.len() >= MAX_IN_FLIGHT && !self.waiting.front().is_some_and(is_leave) {
            return None;
        }
        let pending = self.waiting.pop_front()?;
        let ack = self.ack();
        let id = self.next_id();
        let request = Request { id: RequestId(id), ack, call: pending.request };
        let frame = encode_request(&request);
        self.in_flight.insert(id, Pending { request: request.call, ..pending });
        Some(frame)
    }

    /// The frame of a ping, and its id. Pings are not commands: they are in no table.
    pub(super) fn ping_frame(&mut self) -> (u64, String) {
        let ack = self.ack();
        let id = self.next_id();
        let call = Call::Ping(Ping::default());
        (id, encode_request(&Request { id: RequestId(id), ack, call }))
    }

    /// Takes the command that `id` answers.
    pub(super) fn answered(&mut self, id: u64) -> Option<Pending> {
        self.in_flight.remove(&id)
    }

    /// The earliest deadline of a call.
    pub(super) fn next_deadline(&self) -> Option<MonoTime> {
        let sent = self.in_flight.values().filter(|p| p.call.is_some()).map(|p| p.deadline).min();
        let waiting = self.waiting.iter().map(|p| p.deadline).min();
        [sent, waiting].into_iter().flatten().min()
    }

    /// Takes one call whose deadline is `now` or earlier: its method and whether it was sent. One that
    /// was sent keeps its place in the window until its answer comes.
    pub(super) fn take_due(&mut self, now: MonoTime) -> Option<Due> {
        let due = |p: &Pending| p.call.is_some() && p.deadline <= now;
        if let Some(pending) = self.in_flight.values_mut().find(|p| due(p)) {
            let call = pending.call.take()?;
            return Some(Due { call, method: pending.request.method(), sent: true });
        }
        let at = self.waiting.iter().position(due)?;
        let pending = self.waiting.remove(at)?;
        Some(Due { call: pending.call?, method: pending.request.method(), sent: false })
    }

    /// Commands on the wire whose caller still waits: what may have caused an own event (rule B1).
    pub(super) fn live(&self) -> impl Iterator<Item = &Call> {
        self.in_flight.values().filter(|p| p.call.is_some()).map(|p| &p.request)
    }

    /// Empties the table: what was sent in id order, then what was not. Ids go on growing.
    pub(super) fn take_all(&mut self) -> Vec<Due> {
        let sent = std::mem::take(&mut self.in_flight).into_values().map(|p| (p, true));
        let waiting = std::mem::take(&mut self.waiting).into_iter().map(|p| (p, false));
        sent.chain(waiting)
            .filter_map(|(p, sent)| Some(Due { call: p.call?, method: p.request.method(), sent }))
            .collect()
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
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

/// Whether `value` nests at most `depth` deep.
fn fits(value: &serde_json::Value, depth: usize) -> bool {
    use serde_json::Value;
    match value {
        Value::Array(items) => depth > 0 && items.iter().all(|v| fits(v, depth - 1)),
        Value::Object(map) => depth > 0 && map.values().all(|v| fits(v, depth - 1)),
        _ => true,
    }
}

fn is_leave(pending: &Pending) -> bool {
    matches!(pending.request, Call::Leave(_))
}

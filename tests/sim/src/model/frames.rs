//! Input of a connection, as docs/protocol.md sections 3 and 4 state it: frames, their requests, the rate, old ids,
//! remembered answers, and closes. Comes in: frames. Goes out: commands for `commands.rs`.

use lianmai_protocol::codec::{self, ElementEnvelope, RequestEnvelope};
use lianmai_protocol::message::Call;
use lianmai_protocol::message::session::AttributeTarget;
use lianmai_protocol::{CloseCode, ErrorName, RequestId, Role, UserId};
use lianmai_signal_engine::ConnId;

use super::state::{Answered, MemberRef, PendingCommand, PendingOn, RATE_BURST, text_bytes};
use super::{Expect, InputStep, Model, Verdict};
use crate::log::mix;

/// Tolerance of the model for rates, in thousandths of a request.
pub(super) const RATE_SLACK: i64 = 2_000;

/// One unit, and one more for each full KiB (IDS-6).
fn weight(bytes: usize) -> i64 {
    1 + bytes as i64 / 1_024
}

/// Units of a request of `bytes` that makes the server send `repeats` bytes again to all.
pub(super) fn units(bytes: usize, repeats: usize) -> i64 {
    weight(bytes).max(weight(repeats) - 1)
}

impl Model {
    pub(super) fn frame(
        &mut self,
        s: usize,
        conn: ConnId,
        frame: &[u8],
        step: &mut InputStep<'_>,
    ) -> Verdict {
        let Some((key, uid)) = self.member_of(s, conn) else { return Ok(()) };
        let who = MemberRef { s, key: &key, uid };
        let Some(member) = self.member(who) else { return Ok(()) };
        member.last_in = step.now;
        if member.being_kicked {
            return Ok(());
        }
        match codec::read_client_frame(frame) {
            Ok(elements) => {
                // Up to 256 bytes of envelope per request are free; the first request pays for the rest.
                let params: usize = elements.iter().map(ElementEnvelope::params_len).sum();
                let mut more = frame.len().saturating_sub(params + 256 * elements.len());
                for element in elements {
                    let bytes = element.params_len() + std::mem::take(&mut more);
                    self.element(who, conn, element, bytes, step)?;
                }
                Ok(())
            }
            Err(refused) => {
                let fatal = refused.0 != ErrorName::BadBatch;
                if !fatal && !self.passes(who, conn, None, (frame.len(), 0), step)? {
                    return Ok(());
                }
                step.answers.push((conn, None, Expect::Error(refused.0)));
                if fatal {
                    self.drop_conn(who, CloseCode::PROTOCOL_VIOLATION, step);
                }
                Ok(())
            }
        }
    }

    fn element(
        &mut self,
        who: MemberRef<'_>,
        conn: ConnId,
        received: ElementEnvelope<'_>,
        bytes: usize,
        step: &mut InputStep<'_>,
    ) -> Verdict {
        // An earlier element has closed the connection.
        if self.member(who).is_none_or(|member| member.conn != Some(conn)) {
            return Ok(());
        }
        let command = match received {
            ElementEnvelope::Request(command) => command,
            ElementEnvelope::Refused { id, error } => {
                if self.passes(who, conn, id, (bytes, 0), step)? {
                    step.answers.push((conn, id, Expect::Error(error.name().clone())));
                }
                return Ok(());
            }
        };
        if let (Some(ack), Some(member)) = (command.ack, self.member(who)) {
            member.acked = member.acked.max(ack.0);
        }
        if !matches!(&*command.method, "ping" | "join" | "reconnect") {
            return self.request(who, conn, &command, bytes, step);
        }
        let id = command.id;
        if !self.passes(who, conn, Some(id), (bytes, 0), step)? {
            return Ok(());
        }
        let expect = match command.open().map(|request| request.call) {
            Ok(Call::Ping(ping)) => {
                if let Some(channel) = self.channel(who.s, who.key)
                    && let Some(member) = channel.members.get_mut(&who.uid)
                {
                    member.received = member.received.max(ping.n.unwrap_or(0).min(member.messages));
                    if ping.k.is_some_and(|k| member.confirms(k)) {
                        member.continue_with(channel.epoch);
                    }
                }
                Expect::Pong
            }
            Ok(_) => Expect::Error(ErrorName::AlreadyJoined),
            Err(error) => Expect::Error(error.name().clone()),
        };
        step.answers.push((conn, Some(id), expect));
        Ok(())
    }

    /// Bytes of names and attributes that a command makes the server send again to all members.
    pub(super) fn repeats(&self, who: MemberRef<'_>, call: &Call) -> usize {
        let MemberRef { s, key, uid } = who;
        let Some(channel) = self.shards[s].channels.get(key) else { return 0 };
        let of = |uid: UserId, visible: bool| {
            let member = channel.members.get(&uid).filter(|of| of.is_visible() == visible);
            member.map_or(0, |member| text_bytes(member.name.as_deref(), &member.attributes))
        };
        match call {
            Call::SetAttributes(set) if set.target == Some(AttributeTarget::Channel) => {
                channel.attributes.bytes()
            }
            Call::SetAttributes(_) => of(uid, true),
            Call::SetRole(set) if set.role == Role::Broadcaster => {
                of(set.uid.unwrap_or(uid), false)
            }
            _ => 0,
        }
    }

    fn request(
        &mut self,
        who: MemberRef<'_>,
        conn: ConnId,
        command: &RequestEnvelope<'_>,
        bytes: usize,
        step: &mut InputStep<'_>,
    ) -> Verdict {
        let hash = mix(mix(0, command.method.as_bytes()), command.params.as_bytes());
        let id = command.id;
        // Names and attributes that are sent again, if the request can be read.
        let repeats = command.open().map_or(0, |request| self.repeats(who, &request.call));
        let weighs = (bytes, repeats);
        let Some(member) = self.member(who) else { return Ok(()) };
        if member.waits_for(id) {
            member.count_again(step.now);
            return Ok(());
        }
        let known = member.answers.iter().find(|answer| answer.id == id).cloned();
        let old = member.last_id.is_some_and(|last| id.0 <= last);
        let forgettable = id.0 <= member.acked || member.is_beyond_window(id);
        let told = |name: &ErrorName| step.is_answered_with(conn, id, name);
        let forgotten = told(&ErrorName::IdTooOld);
        if let Some(known) = known.filter(|_| old && !(forgettable && forgotten)) {
            if known.hash == hash {
                member.count_again(step.now);
                step.answers.push((conn, Some(id), Expect::Again(known.text)));
                if let Ok(request) = command.open() {
                    self.expect_renewed_url(who, &request.call, step);
                }
                return Ok(());
            }
            if self.passes(who, conn, Some(id), weighs, step)? {
                let error = match command.open() {
                    Ok(_) => ErrorName::IdReuse,
                    Err(error) => error.name().clone(),
                };
                step.answers.push((conn, Some(id), Expect::Error(error)));
            }
            return Ok(());
        }
        if !self.passes(who, conn, Some(id), weighs, step)? {
            return Ok(());
        }
        let request = match command.open() {
            Ok(request) => request,
            Err(error) => {
                step.answers.push((conn, Some(id), Expect::Error(error.name().clone())));
                return Ok(());
            }
        };
        if old {
            step.answers.push((conn, Some(id), Expect::Error(ErrorName::IdTooOld)));
            return Ok(());
        }
        let Some(member) = self.member(who) else { return Ok(()) };
        member.last_id = Some(id.0);
        // `leave` overtakes waiting commands, unless a write is under way.
        let leaves = matches!(request.call, Call::Leave(_));
        let must_wait = |pending: &&mut PendingCommand| {
            !leaves || matches!(pending.on, PendingOn::Write { .. })
        };
        if let Some(pending) = member.pending.as_mut().filter(must_wait) {
            let has_queued_leave =
                pending.queue.iter().any(|(.., queued)| matches!(queued, Call::Leave(_)));
            if pending.queue.len() + 1 < 32 || (leaves && !has_queued_leave) {
                pending.queue.push_back((id, hash, (bytes, units(bytes, repeats)), request.call));
                return Ok(());
            }
            return self.answer(who, (id, hash), Err(ErrorName::TooManyInFlight), step);
        }
        self.execute(who, (id, hash), request.call, step)
    }

    /// Closes a connection; the membership stays.
    pub(super) fn drop_member_conn(
        &mut self,
        s: usize,
        conn: ConnId,
        code: CloseCode,
        step: &mut InputStep<'_>,
    ) {
        if let Some((key, uid)) = self.member_of(s, conn) {
            self.drop_conn(MemberRef { s, key: &key, uid }, code, step);
        }
    }

    /// Like [`Model::drop_member_conn`], for a member.
    pub(super) fn drop_conn(
        &mut self,
        who: MemberRef<'_>,
        code: CloseCode,
        step: &mut InputStep<'_>,
    ) {
        let MemberRef { s, .. } = who;
        let Some(member) = self.member(who) else { return };
        let Some(conn) = member.conn else { return };
        member.lose(step.now);
        self.shards[s].connections.remove(&conn);
        step.closes.push((conn, code));
    }

    /// Whether a request is within the rate of its session: the engine decides, and must have a reason.
    pub(super) fn passes(
        &mut self,
        who: MemberRef<'_>,
        conn: ConnId,
        id: Option<RequestId>,
        (bytes, repeats): (usize, usize),
        step: &mut InputStep<'_>,
    ) -> Verdict<bool> {
        let now = step.now;
        let read = weight(bytes);
        let units = units(bytes, repeats).min(RATE_BURST / 1_000);
        let Some(member) = self.member(who).filter(|member| member.conn == Some(conn)) else {
            return Ok(false);
        };
        let left = member.left(now);
        let limited = step.limited.iter().position(|of| Some(*of) == id.map(|id| (conn, id)));
        if let Some(at) = limited {
            step.limited.remove(at);
            if left > units * 1_000 + RATE_SLACK {
                let what = format!("{conn:?} is limited for {units} with {left} thousandths left");
                return Err(("fair", what));
            }
            member.limited += 1 + u32::try_from(read / 8).unwrap_or(0);
            let over = member.limited >= 100;
            step.answers.push((conn, id, Expect::Error(ErrorName::RateLimited)));
            if over {
                self.drop_conn(who, CloseCode::RATE_LIMITED, step);
            }
            return Ok(false);
        }
        member.spend(now, units);
        if left < units * 1_000 - RATE_SLACK {
            let what = format!("{conn:?} is not limited for {units} with {left} thousandths left");
            return Err(("model", what));
        }
        Ok(true)
    }

    /// Answers a request, and remembers the answer.
    pub(super) fn answer(
        &mut self,
        who: MemberRef<'_>,
        (id, hash): (RequestId, u64),
        outcome: Result<Expect, ErrorName>,
        step: &mut InputStep<'_>,
    ) -> Verdict {
        let expect = outcome.unwrap_or_else(Expect::Error);
        if let Some(member) = self.member(who) {
            if let Some(conn) = member.conn {
                step.answers.push((conn, Some(id), expect.clone()));
            }
            member.answers.push(Answered { id, hash, expect, text: None });
            if member.answers.len() > 64 {
                member.answers.remove(0);
            }
        }
        Ok(())
    }
}

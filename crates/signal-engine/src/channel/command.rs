//! The path of a command: from a frame to its effect and its answer. Comes in: frames of members. Goes out: calls of
//! the siblings, answers behind the events of the command, and commands that wait for the shell. Each command takes
//! effect once (IDS-2), and those of a session one after the other (ORD-5).

use bytes::Bytes;
use lianmai_protocol::codec::{self, ElementEnvelope, RequestEnvelope};
use lianmai_protocol::limits::MAX_IN_FLIGHT;
use lianmai_protocol::message::media::{Published, Subscribed};
use lianmai_protocol::message::session::{Done, Empty, MessageSent, Ping, Pong, TokenRenewed};
use lianmai_protocol::message::{Call, Request};
use lianmai_protocol::{CloseCode, ErrorName, RequestId, RpcError, UserId};

use super::cost::{self, Cost};
use super::member::{Member, PendingCommand, PendingOn, QueuedCommand};
use super::session::{CommandKey, IdStatus};
use super::{Channel, CommandResult, Reply, not_stored};
use crate::context::Context;
use crate::ids::{AskId, ConnId};
use crate::key;
use crate::lobby::is_fatal;
use crate::output::Note;

/// `rateLimited` answers, less the commands that passed since, after which the connection is closed.
const LIMITED_CLOSE: u32 = 100;
/// A `rateLimited` answer counts one more for each time that reading its command costs this many units.
const HEAVY_UNITS: u32 = 8;

impl Channel {
    /// Handles a text frame of a member.
    pub(crate) fn frame(&mut self, cx: &mut Context, uid: UserId, conn: ConnId, frame: &[u8]) {
        self.note_inbound(cx, uid, conn);
        // A frame on a closed connection, or of a member that is being kicked, is not read.
        if self.member_on(uid, conn).is_none_or(|member| member.being_kicked) {
            return;
        }
        match codec::read_client_frame(frame) {
            Ok(elements) => {
                let params = elements.iter().map(ElementEnvelope::params_len).sum();
                // The first element is charged for the bytes that belong to no element.
                let mut padding = cost::padding(frame.len(), params, elements.len());
                for element in elements {
                    let bytes = element.params_len() + std::mem::take(&mut padding);
                    self.element(cx, uid, conn, element, Cost::reading(bytes));
                }
            }
            Err(refused) => {
                // A fatal frame closes the connection, so it needs no rate.
                let fatal = is_fatal(&refused.0);
                if !fatal && !self.charge_or_refuse(cx, uid, conn, None, Cost::reading(frame.len()))
                {
                    return;
                }
                self.refuse(cx, conn, None, None, &refused.0.into());
                if fatal {
                    self.drop_connection(cx, uid, CloseCode::PROTOCOL_VIOLATION);
                }
            }
        }
    }

    /// Handles a WebSocket ping or pong: the shell answers it, here it counts for the rate. The answer to a ping of the
    /// server is free.
    pub(crate) fn control_frame(&mut self, cx: &mut Context, uid: UserId, conn: ConnId) {
        self.note_inbound(cx, uid, conn);
        if let Some(member) = self.member_on(uid, conn)
            && std::mem::take(&mut member.pinged)
        {
            return;
        }
        self.take_units(cx, uid, conn, Cost::reading(0));
        self.close_if_limited(cx, uid, conn);
    }

    /// Something came in on the connection.
    fn note_inbound(&mut self, cx: &mut Context, uid: UserId, conn: ConnId) {
        if let Some(member) = self.member_on(uid, conn) {
            member.last_inbound = cx.mono();
        }
    }

    pub(super) fn member_on(&mut self, uid: UserId, conn: ConnId) -> Option<&mut Member> {
        self.members.get_mut(&uid).filter(|member| member.conn == Some(conn))
    }

    /// Handles one element. The rate is checked before the parameters are read, which is most of the work of a request.
    fn element(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        conn: ConnId,
        element: ElementEnvelope<'_>,
        reading: Cost,
    ) {
        let envelope = match element {
            ElementEnvelope::Request(envelope) => envelope,
            ElementEnvelope::Refused { id, error } => {
                if self.charge_or_refuse(cx, uid, conn, id, reading) {
                    self.refuse(cx, conn, id, None, &error);
                }
                return;
            }
        };
        if let (Some(ack), Some(member)) = (envelope.ack, self.member_on(uid, conn)) {
            member.answers.ack(ack);
        }
        // Requests about the connection have ids outside the session (IDS-1, IDS-3).
        if !envelope.is_connection_request() {
            return self.command(cx, uid, conn, &envelope, reading);
        }
        let id = envelope.id;
        if !self.charge_or_refuse(cx, uid, conn, Some(id), reading) {
            return;
        }
        match envelope.open() {
            Ok(Request { call: Call::Ping(ping), .. }) => self.ping(cx, uid, id, &ping),
            Ok(Request { call, .. }) => {
                let error = ErrorName::AlreadyJoined.into();
                self.refuse(cx, conn, Some(id), Some(call.method()), &error);
            }
            Err(error) => self.refuse(cx, conn, Some(id), None, &error),
        }
    }

    fn ping(&mut self, cx: &mut Context, uid: UserId, id: RequestId, ping: &Ping) {
        let epoch = self.log.epoch();
        if let Some(member) = self.members.get_mut(&uid) {
            let confirmed = ping.k.is_some_and(|k| member.tickets.confirm(k));
            cx.stats.message_bytes -= member.messages.ack(ping.n.unwrap_or(0));
            if confirmed && member.confirm_return(epoch) {
                self.touch(uid);
            }
        }
        let pong = Pong { epoch: self.log.epoch(), seq: self.log.head() };
        self.send_behind_events(cx, uid, codec::encode_result(id, &pong).into());
    }

    /// Takes units of the session's rate. If there are none left, answers with `rateLimited`, closes the connection
    /// after too many of these, and returns false. Also false when an earlier element of the frame has ended the
    /// membership or the connection.
    fn charge_or_refuse(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        conn: ConnId,
        id: Option<RequestId>,
        cost: Cost,
    ) -> bool {
        if self.member_on(uid, conn).is_none() {
            return false;
        }
        let Some(wait_ms) = self.take_units(cx, uid, conn, cost) else { return true };
        let error = RpcError::new(ErrorName::RateLimited).retry_after_ms(wait_ms);
        self.refuse(cx, conn, id, None, &error);
        self.close_if_limited(cx, uid, conn);
        false
    }

    /// Whether there are units for a request of which only the envelope was read; if not, answers as
    /// [`Channel::charge_or_refuse`]. Takes no units: the request itself does.
    fn check_or_refuse(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        conn: ConnId,
        id: RequestId,
        reading: Cost,
    ) -> bool {
        let Some(member) = self.member_on(uid, conn) else { return false };
        member.rate.may(cx.mono(), reading.units, &cx.config.limits).is_ok()
            || self.charge_or_refuse(cx, uid, conn, Some(id), reading)
    }

    /// Takes units of the session's rate, or returns the milliseconds until there are so many, or until the channel may
    /// send so much.
    fn take_units(&mut self, cx: &Context, uid: UserId, conn: ConnId, cost: Cost) -> Option<u64> {
        let full = self.members.get(&uid).and_then(|m| self.channel_wait_ms(cx, m, cost));
        let member = self.member_on(uid, conn)?;
        let taken = member.rate.take(cx.mono(), cost.units, &cx.config.limits);
        if let (Ok(()), Some(wait_ms)) = (taken, full) {
            // Other members may have used the channel's rate, so this does not count towards the close; the units are
            // taken all the same.
            return Some(wait_ms);
        }
        match taken {
            // Not to zero: a session that exceeds its rate for long is closed, however the excess is spread.
            Ok(()) => member.limited = member.limited.saturating_sub(1),
            // Reading a refused command was work as well.
            Err(_) => member.limited += 1 + cost.read() / HEAVY_UNITS,
        }
        taken.err()
    }

    fn close_if_limited(&mut self, cx: &mut Context, uid: UserId, conn: ConnId) {
        if self.member_on(uid, conn).is_some_and(|member| member.limited >= LIMITED_CLOSE) {
            self.drop_connection(cx, uid, CloseCode::RATE_LIMITED);
        }
    }

    /// Runs a command once: one that was answered gets its answer again, one that is in progress is not started a
    /// second time (IDS-7).
    fn command(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        conn: ConnId,
        envelope: &RequestEnvelope<'_>,
        reading: Cost,
    ) {
        let id = envelope.id;
        let Some(member) = self.member_on(uid, conn) else { return };
        // A new id is no repeat, so its rate is checked before anything else is read.
        let is_new = member.answers.is_new(id);
        if is_new && !self.check_or_refuse(cx, uid, conn, id, reading) {
            return;
        }
        let text = envelope.method.bytes().chain([0]).chain(envelope.params.bytes());
        let command = CommandKey { id, hash: key::hash(text) };
        let Some(member) = self.member_on(uid, conn) else { return };
        let pending = member.pending.as_ref().and_then(|pending| pending.find(id));
        if pending == Some(command) {
            self.take_units(cx, uid, conn, Cost::reading(0));
            self.close_if_limited(cx, uid, conn);
            return;
        }
        let status = match pending {
            Some(_) => IdStatus::Reused,
            None => member.answers.status(command),
        };
        if let IdStatus::Answered(answer) = status {
            // The command took effect, so its answer is repeated even above the rate; too many repeats close the
            // connection.
            self.take_units(cx, uid, conn, Cost::reading(0));
            self.send_behind_events(cx, uid, answer);
            // A request for a URL fits into one unit, so longer ones are not parsed again.
            if reading.units == 1
                && let Ok(request) = envelope.open()
            {
                self.notify_renewed_url(cx, uid, &request.call);
            }
            self.close_if_limited(cx, uid, conn);
            return;
        }
        if !is_new && !self.check_or_refuse(cx, uid, conn, id, reading) {
            return;
        }
        let request = match envelope.open() {
            Ok(request) => request,
            Err(error) => {
                if self.charge_or_refuse(cx, uid, conn, Some(id), reading) {
                    self.refuse(cx, conn, Some(id), None, &error);
                }
                return;
            }
        };
        let cost = self.cost(uid, &request.call, reading);
        if !self.charge_or_refuse(cx, uid, conn, Some(id), cost) {
            return;
        }
        let method = request.call.method();
        let refused = match status {
            IdStatus::Reused => Some(ErrorName::IdReuse),
            IdStatus::TooOld => Some(ErrorName::IdTooOld),
            IdStatus::New | IdStatus::Answered(_) => None,
        };
        if let Some(error) = refused {
            self.refuse(cx, conn, Some(command.id), Some(method), &error.into());
            return;
        }
        let Some(member) = self.member_on(uid, conn) else { return };
        member.answers.last_id = Some(command.id);
        let leaves = matches!(request.call, Call::Leave(_));
        if let Some(pending) = &mut member.pending
            && !(leaves && pending.can_leave_overtake())
        {
            if pending.queue.len() + 1 < MAX_IN_FLIGHT || (leaves && !pending.has_queued_leave()) {
                pending.queue.push_back(QueuedCommand { command, request, paid: cost });
            } else {
                self.answer(cx, uid, command, Some(method), Err(ErrorName::TooManyInFlight.into()));
            }
            return;
        }
        self.execute(cx, uid, command, request);
    }

    fn execute(&mut self, cx: &mut Context, uid: UserId, command: CommandKey, request: Request) {
        let method = request.call.method();
        let outcome = match request.call {
            Call::Leave(_) => self.leave(cx, uid, command),
            Call::Publish(params) => self.publish(cx, uid, command, &params),
            Call::Unpublish(params) => self.unpublish(cx, uid, command, &params),
            Call::Subscribe(params) => self.subscribe(cx, uid, command, &params),
            Call::Unsubscribe(params) => self.unsubscribe(cx, uid, &params),
            Call::SetRole(params) => self.set_role(cx, uid, command, &params),
            Call::Mute(params) => self.mute(cx, uid, command, &params, true),
            Call::Unmute(params) => self.mute(cx, uid, command, &params, false),
            Call::Kick(params) => self.kick(cx, uid, command, params),
            Call::CloseChannel(params) => self.close_channel(cx, uid, command, params),
            Call::SendMessage(params) => self.send_message(cx, uid, params),
            Call::SetAttributes(params) => self.set_attributes(cx, uid, &params),
            Call::RenewToken(params) => self.renew_token(cx, uid, command, params),
            Call::Report(params) => self.report(cx, uid, &params),
            // Not commands: `element` or the lobby answers them.
            Call::Join(_) | Call::Reconnect(_) | Call::Ping(_) => return,
            Call::AddTasks(params) => self.add_tasks(cx, uid, command, &params),
            Call::UpdateTasks(params) => self.update_tasks(cx, uid, command, &params),
            Call::DeleteTasks(params) => self.delete_tasks(cx, uid, command, params),
        };
        self.answer(cx, uid, command, Some(method), outcome);
    }

    /// Answers a request behind every event up to its effect (ORD-4), and remembers the answer.
    pub(super) fn answer(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        command: CommandKey,
        method: Option<&'static str>,
        outcome: CommandResult,
    ) {
        let (id, seq) = (command.id, self.log.head());
        let text = match outcome {
            Ok(Reply::Deferred | Reply::AlreadyAnswered) => return,
            Ok(reply) => {
                cx.stats.commands += 1;
                match reply {
                    Reply::Done => codec::encode_result(id, &Done { seq }),
                    Reply::Published { url, urls, generation } => {
                        codec::encode_result(id, &Published { uid, url, urls, generation, seq })
                    }
                    Reply::Subscribed { uid, url, urls } => {
                        codec::encode_result(id, &Subscribed { uid, url, urls, seq })
                    }
                    Reply::Sent { delivered } => {
                        codec::encode_result(id, &MessageSent { seq, delivered })
                    }
                    Reply::Renewed { rights, token_expires_in_ms } => {
                        let renewed = TokenRenewed { seq, rights, token_expires_in_ms };
                        codec::encode_result(id, &renewed)
                    }
                    Reply::Empty | Reply::Deferred | Reply::AlreadyAnswered => {
                        codec::encode_result(id, &Empty {})
                    }
                }
            }
            Err(error) => {
                cx.stats.refusals += 1;
                if let Some(conn) = self.members.get(&uid).and_then(|member| member.conn) {
                    cx.note(Note::CommandRefused { conn, method, error: error.name().clone() });
                }
                self.command_refused(cx, uid, method, error.name());
                codec::encode_error(Some(id), &error)
            }
        };
        let text = Bytes::from(text.into_boxed_str().into_boxed_bytes());
        if let Some(member) = self.members.get_mut(&uid) {
            member.answers.keep(command, text.clone());
        }
        self.send_behind_events(cx, uid, text);
    }

    /// Continues a session whose command waited for the shell: answers it, then runs the queued commands.
    pub(super) fn finish_pending(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        method: &'static str,
        outcome: CommandResult,
    ) {
        let Some(pending) = self.members.get_mut(&uid).and_then(|m| m.pending.take()) else {
            return;
        };
        let PendingCommand { command, mut queue, .. } = *pending;
        self.answer(cx, uid, command, Some(method), outcome);
        while let Some(QueuedCommand { command, request, paid }) = queue.pop_front() {
            // A leave that had to wait overtakes the others (LEA-3).
            if queue.iter().any(|later| matches!(later.request.call, Call::Leave(_))) {
                self.answer(cx, uid, command, None, Err(ErrorName::Superseded.into()));
                continue;
            }
            self.charge_growth(cx, uid, &request.call, paid);
            self.execute(cx, uid, command, request);
            // A queued command may wait itself; the rest stays behind it.
            let Some(member) = self.members.get_mut(&uid) else { return };
            if let Some(pending) = &mut member.pending {
                pending.queue = queue;
                return;
            }
        }
    }

    /// Continues the sessions whose command was superseded in this turn. A queued command may supersede a command of
    /// another session, which then joins this queue: the stack does not grow with a chain of sessions.
    pub(super) fn resume_superseded(&mut self, cx: &mut Context) {
        while let Some(uid) = self.superseded.pop_front() {
            let pending = self.members.get(&uid).and_then(|member| member.pending.as_ref());
            if pending.is_some_and(|pending| pending.on == PendingOn::Superseded) {
                self.finish_pending(cx, uid, "publish", Err(ErrorName::Superseded.into()));
            }
        }
    }

    /// Charges a queued command for the growth of its event: earlier commands may have made it larger than when it
    /// came.
    fn charge_growth(&mut self, cx: &Context, uid: UserId, call: &Call, paid: Cost) {
        let more = self.cost(uid, call, paid.reading_again()).units.saturating_sub(paid.units);
        if let Some(member) = self.members.get_mut(&uid) {
            member.rate.spend(cx.mono(), more, &cx.config.limits);
        }
    }

    /// A member leaves: the commands of its session that wait are answered with `superseded`.
    pub(super) fn supersede_pending(&mut self, cx: &mut Context, uid: UserId) {
        let Some(pending) = self.members.get_mut(&uid).and_then(|m| m.pending.take()) else {
            return;
        };
        let queued = pending.queue.iter().map(|queued| queued.command);
        for command in std::iter::once(pending.command).chain(queued) {
            self.answer(cx, uid, command, None, Err(ErrorName::Superseded.into()));
        }
    }

    /// A change was written, or could not be: its caller is answered.
    pub(crate) fn written(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        of: Option<UserId>,
        ask: AskId,
        stored: bool,
    ) {
        if stored {
            self.stored(of, ask);
        }
        if self.awaits(uid, ask) {
            let outcome = if stored { Ok(Reply::Done) } else { Err(not_stored()) };
            self.finish_pending(cx, uid, "write", outcome);
        }
    }

    /// A write of a change of a member, or of the channel, by somebody else is known to be stored.
    pub(crate) fn stored(&mut self, of: Option<UserId>, ask: AskId) {
        self.unstored.take_if(|last| *last == ask);
        if let Some(member) = of.and_then(|of| self.members.get_mut(&of)) {
            member.unstored.take_if(|last| *last == ask);
        }
    }

    /// A command of a member waits for the answer to `ask`.
    pub(super) fn set_pending(
        &mut self,
        uid: UserId,
        command: CommandKey,
        ask: AskId,
        on: PendingOn,
    ) {
        if let Some(member) = self.members.get_mut(&uid) {
            let queue = Default::default();
            member.pending = Some(Box::new(PendingCommand { command, ask, on, queue }));
        }
    }

    /// Whether a command of a member waits for the answer to `ask` still.
    pub(super) fn awaits(&self, uid: UserId, ask: AskId) -> bool {
        let pending = self.members.get(&uid).and_then(|member| member.pending.as_ref());
        pending.is_some_and(|pending| pending.ask == ask)
    }
}

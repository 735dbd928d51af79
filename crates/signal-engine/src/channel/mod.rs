//! One channel: its members, streams and log. Comes in: joins, frames, timers. Goes out: events to all,
//! answers to one. This file holds the state, the path of a command and the way events leave; what each
//! command does is in the siblings.
//!
//! ```text
//!   frame -> elements -> rate, id -> command (entry, media, moderation, talk) -> events in the log
//!                                                                            -> answer, behind them
//!   log -- at once, or 20 ms after the last flush --> one shared frame to every connected member
//! ```

mod entry;
mod log;
mod media;
mod member;
mod moderation;
mod snapshot;
mod talk;

use std::collections::BTreeMap;

use bytes::Bytes;
use lianmai_protocol::codec::{self, Element};
use lianmai_protocol::limits::MAX_IN_FLIGHT;
use lianmai_protocol::message::media::{Published, Subscribed, Urls};
use lianmai_protocol::message::notice::MemberCount;
use lianmai_protocol::message::session::{Done, Empty, MessageSent, Pong, TokenRenewed};
use lianmai_protocol::message::{Call, ChannelEvent, Notice, Request};
use lianmai_protocol::{
    Attributes, Cid, CloseCode, ErrorName, Gen, RequestId, Rights, RpcError, UserId,
};

pub(crate) use self::moderation::check_kick;

use self::log::EventLog;
use self::media::Stream;
use self::member::{Member, Waiting};
use self::snapshot::SnapshotCache;
use crate::config::AppPolicy;
use crate::context::{ChannelRef, Context, Seat};
use crate::input::ConnId;
use crate::key::ChannelKey;
use crate::lobby::is_fatal;
use crate::output::{ChannelView, MemberView, Note};
use crate::timers::Timer;

/// `rateLimited` answers, less the commands that passed since, after which the connection is closed.
const LIMITED_CLOSE: u32 = 100;
/// `memberCount` notices are at least this far apart, in milliseconds (contract rule A5).
const COUNT_INTERVAL_MS: u64 = 1_000;

/// What a command answers, before the head of the log is known.
#[derive(Debug)]
enum Reply {
    Done,
    Nothing,
    Published {
        url: String,
        urls: Urls,
        generation: Gen,
    },
    Subscribed {
        uid: UserId,
        url: String,
        urls: Urls,
    },
    Sent {
        delivered: u64,
    },
    Renewed {
        rights: Rights,
        token_expires_in_ms: Option<u64>,
    },
    /// The answer comes when the outside has answered.
    Later,
    /// Answered and closed already.
    Over,
}

type Outcome = Result<Reply, RpcError>;

pub(crate) struct Channel {
    id: ChannelRef,
    key: ChannelKey,
    cid: Cid,
    policy: AppPolicy,
    creator: UserId,
    attributes: Attributes,
    log: EventLog,
    members: BTreeMap<UserId, Member>,
    broadcasters: usize,
    /// Bytes of all names and attributes, the channel's own included.
    told_bytes: usize,
    streams: BTreeMap<Gen, Stream>,
    snapshot: SnapshotCache,
    count_told: usize,
    count_armed: bool,
    /// Recent replacements by uid: how many, and since when (contract rule C14).
    replaced: BTreeMap<UserId, (u32, lianmai_protocol::MonoTime)>,
    closed: bool,
}

impl Channel {
    /// Whether the channel has ended and can be dropped.
    pub(crate) fn is_over(&self) -> bool {
        self.closed || self.members.is_empty()
    }

    pub(crate) fn key(&self) -> &ChannelKey {
        &self.key
    }

    pub(crate) fn cid(&self) -> Cid {
        self.cid
    }

    pub(crate) fn view(&self) -> ChannelView {
        ChannelView {
            channel: self.key.clone(),
            cid: self.cid,
            creator: self.creator,
            members: self.members.len(),
            broadcasters: self.broadcasters,
        }
    }

    pub(crate) fn member_views(&self) -> Vec<MemberView> {
        self.members
            .values()
            .map(|member| MemberView {
                uid: member.uid,
                mid: member.mid,
                role: member.role.clone(),
                connected: member.conn.is_some(),
                published: member.published(),
                muted: member.muted,
            })
            .collect()
    }

    fn seat(&self, uid: UserId) -> Seat {
        Seat { channel: self.id, uid }
    }

    /// Handles a text frame of a member.
    pub(crate) fn frame(&mut self, cx: &mut Context, uid: UserId, conn: ConnId, frame: &[u8]) {
        self.alive(cx, uid, conn);
        match codec::decode_client_frame(frame) {
            Ok(elements) => {
                for element in elements {
                    self.element(cx, uid, conn, element);
                }
            }
            Err(refused) => {
                if !self.within_rate(cx, uid, conn, None) {
                    return;
                }
                let fatal = is_fatal(&refused.0);
                self.refuse(cx, conn, None, None, &refused.0.into());
                if fatal {
                    self.drop_connection(cx, uid, CloseCode::PROTOCOL_VIOLATION);
                }
            }
        }
    }

    /// Something came in on the connection.
    pub(crate) fn alive(&mut self, cx: &mut Context, uid: UserId, conn: ConnId) {
        if let Some(member) = self.member_on(uid, conn) {
            member.last_inbound = cx.mono();
        }
    }

    fn member_on(&mut self, uid: UserId, conn: ConnId) -> Option<&mut Member> {
        self.members.get_mut(&uid).filter(|member| member.conn == Some(conn))
    }

    fn element(&mut self, cx: &mut Context, uid: UserId, conn: ConnId, element: Element) {
        let id = match &element {
            Element::Request(request) => Some(request.id),
            Element::Refused { id, .. } => *id,
        };
        if !self.within_rate(cx, uid, conn, id) {
            return;
        }
        match element {
            Element::Refused { id, error } => self.refuse(cx, conn, id, None, &error),
            Element::Request(request) => self.request(cx, uid, conn, request),
        }
    }

    /// Takes one unit of the session's rate; answers, and closes in the end, who has none left. Also false
    /// when an earlier element of the frame has ended the membership or the connection.
    fn within_rate(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        conn: ConnId,
        id: Option<RequestId>,
    ) -> bool {
        let (now, limits) = (cx.mono(), &cx.config.limits);
        let Some(member) = self.member_on(uid, conn) else { return false };
        let taken = member.rate.take(now, limits.commands_per_second, limits.command_burst);
        let Err(wait_ms) = taken else {
            // Not to zero: who sends more than it may for long is closed, however it is spread.
            member.limited = member.limited.saturating_sub(1);
            return true;
        };
        member.limited += 1;
        let too_often = member.limited >= LIMITED_CLOSE;
        let error = RpcError::new(ErrorName::RateLimited).retry_after_ms(wait_ms);
        self.refuse(cx, conn, id, None, &error);
        if too_often {
            self.drop_connection(cx, uid, CloseCode::RATE_LIMITED);
        }
        false
    }

    fn request(&mut self, cx: &mut Context, uid: UserId, conn: ConnId, request: Request) {
        if let Call::Ping(_) = request.call {
            let pong = Pong { epoch: self.log.epoch(), seq: self.log.head() };
            self.send_behind_events(cx, uid, codec::encode_result(request.id, &pong));
            return;
        }
        let Some(member) = self.member_on(uid, conn) else { return };
        let refused = match member.last_id {
            Some(last) if request.id == last => Some(ErrorName::IdReuse),
            Some(last) if request.id < last => Some(ErrorName::IdTooOld),
            _ => None,
        };
        if let Some(error) = refused {
            self.refuse(cx, conn, Some(request.id), Some(request.call.method()), &error.into());
            return;
        }
        member.last_id = Some(request.id);
        let leaves = matches!(request.call, Call::Leave(_));
        if let Some(waiting) = &mut member.waiting
            && !leaves
        {
            if waiting.held.len() + 1 < MAX_IN_FLIGHT {
                waiting.held.push_back(request);
            } else {
                let method = request.call.method();
                let error = ErrorName::TooManyInFlight.into();
                self.refuse(cx, conn, Some(request.id), Some(method), &error);
            }
            return;
        }
        self.execute(cx, uid, request);
    }

    fn execute(&mut self, cx: &mut Context, uid: UserId, request: Request) {
        let (id, method) = (request.id, request.call.method());
        let outcome = match request.call {
            Call::Leave(_) => self.leave(cx, uid, id),
            Call::Publish(params) => self.publish(cx, uid, id, &params),
            Call::Unpublish(params) => self.unpublish(cx, uid, &params),
            Call::Subscribe(params) => self.subscribe(cx, uid, id, &params),
            Call::Unsubscribe(params) => self.unsubscribe(cx, uid, &params),
            Call::SetRole(params) => self.set_role(cx, uid, &params),
            Call::Mute(params) => self.mute(cx, uid, &params, true),
            Call::Unmute(params) => self.mute(cx, uid, &params, false),
            Call::Kick(params) => self.kick(cx, uid, id, &params),
            Call::CloseChannel(params) => self.close_channel(cx, uid, id, &params),
            Call::SendMessage(params) => self.send_message(cx, uid, params),
            Call::SetAttributes(params) => self.set_attributes(cx, uid, &params),
            Call::RenewToken(params) => self.renew_token(cx, uid, id, params),
            Call::Report(_) => Ok(Reply::Nothing),
            Call::Join(_) => Err(ErrorName::AlreadyJoined.into()),
            Call::Ping(_) => Ok(Reply::Nothing),
            Call::AddTasks(_)
            | Call::UpdateTasks(_)
            | Call::DeleteTasks(_)
            | Call::Reconnect(_) => Err(ErrorName::MethodNotFound.into()),
        };
        self.answer(cx, uid, id, Some(method), outcome);
    }

    /// Answers a request behind every event up to its effect (contract rule B1).
    fn answer(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        id: RequestId,
        method: Option<&'static str>,
        outcome: Outcome,
    ) {
        let seq = self.log.head();
        let text = match outcome {
            Ok(Reply::Later | Reply::Over) => return,
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
                    Reply::Nothing | Reply::Later | Reply::Over => {
                        codec::encode_result(id, &Empty {})
                    }
                }
            }
            Err(error) => {
                if let Some(conn) = self.members.get(&uid).and_then(|member| member.conn) {
                    self.refuse(cx, conn, Some(id), method, &error);
                }
                return;
            }
        };
        self.send_behind_events(cx, uid, text);
    }

    fn refuse(
        &mut self,
        cx: &mut Context,
        conn: ConnId,
        id: Option<RequestId>,
        method: Option<&'static str>,
        error: &RpcError,
    ) {
        cx.stats.refusals += 1;
        cx.note(Note::CommandRefused { conn, method, error: error.name().clone() });
        cx.send_text(conn, codec::encode_error(id, error));
    }

    /// Sends to one member, after the events that it has not been sent yet.
    fn send_behind_events(&mut self, cx: &mut Context, uid: UserId, text: String) {
        let Some(member) = self.members.get_mut(&uid) else { return };
        let Some(conn) = member.conn else { return };
        for frame in self.log.frames_after(member.cursor) {
            cx.send(conn, frame);
        }
        member.cursor = self.log.head();
        cx.send_text(conn, text);
    }

    fn notify(&mut self, cx: &mut Context, uid: UserId, notice: &Notice) {
        self.send_behind_events(cx, uid, codec::encode_notice(notice));
    }

    fn emit(&mut self, cx: &mut Context, event: &ChannelEvent) {
        self.log.append(event);
        cx.stats.events += 1;
    }

    /// Continues a session whose command waited for the outside: answers it, then runs what was held.
    fn resume_waiting(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        method: &'static str,
        outcome: Outcome,
    ) {
        let Some(waiting) = self.members.get_mut(&uid).and_then(|m| m.waiting.take()) else {
            return;
        };
        let Waiting { request, mut held, .. } = *waiting;
        self.answer(cx, uid, request, Some(method), outcome);
        while let Some(next) = held.pop_front() {
            self.execute(cx, uid, next);
            // A held command may wait itself; the rest stays behind it.
            let Some(member) = self.members.get_mut(&uid) else { return };
            if let Some(waiting) = &mut member.waiting {
                waiting.held = held;
                return;
            }
        }
    }

    /// A member goes: what its session still waited for is answered, not forgotten.
    fn supersede_waiting(&mut self, cx: &mut Context, uid: UserId) {
        let Some(waiting) = self.members.get_mut(&uid).and_then(|m| m.waiting.take()) else {
            return;
        };
        let held = waiting.held.iter().map(|request| request.id);
        for id in std::iter::once(waiting.request).chain(held) {
            self.answer(cx, uid, id, None, Err(ErrorName::Superseded.into()));
        }
    }

    /// After each input: lets events leave if they may, else makes sure that they will.
    pub(crate) fn settle(&mut self, cx: &mut Context) {
        if self.log.has_pending() {
            let at = self.log.flush_at(cx.config.flush_interval_ms);
            if at <= cx.mono() {
                self.flush(cx);
            } else if !self.log.flush_armed {
                self.log.flush_armed = true;
                cx.timers.arm(at, Timer::Flush(self.id));
            }
        }
        if !self.count_armed && self.count_told != self.members.len() && !self.is_over() {
            self.count_armed = true;
            cx.arm_in(COUNT_INTERVAL_MS, Timer::Count(self.id));
        }
    }

    pub(crate) fn flush_due(&mut self, cx: &mut Context) {
        self.log.flush_armed = false;
        if self.log.has_pending() {
            self.flush(cx);
        }
    }

    fn flush(&mut self, cx: &mut Context) {
        let head = self.log.head();
        let mut by_cursor = BTreeMap::new();
        for member in self.members.values_mut() {
            let Some(conn) = member.conn else { continue };
            if member.cursor == head {
                continue;
            }
            let frames = by_cursor
                .entry(member.cursor)
                .or_insert_with(|| self.log.frames_after(member.cursor));
            for frame in frames.iter() {
                cx.send(conn, Bytes::clone(frame));
            }
            member.cursor = head;
        }
        self.log.flushed(cx.mono());
    }

    pub(crate) fn count_due(&mut self, cx: &mut Context) {
        self.count_armed = false;
        if self.count_told == self.members.len() {
            return;
        }
        self.count_told = self.members.len();
        let notice = Notice::MemberCount(MemberCount { count: self.count_told as u64 });
        let frame = Bytes::from(codec::encode_notice(&notice));
        for conn in self.members.values().filter_map(|member| member.conn) {
            cx.send(conn, frame.clone());
        }
    }
}

//! How memberships begin and end: join, the same join twice, the same uid twice, leave, a lost socket and
//! its grace. Each membership ends once, in [`Channel::end_membership`].
//!
//! ```text
//!             join                     socket lost                 grace over
//!   (nobody) ------> [with a socket] ---------------> [in grace] --------------> (nobody)
//!                      |   ^    |  reconnect, same join again |                     ^
//!                      |   +----|--------------------------+                        |
//!                      +--------+--- leave, kick, replaced, token over, closed -----+
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;
use lianmai_protocol::message::ChannelEvent;
use lianmai_protocol::message::event::{ClientLeave, LeaveReason, RoomCloseReason};
use lianmai_protocol::message::session::{Done, Join};
use lianmai_protocol::{CloseCode, ErrorName, KindSet, Role, RpcError, UserId, codec};

use super::cost::event_units;
use super::log::EventLog;
use super::member::Member;
use super::moderation::client_join;
use super::session::{Answers, CommandKey, Messages, Tickets};
use super::snapshot::SnapshotCache;
use super::talk::{check_attributes, check_name};
use super::tasks::Tasks;
use super::text_budget::{TextUsage, text_bytes};
use super::{Channel, CommandResult, Reply};
use crate::config::{AppPolicy, DuplicatePolicy};
use crate::context::Context;
use crate::grant::Grant;
use crate::ids::{AddrId, Arrival, ChannelRef, ConnId};
use crate::key::{self, ChannelKey};
use crate::output::{Note, Output};
use crate::record::ChannelRules;
use crate::session_rate::SessionRate;
use crate::timers::Timer;

/// Replacements of one uid after which it is refused for a while (JOI-4).
const MAX_REPLACEMENTS: u32 = 3;
/// How long it is refused, in milliseconds.
const REPLACEMENT_WINDOW_MS: u64 = 60_000;
/// A connection that was up this long, in milliseconds, lasted (LIV-3).
const LASTING_MS: u64 = 10_000;
/// Shortest and longest `joinId` that counts.
const JOIN_ID_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

impl Channel {
    /// A channel without members.
    pub(crate) fn new(
        cx: &mut Context,
        id: ChannelRef,
        key: ChannelKey,
        policy: AppPolicy,
        creator: Option<UserId>,
    ) -> Self {
        Channel {
            id,
            key,
            cid: cx.new_cid(),
            policy,
            creator,
            rules: ChannelRules::default(),
            prepared_until: None,
            opened: false,
            attributes: Default::default(),
            log: EventLog::new(cx.new_epoch()),
            members: BTreeMap::new(),
            broadcasters: 0,
            text_budget: Default::default(),
            event_rate: Default::default(),
            demoted: BTreeMap::new(),
            barred: BTreeMap::new(),
            streams: BTreeMap::new(),
            tasks: Tasks::default(),
            snapshot: SnapshotCache::default(),
            announced_count: 0,
            count_armed: false,
            replaced: BTreeMap::new(),
            flows: Default::default(),
            history_budget: Default::default(),
            touched: Default::default(),
            unwritten: true,
            unstored: None,
            superseded: Default::default(),
            ending: false,
            closed: false,
        }
    }

    /// A uid that no member of the channel has, or that of the member with the same `joinId` (JOI-2).
    pub(crate) fn given_uid(channel: Option<&Channel>, cx: &mut Context, join: &Join) -> UserId {
        let who = |uid| channel.and_then(|channel| channel.members.get(&uid));
        if let Some(join_id) = join.join_id.as_deref() {
            let uid = key::given_uid(key::hash(join_id.bytes()));
            if who(uid).is_none_or(|member| member.join_id.as_deref() == Some(join_id)) {
                return uid;
            }
        }
        loop {
            let uid = cx.new_uid();
            if who(uid).is_none() {
                return uid;
            }
        }
    }

    /// A connection whose token was judged good joins as `uid`. On an error nothing has changed.
    pub(crate) fn join(
        &mut self,
        cx: &mut Context,
        arrival: Arrival,
        uid: UserId,
        join: Join,
        grant: &Grant,
    ) -> Result<(), RpcError> {
        let join_id =
            join.join_id.as_deref().filter(|join_id| JOIN_ID_BYTES.contains(&join_id.len()));
        if join.join_id.is_some() && join_id.is_none() {
            return Err(RpcError::new(ErrorName::InvalidParams).field("joinId"));
        }
        if let Some(member) = self.members.get(&uid)
            && join_id.is_some()
            && member.join_id.as_deref() == join_id
        {
            self.take_over(cx, arrival, uid, grant);
            return Ok(());
        }
        check_name(join.name.as_ref())?;
        check_attributes(&join.attributes, cx.config.limits.attribute_bytes)?;
        let named = grant.names_uid(uid);
        // The first member of a channel that was created without a creator becomes its creator.
        let creator = self.creator.unwrap_or(uid);
        let rights = self.policy.rights(grant.rights, named && creator == uid);
        let role = match &join.role {
            None if rights.broadcast => Role::Broadcaster,
            None | Some(Role::Audience) => Role::Audience,
            Some(Role::Broadcaster) if rights.broadcast => Role::Broadcaster,
            Some(Role::Broadcaster) => {
                return Err(RpcError::new(ErrorName::Forbidden)
                    .message("The token does not allow the role broadcaster."));
            }
            Some(_) => return Err(RpcError::new(ErrorName::BadRole).field("role")),
        };
        // Whatever role it asks for (ROL-4).
        let role = if self.demoted.contains_key(&uid) { Role::Audience } else { role };
        let texts = (join.name.map(String::into_boxed_str), join.attributes);
        let (name, attributes) = match self.members.get(&uid) {
            // The membership that it replaces is still visible. If one of the two may send messages, the texts of the
            // join count.
            Some(old) if old.is_visible() && (rights.message || old.rights.message) => texts,
            Some(old) if old.is_visible() => (old.name.clone(), old.attributes.clone()),
            _ => self.text_budget.texts(uid, rights.message, texts),
        };
        let taken = TextUsage {
            visible: role == Role::Broadcaster,
            bytes: text_bytes(name.as_deref(), &attributes),
        };
        self.text_budget.check(cx, self.members.get(&uid).map(TextUsage::of), taken)?;
        self.check_room(cx, uid, &role)?;
        // All members get its join event; its end takes a unit (see `end_membership`).
        let units = if taken.visible { event_units(taken.bytes) } else { 0 };
        let free = if taken.visible { units.max(1) } else { 0 };
        let addr = grant.uid.is_none().then_some(arrival.addr);
        self.check_debts(cx, uid, addr, free)?;
        if self.members.contains_key(&uid) {
            self.replace(cx, uid)?;
        }
        let now = cx.mono();
        let carried = SessionRate::owing(now, cx.debts.uid_debt(now, &self.key, uid));
        let mut rate = carried;
        rate.spend(now, units, &cx.config.limits);
        cx.debts.forget_uid(now, &self.key, uid);
        if let Some(addr) = addr {
            cx.debts.count_member(addr);
        }
        let member = Member {
            uid,
            mid: cx.new_mid(),
            session_id: cx.new_session_id(),
            join_id: join_id.map(Into::into),
            role,
            rights,
            named,
            name,
            attributes,
            muted: KindSet::NONE,
            token_end: grant.membership_end(),
            token_look: cx.mono(),
            conn: None,
            addr,
            connected_at: cx.mono(),
            last_inbound: cx.mono(),
            lost_at: None,
            first_lost: None,
            last_media: None,
            cursor: 0,
            rate,
            carried,
            limited: 0,
            pinged: false,
            pending: None,
            tickets: Tickets::new(),
            attempt: 0,
            answers: Answers::default(),
            messages: Messages::default(),
            forced: None,
            unstored: None,
            being_kicked: false,
            restored: false,
            pubs: [None; 4],
            pushes: [None; 3],
            pulls: Vec::new(),
        };
        self.text_budget.add(taken);
        cx.stats.members += 1;
        let (channel, cid) = (self.key.clone(), self.cid);
        if !std::mem::replace(&mut self.opened, true) {
            cx.note(Note::ChannelOpened { channel: channel.clone(), cid });
        }
        self.unwritten |= self.prepared_until.take().is_some() | self.creator.is_none();
        self.creator = Some(creator);
        let (mid, role, conn) = (member.mid, member.role.clone(), arrival.conn);
        cx.note(Note::MemberJoined { channel, cid, uid, mid, role, conn });
        if member.is_visible() {
            self.broadcasters += 1;
            let joined = client_join(&member);
            self.emit(cx, &ChannelEvent::ClientJoin(joined));
        }
        let k = member.tickets.offered;
        self.members.insert(uid, member);
        self.touch(uid);
        self.arm_token(cx, uid);
        self.enter(cx, arrival, uid, k);
        Ok(())
    }

    /// Whether the debts of earlier memberships of a uid, and those of its address, leave room for `units` (IDS-9).
    fn check_debts(
        &self,
        cx: &mut Context,
        uid: UserId,
        addr: Option<AddrId>,
        units: u32,
    ) -> Result<(), RpcError> {
        let now = cx.mono();
        let present = self.members.get(&uid).map_or(Default::default(), |old| old.rate.owed(now));
        let owed = cx.debts.uid_debt(now, &self.key, uid).max(present);
        let own = match units {
            0 => 0,
            _ => {
                SessionRate::owing(now, owed).may(now, units, &cx.config.limits).err().unwrap_or(0)
            }
        };
        let barred = addr.map_or(0, |addr| cx.debts.address_wait_ms(now, addr, &cx.config.limits));
        match own.max(barred) {
            0 => Ok(()),
            ms => Err(RpcError::new(ErrorName::RateLimited).retry_after_ms(ms)),
        }
    }

    /// Room for one more, not counting the membership that `uid` may have already.
    fn check_room(&self, cx: &Context, uid: UserId, role: &Role) -> Result<(), RpcError> {
        let old = self.members.get(&uid);
        let members = self.members.len() - usize::from(old.is_some());
        if members >= self.max_members(cx) {
            return Err(ErrorName::ChannelFull.into());
        }
        let broadcasters = self.broadcasters - usize::from(old.is_some_and(Member::is_visible));
        if *role == Role::Broadcaster && broadcasters >= self.max_broadcasters(cx) {
            return Err(ErrorName::TooManyBroadcasters.into());
        }
        Ok(())
    }

    /// The same `join` call again: its answer was lost (JOI-2). The other members do not notice.
    fn take_over(&mut self, cx: &mut Context, arrival: Arrival, uid: UserId, grant: &Grant) {
        self.drop_connection(cx, uid, CloseCode::TAKEN_OVER);
        let epoch = self.log.epoch();
        let Some(member) = self.members.get_mut(&uid) else { return };
        // The caller of `join` has no other request open, and begins with any id.
        member.pending = None;
        member.answers = Answers::default();
        member.attempt = 0;
        member.confirm_return(epoch);
        let k = member.tickets.renew();
        self.apply_grant(cx, uid, grant);
        self.touch(uid);
        self.connection_changed(cx, uid, true);
        self.enter(cx, arrival, uid, k);
        self.notify_levels(cx, uid);
    }

    /// Gives a membership its connection and answers the join: a snapshot now, events from here on.
    fn enter(&mut self, cx: &mut Context, arrival: Arrival, uid: UserId, k: u64) {
        self.attach_connection(cx, arrival, uid);
        let Arrival { conn, id, .. } = arrival;
        let answer = self.joined(cx, uid, id, k);
        cx.send_text(conn, answer);
        // Targeted messages to a membership whose first answer was lost.
        let messages = self.members.get(&uid).map(|member| member.messages.after(0).1);
        for message in messages.unwrap_or_default() {
            cx.send(conn, message);
        }
        self.notify_moved_urls(cx, uid);
    }

    /// Another join of the same uid (JOI-3).
    fn replace(&mut self, cx: &mut Context, uid: UserId) -> Result<(), RpcError> {
        let now = cx.mono();
        let member = &self.members[&uid];
        let silent = now.since(member.last_inbound);
        // A client that keeps to its ping interval is never silent for one and a half of it.
        let live = member.conn.is_some() && silent <= cx.config.timers.ping_interval_ms * 3 / 2;
        if live && self.policy.duplicate == DuplicatePolicy::RejectNew {
            return Err(ErrorName::DuplicateLogin.into());
        }
        self.forget_replacements(cx);
        if live {
            let (count, since) = self.replaced.entry(uid).or_insert((0, now));
            if *count >= MAX_REPLACEMENTS {
                let wait = REPLACEMENT_WINDOW_MS - now.since(*since);
                return Err(RpcError::new(ErrorName::ReplacedTooOften).retry_after_ms(wait));
            }
            *count += 1;
        }
        self.remove_member(cx, uid, LeaveReason::Replaced, CloseCode::REPLACED);
        Ok(())
    }

    pub(super) fn forget_replacements(&mut self, cx: &Context) {
        let now = cx.mono();
        self.replaced.retain(|_, (_, since)| now.since(*since) < REPLACEMENT_WINDOW_MS);
    }

    pub(super) fn leave(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        command: CommandKey,
    ) -> CommandResult {
        self.supersede_pending(cx, uid);
        let Some(member) = self.end_membership(cx, uid, LeaveReason::Left) else {
            return Ok(Reply::AlreadyAnswered);
        };
        cx.stats.commands += 1;
        let done = codec::encode_result(command.id, &Done { seq: self.log.head() });
        if let Some(conn) = member.conn {
            self.finish_connection(cx, conn, member.cursor, Some(done.into()), CloseCode::NORMAL);
        }
        self.dissolve_after(cx, &member);
        Ok(Reply::AlreadyAnswered)
    }

    /// Ends a membership, whatever the reason, and the channel if that follows from it.
    pub(super) fn end_member(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        reason: LeaveReason,
        code: CloseCode,
    ) {
        if let Some(member) = self.remove_member(cx, uid, reason, code) {
            self.dissolve_after(cx, &member);
        }
    }

    pub(super) fn remove_member(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        reason: LeaveReason,
        code: CloseCode,
    ) -> Option<Member> {
        let member = self.end_membership(cx, uid, reason)?;
        if let Some(conn) = member.conn {
            self.finish_connection(cx, conn, member.cursor, None, code);
        }
        Some(member)
    }

    /// The only place where a membership ends, whatever the reason: its publications and plays end, others are
    /// notified, and its place is free. The caller sends the last messages on the connection of the member that is
    /// returned.
    pub(super) fn end_membership(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        reason: LeaveReason,
    ) -> Option<Member> {
        self.remove_streams(cx, uid, KindSet::ALL);
        self.end_pulls(cx, uid);
        let mut member = self.members.remove(&uid)?;
        let mid = member.mid;
        if member.is_visible() {
            self.broadcasters -= 1;
            // All members get its join and leave events, so frequent joins are charged.
            member.rate.spend(cx.mono(), 1, &cx.config.limits);
            let reason = reason.clone();
            self.emit(cx, &ChannelEvent::ClientLeave(ClientLeave { uid, mid, reason }));
        }
        if reason != LeaveReason::Replaced {
            self.end_tasks_of(cx, uid);
        }
        self.touch(uid);
        self.text_budget.remove(TextUsage::of(&member));
        self.text_budget.keep_hidden_texts(&member);
        let (now, owed) = (cx.mono(), member.rate.owed(cx.mono()));
        cx.debts.charge_uid(now, &self.key, uid, owed);
        if let Some(addr) = member.addr {
            cx.debts.charge_address(now, addr, owed.saturating_sub(member.carried.owed(now)));
        }
        cx.stats.message_bytes -= member.messages.bytes();
        cx.stats.members -= 1;
        cx.endings.add(cx.now.mono, mid, &reason);
        cx.note(Note::MemberLeft { channel: self.key.clone(), cid: self.cid, uid, mid, reason });
        Some(member)
    }

    /// The last messages on a connection: the events behind `cursor`, an answer, the close. A slow reader would not
    /// receive the events; all other members get every event before the close.
    fn finish_connection(
        &self,
        cx: &mut Context,
        conn: ConnId,
        cursor: u64,
        answer: Option<Bytes>,
        code: CloseCode,
    ) {
        if code != CloseCode::SLOW_READER {
            for frame in self.log.frames_after(cursor) {
                cx.send(conn, frame);
            }
        }
        if let Some(answer) = answer {
            cx.send(conn, answer);
        }
        cx.close(conn, code);
    }

    pub(super) fn dissolve_after(&mut self, cx: &mut Context, gone: &Member) {
        let creator = gone.named && Some(gone.uid) == self.creator;
        if self.policy.dissolve_on_creator_leave && creator && !self.members.is_empty() {
            self.close(cx, RoomCloseReason::CreatorLeft, None, None);
        }
    }

    /// Closes a member's connection; the membership stays, in grace.
    pub(crate) fn drop_connection(&mut self, cx: &mut Context, uid: UserId, code: CloseCode) {
        let Some(member) = self.members.get_mut(&uid) else { return };
        let Some(conn) = member.conn.take() else { return };
        let cursor = std::mem::replace(&mut member.cursor, self.log.head());
        self.finish_connection(cx, conn, cursor, None, code);
        self.start_grace(cx, uid);
        self.connection_changed(cx, uid, false);
    }

    /// The client or the network has closed the socket.
    pub(crate) fn connection_lost(&mut self, cx: &mut Context, uid: UserId, conn: ConnId) {
        if let Some(member) = self.member_on(uid, conn) {
            member.conn = None;
            self.start_grace(cx, uid);
            self.connection_changed(cx, uid, false);
        }
    }

    fn start_grace(&mut self, cx: &mut Context, uid: UserId) {
        let now = cx.mono();
        if let Some(member) = self.members.get_mut(&uid) {
            member.lost_at = Some(now);
            if member.first_lost.is_none() || now.since(member.connected_at) >= LASTING_MS {
                member.first_lost = Some(now);
            }
            let timers = &cx.config.timers;
            let cap = member.first_lost.unwrap_or(now) + timers.media_cap_ms.max(timers.grace_ms);
            let end = (now + timers.grace_ms).min(cap);
            cx.timers.arm(end, Timer::Grace(self.id, uid));
        }
    }

    /// Moves the begin of silence and grace by the time of a stall.
    pub(crate) fn forgive(&mut self, ms: u64) {
        for member in self.members.values_mut() {
            member.last_inbound = member.last_inbound + ms;
            member.lost_at = member.lost_at.map(|at| at + ms);
            member.first_lost = member.first_lost.map(|at| at + ms);
            member.last_media = member.last_media.map(|at| at + ms);
        }
    }

    /// Ends a membership that has been without a socket for too long (LIV-3).
    pub(crate) fn grace_due(&mut self, cx: &mut Context, uid: UserId) {
        let timers = cx.config.timers;
        let Some(member) = self.members.get(&uid) else { return };
        let Some(lost) = member.lost_at else { return };
        let by_media = member.last_media.map_or(lost, |at| at + timers.media_idle_ms);
        let cap = member.first_lost.unwrap_or(lost) + timers.media_cap_ms.max(timers.grace_ms);
        let end = (lost + timers.grace_ms).max(by_media).min(cap);
        if end <= cx.mono() {
            let reason =
                if member.restored { LeaveReason::ServerRestart } else { LeaveReason::Timeout };
            // A crash ends no channel: its creator had no chance to stay (JOI-8).
            if member.restored {
                self.remove_member(cx, uid, reason, CloseCode::IDLE);
            } else {
                self.end_member(cx, uid, reason, CloseCode::IDLE);
            }
        } else {
            cx.timers.arm(end, Timer::Grace(self.id, uid));
        }
    }

    /// Pings a socket that is silent for a while, and closes it after too long (LIV-2, LIV-5).
    pub(crate) fn liveness_due(&mut self, cx: &mut Context, uid: UserId) {
        let Some(member) = self.members.get_mut(&uid) else { return };
        let Some(conn) = member.conn else { return };
        let (now, timers) = (cx.mono(), cx.config.timers);
        let end = member.last_inbound + timers.dead_after_ms;
        let silent = member.last_inbound + timers.ping_after_ms();
        if end <= now {
            return self.drop_connection(cx, uid, CloseCode::IDLE);
        }
        let mut next = silent;
        if silent <= now {
            member.pinged = true;
            cx.outputs.push_back(Output::Ping { conn });
            next = (now + timers.ping_after_ms()).min(end);
        }
        cx.timers.arm(next, Timer::Liveness(self.id, uid));
    }
}

//! Roles, mutes, kicks and the end of a channel by command.

use lianmai_protocol::limits::{MAX_BAN_S, MAX_HOLD_S, MAX_REASON_BYTES};
use lianmai_protocol::message::event::{
    ClientJoin, ClientLeave, LeaveReason, LiveRoomClose, MuteChange, RoleChanged, RoomCloseReason,
};
use lianmai_protocol::message::media::{Mute, SetRole};
use lianmai_protocol::message::notice::Kicked;
use lianmai_protocol::message::session::{CloseChannel, Done, Kick};
use lianmai_protocol::message::{ChannelEvent, Notice};
use lianmai_protocol::{
    CloseCode, ErrorName, KindSet, Mid, RequestId, Role, RpcError, UserId, codec,
};

use super::member::PendingOn;
use super::session::CommandKey;
use super::text_budget::TextUsage;
use super::{Channel, CommandResult, Reply};
use crate::asks::{AfterWrite, Caller};
use crate::context::Context;
use crate::ids::AskId;
use crate::output::Note;
use crate::restrictions::Maker;
use crate::rows::RowOp;

/// Most demotions of one moderator in a channel: they are in its record, which is written with each.
const MAX_DEMOTED: usize = 256;

impl Channel {
    /// The target of a command with an optional `uid`: the caller, or another member if the caller is a moderator.
    pub(super) fn own_or_moderated(
        &self,
        caller: UserId,
        target: Option<UserId>,
    ) -> Result<UserId, RpcError> {
        let target = target.unwrap_or(caller);
        if target != caller {
            self.require_moderator(caller)?;
            if !self.members.contains_key(&target) {
                return Err(RpcError::new(ErrorName::NoSuchMember).field("uid"));
            }
        }
        Ok(target)
    }

    pub(super) fn require_moderator(&self, caller: UserId) -> Result<(), RpcError> {
        match self.members.get(&caller) {
            Some(member) if member.rights.moderate => Ok(()),
            _ => Err(RpcError::new(ErrorName::Forbidden).message("The method needs `moderate`.")),
        }
    }

    /// Answers a command about `target`: at once if this is the caller itself or nothing changed, otherwise when the
    /// change is written, so that no crash undoes it (RST-5). A repeated change waits as well while the first one is
    /// not known to be stored. `demotes`: `demoted` has changed, too.
    pub(super) fn answer_change(
        &mut self,
        cx: &mut Context,
        caller: UserId,
        command: CommandKey,
        target: UserId,
        changed: bool,
        demotes: bool,
    ) -> CommandResult {
        let Some(member) = self.members.get(&target).filter(|_| caller != target) else {
            return Ok(Reply::Done);
        };
        if changed {
            self.mark_forced(target);
        } else if member.unstored.is_none() && self.unstored.is_none() {
            return Ok(Reply::Done);
        }
        // This write repeats what an earlier one may not have stored.
        let demotes = demotes || self.unstored.is_some();
        self.unwritten |= demotes;
        self.touch(target);
        self.write_rows(cx);
        let ask =
            cx.store(AfterWrite::Change { member: self.member_ref(caller), of: Some(target) });
        if demotes {
            self.unstored = Some(ask);
        }
        if let Some(member) = self.members.get_mut(&target) {
            member.unstored = Some(ask);
        }
        self.set_pending(caller, command, ask, PendingOn::Write);
        Ok(Reply::Deferred)
    }

    /// Marks a change by somebody else: after a crash the client must not undo it before it has seen it (RES-10).
    pub(super) fn mark_forced(&mut self, target: UserId) {
        let head = self.log.head();
        if let Some(member) = self.members.get_mut(&target) {
            member.forced = Some((self.log.epoch(), head));
        }
        self.touch(target);
    }

    pub(super) fn set_role(
        &mut self,
        cx: &mut Context,
        caller: UserId,
        command: CommandKey,
        params: &SetRole,
    ) -> CommandResult {
        let uid = self.own_or_moderated(caller, params.uid)?;
        let member = self.members.get(&uid).ok_or(ErrorName::NoSuchMember)?;
        let (changes, moderated) = (member.role != params.role, uid != caller);
        let kept = self.demoted.contains_key(&uid);
        match params.role {
            Role::Broadcaster if changes => {
                self.promote(cx, uid, moderated)?;
                self.unwritten |= self.demoted.remove(&uid).is_some();
            }
            Role::Audience => {
                if moderated && !kept {
                    self.record_demotion(cx, Some(caller), uid)?;
                }
                if changes {
                    self.demote(cx, uid);
                }
            }
            _ if !changes => {}
            _ => return Err(RpcError::new(ErrorName::BadRole).field("role")),
        }
        let demotes = kept != self.demoted.contains_key(&uid);
        self.answer_change(cx, caller, command, uid, changes || demotes, demotes)
    }

    /// The maker of a restriction by a command.
    fn maker(&self, by: Caller) -> Maker {
        match by {
            Caller::Admin(_) => Maker::Operator,
            Caller::Member(uid) if self.members.get(&uid).is_some_and(|member| member.named) => {
                Maker::Moderator(uid)
            }
            Caller::Member(uid) => Maker::Unnamed(uid),
        }
    }

    /// Ends the demotions that a moderator has made, and returns their number; `None` if there is none, and all
    /// changes are known to be stored.
    pub(crate) fn lift_demotions(&mut self, cx: &mut Context, by: UserId) -> Option<usize> {
        let before = self.demoted.len();
        self.demoted.retain(|_, (of, _)| *of != Some(by));
        let allowed = before - self.demoted.len();
        if allowed == 0 && self.unstored.is_none() {
            return None;
        }
        self.rewrite(cx, None);
        Some(allowed)
    }

    /// From now on the member does not become broadcaster by itself (ROL-4).
    pub(super) fn record_demotion(
        &mut self,
        cx: &mut Context,
        by: Option<UserId>,
        uid: UserId,
    ) -> Result<(), RpcError> {
        let own = self.demoted.values().filter(|(of, _)| *of == by).count();
        let slot = if own < MAX_DEMOTED {
            let maker = by.map_or(Maker::Operator, |by| self.maker(Caller::Member(by)));
            Some(cx.restrictions.take_slot(&self.key.appkey, maker)?)
        } else {
            // The demotion of a uid that has left makes room.
            let mut own = self.demoted.iter().filter(|(_, (of, _))| *of == by);
            let gone = own.find(|(uid, _)| !self.members.contains_key(uid)).map(|(uid, _)| *uid);
            let gone = gone.ok_or(ErrorName::TooManyBans)?;
            self.demoted.remove(&gone).and_then(|(_, slot)| slot)
        };
        self.demoted.insert(uid, (by, slot));
        self.unwritten = true;
        Ok(())
    }

    /// Makes a member broadcaster: `clientJoin`, `roleChanged`, one group (ROL-1, ROL-2). After a demotion by a
    /// moderator it needs a moderator for this (ROL-4).
    pub(super) fn promote(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        moderated: bool,
    ) -> Result<(), RpcError> {
        if self.broadcasters >= self.max_broadcasters(cx) {
            return Err(ErrorName::TooManyBroadcasters.into());
        }
        let member = self.members.get_mut(&uid).ok_or(ErrorName::NoSuchMember)?;
        let forbidden = |message: &str| Err(RpcError::new(ErrorName::Forbidden).message(message));
        if !member.rights.broadcast {
            return forbidden("The method needs `broadcast`.");
        }
        if !moderated && self.demoted.contains_key(&uid) {
            return forbidden("A moderator made the member audience, and has to allow it.");
        }
        let old = TextUsage::of(member);
        let new = TextUsage { visible: true, ..old };
        self.text_budget.check(cx, Some(old), new)?;
        self.text_budget.remove(old);
        self.text_budget.add(new);
        member.role = Role::Broadcaster;
        self.touched.insert(uid);
        let mid = member.mid;
        let join = client_join(member);
        self.broadcasters += 1;
        self.emit(cx, &ChannelEvent::ClientJoin(join));
        self.role_changed(cx, uid, mid, Role::Broadcaster);
        Ok(())
    }

    /// Makes a member audience: `streamRemoved` of each kind, `roleChanged`, `clientLeave`, one group (ROL-1, ROL-2).
    pub(super) fn demote(&mut self, cx: &mut Context, uid: UserId) {
        self.remove_streams(cx, uid, KindSet::ALL);
        self.touch(uid);
        let Some(member) = self.members.get_mut(&uid) else { return };
        self.text_budget.keep_hidden_texts(member);
        self.text_budget.remove(TextUsage::of(member));
        member.role = Role::Audience;
        // Without a check: it has these texts already.
        self.text_budget.add(TextUsage::of(member));
        let mid = member.mid;
        self.broadcasters -= 1;
        self.role_changed(cx, uid, mid, Role::Audience);
        let reason = LeaveReason::RoleChanged;
        self.emit(cx, &ChannelEvent::ClientLeave(ClientLeave { uid, mid, reason }));
        self.supersede_push(uid);
    }

    fn role_changed(&mut self, cx: &mut Context, uid: UserId, mid: Mid, role: Role) {
        let (channel, cid) = (self.key.clone(), self.cid);
        cx.note(Note::RoleChanged { channel, cid, uid, mid, role: role.clone() });
        self.emit(cx, &ChannelEvent::RoleChanged(RoleChanged { uid, mid, role }));
    }

    pub(super) fn mute(
        &mut self,
        cx: &mut Context,
        caller: UserId,
        command: CommandKey,
        params: &Mute,
        on: bool,
    ) -> CommandResult {
        let before = self.log.head();
        let uid = self.own_or_moderated(caller, params.uid)?;
        let kinds = params.media_type.kinds();
        if kinds.is_empty() || !kinds.difference(KindSet::AUDIO_VIDEO).is_empty() {
            return Err(RpcError::new(ErrorName::BadMediaType).field("mediaType"));
        }
        let member = self.members.get_mut(&uid).ok_or(ErrorName::NoSuchMember)?;
        // No message would tell an audience member that it is muted, so only the member itself can do it.
        if uid != caller && !member.is_visible() {
            return Err(RpcError::new(ErrorName::NoSuchMember).field("uid"));
        }
        let changed =
            if on { kinds.difference(member.muted) } else { kinds.intersection(member.muted) };
        member.muted = if on { member.muted.union(kinds) } else { member.muted.difference(kinds) };
        let (mid, visible) = (member.mid, member.is_visible());
        self.touch(uid);
        for kind in changed.iter().cloned() {
            self.mute_changed(cx, (uid, mid), caller, kind, on);
        }
        // An audience member is invisible: its mutes become public with a later clientJoin (MUT-3).
        for kind in changed.iter().filter(|_| visible) {
            let change = MuteChange { uid, mid, media_type: kind.clone() };
            let event =
                if on { ChannelEvent::Muted(change) } else { ChannelEvent::Unmuted(change) };
            self.emit(cx, &event);
        }
        self.answer_change(cx, caller, command, uid, before != self.log.head(), false)
    }

    pub(super) fn kick(
        &mut self,
        cx: &mut Context,
        caller: UserId,
        command: CommandKey,
        params: Kick,
    ) -> CommandResult {
        self.require_moderator(caller)?;
        if params.uid == caller {
            return Err(ErrorName::SelfTarget.into());
        }
        let ask = self.begin_kick(cx, params, Caller::Member(caller))?;
        self.set_pending(caller, command, ask, PendingOn::Write);
        Ok(Reply::Deferred)
    }

    /// First step of a kick: the member's input is ignored, and its ban is written (KIC-1, RST-5). A uid that is no
    /// member is banned, too.
    pub(crate) fn begin_kick(
        &mut self,
        cx: &mut Context,
        params: Kick,
        by: Caller,
    ) -> Result<AskId, RpcError> {
        check_kick(&params)?;
        let there = self.members.contains_key(&params.uid);
        if !there && params.duration_s == 0 {
            return Err(RpcError::new(ErrorName::NoSuchMember).field("uid"));
        }
        cx.ban(&self.key, &params, self.maker(by))?;
        self.journal_leave(cx, params.uid, LeaveReason::Kicked);
        let mid = self.members.get_mut(&params.uid).map(|member| {
            member.being_kicked = true;
            member.pending = None;
            member.mid
        });
        // In one write with the ban: no crash brings back a banned member.
        self.touch(params.uid);
        self.write_rows(cx);
        Ok(cx.store(AfterWrite::Kick { channel: Some(self.id), mid, params, by }))
    }

    /// Second step: the membership ends.
    pub(crate) fn finish_kick(
        &mut self,
        cx: &mut Context,
        mid: Option<Mid>,
        params: &Kick,
        caller: Option<(UserId, AskId)>,
        stored: bool,
    ) {
        let uid = params.uid;
        // Another membership of the uid has begun after the kick.
        let goes = mid.is_some_and(|mid| self.has_membership(uid, mid));
        let mut gone = None;
        if goes {
            let reason = params.reason.clone();
            let notice = Kicked { reason, duration_s: params.duration_s };
            self.notify(cx, uid, &Notice::Kicked(notice));
            gone = self.remove_member(cx, uid, LeaveReason::Kicked, CloseCode::KICKED);
        }
        if let Some((caller, ask)) = caller
            && self.awaits(caller, ask)
        {
            let outcome = if stored { Ok(Reply::Done) } else { Err(not_stored()) };
            self.finish_pending(cx, caller, "kick", outcome);
        }
        // If the kicked member was the creator, the channel may end: the answer comes before that.
        if let Some(gone) = gone {
            self.dissolve_after(cx, &gone);
        }
    }

    pub(super) fn close_channel(
        &mut self,
        cx: &mut Context,
        caller: UserId,
        command: CommandKey,
        params: CloseChannel,
    ) -> CommandResult {
        self.require_moderator(caller)?;
        let ask = self.begin_close(cx, params, Caller::Member(caller))?;
        self.set_pending(caller, command, ask, PendingOn::Write);
        Ok(Reply::Deferred)
    }

    /// First step of a close: the hold is written.
    pub(crate) fn begin_close(
        &mut self,
        cx: &mut Context,
        params: CloseChannel,
        by: Caller,
    ) -> Result<AskId, RpcError> {
        check_close(&params)?;
        cx.hold(&self.key, &params, self.maker(by))?;
        self.journal_end(cx);
        cx.ops.push(RowOp::DropChannel(self.key.clone()));
        self.ending = true;
        Ok(cx.store(AfterWrite::Close { channel: self.id, text: params.reason, by }))
    }

    /// Second step: the channel ends.
    pub(crate) fn finish_close(
        &mut self,
        cx: &mut Context,
        text: Option<String>,
        caller: Option<(UserId, AskId)>,
        stored: bool,
    ) {
        let pending = caller.filter(|(caller, ask)| self.awaits(*caller, *ask));
        let reason =
            if caller.is_some() { RoomCloseReason::Closed } else { RoomCloseReason::Admin };
        let answer = pending.and_then(|(caller, _)| {
            let pending = self.members.get_mut(&caller)?.pending.take()?;
            Some((caller, pending.command.id, stored))
        });
        self.close(cx, reason, text, answer);
    }

    /// Ends the channel: `liveRoomClose` is the last event, then the answer, then every connection.
    pub(super) fn close(
        &mut self,
        cx: &mut Context,
        reason: RoomCloseReason,
        text: Option<String>,
        answer: Option<(UserId, RequestId, bool)>,
    ) {
        self.end_tasks(cx);
        let event = LiveRoomClose { cid: self.cid, reason, text };
        self.emit(cx, &ChannelEvent::LiveRoomClose(event));
        self.flush(cx);
        if let Some((uid, id, stored)) = answer {
            cx.stats.commands += 1;
            let text = if stored {
                codec::encode_result(id, &Done { seq: self.log.head() })
            } else {
                codec::encode_error(Some(id), &not_stored())
            };
            self.send_behind_events(cx, uid, text.into());
        }
        self.closed = true;
        let members: Vec<_> = self.members.keys().copied().collect();
        for uid in &members {
            self.remove_streams(cx, *uid, KindSet::ALL);
        }
        for uid in members {
            self.remove_member(cx, uid, LeaveReason::ChannelClosed, CloseCode::CHANNEL_CLOSED);
        }
    }
}

pub(crate) fn not_stored() -> RpcError {
    ErrorName::NotStored.into()
}

/// The event for a member that becomes visible.
pub(super) fn client_join(member: &super::member::Member) -> ClientJoin {
    ClientJoin {
        uid: member.uid,
        mid: member.mid,
        name: member.name(),
        attributes: member.attributes.clone(),
        muted: member.muted,
    }
}

fn check_reason(reason: Option<&String>) -> Result<(), RpcError> {
    if reason.is_some_and(|text| text.len() > MAX_REASON_BYTES) {
        return Err(RpcError::new(ErrorName::BadReason).field("reason"));
    }
    Ok(())
}

pub(crate) fn check_kick(params: &Kick) -> Result<(), RpcError> {
    check_reason(params.reason.as_ref())?;
    if params.duration_s > MAX_BAN_S {
        return Err(RpcError::new(ErrorName::BadDuration).field("durationS"));
    }
    Ok(())
}

fn check_close(params: &CloseChannel) -> Result<(), RpcError> {
    check_reason(params.reason.as_ref())?;
    if params.hold_s > MAX_HOLD_S {
        return Err(RpcError::new(ErrorName::BadDuration).field("holdS"));
    }
    Ok(())
}

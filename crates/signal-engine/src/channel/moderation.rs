//! Roles, mutes, kicks and the end of a channel by command.

use lianmai_protocol::limits::{MAX_BAN_S, MAX_HOLD_S, MAX_REASON_BYTES};
use lianmai_protocol::message::event::{
    ClientJoin, ClientLeave, LeaveReason, LiveRoomClose, MuteChange, RoleChanged, RoomCloseReason,
};
use lianmai_protocol::message::media::{Mute, SetRole};
use lianmai_protocol::message::notice::Kicked;
use lianmai_protocol::message::session::{CloseChannel, Done, Kick};
use lianmai_protocol::message::{ChannelEvent, Notice};
use lianmai_protocol::{CloseCode, ErrorName, KindSet, RequestId, Role, RpcError, UserId, codec};

use super::{Channel, Outcome, Reply};
use crate::context::Context;
use crate::output::Output;

impl Channel {
    /// Whom a command with an optional `uid` is about: oneself, or somebody else for a moderator.
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

    pub(super) fn set_role(
        &mut self,
        cx: &mut Context,
        caller: UserId,
        params: &SetRole,
    ) -> Outcome {
        let uid = self.own_or_moderated(caller, params.uid)?;
        let member = self.members.get(&uid).ok_or(ErrorName::NoSuchMember)?;
        if member.role == params.role {
            return Ok(Reply::Done);
        }
        match params.role {
            Role::Broadcaster => self.promote(cx, uid)?,
            Role::Audience => self.demote(cx, uid),
            _ => return Err(RpcError::new(ErrorName::BadRole).field("role")),
        }
        Ok(Reply::Done)
    }

    /// `clientJoin`, `roleChanged`: one group (contract rule A4).
    fn promote(&mut self, cx: &mut Context, uid: UserId) -> Result<(), RpcError> {
        if self.broadcasters >= cx.config.limits.broadcasters {
            return Err(ErrorName::TooManyBroadcasters.into());
        }
        let member = self.members.get_mut(&uid).ok_or(ErrorName::NoSuchMember)?;
        if !member.rights.broadcast {
            return Err(
                RpcError::new(ErrorName::Forbidden).message("The method needs `broadcast`.")
            );
        }
        member.role = Role::Broadcaster;
        let mid = member.mid;
        let join = client_join(member);
        self.broadcasters += 1;
        self.emit(cx, &ChannelEvent::ClientJoin(join));
        let role = Role::Broadcaster;
        self.emit(cx, &ChannelEvent::RoleChanged(RoleChanged { uid, mid, role }));
        Ok(())
    }

    /// `streamRemoved` of each kind, `roleChanged`, `clientLeave`: one group (contract rule A4).
    pub(super) fn demote(&mut self, cx: &mut Context, uid: UserId) {
        self.remove_streams(cx, uid, KindSet::ALL);
        let Some(member) = self.members.get_mut(&uid) else { return };
        member.role = Role::Audience;
        let mid = member.mid;
        self.broadcasters -= 1;
        let role = Role::Audience;
        self.emit(cx, &ChannelEvent::RoleChanged(RoleChanged { uid, mid, role }));
        let reason = LeaveReason::RoleChanged;
        self.emit(cx, &ChannelEvent::ClientLeave(ClientLeave { uid, mid, reason }));
        self.supersede_push(cx, uid);
    }

    pub(super) fn mute(
        &mut self,
        cx: &mut Context,
        caller: UserId,
        params: &Mute,
        on: bool,
    ) -> Outcome {
        let uid = self.own_or_moderated(caller, params.uid)?;
        let kinds = params.media_type.kinds();
        if kinds.is_empty() || !kinds.difference(KindSet::AUDIO_VIDEO).is_empty() {
            return Err(RpcError::new(ErrorName::BadMediaType).field("mediaType"));
        }
        let member = self.members.get_mut(&uid).ok_or(ErrorName::NoSuchMember)?;
        // Nothing would tell an audience member that it is muted: only it can do that.
        if uid != caller && !member.is_visible() {
            return Err(RpcError::new(ErrorName::NoSuchMember).field("uid"));
        }
        let changed =
            if on { kinds.difference(member.muted) } else { kinds.intersection(member.muted) };
        member.muted = if on { member.muted.union(kinds) } else { member.muted.difference(kinds) };
        let (mid, visible) = (member.mid, member.is_visible());
        // An audience member is invisible: its mutes become public with a later clientJoin (rule C20).
        for kind in changed.iter().filter(|_| visible) {
            let change = MuteChange { uid, mid, media_type: kind.clone() };
            let event =
                if on { ChannelEvent::Muted(change) } else { ChannelEvent::Unmuted(change) };
            self.emit(cx, &event);
        }
        Ok(Reply::Done)
    }

    pub(super) fn kick(
        &mut self,
        cx: &mut Context,
        caller: UserId,
        id: RequestId,
        params: &Kick,
    ) -> Outcome {
        self.require_moderator(caller)?;
        if params.uid == caller {
            return Err(ErrorName::SelfTarget.into());
        }
        self.kick_member(cx, params)?;
        // Where the kicked one was the creator, the channel may end: the answer comes before that.
        self.answer(cx, caller, id, Some("kick"), Ok(Reply::Done));
        self.dissolve_after(cx, params.uid);
        Ok(Reply::Over)
    }

    /// As [`Channel::kick`], for the admin API.
    pub(crate) fn kick_by_admin(
        &mut self,
        cx: &mut Context,
        params: &Kick,
    ) -> Result<(), RpcError> {
        self.kick_member(cx, params)?;
        self.dissolve_after(cx, params.uid);
        Ok(())
    }

    /// A uid that is not here is banned all the same.
    fn kick_member(&mut self, cx: &mut Context, params: &Kick) -> Result<(), RpcError> {
        check_kick(params)?;
        if !self.members.contains_key(&params.uid) && params.duration_s == 0 {
            return Err(RpcError::new(ErrorName::NoSuchMember).field("uid"));
        }
        cx.restrictions.ban(&self.key, params.uid, cx.now, params.duration_s);
        let notice = Kicked { reason: params.reason.clone(), duration_s: params.duration_s };
        self.notify(cx, params.uid, &Notice::Kicked(notice));
        if self.members.contains_key(&params.uid) {
            self.remove_member(cx, params.uid, LeaveReason::Kicked, CloseCode::KICKED);
        }
        Ok(())
    }

    pub(super) fn close_channel(
        &mut self,
        cx: &mut Context,
        caller: UserId,
        id: RequestId,
        params: &CloseChannel,
    ) -> Outcome {
        self.require_moderator(caller)?;
        check_close(params)?;
        cx.restrictions.hold(&self.key, cx.now, params.hold_s);
        let answer = Some((caller, id));
        self.close(cx, RoomCloseReason::Closed, params.reason.clone(), answer);
        Ok(Reply::Over)
    }

    /// As [`Channel::close_channel`], for the admin API.
    pub(crate) fn close_by_admin(
        &mut self,
        cx: &mut Context,
        params: &CloseChannel,
    ) -> Result<(), RpcError> {
        check_close(params)?;
        cx.restrictions.hold(&self.key, cx.now, params.hold_s);
        self.close(cx, RoomCloseReason::Admin, params.reason.clone(), None);
        Ok(())
    }

    /// Ends the channel: `liveRoomClose` is the last event, then the answer, then every connection.
    pub(super) fn close(
        &mut self,
        cx: &mut Context,
        reason: RoomCloseReason,
        text: Option<String>,
        answer: Option<(UserId, RequestId)>,
    ) {
        let event = LiveRoomClose { cid: self.cid, reason, text };
        self.emit(cx, &ChannelEvent::LiveRoomClose(event));
        self.flush(cx);
        if let Some((uid, id)) = answer {
            cx.stats.commands += 1;
            let done = Done { seq: self.log.head() };
            self.send_behind_events(cx, uid, codec::encode_result(id, &done));
        }
        for generation in std::mem::take(&mut self.streams).into_keys() {
            cx.streams.remove(&generation);
            cx.stats.streams -= 1;
            cx.outputs.push_back(Output::CutStream { generation });
        }
        for member in std::mem::take(&mut self.members).into_values() {
            cx.stats.members -= 1;
            self.note_left(cx, member.uid, LeaveReason::ChannelClosed);
            if let Some(conn) = member.conn {
                cx.close(conn, CloseCode::CHANNEL_CLOSED);
            }
        }
        self.broadcasters = 0;
        self.closed = true;
    }
}

/// What others are told of a member that becomes visible.
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

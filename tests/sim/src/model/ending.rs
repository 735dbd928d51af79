//! The ends of memberships and channels: their events, their cuts, and what the server remembers of them.

use lianmai_protocol::message::event::{LeaveReason, RoomCloseReason};
use lianmai_protocol::message::session::ResumeReason;
use lianmai_protocol::{CloseCode, ErrorName, KindSet, UserId};
use lianmai_signal_engine::ChannelKey;

use super::state::{Member, MemberRef, ModelEvent};
use super::{Expect, InputStep, Model};

impl Model {
    /// The events and cuts of an end; the membership still exists.
    pub(super) fn announce_end(
        &mut self,
        who: MemberRef<'_>,
        reason: LeaveReason,
        step: &mut InputStep<'_>,
    ) {
        let MemberRef { s, key, uid } = who;
        self.remove_streams(who, KindSet::ALL, step);
        self.restrict_pulls(who, KindSet::NONE, step);
        let Some(member) = self.member(who) else { return };
        let (mid, visible) = (member.mid, member.is_visible());
        if visible {
            self.emit(s, key, ModelEvent::Leave { uid, mid, reason }, step.now);
        }
    }

    pub(super) fn forget(&mut self, who: MemberRef<'_>, reason: &LeaveReason, now: u64) {
        let MemberRef { s, key, uid } = who;
        let Some(channel) = self.channel(s, key) else { return };
        if channel.members.get(&uid).is_some_and(Member::is_visible) {
            channel.keep_hidden_texts(uid);
        }
        if let Some(member) = channel.members.remove(&uid) {
            // The end of a visible member is an event, which counts against its rate.
            let pays = i64::from(member.is_visible()) * 1_000;
            let budget = (member.left(now) - pays, now);
            self.shards[s].debts.insert((key.clone(), uid), budget);
            self.ended_as(s, member.mid, reason);
        }
    }

    fn ended_as(&mut self, s: usize, mid: lianmai_protocol::Mid, reason: &LeaveReason) {
        let reason = match reason {
            LeaveReason::Left => ResumeReason::Left,
            LeaveReason::Kicked => ResumeReason::Kicked,
            LeaveReason::Replaced => ResumeReason::Replaced,
            LeaveReason::TokenExpired => ResumeReason::TokenExpired,
            LeaveReason::ChannelClosed => ResumeReason::ChannelClosed,
            _ => return,
        };
        self.shards[s].endings.insert(mid, reason);
    }

    pub(super) fn remove(
        &mut self,
        who: MemberRef<'_>,
        reason: LeaveReason,
        code: CloseCode,
        step: &mut InputStep<'_>,
    ) {
        self.announce_end(who, reason.clone(), step);
        self.drop_conn(who, code, step);
        self.forget(who, &reason, step.now);
    }

    /// Closes the channel if its creator ended and the app is configured so.
    pub(super) fn dissolve(&mut self, who: MemberRef<'_>, named: bool, step: &mut InputStep<'_>) {
        let MemberRef { s, key, uid } = who;
        let Some(channel) = self.channel(s, key) else { return };
        if channel.policy.dissolve_on_creator_leave
            && channel.creator == uid
            && named
            && !channel.members.is_empty()
        {
            self.close_channel(s, key, RoomCloseReason::CreatorLeft, None, (None, true), step);
        }
    }

    pub(super) fn close_channel(
        &mut self,
        s: usize,
        key: &ChannelKey,
        reason: RoomCloseReason,
        text: Option<String>,
        (answer, stored): (Option<(UserId, lianmai_protocol::RequestId)>, bool),
        step: &mut InputStep<'_>,
    ) {
        let Some(channel) = self.channel(s, key) else { return };
        let event = ModelEvent::Close { cid: channel.cid, reason, text };
        self.emit(s, key, event, step.now);
        let Some(channel) = self.end_channel(s, key) else { return };
        if let Some((uid, id)) = answer
            && let Some(conn) = channel.members.get(&uid).and_then(|member| member.conn)
        {
            let done = Expect::Done { seq: channel.head() };
            let expect = if stored { done } else { Expect::Error(ErrorName::NotStored) };
            step.answers.push((conn, Some(id), expect));
        }
        step.cuts.extend(channel.streams.keys());
        for (uid, member) in &channel.members {
            self.shards[s].debts.insert((key.clone(), *uid), member.budget);
            self.ended_as(s, member.mid, &LeaveReason::ChannelClosed);
            if let Some(conn) = member.conn {
                self.shards[s].connections.remove(&conn);
                step.closes.push((conn, CloseCode::CHANNEL_CLOSED));
            }
        }
    }
}

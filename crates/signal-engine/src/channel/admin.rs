//! Commands of an operator for one channel: rules, roles, kinds that a member may not publish, attributes, messages;
//! and the admin API's views of a channel and its members. Comes in: commands of the admin API. Goes out: events to
//! all, and whether there is a change to write. Deliberately absent: kicks and closes, which moderators can make as
//! well (`moderation`).

use bytes::Bytes;
use lianmai_protocol::attributes::escaped_bytes;
use lianmai_protocol::limits::MAX_MESSAGE_RECIPIENTS;
use lianmai_protocol::message::event::{ChannelMessage, ChannelUpdate, LeaveReason};
use lianmai_protocol::message::notice::TargetedMessage;
use lianmai_protocol::message::{ChannelEvent, Notice};
use lianmai_protocol::{
    Attributes, ErrorName, KindSet, Map, MediaKind, Pub, Rights, Role, RpcError, UserId, WallTime,
    codec,
};

use super::Channel;
use super::member::Member;
use super::talk::{check_attributes, patched};
use crate::config::DuplicatePolicy;
use crate::context::Context;
use crate::ids::AskId;
use crate::output::{ChannelDetail, MemberDetail, Note};
use crate::record::ChannelRules;

/// Most uids of a channel with barred kinds: they are in its record.
const MAX_BARRED: usize = 1_024;
/// A channel that was created before its first join waits this long for it, in milliseconds.
const PREPARED_MS: u64 = 24 * 3600 * 1000;

impl Channel {
    /// Whether it lives without members.
    pub(super) fn outlives_members(&self) -> bool {
        self.rules.keep_empty || self.prepared_until.is_some()
    }

    /// Opens a channel that has no members yet.
    pub(crate) fn prepare(
        &mut self,
        cx: &mut Context,
        rules: ChannelRules,
        attributes: Attributes,
    ) {
        self.prepared_until = Some(WallTime(cx.now.wall.0 + PREPARED_MS));
        self.attributes = attributes;
        self.set_rules(cx, rules);
        self.opened = true;
        cx.note(Note::ChannelOpened { channel: self.key.clone(), cid: self.cid });
    }

    /// Checks the attributes that a channel is created with.
    pub(crate) fn check_attributes(cx: &Context, attributes: &Attributes) -> Result<(), RpcError> {
        check_attributes(attributes, cx.config.limits.attribute_bytes)
    }

    /// Sets the rules of this channel, for later joins and for its end.
    pub(crate) fn set_rules(&mut self, cx: &Context, rules: ChannelRules) {
        let Some(mut policy) = cx.config.apps.get(&self.key.appkey).cloned() else { return };
        policy.duplicate = match rules.reject_new {
            Some(true) => DuplicatePolicy::RejectNew,
            Some(false) => DuplicatePolicy::KickOld,
            None => policy.duplicate,
        };
        policy.creator_moderates = rules.creator_moderates.unwrap_or(policy.creator_moderates);
        policy.dissolve_on_creator_leave =
            rules.dissolve_on_creator_leave.unwrap_or(policy.dissolve_on_creator_leave);
        self.policy = policy;
        self.unwritten |= self.rules != rules;
        self.rules = rules;
    }

    pub(super) fn max_members(&self, cx: &Context) -> usize {
        let own = self.rules.max_members.map_or(usize::MAX, |most| most as usize);
        own.min(cx.config.limits.members)
    }

    pub(super) fn max_broadcasters(&self, cx: &Context) -> usize {
        let own = self.rules.max_broadcasters.map_or(usize::MAX, |most| most as usize);
        own.min(cx.config.limits.broadcasters)
    }

    /// Kinds that a uid may not publish here, whatever its token grants.
    pub(super) fn barred_of(&self, uid: UserId) -> KindSet {
        self.barred.get(&uid).copied().unwrap_or(KindSet::NONE)
    }

    /// The rights of a member in this channel.
    pub(super) fn rights_of(&self, member: &Member) -> Rights {
        let publish = member.rights.publish.difference(self.barred_of(member.uid));
        Rights { publish, ..member.rights }
    }

    /// Writes the channel after a request of an operator, and the member `of`, if it is one. A request that changes
    /// nothing writes them, too: an earlier write of the same state may have failed.
    pub(crate) fn rewrite(&mut self, cx: &mut Context, of: Option<UserId>) {
        self.unwritten = true;
        if let Some(uid) = of.filter(|uid| self.members.contains_key(uid)) {
            self.touch(uid);
        }
        self.write_rows(cx);
    }

    /// Sets the write that has the change by an operator (RST-5).
    pub(crate) fn set_unstored(&mut self, of: Option<UserId>, ask: AskId) {
        self.unstored = Some(ask);
        if let Some(member) = of.and_then(|of| self.members.get_mut(&of)) {
            member.unstored = Some(ask);
        }
    }

    /// Sets the barred kinds of a uid, which need not be a member; it may publish all others again.
    pub(crate) fn set_barred_kinds(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        kinds: KindSet,
    ) -> Result<(), RpcError> {
        let before = self.barred_of(uid);
        if before == kinds {
            return Ok(());
        }
        if kinds.is_empty() {
            self.barred.remove(&uid);
        } else {
            if before.is_empty() && self.barred.len() >= MAX_BARRED {
                return Err(ErrorName::TooManyBans.into());
            }
            self.barred.insert(uid, kinds);
        }
        if self.members.contains_key(&uid) {
            self.remove_streams(cx, uid, kinds);
            self.mark_forced(uid);
        }
        Ok(())
    }

    /// As a moderator's `setRole` of somebody else.
    pub(crate) fn assign_role(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        role: &Role,
    ) -> Result<(), RpcError> {
        let no_such = || RpcError::new(ErrorName::NoSuchMember).field("uid");
        let member =
            self.members.get(&uid).filter(|member| !member.being_kicked).ok_or_else(no_such)?;
        let (changes, kept) = (member.role != *role, self.demoted.contains_key(&uid));
        match role {
            Role::Broadcaster => {
                if changes {
                    self.promote(cx, uid, true)?;
                }
                self.demoted.remove(&uid);
            }
            Role::Audience => {
                if !kept {
                    self.record_demotion(cx, None, uid)?;
                }
                if changes {
                    self.demote(cx, uid);
                }
            }
            _ => return Err(RpcError::new(ErrorName::BadRole).field("role")),
        }
        let changed = changes || kept != self.demoted.contains_key(&uid);
        if changed {
            self.mark_forced(uid);
        }
        Ok(())
    }

    pub(crate) fn patch_attributes(
        &mut self,
        cx: &mut Context,
        patch: &Map<String, Option<String>>,
    ) -> Result<(), RpcError> {
        let max_bytes = cx.config.limits.attribute_bytes;
        let (attributes, changed) = patched(&self.attributes, patch, max_bytes)?;
        if !changed {
            return Ok(());
        }
        self.attributes = attributes.clone();
        self.emit(cx, &ChannelEvent::ChannelUpdate(ChannelUpdate { attributes }));
        Ok(())
    }

    /// Sends a message in the name of a uid, to all members or to some. Returns the number of members that it went to.
    pub(crate) fn announce(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        data: &str,
        to: Option<&[UserId]>,
    ) -> Result<u64, RpcError> {
        if escaped_bytes(data) > cx.config.limits.message_bytes {
            return Err(RpcError::new(ErrorName::MessageTooLarge).field("data"));
        }
        let Some(to) = to else {
            let message = ChannelMessage { uid, data: data.to_owned() };
            self.emit(cx, &ChannelEvent::Message(message));
            return Ok(self.members.len() as u64);
        };
        if to.len() > MAX_MESSAGE_RECIPIENTS {
            return Err(RpcError::new(ErrorName::TooManyRecipients).field("to"));
        }
        let mut delivered = 0;
        for recipient in to.iter().collect::<std::collections::BTreeSet<_>>() {
            delivered += u64::from(self.send_targeted(cx, *recipient, uid, data));
        }
        Ok(delivered)
    }

    /// Sends a targeted message, and keeps it until it has arrived (RES-8). Returns whether the recipient is a member.
    pub(super) fn send_targeted(
        &mut self,
        cx: &mut Context,
        to: UserId,
        from: UserId,
        data: &str,
    ) -> bool {
        let Some(member) = self.members.get_mut(&to) else { return false };
        let n = member.messages.head + 1;
        let message = TargetedMessage { uid: from, data: data.to_owned(), n };
        let text = Bytes::from(codec::encode_notice(&Notice::Message(message)));
        let before = member.messages.bytes();
        member.messages.push(text.clone(), cx.message_room(text.len()));
        cx.stats.message_bytes = cx.stats.message_bytes - before + member.messages.bytes();
        self.send_behind_events(cx, to, text);
        true
    }

    /// Appends the end of a membership with the present write; it becomes visible after that.
    pub(super) fn journal_leave(&self, cx: &mut Context, uid: UserId, reason: LeaveReason) {
        let Some(member) = self.members.get(&uid) else { return };
        let (cid, mid) = (self.cid, member.mid);
        for (kind, publication) in publications(member) {
            let channel = self.key.clone();
            cx.journal_event(&Note::StreamRemoved { channel, cid, uid, mid, kind, publication });
        }
        let channel = self.key.clone();
        cx.journal_event(&Note::MemberLeft { channel, cid, uid, mid, reason });
        if cx.config.records_events() {
            cx.journal.mark_left(mid);
        }
    }

    /// As [`Channel::journal_leave`], for the whole channel.
    pub(super) fn journal_end(&self, cx: &mut Context) {
        for uid in self.members.keys() {
            self.journal_leave(cx, *uid, LeaveReason::ChannelClosed);
        }
        self.journal_task_ends(cx);
        cx.journal_event(&Note::ChannelEnded { channel: self.key.clone(), cid: self.cid });
        if cx.config.records_events() {
            cx.journal.mark_ended(self.cid);
        }
    }

    /// The channel in full, for the admin API.
    pub(crate) fn detail(&self) -> ChannelDetail {
        ChannelDetail {
            view: self.view(),
            attributes: self.attributes.clone(),
            rules: self.rules,
            prepared_until: self.prepared_until,
        }
    }

    /// Up to `limit` members after a uid, in the order of uids.
    pub(crate) fn member_details(&self, after: Option<UserId>, limit: usize) -> Vec<MemberDetail> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let members = self.members.range((from, Unbounded)).map(|(_, member)| member);
        members.take(limit).map(|member| self.member_detail(member)).collect()
    }

    /// One member.
    pub(crate) fn member_detail_of(&self, uid: UserId) -> Option<MemberDetail> {
        self.members.get(&uid).map(|member| self.member_detail(member))
    }

    fn member_detail(&self, member: &Member) -> MemberDetail {
        MemberDetail {
            uid: member.uid,
            mid: member.mid,
            role: member.role.clone(),
            name: member.name(),
            attributes: member.attributes.clone(),
            connected: member.conn.is_some(),
            rights: self.rights_of(member),
            barred: self.barred_of(member.uid),
            muted: member.muted,
            streams: publications(member).collect(),
        }
    }
}

/// The publications of a member.
fn publications(member: &Member) -> impl Iterator<Item = (MediaKind, Pub)> + '_ {
    let kinds = MediaKind::ALL.iter();
    kinds.filter_map(|kind| Some((kind.clone(), member.publication(kind)?)))
}

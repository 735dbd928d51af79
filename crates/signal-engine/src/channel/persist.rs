//! Stores a channel as records, and restores it from these (ADR 0009). Comes in: records. Goes out: records. A member
//! is written after each change that others can see, its session only at a clean stop.

use std::collections::BTreeMap;

use bytes::Bytes;
use lianmai_protocol::{MediaKind, MonoTime, Pub, RequestId, Role, UserId};

use super::Channel;
use super::log::EventLog;
use super::media::{Stream, Viewer};
use super::member::{Member, slot_of};
use super::session::{Answers, CommandKey, Messages, Tickets};
use super::text_budget::TextUsage;
use super::urls::IssuedUrl;
use crate::config::AppPolicy;
use crate::context::Context;
use crate::history::HistoryStep;
use crate::ids::ChannelRef;
use crate::key::ChannelKey;
use crate::output::Note;
use crate::record::{
    ChannelRecord, MAX_NUMBER, MemberRecord, PullRecord, PushRecord, SessionRecord,
};
use crate::restrictions::Maker;
use crate::rows::{Row, RowOp};
use crate::session_rate::SessionRate;
use crate::timers::Timer;

impl Channel {
    /// The row of a member must be written.
    pub(super) fn touch(&mut self, uid: UserId) {
        self.touched.insert(uid);
    }

    /// Hands the rows to write to the context.
    pub(super) fn write_rows(&mut self, cx: &mut Context) {
        // A closed channel is deleted as a whole.
        if self.ending || self.closed {
            return;
        }
        if std::mem::take(&mut self.unwritten) && !self.is_over() {
            cx.ops.push(RowOp::put_channel(&self.key, self.record(None)));
        }
        for uid in std::mem::take(&mut self.touched) {
            cx.ops.push(match self.members.get(&uid) {
                Some(member) if !member.being_kicked => {
                    RowOp::put_member(&self.key, self.member_record(member, None))
                }
                _ => RowOp::drop(&self.key, Row::Member(uid)),
            });
        }
        self.write_task_rows(cx);
    }

    /// All rows, for the next process.
    pub(crate) fn hand_over(&self, now: MonoTime, ops: &mut Vec<RowOp>) {
        // Rows that an earlier, failed write may have left there.
        ops.push(RowOp::DropChannel(self.key.clone()));
        ops.push(RowOp::put_channel(&self.key, self.record(Some(now))));
        for member in self.members.values() {
            ops.push(RowOp::put_member(&self.key, self.member_record(member, Some(now))));
        }
        self.hand_tasks_over(ops);
    }

    fn record(&self, live: Option<MonoTime>) -> ChannelRecord {
        ChannelRecord {
            cid: self.cid,
            creator: self.creator,
            attributes: self.attributes.clone(),
            demoted: self
                .demoted
                .iter()
                .filter_map(|(uid, (by, _))| Some((*uid, (*by)?)))
                .collect(),
            kept_down: self
                .demoted
                .iter()
                .filter_map(|(uid, (by, _))| by.is_none().then_some(*uid))
                .collect(),
            barred: self.barred.iter().map(|(uid, kinds)| (*uid, *kinds)).collect(),
            rules: self.rules,
            prepared_until: self.prepared_until,
            live: live.map(|now| self.log.record(now)),
        }
    }

    fn member_record(&self, member: &Member, live: Option<MonoTime>) -> MemberRecord {
        let published = MediaKind::ALL
            .iter()
            .filter_map(|kind| Some((kind.clone(), member.publication(kind)?)))
            .collect();
        let pushes = MediaKind::ALL.iter().filter_map(|kind| {
            let generation = member.pushes[slot_of(kind)?]?;
            let url = &self.streams.get(&generation)?.url;
            // Audio and video share one URL, which is written once.
            (*kind != MediaKind::Video).then(|| PushRecord {
                generation,
                kind: kind.clone(),
                minted: url.minted.clone(),
                address: Some(url.address),
            })
        });
        MemberRecord {
            uid: member.uid,
            mid: member.mid,
            session: member.session_id,
            join_id: member.join_id.as_deref().map(str::to_owned),
            role: member.role.clone(),
            rights: member.rights,
            named: member.named,
            name: member.name(),
            attributes: member.attributes.clone(),
            muted: member.muted,
            token_end: member.token_end,
            published,
            pushes: pushes.collect(),
            confirmed: member.tickets.confirmed,
            forced: member.forced,
            live: live.map(|now| self.session_record(member, now)),
        }
    }

    fn session_record(&self, member: &Member, now: MonoTime) -> SessionRecord {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let pulls = member.pulls.iter().filter_map(|generation| {
            let viewer = self.streams.get(generation)?.viewers.get(&member.mid)?;
            let IssuedUrl { minted, address, .. } = &viewer.url;
            Some(PullRecord(*generation, viewer.kinds, minted.clone(), Some(*address)))
        });
        // A command that waits has not run: the client sends it again, and its id must be new then.
        let pending = member.pending.as_ref().map(|pending| pending.command.id.0 - 1);
        SessionRecord {
            offered: member.tickets.offered,
            attempt: member.attempt.min(MAX_NUMBER),
            last_id: pending.or(member.answers.last_id.map(|id| id.0)),
            answers: member.answers.iter().map(|(a, t)| (a.id.0, a.hash, text(t))).collect(),
            message_head: member.messages.head,
            messages: member.messages.iter().map(text).collect(),
            pulls: pulls.collect(),
            lost_ms: member.lost_at.map_or(0, |at| now.since(at)),
            first_lost_ms: member.first_lost.map_or(0, |at| now.since(at)),
            floor_only: member.tickets.floor_only,
            restored: member.restored,
            media_ms: member.last_media.map(|at| now.since(at)),
        }
    }

    /// Restores a channel of an earlier process, all members in grace from now on.
    pub(crate) fn restored(
        cx: &mut Context,
        id: ChannelRef,
        key: ChannelKey,
        policy: AppPolicy,
        record: ChannelRecord,
        members: Vec<MemberRecord>,
    ) -> Self {
        let mut channel = Channel::new(cx, id, key, policy, record.creator);
        channel.cid = record.cid;
        channel.attributes = record.attributes;
        channel.opened = true;
        channel.prepared_until = record.prepared_until;
        channel.barred = record.barred.into_iter().collect();
        channel.set_rules(cx, record.rules);
        let kept_down = record.kept_down.into_iter().map(|uid| (uid, None));
        let demoted = record.demoted.into_iter().map(|(uid, by)| (uid, Some(by)));
        for (uid, by) in kept_down.chain(demoted) {
            let maker = by.map_or(Maker::Operator, Maker::Moderator);
            let slot = cx.restrictions.take_slot(&channel.key.appkey, maker).ok();
            channel.demoted.insert(uid, (by, slot));
        }
        channel.unwritten = false;
        if let Some(log) = record.live.and_then(|live| EventLog::restored(&live, cx.mono())) {
            cx.stats.log_bytes += log.bytes();
            channel.log = log;
        }
        let mut pulls = Vec::new();
        for record in members {
            let uid = record.uid;
            let held = record.live.iter().flat_map(|live| &live.pulls);
            pulls.extend(held.map(|pull| (uid, pull.clone())));
            channel.restore_member(cx, record);
        }
        for (uid, PullRecord(generation, kinds, minted, address)) in pulls {
            let url = IssuedUrl::answered(minted, address.unwrap_or(channel.policy.media.pull));
            let Some(member) = channel.members.get_mut(&uid) else { continue };
            if let Some(stream) = channel.streams.get_mut(&generation) {
                stream.viewers.insert(member.mid, Viewer { uid, kinds, url });
                member.pulls.push(generation);
            }
        }
        channel.announced_count = channel.members.len();
        channel.record_step(cx, None, HistoryStep::Restarted);
        channel
    }

    /// Restores the valid parts of a record: files get damaged, and other versions write other contents.
    fn restore_member(&mut self, cx: &mut Context, record: MemberRecord) {
        let (now, uid) = (cx.mono(), record.uid);
        if self.members.contains_key(&uid) {
            return;
        }
        let live = record.live.filter(|live| live.is_sound());
        let role = match record.role {
            Role::Broadcaster => Role::Broadcaster,
            _ => Role::Audience,
        };
        let mut pushes = [None; 3];
        for push in &record.pushes {
            let Some(slot) = slot_of(&push.kind) else { continue };
            let carries = |(kind, _): &(MediaKind, Pub)| slot_of(kind) == Some(slot);
            let known = cx.streams.contains_key(&push.generation) || pushes[slot].is_some();
            if role == Role::Audience || known || !record.published.iter().any(carries) {
                continue;
            }
            pushes[slot] = Some(push.generation);
            let address = push.address.unwrap_or(self.policy.media.push);
            let url = IssuedUrl::answered(push.minted.clone(), address);
            let stream = Stream { owner: uid, url, viewers: BTreeMap::new() };
            self.streams.insert(push.generation, stream);
            cx.streams.insert(push.generation, self.id);
            cx.stats.streams += 1;
        }
        let mut pubs = [None; 4];
        for (kind, publication) in record.published {
            let carried = slot_of(&kind).is_some_and(|slot| pushes[slot].is_some());
            if let Some(index) = kind.index().filter(|_| carried) {
                pubs[index] = Some(publication);
            } else {
                let (channel, cid, mid) = (self.key.clone(), self.cid, record.mid);
                cx.journal_event(&Note::StreamRemoved {
                    channel,
                    cid,
                    uid,
                    mid,
                    kind,
                    publication,
                });
                self.touch(uid);
            }
        }
        let confirmed = record.confirmed.min(MAX_NUMBER);
        let mut answers = Answers::default();
        let mut messages = Messages::default();
        let mut tickets = Tickets { confirmed, offered: confirmed, floor_only: true };
        if let Some(live) = &live {
            tickets.offered = live.offered;
            tickets.floor_only = live.floor_only;
            answers.last_id = live.last_id.map(RequestId);
            for (id, hash, text) in &live.answers {
                let command = CommandKey { id: RequestId(*id), hash: *hash };
                answers.keep(command, Bytes::from(text.clone()));
            }
            let kept = live.messages.iter().map(|text| Bytes::from(text.clone()));
            messages = Messages::restored(live.message_head, kept);
        }
        let member = Member {
            uid,
            mid: record.mid,
            session_id: record.session,
            join_id: record.join_id.map(Into::into),
            role,
            rights: record.rights,
            named: record.named,
            name: record.name.map(String::into_boxed_str),
            attributes: record.attributes,
            muted: record.muted,
            token_end: record.token_end,
            token_look: now,
            conn: None,
            addr: None,
            connected_at: now,
            last_inbound: now,
            lost_at: Some(now - live.as_ref().map_or(0, |live| live.lost_ms)),
            first_lost: Some(now - live.as_ref().map_or(0, |live| live.first_lost_ms)),
            last_media: live.as_ref().and_then(|live| live.media_ms).map(|ms| now - ms),
            cursor: 0,
            rate: SessionRate::default(),
            carried: SessionRate::default(),
            limited: 0,
            pinged: false,
            pending: None,
            tickets,
            attempt: live.as_ref().map_or(0, |live| live.attempt),
            answers,
            messages,
            forced: record.forced,
            unstored: None,
            being_kicked: false,
            restored: live.as_ref().is_none_or(|live| live.restored),
            pubs,
            pushes,
            pulls: Vec::new(),
        };
        self.text_budget.add(TextUsage::of(&member));
        self.broadcasters += usize::from(member.is_visible());
        cx.stats.members += 1;
        if cx.crash_grace_end.is_some() {
            cx.awaited_viewers.insert(member.mid, self.member_ref(uid));
        }
        cx.stats.message_bytes += member.messages.bytes();
        self.members.insert(uid, member);
        cx.timers.arm(now, Timer::Grace(self.id, uid));
        self.arm_token(cx, uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves no rule of the protocol: the content of a push record.
    #[test]
    fn every_slot_has_one_stored_kind() {
        let stored = MediaKind::ALL.iter().filter(|kind| **kind != MediaKind::Video);
        let slots: Vec<_> = stored.filter_map(slot_of).collect();
        assert_eq!(slots, [0, 1, 2]);
    }
}

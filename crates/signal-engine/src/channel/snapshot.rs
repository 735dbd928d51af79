//! The snapshot in the answer of a `join`. Its channel part is encoded once per version and shared; an audience member
//! that joins or leaves does not change the version.

use lianmai_protocol::message::session::{Outcome, ResumeReason, Timers};
use lianmai_protocol::message::snapshot::{ChannelInfo, OwnStream, SelfInfo, Subscription};
use lianmai_protocol::{Cid, Epoch, KindSet, MediaKind, Mid, RequestId, SessionId, UserId, codec};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::Channel;
use super::member::{Member, slot_of};
use crate::context::Context;

/// The encoded channel part, and the head of the log when it was encoded.
#[derive(Debug, Default)]
pub(crate) struct SnapshotCache {
    version: Option<u64>,
    channel: Option<Box<RawValue>>,
    members: Option<Box<RawValue>>,
}

/// `Joined` of the protocol, with the shared parts encoded already.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JoinedParts<'a> {
    cid: Cid,
    uid: UserId,
    mid: Mid,
    session_id: SessionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    ticket: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    k: Option<u64>,
    deployment_id: &'a str,
    epoch: Epoch,
    seq: u64,
    channel: &'a RawValue,
    members: &'a RawValue,
    #[serde(rename = "self")]
    own: SelfInfo,
    member_count: u64,
    timers: Timers,
}

/// `Resumed` of the protocol.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResumedParts<'a> {
    pub(super) outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<ResumeReason>,
    pub(super) ticket: &'a str,
    pub(super) k: u64,
    pub(super) replayed: u64,
    pub(super) messages: u64,
    pub(super) messages_lost: u64,
    pub(super) restore: bool,
    /// Set if the outcome is `snapshot`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) snapshot: Option<JoinedParts<'a>>,
}

impl Channel {
    /// The answer of `join` for a member, as text.
    pub(super) fn joined(&mut self, cx: &Context, uid: UserId, id: RequestId, k: u64) -> String {
        self.refresh_snapshot();
        let ticket = self.seal(cx, uid, k);
        codec::encode_result(id, &self.parts(cx, uid, Some((&ticket, k))))
    }

    /// The answer of `reconnect` for a member, as text.
    pub(super) fn resumed(
        &mut self,
        cx: &Context,
        uid: UserId,
        id: RequestId,
        parts: ResumedParts<'_>,
    ) -> String {
        if parts.outcome != Outcome::Snapshot {
            return codec::encode_result(id, &parts);
        }
        self.refresh_snapshot();
        let snapshot = Some(self.parts(cx, uid, None));
        codec::encode_result(id, &ResumedParts { snapshot, ..parts })
    }

    /// The snapshot for a member. The shared parts must be up to date.
    fn parts<'a>(
        &'a self,
        cx: &'a Context,
        uid: UserId,
        ticket: Option<(&'a str, u64)>,
    ) -> JoinedParts<'a> {
        let member = &self.members[&uid];
        let (channel, members) = match (&self.snapshot.channel, &self.snapshot.members) {
            (Some(channel), Some(members)) => (channel, members),
            _ => unreachable!("the snapshot was refreshed above"),
        };
        JoinedParts {
            cid: self.cid,
            uid,
            mid: member.mid,
            session_id: member.session_id,
            ticket: ticket.map(|(ticket, _)| ticket),
            k: ticket.map(|(_, k)| k),
            deployment_id: &cx.config.deployment_id,
            epoch: self.log.epoch(),
            seq: self.log.head(),
            channel,
            members,
            own: self.self_info(cx, member),
            member_count: self.members.len() as u64,
            timers: cx.config.timers.for_clients(),
        }
    }

    fn refresh_snapshot(&mut self) {
        let head = self.log.head();
        if self.snapshot.version == Some(head) {
            return;
        }
        let channel = ChannelInfo {
            name: self.key.name.clone(),
            // The member that gets the snapshot has joined, so there is a creator.
            creator: self.creator.unwrap_or(UserId(0)),
            attributes: self.attributes.clone(),
            tasks: self.tasks.infos(),
        };
        let members: Vec<_> =
            self.members.values().filter(|m| m.is_visible()).map(Member::info).collect();
        self.snapshot = SnapshotCache {
            version: Some(head),
            channel: Some(to_raw_value(&channel).expect("a channel has string keys only")),
            members: Some(to_raw_value(&members).expect("members have string keys only")),
        };
    }

    fn self_info(&self, cx: &Context, member: &Member) -> SelfInfo {
        let published = member
            .published()
            .iter()
            .filter_map(|kind| {
                Some(OwnStream {
                    media_type: kind.clone(),
                    publication: member.publication(kind)?,
                    generation: member.pushes[slot_of(kind)?]?,
                })
            })
            .collect();
        SelfInfo {
            uid: member.uid,
            mid: member.mid,
            role: member.role.clone(),
            rights: self.rights_of(member),
            name: member.name(),
            attributes: member.attributes.clone(),
            muted: member.muted,
            published,
            subscriptions: self.subscriptions(member),
            token_expires_in_ms: member.token_end.map(|end| end.0.saturating_sub(cx.now.wall.0)),
        }
    }

    fn subscriptions(&self, member: &Member) -> Vec<Subscription> {
        let mut subscriptions = Vec::new();
        for generation in &member.pulls {
            let Some(stream) = self.streams.get(generation) else { continue };
            let Some(publisher) = self.members.get(&stream.owner) else { continue };
            let kinds = stream.viewers.get(&member.mid).map_or(KindSet::NONE, |v| v.kinds);
            subscriptions.extend(kinds.iter().filter_map(|kind: &MediaKind| {
                Some(Subscription {
                    uid: stream.owner,
                    media_type: kind.clone(),
                    publication: publisher.publication(kind)?,
                })
            }));
        }
        subscriptions
    }
}

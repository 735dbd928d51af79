//! The local picture of the channel: the snapshot from `join` with all later events applied.
//!
//! In: a snapshot, then events in order. Out: members, streams, roles, attributes and the app's own state. Deliberately
//! absent: URLs, the choice of events for the app, and the steps that are not events (`change.rs`).
//!
//! For all a <= b: fold(snapshot(a), events a+1..=b) = snapshot(b), except for the generation of the app's own push
//! URLs, which the answer to `publish` contains and no event.

use crate::prelude::*;

use lianmai_protocol::message::ChannelEvent;
use lianmai_protocol::message::event::{ClientJoin, MuteChange, RoleChanged, StreamChange};
use lianmai_protocol::message::session::Joined as JoinedMessage;
use lianmai_protocol::message::snapshot::{MemberInfo, SelfInfo};
use lianmai_protocol::message::task::{TaskInfo, TaskStatus};
use lianmai_protocol::{
    Attributes, ChannelName, Cid, Epoch, Gen, KindSet, Map, MediaKind, Mid, MonoTime, Pub, Rights,
    Role, TaskId, UserId,
};

/// The code of a push task that has ended. Snapshots do not contain it any more.
pub(super) const TASK_ENDED: u16 = 511;

/// The channel as the client knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// The incarnation of the channel.
    pub cid: Cid,
    /// Name of the channel.
    pub channel: ChannelName,
    /// The user that created the channel.
    pub creator: UserId,
    /// Attributes of the channel.
    pub attributes: Attributes,
    /// Push tasks of the channel.
    pub tasks: Map<TaskId, TaskInfo>,
    /// Every broadcaster by uid, the app itself included if it is one.
    pub members: Map<UserId, Member>,
    /// The app's own state.
    pub own: Own,
    /// Number of members, audience included. The server reports it at most once per second.
    pub member_count: u64,
    /// The log of events that the picture follows.
    pub epoch: Epoch,
    /// Number of the last event of the log that is in the picture.
    pub seq: u64,
}

/// A broadcaster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The user.
    pub uid: UserId,
    /// Id of the membership. The same uid with another `mid` has joined anew.
    pub mid: Mid,
    /// The role. It is audience only between `roleChanged` and the `clientLeave` that follows it.
    pub role: Role,
    /// Display name.
    pub name: Option<String>,
    /// Attributes.
    pub attributes: Attributes,
    /// Kinds that the member muted.
    pub muted: KindSet,
    /// The publications of the member, by kind.
    pub streams: Map<MediaKind, Pub>,
}

/// The app's own state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// The uid.
    pub uid: UserId,
    /// Id of the membership.
    pub mid: Mid,
    /// The role.
    pub role: Role,
    /// The rights of the token, as of `join` or the last `renewToken`.
    pub rights: Rights,
    /// Display name.
    pub name: Option<String>,
    /// Attributes.
    pub attributes: Attributes,
    /// Muted kinds.
    pub muted: KindSet,
    /// The publications of the app, by kind.
    pub published: Map<MediaKind, OwnPublication>,
    /// The subscriptions of the app, by uid and kind. A subscription ends with its publication.
    pub subscriptions: Map<(UserId, MediaKind), Pub>,
    /// The time at which the token ends the membership, on the clock that drives the session.
    pub token_expires_at: Option<MonoTime>,
}

/// One publication of the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnPublication {
    /// Id of the publication.
    pub publication: Pub,
    /// Generation of the push URL; `None` until an answer to `publish` contained it.
    pub generation: Option<Gen>,
}

impl Picture {
    /// Builds a picture from a snapshot that was received at `now`.
    #[must_use]
    pub fn from_snapshot(snapshot: JoinedMessage, now: MonoTime) -> Picture {
        let channel = snapshot.channel;
        Picture {
            cid: snapshot.cid,
            channel: channel.name,
            creator: channel.creator,
            attributes: channel.attributes,
            tasks: Map::from_iter(
                channel.tasks.into_iter().map(|task| (task.task_id.clone(), task)),
            ),
            members: Map::from_iter(snapshot.members.into_iter().map(|m| (m.uid, m.into()))),
            own: Own::from_snapshot(snapshot.own, now),
            member_count: snapshot.member_count,
            epoch: snapshot.epoch,
            seq: snapshot.seq,
        }
    }

    /// All broadcasters except the app itself.
    pub fn others(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| member.mid != self.own.mid)
    }

    /// Whether this member publishes this kind.
    pub(super) fn has(&self, (uid, kind): &(UserId, MediaKind)) -> bool {
        self.members.get(uid).is_some_and(|member| member.streams.contains_key(kind))
    }

    /// Applies an event of the log, without its number.
    pub(super) fn fold(&mut self, event: &ChannelEvent) {
        match event {
            ChannelEvent::ClientJoin(join) => self.enter(join),
            ChannelEvent::ClientLeave(leave) => self.drop_member(leave.uid, leave.mid),
            ChannelEvent::ClientUpdate(update) => {
                if let Some(member) = self.member(update.uid, update.mid) {
                    member.name.clone_from(&update.name);
                    member.attributes = update.attributes.clone();
                }
                if update.mid == self.own.mid {
                    self.own.name.clone_from(&update.name);
                    self.own.attributes = update.attributes.clone();
                }
            }
            ChannelEvent::ChannelUpdate(update) => self.attributes = update.attributes.clone(),
            ChannelEvent::RoleChanged(changed) => self.change_role(changed),
            ChannelEvent::StreamAdded(stream) => self.add_stream(stream),
            ChannelEvent::StreamRemoved(stream) => self.remove_stream(stream),
            ChannelEvent::Muted(change) => self.mute(change, true),
            ChannelEvent::Unmuted(change) => self.mute(change, false),
            ChannelEvent::RtmpTasksStatus(status) => self.task(status),
            ChannelEvent::Message(_) | ChannelEvent::LiveRoomClose(_) => {}
            // An event of a newer server, which cannot affect this picture.
            _ => {}
        }
    }

    fn member(&mut self, uid: UserId, mid: Mid) -> Option<&mut Member> {
        self.members.get_mut(&uid).filter(|member| member.mid == mid)
    }

    fn enter(&mut self, join: &ClientJoin) {
        if let Some(old) = self.members.get(&join.uid).map(|member| member.mid) {
            self.drop_member(join.uid, old);
        }
        if join.mid == self.own.mid {
            self.own.name.clone_from(&join.name);
            self.own.attributes = join.attributes.clone();
            self.own.muted = join.muted;
        }
        let member = Member {
            uid: join.uid,
            mid: join.mid,
            role: Role::Broadcaster,
            name: join.name.clone(),
            attributes: join.attributes.clone(),
            muted: join.muted,
            streams: Map::new(),
        };
        self.members.insert(join.uid, member);
    }

    fn drop_member(&mut self, uid: UserId, mid: Mid) {
        if self.member(uid, mid).is_some() {
            self.members.remove(&uid);
            self.own.subscriptions.retain(|(of, _), _| *of != uid);
        }
    }

    fn change_role(&mut self, changed: &RoleChanged) {
        if let Some(member) = self.member(changed.uid, changed.mid) {
            member.role = changed.role.clone();
        }
        if changed.mid == self.own.mid {
            self.own.role = changed.role.clone();
        }
    }

    fn add_stream(&mut self, stream: &StreamChange) {
        let kind = stream.media_type.clone();
        if let Some(member) = self.member(stream.uid, stream.mid) {
            member.streams.insert(kind.clone(), stream.publication);
        }
        if stream.mid == self.own.mid {
            let own = OwnPublication { publication: stream.publication, generation: None };
            self.own.published.insert(kind, own);
        }
    }

    fn remove_stream(&mut self, stream: &StreamChange) {
        let kind = &stream.media_type;
        if let Some(member) = self.member(stream.uid, stream.mid)
            && member.streams.get(kind) == Some(&stream.publication)
        {
            member.streams.remove(kind);
        }
        let subscription = (stream.uid, kind.clone());
        if self.own.subscriptions.get(&subscription) == Some(&stream.publication) {
            self.own.subscriptions.remove(&subscription);
        }
        if stream.mid == self.own.mid
            && self.own.published.get(kind).is_some_and(|o| o.publication == stream.publication)
        {
            self.own.published.remove(kind);
        }
    }

    fn mute(&mut self, change: &MuteChange, muted: bool) {
        let kinds = KindSet::of(&change.media_type);
        if let Some(member) = self.member(change.uid, change.mid) {
            set_muted(&mut member.muted, kinds, muted);
        }
        if change.mid == self.own.mid {
            set_muted(&mut self.own.muted, kinds, muted);
        }
    }

    fn task(&mut self, status: &TaskStatus) {
        if status.code == TASK_ENDED {
            self.tasks.remove(&status.task_id);
            return;
        }
        let task = TaskInfo {
            task_id: status.task_id.clone(),
            uid: status.uid,
            state: status.state.clone(),
            code: status.code,
            revision: status.revision,
            retries: status.retries,
        };
        self.tasks.insert(status.task_id.clone(), task);
    }
}

impl Own {
    fn from_snapshot(own: SelfInfo, now: MonoTime) -> Own {
        Own {
            uid: own.uid,
            mid: own.mid,
            role: own.role,
            rights: own.rights,
            name: own.name,
            attributes: own.attributes,
            muted: own.muted,
            published: Map::from_iter(own.published.into_iter().map(|s| {
                let generation = Some(s.generation);
                (s.media_type, OwnPublication { publication: s.publication, generation })
            })),
            subscriptions: Map::from_iter(
                own.subscriptions.into_iter().map(|s| ((s.uid, s.media_type), s.publication)),
            ),
            token_expires_at: own.token_expires_in_ms.map(|ms| now + ms),
        }
    }
}

impl From<MemberInfo> for Member {
    fn from(member: MemberInfo) -> Member {
        Member {
            uid: member.uid,
            mid: member.mid,
            role: member.role,
            name: member.name,
            attributes: member.attributes,
            muted: member.muted,
            streams: Map::from_iter(
                member.streams.into_iter().map(|s| (s.media_type, s.publication)),
            ),
        }
    }
}

pub(super) fn set_muted(set: &mut KindSet, kinds: KindSet, muted: bool) {
    *set = if muted { set.union(kinds) } else { set.difference(kinds) };
}

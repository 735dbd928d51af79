//! The difference between two pictures, as the smallest set of events (CLI-4). In: the picture before and a snapshot.
//! Out: steps, in an order that an app can follow. Deliberately absent: the causes of the changes, which are unknown,
//! and the choice of the events that the app receives.
//!
//! Identity decides: another `mid` is a leave and a join, another `pub` a removal and an addition. The steps about
//! other members come first: removals, leaves, joins, changes, additions. Those about the app itself follow.

use crate::prelude::*;
use lianmai_protocol::Map;
use lianmai_protocol::message::ChannelEvent;
use lianmai_protocol::message::event::{
    ChannelUpdate, ClientJoin, ClientLeave, ClientUpdate, LeaveReason, MuteChange, RoleChanged,
    StreamChange,
};
use lianmai_protocol::message::task::{TaskInfo, TaskState, TaskStatus};
use lianmai_protocol::{Attributes, KindSet, MediaKind, Mid, Pub, Role, UserId};

use super::change::{CaughtUp, Change};
use super::picture::{Member, Picture, TASK_ENDED};

impl Picture {
    /// The steps that lead from this picture to `new`. Applying them gives exactly `new`.
    #[must_use]
    pub fn diff(&self, new: &Picture) -> Vec<Change> {
        let mut diff = Diff { at: self.clone(), new, changes: vec![] };
        let (own, others) = self.uids(new);
        diff.removals(&others);
        diff.leaves(&others);
        diff.joins(&others);
        diff.channel();
        diff.updates(&others);
        diff.additions(&others);
        diff.removals(&own);
        diff.own_demotion();
        diff.leaves(&own);
        diff.own_membership();
        // Before the app's own join, for which the app receives no event.
        diff.own_state();
        diff.joins(&own);
        diff.additions(&own);
        diff.rest();
        diff.changes
    }

    /// The uids of both pictures in ascending order: the app's own, and all others.
    fn uids(&self, new: &Picture) -> (Vec<UserId>, Vec<UserId>) {
        let (mut own, mut others) = (vec![], vec![]);
        let mut olds = self.members.keys().peekable();
        let mut news = new.members.keys().peekable();
        while let Some(&uid) = olds.peek().into_iter().chain(news.peek()).min().copied() {
            olds.next_if_eq(&&uid);
            news.next_if_eq(&&uid);
            if uid == self.own.uid { own.push(uid) } else { others.push(uid) }
        }
        (own, others)
    }
}

struct Diff<'a> {
    /// The old picture with the steps applied so far.
    at: Picture,
    new: &'a Picture,
    changes: Vec<Change>,
}

/// The state of a member that `update` compares.
struct MemberState<'a> {
    role: &'a Role,
    name: Option<&'a String>,
    attributes: &'a Attributes,
    muted: KindSet,
}

impl<'a> MemberState<'a> {
    fn by(member: &'a Member) -> MemberState<'a> {
        let Member { role, name, attributes, muted, .. } = member;
        MemberState { role, name: name.as_ref(), attributes, muted: *muted }
    }
}

impl Diff<'_> {
    fn step(&mut self, change: Change) {
        change.step(&mut self.at);
        self.changes.push(change);
    }

    fn steps(&mut self, events: Vec<ChannelEvent>) {
        for event in events {
            self.step(Change::WhileAway(event));
        }
    }

    fn removals(&mut self, uids: &[UserId]) {
        let mut gone = vec![];
        for old in uids.iter().filter_map(|uid| self.at.members.get(uid)) {
            let new = same(&self.new.members, old.uid, old.mid);
            for (kind, publication) in &old.streams {
                if new.and_then(|member| member.streams.get(kind)) != Some(publication) {
                    gone.push(ChannelEvent::StreamRemoved(stream(old, kind, *publication)));
                }
            }
        }
        self.steps(gone);
    }

    fn leaves(&mut self, uids: &[UserId]) {
        let mut gone = vec![];
        for old in uids.iter().filter_map(|uid| self.at.members.get(uid)) {
            if same(&self.new.members, old.uid, old.mid).is_some() {
                continue;
            }
            let reason = if old.role == Role::Audience {
                LeaveReason::RoleChanged
            } else if self.new.members.contains_key(&old.uid) {
                LeaveReason::Replaced
            } else {
                LeaveReason::WhileAway
            };
            let leave = ClientLeave { uid: old.uid, mid: old.mid, reason };
            gone.push(ChannelEvent::ClientLeave(leave));
        }
        self.steps(gone);
    }

    fn joins(&mut self, uids: &[UserId]) {
        let mut came = vec![];
        for new in uids.iter().filter_map(|uid| self.new.members.get(uid)) {
            if same(&self.at.members, new.uid, new.mid).is_none() {
                came.push(ChannelEvent::ClientJoin(ClientJoin {
                    uid: new.uid,
                    mid: new.mid,
                    name: new.name.clone(),
                    attributes: new.attributes.clone(),
                    muted: new.muted,
                }));
            }
        }
        self.steps(came);
    }

    fn updates(&mut self, uids: &[UserId]) {
        let mut changed = vec![];
        for new in uids.iter().filter_map(|uid| self.new.members.get(uid)) {
            if let Some(old) = same(&self.at.members, new.uid, new.mid) {
                update(
                    &mut changed,
                    new.uid,
                    new.mid,
                    &MemberState::by(old),
                    &MemberState::by(new),
                );
            }
        }
        self.steps(changed);
    }

    fn additions(&mut self, uids: &[UserId]) {
        let mut came = vec![];
        for new in uids.iter().filter_map(|uid| self.new.members.get(uid)) {
            let old = same(&self.at.members, new.uid, new.mid);
            for (kind, publication) in &new.streams {
                if old.and_then(|member| member.streams.get(kind)) != Some(publication) {
                    came.push(ChannelEvent::StreamAdded(stream(new, kind, *publication)));
                }
            }
        }
        self.steps(came);
    }

    fn channel(&mut self) {
        let new = self.new;
        if self.at.attributes != new.attributes {
            let attributes = new.attributes.clone();
            self.steps(vec![ChannelEvent::ChannelUpdate(ChannelUpdate { attributes })]);
        }
        let old = self.at.tasks.values().filter(|task| !new.tasks.contains_key(&task.task_id));
        let ended = old.map(|task| status(task, Some(TaskState::Ended), TASK_ENDED));
        let changed =
            new.tasks.values().filter(|task| self.at.tasks.get(&task.task_id) != Some(*task));
        let changed = changed.map(|task| status(task, task.state.clone(), task.code));
        let events = ended.chain(changed);
        self.steps(events.map(ChannelEvent::RtmpTasksStatus).collect());
        if self.at.member_count != new.member_count {
            self.step(Change::MemberCount(new.member_count));
        }
    }

    /// The same membership is no longer listed: its role changed before its `clientLeave` (ROL-1).
    fn own_demotion(&mut self) {
        let (old, new) = (&self.at.own, &self.new.own);
        let listed = same(&self.at.members, old.uid, old.mid).is_some();
        let invisible = same(&self.new.members, new.uid, new.mid).is_none();
        if old.mid == new.mid && listed && invisible && old.role != new.role {
            let (uid, mid, role) = (new.uid, new.mid, new.role.clone());
            self.steps(vec![ChannelEvent::RoleChanged(RoleChanged { uid, mid, role })]);
        }
    }

    fn own_membership(&mut self) {
        if self.at.own.mid != self.new.own.mid {
            self.step(Change::Reentered(self.new.own.mid));
        }
    }

    fn own_state(&mut self) {
        let (old, new) = (&self.at.own, &self.new.own);
        let mut changed = vec![];
        let before = MemberState {
            role: &old.role,
            name: old.name.as_ref(),
            attributes: &old.attributes,
            muted: old.muted,
        };
        let after = MemberState {
            role: &new.role,
            name: new.name.as_ref(),
            attributes: &new.attributes,
            muted: new.muted,
        };
        update(&mut changed, new.uid, new.mid, &before, &after);
        self.steps(changed);
    }

    fn rest(&mut self) {
        let new = self.new;
        self.step(Change::CaughtUp(Box::new(CaughtUp {
            cid: new.cid,
            channel: new.channel.clone(),
            creator: new.creator,
            epoch: new.epoch,
            seq: new.seq,
            own: new.own.clone(),
        })));
    }
}

type Members = Map<UserId, Member>;

fn same(members: &Members, uid: UserId, mid: Mid) -> Option<&Member> {
    members.get(&uid).filter(|member| member.mid == mid)
}

fn stream(member: &Member, kind: &MediaKind, publication: Pub) -> StreamChange {
    StreamChange { uid: member.uid, mid: member.mid, media_type: kind.clone(), publication }
}

/// The net changes of one membership.
fn update(
    events: &mut Vec<ChannelEvent>,
    uid: UserId,
    mid: Mid,
    old: &MemberState<'_>,
    new: &MemberState<'_>,
) {
    if old.role != new.role {
        let role = new.role.clone();
        events.push(ChannelEvent::RoleChanged(RoleChanged { uid, mid, role }));
    }
    if (old.name, old.attributes) != (new.name, new.attributes) {
        let (name, attributes) = (new.name.cloned(), new.attributes.clone());
        events.push(ChannelEvent::ClientUpdate(ClientUpdate { uid, mid, name, attributes }));
    }
    let change = |kind: &MediaKind| MuteChange { uid, mid, media_type: kind.clone() };
    let muted = new.muted.difference(old.muted);
    events.extend(muted.iter().map(|kind| ChannelEvent::Muted(change(kind))));
    let unmuted = old.muted.difference(new.muted);
    events.extend(unmuted.iter().map(|kind| ChannelEvent::Unmuted(change(kind))));
}

/// The state of a task as an event. A snapshot contains neither the address of a task nor the message of its state.
fn status(task: &TaskInfo, state: Option<TaskState>, code: u16) -> TaskStatus {
    TaskStatus {
        task_id: task.task_id.clone(),
        uid: task.uid,
        stream_url: String::new(),
        state,
        code,
        msg: String::new(),
        revision: task.revision,
        retries: task.retries,
    }
}

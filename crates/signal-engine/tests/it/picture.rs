//! A naive client's picture of a channel: it begins with a snapshot, folds events, and panics at an event that a
//! correct server cannot send in that state. Shares nothing with the engine but message types.

use std::collections::BTreeMap;

use lianmai_protocol::message::ChannelEvent;
use lianmai_protocol::message::session::Joined;
use lianmai_protocol::message::snapshot::{MemberInfo, StreamInfo};
use lianmai_protocol::message::task::{TaskInfo, TaskState};
use lianmai_protocol::{Attributes, KindSet, MediaKind, Mid, Role, TaskId, UserId};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Picture {
    pub(crate) attributes: Attributes,
    pub(crate) members: BTreeMap<UserId, MemberInfo>,
    pub(crate) tasks: BTreeMap<TaskId, TaskInfo>,
    over: bool,
}

impl Picture {
    pub(crate) fn of(joined: &Joined) -> Picture {
        let members: BTreeMap<_, _> =
            joined.members.iter().map(|member| (member.uid, member.clone())).collect();
        assert_eq!(members.len(), joined.members.len(), "a uid comes once in a snapshot");
        for member in members.values() {
            assert_eq!(
                member.role,
                Role::Broadcaster,
                "a snapshot lists broadcasters only (JOI-1)"
            );
        }
        let tasks = joined.channel.tasks.iter().map(|task| (task.task_id.clone(), task.clone()));
        let (attributes, tasks) = (joined.channel.attributes.clone(), tasks.collect());
        Picture { attributes, members, tasks, over: false }
    }

    fn member(&mut self, uid: UserId, mid: Mid) -> &mut MemberInfo {
        let member = self.members.get_mut(&uid).expect("an event names a visible member (EVT-4)");
        assert_eq!(member.mid, mid, "an event names the present membership");
        member
    }

    pub(crate) fn fold(&mut self, event: &ChannelEvent) {
        assert!(!self.over, "liveRoomClose is the last event of an epoch (EVT-5): {event:?}");
        match event {
            ChannelEvent::ClientJoin(join) => {
                let member = MemberInfo {
                    uid: join.uid,
                    mid: join.mid,
                    role: Role::Broadcaster,
                    name: join.name.clone(),
                    attributes: join.attributes.clone(),
                    muted: join.muted,
                    streams: Vec::new(),
                };
                let before = self.members.insert(join.uid, member);
                assert_eq!(before, None, "clientJoin and clientLeave alternate (EVT-3)");
            }
            ChannelEvent::ClientLeave(leave) => {
                let member = self.member(leave.uid, leave.mid);
                assert_eq!(member.streams, [], "streamRemoved precedes clientLeave (EVT-3)");
                self.members.remove(&leave.uid);
            }
            ChannelEvent::ClientUpdate(update) => {
                let member = self.member(update.uid, update.mid);
                let new = (update.name.clone(), update.attributes.clone());
                assert_ne!(new, (member.name.clone(), member.attributes.clone()), "an update");
                (member.name, member.attributes) = new;
            }
            ChannelEvent::ChannelUpdate(update) => {
                assert_ne!(self.attributes, update.attributes, "an update changes something");
                self.attributes = update.attributes.clone();
            }
            ChannelEvent::RoleChanged(change) => {
                // In the group of a demotion the member is still listed here, since it leaves next.
                let member = self.member(change.uid, change.mid);
                assert!(member.streams.is_empty() || change.role == Role::Broadcaster);
                member.role = change.role.clone();
            }
            ChannelEvent::StreamAdded(added) => {
                let (media_type, publication) = (added.media_type.clone(), added.publication);
                let member = self.member(added.uid, added.mid);
                let known = member.streams.iter().any(|stream| stream.media_type == media_type);
                assert!(!known, "streamAdded and streamRemoved alternate");
                member.streams.push(StreamInfo { media_type, publication });
                member.streams.sort_by_key(|stream| stream.media_type.index());
            }
            ChannelEvent::StreamRemoved(removed) => {
                let (media_type, publication) = (removed.media_type.clone(), removed.publication);
                let gone = StreamInfo { media_type, publication };
                let member = self.member(removed.uid, removed.mid);
                assert!(member.streams.contains(&gone), "a removed stream was added before");
                member.streams.retain(|stream| *stream != gone);
            }
            ChannelEvent::Muted(change) => {
                let kind = KindSet::of(&change.media_type);
                let member = self.member(change.uid, change.mid);
                assert!(!member.muted.contains(&change.media_type), "muted comes on a change");
                member.muted = member.muted.union(kind);
            }
            ChannelEvent::Unmuted(change) => {
                let kind = KindSet::of(&change.media_type);
                let member = self.member(change.uid, change.mid);
                assert!(member.muted.contains(&change.media_type), "unmuted comes on a change");
                member.muted = member.muted.difference(kind);
            }
            ChannelEvent::Message(_) => {}
            ChannelEvent::RtmpTasksStatus(status) => {
                assert!(status.stream_url.ends_with("/***"), "a secret is sent (EVT-2)");
                let id = &status.task_id;
                if status.state == Some(TaskState::Ended) {
                    assert!(self.tasks.remove(id).is_some(), "an ended task existed");
                    return;
                }
                let info = TaskInfo {
                    task_id: id.clone(),
                    uid: status.uid,
                    state: status.state.clone(),
                    code: status.code,
                    revision: status.revision,
                    retries: status.retries,
                };
                let before = self.tasks.insert(id.clone(), info.clone());
                assert_ne!(before, Some(info), "a status says something new");
            }
            ChannelEvent::LiveRoomClose(_) => self.over = true,
            other => panic!("the engine does not send this yet: {other:?}"),
        }
    }
}

/// An event in a few words.
pub(crate) fn words(event: &ChannelEvent) -> String {
    let kind = |kind: &MediaKind| kind.as_str().to_owned();
    match event {
        ChannelEvent::ClientJoin(e) => format!("clientJoin {}", e.uid),
        ChannelEvent::ClientLeave(e) => format!("clientLeave {} {}", e.uid, e.reason),
        ChannelEvent::ClientUpdate(e) => format!("clientUpdate {}", e.uid),
        ChannelEvent::ChannelUpdate(_) => "channelUpdate".to_owned(),
        ChannelEvent::RoleChanged(e) => format!("roleChanged {} {}", e.uid, e.role),
        ChannelEvent::StreamAdded(e) => format!("streamAdded {} {}", e.uid, kind(&e.media_type)),
        ChannelEvent::StreamRemoved(e) => {
            format!("streamRemoved {} {}", e.uid, kind(&e.media_type))
        }
        ChannelEvent::Muted(e) => format!("muted {} {}", e.uid, kind(&e.media_type)),
        ChannelEvent::Unmuted(e) => format!("unmuted {} {}", e.uid, kind(&e.media_type)),
        ChannelEvent::Message(e) => format!("message {} {}", e.uid, e.data),
        ChannelEvent::LiveRoomClose(e) => format!("liveRoomClose {}", e.reason),
        ChannelEvent::RtmpTasksStatus(e) => {
            let state = e.state.as_ref().map_or("?", TaskState::as_str);
            let retries = if e.retries > 0 { format!(" {}", e.retries) } else { String::new() };
            format!("task {} {state} {} r{}{retries}", e.task_id, e.code, e.revision)
        }
        other => other.method().to_owned(),
    }
}

//! fold(snapshot(a), events a+1..=b) = snapshot(b), for every kind of event. The expected snapshots come from a model
//! of a channel that shares no code with the client.
//! Proves ORD-3.

use lianmai_client_sdk::protocol::message::ChannelEvent;
use lianmai_client_sdk::protocol::message::event::*;
use lianmai_client_sdk::protocol::message::session::Joined;
use lianmai_client_sdk::protocol::message::snapshot::*;
use lianmai_client_sdk::protocol::message::task::{TaskInfo, TaskStatus};
use lianmai_client_sdk::protocol::*;
use lianmai_client_sdk::session::*;
use proptest::prelude::*;

use super::support::*;

/// A channel as a server keeps it. Snapshots are built from the members on demand.
struct Channel {
    seq: u64,
    fresh: u8,
    users: Vec<User>,
    attributes: Attributes,
    tasks: Vec<TaskInfo>,
}

#[derive(Clone)]
struct User {
    uid: UserId,
    mid: Mid,
    here: bool,
    role: Role,
    name: Option<String>,
    attributes: Attributes,
    muted: KindSet,
    streams: Vec<(MediaKind, Pub)>,
}

impl Channel {
    fn new() -> Channel {
        let user = |n: u8| User {
            uid: UserId(u64::from(n)),
            mid: Mid([n; 12]),
            here: n == 7,
            role: Role::Broadcaster,
            name: None,
            attributes: Attributes::default(),
            muted: KindSet::NONE,
            streams: vec![],
        };
        let users = (7..11).map(user).collect();
        Channel { seq: 10, fresh: 100, users, attributes: Attributes::default(), tasks: vec![] }
    }

    /// Runs one operation and returns its events.
    fn act(&mut self, who: usize, what: u8, detail: u8) -> Vec<ChannelEvent> {
        self.fresh = self.fresh.wrapping_add(1);
        let fresh = self.fresh;
        let is_me = who == 0;
        let kind = MediaKind::ALL[usize::from(detail % 4)].clone();
        let user = &mut self.users[who];
        let (uid, mid) = (user.uid, user.mid);
        let visible = user.here && user.role == Role::Broadcaster;
        let mut events = vec![];
        match what % 9 {
            0 if !user.here => {
                user.here = true;
                user.mid = Mid([fresh; 12]);
                user.role = Role::Broadcaster;
                user.muted = KindSet::of(&kind).intersection(KindSet::AUDIO_VIDEO);
                user.attributes = map("born", detail);
                events.push(appears(user));
            }
            0 if visible && !is_me => {
                unpublish(user, &mut events);
                user.here = false;
                let reason = LeaveReason::Left;
                events.push(ChannelEvent::ClientLeave(ClientLeave { uid, mid, reason }));
            }
            1 if visible => match user.streams.iter().position(|(k, _)| *k == kind) {
                Some(at) => {
                    let (media_type, publication) = user.streams.remove(at);
                    let change = StreamChange { uid, mid, media_type, publication };
                    events.push(ChannelEvent::StreamRemoved(change));
                }
                None => {
                    let publication = Pub([fresh; 12]);
                    user.streams.push((kind.clone(), publication));
                    let change = StreamChange { uid, mid, media_type: kind, publication };
                    events.push(ChannelEvent::StreamAdded(change));
                }
            },
            2 if visible => {
                let kind = MediaKind::ALL[usize::from(detail % 2)].clone();
                let set = KindSet::of(&kind);
                let change = MuteChange { uid, mid, media_type: kind.clone() };
                if user.muted.contains(&kind) {
                    user.muted = user.muted.difference(set);
                    events.push(ChannelEvent::Unmuted(change));
                } else {
                    user.muted = user.muted.union(set);
                    events.push(ChannelEvent::Muted(change));
                }
            }
            3 if visible => {
                unpublish(user, &mut events);
                user.role = Role::Audience;
                let role = Role::Audience;
                events.push(ChannelEvent::RoleChanged(RoleChanged { uid, mid, role }));
                let reason = LeaveReason::RoleChanged;
                events.push(ChannelEvent::ClientLeave(ClientLeave { uid, mid, reason }));
            }
            4 if user.here && !visible => {
                user.role = Role::Broadcaster;
                events.push(appears(user));
                let role = Role::Broadcaster;
                events.push(ChannelEvent::RoleChanged(RoleChanged { uid, mid, role }));
            }
            5 if visible => {
                user.attributes = map("k", detail);
                user.name = (detail.is_multiple_of(2)).then(|| format!("n{detail}"));
                let (name, attributes) = (user.name.clone(), user.attributes.clone());
                let update = ClientUpdate { uid, mid, name, attributes };
                events.push(ChannelEvent::ClientUpdate(update));
            }
            6 => {
                self.attributes = map("room", detail);
                let attributes = self.attributes.clone();
                events.push(ChannelEvent::ChannelUpdate(ChannelUpdate { attributes }));
            }
            7 => events.push(self.task(uid, detail)),
            8 => events.push(says(uid, "transient")),
            _ => {}
        }
        self.seq += events.len() as u64;
        events
    }

    fn task(&mut self, uid: UserId, detail: u8) -> ChannelEvent {
        let task_id: TaskId = format!("t{}", detail % 3).parse().unwrap();
        let code = [505, 506, 511][usize::from(detail / 3 % 3)];
        self.tasks.retain(|task| task.task_id != task_id);
        if code != 511 {
            let (task_id, revision) = (task_id.clone(), u64::from(detail));
            self.tasks.push(TaskInfo {
                task_id,
                uid: Some(uid),
                state: None,
                code,
                revision,
                retries: 0,
            });
        }
        ChannelEvent::RtmpTasksStatus(TaskStatus {
            task_id,
            uid: Some(uid),
            stream_url: "rtmp://host/app/***".to_owned(),
            state: None,
            code,
            msg: String::new(),
            revision: u64::from(detail),
            retries: 0,
        })
    }

    fn snapshot(&self) -> Joined {
        let me = &self.users[0];
        let others = self.users.iter().filter(|u| u.here && u.role == Role::Broadcaster);
        let mut hello = snapshot(Role::Audience, self.seq, vec![]);
        hello.member_count = 0;
        hello.channel.attributes = self.attributes.clone();
        hello.channel.tasks.clone_from(&self.tasks);
        hello.members = others
            .map(|user| MemberInfo {
                name: user.name.clone(),
                attributes: user.attributes.clone(),
                muted: user.muted,
                streams: user
                    .streams
                    .iter()
                    .map(|(kind, publication)| StreamInfo {
                        media_type: kind.clone(),
                        publication: *publication,
                    })
                    .collect(),
                ..member(user.uid, user.mid)
            })
            .collect();
        hello.own.role = me.role.clone();
        hello.own.name.clone_from(&me.name);
        hello.own.attributes = me.attributes.clone();
        hello.own.muted = me.muted;
        hello.own.published = me
            .streams
            .iter()
            .map(|(kind, publication)| OwnStream {
                media_type: kind.clone(),
                publication: *publication,
                generation: GEN,
            })
            .collect();
        hello
    }
}

fn map(key: &str, value: u8) -> Attributes {
    let mut attributes = Attributes::default();
    if !value.is_multiple_of(3) {
        attributes.0.insert(key.to_owned(), value.to_string());
    }
    attributes
}

fn appears(user: &User) -> ChannelEvent {
    ChannelEvent::ClientJoin(ClientJoin {
        uid: user.uid,
        mid: user.mid,
        name: user.name.clone(),
        attributes: user.attributes.clone(),
        muted: user.muted,
    })
}

fn unpublish(user: &mut User, events: &mut Vec<ChannelEvent>) {
    for (media_type, publication) in std::mem::take(&mut user.streams) {
        let (uid, mid) = (user.uid, user.mid);
        let change = StreamChange { uid, mid, media_type, publication };
        events.push(ChannelEvent::StreamRemoved(change));
    }
}

/// Events do not contain the generation of the app's own push URLs.
fn without_generations(picture: &Picture) -> Picture {
    let mut picture = picture.clone();
    for (_, own) in picture.own.published.iter_mut() {
        own.generation = None;
    }
    picture
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn folding_events_gives_the_later_snapshot(
        before in prop::collection::vec((0usize..4, any::<u8>(), any::<u8>()), 0..30),
        after in prop::collection::vec((0usize..4, any::<u8>(), any::<u8>()), 0..60),
    ) {
        let mut channel = Channel::new();
        for (who, what, detail) in before {
            channel.act(who, what, detail);
        }
        let config = SessionConfig::new("ws://server/v1/signal");
        let mut rig = Rig::joined_with(config, channel.snapshot());
        for (who, what, detail) in after {
            let first = channel.seq + 1;
            let events = channel.act(who, what, detail);
            if !events.is_empty() {
                rig.events(first, &events);
                rig.drain();
            }
            let wanted = Picture::from_snapshot(channel.snapshot(), MonoTime(0));
            prop_assert_eq!(without_generations(rig.picture()), without_generations(&wanted));
        }
    }
}

//! The events that every member must receive for commands that succeed, each of them once. They are counted while
//! commands are given, and compared with what each app received. Comes in: commands; those that change one member come
//! in the order in which they take effect. Goes out: members that received an event too rarely or too often.
//! Deliberately absent: messages, which the ledger counts one by one.

use std::collections::{BTreeMap, BTreeSet};

use lianmai_client_sdk::{MediaKind, MediaSelector, Role, UserId};

use crate::actors::Actor;

/// How often each event came, by the uid that it concerns (`None`: the channel) and its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EventCounts(BTreeMap<(Option<UserId>, &'static str), u64>);

impl EventCounts {
    pub(crate) fn add(&mut self, whose: Option<UserId>, event: &'static str) {
        *self.0.entry((whose, event)).or_default() += 1;
    }

    fn count(&self, key: &(Option<UserId>, &'static str)) -> u64 {
        self.0.get(key).copied().unwrap_or(0)
    }
}

#[derive(Clone, Debug)]
struct ExpectedMember {
    room: usize,
    role: Role,
    streams: BTreeSet<MediaKind>,
    muted: BTreeSet<MediaKind>,
}

/// The events that the members of all rooms must receive since `begin`.
#[derive(Debug, Default)]
pub(crate) struct ExpectedEvents {
    people: BTreeMap<UserId, ExpectedMember>,
    rooms: BTreeMap<usize, EventCounts>,
}

impl ExpectedEvents {
    /// Begins with the present state of all actors, and clears what their apps received.
    pub(crate) fn begin(actors: &[Actor]) -> ExpectedEvents {
        let mut people = BTreeMap::new();
        for actor in actors {
            actor.observer.seen().heard = EventCounts::default();
            let Some(own) = actor.client.self_info() else { continue };
            let (room, role) = (actor.room, own.role);
            let (streams, muted) =
                (own.published.keys().cloned().collect(), own.muted.iter().cloned().collect());
            people.insert(actor.uid(), ExpectedMember { room, role, streams, muted });
        }
        ExpectedEvents { people, rooms: BTreeMap::new() }
    }

    fn change(
        &mut self,
        uid: UserId,
        change: impl FnOnce(&mut ExpectedMember) -> Vec<&'static str>,
    ) {
        let Some(person) = self.people.get_mut(&uid) else { return };
        let heard = self.rooms.entry(person.room).or_default();
        for event in change(person) {
            heard.add(Some(uid), event);
        }
    }

    /// The attributes of a member changed.
    pub(crate) fn update(&mut self, uid: UserId) {
        self.change(
            uid,
            |person| if person.is_broadcaster() { vec!["clientUpdate"] } else { Vec::new() },
        );
    }

    /// The attributes of a channel changed.
    pub(crate) fn topic(&mut self, room: usize) {
        self.rooms.entry(room).or_default().add(None, "channelUpdate");
    }

    pub(crate) fn publish(&mut self, uid: UserId, media: &MediaSelector) {
        let kinds = media.kinds();
        self.change(uid, |person| {
            let new = kinds.iter().filter(|kind| person.streams.insert((*kind).clone()));
            new.map(|_| "streamAdded").collect()
        });
    }

    pub(crate) fn unpublish(&mut self, uid: UserId, media: &MediaSelector) {
        let kinds = media.kinds();
        self.change(uid, |person| {
            let old = kinds.iter().filter(|kind| person.streams.remove(*kind));
            old.map(|_| "streamRemoved").collect()
        });
    }

    pub(crate) fn mute(&mut self, uid: UserId, media: &MediaSelector, muted: bool) {
        let kinds = media.kinds();
        self.change(uid, |person| {
            let changed = kinds.iter().filter(|kind| match muted {
                true => person.muted.insert((*kind).clone()),
                false => person.muted.remove(*kind),
            });
            let count = changed.count();
            let event = if muted { "muted" } else { "unmuted" };
            vec![event; if person.is_broadcaster() { count } else { 0 }]
        });
    }

    pub(crate) fn become_role(&mut self, uid: UserId, role: &Role) {
        self.change(uid, |person| {
            if std::mem::replace(&mut person.role, role.clone()) == *role {
                return Vec::new();
            }
            match person.is_broadcaster() {
                true => vec!["clientJoin", "roleChanged"],
                false => [person.end_streams(), vec!["roleChanged", "clientLeave"]].concat(),
            }
        });
    }

    /// The membership ended.
    pub(crate) fn end(&mut self, uid: UserId) {
        self.change(uid, |person| {
            let leave = if person.is_broadcaster() { vec!["clientLeave"] } else { Vec::new() };
            [person.end_streams(), leave].concat()
        });
    }

    /// Actors that received an event too rarely or too often.
    pub(crate) fn differences(&self, actors: &[Actor]) -> Vec<String> {
        let mut faults = Vec::new();
        let nothing = EventCounts::default();
        for actor in actors {
            let happened = self.rooms.get(&actor.room).unwrap_or(&nothing);
            let seen = actor.observer.seen();
            let keys: BTreeSet<_> = happened.0.keys().chain(seen.heard.0.keys()).collect();
            // An app gets no events of its own commands.
            let others = keys.into_iter().filter(|(whose, _)| *whose != Some(actor.uid()));
            for key in others {
                let (happened, heard) = (happened.count(key), seen.heard.count(key));
                if happened != heard {
                    let uid = actor.uid().0;
                    faults.push(format!(
                        "uid {uid} in room {} heard {key:?} {heard} times, not {happened}",
                        actor.room
                    ));
                }
            }
        }
        faults
    }

    /// Number of events that happened.
    pub(crate) fn count(&self) -> u64 {
        self.rooms.values().flat_map(|heard| heard.0.values()).sum()
    }
}

impl ExpectedMember {
    fn is_broadcaster(&self) -> bool {
        self.role == Role::Broadcaster
    }

    fn end_streams(&mut self) -> Vec<&'static str> {
        vec!["streamRemoved"; std::mem::take(&mut self.streams).len()]
    }
}

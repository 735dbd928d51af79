//! The state that an app builds from its events: the other members of its channel, from the picture of its `join` and
//! the events since then. Comes in: events. Goes out: complaints, if an event does not fit the earlier ones, and
//! differences from a picture. Deliberately absent: the client's own fold, which this one checks, and the app's own
//! state, which answers contain.

use std::collections::BTreeSet;

use lianmai_client_sdk::protocol::Pub;
use lianmai_client_sdk::protocol::{Map, Mid};
use lianmai_client_sdk::{Event, KindSet, MediaKind, Picture, Role, UserId};

/// A broadcaster that is not the app itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FoldedMember {
    uid: UserId,
    role: Role,
    name: Option<String>,
    attributes: Map<String, String>,
    muted: BTreeSet<MediaKind>,
    streams: Map<MediaKind, Pub>,
}

/// An event that an app should not have received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Complaint {
    /// It is always wrong.
    Never(String),
    /// It is wrong unless the server crashed and lost its newest state.
    Older(String),
}

/// The other members as an app knows them.
#[derive(Clone, Debug)]
pub(crate) struct Fold {
    own: UserId,
    people: Map<Mid, FoldedMember>,
    attributes: Map<String, String>,
    count: u64,
    /// Memberships that ended.
    gone: BTreeSet<Mid>,
}

/// The attribute that each member only increments.
pub(crate) const COUNTER: &str = "n";

/// The attribute of a channel that is only incremented.
pub(crate) const TOPIC: &str = "topic";

fn number(attributes: &Map<String, String>, key: &str) -> u64 {
    attributes.get(key).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The value of the counter.
pub(crate) fn counter(attributes: &Map<String, String>) -> u64 {
    number(attributes, COUNTER)
}

fn topic(attributes: &Map<String, String>) -> u64 {
    number(attributes, TOPIC)
}

fn kinds(set: KindSet) -> BTreeSet<MediaKind> {
    set.iter().cloned().collect()
}

fn others(picture: &Picture, own: UserId) -> Map<Mid, FoldedMember> {
    let others = picture.members.values().filter(|member| member.uid != own);
    let person = |member: &lianmai_client_sdk::Member| FoldedMember {
        uid: member.uid,
        role: member.role.clone(),
        name: member.name.clone(),
        attributes: member.attributes.0.clone(),
        muted: kinds(member.muted),
        streams: member.streams.clone(),
    };
    others.map(|member| (member.mid, person(member))).collect()
}

/// The member and membership that an event concerns.
pub(crate) fn whose(event: &Event) -> Option<(UserId, Mid)> {
    Some(match event {
        Event::ClientJoin(e) => (e.uid, e.mid),
        Event::ClientLeave(e) => (e.uid, e.mid),
        Event::ClientUpdate(e) => (e.uid, e.mid),
        Event::RoleChanged(e) => (e.uid, e.mid),
        Event::StreamAdded(e) | Event::StreamRemoved(e) => (e.uid, e.mid),
        Event::Muted(e) | Event::Unmuted(e) => (e.uid, e.mid),
        _ => return None,
    })
}

impl Fold {
    /// Begins with the answer of `join`.
    pub(crate) fn of(picture: &Picture) -> Fold {
        let own = picture.own.uid;
        Fold {
            own,
            people: others(picture, own),
            attributes: picture.attributes.0.clone(),
            count: picture.member_count,
            gone: BTreeSet::new(),
        }
    }

    /// The difference from a picture, if there is one.
    pub(crate) fn differs(&self, picture: &Picture) -> Option<String> {
        let shown = others(picture, self.own);
        if shown != self.people {
            let only = |a: &Map<Mid, FoldedMember>, b: &Map<Mid, FoldedMember>| {
                let only = a.iter().filter(|(mid, person)| b.get(mid) != Some(person));
                only.map(|(mid, person)| format!("{mid}: {person:?}")).collect::<Vec<_>>()
            };
            let (heard, shown) = (only(&self.people, &shown), only(&shown, &self.people));
            return Some(format!("heard {heard:?}, shown {shown:?}"));
        }
        if picture.attributes.0 != self.attributes {
            let (heard, shown) = (&self.attributes, &picture.attributes.0);
            return Some(format!("channel: heard {heard:?}, shown {shown:?}"));
        }
        let (heard, shown) = (self.count, picture.member_count);
        (heard != shown).then(|| format!("members: heard {heard}, shown {shown}"))
    }

    /// Applies an event.
    pub(crate) fn apply_checked(&mut self, event: &Event) -> Option<Complaint> {
        match event {
            Event::ChannelUpdate(e) => {
                let old = std::mem::replace(&mut self.attributes, e.attributes.0.clone());
                let (before, now) = (topic(&old), topic(&self.attributes));
                return if old == self.attributes {
                    Some(Complaint::Never("a channelUpdate without a change".to_owned()))
                } else if now < before {
                    Some(Complaint::Older(format!("the topic counts from {before} to {now}")))
                } else {
                    None
                };
            }
            Event::MemberCount { count } => {
                self.count = *count;
                return None;
            }
            _ => {}
        }
        let (uid, mid) = whose(event)?;
        let strictly = matches!(event, Event::ClientJoin(_) | Event::ClientLeave(_));
        if uid == self.own && !strictly {
            return None;
        }
        let what = match event {
            Event::ClientJoin(_) if uid == self.own => Some("its own"),
            Event::ClientLeave(_) if uid == self.own => Some("its own"),
            Event::ClientJoin(_) if self.people.contains_key(&mid) => Some("here already"),
            Event::ClientJoin(_) if self.people.values().any(|person| person.uid == uid) => {
                Some("the uid is here already")
            }
            Event::ClientJoin(_) => None,
            _ => match self.people.get(&mid) {
                None => Some("not here"),
                Some(person) if person.uid != uid => Some("another uid"),
                Some(person) => misfit(person, event),
            },
        };
        let text = |what: &str| format!("{} of uid {} {mid}: {what}", event.kind().name(), uid.0);
        if let Some(what) = what {
            return Some(Complaint::Never(text(what)));
        }
        let older = self.older_state(mid, event).map(|what| Complaint::Older(text(&what)));
        self.apply(mid, event);
        older
    }

    /// What is wrong with an event that only a server with lost state sends.
    fn older_state(&self, mid: Mid, event: &Event) -> Option<String> {
        match event {
            Event::ClientJoin(_) => {
                self.gone.contains(&mid).then(|| "it had gone for good".to_owned())
            }
            Event::ClientUpdate(e) => {
                let before = self.people.get(&mid).map_or(0, |person| counter(&person.attributes));
                let now = counter(&e.attributes.0);
                (now < before).then(|| format!("it counts from {before} to {now}"))
            }
            _ => None,
        }
    }

    fn apply(&mut self, mid: Mid, event: &Event) {
        if let Event::ClientJoin(e) = event {
            let person = FoldedMember {
                uid: e.uid,
                role: Role::Broadcaster,
                name: e.name.clone(),
                attributes: e.attributes.0.clone(),
                muted: kinds(e.muted),
                streams: Map::new(),
            };
            self.people.insert(mid, person);
            return;
        }
        if let Event::ClientLeave(e) = event {
            let left = self.people.remove(&mid);
            let for_good = left.is_some_and(|person| person.role == Role::Broadcaster)
                && e.reason.as_str() != "whileAway";
            if for_good {
                self.gone.insert(mid);
            }
            return;
        }
        let Some(person) = self.people.get_mut(&mid) else { return };
        match event {
            Event::ClientUpdate(e) => {
                person.name.clone_from(&e.name);
                person.attributes.clone_from(&e.attributes.0);
            }
            Event::RoleChanged(e) => person.role = e.role.clone(),
            Event::StreamAdded(e) => {
                person.streams.insert(e.media_type.clone(), e.publication);
            }
            Event::StreamRemoved(e) => {
                person.streams.remove(&e.media_type);
            }
            Event::Muted(e) => {
                person.muted.insert(e.media_type.clone());
            }
            Event::Unmuted(e) => {
                person.muted.remove(&e.media_type);
            }
            _ => {}
        }
    }
}

/// Why an event cannot concern this member in its present state.
fn misfit(person: &FoldedMember, event: &Event) -> Option<&'static str> {
    let wrong = match event {
        Event::ClientLeave(_) if !person.streams.is_empty() => "with open streams",
        Event::ClientUpdate(e) if e.name == person.name && e.attributes.0 == person.attributes => {
            "without a change"
        }
        Event::StreamAdded(e) if person.streams.contains_key(&e.media_type) => "added twice",
        Event::StreamRemoved(e) if person.streams.get(&e.media_type) != Some(&e.publication) => {
            "not the one that was added"
        }
        Event::Muted(e) if person.muted.contains(&e.media_type) => "muted twice",
        Event::Unmuted(e) if !person.muted.contains(&e.media_type) => "not muted",
        _ => return None,
    };
    Some(wrong)
}

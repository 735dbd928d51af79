//! A naive model of one channel. It gets only the inputs, and predicts the answer of each command, exactly the events
//! that it causes, the permission to push and play, and the members. It shares no code with the engine. Here URLs are
//! issued at once and no client is silent; [`crate::random`] covers the rest.

use std::collections::{BTreeMap, BTreeSet};

use lianmai_protocol::ErrorName::{self, *};
use lianmai_protocol::{Gen, KindSet, MediaKind, Mid, Rights, UserId};
use lianmai_signal_engine::Denial;
use proptest::prelude::*;

use crate::calls;
use crate::world::{Client, Entry, World, entry};

const KINDS: [&str; 4] = ["audio", "video", "screenShare", "slaveAudio"];
/// Selectors and kinds that clients send; the last one exists nowhere.
const WORDS: [&str; 6] = ["", "audio", "video", "screenShare", "slaveAudio", "smell"];
const UIDS: std::ops::RangeInclusive<u64> = 1..=5;
const WITNESS: u64 = 100;

#[derive(Clone, Debug)]
enum ModelOp {
    Join { uid: u64, audience: bool },
    Drop { uid: u64 },
    Pass { ms: u64 },
    Do { uid: u64, what: OpKind },
}

#[derive(Clone, Debug)]
enum OpKind {
    Leave,
    Publish(usize),
    Unpublish(usize, Option<u64>),
    Subscribe(u64, usize),
    Unsubscribe(u64, usize),
    Role(bool, Option<u64>),
    Mute(usize, bool, Option<u64>),
    Kick(u64, u32),
    Say,
    Attribute(u8, u8),
    ChannelAttribute(u8),
}

fn ops() -> impl Strategy<Value = Vec<ModelOp>> {
    let uid = UIDS;
    let other = || prop_oneof![3 => Just(None), 2 => (0u64..=6).prop_map(Some)];
    let word = || prop_oneof![9 => 0..4usize, 2 => 4..WORDS.len()];
    let what = prop_oneof![
        1 => Just(OpKind::Leave),
        6 => word().prop_map(OpKind::Publish),
        4 => (word(), other()).prop_map(|(k, u)| OpKind::Unpublish(k, u)),
        6 => (0u64..=6, word()).prop_map(|(u, k)| OpKind::Subscribe(u, k)),
        2 => (0u64..=6, word()).prop_map(|(u, k)| OpKind::Unsubscribe(u, k)),
        4 => (any::<bool>(), other()).prop_map(|(r, u)| OpKind::Role(r, u)),
        3 => (word(), any::<bool>(), other()).prop_map(|(k, on, u)| OpKind::Mute(k, on, u)),
        2 => (0u64..=6, prop_oneof![Just(0u32), Just(20), Just(700_000)])
            .prop_map(|(u, d)| OpKind::Kick(u, d)),
        1 => Just(OpKind::Say),
        1 => (0u8..2, 0u8..3).prop_map(|(k, v)| OpKind::Attribute(k, v)),
        1 => (0u8..3).prop_map(OpKind::ChannelAttribute),
    ];
    let op = prop_oneof![
        4 => (uid.clone(), any::<bool>()).prop_map(|(uid, a)| ModelOp::Join { uid, audience: a }),
        1 => uid.clone().prop_map(|uid| ModelOp::Drop { uid }),
        1 => (1u64..40_000).prop_map(|ms| ModelOp::Pass { ms }),
        20 => (uid, what).prop_map(|(uid, what)| ModelOp::Do { uid, what }),
    ];
    proptest::collection::vec(op, 1..120)
}

/// Each uid has rights of its own, so that every refusal occurs.
fn rights(uid: u64) -> Rights {
    let mut rights = Rights::MEMBER;
    match uid {
        1 => rights.moderate = true,
        2 => rights.publish = KindSet::of(&MediaKind::Audio),
        3 => rights.broadcast = false,
        4 => {
            rights.subscribe = KindSet::AUDIO_VIDEO;
            rights.message = false;
        }
        _ => {}
    }
    rights
}

fn newcomer(uid: u64) -> Entry {
    entry(uid).rights(|granted| *granted = rights(uid))
}

#[derive(Default)]
struct Person {
    visible: bool,
    published: BTreeSet<usize>,
    muted: BTreeSet<usize>,
    attributes: BTreeMap<String, String>,
    /// Publisher and kind.
    subscriptions: BTreeSet<(u64, usize)>,
    lost_at: Option<u64>,
}

#[derive(Default)]
struct Model {
    now: u64,
    people: BTreeMap<u64, Person>,
    topic: Option<String>,
    banned_until: BTreeMap<u64, u64>,
    /// Demoted by a moderator.
    demoted: BTreeSet<u64>,
    replaced: BTreeMap<u64, (u32, u64)>,
    events: Vec<String>,
}

/// The kinds that a selector means.
fn meant(word: usize) -> Result<Vec<usize>, ErrorName> {
    match word {
        0 => Ok(vec![0, 1]),
        1..=4 => Ok(vec![word - 1]),
        _ => Err(BadMediaType),
    }
}

fn slot(kind: usize) -> usize {
    kind.saturating_sub(1)
}

/// The kinds that are on the stream of a slot.
fn kinds_of(kinds: impl Iterator<Item = usize>, of_slot: usize) -> KindSet {
    let on_it = kinds.filter(|kind| slot(*kind) == of_slot);
    on_it.map(|kind| MediaKind::from(KINDS[kind])).collect()
}

fn right_to(set: KindSet, kind: usize) -> bool {
    set.contains(&MediaKind::from(KINDS[kind]))
}

impl Model {
    fn push_event(&mut self, event: String) {
        self.events.push(event);
    }

    fn unpublish(&mut self, uid: u64, kinds: &[usize]) {
        for kind in kinds {
            if self.people.get_mut(&uid).expect("in").published.remove(kind) {
                self.push_event(format!("streamRemoved {uid} {}", KINDS[*kind]));
                for person in self.people.values_mut() {
                    person.subscriptions.remove(&(uid, *kind));
                }
            }
        }
    }

    fn end(&mut self, uid: u64, reason: &str) {
        self.unpublish(uid, &[0, 1, 2, 3]);
        if self.people.remove(&uid).expect("in").visible {
            self.push_event(format!("clientLeave {uid} {reason}"));
        }
    }

    fn join(&mut self, uid: u64, audience: bool) -> Result<(), ErrorName> {
        if self.banned_until.get(&uid).is_some_and(|until| *until > self.now) {
            return Err(Banned);
        }
        let visible = !audience;
        if visible && !rights(uid).broadcast {
            return Err(Forbidden);
        }
        let visible = visible && !self.demoted.contains(&uid);
        if let Some(person) = self.people.get(&uid) {
            if person.lost_at.is_none() {
                let now = self.now;
                let (count, since) = self.replaced.entry(uid).or_insert((0, now));
                if now - *since >= 60_000 {
                    (*count, *since) = (0, now);
                }
                if *count == 3 {
                    return Err(ReplacedTooOften);
                }
                *count += 1;
            }
            self.end(uid, "replaced");
        }
        self.people.insert(uid, Person { visible, ..Person::default() });
        if visible {
            self.push_event(format!("clientJoin {uid}"));
        }
        Ok(())
    }

    fn pass(&mut self, ms: u64) {
        let until = self.now + ms;
        loop {
            let due = self.people.iter().filter_map(|(uid, p)| Some((p.lost_at? + 30_000, *uid)));
            match due.min().filter(|(at, _)| *at <= until) {
                Some((_, uid)) => self.end(uid, "timeout"),
                None => break,
            }
        }
        self.now = until;
    }

    /// The target of a command.
    fn target(&self, uid: u64, other: Option<u64>) -> Result<u64, ErrorName> {
        match other {
            Some(other) if other != uid && !rights(uid).moderate => Err(Forbidden),
            Some(other) if !self.people.contains_key(&other) => Err(NoSuchMember),
            other => Ok(other.unwrap_or(uid)),
        }
    }

    fn person(&mut self, uid: u64) -> &mut Person {
        self.people.get_mut(&uid).expect("in")
    }

    fn command(&mut self, uid: u64, what: &OpKind) -> Result<(), ErrorName> {
        match *what {
            OpKind::Leave => self.end(uid, "left"),
            OpKind::Publish(word) => {
                let kinds = meant(word)?;
                if !self.person(uid).visible {
                    return Err(NotBroadcaster);
                }
                if !kinds.iter().all(|kind| right_to(rights(uid).publish, *kind)) {
                    return Err(PublishForbidden);
                }
                for kind in kinds {
                    if self.person(uid).published.insert(kind) {
                        self.push_event(format!("streamAdded {uid} {}", KINDS[kind]));
                    }
                }
            }
            OpKind::Unpublish(word, other) => {
                let target = self.target(uid, other)?;
                self.unpublish(target, &meant(word)?);
            }
            OpKind::Subscribe(of, word) => {
                let kind = *meant(word)?.first().filter(|_| word != 0).ok_or(BadMediaType)?;
                if of == uid {
                    return Err(SelfTarget);
                }
                let publisher = self.people.get(&of).filter(|person| person.visible);
                let published = publisher.ok_or(NoSuchMember)?.published.contains(&kind);
                if !right_to(rights(uid).subscribe, kind) {
                    return Err(SubscribeForbidden);
                }
                if !published {
                    return Err(NotPublished);
                }
                self.person(uid).subscriptions.insert((of, kind));
            }
            OpKind::Unsubscribe(of, word) => {
                let kind = *meant(word)?.first().filter(|_| word != 0).ok_or(BadMediaType)?;
                self.person(uid).subscriptions.remove(&(of, kind));
            }
            OpKind::Role(broadcaster, other) => {
                let target = self.target(uid, other)?;
                if target != uid && !broadcaster {
                    self.demoted.insert(target);
                }
                if self.person(target).visible == broadcaster {
                    return Ok(());
                }
                if broadcaster {
                    let kept = target == uid && self.demoted.contains(&target);
                    if !rights(target).broadcast || kept {
                        return Err(Forbidden);
                    }
                    self.demoted.remove(&target);
                    self.push_event(format!("clientJoin {target}"));
                    self.push_event(format!("roleChanged {target} broadcaster"));
                } else {
                    self.unpublish(target, &[0, 1, 2, 3]);
                    self.push_event(format!("roleChanged {target} audience"));
                    self.push_event(format!("clientLeave {target} roleChanged"));
                }
                self.person(target).visible = broadcaster;
            }
            OpKind::Mute(word, on, other) => {
                let target = self.target(uid, other)?;
                let kinds = meant(word)?;
                if kinds.iter().any(|kind| *kind > 1) {
                    return Err(BadMediaType);
                }
                // An audience member would not learn that a moderator muted it.
                if target != uid && !self.person(target).visible {
                    return Err(NoSuchMember);
                }
                for kind in kinds {
                    let person = self.person(target);
                    let changed =
                        if on { person.muted.insert(kind) } else { person.muted.remove(&kind) };
                    if changed && person.visible {
                        let event = if on { "muted" } else { "unmuted" };
                        self.push_event(format!("{event} {target} {}", KINDS[kind]));
                    }
                }
            }
            OpKind::Kick(whom, duration_s) => {
                if !rights(uid).moderate {
                    return Err(Forbidden);
                }
                if whom == uid {
                    return Err(SelfTarget);
                }
                if duration_s > 604_800 {
                    return Err(BadDuration);
                }
                if !self.people.contains_key(&whom) && duration_s == 0 {
                    return Err(NoSuchMember);
                }
                let until = self.now + u64::from(duration_s) * 1_000;
                let banned = self.banned_until.entry(whom).or_insert(until);
                *banned = until.max(*banned);
                if self.people.contains_key(&whom) {
                    self.end(whom, "kicked");
                }
            }
            OpKind::Say => {
                if !rights(uid).message {
                    return Err(Forbidden);
                }
                self.push_event(format!("message {uid} hi"));
            }
            OpKind::Attribute(key, value) => {
                if !rights(uid).message {
                    return Err(Forbidden);
                }
                let (key, value) = (key.to_string(), value.to_string());
                let person = self.person(uid);
                let changed = person.attributes.insert(key, value.clone()) != Some(value);
                if changed && person.visible {
                    self.push_event(format!("clientUpdate {uid}"));
                }
            }
            OpKind::ChannelAttribute(value) => {
                if !rights(uid).moderate {
                    return Err(Forbidden);
                }
                let value = Some(value.to_string());
                if self.topic != value {
                    self.topic = value;
                    self.push_event("channelUpdate".to_owned());
                }
            }
        }
        Ok(())
    }
}

fn call(what: &OpKind) -> lianmai_protocol::message::Call {
    use lianmai_protocol::message::Call;
    use lianmai_protocol::message::media::{Mute, SetRole};
    match *what {
        OpKind::Leave => calls::leave(),
        OpKind::Publish(word) => calls::publish(WORDS[word]),
        OpKind::Unpublish(word, None) => calls::unpublish(WORDS[word]),
        OpKind::Unpublish(word, Some(other)) => calls::unpublish_of(other, WORDS[word]),
        OpKind::Subscribe(of, word) => calls::subscribe(of, WORDS[word]),
        OpKind::Unsubscribe(of, word) => calls::unsubscribe(of, WORDS[word]),
        OpKind::Role(broadcaster, other) => Call::SetRole(SetRole {
            role: if broadcaster { "broadcaster" } else { "audience" }.into(),
            uid: other.map(UserId),
        }),
        OpKind::Mute(word, on, other) => {
            let params = Mute { media_type: calls::selector(WORDS[word]), uid: other.map(UserId) };
            if on { Call::Mute(params) } else { Call::Unmute(params) }
        }
        OpKind::Kick(whom, duration_s) => calls::kick(whom, duration_s),
        OpKind::Say => calls::send_message("hi"),
        OpKind::Attribute(key, value) => {
            calls::set_attributes(&[(&key.to_string(), &value.to_string())])
        }
        OpKind::ChannelAttribute(value) => {
            calls::set_channel_attributes(&[("t", &value.to_string())])
        }
    }
}

/// The engine, the model, and their common state.
struct Pair {
    w: World,
    model: Model,
    witness: Client,
    clients: BTreeMap<u64, Client>,
    /// The live stream of a publisher's slot, as the last answer of `publish` told it.
    answered_streams: BTreeMap<(u64, usize), Gen>,
    mids: BTreeMap<u64, Mid>,
    /// The viewers that could play after the last step.
    could: BTreeSet<(Gen, Mid)>,
}

impl Pair {
    fn new() -> Pair {
        let mut w = World::with(|config| {
            config.limits.commands_per_second = 1_000_000;
            config.limits.command_burst = 1_000_000;
        });
        let witness = w.admit(entry(WITNESS).audience());
        w.advance(20);
        Pair {
            w,
            model: Model::default(),
            witness,
            clients: BTreeMap::new(),
            answered_streams: BTreeMap::new(),
            mids: BTreeMap::new(),
            could: BTreeSet::new(),
        }
    }

    fn pass(&mut self, ms: u64) {
        let present: Vec<Client> = self.clients.values().copied().chain([self.witness]).collect();
        self.w.advance_alive(ms, &present);
        self.model.pass(ms);
    }

    fn step(&mut self, op: &ModelOp) {
        match op {
            ModelOp::Join { uid, audience } => {
                let role = if *audience { "audience" } else { "broadcaster" };
                let result = self.w.enter(newcomer(*uid).role(role));
                let predicted = self.model.join(*uid, *audience);
                let error = result.as_ref().map(|_| ()).map_err(|error| error.name().clone());
                assert_eq!(error, predicted, "{op:?}");
                if let Ok(client) = result {
                    self.mids.insert(*uid, self.w.mid(client));
                    self.clients.insert(*uid, client);
                }
            }
            ModelOp::Drop { uid } => {
                if let Some(client) = self.clients.remove(uid) {
                    self.w.drop_socket(client);
                    let now = self.model.now;
                    self.model.person(*uid).lost_at = Some(now);
                }
            }
            ModelOp::Pass { ms } => self.pass(*ms),
            ModelOp::Do { uid, what } => {
                let Some(client) = self.clients.get(uid).copied() else { return };
                let answer = self.w.ask(client, call(what));
                let predicted = self.model.command(*uid, what);
                let error = answer.as_ref().map(|_| ()).map_err(|error| error.name().clone());
                assert_eq!(error, predicted, "{op:?}");
                if let (OpKind::Publish(word), Ok(published)) = (what, &answer) {
                    let generation: Gen =
                        serde_json::from_value(published["gen"].clone()).expect("a gen");
                    let slot = slot(meant(*word).expect("published")[0]);
                    self.answered_streams.insert((*uid, slot), generation);
                }
            }
        }
        self.pass(20);
        let heard = self.w.new_events(self.witness);
        assert_eq!(heard, std::mem::take(&mut self.model.events), "{op:?}");
        // Members that the model has lost have no open socket, and all others have one.
        self.clients.retain(|_, client| self.w.closed(*client).is_none());
        let present: Vec<u64> = self.clients.keys().copied().collect();
        let people = self.model.people.iter().filter(|(_, person)| person.lost_at.is_none());
        let expected: Vec<u64> = people.map(|(uid, _)| *uid).collect();
        assert_eq!(present, expected, "{op:?}");
        self.check_media();
    }

    /// Every stream ever told: it may be pushed while its slot is published, and played by its subscribers.
    fn check_media(&mut self) {
        let slots = |person: &Person| -> BTreeSet<usize> {
            person.published.iter().map(|kind| slot(*kind)).collect()
        };
        let live: BTreeSet<(u64, usize)> = self
            .model
            .people
            .iter()
            .flat_map(|(uid, person)| slots(person).into_iter().map(|slot| (*uid, slot)))
            .collect();
        self.answered_streams.retain(|key, _| live.contains(key));
        assert_eq!(self.answered_streams.keys().copied().collect::<BTreeSet<_>>(), live);
        let current: BTreeMap<Gen, (u64, usize)> =
            self.answered_streams.iter().map(|(key, generation)| (*generation, *key)).collect();
        assert_eq!(current.len(), live.len(), "each slot has a stream of its own");
        let mut can = BTreeSet::new();
        for generation in self.w.minted.clone() {
            let push = self.w.pushed(generation);
            let Some((owner, of_slot)) = current.get(&generation) else {
                assert_eq!(push, Err(Denial::UnknownStream));
                assert!(self.w.cut.contains(&generation), "an ended stream is cut");
                continue;
            };
            let published = self.model.people[owner].published.iter().copied();
            assert_eq!(push, Ok(kinds_of(published, *of_slot)), "{owner} publishes");
            assert!(!self.w.cut.contains(&generation), "a live stream is not cut");
            for (uid, person) in &self.model.people {
                let subscribed = person.subscriptions.iter().filter(|(of, _)| of == owner);
                let kinds = kinds_of(subscribed.map(|(_, kind)| *kind), *of_slot);
                let mid = self.mids[uid];
                let may = !kinds.is_empty();
                let expected = if may { Ok(kinds) } else { Err(Denial::NotSubscribed) };
                assert_eq!(self.w.played(generation, mid), expected, "{uid} plays {owner}");
                if may {
                    can.insert((generation, mid));
                }
            }
        }
        // A viewer that lost a stream that goes on was cut from it, and no other viewer was.
        let lost =
            self.could.difference(&can).filter(|(generation, _)| current.contains_key(generation));
        let lost: BTreeSet<(Gen, Mid)> = lost.copied().collect();
        let cut = std::mem::take(&mut self.w.cut_viewers);
        // A viewer of an ending publisher may be cut from a stream that ends in the same step.
        let cut = cut.into_iter().filter(|(generation, _)| current.contains_key(generation));
        assert_eq!(cut.collect::<BTreeSet<_>>(), lost);
        self.could = can;
    }

    fn finish(&mut self) {
        self.w.audit();
        // This lets time pass, in which a grace may end.
        self.model.pass(20);
        let views = self.w.members(&crate::world::room("plain"));
        assert_eq!(views.len(), self.model.people.len() + 1);
        for (uid, person) in &self.model.people {
            let view = views.iter().find(|view| view.uid == UserId(*uid)).expect("listed");
            let names = |kinds: &BTreeSet<usize>| -> KindSet {
                kinds.iter().map(|kind| MediaKind::from(KINDS[*kind])).collect()
            };
            assert_eq!(view.role.as_str() == "broadcaster", person.visible);
            assert_eq!(view.published, names(&person.published));
            assert_eq!(view.muted, names(&person.muted));
            assert_eq!(view.connected, person.lost_at.is_none());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// Proves ATT-2, JOI-3, JOI-4, KIC-2, KIC-4, LIV-3, MET-3, MET-4, MUT-2, MUT-3, PUB-1, PUB-2.
    /// Proves PUB-3, PUB-5, ROL-1, ROL-2, SUB-2, SUB-3, SUB-5, URL-5, URL-6.
    #[test]
    fn the_engine_does_what_the_model_predicts(ops in ops()) {
        let mut pair = Pair::new();
        // Start with a full channel, or most commands find no target.
        for uid in UIDS {
            pair.step(&ModelOp::Join { uid, audience: uid == 3 });
        }
        for op in &ops {
            pair.step(op);
        }
        pair.finish();
    }
}

//! The difference of two pictures: applying it gives the later picture, an app that only uses events sees the same,
//! only actual changes are reported, and the order is consistent.
//! Proves CLI-4.

use std::collections::{BTreeMap, BTreeSet};

use lianmai_client_sdk::protocol::message::ChannelEvent;
use lianmai_client_sdk::protocol::message::event::LeaveReason;
use lianmai_client_sdk::protocol::message::session::Joined;
use lianmai_client_sdk::protocol::message::snapshot::*;
use lianmai_client_sdk::protocol::message::task::TaskInfo;
use lianmai_client_sdk::protocol::*;
use lianmai_client_sdk::session::*;
use proptest::prelude::*;

use super::support::*;

/// A user in a picture: the membership and its state.
#[derive(Clone, Debug)]
struct Person {
    mid: u8,
    listed: bool,
    named: Option<u8>,
    muted: u8,
    /// The publication of each kind; 0 is none.
    streams: [u8; 3],
}

fn person() -> impl Strategy<Value = Person> {
    (1u8..3, any::<bool>(), prop::option::of(0u8..2), 0u8..4, prop::array::uniform3(0u8..3))
        .prop_map(|(mid, listed, named, muted, streams)| Person {
            mid,
            listed,
            named,
            muted,
            streams,
        })
}

type Scene = (BTreeMap<u8, Person>, Person, [u8; 2], u8, u64);

/// The other members by uid, the app itself, tasks, an attribute of the channel, and the number of members.
fn scene() -> impl Strategy<Value = Scene> {
    let others = prop::collection::btree_map(10u8..15, person(), 0..5);
    (others, person(), prop::array::uniform2(0u8..3), 0u8..3, 0u64..3)
}

const KINDS: [MediaKind; 3] = [MediaKind::Audio, MediaKind::Video, MediaKind::ScreenShare];

fn kinds(bits: u8) -> KindSet {
    let on = KINDS[..2].iter().enumerate().filter(|(n, _)| bits & (1 << n) != 0);
    on.map(|(_, kind)| kind.clone()).collect()
}

fn attributes(value: Option<u8>) -> Attributes {
    Attributes(value.map(|v| ("k".to_owned(), v.to_string())).into_iter().collect())
}

fn picture((others, me, tasks, attribute, count): &Scene, seq: u64) -> Picture {
    let mut hello: Joined = snapshot(Role::Audience, seq, vec![]);
    let info = |uid: u8, p: &Person| {
        let streams = KINDS.iter().zip(p.streams).filter(|(_, publication)| *publication != 0);
        let streams = streams.map(|(kind, publication)| StreamInfo {
            media_type: kind.clone(),
            publication: Pub([uid.wrapping_mul(10) + publication; 12]),
        });
        MemberInfo {
            name: p.named.map(|n| n.to_string()),
            attributes: attributes(p.named),
            muted: kinds(p.muted),
            streams: streams.collect(),
            ..member(UserId(uid.into()), Mid([uid * 8 + p.mid; 12]))
        }
    };
    let mine = info(7, me);
    hello.members = others.iter().filter(|(_, p)| p.listed).map(|(uid, p)| info(*uid, p)).collect();
    hello.own.mid = mine.mid;
    hello.own.name.clone_from(&mine.name);
    hello.own.attributes = mine.attributes.clone();
    hello.own.muted = mine.muted;
    if me.listed {
        hello.own.role = Role::Broadcaster;
        let own = mine.streams.iter().map(|s| OwnStream {
            media_type: s.media_type.clone(),
            publication: s.publication,
            generation: GEN,
        });
        hello.own.published = own.collect();
        hello.members.push(mine);
    }
    let task = |(n, code): (usize, &u8)| TaskInfo {
        task_id: format!("t{n}").parse().unwrap(),
        uid: Some(ME),
        state: None,
        code: 504 + u16::from(*code),
        revision: 1,
        retries: u32::from(*code),
    };
    hello.channel.tasks =
        tasks.iter().enumerate().filter(|(_, code)| **code != 0).map(task).collect();
    hello.channel.attributes = attributes((*attribute != 0).then_some(*attribute));
    hello.member_count = *count;
    Picture::from_snapshot(hello, MonoTime(0))
}

type Streams = BTreeSet<(UserId, Mid, MediaKind, Pub)>;

fn streams(picture: &Picture) -> Streams {
    let of = |m: &Member| {
        let (uid, mid) = (m.uid, m.mid);
        m.streams.clone().into_iter().map(move |(kind, publication)| (uid, mid, kind, publication))
    };
    picture.members.values().flat_map(of).collect()
}

fn members(picture: &Picture) -> BTreeSet<(UserId, Mid)> {
    picture.members.values().map(|m| (m.uid, m.mid)).collect()
}

/// The minimal number of events, counted by sets, without regard to order.
fn least(old: &Picture, new: &Picture) -> usize {
    let mut count = streams(old).symmetric_difference(&streams(new)).count();
    count += members(old).symmetric_difference(&members(new)).count();
    let tells = |role: &Role, name: &Option<String>, attributes: &Attributes, muted: KindSet| {
        (role.clone(), name.clone(), attributes.clone(), muted)
    };
    let mut pairs = vec![(
        tells(&old.own.role, &old.own.name, &old.own.attributes, old.own.muted),
        tells(&new.own.role, &new.own.name, &new.own.attributes, new.own.muted),
    )];
    for (uid, mid) in members(old).intersection(&members(new)).filter(|(uid, _)| *uid != ME) {
        let of = |p: &Picture| {
            let m = &p.members[uid];
            assert_eq!(m.mid, *mid);
            tells(&m.role, &m.name, &m.attributes, m.muted)
        };
        pairs.push((of(old), of(new)));
    }
    for (before, after) in pairs {
        count += usize::from(before.0 != after.0);
        count += usize::from((before.1, before.2) != (after.1, after.2));
        let differ = |kind: &&MediaKind| before.3.contains(kind) != after.3.contains(kind);
        count += MediaKind::ALL.iter().filter(differ).count();
    }
    count += usize::from(old.attributes != new.attributes);
    let tasks: BTreeSet<&TaskId> = old.tasks.keys().chain(new.tasks.keys()).collect();
    count += tasks.into_iter().filter(|id| old.tasks.get(*id) != new.tasks.get(*id)).count();
    count += usize::from(old.member_count != new.member_count);
    count
}

/// The phase of a step in the order of CLI-4.
fn phase(event: &ChannelEvent) -> u8 {
    match event {
        ChannelEvent::StreamRemoved(_) => 0,
        ChannelEvent::ClientLeave(_) => 1,
        ChannelEvent::ClientJoin(_) => 2,
        ChannelEvent::StreamAdded(_) => 4,
        _ => 3,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cli_4_the_difference_folds_to_the_snapshot_and_says_no_more(before in scene(), after in scene()) {
        let (old, new) = (picture(&before, 10), picture(&after, 20));
        let steps = old.diff(&new);

        let mut folded = Some(old.clone());
        for step in &steps {
            step.apply(&mut folded);
        }
        prop_assert_eq!(folded.as_ref(), Some(&new));

        let silent = |step: &&Change| matches!(step, Change::CaughtUp(_) | Change::Reentered(_));
        prop_assert_eq!(steps.iter().filter(|step| !silent(step)).count(), least(&old, &new));

        // The other members come first, in the order of the phases; joins and leaves pair, and streams belong to
        // members.
        let mut listed = members(&old);
        let mut present = streams(&old);
        let mut last = (false, 0);
        for step in &steps {
            let Change::WhileAway(event) = step else { continue };
            let own = |uid: UserId| uid == ME;
            let about_me = match event {
                ChannelEvent::StreamRemoved(e) | ChannelEvent::StreamAdded(e) => own(e.uid),
                ChannelEvent::ClientLeave(e) => own(e.uid),
                ChannelEvent::ClientJoin(e) => own(e.uid),
                ChannelEvent::ClientUpdate(e) => own(e.uid),
                ChannelEvent::RoleChanged(e) => own(e.uid),
                ChannelEvent::Muted(e) | ChannelEvent::Unmuted(e) => own(e.uid),
                _ => false,
            };
            let place = (about_me, if about_me { 0 } else { phase(event) });
            prop_assert!(last <= place, "{:?} behind {:?}", place, last);
            last = place;
            match event {
                ChannelEvent::StreamRemoved(e) => {
                    prop_assert!(present.remove(&(e.uid, e.mid, e.media_type.clone(), e.publication)));
                }
                ChannelEvent::StreamAdded(e) => {
                    prop_assert!(listed.contains(&(e.uid, e.mid)));
                    prop_assert!(present.insert((e.uid, e.mid, e.media_type.clone(), e.publication)));
                }
                ChannelEvent::ClientLeave(e) => {
                    prop_assert!(listed.remove(&(e.uid, e.mid)));
                    prop_assert!(!present.iter().any(|(uid, ..)| *uid == e.uid), "streams go first");
                    let back = new.members.contains_key(&e.uid);
                    let reason = if back { LeaveReason::Replaced } else { LeaveReason::WhileAway };
                    prop_assert!(about_me || e.reason == reason);
                }
                ChannelEvent::ClientJoin(e) => {
                    prop_assert!(!listed.iter().any(|(uid, _)| *uid == e.uid), "one at a time");
                    listed.insert((e.uid, e.mid));
                }
                _ => {}
            }
        }
        prop_assert_eq!(listed, members(&new));
        prop_assert_eq!(present, streams(&new));
    }
}

#[test]
fn cli_4_equal_pictures_differ_in_nothing_but_their_place() {
    let calm =
        (BTreeMap::new(), Person { mid: 1, listed: true, named: None, muted: 0, streams: [0; 3] });
    let scene = |_| (calm.0.clone(), calm.1.clone(), [1, 0], 1, 5);
    let steps = picture(&scene(0), 10).diff(&picture(&scene(1), 20));
    assert!(matches!(&steps[..], [Change::CaughtUp(rest)] if rest.seq == 20));
}

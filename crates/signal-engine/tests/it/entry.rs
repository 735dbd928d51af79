//! Joining and leaving: snapshots, events for others, refusals.

use lianmai_protocol::message::Notice;
use lianmai_protocol::message::event::LeaveReason;
use lianmai_protocol::{Action, CloseCode, ErrorName, Role, UserId};
use lianmai_signal_engine::Note;

use crate::calls::*;
use crate::world::{Issuer, World, entry};

/// Proves ORD-2.
#[test]
fn the_first_joiner_makes_the_channel_and_sees_itself_in_the_snapshot() {
    let mut w = World::new();
    let a = w.admit(entry(1).name("Ann").attribute("seat", "3"));
    let joined = w.joined(a).clone();
    assert_eq!(joined.uid, UserId(1));
    assert_eq!(joined.channel.creator, UserId(1));
    assert_eq!(joined.deployment_id, "dep");
    assert_eq!(joined.member_count, 1);
    assert_eq!(joined.timers.grace_ms, 30_000);
    assert_eq!(joined.timers.dead_after_ms, 25_000);
    let me = &joined.members[..];
    assert_eq!(me.len(), 1);
    assert_eq!((me[0].uid, me[0].mid), (UserId(1), joined.mid));
    assert_eq!(me[0].name.as_deref(), Some("Ann"));
    assert_eq!(me[0].attributes["seat"], "3");
    assert_eq!(joined.own.role, Role::Broadcaster);
    assert_eq!(joined.own.mid, joined.mid);
    w.advance(100);
    assert!(w.new_events(a).is_empty(), "one's own clientJoin is in the snapshot and not sent");
}

/// Proves EVT-4, JOI-1, LEA-1.
#[test]
fn others_hear_a_broadcaster_join_and_leave_but_no_audience() {
    let mut w = World::new();
    let a = w.join(1);
    w.advance(20);
    let b = w.join(2);
    assert_eq!(w.new_events(a), ["clientJoin 2"]);
    let c = w.admit(entry(3).audience());
    w.advance(100);
    assert!(w.new_events(a).is_empty() && w.new_events(b).is_empty());
    assert_eq!(w.joined(c).members.len(), 2, "broadcasters only (JOI-1)");
    assert_eq!(w.joined(c).member_count, 3);
    assert_eq!(w.joined(c).own.role, Role::Audience);
    w.ok(c, leave());
    w.ok(b, leave());
    w.advance(100);
    assert_eq!(w.new_events(a), ["clientLeave 2 left"]);
    w.audit();
}

/// Proves ORD-2.
#[test]
fn the_event_after_a_snapshot_has_the_next_number() {
    let mut w = World::new();
    let a = w.join(1);
    // Two events wait for the flush while b joins: they are in its snapshot.
    w.ok(a, mute("audio"));
    w.ok(a, mute("video"));
    let b = w.join(2);
    let seq = w.joined(b).seq;
    w.ok(a, send_message("next"));
    w.advance(100);
    let events = &w.conns[&b.0].events;
    assert_eq!(events[0].seq, seq + 1);
    assert_eq!(w.new_events(b), ["message 1 next"]);
    let muted = w.joined(b).members[0].muted;
    assert_eq!(muted, lianmai_protocol::KindSet::AUDIO_VIDEO);
}

/// Proves EVT-3, LEA-1, LEA-2, SES-6.
#[test]
fn leave_is_answered_behind_its_events_and_then_closed_with_1000() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.push_url(b, "");
    w.advance(100);
    w.skip_received();
    w.ok(b, leave());
    let end = [
        "streamRemoved 2 audio",
        "streamRemoved 2 video",
        "clientLeave 2 left",
        "leave ok",
        "~closing left",
    ];
    assert_eq!(w.log(b), end);
    assert_eq!(w.closed(b), Some(CloseCode::NORMAL));
    w.advance(100);
    assert_eq!(w.new_events(a), &end[..3]);
    let left = w.notes.iter().filter(|note| {
        matches!(note, Note::MemberLeft { uid: UserId(2), reason: LeaveReason::Left, .. })
    });
    assert_eq!(left.count(), 1);
}

/// Proves FRM-10, JOI-8.
#[test]
fn after_everyone_left_the_engine_holds_nothing_and_the_next_join_starts_anew() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.push_url(a, "");
    w.pull_url(b, 1, "audio");
    let (cid, epoch) = (w.joined(a).cid, w.joined(a).epoch);
    w.ok(a, leave());
    w.ok(b, leave());
    w.assert_empty();
    let c = w.join(2);
    assert_ne!(w.joined(c).cid, cid);
    assert_ne!(w.joined(c).epoch, epoch);
    assert_eq!(w.joined(c).channel.creator, UserId(2));
    assert_eq!(w.joined(c).seq, 1);
}

/// Proves no rule of the protocol: the uid that a join without one gets (table of `join`).
#[test]
fn a_join_without_uid_gets_a_free_one_between_2_32_and_2_53() {
    let mut w = World::new();
    let a = w.admit(entry(0).anyone());
    let b = w.admit(entry(0).anyone());
    let (a, b) = (w.joined(a).uid.0, w.joined(b).uid.0);
    assert_ne!(a, b);
    assert!((1 << 32..1 << 53).contains(&a) && (1 << 32..1 << 53).contains(&b));
    // A join that names no uid gets that of its token.
    let c = w.admit(entry(0).anyone().grant(|grant| grant.uid = Some(UserId(7))));
    assert_eq!(w.joined(c).uid, UserId(7));
}

/// Proves no rule of the protocol: channels of two apps are separate (terms).
#[test]
fn the_same_name_in_another_app_is_another_channel() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.admit(entry(1).app("creator"));
    let c = w.admit(entry(1).channel("room2"));
    assert_eq!(w.engine.stats().channels, 3);
    assert_eq!(w.engine.stats().members, 3);
    assert!(w.closed(a).is_none() && w.closed(b).is_none() && w.closed(c).is_none());
}

/// Proves JOI-5, JOI-6, JOI-9, MET-2, SES-4.
#[test]
fn a_refused_join_is_answered_announced_closed_and_leaves_nothing() {
    let refused = [
        (entry(1).app("nobody"), ErrorName::BadAppkey),
        (entry(1).bad_token(ErrorName::TokenInvalid), ErrorName::TokenInvalid),
        (entry(1).role("king"), ErrorName::BadRole),
        (entry(1).name(&"n".repeat(129)), ErrorName::BadName),
        (entry(1).attribute("", "x"), ErrorName::BadAttributes),
        (entry(1).attribute("k", &"x".repeat(4096)), ErrorName::AttributesTooLarge),
        (entry(1).join_id("short"), ErrorName::InvalidParams),
        (entry(1).join_id(&"j".repeat(65)), ErrorName::InvalidParams),
        (
            entry(1).role("broadcaster").rights(|rights| rights.broadcast = false),
            ErrorName::Forbidden,
        ),
    ];
    for (entry, error) in refused {
        let mut w = World::new();
        let client = w.send_join(entry);
        assert_eq!(w.error(client, 1), error);
        assert_eq!(w.closing(client).expect("announced").action, Action::None);
        assert_eq!(w.closed(client), Some(CloseCode::JOIN_REFUSED));
        assert_eq!(w.engine.stats().refusals, 1);
        w.assert_empty();
    }
}

/// Proves SES-4.
#[test]
fn an_expired_token_asks_for_a_new_one() {
    let mut w = World::new();
    let late = entry(1).jwt(&w, 100_000, 0).grant(|grant| {
        grant.expires = grant.expires.map(|at| lianmai_protocol::WallTime(at.0 - 5_000));
    });
    let client = w.send_join(late);
    assert_eq!(w.error(client, 1), ErrorName::TokenExpired);
    let closing = w.closing(client).expect("announced");
    assert_eq!((closing.code, closing.action), (CloseCode::JOIN_REFUSED, Action::RenewToken));
    // Also if the shell has found that.
    let client = w.send_join(entry(1).bad_token(ErrorName::TokenExpired));
    assert_eq!(w.closing(client).expect("announced").action, Action::RenewToken);
}

/// Proves no rule of the protocol: the role that a join without one gets (table of `join`).
#[test]
fn without_the_right_broadcast_the_default_role_is_audience() {
    let mut w = World::new();
    let a = w.admit(entry(1).rights(|rights| rights.broadcast = false));
    assert_eq!(w.joined(a).own.role, Role::Audience);
    assert!(w.joined(a).members.is_empty());
}

/// Proves ORD-2.
#[test]
fn the_snapshot_tells_the_caller_its_rights_and_a_newcomer_everything() {
    let mut w = World::new();
    let a = w.admit(entry(1).moderator().name("Ann"));
    assert!(w.joined(a).own.rights.moderate);
    w.push_url(a, "");
    w.push_url(a, "screenShare");
    w.ok(a, mute("video"));
    w.ok(a, set_channel_attributes(&[("topic", "tea")]));
    w.ok(a, set_attributes(&[("seat", "1")]));
    let b = w.join(2);
    assert!(!w.joined(b).own.rights.moderate);
    let joined = w.joined(b).clone();
    assert_eq!(joined.channel.attributes["topic"], "tea");
    let ann = joined.members.iter().find(|m| m.uid == UserId(1)).expect("visible");
    assert_eq!(ann.attributes["seat"], "1");
    assert_eq!(ann.name.as_deref(), Some("Ann"));
    let kinds: Vec<&str> = ann.streams.iter().map(|s| s.media_type.as_str()).collect();
    assert_eq!(kinds, ["audio", "video", "screenShare"]);
    w.audit();
}

/// The answer of a join was lost: the same join finds its membership.
/// Proves JOI-2.
#[test]
fn joi_2_a_client_without_uid_is_identified_by_its_join_id() {
    let nobody = || entry(0).anyone().join_id("0123456789abcdef");
    let mut w = World::new();
    let watcher = w.join(1);
    let lost = w.admit(nobody());
    let again = w.admit(nobody());
    assert_eq!(w.mid(again), w.mid(lost));
    assert_eq!(w.joined(again).uid, w.joined(lost).uid);
    let other = w.admit(entry(0).anyone().join_id("fedcba9876543210"));
    assert_ne!(w.joined(other).uid, w.joined(lost).uid);
    w.advance(100);
    assert_eq!(w.new_events(watcher).len(), 2, "two joined");
    // If another member has that uid already, the join gets another one.
    let uid = w.joined(lost).uid;
    let mut w = World::new();
    w.admit(entry(uid.0));
    let third = w.admit(nobody());
    assert_ne!(w.joined(third).uid, uid);
}

/// Proves SES-1.
#[test]
fn a_second_join_on_a_joined_connection_is_refused() {
    let mut w = World::new();
    let a = w.join(1);
    let join = entry(2).join;
    let again = || lianmai_protocol::message::Call::Join(join.clone());
    assert_eq!(w.err(a, again()), ErrorName::AlreadyJoined);
    // Its id is not counted in the session, whatever it is (IDS-1).
    for id in [1, 2, (1 << 53) - 1] {
        w.send_as(a, id, again());
        assert_eq!(w.error(a, id), ErrorName::AlreadyJoined);
    }
    w.ok(a, send_message("goes on"));
    w.issuer = Issuer::Hold;
    w.send(a, publish("audio"));
    assert_eq!(w.err(a, again()), ErrorName::AlreadyJoined, "it does not wait");
    assert!(w.closed(a).is_none());
}

/// Proves NOT-1.
#[test]
fn member_count_comes_at_most_once_a_second_and_only_when_changed() {
    let mut w = World::new();
    let a = w.join(1);
    let counts = |w: &World| -> Vec<(u64, u64)> {
        let notices = w.conns[&a.0].notices.iter();
        notices
            .filter_map(|(at, notice)| match notice {
                Notice::MemberCount(count) => Some((at.0, count.count)),
                _ => None,
            })
            .collect()
    };
    w.advance(3_000);
    let start = counts(&w).len();
    // Thirty audience joins within 3 s cause few notices, and the last one is correct.
    for uid in 10..40 {
        w.admit(entry(uid).audience());
        w.advance(100);
    }
    w.advance(1_000);
    let sent = counts(&w)[start..].to_vec();
    assert!((2..=4).contains(&sent.len()), "{sent:?}");
    assert!(sent.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 1_000), "{sent:?}");
    assert_eq!(sent.last().expect("one").1, 31);
    // A member that joins and leaves within the second was told a count: the next count is sent to all.
    let d = w.admit(entry(50).audience());
    w.ok(d, leave());
    w.advance(5_000);
    let before = counts(&w).len();
    assert_eq!(counts(&w).last().expect("one").1, 31);
    w.advance_alive(20_000, &[a]);
    assert_eq!(counts(&w).len(), before);
}

/// Proves NOT-1.
#[test]
fn not_1_every_member_is_told_the_latest_member_count() {
    let mut w = World::new();
    w.join(1);
    let b = w.join(2);
    w.advance(3_000);
    w.ok(b, leave());
    // It is told that there are two members, itself included.
    let c = w.join(3);
    w.join(4);
    let d = w.join(5);
    w.ok(d, leave());
    w.advance(3_000);
    let sent = w.conns[&c.0].notices.iter().rev().find_map(|(_, notice)| match notice {
        Notice::MemberCount(count) => Some(count.count),
        _ => None,
    });
    assert_eq!(sent, Some(3));
}

/// Proves no rule of the protocol: the engine is a function of its inputs.
#[test]
fn one_seed_gives_the_same_outputs_and_distinct_ids() {
    let play = || {
        let mut w = World::new();
        let a = w.join(1);
        let b = w.join(2);
        w.push_url(a, "");
        w.advance(100);
        (w.conns[&a.0].frames.clone(), w.conns[&b.0].frames.clone(), w.mid(a), w.mid(b))
    };
    let (first, second) = (play(), play());
    assert_eq!(first, second);
    assert_ne!(first.2, first.3);
}

//! The same uid twice: the old membership is replaced, the new join is refused, or the same join comes again.

use lianmai_protocol::{CloseCode, ErrorName};
use lianmai_signal_engine::Denial;

use crate::calls::*;
use crate::world::{Issuer, World, entry};

const SECRET: &str = "0123456789abcdef";

/// Proves EVT-3, JOI-3, KIC-4, URL-5, URL-6.
#[test]
fn a_newcomer_replaces_the_old_membership_in_one_group() {
    let mut w = World::new();
    let old = w.join(1);
    let b = w.join(2);
    let (_, generation) = w.push_url(old, "");
    w.push_url(b, "");
    w.pull_url(old, 2, "audio");
    let old_mid = w.mid(old);
    w.advance(100);
    w.skip_received();
    let new = w.join(1);
    let group = [
        "streamRemoved 1 audio",
        "streamRemoved 1 video",
        "clientLeave 1 replaced",
        "clientJoin 1",
    ];
    assert_eq!(w.new_events(b), group);
    assert_eq!(w.new_events(old), &group[..3]);
    assert_eq!(w.closed(old), Some(CloseCode::REPLACED));
    assert!(w.cut.contains(&generation), "the old push is cut before a new URL exists");
    assert!(w.cut_viewers.iter().any(|(_, viewer)| *viewer == old_mid));
    assert_ne!(w.mid(new), old_mid);
    assert_ne!(w.push_url(new, "").1, generation);
    assert_eq!(w.may_push(generation), Err(Denial::UnknownStream));
    // A replacement is no kick: the older token of the uid is valid, and so is the next.
    w.join(1);
    w.audit();
}

/// Proves JOI-3.
#[test]
fn frames_of_a_replaced_connection_are_ignored() {
    let mut w = World::new();
    let old = w.join(1);
    let new = w.join(1);
    let b = w.join(2);
    w.advance(100);
    w.skip_received();
    w.send(old, leave());
    w.drop_socket(old);
    w.advance(60);
    assert!(w.new_events(b).is_empty());
    assert!(w.closed(new).is_none());
    w.ok(new, ping());
}

/// Proves JOI-3.
#[test]
fn reject_new_protects_a_live_socket_only() {
    let mut w = World::new();
    let entry_of = || entry(1).app("reject");
    let a = w.admit(entry_of());
    let b = w.admit(entry(2).app("reject"));
    w.advance(1_000);
    w.skip_received();
    assert_eq!(w.refusal(entry_of()), ErrorName::DuplicateLogin);
    w.advance_alive(60_000, &[a, b]);
    assert_eq!(w.refusal(entry_of()), ErrorName::DuplicateLogin);
    assert!(w.new_events(b).is_empty() && w.closed(a).is_none());
    // In grace it is replaced at once.
    w.drop_socket(a);
    let again = w.admit(entry_of());
    w.advance(20);
    assert_eq!(w.new_events(b), ["clientLeave 1 replaced", "clientJoin 1"]);
    assert!(w.closed(again).is_none());
    w.audit();
}

/// Proves JOI-3.
#[test]
fn reject_new_does_not_protect_a_socket_that_has_fallen_silent() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("reject"));
    w.advance(15_000);
    assert_eq!(w.refusal(entry(1).app("reject")), ErrorName::DuplicateLogin);
    w.advance(1);
    w.admit(entry(1).app("reject"));
    assert_eq!(w.closed(a), Some(CloseCode::REPLACED));
}

/// Proves JOI-4.
#[test]
fn more_than_three_replacements_within_a_minute_are_refused() {
    let mut w = World::new();
    w.join(1);
    for _ in 0..3 {
        w.join(1);
    }
    let error = w.enter(entry(1)).expect_err("too often");
    assert_eq!(error.name(), &ErrorName::ReplacedTooOften);
    assert_eq!(error.data.retry_after_ms, Some(60_000));
    let last = w.open()[0];
    w.join(2);
    w.join(2);
    w.advance_alive(60_000, &[last]);
    w.join(1);
}

/// Proves JOI-4.
#[test]
fn a_restarting_client_in_grace_is_never_replaced_too_often() {
    let mut w = World::new();
    let b = w.join(2);
    for _ in 0..10 {
        let a = w.join(1);
        w.drop_socket(a);
    }
    assert!(w.closed(b).is_none());
    w.audit();
}

/// Proves JOI-2.
#[test]
fn the_same_join_again_is_the_same_membership_and_no_event() {
    let mut w = World::new();
    let first = w.admit(entry(1).join_id(SECRET));
    let b = w.join(2);
    let (_, generation) = w.push_url(first, "");
    w.advance(1_000);
    w.skip_received();
    let (events, joins) = (w.engine.stats().events, w.notes.len());
    let second = w.admit(entry(1).join_id(SECRET).audience().name("ignored"));
    assert_eq!(w.mid(second), w.mid(first));
    assert_eq!(w.joined(second).session_id, w.joined(first).session_id);
    assert_eq!(w.joined(second).own.published.len(), 2);
    assert_eq!(w.closed(first), Some(CloseCode::TAKEN_OVER));
    w.advance(100);
    assert!(w.new_events(b).is_empty() && w.new_events(first).is_empty());
    assert_eq!(w.engine.stats().events, events);
    assert!(w.notes[joins..].iter().all(|note| !format!("{note:?}").starts_with("Member")));
    assert_eq!(w.may_push(generation), Ok(()));
    // It is answered in grace as well, and for an app with `rejectNew`.
    w.drop_socket(second);
    w.advance(29_999);
    let third = w.admit(entry(1).join_id(SECRET));
    assert_eq!(w.mid(third), w.mid(first));
    w.advance_alive(60_000, &[third]);
    w.ok(third, ping());
    let a = w.admit(entry(1).app("reject").join_id(SECRET));
    let again = w.admit(entry(1).app("reject").join_id(SECRET));
    assert_eq!(w.mid(a), w.mid(again));
}

/// Proves JOI-2, JOI-3.
#[test]
fn another_join_id_or_none_is_another_membership() {
    let mut w = World::new();
    let first = w.admit(entry(1).join_id(SECRET));
    let second = w.admit(entry(1).join_id("another-secret-01"));
    assert_ne!(w.mid(first), w.mid(second));
    let third = w.join(1);
    let fourth = w.join(1);
    assert_ne!(w.mid(third), w.mid(fourth), "no joinId equals no joinId");
    // The old joinId has ended with its membership.
    w.advance(61_000);
    w.join(9);
    let fifth = w.admit(entry(1).join_id(SECRET));
    assert_ne!(w.mid(fifth), w.mid(first));
}

/// Proves EVT-2.
#[test]
fn a_join_id_is_not_shown_to_anybody() {
    let mut w = World::new();
    let a = w.admit(entry(1).join_id(SECRET));
    let b = w.join(2);
    w.admit(entry(1).join_id(SECRET));
    w.advance(100);
    for client in [a, b] {
        for frame in &w.conns[&client.0].frames {
            assert!(!String::from_utf8_lossy(frame).contains(SECRET));
        }
    }
    assert!(!format!("{:?}", w.notes).contains(SECRET));
}

/// Proves AUT-4.
#[test]
fn old_tokens_expiring_do_not_end_the_replacing_membership() {
    let mut w = World::new();
    let jwt = entry(1).jwt(&w, 0, 40_000);
    w.admit(jwt);
    let new = w.join(1);
    w.advance_alive(80_000, &[new]);
    assert!(w.closed(new).is_none());
    assert!(w.notices(new).is_empty());
}

/// Proves JOI-2.
#[test]
fn the_same_join_again_with_a_poorer_token_has_its_rights_only() {
    let mut w = World::new();
    let first = w.admit(entry(1).join_id(SECRET).moderator());
    let b = w.join(2);
    let (_, generation) = w.push_url(first, "");
    w.advance(1_000);
    w.skip_received();
    let again = w.admit(entry(1).join_id(SECRET).rights(|rights| rights.broadcast = false));
    assert_eq!(w.mid(again), w.mid(first));
    assert!(!w.joined(again).own.rights.moderate);
    assert!(w.joined(again).own.published.is_empty());
    assert!(w.cut.contains(&generation));
    w.advance(20);
    assert_eq!(
        w.new_events(b),
        [
            "streamRemoved 1 audio",
            "streamRemoved 1 video",
            "roleChanged 1 audience",
            "clientLeave 1 roleChanged",
        ]
    );
    assert!(w.new_events(again).is_empty(), "all of it is in its snapshot");
    w.audit();
}

/// Proves JOI-2.
#[test]
fn the_same_join_again_drops_what_the_old_connection_waited_for() {
    let mut w = World::new();
    let first = w.admit(entry(1).join_id(SECRET).moderator());
    let b = w.join(2);
    w.issuer = Issuer::Hold;
    w.send(first, publish(""));
    w.send(first, close_channel(0));
    // The demotion supersedes the publish; the close behind it must not run meanwhile.
    let poorer = entry(1).join_id(SECRET).moderator().rights(|rights| rights.broadcast = false);
    let again = w.admit(poorer);
    assert!(w.closed(b).is_none() && w.closed(again).is_none());
    w.issue();
    assert_eq!(w.engine.stats().streams, 0);
    w.ok(again, ping());
    w.audit();
}

/// Proves JOI-2.
#[test]
fn the_same_join_again_starts_with_nothing_pending() {
    let mut w = World::new();
    let first = w.admit(entry(1).join_id(SECRET));
    w.issuer = Issuer::Hold;
    w.send(first, publish(""));
    w.send(first, send_message("held"));
    let again = w.admit(entry(1).join_id(SECRET));
    w.skip_received();
    w.ok(again, send_message("not held"));
    w.issue();
    w.advance(20);
    assert_eq!(w.log(again), ["message 1 not held", "sendMessage ok"]);
    assert_eq!(w.engine.stats().streams, 0);
    w.audit();
}

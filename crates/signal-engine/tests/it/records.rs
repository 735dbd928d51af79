//! Records that no engine can have written: of another version, from a damaged file, from a store that was repaired by
//! hand.
//! Proves no rule of the protocol: they do no harm.

use lianmai_protocol::{Epoch, MediaKind, Pub, Role, UserId};
use lianmai_signal_engine::record::{LogRecord, MemberRecord, SessionRecord};

use crate::calls::*;
use crate::world::{Client, World, entry};

const JID: &str = "0123456789abcdef";

fn odd(change: impl FnOnce(&mut MemberRecord)) -> (World, Client) {
    let mut w = World::new();
    w.admit(entry(1).join_id(JID));
    let b = w.admit(entry(2).join_id("fedcba9876543210"));
    w.push_url(b, "video");
    w.start_with(50_000, false, |r| {
        let member = r.channels[0].2.iter_mut().find(|m| m.uid == UserId(1)).expect("member 1");
        change(member);
    });
    (w, b)
}

#[test]
fn an_unknown_role_in_a_record() {
    let (mut w, b) = odd(|m| m.role = Role::from("host"));
    let (b, _) = w.resume(b);
    w.ok(b, set_role("audience"));
    let a = w.admit(entry(1).join_id(JID));
    w.ok(a, set_role("audience"));
    w.advance(50);
    w.audit();
}

#[test]
fn a_huge_ticket_number_in_a_record() {
    let (mut w, _) = odd(|m| m.confirmed = u64::MAX);
    w.admit(entry(1).join_id(JID));
}

fn live() -> SessionRecord {
    SessionRecord {
        offered: 1,
        attempt: 0,
        last_id: None,
        answers: vec![],
        message_head: 0,
        messages: vec![],
        pulls: vec![],
        lost_ms: 0,
        first_lost_ms: 0,
        floor_only: false,
        restored: false,
        media_ms: None,
    }
}

#[test]
fn more_messages_than_were_counted() {
    let (mut w, b) =
        odd(|m| m.live = Some(SessionRecord { messages: vec!["{}".into(); 3], ..live() }));
    w.admit(entry(1).join_id(JID));
    let _ = b;
}

#[test]
fn a_message_number_at_the_end() {
    let (mut w, b) = odd(|m| m.live = Some(SessionRecord { message_head: u64::MAX, ..live() }));
    let (b, _) = w.resume(b);
    w.ok(b, send_to(&[1], "x"));
}

#[test]
fn a_log_with_more_events_than_its_head() {
    let mut w = World::new();
    let a = w.join(1);
    w.start_with(50_000, false, |r| {
        r.channels[0].1.live =
            Some(LogRecord { epoch: Epoch([9; 12]), head: 1, events: vec![(0, "{}".into()); 3] });
    });
    w.resume(a);
}

#[test]
fn a_log_at_its_end() {
    let mut w = World::new();
    let a = w.join(1);
    w.start_with(50_000, false, |r| {
        r.channels[0].1.live =
            Some(LogRecord { epoch: Epoch([9; 12]), head: u64::MAX, events: vec![] });
    });
    let (a, _) = w.resume(a);
    w.send(a, send_message("x"));
}

#[test]
fn a_uid_twice() {
    let mut w = World::new();
    let a = w.join(1);
    w.push_url(a, "video");
    w.start_with(50_000, false, |r| {
        let twice = r.channels[0].2[0].clone();
        r.channels[0].2.push(twice);
    });
    let (a, _) = w.resume(a);
    w.audit();
    w.ok(a, leave());
    assert_eq!(w.engine.stats().members, 0);
    assert_eq!(w.engine.stats().streams, 0);
}

/// Proves EVT-4.
#[test]
fn an_audience_member_that_publishes() {
    let (mut w, b) = odd(|m| {
        m.role = Role::Audience;
        m.published = vec![(MediaKind::Audio, Pub([3; 12]))];
    });
    let (b, _) = w.resume(b);
    let a = w.admit(entry(1).join_id(JID));
    w.skip_received();
    w.ok(a, leave());
    w.advance(50);
    assert!(w.new_events(b).is_empty(), "EVT-4");
}

/// A log without members.
#[test]
fn a_log_without_members_is_not_counted() {
    let mut w = World::new();
    w.join(1);
    w.start_with(50_000, true, |r| {
        r.channels[0].2.clear();
        r.channels[0].1.live =
            Some(LogRecord { epoch: Epoch([9; 12]), head: 3, events: vec![(0, "{}".into()); 3] });
    });
    assert_eq!(w.engine.stats().channels, 0);
    assert_eq!(w.engine.stats().log_bytes, 0);
}

/// The same channel twice in what is restored.
#[test]
fn a_channel_twice() {
    let mut w = World::new();
    let a = w.join(1);
    w.start_with(50_000, false, |r| {
        let twice = r.channels[0].clone();
        r.channels.push(twice);
    });
    let (a, _) = w.resume(a);
    w.advance_alive(40_000, &[a]);
    w.ok(a, send_message("x"));
    let b = w.join(2);
    assert_eq!(w.joined(b).cid, w.joined(a).cid);
}

//! Returns within one process: tickets, attempts, replay, snapshots, refusals.

use lianmai_protocol::message::session::{Outcome, Ping, ResumeReason, Want};
use lianmai_protocol::message::{Call, Notice};
use lianmai_protocol::{CloseCode, ErrorName, UserId, WallTime};
use lianmai_signal_engine::ticket::TICKET_MS;
use lianmai_signal_engine::{AdminCommand, Note};

use crate::calls::*;
use crate::world::{Client, DiskMode, Issuer, World, entry, room};

fn confirm(w: &mut World, client: Client) {
    let (k, n) = (w.conns[&client.0].k, w.conns[&client.0].n);
    w.ok(client, Call::Ping(Ping { k: Some(k), n: Some(n) }));
}

/// Proves RES-5, RES-6, RES-7, RES-8.
#[test]
fn res_6_missed_events_follow_the_answer_and_cause_no_event_for_others() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.push_url(a, "video");
    w.advance(100);
    w.drop_socket(b);
    w.ok(a, send_message("one"));
    w.ok(a, send_to(&[2], "for two"));
    w.ok(a, mute("video"));
    w.advance(5_000);
    w.skip_received();
    let (b, resumed) = w.resume(b);
    assert_eq!((resumed.outcome, resumed.reason), (Outcome::Replayed, None));
    assert_eq!((resumed.replayed, resumed.messages), (2, 1));
    let expected = ["reconnect replayed", "message 1 one", "muted 1 video", "~message for two"];
    assert_eq!(w.log(b), expected);
    w.skip_received();
    w.ok(a, send_message("on"));
    w.advance(50);
    assert_eq!(w.log(b), ["message 1 on"]);
    assert_eq!(w.log(a), ["message 1 on", "sendMessage ok"], "RES-5");
    w.audit();
}

/// Proves RES-5.
#[test]
fn res_5_a_resume_takes_over_an_open_socket() {
    let mut w = World::new();
    let a = w.join(1);
    let old = w.join(2);
    w.advance(100);
    w.skip_received();
    let (new, resumed) = w.resume(old);
    assert_eq!(resumed.outcome, Outcome::Replayed);
    assert_eq!(w.closed(old), Some(CloseCode::TAKEN_OVER));
    w.send(old, send_message("from the old socket"));
    w.advance(50);
    assert!(w.new_events(a).is_empty(), "RES-5");
    w.ok(new, send_message("from the new one"));
    w.audit();
}

/// Proves PIN-2, RES-2, RES-4.
#[test]
fn res_2_a_lost_answer_does_no_harm_and_an_older_ticket_is_invalid() {
    let mut w = World::new();
    let a = w.join(1);
    let first = w.conns[&a.0].ticket.clone();
    // The answer of the first resume is lost: the client presents its old ticket.
    let (b, _) = w.resume(a);
    let second = w.conns[&b.0].ticket.clone();
    let mut again = w.reconnect_request(b);
    again.ticket = first.clone();
    let c = w.send_reconnect(b, again);
    assert_eq!(w.conns[&c.0].resumed.as_ref().map(|r| r.outcome.clone()), Some(Outcome::Replayed));
    confirm(&mut w, c);
    for dead in [first, second] {
        let mut late = w.reconnect_request(c);
        late.ticket = dead;
        assert_eq!(w.refused_with(c, late), ResumeReason::Invalid);
    }
    assert_eq!(w.closed(c), None, "RES-4: no member is disturbed");
    w.ok(c, send_message("still here"));
    w.resume(c);
}

/// Proves RES-2.
#[test]
fn res_2_presenting_an_offered_ticket_confirms_it() {
    let mut w = World::new();
    let a = w.join(1);
    let first = w.conns[&a.0].ticket.clone();
    let (b, _) = w.resume(a);
    let (c, _) = w.resume(b);
    let mut late = w.reconnect_request(c);
    late.ticket = first;
    assert_eq!(w.refused_with(c, late), ResumeReason::Invalid);
}

/// Proves RES-2.
#[test]
fn res_2_a_repeated_join_invalidates_earlier_tickets() {
    const JOIN_ID: &str = "0123456789abcdef";
    let mut w = World::new();
    let a = w.admit(entry(1).join_id(JOIN_ID));
    let id = w.send(a, send_message("once"));
    let again = w.admit(entry(1).join_id(JOIN_ID));
    assert_eq!(
        w.refused(a),
        ResumeReason::Invalid,
        "its answers are forgotten: it must not send again"
    );
    w.ok(again, send_message("on"));
    w.resume(again);
    assert!(w.answer(a, id).is_some());
}

/// Proves RES-3.
#[test]
fn res_3_a_stale_attempt_closes_only_itself() {
    let mut w = World::new();
    let a = w.join(1);
    let slow = w.reconnect_request(a);
    let (b, _) = w.resume(a);
    assert_eq!(w.refused_with(b, slow), ResumeReason::StaleAttempt);
    w.ok(b, send_message("still here"));
}

/// Proves RES-7.
#[test]
fn res_7_a_position_outside_the_log_gets_a_snapshot() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.drop_socket(b);
    let text = "x".repeat(7_000);
    for _ in 0..3 {
        w.ok(a, send_message(&text));
    }
    w.advance(100);
    let (b, resumed) = w.resume(b);
    assert_eq!(resumed.reason, Some(ResumeReason::LogTrimmed));
    assert_eq!((resumed.replayed, resumed.restore), (0, false));
    w.ok(a, send_message("on"));
    w.audit();
    let mut want = w.reconnect_request(b);
    want.want = Some(Want::Snapshot);
    let c = w.send_reconnect(b, want);
    let resumed = w.conns[&c.0].resumed.clone().expect("answered");
    assert_eq!(resumed.reason, Some(ResumeReason::Asked));
    let mut ahead = w.reconnect_request(c);
    ahead.seq += 100;
    let d = w.send_reconnect(c, ahead);
    let resumed = w.conns[&d.0].resumed.clone().expect("answered");
    assert_eq!(resumed.reason, Some(ResumeReason::Ahead));
    w.audit();
}

/// Proves RES-7.
#[test]
fn res_7_all_logs_together_have_a_budget() {
    let mut w = World::with(|config| config.log_bytes = 200_000);
    let rooms: Vec<_> =
        (0..40).map(|at| w.admit(entry(1).channel(&format!("room {at}")))).collect();
    let text = "x".repeat(1_000);
    for _ in 0..60 {
        for client in &rooms {
            w.ok(*client, send_message(&text));
        }
        w.advance(1_000);
    }
    assert!((100_000..=200_000).contains(&w.engine.stats().log_bytes));
    for client in rooms {
        w.ok(client, leave());
    }
    assert_eq!(w.engine.stats().log_bytes, 0);
}

/// Proves RES-8.
#[test]
fn res_8_targeted_messages_are_kept_up_to_a_bound_and_none_comes_twice() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.ok(a, send_to(&[2], "seen"));
    w.drop_socket(b);
    for n in 0..35 {
        w.ok(a, send_to(&[2], &format!("m{n}")));
        w.advance(100);
    }
    let (b, resumed) = w.resume(b);
    assert_eq!((resumed.messages, resumed.messages_lost), (32, 3));
    // The test client counts lost messages only with a snapshot, so compare the texts.
    let first = w.log(b).into_iter().find(|line| line.starts_with("~message"));
    assert_eq!(first.as_deref(), Some("~message m3"));
}

/// Proves RES-8.
#[test]
fn res_8_a_message_lost_with_its_answer_is_sent_again() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.drop_socket(b);
    w.ok(a, send_to(&[2], "kept"));
    let lost = w.reconnect_request(b);
    let mut again = lost.clone();
    again.attempt += 1;
    w.send_reconnect(b, lost);
    // No part of that arrived.
    let b = w.send_reconnect(b, again);
    assert_eq!(w.log(b).iter().filter(|line| *line == "~message kept").count(), 1);
}

/// Proves IDS-7.
#[test]
fn ids_7_a_command_whose_answer_was_lost_runs_once() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.skip_received();
    let id = w.send(a, send_message("once"));
    let (a, _) = w.resume(a);
    w.send_as(a, id, send_message("once"));
    assert!(w.answer(a, id).expect("answered").is_ok());
    w.advance(50);
    assert_eq!(w.new_events(b), ["message 1 once"]);
}

/// Proves IDS-7.
#[test]
fn ids_7_a_repeat_of_a_running_command_does_not_start_it_again() {
    let mut w = World::new();
    let a = w.join(1);
    w.issuer = Issuer::Hold;
    let publish_id = w.send(a, publish("video"));
    let held = w.send(a, send_message("behind"));
    let (a, _) = w.resume(a);
    w.send_as(a, publish_id, publish("video"));
    w.send_as(a, held, send_message("behind"));
    assert_eq!(w.answer(a, held), None, "it waits, and is no old id");
    assert_eq!(w.held_mints.len(), 1);
    w.issue();
    assert!(w.answer(a, publish_id).expect("answered").is_ok());
    assert!(w.answer(a, held).expect("answered").is_ok());
    w.advance(50);
    assert_eq!(w.new_events(a), ["streamAdded 1 video", "message 1 behind"]);
}

/// Proves RES-12.
#[test]
fn res_12_an_ended_membership_is_refused_with_its_reason() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    for (uid, end, reason) in [
        (2, "leave", ResumeReason::Left),
        (3, "kick", ResumeReason::Kicked),
        (4, "replace", ResumeReason::Replaced),
        (5, "grace", ResumeReason::Gone),
    ] {
        let b = w.admit(entry(uid).app("creator"));
        match end {
            "leave" => drop(w.ok(b, leave())),
            "kick" => drop(w.ok(a, kick(uid, 0))),
            "replace" => drop(w.admit(entry(uid).app("creator"))),
            _ => {
                w.drop_socket(b);
                w.advance_alive(31_000, &[a]);
            }
        }
        assert_eq!(w.refused(b), reason, "{end}");
    }
    let stay = w.admit(entry(6).app("creator"));
    w.ok(a, close_channel(10));
    assert_eq!(w.refused(stay), ResumeReason::ChannelClosed);
}

/// Proves RES-2, RES-12.
#[test]
fn res_4_a_banned_uid_is_refused_and_a_ticket_is_good_as_long_as_its_membership_lives() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.drop_socket(b);
    let channel = room("plain");
    let kick = AdminCommand::Kick { channel, uid: UserId(2), duration_s: 60, reason: None };
    w.admin(kick).expect("done");
    assert_eq!(w.refused(b), ResumeReason::Kicked);
    w.now.wall = WallTime(w.now.wall.0 + TICKET_MS);
    w.resume(a);
}

/// Proves RST-5.
#[test]
fn rst_5_a_kick_becomes_visible_only_after_its_write() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    let b = w.admit(entry(2).app("creator"));
    w.advance(100);
    w.skip_received();
    w.disk.mode = DiskMode::Hold;
    let id = w.send(a, kick(2, 60));
    w.send(b, send_message("not heard any more"));
    assert_eq!(w.refused(b), ResumeReason::Kicked);
    assert_eq!(w.refusal(entry(2).app("creator")), ErrorName::Banned);
    w.advance(100);
    assert_eq!((w.answer(a, id), w.closed(b)), (None, None));
    assert!(w.new_events(a).is_empty());
    w.write_held();
    assert!(w.answer(a, id).expect("answered").is_ok());
    assert_eq!(w.closed(b), Some(CloseCode::KICKED));
    assert_eq!(w.new_events(a), ["clientLeave 2 kicked"]);
    w.disk.mode = DiskMode::AtOnce;
    w.audit();
}

/// Proves RST-5.
#[test]
fn rst_5_a_disk_without_answer_counts_as_failed_after_a_timeout() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    let b = w.admit(entry(2).app("creator"));
    w.disk.mode = DiskMode::Hold;
    let id = w.send(a, kick(2, 60));
    w.advance(4_999);
    assert_eq!((w.answer(a, id), w.closed(b)), (None, None));
    w.advance(1);
    assert_eq!(w.error(a, id), ErrorName::NotStored);
    assert_eq!(w.closed(b), Some(CloseCode::KICKED), "it takes effect all the same");
    // An answer that comes after the deadline changes nothing.
    w.skip_received();
    w.disk.mode = DiskMode::AtOnce;
    w.write_held();
    assert!(w.new_events(a).is_empty());
    w.ok(a, send_message("it goes on"));
}

/// Proves RST-5.
#[test]
fn rst_5_an_unstored_change_takes_effect_and_is_answered_with_not_stored() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    let b = w.admit(entry(2).app("creator"));
    w.disk.mode = DiskMode::Fail;
    assert_eq!(w.err(a, mute_of(2, "audio")), ErrorName::NotStored);
    assert_eq!(w.err(a, kick(2, 60)), ErrorName::NotStored);
    assert_eq!(w.closed(b), Some(CloseCode::KICKED));
    let channel = room("creator");
    let kick = AdminCommand::Kick { channel, uid: UserId(3), duration_s: 60, reason: None };
    assert_eq!(w.admin(kick).expect_err("refused").name(), &ErrorName::NotStored);
    assert_eq!(w.err(a, close_channel(10)), ErrorName::NotStored);
    assert_eq!(w.closed(a), Some(CloseCode::CHANNEL_CLOSED));
    w.disk.mode = DiskMode::AtOnce;
    w.audit();
}

/// Proves AUT-4, RES-6, RES-12.
#[test]
fn aut_4_the_end_of_the_token_is_told_again_after_a_resume() {
    let mut w = World::new();
    let end = WallTime(w.now.wall.0 + 20_000);
    let a = w.admit(entry(1).grant(|grant| {
        grant.expires = Some(end);
        grant.ends_membership = true;
    }));
    let (a, _) = w.resume(a);
    assert!(matches!(w.notices(a)[..], [Notice::TokenWillExpire(_)]));
    w.advance(26_000);
    assert_eq!(w.refused(a), ResumeReason::TokenExpired);
}

/// Proves LIV-3.
#[test]
fn liv_3_a_flapping_client_is_kept_no_longer_than_the_cap() {
    let mut w = World::new();
    let a = w.join(1);
    let watcher = w.join(2);
    let (_, generation) = w.push_url(a, "video");
    let mut a = a;
    for _ in 0..25 {
        w.drop_socket(a);
        for _ in 0..4 {
            w.flow(generation);
            w.advance_alive(3_000, &[watcher]);
        }
        if w.notes.iter().any(|note| matches!(note, Note::MemberLeft { uid: UserId(1), .. })) {
            return;
        }
        (a, _) = w.resume(a);
        w.advance(100);
    }
    panic!("300 s after the first loss it is here still (LIV-3)");
}

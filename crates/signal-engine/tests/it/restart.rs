//! Returns to another process: after a crash, and after a stop that handed over.

use lianmai_protocol::message::Call;
use lianmai_protocol::message::session::{Outcome, Ping, ResumeReason};
use lianmai_protocol::{Attributes, ErrorName, MediaKind, WallTime};
use lianmai_signal_engine::Denial;

use crate::calls::*;
use crate::world::{DiskMode, World, entry};

/// Proves RES-10, RST-3, RST-4.
#[test]
fn rst_3_a_crash_causes_no_event_for_clients_that_return_in_time() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    let hidden = w.admit(entry(3).audience());
    let (url, generation) = w.push_url(a, "");
    w.ok(a, mute("video"));
    let mids = [w.mid(a), w.mid(b), w.mid(hidden)];
    w.crash();
    assert_eq!(w.may_push(generation), Ok(()), "RST-4: before its member is back");
    w.advance(10_000);
    for (client, mid) in [a, b, hidden].into_iter().zip(mids) {
        let (again, resumed) = w.resume(client);
        assert_eq!(resumed.outcome, Outcome::Snapshot);
        assert_eq!(resumed.reason, Some(ResumeReason::EpochChanged));
        assert!(resumed.restore, "RES-10");
        assert_eq!(w.mid(again), mid);
        w.advance(100);
        assert!(w.new_events(again).is_empty());
        if client == a {
            assert_eq!(w.push_url(again, "").0, url, "the same URL");
        }
    }
    w.audit();
}

/// Proves EVT-6, RST-3.
#[test]
fn rst_3_a_member_that_stays_away_leaves_once() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.push_url(b, "audio");
    w.crash();
    let (a, _) = w.resume(a);
    w.skip_received();
    w.advance_alive(29_000, &[a]);
    assert!(w.new_events(a).is_empty());
    w.advance_alive(2_000, &[a]);
    assert_eq!(w.new_events(a), ["streamRemoved 2 audio", "clientLeave 2 serverRestart"]);
    assert_eq!(w.refused(b), ResumeReason::Gone);
    w.audit();
}

/// Proves RES-9, RES-12.
#[test]
fn res_9_shortly_after_a_crash_a_ticket_stands_in_for_a_token() {
    let mut w = World::new();
    let far = WallTime(w.now.wall.0 + 3_600_000);
    let jwt = |uid: u64| {
        entry(uid).grant(|grant| {
            grant.issued_at = Some(WallTime(far.0 - 3_600_000));
            grant.expires = Some(far);
            grant.rights.tasks = false;
        })
    };
    w.admit(jwt(1));
    w.disk.mode = DiskMode::Hold;
    let lost = w.admit(jwt(2));
    w.disk.mode = DiskMode::AtOnce;
    w.crash();
    assert_eq!(w.refused(lost), ResumeReason::Gone, "its row was lost");
    let expired = |w: &World| {
        let mut entry = jwt(2);
        entry.grant = Err(ErrorName::TokenExpired);
        entry.join.continues = Some(w.conns[&lost.0].ticket.clone());
        entry
    };
    let mut stranger = expired(&w);
    stranger.join.uid = Some(lianmai_protocol::UserId(3));
    assert_eq!(w.refusal(stranger), ErrorName::TokenExpired);
    let mut elsewhere = expired(&w);
    elsewhere.join.channel_name = "elsewhere".parse().expect("valid");
    assert_eq!(w.refusal(elsewhere), ErrorName::TokenExpired);
    let back = expired(&w);
    let back = w.admit(back);
    assert!(!w.joined(back).own.rights.tasks, "with the rights of then");
    w.ok(back, leave());
    assert_eq!(w.refusal(expired(&w)), ErrorName::TokenExpired, "left is left");
    w.advance(61_000);
    let mut late = expired(&w);
    late.join.uid = Some(lianmai_protocol::UserId(2));
    assert_eq!(w.refusal(late), ErrorName::TokenExpired);
}

/// Proves RES-10.
#[test]
fn res_10_a_client_that_missed_a_moderators_change_does_not_restore() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    let b = w.admit(entry(2).app("creator"));
    let c = w.admit(entry(3).app("creator"));
    w.drop_socket(b);
    w.ok(a, set_role_of(2, "audience"));
    w.ok(a, set_role_of(3, "audience"));
    w.advance(100);
    w.crash();
    let (b, resumed) = w.resume(b);
    assert!(!resumed.restore, "the demotion was not received");
    let (_, resumed) = w.resume(c);
    assert!(resumed.restore, "it has");
    let k = Some(w.conns[&b.0].k);
    w.ok(b, Call::Ping(Ping { k, n: None }));
    w.crash();
    let (_, resumed) = w.resume(b);
    assert!(resumed.restore, "it has by now");
}

/// Proves RES-10, RST-3.
#[test]
fn res_10_a_crash_is_remembered_over_a_stop_that_hands_over() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.crash();
    w.drain();
    w.advance(5_000);
    w.start_again();
    let (a, resumed) = w.resume(a);
    assert!(resumed.restore);
    w.advance_alive(31_000, &[a]);
    assert_eq!(w.new_events(a), ["clientLeave 2 serverRestart"]);
    assert_eq!(w.refused(b), ResumeReason::Gone);
}

/// Proves RES-2.
#[test]
fn res_2_a_ticket_of_before_a_crash_is_good_over_a_stop_that_hands_over() {
    let mut w = World::new();
    let a = w.join(1);
    // Its offers are stored later than they are made.
    w.disk.mode = DiskMode::Hold;
    let (a, _) = w.resume(a);
    let (a, _) = w.resume(a);
    w.disk.mode = DiskMode::AtOnce;
    w.crash();
    w.drain();
    w.advance(5_000);
    w.start_again();
    w.resume(a);
}

/// Proves KIC-2, RST-5.
#[test]
fn rst_5_a_ban_cut_by_a_clock_change_stays_cut() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    w.admit(entry(2).app("creator"));
    w.ok(a, kick(2, 60));
    w.now.wall = WallTime(w.now.wall.0 - 1_000_000);
    w.crash();
    w.advance(61_000);
    w.crash();
    w.now.wall = WallTime(w.now.wall.0 + 61_000);
    w.admit(entry(2).app("creator"));
}

/// Proves RES-12, RST-5.
#[test]
fn rst_5_a_crash_after_a_kick_or_close_restores_no_member() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    let b = w.admit(entry(2).app("creator"));
    w.push_url(b, "video");
    w.disk.mode = DiskMode::Hold;
    w.send(a, kick(2, 60));
    w.answer_held(&[true]);
    w.crash();
    assert!(w.member("creator", 2).is_none());
    let (a, _) = w.resume(a);
    w.send(a, close_channel(60));
    w.answer_held(&[true]);
    w.crash();
    assert!(w.channels().is_empty());
    assert_eq!(w.refused(a), ResumeReason::ChannelClosed);
}

/// Proves RST-5.
#[test]
fn rst_5_a_moderators_change_is_answered_when_stored() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    let b = w.admit(entry(2).app("creator"));
    w.push_url(b, "video");
    w.disk.mode = DiskMode::Hold;
    for call in [unpublish_of(2, "video"), mute_of(2, "audio"), set_role_of(2, "audience")] {
        let id = w.send(a, call);
        assert_eq!(w.answer(a, id), None);
        w.write_held();
        assert!(w.answer(a, id).expect("answered").is_ok());
    }
    let id = w.send(a, set_role_of(2, "audience"));
    assert!(w.answer(a, id).expect("answered").is_ok(), "nothing changed");
}

/// Proves KIC-2, RES-12, RST-5.
#[test]
fn rst_5_a_ban_survives_a_crash_and_a_clock_that_goes_back() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    let b = w.admit(entry(2).app("creator"));
    let (_, generation) = w.push_url(b, "video");
    w.ok(a, kick(2, 60));
    w.now.wall = WallTime(w.now.wall.0 - 1_000_000);
    w.crash();
    assert_eq!(w.refused(b), ResumeReason::Kicked);
    assert_eq!(w.refusal(entry(2).app("creator")), ErrorName::Banned);
    w.advance(61_000);
    assert_eq!(w.may_push(generation), Err(Denial::UnknownStream));
    w.admit(entry(2).app("creator"));
    assert_eq!(w.refused(b), ResumeReason::Kicked, "RES-12: the ticket stays dead");
}

/// Proves KIC-3.
#[test]
fn kic_3_a_second_kick_revives_no_token_when_the_clock_went_back() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    let token = entry(2).app("creator").jwt(&w, 0, 10_000_000);
    w.admit(token.clone());
    w.ok(a, kick(2, 0));
    w.now.wall = WallTime(w.now.wall.0 - 1_000_000);
    w.ok(a, kick(2, 1));
    w.now.wall = WallTime(w.now.wall.0 + 1_000_000);
    assert_eq!(w.refusal(token), ErrorName::TokenRevoked);
}

/// Proves JOI-8, RST-3.
#[test]
fn rst_3_a_channel_outlives_a_creator_that_stays_away_after_a_crash() {
    let mut w = World::new();
    w.admit(entry(1).app("dissolve"));
    let b = w.admit(entry(2).app("dissolve"));
    w.advance(100);
    w.crash();
    let (b, _) = w.resume(b);
    w.advance_alive(31_000, &[b]);
    assert_eq!(w.new_events(b), ["clientLeave 1 serverRestart"]);
    assert!(w.member("dissolve", 2).is_some());
}

/// Proves KIC-3, RES-12.
#[test]
fn rst_5_a_kick_that_ended_before_the_start_still_revokes_its_tokens() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    let b = w.admit(entry(2).app("creator"));
    w.ok(a, kick(2, 5));
    w.advance_alive(6_000, &[a]);
    w.crash();
    assert_eq!(w.refused(b), ResumeReason::Kicked);
    let old = entry(2).app("creator").jwt(&w, 10_000, 3_600_000);
    assert_eq!(w.refusal(old), ErrorName::TokenRevoked);
}

/// Proves RST-3.
#[test]
fn rst_3_attributes_of_channel_and_members_survive() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    w.ok(a, set_channel_attributes(&[("topic", "frogs")]));
    w.ok(a, set_attributes(&[("mood", "good")]));
    w.crash();
    let (a, _) = w.resume(a);
    let joined = w.joined(a);
    let one = |key: &str, value: &str| {
        let mut attributes = Attributes::default();
        attributes.0.insert(key.to_owned(), value.to_owned());
        attributes
    };
    assert_eq!(joined.channel.attributes, one("topic", "frogs"));
    assert_eq!(joined.own.attributes, one("mood", "good"));
    w.ok(a, leave());
    w.assert_empty();
    assert!(w.disk.is_empty());
}

/// Proves MET-3, RST-5.
#[test]
fn rst_5_a_repeated_change_waits_until_it_is_stored() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    let b = w.admit(entry(2).app("creator"));
    let m = w.admit(entry(3).app("creator").moderator());
    let c = w.admit(entry(4).app("creator"));
    w.push_url(b, "screenShare");
    w.disk.mode = DiskMode::Fail;
    let calls = [unpublish_of(2, "screenShare"), mute_of(2, "audio"), set_role_of(4, "audience")];
    for call in &calls {
        assert_eq!(w.err(a, call.clone()), ErrorName::NotStored);
        // The change is in effect, but a restart would undo it: neither a repeated call nor one of another moderator is
        // answered as done.
        assert_eq!(w.err(a, call.clone()), ErrorName::NotStored);
        assert_eq!(w.err(m, call.clone()), ErrorName::NotStored);
    }
    // A stored write of another change does not tell that these are stored.
    w.disk.mode = DiskMode::AtOnce;
    w.ok(a, mute_of(1, "audio"));
    w.ok(a, mute_of(3, "audio"));
    w.disk.mode = DiskMode::Fail;
    assert_eq!(w.err(m, calls[1].clone()), ErrorName::NotStored);
    w.disk.mode = DiskMode::AtOnce;
    w.skip_received();
    w.ok(a, calls[1].clone());
    w.ok(m, calls[2].clone());
    w.advance(100);
    assert!(w.new_events(a).is_empty(), "no event is sent twice");
    // Now the changes are known to be stored: an answer needs no write.
    w.disk.mode = DiskMode::Hold;
    for call in calls {
        w.ok(a, call);
    }
    w.disk.mode = DiskMode::AtOnce;
    w.crash();
    let two = w.member("creator", 2).expect("it is there");
    assert!(two.muted.contains(&MediaKind::Audio) && two.published.is_empty());
    let (c, _) = w.resume(c);
    assert_eq!(w.err(c, set_role("broadcaster")), ErrorName::Forbidden, "it is kept down");
}

/// Proves RST-5.
#[test]
fn rst_5_the_same_change_of_two_moderators_is_answered_to_each_as_it_is_stored() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    w.admit(entry(2).app("creator"));
    let m = w.admit(entry(3).app("creator").moderator());
    w.disk.mode = DiskMode::Hold;
    let first = w.send(a, mute_of(2, "audio"));
    let second = w.send(m, mute_of(2, "audio"));
    assert_eq!((w.answer(a, first), w.answer(m, second)), (None, None));
    w.answer_held(&[false, true]);
    assert_eq!(w.error(a, first), ErrorName::NotStored);
    assert!(w.answer(m, second).expect("answered").is_ok());
    w.crash();
    let two = w.member("creator", 2).expect("it is there");
    assert!(two.muted.contains(&MediaKind::Audio));
    // The first change is stored, and a later one of the same member is not yet.
    let (a, _) = w.resume(a);
    let (m, _) = w.resume(m);
    let first = w.send(a, mute_of(2, "video"));
    let second = w.send(m, unmute_of(2, "audio"));
    w.write_next();
    assert!(w.answer(a, first).expect("answered").is_ok());
    let third = w.send(a, unmute_of(2, "audio"));
    assert_eq!((w.answer(m, second), w.answer(a, third)), (None, None));
    w.answer_held(&[true, true]);
    assert!(w.answer(a, third).expect("answered").is_ok());
}

/// Proves RES-10.
#[test]
fn res_10_an_older_answer_does_not_confirm_a_moderators_change() {
    for confirms in ["by a ping", "by its ticket"] {
        let mut w = World::new();
        let a = w.admit(entry(1).app("creator"));
        let b = w.admit(entry(2).app("creator"));
        w.advance(100);
        // The offer is made, and arrives.
        let (b, _) = w.resume(b);
        w.ok(a, mute_of(2, "audio"));
        w.advance(100);
        if confirms == "by a ping" {
            let k = Some(w.conns[&b.0].k);
            w.ok(b, Call::Ping(Ping { k, n: None }));
        }
        // The event of the mute is lost with the socket.
        w.drop_socket(b);
        w.forget_events(b, 1);
        if confirms == "by its ticket" {
            // This answer is lost as well, with the events behind it.
            w.resume(b);
        }
        w.crash();
        let (_, resumed) = w.resume(b);
        assert_eq!(resumed.reason, Some(ResumeReason::EpochChanged));
        assert!(!resumed.restore, "{confirms}: the mute was not received");
    }
}

/// Proves RES-10.
#[test]
fn res_10_a_snapshot_of_a_new_epoch_confirms_earlier_changes() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    let b = w.admit(entry(2).app("creator"));
    w.ok(a, mute_of(2, "audio"));
    w.crash();
    let (b, _) = w.resume(b);
    // The client has the answer, and tells this only by its ticket.
    let (b, _) = w.resume(b);
    w.crash();
    let (_, resumed) = w.resume(b);
    assert!(resumed.restore);
}

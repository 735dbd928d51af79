//! Histories in which two things happen at once: a kick that is being written, an answer that is lost after a crash, a
//! token that expires in the meantime.

use lianmai_protocol::message::Call;
use lianmai_protocol::message::session::{Outcome, Ping, ResumeReason};
use lianmai_protocol::{CloseCode, ErrorName, UserId, WallTime};
use lianmai_signal_engine::{AdminCommand, Answer, Grant, Input, QueryId};

use crate::calls::*;
use crate::world::{BEGIN_MS, DiskMode, Issuer, World, entry, room};

const JID: &str = "0123456789abcdef";

fn short(w: &World, uid: u64, life_ms: u64) -> crate::world::Entry {
    entry(uid).jwt(w, 0, life_ms)
}

/// The shell hands an expired token in as a grant (auth has no clock).
/// Proves RES-9.
#[test]
fn res_9_a_ticket_stands_in_for_a_basic_token_that_has_expired() {
    let mut w = World::new();
    let basic = |w: &World| {
        let now = w.now.wall.0;
        entry(2).grant(|g| {
            g.issued_at = Some(WallTime(now));
            g.expires = Some(WallTime(now + 60_000));
        })
    };
    let first = w.join(1);
    let token = basic(&w);
    w.disk.mode = DiskMode::Hold;
    let lost = w.admit(token.clone());
    w.disk.mode = DiskMode::AtOnce;
    w.advance_alive(120_000, &[first, lost]);
    w.crash();
    assert_eq!(w.refused(lost), ResumeReason::Gone);
    let mut back = token;
    back.join.continues = Some(w.conns[&lost.0].ticket.clone());
    w.admit(back);
}

/// An older ticket is refused, and its refusal changes nothing for others.
/// Proves RES-2, RES-4.
#[test]
fn res_2_an_old_ticket_does_not_throw_anybody_out_after_a_crash() {
    let mut w = World::new();
    let watcher = w.join(1);
    let a = w.admit(entry(2).join_id(JID));
    let stolen = w.conns[&a.0].ticket.clone();
    let (a, _) = w.resume(a);
    let (a, _) = w.resume(a); // by now the first ticket is dead
    let mid = w.mid(a);
    w.crash();
    let (_w2, _) = w.resume(watcher);
    let (a, _) = w.resume(a);
    let mut thief = entry(2).bad_token(ErrorName::TokenMissing);
    thief.join.continues = Some(stolen);
    let thief = w.enter(thief);
    assert_eq!(w.closed(a), None, "the owner is not disturbed");
    assert!(thief.is_err());
    assert_eq!(w.mid(a), mid);
}

/// Proves JOI-2, RES-9.
#[test]
fn a_living_membership_is_not_recorded_as_replaced() {
    let mut w = World::new();
    w.join(1);
    let a = w.admit(entry(2).join_id(JID));
    let ticket = w.conns[&a.0].ticket.clone();
    let mid = w.mid(a);
    w.crash();
    let mut again = entry(2).join_id(JID).bad_token(ErrorName::TokenExpired);
    again.join.continues = Some(ticket.clone());
    let b = w.admit(again.clone());
    assert_eq!(w.mid(b), mid, "JOI-2");
    // The answer was lost, so the client joins again (JOI-2).
    w.drop_socket(b);
    let c = w.enter(again);
    assert!(c.is_ok(), "a lost answer does no harm: {:?}", c.err());
    let c = c.unwrap();
    w.drop_socket(c);
    w.advance(31_000);
    assert_eq!(w.refused(c), ResumeReason::Gone, "it ended by grace");
}

/// Proves LIV-3, RES-9.
#[test]
fn a_resume_after_grace_is_refused_as_gone() {
    let mut w = World::new();
    w.join(1);
    let a = w.admit(entry(2).join_id(JID));
    let ticket = w.conns[&a.0].ticket.clone();
    w.crash();
    let mut again = entry(2).join_id(JID).bad_token(ErrorName::TokenExpired);
    again.join.continues = Some(ticket);
    let b = w.admit(again);
    w.drop_socket(b);
    w.advance(31_000);
    assert_eq!(w.refused(b), ResumeReason::Gone, "it ended by grace");
}

/// Proves TOK-1.
#[test]
fn a_ticket_outlives_the_token_that_was_renewed() {
    let mut w = World::new();
    let watcher = w.join(1);
    let e = short(&w, 2, 60_000);
    let a = w.admit(e);
    w.advance_alive(30_000, &[watcher, a]);
    let grant = short(&w, 2, 3_600_000).grant;
    w.tokens.insert("new".to_owned(), grant);
    w.ok(a, renew_token("new"));
    w.advance_alive(60_000, &[watcher, a]);
    w.drop_socket(a);
    w.ok(watcher, send_message("missed"));
    let (_, resumed) = w.resume(a);
    assert_eq!(resumed.outcome, Outcome::Replayed);
}

/// Records hold durations; a real process begins with mono 0 (clock.rs).
/// Proves LIV-3, RST-2.
#[test]
fn grace_continues_after_a_restart_with_a_young_clock() {
    let mut w = World::new();
    let a = w.join(1);
    let gone = w.join(2);
    w.drop_socket(gone);
    w.advance_alive(20_000, &[a]);
    w.drain();
    w.advance(5_000);
    assert_eq!(w.drained, Some(true));
    w.start_with(BEGIN_MS, true, |_| {});
    let (a, _) = w.resume(a);
    w.advance(12_000);
    assert_eq!(w.new_events(a), ["clientLeave 2 timeout"]);
}

/// Proves LIV-3, RST-2.
#[test]
fn the_media_cap_continues_across_a_hand_over() {
    // mediaCap counts from the first loss: 290 s of 300 have passed.
    let mut w = World::new();
    let a = w.join(1);
    let gone = w.join(2);
    let (_, generation) = w.push_url(gone, "video");
    w.drop_socket(gone);
    for _ in 0..29 {
        w.flow(generation);
        w.advance_alive(10_000, &[a]);
    }
    w.drain();
    w.flow(generation);
    w.advance(5_000);
    w.start_with(BEGIN_MS, true, |r| {
        let member = r.channels[0].2.iter_mut().find(|m| m.uid == UserId(2)).unwrap();
        assert!(member.live.as_ref().unwrap().lost_ms > 290_000);
    });
    let (a, _) = w.resume(a);
    for _ in 0..4 {
        w.flow(generation);
        w.advance_alive(10_000, &[a]);
    }
    assert_eq!(w.new_events(a), ["streamRemoved 2 video", "clientLeave 2 timeout"]);
}

/// A member that its push kept in grace stays in it.
/// Proves LIV-3, RST-2, RST-4.
#[test]
fn liv_3_a_member_kept_by_media_survives_a_clean_restart() {
    let mut w = World::new();
    let a = w.join(1);
    let host = w.join(2);
    let (_, generation) = w.push_url(host, "video");
    w.drop_socket(host);
    for _ in 0..6 {
        w.flow(generation);
        w.advance_alive(10_000, &[a]);
    }
    w.flow(generation);
    w.drain();
    w.advance(5_000);
    w.start_again();
    assert_eq!(w.may_push(generation), Ok(()), "the push goes on");
    let (a, _) = w.resume(a);
    w.flow(generation);
    w.advance(5_000);
    assert!(w.new_events(a).is_empty(), "its push goes on");
}

/// Proves KIC-2, RST-5.
#[test]
fn rst_5_a_kick_that_failed_does_not_undo_one_that_was_written() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    let _b = w.admit(entry(2).app("creator"));
    w.disk.mode = DiskMode::Hold;
    w.send(a, kick(2, 60));
    let command = AdminCommand::Kick {
        channel: room("creator"),
        uid: UserId(2),
        duration_s: 600,
        reason: None,
    };
    w.input(Input::Admin { query: QueryId(999), command });
    w.answer_held(&[false, true]);
    w.disk.mode = DiskMode::AtOnce;
    w.advance(1_000);
    assert_eq!(
        w.refusal(entry(2).app("creator")),
        ErrorName::Banned,
        "the second kick was answered as done"
    );
    w.crash();
    assert_eq!(w.refusal(entry(2).app("creator")), ErrorName::Banned);
}

/// Proves JOI-8.
#[test]
fn a_creator_that_rejoins_during_the_write_of_its_kick_keeps_its_channel() {
    let mut w = World::new();
    let _old = w.admit(entry(1).app("dissolve"));
    let other = w.admit(entry(2).app("dissolve"));
    w.disk.mode = DiskMode::Hold;
    let command = AdminCommand::Kick {
        channel: room("dissolve"),
        uid: UserId(1),
        duration_s: 0,
        reason: None,
    };
    w.input(Input::Admin { query: QueryId(999), command });
    let new = w.admit(entry(1).app("dissolve"));
    w.write_held();
    assert_eq!(w.closed(new), None);
    assert_eq!(w.closed(other), None, "the creator is here");
}

/// Proves MET-2.
#[test]
fn met_2_a_kick_that_is_answered_superseded_has_no_effect() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    let b = w.admit(entry(2).app("creator"));
    w.disk.mode = DiskMode::Hold;
    let id = w.send(a, kick(2, 60));
    w.send(a, leave());
    w.write_held();
    if w.answer(a, id).is_some_and(|answer| answer.is_err()) {
        assert_eq!(w.closed(b), None, "an error had no effect at all");
    }
}

/// Proves LEA-3, MET-2.
#[test]
fn a_change_that_took_effect_is_not_answered_superseded() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    let b = w.admit(entry(2).app("creator"));
    w.disk.mode = DiskMode::Hold;
    let id = w.send(a, set_role_of(2, "audience"));
    w.send(a, leave());
    w.write_held();
    w.advance(100);
    let heard = w.new_events(b);
    assert!(heard.contains(&"roleChanged 2 audience".to_owned()), "{heard:?}");
    assert!(w.answer(a, id).is_none_or(|answer| answer.is_ok()), "{:?}", w.answer(a, id));
}

/// The member is fenced first: no further input of its session counts.
/// Proves KIC-1.
#[test]
fn queued_commands_of_a_member_that_is_being_kicked_do_not_run() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    let b = w.admit(entry(2).app("creator"));
    w.advance(100);
    w.skip_received();
    w.issuer = Issuer::Hold;
    w.send(b, publish("video"));
    w.send(b, send_message("held"));
    w.disk.mode = DiskMode::Hold;
    w.send(a, kick(2, 60));
    w.issue();
    w.advance(100);
    assert!(w.new_events(a).is_empty(), "fenced");
}

/// Also if the answer with `restore` is lost.
/// Proves RES-10.
#[test]
fn res_10_restore_is_sent_until_the_client_confirms_it() {
    let mut w = World::new();
    let a = w.join(1);
    let mut first = w.reconnect_request(a);
    w.crash();
    let b = w.send_reconnect(a, first.clone());
    assert!(w.conns[&b.0].resumed.clone().unwrap().restore);
    // That answer is lost; the client sends its older ticket and position.
    first.attempt += 1;
    let c = w.send_reconnect(a, first);
    let resumed = w.conns[&c.0].resumed.clone().unwrap();
    assert_eq!(resumed.reason, Some(ResumeReason::EpochChanged));
    assert!(resumed.restore, "the server crashed since");
}

/// Proves IDS-2.
#[test]
fn ids_2_an_id_that_waits_with_other_content_is_id_reuse() {
    let mut w = World::new();
    let a = w.join(1);
    w.issuer = Issuer::Hold;
    let id = w.send(a, publish("video"));
    w.send_as(a, id, send_message("other"));
    assert_eq!(w.error(a, id), ErrorName::IdReuse);
}

/// Proves IDS-6.
#[test]
fn ids_6_repeats_of_a_pending_command_count() {
    let mut w = World::new();
    let a = w.join(1);
    w.issuer = Issuer::Hold;
    let id = w.send(a, publish("video"));
    for _ in 0..1_000 {
        w.send_as(a, id, publish("video"));
        if w.closed(a).is_some() {
            break;
        }
    }
    assert_eq!(w.closed(a), Some(CloseCode::RATE_LIMITED));
}

/// A kick that could not be stored.
/// Proves RST-5.
#[test]
fn ord_5_commands_sent_during_a_failed_kick_are_not_lost() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    let b = w.admit(entry(2).app("creator"));
    w.disk.mode = DiskMode::Hold;
    w.send(a, kick(2, 60));
    let id = w.send(b, send_message("during"));
    w.answer_held(&[false]);
    w.disk.mode = DiskMode::AtOnce;
    // Either it is answered, or the socket is closed so that the client comes back and sends it again.
    assert!(w.answer(b, id).is_some() || w.closed(b).is_some());
}

/// The SDK expects remembered answers after a rejoin with the same session and epoch (client-sdk/src/session/entry.rs),
/// and sends all commands again with the same ids.
/// Proves IDS-7.
#[test]
fn ids_7_a_queued_renewal_survives_the_loss_of_the_socket() {
    let mut w = World::new();
    let a = w.join(1);
    w.tokens.insert("new".to_owned(), Ok(Grant::debug()));
    w.issuer = Issuer::Hold;
    w.send(a, publish("video"));
    let id = w.send(a, renew_token("new"));
    w.drop_socket(a);
    w.issue();
    let (a, _) = w.resume(a);
    w.send_as(a, id, renew_token("new"));
    let answer = w.answer(a, id).expect("answered");
    assert!(answer.is_ok(), "{answer:?}");
}

/// Proves RES-2.
#[test]
fn res_2_a_confirmed_ticket_invalidates_tickets_from_before_a_crash() {
    let mut w = World::new();
    w.join(9);
    let mut a = w.admit(entry(1).join_id(JID));
    for _ in 0..3 {
        a = w.resume(a).0;
    }
    w.advance(1);
    w.disk.mode = DiskMode::Hold;
    for _ in 0..3 {
        a = w.resume(a).0;
    }
    w.disk.mode = DiskMode::AtOnce;
    let old = w.reconnect_request(a); // number 7; the record has 3
    w.crash();
    let b = w.admit(entry(1).join_id(JID));
    let k = w.conns[&b.0].k;
    w.ok(b, Call::Ping(Ping { k: Some(k), n: None }));
    let mut late = old;
    late.attempt = 100;
    assert_eq!(w.refused_with(b, late), ResumeReason::Invalid, "a newer one is confirmed");
}

/// Proves TOK-1.
#[test]
fn a_verification_for_another_session_is_ignored() {
    let mut w = World::new();
    let a = w.admit(entry(1).join_id(JID));
    w.send_as(a, 50, renew_token("one"));
    let b = w.admit(entry(1).join_id(JID));
    w.send_as(b, 50, renew_token("two"));
    let (id, token) = w.held_tokens.pop_front().unwrap();
    assert_eq!(token, "one");
    let mut grant = Grant::debug();
    grant.rights.message = false;
    w.input(Input::Answer { id, answer: Answer::Verified(Ok(grant)) });
    assert_eq!(w.answer(b, 50), None, "two is not looked at yet");
}

/// Missing or expired, nothing else.
/// Proves RES-9.
#[test]
fn res_9_a_ticket_does_not_stand_in_for_a_forged_token() {
    let mut w = World::new();
    w.join(1);
    w.disk.mode = DiskMode::Hold;
    let lost = w.join(2);
    w.disk.mode = DiskMode::AtOnce;
    w.crash();
    let mut e = entry(2).bad_token(ErrorName::TokenInvalid);
    e.join.continues = Some(w.conns[&lost.0].ticket.clone());
    assert_eq!(w.refusal(e), ErrorName::TokenInvalid);
}

/// Proves RST-1.
#[test]
fn res_9_a_late_client_is_told_when_to_come_back() {
    let mut w = World::new();
    w.drain();
    w.advance(5_000);
    assert!(w.enter(entry(1)).unwrap_err().data.retry_after_ms.is_some());
}

/// Attempts are counted per session, which the join begins.
/// Proves RES-3.
#[test]
fn res_3_a_join_resets_the_attempts() {
    let mut w = World::new();
    let mut a = w.admit(entry(1).join_id(JID));
    for _ in 0..6 {
        a = w.resume(a).0;
    }
    w.drop_socket(a);
    // The process of the client restarts and knows only its joinId.
    let b = w.admit(entry(1).join_id(JID));
    w.drop_socket(b);
    w.resume(b);
}

/// A JWT that lives longer than a day; the row is lost.
/// Proves AUT-4, RES-9.
#[test]
fn a_ticket_does_not_extend_a_token() {
    let mut w = World::new();
    let first = w.join(1);
    w.disk.mode = DiskMode::Hold;
    let e = short(&w, 2, 25 * 3_600_000);
    let lost = w.admit(e);
    w.disk.mode = DiskMode::AtOnce;
    let _ = first;
    w.crash();
    let mut e = entry(2).bad_token(ErrorName::TokenMissing);
    e.join.continues = Some(w.conns[&lost.0].ticket.clone());
    let b = w.admit(e);
    assert!(w.joined(b).own.token_expires_in_ms.is_some(), "AUT-4");
}

/// Proves URL-4.
#[test]
fn con_9_debug_text_shows_no_url() {
    use lianmai_signal_engine::*;
    let minted = Minted {
        url: "rtmp://x/secret".into(),
        urls: Default::default(),
        renew_after: WallTime(0),
    };
    let text =
        format!("{:?}", Input::Answer { id: AskId(1), answer: Answer::Minted(Some(minted)) });
    assert!(!text.contains("secret"), "{text}");
}
/// Proves no rule of the protocol: a token is not part of `Debug` output.
#[test]
fn con_9_debug_text_shows_no_token() {
    use lianmai_signal_engine::*;
    let text = format!(
        "{:?}",
        Output::Ask {
            id: AskId(1),
            question: Question::Verify(TokenRequest {
                appkey: "a".parse().unwrap(),
                uid: UserId(1),
                channel: "c".parse().unwrap(),
                token: Token("secret".into())
            })
        }
    );
    assert!(!text.contains("secret"), "{text}");
}

//! Commands that wait for the shell (ORD-5): the commands that they hold back, and late answers.

use lianmai_protocol::{Action, CloseCode, ErrorName};
use lianmai_signal_engine::{Answer, AskId, Denial, Grant, Input};

use crate::calls::*;
use crate::world::{DiskMode, Issuer, World, entry};

/// Proves ORD-5, ORD-8.
#[test]
fn a_publish_that_waits_holds_back_later_commands_of_its_session_only() {
    let mut w = World::new();
    let a = w.admit(entry(1).moderator());
    let b = w.join(2);
    w.advance(1_000);
    w.skip_received();
    w.issuer = Issuer::Hold;
    let first = w.send(a, publish("audio"));
    let second = w.send(a, mute("audio"));
    let third = w.send(a, kick(2, 0));
    w.advance(1_000);
    assert_eq!((w.answer(a, first), w.answer(a, second), w.answer(a, third)), (None, None, None));
    assert!(w.closed(b).is_none(), "the kick waits");
    w.ok(b, send_message("I am not held"));
    w.ok(a, ping());
    w.issue();
    let order = [
        "message 2 I am not held",
        "ping ok",
        "streamAdded 1 audio",
        "publish ok",
        "muted 1 audio",
        "mute ok",
        "clientLeave 2 kicked",
        "kick ok",
    ];
    assert_eq!(w.log(a), order);
    assert_eq!(w.closed(b), Some(CloseCode::KICKED));
}

/// Proves IDS-5, LEA-3.
#[test]
fn ids_5_there_is_always_room_for_a_leave() {
    let mut w = World::new();
    let a = w.admit(entry(1).moderator());
    w.join(2);
    w.disk.mode = DiskMode::Hold;
    let kick = w.send(a, kick(2, 60));
    let held: Vec<u64> = (0..31).map(|_| w.send(a, send_message("held"))).collect();
    let leaving = w.send(a, leave());
    let again = w.send(a, leave());
    assert_eq!(w.error(a, again), ErrorName::TooManyInFlight, "one is enough");
    w.disk.mode = DiskMode::AtOnce;
    w.write_held();
    assert_eq!(w.answer(a, kick).map(|answer| answer.is_ok()), Some(true));
    assert!(held.iter().all(|id| w.error(a, *id) == ErrorName::Superseded));
    assert_eq!(w.answer(a, leaving).map(|answer| answer.is_ok()), Some(true));
    assert_eq!(w.closed(a), Some(CloseCode::NORMAL));
}

/// Proves ORD-5.
#[test]
fn queued_commands_that_wait_themselves_keep_their_order() {
    let mut w = World::new();
    let a = w.join(1);
    w.advance(100);
    w.skip_received();
    w.issuer = Issuer::Hold;
    w.send(a, publish("audio"));
    w.send(a, publish("screenShare"));
    w.send(a, send_message("last"));
    assert_eq!(w.held_mints.len(), 1, "one at a time");
    w.issue();
    assert_eq!(w.held_mints.len(), 1);
    w.issue();
    assert_eq!(
        w.log(a),
        [
            "streamAdded 1 audio",
            "publish ok",
            "streamAdded 1 screenShare",
            "publish ok",
            "message 1 last",
            "sendMessage ok",
        ]
    );
}

/// Proves PUB-2.
#[test]
fn no_stream_is_announced_before_its_url_exists() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.advance(100);
    w.skip_received();
    w.issuer = Issuer::Hold;
    w.send(a, publish(""));
    w.advance(1_000);
    assert!(w.new_events(b).is_empty());
    assert_eq!(w.err(b, subscribe(1, "audio")), ErrorName::NotPublished);
    assert_eq!(w.engine.stats().streams, 0);
    let generation = *w.minted.first().expect("one");
    assert_eq!(w.may_push(generation), Err(Denial::UnknownStream));
    w.issue();
    w.advance(20);
    assert_eq!(w.new_events(b), ["streamAdded 1 audio", "streamAdded 1 video"]);
}

/// Proves LEA-1, LEA-3, URL-5.
#[test]
fn leave_does_not_wait_and_the_late_url_is_ignored() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.advance(100);
    w.skip_received();
    w.issuer = Issuer::Hold;
    w.send(a, publish(""));
    w.send(a, send_message("never"));
    w.ok(a, leave());
    assert_eq!(w.closed(a), Some(CloseCode::NORMAL));
    w.issue();
    w.advance(6_000);
    assert_eq!(w.new_events(b), ["clientLeave 1 left"]);
    let generation = *w.minted.first().expect("one");
    assert_eq!(w.may_push(generation), Err(Denial::UnknownStream));
    w.ok(b, leave());
    w.assert_empty();
}

/// Proves LEA-2, LEA-3, SES-6.
#[test]
fn leave_answers_pending_commands_as_superseded_and_then_itself() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.push_url(a, "audio");
    w.advance(100);
    w.skip_received();
    w.issuer = Issuer::Hold;
    let first = w.send(a, publish("screenShare"));
    w.send(a, send_message("never"));
    w.send(a, mute("audio"));
    w.ok(a, ping());
    // Elements after the `leave` in its array are neither executed nor answered.
    let last = w.batch(a, vec![leave(), send_message("too late")]);
    assert_eq!(
        w.log(a),
        [
            "ping ok",
            "publish !superseded",
            "sendMessage !superseded",
            "mute !superseded",
            "streamRemoved 1 audio",
            "clientLeave 1 left",
            "leave ok",
            "~closing left",
        ]
    );
    let closing = w.closing(a).expect("announced");
    assert_eq!((closing.code, closing.action), (CloseCode::NORMAL, Action::None));
    assert!((first..=last).all(|id| w.answer(a, id).is_some()));
    assert_eq!(w.answer(a, last + 1), None);
    w.advance(20);
    assert_eq!(w.new_events(b), ["streamRemoved 1 audio", "clientLeave 1 left"]);
    w.issue();
    w.audit();
}

/// Proves LEA-3.
#[test]
fn leave_supersedes_a_renewal_and_a_subscribe_that_wait() {
    for call in [renew_token("slow"), subscribe(2, "audio")] {
        let mut w = World::new();
        let a = w.join(1);
        let b = w.join(2);
        w.push_url(b, "audio");
        w.skip_received();
        w.issuer = Issuer::Hold;
        let id = w.send(a, call);
        w.ok(a, leave());
        assert_eq!(w.error(a, id), ErrorName::Superseded);
        if let Some((id, _)) = w.held_tokens.pop_front() {
            let answer = Answer::Verified(Ok(Grant::debug()));
            w.input(Input::Answer { id, answer });
        } else {
            w.issue();
        }
        w.audit();
    }
}

/// Proves URL-5.
#[test]
fn a_late_url_never_reaches_the_next_membership_of_the_uid() {
    let mut w = World::new();
    let a = w.join(1);
    w.issuer = Issuer::Hold;
    w.send(a, publish(""));
    let (_, old) = w.held_mints[0].clone();
    let again = w.join(1);
    let id = w.send(again, publish(""));
    w.issue(); // The first life's URL.
    assert_eq!(w.answer(again, id), None);
    assert_eq!(w.may_push(old.generation), Err(Denial::UnknownStream));
    w.issue();
    assert!(w.answer(again, id).expect("answered").is_ok());
    w.audit();
}

/// Proves MET-2.
#[test]
fn without_a_url_the_command_fails_and_nothing_happened() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.advance(100);
    w.skip_received();
    w.issuer = Issuer::Fail;
    assert_eq!(w.err(a, publish("")), ErrorName::UrlUnavailable);
    assert!(w.new_events(b).is_empty());
    w.issuer = Issuer::AtOnce;
    w.push_url(a, "");
    w.issuer = Issuer::Fail;
    assert_eq!(w.err(b, subscribe(1, "audio")), ErrorName::UrlUnavailable);
    assert_eq!(w.engine.stats().streams, 1);
    w.issuer = Issuer::AtOnce;
    w.pull_url(b, 1, "audio");
    w.audit();
}

/// Proves MET-2.
#[test]
fn a_url_that_takes_five_seconds_fails_and_is_ignored_later() {
    let mut w = World::new();
    let a = w.join(1);
    w.advance(100);
    w.skip_received();
    w.issuer = Issuer::Hold;
    let id = w.send(a, publish(""));
    let held = w.send(a, mute("audio"));
    w.advance(4_999);
    assert_eq!(w.answer(a, id), None);
    w.advance(1);
    assert_eq!(w.error(a, id), ErrorName::UrlUnavailable);
    assert!(w.answer(a, held).expect("answered").is_ok(), "the queued commands continue");
    w.issue();
    assert_eq!(w.engine.stats().streams, 0);
    w.advance(20);
    assert_eq!(w.new_events(a), ["muted 1 audio"]);
}

/// Proves MET-2, URL-5.
#[test]
fn a_publish_is_superseded_by_a_demotion() {
    let mut w = World::new();
    let a = w.join(1);
    let m = w.admit(entry(2).moderator());
    w.advance(100);
    w.skip_received();
    w.issuer = Issuer::Hold;
    let id = w.send(a, publish(""));
    let held = w.send(a, publish("audio"));
    w.ok(m, set_role_of(1, "audience"));
    assert_eq!(w.error(a, id), ErrorName::Superseded);
    assert_eq!(w.error(a, held), ErrorName::NotBroadcaster);
    w.ok(m, set_role_of(1, "broadcaster"));
    w.issue();
    w.advance(20);
    assert_eq!(w.engine.stats().streams, 0, "promoted again, but the old URL is dead");
    let generation = *w.minted.first().expect("one");
    assert_eq!(w.may_push(generation), Err(Denial::UnknownStream));
    w.audit();
}

/// Proves ORD-5.
#[test]
fn a_chain_of_superseded_publishes_needs_no_stack() {
    const CHAIN: u64 = 300;
    let chain = || {
        let mut w = World::new();
        let m = w.admit(entry(CHAIN + 1).moderator());
        w.issuer = Issuer::Hold;
        for uid in 1..=CHAIN {
            let member = w.admit(entry(uid).moderator());
            w.send(member, publish(""));
            // Each one demotes the next member, whose command is superseded by that, and so on.
            w.send(member, set_role_of(uid + 1, "audience"));
            w.send(member, send_message(&format!("from {uid}")));
            w.drop_socket(member);
        }
        w.advance(20);
        w.skip_received();
        w.ok(m, set_role_of(1, "audience"));
        w.advance(20);
        let heard = w.new_events(m);
        let of = |word: &str| heard.iter().filter(|event| event.starts_with(word)).count() as u64;
        assert_eq!((of("clientLeave"), of("message")), (CHAIN + 1, CHAIN));
        assert_eq!(heard[3], "clientLeave 2 roleChanged", "one after the other");
        w.audit();
    };
    // A stack that is too small for so many nested calls.
    let thread = std::thread::Builder::new().stack_size(256 * 1024).spawn(chain);
    thread.expect("a thread").join().expect("the chain is worked off");
}

/// Proves MET-2, SUB-3.
#[test]
fn a_subscribe_is_superseded_when_its_publication_ends() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.push_url(a, "");
    w.issuer = Issuer::Hold;
    let id = w.send(b, subscribe(1, "audio"));
    w.ok(a, unpublish("audio"));
    w.issuer = Issuer::AtOnce;
    // Published again in the same stream: this is another publication.
    let (_, generation) = w.push_url(a, "audio");
    w.issue();
    assert_eq!(w.error(b, id), ErrorName::Superseded);
    let mid = w.mid(b);
    assert_eq!(w.may_play(generation, mid), Err(Denial::NotSubscribed));
    // The same if the publisher has left.
    w.issuer = Issuer::Hold;
    let id = w.send(b, subscribe(1, "audio"));
    w.ok(a, leave());
    w.issue();
    assert_eq!(w.error(b, id), ErrorName::Superseded);
}

/// Proves PUB-5, URL-5.
#[test]
fn a_renewed_push_url_never_revives_a_stream_that_was_cut_meanwhile() {
    let mut w = World::new();
    w.url_life_ms = 1_000;
    let a = w.join(1);
    let m = w.admit(entry(2).moderator());
    let (_, generation) = w.push_url(a, "");
    w.advance(2_000);
    w.skip_received();
    w.issuer = Issuer::Hold;
    let id = w.send(a, publish(""));
    w.ok(m, unpublish_of(1, ""));
    assert!(w.cut.contains(&generation));
    w.issue();
    assert_eq!(w.error(a, id), ErrorName::Superseded);
    assert_eq!(w.may_push(generation), Err(Denial::UnknownStream), "a cut generation stays dead");
    w.advance(20);
    assert_eq!(w.new_events(m), ["streamRemoved 1 audio", "streamRemoved 1 video"]);
    w.issuer = Issuer::AtOnce;
    assert_ne!(w.push_url(a, "").1, generation);
    w.audit();
}

/// Proves ORD-5.
#[test]
fn a_socket_lost_while_a_publish_waits_does_not_stop_it() {
    let mut w = World::new();
    let a = w.admit(entry(1).join_id("0123456789abcdef"));
    let b = w.join(2);
    w.advance(100);
    w.skip_received();
    w.issuer = Issuer::Hold;
    w.send(a, publish(""));
    w.send(a, mute("audio"));
    w.drop_socket(a);
    w.issue();
    w.advance(20);
    assert_eq!(w.new_events(b), ["streamAdded 1 audio", "streamAdded 1 video", "muted 1 audio"]);
    let again = w.admit(entry(1).join_id("0123456789abcdef"));
    assert_eq!(w.joined(again).own.published.len(), 2);
    w.audit();
}

/// Proves IDS-5.
#[test]
fn more_than_32_unanswered_commands_are_refused() {
    let mut w = World::new();
    let a = w.join(1);
    w.advance(5_000);
    w.issuer = Issuer::Hold;
    let first = w.send(a, publish("audio"));
    for n in 1..32 {
        let id = w.send(a, send_message(&n.to_string()));
        assert_eq!(w.answer(a, id), None);
    }
    let over = w.send(a, send_message("over"));
    assert_eq!(w.error(a, over), ErrorName::TooManyInFlight);
    w.ok(a, ping());
    w.issue();
    for id in first..over {
        assert!(w.answer(a, id).expect("answered").is_ok());
    }
    w.audit();
}

/// A token check that is never answered.
/// Proves MET-1.
#[test]
fn a_token_check_without_answer_fails_and_blocks_nothing() {
    let mut w = World::new();
    let a = w.join(1);
    let id = w.send(a, renew_token("slow"));
    let held = w.send(a, send_message("later"));
    w.advance_alive(4_999, &[a]);
    assert_eq!((w.answer(a, id), w.answer(a, held)), (None, None));
    w.advance(1);
    assert_eq!(w.error(a, id), ErrorName::InternalError);
    assert!(w.answer(a, held).expect("it is answered").is_ok());
    // An answer that comes too late changes nothing.
    let (ask, _) = w.held_tokens.pop_front().expect("a check");
    let mut grant = Grant::debug();
    grant.rights.message = false;
    w.input(Input::Answer { id: ask, answer: Answer::Verified(Ok(grant)) });
    w.ok(a, send_message("still"));
}

/// Proves ORD-5.
#[test]
fn an_answer_of_another_kind_or_to_nothing_changes_nothing() {
    let mut w = World::new();
    let a = w.join(1);
    w.issuer = Issuer::Hold;
    let id = w.send(a, publish("audio"));
    let (ask, request) = w.held_mints[0].clone();
    let minted = || Answer::Minted(Some(w.mint_result(ask, &request)));
    let right = minted();
    let wrong = [Answer::Stored(true), Answer::Verified(Ok(Grant::debug())), Answer::Stored(false)];
    let to_nothing = [0, ask.0 - 1, ask.0 + 1, u64::MAX].map(AskId);
    let strays = wrong.into_iter().map(|answer| (ask, answer));
    let strays = strays.chain(to_nothing.into_iter().map(|id| (id, right.clone())));
    for (id, answer) in strays.collect::<Vec<_>>() {
        w.input(Input::Answer { id, answer });
    }
    assert_eq!(w.answer(a, id), None, "it waits still");
    w.issue();
    let url = w.answer(a, id).expect("it is answered").expect("a URL")["url"].clone();
    // A second answer to the same question.
    let again = Answer::Minted(Some(w.mint_result(AskId(77), &request)));
    w.input(Input::Answer { id: ask, answer: again });
    w.issuer = Issuer::AtOnce;
    assert_eq!(w.ok(a, publish("audio"))["url"], url);
    // And a write, whose answer is of another kind than a URL.
    let m = w.admit(entry(2).moderator());
    w.disk.mode = DiskMode::Hold;
    let kick = w.send(m, kick(1, 0));
    for id in 0..100 {
        w.input(Input::Answer { id: AskId(id), answer: Answer::Minted(None) });
    }
    assert_eq!(w.answer(m, kick), None);
    w.write_held();
    assert!(w.answer(m, kick).expect("it is answered").is_ok());
}

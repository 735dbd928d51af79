//! How events and answers are sent: one text for all, one frame per burst, answers behind their events.

use std::collections::BTreeSet;

use lianmai_protocol::message::session::Pong;

use crate::calls::*;
use crate::world::{Client, World, entry};

/// Proves MSG-1, ORD-1.
#[test]
fn all_members_get_every_event_once_in_the_same_order() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    let c = w.admit(entry(3).audience());
    w.advance(100);
    w.skip_received();
    w.push_url(a, "");
    w.ok(b, send_message("hello"));
    w.ok(a, mute("audio"));
    w.ok(c, send_message("from the dark"));
    w.advance(100);
    // World compares the texts byte by byte; here the point is that none is missing.
    let expected = [
        "streamAdded 1 audio",
        "streamAdded 1 video",
        "message 2 hello",
        "muted 1 audio",
        "message 3 from the dark",
    ];
    for client in [a, b, c] {
        assert_eq!(w.new_events(client), expected);
    }
    w.audit();
}

/// Proves ORD-6.
#[test]
fn the_first_event_is_sent_at_once_and_a_burst_as_one_shared_frame() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    let c = w.join(3);
    w.advance(1_000);
    w.skip_received();
    w.ok(a, send_message("one"));
    assert_eq!(w.new_events(b), ["message 1 one"], "the first after a pause does not wait");
    let frames = |w: &World, client: Client| w.conns[&client.0].frames.len();
    let before = frames(&w, b);
    w.ok(a, send_message("two"));
    w.ok(a, send_message("three"));
    w.advance(5);
    w.ok(a, send_message("four"));
    w.advance(14);
    assert_eq!(frames(&w, b), before, "the burst waits for the interval");
    w.advance(1);
    assert_eq!(frames(&w, b), before + 1, "and leaves as one frame, 20 ms after the first");
    assert_eq!(w.new_events(b), ["message 1 two", "message 1 three", "message 1 four"]);
    // Encoded once: b and c hold the same bytes, not equal ones.
    let last = |w: &World, client: Client| w.conns[&client.0].frames.last().expect("one").as_ptr();
    assert_eq!(last(&w, b), last(&w, c));
    // The caller got its own with its answers.
    assert_eq!(
        w.new_events(a),
        ["message 1 one", "message 1 two", "message 1 three", "message 1 four"]
    );
}

/// Proves ORD-1.
#[test]
fn an_event_shares_one_buffer_between_receivers() {
    let mut w = World::new();
    let clients: Vec<Client> = (1..=20).map(|uid| w.join(uid)).collect();
    w.advance(1_000);
    w.ok(clients[0], send_message("x"));
    let pointers: BTreeSet<_> = clients[1..]
        .iter()
        .map(|client| w.conns[&client.0].frames.last().expect("one").as_ptr())
        .collect();
    assert_eq!(pointers.len(), 1);
}

/// Proves ORD-4.
#[test]
fn an_answer_follows_its_events_and_has_the_last_seq() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.advance(1_000);
    w.skip_received();
    w.ok(b, send_message("before"));
    w.ok(b, send_message("waits"));
    // The answer to `a` may not overtake the event of `b` that still waits for the flush.
    let answer = w.ok(a, publish(""));
    let order = [
        "message 2 before",
        "message 2 waits",
        "streamAdded 1 audio",
        "streamAdded 1 video",
        "publish ok",
    ];
    assert_eq!(w.log(a), order);
    assert_eq!(answer["seq"].as_u64(), Some(w.conns[&a.0].last_seq));
    // A command without an effect is answered with the head as well.
    let again = w.ok(a, publish("audio"));
    assert_eq!(again["seq"], answer["seq"]);
}

/// Proves ORD-2.
#[test]
fn a_newcomer_inside_a_batch_gets_the_remainder_only() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.advance(1_000);
    w.skip_received();
    w.ok(a, send_message("one"));
    w.ok(a, send_message("two"));
    let c = w.admit(entry(3).audience());
    w.ok(a, send_message("three"));
    let d = w.join(4);
    w.ok(a, send_message("four"));
    w.advance(20);
    assert_eq!(
        w.new_events(b),
        ["message 1 one", "message 1 two", "message 1 three", "clientJoin 4", "message 1 four"]
    );
    assert_eq!(w.new_events(c), ["message 1 three", "clientJoin 4", "message 1 four"]);
    assert_eq!(w.new_events(d), ["message 1 four"]);
    assert_eq!(w.joined(c).seq + 2, w.joined(d).seq);
    w.audit();
}

/// Proves ORD-4, PIN-1.
#[test]
fn ping_answers_the_head_after_every_event_up_to_it() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.advance(1_000);
    w.skip_received();
    w.ok(a, send_message("one"));
    w.ok(a, send_message("two"));
    let pong: Pong = serde_json::from_value(w.ok(b, ping())).expect("pong");
    assert_eq!(w.log(b), ["message 1 one", "message 1 two", "ping ok"]);
    assert_eq!(pong.seq, w.joined(b).seq + 2);
    assert_eq!(pong.epoch, w.joined(b).epoch);
}

/// Proves FRM-4, ORD-5.
#[test]
fn elements_of_an_array_take_effect_in_order() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.advance(1_000);
    w.skip_received();
    let first = w.batch(
        a,
        vec![publish("audio"), subscribe(9, "audio"), unpublish("audio"), mute("audio"), ping()],
    );
    let order = [
        "streamAdded 1 audio",
        "publish ok",
        "subscribe !noSuchMember",
        "streamRemoved 1 audio",
        "unpublish ok",
        "muted 1 audio",
        "mute ok",
    ];
    let log = w.log(a);
    let without_ping: Vec<_> = log.iter().filter(|line| *line != "ping ok").collect();
    assert_eq!(without_ping, order.iter().collect::<Vec<_>>());
    assert_eq!(log[0], "ping ok", "ping overtakes the publish that waits for its URL (ORD-5)");
    assert!(w.answer(a, first + 4).is_some());
    w.advance(100);
    assert_eq!(w.new_events(b), ["streamAdded 1 audio", "streamRemoved 1 audio", "muted 1 audio"]);
}

/// Proves LEA-2.
#[test]
fn elements_after_one_that_ended_the_membership_are_ignored() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.advance(100);
    w.skip_received();
    let first = w.batch(b, vec![send_message("bye"), leave(), send_message("ghost")]);
    assert!(w.answer(b, first + 1).is_some());
    assert_eq!(w.answer(b, first + 2), None);
    w.text(b, "{}");
    w.advance(100);
    assert_eq!(w.new_events(a), ["message 2 bye", "clientLeave 2 left"]);
}

/// Proves ORD-1.
#[test]
fn a_burst_longer_than_a_frame_is_sent_as_several_frames_in_order() {
    let mut w = World::with(|config| config.limits.command_burst = 1_000);
    let a = w.join(1);
    let b = w.join(2);
    w.advance(1_000);
    w.skip_received();
    let data = "x".repeat(8_000);
    for _ in 0..50 {
        w.ok(a, send_message(&data));
    }
    w.advance(20);
    assert_eq!(w.new_events(b).len(), 50);
    assert!(w.conns[&b.0].frames.iter().all(|frame| frame.len() <= 256 * 1024));
}

/// Proves ORD-6.
#[test]
fn no_event_waits_longer_than_the_flush_interval() {
    let mut w = World::with(|config| config.limits.commands_per_second = 1_000);
    let a = w.join(1);
    let b = w.join(2);
    w.advance(1_000);
    w.skip_received();
    let start = w.conns[&b.0].events.len();
    let mut said = Vec::new();
    for step in [0, 3, 3, 7, 20, 1, 1, 40, 19, 1, 5, 100, 2] {
        w.advance(step);
        said.push(w.now.mono);
        w.ok(a, send_message("tick"));
    }
    w.advance(100);
    let heard = &w.conns[&b.0].events[start..];
    assert_eq!(heard.len(), said.len());
    for (heard, said) in heard.iter().zip(said) {
        assert!(heard.at.since(said) <= 20, "{} ms", heard.at.since(said));
    }
}

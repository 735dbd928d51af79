//! Pings, dead peers, gaps.

use lianmai_client_sdk::Event;
use lianmai_client_sdk::protocol::codec::{encode_event, encode_result};
use lianmai_client_sdk::protocol::message::Position;
use lianmai_client_sdk::protocol::message::session::Pong;
use lianmai_client_sdk::protocol::*;
use lianmai_client_sdk::session::*;

use super::support::*;

fn state_reason(outputs: &[Output]) -> Option<StateReason> {
    app_events(outputs).into_iter().find_map(|event| match event {
        Event::ConnectionStateChange { reason, .. } => Some(reason),
        _ => None,
    })
}

/// Proves LIV-1.
#[test]
fn a_silent_client_pings_and_a_talking_one_does_not() {
    let mut rig = Rig::joined(Role::Audience);
    rig.advance(9_000);
    rig.send(message("a"));
    assert!(requests(&rig.advance(9_999)).is_empty());
    let sent = requests(&rig.advance(1));
    assert!(is_ping(&sent[0]));
    assert_eq!(sent[0].ack, Some(RequestId(1)));
}

/// Proves LIV-4.
#[test]
fn a_server_that_is_silent_for_too_long_is_dead() {
    let mut rig = Rig::joined(Role::Audience);
    let mut outputs = rig.advance(24_999);
    assert_eq!(requests(&outputs).iter().filter(|r| is_ping(r)).count(), 2);
    assert_eq!(rig.session.state(), ConnectionState::Connected);
    outputs = rig.advance(1);
    assert_eq!(close_code(&outputs), Some(4002));
    assert_eq!(state_reason(&outputs), Some(StateReason::DeadPeer));
    assert_eq!(rig.session.state(), ConnectionState::Reconnecting);
}

/// Proves LIV-4.
#[test]
fn any_frame_counts_as_sign_of_life() {
    let mut rig = Rig::joined(Role::Audience);
    for seq in 11..20 {
        rig.advance(20_000);
        assert_eq!(rig.session.state(), ConnectionState::Connected);
        rig.events(seq, &[says(BOB, "x")]);
    }
}

/// Proves LIV-1, LIV-4.
#[test]
fn silence_does_not_count_while_nobody_listens() {
    let mut rig = Rig::joined(Role::Audience);
    rig.input(Input::ReadingPaused);
    let outputs = rig.advance(100_000);
    assert_eq!(rig.session.state(), ConnectionState::Connected);
    assert_eq!(requests(&outputs).len(), 10, "pings keep the connection alive");
    rig.input(Input::ReadingResumed);
    rig.advance(24_999);
    assert_eq!(rig.session.state(), ConnectionState::Connected);
    rig.advance(1);
    assert_eq!(rig.session.state(), ConnectionState::Reconnecting);
}

/// Proves CLI-2, PIN-1.
#[test]
fn a_pong_with_another_position_is_a_gap() {
    for (epoch, seq, gap) in
        [(EPOCH, 10, false), (EPOCH, 11, true), (EPOCH, 9, true), (Epoch([2; 12]), 10, true)]
    {
        let mut rig = Rig::joined(Role::Audience);
        let ping = requests(&rig.advance(10_000)).remove(0);
        rig.frame(&encode_result(ping.id, &Pong { epoch, seq }));
        let outputs = rig.drain();
        assert_eq!(close_code(&outputs), gap.then_some(4005));
        assert_eq!(state_reason(&outputs), gap.then_some(StateReason::Gap));
    }
}

/// Proves CLI-1.
#[test]
fn a_repeat_is_dropped_and_counted() {
    let mut rig = Rig::joined(Role::Audience);
    rig.events(10, &[says(BOB, "old"), says(BOB, "new")]);
    assert_eq!(told(&rig.drain()), ["message"]);
    assert_eq!(rig.session.ignored().repeats, 1);
    assert_eq!(rig.picture().seq, 11);
}

/// Proves CLI-1, CLI-2, CLI-6.
#[test]
fn gaps_end_the_connection_and_nothing_behind_them_is_applied() {
    let foreign = Position { epoch: Epoch([2; 12]), seq: 11 };
    let frames = [
        batch(12, &[says(BOB, "x")]),
        encode_event(foreign, &says(BOB, "x")),
        "{".to_owned(),
        r#"{"jsonrpc":"2.0","method":"clientJoin","params":{"epoch":"aaaaaaaaaaaaaaaaaaaa","seq":11}}"#.to_owned(),
    ];
    for frame in frames {
        let mut rig = Rig::joined(Role::Audience);
        rig.frame(&frame);
        rig.events(11, &[says(BOB, "after")]);
        let outputs = rig.drain();
        assert_eq!(close_code(&outputs), Some(4005), "{frame}");
        assert!(!told(&outputs).contains(&"message".to_owned()));
        assert_eq!(rig.session.state(), ConnectionState::Reconnecting);
        assert_eq!(rig.picture().seq, 10);
    }
}

/// Proves FWD-2.
#[test]
fn an_unknown_event_advances_and_is_handed_out() {
    let mut rig = Rig::joined(Role::Audience);
    let text = format!(
        r#"{{"jsonrpc":"2.0","method":"applause","params":{{"epoch":"{EPOCH}","seq":11,"n":3}}}}"#
    );
    rig.frame(&text);
    let events = app_events(&rig.drain());
    assert!(matches!(&events[0], Event::Unknown { method, .. } if method == "applause"));
    assert_eq!(rig.picture().seq, 11);
}

/// Proves no rule of the protocol: timers of a hostile server do no harm.
#[test]
fn hostile_timers_neither_flood_nor_blind() {
    let mut hello = snapshot(Role::Audience, 10, vec![]);
    hello.timers.ping_interval_ms = 0;
    hello.timers.dead_after_ms = u64::MAX;
    let mut rig = Rig::joined_with(SessionConfig::new("ws://server/v1/signal"), hello);
    assert!(requests(&rig.advance(1_000)).len() <= 10);
    rig.advance(600_000);
    assert_eq!(rig.session.state(), ConnectionState::Reconnecting);
}

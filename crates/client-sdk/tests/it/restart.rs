//! A server that restarts: when its clients reconnect, and how long their calls wait for it (RST-1).
//! Proves RST-1.

use std::collections::BTreeSet;

use lianmai_client_sdk::CallError;
use lianmai_client_sdk::protocol::message::Notice;
use lianmai_client_sdk::protocol::message::notice::Closing;
use lianmai_client_sdk::protocol::*;
use lianmai_client_sdk::session::*;

use super::support::*;

fn joined(seed: u64) -> Rig {
    let config = SessionConfig { seed, ..SessionConfig::new("ws://server/v1/signal") };
    Rig::joined_with(config, snapshot(Role::Audience, 10, vec![]))
}

fn closing(retry_after_ms: u64) -> String {
    notice(Notice::Closing(Closing {
        code: CloseCode::SERVER_RESTART,
        reason: "serverRestart".to_owned(),
        action: Action::Reconnect,
        url: None,
        retry_after_ms: Some(retry_after_ms),
    }))
}

/// A restarting server closes the connection. Returns the time in ms until the session wants a socket.
fn closed(rig: &mut Rig, retry_after_ms: u64) -> u64 {
    rig.frame(&closing(retry_after_ms));
    rig.drain();
    lost(rig)
}

/// The socket is lost or could not be opened. Returns the time in ms until the session wants the next one.
fn lost(rig: &mut Rig) -> u64 {
    let begin = rig.now;
    let mut outputs = rig.lose();
    while !wants_socket(&outputs) {
        rig.now = rig.session.next_deadline().unwrap().0.max(rig.now);
        rig.input(Input::Timeout);
        outputs.extend(rig.drain());
    }
    rig.now - begin
}

/// The server stays out of reach. Returns the time at which the call is settled.
fn settled_at(rig: &mut Rig, call: CallId) -> u64 {
    let mut outputs = rig.drain();
    let is_settled =
        |output: &Output| matches!(output, Output::Settled { call: of, .. } if *of == call);
    while !outputs.iter().any(is_settled) {
        if wants_socket(&outputs) {
            rig.lose();
        }
        rig.now = rig.session.next_deadline().unwrap().0.max(rig.now);
        rig.input(Input::Timeout);
        outputs = rig.drain();
    }
    assert_eq!(outcome(&outputs, call), Err(CallError::Timeout));
    rig.now
}

/// Proves CLI-7, RST-1.
#[test]
fn rst_1_no_hint_of_the_host_shortens_the_wait_that_the_server_asked_for() {
    type HostReport = fn(&mut Rig);
    let network: HostReport = |rig| rig.input(Input::NetworkChanged);
    let shown: HostReport = |rig| rig.input(Input::Foreground);
    // Longer than the deadline of a call: this host was frozen.
    let frozen: HostReport = |rig| {
        rig.call(publish());
        rig.now += 15_000;
        rig.input(Input::Timeout);
    };
    for hint in [network, shown, frozen] {
        let mut rig = joined(1);
        rig.frame(&closing(60_000));
        rig.drain();
        let begin = rig.now;
        let mut outputs = rig.lose();
        for _ in 0..3 {
            hint(&mut rig);
            outputs.extend(rig.drain());
            assert!(!wants_socket(&outputs), "{} ms", rig.now - begin);
        }
        while !wants_socket(&outputs) {
            rig.now = rig.session.next_deadline().unwrap().0.max(rig.now);
            rig.input(Input::Timeout);
            outputs.extend(rig.drain());
        }
        assert!(rig.now >= begin + 60_000, "{} ms", rig.now - begin);
        // What the server asked for is over: a hint ends other waits.
        assert!(!wants_socket(&rig.lose()));
        network(&mut rig);
        assert!(wants_socket(&rig.drain()));
    }
}

#[test]
fn rst_1_the_jitter_is_added_behind_the_larger_wait() {
    // The server closes early: `closing` asks for a longer wait than the announced restart.
    for (asked, from) in [(7_000, 7_000), (500, 1_000)] {
        let waits: BTreeSet<u64> = (0..200)
            .map(|seed| {
                let mut rig = joined(seed);
                rig.frame(&restarting(1_000, 2_000));
                rig.drain();
                closed(&mut rig, asked)
            })
            .collect();
        let (first, last) = (*waits.first().unwrap(), *waits.last().unwrap());
        assert!(first >= from && last <= from + 2_000, "{first}..{last}");
        assert!(first < from + 200 && last > from + 1_800, "all of it is used: {first}..{last}");
        assert!(waits.len() > 150, "the attempts are spread");
    }
}

/// Proves CLI-7, RST-1.
#[test]
fn rst_1_attempts_come_soon_until_a_while_after_the_announced_time() {
    let (mut soon, mut late) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..100 {
        let mut rig = joined(seed);
        rig.frame(&restarting(1_000, 2_000));
        rig.drain();
        let begin = rig.now;
        closed(&mut rig, 3_000);
        // Every attempt is refused at once.
        while rig.now < begin + 60_000 {
            let is_awaited = rig.now <= begin + 3_000 + 2_000 + 10_000;
            let waits = if is_awaited { &mut soon } else { &mut late };
            waits.insert(lost(&mut rig));
        }
    }
    assert!((900..=1_000).contains(soon.last().unwrap()), "{soon:?}");
    assert!(soon.len() > 500, "the attempts are spread");
    assert!(*late.last().unwrap() > 10_000, "the wait never grew: {late:?}");
}

/// Proves CLI-7, RST-1.
#[test]
fn rst_1_who_was_not_told_or_is_back_waits_longer_each_time() {
    let longest = |is_back: bool| {
        let waits = (0..50).map(|seed| {
            let mut rig = joined(seed);
            if is_back {
                rig.frame(&restarting(1_000, 2_000));
                rig.drain();
                closed(&mut rig, 1_000);
                let request = rig.opened();
                rig.frame(&replayed(&request, 2));
                rig.drain();
            }
            let begin = rig.now;
            let mut longest = 0;
            while rig.now < begin + 60_000 {
                longest = longest.max(lost(&mut rig));
            }
            longest
        });
        waits.max().unwrap()
    };
    let (untold, back) = (longest(false), longest(true));
    assert!(untold > 2_000 && back > 2_000, "{untold} ms, {back} ms");
}

#[test]
fn rst_1_a_call_made_after_the_notice_waits_for_the_server_too() {
    let mut rig = joined(1);
    rig.frame(&restarting(3_000, 2_000));
    rig.drain();
    rig.advance(1_000);
    // 3 s and 2 s in addition to its own 10 s.
    let (begin, (call, _)) = (rig.now, rig.send(message("before the close")));
    rig.advance(14_999);
    rig.drain();
    rig.now = begin + 15_000;
    rig.input(Input::Timeout);
    assert_eq!(outcome(&rig.drain(), call), Err(CallError::OutcomeUnknown));

    // Without a connection the wait that `closing` asked for counts.
    let mut rig = joined(1);
    rig.frame(&restarting(1_000, 2_000));
    rig.drain();
    rig.frame(&closing(8_000));
    rig.lose();
    rig.now += 1_000;
    let (begin, call) = (rig.now, rig.call(message("while away")));
    assert_eq!(settled_at(&mut rig, call), begin + 10_000 + 8_000 + 2_000);
}

#[test]
fn rst_1_the_time_for_a_restart_ends_with_it() {
    let mut rig = joined(1);
    rig.frame(&restarting(3_000, 2_000));
    rig.drain();
    closed(&mut rig, 3_000);
    let waited = rig.call(message("waited"));
    let request = rig.opened();
    rig.frame(&replayed(&request, 2));
    rig.drain();
    // A call made after the return has 10 s. The other call keeps its extended deadline.
    let (call, _) = rig.send(message("later"));
    let outputs = rig.advance(10_000);
    assert_eq!(outcome(&outputs, call), Err(CallError::OutcomeUnknown));
    let outputs = rig.advance(5_000);
    assert_eq!(outcome(&outputs, waited), Err(CallError::OutcomeUnknown));
}

#[test]
fn rst_1_however_often_a_server_restarts_a_call_gets_the_time_once() {
    let mut rig = joined(1);
    let begin = rig.now;
    let (call, _) = rig.send(message("sent"));
    for k in 2..4 {
        rig.frame(&restarting(3_000, 2_000));
        rig.frame(&restarting(3_000, 2_000));
        rig.drain();
        closed(&mut rig, 3_000);
        let request = rig.opened();
        rig.frame(&replayed(&request, k));
        rig.drain();
    }
    let rest = begin + 15_000 - rig.now;
    rig.advance(rest - 1);
    assert_eq!(outcome(&rig.advance(1), call), Err(CallError::OutcomeUnknown));
}

#[test]
fn rst_1_a_restart_that_did_not_come_gives_no_time() {
    let mut rig = joined(1);
    rig.frame(&restarting(3_000, 2_000));
    rig.drain();
    rig.advance(15_001);
    let (call, _) = rig.send(message("sent"));
    assert_eq!(outcome(&rig.advance(10_000), call), Err(CallError::OutcomeUnknown));
}

//! Without a connection: the waits, the addresses, when to give up, and the hints of the host.
//! Proves no rule of the protocol: decisions of a session without a connection.

use std::collections::BTreeMap;

use lianmai_client_sdk::protocol::message::Notice;
use lianmai_client_sdk::protocol::message::notice::Closing;
use lianmai_client_sdk::protocol::message::session::*;
use lianmai_client_sdk::protocol::*;
use lianmai_client_sdk::session::*;
use lianmai_client_sdk::{CallError, ConfigError, Event};

use super::support::*;

fn config(seed: u64) -> SessionConfig {
    SessionConfig { seed, ..SessionConfig::new("ws://server/v1/signal") }
}

fn joined(config: SessionConfig) -> Rig {
    Rig::joined_with(config, snapshot(Role::Audience, 10, vec![]))
}

/// Waits until the session wants a socket. Returns how long that took in ms, and the outputs.
fn until_wanted(rig: &mut Rig, mut outputs: Vec<Output>) -> (u64, Vec<Output>) {
    let begin = rig.now;
    while !wants_socket(&outputs) {
        rig.now = rig.session.next_deadline().unwrap().0.max(rig.now);
        rig.input(Input::Timeout);
        outputs.extend(rig.drain());
    }
    (rig.now - begin, outputs)
}

/// Proves CLI-7.
#[test]
fn cli_7_waits_are_random_in_a_window_that_doubles() {
    // The longest wait, by window.
    let mut longest = BTreeMap::new();
    for seed in 0..200 {
        let mut rig = joined(config(seed));
        let (begin, mut window) = (rig.now, 500);
        while rig.now < begin + 300_000 {
            if rig.now < begin + 30_000 {
                window = window.min(2_000);
            }
            let outputs = rig.lose();
            let (waited, _) = until_wanted(&mut rig, outputs);
            assert!(waited <= window, "{waited} ms in a window of {window}");
            let longest = longest.entry(window).or_insert(0);
            *longest = waited.max(*longest);
            window = (2 * window).min(30_000);
        }
    }
    let windows: Vec<u64> = longest.keys().copied().collect();
    assert_eq!(windows, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000]);
    // Waits use the whole window.
    for (window, longest) in longest {
        assert!(longest > window / 10 * 9, "{longest} ms in a window of {window}");
    }
}

/// Proves CLI-7.
#[test]
fn cli_7_a_server_that_is_back_soon_finds_everybody_soon() {
    for away in [3_000, 10_000, 29_000] {
        let mut back = vec![];
        for seed in 0..20 {
            let mut rig = joined(config(seed));
            let begin = rig.now;
            let mut outputs = rig.lose();
            loop {
                until_wanted(&mut rig, outputs);
                if rig.now >= begin + away {
                    break;
                }
                outputs = rig.lose();
            }
            back.push(rig.now - begin - away);
        }
        let last = *back.iter().max().unwrap();
        assert!(last <= 2_000, "{last} ms after it was there again");
        back.sort_unstable();
        back.dedup();
        assert!(back.len() > 15, "the attempts are spread: {back:?}");
    }
}

/// Proves CLI-7.
#[test]
fn cli_7_the_seed_decides() {
    let waits = |seed| {
        let mut rig = joined(config(seed));
        std::array::from_fn::<u64, 5, _>(|_| {
            let outputs = rig.lose();
            until_wanted(&mut rig, outputs).0
        })
    };
    assert_eq!(waits(5), waits(5));
    assert_ne!(waits(5), waits(6));
}

/// Proves CLI-7.
#[test]
fn cli_7_only_a_connection_of_10_s_shortens_the_wait() {
    let mut sums = [0, 0];
    for (kept, sum) in [(9_999, 0), (10_000, 1)] {
        for seed in 0..100 {
            let mut rig = joined(config(seed));
            let begin = rig.now;
            while rig.now < begin + 60_000 {
                let outputs = rig.lose();
                until_wanted(&mut rig, outputs);
            }
            let request = rig.opened();
            rig.frame(&replayed(&request, 2));
            rig.drain();
            rig.advance(kept);
            let outputs = rig.lose();
            sums[sum] += until_wanted(&mut rig, outputs).0;
        }
    }
    let [short, long] = sums;
    assert!(short > 100 * 5_000, "the mean of a window of 30 s: {short}");
    assert!(long < 100 * 500, "every wait in a window of 500 ms: {long}");
}

#[test]
fn give_up_is_the_end_after_ten_minutes_without_a_connection() {
    let mut rig = joined(config(1));
    let begin = rig.now;
    let mut outputs = rig.lose();
    let mut attempts = 0;
    while disconnected(&outputs).is_none() {
        if wants_socket(&outputs) {
            attempts += 1;
            outputs = rig.lose();
            continue;
        }
        rig.now = rig.session.next_deadline().unwrap().0.max(rig.now);
        rig.input(Input::Timeout);
        outputs = rig.drain();
    }
    assert_eq!(rig.now - begin, 600_000);
    assert!((20..100).contains(&attempts), "{attempts}");
    assert_eq!(disconnected(&outputs), Some((1006, "gaveUp".to_owned(), false)));
    assert_eq!(rig.session.next_deadline(), None);
}

#[test]
fn several_addresses_are_tried_in_a_round_before_the_wait() {
    let mut config = config(3);
    config.urls = ["a", "b", "c"].map(|url| format!("ws://{url}")).into();
    let mut rig = joined(config);
    // After a loss the session tries the same address first.
    let outputs = rig.lose();
    let (_, outputs) = until_wanted(&mut rig, outputs);
    assert_eq!(connects(&outputs), ["ws://a"]);
    let begin = rig.now;
    assert_eq!(connects(&rig.lose()), ["ws://b"]);
    assert_eq!(connects(&rig.lose()), ["ws://c"]);
    assert_eq!(rig.now, begin, "at once");
    let outputs = rig.lose();
    let (_, outputs) = until_wanted(&mut rig, outputs);
    assert_eq!(connects(&outputs), ["ws://a"]);
    // An address that does not answer the request counts as failed.
    rig.open();
    let outputs = rig.advance(10_000);
    assert_eq!(connects(&outputs), ["ws://b"]);
    // So does one that is slow to open.
    assert_eq!(connects(&rig.advance(5_000)), ["ws://c"]);
    // The session stays with the address that worked.
    let request = rig.opened();
    rig.frame(&replayed(&request, 2));
    rig.drain();
    let outputs = rig.lose();
    let (_, outputs) = until_wanted(&mut rig, outputs);
    assert_eq!(connects(&outputs), ["ws://c"]);
}

fn redirect(to: &str) -> String {
    notice(Notice::Closing(Closing {
        code: CloseCode::GOING_AWAY,
        reason: "goingAway".to_owned(),
        action: Action::Redirect,
        url: Some(to.to_owned()),
        retry_after_ms: None,
    }))
}

#[test]
fn addresses_are_one_to_sixteen_and_addresses() {
    let session = |urls: Vec<String>| Session::new(SessionConfig { urls, ..config(1) });
    let addresses = |count| (0..count).map(|n| format!("ws://{n}")).collect();
    assert!(session(addresses(1)).is_ok() && session(addresses(16)).is_ok());
    assert_eq!(session(addresses(0)).err(), Some(ConfigError::NoAddress));
    assert_eq!(session(addresses(17)).err(), Some(ConfigError::TooManyAddresses(17)));
    for bad in ["", "http://server", "server:8600", &format!("ws://{}", "x".repeat(1_020))] {
        let bad = bad.to_owned();
        let made = session(vec!["ws://good".to_owned(), bad.clone()]);
        assert_eq!(made.err(), Some(ConfigError::BadAddress(bad)));
    }
}

#[test]
fn a_learned_address_takes_the_place_of_the_one_that_was_learned_first() {
    let urls = vec!["ws://a".to_owned(), "ws://b".to_owned()];
    let mut rig = joined(SessionConfig { urls, ..config(1) });
    for n in 0..6 {
        let to = format!("ws://{n}");
        rig.frame(&redirect(&to));
        let outputs = rig.lose();
        let (_, outputs) = until_wanted(&mut rig, outputs);
        assert_eq!(connects(&outputs), [to]);
        let request = rig.opened();
        rig.frame(&replayed(&request, n + 2));
        // An invalid address is not learned.
        rig.frame(&redirect("http://other"));
        rig.drain();
        let outputs = rig.lose();
        until_wanted(&mut rig, outputs);
        let request = rig.opened();
        rig.frame(&replayed(&request, n + 20));
        rig.drain();
    }
    let mut tried = vec![];
    for _ in 0..7 {
        let outputs = rig.lose();
        let (_, outputs) = until_wanted(&mut rig, outputs);
        tried.extend(connects(&outputs));
    }
    assert_eq!(tried, ["ws://5", "ws://a", "ws://b", "ws://2", "ws://3", "ws://4", "ws://5"]);
}

/// Proves CLI-9, CLO-3.
#[test]
fn a_redirect_is_followed_but_not_out_of_tls() {
    for (from, to, follows) in
        [("ws://a", "ws://b", true), ("wss://a", "wss://b", true), ("wss://a", "ws://b", false)]
    {
        let mut rig = joined(SessionConfig::new(from));
        rig.frame(&redirect(to));
        let outputs = rig.lose();
        let (_, outputs) = until_wanted(&mut rig, outputs);
        assert_eq!(connects(&outputs), [if follows { to } else { from }]);
    }
}

/// Proves RST-1, SES-7.
#[test]
fn rst_1_a_restart_sets_the_wait_and_gives_calls_its_time() {
    for seed in 0..50 {
        let mut rig = joined(config(seed));
        let (sent, _) = rig.send(message("sent"));
        let begin = rig.now;
        rig.frame(&restarting(3_000, 2_000));
        // A repeated announcement on the same connection is the same restart.
        rig.frame(&restarting(3_000, 2_000));
        rig.drain();
        rig.advance(1_000);
        rig.frame(&notice(Notice::Closing(Closing {
            code: CloseCode::SERVER_RESTART,
            reason: "serverRestart".to_owned(),
            action: Action::Reconnect,
            url: None,
            retry_after_ms: None,
        })));
        rig.drain();
        let outputs = rig.lose();
        let (waited, mut outputs) = until_wanted(&mut rig, outputs);
        assert!((3_000..=5_000).contains(&waited), "{waited}");
        // Its own 10 s, and 5 s for the restart.
        while outputs.iter().all(|output| !matches!(output, Output::Settled { .. })) {
            if wants_socket(&outputs) {
                rig.lose();
            }
            rig.now = rig.session.next_deadline().unwrap().0.max(rig.now);
            rig.input(Input::Timeout);
            outputs = rig.drain();
        }
        assert_eq!(rig.now - begin, 15_000);
        assert_eq!(outcome(&outputs, sent), Err(CallError::OutcomeUnknown));
    }
}

/// Proves RST-1.
#[test]
fn rst_1_the_closing_notice_can_ask_for_a_wait() {
    let mut rig = joined(config(1));
    rig.frame(&notice(Notice::Closing(Closing {
        code: CloseCode::GOING_AWAY,
        reason: "goingAway".to_owned(),
        action: Action::Reconnect,
        url: None,
        retry_after_ms: Some(20_000),
    })));
    rig.drain();
    let outputs = rig.lose();
    assert!(until_wanted(&mut rig, outputs).0 >= 20_000);
}

/// Proves CLO-3, RST-1.
#[test]
fn a_refusal_by_a_server_that_stops_is_waited_out() {
    let mut rig = joined(config(1));
    rig.lose();
    let (_, request) = rig.reopen();
    let closing = Closing {
        code: CloseCode::JOIN_REFUSED,
        reason: "joinRefused".to_owned(),
        action: Action::Reconnect,
        url: None,
        retry_after_ms: Some(4_000),
    };
    let refused = resume_refused(&request, ResumeReason::Draining);
    rig.frame(&array(&[refused, notice(Notice::Closing(closing))]));
    assert!(told(&rig.drain()).is_empty(), "it is away as before");
    let outputs = rig.lose();
    assert!(until_wanted(&mut rig, outputs).0 >= 4_000);
}

/// Proves CLI-8, IDS-7, SES-7.
#[test]
fn a_frozen_host_comes_back_at_once_and_its_calls_have_time() {
    let mut rig = joined(config(1));
    let (call, _) = rig.send(message("sent"));
    rig.now += 3_600_000;
    // The socket delivers old data that it had kept.
    rig.events(11, &[says(BOB, "old")]);
    let outputs = rig.drain();
    assert_eq!(told(&outputs), ["connectionStateChange"]);
    assert_eq!(close_code(&outputs), Some(1000));
    assert!(wants_socket(&outputs), "at once");
    assert_eq!(rig.picture().seq, 10);
    let request = rig.opened();
    rig.frame(&replayed(&request, 2));
    assert_eq!(methods(&rig.drain()), ["ping", "sendMessage", "ping"]);
    // The call has 10 s more, once.
    rig.now += 9_999;
    rig.events(11, &[says(BOB, "new")]);
    assert_eq!(told(&rig.drain()), ["message"]);
    let outputs = rig.advance(1);
    assert_eq!(outcome(&outputs, call), Err(CallError::OutcomeUnknown));
}

/// Proves SES-7.
#[test]
fn a_call_is_not_kept_open_by_freezing_again_and_again() {
    let mut rig = joined(config(1));
    let (call, _) = rig.send(message("sent"));
    for _ in 0..2 {
        rig.now += 3_600_000;
        rig.input(Input::Timeout);
    }
    assert_eq!(outcome(&rig.drain(), call), Err(CallError::OutcomeUnknown));
}

/// Proves CLI-8.
#[test]
fn a_frozen_attempt_is_made_anew() {
    let mut rig = joined(config(1));
    rig.lose();
    rig.reopen();
    rig.now += 3_600_000;
    rig.closed(1006, "old");
    let outputs = rig.drain();
    assert!(wants_socket(&outputs));
    rig.open();
    assert_eq!(methods(&rig.drain()), ["reconnect"]);

    // The same for a `join`.
    let mut rig = Rig::with(config(1));
    let call = rig.call(join());
    rig.drain();
    rig.now += 60_000;
    rig.open();
    assert!(wants_socket(&rig.drain()));
    let request = rig.opened();
    rig.frame(&result(&request, &snapshot(Role::Audience, 10, vec![])));
    assert!(outcome(&rig.drain(), call).is_ok());
}

/// Proves LIV-1.
#[test]
fn a_host_that_is_a_little_late_was_not_frozen() {
    let mut rig = joined(config(1));
    rig.now = rig.session.next_deadline().unwrap().0 + 3_000;
    rig.input(Input::Timeout);
    assert_eq!(methods(&rig.drain()), ["ping"]);
    assert_eq!(rig.session.state(), ConnectionState::Connected);
}

/// Proves CLI-8.
#[test]
fn another_network_is_used_at_once() {
    let mut rig = joined(config(1));
    rig.input(Input::NetworkChanged);
    let outputs = rig.drain();
    assert!(wants_socket(&outputs));
    assert!(app_events(&outputs).contains(&Event::ConnectionStateChange {
        state: ConnectionState::Reconnecting,
        reason: StateReason::NetworkChanged,
    }));
    // During an attempt: connections over the old network are dead.
    rig.open();
    rig.drain();
    rig.input(Input::NetworkChanged);
    let outputs = rig.drain();
    assert!(close_code(&outputs).is_some() && wants_socket(&outputs));
    // During a wait before the next attempt.
    let outputs = rig.lose();
    assert!(!wants_socket(&outputs));
    rig.input(Input::NetworkChanged);
    assert!(wants_socket(&rig.drain()));
}

/// Proves LIV-4.
#[test]
fn an_app_that_is_shown_again_sends_a_ping() {
    let mut rig = joined(config(1));
    rig.input(Input::Foreground);
    assert_eq!(methods(&rig.drain()), ["ping"]);
    rig.input(Input::Foreground);
    assert!(rig.drain().is_empty(), "one is enough");
    let outputs = rig.advance(3_000);
    assert_eq!(close_code(&outputs), Some(4002));
    // During a wait it ends the wait.
    let outputs = rig.lose();
    if !wants_socket(&outputs) {
        rig.input(Input::Foreground);
        assert!(wants_socket(&rig.drain()));
    }

    let mut rig = joined(config(1));
    rig.input(Input::Foreground);
    let ping = requests(&rig.drain()).remove(0);
    rig.frame(&pong(&ping, 10));
    rig.drain();
    assert!(rig.advance(9_000).is_empty());
    assert_eq!(rig.session.state(), ConnectionState::Connected);
}

#[test]
fn a_client_outside_a_channel_emits_nothing() {
    let mut rig = Rig::with(config(1));
    let unreadable = Input::Unreadable { socket: SocketId(0) };
    for input in [Input::NetworkChanged, Input::Foreground, unreadable, Input::Timeout] {
        rig.now += 100_000;
        rig.input(input);
        assert!(rig.drain().is_empty());
        assert_eq!(rig.session.next_deadline(), None);
    }
}

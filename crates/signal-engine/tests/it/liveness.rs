//! Silence, lost sockets and grace: the two bounds of LIV-3, to the millisecond.

use lianmai_protocol::{CloseCode, ErrorName};
use lianmai_signal_engine::{Denial, Input};

use crate::calls::*;
use crate::world::{Client, World, entry};

fn gone(w: &mut World, uid: u64) -> bool {
    w.member("plain", uid).is_none()
}

/// A watcher that stays connected, and a publisher; the events so far are read.
fn scene() -> (World, Client, Client, lianmai_protocol::Gen) {
    let mut w = World::new();
    let watcher = w.join(99);
    let a = w.join(1);
    let (_, generation) = w.push_url(a, "");
    w.advance(100);
    w.skip_received();
    (w, watcher, a, generation)
}

/// Proves LIV-2.
#[test]
fn liv_2_after_a_stall_waiting_input_is_read_before_any_timeout() {
    let mut w = World::new();
    let clients: Vec<_> = (1..=3).map(|uid| w.join(uid)).collect();
    let lost = w.join(4);
    w.advance(10_000);
    w.drop_socket(lost);
    // All of them sent pings meanwhile, which are handled one after the other.
    w.stall(60_000);
    for client in &clients {
        assert_eq!(w.closed(*client), None, "waiting input is read first");
        w.ok(*client, ping());
    }
    w.resume(lost);
}

/// Proves LIV-3.
#[test]
fn liv_3_the_cap_ends_the_grace_of_a_flapping_client() {
    let mut w = World::with(|config| config.timers.media_cap_ms = 40_000);
    let watcher = w.join(1);
    let mut flapping = w.join(2);
    for _ in 0..7 {
        w.drop_socket(flapping);
        w.advance_alive(4_000, &[watcher]);
        (flapping, _) = w.resume(flapping);
        w.advance_alive(1_000, &[watcher]);
    }
    w.drop_socket(flapping);
    w.skip_received();
    // 35 s after the first loss: 5 s are left.
    w.advance_alive(4_900, &[watcher]);
    assert!(w.new_events(watcher).is_empty());
    w.advance_alive(200, &[watcher]);
    assert_eq!(w.new_events(watcher), ["clientLeave 2 timeout"]);
}

/// Proves EVT-3, EVT-6, LIV-3, URL-5, URL-9.
#[test]
fn a_lost_socket_is_in_grace_for_30_s_and_then_leaves_once() {
    let (mut w, watcher, a, generation) = scene();
    w.drop_socket(a);
    w.advance_alive(29_999, &[watcher]);
    assert!(w.new_events(watcher).is_empty() && !gone(&mut w, 1));
    assert!(!w.member("plain", 1).expect("in grace").connected);
    assert_eq!(w.may_push(generation), Ok(()), "its push goes on");
    w.advance(1);
    assert!(gone(&mut w, 1));
    w.advance(20);
    assert_eq!(
        w.new_events(watcher),
        ["streamRemoved 1 audio", "streamRemoved 1 video", "clientLeave 1 timeout"]
    );
    assert_eq!(w.may_push(generation), Err(Denial::UnknownStream));
    assert!(w.cut.contains(&generation));
    w.advance_alive(400_000, &[watcher]);
    assert!(w.new_events(watcher).is_empty());
    w.audit();
}

/// Proves LIV-3.
#[test]
fn payload_keeps_a_membership_until_15_s_after_the_last_of_it() {
    let (mut w, watcher, a, generation) = scene();
    w.drop_socket(a);
    w.advance_alive(40_000 - 15_000, &[watcher]);
    w.flow(generation); // 25 s after the loss: until 40 s.
    w.advance_alive(14_999, &[watcher]);
    assert!(!gone(&mut w, 1));
    w.advance(1);
    assert!(gone(&mut w, 1), "max(lost + grace, lastMedia + mediaIdle)");
}

/// Proves LIV-3.
#[test]
fn payload_that_ended_early_does_not_shorten_grace() {
    let (mut w, watcher, a, generation) = scene();
    w.flow(generation);
    w.drop_socket(a);
    w.advance_alive(29_999, &[watcher]);
    assert!(!gone(&mut w, 1));
    w.advance(1);
    assert!(gone(&mut w, 1));
}

/// Proves LIV-3.
#[test]
fn payload_keeps_a_membership_no_longer_than_the_cap() {
    let (mut w, watcher, a, generation) = scene();
    w.drop_socket(a);
    let lost = w.now.mono;
    while w.now.mono.since(lost) < 295_000 {
        w.flow(generation);
        w.advance_alive(5_000, &[watcher]);
    }
    w.flow(generation);
    w.advance(4_999);
    assert!(!gone(&mut w, 1));
    w.advance(1);
    assert!(gone(&mut w, 1), "lost + mediaCap, whatever flows");
}

/// Proves LIV-3.
#[test]
fn payload_of_another_member_does_not_extend_grace() {
    let (mut w, watcher, a, _) = scene();
    let (_, of_watcher) = w.push_url(watcher, "");
    w.drop_socket(a);
    w.advance_alive(25_000, &[watcher]);
    w.flow(of_watcher);
    w.advance(5_000);
    assert!(gone(&mut w, 1));
}

/// Proves LIV-2, LIV-3.
#[test]
fn a_silent_socket_is_closed_after_25_s_and_its_member_leaves_after_30_more() {
    let (mut w, watcher, a, _) = scene();
    w.ok(a, ping());
    w.advance_alive(24_999, &[watcher]);
    assert!(w.closed(a).is_none());
    w.advance(1);
    assert_eq!(w.closed(a), Some(CloseCode::IDLE));
    w.advance_alive(29_999, &[watcher]);
    assert!(!gone(&mut w, 1));
    w.advance(1);
    assert!(gone(&mut w, 1), "lastInboundFrame + deadAfter + grace");
}

/// Proves CON-9, LIV-2.
#[test]
fn any_inbound_frame_keeps_a_socket_alive() {
    let (mut w, _, a, _) = scene();
    w.advance(20_000);
    w.ok(a, ping());
    w.advance(20_000);
    w.input(Input::ControlFrame { conn: a.0 });
    w.advance(20_000);
    w.text(a, "[]"); // Even a refused one.
    w.advance(20_000);
    w.err(a, subscribe(5, "audio"));
    w.advance(24_999);
    assert!(w.closed(a).is_none());
    w.advance(1);
    assert_eq!(w.closed(a), Some(CloseCode::IDLE));
}

/// Proves LIV-2.
#[test]
fn outbound_frames_do_not_keep_a_socket_alive() {
    let (mut w, watcher, a, _) = scene();
    for _ in 0..5 {
        w.advance(5_000);
        w.ok(watcher, send_message("are you there?"));
    }
    assert_eq!(w.closed(a), Some(CloseCode::IDLE));
}

/// Proves LIV-3.
#[test]
fn grace_starts_anew_with_each_lost_socket() {
    let mut w = World::new();
    let watcher = w.join(99);
    let join = || entry(1).join_id("0123456789abcdef");
    let a = w.admit(join());
    w.drop_socket(a);
    w.advance_alive(20_000, &[watcher]);
    let a = w.admit(join());
    w.advance_alive(5_000, &[watcher]);
    w.drop_socket(a);
    w.advance_alive(29_999, &[watcher]);
    assert!(!gone(&mut w, 1), "the timer of the first loss must not end the second grace");
    w.advance(1);
    assert!(gone(&mut w, 1));
}

/// Proves LIV-3.
#[test]
fn frames_after_a_close_are_ignored() {
    let (mut w, watcher, a, _) = scene();
    w.drop_socket(a);
    w.send(a, send_message("ghost"));
    w.input(Input::Closed { conn: a.0 });
    w.input(Input::BinaryFrame { conn: a.0 });
    w.input(Input::Lagging { conn: a.0 });
    w.input(Input::ControlFrame { conn: a.0 });
    w.advance_alive(29_999, &[watcher]);
    assert!(w.new_events(watcher).is_empty());
    w.advance(1);
    assert!(gone(&mut w, 1), "nothing of it prolonged the grace");
}

/// Proves CLI-10, CON-10, LIV-3, NOT-2.
#[test]
fn a_slow_reader_is_closed_without_a_notice_and_keeps_its_grace() {
    let (mut w, watcher, a, _) = scene();
    w.input(Input::Lagging { conn: a.0 });
    assert_eq!(w.closed(a), Some(CloseCode::SLOW_READER));
    assert_eq!(w.closing(a), None);
    w.advance_alive(29_999, &[watcher]);
    assert!(!gone(&mut w, 1));
    w.advance(1);
    assert!(gone(&mut w, 1));
}

/// Proves LIV-3.
#[test]
fn a_member_in_grace_is_still_listed_and_counts_and_can_be_watched() {
    let (mut w, watcher, a, generation) = scene();
    w.drop_socket(a);
    let url = w.pull_url(watcher, 1, "audio");
    assert_eq!(crate::world::gen_of(&url), generation);
    let b = w.admit(entry(2).audience());
    assert_eq!(w.joined(b).members.len(), 2);
    assert_eq!(w.engine.stats().members, 3);
    assert_eq!(w.engine.stats().connected, 2);
    assert_eq!(w.err(b, subscribe(1, "slaveAudio")), ErrorName::NotPublished);
    w.audit();
}

/// Proves JOI-8, LIV-3.
#[test]
fn the_last_member_leaving_by_timeout_ends_the_channel() {
    let mut w = World::new();
    let a = w.join(1);
    w.push_url(a, "");
    w.drop_socket(a);
    w.advance(30_000);
    w.assert_empty();
}

/// Proves CON-10.
#[test]
fn a_server_that_stops_closes_every_socket_and_ends_no_membership() {
    let (mut w, watcher, a, generation) = scene();
    let b = w.admit(entry(1).channel("other"));
    w.ok(watcher, send_message("one"));
    w.ok(watcher, send_message("two"));
    w.input(Input::Stop);
    for client in [watcher, a, b] {
        assert_eq!(w.closed(client), Some(CloseCode::GOING_AWAY));
    }
    assert_eq!(
        w.new_events(a),
        ["message 99 one", "message 99 two"],
        "waiting messages are sent before"
    );
    assert_eq!((w.engine.stats().members, w.engine.stats().connected), (3, 0));
    assert_eq!(w.may_push(generation), Ok(()));
    w.advance(30_000);
    w.assert_empty();
}

/// A process that stalled for a minute has read nothing, so no member was silent.
/// Proves LIV-2, LIV-3.
#[test]
fn a_stall_of_the_server_ends_nothing() {
    let (mut w, watcher, a, _) = scene();
    let gone_before = w.join(3);
    w.drop_socket(gone_before);
    w.advance_alive(10_000, &[watcher, a]);
    w.stall(60_000);
    assert!(w.closed(a).is_none() && w.closed(watcher).is_none());
    assert!(!gone(&mut w, 3), "grace stood still too");
    w.advance_alive(30_000, &[watcher, a]);
    assert!(gone(&mut w, 3), "and then goes on");
    assert!(w.closed(a).is_none() && w.closed(watcher).is_none());
}

/// A client whose own timers hardly run, and whose WebSocket answers pings by itself: a hidden tab of a browser.
/// Proves LIV-5.
#[test]
fn liv_5_a_client_that_answers_pings_stays_with_coarse_timers() {
    let (mut w, watcher, a, _) = scene();
    let hidden = a;
    let before = w.conns[&hidden.0].pings.len();
    let mut asked = before;
    for second in 1..=600 {
        w.advance(1_000);
        // Its WebSocket answers at once, whatever the page does.
        let pings = w.conns[&hidden.0].pings.len();
        assert!(pings - asked <= 1, "one at a time");
        if pings > asked {
            w.input(Input::ControlFrame { conn: hidden.0 });
        }
        asked = pings;
        if second % 60 == 0 {
            w.ok(hidden, ping());
        }
        w.ok(watcher, ping());
    }
    assert_eq!(w.closed(hidden), None);
    assert!(w.new_events(watcher).is_empty(), "no leave is sent");
    assert!((50..=60).contains(&(asked - before)), "{} pings", asked - before);
    assert!(w.conns[&watcher.0].pings.is_empty(), "a talking client is not pinged");
}

/// Proves LIV-2, LIV-5.
#[test]
fn liv_5_pings_of_the_server_go_to_silent_sockets_only() {
    let mut w = World::new();
    let silent = w.join(1);
    let begin = w.now.mono;
    w.advance(24_999);
    assert_eq!(w.closed(silent), None);
    let after: Vec<u64> = w.conns[&silent.0].pings.iter().map(|at| at.since(begin)).collect();
    assert_eq!(after, [11_000, 22_000]);
    w.advance(1);
    assert_eq!(w.closed(silent), Some(CloseCode::IDLE));
    // A client that sends in time is never pinged.
    let talks = w.join(2);
    for _ in 0..20 {
        w.advance(10_000);
        w.ok(talks, ping());
    }
    assert!(w.conns[&talks.0].pings.is_empty());
}

/// Proves LIV-5, IDS-6.
#[test]
fn liv_5_only_one_answer_to_a_ping_is_free() {
    let mut w = World::with(|config| config.limits.commands_per_second = 1);
    let a = w.join(1);
    w.advance(11_000);
    assert_eq!(w.conns[&a.0].pings.len(), 1);
    while w.ask(a, ping()).is_ok() {}
    // The rate is used up: the pong to the server's ping is free, each further pong counts.
    w.input(Input::ControlFrame { conn: a.0 });
    for _ in 0..98 {
        w.input(Input::ControlFrame { conn: a.0 });
    }
    assert_eq!(w.closed(a), None);
    w.input(Input::ControlFrame { conn: a.0 });
    assert_eq!(w.closed(a), Some(CloseCode::RATE_LIMITED));
}

//! Maxima, each with its own error.

use lianmai_protocol::message::Call;
use lianmai_protocol::{CloseCode, ErrorName};
use lianmai_signal_engine::Input;

use crate::calls::*;
use crate::world::{Client, World, entry};

/// Proves LIM-1.
#[test]
fn members_audience_included_have_a_maximum() {
    let mut w = World::with(|config| config.limits.members = 2);
    w.join(1);
    let b = w.admit(entry(2).audience());
    assert_eq!(w.refusal(entry(3).audience()), ErrorName::ChannelFull);
    assert_eq!(w.refusal(entry(3)), ErrorName::ChannelFull);
    w.join(1); // A replacement takes the place of the old membership.
    w.ok(b, leave());
    w.join(3);
    w.admit(entry(4).channel("other"));
}

/// Proves LIM-1.
#[test]
fn broadcasters_have_a_maximum() {
    let mut w = World::with(|config| config.limits.broadcasters = 2);
    w.join(1);
    let b = w.join(2);
    assert_eq!(w.refusal(entry(3)), ErrorName::TooManyBroadcasters);
    let c = w.admit(entry(3).audience());
    w.join(1);
    assert_eq!(w.err(c, set_role("broadcaster")), ErrorName::TooManyBroadcasters);
    w.ok(b, set_role("audience"));
    w.ok(c, set_role("broadcaster"));
    assert_eq!(w.err(b, set_role("broadcaster")), ErrorName::TooManyBroadcasters);
    w.audit();
}

/// Proves LIM-1, MET-2.
#[test]
fn a_full_channel_refuses_before_it_replaces() {
    // The old membership is audience; as a broadcaster the newcomer finds no room and changes nothing.
    let mut w = World::with(|config| config.limits.broadcasters = 1);
    w.join(1);
    let b = w.admit(entry(2).audience());
    assert_eq!(w.refusal(entry(2)), ErrorName::TooManyBroadcasters);
    assert!(w.closed(b).is_none());
}

/// Proves LIM-1.
#[test]
fn channels_have_a_maximum() {
    let mut w = World::with(|config| config.limits.channels = 2);
    w.join(1);
    let b = w.admit(entry(1).channel("b"));
    assert_eq!(w.refusal(entry(1).channel("c")), ErrorName::TooManyChannels);
    w.join(2);
    w.ok(b, leave());
    w.admit(entry(1).channel("c"));
}

/// Proves LIM-1, MET-3, SUB-3.
#[test]
fn subscriptions_have_a_maximum_by_kind_and_one_more_of_the_same_is_none() {
    let mut w = World::with(|config| config.limits.subscriptions = 2);
    let a = w.join(1);
    let b = w.join(2);
    let c = w.join(3);
    w.push_url(a, "");
    w.push_url(b, "audio");
    w.pull_url(c, 1, "audio");
    w.pull_url(c, 1, "video");
    assert_eq!(w.err(c, subscribe(2, "audio")), ErrorName::TooManySubscriptions);
    w.pull_url(c, 1, "video");
    w.ok(c, unsubscribe(1, "audio"));
    w.pull_url(c, 2, "audio");
    assert_eq!(w.err(c, subscribe(1, "audio")), ErrorName::TooManySubscriptions);
    w.ok(a, unpublish(""));
    w.push_url(a, "");
    w.pull_url(c, 1, "audio");
}

/// Proves LIM-1, URL-7.
#[test]
fn a_full_subscriber_may_renew_the_url_of_what_it_has() {
    let mut w = World::with(|config| config.limits.subscriptions = 1);
    w.url_life_ms = 1_000;
    let a = w.join(1);
    let b = w.join(2);
    w.push_url(a, "");
    let first = w.pull_url(b, 1, "audio");
    w.advance(2_000);
    assert_eq!(w.err(b, subscribe(1, "video")), ErrorName::TooManySubscriptions);
    assert_ne!(w.pull_url(b, 1, "audio"), first);
}

/// A channel whose broadcasters may take `bytes` together; its moderator holds none of them.
fn with_budget(bytes: usize) -> (World, Client) {
    let mut w = World::with(|config| config.limits.channel_attribute_bytes = bytes);
    let m = w.admit(entry(9).moderator());
    (w, m)
}

/// Bytes that are left in the budget: the longest name that still fits, plus 3 for its quotes and separator.
fn left(w: &mut World) -> usize {
    let fits = |w: &mut World, bytes: usize| {
        let probe = w.enter(entry(1_000).name(&"n".repeat(bytes))).ok();
        let fits = probe.is_some();
        if let Some(probe) = probe {
            w.ok(probe, leave());
        }
        fits
    };
    (0..=128).rev().find(|bytes| fits(w, *bytes)).map_or(0, |bytes| bytes + 3)
}

/// Proves ATT-5, ATT-6, JOI-5, MET-2.
#[test]
fn names_and_attributes_of_a_channel_have_a_budget() {
    let (mut w, m) = with_budget(100);
    assert_eq!(left(&mut w), 100);
    // A name, a key, a value: each has its quotes and a separator.
    let a = w.admit(entry(1).name("Ann").attribute("k", "12345"));
    assert_eq!(left(&mut w), 100 - 6 - 4 - 8);
    // The audience has the same budget again; a member that becomes broadcaster moves its bytes to the other one.
    let b = w.admit(entry(2).audience().attribute("k", "1234567890123"));
    assert_eq!(left(&mut w), 82);
    w.ok(b, set_attributes(&[("k", "12345")]));
    w.ok(b, set_role("broadcaster"));
    assert_eq!(left(&mut w), 82 - 12);
    // The channel's own attributes take nothing from members.
    w.ok(m, set_channel_attributes(&[("t", "tea")]));
    assert_eq!(left(&mut w), 70);
    w.ok(a, set_attributes(&[("m", "123")]));
    assert_eq!(left(&mut w), 70 - 10);
    // Above the budget: refused for every member, and nothing has changed.
    let refused = |w: &mut World, client: Client, call| {
        let error = w.ask(client, call).expect_err("no room");
        assert_eq!(error.name(), &ErrorName::AttributesTooLarge);
        assert!(!error.data.retryable);
        assert_eq!(left(w), 60);
    };
    w.advance(20);
    w.skip_received();
    refused(&mut w, a, set_attributes(&[("l", &"x".repeat(54))]));
    refused(&mut w, b, set_attributes(&[("k", &"x".repeat(66))]));
    refused(&mut w, b, rename(&"n".repeat(58)));
    assert_eq!(w.refusal(entry(3).name(&"n".repeat(58))), ErrorName::AttributesTooLarge);
    assert_eq!(w.refusal(entry(3).attribute("k", &"x".repeat(54))), ErrorName::AttributesTooLarge);
    w.admit(entry(3)); // A member without texts finds room.
    w.advance(20);
    assert_eq!(w.new_events(a).last().expect("one"), "clientJoin 3");
    // To the last byte, and then no more.
    w.ok(a, set_attributes(&[("l", &"x".repeat(53))]));
    assert_eq!(left(&mut w), 0);
    refused_at_zero(&mut w, b, rename(""));
    refused_at_zero(&mut w, a, set_attributes(&[("k", "123456")]));
    // A change that takes no more than before is always allowed, and one that takes less frees bytes.
    w.ok(a, set_attributes(&[("k", "54321")]));
    w.ok(a, rename("Eve"));
    w.ok(a, rename("Al"));
    w.ok(b, set_attributes(&[("k", "")]));
    assert_eq!(left(&mut w), 1 + 12);
    w.audit();
}

#[track_caller]
fn refused_at_zero(w: &mut World, client: Client, call: Call) {
    assert_eq!(w.err(client, call), ErrorName::AttributesTooLarge);
    assert_eq!(left(w), 0);
}

/// Proves ATT-6.
#[test]
fn the_budget_of_a_channel_is_given_back_by_whatever_ends_a_membership() {
    let life_ms = 40_000;
    let (mut w, m) = with_budget(100);
    let big = |uid: u64| entry(uid).name(&"n".repeat(77)).join_id("0123456789abcdef");
    let free = 100 - 80;
    let a = w.admit(big(1));
    assert_eq!(left(&mut w), free);
    // The same join again is the same membership: it is neither counted nor checked a second time.
    let a2 = w.admit(big(1));
    assert_eq!((w.closed(a), left(&mut w)), (Some(CloseCode::TAKEN_OVER), free));
    // A replacement takes the place of the old membership, and may use its bytes.
    let bigger = entry(1).name(&"n".repeat(97));
    let a3 = w.admit(bigger.clone());
    assert_eq!((w.closed(a2), left(&mut w)), (Some(CloseCode::REPLACED), 0));
    assert_eq!(
        w.refusal(bigger.attribute("k", "v")),
        ErrorName::AttributesTooLarge,
        "but no more, and then the old one stays"
    );
    assert!(w.closed(a3).is_none());
    let a = w.admit(entry(1).name(&"n".repeat(77)));
    assert_eq!(left(&mut w), free);
    // The audience takes nothing from broadcasters, and a member that becomes one needs room.
    w.ok(a, set_role("audience"));
    assert_eq!(left(&mut w), 100);
    let full = w.admit(entry(8).name(&"n".repeat(20)));
    assert_eq!(w.err(a, set_role("broadcaster")), ErrorName::AttributesTooLarge);
    w.ok(full, leave());
    w.ok(a, set_role("broadcaster"));
    assert_eq!(left(&mut w), free);
    w.ok(a, leave());
    assert_eq!(left(&mut w), 100);
    // Kicked.
    w.admit(big(2));
    assert_eq!(left(&mut w), free);
    w.ok(m, kick(2, 0));
    assert_eq!(left(&mut w), 100);
    // It counts in grace, and not after that.
    let b = w.admit(big(3));
    w.drop_socket(b);
    w.advance_alive(29_999, &[m]);
    assert_eq!(left(&mut w), free);
    w.advance(1);
    assert_eq!(left(&mut w), 100);
    // The end of a token.
    let expiring = big(4).jwt(&w, 0, life_ms);
    let b = w.admit(expiring);
    assert_eq!(left(&mut w), free);
    w.advance_alive(life_ms + 5_000, &[m, b]);
    assert_eq!((w.closed(b), left(&mut w)), (Some(CloseCode::TOKEN_EXPIRED), 100));
    w.audit();
}

/// Proves ATT-6.
#[test]
fn the_budgets_of_channels_are_apart_and_a_new_incarnation_starts_empty() {
    let (mut w, m) = with_budget(100);
    let big = entry(1).name(&"n".repeat(97));
    w.admit(big.clone());
    w.admit(big.clone().channel("other"));
    assert_eq!(left(&mut w), 0);
    w.ok(m, set_channel_attributes(&[("t", "tea")]));
    w.ok(m, close_channel(0));
    w.admit(big);
}

/// Proves IDS-6.
#[test]
fn commands_have_a_burst_of_40_and_20_a_second() {
    let mut w = World::new();
    let a = w.join(1);
    for n in 0..40 {
        w.ok(a, send_to(&[], &n.to_string()));
    }
    let error = w.ask(a, ping()).expect_err("too many");
    assert_eq!(error.name(), &ErrorName::RateLimited);
    assert_eq!(error.data.retry_after_ms, Some(50));
    w.advance(49);
    assert_eq!(w.ask(a, ping()).expect_err("too early").data.retry_after_ms, Some(1));
    w.advance(1);
    w.ok(a, ping());
    assert_eq!(w.err(a, ping()), ErrorName::RateLimited);
    w.advance(1_000);
    let passed = (0..40).filter(|_| w.ask(a, ping()).is_ok()).count();
    assert_eq!(passed, 20, "in the long run");
    w.join(2);
}

/// Proves IDS-6, MET-2.
#[test]
fn a_rate_limited_command_has_no_effect() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.advance(100);
    w.skip_received();
    for _ in 0..40 {
        w.ok(a, ping());
    }
    assert_eq!(w.err(a, send_message("too fast")), ErrorName::RateLimited);
    w.advance(50);
    w.ok(a, send_message("in time"));
    w.advance(20);
    assert_eq!(w.new_events(b), ["message 1 in time"]);
}

/// Proves IDS-6.
#[test]
fn elements_of_an_array_count_each_even_those_that_cannot_be_read() {
    let mut w = World::new();
    let a = w.join(1);
    w.batch(a, (0..32).map(|_| ping()).collect());
    w.text(a, "[1,2,3,4,5,6,7,8]");
    assert_eq!(w.conns[&a.0].anonymous, [const { ErrorName::InvalidRequest }; 8]);
    assert_eq!(w.err(a, ping()), ErrorName::RateLimited);
}

/// Proves IDS-6.
#[test]
fn after_100_refusals_the_connection_is_closed_and_each_success_takes_one_back() {
    let mut w = World::new();
    let a = w.join(1);
    for _ in 0..40 {
        w.ok(a, ping());
    }
    for n in 1..100 {
        assert_eq!(w.err(a, ping()), ErrorName::RateLimited);
        assert!(w.closed(a).is_none(), "after {n}");
    }
    // 99 so far. Each command within the rate forgives one, and no more.
    for _ in 0..10 {
        w.advance(50);
        w.ok(a, ping());
    }
    for n in 90..100 {
        assert_eq!(w.err(a, ping()), ErrorName::RateLimited);
        assert!(w.closed(a).is_none(), "after {n}");
    }
    assert_eq!(w.err(a, ping()), ErrorName::RateLimited);
    assert_eq!(w.closed(a), Some(CloseCode::RATE_LIMITED));
}

/// Proves IDS-6.
#[test]
fn ids_6_long_refused_frames_close_the_connection_sooner() {
    let mut w = World::new();
    let a = w.join(1);
    for _ in 0..40 {
        w.ok(a, ping());
    }
    // 60 KiB each, which would cost 61 units: each counts 8.
    let padding = " ".repeat(60 * 1024);
    for n in 1..=13 {
        assert!(w.closed(a).is_none(), "after {n}");
        w.text(a, format!(r#"{{"jsonrpc":"2.0","id":{},"method":"ping"{padding}}}"#, 1_000 + n));
    }
    assert_eq!(w.closed(a), Some(CloseCode::RATE_LIMITED));
}

/// Proves IDS-6.
#[test]
fn ids_6_websocket_pings_and_pongs_count_towards_the_rate() {
    let mut w = World::new();
    let a = w.join(1);
    let control = |w: &mut World, times| {
        for _ in 0..times {
            w.input(Input::ControlFrame { conn: a.0 });
        }
    };
    control(&mut w, 40);
    assert_eq!(w.err(a, ping()), ErrorName::RateLimited);
    control(&mut w, 98);
    assert!(w.closed(a).is_none());
    control(&mut w, 1);
    assert_eq!(w.closed(a), Some(CloseCode::RATE_LIMITED));
}

/// Proves IDS-6.
#[test]
fn ids_6_a_command_costs_one_more_unit_per_kib_of_parameters() {
    let mut w = World::new();
    let a = w.join(1);
    let long = "x".repeat(7 * 1024);
    for _ in 0..5 {
        w.ok(a, send_message(&long));
    }
    assert_eq!(w.err(a, send_message("short")), ErrorName::RateLimited);
    w.advance(50);
    w.ok(a, send_message("short"));
}

/// The content of a request that comes too fast costs the server nothing.
/// Proves IDS-6.
#[test]
fn ids_6_the_rate_is_checked_before_the_parameters() {
    let mut w = World::new();
    let a = w.join(1);
    let keys = |count: usize| -> String {
        (0..count).map(|n| format!("\"{n:x}\":\"\",")).collect::<String>() + "\"x\":\"\""
    };
    let request = |id: u64, method: &str, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}}}}}"#)
    };
    // One such request is a whole burst, whatever the method.
    let many = keys(5_000);
    for (id, method) in [(100, "setAttributes"), (200, "ping"), (300, "join"), (400, "report")] {
        let params = format!(r#""attributes":{{{many}}}"#);
        w.text(a, request(id, method, &params));
        assert_ne!(w.error_name(a, id), Some(ErrorName::RateLimited), "{method}");
        w.text(a, request(id + 1, method, &params));
        assert_eq!(w.error_name(a, id + 1), Some(ErrorName::RateLimited), "{method}");
        // The error in its parameters is not looked for.
        w.text(a, request(id + 2, "setAttributes", r#""attributes":7"#));
        assert_eq!(w.error_name(a, id + 2), Some(ErrorName::RateLimited), "{method}");
        w.advance(2_000);
    }
    // Also for bytes outside the parameters, and for elements that cannot be read.
    let around = format!(r#"{{"jsonrpc":"2.0","id":500,"method":"ping",{many}}}"#);
    let unreadable = format!(r#"{{"jsonrpc":"1.0",{many}}}"#);
    let array = format!("[{}1]", "1,".repeat(30_000));
    for text in [around, unreadable, array] {
        w.text(a, text);
        assert_eq!(w.err(a, ping()), ErrorName::RateLimited);
        w.advance(2_000);
    }
    w.ok(a, ping());
}

/// Proves IDS-6.
#[test]
fn a_frame_that_cannot_be_read_counts_as_well() {
    let mut w = World::new();
    let a = w.join(1);
    for _ in 0..40 {
        w.text(a, "[]");
    }
    assert_eq!(w.conns[&a.0].anonymous, [const { ErrorName::BadBatch }; 40]);
    w.text(a, "[]");
    assert_eq!(w.conns[&a.0].anonymous.last(), Some(&ErrorName::RateLimited));
}

/// Proves IDS-6.
#[test]
fn one_session_does_not_use_up_the_rate_of_another() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    for _ in 0..40 {
        w.ok(a, ping());
    }
    w.err(a, ping());
    w.ok(b, ping());
}

impl World {
    /// The error of a request, if it was refused.
    fn error_name(&self, client: Client, id: u64) -> Option<ErrorName> {
        let answer = self.answer(client, id).expect("it is answered");
        answer.err().map(|error| error.name().clone())
    }
}

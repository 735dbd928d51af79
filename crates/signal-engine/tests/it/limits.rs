//! Maxima, each with its own error.

use lianmai_protocol::{CloseCode, ErrorName};

use crate::calls::*;
use crate::world::{World, entry};

#[test]
fn members_audience_included_have_a_maximum() {
    let mut w = World::with(|config| config.limits.members = 2);
    w.join(1);
    let b = w.admit(entry(2).audience());
    assert_eq!(w.refusal(entry(3).audience()), ErrorName::ChannelFull);
    assert_eq!(w.refusal(entry(3)), ErrorName::ChannelFull);
    w.join(1); // A replacement takes the place of the replaced.
    w.ok(b, leave());
    w.join(3);
    w.admit(entry(4).channel("other"));
}

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

#[test]
fn a_full_channel_refuses_before_it_replaces() {
    // The old membership is audience; as a broadcaster the newcomer finds no room and changes nothing.
    let mut w = World::with(|config| config.limits.broadcasters = 1);
    w.join(1);
    let b = w.admit(entry(2).audience());
    assert_eq!(w.refusal(entry(2)), ErrorName::TooManyBroadcasters);
    assert!(w.closed(b).is_none());
}

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

#[test]
fn commands_have_a_burst_of_40_and_20_a_second() {
    let mut w = World::new();
    let a = w.join(1);
    for n in 0..40 {
        w.ok(a, tell(&[], &n.to_string()));
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

#[test]
fn a_refused_command_had_no_effect_and_its_id_is_spent_for_nothing() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.advance(100);
    w.hush();
    for _ in 0..40 {
        w.ok(a, ping());
    }
    assert_eq!(w.err(a, say("too fast")), ErrorName::RateLimited);
    w.advance(50);
    w.ok(a, say("in time"));
    w.advance(20);
    assert_eq!(w.heard(b), ["message 1 in time"]);
}

#[test]
fn elements_of_an_array_count_each_even_those_that_cannot_be_read() {
    let mut w = World::new();
    let a = w.join(1);
    w.batch(a, (0..32).map(|_| ping()).collect());
    w.text(a, "[1,2,3,4,5,6,7,8]");
    assert_eq!(w.conns[&a.0].anonymous, [const { ErrorName::InvalidRequest }; 8]);
    assert_eq!(w.err(a, ping()), ErrorName::RateLimited);
}

#[test]
fn after_100_refusals_in_a_row_the_connection_is_closed() {
    let mut w = World::new();
    let a = w.join(1);
    for _ in 0..40 {
        w.ok(a, ping());
    }
    for n in 1..100 {
        assert_eq!(w.err(a, ping()), ErrorName::RateLimited);
        assert!(w.closed(a).is_none(), "{n} in a row");
    }
    // One that passes starts the count again.
    w.advance(50);
    w.ok(a, ping());
    for _ in 1..100 {
        w.err(a, ping());
    }
    assert!(w.closed(a).is_none());
    assert_eq!(w.err(a, ping()), ErrorName::RateLimited);
    assert_eq!(w.closed(a), Some(CloseCode::RATE_LIMITED));
}

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

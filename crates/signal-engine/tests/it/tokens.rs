//! Token times, and their renewal.

use lianmai_protocol::message::Notice;
use lianmai_protocol::message::session::TokenRenewed;
use lianmai_protocol::{
    Action, CloseCode, ErrorName, KindSet, MediaKind, Rights, UserId, WallTime,
};
use lianmai_signal_engine::{Answer, Denial, Grant, Input};

use crate::calls::*;
use crate::world::{Client, World, entry};

fn jwt(w: &World, life_ms: u64) -> Grant {
    let now = w.now.wall.0;
    Grant {
        issued_at: Some(WallTime(now)),
        expires: Some(WallTime(now + life_ms)),
        ends_membership: true,
        ..Grant::debug()
    }
}

/// After the `exp` of its token a membership lives this long, as a `join` with it would be accepted.
const LEEWAY: u64 = 5_000;

fn warnings(w: &mut World, client: Client) -> Vec<u64> {
    let notices = w.notices(client);
    let warning = |notice: &Notice| match notice {
        Notice::TokenWillExpire(warning) => Some(warning.expires_in_ms),
        _ => None,
    };
    notices.iter().filter_map(warning).collect()
}

/// Rights in an answer of `renewToken`.
fn rights(answer: &serde_json::Value) -> Rights {
    serde_json::from_value::<TokenRenewed>(answer.clone()).expect("renewed").rights
}

/// Proves AUT-5.
#[test]
fn a_join_is_judged_by_the_times_of_its_token() {
    let mut w = World::new();
    let now = w.now.wall.0;
    let nbf = |at: u64| entry(1).grant(|grant| grant.not_before = Some(WallTime(at)));
    assert_eq!(w.refusal(nbf(now + 5_001)), ErrorName::TokenNotYetValid);
    w.admit(nbf(now + 5_000).channel("a"));
    let iat = |at: u64| entry(1).grant(|grant| grant.issued_at = Some(WallTime(at)));
    assert_eq!(w.refusal(iat(now + 60_001)), ErrorName::TokenNotYetValid);
    w.admit(iat(now + 60_000).channel("b"));
    let exp = |at: u64| entry(1).grant(|grant| grant.expires = Some(WallTime(at)));
    assert_eq!(w.refusal(exp(now - 5_000)), ErrorName::TokenExpired);
    w.admit(exp(now - 4_999).channel("c"));
    w.admit(exp(u64::MAX).channel("d"));
}

/// Proves AUT-3.
#[test]
fn a_token_is_for_its_uid_and_its_channel() {
    let mut w = World::new();
    let for_uid = |uid| entry(1).grant(|grant| grant.uid = Some(UserId(uid)));
    assert_eq!(w.refusal(for_uid(2)), ErrorName::UidMismatch);
    w.admit(for_uid(1));
    let for_channel =
        |name: &str| entry(3).grant(|grant| grant.channel = Some(name.parse().expect("valid")));
    assert_eq!(w.refusal(for_channel("lobby")), ErrorName::ChannelMismatch);
    w.admit(for_channel("room"));
}

/// Proves AUT-4, EVT-6, URL-5.
#[test]
fn a_jwt_warns_30_s_before_and_ends_the_membership() {
    let mut w = World::new();
    let grant = jwt(&w, 100_000);
    let a = w.admit(entry(1).grant(|g| *g = grant));
    let b = w.join(2);
    assert_eq!(w.joined(a).own.token_expires_in_ms, Some(100_000 + LEEWAY));
    let (_, generation) = w.push_url(a, "");
    w.advance(100);
    w.skip_received();
    w.advance_alive(69_899 + LEEWAY, &[a, b]);
    assert!(warnings(&mut w, a).is_empty());
    w.advance(1);
    assert_eq!(warnings(&mut w, a), [30_000]);
    w.advance_alive(29_999, &[a, b]);
    assert!(warnings(&mut w, a).is_empty() && w.closed(a).is_none());
    w.advance(1);
    assert_eq!(w.closed(a), Some(CloseCode::TOKEN_EXPIRED));
    assert_eq!(w.closing(a).expect("announced").action, Action::RenewToken);
    w.advance(20);
    assert_eq!(
        w.new_events(b),
        ["streamRemoved 1 audio", "streamRemoved 1 video", "clientLeave 1 tokenExpired"]
    );
    assert_eq!(w.may_push(generation), Err(Denial::UnknownStream));
    w.audit();
}

/// Proves AUT-4.
#[test]
fn a_jwt_ends_a_membership_in_grace_as_well() {
    let mut w = World::new();
    let grant = jwt(&w, 10_000);
    let a = w.admit(entry(1).grant(|g| *g = grant));
    let b = w.join(2);
    w.skip_received();
    w.drop_socket(a);
    w.advance(9_999 + LEEWAY);
    assert!(w.new_events(b).is_empty());
    w.advance(1);
    w.advance(20);
    assert_eq!(w.new_events(b), ["clientLeave 1 tokenExpired"]);
}

/// Proves AUT-4, AUT-5.
#[test]
fn a_membership_ends_exactly_when_its_token_would_be_refused() {
    let mut w = World::new();
    let grant = jwt(&w, 0);
    // After its `exp`, and still accepted; there is no time for a warning.
    let late = |uid| {
        let grant = grant.clone();
        entry(uid).grant(|g| *g = grant)
    };
    let a = w.admit(late(1));
    assert_eq!(w.joined(a).own.token_expires_in_ms, Some(LEEWAY));
    w.advance(LEEWAY - 1);
    assert!(w.closed(a).is_none() && warnings(&mut w, a).is_empty());
    w.admit(late(2).channel("other"));
    w.advance(1);
    assert_eq!(w.closed(a), Some(CloseCode::TOKEN_EXPIRED));
    assert_eq!(w.refusal(late(3)), ErrorName::TokenExpired);
}

/// Proves AUT-4.
#[test]
fn a_token_with_30_s_left_or_less_is_not_warned_of() {
    let mut w = World::new();
    for (channel, life_ms, warned) in [("a", 25_000, false), ("b", 25_001, true)] {
        let grant = jwt(&w, life_ms);
        let a = w.admit(entry(1).channel(channel).grant(|g| *g = grant));
        assert_eq!(w.joined(a).own.token_expires_in_ms, Some(life_ms + LEEWAY));
        w.advance_alive(life_ms + LEEWAY - 1, &[a]);
        assert!(w.closed(a).is_none());
        assert_eq!(!warnings(&mut w, a).is_empty(), warned, "{life_ms}");
        w.advance(1);
        assert_eq!(w.closed(a), Some(CloseCode::TOKEN_EXPIRED));
    }
}

/// Proves AUT-2.
#[test]
fn a_basic_token_gates_the_join_only() {
    let mut w = World::new();
    let mut grant = jwt(&w, 60_000);
    grant.ends_membership = false;
    let basic = entry(1).grant(|g| *g = grant);
    let a = w.admit(basic.clone());
    assert_eq!(w.joined(a).own.token_expires_in_ms, None);
    w.advance_alive(120_000, &[a]);
    assert!(w.closed(a).is_none() && warnings(&mut w, a).is_empty());
    assert_eq!(w.refusal(basic), ErrorName::TokenExpired);
}

/// Proves AUT-4, TOK-1, TOK-2.
#[test]
fn a_renewed_token_moves_the_end() {
    let mut w = World::new();
    let grant = jwt(&w, 60_000);
    let a = w.admit(entry(1).grant(|g| *g = grant));
    w.advance_alive(40_000, &[a]);
    assert_eq!(warnings(&mut w, a), [30_000]);
    let grant = jwt(&w, 100_000);
    w.tokens.insert("new".to_owned(), Ok(grant));
    let renewed: TokenRenewed =
        serde_json::from_value(w.ok(a, renew_token("new"))).expect("renewed");
    assert_eq!(renewed.token_expires_in_ms, Some(100_000 + LEEWAY));
    w.advance_alive(99_999 + LEEWAY, &[a]);
    assert_eq!(warnings(&mut w, a), [30_000]);
    assert!(w.closed(a).is_none());
    w.advance(1);
    assert_eq!(w.closed(a), Some(CloseCode::TOKEN_EXPIRED));
}

/// Proves AUT-4.
#[test]
fn one_warning_comes_however_often_the_token_was_renewed() {
    let mut w = World::new();
    let grant = jwt(&w, 300_000);
    let a = w.admit(entry(1).grant(|g| *g = grant));
    for n in 0..10 {
        w.advance(777);
        // Each is shorter than the one before, so that old timers fire within the new warning time.
        let grant = jwt(&w, 100_000 - n * 5_000);
        w.tokens.insert("t".to_owned(), Ok(grant));
        w.ok(a, renew_token("t"));
    }
    w.advance_alive(54_999 + LEEWAY, &[a]);
    assert!(w.closed(a).is_none());
    assert_eq!(warnings(&mut w, a), [30_000]);
    w.advance(1);
    assert_eq!(w.closed(a), Some(CloseCode::TOKEN_EXPIRED));
}

/// Proves TOK-1.
#[test]
fn a_bad_token_is_refused_and_the_old_one_stays() {
    let mut w = World::new();
    let grant = jwt(&w, 600_000);
    let m = w.admit(entry(9).moderator());
    let a = w.admit(entry(1).grant(|g| *g = grant));
    let mut bad = |name: &str, grant: Result<Grant, ErrorName>, error: ErrorName| {
        w.tokens.insert(name.to_owned(), grant);
        assert_eq!(w.err(a, renew_token(name)), error);
    };
    bad("forged", Err(ErrorName::TokenInvalid), ErrorName::TokenInvalid);
    bad("other", Ok(Grant { uid: Some(UserId(2)), ..Grant::debug() }), ErrorName::UidMismatch);
    let channel = Some("lobby".parse().expect("valid"));
    bad("lobby", Ok(Grant { channel, ..Grant::debug() }), ErrorName::ChannelMismatch);
    let expires = Some(WallTime(1_000));
    bad("late", Ok(Grant { expires, ..Grant::debug() }), ErrorName::TokenExpired);
    w.advance_alive(300_000, &[a, m]);
    assert!(w.closed(a).is_none());
    w.push_url(a, "");
}

/// Proves SUB-3, TOK-1, TOK-2.
#[test]
fn a_renewed_token_replaces_the_rights_and_what_it_lacks_ends() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    let (_, of_b) = w.push_url(b, "");
    let (_, main) = w.push_url(a, "");
    let (_, screen) = w.push_url(a, "screenShare");
    w.pull_url(a, 2, "audio");
    w.pull_url(a, 2, "video");
    w.advance(100);
    w.skip_received();
    let audio = KindSet::of(&MediaKind::Audio);
    let mut grant = Grant::debug();
    grant.rights = Rights { publish: audio, subscribe: audio, ..Rights::MEMBER };
    w.tokens.insert("less".to_owned(), Ok(grant.clone()));
    let granted = rights(&w.ok(a, renew_token("less")));
    assert_eq!(granted, grant.rights, "the answer tells the new rights");
    w.advance(20);
    assert_eq!(w.new_events(b), ["streamRemoved 1 video", "streamRemoved 1 screenShare"]);
    assert_eq!((w.may_push(main), w.may_push(screen)), (Ok(()), Err(Denial::UnknownStream)));
    let mid = w.mid(a);
    assert_eq!(w.may_play(of_b, mid), Ok(()), "audio stays");
    assert_eq!(w.err(a, publish("video")), ErrorName::PublishForbidden);
    assert_eq!(w.err(a, subscribe(2, "video")), ErrorName::SubscribeForbidden);
    grant.rights = Rights { subscribe: KindSet::NONE, broadcast: false, ..Rights::MEMBER };
    grant.rights.moderate = true;
    let of_other = grant.rights;
    w.tokens.insert("other".to_owned(), Ok(grant));
    assert_eq!(rights(&w.ok(a, renew_token("other"))), of_other);
    assert_eq!(w.may_play(of_b, mid), Err(Denial::NotSubscribed), "no right, no subscription");
    assert_eq!(w.cut_viewers, [(of_b, mid)]);
    w.advance(20);
    assert_eq!(
        w.new_events(b),
        ["streamRemoved 1 audio", "roleChanged 1 audience", "clientLeave 1 roleChanged"]
    );
    w.ok(a, kick(2, 0));
}

/// Proves AUT-6, TOK-2.
#[test]
fn renewing_keeps_what_the_app_gives_the_creator() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    w.admit(entry(2).app("creator"));
    w.tokens.insert("t".to_owned(), Ok(Grant::debug()));
    let granted = rights(&w.ok(a, renew_token("t")));
    assert_eq!(granted, Rights { moderate: true, ..Rights::MEMBER }, "as `self.rights` of a join");
    assert_eq!(granted, w.joined(a).own.rights);
    w.ok(a, kick(2, 0));
}

/// Proves ORD-5.
#[test]
fn a_slow_token_check_delays_later_commands() {
    let mut w = World::new();
    let a = w.join(1);
    w.advance(100);
    w.skip_received();
    let id = w.send(a, renew_token("slow"));
    let held = w.send(a, send_message("later"));
    w.advance(1_000);
    assert_eq!((w.answer(a, id), w.answer(a, held)), (None, None));
    let (id, _) = w.held_tokens.pop_front().expect("a check");
    let answer = Answer::Verified(Ok(Grant::debug()));
    w.input(Input::Answer { id, answer: answer.clone() });
    assert_eq!(w.log(a), ["renewToken ok", "message 1 later", "sendMessage ok"]);
    // A second answer to the same question has no effect.
    w.input(Input::Answer { id, answer });
    assert!(w.log(a).is_empty());
}

/// Proves AUT-4.
#[test]
fn a_wall_clock_that_jumps_is_noticed_within_a_minute() {
    let mut w = World::new();
    let grant = jwt(&w, 3_600_000);
    let a = w.admit(entry(1).grant(|g| *g = grant));
    w.advance_alive(10_000, &[a]);
    w.now.wall.0 += 3_600_000;
    w.advance_alive(50_000, &[a]);
    assert_eq!(w.closed(a), Some(CloseCode::TOKEN_EXPIRED));
    // It jumps back, and the token lives longer.
    let grant = jwt(&w, 60_000);
    let a = w.admit(entry(1).grant(|g| *g = grant));
    w.now.wall.0 -= 3_600_000;
    w.advance_alive(120_000, &[a]);
    assert!(w.closed(a).is_none());
}

/// Proves KIC-2, LIV-3.
#[test]
fn a_ban_follows_the_wall_clock_and_grace_does_not() {
    let mut w = World::new();
    let m = w.admit(entry(1).moderator());
    w.ok(m, kick(2, 60));
    let b = w.join(3);
    w.drop_socket(b);
    w.now.wall.0 += 60_000;
    w.join(2);
    w.advance_alive(29_999, &[m]);
    assert!(w.member("plain", 3).is_some(), "durations are of the steady clock");
    w.advance(1);
    assert!(w.member("plain", 3).is_none());
}

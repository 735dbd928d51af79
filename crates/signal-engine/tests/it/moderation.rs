//! Kicks, bans and holds, and the rights for them.

use lianmai_protocol::message::session::{CloseChannel, Kick};
use lianmai_protocol::message::{Call, Notice};
use lianmai_protocol::{Action, CloseCode, ErrorName, UserId, WallTime};
use lianmai_signal_engine::{AdminCommand, AdminReply, Denial};

use crate::calls::*;
use crate::world::{World, entry, room};

/// Proves EVT-3, KIC-1, URL-5, URL-6.
#[test]
fn a_kicked_member_is_notified_cut_and_closed_and_others_see_it_leave() {
    let mut w = World::new();
    let m = w.admit(entry(1).moderator());
    let b = w.join(2);
    let (_, of_b) = w.push_url(b, "");
    let (_, of_m) = w.push_url(m, "");
    w.pull_url(b, 1, "audio");
    let mid = w.mid(b);
    w.advance(100);
    w.skip_received();
    let params = Kick { uid: UserId(2), duration_s: 60, reason: Some("rude".to_owned()) };
    w.ok(m, Call::Kick(params));
    assert!(w.cut.contains(&of_b) && !w.cut.contains(&of_m));
    assert_eq!(w.cut_viewers, [(of_m, mid)]);
    assert_eq!(w.may_push(of_b), Err(Denial::UnknownStream));
    assert_eq!(w.may_play(of_m, mid), Err(Denial::NotSubscribed));
    assert_eq!(w.closed(b), Some(CloseCode::KICKED));
    let group = ["streamRemoved 2 audio", "streamRemoved 2 video", "clientLeave 2 kicked"];
    assert_eq!(w.new_events(m), group);
    let notices = w.notices(b);
    let Notice::Kicked(kicked) = &notices[0] else { panic!("{notices:?}") };
    assert_eq!((kicked.reason.as_deref(), kicked.duration_s), (Some("rude"), 60));
    let Notice::Closing(closing) = &notices[1] else { panic!("{notices:?}") };
    assert_eq!((closing.code, closing.action.clone()), (CloseCode::KICKED, Action::None));
    w.text(b, "garbage");
    w.audit();
}

/// Proves KIC-2.
#[test]
fn a_ban_holds_for_its_duration_whatever_the_uid_presents() {
    let mut w = World::new();
    let m = w.admit(entry(1).moderator());
    w.join(2);
    w.ok(m, kick(2, 60));
    let fresh = entry(2).jwt(&w, 0, 3_600_000);
    let error = w.enter(fresh).expect_err("banned");
    assert_eq!(error.name(), &ErrorName::Banned);
    assert_eq!(error.data.retry_after_ms, Some(60_000));
    // A ban is for one channel and uid: the uid may join elsewhere, and other uids may join here.
    w.admit(entry(2).channel("other"));
    w.join(3);
    w.advance_alive(59_999, &[m]);
    assert_eq!(w.refusal(entry(2)), ErrorName::Banned);
    w.advance(1);
    w.join(2);
}

/// Proves KIC-2, KIC-3.
#[test]
fn a_later_shorter_kick_does_not_shorten_a_ban_and_a_longer_one_prolongs_it() {
    let mut w = World::new();
    let m = w.admit(entry(1).moderator());
    w.ok(m, kick(2, 60));
    let left = |w: &mut World| w.enter(entry(2)).expect_err("banned").data.retry_after_ms;
    w.advance_alive(10_000, &[m]);
    w.ok(m, kick(2, 20));
    assert_eq!(left(&mut w), Some(50_000));
    w.ok(m, kick(2, 50));
    assert_eq!(left(&mut w), Some(50_000));
    w.ok(m, kick(2, 90));
    assert_eq!(left(&mut w), Some(90_000));
    // The later kick revokes the tokens issued until then in any case.
    let between = entry(2).jwt(&w, 0, 86_400_000);
    w.advance_alive(80_000, &[m]);
    w.ok(m, kick(2, 1));
    w.advance_alive(10_000, &[m]);
    assert_eq!(w.refusal(between), ErrorName::TokenRevoked);
    w.join(2);
}

/// Proves KIC-2.
#[test]
fn a_ban_outlives_the_channel() {
    let mut w = World::new();
    let m = w.admit(entry(1).moderator());
    w.join(2);
    w.ok(m, kick(2, 300));
    w.ok(m, leave());
    assert_eq!(w.engine.stats().channels, 0);
    w.advance(200_000); // Past a sweep, which must keep it.
    assert_eq!(w.refusal(entry(2)), ErrorName::Banned);
    w.advance(100_000);
    w.join(2);
}

/// Proves KIC-3.
#[test]
fn a_kick_without_duration_voids_the_tokens_issued_so_far() {
    let mut w = World::new();
    let m = w.admit(entry(1).moderator());
    let old = entry(2).jwt(&w, 600_000, 86_400_000);
    w.admit(old.clone());
    w.ok(m, kick(2, 0));
    assert_eq!(w.refusal(old.clone()), ErrorName::TokenRevoked);
    w.advance_alive(300_000, &[m]);
    assert_eq!(w.refusal(old), ErrorName::TokenRevoked, "until the token expires by itself");
    // A token without `iat` that is no debug join counts as old; one issued later is valid.
    w.admit(entry(2).jwt(&w, 0, 86_400_000));
    // A debug join has no token to revoke.
    w.ok(m, kick(2, 0));
    w.join(2);
}

/// Proves KIC-3.
#[test]
fn tokens_issued_up_to_60_s_after_the_kick_are_void_too() {
    let mut w = World::new();
    let m = w.admit(entry(1).moderator());
    w.join(2);
    w.ok(m, kick(2, 0));
    let kicked = w.now.wall.0;
    w.advance_alive(120_000, &[m]);
    let issued = |at: u64| entry(2).grant(|grant| grant.issued_at = Some(WallTime(at)));
    assert_eq!(w.refusal(issued(kicked + 60_999)), ErrorName::TokenRevoked);
    w.admit(issued(kicked + 61_000));
}

/// Proves KIC-4, LIM-1, MET-2.
#[test]
fn kick_is_refused_without_right_or_target_for_oneself_and_out_of_range() {
    let mut w = World::new();
    let m = w.admit(entry(1).moderator());
    let b = w.join(2);
    assert_eq!(w.err(b, kick(1, 0)), ErrorName::Forbidden);
    assert_eq!(w.err(b, kick(9, 0)), ErrorName::Forbidden);
    assert_eq!(w.err(m, kick(1, 0)), ErrorName::SelfTarget);
    assert_eq!(w.err(m, kick(9, 0)), ErrorName::NoSuchMember);
    assert_eq!(w.err(m, kick(2, 604_801)), ErrorName::BadDuration);
    let reason = Some("r".repeat(257));
    let long = Call::Kick(Kick { uid: UserId(2), duration_s: 0, reason });
    assert_eq!(w.err(m, long), ErrorName::BadReason);
    assert!(w.closed(b).is_none() && w.closed(m).is_none());
    // A uid without a membership can be banned as well.
    w.ok(m, kick(9, 604_800));
    assert_eq!(w.refusal(entry(9)), ErrorName::Banned);
}

/// Proves EVT-4, MET-4.
#[test]
fn a_kick_of_an_audience_member_causes_no_event() {
    let mut w = World::new();
    let m = w.admit(entry(1).moderator());
    let b = w.admit(entry(2).audience());
    w.advance(100);
    w.skip_received();
    w.ok(m, kick(2, 0));
    assert!(w.new_events(m).is_empty());
    assert_eq!(w.closed(b), Some(CloseCode::KICKED));
    w.audit();
}

/// Proves EVT-3, KIC-1.
#[test]
fn a_member_in_grace_can_be_kicked() {
    let mut w = World::new();
    let m = w.admit(entry(1).moderator());
    let b = w.admit(entry(2).join_id("0123456789abcdef"));
    w.advance(100);
    w.skip_received();
    w.drop_socket(b);
    w.ok(m, kick(2, 60));
    assert_eq!(w.new_events(m), ["clientLeave 2 kicked"]);
    w.advance_alive(60_000, &[m]);
    assert!(w.new_events(m).is_empty(), "one leave, not a second one by timeout");
}

/// Proves CLS-1, EVT-5.
#[test]
fn close_channel_is_the_last_event_then_the_answer_then_the_closes() {
    let mut w = World::new();
    let m = w.admit(entry(1).moderator());
    let b = w.join(2);
    let c = w.admit(entry(3).audience());
    let (_, generation) = w.push_url(b, "");
    w.pull_url(m, 2, "audio");
    w.advance(100);
    w.skip_received();
    w.ok(b, send_message("one"));
    w.ok(b, send_message("two"));
    w.ok(m, close_channel(10));
    assert_eq!(
        w.log(m),
        [
            "message 2 one",
            "message 2 two",
            "liveRoomClose closed",
            "closeChannel ok",
            "~closing channelClosed",
        ]
    );
    for client in [m, b, c] {
        assert_eq!(w.closed(client), Some(CloseCode::CHANNEL_CLOSED));
        let last = w.conns[&client.0].events.last().expect("one").event.method().to_owned();
        assert_eq!(last, "liveRoomClose", "no clientLeave follows");
    }
    assert!(w.cut.contains(&generation));
    w.assert_empty();
}

/// Proves CLS-2.
#[test]
fn after_a_close_earlier_tokens_are_refused_for_the_hold() {
    let mut w = World::new();
    let m = w.admit(entry(1).moderator());
    let old = entry(2).jwt(&w, 1_000, 86_400_000);
    w.ok(m, close_channel(30));
    let closed = w.now.wall.0;
    let error = w.enter(old.clone()).expect_err("held");
    assert_eq!(error.name(), &ErrorName::ChannelClosed);
    assert_eq!(error.data.retry_after_ms, Some(30_000));
    assert_eq!(w.refusal(entry(3)), ErrorName::ChannelClosed, "a debug join as well");
    w.admit(entry(3).channel("other"));
    // A token that was certainly issued after the close may open a new channel.
    w.advance(10_000);
    let new = entry(4).grant(|grant| grant.issued_at = Some(WallTime(closed + 61_000)));
    w.admit(new);
    w.advance(20_000);
    w.admit(old);
}

/// Proves CLS-2, LIM-1, MET-2.
#[test]
fn close_channel_is_refused_without_right_and_out_of_range() {
    let mut w = World::new();
    let m = w.admit(entry(1).moderator());
    let b = w.join(2);
    assert_eq!(w.err(b, close_channel(0)), ErrorName::Forbidden);
    assert_eq!(w.err(m, close_channel(3_601)), ErrorName::BadDuration);
    let reason = Some("r".repeat(257));
    let long = Call::CloseChannel(CloseChannel { hold_s: 0, reason });
    assert_eq!(w.err(m, long), ErrorName::BadReason);
    assert!(w.closed(b).is_none());
    // Without a hold the name is free at once.
    w.ok(m, close_channel(0));
    w.join(2);
}

/// Proves AUT-6.
#[test]
fn the_creator_moderates_only_where_the_app_says_so() {
    let mut w = World::new();
    let a = w.join(1);
    w.join(2);
    assert_eq!(w.err(a, kick(2, 0)), ErrorName::Forbidden);
    let a = w.admit(entry(1).app("creator"));
    let b = w.admit(entry(2).app("creator"));
    assert!(w.joined(a).own.rights.moderate && !w.joined(b).own.rights.moderate);
    assert_eq!(w.err(b, kick(1, 0)), ErrorName::Forbidden);
    w.ok(a, kick(2, 0));
    assert_eq!(w.closed(b), Some(CloseCode::KICKED));
    // The creator stays creator when it comes back.
    w.admit(entry(3).app("creator"));
    w.ok(a, leave());
    let a = w.admit(entry(1).app("creator"));
    assert_eq!(w.joined(a).channel.creator, UserId(1));
    w.ok(a, kick(3, 0));
}

/// Proves EVT-6, JOI-8.
#[test]
fn a_channel_dissolves_when_its_creator_leaves_where_the_app_says_so() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("dissolve"));
    let b = w.admit(entry(2).app("dissolve"));
    w.advance(100);
    w.skip_received();
    w.ok(a, leave());
    assert_eq!(w.new_events(b), ["clientLeave 1 left", "liveRoomClose creatorLeft"]);
    assert_eq!(w.closed(b), Some(CloseCode::CHANNEL_CLOSED));
    assert_eq!(w.closed(a), Some(CloseCode::NORMAL));
    w.assert_empty();
    // Without that setting the channel does not dissolve.
    let a = w.join(1);
    let b = w.join(2);
    w.ok(a, leave());
    w.advance(100);
    assert!(w.closed(b).is_none());
}

/// Proves JOI-8.
#[test]
fn only_the_end_of_the_creators_membership_dissolves() {
    let creator = || entry(1).app("dissolve").join_id("0123456789abcdef");
    let mut w = World::new();
    let a = w.admit(creator());
    let b = w.admit(entry(2).app("dissolve"));
    // A second device, the same join again, a lost socket, a demotion: none of these dissolves it.
    let a2 = w.admit(entry(1).app("dissolve"));
    assert_eq!(w.closed(a), Some(CloseCode::REPLACED));
    let a3 = w.admit(creator());
    let a4 = w.admit(creator());
    assert_eq!(w.closed(a3), Some(CloseCode::TAKEN_OVER));
    w.ok(a4, set_role("audience"));
    w.drop_socket(a4);
    let c = w.admit(entry(3).app("dissolve"));
    w.ok(c, leave());
    w.advance_alive(29_999, &[b]);
    assert!(w.closed(b).is_none() && w.closed(a2).is_some());
    // The end of the grace does.
    w.advance(1);
    assert_eq!(w.closed(b), Some(CloseCode::CHANNEL_CLOSED));
    w.assert_empty();
}

/// Proves JOI-8, ORD-4.
#[test]
fn a_moderator_that_kicks_the_creator_gets_its_answer_before_the_channel_dissolves() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("dissolve"));
    let m = w.admit(entry(2).app("dissolve").moderator());
    w.advance(100);
    w.skip_received();
    let id = w.send(m, kick(1, 60));
    assert!(w.answer(m, id).expect("every command is answered").is_ok());
    assert_eq!(
        w.log(m),
        ["clientLeave 1 kicked", "kick ok", "liveRoomClose creatorLeft", "~closing channelClosed"]
    );
    assert_eq!(w.closed(a), Some(CloseCode::KICKED));
    w.assert_empty();
}

/// Proves AUT-4, JOI-8.
#[test]
fn the_end_of_the_creators_token_dissolves_too() {
    let mut w = World::new();
    let creator = entry(1).app("dissolve").jwt(&w, 0, 60_000);
    let a = w.admit(creator);
    let b = w.admit(entry(2).app("dissolve"));
    w.advance_alive(64_999, &[a, b]);
    assert!(w.closed(b).is_none());
    w.advance(1);
    assert_eq!(w.closed(a), Some(CloseCode::TOKEN_EXPIRED));
    assert_eq!(w.closed(b), Some(CloseCode::CHANNEL_CLOSED));
}

/// Proves EVT-6, JOI-8.
#[test]
fn the_admin_api_kicks_closes_and_lists() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    let hidden = w.admit(entry(3).audience());
    w.push_url(a, "audio");
    let view = w.channels().remove(0);
    assert_eq!((view.members, view.broadcasters, view.creator), (3, 2, Some(UserId(1))));
    assert!(w.member("plain", 3).expect("audience included").connected);
    let kick = |uid: u64, duration_s: u32| AdminCommand::Kick {
        channel: room("plain"),
        uid: UserId(uid),
        duration_s,
        reason: None,
    };
    assert_eq!(w.admin(kick(2, 60)), Ok(AdminReply::Done));
    assert_eq!(w.closed(b), Some(CloseCode::KICKED));
    let error = w.admin(kick(9, 0)).expect_err("nobody");
    assert_eq!(error.name(), &ErrorName::NoSuchMember);
    let error = w.admin(kick(2, 604_801)).expect_err("too long");
    assert_eq!(error.name(), &ErrorName::BadDuration);
    let close = AdminCommand::CloseChannel { channel: room("plain"), hold_s: 10, reason: None };
    assert_eq!(w.admin(close.clone()), Ok(AdminReply::Done));
    assert_eq!(w.new_events(a).last().expect("one"), "liveRoomClose admin");
    assert_eq!(w.closed(hidden), Some(CloseCode::CHANNEL_CLOSED));
    assert!(w.admin(close).is_err(), "no such channel");
    // A ban of a channel that does not exist applies to later joins.
    assert_eq!(w.admin(kick(5, 60)), Ok(AdminReply::Done));
    w.advance(10_000);
    assert_eq!(w.refusal(entry(5)), ErrorName::Banned);
    w.assert_empty();
}

//! Roles and mutes: groups, rights, and no events about the audience.

use lianmai_protocol::{ErrorName, KindSet, MediaKind, Role, UserId};
use lianmai_signal_engine::Denial;

use crate::calls::*;
use crate::world::{World, entry};

/// Proves EVT-3, ROL-1, ROL-2, URL-5.
#[test]
fn a_demotion_is_one_group_and_cuts_the_push_at_once() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    let (_, main) = w.push_url(a, "");
    let (_, screen) = w.push_url(a, "screenShare");
    w.advance(100);
    w.skip_received();
    w.ok(a, set_role("audience"));
    let group = [
        "streamRemoved 1 audio",
        "streamRemoved 1 video",
        "streamRemoved 1 screenShare",
        "roleChanged 1 audience",
        "clientLeave 1 roleChanged",
    ];
    assert_eq!(w.new_events(b), group);
    assert_eq!(w.new_events(a), group, "the causer as well");
    assert!(w.cut.contains(&main) && w.cut.contains(&screen));
    assert_eq!(w.may_push(main), Err(Denial::UnknownStream));
    assert_eq!(w.err(a, publish("")), ErrorName::NotBroadcaster);
    w.audit();
    w.skip_received();
    w.ok(a, set_role("broadcaster"));
    w.advance(20);
    assert_eq!(w.new_events(b), ["clientJoin 1", "roleChanged 1 broadcaster"]);
    assert_ne!(w.push_url(a, "").1, main);
    w.audit();
}

/// Proves EVT-4, ROL-1.
#[test]
fn the_membership_goes_on_through_role_changes_and_may_still_watch() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    let (_, of_b) = w.push_url(b, "");
    w.pull_url(a, 2, "audio");
    w.ok(a, set_role("audience"));
    let mid = w.mid(a);
    assert_eq!(w.may_play(of_b, mid), Ok(()));
    assert_eq!(w.member("plain", 1).expect("a member").mid, mid);
    assert_eq!(w.member("plain", 1).expect("a member").role, Role::Audience);
    w.advance(100);
    w.skip_received();
    w.ok(a, leave());
    w.advance(20);
    assert!(w.new_events(b).is_empty(), "an invisible member leaves unseen");
}

/// Proves FWD-3, MET-3.
#[test]
fn the_same_role_again_changes_nothing() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.admit(entry(2).audience());
    let (_, generation) = w.push_url(a, "");
    w.skip_received();
    w.ok(a, set_role("broadcaster"));
    w.ok(b, set_role("audience"));
    w.advance(20);
    assert!(w.new_events(a).is_empty());
    assert_eq!(w.may_push(generation), Ok(()));
    assert_eq!(w.err(a, set_role("king")), ErrorName::BadRole);
}

/// Proves LIM-1, ROL-3.
#[test]
fn a_promotion_needs_the_right_and_room() {
    let mut w = World::with(|config| config.limits.broadcasters = 1);
    let _a = w.join(1);
    let b = w.admit(entry(2).audience());
    assert_eq!(w.err(b, set_role("broadcaster")), ErrorName::TooManyBroadcasters);
    let mut w = World::new();
    let c = w.admit(entry(3).audience().rights(|rights| rights.broadcast = false));
    assert_eq!(w.err(c, set_role("broadcaster")), ErrorName::Forbidden);
    let m = w.admit(entry(4).moderator());
    assert_eq!(w.err(m, set_role_of(3, "broadcaster")), ErrorName::Forbidden);
    w.audit();
}

/// Proves MET-4, MUT-4, PUB-7, ROL-3.
#[test]
fn a_moderator_changes_roles_and_mutes_and_unpublishes_others_and_nobody_else_does() {
    let mut w = World::new();
    let a = w.join(1);
    let m = w.admit(entry(2).moderator());
    let (_, generation) = w.push_url(a, "");
    w.advance(100);
    w.skip_received();
    for call in [set_role_of(2, "audience"), mute_of(2, "audio"), unpublish_of(2, "")] {
        assert_eq!(w.err(a, call), ErrorName::Forbidden);
    }
    for call in [set_role_of(9, "audience"), mute_of(9, "audio"), unpublish_of(9, "")] {
        assert_eq!(w.err(m, call), ErrorName::NoSuchMember);
    }
    assert_eq!(w.err(a, set_role_of(9, "audience")), ErrorName::Forbidden, "no probing");
    w.advance(20);
    assert!(w.new_events(m).is_empty());
    w.ok(m, mute_of(1, "audio"));
    w.ok(m, unpublish_of(1, "video"));
    assert_eq!(w.may_push(generation), Ok(()));
    w.ok(m, unpublish_of(1, ""));
    assert!(w.cut.contains(&generation));
    w.ok(m, set_role_of(1, "audience"));
    w.advance(20);
    assert_eq!(
        w.new_events(a),
        [
            "muted 1 audio",
            "streamRemoved 1 video",
            "streamRemoved 1 audio",
            "roleChanged 1 audience",
            "clientLeave 1 roleChanged",
        ]
    );
    w.ok(a, mute_of(1, "video")); // A member needs no right for its own uid.
    w.audit();
}

/// Proves MET-4, MUT-1, MUT-4.
#[test]
fn a_moderator_cannot_mute_the_audience() {
    let mut w = World::new();
    let m = w.admit(entry(1).moderator());
    let b = w.admit(entry(2).audience());
    w.ok(b, mute("video"));
    for call in [mute_of(2, "audio"), unmute_of(2, "video"), unmute_of(2, "audio")] {
        let error = w.ask(m, call).expect_err("invisible");
        assert_eq!(error.name(), &ErrorName::NoSuchMember);
        assert_eq!(error.data.field.as_deref(), Some("uid"));
    }
    assert_eq!(w.err(m, mute_of(2, "screenShare")), ErrorName::BadMediaType);
    w.ok(b, set_role("broadcaster"));
    w.advance(20);
    let muted = w.conns[&m.0].picture.clone().expect("a picture").members[&UserId(2)].muted;
    assert_eq!(muted, KindSet::of(&MediaKind::Video), "as it was");
    w.ok(m, mute_of(2, "audio"));
    w.ok(m, unmute_of(2, "video"));
    // A moderator in the audience mutes itself, like any member.
    w.ok(m, set_role("audience"));
    w.ok(m, mute_of(1, "audio"));
    w.audit();
}

/// Proves MET-3, MUT-1, MUT-2.
#[test]
fn mutes_come_per_kind_and_only_on_a_change() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.advance(100);
    w.skip_received();
    w.ok(a, mute("audio"));
    w.ok(a, mute(""));
    w.ok(a, mute("video"));
    w.ok(a, unmute("audio"));
    w.ok(a, unmute(""));
    w.ok(a, unmute(""));
    w.advance(20);
    assert_eq!(
        w.new_events(b),
        ["muted 1 audio", "muted 1 video", "unmuted 1 audio", "unmuted 1 video"]
    );
    for kind in ["screenShare", "slaveAudio", "smell"] {
        assert_eq!(w.err(a, mute(kind)), ErrorName::BadMediaType);
        assert_eq!(w.err(a, unmute(kind)), ErrorName::BadMediaType);
    }
    w.audit();
}

/// Proves ATT-2, EVT-4, MUT-3, ROL-2.
#[test]
fn changes_of_an_audience_member_become_public_with_its_promotion() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.admit(entry(2).audience().join_id("0123456789abcdef"));
    w.advance(100);
    w.skip_received();
    w.ok(b, mute("audio"));
    w.ok(b, set_attributes(&[("mood", "shy")]));
    w.ok(b, rename("Bea"));
    w.advance(100);
    assert!(w.new_events(a).is_empty(), "no event names an audience member (EVT-4)");
    let b = w.admit(entry(2).join_id("0123456789abcdef"));
    let own = &w.joined(b).own;
    assert_eq!((own.name.as_deref(), own.role.clone()), (Some("Bea"), Role::Audience));
    assert_eq!(own.muted, KindSet::of(&MediaKind::Audio));
    assert_eq!(own.attributes["mood"], "shy");
    w.ok(b, set_role("broadcaster"));
    w.advance(20);
    assert_eq!(w.new_events(a), ["clientJoin 2", "roleChanged 2 broadcaster"]);
    let picture = w.conns[&a.0].picture.clone().expect("a picture");
    let bea = &picture.members[&UserId(2)];
    assert_eq!(bea.name.as_deref(), Some("Bea"));
    assert_eq!(bea.attributes["mood"], "shy");
    assert_eq!(bea.muted, KindSet::of(&MediaKind::Audio));
    w.audit();
}

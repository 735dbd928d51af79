//! Proves no rule of the protocol: what operators create, change and see.

use lianmai_protocol::{ErrorName, KindSet, MediaKind, Role, UserId};
use lianmai_signal_engine::output::{ChannelDetail, MemberDetail};
use lianmai_signal_engine::record::ChannelRules;
use lianmai_signal_engine::{AdminCommand, AdminReply, DuplicatePolicy};

use crate::calls::*;
use crate::world::{World, entry, room};

/// A day and the interval of the sweep.
const DAY_MS: u64 = 24 * 3600 * 1000 + 61_000;

fn create(w: &mut World, rules: ChannelRules, creator: Option<u64>) -> AdminReply {
    let (channel, creator) = (room("plain"), creator.map(UserId));
    let attributes = [("title".to_owned(), "T".to_owned())].into_iter().collect();
    w.admin(AdminCommand::Create { channel, creator, rules, attributes }).expect("made")
}

fn show(w: &mut World) -> Option<ChannelDetail> {
    match w.admin(AdminCommand::Show(room("plain"))) {
        Ok(AdminReply::Detail(detail)) => Some(*detail),
        Ok(other) => panic!("{other:?}"),
        Err(error) => {
            assert_eq!(error.name(), &ErrorName::ChannelClosed);
            None
        }
    }
}

fn member(w: &mut World, uid: u64) -> MemberDetail {
    let (channel, uid) = (room("plain"), UserId(uid));
    match w.admin(AdminCommand::ShowMember { channel, uid }) {
        Ok(AdminReply::Members(mut members)) => members.pop().expect("one"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_channel_made_ahead_has_its_rules_for_the_first_who_joins() {
    let mut w = World::new();
    let rules =
        ChannelRules { max_members: Some(1), max_broadcasters: Some(0), ..Default::default() };
    let AdminReply::Detail(made) = create(&mut w, rules, None) else { panic!("not made") };
    assert_eq!((made.rules, made.view.members, made.view.creator), (rules, 0, None));
    assert_eq!(create(&mut w, rules, None), AdminReply::Exists);
    assert_eq!(w.refusal(entry(1)), ErrorName::TooManyBroadcasters);
    assert!(show(&mut w).is_some(), "a refused join does not end it");
    let a = w.admit(entry(1).audience());
    assert_eq!(w.joined(a).channel.attributes["title"], "T");
    assert_eq!(w.refusal(entry(2).audience()), ErrorName::ChannelFull);
    let shown = show(&mut w).expect("there");
    assert_eq!((shown.view.creator, shown.prepared_until), (Some(UserId(1)), None));
    assert_eq!(shown.view.cid, made.view.cid, "the same one");
    w.ok(a, leave());
    assert!(show(&mut w).is_none(), "it ends with the last leave");
}

#[test]
fn a_channel_made_ahead_waits_a_day_and_outlives_a_crash() {
    let mut w = World::new();
    create(&mut w, ChannelRules::default(), Some(9));
    w.crash();
    let shown = show(&mut w).expect("it is written down");
    assert_eq!(shown.view.creator, Some(UserId(9)));
    assert_eq!(shown.attributes["title"], "T");
    w.advance(DAY_MS / 2);
    assert!(show(&mut w).is_some());
    w.advance(DAY_MS / 2 + 1);
    assert!(show(&mut w).is_none());
    assert!(w.disk.is_empty());
    w.assert_empty();
}

#[test]
fn a_channel_that_is_kept_is_there_until_it_is_closed() {
    let mut w = World::new();
    create(&mut w, ChannelRules { keep_empty: true, ..Default::default() }, None);
    let a = w.join(1);
    w.ok(a, leave());
    w.crash();
    w.advance(2 * DAY_MS);
    let shown = show(&mut w).expect("kept");
    assert_eq!((shown.view.members, shown.view.creator), (0, Some(UserId(1))));
    let close = AdminCommand::Close { channel: room("plain"), hold_s: 0, reason: None };
    assert_eq!(w.admin(close), Ok(AdminReply::Done));
    assert!(show(&mut w).is_none());
    // Or until its rules no longer keep it.
    create(&mut w, ChannelRules { keep_empty: true, ..Default::default() }, None);
    let a = w.join(1);
    w.ok(a, leave());
    let rules = ChannelRules::default();
    let command = AdminCommand::SetRules { channel: room("plain"), rules };
    assert_eq!(w.admin(command), Ok(AdminReply::Done));
    assert!(show(&mut w).is_none());
    assert!(w.disk.is_empty());
}

#[test]
fn rules_of_a_channel_come_before_those_of_its_app() {
    let mut w = World::new();
    assert_eq!(w.config.apps[&room("plain").appkey].duplicate, DuplicatePolicy::KickOld);
    let rules = ChannelRules { reject_new: Some(true), ..Default::default() };
    create(&mut w, rules, None);
    w.join(1);
    assert_eq!(w.refusal(entry(1)), ErrorName::DuplicateLogin);
    w.crash();
    assert_eq!(show(&mut w).expect("there").rules, rules);
}

#[test]
fn an_operator_gives_roles_and_takes_kinds() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.push_url(a, "");
    w.advance(100);
    w.hush();
    let kinds = KindSet::of(&MediaKind::Video);
    let bar = |kinds| AdminCommand::Bar { channel: room("plain"), uid: UserId(1), kinds };
    assert_eq!(w.admin(bar(kinds)), Ok(AdminReply::Done));
    assert_eq!(w.admin(bar(kinds)), Ok(AdminReply::Done), "as before");
    assert_eq!(w.heard(b), ["streamRemoved 1 video"]);
    assert_eq!(w.err(a, publish("video")), ErrorName::PublishForbidden);
    w.ok(a, publish("audio"));
    let shown = member(&mut w, 1);
    assert_eq!((shown.barred, shown.rights.publish.contains(&MediaKind::Video)), (kinds, false));
    // Across a new membership and a crash.
    w.ok(a, leave());
    let a = w.join(1);
    assert_eq!(w.err(a, publish("")), ErrorName::PublishForbidden);
    assert!(!w.joined(a).own.rights.publish.contains(&MediaKind::Video));
    w.crash();
    let (a, _) = w.resume(a);
    assert_eq!(w.err(a, publish("video")), ErrorName::PublishForbidden);
    assert_eq!(w.admin(bar(KindSet::NONE)), Ok(AdminReply::Done));
    w.ok(a, publish("video"));

    let role = |role| AdminCommand::SetRole { channel: room("plain"), uid: UserId(1), role };
    assert_eq!(w.admin(role(Role::Audience)), Ok(AdminReply::Done));
    assert_eq!(member(&mut w, 1).role, Role::Audience);
    assert_eq!(w.err(a, set_role("broadcaster")), ErrorName::Forbidden, "not by itself");
    w.crash();
    let (a, _) = w.resume(a);
    assert_eq!(w.err(a, set_role("broadcaster")), ErrorName::Forbidden);
    assert_eq!(w.admin(role(Role::Broadcaster)), Ok(AdminReply::Done));
    assert_eq!(member(&mut w, 1).role, Role::Broadcaster);
    let nobody =
        AdminCommand::SetRole { channel: room("plain"), uid: UserId(9), role: Role::Audience };
    assert_eq!(w.admin(nobody).unwrap_err().name(), &ErrorName::NoSuchMember);
}

#[test]
fn an_operator_speaks_and_sets_attributes() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.advance(100);
    w.hush();
    let announce = |to: Option<&[u64]>| AdminCommand::Announce {
        channel: room("plain"),
        uid: UserId(99),
        data: "hello".to_owned(),
        to: to.map(|to| to.iter().map(|uid| UserId(*uid)).collect()),
    };
    assert_eq!(w.admin(announce(None)), Ok(AdminReply::Sent(2)));
    assert_eq!(w.admin(announce(Some(&[2, 2, 7]))), Ok(AdminReply::Sent(1)));
    assert_eq!(w.heard(a), ["message 99 hello"]);
    assert_eq!(w.notices(b).len(), 1);
    let many: Vec<u64> = (0..65).collect();
    let error = w.admin(announce(Some(&many))).unwrap_err();
    assert_eq!(error.name(), &ErrorName::TooManyRecipients);
    let patch = patch(&[("title", "new")]);
    let set = AdminCommand::SetAttributes { channel: room("plain"), patch };
    assert_eq!(w.admin(set), Ok(AdminReply::Done));
    assert_eq!(show(&mut w).expect("there").attributes["title"], "new");
    w.advance(100);
    assert_eq!(w.heard(b).len(), 2, "the message and the attributes");
}

#[test]
fn lists_come_in_pages() {
    let mut w = World::new();
    for name in ["b", "a", "c"] {
        w.admit(entry(1).channel(name));
    }
    w.admit(entry(1).app("reject").channel("z"));
    let page = |w: &mut World, after: Option<&str>, limit| {
        let appkey = room("plain").appkey;
        let after = after.map(|name| name.parse().expect("valid"));
        match w.admin(AdminCommand::PageChannels { appkey, after, limit }) {
            Ok(AdminReply::Channels(views)) => {
                views.into_iter().map(|view| view.channel.name.to_string()).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(page(&mut w, None, 2), ["a", "b"]);
    assert_eq!(page(&mut w, Some("b"), 2), ["c"]);
    assert!(page(&mut w, Some("c"), 2).is_empty());
    for uid in [5, 3, 4] {
        w.join(uid);
    }
    let page = |w: &mut World, after: Option<u64>, limit| {
        let (channel, after) = (room("plain"), after.map(UserId));
        match w.admin(AdminCommand::PageMembers { channel, after, limit }) {
            Ok(AdminReply::Members(members)) => {
                members.into_iter().map(|member| member.uid.0).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(page(&mut w, None, 2), [3, 4]);
    assert_eq!(page(&mut w, Some(4), 2), [5]);
}

//! Proves no rule of the protocol: what operators create, change and see.

use lianmai_protocol::message::Call;
use lianmai_protocol::message::session::Kick;
use lianmai_protocol::{CloseCode, ErrorName, KindSet, MediaKind, Role, RpcError, UserId};
use lianmai_signal_engine::output::{ChannelDetail, MemberDetail};
use lianmai_signal_engine::record::ChannelRules;
use lianmai_signal_engine::task::{Draft, TaskChange};
use lianmai_signal_engine::{AdminCommand, AdminReply, ChannelKey, DuplicatePolicy, Event};

use crate::calls::*;
use crate::world::{Client, DiskMode, World, add, entry, room, task};

/// A day and the interval of the sweep.
const DAY_MS: u64 = 24 * 3600 * 1000 + 61_000;

fn create(w: &mut World, rules: ChannelRules, creator: Option<u64>) -> AdminReply {
    let (channel, creator) = (room("plain"), creator.map(UserId));
    let attributes = [("title".to_owned(), "T".to_owned())].into_iter().collect();
    w.admin(AdminCommand::CreateChannel { channel, creator, rules, attributes }).expect("made")
}

fn show(w: &mut World) -> Option<ChannelDetail> {
    match w.admin(AdminCommand::GetDetail(room("plain"))) {
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
    match w.admin(AdminCommand::GetMember { channel, uid }) {
        Ok(AdminReply::Members(mut members)) => members.pop().expect("one"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_prepared_channel_applies_its_rules_to_the_first_join() {
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
fn a_prepared_channel_waits_a_day_and_survives_a_crash() {
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
fn a_kept_channel_stays_until_it_is_closed() {
    let mut w = World::new();
    create(&mut w, ChannelRules { keep_empty: true, ..Default::default() }, None);
    let a = w.join(1);
    w.ok(a, leave());
    w.crash();
    w.advance(2 * DAY_MS);
    let shown = show(&mut w).expect("kept");
    assert_eq!((shown.view.members, shown.view.creator), (0, Some(UserId(1))));
    let close = AdminCommand::CloseChannel { channel: room("plain"), hold_s: 0, reason: None };
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
    w.skip_received();
    let kinds = KindSet::of(&MediaKind::Video);
    let bar =
        |kinds| AdminCommand::SetBarredKinds { channel: room("plain"), uid: UserId(1), kinds };
    assert_eq!(w.admin(bar(kinds)), Ok(AdminReply::Done));
    assert_eq!(w.admin(bar(kinds)), Ok(AdminReply::Done), "as before");
    assert_eq!(w.new_events(b), ["streamRemoved 1 video"]);
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
    w.skip_received();
    let announce = |to: Option<&[u64]>| AdminCommand::Announce {
        channel: room("plain"),
        uid: UserId(99),
        data: "hello".to_owned(),
        to: to.map(|to| to.iter().map(|uid| UserId(*uid)).collect()),
    };
    assert_eq!(w.admin(announce(None)), Ok(AdminReply::Sent(2)));
    assert_eq!(w.admin(announce(Some(&[2, 2, 7]))), Ok(AdminReply::Sent(1)));
    assert_eq!(w.new_events(a), ["message 99 hello"]);
    assert_eq!(w.notices(b).len(), 1);
    let many: Vec<u64> = (0..65).collect();
    let error = w.admin(announce(Some(&many))).unwrap_err();
    assert_eq!(error.name(), &ErrorName::TooManyRecipients);
    let patch = patch(&[("title", "new")]);
    let set = AdminCommand::SetAttributes { channel: room("plain"), patch };
    assert_eq!(w.admin(set), Ok(AdminReply::Done));
    assert_eq!(show(&mut w).expect("there").attributes["title"], "new");
    let patch = [(String::new(), None)].into_iter().collect();
    let remove = AdminCommand::SetAttributes { channel: room("plain"), patch };
    let error = w.admin(remove).unwrap_err();
    assert_eq!(error.name(), &ErrorName::BadAttributes, "no attribute has that key");
    w.advance(100);
    assert_eq!(w.new_events(b).len(), 2, "the message and the attributes");
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

fn is_not_stored(answer: Result<AdminReply, RpcError>) {
    assert_eq!(answer.expect_err("it is not stored").name(), &ErrorName::NotStored);
}

/// Every change of an operator that a repetition finds made already.
fn changes(channel: &ChannelKey) -> Vec<AdminCommand> {
    let of = || channel.clone();
    let rules = ChannelRules { max_members: Some(20), ..Default::default() };
    let kinds = KindSet::of(&MediaKind::Video);
    vec![
        AdminCommand::SetAttributes { channel: of(), patch: patch(&[("title", "new")]) },
        AdminCommand::SetRules { channel: of(), rules },
        AdminCommand::SetRole { channel: of(), uid: UserId(2), role: Role::Audience },
        AdminCommand::SetBarredKinds { channel: of(), uid: UserId(2), kinds },
        // Somebody who is not here.
        AdminCommand::SetBarredKinds { channel: of(), uid: UserId(7), kinds },
    ]
}

/// Proves RST-5.
#[test]
fn rst_5_a_repeated_change_of_an_operator_waits_until_it_is_stored() {
    let room = room("creator");
    for change in changes(&room) {
        let mut w = World::new();
        let a = w.admit(entry(1).app("creator"));
        w.admit(entry(2).app("creator"));
        w.disk.mode = DiskMode::Fail;
        is_not_stored(w.admin(change.clone()));
        w.advance(100);
        w.skip_received();
        // It is so already, and yet no restart would know it.
        is_not_stored(w.admin(change.clone()));
        // Not while the write of before has no answer, either, nor when that is one that it failed.
        w.disk.mode = DiskMode::Hold;
        w.admin_later(change.clone());
        w.admin_later(change.clone());
        w.answer_held(&[false, false]);
        w.disk.mode = DiskMode::AtOnce;
        assert_eq!(w.admin(change.clone()), Ok(AdminReply::Done));
        w.advance(100);
        assert!(w.new_events(a).is_empty(), "no event is sent twice: {change:?}");
        let shown = |w: &mut World| {
            let detail = w.admin(AdminCommand::GetDetail(room.clone())).expect("there");
            let AdminReply::Detail(detail) = detail else { panic!("{detail:?}") };
            let uid = UserId(2);
            let member = w.admin(AdminCommand::GetMember { channel: room.clone(), uid });
            let Ok(AdminReply::Members(members)) = member else { panic!("{member:?}") };
            (detail.attributes, detail.rules, members[0].role.clone(), members[0].barred)
        };
        let before = shown(&mut w);
        w.crash();
        assert_eq!(shown(&mut w), before, "{change:?}");
        let c = w.admit(entry(7).app("creator"));
        let barred = matches!(change, AdminCommand::SetBarredKinds { uid: UserId(7), .. });
        assert_eq!(w.ask(c, publish("video")).is_err(), barred, "{change:?}");
    }
}

/// Proves RST-5: members and operators wait for each other's changes.
#[test]
fn rst_5_a_moderator_that_repeats_an_operators_change_waits_until_it_is_stored() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    let b = w.admit(entry(2).app("creator"));
    let role = |role| AdminCommand::SetRole { channel: room("creator"), uid: UserId(2), role };
    w.disk.mode = DiskMode::Fail;
    is_not_stored(w.admin(role(Role::Audience)));
    assert_eq!(w.err(a, set_role_of(2, "audience")), ErrorName::NotStored);
    is_not_stored(w.admin(role(Role::Audience)));
    w.disk.mode = DiskMode::AtOnce;
    w.ok(a, set_role_of(2, "audience"));
    // It is stored: an answer to a member needs no write.
    w.disk.mode = DiskMode::Hold;
    w.ok(a, set_role_of(2, "audience"));
    w.disk.mode = DiskMode::AtOnce;
    w.crash();
    let (b, _) = w.resume(b);
    assert_eq!(w.err(b, set_role("broadcaster")), ErrorName::Forbidden, "it is kept down");
    // And the other way round.
    let (a, _) = w.resume(a);
    w.disk.mode = DiskMode::Fail;
    assert_eq!(w.err(a, set_role_of(2, "broadcaster")), ErrorName::NotStored);
    is_not_stored(w.admin(role(Role::Broadcaster)));
    w.disk.mode = DiskMode::AtOnce;
    assert_eq!(w.admin(role(Role::Broadcaster)), Ok(AdminReply::Done));
    w.crash();
    assert_eq!(w.member("creator", 2).expect("there").role, Role::Broadcaster);
}

/// Proves RST-5.
#[test]
fn rst_5_a_repeated_creation_of_a_channel_is_answered_when_stored() {
    let mut w = World::new();
    let make = || AdminCommand::CreateChannel {
        channel: room("plain"),
        creator: None,
        rules: ChannelRules::default(),
        attributes: Default::default(),
    };
    w.disk.mode = DiskMode::Fail;
    is_not_stored(w.admin(make()));
    is_not_stored(w.admin(make()));
    w.disk.mode = DiskMode::AtOnce;
    assert_eq!(w.admin(make()), Ok(AdminReply::Exists));
    w.crash();
    assert!(show(&mut w).is_some());
}

/// Proves RST-5.
#[test]
fn rst_5_a_repeated_lift_is_answered_when_stored() {
    let mut w = World::new();
    let m = w.admit(entry(1).app("creator"));
    let b = w.admit(entry(2).app("creator"));
    let channel = room("creator");
    w.ok(m, kick(3, 60));
    w.ok(m, kick(4, 60));
    w.ok(m, set_role_of(2, "audience"));
    let lift = AdminCommand::LiftBan { channel: channel.clone(), uid: Some(UserId(3)) };
    let lift_by = AdminCommand::LiftBansBy { appkey: channel.appkey.clone(), by: UserId(1) };
    w.disk.mode = DiskMode::Fail;
    is_not_stored(w.admin(lift.clone()));
    is_not_stored(w.admin(lift.clone()));
    is_not_stored(w.admin(lift_by.clone()));
    is_not_stored(w.admin(lift_by.clone()));
    // It holds already, and no restart would know it.
    assert!(w.enter(entry(4).app("creator")).is_ok());
    w.disk.mode = DiskMode::AtOnce;
    assert_eq!(w.admin(lift.clone()), Ok(AdminReply::Lifted(1)));
    assert_eq!(w.admin(lift.clone()), Ok(AdminReply::Lifted(0)), "it is stored");
    assert_eq!(w.admin(lift_by.clone()), Ok(AdminReply::Lifted(1)), "the other one");
    w.disk.mode = DiskMode::Hold;
    assert_eq!(w.admin(lift_by), Ok(AdminReply::Lifted(0)), "and the demotions");
    w.disk.mode = DiskMode::AtOnce;
    w.crash();
    assert_eq!(
        w.admin(AdminCommand::ListBansOfApp(channel.appkey)),
        Ok(AdminReply::Bans(Vec::new()))
    );
    assert!(w.enter(entry(3).app("creator")).is_ok());
    let (b, _) = w.resume(b);
    w.ok(b, set_role("broadcaster"));
    // Who is banned again is, whatever was lifted before.
    let (m, _) = w.resume(m);
    w.disk.mode = DiskMode::AtOnce;
    w.ok(m, kick(3, 60));
    w.disk.mode = DiskMode::Fail;
    is_not_stored(w.admin(lift));
    w.disk.mode = DiskMode::AtOnce;
    w.ok(m, kick(3, 60));
    w.crash();
    assert_eq!(w.refusal(entry(3).app("creator")), ErrorName::Banned);
    w.audit();
}

/// Proves TSK-2, RST-5.
#[test]
fn rst_5_unchanged_tasks_are_answered_when_stored() {
    let mut w = World::with_tasks();
    let a = w.join(1);
    let wire = task("a", "rtmp://h/live/a", &[1]);
    let draft = Draft::of_wire(&wire).expect("well-formed");
    w.disk.mode = DiskMode::Hold;
    let id = w.send(a, add(&[wire.clone()]));
    w.write_held();
    w.answer_held(&[false]);
    assert_eq!(w.error(a, id), ErrorName::NotStored);
    // It is so already, and yet no restart would know it.
    let name = |answer: Result<(), RpcError>| answer.map_err(|error| error.name().clone());
    let update = || TaskChange::Update(vec![draft.clone()]);
    w.disk.mode = DiskMode::Fail;
    assert_eq!(w.err(a, add(&[wire.clone()])), ErrorName::NotStored);
    assert_eq!(name(w.admin_tasks(update())), Err(ErrorName::NotStored));
    assert!(w.disk.tasks().is_empty());
    w.disk.mode = DiskMode::AtOnce;
    w.skip_received();
    assert_eq!(name(w.admin_tasks(update())), Ok(()));
    w.ok(a, add(&[wire]));
    w.advance(100);
    assert!(w.new_events(a).is_empty(), "no event is sent twice");
    assert_eq!(w.task_views().len(), 1);
    w.crash();
    assert_eq!(w.task_views().len(), 1);
}

/// What a kick tells: the others, the one who goes, and who follows the channel.
fn reports_of(run: impl FnOnce(&mut World, Client)) -> Vec<String> {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    let b = w.admit(entry(2).app("creator").name("B"));
    let c = w.admit(entry(3).app("creator"));
    w.push_url(b, "");
    w.push_url(b, "screenShare");
    w.ok(c, subscribe(2, "video"));
    w.advance(2_000);
    w.skip_received();
    w.disk.journal.clear();
    w.disk.history.clear();
    let mid = w.mid(b);
    run(&mut w, a);
    w.advance(2_000);
    assert_eq!(w.closed(b), Some(CloseCode::KICKED));
    let mut reports = vec!["the others".to_owned()];
    reports.extend([w.new_events(a), w.new_events(c)].concat());
    reports.push("who goes".to_owned());
    reports.extend(w.log(b));
    reports.push(format!("{:?}", w.notices(b)));
    reports.push(format!("{:?}", w.closing(b)));
    reports.push("who follows".to_owned());
    let is_left = |event: &Event| matches!(event, Event::MemberLeft { mid: of, .. } if *of == mid);
    assert_eq!(w.disk.journal.iter().filter(|(_, record)| is_left(&record.event)).count(), 1);
    reports.extend(w.disk.journal.iter().map(|event| format!("{event:?}")));
    reports.extend(w.disk.history.iter().map(|entry| format!("{entry:?}")));
    reports.push("the relay".to_owned());
    reports.push(format!("{:?} {:?}", w.cut, w.cut_viewers));
    // Where it wants to come in again.
    reports.push(format!("{:?}", w.refused(b)));
    reports.push(format!("{:?}", w.refusal(entry(2).app("creator"))));
    reports
}

/// Proves KIC-1: who kicks makes no difference to anybody else.
#[test]
fn kic_1_a_kick_by_an_operator_sends_the_same_notices_as_one_by_a_member() {
    for (duration_s, reason) in [(60, Some("rude".to_owned())), (90, None)] {
        let (uid, why) = (UserId(2), reason.clone());
        let by_member = reports_of(|w, a| {
            w.ok(a, Call::Kick(Kick { uid, duration_s, reason: why }));
        });
        let by_operator = reports_of(|w, _| {
            let channel = room("creator");
            let kick = AdminCommand::Kick { channel, uid, duration_s, reason };
            assert_eq!(w.admin(kick), Ok(AdminReply::Done));
        });
        assert_eq!(by_member, by_operator);
        let left = by_member.iter().filter(|line| line.contains("clientLeave 2 kicked")).count();
        assert_eq!(left, 3, "each member gets it once: {by_member:?}");
    }
}

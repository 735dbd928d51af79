//! The app's own state: changes by answers, changes by others, and the end of subscriptions.

use lianmai_client_sdk::Event;
use lianmai_client_sdk::protocol::message::event::*;
use lianmai_client_sdk::protocol::message::media::*;
use lianmai_client_sdk::protocol::message::notice::{
    MemberCount, TargetedMessage, TokenWillExpire,
};
use lianmai_client_sdk::protocol::message::session::*;
use lianmai_client_sdk::protocol::message::snapshot::StreamInfo;
use lianmai_client_sdk::protocol::message::{ChannelEvent, Notice, Request};
use lianmai_client_sdk::protocol::*;
use lianmai_client_sdk::session::*;

use super::support::*;

fn demotion() -> Vec<ChannelEvent> {
    vec![
        ChannelEvent::StreamRemoved(stream(ME, MY_MID, MediaKind::Audio, 1)),
        ChannelEvent::RoleChanged(RoleChanged { uid: ME, mid: MY_MID, role: Role::Audience }),
        ChannelEvent::ClientLeave(ClientLeave {
            uid: ME,
            mid: MY_MID,
            reason: LeaveReason::RoleChanged,
        }),
    ]
}

fn on_air() -> Rig {
    let mut rig = Rig::joined(Role::Broadcaster);
    let publish = Publish { media_type: MediaSelector::Kind(MediaKind::Audio), uid: None };
    let (_, request) = rig.send(Command::Publish(publish));
    rig.events(11, &[ChannelEvent::StreamAdded(stream(ME, MY_MID, MediaKind::Audio, 1))]);
    rig.frame(&result(&request, &published(11)));
    assert_eq!(told(&rig.drain()), ["2:Published"]);
    rig
}

/// Proves ORD-7, ROL-1.
#[test]
fn a_demotion_of_ones_own_is_silent() {
    let mut rig = on_air();
    let set = SetRole { role: Role::Audience, uid: None };
    let (_, request) = rig.send(Command::SetRole(set));
    rig.events(12, &demotion());
    rig.frame(&done(&request, 14));
    assert_eq!(told(&rig.drain()), ["3:Done"]);
    let picture = rig.picture();
    assert_eq!(picture.own.role, Role::Audience);
    assert!(picture.own.published.is_empty());
    assert!(!picture.members.contains_key(&ME));
}

/// Proves ROL-3.
#[test]
fn a_demotion_by_an_admin_is_told() {
    let mut rig = on_air();
    rig.events(12, &demotion());
    let events = app_events(&rig.drain());
    assert!(matches!(&events[0], Event::Unpublished { media_type: MediaKind::Audio }));
    assert!(matches!(&events[1], Event::RoleChanged(change) if change.uid == ME));
    assert_eq!(events.len(), 2);
}

/// Proves ORD-7.
#[test]
fn ones_own_leave_is_silent_until_it_is_over() {
    let mut rig = on_air();
    let (_, request) = rig.send(Command::Leave(Empty {}));
    let mut events = demotion();
    events.remove(1);
    rig.events(12, &events);
    rig.frame(&done(&request, 13));
    assert_eq!(told(&rig.drain()), ["connectionStateChange", "disconnected", "3:Done"]);
}

/// Proves ORD-7.
#[test]
fn a_mute_from_outside_is_told_and_ones_own_is_not() {
    let muted = |kind| ChannelEvent::Muted(MuteChange { uid: ME, mid: MY_MID, media_type: kind });
    let mut rig = Rig::joined(Role::Broadcaster);
    let (_, request) = rig
        .send(Command::Mute(Mute { media_type: MediaSelector::Kind(MediaKind::Audio), uid: None }));
    // A kind other than the requested one: another member caused it.
    rig.events(11, &[muted(MediaKind::Audio), muted(MediaKind::Video)]);
    rig.frame(&done(&request, 12));
    let outputs = rig.drain();
    assert_eq!(told(&outputs), ["muted", "2:Done"]);
    assert!(matches!(&app_events(&outputs)[0],
        Event::Muted(change) if change.media_type == MediaKind::Video));
    assert_eq!(rig.picture().own.muted, KindSet::AUDIO_VIDEO);
    assert_eq!(rig.picture().members[&ME].muted, KindSet::AUDIO_VIDEO);
}

/// Proves ATT-2, MUT-3.
#[test]
fn an_audience_member_learns_its_own_changes_from_answers() {
    let mut rig = Rig::joined(Role::Audience);
    let (_, request) = rig.send(Command::Mute(Mute::default()));
    rig.frame(&done(&request, 10));
    let attributes = [("mood".to_owned(), Some("good".to_owned()))].into_iter().collect();
    rig.drain();
    let set = SetAttributes { attributes, target: None, name: Some("Ann".to_owned()) };
    let (_, request) = rig.send(Command::SetAttributes(set));
    rig.frame(&done(&request, 10));
    rig.drain();
    let own = &rig.picture().own;
    assert_eq!(own.muted, KindSet::AUDIO_VIDEO);
    assert_eq!(own.attributes["mood"], "good");
    assert_eq!(own.name.as_deref(), Some("Ann"));
}

/// Answers may come in any order; their effects apply in the order of the calls.
/// Proves ORD-8.
#[test]
fn a_late_answer_of_an_earlier_call_undoes_no_later_one() {
    let mut bob = member(BOB, BOB_MID);
    bob.streams = vec![StreamInfo { media_type: MediaKind::Video, publication: Pub([3; 12]) }];
    let hello = snapshot(Role::Audience, 10, vec![bob]);
    let mut rig = Rig::joined_with(SessionConfig::new("ws://server/v1/signal"), hello);
    let mood = |mood: &str, more: &[(&str, &str)]| {
        let all = [("mood", mood)].into_iter().chain(more.iter().copied());
        let attributes = all.map(|(k, v)| (k.to_owned(), Some(v.to_owned()))).collect();
        Command::SetAttributes(SetAttributes { attributes, target: None, name: None })
    };
    let bobs = || Subscribe { uid: BOB, media_type: MediaKind::Video };
    let (_, grey) = rig.send(mood("grey", &[("seat", "1")]));
    let (_, unsubscribe) = rig.send(Command::Unsubscribe(bobs()));
    let (_, subscribe) = rig.send(Command::Subscribe(bobs()));
    let (_, blue) = rig.send(mood("blue", &[]));
    let answer = Subscribed { uid: BOB, url: "http://x".into(), urls: Urls::default(), seq: 10 };
    rig.frame(&done(&blue, 10));
    rig.frame(&result(&subscribe, &answer));
    rig.frame(&done(&unsubscribe, 10));
    rig.frame(&done(&grey, 10));
    rig.drain();
    let own = &rig.picture().own;
    assert_eq!(
        (own.attributes.0["mood"].as_str(), own.attributes.0["seat"].as_str()),
        ("blue", "1")
    );
    assert!(own.subscriptions.contains_key(&(BOB, MediaKind::Video)));
}

/// Proves SUB-3.
#[test]
fn a_subscription_lives_as_long_as_the_publication() {
    let mut bob = member(BOB, BOB_MID);
    bob.streams = vec![StreamInfo { media_type: MediaKind::Video, publication: Pub([3; 12]) }];
    let hello = snapshot(Role::Audience, 10, vec![bob]);
    let mut rig = Rig::joined_with(SessionConfig::new("ws://server/v1/signal"), hello);
    let wanted = Subscribe { uid: BOB, media_type: MediaKind::Video };
    let (_, request) = rig.send(Command::Subscribe(wanted.clone()));
    let answer = Subscribed { uid: BOB, url: "http://x".into(), urls: Urls::default(), seq: 10 };
    rig.frame(&result(&request, &answer));
    rig.drain();
    let key = (BOB, MediaKind::Video);
    assert_eq!(rig.picture().own.subscriptions[&key], Pub([3; 12]));

    rig.events(11, &[ChannelEvent::StreamRemoved(stream(BOB, BOB_MID, MediaKind::Video, 3))]);
    assert_eq!(told(&rig.drain()), ["streamRemoved"]);
    assert!(rig.picture().own.subscriptions.is_empty());

    rig.events(12, &[ChannelEvent::StreamAdded(stream(BOB, BOB_MID, MediaKind::Video, 4))]);
    let (_, request) = rig.send(Command::Subscribe(wanted.clone()));
    rig.frame(&result(&request, &Subscribed { seq: 12, ..answer }));
    rig.drain();
    assert_eq!(rig.picture().own.subscriptions[&key], Pub([4; 12]));
    let (_, request) = rig.send(Command::Unsubscribe(wanted));
    rig.frame(&done(&request, 12));
    rig.drain();
    assert!(rig.picture().own.subscriptions.is_empty());
}

/// Proves EVT-1, ORD-7.
#[test]
fn messages_of_others_are_heard_and_ones_own_are_not() {
    let mut rig = Rig::joined(Role::Audience);
    rig.events(11, &[says(ME, "mine"), says(BOB, "hello")]);
    let targeted = TargetedMessage { uid: BOB, data: "psst".to_owned(), n: 1 };
    rig.frame(&notice(Notice::Message(targeted)));
    let heard: Vec<(String, bool)> = app_events(&rig.drain())
        .into_iter()
        .map(|event| match event {
            Event::Message { data, targeted, .. } => (data, targeted),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(heard, [("hello".to_owned(), false), ("psst".to_owned(), true)]);
}

/// Proves NOT-1.
#[test]
fn notices_change_the_picture() {
    let mut rig = Rig::joined(Role::Audience);
    rig.frame(&notice(Notice::MemberCount(MemberCount { count: 99 })));
    assert_eq!(told(&rig.drain()), ["memberCount"]);
    assert_eq!(rig.picture().member_count, 99);
    rig.frame(&notice(Notice::TokenWillExpire(TokenWillExpire { expires_in_ms: 30_000 })));
    assert_eq!(told(&rig.drain()), ["tokenWillExpire"]);
    assert_eq!(rig.picture().own.token_expires_at, Some(MonoTime(rig.now + 30_000)));
}

/// A `renewToken` that is answered with these rights.
fn renew(rig: &mut Rig, rights: Rights, token_expires_in_ms: Option<u64>) -> Vec<Output> {
    let (_, request) = rig.send(Command::RenewToken(RenewToken { token: "t".to_owned() }));
    let seq = rig.picture().seq;
    rig.frame(&result(&request, &TokenRenewed { seq, rights, token_expires_in_ms }));
    rig.drain()
}

/// Proves TOK-1, TOK-2.
#[test]
fn a_renewed_token_replaces_rights_and_expiry() {
    let mut rig = Rig::joined(Role::Audience);
    assert_eq!(rig.picture().own.rights, Rights::MEMBER);
    let fewer = Rights { publish: KindSet::NONE, broadcast: false, ..Rights::MEMBER };
    let outputs = renew(&mut rig, fewer, Some(500));
    assert_eq!(told(&outputs), ["2:TokenRenewed"]);
    let own = &rig.picture().own;
    assert_eq!((own.rights, own.token_expires_at), (fewer, Some(MonoTime(rig.now + 500))));
    // More rights, and no expiry.
    let more = Rights { moderate: true, ..Rights::MEMBER };
    renew(&mut rig, more, None);
    assert_eq!((rig.picture().own.rights, rig.picture().own.token_expires_at), (more, None));
}

/// Proves TOK-1.
#[test]
fn a_refused_renewal_leaves_the_rights() {
    let mut rig = Rig::joined(Role::Audience);
    let before = rig.picture().own.clone();
    let (_, request) = rig.send(Command::RenewToken(RenewToken { token: "t".to_owned() }));
    rig.frame(&refusal(&request, ErrorName::TokenInvalid));
    assert_eq!(told(&rig.drain()), ["2:tokenInvalid"]);
    assert_eq!(rig.picture().own, before);
}

/// Proves ORD-4, TOK-1.
#[test]
fn what_a_renewed_token_takes_away_is_gone_before_its_answer() {
    let mut rig = on_air();
    let (_, request) = rig.send(Command::RenewToken(RenewToken { token: "t".to_owned() }));
    rig.events(12, &demotion());
    rig.drain();
    assert_eq!(rig.picture().own.rights, Rights::MEMBER, "only the answer changes the rights");
    let rights = Rights { publish: KindSet::NONE, broadcast: false, ..Rights::MEMBER };
    rig.frame(&result(&request, &TokenRenewed { seq: 14, rights, token_expires_in_ms: None }));
    rig.drain();
    let own = &rig.picture().own;
    assert_eq!((own.rights, own.role.clone()), (rights, Role::Audience));
    assert!(own.published.is_empty());
}

/// Proves CLI-2, CLI-6.
#[test]
fn an_answer_of_renew_token_without_rights_is_a_gap() {
    let mut rig = Rig::joined(Role::Audience);
    let (_, request) = rig.send(Command::RenewToken(RenewToken { token: "t".to_owned() }));
    rig.frame(&done(&request, 10));
    assert_eq!(close_code(&rig.drain()), Some(CloseCode::GAP.0));
}

/// Subscribed to Bob's audio and video, at seq 10.
fn watching() -> Rig {
    let mut bob = member(BOB, BOB_MID);
    let kinds = [(MediaKind::Audio, 3), (MediaKind::Video, 4)];
    let streams =
        kinds.clone().map(|(media_type, n)| StreamInfo { media_type, publication: Pub([n; 12]) });
    bob.streams = streams.into();
    let hello = snapshot(Role::Audience, 10, vec![bob]);
    let mut rig = Rig::joined_with(SessionConfig::new("ws://server/v1/signal"), hello);
    for (media_type, _) in kinds {
        let (_, request) = rig.send(Command::Subscribe(Subscribe { uid: BOB, media_type }));
        rig.frame(&result(&request, &subscribed(10)));
        rig.drain();
    }
    rig
}

fn subscribed(seq: u64) -> Subscribed {
    Subscribed { uid: BOB, url: "http://x".into(), urls: Urls::default(), seq }
}

/// Proves SUB-3, TOK-1.
#[test]
fn tok_1_a_renewed_token_ends_the_subscriptions_that_it_does_not_allow() {
    let mut rig = watching();
    let fewer = Rights { subscribe: KindSet::of(&MediaKind::Audio), ..Rights::MEMBER };
    renew(&mut rig, fewer, None);
    let left: Vec<_> = rig.picture().own.subscriptions.keys().cloned().collect();
    assert_eq!(left, [(BOB, MediaKind::Audio)]);
}

/// Proves no rule of the protocol: the picture is as of the output that was polled.
#[test]
fn the_picture_is_as_of_the_output_that_was_polled() {
    let mut rig = watching();
    let mut copy = Some(rig.picture().clone());
    let (_, request) = rig.send(Command::RenewToken(RenewToken { token: "t".to_owned() }));
    let rights = Rights { subscribe: KindSet::NONE, ..Rights::MEMBER };
    let token_expires_in_ms = Some(500);
    let renewed = TokenRenewed { seq: 10, rights, token_expires_in_ms };
    let (_, leave) = rig.send(Command::Leave(Empty {}));
    rig.frame(&array(&[
        result(&request, &renewed),
        notice(Notice::MemberCount(MemberCount { count: 99 })),
        batch(11, &[says(BOB, "bye")]),
        done(&leave, 11),
    ]));
    let mut changes = 0;
    while let Some(output) = rig.poll() {
        if let Output::Picture(change) = &output {
            change.apply(&mut copy);
            changes += 1;
        }
        if !matches!(output, Output::CloseSocket { .. }) {
            assert_eq!(copy.as_ref(), rig.session.picture(), "after {output:?}");
        }
    }
    assert_eq!(changes, 4);
}

/// Makes a call and resumes with these events replayed before the answer, which was given at seq 10.
fn asked_before(rig: &mut Rig, command: Command, events: &[ChannelEvent]) -> (CallId, Request) {
    let (call, request) = rig.send(command);
    rig.lose();
    let (_, resume) = rig.reopen();
    rig.frame(&replayed(&resume, 2));
    rig.events(11, events);
    rig.drain();
    (call, request)
}

/// Proves SUB-3.
#[test]
fn sub_3_an_answer_that_comes_again_does_not_revive_what_ended() {
    let stopped = ChannelEvent::StreamRemoved(stream(BOB, BOB_MID, MediaKind::Video, 4));
    let anew = ChannelEvent::StreamAdded(stream(BOB, BOB_MID, MediaKind::Video, 5));
    let video = || Command::Subscribe(Subscribe { uid: BOB, media_type: MediaKind::Video });
    let key = (BOB, MediaKind::Video);
    for (seq, lives) in [(10, false), (12, true)] {
        let mut rig = watching();
        let events = [stopped.clone(), anew.clone()];
        let (call, request) = asked_before(&mut rig, video(), &events);
        rig.frame(&result(&request, &subscribed(seq)));
        let outcome = outcome(&rig.drain(), call);
        let error = outcome.err().map(|error| error.name());
        assert_eq!(error, (!lives).then_some(ErrorName::Superseded));
        assert_eq!(rig.picture().own.subscriptions.contains_key(&key), lives);
    }

    // The same, reported as a difference.
    let mut rig = watching();
    let (call, request) = rig.send(video());
    rig.lose();
    let (_, resume) = rig.reopen();
    let mut bob = member(BOB, BOB_MID);
    let publication = Pub([5; 12]);
    bob.streams = vec![StreamInfo { media_type: MediaKind::Video, publication }];
    let truth = snapshot(Role::Audience, 13, vec![bob]);
    rig.frame(&resnapshot(&resume, ResumeReason::LogTrimmed, false, truth));
    rig.drain();
    rig.frame(&result(&request, &subscribed(10)));
    assert_eq!(outcome(&rig.drain(), call).unwrap_err().name(), ErrorName::Superseded);
    assert!(rig.picture().own.subscriptions.is_empty());
}

/// Proves MUT-3.
#[test]
fn mut_3_an_answer_of_before_a_change_of_role_tells_nothing_new() {
    let change = || MuteChange { uid: ME, mid: MY_MID, media_type: MediaKind::Audio };
    let role = |role| ChannelEvent::RoleChanged(RoleChanged { uid: ME, mid: MY_MID, role });
    // Muted as an audience member; then a moderator made the app a broadcaster, unmuted it, and reverted the role.
    let ChannelEvent::ClientJoin(join) = client_join(ME, MY_MID) else { panic!("a join") };
    let muted = KindSet::of(&MediaKind::Audio);
    let mut events = vec![
        ChannelEvent::ClientJoin(ClientJoin { muted, ..join }),
        role(Role::Broadcaster),
        ChannelEvent::Unmuted(change()),
    ];
    events.extend(demotion().split_off(1));
    let mute = Mute { media_type: MediaSelector::Kind(MediaKind::Audio), uid: None };
    for (seq, muted) in [(10, KindSet::NONE), (15, muted)] {
        let mut rig = Rig::joined(Role::Audience);
        let (_, request) = asked_before(&mut rig, Command::Mute(mute.clone()), &events);
        rig.frame(&done(&request, seq));
        rig.drain();
        assert_eq!(rig.picture().own.muted, muted);
    }
}

//! Restoring the app's state after a crash of the server or in a new membership (CLI-5).
//! Proves CLI-5.

use lianmai_client_sdk::Event;
use lianmai_client_sdk::protocol::codec::encode_error;
use lianmai_client_sdk::protocol::message::event::{ClientUpdate, MuteChange};
use lianmai_client_sdk::protocol::message::media::*;
use lianmai_client_sdk::protocol::message::notice::{Direction, SyncDone};
use lianmai_client_sdk::protocol::message::session::{Joined, *};
use lianmai_client_sdk::protocol::message::snapshot::{
    MemberInfo, OwnStream, StreamInfo, Subscription,
};
use lianmai_client_sdk::protocol::message::{Call, ChannelEvent, Notice, Request};
use lianmai_client_sdk::protocol::*;
use lianmai_client_sdk::session::*;

use super::crash::NEXT_EPOCH;
use super::rejoin::{NEW_MID, anew};
use super::support::*;

pub(crate) const VIDEO: MediaKind = MediaKind::Video;

pub(crate) fn bob(publication: u8) -> MemberInfo {
    let streams = vec![StreamInfo { media_type: VIDEO, publication: Pub([publication; 12]) }];
    MemberInfo { streams, ..member(BOB, BOB_MID) }
}

fn own(kind: MediaKind, publication: u8, generation: Gen) -> OwnStream {
    OwnStream { media_type: kind, publication: Pub([publication; 12]), generation }
}

fn push(url: &str, generation: Gen, seq: u64) -> Published {
    let urls = Urls::default();
    Published { uid: ME, url: url.to_owned(), urls, generation, seq }
}

pub(crate) fn pull(url: &str, seq: u64) -> Subscribed {
    Subscribed { uid: BOB, url: url.to_owned(), urls: Urls::default(), seq }
}

/// A broadcaster with audio and video on one URL and a screen on another, subscribed to Bob's video, at seq 13.
pub(crate) fn on_air() -> Rig {
    let hello = snapshot(Role::Broadcaster, 10, vec![bob(50)]);
    let mut rig = Rig::joined_with(SessionConfig::new("ws://server/v1/signal"), hello);
    let (_, request) = rig.send(publish());
    let kinds = [(MediaKind::Audio, 1), (VIDEO, 2)];
    rig.events(11, &kinds.map(|(k, p)| ChannelEvent::StreamAdded(stream(ME, MY_MID, k, p))));
    rig.frame(&result(&request, &push("rtmp://main", GEN, 12)));
    let screen = MediaSelector::Kind(MediaKind::ScreenShare);
    let (_, request) = rig.send(Command::Publish(Publish { media_type: screen, uid: None }));
    let added = ChannelEvent::StreamAdded(stream(ME, MY_MID, MediaKind::ScreenShare, 3));
    rig.events(13, &[added]);
    let other = Gen { route: 6, random: [6; 12] };
    rig.frame(&result(&request, &push("rtmp://screen", other, 13)));
    let (_, request) = rig.send(Command::Subscribe(Subscribe { uid: BOB, media_type: VIDEO }));
    rig.frame(&result(&request, &pull("rtmp://bob", 13)));
    rig.drain();
    rig
}

/// Resumes after a crash with the snapshot `truth`, and returns the outputs.
pub(crate) fn crashed(rig: &mut Rig, truth: Joined) -> Vec<Output> {
    rig.lose();
    let (_, request) = rig.reopen();
    let truth = Joined { epoch: NEXT_EPOCH, ..truth };
    rig.frame(&resnapshot(&request, ResumeReason::EpochChanged, true, truth));
    rig.drain()
}

pub(crate) fn remembered(rig: &Rig) -> Joined {
    let mut truth = snapshot(Role::Broadcaster, 1, vec![bob(50)]);
    let picture = rig.picture();
    for (kind, o) in &picture.own.published {
        truth.own.published.push(own(kind.clone(), o.publication.0[0], o.generation.unwrap()));
        let streams = &mut truth.members.iter_mut().find(|m| m.uid == ME).unwrap().streams;
        let publication = o.publication;
        streams.push(StreamInfo { media_type: kind.clone(), publication });
    }
    let publication = Pub([50; 12]);
    truth.own.subscriptions.push(Subscription { uid: BOB, media_type: VIDEO, publication });
    truth
}

pub(crate) fn at(seq: u64, events: &[ChannelEvent]) -> String {
    let numbered = events.iter().zip(seq..).map(|(event, seq)| {
        let position = lianmai_client_sdk::protocol::message::Position { epoch: NEXT_EPOCH, seq };
        lianmai_client_sdk::protocol::codec::encode_event(position, event)
    });
    array(&numbered.collect::<Vec<_>>())
}

fn at_done(request: &Request) -> String {
    result(request, &Done { seq: 1 })
}

pub(crate) fn head(request: &Request, seq: u64) -> String {
    result(request, &Pong { epoch: NEXT_EPOCH, seq })
}

pub(crate) fn syncs(outputs: &[Output]) -> Vec<(Direction, MediaKind, String)> {
    let syncs = app_events(outputs).into_iter().filter_map(|event| match event {
        Event::SyncDone(SyncDone { direction, media_type, url, .. }) => {
            Some((direction, media_type, url))
        }
        _ => None,
    });
    syncs.collect()
}

#[test]
fn cli_5_what_survived_a_crash_is_left_alone() {
    let mut rig = on_air();
    let truth = remembered(&rig);
    let outputs = crashed(&mut rig, truth);
    assert_eq!(methods(&outputs), ["ping"]);
    assert_eq!(told(&outputs), ["connectionStateChange"]);
    rig.frame(&head(&requests(&outputs)[0], 1));
    let outputs = rig.drain();
    assert_eq!(told(&outputs), ["reconnected"]);
    let wanted = ReconnectOutcome::Snapshot { reason: ResumeReason::EpochChanged };
    assert_eq!(reconnected(&outputs).unwrap().0, wanted);
}

#[test]
fn cli_5_what_the_crash_lost_is_published_again_and_its_url_is_told() {
    let mut rig = on_air();
    // The stored row is slightly older: without the video and the screen.
    let mut truth = remembered(&rig);
    truth.own.published.retain(|s| s.media_type == MediaKind::Audio);
    for member in &mut truth.members {
        member.streams.retain(|s| member.uid != ME || s.media_type == MediaKind::Audio);
    }
    let outputs = crashed(&mut rig, truth);
    let heard = told(&outputs);
    assert_eq!(heard, ["connectionStateChange", "unpublished", "unpublished"]);
    let sent = requests(&outputs);
    assert_eq!(methods(&outputs), ["ping", "publish", "publish", "ping"]);
    let of = |request: &Request| match &request.call {
        Call::Publish(publish) => publish.media_type.clone(),
        _ => panic!("publish"),
    };
    assert_eq!(of(&sent[1]), MediaSelector::Both);
    assert_eq!(of(&sent[2]), MediaSelector::Kind(MediaKind::ScreenShare));

    // Audio survived, so the main URL is unchanged and not reported.
    rig.frame(&at(2, &[ChannelEvent::StreamAdded(stream(ME, MY_MID, VIDEO, 22))]));
    rig.frame(&result(&sent[1], &push("rtmp://main", GEN, 2)));
    assert_eq!(told(&rig.drain()), ["published"]);
    let screen = stream(ME, MY_MID, MediaKind::ScreenShare, 23);
    rig.frame(&at(3, &[ChannelEvent::StreamAdded(screen)]));
    let generation = Gen { route: 7, random: [7; 12] };
    rig.frame(&result(&sent[2], &push("rtmp://screen2", generation, 3)));
    let outputs = rig.drain();
    assert_eq!(told(&outputs), ["published", "syncDone"]);
    let new = (Direction::Push, MediaKind::ScreenShare, "rtmp://screen2".to_owned());
    assert_eq!(syncs(&outputs), [new]);
    rig.frame(&head(&sent[0], 3));
    rig.frame(&head(&sent[3], 3));
    assert_eq!(told(&rig.drain()), ["reconnected"]);
    let published = &rig.picture().own.published;
    assert_eq!(published.len(), 3);
    assert_eq!(published[&MediaKind::ScreenShare].generation, Some(generation));
}

#[test]
fn cli_5_what_an_answer_ahead_of_its_events_restored_is_asked_for_again() {
    let mut rig = on_air();
    let mut truth = remembered(&rig);
    truth.own.subscriptions.clear();
    let outputs = crashed(&mut rig, truth);
    let asked = find(&requests(&outputs), "subscribe").clone();
    // An event before the answer is missing.
    rig.frame(&result(&asked, &pull("rtmp://bob2", 2)));
    assert_eq!(close_code(&rig.drain()), Some(4005));
    let (_, resume) = rig.reopen();
    rig.frame(&replayed(&resume, 3));
    let outputs = rig.drain();
    let again = find(&requests(&outputs), "subscribe").clone();
    assert_eq!(again.id, asked.id);
    rig.frame(&at(
        2,
        &[ChannelEvent::ClientUpdate(ClientUpdate {
            uid: BOB,
            mid: BOB_MID,
            name: None,
            attributes: Attributes::default(),
        })],
    ));
    rig.frame(&result(&again, &pull("rtmp://bob2", 2)));
    let new = (Direction::Pull, VIDEO, "rtmp://bob2".to_owned());
    assert_eq!(syncs(&rig.drain()), [new]);
}

/// Proves RES-10.
#[test]
fn res_10_where_a_moderator_decided_only_subscriptions_are_restored() {
    for streams in [vec![bob(50)], vec![]] {
        let mut rig = on_air();
        rig.lose();
        let (_, request) = rig.reopen();
        let is_there = !streams.is_empty();
        let truth = Joined { epoch: NEXT_EPOCH, ..snapshot(Role::Audience, 1, streams) };
        rig.frame(&resnapshot(&request, ResumeReason::EpochChanged, false, truth));
        let outputs = rig.drain();
        assert!(told(&outputs).contains(&"roleChanged".to_owned()));
        if !is_there {
            assert_eq!(methods(&outputs), ["ping"]);
            continue;
        }
        assert_eq!(methods(&outputs), ["ping", "subscribe"]);
        let sent = requests(&outputs);
        rig.frame(&result(&sent[1], &pull("rtmp://bob2", 1)));
        let new = (Direction::Pull, VIDEO, "rtmp://bob2".to_owned());
        assert_eq!(syncs(&rig.drain()), [new]);
        assert!(rig.picture().own.subscriptions.contains_key(&(BOB, VIDEO)));
    }
}

/// Proves JOI-2, RES-10.
#[test]
fn res_10_a_join_that_finds_its_own_membership_after_a_crash_restores() {
    let mut rig = on_air();
    rig.lose();
    let (_, request) = rig.reopen();
    rig.frame(&resume_refused(&request, ResumeReason::Invalid));
    let join = rig.opened();
    // The same membership, as the record has it: without what was published, and without subscriptions.
    let truth = Joined { epoch: NEXT_EPOCH, ..snapshot(Role::Broadcaster, 1, vec![bob(50)]) };
    assert_eq!(truth.mid, MY_MID);
    rig.frame(&result(&join, &truth));
    let outputs = rig.drain();
    assert_eq!(methods(&outputs), ["ping", "publish", "publish", "ping", "subscribe"]);
}

#[test]
fn cli_5_role_mutes_and_attributes_are_said_again() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let mute = Mute { media_type: MediaSelector::Kind(MediaKind::Audio), uid: None };
    let (_, request) = rig.send(Command::Mute(mute.clone()));
    let change = MuteChange { uid: ME, mid: MY_MID, media_type: MediaKind::Audio };
    rig.events(11, &[ChannelEvent::Muted(change)]);
    rig.frame(&done(&request, 11));
    let attributes = Attributes::from_iter([("a".to_owned(), "1".to_owned())]);
    let update = ClientUpdate { uid: ME, mid: MY_MID, name: Some("Ann".into()), attributes };
    rig.events(12, &[ChannelEvent::ClientUpdate(update)]);
    rig.drain();
    let mut truth = snapshot(Role::Audience, 1, vec![]);
    truth.own.attributes = Attributes::from_iter([("b".to_owned(), "2".to_owned())]);
    truth.own.muted = KindSet::of(&VIDEO);
    let outputs = crashed(&mut rig, truth);
    let sent = requests(&outputs);
    assert_eq!(methods(&outputs), ["ping", "setRole", "setAttributes", "mute", "unmute", "ping"]);
    assert_eq!(sent[1].call, Call::SetRole(SetRole { role: Role::Broadcaster, uid: None }));
    let patch = Map::from_iter([("a".to_owned(), Some("1".to_owned())), ("b".to_owned(), None)]);
    let name = Some("Ann".to_owned());
    assert_eq!(
        sent[2].call,
        Call::SetAttributes(SetAttributes { attributes: patch, target: None, name })
    );
    assert_eq!(sent[3].call, Call::Mute(mute));
    // The role is refused: the app was told of the loss before and receives no further event.
    for request in &sent[1..5] {
        rig.frame(&refusal(request, ErrorName::Forbidden));
    }
    rig.frame(&head(&sent[0], 1));
    rig.frame(&head(&sent[5], 1));
    assert_eq!(told(&rig.drain()), ["reconnected"]);
    assert_eq!(rig.picture().own.role, Role::Audience);
}

#[test]
fn cli_5_a_new_membership_is_what_the_old_one_was() {
    let mut rig = on_air();
    rig.lose();
    let (_, request) = rig.reopen();
    rig.frame(&resume_refused(&request, ResumeReason::Gone));
    rig.drain();
    let request = rig.opened();
    rig.frame(&result(&request, &anew(Role::Broadcaster, 20, vec![bob(50)])));
    let outputs = rig.drain();
    let sent = requests(&outputs);
    let names = ["ping", "publish", "publish", "ping", "subscribe"];
    assert_eq!(methods(&outputs), names);
    assert_eq!(
        told(&outputs),
        ["connectionStateChange", "unpublished", "unpublished", "unpublished"]
    );
    assert!(rig.picture().own.subscriptions.is_empty());

    let added = [(MediaKind::Audio, 31), (VIDEO, 32)];
    rig.events(21, &added.map(|(k, p)| ChannelEvent::StreamAdded(stream(ME, NEW_MID, k, p))));
    let generation = Gen { route: 8, random: [8; 12] };
    rig.frame(&result(&sent[1], &push("rtmp://main2", generation, 22)));
    rig.frame(&refusal(&sent[2], ErrorName::PublishForbidden));
    rig.frame(&result(&sent[4], &pull("rtmp://bob2", 22)));
    let outputs = rig.drain();
    assert_eq!(told(&outputs), ["published", "published", "syncDone", "syncDone"]);
    assert_eq!(
        syncs(&outputs),
        [
            (Direction::Push, MediaKind::Audio, "rtmp://main2".to_owned()),
            (Direction::Pull, VIDEO, "rtmp://bob2".to_owned())
        ]
    );
    rig.frame(&pong(&sent[0], 22));
    rig.frame(&pong(&sent[3], 22));
    assert_eq!(told(&rig.drain()), ["reconnected"]);
    assert_eq!(rig.picture().own.subscriptions.len(), 1);
}

#[test]
fn cli_5_a_subscription_that_kept_its_url_is_no_news() {
    let mut rig = on_air();
    let mut truth = remembered(&rig);
    truth.own.subscriptions.clear();
    let outputs = crashed(&mut rig, truth);
    let sent = requests(&outputs);
    assert_eq!(methods(&outputs), ["ping", "subscribe"]);
    rig.frame(&result(&sent[1], &pull("rtmp://bob", 1)));
    rig.frame(&head(&sent[0], 1));
    assert_eq!(told(&rig.drain()), ["reconnected"]);
    assert_eq!(rig.picture().own.subscriptions.len(), 1);
}

/// Proves IDS-6.
#[test]
fn cli_5_what_was_too_fast_does_not_undo_what_the_app_wants_meanwhile() {
    let mut rig = on_air();
    let mut truth = remembered(&rig);
    truth.own.published.clear();
    truth.members.iter_mut().find(|member| member.uid == ME).unwrap().streams.clear();
    let sent = requests(&crashed(&mut rig, truth));
    let publishes: Vec<&Request> = sent.iter().filter(|r| r.call.method() == "publish").collect();
    let video = || MediaSelector::Kind(VIDEO);
    // A call of the app before the refusal, and one after it.
    let (_, unpublish) = rig.send(Command::Unpublish(Publish { media_type: video(), uid: None }));
    rig.frame(&refusal(publishes[0], ErrorName::RateLimited));
    rig.frame(&refusal(publishes[1], ErrorName::RateLimited));
    rig.frame(&at_done(&unpublish));
    let screen = MediaSelector::Kind(MediaKind::ScreenShare);
    rig.send(Command::Unpublish(Publish { media_type: screen, uid: None }));
    let outputs = rig.advance(5_000);
    let again: Vec<_> = requests(&outputs).into_iter().filter(|r| !is_ping(r)).collect();
    let audio = MediaSelector::Kind(MediaKind::Audio);
    let rest = Call::Publish(Publish { media_type: audio, uid: None });
    assert_eq!(again.iter().map(|r| &r.call).collect::<Vec<_>>(), [&rest]);
}

/// Proves CLI-5, IDS-7.
#[test]
fn cli_5_a_restore_that_is_cut_off_goes_on_with_the_next_connection() {
    let mut rig = on_air();
    let truth = snapshot(Role::Broadcaster, 1, vec![bob(50)]);
    let first = requests(&crashed(&mut rig, truth.clone()));
    // In the same epoch the answers to the commands are still expected.
    rig.lose();
    let (_, request) = rig.reopen();
    rig.frame(&replayed(&request, 3));
    let outputs = rig.drain();
    let again = requests(&outputs);
    assert_eq!(methods(&outputs), ["ping", "publish", "publish", "subscribe", "ping"]);
    assert_eq!(again[1].id, find(&first, "publish").id);
    // In another epoch the commands are planned again: nothing is forgotten.
    rig.lose();
    let (_, request) = rig.reopen();
    let truth = Joined { epoch: Epoch([3; 12]), ..truth };
    rig.frame(&resnapshot(&request, ResumeReason::EpochChanged, true, truth));
    let outputs = rig.drain();
    assert_eq!(methods(&outputs), ["ping", "publish", "publish", "ping", "subscribe"]);
    assert!(requests(&outputs)[1].id > again[4].id);
}

/// The `publish` of the session took effect, but the answer with its URL is lost with the epoch.
#[test]
fn cli_5_a_url_that_the_app_never_got_is_asked_for_again() {
    let mut rig = on_air();
    let held = remembered(&rig);
    let mut truth = held.clone();
    truth.own.published.clear();
    truth.members.iter_mut().find(|member| member.uid == ME).unwrap().streams.clear();
    crashed(&mut rig, truth);
    rig.lose();
    let (_, request) = rig.reopen();
    let mut truth = Joined { epoch: Epoch([3; 12]), ..held };
    for own in &mut truth.own.published {
        own.generation = Gen { route: 9, random: [9; 12] };
    }
    rig.frame(&resnapshot(&request, ResumeReason::EpochChanged, true, truth));
    let outputs = rig.drain();
    assert_eq!(methods(&outputs), ["ping", "publish", "publish", "ping"]);
    let answer = push("rtmp://new", Gen { route: 9, random: [9; 12] }, 1);
    rig.frame(&result(&requests(&outputs)[1], &answer));
    let told = syncs(&rig.drain());
    assert_eq!(told, [(Direction::Push, MediaKind::Audio, "rtmp://new".to_owned())]);
}

/// As above, and the app was told that it took effect: it still has no URL.
/// Proves CLI-5.
#[test]
fn cli_5_a_url_is_asked_for_again_though_its_event_came() {
    let mut rig = on_air();
    let held = remembered(&rig);
    let mut truth = held.clone();
    truth.own.published.clear();
    truth.members.iter_mut().find(|member| member.uid == ME).unwrap().streams.clear();
    crashed(&mut rig, truth);
    let kinds = [(MediaKind::Audio, 1), (VIDEO, 2), (MediaKind::ScreenShare, 3)];
    rig.frame(&at(2, &kinds.map(|(k, p)| ChannelEvent::StreamAdded(stream(ME, MY_MID, k, p)))));
    assert_eq!(told(&rig.drain()), ["published", "published", "published"]);
    rig.lose();
    let (_, request) = rig.reopen();
    let truth = Joined { epoch: Epoch([3; 12]), ..held };
    rig.frame(&resnapshot(&request, ResumeReason::EpochChanged, true, truth));
    assert_eq!(methods(&rig.drain()), ["ping", "publish", "publish", "ping"]);
}

/// Proves CLI-5, IDS-6.
#[test]
fn ids_6_many_subscriptions_are_restored_at_a_pace_that_the_server_bears() {
    const MANY: u64 = 200;
    let member_of = |n: u64| {
        let publication = Pub([9; 12]);
        let streams = vec![StreamInfo { media_type: VIDEO, publication }];
        let mid = Mid([u8::try_from(n % 256).unwrap(); 12]);
        MemberInfo { streams, ..member(UserId(1_000 + n), mid) }
    };
    let members: Vec<MemberInfo> = (0..MANY).map(member_of).collect();
    let mut hello = snapshot(Role::Audience, 10, members.clone());
    let subscription =
        |m: &MemberInfo| Subscription { uid: m.uid, media_type: VIDEO, publication: Pub([9; 12]) };
    hello.own.subscriptions = members.iter().map(subscription).collect();
    let mut rig = Rig::joined_with(SessionConfig::new("ws://server/v1/signal"), hello);
    let mut outputs = crashed(&mut rig, snapshot(Role::Audience, 1, members));

    // A server that allows a burst of 40 and 20 per second refuses none of them.
    let (mut budget, mut last, mut answered) = (40.0_f64, rig.now, 0);
    let mut refused = false;
    while answered < MANY {
        for request in requests(&outputs) {
            budget = (budget + (rig.now - last) as f64 / 50.0).min(40.0);
            last = rig.now;
            budget -= 1.0;
            assert!(budget >= 0.0, "after {answered}");
            match &request.call {
                Call::Subscribe(_) if answered == 20 && !refused => {
                    refused = true;
                    let error = RpcError::new(ErrorName::RateLimited).retry_after_ms(350);
                    rig.frame(&encode_error(Some(request.id), &error));
                }
                Call::Subscribe(_) => {
                    answered += 1;
                    rig.frame(&result(&request, &pull(&answered.to_string(), 1)));
                }
                _ => rig.frame(&head(&request, 1)),
            }
        }
        rig.drain();
        outputs = rig.advance(50);
    }
    assert_eq!(rig.picture().own.subscriptions.len() as u64, MANY);
}

/// Proves CLI-5, NOT-1.
#[test]
fn not_1_the_servers_own_sync_done_is_remembered() {
    let mut rig = on_air();
    rig.frame(&notice(Notice::SyncDone(SyncDone {
        uid: BOB,
        direction: Direction::Pull,
        media_type: VIDEO,
        url: "rtmp://bob-moved".to_owned(),
        urls: Urls::default(),
    })));
    rig.drain();
    let mut truth = remembered(&rig);
    truth.own.subscriptions.clear();
    let sent = requests(&crashed(&mut rig, truth));
    rig.frame(&result(find(&sent, "subscribe"), &pull("rtmp://bob-moved", 1)));
    assert!(syncs(&rig.drain()).is_empty());
}

#[test]
fn lea_3_who_leaves_restores_nothing() {
    let mut rig = on_air();
    let truth = snapshot(Role::Broadcaster, 1, vec![bob(50)]);
    crashed(&mut rig, truth);
    rig.call(Command::Leave(Empty {}));
    let outputs = rig.drain();
    assert_eq!(methods(&outputs), ["leave"]);
    assert!(methods(&rig.advance(1_000)).is_empty());
}

//! Publish and subscribe: URLs, generations, cuts and permissions.

use lianmai_protocol::MediaKind::{Audio, Video};
use lianmai_protocol::message::Call;
use lianmai_protocol::message::media::Publish;
use lianmai_protocol::message::session::Joined;
use lianmai_protocol::{ErrorName, KindSet, UserId};
use lianmai_signal_engine::{Denial, Publication, PushKind};

use crate::calls::*;
use crate::world::{World, entry, gen_of, room};

const UNKNOWN: Result<(), Denial> = Err(Denial::UnknownStream);
const NOT_SUBSCRIBED: Result<(), Denial> = Err(Denial::NotSubscribed);

/// Proves PUB-2, PUB-3, PUB-4.
#[test]
fn audio_and_video_share_one_push_url_and_publish_is_idempotent() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.advance(100);
    w.skip_received();
    let (url, generation) = w.push_url(a, "audio");
    assert_eq!(w.push_url(a, "video"), (url.clone(), generation));
    assert_eq!(w.push_url(a, ""), (url.clone(), generation));
    assert_eq!(w.push_url(a, "audio"), (url, generation));
    assert_eq!(w.mints, 1, "one URL is issued once");
    w.advance(100);
    assert_eq!(w.new_events(b), ["streamAdded 1 audio", "streamAdded 1 video"]);
    assert_eq!(w.engine.stats().streams, 1);
    assert_eq!(w.may_push(generation), Ok(()));
    w.audit();
}

/// Proves PUB-3, PUB-5, URL-5.
#[test]
fn screen_share_and_slave_audio_have_urls_of_their_own() {
    let mut w = World::new();
    let a = w.join(1);
    let (_, main) = w.push_url(a, "");
    let (_, screen) = w.push_url(a, "screenShare");
    let (_, slave) = w.push_url(a, "slaveAudio");
    assert!(main != screen && screen != slave && main != slave);
    assert_eq!(w.engine.stats().streams, 3);
    w.ok(a, unpublish(""));
    assert!(w.cut.contains(&main) && w.cut.len() == 1);
    assert_eq!(w.may_push(screen), Ok(()));
    w.ok(a, unpublish("screenShare"));
    w.ok(a, unpublish("slaveAudio"));
    assert_eq!(w.cut.len(), 3);
    w.audit();
}

/// Proves no rule of the protocol: the owner and the kind of a stream, as the shell sees them.
#[test]
fn a_stream_that_lives_has_an_owner_and_a_kind() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    let (_, main) = w.push_url(a, "video");
    let (_, screen) = w.push_url(b, "screenShare");
    let (_, slave) = w.push_url(b, "slaveAudio");
    let of = |uid, kind| Some(Publication { channel: room("plain"), uid: UserId(uid), kind });
    assert_eq!(w.engine.publication(main), of(1, PushKind::Av));
    assert_eq!(w.engine.publication(screen), of(2, PushKind::ScreenShare));
    assert_eq!(w.engine.publication(slave), of(2, PushKind::SlaveAudio));
    w.ok(a, unpublish("video"));
    assert_eq!(w.engine.publication(main), None);
    w.audit();
}

/// Proves PUB-5, PUB-6, URL-5.
#[test]
fn the_main_url_dies_with_the_last_of_its_kinds_and_never_comes_back() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    let (_, generation) = w.push_url(a, "");
    w.advance(100);
    w.skip_received();
    w.ok(a, unpublish("audio"));
    assert_eq!(w.new_events(a), ["streamRemoved 1 audio"]);
    assert!(w.cut.is_empty(), "video is still published");
    assert_eq!(w.may_push(generation), Ok(()));
    assert_eq!(w.push_url(a, "audio").1, generation);
    w.ok(a, unpublish(""));
    assert!(w.cut.contains(&generation));
    assert_eq!(w.may_push(generation), UNKNOWN);
    let (_, next) = w.push_url(a, "audio");
    assert_ne!(next, generation);
    assert_eq!((w.may_push(generation), w.may_push(next)), (UNKNOWN, Ok(())));
    w.advance(100);
    let heard = w.new_events(b);
    assert_eq!(heard.iter().filter(|e| e.starts_with("streamAdded")).count(), 2);
    assert_eq!(heard.iter().filter(|e| e.starts_with("streamRemoved")).count(), 3);
    w.audit();
}

/// Proves MET-3, PUB-5.
#[test]
fn unpublish_of_what_is_not_published_is_a_quiet_no_op() {
    let mut w = World::new();
    let a = w.join(1);
    let (_, generation) = w.push_url(a, "video");
    w.skip_received();
    w.ok(a, unpublish("audio"));
    w.ok(a, unpublish("screenShare"));
    assert!(w.new_events(a).is_empty());
    assert_eq!(w.may_push(generation), Ok(()));
}

/// Proves FWD-3, PUB-1, PUB-7.
#[test]
fn publish_is_refused_without_role_right_kind_or_for_another() {
    let mut w = World::new();
    let a = w.admit(entry(1).audience());
    assert_eq!(w.err(a, publish("")), ErrorName::NotBroadcaster);
    let b = w.admit(entry(2).rights(|rights| {
        rights.publish = [lianmai_protocol::MediaKind::Audio].into_iter().collect();
    }));
    assert_eq!(w.err(b, publish("video")), ErrorName::PublishForbidden);
    assert_eq!(w.err(b, publish("")), ErrorName::PublishForbidden);
    assert_eq!(w.err(b, publish("smell")), ErrorName::BadMediaType);
    assert_eq!(w.err(b, unpublish("smell")), ErrorName::BadMediaType);
    let other = Publish { media_type: selector("audio"), uid: Some(UserId(1)) };
    assert_eq!(w.err(b, Call::Publish(other)), ErrorName::Forbidden);
    assert_eq!(w.mints, 0);
    w.ok(b, publish("audio"));
    w.audit();
}

/// Proves SUB-1, SUB-4.
#[test]
fn audio_and_video_of_one_publisher_have_one_pull_url_and_subscribe_is_idempotent() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    let c = w.join(3);
    let (_, generation) = w.push_url(a, "");
    let (_, screen) = w.push_url(a, "screenShare");
    let events = w.engine.stats().events;
    let url = w.pull_url(b, 1, "audio");
    assert_eq!(gen_of(&url), generation);
    assert_eq!(w.pull_url(b, 1, "video"), url);
    assert_eq!(w.pull_url(b, 1, "audio"), url);
    assert_eq!(gen_of(&w.pull_url(b, 1, "screenShare")), screen);
    assert_eq!(w.mints, 4);
    assert_ne!(w.pull_url(c, 1, "audio"), url, "each viewer has its own");
    assert_eq!(w.engine.stats().events, events, "a subscription causes no event");
    let (b, c) = (w.mid(b), w.mid(c));
    assert_eq!(w.may_play(generation, b), Ok(()));
    assert_eq!(w.may_play(generation, c), Ok(()));
    assert_eq!(w.may_play(screen, c), NOT_SUBSCRIBED);
    assert_eq!(w.may_play(generation, w.mid(a)), NOT_SUBSCRIBED);
}

/// Proves FWD-3, MET-4, SUB-2.
#[test]
fn subscribe_is_refused_without_target_publication_or_right_and_for_oneself() {
    let mut w = World::new();
    let a = w.join(1);
    let hidden = w.admit(entry(2).audience());
    w.push_url(a, "audio");
    let b = w.admit(entry(3).rights(|rights| {
        rights.subscribe = [lianmai_protocol::MediaKind::Video].into_iter().collect();
    }));
    assert_eq!(w.err(b, subscribe(9, "video")), ErrorName::NoSuchMember);
    assert_eq!(w.err(b, subscribe(2, "video")), ErrorName::NoSuchMember, "an invisible member");
    assert_eq!(w.err(b, subscribe(3, "video")), ErrorName::SelfTarget);
    assert_eq!(w.err(b, subscribe(1, "video")), ErrorName::NotPublished);
    assert_eq!(w.err(b, subscribe(1, "audio")), ErrorName::SubscribeForbidden);
    assert_eq!(w.err(b, subscribe(1, "smell")), ErrorName::BadMediaType);
    assert_eq!(w.err(b, unsubscribe(1, "smell")), ErrorName::BadMediaType);
    assert_eq!(w.mints, 1, "only the push URL");
    w.ok(hidden, subscribe(1, "audio"));
}

/// Proves PUB-6, SUB-3, SUB-5, URL-6.
#[test]
fn a_subscription_ends_with_its_publication() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    let c = w.join(3);
    let (_, generation) = w.push_url(a, "");
    w.pull_url(b, 1, "audio");
    w.pull_url(c, 1, "audio");
    w.pull_url(c, 1, "video");
    let (b_mid, c_mid) = (w.mid(b), w.mid(c));
    w.ok(a, unpublish("audio"));
    assert_eq!(w.cut_viewers, [(generation, b_mid)], "c still sees");
    assert_eq!(w.may_play(generation, b_mid), NOT_SUBSCRIBED);
    assert_eq!(w.may_play(generation, c_mid), Ok(()));
    // A later publication of the same kind needs a new subscribe.
    w.push_url(a, "audio");
    assert_eq!(w.may_play(generation, b_mid), NOT_SUBSCRIBED);
    w.pull_url(b, 1, "audio");
    assert_eq!(w.may_play(generation, b_mid), Ok(()));
    w.ok(a, unpublish(""));
    assert!(w.cut.contains(&generation));
    assert_eq!(w.may_play(generation, b_mid), UNKNOWN);
    assert_eq!(w.cut_viewers.len(), 1, "the cut of the stream cuts its viewers");
    let (_, next) = w.push_url(a, "");
    assert_eq!(w.may_play(next, b_mid), NOT_SUBSCRIBED);
}

/// Proves SUB-5, SUB-6, URL-6.
#[test]
fn unsubscribe_of_the_last_kind_cuts_that_viewer_only() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    let c = w.join(3);
    let (_, generation) = w.push_url(a, "");
    w.pull_url(b, 1, "audio");
    w.pull_url(b, 1, "video");
    w.pull_url(c, 1, "audio");
    w.ok(b, unsubscribe(1, "audio"));
    assert!(w.cut_viewers.is_empty());
    w.ok(b, unsubscribe(1, "video"));
    let (b_mid, c_mid) = (w.mid(b), w.mid(c));
    assert_eq!(w.cut_viewers, [(generation, b_mid)]);
    assert_eq!(w.may_play(generation, b_mid), NOT_SUBSCRIBED);
    assert_eq!(w.may_play(generation, c_mid), Ok(()));
    w.ok(b, unsubscribe(1, "video"));
    w.ok(b, unsubscribe(9, "video"));
    assert_eq!(w.cut_viewers.len(), 1, "unsubscribing twice is a no-op");
    assert!(w.cut.is_empty());
}

/// Proves PUB-6, SUB-5.
#[test]
fn an_ended_kind_keeps_no_play() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    let (_, generation) = w.push_url(a, "");
    w.pull_url(b, 1, "audio");
    w.pull_url(b, 1, "video");
    w.ok(a, unpublish("audio"));
    w.push_url(a, "audio");
    w.ok(b, unsubscribe(1, "video"));
    let b_mid = w.mid(b);
    assert_eq!(w.cut_viewers, [(generation, b_mid)], "the new audio was not subscribed");
    assert_eq!(w.may_play(generation, b_mid), NOT_SUBSCRIBED);
}

/// Proves SUB-3, URL-6.
#[test]
fn a_viewer_that_leaves_is_cut_and_the_publisher_goes_on() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    let (_, generation) = w.push_url(a, "");
    w.pull_url(b, 1, "audio");
    let mid = w.mid(b);
    w.ok(b, leave());
    assert_eq!(w.cut_viewers, [(generation, mid)]);
    assert_eq!(w.may_play(generation, mid), NOT_SUBSCRIBED);
    assert_eq!(w.may_push(generation), Ok(()));
    assert!(w.cut.is_empty());
    w.audit();
}

/// Proves LEA-1, URL-5.
#[test]
fn a_publisher_that_leaves_is_cut_and_others_are_not() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    let (_, of_a) = w.push_url(a, "");
    let (_, of_b) = w.push_url(b, "");
    w.pull_url(b, 1, "audio");
    w.pull_url(a, 2, "audio");
    let a_mid = w.mid(a);
    w.ok(a, leave());
    assert_eq!(w.cut.iter().collect::<Vec<_>>(), [&of_a]);
    assert_eq!((w.may_push(of_a), w.may_push(of_b)), (UNKNOWN, Ok(())));
    assert_eq!(w.may_play(of_b, a_mid), NOT_SUBSCRIBED);
    w.audit();
}

/// Proves PUB-4, SUB-4, URL-7.
#[test]
fn a_push_url_near_its_end_is_issued_again_for_the_same_life() {
    let mut w = World::new();
    w.url_life_ms = 5_000;
    let a = w.join(1);
    let b = w.join(2);
    let (first, generation) = w.push_url(a, "");
    let pull = w.pull_url(b, 1, "audio");
    w.advance(4_999);
    assert_eq!(w.push_url(a, "").0, first);
    assert_eq!(w.pull_url(b, 1, "audio"), pull);
    w.advance(1);
    w.skip_received();
    let (second, same) = w.push_url(a, "");
    assert_ne!(second, first);
    assert_eq!(same, generation);
    assert_ne!(w.pull_url(b, 1, "audio"), pull);
    assert!(w.new_events(a).is_empty(), "no event for a new URL of the same stream");
    assert!(w.cut.is_empty());
    w.audit();
}

/// Proves JOI-2.
#[test]
fn the_answer_of_a_repeated_join_tells_what_one_publishes_and_plays() {
    let mut w = World::new();
    let a = w.admit(entry(1).join_id("0123456789abcdef"));
    let b = w.join(2);
    w.push_url(b, "");
    let (_, generation) = w.push_url(a, "");
    w.push_url(a, "screenShare");
    w.pull_url(a, 2, "video");
    let again = w.admit(entry(1).join_id("0123456789abcdef"));
    let own = w.joined(again).own.clone();
    let published: Vec<_> = own.published.iter().map(|s| s.media_type.as_str()).collect();
    assert_eq!(published, ["audio", "video", "screenShare"]);
    assert_eq!(own.published[0].generation, generation);
    assert_eq!(own.published[1].generation, generation);
    assert_ne!(own.published[2].generation, generation);
    let Joined { members, .. } = w.joined(again).clone();
    let of_b = members.iter().find(|m| m.uid == UserId(2)).expect("visible");
    let video = of_b.streams.iter().find(|s| s.media_type.as_str() == "video").expect("video");
    assert_eq!(own.subscriptions.len(), 1);
    assert_eq!(own.subscriptions[0].publication, video.publication);
}

/// The relay is told the published and subscribed kinds at each change, and the verdict on a URL has the same kinds.
/// Proves PUB-5, SUB-1, SUB-3, SUB-5.
#[test]
fn sub_1_the_relay_is_told_the_kinds_of_streams_and_viewers() {
    let mut w = World::new();
    let (a, b) = (w.join(1), w.join(2));
    let (_, generation) = w.push_url(a, "audio");
    let mid = w.mid(b);
    let (audio, video, both) = (KindSet::of(&Audio), KindSet::of(&Video), KindSet::AUDIO_VIDEO);
    assert_eq!(w.pushed(generation), Ok(audio));
    w.pull_url(b, 1, "audio");
    w.push_url(a, "video");
    assert_eq!((w.pushed(generation), w.played(generation, mid)), (Ok(both), Ok(audio)));
    w.pull_url(b, 1, "video");
    assert_eq!(w.played(generation, mid), Ok(both));
    // A camera goes off and on: its subscription has ended.
    w.ok(a, unpublish("video"));
    assert_eq!((w.pushed(generation), w.played(generation, mid)), (Ok(audio), Ok(audio)));
    w.push_url(a, "video");
    assert_eq!((w.pushed(generation), w.played(generation, mid)), (Ok(both), Ok(audio)));
    w.pull_url(b, 1, "video");
    w.ok(b, unsubscribe(1, "audio"));
    assert_eq!(w.played(generation, mid), Ok(video));
    assert!(w.cut_viewers.is_empty() && w.cut.is_empty(), "none of these cuts");
    w.ok(b, unsubscribe(1, "video"));
    assert_eq!(w.cut_viewers, [(generation, mid)]);
    // After a crash the verdicts are the first to tell the kinds again.
    w.pull_url(b, 1, "video");
    w.crash();
    assert_eq!(w.pushed(generation), Ok(both));
    let (b, _) = w.resume(b);
    w.pull_url(b, 1, "audio");
    assert_eq!(w.played(generation, mid), Ok(audio));
    w.audit();
}

//! Media servers that have another address after a restart: holders of old URLs are told the new ones.

use lianmai_protocol::message::Notice;
use lianmai_protocol::message::notice::{Direction, SyncDone};
use lianmai_protocol::message::session::Outcome;
use lianmai_protocol::{MediaKind, UserId};

use crate::calls::*;
use crate::world::{Client, Issuer, World, entry};

/// Two members that publish and play each other, and a third one that does neither.
fn scene() -> (World, Client, Client) {
    let mut w = World::new();
    let a = w.admit(entry(1).join_id("0123456789abcdef"));
    let b = w.join(2);
    w.join(3);
    w.push_url(a, "");
    w.push_url(b, "video");
    w.ok(a, subscribe(2, "video"));
    w.ok(b, subscribe(1, "audio"));
    w.ok(b, subscribe(1, "video"));
    (w, a, b)
}

fn move_relay(w: &mut World) {
    w.change(|config| {
        for policy in config.apps.values_mut() {
            policy.media.push += 1;
            policy.media.pull += 1;
        }
    });
}

/// The notices since the last call.
fn new_urls(w: &mut World, client: Client) -> Vec<(UserId, Direction, MediaKind, String)> {
    let notices = w.notices(client).into_iter().filter_map(|notice| match notice {
        Notice::SyncDone(SyncDone { uid, direction, media_type, url, .. }) => {
            Some((uid, direction, media_type, url))
        }
        _ => None,
    });
    notices.collect()
}

fn words(notices: &[(UserId, Direction, MediaKind, String)]) -> Vec<String> {
    let word = |(uid, direction, kind, _): &(UserId, Direction, MediaKind, String)| {
        format!("{uid} {} {kind}", direction.as_str())
    };
    notices.iter().map(word).collect()
}

fn hand_over(w: &mut World) {
    w.drain();
    w.advance(2_000);
    w.start_again();
}

/// Proves URL-10.
#[test]
fn url_10_after_a_hand_over_every_holder_gets_the_new_url_after_the_replay() {
    let (mut w, a, b) = scene();
    let old = w.ok(a, publish("audio"))["url"].clone();
    w.drain();
    w.advance(2_000);
    move_relay(&mut w);
    w.start_again();
    let (a, back) = w.resume(a);
    assert_eq!(back.outcome, Outcome::Replayed);
    let (b, _) = w.resume(b);
    let of_a = new_urls(&mut w, a);
    assert_eq!(words(&of_a), ["1 push audio", "2 pull video"]);
    assert_eq!(words(&new_urls(&mut w, b)), ["2 push video", "1 pull audio", "1 pull video"]);
    let new = w.ok(a, publish("audio"))["url"].clone();
    assert_ne!(old, new);
}

/// Proves URL-10.
#[test]
fn url_10_unmoved_urls_are_not_sent() {
    let (mut w, a, b) = scene();
    let old = w.ok(a, publish("audio"))["url"].clone();
    let mints = w.mints;
    hand_over(&mut w);
    let (a, _) = w.resume(a);
    let (b, _) = w.resume(b);
    assert!(new_urls(&mut w, a).is_empty() && new_urls(&mut w, b).is_empty());
    assert_eq!((w.ok(a, publish("audio"))["url"].clone(), w.mints), (old, mints));
}

/// A notice may be lost with its socket: it is sent again with the same URL.
/// Proves URL-10.
#[test]
fn url_10_a_new_url_is_sent_again_until_an_answer_has_it() {
    let (mut w, a, _) = scene();
    w.drain();
    w.advance(2_000);
    move_relay(&mut w);
    w.start_again();
    let (a, _) = w.resume(a);
    let first = new_urls(&mut w, a);
    let mints = w.mints;
    w.drop_socket(a);
    let (a, _) = w.resume(a);
    assert_eq!(new_urls(&mut w, a), first);
    assert_eq!(w.mints, mints);
    // Also across another process.
    hand_over(&mut w);
    let (a, _) = w.resume(a);
    assert_eq!(words(&new_urls(&mut w, a)), words(&first));
    w.ok(a, publish("audio"));
    w.ok(a, subscribe(2, "video"));
    w.drop_socket(a);
    let (a, _) = w.resume(a);
    assert!(new_urls(&mut w, a).is_empty(), "its answers have it");
}

/// An answer that was lost is repeated as it was: the URL in it is older than the notice.
/// Proves URL-10.
#[test]
fn url_10_a_repeated_answer_is_followed_by_the_new_url() {
    let (mut w, a, _) = scene();
    let id = w.send(a, publish("slaveAudio"));
    let old = w.answer(a, id).expect("answered").expect("published")["url"].clone();
    let played = w.send(a, subscribe(2, "video"));
    w.drain();
    w.advance(2_000);
    move_relay(&mut w);
    w.start_again();
    let (a, _) = w.resume(a);
    let first = new_urls(&mut w, a);
    w.send_as(a, id, publish("slaveAudio"));
    let repeated = w.answer(a, id).expect("answered").expect("published")["url"].clone();
    assert_eq!(repeated, old);
    let behind = new_urls(&mut w, a);
    assert_eq!(words(&behind), ["1 push slaveAudio"], "of the kind in the answer");
    assert!(first.contains(&behind[0]), "the URL that it has");
    w.send_as(a, played, subscribe(2, "video"));
    assert_eq!(words(&new_urls(&mut w, a)), ["2 pull video"]);
    // After an answer with the new URL, no notice follows an older answer.
    w.ok(a, publish("slaveAudio"));
    w.send_as(a, id, publish("slaveAudio"));
    assert!(new_urls(&mut w, a).is_empty());
    // Other answers contain no URL.
    let id = w.send(a, send_message("hello"));
    w.send_as(a, id, send_message("hello"));
    assert!(new_urls(&mut w, a).is_empty());
}

/// After a crash a client restores; it is told as well, and each of its commands is answered with a valid URL.
/// Proves URL-10, RES-10.
#[test]
fn url_10_after_a_crash_the_same_command_answers_another_url() {
    let (mut w, a, _) = scene();
    let old = w.ok(a, publish("audio"))["url"].clone();
    move_relay(&mut w);
    w.crash();
    let (a, back) = w.resume(a);
    assert!(back.restore);
    // A client that restores does not ask for publications that survived.
    assert_eq!(words(&new_urls(&mut w, a)), ["1 push audio"]);
    assert_ne!(w.ok(a, publish("audio"))["url"], old);
    // A member that joins again with the same `joinId` is told.
    move_relay(&mut w);
    w.crash();
    let a = w.admit(entry(1).join_id("0123456789abcdef"));
    assert_eq!(words(&new_urls(&mut w, a)), ["1 push audio"]);
}

/// Proves URL-10.
#[test]
fn url_10_a_failed_or_late_issuer_is_asked_again_at_the_next_return() {
    let (mut w, a, b) = scene();
    w.drain();
    w.advance(2_000);
    move_relay(&mut w);
    w.start_again();
    w.issuer = Issuer::Fail;
    let (a, _) = w.resume(a);
    assert!(new_urls(&mut w, a).is_empty());
    w.issuer = Issuer::Hold;
    w.drop_socket(a);
    let (a, _) = w.resume(a);
    // A URL that is no longer needed is not told.
    w.ok(a, unsubscribe(2, "video"));
    w.issue();
    w.issue();
    assert_eq!(words(&new_urls(&mut w, a)), ["1 push audio"]);
    w.issuer = Issuer::AtOnce;
    let (b, _) = w.resume(b);
    assert_eq!(new_urls(&mut w, b).len(), 3);
    w.audit();
}

/// Proves URL-10.
#[test]
fn url_10_an_answer_for_one_kind_tells_the_others_of_its_stream() {
    let (mut w, _, b) = scene();
    w.drain();
    w.advance(2_000);
    move_relay(&mut w);
    w.start_again();
    w.issuer = Issuer::Fail;
    let (b, _) = w.resume(b);
    assert!(new_urls(&mut w, b).is_empty());
    w.issuer = Issuer::AtOnce;
    let video = w.ok(b, subscribe(1, "video"))["url"].clone();
    let of_audio = new_urls(&mut w, b);
    assert_eq!(words(&of_audio), ["1 pull audio"]);
    assert_eq!(of_audio[0].3, video);
    // The notice may be lost, so it is sent again until an answer contains the URL of that kind, too.
    w.drop_socket(b);
    let (b, _) = w.resume(b);
    let again = new_urls(&mut w, b);
    assert_eq!(words(&again), ["1 pull audio", "1 pull video", "2 push video"]);
    assert_eq!(again[0].3, video);
    // Without the other kind, one answer ends this.
    w.ok(b, unsubscribe(1, "audio"));
    w.ok(b, subscribe(1, "video"));
    w.ok(b, publish("video"));
    w.drop_socket(b);
    let (b, _) = w.resume(b);
    assert!(new_urls(&mut w, b).is_empty());
    w.audit();
}

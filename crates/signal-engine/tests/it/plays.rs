//! Plays that come back after a crash before their viewers do.

use lianmai_protocol::{Gen, KindSet, MediaKind, Mid};
use lianmai_signal_engine::{Denial, Input};

use crate::calls::*;
use crate::world::{Client, World, entry};

/// A host that pushes, and a viewer that plays its stream, before and after a crash.
struct Scene {
    w: World,
    host: Client,
    viewer: Client,
    generation: Gen,
    mid: Mid,
}

impl Scene {
    fn new() -> Self {
        let mut w = World::new();
        let host = w.admit(entry(1).moderator());
        let viewer = w.join(2);
        let (_, generation) = w.push_url(host, "");
        w.pull_url(viewer, 1, "audio");
        let mid = w.mid(viewer);
        assert_eq!(w.may_play(generation, mid), Ok(()));
        w.crash();
        Scene { w, host, viewer, generation, mid }
    }
}

/// Proves RST-4.
#[test]
fn rst_4_a_play_waits_for_its_viewer_to_subscribe_again() {
    let Scene { mut w, viewer, generation, mid, .. } = Scene::new();
    let play = w.ask_to_play(generation, mid);
    assert!(w.waiting.contains(&play), "no play is refused with a retry");
    assert_eq!(w.may_push(generation), Ok(()), "a push does not wait");
    w.advance(5_000);
    let (viewer, _) = w.resume(viewer);
    w.advance(1_000);
    assert!(w.waiting.contains(&play), "it is back, and has not subscribed yet");
    w.pull_url(viewer, 1, "audio");
    w.advance(100);
    assert_eq!(w.verdicts.remove(&play), Some(Ok(KindSet::of(&MediaKind::Audio))));
    w.audit();
}

/// Proves RST-4.
#[test]
fn rst_4_plays_of_unstored_streams_are_refused_at_once() {
    let mut w = World::new();
    let (host, gone) = (w.join(1), w.join(2));
    let (_, dead) = w.push_url(host, "screenShare");
    let (_, generation) = w.push_url(host, "");
    w.pull_url(gone, 1, "audio");
    let mid = w.mid(gone);
    w.ok(gone, leave());
    w.ok(host, unpublish("screenShare"));
    let host_mid = w.mid(host);
    w.crash();
    assert_eq!(w.may_push(dead), Err(Denial::UnknownStream));
    assert_eq!(w.may_play(dead, host_mid), Err(Denial::UnknownStream));
    assert_eq!(w.may_play(generation, mid), Err(Denial::NotSubscribed));
    let later = w.join(3);
    let later = w.mid(later);
    assert_eq!(w.may_play(generation, later), Err(Denial::NotSubscribed), "a new membership");
}

/// A play that comes too early is told to come again, not that its URL is invalid.
/// Proves RST-4.
#[test]
fn rst_4_a_play_that_waited_too_long_is_told_to_retry() {
    let Scene { mut w, host, generation, mid, .. } = Scene::new();
    let (host, _) = w.resume(host);
    let play = w.ask_to_play(generation, mid);
    w.advance_alive(9_900, &[host]);
    assert!(w.waiting.contains(&play));
    w.advance_alive(200, &[host]);
    assert_eq!(w.verdicts.remove(&play), Some(Err(Denial::Busy)));
    let play = w.ask_to_play(generation, mid);
    w.ok(host, kick(2, 0));
    w.advance_alive(100, &[host]);
    assert_eq!(w.verdicts.remove(&play), Some(Err(Denial::NotSubscribed)), "the viewer has left");
    assert_eq!(w.may_play(generation, mid), Err(Denial::NotSubscribed));
    // Long after the crash no viewer is waited for.
    let Scene { mut w, host, viewer, generation, mid } = Scene::new();
    let (host, viewer) = (w.resume(host).0, w.resume(viewer).0);
    w.advance_alive(60_000, &[host, viewer]);
    assert_eq!(w.may_play(generation, mid), Err(Denial::NotSubscribed));
}

/// Proves RST-4.
#[test]
fn rst_4_a_viewer_has_a_share_of_waiting_plays_and_a_hang_up_frees_one() {
    let Scene { mut w, viewer, generation, mid, .. } = Scene::new();
    let plays: Vec<_> = (0..8).map(|_| w.ask_to_play(generation, mid)).collect();
    assert!(plays.iter().all(|play| w.waiting.contains(play)));
    assert_eq!(w.may_play(generation, mid), Err(Denial::Busy));
    assert_eq!(w.may_push(generation), Ok(()));
    w.input(Input::CancelAuthorize { query: plays[3] });
    w.input(Input::CancelAuthorize { query: plays[3] });
    let another = w.ask_to_play(generation, mid);
    assert!(w.waiting.contains(&another), "there is a place");
    assert_eq!(w.may_play(generation, mid), Err(Denial::Busy), "and not two");
    let (viewer, _) = w.resume(viewer);
    w.pull_url(viewer, 1, "audio");
    w.advance(100);
    assert!(matches!(w.verdicts.remove(&plays[0]), Some(Ok(_))));
    assert!(matches!(w.verdicts.remove(&another), Some(Ok(_))));
    assert_eq!(w.verdicts.remove(&plays[3]), None, "no verdict follows a withdrawal");
}

//! What samples of a hub contain, under a paused clock.
//! Proves no rule of the protocol: what the relay sees of pushes and plays.

use std::time::Duration;

use lianmai_media_plane::{Direction, Hub, MediaKind, RelayConfig, StreamName, StreamSample};
use tokio::time::advance;

use crate::support::*;

const KEY: &[u8] = &[0x12, 1, 0, 0, 0, 1];
const FRAME: &[u8] = &[0x22, 1, 0, 0, 0, 2];

fn sample(hub: &Hub) -> Vec<StreamSample> {
    let mut seen = Vec::new();
    hub.sample(|stream| seen.push(stream));
    seen
}

#[tokio::test(start_paused = true)]
async fn a_sample_has_pushes_and_plays_that_have_a_viewer() {
    let hub = Hub::new(RelayConfig::default());
    assert!(sample(&hub).is_empty());
    let publisher = hub.publish(&allow(), request(Direction::Publish, "a", "")).await.unwrap();
    let bob = hub.play(&allow(), request(Direction::Play, "a", "v=bob")).await.unwrap();
    let _nobody = hub.play(&allow(), request(Direction::Play, "a", "")).await.unwrap();
    sample(&hub);
    for (ms, body) in [(0, KEY), (1_000, FRAME)] {
        publisher.send(MediaKind::Video, ms, body).unwrap();
        advance(Duration::from_secs(1)).await;
    }
    let mut packets = Vec::new();
    assert!(bob.take_ready(&mut packets, usize::MAX));
    bob.count_out(700);
    let seen = sample(&hub);
    let [stream] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((&stream.stream, stream.passed.as_secs()), (&StreamName::new("live", "a"), 2));
    let push = stream.push.as_ref().unwrap();
    assert_eq!((push.bytes, push.frames, push.gaps), (12, 2, 1));
    assert_eq!((push.longest_gap.as_secs(), push.video.as_deref()), (1, Some("2")));
    let [play] = &stream.plays[..] else { panic!("{seen:?}") };
    assert_eq!((&*play.viewer, play.bytes), ("bob", 700));
    // What one takes at once is all of it.
    assert_eq!(play.lag, Duration::ZERO);
    publisher.send(MediaKind::Video, 2_000, FRAME).unwrap();
    advance(Duration::from_millis(300)).await;
    let seen = sample(&hub);
    assert_eq!((seen[0].plays[0].bytes, seen[0].plays[0].lag.as_millis()), (0, 300));
    drop(publisher);
    let seen = sample(&hub);
    assert_eq!((&seen[0].push, seen[0].plays.len()), (&None, 1));
    drop(bob);
    assert!(sample(&hub).is_empty(), "nobody is known to play");
}

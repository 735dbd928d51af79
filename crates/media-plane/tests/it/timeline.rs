//! The timeline of players when the publisher's clock misbehaves.
//! Proves URL-12.

use std::time::Duration;

use lianmai_media_plane::{Direction, Hub, MediaKind, Player, Publisher, RelayConfig};
use tokio::time::advance;

use crate::support::*;

const KEY: &[u8] = &[0x12, 1];
const AUDIO: &[u8] = &[0x2F, 1];

/// A push with a player that was there before.
struct Pair {
    hub: Hub,
    publisher: Publisher,
    player: Player,
}

impl Pair {
    async fn new() -> Self {
        let hub = Hub::new(RelayConfig::default());
        let player = hub.play(&allow(), request(Direction::Play, "a", "")).await.unwrap();
        let publisher = Self::publish(&hub).await;
        Self { hub, publisher, player }
    }

    async fn publish(hub: &Hub) -> Publisher {
        hub.publish(&allow(), request(Direction::Publish, "a", "")).await.unwrap()
    }

    /// Sends one frame. Returns the timestamp that the player gets.
    fn frame(&self, kind: MediaKind, time: u32) -> u32 {
        let body = if kind == MediaKind::Audio { AUDIO } else { KEY };
        self.publisher.send(kind, time, body).unwrap();
        let mut batch = Vec::new();
        self.player.take_ready(&mut batch, 64);
        assert_eq!(batch.len(), 1);
        batch[0].timestamp()
    }

    async fn frames(&self, times: &[u32]) -> Vec<u32> {
        let mut seen = Vec::new();
        for time in times {
            seen.push(self.frame(MediaKind::Video, *time));
            advance(Duration::from_millis(40)).await;
        }
        seen
    }
}

const HOUR: u32 = 3_600_000;

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_is_mapped_to_the_timeline() {
    for (from, to) in
        [(HOUR, 0), (HOUR, 2 * HOUR), (HOUR, HOUR - 5000), (0, HOUR), (9000, u32::MAX)]
    {
        let pair = Pair::new().await;
        let seen = pair.frames(&[from, from + 40, to, to.wrapping_add(40)]).await;
        assert_eq!(seen, [from, from + 40, from + 80, from + 120], "{from} {to}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_as_long_as_in_reality() {
    let pair = Pair::new().await;
    pair.frames(&[0]).await;
    advance(Duration::from_secs(20)).await;
    assert_eq!(
        pair.frame(MediaKind::Video, 20_040),
        20_040,
        "the timestamps already contain the gap"
    );
    advance(Duration::from_secs(20)).await;
    assert_eq!(pair.frame(MediaKind::Video, 0), 40_040, "its clock jumped");
    let Pair { hub, publisher, player } = pair;
    drop(publisher);
    advance(Duration::from_secs(5)).await;
    let pair = Pair { publisher: Pair::publish(&hub).await, hub, player };
    assert_eq!(pair.frame(MediaKind::Video, 777), 45_040, "another publisher");
}

#[tokio::test(start_paused = true)]
async fn audio_and_video_keep_their_distance_over_a_jump() {
    let pair = Pair::new().await;
    let mut last = [0; 2];
    for step in 0..100 {
        let base = if step < 50 { HOUR } else { 0 };
        let time = base + step * 40;
        let video = pair.frame(MediaKind::Video, time);
        let audio = pair.frame(MediaKind::Audio, time - step.min(15));
        assert!(video >= last[0] && audio >= last[1], "{step}");
        assert_eq!(video - audio, step.min(15), "{step}");
        last = [video, audio];
        advance(Duration::from_millis(40)).await;
    }
    assert!((HOUR + 99 * 40..HOUR + 99 * 40 + 50).contains(&last[0]));
}

#[tokio::test(start_paused = true)]
async fn two_clocks_far_apart_share_one_timeline() {
    let pair = Pair::new().await;
    for step in 0..100 {
        let video = pair.frame(MediaKind::Video, step * 40);
        let audio = pair.frame(MediaKind::Audio, 5 * HOUR + step * 40);
        assert!((step * 40..step * 40 + 50).contains(&video), "{step} {video}");
        assert!((step * 40..step * 40 + 50).contains(&audio), "{step} {audio}");
        advance(Duration::from_millis(40)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn small_steps_back_stand_still_and_a_clock_that_runs_back_does_not() {
    let pair = Pair::new().await;
    assert_eq!(pair.frames(&[1000, 1040, 1030, 1080]).await, [1000, 1040, 1040, 1080]);
    let mut back = pair.frames(&(0..100).map(|step| 50_000 - step * 40).collect::<Vec<_>>()).await;
    assert!(back.is_sorted());
    let total = back.pop().unwrap() - back[0];
    assert!((3000..=4000).contains(&total), "{total}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_about_to_wrap_begins_anew() {
    let pair = Pair::new().await;
    let from = u32::MAX - 50;
    let seen = pair.frames(&[from, from.wrapping_add(40), from.wrapping_add(80)]).await;
    assert_eq!(seen, [0, 40, 80]);
}

#[tokio::test(start_paused = true)]
async fn media_that_arrives_faster_than_real_time_keeps_its_times() {
    let pair = Pair::new().await;
    for step in 0..1000 {
        assert_eq!(pair.frame(MediaKind::Video, step * 1000), step * 1000);
    }
    assert_eq!(pair.frame(MediaKind::Audio, 999_000), 999_000);
}

#[tokio::test(start_paused = true)]
async fn audio_that_begins_late_in_time_stays_there() {
    let pair = Pair::new().await;
    pair.frames(&[0, 40, 80]).await;
    advance(Duration::from_secs(3)).await;
    assert_eq!(pair.frame(MediaKind::Video, 3120), 3120);
    assert_eq!(pair.frame(MediaKind::Audio, 600), 600, "an encoder that is 2.5 s late with it");
}

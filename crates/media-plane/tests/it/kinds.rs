//! Players get the kinds that are published and that they may have. The clock is paused.
//! Proves SUB-1, URL-11, URL-12, URL-14, URL-16.

use std::sync::Mutex;
use std::time::Duration;

use lianmai_media_plane::pull::{self, FlvStream};
use lianmai_media_plane::{
    Authorizer, Direction, EndReason, Hls, Hub, Kinds, MediaKind, Player, Publisher, RelayConfig,
    StreamName, StreamRequest, Verdict,
};
use tokio::time::{Instant, advance};

use crate::late_ffmpeg::encoded;
use crate::support::*;

const AUDIO: Kinds = Kinds { audio: true, video: false };
const VIDEO: Kinds = Kinds { audio: false, video: true };

/// H.264 and AAC, as the first two bytes of their bodies.
const HEAD_V: [u8; 2] = [0x17, 0];
const KEY: [u8; 2] = [0x17, 1];
const INTER: [u8; 2] = [0x27, 1];
const HEAD_A: [u8; 2] = [0xAF, 0];
const SOUND: [u8; 2] = [0xAF, 1];
const META: [u8; 2] = [2, 0];

/// An authorizer that allows the kinds that the query names: `v=x&both`.
struct Named;

impl Authorizer for Named {
    async fn authorize(&self, request: StreamRequest) -> Verdict {
        let kinds = match request.query.split_once('&') {
            Some((_, "audio")) => AUDIO,
            Some((_, "video")) => VIDEO,
            _ => Kinds::BOTH,
        };
        Verdict::Allow { viewer: self.viewer(&request), kinds, account: None }
    }

    fn viewer(&self, request: &StreamRequest) -> Option<String> {
        let (viewer, _) = request.query.split_once('&')?;
        Some(viewer.strip_prefix("v=")?.to_owned())
    }
}

fn stream() -> StreamName {
    StreamName::new("live", "a")
}

struct Scene {
    hub: Hub,
    publisher: Publisher,
}

impl Scene {
    /// A push with the kinds of the query. It has sent its metadata and headers.
    async fn new(query: &str) -> Self {
        let hub = Hub::new(RelayConfig::default());
        let publisher = hub.publish(&Named, request(Direction::Publish, "a", query)).await.unwrap();
        let scene = Self { hub, publisher };
        scene.publisher.send(MediaKind::Metadata, 0, b"\x02\x00\x0aonMetaData\x05").unwrap();
        scene.video(0, HEAD_V);
        scene.audio(0, HEAD_A);
        scene
    }

    async fn play(&self, query: &str) -> Player {
        self.hub.play(&Named, request(Direction::Play, "a", query)).await.unwrap()
    }

    async fn pull(&self, query: &str) -> FlvStream {
        pull::open(&self.hub, &Named, request(Direction::Play, "a", query)).await.unwrap()
    }

    fn video(&self, time: u32, start: [u8; 2]) {
        self.publisher.send(MediaKind::Video, time, &[&start[..], &[0, 0, 0, 9]].concat()).unwrap();
    }

    fn audio(&self, time: u32, start: [u8; 2]) {
        self.publisher.send(MediaKind::Audio, time, &[&start[..], &[0x10]].concat()).unwrap();
    }

    /// Sends one second of both kinds from this time on, and advances the clock: a keyframe, then audio and pictures.
    async fn second(&self, from: u32) {
        self.video(from, KEY);
        for step in 1..25 {
            advance(Duration::from_millis(40)).await;
            self.audio(from + step * 40, SOUND);
            self.video(from + step * 40, INTER);
        }
        advance(Duration::from_millis(40)).await;
    }
}

/// Timestamp and first two bytes of the packets that are ready.
fn seen(player: &Player) -> Vec<(u32, [u8; 2])> {
    let mut batch = Vec::new();
    while player.take_ready(&mut batch, 64) {}
    let short = |body: &[u8]| [body[0], body[1]];
    batch.iter().map(|packet| (packet.timestamp(), short(&packet.body()))).collect()
}

fn starts(seen: &[(u32, [u8; 2])]) -> Vec<[u8; 2]> {
    seen.iter().map(|(_, start)| *start).collect()
}

/// Asserts that no timestamp goes back within a kind.
fn assert_forward(seen: &[(u32, [u8; 2])]) {
    for sound in [true, false] {
        let kind = seen.iter().filter(|(_, start)| (start[0] == 0xAF) == sound && *start != META);
        assert!(kind.is_sorted_by_key(|(time, _)| *time), "{seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn unpublished_media_reaches_no_player() {
    let scene = Scene::new("v=x&audio").await;
    let early = scene.play("v=bob&both").await;
    scene.second(0).await;
    let late = scene.play("v=eve&both").await;
    scene.second(1000).await;
    for player in [early, late] {
        let seen = seen(&player);
        assert_eq!(player.delivered_kinds(), AUDIO);
        assert!(seen.len() >= 24 && seen.iter().all(|(_, start)| start[0] == 0xAF), "{seen:?}");
        assert_eq!(seen[0].1, HEAD_A);
    }
}

#[tokio::test(start_paused = true)]
async fn a_restricted_player_gets_its_kinds_and_others_get_all() {
    let scene = Scene::new("v=x&both").await;
    scene.second(0).await;
    let (ear, eye) = (scene.play("v=ear&audio").await, scene.play("v=eye&video").await);
    let all = scene.play("v=all&both").await;
    let burst = starts(&seen(&all));
    assert_eq!(&burst[..4], [META, HEAD_V, HEAD_A, KEY], "the group of both");
    assert_eq!(seen(&ear), [(960, HEAD_A)], "sound is not behind");
    let burst = starts(&seen(&eye));
    assert_eq!((&burst[..3], burst.len()), (&[HEAD_V, KEY, INTER][..], 26));
    scene.video(1000, INTER);
    scene.audio(1000, SOUND);
    assert_eq!(seen(&ear), [(1000, SOUND)]);
    assert_eq!(seen(&eye), [(1000, INTER)]);
    assert_eq!(seen(&all), [(1000, INTER), (1000, SOUND)]);
}

/// The encoder sends its headers once, before the camera is published.
#[tokio::test(start_paused = true)]
async fn a_camera_that_resumes_begins_with_its_header_and_a_keyframe() {
    let scene = Scene::new("v=x&audio").await;
    let player = scene.play("v=bob&both").await;
    scene.second(0).await;
    seen(&player);
    scene.hub.set_published(&stream(), Kinds::BOTH);
    scene.video(1000, INTER);
    scene.audio(1000, SOUND);
    assert_eq!(seen(&player), [(1000, SOUND)], "no player can decode that frame");
    let late = scene.play("v=eve&both").await;
    scene.second(1040).await;
    let begun = seen(&player);
    assert_eq!(begun[..3], [(0, META), (1040, HEAD_V), (1040, KEY)]);
    assert_eq!(begun.len(), 3 + 48);
    assert_forward(&begun);
    let begun = seen(&late);
    assert_eq!(starts(&begun)[..4], [META, HEAD_V, HEAD_A, KEY]);
}

/// A microphone goes off and on between two keyframes; the encoder sends its header once, at the beginning.
#[tokio::test(start_paused = true)]
async fn a_late_player_gets_the_header_of_sound_that_began_within_the_group() {
    for query in ["v=x&both", "v=x&video"] {
        let scene = Scene::new(query).await;
        scene.second(0).await;
        scene.hub.set_published(&stream(), VIDEO);
        scene.video(1000, INTER);
        scene.hub.set_published(&stream(), Kinds::BOTH);
        scene.audio(1040, SOUND);
        scene.audio(1060, SOUND);
        let late = scene.play("v=eve&both").await;
        let burst = seen(&late);
        let sound: Vec<_> = burst.iter().filter(|(_, start)| start[0] == 0xAF).copied().collect();
        assert_eq!(starts(&sound), [HEAD_A, SOUND, SOUND], "{query}");
        assert_forward(&burst);
        // The next group begins with both heads, each once.
        scene.second(1080).await;
        let late = starts(&seen(&scene.play("v=eve&both").await));
        assert_eq!(late[..4], [META, HEAD_V, HEAD_A, KEY]);
        assert_eq!(late.iter().filter(|start| **start == HEAD_A).count(), 1);
    }
}

/// The player is there before the first sound, so that no sound has come with its head.
#[tokio::test(start_paused = true)]
async fn a_player_that_comes_before_the_first_sound_gets_its_header() {
    for query in ["v=x&both", "v=x&video"] {
        let scene = Scene::new(query).await;
        scene.second(0).await;
        scene.hub.set_published(&stream(), VIDEO);
        // The encoder changes its parameters meanwhile.
        scene.publisher.send(MediaKind::Audio, 1000, &[0xAF, 0, 0x11]).unwrap();
        scene.hub.set_published(&stream(), Kinds::BOTH);
        let before = scene.play("v=eve&both").await;
        let paused = scene.play("v=bob&both").await;
        paused.pause(true);
        paused.pause(false);
        scene.audio(1040, SOUND);
        let after = scene.play("v=too&both").await;
        for player in [before, paused, after] {
            let mut batch = Vec::new();
            while player.take_ready(&mut batch, 64) {}
            batch.retain(|packet| packet.kind() == MediaKind::Audio);
            let bodies: Vec<_> = batch.iter().map(|packet| packet.body()).collect();
            assert_eq!(bodies, [&[0xAF, 0, 0x11][..], &[0xAF, 1, 0x10]], "{query}");
            assert!(batch.is_sorted_by_key(|packet| packet.timestamp()));
        }
    }
}

/// Pictures are ahead of the sound. An encoder repeats a head.
#[tokio::test(start_paused = true)]
async fn a_header_has_the_time_of_its_own_kind() {
    let scene = Scene::new("v=x&both").await;
    let early = scene.play("v=bob&both").await;
    scene.audio(900, SOUND);
    scene.video(1000, KEY);
    scene.audio(0, HEAD_A);
    let (late, ear) = (scene.play("v=eve&both").await, scene.play("v=ear&audio").await);
    scene.audio(920, SOUND);
    for player in [early, late, ear] {
        let seen = seen(&player);
        assert_forward(&seen);
        assert_eq!(seen.last(), Some(&(920, SOUND)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_camera_is_not_shown_while_it_is_off() {
    let scene = Scene::new("v=x&both").await;
    let heads = scene.hub.stats().media_bytes;
    let player = scene.play("v=bob&both").await;
    scene.second(0).await;
    scene.hub.set_published(&stream(), AUDIO);
    let queued = seen(&player);
    assert!(queued.iter().all(|(_, start)| start[0] == 0xAF), "what was queued is dropped");
    assert_eq!(scene.hub.stats().media_bytes, heads, "no picture is kept");
    scene.second(1000).await;
    let late = scene.play("v=eve&both").await;
    assert_eq!(starts(&seen(&late)), [HEAD_A], "no earlier media");
    let off = seen(&player);
    assert!(off.len() == 24 && off.iter().all(|(_, start)| *start == SOUND), "{off:?}");
    scene.hub.set_published(&stream(), Kinds::BOTH);
    scene.video(2000, INTER);
    scene.audio(2040, SOUND);
    scene.video(2020, KEY);
    scene.video(2060, INTER);
    for player in [player, late] {
        let on = seen(&player);
        let begun: Vec<_> = starts(&on).into_iter().filter(|start| *start != SOUND).collect();
        assert_eq!(begun, [META, HEAD_V, KEY, INTER]);
        let times: Vec<_> =
            on.iter().filter(|(_, start)| *start != META).map(|(time, _)| *time).collect();
        assert!(times.iter().all(|time| *time >= 2000), "{times:?}");
        assert_forward(&on);
    }
}

#[tokio::test(start_paused = true)]
async fn a_viewer_that_takes_another_kind_disturbs_nobody() {
    let scene = Scene::new("v=x&both").await;
    let (bob, eve) = (scene.play("v=bob&audio").await, scene.play("v=eve&audio").await);
    scene.second(0).await;
    scene.hub.set_subscribed("bob", &stream(), Kinds::BOTH);
    scene.hub.set_subscribed("bob", &StreamName::new("live", "b"), VIDEO);
    scene.second(1000).await;
    let heard = seen(&bob);
    let from = heard.iter().position(|(_, start)| *start == META).unwrap();
    assert!(heard[..from].iter().all(|(_, start)| start[0] == 0xAF), "{heard:?}");
    assert_eq!(heard[from..from + 3], [(0, META), (1000, HEAD_V), (1000, KEY)]);
    scene.hub.set_subscribed("bob", &stream(), VIDEO);
    scene.second(2000).await;
    assert!(seen(&bob).iter().all(|(_, start)| start[0] != 0xAF));
    scene.hub.set_subscribed("bob", &stream(), Kinds::BOTH);
    scene.second(3000).await;
    let heard = seen(&bob);
    let first = heard.iter().position(|(_, start)| start[0] == 0xAF).unwrap();
    assert_eq!(heard[first..first + 2], [(3040, HEAD_A), (3040, SOUND)]);
    assert_forward(&heard);
    assert_eq!(seen(&eve).len(), 1 + 4 * 24);
}

/// The kinds that the hub is told while a verdict is pending are newer than the verdict.
#[tokio::test(start_paused = true)]
async fn a_verdict_that_comes_late_changes_nothing_back() {
    struct Late(Hub, Mutex<Option<Kinds>>);
    impl Authorizer for Late {
        async fn authorize(&self, request: StreamRequest) -> Verdict {
            self.0.set_subscribed("bob", &stream(), VIDEO);
            self.0.set_published(&stream(), self.1.lock().unwrap().unwrap_or(VIDEO));
            Verdict::Allow { viewer: self.viewer(&request), kinds: AUDIO, account: None }
        }

        fn viewer(&self, _: &StreamRequest) -> Option<String> {
            Some("bob".to_owned())
        }
    }
    let hub = Hub::new(RelayConfig::default());
    let late = Late(hub.clone(), Mutex::default());
    let player = hub.play(&late, request(Direction::Play, "a", "")).await.unwrap();
    assert_eq!(player.delivered_kinds(), VIDEO);
    let publisher = hub.publish(&late, request(Direction::Publish, "a", "")).await.unwrap();
    assert_eq!(player.delivered_kinds(), VIDEO);
    publisher.send(MediaKind::Audio, 0, &[0x2F, 1]).unwrap();
    publisher.send(MediaKind::Video, 0, &[0x12, 1]).unwrap();
    assert_eq!(seen(&player), [(0, [0x12, 1])]);
    // Nobody holds the stream, so the hub does not remember this.
    drop((player, publisher));
    hub.set_published(&stream(), AUDIO);
    *late.1.lock().unwrap() = Some(Kinds::BOTH);
    let publisher = hub.publish(&late, request(Direction::Publish, "a", "")).await.unwrap();
    let player = hub.play(&late, request(Direction::Play, "a", "")).await.unwrap();
    assert_eq!(player.delivered_kinds(), VIDEO);
    drop(publisher);
}

#[tokio::test(start_paused = true)]
async fn the_header_of_a_pull_waits_only_for_the_kinds_it_gets() {
    let scene = Scene::new("v=x&both").await;
    let begin = Instant::now();
    let mut ear = scene.pull("v=ear&audio").await;
    assert_eq!(ear.next().await.unwrap()[..5], *b"FLV\x01\x04");
    let mut eye = scene.pull("v=eye&video").await;
    assert_eq!(eye.next().await.unwrap()[..5], *b"FLV\x01\x01");
    assert_eq!(begin.elapsed(), Duration::ZERO);
    scene.hub.set_published(&stream(), AUDIO);
    let mut all = scene.pull("v=all&both").await;
    let head = tokio::spawn(async move { all.next().await.unwrap() });
    tokio::task::yield_now().await;
    scene.audio(40, SOUND);
    assert_eq!(head.await.unwrap()[..5], *b"FLV\x01\x04");
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_pull_whose_header_lacks_a_kind_ends_when_that_kind_begins() {
    let scene = Scene::new("v=x&audio").await;
    let mut pull = scene.pull("v=bob&both").await;
    scene.second(0).await;
    assert_eq!(pull.next().await.unwrap()[..5], *b"FLV\x01\x04");
    scene.hub.set_published(&stream(), Kinds::BOTH);
    scene.audio(1000, SOUND);
    scene.video(1000, KEY);
    scene.video(1040, INTER);
    let mut tags = Vec::new();
    while let Some(block) = pull.next().await {
        tags.extend_from_slice(&block);
    }
    assert_eq!(pull.ended(), Some(EndReason::KindBegan));
    assert_eq!(tags.last_chunk::<4>(), Some(&14_u32.to_be_bytes()), "the last tag is whole");
    let mut again = scene.pull("v=bob&both").await;
    let block = again.next().await.unwrap();
    assert_eq!(block[..5], *b"FLV\x01\x05");
    // A camera that goes off ends no pull. The head names video, so the camera may go on again.
    scene.hub.set_published(&stream(), AUDIO);
    scene.second(2000).await;
    scene.hub.set_published(&stream(), Kinds::BOTH);
    scene.second(3000).await;
    assert!(again.next().await.is_some() && again.ended().is_none());
}

/// Whether a segment contains video, by the PID of its packets.
fn has_video(segment: &[u8]) -> bool {
    segment.chunks(188).any(|packet| packet[1] & 0x1F == 1 && packet[2] == 0)
}

#[tokio::test(start_paused = true)]
async fn hls_viewers_with_equal_rights_share_segments() {
    let config = RelayConfig { hls_segment: Duration::from_millis(500), ..RelayConfig::default() };
    let hub = Hub::new(config);
    let hls = Hls::new(hub.clone());
    let newest = async |query: &'static str| {
        let asked = || request(Direction::Play, "a", query);
        let list = hls.playlist(&Named, asked()).await.unwrap();
        let url = list.lines().rfind(|line| !line.starts_with('#')).unwrap().to_owned();
        let number = url.split(['/', '.']).nth(1).unwrap().parse().unwrap();
        hls.segment(&Named, asked(), number).await.unwrap().unwrap()
    };
    let first = ["v=all&both", "v=ear&audio", "v=eye&video", "v=too&both"].map(|query| {
        let hls = hls.clone();
        tokio::spawn(
            async move { hls.playlist(&Named, request(Direction::Play, "a", query)).await },
        )
    });
    tokio::task::yield_now().await;
    let publisher = hub.publish(&Named, request(Direction::Publish, "a", "")).await.unwrap();
    let tags = encoded(0);
    let (mut last, half) = (tags[0].time, tags.last().unwrap().time / 2);
    let mut is_off = false;
    for tag in &tags {
        if tag.time > half && !std::mem::replace(&mut is_off, true) {
            assert!(
                has_video(&newest("v=all&both").await) && has_video(&newest("v=eye&video").await)
            );
            assert!(!has_video(&newest("v=ear&audio").await));
            assert_eq!(hls.streams(), 3);
            hub.set_published(&stream(), AUDIO);
        }
        advance(Duration::from_millis(tag.time.saturating_sub(last).into())).await;
        last = last.max(tag.time);
        publisher.send(tag.kind, tag.time, &tag.body).unwrap();
        tokio::task::yield_now().await;
    }
    for asked in first {
        asked.await.unwrap().unwrap();
    }
    // The segments since then have no video, and did not wait for a keyframe.
    assert!(!has_video(&newest("v=all&both").await));
}

//! HLS: ffmpeg decodes from the segments what was pushed; each request is authorized; a stream that nobody requests
//! costs nothing.
//! Proves URL-16.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lianmai_media_plane::hls::Segmenter;
use lianmai_media_plane::{
    Direction, Hls, Hub, Kinds, MediaKind, Packet, RelayConfig, StreamRequest, Verdict,
};
use tokio::time::{Instant, advance};

use crate::late_ffmpeg::{Tag, encoded, frames, scratch};
use crate::support::*;

fn config() -> RelayConfig {
    RelayConfig { hls_segment: Duration::from_millis(500), ..RelayConfig::default() }
}

fn play() -> StreamRequest {
    request(Direction::Play, "a", "v=bob")
}

/// Pushes tags. The clock advances with their timestamps.
async fn push(hub: &Hub, tags: &[Tag]) {
    let publisher = hub.publish(&allow(), request(Direction::Publish, "a", "")).await.unwrap();
    let mut last = tags[0].time;
    for tag in tags {
        advance(Duration::from_millis(tag.time.saturating_sub(last).into())).await;
        last = last.max(tag.time);
        publisher.send(tag.kind, tag.time, &tag.body).unwrap();
        tokio::task::yield_now().await;
    }
}

/// The URLs in a playlist.
fn urls(list: &str) -> Vec<&str> {
    list.lines().filter(|line| !line.starts_with('#')).collect()
}

fn number(url: &str) -> u64 {
    url.strip_prefix("a/").unwrap().strip_suffix(".ts?v=bob").unwrap().parse().unwrap()
}

/// Compares what ffmpeg decodes from the segments with what it decodes from the pushed file.
async fn comes_out_as_it_went_in(encoding: usize, audio_tolerance: i64) {
    let hub = Hub::new(config());
    let hls = Hls::new(hub.clone());
    let tags = encoded(encoding);
    let first = tokio::spawn({
        let hls = hls.clone();
        async move { hls.playlist(&allow(), play()).await }
    });
    tokio::task::yield_now().await;
    push(&hub, &tags).await;
    let list = first.await.unwrap().unwrap();
    assert!(list.starts_with("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n"), "{list}");
    let list = hls.playlist(&allow(), play()).await.unwrap();
    let mut bytes = Vec::new();
    for url in urls(&list) {
        bytes.extend(hls.segment(&allow(), play(), number(url)).await.unwrap().unwrap());
    }
    let file = scratch(&format!("hls-{}-{encoding}.ts", std::process::id()));
    std::fs::write(&file, bytes).unwrap();
    let mut flv = lianmai_media_plane::flv::file_header(true, true).to_vec();
    tags.iter().for_each(|tag| {
        flv.extend(lianmai_media_plane::flv::encode_tag(tag.kind, tag.time, &tag.body))
    });
    let pushed = file.with_extension("flv");
    std::fs::write(&pushed, flv).unwrap();
    for (map, tolerance) in [("0:v", 0), ("0:a", audio_tolerance)] {
        let pushed = frames(&pushed, map, "1:1000").unwrap();
        let played = frames(&file, map, "1:1000").unwrap();
        let at = pushed.iter().position(|(_, frame)| *frame == played[2].1).expect("the third") - 2;
        // The first two audio frames depend on frames before them, so they are not compared.
        for ((from, pushed), (to, played)) in pushed[at..].iter().zip(&played).skip(2) {
            assert_eq!(pushed, played);
            // All timestamps in MPEG-TS are later by the same delay.
            assert!((to - from - 700).abs() <= tolerance, "{map}: {from} became {to}");
        }
        assert!(played.len() > 50, "{map}: {} frames", played.len());
    }
    std::fs::remove_file(file).unwrap();
    std::fs::remove_file(pushed).unwrap();
}

#[tokio::test(start_paused = true)]
async fn ffmpeg_decodes_what_was_pushed() {
    comes_out_as_it_went_in(0, 2).await;
}

#[tokio::test(start_paused = true)]
async fn also_pictures_in_another_order() {
    comes_out_as_it_went_in(1, 2).await;
}

#[tokio::test(start_paused = true)]
async fn each_request_is_judged() {
    let hub = Hub::new(config());
    let hls = Hls::new(hub.clone());
    let allowed = Arc::new(AtomicBool::new(true));
    let authorizer = Answer({
        let allowed = allowed.clone();
        move |request: StreamRequest| {
            assert_eq!((request.direction, &*request.query), (Direction::Play, "v=bob"));
            match allowed.load(Ordering::Relaxed) {
                true => {
                    Verdict::Allow { viewer: Some("bob".into()), kinds: Kinds::BOTH, account: None }
                }
                false => Verdict::Deny { code: "notMember", message: "gone".into() },
            }
        }
    });
    let ask = async || hls.playlist(&authorizer, play()).await;
    assert_eq!(ask().await.unwrap_err().code, "noSegment", "a stream that does not come");
    push(&hub, &encoded(0)).await;
    let list = ask().await.unwrap();
    let number = number(urls(&list)[0]);
    assert!(hls.segment(&authorizer, play(), number).await.unwrap().is_some());
    assert_eq!(hls.segment(&authorizer, play(), 1).await, Ok(None));
    allowed.store(false, Ordering::Relaxed);
    assert_eq!(ask().await.unwrap_err().code, "notMember");
    assert_eq!(hls.segment(&authorizer, play(), number).await.unwrap_err().code, "notMember");
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_the_first_segment_is_awaited_gets_no_list() {
    let hub = Hub::new(config());
    let hls = Hls::new(hub.clone());
    let answers = Arc::new(AtomicBool::new(true));
    let authorizer = Answer({
        let answers = answers.clone();
        move |_: StreamRequest| match answers.swap(false, Ordering::Relaxed) {
            true => Verdict::Allow { viewer: None, kinds: Kinds::BOTH, account: None },
            false => Verdict::Deny { code: "notMember", message: "gone".into() },
        }
    });
    let asked = tokio::spawn(async move { hls.playlist(&authorizer, play()).await });
    tokio::task::yield_now().await;
    push(&hub, &encoded(0)).await;
    assert_eq!(asked.await.unwrap().unwrap_err().code, "notMember");
}

#[tokio::test(start_paused = true)]
async fn a_request_does_not_wait_for_a_stream_that_has_ended() {
    let hub = Hub::new(config());
    let hls = Hls::new(hub.clone());
    let asked = tokio::spawn(async move { hls.playlist(&allow(), play()).await });
    while hub.stats().players == 0 {
        tokio::task::yield_now().await;
    }
    let before = Instant::now();
    hub.cut_stream(&play().name());
    assert_eq!(asked.await.unwrap().unwrap_err().code, "noSegment");
    assert_eq!(before.elapsed(), Duration::ZERO, "no segment comes any more");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_asks_for_costs_nothing() {
    let hub = Hub::new(config());
    let hls = Hls::new(hub.clone());
    let tags = encoded(0);
    push(&hub, &tags).await;
    assert_eq!((hls.streams(), hub.stats().players), (0, 0));
    assert_eq!(hls.segment(&allow(), play(), 1).await, Ok(None), "begins nothing");
    assert_eq!(hls.streams(), 0);
    let first = tokio::spawn({
        let hls = hls.clone();
        async move { hls.playlist(&allow(), play()).await }
    });
    tokio::task::yield_now().await;
    push(&hub, &tags).await;
    first.await.unwrap().unwrap();
    let list = hls.playlist(&allow(), play()).await.unwrap();
    assert_eq!((hls.streams(), hub.stats().players), (1, 1), "one for all viewers");
    for _ in 0..4 {
        advance(Duration::from_secs(20)).await;
        tokio::task::yield_now().await;
        assert_eq!(hls.playlist(&allow(), play()).await.as_ref(), Ok(&list));
    }
    advance(Duration::from_secs(31)).await;
    tokio::task::yield_now().await;
    assert_eq!((hls.streams(), hub.stats().players), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn segments_have_a_bound() {
    // The stream has half of its member's share, and the member has an eighth.
    let hub = Hub::new(RelayConfig { hls_total_bytes: 16 * 150_000, ..config() });
    let hls = Hls::new(hub.clone());
    let tags = encoded(0);
    let first = tokio::spawn({
        let hls = hls.clone();
        async move { hls.playlist(&allow(), play()).await }
    });
    tokio::task::yield_now().await;
    push(&hub, &tags).await;
    first.await.unwrap().unwrap();
    let list = hls.playlist(&allow(), play()).await.unwrap();
    let mut kept = 0;
    let newest = number(urls(&list).last().unwrap());
    for number in newest - 20..=newest {
        kept += hls.segment(&allow(), play(), number).await.unwrap().map_or(0, |it| it.len());
    }
    assert!((50_000..=150_000).contains(&kept), "{kept} bytes are kept");
}

/// A transport stream names the codec of its audio once.
#[test]
fn a_segment_has_audio_of_one_codec() {
    let mut segmenter = Segmenter::new(10_000);
    let mut push = |time, body: &[u8]| {
        segmenter.push(&Packet::of_message(MediaKind::Audio, time, body).unwrap())
    };
    assert!(push(0, b"\xAF\0\x12\x10").is_none());
    // The first segment of audio waits a little for a picture.
    for time in (0..5_000).step_by(20) {
        assert!(push(time, b"\xAF\x01\x21\x10\x04").is_none());
    }
    let mp3 = [&b"\x2F\xFF\xFB\x90\0"[..], &[0; 32]].concat();
    let ended = push(5_000, &mp3).expect("AAC has ended");
    assert!((1..=5_000).contains(&ended.span), "{}", ended.span);
    assert!(push(5_026, &mp3).is_none());
}

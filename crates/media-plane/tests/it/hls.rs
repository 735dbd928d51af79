//! HLS: ffmpeg decodes from the segments what was pushed; each request is authorized; a stream that nobody requests
//! costs nothing.
//! Proves URL-16.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lianmai_media_plane::hls::{Segment, Segmenter};
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

/// Time passes without media, and the incomplete segment ends.
async fn silence() {
    advance(Duration::from_secs(3)).await;
    tokio::task::yield_now().await;
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
async fn ffmpeg_decodes_reordered_pictures() {
    comes_out_as_it_went_in(1, 2).await;
}

#[tokio::test(start_paused = true)]
async fn each_hls_request_is_authorized() {
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
async fn a_viewer_that_leaves_before_the_first_segment_gets_no_playlist() {
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
async fn a_stream_without_requests_is_not_packaged() {
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
    silence().await;
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

/// The publisher may return. Until then the viewers see all that it has sent.
#[tokio::test(start_paused = true)]
async fn the_last_segment_is_delivered() {
    let hub = Hub::new(config());
    let hls = Hls::new(hub.clone());
    let first = tokio::spawn({
        let hls = hls.clone();
        async move { hls.playlist(&allow(), play()).await }
    });
    tokio::task::yield_now().await;
    push(&hub, &encoded(0)).await;
    first.await.unwrap().unwrap();
    let newest = async || {
        let list = hls.playlist(&allow(), play()).await.unwrap();
        number(urls(&list).last().unwrap())
    };
    let before = newest().await;
    silence().await;
    assert_eq!(newest().await, before + 1);
    let last = hls.segment(&allow(), play(), before + 1).await.unwrap().unwrap();
    assert!(frames_in(&last).iter().all(|count| *count > 0));
    silence().await;
    assert_eq!(newest().await, before + 1, "there is no more");
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

/// Bodies of messages: parameters and frames of H.264 and AAC, and a frame of MP3.
const HEAD_V: &[u8] = b"\x17\0\0\0\0\x01\x42\0\x1e\xFF\xE1\0\x02\x67a\x01\0\x02\x68b";
const KEY: &[u8] = b"\x17\x01\0\0\0\0\0\0\x02\x65c";
const INTER: &[u8] = b"\x27\x01\0\0\0\0\0\0\x02\x41c";
const HEAD_A: &[u8] = b"\xAF\0\x12\x10";
const SOUND: &[u8] = b"\xAF\x01\x21\x10\x04";
const MP3: &[u8] = b"\x2F\xFF\xFB\x90\0\0\0\0\0";

/// The numbers of pictures and sounds in a segment.
fn frames_in(segment: &[u8]) -> [usize; 2] {
    let begins = |pid| {
        let of_pid = |packet: &[u8]| {
            packet[1] & 0x40 != 0 && u16::from_be_bytes([packet[1] & 0x1F, packet[2]]) == pid
        };
        segment.chunks(188).filter(|packet| of_pid(packet)).count()
    };
    [begins(0x100), begins(0x101)]
}

/// A segmenter, what it has made, and a publisher with 25 pictures a second and a keyframe each two seconds.
struct Cut {
    segmenter: Segmenter,
    segments: Vec<Segment>,
    /// Time of step 0, ms.
    begin: u32,
}

impl Cut {
    fn new(begin: u32) -> Self {
        Self { segmenter: Segmenter::new(500), segments: Vec::new(), begin }
    }

    fn send(&mut self, kind: MediaKind, time: u32, body: &[u8]) {
        let packet = Packet::of_message(kind, time, body).unwrap();
        self.segments.extend(self.segmenter.push(&packet));
    }

    /// Sends a picture, and then a sound if there is one, at each step of 40 ms.
    fn run(&mut self, steps: std::ops::Range<u32>, sound: Option<&[u8]>) {
        for step in steps {
            let time = self.begin.wrapping_add(step * 40);
            self.send(MediaKind::Video, time, if step % 50 == 0 { KEY } else { INTER });
            if let Some(sound) = sound {
                self.send(MediaKind::Audio, time, sound);
            }
        }
    }

    /// The pictures and sounds of each segment, its duration, and whether it does not continue the one before it.
    fn cut(&self) -> Vec<([usize; 2], u32, bool)> {
        let cut = |segment: &Segment| (frames_in(&segment.bytes), segment.span, segment.breaks);
        self.segments.iter().map(cut).collect()
    }
}

/// A transport stream names the codec of its audio once.
#[test]
fn a_segment_has_audio_of_one_codec() {
    let mut segmenter = Segmenter::new(10_000);
    let mut push = |time, body: &[u8]| {
        segmenter.push(&Packet::of_message(MediaKind::Audio, time, body).unwrap())
    };
    assert!(push(0, HEAD_A).is_none());
    // The first segment of audio waits a little for a picture.
    for time in (0..5_000).step_by(20) {
        assert!(push(time, SOUND).is_none());
    }
    let ended = push(5_000, MP3).expect("AAC has ended");
    assert!((1..=5_000).contains(&ended.span), "{}", ended.span);
    assert!(push(5_026, MP3).is_none());
}

#[test]
fn the_picture_goes_on_with_audio_of_another_codec() {
    let mut to_mp3 = Cut::new(0);
    to_mp3.send(MediaKind::Video, 0, HEAD_V);
    to_mp3.send(MediaKind::Audio, 0, HEAD_A);
    to_mp3.run(0..25, Some(SOUND));
    to_mp3.run(25..101, Some(MP3));
    let whole = ([50, 50], 2000, false);
    assert_eq!(to_mp3.cut(), [([26, 25], 1000, true), ([24, 25], 1000, true), whole]);
    let mut to_48_khz = Cut::new(0);
    to_48_khz.send(MediaKind::Video, 0, HEAD_V);
    to_48_khz.send(MediaKind::Audio, 0, HEAD_A);
    to_48_khz.run(0..25, Some(SOUND));
    to_48_khz.send(MediaKind::Audio, 960, b"\xAF\0\x11\x90");
    to_48_khz.run(25..101, Some(SOUND));
    // The second one is to end at a keyframe after half a second, so the next keyframe ends it.
    assert_eq!(to_48_khz.cut(), [([25, 25], 960, true), ([25, 25], 1000, false), whole]);
}

#[test]
fn the_picture_goes_on_when_audio_begins() {
    for (head, sound) in [(Some(HEAD_A), SOUND), (None, MP3)] {
        let mut cut = Cut::new(0);
        cut.send(MediaKind::Video, 0, HEAD_V);
        cut.run(0..75, None);
        if let Some(head) = head {
            cut.send(MediaKind::Audio, 2960, head);
        }
        cut.run(75..151, Some(sound));
        let begun = [([50, 0], 2000, true), ([50, 25], 2000, true), ([50, 50], 2000, false)];
        assert_eq!(cut.cut(), begun);
    }
}

#[test]
fn a_second_track_changes_nothing() {
    let mut cut = Cut::new(0);
    cut.send(MediaKind::Video, 0, HEAD_V);
    cut.send(MediaKind::Audio, 0, HEAD_A);
    cut.run(0..25, Some(SOUND));
    assert!(!cut.segmenter.has_skipped());
    cut.send(MediaKind::Audio, 960, b"\x95\0mp4a\x01\x12\x10");
    cut.send(MediaKind::Video, 960, &[b"\x96\0avc1\x01", &HEAD_V[5..]].concat());
    cut.send(MediaKind::Audio, 960, b"\x95\x01mp4a\x01\x21\x10\x04");
    cut.send(MediaKind::Video, 960, &[b"\x96\x01avc1\x01", &KEY[5..]].concat());
    cut.run(25..101, Some(SOUND));
    assert_eq!(cut.cut(), [([50, 50], 2000, true), ([50, 50], 2000, false)]);
    assert!(cut.segmenter.has_skipped());
}

/// Frames of a codec whose parameters the segmenter does not have.
#[test]
fn frames_of_another_codec_are_skipped() {
    let mut cut = Cut::new(0);
    cut.send(MediaKind::Video, 0, HEAD_V);
    cut.send(MediaKind::Audio, 0, HEAD_A);
    for step in 0..101 {
        cut.run(step..step + 1, Some(SOUND));
        cut.send(MediaKind::Video, step * 40, b"\x12\0\0\0\x02\x65c");
        cut.send(MediaKind::Audio, step * 40, b"\x91Opusabc");
    }
    assert_eq!(cut.cut(), [([50, 50], 2000, true), ([50, 50], 2000, false)]);
    assert!(cut.segmenter.has_skipped());
}

/// An encoder that comes back: the time without media belongs to no segment.
#[test]
fn a_segment_ends_where_the_media_pauses() {
    let mut cut = Cut::new(0);
    cut.send(MediaKind::Video, 0, HEAD_V);
    cut.send(MediaKind::Audio, 0, HEAD_A);
    cut.run(0..75, Some(SOUND));
    // Audio comes first, and waits for the keyframe.
    cut.send(MediaKind::Audio, 13_990, SOUND);
    cut.run(350..375, Some(SOUND));
    let cut_so_far = [([50, 50], 2000, true), ([25, 25], 960, false)];
    assert_eq!(cut.cut(), cut_so_far);
    // The same encoder goes on in the middle of a group.
    cut.run(575..601, Some(SOUND));
    assert_eq!(cut.cut()[2..], [([25, 25], 960, true), ([25, 25], 1000, true)]);
}

/// A push that announces a camera that is off.
#[test]
fn audio_does_not_wait_for_ever_for_a_picture() {
    let mut cut = Cut::new(0);
    cut.send(MediaKind::Video, 0, HEAD_V);
    cut.send(MediaKind::Audio, 0, HEAD_A);
    for time in (0..8000).step_by(20) {
        assert!(cut.segments.is_empty() || time > 5500);
        cut.send(MediaKind::Audio, time, SOUND);
    }
    // The picture comes after all.
    cut.run(200..251, Some(SOUND));
    let (mut segments, last) = (cut.cut(), ([50, 50], 2000, true));
    assert_eq!(segments.pop(), Some(last));
    assert_eq!(segments.remove(0), ([0, 25], 500, true));
    assert_eq!(segments, [([0, 25], 500, false); 5]);
}

/// The first segment waits a second for a picture, and no other does.
#[test]
fn audio_alone_has_no_holes() {
    let mut cut = Cut::new(0);
    cut.send(MediaKind::Audio, 0, HEAD_A);
    for time in (0..=6000).step_by(20) {
        cut.send(MediaKind::Audio, time, SOUND);
    }
    let mut segments = cut.cut();
    assert_eq!(segments.remove(0), ([0, 25], 500, true));
    assert_eq!(segments, [([0, 25], 500, false); 9]);
}

/// The keyframes of a stream are farther apart than a segment is long.
#[test]
fn the_picture_goes_on_after_a_segment_of_maximum_length() {
    let mut cut = Cut::new(0);
    cut.send(MediaKind::Video, 0, HEAD_V);
    cut.send(MediaKind::Audio, 0, HEAD_A);
    cut.send(MediaKind::Video, 0, KEY);
    // A sound ends the first segment.
    for step in 0..500 {
        cut.send(MediaKind::Audio, step * 40, SOUND);
        cut.send(MediaKind::Video, step * 40 + 20, INTER);
    }
    cut.send(MediaKind::Video, 20_000, KEY);
    assert_eq!(cut.cut(), [([376, 375], 15_000, true), ([125, 125], 5000, false)]);
}

/// Times have 32 bits.
#[test]
fn segments_go_on_when_times_wrap() {
    for begin in [0, 3_000_000_000, u32::MAX - 2999] {
        let mut cut = Cut::new(begin);
        cut.send(MediaKind::Video, 0, HEAD_V);
        cut.send(MediaKind::Audio, 0, HEAD_A);
        cut.run(0..151, Some(SOUND));
        let whole = |breaks| ([50, 50], 2000, breaks);
        assert_eq!(cut.cut(), [whole(true), whole(false), whole(false)], "{begin}");
    }
}

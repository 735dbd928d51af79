//! The hub under a paused clock: no sockets, and no waiting in real time.
//! Proves no rule of the protocol: how the relay hands media on.

use std::sync::Arc;
use std::time::Duration;

use lianmai_media_plane::{
    Authorizer, Denied, DeniedKind, Direction, EndReason, FactState, Hub, Kinds, MediaKind, Packet,
    Player, Publisher, RelayConfig, StreamName, StreamRequest, Verdict,
};
use tokio::sync::mpsc;
use tokio::time::advance;

use crate::support::*;

/// Video and audio whose codecs need no header: Sorenson H.263 and MP3.
pub(crate) const KEY: &[u8] = &[0x12, 1, 0, 0, 0, 1];
const FRAME: &[u8] = &[0x22, 1, 0, 0, 0, 2];
pub(crate) const AUDIO: &[u8] = &[0x2F, 1, 5];
/// H.264 and AAC.
pub(crate) const AVC_KEY: &[u8] = &[0x17, 1, 0, 0, 0, 1];
pub(crate) const AVC_FRAME: &[u8] = &[0x27, 1, 0, 0, 0, 2];
pub(crate) const AAC: &[u8] = &[0xAF, 1, 5];
const VIDEO_HEADER: &[u8] = &[0x17, 0, 0, 0, 0, 9];
const AUDIO_HEADER: &[u8] = &[0xAF, 0, 0x12, 0x10];
pub(crate) const METADATA: &[u8] = b"\x02\x00\x0aonMetaData\x05";

pub(crate) fn hub() -> Hub {
    Hub::new(RelayConfig::default())
}

fn name(stream: &str) -> StreamName {
    StreamName::new("live", stream)
}

pub(crate) async fn publish(hub: &Hub, stream: &str) -> Result<Publisher, Denied> {
    hub.publish(&allow(), request(Direction::Publish, stream, "")).await
}

async fn play(hub: &Hub, stream: &str, query: &str) -> Result<Player, Denied> {
    hub.play(&allow(), request(Direction::Play, stream, query)).await
}

pub(crate) fn video(publisher: &Publisher, timestamp: u32, body: &[u8]) {
    publisher.send(MediaKind::Video, timestamp, body).unwrap();
}

pub(crate) fn audio(publisher: &Publisher, timestamp: u32, body: &[u8]) {
    publisher.send(MediaKind::Audio, timestamp, body).unwrap();
}

pub(crate) fn headers(publisher: &Publisher) {
    publisher.send(MediaKind::Metadata, 0, METADATA).unwrap();
    video(publisher, 0, VIDEO_HEADER);
    audio(publisher, 0, AUDIO_HEADER);
}

fn ready(player: &Player) -> Vec<Arc<Packet>> {
    let mut batch = Vec::new();
    while player.take_ready(&mut batch, 64) {}
    batch
}

/// Kind, timestamp and first two bytes of the packets that are ready.
fn seen(player: &Player) -> Vec<(MediaKind, u32, [u8; 2])> {
    let short = |packet: &Arc<Packet>| {
        let body = packet.body();
        (packet.kind(), packet.timestamp(), [body[0], body[1]])
    };
    ready(player).iter().map(short).collect()
}

#[tokio::test(start_paused = true)]
async fn a_late_player_gets_headers_and_the_group() {
    let hub = hub();
    let publisher = publish(&hub, "a").await.unwrap();
    headers(&publisher);
    video(&publisher, 0, AVC_KEY);
    video(&publisher, 40, AVC_FRAME);
    video(&publisher, 2000, AVC_KEY);
    audio(&publisher, 2010, AAC);
    video(&publisher, 2040, AVC_FRAME);
    let player = play(&hub, "a", "").await.unwrap();
    video(&publisher, 2080, AVC_FRAME);
    assert_eq!(
        seen(&player),
        [
            (MediaKind::Metadata, 0, [2, 0]),
            (MediaKind::Video, 2000, [0x17, 0]),
            (MediaKind::Audio, 2000, [0xAF, 0]),
            (MediaKind::Video, 2000, [0x17, 1]),
            (MediaKind::Audio, 2010, [0xAF, 1]),
            (MediaKind::Video, 2040, [0x27, 1]),
            (MediaKind::Video, 2080, [0x27, 1]),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn payload_is_shared_and_encoded_once() {
    let hub = hub();
    let players = [play(&hub, "a", "").await.unwrap(), play(&hub, "a", "").await.unwrap()];
    let publisher = publish(&hub, "a").await.unwrap();
    video(&publisher, 0, KEY);
    let [one, two] = players.map(|player| ready(&player).remove(0));
    assert!(Arc::ptr_eq(&one, &two));
    assert_eq!(one.rtmp().as_ptr(), two.rtmp().as_ptr());
    assert_eq!(messages(one.rtmp())[0].payload, KEY);
}

/// Proves URL-8.
#[tokio::test(start_paused = true)]
async fn a_player_that_was_first_waits_and_starts_at_a_keyframe() {
    let hub = hub();
    let player = play(&hub, "a", "").await.unwrap();
    assert_eq!((hub.stats().players, hub.stats().waiters), (1, 1));
    advance(Duration::from_secs(3600)).await;
    hub.tick();
    let publisher = publish(&hub, "a").await.unwrap();
    assert_eq!(hub.stats().waiters, 0);
    headers(&publisher);
    video(&publisher, 0, AVC_FRAME);
    audio(&publisher, 10, AAC);
    video(&publisher, 40, AVC_KEY);
    let kinds: Vec<_> = seen(&player).into_iter().map(|(_, _, bytes)| bytes).collect();
    assert_eq!(kinds, [[2, 0], [0x17, 0], [0xAF, 0], [0xAF, 1], [0x17, 1]]);
}

#[tokio::test(start_paused = true)]
async fn an_overflowing_group_is_dropped_until_the_next_keyframe() {
    let hub = Hub::new(RelayConfig { gop_packets: 3, ..RelayConfig::default() });
    let publisher = publish(&hub, "a").await.unwrap();
    video(&publisher, 0, KEY);
    for index in 1..5 {
        video(&publisher, index * 40, FRAME);
    }
    let player = play(&hub, "a", "").await.unwrap();
    assert_eq!(seen(&player), []);
    video(&publisher, 200, FRAME);
    video(&publisher, 240, KEY);
    assert_eq!(seen(&player), [(MediaKind::Video, 240, [0x12, 1])]);
    let player = play(&hub, "a", "").await.unwrap();
    assert_eq!(seen(&player), [(MediaKind::Video, 240, [0x12, 1])]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_player_is_cut_and_others_are_not() {
    let hub = Hub::new(RelayConfig { player_queue_bytes: 10_000, ..RelayConfig::default() });
    let publisher = publish(&hub, "a").await.unwrap();
    let big_key = [KEY, &[0; 30_000]].concat();
    video(&publisher, 0, &big_key);
    // A start that is larger than the queue does not count as lag.
    let (slow, fast) = (play(&hub, "a", "").await.unwrap(), play(&hub, "a", "").await.unwrap());
    let mut count = 0;
    for index in 1..30 {
        advance(Duration::from_millis(100)).await;
        audio(&publisher, index * 100, &[0x2F; 1000]);
        count += ready(&fast).len();
    }
    assert_eq!(count, 30);
    assert_eq!(slow.cut().await, EndReason::TooSlow);
    assert_eq!(slow.next(&mut Vec::new(), 9).await, Err(EndReason::TooSlow));
    assert!(fast.cut_reason().is_none());
    assert_eq!(hub.stats().slow_players_cut, 1);
    drop(slow);
    assert_eq!(hub.stats().players, 1);
}

/// Proves URL-8.
#[tokio::test(start_paused = true)]
async fn a_live_publisher_is_not_disturbed_and_a_silent_one_is_replaced() {
    let hub = hub();
    let player = play(&hub, "a", "").await.unwrap();
    let first = publish(&hub, "a").await.unwrap();
    let denied = publish(&hub, "a").await.unwrap_err();
    assert_eq!((denied.kind, denied.code), (DeniedKind::Busy, "streamBusy"), "it has just begun");
    advance(Duration::from_millis(900)).await;
    video(&first, 5000, KEY);
    advance(Duration::from_millis(999)).await;
    assert!(publish(&hub, "a").await.unwrap_err().to_string().starts_with("streamBusy: "));
    video(&first, 5040, FRAME);
    advance(Duration::from_secs(1)).await;

    let second = publish(&hub, "a").await.unwrap();
    assert_eq!(first.cut().await, EndReason::Replaced);
    assert_eq!(first.send(MediaKind::Video, 0, KEY), Err(EndReason::Replaced));
    // The replaced publisher is dropped late, which changes nothing.
    drop(first);
    assert_eq!(hub.stats().publishers, 1);
    video(&second, 0, FRAME);
    video(&second, 40, KEY);
    video(&second, 80, FRAME);
    let times: Vec<_> = seen(&player).into_iter().map(|(_, time, _)| time).collect();
    assert_eq!(times, [5000, 5040, 6080, 6120], "the timeline continues at a keyframe");
    assert_eq!(hub.stats().replaced, 1);
}

/// Proves URL-8.
#[tokio::test(start_paused = true)]
async fn metadata_alone_does_not_hold_a_stream() {
    let hub = hub();
    let first = publish(&hub, "a").await.unwrap();
    advance(Duration::from_secs(1)).await;
    first.send(MediaKind::Metadata, 0, METADATA).unwrap();
    assert!(publish(&hub, "a").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn players_outlive_their_publisher_for_the_gap() {
    let hub = hub();
    let player = play(&hub, "a", "").await.unwrap();
    let publisher = publish(&hub, "a").await.unwrap();
    video(&publisher, 0, KEY);
    drop(publisher);
    advance(Duration::from_secs(14)).await;
    hub.tick();
    let publisher = publish(&hub, "a").await.unwrap();
    video(&publisher, 0, VIDEO_HEADER);
    video(&publisher, 0, KEY);
    drop(publisher);
    advance(Duration::from_secs(14)).await;
    hub.tick();
    // A player that comes within the gap waits for the next publisher like any other player.
    let later = play(&hub, "a", "").await.unwrap();
    advance(Duration::from_secs(1)).await;
    hub.tick();
    let mut batch = Vec::new();
    player.next(&mut batch, 64).await.unwrap();
    assert_eq!(batch.len(), 3, "what is queued still comes");
    assert_eq!(player.next(&mut batch, 64).await, Err(EndReason::StreamEnded));
    assert_eq!(hub.stats().waiters, 1);
    drop((player, later));
    assert_eq!((hub.stats().streams, hub.stats().players, hub.stats().waiters), (0, 0, 0));
}

/// An authorizer that causes a cut before it allows: between the question and the activation.
struct CutFirst<F>(F);

impl<F: Fn(&StreamRequest) + Send + Sync + 'static> Authorizer for CutFirst<F> {
    async fn authorize(&self, request: StreamRequest) -> Verdict {
        (self.0)(&request);
        Verdict::Allow { viewer: None, kinds: Kinds::BOTH, account: None }
    }

    fn viewer(&self, request: &StreamRequest) -> Option<String> {
        viewer_of(request)
    }
}

/// Proves URL-5, URL-6.
#[tokio::test(start_paused = true)]
async fn a_cut_between_verdict_and_activation_is_not_lost() {
    let hub = hub();
    let cutter = hub.clone();
    let cut_stream =
        CutFirst(move |request: &StreamRequest| assert_eq!(cutter.cut_stream(&request.name()), 1));
    let denied = hub.publish(&cut_stream, request(Direction::Publish, "a", "")).await.unwrap_err();
    assert_eq!(denied.to_string(), "denied.cut: the stream was cut meanwhile");
    let denied = hub.play(&cut_stream, request(Direction::Play, "a", "")).await.unwrap_err();
    assert_eq!(denied.code, "cut");
    let cutter = hub.clone();
    let cut_viewer = CutFirst(move |_: &StreamRequest| assert_eq!(cutter.cut_viewer("eve"), 1));
    let denied = hub.play(&cut_viewer, request(Direction::Play, "a", "v=eve")).await.unwrap_err();
    assert_eq!(denied.code, "cut");
    // The cut does not affect later requests.
    assert!(publish(&hub, "a").await.is_ok());
    assert!(play(&hub, "a", "v=eve").await.is_ok());
    assert_eq!((hub.stats().streams, hub.stats().refusals), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_cut_stream_ends_publisher_and_players() {
    let hub = hub();
    let (publisher, other) = (publish(&hub, "a").await.unwrap(), publish(&hub, "b").await.unwrap());
    let player = play(&hub, "a", "").await.unwrap();
    video(&publisher, 0, KEY);
    assert_eq!(hub.cut_stream(&name("a")), 2);
    assert_eq!(publisher.cut().await, EndReason::Cut);
    assert_eq!(publisher.send(MediaKind::Video, 1, KEY), Err(EndReason::Cut));
    assert_eq!(
        player.next(&mut Vec::new(), 9).await,
        Err(EndReason::Cut),
        "queued media is dropped"
    );
    assert_eq!(hub.cut_stream(&name("a")), 0);
    // A new publisher takes the stream before the old publisher and player are dropped.
    let next = publish(&hub, "a").await.unwrap();
    drop((publisher, player));
    video(&next, 0, KEY);
    video(&other, 0, KEY);
    assert_eq!(hub.stats().publishers, 2);
}

#[tokio::test(start_paused = true)]
async fn a_viewer_is_cut_everywhere_or_on_one_stream() {
    let hub = hub();
    let named = Answer(|_: StreamRequest| Verdict::Allow {
        viewer: Some("bob".into()),
        kinds: Kinds::BOTH,
        account: None,
    });
    let by_verdict = hub.play(&named, request(Direction::Play, "a", "")).await.unwrap();
    let by_hint = play(&hub, "a", "v=bob").await.unwrap();
    let elsewhere = play(&hub, "b", "v=bob").await.unwrap();
    let somebody = play(&hub, "a", "v=bobby").await.unwrap();
    assert_eq!(hub.cut_viewer_of("bob", &name("b")), 1);
    assert!(elsewhere.cut_reason().is_some() && by_hint.cut_reason().is_none());
    assert_eq!(hub.cut_viewer("bob"), 2);
    assert!(
        by_verdict.cut_reason().is_some()
            && by_hint.cut_reason().is_some()
            && somebody.cut_reason().is_none()
    );
    assert_eq!(hub.cut_viewer("bob"), 0);
}

#[tokio::test(start_paused = true)]
async fn verdicts_and_their_absence() {
    struct Silent;
    impl Authorizer for Silent {
        async fn authorize(&self, _: StreamRequest) -> Verdict {
            std::future::pending().await
        }
    }
    let hub = hub();
    let denied = hub.publish(&Silent, request(Direction::Publish, "a", "")).await.unwrap_err();
    assert_eq!((denied.kind, denied.code), (DeniedKind::Overload, "authTimeout"));
    assert!(denied.to_string().starts_with("authTimeout: "), "the text does not contain the URL");
    let no = Answer(|_: StreamRequest| Verdict::Deny { code: "notYours", message: "no".into() });
    let denied = hub.play(&no, request(Direction::Play, "a", "")).await.unwrap_err();
    assert_eq!(denied.to_string(), "denied.notYours: no");
    assert_eq!((hub.stats().streams, hub.stats().refusals), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn players_and_waiters_are_bounded() {
    let hub = Hub::new(RelayConfig { max_waiters: 1, max_players: 2, ..RelayConfig::default() });
    let _waiter = play(&hub, "a", "").await.unwrap();
    assert_eq!(play(&hub, "b", "").await.unwrap_err().code, "tooManyWaiters");
    let _publisher = publish(&hub, "c").await.unwrap();
    let _player = play(&hub, "c", "").await.unwrap();
    assert_eq!(play(&hub, "c", "").await.unwrap_err().code, "tooManyPlayers");
    assert_eq!(hub.stats().players, 2);
}

#[tokio::test(start_paused = true)]
async fn facts_follow_payload() {
    let (sink, mut facts) = mpsc::channel(64);
    let hub = Hub::with_facts(RelayConfig::default(), sink);
    let mut states = move || -> Vec<FactState> {
        std::iter::from_fn(|| facts.try_recv().ok()).map(|fact| fact.state).collect()
    };
    let publisher = publish(&hub, "a").await.unwrap();
    publisher.send(MediaKind::Metadata, 0, METADATA).unwrap();
    assert_eq!(states(), [FactState::Started]);
    for index in 0..22 {
        video(&publisher, index * 500, KEY);
        hub.tick();
        advance(Duration::from_millis(500)).await;
    }
    assert_eq!(states(), [FactState::Flowing; 3], "an edge, then every five seconds");
    advance(Duration::from_secs(2)).await;
    hub.tick();
    advance(Duration::from_secs(20)).await;
    hub.tick();
    assert_eq!(states(), [FactState::Stalled]);
    video(&publisher, 20_000, KEY);
    let next = async {
        advance(Duration::from_secs(1)).await;
        publish(&hub, "a").await.unwrap()
    };
    drop(next.await);
    drop(publisher);
    assert_eq!(
        states(),
        [FactState::Flowing, FactState::Ended, FactState::Started, FactState::Ended]
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_sink_delays_the_newest_state() {
    let (sink, mut facts) = mpsc::channel(1);
    let hub = Hub::with_facts(RelayConfig::default(), sink);
    let publisher = publish(&hub, "a").await.unwrap();
    video(&publisher, 0, KEY);
    drop(publisher);
    assert_eq!(facts.try_recv().unwrap().state, FactState::Started);
    assert!(facts.try_recv().is_err());
    hub.tick();
    assert_eq!(
        facts.try_recv().unwrap().state,
        FactState::Ended,
        "the stream is gone, its end is still told"
    );
    assert_eq!(hub.stats().facts_delayed, 2);
}

/// Proves URL-13.
#[tokio::test(start_paused = true)]
async fn what_is_accepted_reaches_a_player_that_keeps_up() {
    let hub = hub();
    let publisher = publish(&hub, "a").await.unwrap();
    let (fast, slow) = (play(&hub, "a", "").await.unwrap(), play(&hub, "a", "").await.unwrap());
    for (index, size) in [1 << 20, 3 << 20, 5 << 20, 8 << 20].into_iter().enumerate() {
        let time = u32::try_from(index * 1000).unwrap();
        video(&publisher, time, &[KEY, &vec![0; size - 16]].concat());
        // Small messages come while the large one is on its way.
        for step in 1..5 {
            advance(Duration::from_millis(250)).await;
            video(&publisher, time + step * 250, FRAME);
        }
        assert_eq!(ready(&fast).len(), 5, "{size}");
    }
    assert_eq!((fast.cut_reason(), slow.cut().await), (None, EndReason::TooSlow));
}

/// Proves URL-13.
#[tokio::test(start_paused = true)]
async fn a_large_message_that_was_taken_does_not_count_as_lag() {
    let hub = hub();
    let player = play(&hub, "a", "").await.unwrap();
    let publisher = publish(&hub, "a").await.unwrap();
    video(&publisher, 0, &[KEY, &vec![0; 3 << 20]].concat());
    video(&publisher, 40, FRAME);
    let mut batch = Vec::new();
    player.next(&mut batch, 1).await.unwrap();
    // The queue now holds fewer bytes than its largest message had.
    video(&publisher, 80, FRAME);
    assert_eq!(player.cut_reason(), None);
    assert_eq!(ready(&player).len(), 2);
}

/// A short burst of many bytes is no lag. Far too many bytes are, however short the time.
#[tokio::test(start_paused = true)]
async fn lag_is_judged_in_bytes_and_in_time() {
    let hub = Hub::new(RelayConfig { player_queue_bytes: 10_000, ..RelayConfig::default() });
    let publisher = publish(&hub, "a").await.unwrap();
    let player = play(&hub, "a", "").await.unwrap();
    for _ in 0..50 {
        advance(Duration::from_millis(18)).await;
        audio(&publisher, 0, &[0x2F; 1000]);
    }
    assert_eq!((player.cut_reason(), ready(&player).len()), (None, 50));
    for _ in 0..100 {
        audio(&publisher, 0, &[0x2F; 1000]);
    }
    assert_eq!(player.cut_reason(), Some(EndReason::TooSlow));
}

#[tokio::test(start_paused = true)]
async fn a_paused_play_holds_nothing_and_goes_on_at_a_keyframe() {
    let hub = hub();
    let publisher = publish(&hub, "a").await.unwrap();
    let player = play(&hub, "a", "").await.unwrap();
    headers(&publisher);
    video(&publisher, 0, AVC_KEY);
    player.pause(true);
    for index in 1..1000 {
        advance(Duration::from_millis(40)).await;
        let body = if index % 100 == 0 { AVC_KEY } else { AVC_FRAME };
        video(&publisher, index * 40, &[body, &[0; 10_000]].concat());
    }
    assert_eq!((seen(&player), player.cut_reason()), (vec![], None));
    player.pause(false);
    let kinds: Vec<_> = seen(&player).into_iter().map(|(_, _, bytes)| bytes).collect();
    assert_eq!(kinds[..5], [[2, 0], [0x17, 0], [0xAF, 0], [0x17, 1], [0x27, 1]]);
    video(&publisher, 40_000, AVC_FRAME);
    assert_eq!(seen(&player).len(), 1);
    player.pause(true);
    assert_eq!(hub.cut_stream(&name("a")), 2);
    assert_eq!(player.next(&mut Vec::new(), 9).await, Err(EndReason::Cut));
}

#[tokio::test(start_paused = true)]
async fn too_many_headers_end_the_publish() {
    let hub = hub();
    let long = [VIDEO_HEADER, &[0; 64 << 10]].concat();
    let track = |track: u8| [b"\x96\x00avc1".as_slice(), &[track, 1]].concat();
    let many: Vec<_> = (0..17).map(track).collect();
    for (bodies, accepted) in [(vec![long], 0), (many, 16)] {
        let publisher = publish(&hub, "a").await.unwrap();
        let sent = bodies.iter().map(|body| publisher.send(MediaKind::Video, 0, body));
        let results: Vec<_> = sent.collect();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), accepted);
        assert_eq!(results.last(), Some(&Err(EndReason::TooManyHeaders)));
        // Repetitions of the same header count once.
        drop(publisher);
        let publisher = publish(&hub, "a").await.unwrap();
        (0..100).for_each(|_| video(&publisher, 0, VIDEO_HEADER));
        // Metadata that is too long reaches only present players.
        publisher.send(MediaKind::Metadata, 0, &[METADATA, &[0; 70_000]].concat()).unwrap();
        assert_eq!(seen(&play(&hub, "a", "").await.unwrap()).len(), 1);
    }
}

/// Proves URL-15.
#[tokio::test(start_paused = true)]
async fn a_probe_takes_no_slot() {
    let hub = Hub::new(RelayConfig { max_players: 4, ..RelayConfig::default() });
    let mut plays = Vec::new();
    for _ in 0..4 {
        plays.push(play(&hub, "a", "v=bob").await.unwrap());
    }
    for _ in 0..8 {
        hub.probe(&allow(), request(Direction::Play, "a", "v=bob")).await.unwrap();
    }
    assert!(plays.iter().all(|play| play.cut_reason().is_none()));
    let no = Answer(|_: StreamRequest| Verdict::Deny { code: "notYours", message: "no".into() });
    let denied = hub.probe(&no, request(Direction::Play, "b", "")).await.unwrap_err();
    assert_eq!((denied.code, hub.stats().streams), ("notYours", 1));
}

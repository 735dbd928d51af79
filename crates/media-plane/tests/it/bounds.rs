//! What one peer or one viewer can take from others: memory, places, log lines.
//! Proves no rule of the protocol: bounds of the relay.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use lianmai_media_plane::rtmp::amf0::Value;
use lianmai_media_plane::rtmp::command::Command;
use lianmai_media_plane::rtmp::limits::{
    MAX_COMMAND_MESSAGE, MAX_IDLE_PARTIAL_BYTES, MAX_MEDIA_MESSAGE,
};
use lianmai_media_plane::rtmp::message::message_type;
use lianmai_media_plane::rtmp::{Event, RtmpError};
use lianmai_media_plane::{
    Direction, EndReason, Hub, Kinds, MediaKind, Player, RelayConfig, StreamName, StreamRequest,
    Verdict, pull,
};
use tokio::time::{advance, timeout};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Metadata, Subscriber};

use crate::support::*;

const KEY: &[u8] = &[0x12, 1, 0];

/// The first `sent` bytes of a video message, in one chunk.
fn unfinished(chunk_stream: u8, length: usize, sent: usize) -> Vec<u8> {
    let mut bytes = chunked(chunk_stream, message_type::VIDEO, 1, 0, &vec![0x27; length], sent);
    bytes.truncate(12 + sent);
    bytes
}

fn chunk_size(size: usize) -> Vec<u8> {
    let size = u32::try_from(size).unwrap().to_be_bytes();
    message(2, message_type::SET_CHUNK_SIZE, 0, 0, &size)
}

/// The result and the events of `bytes` that follow an accepted request.
fn behind(first: &[u8], bytes: &[u8]) -> (Result<(), RtmpError>, Vec<Event>) {
    let (mut session, mut outcome) = (session(), Outcome::default());
    run(&mut session, &mut outcome, first).unwrap();
    outcome.events.clear();
    let result = run(&mut session, &mut outcome, bytes);
    outcome.drain(&mut session);
    (result, outcome.events)
}

/// The lengths of the media bodies among the events.
fn bodies(events: &[Event]) -> Vec<usize> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Media { payload, .. } => Some(payload.len()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_player_connection_has_no_buffer_for_media() {
    let part = MAX_IDLE_PARTIAL_BYTES / 2;
    let two = |more| {
        let second = unfinished(7, MAX_COMMAND_MESSAGE, part + more);
        [chunk_size(part + more), unfinished(6, MAX_COMMAND_MESSAGE, part), second].concat()
    };
    let long = unfinished(6, MAX_COMMAND_MESSAGE + 1, 1);
    let largest = chunked(6, message_type::VIDEO, 1, 0, &vec![0x27; MAX_MEDIA_MESSAGE], 65_536);
    let largest = [chunk_size(65_536), largest].concat();

    assert_eq!(behind(&play_bytes("a"), &two(0)).0, Ok(()));
    // The first message is unfinished when the second has grown to the bound.
    let grown = [two(0), vec![0xC6], vec![0x27; 1]].concat();
    assert_eq!(behind(&play_bytes("a"), &grown).0, Err(RtmpError::PartialBytes));
    assert_eq!(behind(&play_bytes("a"), &long), (Ok(()), vec![]));
    assert_eq!(behind(&play_bytes("a"), &largest), (Ok(()), vec![]), "skipped while it arrives");
    assert_eq!(behind(&publish_bytes("a"), &grown).0, Ok(()));
    assert_eq!(behind(&publish_bytes("a"), &long).0, Ok(()));
    let (result, events) = behind(&publish_bytes("a"), &largest);
    assert_eq!((result, bodies(&events)), (Ok(()), vec![MAX_MEDIA_MESSAGE]));
}

/// Media that is under way when the publish ends is dropped and not kept.
#[test]
fn the_buffer_of_a_publisher_ends_with_its_publish() {
    let stop = Command {
        name: "closeStream".into(),
        transaction: 0.0,
        object: Value::Null,
        arguments: vec![],
    };
    let stop = chunked(3, message_type::COMMAND, 1, 0, &stop.encode(), 65_536);
    let mut under_way = [chunk_size(65_536), unfinished(6, 200_000, 65_536), vec![0xC6]].concat();
    under_way.extend(vec![0x27; 65_536]);
    under_way.extend(&stop);
    under_way.extend([0xC6]);
    under_way.extend(vec![0x27; 65_536]);
    under_way.extend([0xC6]);
    under_way.extend(vec![0x27; 200_000 - 3 * 65_536]);
    assert_eq!(behind(&publish_bytes("a"), &under_way), (Ok(()), vec![Event::Stopped]));
    let again = command(1, "publish", 0.0, Value::Null, vec![text("a")]);
    let again = [&under_way[..], &again, &unfinished(7, 1, 1)].concat();
    let (result, events) = behind(&publish_bytes("a"), &again);
    assert_eq!((result, bodies(&events)), (Ok(()), vec![1]), "it may publish anew");
}

async fn play(hub: &Hub, stream: &str, query: &str) -> Player {
    hub.play(&allow(), request(Direction::Play, stream, query)).await.unwrap()
}

fn live(players: &[Player]) -> Vec<bool> {
    players.iter().map(|player| player.cut_reason().is_none()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_newest_play_of_a_viewer_replaces_the_oldest() {
    let config = RelayConfig {
        max_waiters: 64,
        player_queue_bytes: 64,
        player_queue_time: Duration::ZERO,
        ..RelayConfig::default()
    };
    let hub = Hub::new(config);
    let other = play(&hub, "a", "v=bob").await;
    let elsewhere = play(&hub, "b", "v=eve").await;
    let nameless = play(&hub, "a", "").await;
    let mut players = Vec::new();
    for _ in 0..1000 {
        players.push(play(&hub, "a", "v=eve").await);
        assert!(hub.stats().waiters <= 7, "one URL takes four places");
        if players.len() > 7 {
            assert_eq!(players.remove(0).cut_reason(), Some(EndReason::Replaced));
        }
    }
    // Ended plays that still exist count, too: together at most twice as many as may play.
    players.push(play(&hub, "a", "v=eve").await);
    let denied = hub.play(&allow(), request(Direction::Play, "a", "v=eve")).await.unwrap_err();
    assert_eq!(denied.code, "tooManyPlays");
    let (old, new) = players.split_at(4);
    assert_eq!(live(new), [true; 4]);
    for player in old {
        assert_eq!(player.cut_reason(), Some(EndReason::Replaced));
        assert_eq!(player.next(&mut Vec::new(), 1).await, Err(EndReason::Replaced));
    }
    // Dropping the ended players affects no other.
    players.drain(..4);
    assert_eq!((hub.stats().players, hub.stats().waiters), (7, 7));
    let publisher = hub.publish(&allow(), request(Direction::Publish, "a", "")).await.unwrap();
    publisher.send(MediaKind::Video, 0, KEY).unwrap();
    for player in players.iter().chain([&other, &nameless]) {
        player.next(&mut Vec::new(), 1).await.unwrap();
    }
    assert!(elsewhere.cut_reason().is_none());
    // The same holds with a publisher. A play that was ended takes no place of its viewer, even if its player still
    // exists.
    for timestamp in 0..5 {
        publisher.send(MediaKind::Video, timestamp, KEY).unwrap();
        for player in players[..1].iter().chain(&players[2..]) {
            player.next(&mut Vec::new(), 1).await.unwrap();
        }
    }
    players.push(play(&hub, "a", "v=eve").await);
    assert_eq!(live(&players), [true, false, true, true, true]);
    players.push(play(&hub, "a", "v=eve").await);
    assert_eq!(live(&players), [false, false, true, true, true, true]);
    assert_eq!(hub.cut_viewer_of("eve", &StreamName::new("live", "a")), 4);
}

#[tokio::test(start_paused = true)]
async fn nobody_ends_plays_of_a_viewer_by_writing_its_name() {
    let hub = Hub::new(RelayConfig { max_players: 14, ..RelayConfig::default() });
    let mut players = Vec::new();
    for _ in 0..4 {
        players.push(play(&hub, "a", "v=eve").await);
    }
    let deny = Answer(|_: StreamRequest| Verdict::Deny { code: "badUrl", message: "no".into() });
    let unnamed = Answer(|_: StreamRequest| Verdict::Allow {
        viewer: None,
        kinds: Kinds::BOTH,
        account: None,
    });
    let mallory = Answer(|_: StreamRequest| Verdict::Allow {
        viewer: Some("mallory".into()),
        kinds: Kinds::BOTH,
        account: None,
    });
    let asked = || request(Direction::Play, "a", "v=eve");
    let mut others = Vec::new();
    for _ in 0..5 {
        hub.play(&deny, asked()).await.unwrap_err();
        others.push(hub.play(&unnamed, asked()).await.unwrap());
        others.push(hub.play(&mallory, asked()).await.unwrap());
    }
    assert_eq!(live(&players), [true; 4]);
    // Nor does a play that is allowed and finds no place end a play.
    let denied = hub.play(&allow(), asked()).await.unwrap_err();
    assert_eq!(denied.code, "tooManyPlayers");
    assert_eq!(live(&players), [true; 4]);
    // Nor do claims of others count for the viewer.
    players.remove(0);
    players.push(play(&hub, "a", "v=eve").await);
    assert_eq!(live(&players), [true; 4]);
}

#[tokio::test(start_paused = true)]
async fn an_ended_player_that_lingers_does_not_hide_the_next_publisher() {
    let hub = Hub::new(RelayConfig::default());
    let publish = async || hub.publish(&allow(), request(Direction::Publish, "a", "")).await;
    let (quick, slow) = (play(&hub, "a", "").await, play(&hub, "a", "").await);
    drop(publish().await.unwrap());
    advance(Duration::from_secs(15)).await;
    hub.tick();
    drop(quick);
    let publisher = publish().await.unwrap();
    drop(slow);
    let player = play(&hub, "a", "").await;
    publisher.send(MediaKind::Video, 0, KEY).unwrap();
    assert!(player.take_ready(&mut Vec::new(), 1));
    assert_eq!(hub.cut_stream(&StreamName::new("live", "a")), 2);
}

/// The stall is noticed whatever happens to the stream.
#[tokio::test(start_paused = true)]
async fn an_flv_play_that_is_not_read_is_known_after_the_time_for_it() {
    let hub = Hub::new(RelayConfig::default());
    let publisher = hub.publish(&allow(), request(Direction::Publish, "a", "")).await.unwrap();
    let open =
        async || pull::open(&hub, &allow(), request(Direction::Play, "a", "v=eve")).await.unwrap();
    let (mut reads, mut stops) = (open().await, open().await);
    let mut signals = [&reads, &stops].map(|pull| Box::pin(pull.stall_signal()));
    publisher.send(MediaKind::Video, 0, KEY).unwrap();
    stops.next().await.unwrap();
    drop(publisher);
    for step in 0..60 {
        let publisher = hub.publish(&allow(), request(Direction::Publish, "a", "")).await.unwrap();
        publisher.send(MediaKind::Video, step * 200, KEY).unwrap();
        drop(publisher);
        if step != 40 {
            reads.next().await.unwrap();
        }
        advance(Duration::from_millis(200)).await;
    }
    let [goes_on, stalled] = &mut signals;
    stalled.await;
    assert!(timeout(Duration::ZERO, goes_on).await.is_err());
    // If the stream has nothing to deliver, the reader has not stalled.
    assert!(timeout(Duration::from_secs(60), reads.next()).await.is_err());
    let signal = reads.stall_signal();
    assert!(timeout(Duration::ZERO, signal).await.is_err());
}

/// A slow reader may need longer for a large tag than the timeout for one piece.
#[tokio::test(start_paused = true)]
async fn reading_a_large_tag_in_pieces_counts_as_progress() {
    let hub = Hub::new(RelayConfig::default());
    let publisher = hub.publish(&allow(), request(Direction::Publish, "a", "")).await.unwrap();
    let asked = request(Direction::Play, "a", "v=eve");
    let pull = pull::open(&hub, &allow(), asked).await.unwrap();
    let mut stalled = Box::pin(pull.stall_signal());
    let large = [KEY, &[7; 1 << 20]].concat();
    publisher.send(MediaKind::Video, 0, &large).unwrap();
    let mut blocks = std::pin::pin!(pull.into_stream());
    let mut taken = 0;
    while taken < large.len() {
        taken += blocks.next().await.unwrap().len();
        advance(Duration::from_secs(6)).await;
        assert!(timeout(Duration::ZERO, &mut stalled).await.is_err(), "after {taken} bytes");
    }
    advance(Duration::from_secs(6)).await;
    stalled.await;
}

/// Collects the level and the fields of what is logged on this thread.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<(Level, String)>>>);

impl Log {
    pub(crate) fn lines(&self) -> Vec<(Level, String)> {
        self.0.lock().unwrap().clone()
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push((*event.metadata().level(), line.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test(start_paused = true)]
async fn the_log_holds_little_of_what_peers_write() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let hub = Hub::new(RelayConfig {
        player_queue_bytes: 1,
        player_queue_time: Duration::ZERO,
        ..RelayConfig::default()
    });
    let deny = Answer(|_: StreamRequest| Verdict::Deny { code: "badUrl", message: "no".into() });
    let long = "长".repeat(4000);
    let asked = |direction| {
        let mut request = request(direction, &long, "v=eve");
        request.app = "x".repeat(4000);
        request
    };
    hub.play(&deny, asked(Direction::Play)).await.unwrap_err();
    hub.publish(&deny, asked(Direction::Publish)).await.unwrap_err();
    let lines = std::mem::take(&mut *log.0.lock().unwrap());
    assert_eq!(lines.len(), 2);
    for (level, line) in lines {
        assert_eq!(level, Level::DEBUG, "unauthorized peers cannot fill the log");
        assert!(line.contains("badUrl") && line.contains(&"长".repeat(64)), "{line}");
        assert!(!line.contains(&"长".repeat(65)) && !line.contains(&"x".repeat(65)), "{line}");
    }
    // The lines about requests with such names stay short, too, if an authorizer allows them.
    let publisher = hub.publish(&allow(), asked(Direction::Publish)).await.unwrap();
    let mut players = Vec::new();
    for _ in 0..5 {
        players.push(hub.play(&allow(), asked(Direction::Play)).await.unwrap());
    }
    for timestamp in 0..3 {
        publisher.send(MediaKind::Video, timestamp, KEY).unwrap();
    }
    let lines = log.0.lock().unwrap();
    for code in ["tooManyPlays", "tooSlow"] {
        assert!(lines.iter().any(|(_, line)| line.contains(code)), "{code}");
    }
    assert!(lines.iter().all(|(_, line)| line.len() < 600), "{lines:?}");
}

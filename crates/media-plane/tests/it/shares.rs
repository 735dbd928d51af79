//! Memory, places and log lines are shared fairly: a peer that takes all it can harms nobody else.
//! Proves no rule of the protocol: bounds of the relay.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lianmai_media_plane::{
    Account, Denied, Direction, EndReason, Hub, Kinds, LogLimiter, MediaKind, Packet, Player,
    Publisher, RelayConfig, StreamName, StreamRequest, Verdict, pull,
};
use tokio::time::advance;
use tracing::Level;

use crate::bounds::Log;
use crate::support::*;

const MIB: usize = 1 << 20;
const KEY: &[u8] = &[0x12, 1, 0];
const FRAME: &[u8] = &[0x22, 1, 0];

/// With a single app, a member has an eighth of the memory: 16 MiB. A push has half of that.
fn config() -> RelayConfig {
    RelayConfig {
        media_total_bytes: 128 * MIB,
        player_queue_bytes: 64 * MIB,
        log_lines_per_second: 0,
        ..RelayConfig::default()
    }
}

/// Allows everything. The query is `app/member`: the account that is charged, and the viewer of a play.
fn owned() -> Answer<fn(StreamRequest) -> Verdict> {
    Answer(|request| {
        let account = request.query.split_once('/').map(|(app, member)| Account::new(app, member));
        let viewer = account.is_some().then(|| request.query.clone());
        Verdict::Allow { viewer, kinds: Kinds::BOTH, account }
    })
}

async fn publish(hub: &Hub, stream: &str, owner: &str) -> Publisher {
    hub.publish(&owned(), request(Direction::Publish, stream, owner)).await.unwrap()
}

async fn play(hub: &Hub, stream: &str, viewer: &str) -> Result<Player, Denied> {
    hub.play(&owned(), request(Direction::Play, stream, viewer)).await
}

fn send(publisher: &Publisher, head: &[u8], bytes: usize) -> Result<(), EndReason> {
    publisher.send(MediaKind::Video, 0, &[head, &vec![0; bytes]].concat())
}

fn ready(player: &Player) -> Vec<Arc<Packet>> {
    let mut batch = Vec::new();
    while player.take_ready(&mut batch, 64) {}
    batch
}

/// The number of packets that a player gets at its start.
async fn burst(hub: &Hub, stream: &str) -> usize {
    ready(&play(hub, stream, "").await.unwrap()).len()
}

/// A push without room for its group of pictures goes on without it.
#[tokio::test(start_paused = true)]
async fn a_push_holds_no_more_than_its_share() {
    let hub = Hub::new(config());
    let publisher = publish(&hub, "a", "demo/1").await;
    send(&publisher, KEY, 100_000).unwrap();
    for frames in 1..400 {
        send(&publisher, FRAME, 100_000).unwrap();
        let held = hub.stats().media_bytes;
        assert!(held <= 8 * MIB, "{held} bytes after {frames} frames");
        if frames == 30 {
            assert_eq!(burst(&hub, "a").await, 31);
        }
    }
    assert_eq!(burst(&hub, "a").await, 0);
    send(&publisher, KEY, 100_000).unwrap();
    assert_eq!(burst(&hub, "a").await, 1, "the next keyframe begins a group");
    drop(publisher);
    assert_eq!(hub.stats().media_bytes, 0);
}

/// One member has ten pushes, and another member has one.
#[tokio::test(start_paused = true)]
async fn a_member_with_many_pushes_affects_only_itself() {
    let hub = Hub::new(config());
    let fill = async |stream: &str, owner: &str| {
        let publisher = publish(&hub, stream, owner).await;
        for _ in 0..30 {
            // The push may end.
            let _ = send(&publisher, KEY, MIB / 2);
            let _ = send(&publisher, FRAME, MIB / 2);
        }
        publisher
    };
    let mut pushes = vec![fill("honest", "demo/1").await];
    let before = hub.stats().media_bytes;
    for number in 0..10 {
        pushes.push(fill(&format!("greedy-{number}"), "demo/2").await);
        let held = hub.stats().media_bytes - before;
        assert!(held <= 16 * MIB, "{held} bytes of one member");
    }
    for number in 0..100 {
        pushes.push(fill(&format!("other-{number}"), &format!("demo/{}", 10 + number)).await);
        assert!(hub.stats().media_bytes <= 128 * MIB);
    }
    assert_eq!(burst(&hub, "honest").await, 2);
    assert_eq!(burst(&hub, "greedy-0").await, 2, "its first push is within its share");
    // The others leave room for whoever comes next.
    let late = publish(&hub, "late", "demo/3").await;
    for _ in 0..30 {
        send(&late, KEY, 50_000).unwrap();
        send(&late, FRAME, 50_000).unwrap();
    }
    assert_eq!(burst(&hub, "late").await, 2);
    drop(late);
    pushes.clear();
    assert_eq!(hub.stats().media_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn one_of_several_apps_leaves_a_quarter() {
    let hub = Hub::new(RelayConfig { apps: 2, ..config() });
    let mut pushes = Vec::new();
    for number in 0..200 {
        let publisher = publish(&hub, &number.to_string(), &format!("demo/{number}")).await;
        let _ = send(&publisher, KEY, MIB);
        pushes.push(publisher);
    }
    let held = hub.stats().media_bytes;
    assert!((60 * MIB..=96 * MIB).contains(&held), "{held}");
    let publisher = publish(&hub, "other", "other/1").await;
    send(&publisher, KEY, MIB).unwrap();
    assert_eq!(burst(&hub, "other").await, 1);
}

/// The packets that wait for several players count once.
#[tokio::test(start_paused = true)]
async fn slow_players_are_cut_before_their_push() {
    let hub = Hub::new(config());
    let publisher = publish(&hub, "a", "demo/1").await;
    send(&publisher, KEY, 10).unwrap();
    let quick = play(&hub, "a", "demo/2").await.unwrap();
    let slow = [play(&hub, "a", "demo/3").await.unwrap(), play(&hub, "a", "demo/4").await.unwrap()];
    send(&publisher, FRAME, MIB).unwrap();
    assert!(hub.stats().media_bytes < 5 * MIB / 2, "two encodings, for three players");
    // The quick player reads, so it holds less than the others.
    ready(&quick);
    for _ in 0..20 {
        send(&publisher, FRAME, MIB).unwrap();
        ready(&quick);
        assert!(hub.stats().media_bytes <= 8 * MIB);
    }
    assert_eq!(slow.each_ref().map(Player::cut_reason), [Some(EndReason::TooSlow); 2]);
    assert_eq!((quick.cut_reason(), hub.stats().slow_players_cut), (None, 2));
    assert!(hub.stats().media_bytes < MIB, "the queues of cut players are freed");
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_not_whole_count() {
    let hub = Hub::new(config());
    let mut publisher = publish(&hub, "a", "demo/1").await;
    send(&publisher, KEY, MIB).unwrap();
    publisher.charge_unfinished(60_000).unwrap();
    let group = hub.stats().media_bytes;
    assert!((2 * MIB..5 * MIB / 2).contains(&group), "as any connection has: {group}");
    publisher.charge_unfinished(3 * MIB).unwrap();
    assert_eq!(hub.stats().media_bytes, group + 3 * MIB);
    publisher.charge_unfinished(7 * MIB).unwrap();
    assert_eq!(hub.stats().media_bytes, 7 * MIB, "the cached group is dropped");
    publisher.charge_unfinished(0).unwrap();
    assert_eq!(hub.stats().media_bytes, 0);
    let mut others = Vec::new();
    for stream in ["b", "c"] {
        let mut other = publish(&hub, stream, "demo/1").await;
        other.charge_unfinished(4 * MIB).unwrap();
        others.push(other);
    }
    assert_eq!(publisher.charge_unfinished(9 * MIB), Err(EndReason::NoRoom));
    assert_eq!(send(&publisher, KEY, 1), Err(EndReason::NoRoom));
    // Another member has half of an eighth of what is left for its push.
    publish(&hub, "d", "demo/2").await.charge_unfinished(7 * MIB).unwrap();
}

/// A peer that does not read holds what it was given, even if the stream has ended.
#[tokio::test(start_paused = true)]
async fn bytes_of_a_player_count_until_it_releases_them() {
    let hub = Hub::new(config());
    let publisher = publish(&hub, "a", "demo/1").await;
    send(&publisher, KEY, MIB).unwrap();
    let asked = request(Direction::Play, "a", "demo/2");
    let mut pull = pull::open(&hub, &owned(), asked).await.unwrap();
    let mut blocks = Vec::new();
    for _ in 0..2 {
        blocks.push(pull.next().await.unwrap());
    }
    assert!(blocks.iter().any(|block| block.len() > MIB));
    let rtmp = play(&hub, "a", "demo/3").await.unwrap();
    let packet = ready(&rtmp).remove(0);
    let encoded = packet.rtmp().clone();
    drop((publisher, pull, rtmp, packet));
    let held = hub.stats().media_bytes;
    assert!((2 * MIB..3 * MIB).contains(&held), "{held}");
    drop(blocks);
    assert_eq!(hub.stats().media_bytes, held, "the other encoding is still in memory");
    drop(encoded);
    assert_eq!(hub.stats().media_bytes, 0);
}

/// Headers that are far longer than any that encoders send.
#[tokio::test(start_paused = true)]
async fn long_headers_are_not_copied_for_each_player() {
    let hub = Hub::new(config());
    let publisher = publish(&hub, "a", "demo/1").await;
    let header = [&[0xAF, 0, 0x12, 0x10][..], &[0; 60_000]].concat();
    publisher.send(MediaKind::Audio, 0, &header).unwrap();
    let mut bodies = Vec::new();
    for time in 0..5_u32 {
        publisher.send(MediaKind::Audio, time * 20, &[0xAF, 1, 5]).unwrap();
        let player = play(&hub, "a", "").await.unwrap();
        bodies.push(ready(&player).remove(0).flv().as_ptr());
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1);
}

/// Many players wait for a stream whose publisher is gone or never came.
#[tokio::test(start_paused = true)]
async fn waiting_for_one_stream_does_not_refuse_others() {
    let hub = Hub::new(RelayConfig { max_waiters: 200, ..config() });
    let mut crowd = Vec::new();
    let denied = loop {
        match play(&hub, "gone", &format!("demo/{}", crowd.len())).await {
            Ok(player) => crowd.push(player),
            Err(denied) => break denied,
        }
    };
    assert_eq!((denied.code, crowd.len()), ("tooManyWaiters", 100));
    assert!(denied.message.ends_with("of this stream"), "{}", denied.message);
    for stream in 0..10 {
        crowd.push(play(&hub, &format!("s{stream}"), "demo/1000").await.unwrap());
    }
    let denied = loop {
        match play(&hub, &format!("s{}", crowd.len()), "demo/1000").await {
            Ok(player) => crowd.push(player),
            Err(denied) => break denied,
        }
    };
    assert!(denied.message.ends_with("of this viewer"), "{}", denied.message);
    crowd.push(play(&hub, "other", "demo/2000").await.unwrap());
    // A player that lost its publisher takes no place of those that wait for the first one.
    let mut lost = Vec::new();
    let publisher = publish(&hub, "lost", "demo/1").await;
    for viewer in 0..300 {
        lost.push(play(&hub, "lost", &format!("demo/{viewer}")).await.unwrap());
    }
    drop(publisher);
    assert!(hub.stats().waiters > 300);
    crowd.push(play(&hub, "another", "demo/2000").await.unwrap());
    // A player whose publisher comes gives its place back.
    let publisher = publish(&hub, "gone", "demo/1").await;
    for viewer in 0..40 {
        crowd.push(play(&hub, "next", &format!("demo/{viewer}")).await.unwrap());
    }
    drop((publisher, crowd, lost));
    assert_eq!((hub.stats().waiters, hub.stats().players), (0, 0));
}

/// Loopback is exempt, because all clients behind a proxy on this machine come from there.
#[tokio::test(start_paused = true)]
async fn one_waiting_address_does_not_refuse_others() {
    let hub = Hub::new(RelayConfig { max_waiters: 100, ..config() });
    let mut players = Vec::new();
    let mut wait = async |address: &str, count: usize| {
        let address: IpAddr = address.parse().unwrap();
        for number in 0..count {
            let mut asked = request(Direction::Play, &format!("s{number}"), "");
            asked.peer = SocketAddr::new(address, 9);
            match hub.play(&owned(), asked).await {
                Ok(player) => players.push(player),
                Err(denied) => return (number, denied.message),
            }
        }
        (count, String::new())
    };
    let (first, message) = wait("2001:db8::1", 100).await;
    assert_eq!((first, &*message), (25, "too many players wait of this address"));
    assert_eq!(wait("2001:db8::ffff", 1).await.0, 0);
    assert_eq!(wait("2001:db8:0:1::1", 10).await.0, 10);
    assert_eq!(wait("127.0.0.1", 60).await.0, 60);
}

#[tokio::test(start_paused = true)]
async fn one_viewer_of_many_streams_does_not_refuse_others() {
    let hub = Hub::new(RelayConfig { max_players: 400, max_waiters: 400, ..config() });
    let mut publishers = Vec::new();
    let mut players = Vec::new();
    for stream in 0..100 {
        publishers.push(publish(&hub, &format!("s{stream}"), "demo/1").await);
    }
    let denied = loop {
        match play(&hub, &format!("s{}", players.len()), "demo/2").await {
            Ok(player) => players.push(player),
            Err(denied) => break denied,
        }
    };
    assert_eq!((denied.code, players.len()), ("tooManyPlayers", 50));
    players.push(play(&hub, "s0", "demo/3").await.unwrap());
    // Fewer plays than before, because others hold something now.
    players.drain(..10);
    players.push(play(&hub, "s0", "demo/2").await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn one_address_causes_few_log_lines() {
    let lines = LogLimiter::new(10, 5, false);
    let [one, same, other]: [IpAddr; 3] =
        ["2001:db8::1", "2001:db8::2", "192.0.2.1"].map(|it| it.parse().unwrap());
    assert_eq!((0..100).filter(|_| lines.allow(one)).count(), 5);
    assert_eq!(lines.omitted(), 95);
    assert!(!lines.allow(same) && lines.allow(other) && lines.allow_any());
    advance(Duration::from_secs(1)).await;
    assert_eq!((0..100).filter(|_| lines.allow(same)).count(), 5);
    advance(Duration::from_millis(100)).await;
    assert!(lines.allow(one) && !lines.allow(one));
    let free = LogLimiter::new(0, 0, false);
    assert!((0..1000).all(|_| free.allow(one)) && free.omitted() == 0);
    let local = "::ffff:127.0.0.1".parse().unwrap();
    let [debug, safe] = [true, false].map(|exempt| LogLimiter::new(1, 1, exempt));
    assert!((0..1000).all(|_| debug.allow(local)) && safe.allow(local) && !safe.allow(local));
}

/// Queued media can still be read when a stream has ended, but not for ever.
#[tokio::test(start_paused = true)]
async fn a_stalled_player_holds_no_memory_of_an_ended_stream() {
    let hub = Hub::new(config());
    let end = async |publisher: Publisher| {
        send(&publisher, KEY, MIB).unwrap();
        drop(publisher);
        advance(Duration::from_secs(15)).await;
        hub.tick();
    };
    let publisher = publish(&hub, "a", "demo/1").await;
    let reads = play(&hub, "a", "demo/2").await.unwrap();
    let stops = play(&hub, "a", "demo/3").await.unwrap();
    end(publisher).await;
    assert_eq!(ready(&reads).len(), 1);
    assert_eq!(reads.next(&mut Vec::new(), 1).await, Err(EndReason::StreamEnded));
    assert!(hub.stats().media_bytes > MIB);
    advance(Duration::from_secs(10)).await;
    hub.tick();
    assert_eq!((stops.cut().await, hub.stats().media_bytes), (EndReason::TooSlow, 0));
    assert_eq!(stops.next(&mut Vec::new(), 1).await, Err(EndReason::TooSlow));
    drop((reads, stops));
    // A player that may not play any more ends at once, even while it reads the rest of an ended stream.
    for cut_stream in [false, true] {
        let publisher = publish(&hub, "b", "demo/1").await;
        let player = play(&hub, "b", "demo/4").await.unwrap();
        end(publisher).await;
        assert_eq!(player.cut_reason(), None);
        match cut_stream {
            true => _ = hub.cut_stream(&StreamName::new("live", "b")),
            false => assert_eq!(hub.cut_viewer("demo/4"), 1),
        }
        assert!(player.cut_reason().is_some() && hub.stats().media_bytes == 0);
    }
    assert_eq!(hub.stats().streams, 0, "no stream is left");
}

/// A peer that is admitted again and again causes only a few lines.
#[tokio::test(start_paused = true)]
async fn the_log_holds_a_few_lines_of_one_address_and_all_of_others() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let hub = Hub::new(RelayConfig { log_lines_per_second: 1, log_line_burst: 5, ..config() });
    let from = async |address: &str| {
        let mut asked = request(Direction::Play, "a", "");
        asked.peer = SocketAddr::new(address.parse().unwrap(), 9);
        hub.play(&owned(), asked).await.map(drop).unwrap();
    };
    for _ in 0..100 {
        from("192.0.2.1").await;
    }
    from("192.0.2.2").await;
    let lines = log.lines();
    let of = |text: &str| lines.iter().filter(|(_, line)| line.contains(text)).count();
    assert_eq!((of("192.0.2.1:9"), of("192.0.2.2:9")), (5, 1));
    assert_eq!(hub.stats().lines_left_out, 95);
    for _ in 0..3 {
        hub.tick();
    }
    from("192.0.2.1").await;
    hub.tick();
    let summed_up = |log: &Log| {
        let lines = log.lines();
        let sums = lines.into_iter().filter(|(_, line)| line.contains("left_out="));
        sums.map(|(level, line)| (level, line.contains("left_out=95"))).collect::<Vec<_>>()
    };
    assert_eq!(summed_up(&log), [(Level::WARN, true)]);
    advance(Duration::from_secs(10)).await;
    hub.tick();
    assert_eq!(summed_up(&log), [(Level::WARN, true), (Level::WARN, false)], "one more");
    advance(Duration::from_secs(10)).await;
    hub.tick();
    assert_eq!(summed_up(&log).len(), 2, "none since");
}

//! The server on real sockets, with clients that send plain bytes.
//! Proves no rule of the protocol: RTMP on real sockets.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lianmai_media_plane::rtmp::amf0::Value;
use lianmai_media_plane::rtmp::chunk::ChunkReader;
use lianmai_media_plane::rtmp::command::Command;
use lianmai_media_plane::rtmp::handshake::PACKET;
use lianmai_media_plane::rtmp::message::{Message, message_type};
use lianmai_media_plane::{
    Authorizer, Direction, Hub, Kinds, RelayConfig, RtmpServer, StreamName, Verdict,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::support::*;

/// Fails a wait that would never end. No outcome depends on it.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    pub(crate) hub: Hub,
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(config: RelayConfig, authorizer: impl Authorizer) -> Self {
        let hub = Hub::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let server = RtmpServer::new(hub.clone(), Arc::new(authorizer));
        let task = tokio::spawn(server.serve(listener, async { _ = stopped.await }));
        Self { hub, address, stop, task }
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(TEST_TIMEOUT, future).await.expect("in time")
}

pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let poll = async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TEST_TIMEOUT, poll).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

pub(crate) struct Client {
    stream: TcpStream,
    reader: ChunkReader,
    held: Vec<u8>,
}

impl Client {
    async fn open(address: SocketAddr, bytes: &[u8]) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut handshake = vec![0; 1 + 2 * PACKET];
        within(stream.read_exact(&mut handshake)).await.unwrap();
        let mut reader = ChunkReader::default();
        reader.expect_media(true).unwrap();
        Self { stream, reader, held: vec![] }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next message, or `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Message>> {
        loop {
            let mut input = &self.held[..];
            let message = self.reader.read(&mut input).unwrap();
            self.held = input.to_vec();
            if let Some(message) = message {
                if message.type_id == message_type::SET_CHUNK_SIZE {
                    self.reader
                        .set_chunk_size(u32::from_be_bytes(
                            message.payload[..4].try_into().unwrap(),
                        ))
                        .unwrap();
                }
                return Ok(Some(message));
            }
            let mut buffer = [0; 8192];
            match within(self.stream.read(&mut buffer)).await? {
                0 => return Ok(None),
                count => self.held.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// Reads until a status with this code comes. Returns its description.
    async fn status(&mut self, code: &str) -> String {
        loop {
            let message = self.next().await.unwrap().expect("an open connection");
            if message.type_id != message_type::COMMAND {
                continue;
            }
            let command = Command::parse(&message.payload).unwrap();
            let Some(information) = command.arguments.first() else { continue };
            if information.get("code") == Some(&text(code)) {
                return information.get("description").unwrap().as_str().unwrap().to_owned();
            }
        }
    }

    /// Reads until the connection is closed or reset.
    async fn end(&mut self) -> io::Result<()> {
        while self.next().await?.is_some() {}
        Ok(())
    }
}

pub(crate) async fn publisher(server: &Server, name: &str) -> Client {
    let mut client = Client::open(server.address, &publish_bytes(name)).await;
    client.status("NetStream.Publish.Start").await;
    client
}

pub(crate) async fn player(server: &Server, name: &str) -> Client {
    let mut client = Client::open(server.address, &play_bytes(name)).await;
    client.status("NetStream.Play.Start").await;
    client
}

fn key(timestamp: u32, size: usize) -> Vec<u8> {
    message(6, message_type::VIDEO, 1, timestamp, &[&[0x12, 1][..], &vec![0; size]].concat())
}

/// Proves URL-2.
#[tokio::test]
async fn media_goes_from_publisher_to_player() {
    let server = Server::start(RelayConfig::default(), allow()).await;
    let mut player = player(&server, "a").await;
    let mut publisher = publisher(&server, "a").await;
    publisher.send(&key(0x0200_0000, 10_000)).await.unwrap();
    let message = player.next().await.unwrap().unwrap();
    assert_eq!(
        (message.type_id, message.timestamp, message.payload.len()),
        (9, 0x0200_0000, 10_002)
    );
    // A stopped player or publisher may make another request on its connection.
    player.send(&command(1, "deleteStream", 0.0, Value::Null, vec![])).await.unwrap();
    player.status("NetStream.Play.Stop").await;
    assert_eq!(server.hub.stats().players, 0);
    drop(publisher);
    eventually("the stream is gone", || server.hub.stats().streams == 0).await;
    server.stop().await;
}

/// However many players wait for a publisher, it finds a place.
#[tokio::test]
async fn plays_leave_connections_for_publishers() {
    let config = RelayConfig {
        max_connections: 16,
        max_connections_per_address: 16,
        ..RelayConfig::default()
    };
    let server = Server::start(config, allow()).await;
    let mut players = Vec::new();
    for _ in 0..14 {
        players.push(player(&server, "a").await);
    }
    let mut late = Client::open(server.address, &play_bytes("a")).await;
    let told = late.status("NetStream.Play.Failed").await;
    assert_eq!(told, "tooManyPlayers: too many players");
    late.end().await.unwrap();
    assert_eq!(server.hub.stats().refusals, 1);
    let mut publisher = publisher(&server, "a").await;
    publisher.send(&key(0, 10)).await.unwrap();
    for player in &mut players {
        assert_eq!(player.next().await.unwrap().unwrap().type_id, message_type::VIDEO);
    }
    server.stop().await;
}

/// Each change of a pause takes the lock of the stream, and a play that goes on gets a group of pictures. The bound
/// grows with the time that the test takes.
#[tokio::test]
async fn frequent_pauses_cost_little() {
    let server = Server::start(RelayConfig::default(), allow()).await;
    let mut player = player(&server, "a").await;
    let mut publisher = publisher(&server, "a").await;
    publisher.send(&key(0, 10)).await.unwrap();
    assert_eq!(player.next().await.unwrap().unwrap().type_id, message_type::VIDEO);
    let (begin, mut groups) = (Instant::now(), 0);
    for change in 0..200 {
        let arguments = vec![Value::Boolean(change % 2 == 0), Value::Number(0.0)];
        player.send(&command(1, "pause", 0.0, Value::Null, arguments)).await.unwrap();
        // The answer comes at once.
        while player.next().await.unwrap().unwrap().type_id == message_type::VIDEO {
            groups += 1;
        }
    }
    // Two changes for each group.
    let most = 1 + begin.elapsed().as_millis() / 400;
    assert!(groups <= most, "{groups} groups in {:?}", begin.elapsed());
    // The last word counts, if later.
    publisher.send(&key(40, 10)).await.unwrap();
    while player.next().await.unwrap().unwrap().timestamp != 40 {}
    server.stop().await;
}

/// Proves URL-8.
#[tokio::test]
async fn refusals_are_read_in_full_and_end_the_connection() {
    let deny = Answer(|request: lianmai_media_plane::StreamRequest| match request.direction {
        Direction::Publish if request.stream == "a" => {
            Verdict::Allow { viewer: None, kinds: Kinds::BOTH, account: None }
        }
        _ => Verdict::Deny { code: "notYours", message: "not on the list".into() },
    });
    let server = Server::start(RelayConfig::default(), deny).await;
    let mut live = publisher(&server, "a").await;
    live.send(&key(0, 10)).await.unwrap();
    for (bytes, code, description) in [
        (publish_bytes("a"), "NetStream.Publish.BadName", "streamBusy: another publisher is live"),
        (publish_bytes("b"), "NetStream.Publish.Denied", "denied.notYours: not on the list"),
        (play_bytes("a"), "NetStream.Play.Failed", "denied.notYours: not on the list"),
    ] {
        // A peer that sends without waiting for the answer must still get the reason.
        let mut client = Client::open(server.address, &[bytes, key(0, 20_000)].concat()).await;
        assert_eq!(client.status(code).await, description);
        client.end().await.unwrap();
    }
    assert_eq!(server.hub.stats().publishers, 1);
    server.stop().await;
}

/// Proves URL-5, URL-6.
#[tokio::test]
async fn a_cut_closes_sockets_at_once() {
    let server = Server::start(RelayConfig::default(), allow()).await;
    let mut publisher = publisher(&server, "a").await;
    let mut player = player(&server, "a").await;
    let mut viewer = crate::sockets::player(&server, "a?v=bob").await;
    publisher.send(&key(0, 10)).await.unwrap();
    player.next().await.unwrap().unwrap();
    assert_eq!(server.hub.cut_viewer("bob"), 1);
    assert_eq!(viewer.end().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(server.hub.cut_stream(&StreamName::new("live", "a")), 2);
    let told = publisher.status("NetStream.Publish.Failed").await;
    assert_eq!(told, "cut: the URL is not in use any more");
    publisher.end().await.unwrap();
    assert_eq!(player.end().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    eventually("all is gone", || server.hub.stats().streams == 0).await;
    server.stop().await;
}

/// Proves URL-5.
#[tokio::test]
async fn a_cut_publisher_that_sends_on_and_never_reads_is_reset() {
    let server = Server::start(RelayConfig::default(), allow()).await;
    let mut publisher = publisher(&server, "a").await;
    publisher.send(&key(0, 10)).await.unwrap();
    assert_eq!(server.hub.cut_stream(&StreamName::new("live", "a")), 1);
    let send = async { while publisher.send(&key(0, 10_000)).await.is_ok() {} };
    within(send).await;
    server.stop().await;
}

#[tokio::test]
async fn a_player_that_does_not_read_is_cut_and_delays_nobody() {
    let server = Server::start(
        RelayConfig { player_queue_bytes: 256 << 10, ..RelayConfig::default() },
        allow(),
    )
    .await;
    let _stuck = player(&server, "a").await;
    let mut reading = player(&server, "a").await;
    let mut publisher = publisher(&server, "a").await;
    let send = async {
        // More bytes than the kernel buffers on both sides.
        for timestamp in 0..400 {
            publisher.send(&key(timestamp, 100_000)).await.unwrap();
            // One frame at a time, so that only the player that does not read lags.
            assert_eq!(reading.next().await.unwrap().unwrap().timestamp, timestamp);
        }
    };
    within(send).await;
    let stats = server.hub.stats();
    assert_eq!((stats.slow_players_cut, stats.players, stats.publishers), (1, 1, 1));
    server.stop().await;
}

/// Proves URL-8.
#[tokio::test]
async fn a_silent_publisher_is_replaced_and_its_socket_closed() {
    let config =
        RelayConfig { takeover_silence: Duration::from_millis(50), ..RelayConfig::default() };
    let server = Server::start(config, allow()).await;
    let mut player = player(&server, "a").await;
    let mut silent = publisher(&server, "a").await;
    silent.send(&key(1000, 10)).await.unwrap();
    assert_eq!(player.next().await.unwrap().unwrap().timestamp, 1000);
    sleep(Duration::from_millis(60)).await;
    let mut next = publisher(&server, "a").await;
    let told = silent.status("NetStream.Publish.Failed").await;
    assert_eq!(told, "replaced: another publisher took the place of a silent one");
    silent.end().await.unwrap();
    next.send(&key(0, 10)).await.unwrap();
    assert_eq!(player.next().await.unwrap().unwrap().timestamp, 1100);
    server.stop().await;
}

#[tokio::test]
async fn players_are_told_when_the_publisher_does_not_return() {
    let config = RelayConfig { publisher_gap: Duration::from_millis(1), ..RelayConfig::default() };
    let server = Server::start(config, allow()).await;
    let mut player = player(&server, "a").await;
    let mut publisher = publisher(&server, "a").await;
    publisher.send(&key(0, 10)).await.unwrap();
    player.next().await.unwrap().unwrap();
    drop(publisher);
    assert_eq!(player.status("NetStream.Play.Stop").await, "the stream has ended");
    player.end().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn idle_connections_end() {
    let short = Duration::from_millis(100);
    let config = RelayConfig { handshake_timeout: short, ..RelayConfig::default() };
    let server = Server::start(config, allow()).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert!(within(silent.read_u8()).await.is_err());
    let mut halfway = Client::open(server.address, &handshake()).await;
    assert_eq!(
        halfway.status("NetConnection.Connect.Rejected").await,
        "handshakeTimeout: no publish or play came in time"
    );
    halfway.end().await.unwrap();
    let connected = [handshake(), connect("live", "")].concat();
    let mut connected = Client::open(server.address, &connected).await;
    let told = connected.status("NetConnection.Call.Failed").await;
    assert_eq!(told, "handshakeTimeout: no publish or play came in time");
    connected.end().await.unwrap();
    server.stop().await;
    // A publisher has the idle timeout instead.
    let config = RelayConfig { publisher_idle_timeout: short, ..RelayConfig::default() };
    let server = Server::start(config, allow()).await;
    let mut publisher = publisher(&server, "a").await;
    let told = publisher.status("NetStream.Publish.Failed").await;
    assert_eq!(told, "publisherIdle: nothing was sent for too long");
    publisher.end().await.unwrap();
    eventually("the publisher is gone", || server.hub.stats().publishers == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn garbage_affects_no_other_connection() {
    let server = Server::start(RelayConfig::default(), allow()).await;
    let mut player = player(&server, "a").await;
    let mut publisher = publisher(&server, "a").await;
    let nested = message(3, message_type::COMMAND, 0, 0, &[3, 0, 1, b'a'].repeat(3000));
    for junk in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xFF; 10_000],
        [handshake(), nested].concat(),
        [handshake(), vec![0xC5; 9]].concat(),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let _ = stream.write_all(&junk).await;
        let mut rest = Vec::new();
        assert!(within(stream.read_to_end(&mut rest)).await.is_ok(), "closed in order");
    }
    assert_eq!(server.hub.stats().protocol_errors, 4);
    publisher.send(&key(7, 10)).await.unwrap();
    assert_eq!(player.next().await.unwrap().unwrap().timestamp, 7);
    server.stop().await;
}

#[tokio::test]
async fn messages_before_a_protocol_error_are_processed() {
    let server = Server::start(RelayConfig::default(), allow()).await;
    let bad = message(2, message_type::SET_CHUNK_SIZE, 0, 0, &[0; 4]);
    // Everything in one piece, followed by more bytes than one read takes.
    let bytes = [play_bytes("a"), bad, vec![0; 50_000]].concat();
    let mut player = Client::open(server.address, &bytes).await;
    player.status("NetStream.Play.Start").await;
    player.end().await.unwrap();
    let bytes = [handshake(), connect("live", ""), vec![0xC9; 50_000]].concat();
    let mut idle = Client::open(server.address, &bytes).await;
    idle.status("NetConnection.Connect.Success").await;
    idle.end().await.unwrap();
    assert_eq!(server.hub.stats().protocol_errors, 2);
    server.stop().await;
}

#[tokio::test]
async fn connections_are_bounded_and_end_with_the_server() {
    let config = RelayConfig { max_connections_per_address: 2, ..RelayConfig::default() };
    let server = Server::start(config, allow()).await;
    let mut first = player(&server, "a").await;
    let second = player(&server, "a").await;
    let mut third = TcpStream::connect(server.address).await.unwrap();
    assert!(matches!(within(third.read(&mut [0])).await, Ok(0) | Err(_)));
    assert_eq!(server.hub.stats().connections_refused, 1);
    drop(second);
    eventually("a place is free", || server.hub.stats().players == 1).await;
    // The place is given back after the player, so this tries until it is free.
    let hub = server.hub.clone();
    let mut fourth = None;
    while fourth.is_none() {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let _ = stream.write_all(&handshake()).await;
        fourth = within(stream.read_u8()).await.ok().map(|_| stream);
    }
    server.stop().await;
    assert!(matches!(first.end().await, Ok(()) | Err(_)));
    assert_eq!((hub.stats().players, hub.stats().streams), (0, 0));
}

/// Seventeen addresses open as many connections as they can and send no request.
#[tokio::test]
async fn idle_connections_of_many_addresses_leave_slots_for_others() {
    let config = RelayConfig {
        max_connections: 256,
        max_connections_per_address: 16,
        handshake_timeout: TEST_TIMEOUT,
        ..RelayConfig::default()
    };
    let server = Server::start(config, allow()).await;
    let mut idle = Vec::new();
    for host in 2..19 {
        let mut held = 0;
        loop {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from(([127, 0, 1, host], 0))).unwrap();
            let mut stream = within(socket.connect(server.address)).await.unwrap();
            // The server answers the first bytes only on a connection that it admits.
            let _ = stream.write_all(&handshake()[..1 + PACKET]).await;
            match within(stream.read(&mut [0; 1])).await {
                Ok(1..) => held += 1,
                _ => break,
            }
            idle.push(stream);
        }
        assert!((1..=16).contains(&held), "{held} of one address");
    }
    assert!(idle.len() < 256, "{}", idle.len());
    let mut client = Client::open(server.address, &publish_bytes("a")).await;
    client.status("NetStream.Publish.Start").await;
    drop(idle);
    server.stop().await;
}

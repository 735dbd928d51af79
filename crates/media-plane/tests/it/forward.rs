//! Forwards: a stream of one hub is published to another hub through a real socket.
//! Proves no rule of the protocol: forwards.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lianmai_media_plane::upstream::{
    ForwardPhase, ForwardState, Upstream, UpstreamError, UpstreamOptions, UpstreamUrl, forward,
};
use lianmai_media_plane::{
    Direction, EndReason, Hub, Kinds, MediaKind, Packet, Player, Publisher, RelayConfig,
    RtmpServer, StreamName, Verdict,
};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::*;

/// Ends a test that would never end. No outcome depends on it.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

fn options() -> UpstreamOptions {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    UpstreamOptions::new(Arc::new(tls))
}

fn url(address: SocketAddr, key: &str) -> UpstreamUrl {
    UpstreamUrl::parse(&format!("rtmp://{address}/live/up?{key}")).unwrap()
}

/// An upstream that accepts publishes with the query `good`, and all plays.
struct UpstreamServer {
    hub: Hub,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl UpstreamServer {
    async fn start(address: SocketAddr) -> Self {
        let hub = Hub::new(RelayConfig::default());
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let answer = Answer(|request: lianmai_media_plane::StreamRequest| {
            if request.direction == Direction::Play || request.query == "good" {
                Verdict::Allow { viewer: None, kinds: Kinds::BOTH, account: None }
            } else {
                Verdict::Deny { code: "badKey", message: format!("{} is bad", request.query) }
            }
        });
        let server = RtmpServer::new(hub.clone(), Arc::new(answer));
        let task = tokio::spawn(server.serve(listener, async move {
            let _ = stopped.await;
        }));
        Self { hub, address, stop, task }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }

    async fn play(&self) -> Player {
        self.hub.play(&allow(), request(Direction::Play, "up", "")).await.unwrap()
    }
}

/// A hub with a stream that has headers and a group of pictures.
async fn source() -> (Hub, Publisher) {
    source_with(RelayConfig::default()).await
}

async fn source_with(config: RelayConfig) -> (Hub, Publisher) {
    let hub = Hub::new(config);
    let publisher = hub.publish(&allow(), request(Direction::Publish, "a", "")).await.unwrap();
    send(&publisher, 0, &[0x17, 0, 0, 0, 0, 1]);
    send(&publisher, 0, &[0x17, 1, 0, 0, 0, 1]);
    send(&publisher, 40, &[0x27, 1, 0, 0, 0, 2]);
    (hub, publisher)
}

fn send(publisher: &Publisher, time: u32, body: &[u8]) {
    publisher.send(MediaKind::Video, time, body).unwrap();
}

fn tap(hub: &Hub) -> Player {
    hub.tap(&StreamName::new("live", "a")).unwrap()
}

/// Starts a forward. Returns its task, and the state that it reports.
fn start(
    player: Player,
    url: UpstreamUrl,
    options: UpstreamOptions,
) -> (JoinHandle<EndReason>, watch::Receiver<ForwardState>) {
    let (told, state) = watch::channel(ForwardState::default());
    (tokio::spawn(async move { forward(player, &url, &options, &told).await }), state)
}

/// Waits until a forward is in this phase and has failed at least so often.
async fn reach(state: &mut watch::Receiver<ForwardState>, phase: ForwardPhase, failures: u64) {
    let wanted = |state: &ForwardState| state.phase == phase && state.failures >= failures;
    timeout(TEST_TIMEOUT, state.wait_for(wanted)).await.unwrap().unwrap();
}

/// The bodies of the next packets of a player.
async fn bodies(player: &Player, count: usize) -> Vec<Vec<u8>> {
    let mut batch = Vec::new();
    while batch.len() < count {
        timeout(TEST_TIMEOUT, player.next(&mut batch, count)).await.unwrap().unwrap();
    }
    batch.iter().map(|packet| packet.body().to_vec()).collect()
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

#[tokio::test]
async fn a_stream_is_published_from_its_last_keyframe_on_until_it_ends() {
    let (hub, publisher) = source().await;
    let server = UpstreamServer::start(ANY).await;
    let watcher = server.play().await;
    let (ended, mut state) = start(tap(&hub), url(server.address, "good"), options());
    reach(&mut state, ForwardPhase::Publishing, 0).await;
    let got = bodies(&watcher, 3).await;
    assert_eq!(got[0], [0x17, 0, 0, 0, 0, 1], "what a decoder needs");
    assert_eq!(got[1], [0x17, 1, 0, 0, 0, 1], "its keyframe");
    assert_eq!(got[2], [0x27, 1, 0, 0, 0, 2]);
    send(&publisher, 80, &[0x27, 1, 0, 0, 0, 3]);
    assert_eq!(bodies(&watcher, 1).await, [[0x27, 1, 0, 0, 0, 3]]);
    // Each of the four is six bytes in a tag of FLV.
    assert_eq!(hub.stats().bytes_out, 4 * (11 + 6 + 4));
    hub.cut_stream(&StreamName::new("live", "a"));
    assert_eq!(timeout(TEST_TIMEOUT, ended).await.unwrap().unwrap(), EndReason::Cut);
    drop(watcher);
    server.stop().await;
}

#[tokio::test]
async fn an_upstream_that_comes_back_gets_the_stream_again() {
    let (hub, publisher) = source().await;
    let server = UpstreamServer::start(ANY).await;
    let address = server.address;
    let (_ended, mut state) = start(tap(&hub), url(address, "good"), options());
    reach(&mut state, ForwardPhase::Publishing, 0).await;
    server.stop().await;
    reach(&mut state, ForwardPhase::Waiting, 1).await;
    // There is no upstream meanwhile, so the forward tries again and again.
    reach(&mut state, ForwardPhase::Waiting, 2).await;
    send(&publisher, 2000, &[0x17, 1, 0, 0, 0, 9]);
    let server = UpstreamServer::start(address).await;
    let watcher = server.play().await;
    reach(&mut state, ForwardPhase::Publishing, 2).await;
    let got = bodies(&watcher, 2).await;
    assert_eq!(got[0], [0x17, 0, 0, 0, 0, 1]);
    assert_eq!(got[1], [0x17, 1, 0, 0, 0, 9], "the newest keyframe");
    server.stop().await;
}

#[tokio::test]
async fn a_refusal_is_reported_without_the_key_and_retried() {
    let (hub, _publisher) = source().await;
    let server = UpstreamServer::start(ANY).await;
    let (ended, mut state) = start(tap(&hub), url(server.address, "secret"), options());
    reach(&mut state, ForwardPhase::Waiting, 2).await;
    let error = state.borrow().last_error.clone().unwrap();
    assert_eq!(error.code(), "refused");
    let text = error.to_string();
    assert_eq!(text, "refused: NetStream.Publish.Denied denied.badKey: *** is bad");
    // A forward also ends with its stream while it waits for the next attempt.
    hub.cut_stream(&StreamName::new("live", "a"));
    assert_eq!(timeout(TEST_TIMEOUT, ended).await.unwrap().unwrap(), EndReason::Cut);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_without_publisher_has_nothing_to_forward() {
    let (hub, publisher) = source().await;
    assert!(hub.tap(&StreamName::new("live", "b")).is_none());
    drop(publisher);
    assert!(hub.tap(&StreamName::new("live", "a")).is_none());
    assert_eq!(hub.stats().streams, 0, "a failed tap leaves no stream");
}

/// What waits for the upstream is charged to the member that publishes.
#[tokio::test]
async fn a_forward_without_memory_starts_again() {
    let config = RelayConfig { forward_total_bytes: 1 << 20, ..RelayConfig::default() };
    let (hub, publisher) = source_with(config).await;
    // The member has an eighth of all memory, and the stream half of that.
    send(&publisher, 80, &[&[0x27, 1, 0, 0, 0, 3], &[0; 70_000][..]].concat());
    let server = UpstreamServer::start(ANY).await;
    let (_ended, mut state) = start(tap(&hub), url(server.address, "good"), options());
    reach(&mut state, ForwardPhase::Waiting, 1).await;
    assert_eq!(state.borrow().last_error.clone().unwrap().code(), "noRoom");
    let watcher = server.play().await;
    send(&publisher, 120, &[0x17, 1, 0, 0, 0, 4]);
    reach(&mut state, ForwardPhase::Publishing, 1).await;
    assert_eq!(bodies(&watcher, 2).await[1], [0x17, 1, 0, 0, 0, 4], "a smaller group");
    server.stop().await;
}

#[tokio::test]
async fn this_server_is_refused_as_upstream() {
    let server = UpstreamServer::start(ANY).await;
    let own = UpstreamOptions { own: vec![server.address], ..options() };
    let error = Upstream::publish(&url(server.address, "good"), &own).await.unwrap_err();
    assert!(matches!(error, UpstreamError::OwnListener), "{error}");
    let by_name = format!("rtmp://localhost:{}/live/up?good", server.address.port());
    let own = UpstreamOptions {
        own: vec![SocketAddr::from(([0, 0, 0, 0], server.address.port()))],
        ..options()
    };
    let error = Upstream::publish(&UpstreamUrl::parse(&by_name).unwrap(), &own).await.unwrap_err();
    assert!(matches!(error, UpstreamError::OwnListener), "{error}");
    // The unspecified address leads to this machine.
    let nowhere = SocketAddr::from(([0, 0, 0, 0], server.address.port()));
    let own = UpstreamOptions { own: vec![server.address], ..options() };
    let error = Upstream::publish(&url(nowhere, "good"), &own).await.unwrap_err();
    assert!(matches!(error, UpstreamError::OwnListener), "{error}");
    server.stop().await;
}

/// The bytes that wait for an upstream which reads nothing are bounded, and the stream goes on.
#[tokio::test]
async fn an_upstream_that_does_not_read_is_abandoned() {
    let (hub, publisher) = source().await;
    let server = UpstreamServer::start(ANY).await;
    // A proxy that passes everything on until the publish runs, and then reads nothing.
    let listener = TcpListener::bind(ANY).await.unwrap();
    let between = listener.local_addr().unwrap();
    let address = server.address;
    let (full, mut is_full) = watch::channel(false);
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut upstream = TcpStream::connect(address).await.unwrap();
        let (mut up, mut down) = ([0; 4096], [0; 4096]);
        while !*is_full.borrow() {
            tokio::select! {
                read = client.read(&mut up) => upstream.write_all(&up[..read.unwrap()]).await.unwrap(),
                read = upstream.read(&mut down) => client.write_all(&down[..read.unwrap()]).await.unwrap(),
                _ = is_full.changed() => {}
            }
        }
        std::future::pending::<()>().await;
    });
    let small = UpstreamOptions { queue_bytes: 1 << 20, ..options() };
    let (_ended, mut state) = start(tap(&hub), url(between, "good"), small);
    reach(&mut state, ForwardPhase::Publishing, 0).await;
    full.send(true).unwrap();
    let frame = vec![0x27; 100_000];
    let mut time = 80;
    while state.borrow().failures == 0 {
        send(&publisher, time, &frame);
        time += 1;
        tokio::task::yield_now().await;
        assert!(time < 5000, "the queue is unbounded");
    }
    assert_eq!(state.borrow().last_error.as_ref().unwrap().code(), "tooSlow");
    assert!(publisher.send(MediaKind::Video, time, &frame).is_ok(), "the stream goes on");
}

/// Hands a publish on to a server. From the word on it reads nothing until the next word. Says how the publisher's
/// connection ended.
async fn between(
    server: SocketAddr,
    mut words: mpsc::Receiver<()>,
) -> (SocketAddr, JoinHandle<io::Result<usize>>) {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut upstream = TcpStream::connect(server).await.unwrap();
        let (mut up, mut down) = ([0; 4096], [0; 4096]);
        loop {
            tokio::select! {
                read = client.read(&mut up) => match read {
                    Ok(0) | Err(_) => return read,
                    Ok(count) => upstream.write_all(&up[..count]).await.unwrap(),
                },
                read = upstream.read(&mut down) => {
                    client.write_all(&down[..read.unwrap()]).await.unwrap();
                }
                Some(()) = words.recv() => break,
            }
        }
        words.recv().await;
        loop {
            match client.read(&mut up).await {
                Ok(count) if count > 0 => {}
                ended => return ended,
            }
        }
    });
    (address, task)
}

/// Queues media, and has the kernel take it.
async fn hand_over(upstream: &mut Upstream) {
    let body = [&[0x27, 1, 0, 0, 0][..], &[7; 32 << 10]].concat();
    upstream.send_first(&Packet::of_message(MediaKind::Video, 40, &body).unwrap()).unwrap();
    while upstream.waiting_bytes() > 0 {
        tokio::select! {
            biased;
            error = upstream.serve() => panic!("{error}"),
            () = tokio::task::yield_now() => {}
        }
    }
}

/// The kernel does not go on with a publish that its owner has given up.
#[tokio::test]
async fn a_publish_that_is_dropped_delivers_nothing_more() {
    let server = UpstreamServer::start(ANY).await;
    let (say, words) = mpsc::channel(2);
    let (address, ended) = between(server.address, words).await;
    let mut upstream = Upstream::publish(&url(address, "good"), &options()).await.unwrap();
    say.send(()).await.unwrap();
    hand_over(&mut upstream).await;
    drop(upstream);
    say.send(()).await.unwrap();
    let ended = timeout(TEST_TIMEOUT, ended).await.unwrap().unwrap();
    assert_eq!(ended.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset));
    server.stop().await;
}

/// An upstream does not get what waits for it when its stream is cut.
#[tokio::test]
async fn a_cut_resets_the_publish() {
    let (hub, publisher) = source().await;
    let server = UpstreamServer::start(ANY).await;
    let (say, words) = mpsc::channel(2);
    let (address, ended) = between(server.address, words).await;
    let (forwarded, mut state) = start(tap(&hub), url(address, "good"), options());
    reach(&mut state, ForwardPhase::Publishing, 0).await;
    say.send(()).await.unwrap();
    send(&publisher, 80, &[0x27, 1, 0, 0, 0, 3]);
    hub.cut_stream(&StreamName::new("live", "a"));
    say.send(()).await.unwrap();
    let ended = timeout(TEST_TIMEOUT, ended).await.unwrap().unwrap();
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(timeout(TEST_TIMEOUT, forwarded).await.unwrap().unwrap(), EndReason::Cut);
    server.stop().await;
}

/// The good-bye and all media before it arrive.
#[tokio::test]
async fn a_publish_that_is_finished_delivers_everything() {
    let server = UpstreamServer::start(ANY).await;
    let (_say, words) = mpsc::channel(2);
    let (address, ended) = between(server.address, words).await;
    let mut upstream = Upstream::publish(&url(address, "good"), &options()).await.unwrap();
    hand_over(&mut upstream).await;
    upstream.finish().await;
    assert_eq!(timeout(TEST_TIMEOUT, ended).await.unwrap().unwrap().unwrap(), 0);
    server.stop().await;
}

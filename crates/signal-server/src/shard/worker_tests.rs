//! Proves no rule of the protocol: a shard does not wait for others.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use lianmai_protocol::message::session::Join;
use lianmai_protocol::{Appkey, Gen, KindSet, Mid, RequestId, WallTime};
use lianmai_signal_engine::{
    Access, AddrId, ChannelKey, EngineConfig, Grant, JoinRequest, MediaAddress, MintRequest, Minted,
};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::Config;
use crate::data_dir::DirLock;
use crate::media::{MediaProvider, PresentedUrl};
use crate::records::{self, OpenParams};
use crate::shard::{MailboxQuota, Shards};
use crate::signing::SignError;
use crate::socket::connection_limit::ConnectionLimit;
use crate::socket::halves::{Sink, split_tcp};

/// A provider that answers when the test says so, like one that asks an API.
#[derive(Default)]
struct SlowProvider {
    asked: Mutex<Vec<oneshot::Sender<Minted>>>,
    cut: Mutex<Vec<Gen>>,
}

impl MediaProvider for SlowProvider {
    fn mint(&self, _request: &MintRequest, _now: WallTime) -> Minting {
        let (answer, minted) = oneshot::channel();
        self.asked.lock().unwrap().push(answer);
        Minting::Pending(Box::pin(async move { minted.await.ok() }))
    }

    fn address(&self) -> MediaAddress {
        MediaAddress::default()
    }

    fn verify(&self, _: PresentedUrl<'_>, _: WallTime) -> Result<(Gen, Access), SignError> {
        Err(SignError::BadUrl)
    }

    fn viewer(&self, _query: &str) -> Option<Mid> {
        None
    }

    fn set_published(&self, _generation: Gen, _kinds: KindSet) {}

    fn set_subscribed(&self, _generation: Gen, _viewer: Mid, _kinds: KindSet) {}

    fn cut_stream(&self, generation: Gen) {
        self.cut.lock().unwrap().push(generation);
    }

    fn cut_viewer(&self, _generation: Gen, _viewer: Mid) {}

    fn local_pull_url(&self, _generation: Gen, _viewer: Mid, _now: WallTime) -> Option<String> {
        None
    }
}

/// One shard with one app, and a directory that is removed with it.
struct TestShard {
    shards: Shards,
    key: ChannelKey,
    directory: PathBuf,
}

impl TestShard {
    fn new(name: &str, provider: Arc<dyn MediaProvider>) -> Self {
        let name = format!("lianmai-shard-{}-{name}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&directory);
        let lock = Arc::new(DirLock::take(&directory).unwrap());
        let clock = Clock::start();
        let params = OpenParams { now: clock.now().wall, grace_ms: 1000, shards: 1 };
        let (store, mut restored) = records::open(&directory, lock, params).unwrap();
        let config = Config::load(None, std::iter::empty(), &[]).unwrap();
        let appkey: Appkey = config.apps[0].appkey.clone();
        let engine = EngineConfig {
            apps: BTreeMap::from([(appkey.clone(), config.apps[0].policy.clone())]),
            ..EngineConfig::default()
        };
        let parts = WorkerParts {
            clock,
            executor: None,
            providers: [(appkey.clone(), provider)].into_iter().collect(),
            authenticator: Arc::new(Authenticator::new(&config.apps)),
            notes: Notes::new(),
            store,
            max_lag_bytes: config.max_lag_bytes,
        };
        let (shards, mut mailboxes) = Shards::new(1);
        let mailbox = mailboxes.pop().unwrap();
        let engine = Engine::new(engine, [7; 32]);
        let mut worker = Worker::new(engine, parts, mailbox, &shards.of(0), &shards);
        worker.restore(restored.pop().unwrap());
        tokio::spawn(worker.run());
        TestShard { shards, key: ChannelKey { appkey, name: "room".parse().unwrap() }, directory }
    }

    /// A member that has joined, and the stream of its connection.
    async fn join(&self, number: u64) -> Member {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, address) = listener.accept().await.unwrap();
        let permit = ConnectionLimit::new(1, 1).try_acquire(address.ip()).unwrap();
        let (_source, sink): (_, Sink) = split_tcp(stream, permit);
        let text = format!(
            r#"{{"appkey": "demo", "channelName": "room", "uid": "{number}", "joinId": "0123456789abcdef{number}"}}"#
        );
        let join: Join = serde_json::from_str(&text).unwrap();
        let conn = ConnId(number);
        let request = JoinRequest { id: RequestId(1), join, grant: Ok(Grant::debug()) };
        let entry = Input::Join { conn, addr: AddrId::default(), request: Box::new(request) };
        let shard = self.shards.of(self.key.route());
        shard.send(ShardMsg::Adopt { conn, sink, entry }).await.ok().unwrap();
        let quota = MailboxQuota::default();
        let mut member = Member { conn, shard, quota, peer, read: Vec::new() };
        member.until(r#""ticket""#).await;
        member
    }
}

impl Drop for TestShard {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

struct Member {
    conn: ConnId,
    shard: mpsc::Sender<ShardMsg>,
    quota: MailboxQuota,
    peer: TcpStream,
    read: Vec<u8>,
}

impl Member {
    async fn send(&mut self, text: &'static str) {
        assert!(self.try_send(text).await);
    }

    /// Sends a frame. Returns whether the shard still takes frames of the connection.
    async fn try_send(&mut self, text: &'static str) -> bool {
        let frame = bytes::Bytes::from_static(text.as_bytes());
        let Some(permit) = self.quota.acquire(frame.len()).await else { return false };
        let message = ShardMsg::Frame { conn: self.conn, frame, permit };
        self.shard.send(message).await.ok().unwrap();
        true
    }

    /// Reads until the received bytes contain `text`.
    async fn until(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.read).contains(text) {
            let mut bytes = [0; 4096];
            let count = self.peer.read(&mut bytes).await.unwrap();
            assert!(count > 0, "the connection has ended before {text}");
            self.read.extend_from_slice(&bytes[..count]);
        }
    }
}

#[tokio::test]
async fn a_shard_does_not_wait_for_a_slow_provider() {
    let provider = Arc::new(SlowProvider::default());
    let shard_test = TestShard::new("slow", provider.clone());
    let (mut one, mut other) = (shard_test.join(1).await, shard_test.join(2).await);
    one.send(r#"{"jsonrpc": "2.0", "id": 2, "ack": 1, "method": "publish", "params": {"mediaType": "audio"}}"#)
        .await;
    // The shard continues while the provider is asked.
    other.send(r#"{"jsonrpc": "2.0", "id": 2, "ack": 1, "method": "ping", "params": {}}"#).await;
    other.until(r#""id":2"#).await;
    let asked = provider.asked.lock().unwrap().pop().expect("the provider was asked");
    let url = "rtmp://cdn.example/live/one".to_owned();
    let urls = serde_json::from_str(r#"{"rtmp": "rtmp://cdn.example/live/one"}"#).unwrap();
    asked.send(Minted { url, urls, renew_after: WallTime(u64::MAX >> 12) }).unwrap();
    one.until("rtmp://cdn.example/live/one").await;
    other.until("streamAdded").await;
    // The provider ends what it made.
    one.send(r#"{"jsonrpc": "2.0", "id": 3, "ack": 2, "method": "leave", "params": {}}"#).await;
    other.until("streamRemoved").await;
    assert_eq!(provider.cut.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn messages_of_a_closed_connection_are_dropped() {
    let shard_test = TestShard::new("closed", Arc::new(SlowProvider::default()));
    let (mut one, mut other) = (shard_test.join(1).await, shard_test.join(2).await);
    one.send("no JSON").await;
    while one.try_send(r#"{"jsonrpc": "2.0", "id": 2, "method": "ping", "params": {}}"#).await {
        // The shard has not closed the connection yet.
        tokio::task::yield_now().await;
    }
    other.send(r#"{"jsonrpc": "2.0", "id": 2, "ack": 1, "method": "ping", "params": {}}"#).await;
    other.until(r#""id":2"#).await;
}

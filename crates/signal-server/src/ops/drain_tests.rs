use std::path::PathBuf;
use std::sync::Arc;

use lianmai_signal_engine::ChannelKey;
use lianmai_signal_engine::record::ChannelRecord;
use lianmai_signal_engine::{Record, Row, RowKey, RowOp};
use tokio::sync::oneshot;

use super::*;
use crate::config::FREEZE_MS;
use crate::data_dir::DirLock;
use crate::records::{self, OpenParams};
use crate::shard::ShardMsg;

/// A store in a directory that is removed with the test.
struct DrainTest {
    directory: PathBuf,
    deadline_ms: u64,
}

impl DrainTest {
    fn new(name: &str, deadline_ms: u64) -> Self {
        let name = format!("lianmai-drain-{}-{name}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&directory);
        DrainTest { directory, deadline_ms }
    }

    /// The store, and whether it was handed over cleanly.
    fn open(&self) -> (Arc<dyn Records>, bool) {
        let lock = Arc::new(DirLock::take(&self.directory).unwrap());
        let params = OpenParams { now: wall_now(), grace_ms: 60_000, shards: 1 };
        let (store, restored) = records::open(&self.directory, lock, params).unwrap();
        (store, restored[0].clean)
    }

    /// Drains with `play` in the role of two shards. Returns whether this process reports a hand-over, and whether the
    /// next one accepts it.
    async fn drain(
        &self,
        play: impl AsyncFnOnce([oneshot::Sender<bool>; 2], watch::Receiver<Phase>),
        at_once: impl Future<Output = ()>,
    ) -> (bool, bool) {
        let (store, _) = self.open();
        // Without a channel, each start counts as clean.
        let key = RowKey { channel: channel_key(), row: Row::Channel };
        store.write(vec![RowOp::Put(key, Record::Channel(channel()))], None);
        let (shards, mut mailboxes) = Shards::new(2);
        let (phases, phase) = watch::channel(Phase::Serving);
        let config = DrainConfig {
            deadline_ms: self.deadline_ms,
            notice_ms: 0,
            retry_after_ms: 0,
            jitter_ms: 0,
        };
        let play = async {
            let mut asked = Vec::new();
            for mailbox in &mut mailboxes {
                let Some(ShardMsg::Drain { drained, .. }) = mailbox.recv().await else {
                    panic!("expected a drain");
                };
                asked.push(drained);
            }
            play(asked.try_into().unwrap(), phase).await;
        };
        let start = Instant::now();
        let drained = drain(&config, &shards, &*store, &phases, at_once);
        let (drained, ()) = tokio::join!(drained, play);
        assert_eq!(*phases.borrow(), Phase::Stopping);
        assert!(start.elapsed() < Duration::from_millis(LONG_MS));
        // The file is complete in each case.
        store.close(None).await;
        let (store, taken) = self.open();
        assert!(store.close(None).await);
        (drained.handed_over, taken)
    }
}

fn channel_key() -> ChannelKey {
    ChannelKey { appkey: "demo".parse().unwrap(), name: "room".parse().unwrap() }
}

fn channel() -> Box<ChannelRecord> {
    let creator = lianmai_protocol::UserId(1);
    let cid = lianmai_protocol::Cid(1);
    Box::new(ChannelRecord {
        cid,
        creator: Some(creator),
        attributes: Default::default(),
        demoted: Vec::new(),
        kept_down: Vec::new(),
        barred: Vec::new(),
        rules: Default::default(),
        prepared_until: None,
        live: None,
    })
}

impl Drop for DrainTest {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A drain takes less time, unless it waits for its deadline.
const LONG_MS: u64 = 60_000;

/// Proves RST-2.
#[tokio::test]
async fn rst_2_the_handover_of_every_shard_is_accepted() {
    let play = async |[one, other]: [oneshot::Sender<bool>; 2], phase: watch::Receiver<Phase>| {
        assert_eq!(*phase.borrow(), Phase::Draining);
        one.send(true).unwrap();
        tokio::task::yield_now().await;
        assert_eq!(*phase.borrow(), Phase::Draining, "one shard is not done");
        other.send(true).unwrap();
    };
    let drain_test = DrainTest::new("all", LONG_MS);
    assert_eq!(drain_test.drain(play, std::future::pending()).await, (true, true));
}

/// Proves RST-2.
#[tokio::test]
async fn rst_2_a_shard_that_fails_or_dies_makes_the_handover_incomplete() {
    let refused = async |[one, other]: [oneshot::Sender<bool>; 2], _| {
        one.send(true).unwrap();
        other.send(false).unwrap();
    };
    let drain_test = DrainTest::new("refused", LONG_MS);
    assert_eq!(drain_test.drain(refused, std::future::pending()).await, (false, false));
    let died = async |[one, other]: [oneshot::Sender<bool>; 2], _| {
        drop(one);
        other.send(true).unwrap();
    };
    let drain_test = DrainTest::new("died", LONG_MS);
    assert_eq!(drain_test.drain(died, std::future::pending()).await, (false, false));
}

/// Neither freeze nor deadline depend on the shards.
/// Proves RST-1.
#[tokio::test]
async fn rst_1_the_deadline_holds() {
    let silent = async |asked: [oneshot::Sender<bool>; 2], mut phase: watch::Receiver<Phase>| {
        phase.wait_for(|phase| *phase == Phase::Frozen).await.unwrap();
        phase.wait_for(|phase| *phase == Phase::Stopping).await.unwrap();
        drop(asked);
    };
    let drain_test = DrainTest::new("silent", FREEZE_MS + 100);
    assert_eq!(drain_test.drain(silent, std::future::pending()).await, (false, false));
}

/// Proves no rule of the protocol: a second signal ends a drain.
#[tokio::test]
async fn a_second_signal_ends_the_drain() {
    let silent = async |asked: [oneshot::Sender<bool>; 2], mut phase: watch::Receiver<Phase>| {
        phase.wait_for(|phase| *phase == Phase::Stopping).await.unwrap();
        drop(asked);
    };
    let drain_test = DrainTest::new("signal", LONG_MS);
    assert_eq!(drain_test.drain(silent, async {}).await, (false, false));
}

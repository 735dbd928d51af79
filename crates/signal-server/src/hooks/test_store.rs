//! A store for tests. Comes in: a name. Goes out: the open store, whose directory is removed with the test, and events
//! in it.

use std::path::PathBuf;
use std::sync::Arc;

use lianmai_protocol::{Cid, WallTime};
use lianmai_signal_engine::{ChannelKey, Event, EventRecord, RowOp};

use super::endpoint::Endpoint;
use crate::clock::wall_now;
use crate::data_dir::DirLock;
use crate::records::{self, OpenParams, Records};

pub(super) struct TestStore(PathBuf, pub(super) Arc<dyn Records>);

impl TestStore {
    pub(super) fn open(name: &str) -> Self {
        let directory = format!("lianmai-hooks-{}-{name}", std::process::id());
        let directory = std::env::temp_dir().join(directory);
        let _ = std::fs::remove_dir_all(&directory);
        let lock = Arc::new(DirLock::take(&directory).unwrap());
        let params = OpenParams { now: wall_now(), grace_ms: 1000, shards: 1 };
        let (store, _) = records::open(&directory, lock, params).unwrap();
        TestStore(directory, store)
    }

    /// Writes an event of a channel of the app `demo`, and waits for the commit.
    pub(super) async fn append(&self, channel: &str, seq: u64, at: u64, event: Event) {
        let channel =
            ChannelKey { appkey: "demo".parse().unwrap(), name: channel.parse().unwrap() };
        let record = EventRecord { seq, first: false, at: WallTime(at), cid: Cid(1), event };
        let (ack, written) = tokio::sync::oneshot::channel();
        let ops = vec![RowOp::AppendEvent(channel, Box::new(record))];
        self.1.write(ops, Some(Box::new(move |well| _ = ack.send(well))));
        assert!(written.await.unwrap());
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An enabled endpoint of the app `demo` for all events.
pub(super) fn endpoint(id: &str, url: &str) -> Endpoint {
    let mut endpoint = Endpoint {
        id: id.to_owned(),
        appkey: "demo".parse().unwrap(),
        url: url.to_owned(),
        events: Vec::new(),
        enabled: true,
        created_at: WallTime(1),
        since: 0,
        secrets: Vec::new(),
    };
    endpoint.rotate(WallTime(1)).unwrap();
    endpoint
}

//! The rows of the disk. Comes in: writes of the shards, in order; whether a commit succeeded. Goes out: an answer for
//! each write that requested one, and at the start of the next process everything that survived. Like the real store it
//! commits in groups: writes that come during a commit wait for the next one. A crash keeps the unanswered writes up to
//! a random point and loses the others; answered writes stay.
//!
//! Deliberately absent: the meaning of a record; how long a commit takes and whether it fails, which `process.rs`
//! decides.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lianmai_protocol::WallTime;
use lianmai_signal_engine::{AskId, ChannelKey, Record, Restored, Row, RowKey, RowOp};

use super::journal::Follower;
use crate::rng::Rng;

/// One write of a shard.
#[derive(Debug)]
pub(crate) struct Write {
    /// Its number, over all shards and processes.
    pub(crate) n: u64,
    pub(crate) shard: usize,
    pub(crate) ops: Vec<RowOp>,
    pub(crate) ask: Option<AskId>,
}

/// The safe state.
#[derive(Debug, Default)]
struct Table {
    rows: BTreeMap<RowKey, Record>,
    /// Number of the last write in it.
    last: u64,
    /// The reader of the journal.
    follower: Follower,
    /// The first failure that the reader found.
    wrong: Option<String>,
}

/// The disk of the server.
#[derive(Debug, Default)]
pub(crate) struct Store {
    table: Table,
    committing: Vec<Write>,
    waiting: VecDeque<Write>,
    pub(crate) commit_running: bool,
    handed_over: Option<WallTime>,
    last_write: u64,
    pub(crate) commits: u64,
}

impl Table {
    fn apply(&mut self, write: Write) {
        self.last = write.n;
        let mut changed = BTreeSet::new();
        for op in write.ops {
            match op {
                RowOp::AppendEvent(channel, record) => {
                    let result = self.follower.append(&channel, &record);
                    self.blame(result);
                    changed.insert(channel);
                    continue;
                }
                RowOp::AppendHistory(..) => continue,
                RowOp::Put(ref key, _) | RowOp::Drop(ref key) => {
                    changed.insert(key.channel.clone());
                }
                RowOp::DropChannel(ref channel) => {
                    changed.insert(channel.clone());
                }
            }
            match op {
                RowOp::AppendEvent(..) | RowOp::AppendHistory(..) => {}
                RowOp::Put(key, record) => drop(self.rows.insert(key, record)),
                RowOp::Drop(key) => drop(self.rows.remove(&key)),
                RowOp::DropChannel(channel) => {
                    self.rows
                        .retain(|key, _| key.channel != channel || !key.row.ends_with_channel());
                }
            }
        }
        for channel in changed {
            let agrees = self.follower.agrees(&channel, &self.rows);
            self.blame(agrees);
        }
    }

    fn blame(&mut self, result: Result<(), String>) {
        if let Err(what) = result {
            self.wrong.get_or_insert(what);
        }
    }
}

impl Store {
    /// Queues a write. Returns its number.
    pub(crate) fn write(&mut self, shard: usize, ops: Vec<RowOp>, ask: Option<AskId>) -> u64 {
        self.last_write += 1;
        self.waiting.push_back(Write { n: self.last_write, shard, ops, ask });
        self.last_write
    }

    /// Begins a commit of all queued writes. False if there are none.
    pub(crate) fn begin(&mut self) -> bool {
        if self.commit_running || self.waiting.is_empty() {
            return false;
        }
        self.committing = std::mem::take(&mut self.waiting).into();
        self.commit_running = true;
        true
    }

    /// Ends the commit. Returns the writes that requested an answer. After a failure the writes are queued again,
    /// before later ones.
    pub(crate) fn end(&mut self, well: bool) -> Vec<(usize, AskId)> {
        self.commit_running = false;
        self.commits += 1;
        let mut acks = Vec::new();
        let batch = std::mem::take(&mut self.committing);
        if well {
            for mut write in batch {
                acks.extend(write.ask.take().map(|ask| (write.shard, ask)));
                self.table.apply(write);
            }
        } else {
            for mut write in batch.into_iter().rev() {
                acks.extend(write.ask.take().map(|ask| (write.shard, ask)));
                self.waiting.push_front(write);
            }
            acks.reverse();
        }
        acks
    }

    /// The process is gone: unanswered writes are kept up to a random point. Returns the number of the last write that
    /// was kept.
    pub(crate) fn crash(&mut self, rng: &mut Rng) -> u64 {
        let mut open = std::mem::take(&mut self.committing);
        let begun = open.len();
        open.extend(std::mem::take(&mut self.waiting));
        self.commit_running = false;
        let kept = match rng.below(4) {
            0 => 0,
            1 => begun,
            2 => open.len(),
            _ => rng.index(open.len() + 1),
        };
        for write in open.into_iter().take(kept) {
            self.table.apply(write);
        }
        self.table.last
    }

    /// Commits all queued writes, and then the mark of a clean hand-over. Returns the number of the last write.
    pub(crate) fn close(&mut self, handed_over: Option<WallTime>) -> u64 {
        let batch = std::mem::take(&mut self.committing);
        for write in batch.into_iter().chain(std::mem::take(&mut self.waiting)) {
            self.table.apply(write);
        }
        self.commit_running = false;
        self.handed_over = handed_over;
        self.table.last
    }

    /// The rows with which each shard of the next process starts. Records are converted to text and back, as on a real
    /// disk.
    pub(crate) fn load(&mut self, now: WallTime, grace_ms: u64, shards: usize) -> Vec<Restored> {
        let clean = self.handed_over.take().is_some_and(|at| now.0.abs_diff(at.0) <= grace_ms);
        let unharmed = clean || !self.table.rows.keys().any(|key| key.row == Row::Channel);
        let mut rows = vec![Vec::new(); shards];
        for (key, record) in &self.table.rows {
            let record = Record::read(&key.row, &record.text());
            let record = record.expect("a written record can be read");
            rows[shard_of(&key.channel, shards)].push((key.clone(), record));
        }
        let restored = |rows| Restored { clean: unharmed, ..Restored::of(rows, clean) };
        rows.into_iter().map(restored).collect()
    }

    /// Takes the first failure that the reader of the journal found.
    pub(crate) fn wrong(&mut self) -> Option<String> {
        self.table.wrong.take()
    }

    /// Number of rows of channels.
    pub(crate) fn rows(&self) -> usize {
        self.table.rows.keys().filter(|key| key.row.ends_with_channel()).count()
    }

    /// Whether no write is queued or being committed.
    pub(crate) fn is_idle(&self) -> bool {
        !self.commit_running && self.waiting.is_empty()
    }
}

/// The shard that owns a channel.
pub(crate) fn shard_of(key: &ChannelKey, shards: usize) -> usize {
    usize::try_from(key.route()).expect("32 bits") % shards
}

/// The shard of the routing value in a stream's name.
pub(crate) fn shard_of_route(route: u32, shards: usize) -> usize {
    usize::try_from(route).expect("32 bits") % shards
}

//! The disk. Comes in: writes of the shards, in order. Goes out: an answer for each that somebody waits for, and
//! at the start of the next process everything that survived. As the real one it commits in groups: what comes
//! while one commit runs waits for the next. At a crash every write without an answer is kept up to some point
//! and lost from there on; what was answered stays (contract rule D9).
//!
//! Deliberately absent: what a record means.

use std::collections::{BTreeMap, VecDeque};

use lianmai_protocol::{UserId, WallTime};
use lianmai_signal_engine::record::{BanRecord, ChannelRecord, MemberRecord};
use lianmai_signal_engine::{AskId, ChannelKey, Restored, StoreOp};

use crate::rng::Rng;

/// One write of a shard.
#[derive(Debug)]
pub(crate) struct Write {
    /// Its number, over all shards and processes.
    pub(crate) n: u64,
    pub(crate) shard: usize,
    pub(crate) ops: Vec<StoreOp>,
    pub(crate) ask: Option<AskId>,
}

/// What is safe.
#[derive(Debug, Default)]
struct Tables {
    channels: BTreeMap<ChannelKey, (ChannelRecord, BTreeMap<UserId, MemberRecord>)>,
    bans: BTreeMap<(ChannelKey, UserId), BanRecord>,
    holds: BTreeMap<ChannelKey, BanRecord>,
    /// Last write that is in it.
    last: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Store {
    tables: Tables,
    committing: Vec<Write>,
    waiting: VecDeque<Write>,
    pub(crate) commit_running: bool,
    handed_over: Option<WallTime>,
    last_write: u64,
    pub(crate) commits: u64,
}

impl Tables {
    fn apply(&mut self, write: Write) {
        self.last = write.n;
        for op in write.ops {
            match op {
                StoreOp::PutChannel(key, record) => match self.channels.get_mut(&key) {
                    Some((old, _)) => *old = *record,
                    None => drop(self.channels.insert(key, (*record, BTreeMap::new()))),
                },
                StoreOp::DropChannel(key) => drop(self.channels.remove(&key)),
                StoreOp::PutMember(key, record) => {
                    if let Some((_, members)) = self.channels.get_mut(&key) {
                        members.insert(record.uid, *record);
                    }
                }
                StoreOp::DropMember(key, uid) => {
                    if let Some((_, members)) = self.channels.get_mut(&key) {
                        members.remove(&uid);
                    }
                }
                StoreOp::PutBan(key, uid, ban) => drop(self.bans.insert((key, uid), ban)),
                StoreOp::DropBan(key, uid) => drop(self.bans.remove(&(key, uid))),
                StoreOp::PutHold(key, hold) => drop(self.holds.insert(key, hold)),
                StoreOp::DropHold(key) => drop(self.holds.remove(&key)),
            }
        }
    }
}

impl Store {
    /// Takes a write; its number.
    pub(crate) fn write(&mut self, shard: usize, ops: Vec<StoreOp>, ask: Option<AskId>) -> u64 {
        self.last_write += 1;
        self.waiting.push_back(Write { n: self.last_write, shard, ops, ask });
        self.last_write
    }

    /// Begins a commit of everything that waits; false if there is nothing.
    pub(crate) fn begin(&mut self) -> bool {
        if self.commit_running || self.waiting.is_empty() {
            return false;
        }
        self.committing = std::mem::take(&mut self.waiting).into();
        self.commit_running = true;
        true
    }

    /// The commit is over: who waited for what. What failed waits again, for what comes next.
    pub(crate) fn end(&mut self, well: bool) -> Vec<(usize, AskId)> {
        self.commit_running = false;
        self.commits += 1;
        let mut acks = Vec::new();
        let batch = std::mem::take(&mut self.committing);
        if well {
            for mut write in batch {
                acks.extend(write.ask.take().map(|ask| (write.shard, ask)));
                self.tables.apply(write);
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

    /// The process is gone: what was not answered is kept up to a random point.
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
            self.tables.apply(write);
        }
        self.tables.last
    }

    /// Everything is written, and then that it is all.
    pub(crate) fn close(&mut self, handed_over: Option<WallTime>) -> u64 {
        let batch = std::mem::take(&mut self.committing);
        for write in batch.into_iter().chain(std::mem::take(&mut self.waiting)) {
            self.tables.apply(write);
        }
        self.commit_running = false;
        self.handed_over = handed_over;
        self.tables.last
    }

    /// What each shard of the next process starts with. Records go through their text form, as they do on the way
    /// to a disk and back.
    pub(crate) fn load(&mut self, now: WallTime, grace_ms: u64, shards: usize) -> Vec<Restored> {
        let clean = self.handed_over.take().is_some_and(|at| now.0.abs_diff(at.0) <= grace_ms);
        let unharmed = clean || self.tables.channels.is_empty();
        let mut restored = vec![Restored { clean: unharmed, ..Restored::default() }; shards];
        for (key, (channel, members)) in &mut self.tables.channels {
            channel.live = channel.live.take().filter(|_| clean);
            for member in members.values_mut() {
                member.live = member.live.take().filter(|_| clean);
            }
            let members = members.values().map(through_text).collect();
            restored[shard_of(key, shards)].channels.push((
                key.clone(),
                through_text(channel),
                members,
            ));
            // Good once.
            channel.live = None;
        }
        for (_, members) in self.tables.channels.values_mut() {
            members.values_mut().for_each(|member| member.live = None);
        }
        for ((key, uid), ban) in &self.tables.bans {
            restored[shard_of(key, shards)].bans.push((key.clone(), *uid, through_text(ban)));
        }
        for (key, hold) in &self.tables.holds {
            restored[shard_of(key, shards)].holds.push((key.clone(), through_text(hold)));
        }
        restored
    }

    /// Rows that are left.
    pub(crate) fn rows(&self) -> usize {
        self.tables.channels.values().map(|(_, members)| 1 + members.len()).sum()
    }

    /// Nothing waits.
    pub(crate) fn is_idle(&self) -> bool {
        !self.commit_running && self.waiting.is_empty()
    }
}

/// Which shard owns a channel.
pub(crate) fn shard_of(key: &ChannelKey, shards: usize) -> usize {
    usize::try_from(key.route()).expect("32 bits") % shards
}

fn through_text<T: serde::Serialize + serde::de::DeserializeOwned>(record: &T) -> T {
    let text = serde_json::to_string(record).expect("a record has string keys only");
    serde_json::from_str(&text).expect("what was written can be read")
}

/// As [`shard_of`], of what travels in a stream's name.
pub(crate) fn shard_of_route(route: u32, shards: usize) -> usize {
    usize::try_from(route).expect("32 bits") % shards
}

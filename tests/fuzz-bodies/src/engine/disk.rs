//! A store in memory. Comes in: writes of the engine. Goes out: what the next process is started with, read
//! again from text as a file would be.

use std::collections::{BTreeMap, VecDeque};

use lianmai_protocol::UserId;
use lianmai_signal_engine::record::{BanRecord, ChannelRecord, MemberRecord};
use lianmai_signal_engine::{AskId, ChannelKey, Restored, StoreOp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::program::Program;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Mode {
    AtOnce,
    Hold,
    Fail,
}

pub(super) struct Disk {
    mode: Mode,
    channels: BTreeMap<ChannelKey, ChannelRecord>,
    members: BTreeMap<(ChannelKey, UserId), Box<MemberRecord>>,
    bans: BTreeMap<(ChannelKey, UserId), BanRecord>,
    holds: BTreeMap<ChannelKey, BanRecord>,
    held: VecDeque<(Vec<StoreOp>, Option<AskId>)>,
    /// Some write did not come to pass.
    pub(super) lost: bool,
}

impl Disk {
    pub(super) fn new() -> Self {
        Disk {
            mode: Mode::AtOnce,
            channels: BTreeMap::new(),
            members: BTreeMap::new(),
            bans: BTreeMap::new(),
            holds: BTreeMap::new(),
            held: VecDeque::new(),
            lost: false,
        }
    }

    /// How it goes on; to be set when nothing is held.
    pub(super) fn set(&mut self, mode: Mode) {
        assert!(self.held.is_empty());
        self.mode = mode;
    }

    /// Whether it is stored, where that is known at once.
    pub(super) fn write(&mut self, ops: Vec<StoreOp>, ask: Option<AskId>) -> Option<bool> {
        match self.mode {
            Mode::AtOnce => self.apply(ops),
            Mode::Fail => self.lost = true,
            Mode::Hold => {
                self.held.push_back((ops, ask));
                return None;
            }
        }
        Some(self.mode == Mode::AtOnce)
    }

    /// Carries out the oldest write that is held, or loses it, and says which answer is owed.
    pub(super) fn next(&mut self, stored: bool) -> Option<Option<AskId>> {
        let (ops, ask) = self.held.pop_front()?;
        if stored {
            self.apply(ops);
        } else {
            self.lost = true;
        }
        Some(ask)
    }

    /// Carries out what was held, and says which answers are owed.
    pub(super) fn flush(&mut self) -> Vec<AskId> {
        let mut done = Vec::new();
        for (ops, ask) in std::mem::take(&mut self.held) {
            self.apply(ops);
            done.extend(ask);
        }
        done
    }

    /// The process is gone, and with it what was held.
    pub(super) fn forget_held(&mut self) {
        self.lost |= !self.held.is_empty();
        self.held.clear();
    }

    /// Whether nobody is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.members.is_empty()
    }

    fn apply(&mut self, ops: Vec<StoreOp>) {
        for op in ops {
            match op {
                StoreOp::PutChannel(key, record) => _ = self.channels.insert(key, *record),
                StoreOp::DropChannel(key) => {
                    self.channels.remove(&key);
                    self.members.retain(|(channel, _), _| *channel != key);
                }
                StoreOp::PutMember(key, record) => {
                    self.members.insert((key, record.uid), record);
                }
                StoreOp::DropMember(key, uid) => _ = self.members.remove(&(key, uid)),
                StoreOp::PutBan(key, uid, ban) => _ = self.bans.insert((key, uid), ban),
                StoreOp::DropBan(key, uid) => _ = self.bans.remove(&(key, uid)),
                StoreOp::PutHold(key, hold) => _ = self.holds.insert(key, hold),
                StoreOp::DropHold(key) => _ = self.holds.remove(&key),
            }
        }
    }

    /// What a process would be started with if one number of one record were another one; `None` if that can
    /// not be read at all.
    pub(super) fn damaged(&self, program: &mut Program<'_>) -> Option<Restored> {
        let mut restored = self.restored(program.flag());
        if restored.channels.is_empty() {
            return None;
        }
        let at = usize::from(program.byte()) % restored.channels.len();
        let (_, channel, members) = &mut restored.channels[at];
        let which = usize::from(program.byte()) % (members.len() + 1);
        match members.get_mut(which) {
            Some(member) => *member = damaged(member, program)?,
            None => *channel = damaged(channel, program)?,
        }
        Some(restored)
    }

    /// What a process is started with; after a crash without what is true only of a clean stop.
    pub(super) fn restored(&self, clean: bool) -> Restored {
        let member = |record: &MemberRecord| {
            let mut record: MemberRecord = reread(record);
            record.live = record.live.filter(|_| clean);
            record
        };
        let channel = |(key, record): (&ChannelKey, &ChannelRecord)| {
            let mut record: ChannelRecord = reread(record);
            record.live = record.live.filter(|_| clean);
            let members = self.members.iter().filter(|((channel, _), _)| channel == key);
            (key.clone(), record, members.map(|(_, record)| member(record)).collect())
        };
        Restored {
            channels: self.channels.iter().map(channel).collect(),
            bans: self.bans.iter().map(|((key, uid), ban)| (key.clone(), *uid, *ban)).collect(),
            holds: self.holds.iter().map(|(key, hold)| (key.clone(), *hold)).collect(),
            clean,
        }
    }
}

fn damaged<T: Serialize + DeserializeOwned>(record: &T, program: &mut Program<'_>) -> Option<T> {
    fn numbers<'a>(value: &'a mut Value, all: &mut Vec<&'a mut Value>) {
        match value {
            Value::Number(_) => all.push(value),
            Value::Array(items) => items.iter_mut().for_each(|item| numbers(item, all)),
            Value::Object(map) => map.values_mut().for_each(|item| numbers(item, all)),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(record).expect("a record is JSON");
    let mut all = Vec::new();
    numbers(&mut value, &mut all);
    let at = usize::from(program.byte()) % all.len().max(1);
    **all.get_mut(at)? = (program.huge() >> (program.byte() & 63)).into();
    serde_json::from_value(value).ok()
}

fn reread<T: Serialize + DeserializeOwned>(record: &T) -> T {
    let text = serde_json::to_string(record).expect("a record is JSON");
    serde_json::from_str(&text).expect("what was written can be read")
}

//! A store in memory. Comes in: writes of the engine. Goes out: the state with which the next process starts, read
//! again from text as from a file. Deliberately absent: files, and the journal.

use std::collections::{BTreeMap, VecDeque};

use lianmai_signal_engine::{AskId, Record, Restored, RowKey, RowOp};
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
    rows: BTreeMap<RowKey, Record>,
    held: VecDeque<(Vec<RowOp>, Option<AskId>)>,
    /// Whether some write was not stored.
    pub(super) lost: bool,
}

impl Disk {
    pub(super) fn new() -> Self {
        Disk { mode: Mode::AtOnce, rows: BTreeMap::new(), held: VecDeque::new(), lost: false }
    }

    /// Sets how later writes are treated. No write may be pending.
    pub(super) fn set(&mut self, mode: Mode) {
        assert!(self.held.is_empty());
        self.mode = mode;
    }

    /// Whether the write is stored; `None` if this is decided later.
    pub(super) fn write(&mut self, ops: Vec<RowOp>, ask: Option<AskId>) -> Option<bool> {
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

    /// Stores or loses the oldest pending write. Returns its id, if an answer is owed.
    pub(super) fn next(&mut self, stored: bool) -> Option<Option<AskId>> {
        let (ops, ask) = self.held.pop_front()?;
        if stored {
            self.apply(ops);
        } else {
            self.lost = true;
        }
        Some(ask)
    }

    /// Stores all pending writes. Returns the ids for which an answer is owed.
    pub(super) fn flush(&mut self) -> Vec<AskId> {
        let mut done = Vec::new();
        for (ops, ask) in std::mem::take(&mut self.held) {
            self.apply(ops);
            done.extend(ask);
        }
        done
    }

    /// The process is gone; its pending writes are lost.
    pub(super) fn forget_held(&mut self) {
        self.lost |= !self.held.is_empty();
        self.held.clear();
    }

    /// Whether no row of a channel is left.
    pub(super) fn is_empty(&self) -> bool {
        !self.rows.keys().any(|key| key.row.ends_with_channel())
    }

    fn apply(&mut self, ops: Vec<RowOp>) {
        for op in ops {
            match op {
                RowOp::Put(key, record) => _ = self.rows.insert(key, record),
                RowOp::Drop(key) => _ = self.rows.remove(&key),
                RowOp::AppendEvent(..) | RowOp::AppendHistory(..) => {}
                RowOp::DropChannel(channel) => {
                    self.rows
                        .retain(|key, _| key.channel != channel || !key.row.ends_with_channel());
                }
            }
        }
    }

    /// The state with which a process starts if one number of one record is damaged; `None` if this state cannot be
    /// read at all.
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

    /// The state with which a process starts. After a crash it lacks what only a clean stop leaves.
    pub(super) fn restored(&self, clean: bool) -> Restored {
        let reread = |(key, record): (&RowKey, &Record)| {
            let record = Record::read(&key.row, &record.text());
            (key.clone(), record.expect("a written record can be read"))
        };
        Restored::of(self.rows.iter().map(reread), clean)
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

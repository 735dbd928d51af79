//! A store in memory: stored rows, waiting writes, and the state for a new process.

use std::collections::{BTreeMap, VecDeque};

use lianmai_signal_engine::{
    Answer, AskId, ChannelKey, DrainPlan, Engine, EventRecord, HistoryRecord, Input, Record,
    Restored, Row, RowKey, RowOp,
};

use super::{BEGIN_MS, World};

/// What a disk does with a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DiskMode {
    #[default]
    AtOnce,
    Hold,
    Fail,
}

#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) mode: DiskMode,
    rows: BTreeMap<RowKey, Record>,
    /// Appended events.
    pub(crate) journal: Vec<(ChannelKey, EventRecord)>,
    /// Entries of the history.
    pub(crate) history: Vec<(ChannelKey, HistoryRecord)>,
    held: VecDeque<(Vec<RowOp>, Option<AskId>)>,
}

impl Disk {
    /// Whether it is stored, if that is known at once.
    pub(super) fn write(&mut self, ops: Vec<RowOp>, ask: Option<AskId>) -> Option<bool> {
        match self.mode {
            DiskMode::AtOnce => {
                self.apply(ops);
                Some(true)
            }
            DiskMode::Fail => Some(false),
            DiskMode::Hold => {
                self.held.push_back((ops, ask));
                None
            }
        }
    }

    fn apply(&mut self, ops: Vec<RowOp>) {
        for op in ops {
            match op {
                RowOp::Put(key, record) => {
                    let record = Record::read(&key.row, &record.text());
                    self.rows.insert(key, record.expect("a written record can be read"));
                }
                RowOp::Drop(key) => {
                    self.rows.remove(&key);
                }
                RowOp::AppendEvent(channel, record) => {
                    self.journal.push((channel, *record));
                }
                RowOp::AppendHistory(channel, record) => {
                    let text = serde_json::to_string(&record).expect("text");
                    let record = serde_json::from_str(&text).expect("a written record can be read");
                    self.history.push((channel, record));
                }
                RowOp::DropChannel(channel) => {
                    self.rows
                        .retain(|key, _| key.channel != channel || !key.row.ends_with_channel());
                }
            }
        }
    }

    /// Carries out the writes that were held, without an answer.
    pub(crate) fn apply_held(&mut self) {
        for (ops, _) in std::mem::take(&mut self.held) {
            self.apply(ops);
        }
    }

    /// Whether no channel is stored.
    pub(crate) fn is_empty(&self) -> bool {
        !self.rows.keys().any(|key| key.row.ends_with_channel())
    }

    fn restored(&self, clean: bool) -> Restored {
        let mut restored = Restored::of(self.rows.clone(), clean);
        restored.clean |= restored.channels.is_empty();
        restored
    }
}

impl World {
    /// Carries out the writes that were held.
    pub(crate) fn write_held(&mut self) {
        let mut done = Vec::new();
        for (ops, ask) in std::mem::take(&mut self.disk.held) {
            self.disk.apply(ops);
            done.extend(ask);
        }
        for id in done {
            self.input(Input::Answer { id, answer: Answer::Stored(true) });
        }
    }

    /// Carries out the held writes up to the first one that needs an answer.
    pub(crate) fn write_next(&mut self) {
        while let Some((ops, ask)) = self.disk.held.pop_front() {
            self.disk.apply(ops);
            if let Some(id) = ask {
                return self.input(Input::Answer { id, answer: Answer::Stored(true) });
            }
        }
    }

    /// Answers the held writes that need an answer, with these results.
    pub(crate) fn answer_held(&mut self, stored: &[bool]) {
        let held: Vec<_> = std::mem::take(&mut self.disk.held).into_iter().collect();
        let mut verdicts = stored.iter();
        for (ops, ask) in held {
            let ok = match ask {
                Some(_) => *verdicts.next().expect("a verdict for each"),
                None => true,
            };
            if ok {
                self.disk.apply(ops);
            }
            if let Some(id) = ask {
                self.input(Input::Answer { id, answer: Answer::Stored(ok) });
            }
        }
    }

    /// A new process that is started with these records.
    pub(crate) fn start_with(
        &mut self,
        mono: u64,
        clean: bool,
        change: impl FnOnce(&mut Restored),
    ) {
        for conn in self.conns.values_mut() {
            conn.gone |= conn.closed.is_none();
        }
        self.draining = false;
        self.drained = None;
        self.last_ask = None;
        self.starts += 1;
        self.now.mono.0 = mono;
        self.engine = Engine::new(self.config.clone(), [7 + self.starts; 32]);
        let mut restored = self.disk.restored(clean);
        change(&mut restored);
        for (_, _, members) in &restored.channels {
            for push in members.iter().flat_map(|member| &member.pushes) {
                self.cut.remove(&push.generation);
            }
        }
        self.input(Input::Restore(Box::new(restored)));
    }

    pub(crate) fn drain(&mut self) {
        self.draining = true;
        self.input(Input::Drain(DrainPlan {
            notice_ms: 500,
            freeze_ms: 1_500,
            deadline_ms: 5_000,
            retry_after_ms: 100,
            jitter_ms: 100,
        }));
    }

    /// The process ends, with every socket and every held write; the next one begins.
    pub(crate) fn crash(&mut self) {
        self.next_process(false);
    }

    /// The next process continues where a drained one ended.
    pub(crate) fn start_again(&mut self) {
        assert_eq!(self.drained, Some(true), "handed over");
        self.next_process(true);
    }

    fn next_process(&mut self, clean: bool) {
        self.writes_lost += self.disk.held.len();
        self.disk.held.clear();
        self.draining = false;
        for conn in self.conns.values_mut() {
            conn.gone |= conn.closed.is_none();
        }
        self.starts += 1;
        self.drained = None;
        self.held_mints.clear();
        self.held_tokens.clear();
        let hold_claims = self.tasks.hold_claims;
        self.tasks = super::tasks::TaskShell::default();
        self.tasks.hold_claims = hold_claims;
        self.last_ask = None;
        self.waiting.clear();
        self.relay.end();
        // The clocks of two processes are unrelated.
        self.now.mono.0 = BEGIN_MS;
        self.engine = Engine::new(self.config.clone(), [7 + self.starts; 32]);
        let restored = self.disk.restored(clean);
        for (_, _, members) in &restored.channels {
            // A cut whose record was not stored is made again.
            for push in members.iter().flat_map(|member| &member.pushes) {
                self.cut.remove(&push.generation);
            }
            self.minted.extend(members.iter().flat_map(|m| &m.pushes).map(|push| push.generation));
        }
        self.input(Input::Restore(Box::new(restored)));
    }
}

impl Disk {
    /// Ids of the stored tasks.
    pub(crate) fn tasks(&self) -> Vec<String> {
        let tasks = self.rows.keys().filter(|key| matches!(key.row, Row::Task(_)));
        tasks.map(|key| key.row.id()).collect()
    }

    /// Number of stored claims, those that rest included.
    pub(crate) fn claims(&self) -> usize {
        self.rows.keys().filter(|key| key.row == Row::Claim).count()
    }
}

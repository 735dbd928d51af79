//! What waits for the disk: the newest operation of each row. Comes in: operations in order. Goes out: the same
//! effect in as few statements as possible. Deliberately absent: the disk, and what a record says.

use std::collections::{BTreeMap, BTreeSet};

use lianmai_signal_engine::{
    ChannelKey, Event, EventRecord, HistoryRecord, Record, Row, RowKey, RowOp,
};

/// Rows that may wait to be removed. The rows that wait to be there are bounded by what the engines hold.
pub(super) const MAX_ROWS: usize = 250_000;

/// Events that may wait. Of what comes then only the numbers are kept, for those who follow the channel.
pub(super) const MAX_EVENTS: usize = 100_000;

/// Entries of histories that may wait. What comes then is forgotten.
pub(super) const MAX_HISTORY: usize = 100_000;

/// Everything that waits.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Channels that go before all else, with the rows that end with them.
    dropped: BTreeSet<ChannelKey>,
    /// What each row becomes; `None` removes it.
    rows: BTreeMap<RowKey, Option<Record>>,
    /// Of both, what is to be removed.
    removals: usize,
    /// Removals that were given up: the file holds rows that should be gone.
    forgotten: u64,
    /// What happened, in order.
    events: Vec<(ChannelKey, EventRecord)>,
    /// And what had no room any more: of a channel always the end.
    lost: BTreeMap<ChannelKey, EventRecord>,
    /// How much that was in all.
    lost_events: u64,
    /// What is remembered of calls, in order.
    history: Vec<(ChannelKey, HistoryRecord)>,
    /// How much of that had no room.
    lost_history: u64,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows that wait.
    pub(super) fn len(&self) -> usize {
        let appended = self.events.len() + self.lost.len() + self.history.len();
        self.dropped.len() + self.rows.len() + appended
    }

    /// Removals that were given up.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// All of it. What was given up stays known.
    pub(super) fn take(&mut self) -> Pending {
        let Pending { forgotten, lost_events, lost_history, .. } = *self;
        let rest = Pending { forgotten, lost_events, lost_history, ..Pending::default() };
        let taken = std::mem::replace(self, rest);
        Pending { forgotten: 0, lost_events: 0, lost_history: 0, ..taken }
    }

    /// Channels that go first.
    pub(super) fn dropped(&self) -> impl Iterator<Item = &ChannelKey> {
        self.dropped.iter()
    }

    /// Rows behind that.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&RowKey, Option<&Record>)> {
        self.rows.iter().map(|(key, record)| (key, record.as_ref()))
    }

    /// What happened, in order, and behind that what of it was left out.
    pub(super) fn events(&self) -> impl Iterator<Item = (&ChannelKey, &EventRecord)> {
        self.events.iter().map(|(channel, record)| (channel, record)).chain(self.lost())
    }

    fn lost(&self) -> impl Iterator<Item = (&ChannelKey, &EventRecord)> {
        self.lost.iter()
    }

    /// How many events were left out.
    pub(super) fn lost_events(&self) -> u64 {
        self.lost_events
    }

    /// What is remembered of calls, in order.
    pub(super) fn history(&self) -> impl Iterator<Item = (&ChannelKey, &HistoryRecord)> {
        self.history.iter().map(|(channel, record)| (channel, record))
    }

    /// How many entries of histories were forgotten.
    pub(super) fn lost_history(&self) -> u64 {
        self.lost_history
    }

    /// Whether those who follow channels have something to hear.
    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty() || !self.lost.is_empty()
    }

    /// Takes an operation in, behind those before.
    pub(super) fn apply(&mut self, op: RowOp) {
        let full = self.removals >= MAX_ROWS;
        match op {
            RowOp::Put(key, record) => self.set(key, Some(record)),
            RowOp::Append(channel, record) => self.append(channel, *record),
            RowOp::Remember(channel, record) => self.remember(channel, *record),
            // Where the channel goes first, no row of it is left that could be removed.
            RowOp::Drop(key)
                if key.row.is_of_a_channel() && self.dropped.contains(&key.channel) =>
            {
                self.unset(&key);
            }
            RowOp::Drop(key) if full => {
                self.unset(&key);
                self.forgotten += 1;
            }
            RowOp::Drop(key) => self.set(key, None),
            RowOp::DropChannel(channel) => {
                self.unset_channel(&channel);
                if !full {
                    self.removals += usize::from(self.dropped.insert(channel));
                } else if !self.dropped.contains(&channel) {
                    self.forgotten += 1;
                }
            }
        }
    }

    /// Puts what could not be written under what came since.
    pub(super) fn put_back(&mut self, older: Pending) {
        let newer = std::mem::replace(self, older);
        self.forgotten += newer.forgotten;
        self.lost_events += newer.lost_events;
        self.lost_history += newer.lost_history;
        for (channel, record) in newer.history {
            self.remember(channel, record);
        }
        for (channel, record) in newer.events {
            self.append(channel, record);
        }
        for (channel, gone) in newer.lost {
            self.lose(channel, gone);
        }
        for channel in newer.dropped {
            self.unset_channel(&channel);
            self.removals += usize::from(self.dropped.insert(channel));
        }
        for (key, record) in newer.rows {
            self.set(key, record);
        }
    }

    fn remember(&mut self, channel: ChannelKey, record: HistoryRecord) {
        if self.history.len() < MAX_HISTORY {
            self.history.push((channel, record));
        } else {
            self.lost_history += 1;
        }
    }

    fn append(&mut self, channel: ChannelKey, record: EventRecord) {
        if self.events.len() < MAX_EVENTS && !self.lost.contains_key(&channel) {
            return self.events.push((channel, record));
        }
        self.lost_events += 1;
        let event = Event::Lost { from: record.seq, to: record.seq };
        self.lose(channel, EventRecord { event, ..record });
    }

    fn lose(&mut self, channel: ChannelKey, gone: EventRecord) {
        let known = self.lost.entry(channel).or_insert_with(|| gone.clone());
        if let Event::Lost { to, .. } = &mut known.event {
            *to = gone.seq;
        }
        (known.seq, known.at, known.cid) = (gone.seq, gone.at, gone.cid);
    }

    fn set(&mut self, key: RowKey, record: Option<Record>) {
        self.removals += usize::from(record.is_none());
        let old = self.rows.insert(key, record);
        self.removals -= usize::from(matches!(old, Some(None)));
    }

    fn unset(&mut self, key: &RowKey) {
        self.removals -= usize::from(matches!(self.rows.remove(key), Some(None)));
    }

    /// Forgets the rows of a channel that end with it.
    fn unset_channel(&mut self, channel: &ChannelKey) {
        let first = RowKey { channel: channel.clone(), row: Row::Channel };
        let own = self.rows.range(first..).map(|(key, _)| key);
        let own = own.take_while(|key| key.channel == *channel);
        for key in own.filter(|key| key.row.is_of_a_channel()).cloned().collect::<Vec<_>>() {
            self.unset(&key);
        }
    }
}

#[cfg(test)]
#[path = "pending_tests.rs"]
mod tests;

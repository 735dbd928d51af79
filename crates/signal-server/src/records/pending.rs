//! Operations that wait for the disk: the newest of each row. Comes in: operations in order. Goes out: the same effect
//! in as few statements as possible. Deliberately absent: the disk, and the content of records.

use std::collections::{BTreeMap, BTreeSet};

use lianmai_signal_engine::{
    ChannelKey, Event, EventRecord, HistoryRecord, Record, Row, RowKey, RowOp,
};

/// Maximum number of waiting removals. The number of other waiting rows is bounded by the state of the engines.
pub(super) const MAX_ROWS: usize = 250_000;

/// Maximum number of waiting events. Of later ones only the numbers are kept, for readers of the channel, and those of at
/// most so many channels. In other channels the next number shows the gap.
pub(super) const MAX_EVENTS: usize = 100_000;

/// Maximum number of waiting history entries. Later ones are dropped.
pub(super) const MAX_HISTORY: usize = 100_000;

/// All waiting operations.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Channels to remove first, with the rows that end with them.
    dropped: BTreeSet<ChannelKey>,
    /// The new value of each row; `None` removes it.
    rows: BTreeMap<RowKey, Option<Record>>,
    /// Number of removals in `dropped` and `rows`.
    removals: usize,
    /// Number of removals that were given up: the file holds rows that should be removed.
    forgotten: u64,
    /// Events, in order.
    events: Vec<(ChannelKey, EventRecord)>,
    /// Gaps: the events that found no room, in each channel always the last ones.
    lost: BTreeMap<ChannelKey, EventRecord>,
    /// Total number of events in gaps.
    lost_events: u64,
    /// History entries, in order.
    history: Vec<(ChannelKey, HistoryRecord)>,
    /// Number of dropped history entries.
    lost_history: u64,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of waiting operations.
    pub(super) fn len(&self) -> usize {
        let appended = self.events.len() + self.lost.len() + self.history.len();
        self.dropped.len() + self.rows.len() + appended
    }

    /// Number of removals that were given up.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Takes all operations. The counters of dropped ones stay.
    pub(super) fn take(&mut self) -> Pending {
        let Pending { forgotten, lost_events, lost_history, .. } = *self;
        let rest = Pending { forgotten, lost_events, lost_history, ..Pending::default() };
        let taken = std::mem::replace(self, rest);
        Pending { forgotten: 0, lost_events: 0, lost_history: 0, ..taken }
    }

    /// Channels to remove first.
    pub(super) fn dropped(&self) -> impl Iterator<Item = &ChannelKey> {
        self.dropped.iter()
    }

    /// Rows to write or remove after that.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&RowKey, Option<&Record>)> {
        self.rows.iter().map(|(key, record)| (key, record.as_ref()))
    }

    /// Events in order, then the gaps.
    pub(super) fn events(&self) -> impl Iterator<Item = (&ChannelKey, &EventRecord)> {
        self.events.iter().map(|(channel, record)| (channel, record)).chain(self.lost())
    }

    fn lost(&self) -> impl Iterator<Item = (&ChannelKey, &EventRecord)> {
        self.lost.iter()
    }

    /// Number of dropped events.
    pub(super) fn lost_events(&self) -> u64 {
        self.lost_events
    }

    /// History entries, in order.
    pub(super) fn history(&self) -> impl Iterator<Item = (&ChannelKey, &HistoryRecord)> {
        self.history.iter().map(|(channel, record)| (channel, record))
    }

    /// Number of dropped history entries.
    pub(super) fn lost_history(&self) -> u64 {
        self.lost_history
    }

    /// Whether there are events or gaps.
    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty() || !self.lost.is_empty()
    }

    /// Adds an operation after the earlier ones.
    pub(super) fn apply(&mut self, op: RowOp) {
        let full = self.removals >= MAX_ROWS;
        match op {
            RowOp::Put(key, record) => self.set(key, Some(record)),
            RowOp::AppendEvent(channel, record) => self.append(channel, *record),
            RowOp::AppendHistory(channel, record) => self.remember(channel, *record),
            // The removal of the channel removes this row, too.
            RowOp::Drop(key)
                if key.row.ends_with_channel() && self.dropped.contains(&key.channel) =>
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

    /// Puts operations that could not be written below the newer ones.
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
        if self.lost.len() >= MAX_EVENTS && !self.lost.contains_key(&channel) {
            return;
        }
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

    /// Forgets the operations for rows that end with a channel.
    fn unset_channel(&mut self, channel: &ChannelKey) {
        let first = RowKey { channel: channel.clone(), row: Row::Channel };
        let own = self.rows.range(first..).map(|(key, _)| key);
        let own = own.take_while(|key| key.channel == *channel);
        for key in own.filter(|key| key.row.ends_with_channel()).cloned().collect::<Vec<_>>() {
            self.unset(&key);
        }
    }
}

#[cfg(test)]
#[path = "pending_tests.rs"]
mod tests;

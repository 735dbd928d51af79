//! Rows that an engine stores: a key and a record each. Comes in: records to write. Goes out: rows of text for a store
//! that does not interpret them; and from such rows, the state that an engine is restored from.
//!
//! A further kind of row is one more variant of [`Row`] and of [`Record`]; a store needs no change for it.

use std::collections::BTreeMap;

use lianmai_protocol::{TaskId, UserId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::event::{EventRecord, JournalRecord};
use crate::history::HistoryRecord;
use crate::key::ChannelKey;
use crate::record::{BanRecord, ChannelRecord, ClaimRecord, MemberRecord, TaskRecord};
use crate::task::ClaimKey;

/// The key of a row. In order, the rows of one channel's name are adjacent, and the channel is the first of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    /// The channel's name that it belongs to.
    pub channel: ChannelKey,
    /// The row.
    pub row: Row,
}

/// A row of a channel's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// The channel itself.
    Channel,
    /// A membership.
    Member(UserId),
    /// A ban of a uid, by a moderator or (`None`) an operator.
    Ban(UserId, Option<UserId>),
    /// A ban of a uid, by a moderator whose token names no uid, and the uid that this moderator had.
    UnnamedBan(UserId, UserId),
    /// The hold of the name.
    Hold,
    /// A push task.
    Task(TaskId),
    /// The claim of a push address, under the name that [`ClaimKey::name`] gives it.
    Claim,
    /// The journal counter of the name.
    Journal,
}

/// Last part of the id of a [`Row::UnnamedBan`].
const UNNAMED: &str = "unnamed";

impl Row {
    /// Kinds of rows that end with their channel, as [`Row::kind`] names them.
    pub const KINDS_OF_CHANNEL: [&'static str; 3] = ["channel", "member", "task"];

    /// Its kind, as it is written.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Row::Channel => "channel",
            Row::Member(_) => "member",
            Row::Ban(..) | Row::UnnamedBan(..) => "ban",
            Row::Hold => "hold",
            Row::Task(_) => "task",
            Row::Claim => "claim",
            Row::Journal => "journal",
        }
    }

    /// Its id within its kind, as it is written; empty if the kind has one row.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Row::Member(uid) | Row::Ban(uid, None) => uid.to_string(),
            Row::Ban(uid, Some(by)) => format!("{uid}/{by}"),
            Row::UnnamedBan(uid, by) => format!("{uid}/{by}/{UNNAMED}"),
            Row::Task(task) => task.to_string(),
            Row::Channel | Row::Hold | Row::Claim | Row::Journal => String::new(),
        }
    }

    /// Reads what [`Row::kind`] and [`Row::id`] wrote.
    ///
    /// # Errors
    /// [`UnknownRow`] if the texts name no row.
    pub fn read(kind: &str, id: &str) -> Result<Row, UnknownRow> {
        let row = match kind {
            "channel" => Some(Row::Channel),
            "member" => id.parse().ok().map(Row::Member),
            "ban" => Row::read_ban(id),
            "hold" => Some(Row::Hold),
            "task" => id.parse().ok().map(Row::Task),
            "claim" => Some(Row::Claim),
            "journal" => Some(Row::Journal),
            _ => return Err(UnknownRow::Kind),
        };
        row.filter(|row| row.id() == id).ok_or(UnknownRow::Id)
    }

    fn read_ban(id: &str) -> Option<Row> {
        Some(match id.split('/').collect::<Vec<_>>()[..] {
            [uid] => Row::Ban(uid.parse().ok()?, None),
            [uid, by] => Row::Ban(uid.parse().ok()?, Some(by.parse().ok()?)),
            [uid, by, UNNAMED] => Row::UnnamedBan(uid.parse().ok()?, by.parse().ok()?),
            _ => return None,
        })
    }

    /// The row of a ban of a uid.
    pub(crate) fn ban(uid: UserId, record: &BanRecord) -> Row {
        match record.by.filter(|_| record.unnamed) {
            Some(by) => Row::UnnamedBan(uid, by),
            None => Row::Ban(uid, record.by),
        }
    }

    /// Whether it ends with its channel.
    #[must_use]
    pub fn ends_with_channel(&self) -> bool {
        Row::KINDS_OF_CHANNEL.contains(&self.kind())
    }
}

/// Why texts name no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownRow {
    /// There is no such kind. A later version may have it.
    Kind,
    /// The kind has no such id.
    Id,
}

/// The content of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// Of [`Row::Channel`].
    Channel(Box<ChannelRecord>),
    /// Of [`Row::Member`].
    Member(Box<MemberRecord>),
    /// Of [`Row::Ban`], [`Row::UnnamedBan`] and [`Row::Hold`].
    Ban(BanRecord),
    /// Of [`Row::Task`].
    Task(Box<TaskRecord>),
    /// Of [`Row::Claim`].
    Claim(ClaimRecord),
    /// Of [`Row::Journal`].
    Journal(JournalRecord),
}

impl Record {
    /// Its text: JSON, so that a new field needs no new format.
    #[must_use]
    pub fn text(&self) -> String {
        fn json(record: &impl Serialize) -> String {
            serde_json::to_string(record).expect("a record has string keys only")
        }
        match self {
            Record::Channel(record) => json(record),
            Record::Member(record) => json(record),
            Record::Ban(record) => json(record),
            Record::Task(record) => json(record),
            Record::Claim(record) => json(record),
            Record::Journal(record) => json(record),
        }
    }

    /// Reads the text of a row; `None` if it is not valid for the row.
    #[must_use]
    pub fn read(row: &Row, text: &str) -> Option<Record> {
        fn json<T: DeserializeOwned>(text: &str) -> Option<T> {
            serde_json::from_str(text).ok()
        }
        Some(match row {
            Row::Channel => Record::Channel(json(text)?),
            Row::Member(_) => Record::Member(json(text)?),
            Row::Ban(..) | Row::UnnamedBan(..) | Row::Hold => Record::Ban(json(text)?),
            Row::Task(_) => Record::Task(json(text)?),
            Row::Claim => Record::Claim(json(text)?),
            Row::Journal => Record::Journal(json(text)?),
        })
    }
}

/// One operation on rows. Those of one output take effect together, and in order.
#[derive(Clone, Debug, PartialEq)]
pub enum RowOp {
    /// Write this row.
    Put(RowKey, Record),
    /// Delete this row.
    Drop(RowKey),
    /// The channel ended: delete every row that ends with it.
    DropChannel(ChannelKey),
    /// Append an event to the journal of the channel. No process is restored from it.
    AppendEvent(ChannelKey, Box<EventRecord>),
    /// Append an entry to the history of the channel. No process is restored from it.
    AppendHistory(ChannelKey, Box<HistoryRecord>),
}

impl RowOp {
    pub(crate) fn put_channel(channel: &ChannelKey, record: ChannelRecord) -> Self {
        let key = RowKey { channel: channel.clone(), row: Row::Channel };
        RowOp::Put(key, Record::Channel(Box::new(record)))
    }

    pub(crate) fn put_member(channel: &ChannelKey, record: MemberRecord) -> Self {
        let key = RowKey { channel: channel.clone(), row: Row::Member(record.uid) };
        RowOp::Put(key, Record::Member(Box::new(record)))
    }

    pub(crate) fn put_ban(channel: &ChannelKey, uid: UserId, record: BanRecord) -> Self {
        let key = RowKey { channel: channel.clone(), row: Row::ban(uid, &record) };
        RowOp::Put(key, Record::Ban(record))
    }

    pub(crate) fn put_hold(channel: &ChannelKey, record: BanRecord) -> Self {
        let key = RowKey { channel: channel.clone(), row: Row::Hold };
        RowOp::Put(key, Record::Ban(record))
    }

    pub(crate) fn put_task(channel: &ChannelKey, record: TaskRecord) -> Self {
        let key = RowKey { channel: channel.clone(), row: Row::Task(record.task.clone()) };
        RowOp::Put(key, Record::Task(Box::new(record)))
    }

    pub(crate) fn put_claim(key: ClaimKey, record: ClaimRecord) -> Self {
        RowOp::Put(RowKey { channel: key.name(), row: Row::Claim }, Record::Claim(record))
    }

    pub(crate) fn put_journal(channel: &ChannelKey, record: JournalRecord) -> Self {
        let key = RowKey { channel: channel.clone(), row: Row::Journal };
        RowOp::Put(key, Record::Journal(record))
    }

    pub(crate) fn drop_journal(channel: &ChannelKey) -> Self {
        RowOp::drop(channel, Row::Journal)
    }

    pub(crate) fn drop(channel: &ChannelKey, row: Row) -> Self {
        RowOp::Drop(RowKey { channel: channel.clone(), row })
    }
}

/// The state that a shard is restored from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Restored {
    /// Channels with their members.
    pub channels: Vec<(ChannelKey, ChannelRecord, Vec<MemberRecord>)>,
    /// Bans.
    pub bans: Vec<(ChannelKey, UserId, BanRecord)>,
    /// Holds.
    pub holds: Vec<(ChannelKey, BanRecord)>,
    /// Push tasks of the channels.
    pub tasks: BTreeMap<ChannelKey, Vec<TaskRecord>>,
    /// Claims that this engine keeps.
    pub claims: Vec<(ClaimKey, ClaimRecord)>,
    /// Journal counters.
    pub journals: Vec<(ChannelKey, JournalRecord)>,
    /// Rows that are invalid or belong to no channel: to be deleted.
    pub invalid_rows: Vec<RowKey>,
    /// No member was lost: the last process handed over and its grace is not over (then the parts `live` are valid), or
    /// there are no channels, in any shard.
    pub clean: bool,
}

impl Restored {
    /// Assembles the rows of a shard. The parts `live` are used after a clean stop only.
    #[must_use]
    pub fn of(rows: impl IntoIterator<Item = (RowKey, Record)>, clean: bool) -> Self {
        let mut restored = Restored { clean, ..Restored::default() };
        let mut channels: BTreeMap<ChannelKey, (ChannelRecord, Vec<MemberRecord>)> =
            BTreeMap::new();
        let (mut members, mut tasks) = (Vec::new(), Vec::new());
        for (key, record) in rows {
            match (&key.row, record) {
                (Row::Channel, Record::Channel(mut record)) => {
                    record.live = record.live.filter(|_| clean);
                    channels.insert(key.channel, (*record, Vec::new()));
                }
                (Row::Member(uid), Record::Member(mut record)) if record.uid == *uid => {
                    record.live = record.live.filter(|_| clean);
                    members.push((key, *record));
                }
                // In older files the bans of moderators without a uid in their token have this row, too. Then they
                // count for the uid.
                (Row::Ban(uid, by), Record::Ban(ban)) if *by == ban.by => {
                    restored.bans.push((key.channel, *uid, BanRecord { unnamed: false, ..ban }));
                }
                (Row::UnnamedBan(uid, _), Record::Ban(ban)) if key.row == Row::ban(*uid, &ban) => {
                    restored.bans.push((key.channel, *uid, ban));
                }
                (Row::Hold, Record::Ban(hold)) => restored.holds.push((key.channel, hold)),
                (Row::Task(id), Record::Task(record)) if record.task == *id => {
                    tasks.push((key, *record));
                }
                (Row::Claim, Record::Claim(record)) => match ClaimKey::of_name(&key.channel) {
                    Some(claim) => restored.claims.push((claim, record)),
                    None => restored.invalid_rows.push(key),
                },
                (Row::Journal, Record::Journal(name)) => {
                    restored.journals.push((key.channel, name));
                }
                _ => restored.invalid_rows.push(key),
            }
        }
        for (key, record) in members {
            match channels.get_mut(&key.channel) {
                Some((_, members)) => members.push(record),
                None => restored.invalid_rows.push(key),
            }
        }
        for (key, record) in tasks {
            if channels.contains_key(&key.channel) {
                restored.tasks.entry(key.channel).or_default().push(record);
            } else {
                restored.invalid_rows.push(key);
            }
        }
        restored.channels = channels.into_iter().map(|(key, (c, m))| (key, c, m)).collect();
        restored
    }
}

#[cfg(test)]
mod tests {
    use lianmai_protocol::{Cid, WallTime};

    use super::*;

    /// Proves no rule of the protocol: keys of rows as texts.
    #[test]
    fn a_key_is_read_as_it_was_written_and_in_no_other_spelling() {
        let task = Row::Task("a_1".parse().unwrap());
        let others = [
            Row::Ban(UserId(u64::MAX), None),
            Row::Ban(UserId(7), Some(UserId(u64::MAX))),
            Row::UnnamedBan(UserId(7), UserId(u64::MAX)),
            Row::Hold,
            Row::Claim,
            Row::Journal,
        ];
        for row in [Row::Channel, Row::Member(UserId(7)), task].iter().chain(&others) {
            assert_eq!(Row::read(row.kind(), &row.id()).as_ref(), Ok(row));
            assert_eq!(row.ends_with_channel(), !others.contains(row));
        }
        for (kind, id) in [
            ("member", "07"),
            ("member", ""),
            ("ban", "7/"),
            ("ban", "/7"),
            ("ban", "7/8/"),
            ("ban", "7/unnamed"),
            ("hold", "7"),
            ("task", "a-b"),
        ] {
            assert_eq!(Row::read(kind, id), Err(UnknownRow::Id), "{kind} {id}");
        }
        for kind in ["", "Member", "later"] {
            assert_eq!(Row::read(kind, "7"), Err(UnknownRow::Kind), "{kind}");
        }
    }

    /// Proves no rule of the protocol: rows that a file should not hold.
    #[test]
    fn invalid_rows_are_reported() {
        let name =
            |name: &str| ChannelKey { appkey: "a".parse().unwrap(), name: name.parse().unwrap() };
        let ban =
            BanRecord { until: WallTime(1), watermark: WallTime(1), by: None, unnamed: false };
        let channel = ChannelRecord {
            cid: Cid(1),
            creator: Some(UserId(1)),
            attributes: Default::default(),
            demoted: Vec::new(),
            kept_down: Vec::new(),
            barred: Vec::new(),
            rules: Default::default(),
            prepared_until: None,
            live: None,
        };
        let row = |channel: &str, row| RowKey { channel: name(channel), row };
        let rows = [
            (row("b", Row::Member(UserId(1))), Record::Ban(ban)),
            (row("b", Row::Hold), Record::Ban(ban)),
            (row("b", Row::Ban(UserId(1), None)), Record::Channel(Box::new(channel.clone()))),
            (row("b", Row::Channel), Record::Channel(Box::new(channel))),
        ];
        let restored = Restored::of(rows.clone(), false);
        assert_eq!(restored.invalid_rows, [rows[0].0.clone(), rows[2].0.clone()]);
        assert_eq!((restored.channels.len(), restored.holds.len()), (1, 1));
    }
}

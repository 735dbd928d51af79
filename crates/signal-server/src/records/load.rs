//! Reads the state that the last process left. Comes in: the file. Goes out: the initial state of each shard.
//! Deliberately absent: whether a ban or a membership is still valid; the engine decides that, and removes those that
//! are not.
//!
//! A row that cannot be read is removed: the next process could not read it either. A row of an unknown kind stays: a
//! later version wrote it and may run again. The parts `live` are valid once, directly after a process that handed
//! over; the mark that says so is removed before the server accepts connections.

use std::collections::BTreeMap;

use lianmai_protocol::WallTime;
use lianmai_signal_engine::{ChannelKey, Record, Restored, Row, RowKey, UnknownRow};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use tracing::{info, warn};

use super::{FORMAT, OpenParams, schema};
use crate::route::shard_of;

/// Reads all rows, by shard, and removes the mark of the hand-over.
pub(super) fn load(
    connection: &mut Connection,
    params: OpenParams,
) -> rusqlite::Result<Vec<Restored>> {
    // A power cut must not restore the mark: the rows behind it would be stale.
    schema::synchronous(connection, "full")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let clean = take_mark(&transaction)?.is_some_and(|mark| mark.is_good(params));
    let count = params.shards.max(1);
    let mut shards = vec![Vec::new(); count];
    let (mut channels, mut members) = (0_usize, 0_usize);
    read_rows(&transaction, |key, record| {
        channels += usize::from(key.row == Row::Channel);
        members += usize::from(matches!(key.row, Row::Member(_)));
        shards[shard_of(key.channel.route(), count)].push((key, record));
    })?;
    transaction.commit()?;
    schema::synchronous(connection, "normal")?;
    if channels > 0 {
        info!(channels, members, handed_over = clean, "restored");
    }
    // Without channels there was nothing to lose, so a first start is clean.
    let unharmed = clean || channels == 0;
    let restored = |rows| Restored { clean: unharmed, ..Restored::of(rows, clean) };
    Ok(shards.into_iter().map(restored).collect())
}

/// The last row that a process writes when it hands over.
#[derive(Clone, Copy)]
struct Mark {
    format: u32,
    at: WallTime,
}

impl Mark {
    fn is_good(self, params: OpenParams) -> bool {
        self.format == FORMAT && params.now.0.abs_diff(self.at.0) <= params.grace_ms
    }
}

fn take_mark(transaction: &Transaction<'_>) -> rusqlite::Result<Option<Mark>> {
    let sql = "DELETE FROM meta WHERE key = 'handed_over' RETURNING value";
    let text: Option<String> = transaction.query_row(sql, [], |row| row.get(0)).optional()?;
    Ok(text.as_deref().and_then(|text| {
        let (format, at) = text.split_once(' ')?;
        Some(Mark { format: format.parse().ok()?, at: WallTime(at.parse().ok()?) })
    }))
}

/// Why a row cannot be used.
enum RowError {
    /// No version can read it. The texts are fixed, because a record may hold secrets.
    Unreadable(&'static str),
    /// This version does not know its kind.
    Unknown(String),
}

impl From<&'static str> for RowError {
    fn from(why: &'static str) -> Self {
        RowError::Unreadable(why)
    }
}

/// Reads all rows, and removes those that no version can read.
fn read_rows(
    transaction: &Transaction<'_>,
    mut take: impl FnMut(RowKey, Record),
) -> rusqlite::Result<()> {
    let mut unreadable = Vec::new();
    let mut unknown = BTreeMap::<String, usize>::new();
    let mut statement =
        transaction.prepare("SELECT appkey, channel, kind, id, record, rowid FROM record")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        match read(row) {
            Ok((key, record)) => take(key, record),
            Err(RowError::Unknown(kind)) => *unknown.entry(kind).or_default() += 1,
            Err(RowError::Unreadable(why)) => {
                let [app, name, kind] = [0, 1, 2].map(|column| text(row, column).unwrap_or("?"));
                warn!(kind = ?kind, appkey = ?app, channel = ?name, why, "a stored row is removed");
                unreadable.push(row.get::<_, i64>(5)?);
            }
        }
    }
    for (kind, rows) in unknown {
        warn!(?kind, rows, "stored rows are kept: they are of a later version");
    }
    for rowid in unreadable {
        transaction.execute("DELETE FROM record WHERE rowid = ?", [rowid])?;
    }
    Ok(())
}

fn read(columns: &rusqlite::Row<'_>) -> Result<(RowKey, Record), RowError> {
    let kind = text(columns, 2)?;
    // First, because rows of a later version may have names that are invalid here.
    let row = Row::read(kind, text(columns, 3)?).map_err(|no| match no {
        UnknownRow::Kind => RowError::Unknown(kind.to_owned()),
        UnknownRow::Id => RowError::Unreadable("its id is none"),
    })?;
    let appkey = text(columns, 0)?.parse().map_err(|_| "its appkey is none")?;
    let name = text(columns, 1)?.parse().map_err(|_| "its channel name is none")?;
    let record = Record::read(&row, text(columns, 4)?).ok_or("its record does not fit")?;
    Ok((RowKey { channel: ChannelKey { appkey, name }, row }, record))
}

fn text<'a>(columns: &'a rusqlite::Row<'_>, column: usize) -> Result<&'a str, &'static str> {
    let value = columns.get_ref(column).map_err(|_| "a column is missing")?;
    value.as_str().map_err(|_| "it is no text")
}

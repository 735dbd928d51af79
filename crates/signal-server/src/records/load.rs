//! What the last process left behind. Comes in: the file. Goes out: what each shard starts with. Deliberately
//! absent: whether a ban or a membership still counts; the engine says so, and removes what does not.
//!
//! A row that cannot be read is removed: it would not be readable next time either. The parts `live` are good
//! once, right after a process that handed over; the mark which says so is gone before anybody is served.

use std::collections::BTreeMap;

use lianmai_protocol::{UserId, WallTime};
use lianmai_signal_engine::record::{BanRecord, ChannelRecord, MemberRecord};
use lianmai_signal_engine::{ChannelKey, Restored};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior};
use serde::de::DeserializeOwned;
use tracing::{info, warn};

use super::{FORMAT, Opening, schema};
use crate::route::shard_of;

/// Reads everything, by shard, and takes the mark of the hand-over away.
pub(super) fn load(
    connection: &mut Connection,
    opening: Opening,
) -> rusqlite::Result<Vec<Restored>> {
    // A power cut must not bring the mark back: what it vouches for would be stale.
    schema::synchronous(connection, "full")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let clean = take_mark(&transaction)?.is_some_and(|mark| mark.is_good(opening));
    let mut channels: BTreeMap<ChannelKey, (ChannelRecord, Vec<MemberRecord>)> = BTreeMap::new();
    each(&transaction, "channel", |row| {
        let mut record: ChannelRecord = record(row, 2)?;
        record.live = record.live.filter(|_| clean);
        channels.insert(key(row)?, (record, Vec::new()));
        Ok(())
    })?;
    each(&transaction, "member", |row| {
        let (_, members) = channels.get_mut(&key(row)?).ok_or("it has no channel")?;
        let mut record: MemberRecord = record(row, 3)?;
        if record.uid != uid(row)? {
            return Err("it is about somebody else");
        }
        record.live = record.live.filter(|_| clean);
        members.push(record);
        Ok(())
    })?;
    let count = opening.shards.max(1);
    // Where there was nobody, nobody can have been lost: a first start is clean.
    let unharmed = clean || channels.is_empty();
    let mut shards = vec![Restored { clean: unharmed, ..Restored::default() }; count];
    each(&transaction, "ban", |row| {
        let (key, record): (_, BanRecord) = (key(row)?, record(row, 3)?);
        shards[shard_of(key.route(), count)].bans.push((key, uid(row)?, record));
        Ok(())
    })?;
    each(&transaction, "hold", |row| {
        let (key, record): (_, BanRecord) = (key(row)?, record(row, 2)?);
        shards[shard_of(key.route(), count)].holds.push((key, record));
        Ok(())
    })?;
    transaction.commit()?;
    schema::synchronous(connection, "normal")?;
    let members: usize = channels.values().map(|(_, members)| members.len()).sum();
    if !channels.is_empty() {
        info!(channels = channels.len(), members, handed_over = clean, "restored");
    }
    for (key, (channel, members)) in channels {
        shards[shard_of(key.route(), count)].channels.push((key, channel, members));
    }
    Ok(shards)
}

/// Written by a process that handed over, as its last word.
#[derive(Clone, Copy)]
struct Mark {
    format: u32,
    at: WallTime,
}

impl Mark {
    fn is_good(self, opening: Opening) -> bool {
        self.format == FORMAT && opening.now.0.abs_diff(self.at.0) <= opening.grace_ms
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

/// Why a row is of no use. Fixed texts, since a record may hold secrets.
type Unreadable = &'static str;

/// Reads a table of this program, and removes what cannot be read.
fn each(
    transaction: &Transaction<'_>,
    table: &'static str,
    mut read: impl FnMut(&Row<'_>) -> Result<(), Unreadable>,
) -> rusqlite::Result<()> {
    let mut unreadable = Vec::new();
    let mut statement = transaction.prepare(&format!("SELECT *, rowid FROM {table}"))?;
    let rowid = statement.column_count() - 1;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let Err(why) = read(row) {
            let (app, name) = (text(row, 0).unwrap_or("?"), text(row, 1).unwrap_or("?"));
            warn!(table, appkey = ?app, channel = ?name, why, "a stored row is removed");
            unreadable.push(row.get::<_, i64>(rowid)?);
        }
    }
    for rowid in unreadable {
        transaction.execute(&format!("DELETE FROM {table} WHERE rowid = ?"), [rowid])?;
    }
    Ok(())
}

fn text<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a str, Unreadable> {
    let value = row.get_ref(column).map_err(|_| "a column is missing")?;
    value.as_str().map_err(|_| "it is no text")
}

fn key(row: &Row<'_>) -> Result<ChannelKey, Unreadable> {
    let appkey = text(row, 0)?.parse().map_err(|_| "its appkey is none")?;
    let name = text(row, 1)?.parse().map_err(|_| "its channel name is none")?;
    Ok(ChannelKey { appkey, name })
}

fn uid(row: &Row<'_>) -> Result<UserId, Unreadable> {
    text(row, 2)?.parse().map_err(|_| "its uid is none")
}

fn record<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T, Unreadable> {
    serde_json::from_str(text(row, column)?).map_err(|_| "its record does not fit")
}

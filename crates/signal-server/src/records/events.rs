//! Reads and prunes the journal: events, their deliveries to endpoints, and gaps. Comes in: queries of the API and of
//! the deliveries. Goes out: events in the order of their commits, and those of a channel in the order of their
//! numbers. Deliberately absent: how events are written (`writer`), and their content.

use std::fmt;
use std::str::FromStr;

use lianmai_protocol::Appkey;
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::database::{Database, DatabaseError};

/// A stored event, or a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredEvent {
    /// Its position among all events of the file.
    pub(crate) pos: u64,
    /// Its channel.
    pub(crate) channel: String,
    /// Its number in the channel.
    pub(crate) seq: u64,
    /// Its record, or the gap.
    pub(crate) content: EventContent,
}

/// The content of a position in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EventContent {
    /// A record, as the engine wrote it.
    Record(String),
    /// All events from the number `from` up to the entry's own number are gone. They were removed at the time `at`, in
    /// Unix milliseconds.
    Lost { from: u64, at: u64 },
}

/// An event that an endpoint did not accept in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeadLetter {
    pub(crate) event: StoredEvent,
    pub(crate) attempts: u32,
    pub(crate) error: String,
    /// Time when it was given up, in Unix milliseconds.
    pub(crate) at: u64,
}

/// An event that is done for an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) endpoint: String,
    pub(crate) channel: String,
    pub(crate) seq: u64,
    /// If it was given up: its position, the number of attempts, the error, and the time in Unix milliseconds.
    pub(crate) dead: Option<(u64, u32, String, u64)>,
}

/// A place among the events of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventCursor {
    /// The id of the file. Another file has other events at the same positions.
    pub(crate) file: String,
    /// The position of an event, or 0.
    pub(crate) pos: u64,
}

impl EventCursor {
    /// Whether it is a place of the file that ends there. A file that was restored from a copy may end before.
    pub(crate) fn is_in(&self, end: &EventCursor) -> bool {
        self.file == end.file && self.pos <= end.pos
    }
}

impl fmt::Display for EventCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.file, self.pos)
    }
}

impl FromStr for EventCursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (file, pos) = text.split_once('.').ok_or(())?;
        Ok(EventCursor { file: file.to_owned(), pos: pos.parse().map_err(drop)? })
    }
}

/// How many events are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventRetention {
    /// The current time in Unix milliseconds.
    pub(crate) now: u64,
    /// Earlier events are removed; in Unix milliseconds.
    pub(crate) since: u64,
    /// Maximum number of events.
    pub(crate) events: u64,
}

/// The endpoint and the channel of a progress; the empty texts come before all.
pub(crate) type DeliveryKey = (String, String);

/// Maximum number of rows that one step of pruning removes or looks at.
const STEP: u64 = 2_000;

/// At least the number of events; reads none of them.
pub(super) const EVENT_SPAN: &str =
    "SELECT COALESCE((SELECT MAX(pos) FROM event) - (SELECT MIN(pos) FROM event) + 1, 0)";

/// Stores the gaps that the removal of the events up to a position makes. It reads these by position; an index by
/// channel would be read whole.
pub(super) const STORE_GAPS: &str = "
    INSERT INTO lost (appkey, channel, first, last, pos, at)
    SELECT appkey, channel, MIN(seq), MAX(seq), MAX(pos), ?2 FROM event NOT INDEXED WHERE pos <= ?1
    GROUP BY appkey, channel
    ON CONFLICT (appkey, channel) DO UPDATE SET last = MAX(last, excluded.last),
    first = MIN(first, excluded.first), pos = MAX(pos, excluded.pos), at = excluded.at";

impl Database {
    /// At most `limit` events of an app after a position, by position. Gaps take precedence within the limit.
    pub(crate) async fn events_after(
        &self,
        appkey: &Appkey,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, DatabaseError> {
        let appkey = appkey.to_string();
        self.read(move |transaction| {
            let mut lost = transaction.prepare(
                "SELECT pos, channel, last, first, at FROM lost WHERE appkey = ? AND pos > ? ORDER BY pos LIMIT ?",
            )?;
            let gone = lost.query_map(params![appkey, after, limit], gap)?;
            let mut events = gone.collect::<rusqlite::Result<Vec<_>>>()?;
            let mut statement = transaction.prepare(
                "SELECT pos, channel, seq, record FROM event WHERE appkey = ? AND pos > ? ORDER BY pos LIMIT ?",
            )?;
            let rest = limit.saturating_sub(events.len());
            let found = statement.query_map(params![appkey, after, rest], stored)?;
            events.extend(found.collect::<rusqlite::Result<Vec<_>>>()?);
            events.sort_by_key(|event| event.pos);
            Ok(events)
        })
        .await
    }

    /// The last position in use.
    pub(crate) async fn last_pos(&self) -> Result<u64, DatabaseError> {
        self.read(|transaction| {
            let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'event'";
            Ok(transaction.query_row(sql, [], |row| row.get(0)).optional()?.unwrap_or(0))
        })
        .await
    }

    /// The end of the events in the file.
    pub(crate) async fn end_of_events(&self) -> Result<EventCursor, DatabaseError> {
        let pos = self.last_pos().await?;
        let file = self.read(|transaction| {
            let sql = "SELECT value FROM meta WHERE key = 'file'";
            transaction.query_row(sql, [], |row| row.get(0))
        });
        Ok(EventCursor { file: file.await?, pos })
    }

    /// Channels with events after a position, each once, and the position up to which this is complete.
    pub(crate) async fn channels_after(
        &self,
        after: u64,
    ) -> Result<(Vec<(String, String)>, u64), DatabaseError> {
        self.read(move |transaction| {
            let mut statement = transaction.prepare(
                "SELECT appkey, channel, MAX(pos) FROM (SELECT appkey, channel, pos FROM event
                 WHERE pos > ? ORDER BY pos LIMIT 4096) GROUP BY appkey, channel",
            )?;
            let rows = statement.query_map([after], |row| {
                Ok(((row.get(0)?, row.get(1)?), row.get::<_, u64>(2)?))
            })?;
            let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            let reached = rows.iter().map(|(_, pos)| *pos).max().unwrap_or(after);
            Ok((rows.into_iter().map(|(channel, _)| channel).collect(), reached))
        })
        .await
    }

    /// Channels of an app with events or gaps that an endpoint has not received.
    pub(crate) async fn behind(
        &self,
        endpoint: &str,
        appkey: &Appkey,
        since: u64,
    ) -> Result<Vec<String>, DatabaseError> {
        let (endpoint, appkey) = (endpoint.to_owned(), appkey.to_string());
        self.read(move |transaction| {
            let mut statement = transaction.prepare(
                "SELECT DISTINCT event.channel FROM event LEFT JOIN delivery
                 ON delivery.endpoint = ?1 AND delivery.channel = event.channel
                 WHERE event.appkey = ?2 AND event.pos > ?3
                 AND event.seq > COALESCE(delivery.seq, 0)
                 UNION SELECT lost.channel FROM lost LEFT JOIN delivery
                 ON delivery.endpoint = ?1 AND delivery.channel = lost.channel
                 WHERE lost.appkey = ?2 AND lost.pos > ?3
                 AND lost.last > COALESCE(delivery.seq, 0)",
            )?;
            let rows = statement.query_map(params![endpoint, appkey, since], |row| row.get(0))?;
            rows.collect()
        })
        .await
    }

    /// The next event of a channel for an endpoint, or the gap before it, and the number of the last one that is done for
    /// the endpoint there. Those up to `skipped` are done, too.
    pub(crate) async fn next_event(
        &self,
        endpoint: &str,
        appkey: &Appkey,
        channel: &str,
        since: u64,
        skipped: Option<u64>,
    ) -> Result<Option<(StoredEvent, Option<u64>)>, DatabaseError> {
        let (endpoint, appkey) = (endpoint.to_owned(), appkey.to_string());
        let channel = channel.to_owned();
        self.read(move |transaction| {
            let delivered = transaction
                .prepare("SELECT seq FROM delivery WHERE endpoint = ? AND channel = ?")?
                .query_row(params![endpoint, channel], |row| row.get::<_, u64>(0))
                .optional()?;
            let done = delivered.max(skipped);
            let heard = done.unwrap_or(0);
            let lost = transaction
                .prepare(
                    "SELECT pos, channel, last, MAX(first, ?3 + 1), at FROM lost
                     WHERE appkey = ?1 AND channel = ?2 AND last > ?3 AND pos > ?4",
                )?
                .query_row(params![appkey, channel, heard, since], gap)
                .optional()?;
            if let Some(lost) = lost {
                return Ok(Some((lost, done)));
            }
            let event = transaction
                .prepare(
                    "SELECT pos, channel, seq, record FROM event WHERE appkey = ? AND channel = ?
                     AND seq > ? AND pos > ? ORDER BY seq LIMIT 1",
                )?
                .query_row(params![appkey, channel, heard, since], stored)
                .optional()?;
            Ok(event.map(|event| (event, done)))
        })
        .await
    }

    /// Stores that events are done for endpoints; the progress in a channel never moves back. Endpoints that were removed
    /// are ignored; returns whether there were none.
    pub(crate) async fn settle(&self, settled: Vec<Settled>) -> Result<bool, DatabaseError> {
        self.write(move |transaction| {
            let mut delivery = transaction.prepare(
                "INSERT INTO delivery (endpoint, channel, seq) SELECT ?1, ?2, ?3
                 WHERE EXISTS (SELECT 1 FROM endpoint WHERE id = ?1)
                 ON CONFLICT (endpoint, channel) DO UPDATE SET seq = MAX(seq, excluded.seq)",
            )?;
            let mut dead = transaction.prepare(
                "INSERT OR REPLACE INTO dead (endpoint, pos, attempts, error, at)
                 SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM endpoint WHERE id = ?1)",
            )?;
            let mut all = true;
            for one in &settled {
                all &= delivery.execute(params![one.endpoint, one.channel, one.seq])? > 0;
                if let Some((pos, attempts, error, at)) = &one.dead {
                    dead.execute(params![one.endpoint, pos, attempts, error, at])?;
                }
            }
            Ok(all)
        })
        .await
    }

    /// Dead letters of an endpoint after a position.
    pub(crate) async fn dead_letters(
        &self,
        endpoint: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, DatabaseError> {
        let endpoint = endpoint.to_owned();
        self.read(move |transaction| {
            let mut statement = transaction.prepare(
                "SELECT event.pos, event.channel, event.seq, event.record, dead.attempts, dead.error, dead.at
                 FROM dead JOIN event ON event.pos = dead.pos
                 WHERE dead.endpoint = ? AND dead.pos > ? ORDER BY dead.pos LIMIT ?",
            )?;
            let rows = statement.query_map(params![endpoint, after, limit], |row| {
                let (attempts, error, at) = (row.get(4)?, row.get(5)?, row.get(6)?);
                Ok(DeadLetter { event: stored(row)?, attempts, error, at })
            })?;
            rows.collect()
        })
        .await
    }

    /// Removes some of the events that are too old or too many. Returns how many it removed, and whether that was all.
    pub(crate) async fn prune(&self, keep: EventRetention) -> Result<(u64, bool), DatabaseError> {
        self.write(move |transaction| prune(transaction, keep)).await
    }

    /// Removes the progress of endpoints in channels that have neither events nor numbers any more. Looks at some rows
    /// after this one; returns the last of them, or `None` at the end.
    pub(crate) async fn prune_deliveries(
        &self,
        after: DeliveryKey,
    ) -> Result<Option<DeliveryKey>, DatabaseError> {
        self.write(move |transaction| prune_deliveries(transaction, &after)).await
    }
}

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
    let content = EventContent::Record(row.get(3)?);
    Ok(StoredEvent { pos: row.get(0)?, channel: row.get(1)?, seq: row.get(2)?, content })
}

fn gap(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
    let content = EventContent::Lost { from: row.get(3)?, at: row.get(4)? };
    Ok(StoredEvent { pos: row.get(0)?, channel: row.get(1)?, seq: row.get(2)?, content })
}

fn prune(transaction: &Transaction<'_>, keep: EventRetention) -> rusqlite::Result<(u64, bool)> {
    let count: u64 = transaction.query_row(EVENT_SPAN, [], |row| row.get(0))?;
    let surplus = count.saturating_sub(keep.events).min(STEP);
    // Positions rise with time, so the oldest events have the lowest ones.
    let sql = "SELECT COUNT(*) FROM (SELECT at FROM event ORDER BY pos LIMIT ?) WHERE at < ?";
    let old: u64 = transaction.query_row(sql, params![STEP, keep.since], |row| row.get(0))?;
    let delete = surplus.max(old);
    let removed = if delete > 0 { remove(transaction, delete, keep.now)? } else { 0 };
    let gaps = transaction.execute(
        "DELETE FROM lost WHERE rowid IN (SELECT rowid FROM lost WHERE at < ? LIMIT ?)",
        params![keep.since, STEP],
    )?;
    Ok((removed as u64, delete < STEP && (gaps as u64) < STEP))
}

/// Removes the events with the lowest positions, and stores their gaps.
fn remove(transaction: &Transaction<'_>, delete: u64, now: u64) -> rusqlite::Result<usize> {
    let sql = "SELECT MAX(pos) FROM (SELECT pos FROM event ORDER BY pos LIMIT ?)";
    let last: u64 = transaction.query_row(sql, [delete], |row| row.get(0))?;
    transaction.execute(STORE_GAPS, params![last, now])?;
    let sql = "DELETE FROM dead WHERE endpoint IN (SELECT id FROM endpoint) AND pos <= ?";
    transaction.execute(sql, [last])?;
    transaction.execute("DELETE FROM event WHERE pos <= ?", [last])
}

fn prune_deliveries(
    transaction: &Transaction<'_>,
    (endpoint, channel): &DeliveryKey,
) -> rusqlite::Result<Option<DeliveryKey>> {
    let mut some = transaction.prepare(
        "SELECT endpoint, channel,
         EXISTS (SELECT 1 FROM endpoint, event WHERE endpoint.id = delivery.endpoint
         AND event.appkey = endpoint.appkey AND event.channel = delivery.channel)
         OR EXISTS (SELECT 1 FROM endpoint, lost WHERE endpoint.id = delivery.endpoint
         AND lost.appkey = endpoint.appkey AND lost.channel = delivery.channel)
         OR EXISTS (SELECT 1 FROM endpoint, record WHERE endpoint.id = delivery.endpoint
         AND record.appkey = endpoint.appkey AND record.channel = delivery.channel
         AND record.kind = 'journal')
         FROM delivery WHERE (endpoint, channel) > (?, ?) ORDER BY endpoint, channel LIMIT ?",
    )?;
    let found = some.query_map(params![endpoint, channel, STEP], |row| {
        Ok(((row.get(0)?, row.get(1)?), row.get::<_, bool>(2)?))
    })?;
    let found = found.collect::<rusqlite::Result<Vec<(DeliveryKey, bool)>>>()?;
    let mut delete =
        transaction.prepare("DELETE FROM delivery WHERE endpoint = ? AND channel = ?")?;
    for ((endpoint, channel), _) in found.iter().filter(|(_, needed)| !needed) {
        delete.execute([endpoint, channel])?;
    }
    let all = (found.len() as u64) < STEP;
    Ok(found.into_iter().next_back().map(|(key, _)| key).filter(|_| !all))
}

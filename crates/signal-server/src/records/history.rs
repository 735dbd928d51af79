//! Reads and prunes the history of calls. Comes in: queries of the API, the clock. Goes out: entries of a channel in
//! the order of time. Deliberately absent: how entries are written (`writer`), and their content.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use lianmai_protocol::UserId;
use lianmai_signal_engine::ChannelKey;
use rusqlite::{Transaction, params};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::database::{Database, DatabaseError, pause_after_step};
use crate::clock::wall_now;

/// Maximum number of entries that one query examines, however few match.
const SCAN: usize = 20_000;
/// Maximum number of entries that one pruning step removes.
const STEP: u64 = 2_000;
/// At least the number of entries, since positions rise and the lowest are removed first; reads none of them.
const HISTORY_SPAN: &str =
    "SELECT COALESCE((SELECT MAX(pos) FROM history) - (SELECT MIN(pos) FROM history) + 1, 0)";
/// Interval of pruning.
const PRUNE: Duration = Duration::from_secs(60);

/// The position of an entry in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HistoryCursor {
    /// Its time in Unix milliseconds.
    at: i64,
    /// Its row number, for entries of the same time.
    pos: i64,
}

impl fmt::Display for HistoryCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.at, self.pos)
    }
}

impl FromStr for HistoryCursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, pos) = text.split_once('.').ok_or(())?;
        let number = |text: &str| text.parse().map_err(drop);
        Ok(HistoryCursor { at: number(at)?, pos: number(pos)? })
    }
}

/// A query for entries of a channel.
#[derive(Clone, Debug)]
pub(crate) struct HistorySearch {
    pub(crate) channel: ChannelKey,
    /// Only entries after this one.
    pub(crate) after: Option<HistoryCursor>,
    /// Begin of the time range in Unix milliseconds.
    pub(crate) from: u64,
    /// End of the time range, exclusive.
    pub(crate) to: u64,
    /// Only entries about this user, and those about no user.
    pub(crate) uid: Option<UserId>,
    /// Together with `uid`: of the entries about either user, those about no third one.
    pub(crate) with: Option<UserId>,
    /// Maximum number of entries.
    pub(crate) limit: usize,
}

/// The result of a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HistoryPage {
    /// Records, as the engine wrote them.
    pub(crate) records: Vec<String>,
    /// Where to continue; `None` at the end.
    pub(crate) next: Option<HistoryCursor>,
}

/// Limits of the history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HistoryRetention {
    /// Maximum age in milliseconds.
    pub(crate) ms: u64,
    /// Maximum number of entries.
    pub(crate) rows: u64,
}

impl HistorySearch {
    fn wants(&self, uid: Option<&str>, other: Option<&str>) -> bool {
        let text = |uid: Option<UserId>| uid.map(|uid| uid.to_string());
        let (one, two) = (text(self.uid), text(self.with));
        let is_one = |who: &str| one.as_deref() == Some(who);
        let is_either = |who: &str| is_one(who) || two.as_deref() == Some(who);
        match (uid, &one, &two) {
            (None, ..) | (_, None, _) => true,
            (Some(uid), Some(_), None) => is_one(uid) || other.is_some_and(is_one),
            (Some(uid), Some(_), Some(_)) => is_either(uid) && other.is_none_or(is_either),
        }
    }
}

impl Database {
    /// Searches the entries of a channel.
    pub(crate) async fn history(
        &self,
        search: HistorySearch,
    ) -> Result<HistoryPage, DatabaseError> {
        self.read(move |transaction| find(transaction, &search)).await
    }

    /// Removes some of the entries that are too old or too many. Returns how many it removed, and whether that was all.
    pub(crate) async fn prune_history(
        &self,
        since: u64,
        rows: u64,
    ) -> Result<(u64, bool), DatabaseError> {
        self.write(move |transaction| prune(transaction, since, rows)).await
    }

    /// Prunes the history at each [`PRUNE`] until the store is closed. Never completes.
    pub(crate) async fn run_history_pruning(self, keep: HistoryRetention) {
        let mut ticks = interval(PRUNE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            loop {
                let begin = Instant::now();
                let since = wall_now().0.saturating_sub(keep.ms);
                match self.prune_history(since, keep.rows).await {
                    Ok((_, false)) => pause_after_step(begin).await,
                    Ok((_, true)) | Err(DatabaseError::Failed) => break,
                    // The next process removes the rest.
                    Err(DatabaseError::Closed) => return std::future::pending().await,
                }
            }
        }
    }
}

fn find(transaction: &Transaction<'_>, search: &HistorySearch) -> rusqlite::Result<HistoryPage> {
    let mut statement = transaction.prepare(
        "SELECT at, pos, uid, other, record FROM history
         WHERE appkey = ? AND channel = ? AND at >= ? AND at < ? AND (at, pos) > (?, ?)
         ORDER BY at, pos",
    )?;
    let ChannelKey { appkey, name } = &search.channel;
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let after = search.after.unwrap_or(HistoryCursor { at: -1, pos: -1 });
    let (from, to) = (whole(search.from).max(after.at), whole(search.to));
    let mut rows =
        statement.query(params![appkey.as_str(), name.as_str(), from, to, after.at, after.pos])?;
    let (mut found, mut looked, mut last) = (HistoryPage::default(), 0, None);
    while let Some(row) = rows.next()? {
        if found.records.len() == search.limit || looked == SCAN {
            found.next = last;
            break;
        }
        looked += 1;
        last = Some(HistoryCursor { at: row.get(0)?, pos: row.get(1)? });
        let (uid, other): (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
        if search.wants(uid.as_deref(), other.as_deref()) {
            found.records.push(row.get(4)?);
        }
    }
    Ok(found)
}

fn prune(transaction: &Transaction<'_>, since: u64, rows: u64) -> rusqlite::Result<(u64, bool)> {
    let count: u64 = transaction.query_row(HISTORY_SPAN, [], |row| row.get(0))?;
    let surplus = count.saturating_sub(rows).min(STEP);
    let sql = "SELECT COUNT(*) FROM (SELECT at FROM history ORDER BY pos LIMIT ?) WHERE at < ?";
    let old: u64 = transaction.query_row(sql, params![STEP, since], |row| row.get(0))?;
    let delete = surplus.max(old);
    let removed = transaction.execute(
        "DELETE FROM history WHERE pos IN (SELECT pos FROM history ORDER BY pos LIMIT ?)",
        [delete],
    )?;
    Ok((removed as u64, delete < STEP))
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;

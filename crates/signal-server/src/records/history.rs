//! What is remembered of calls, as it is read and as it goes. Comes in: questions of the API, the clock. Goes out: entries of
//! a channel in the order of the clock. Deliberately absent: how entries get here (`writer`), and what is in them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use lianmai_protocol::UserId;
use lianmai_signal_engine::ChannelKey;
use rusqlite::{Transaction, params};
use tokio::time::{MissedTickBehavior, interval};

use super::desk::{Desk, DeskError};
use crate::clock::wall_now;

/// Most entries that one read looks at, however few of them are wanted.
const SCAN: usize = 20_000;
/// Most entries that one step takes away.
const STEP: u64 = 2_000;
/// What is too old is looked for this often.
const PRUNE: Duration = Duration::from_secs(60);

/// Where in a channel an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// When, in unix milliseconds.
    at: i64,
    /// Which of that moment.
    pos: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.at, self.pos)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, pos) = text.split_once('.').ok_or(())?;
        let number = |text: &str| text.parse().map_err(drop);
        Ok(Place { at: number(at)?, pos: number(pos)? })
    }
}

/// What somebody wants to know of a channel.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    pub(crate) channel: ChannelKey,
    /// Behind this entry.
    pub(crate) after: Option<Place>,
    /// From then on, in unix milliseconds.
    pub(crate) from: u64,
    /// And before that.
    pub(crate) to: u64,
    /// Entries about a user, and about nobody.
    pub(crate) uid: Option<UserId>,
    /// Of those and of this other user's, the ones that are about nobody else.
    pub(crate) with: Option<UserId>,
    /// At most so many.
    pub(crate) limit: usize,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Records, as the engine wrote them.
    pub(crate) records: Vec<String>,
    /// Where to go on, unless this is all.
    pub(crate) next: Option<Place>,
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeepHistory {
    /// So long, in milliseconds.
    pub(crate) ms: u64,
    /// And so many entries.
    pub(crate) rows: u64,
}

impl Search {
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

impl Desk {
    /// Entries of a channel.
    pub(crate) async fn history(&self, search: Search) -> Result<Found, DeskError> {
        self.read(move |transaction| find(transaction, &search)).await
    }

    /// Takes away what is too old or too much, some of it at a time: how many entries went, and whether that is all.
    pub(crate) async fn prune_history(
        &self,
        since: u64,
        rows: u64,
    ) -> Result<(u64, bool), DeskError> {
        self.write(move |transaction| prune(transaction, since, rows)).await
    }

    /// Keeps as much as is wanted, until the store is closed.
    pub(crate) async fn keep_history(self, keep: KeepHistory) {
        let mut ticks = interval(PRUNE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            loop {
                let since = wall_now().0.saturating_sub(keep.ms);
                match self.prune_history(since, keep.rows).await {
                    Ok((_, false)) => {}
                    Ok((_, true)) | Err(DeskError::Failed) => break,
                    // What is left is taken away by the next process.
                    Err(DeskError::Closed) => return std::future::pending().await,
                }
            }
        }
    }
}

fn find(transaction: &Transaction<'_>, search: &Search) -> rusqlite::Result<Found> {
    let mut statement = transaction.prepare(
        "SELECT at, pos, uid, other, record FROM history
         WHERE appkey = ? AND channel = ? AND at >= ? AND at < ? AND (at, pos) > (?, ?)
         ORDER BY at, pos",
    )?;
    let ChannelKey { appkey, name } = &search.channel;
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let after = search.after.unwrap_or(Place { at: -1, pos: -1 });
    let (from, to) = (whole(search.from).max(after.at), whole(search.to));
    let mut rows =
        statement.query(params![appkey.as_str(), name.as_str(), from, to, after.at, after.pos])?;
    let (mut found, mut looked, mut last) = (Found::default(), 0, None);
    while let Some(row) = rows.next()? {
        if found.records.len() == search.limit || looked == SCAN {
            found.next = last;
            break;
        }
        looked += 1;
        last = Some(Place { at: row.get(0)?, pos: row.get(1)? });
        let (uid, other): (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
        if search.wants(uid.as_deref(), other.as_deref()) {
            found.records.push(row.get(4)?);
        }
    }
    Ok(found)
}

fn prune(transaction: &Transaction<'_>, since: u64, rows: u64) -> rusqlite::Result<(u64, bool)> {
    // Places rise, and what goes is a beginning: so this is how many there are, or more.
    let sql = "SELECT COALESCE(MAX(pos) - MIN(pos) + 1, 0) FROM history";
    let count: u64 = transaction.query_row(sql, [], |row| row.get(0))?;
    let surplus = count.saturating_sub(rows).min(STEP);
    let sql = "SELECT COUNT(*) FROM (SELECT at FROM history ORDER BY pos LIMIT ?) WHERE at < ?";
    let old: u64 = transaction.query_row(sql, params![STEP, since], |row| row.get(0))?;
    let goes = surplus.max(old);
    let gone = transaction.execute(
        "DELETE FROM history WHERE pos IN (SELECT pos FROM history ORDER BY pos LIMIT ?)",
        [goes],
    )?;
    Ok((gone as u64, goes < STEP))
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;

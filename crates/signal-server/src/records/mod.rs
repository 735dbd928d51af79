//! What outlives the process: rows, as the engines say. Comes in: [`RowOp`]s of every shard, through [`Records`].
//! Goes out: an answer for whoever waits until its write is safe, and at the start of the next
//! process everything again. Deliberately absent: what a record means; this looks into none.
//!
//! ```text
//!   shard --write(ops, ack)--> [newest op of each row] --writer thread, one transaction--> lianmai.db
//!   shard <--ack(stored)------------------------------------------/
//! ```
//!
//! **Never in the way.** A shard does not wait for the disk: what it writes goes into a map that holds the newest
//! operation of each row. The writer takes the whole map, so every transaction ends between two writes of a
//! shard, and the file is at any moment what the engines wanted at some moment. However slow the disk is, the map
//! grows to what the engines hold in memory, and [`pending::MAX_ROWS`] of what they do not hold any more.
//!
//! **When the disk fails** (full, or taken away), whoever waits hears so at once, and the rows go back under those
//! that came since: the next attempt writes what holds then. So memory and file meet again by themselves.
//!
//! **What a commit is worth.** It survives `kill -9` of the process. A power cut may take the last moments (WAL with
//! `synchronous = NORMAL`), except for a clean stop, which waits for the disk.

mod deployment;
mod desk;
mod events;
mod history;
mod load;
mod pending;
mod schema;
mod sqlite;
mod writer;

#[cfg(test)]
mod events_tests;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use lianmai_protocol::WallTime;
use lianmai_signal_engine::{Restored, RowOp};

use crate::data_dir::DirLock;
use sqlite::Sqlite;
use tokio::sync::watch;

pub(crate) use deployment::{Asked, Entry, Revocation, Table};
pub(crate) use desk::{Desk, DeskError};
pub(crate) use events::{DeadLetter, Keep, Settled, StoredEvent, What};
pub(crate) use history::{Found, KeepHistory, Place, Search};

/// Format of the records. Those of another one are read where they can be, but no hand-over is taken from them.
const FORMAT: u32 = 1;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system says no.
    #[error("`{path}` cannot be used: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others may have read or changed it.
    #[error("`{path}` is open to others (mode {mode:04o}): run `chmod 600` on it")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is no database, damaged, or cannot be written.
    #[error("`{path}` cannot be used: {source}; without the file the server starts empty")]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// It comes from a later version.
    #[error("`{path}` has version {found}, and this server knows up to {known}: run a newer one")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Version of the file.
        found: u32,
        /// Version of this program.
        known: u32,
    },
}

/// Hears whether a write will survive the process. Runs on the writer's thread.
pub(crate) type Ack = Box<dyn FnOnce(bool) + Send>;

/// What the loader needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    /// The moment.
    pub(crate) now: WallTime,
    /// A hand-over is taken so long.
    pub(crate) grace_ms: u64,
    /// Shards of this process.
    pub(crate) shards: usize,
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoreStats {
    /// Transactions.
    pub(crate) commits: u64,
    /// Attempts that failed.
    pub(crate) failures: u64,
    /// Rows that wait.
    pub(crate) waiting: usize,
    /// Rows that the disk took too long for, and that are not written any more.
    pub(crate) forgotten: u64,
    /// Events that it took too long for; whoever follows their channels is told so.
    pub(crate) lost_events: u64,
    /// Entries of histories that it took too long for.
    pub(crate) lost_history: u64,
}

/// The only door to what outlives the process. When the last one goes, what was written before still gets there.
pub(crate) trait Records: Send + Sync {
    /// Writes, in this order and together; returns at once. `ack` is dropped unheard when the records are closed.
    fn write(&self, ops: Vec<RowOp>, ack: Option<Ack>);

    /// Writes what waits, then, if everything is there, `handed_over` as the last thing: the moment at which the
    /// next process takes over what the rows say. Completes when the file is closed, with whether all went well.
    /// What is written from then on is lost. Of several calls the first counts, and all complete together.
    fn close(&self, handed_over: Option<WallTime>) -> Closed<'_>;

    /// Numbers for metrics.
    fn stats(&self) -> StoreStats;

    /// Changes whenever events are committed.
    fn appended(&self) -> watch::Receiver<u64>;

    /// What else is kept in the same place; closed when this is.
    fn desk(&self) -> Desk;
}

/// Whether all went well, when it is known.
pub(crate) type Closed<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// Opens the records in a data directory, and says what each shard starts with. The lock is held until the file is
/// closed.
///
/// # Errors
/// [`StoreError`] with the file.
pub(crate) fn open(
    directory: &Path,
    lock: Arc<DirLock>,
    opening: Opening,
) -> Result<(Arc<dyn Records>, Vec<Restored>), StoreError> {
    let (store, restored) = Sqlite::open(directory, lock, opening)?;
    Ok((Arc::new(store), restored))
}

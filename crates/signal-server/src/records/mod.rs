//! State that outlives the process: rows of the engines. Comes in: [`RowOp`]s of all shards, through [`Records`]. Goes
//! out: an answer to each caller that waits until its write is safe, and all rows at the start of the next process.
//! Deliberately absent: the meaning of records.
//!
//! ```text
//!   shard --write(ops, ack)--> [newest op of each row] --writer thread, one transaction--> lianmai.db
//!   shard <--ack(stored)------------------------------------------/
//! ```
//!
//! **Shards never wait.** A shard does not wait for the disk: it writes into a map that holds the newest operation of
//! each row. The writer takes the whole map, so each transaction ends between two writes of a shard, and the file
//! always holds a state that the engines had. However slow the disk is, the map does not grow beyond the rows that the
//! engines hold in memory and [`pending::MAX_ROWS`] removals.
//!
//! **When the disk fails** (full, or removed), each waiting caller is told at once. The rows go back into the map,
//! below the newer ones, and the next attempt writes the current state. So the file becomes equal to memory again.
//!
//! **What a commit guarantees.** It survives `kill -9` of the process. A power cut may lose the last moments (WAL with
//! `synchronous = NORMAL`), except after a clean stop, which waits for the disk.

mod database;
mod deployment;
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

pub(crate) use database::{Database, DatabaseError, pause_after_step};
pub(crate) use deployment::{Entry, IdempotencyState, Revocation, Table};
pub(crate) use events::{
    DeadLetter, DeliveryKey, EventContent, EventCursor, EventRetention, Settled, StoredEvent,
};
pub(crate) use history::{HistoryCursor, HistoryPage, HistoryRetention, HistorySearch};

/// Format of the records. Records of another format are read if possible, but a hand-over of it is not accepted.
const FORMAT: u32 = 1;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refuses access.
    #[error("`{path}` cannot be used: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
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
        /// The cause.
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

/// Called with whether a write will survive the process. Runs on the writer's thread.
pub(crate) type Ack = Box<dyn FnOnce(bool) + Send>;

/// Parameters of the loader.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenParams {
    /// The current time.
    pub(crate) now: WallTime,
    /// Maximum age of a hand-over in milliseconds.
    pub(crate) grace_ms: u64,
    /// Number of shards of this process.
    pub(crate) shards: usize,
}

/// Counters for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoreStats {
    /// Transactions that were committed.
    pub(crate) commits: u64,
    /// Transactions that failed.
    pub(crate) failures: u64,
    /// Rows that wait.
    pub(crate) waiting: usize,
    /// Removals that were given up because too many waited.
    pub(crate) forgotten: u64,
    /// Events that were dropped because too many waited. Readers of their channels are told.
    pub(crate) lost_events: u64,
    /// History entries that were dropped because too many waited.
    pub(crate) lost_history: u64,
}

/// The only access to the state that outlives the process. After the last handle is dropped, earlier writes are still
/// done.
pub(crate) trait Records: Send + Sync {
    /// Writes the operations in this order and in one transaction; returns at once. `ack` is dropped without a call
    /// when the records are closed.
    fn write(&self, ops: Vec<RowOp>, ack: Option<Ack>);

    /// Writes what waits. If all of it is written, writes `handed_over` last: the time at which the next process takes
    /// over the rows. Completes when the file is closed, with whether everything succeeded. Later writes are lost. Of
    /// several calls the first one counts, and all complete together.
    fn close(&self, handed_over: Option<WallTime>) -> CloseFuture<'_>;

    /// Counters for metrics.
    fn stats(&self) -> StoreStats;

    /// Changes with each commit that contains events.
    fn appended(&self) -> watch::Receiver<u64>;

    /// Access to the other data in the file. It is closed together with the records.
    fn database(&self) -> Database;
}

/// Completes with whether everything succeeded.
pub(crate) type CloseFuture<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// Opens the records in a data directory, and returns the initial state of each shard. The lock is held until the file
/// is closed.
///
/// # Errors
/// [`StoreError`] with the file.
pub(crate) fn open(
    directory: &Path,
    lock: Arc<DirLock>,
    params: OpenParams,
) -> Result<(Arc<dyn Records>, Vec<Restored>), StoreError> {
    let (store, restored) = Sqlite::open(directory, lock, params)?;
    Ok((Arc::new(store), restored))
}

//! The records in an SQLite file. Comes in: a directory, then writes. Goes out: the state that an earlier process
//! wrote. Deliberately absent: the thread that writes (`writer`).

use std::path::Path;
use std::sync::Arc;

use lianmai_protocol::WallTime;
use lianmai_signal_engine::{Restored, RowOp};
use tokio::sync::watch;

use super::database::Database;
use super::writer::{self, Shared};
use super::{Ack, CloseFuture, OpenParams, Records, StoreError, StoreStats, load, schema};
use crate::data_dir::DirLock;

/// Name of the file in the data directory.
pub(super) const FILE: &str = "lianmai.db";

/// The open file.
#[derive(Debug)]
pub(super) struct Sqlite(pub(super) Arc<Shared>, pub(super) Database);

impl Sqlite {
    pub(super) fn open(
        directory: &Path,
        lock: Arc<DirLock>,
        params: OpenParams,
    ) -> Result<(Self, Vec<Restored>), StoreError> {
        let path = directory.join(FILE);
        let database = |source| StoreError::Database { path: path.clone(), source };
        let mut connection = schema::open(&path)?;
        let restored = load::load(&mut connection, params).map_err(database)?;
        let database = Database::open(&path)?;
        let shared = writer::start(connection, lock)
            .map_err(|source| StoreError::Io { path: path.clone(), source })?;
        Ok((Sqlite(shared, database), restored))
    }
}

impl Records for Sqlite {
    fn write(&self, ops: Vec<RowOp>, ack: Option<Ack>) {
        self.0.write(ops, ack);
    }

    fn close(&self, handed_over: Option<WallTime>) -> CloseFuture<'_> {
        self.1.close();
        self.0.close(handed_over);
        Box::pin(async {
            let succeeded = self.0.ended().await;
            self.1.ended().await;
            succeeded
        })
    }

    fn stats(&self) -> StoreStats {
        self.0.stats()
    }

    fn appended(&self) -> watch::Receiver<u64> {
        self.0.appended()
    }

    fn database(&self) -> Database {
        self.1.clone()
    }
}

impl Drop for Sqlite {
    /// Ends the writer with the last handle.
    fn drop(&mut self) {
        self.1.close();
        self.0.close(None);
    }
}

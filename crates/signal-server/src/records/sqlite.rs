//! The records in an SQLite file. Comes in: a directory, then writes. Goes out: the state that an earlier process
//! wrote. Deliberately absent: the thread that writes (`writer`).

use std::path::Path;
use std::sync::Arc;

use lianmai_protocol::WallTime;
use lianmai_signal_engine::{Restored, RowOp};
use tokio::sync::watch;

use super::desk::Desk;
use super::writer::{self, Shared};
use super::{Ack, Closed, Opening, Records, StoreError, StoreStats, load, schema};
use crate::data_dir::DirLock;

/// Name of the file in the data directory.
pub(super) const FILE: &str = "lianmai.db";

/// The open file.
#[derive(Debug)]
pub(super) struct Sqlite(pub(super) Arc<Shared>, pub(super) Desk);

impl Sqlite {
    pub(super) fn open(
        directory: &Path,
        lock: Arc<DirLock>,
        opening: Opening,
    ) -> Result<(Self, Vec<Restored>), StoreError> {
        let path = directory.join(FILE);
        let database = |source| StoreError::Database { path: path.clone(), source };
        let mut connection = schema::open(&path)?;
        let restored = load::load(&mut connection, opening).map_err(database)?;
        let desk = Desk::open(&path)?;
        let shared = writer::start(connection, lock)
            .map_err(|source| StoreError::Io { path: path.clone(), source })?;
        Ok((Sqlite(shared, desk), restored))
    }
}

impl Records for Sqlite {
    fn write(&self, ops: Vec<RowOp>, ack: Option<Ack>) {
        self.0.write(ops, ack);
    }

    fn close(&self, handed_over: Option<WallTime>) -> Closed<'_> {
        self.1.close();
        self.0.close(handed_over);
        Box::pin(async {
            let well = self.0.ended().await;
            self.1.ended().await;
            well
        })
    }

    fn stats(&self) -> StoreStats {
        self.0.stats()
    }

    fn appended(&self) -> watch::Receiver<u64> {
        self.0.appended()
    }

    fn desk(&self) -> Desk {
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

//! Access to the file while the server runs, for all but the engines: a thread with its own connection. Comes in: jobs,
//! one after the other. Goes out: their results. Deliberately absent: the jobs (`events`, `deployment`), and the rows
//! of the engines, which have their own writer. Each of the two waits for the other for one small transaction, so jobs
//! that follow each other leave pauses: a writer of SQLite has no turn, it tries again and again.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};
use tracing::error;

use super::{StoreError, schema};

/// Maximum number of waiting jobs. Further callers wait.
const JOB_QUEUE_CAPACITY: usize = 256;

/// Minimum pause between the steps of a long job: at least as long as SQLite waits between two tries to write.
const STEP_PAUSE: Duration = Duration::from_millis(100);

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DatabaseError {
    /// The server stops.
    #[error("the store is closed")]
    Closed,
    /// The file cannot be read or written. Nothing was changed.
    #[error("the store cannot be used")]
    Failed,
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle to the thread. Cheap to clone. The thread ends when the database is closed, or with the last handle.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    jobs: Arc<Mutex<Option<mpsc::Sender<Job>>>>,
    ended: watch::Receiver<bool>,
}

impl Database {
    /// Opens another connection to the file.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let database = |source| StoreError::Database { path: path.to_owned(), source };
        let mut connection = schema::connect(path).map_err(database)?;
        let (jobs, mut waiting) = mpsc::channel::<Job>(JOB_QUEUE_CAPACITY);
        let (end, ended) = watch::channel(false);
        std::thread::Builder::new()
            .name("database".to_owned())
            .spawn(move || {
                while let Some(job) = waiting.blocking_recv() {
                    job(&mut connection);
                }
                drop(connection);
                end.send_replace(true);
            })
            .map_err(|source| StoreError::Io { path: path.to_owned(), source })?;
        Ok(Database { jobs: Arc::new(Mutex::new(Some(jobs))), ended })
    }

    /// Refuses jobs from now on. Earlier jobs are still done.
    pub(super) fn close(&self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Completes when the connection is closed.
    pub(super) async fn ended(&self) {
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    /// Reads in a transaction, and so from one state of the file.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        self.run(TransactionBehavior::Deferred, job).await
    }

    /// Writes in a transaction, which is committed if `job` succeeds. It takes the write lock before it reads, so the
    /// rows that it reads cannot change before the commit.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        self.run(TransactionBehavior::Immediate, job).await
    }

    async fn run<T: Send + 'static>(
        &self,
        behavior: TransactionBehavior,
        job: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let (answer, answered) = oneshot::channel();
        let job = move |connection: &mut Connection| {
            let result = transact(connection, behavior, job);
            if let Err(error) = &result {
                error!(%error, "the store cannot be used");
            }
            let _ = answer.send(result.map_err(|_| DatabaseError::Failed));
        };
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let jobs = jobs.ok_or(DatabaseError::Closed)?;
        jobs.send(Box::new(job)).await.map_err(|_| DatabaseError::Closed)?;
        drop(jobs);
        answered.await.map_err(|_| DatabaseError::Closed)?
    }
}

/// Waits after a step of a long job, so that the engines can write.
pub(crate) async fn pause_after_step(begin: Instant) {
    sleep(begin.elapsed().max(STEP_PAUSE)).await;
}

fn transact<T>(
    connection: &mut Connection,
    behavior: TransactionBehavior,
    job: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = connection.transaction_with_behavior(behavior)?;
    let done = job(&transaction)?;
    transaction.commit()?;
    Ok(done)
}

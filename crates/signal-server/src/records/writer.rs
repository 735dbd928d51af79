//! The thread that owns the connection. Comes in: waiting operations. Goes out: transactions, and answers to the
//! callers that wait for them. Deliberately absent: delays. The operations of the next commit gather while one runs, so
//! the busier the server, the larger its transactions.

use std::io;
use std::mem::take;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lianmai_protocol::WallTime;
use lianmai_signal_engine::{ChannelKey, Row, RowKey, RowOp};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use tokio::sync::watch;
use tracing::{error, info};

use super::pending::Pending;
use super::{Ack, FORMAT, StoreStats, schema};
use crate::data_dir::DirLock;

/// Time until a retry after a failure, unless a caller waits.
const RETRY: Duration = Duration::from_millis(500);
/// Minimum time between error lines about a failing disk.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// State shared by the shards and the writer.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// Whether everything succeeded, once the file is closed.
    ended: watch::Sender<Option<bool>>,
    /// Number of commits with events.
    appended: watch::Sender<u64>,
    commits: AtomicU64,
    failures: AtomicU64,
}

#[derive(Default)]
struct State {
    pending: Pending,
    waiting: Vec<Ack>,
    /// Number of operations in the current commit.
    writing: usize,
    /// The last commit failed, and its operations are pending again.
    failing: bool,
    lifecycle: Lifecycle,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("rows", &self.pending.len()).finish_non_exhaustive()
    }
}

#[derive(Default)]
enum Lifecycle {
    #[default]
    Open,
    Closing(Closing),
    Closed,
}

/// The mark to write, if any.
struct Closing(Option<WallTime>);

/// The next work of the writer.
struct Work {
    batch: Pending,
    waiting: Vec<Ack>,
    closing: Option<Closing>,
}

/// Starts the thread. It ends when the store is closed, and then releases the lock.
pub(super) fn start(connection: Connection, lock: Arc<DirLock>) -> io::Result<Arc<Shared>> {
    let shared = Arc::new(Shared::default());
    let writing = shared.clone();
    std::thread::Builder::new().name("store".to_owned()).spawn(move || {
        let shared = writing.clone();
        let succeeded = WriterThread { connection, shared: writing, last_complaint: None }.run();
        drop(lock);
        shared.ended.send_replace(Some(succeeded));
    })?;
    Ok(shared)
}

impl Shared {
    pub(super) fn write(&self, ops: Vec<RowOp>, ack: Option<Ack>) {
        let mut state = self.lock();
        if !matches!(state.lifecycle, Lifecycle::Open) {
            return;
        }
        for op in ops {
            state.pending.apply(op);
        }
        state.waiting.extend(ack);
        drop(state);
        self.wake.notify_one();
    }

    /// Asks the writer to end. The first call decides about the mark.
    pub(super) fn close(&self, handed_over: Option<WallTime>) {
        let mut state = self.lock();
        if matches!(state.lifecycle, Lifecycle::Open) {
            state.lifecycle = Lifecycle::Closing(Closing(handed_over));
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Completes when the writer has ended, with whether everything succeeded.
    pub(super) async fn ended(&self) -> bool {
        let mut ended = self.ended.subscribe();
        ended.wait_for(Option::is_some).await.is_ok_and(|succeeded| *succeeded == Some(true))
    }

    pub(super) fn stats(&self) -> StoreStats {
        let state = self.lock();
        StoreStats {
            commits: self.commits.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            waiting: state.pending.len() + state.writing,
            forgotten: state.pending.forgotten(),
            lost_events: state.pending.lost_events(),
            lost_history: state.pending.lost_history(),
        }
    }

    pub(super) fn appended(&self) -> watch::Receiver<u64> {
        self.appended.subscribe()
    }

    /// Waits for work, and takes all of it.
    fn next(&self) -> Work {
        let idle = |state: &mut State| {
            matches!(state.lifecycle, Lifecycle::Open)
                && state.waiting.is_empty()
                && (state.failing || state.pending.is_empty())
        };
        let state = self.lock();
        let mut state = if state.failing {
            let waited = self.wake.wait_timeout_while(state, RETRY, idle);
            waited.unwrap_or_else(PoisonError::into_inner).0
        } else {
            self.wake.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner)
        };
        let closing = match take(&mut state.lifecycle) {
            Lifecycle::Closing(closing) => {
                state.lifecycle = Lifecycle::Closed;
                Some(closing)
            }
            lifecycle => {
                state.lifecycle = lifecycle;
                None
            }
        };
        state.writing = state.pending.len();
        Work { batch: state.pending.take(), waiting: take(&mut state.waiting), closing }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct WriterThread {
    connection: Connection,
    shared: Arc<Shared>,
    last_complaint: Option<Instant>,
}

impl WriterThread {
    /// Writes until the store is closed. Returns whether everything is written.
    fn run(mut self) -> bool {
        loop {
            let Work { batch, waiting, closing } = self.shared.next();
            let committed = commit(&mut self.connection, &batch);
            let stored = committed.is_ok();
            let has_events = batch.has_events();
            self.count(committed, batch);
            for ack in waiting {
                ack(stored);
            }
            if stored && has_events {
                self.shared.appended.send_modify(|count| *count += 1);
            }
            if let Some(Closing(handed_over)) = closing {
                let succeeded = stored && self.hand_over(handed_over);
                let closed = self.connection.close();
                if let Err((_, error)) = &closed {
                    error!(%error, "the store does not close");
                }
                return succeeded && closed.is_ok();
            }
        }
    }

    fn count(&mut self, committed: rusqlite::Result<()>, batch: Pending) {
        let mut state = self.shared.lock();
        state.writing = 0;
        let was_failing = std::mem::replace(&mut state.failing, committed.is_err());
        match committed {
            Ok(()) => {
                drop(state);
                self.shared.commits.fetch_add(1, Ordering::Relaxed);
                if was_failing {
                    info!("the store works again");
                    self.last_complaint = None;
                }
            }
            Err(error) => {
                state.pending.put_back(batch);
                let rows = state.pending.len();
                drop(state);
                self.shared.failures.fetch_add(1, Ordering::Relaxed);
                if self.last_complaint.is_none_or(|at| at.elapsed() >= COMPLAINT_INTERVAL) {
                    self.last_complaint = Some(Instant::now());
                    error!(%error, rows, "the store cannot be written; it is tried again");
                }
            }
        }
    }

    /// Writes the mark, last of all. A file with rows that should be removed is not handed over.
    fn hand_over(&mut self, at: Option<WallTime>) -> bool {
        let Some(at) = at else { return true };
        if self.shared.stats().forgotten > 0 {
            return false;
        }
        let marked = mark(&mut self.connection, at);
        if let Err(error) = &marked {
            error!(%error, "the hand-over cannot be written");
        }
        marked.is_ok()
    }
}

/// Writes that the rows are all that the next process needs.
fn mark(connection: &mut Connection, at: WallTime) -> rusqlite::Result<()> {
    schema::synchronous(connection, "full")?;
    connection
        .execute(
            "INSERT OR REPLACE INTO meta (key, value) VALUES ('handed_over', ?)",
            [format!("{FORMAT} {}", at.0)],
        )
        .map(drop)
}

pub(super) fn commit(connection: &mut Connection, batch: &Pending) -> rusqlite::Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    write(&transaction, batch)?;
    transaction.commit()
}

fn write(transaction: &Transaction<'_>, batch: &Pending) -> rusqlite::Result<()> {
    let mut drop_channel = transaction
        .prepare("DELETE FROM record WHERE appkey = ? AND channel = ? AND kind IN (?, ?, ?)")?;
    let [first, second, third] = Row::KINDS_OF_CHANNEL;
    for ChannelKey { appkey, name } in batch.dropped() {
        drop_channel.execute([appkey.as_str(), name.as_str(), first, second, third])?;
    }
    let mut put = transaction.prepare("INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?, ?)")?;
    let mut drop = transaction
        .prepare("DELETE FROM record WHERE appkey = ? AND channel = ? AND kind = ? AND id = ?")?;
    for (RowKey { channel, row }, record) in batch.rows() {
        let (app, name) = (channel.appkey.as_str(), channel.name.as_str());
        let (kind, id) = (row.kind(), row.id());
        match record {
            Some(record) => put.execute([app, name, kind, &id, &record.text()])?,
            None => drop.execute([app, name, kind, &id])?,
        };
    }
    append(transaction, batch)?;
    remember(transaction, batch)
}

/// Inserts the events, in order. One whose number the channel has already is left out, since all other rows would fail
/// with it, for ever.
fn append(transaction: &Transaction<'_>, batch: &Pending) -> rusqlite::Result<()> {
    let mut event = transaction.prepare(
        "INSERT INTO event (appkey, channel, seq, at, record) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (appkey, channel, seq) DO NOTHING",
    )?;
    let mut left_out = 0_usize;
    for (ChannelKey { appkey, name }, record) in batch.events() {
        let text = serde_json::to_string(record).expect("a record has string keys only");
        let (app, name, at) = (appkey.as_str(), name.as_str(), record.at.0);
        left_out += usize::from(event.execute(params![app, name, record.seq, at, text])? == 0);
    }
    if left_out > 0 {
        error!(left_out, "events have numbers of earlier ones, and are not stored");
    }
    Ok(())
}

/// Inserts the history entries, in order.
fn remember(transaction: &Transaction<'_>, batch: &Pending) -> rusqlite::Result<()> {
    let mut entry = transaction.prepare(
        "INSERT INTO history (appkey, channel, at, uid, other, record) VALUES (?, ?, ?, ?, ?, ?)",
    )?;
    for (ChannelKey { appkey, name }, record) in batch.history() {
        let text = serde_json::to_string(record).expect("a record has string keys only");
        let (uid, other) = record.uids();
        let (uid, other) = (uid.map(|uid| uid.to_string()), other.map(|uid| uid.to_string()));
        let at = record.at.0;
        entry.execute(params![appkey.as_str(), name.as_str(), at, uid, other, text])?;
    }
    Ok(())
}

//! Limits what one connection has waiting in the mailbox of its shard. Comes in: lengths of frames. Goes out: a turn
//! for each, when there is room. Deliberately absent: the content of frames, and their rate, which the engine limits.
//!
//! A mailbox is read in order. Because each connection has so little in it, connections take turns: a frame waits at
//! most for one long frame or a few short ones of each other connection, and the size of a mailbox is bounded.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use lianmai_protocol::limits::MAX_CLIENT_FRAME_BYTES;

/// Maximum number of waiting bytes of one connection.
const WAITING: usize = MAX_CLIENT_FRAME_BYTES;
/// A shorter frame counts as this length, because each frame has a fixed cost.
const LEAST: usize = 4 * 1024;
/// Flag in [`Table::bytes`]: the shard takes no more frames of the connection. The number of waiting bytes never gets
/// so high.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// The turns of one connection, for the one task that reads it. Each idle connection has this: a semaphore, which
/// supports many waiting tasks, is larger.
#[derive(Debug, Default)]
pub(crate) struct Turns(Arc<Table>);

#[derive(Debug, Default)]
struct Table {
    /// The waiting bytes, and [`CLOSED`].
    bytes: AtomicUsize,
    reader: AtomicWaker,
}

/// The permission for one frame to wait in the mailbox. Dropping it makes room.
#[derive(Debug)]
pub(crate) struct Turn {
    table: Arc<Table>,
    bytes: usize,
}

impl Turns {
    /// Waits for room for a frame; `None` when the shard takes no more frames of the connection. Cancel safe.
    pub(crate) fn next(&mut self, bytes: usize) -> impl Future<Output = Option<Turn>> {
        let bytes = bytes.clamp(LEAST, WAITING);
        poll_fn(move |cx| self.poll(bytes, cx))
    }

    fn poll(&mut self, bytes: usize, cx: &Context<'_>) -> Poll<Option<Turn>> {
        let turn = self.try_next(bytes);
        if turn.is_ready() {
            return turn;
        }
        self.0.reader.register(cx.waker());
        // Room may have become free before the waker was registered.
        self.try_next(bytes)
    }

    fn try_next(&mut self, bytes: usize) -> Poll<Option<Turn>> {
        let waiting = self.0.bytes.load(Ordering::Acquire);
        if waiting >= CLOSED {
            return Poll::Ready(None);
        }
        if waiting + bytes > WAITING {
            return Poll::Pending;
        }
        // Only this task adds bytes, so there is still room.
        self.0.bytes.fetch_add(bytes, Ordering::AcqRel);
        Poll::Ready(Some(Turn { table: self.0.clone(), bytes }))
    }
}

impl Turn {
    /// Closes the turns: the shard takes no more frames of the connection.
    pub(crate) fn last(self) {
        self.table.bytes.fetch_or(CLOSED, Ordering::AcqRel);
        // The drop of `self` wakes the reader.
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.table.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.table.reader.wake();
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: how much of a connection waits.

    use futures_util::FutureExt;

    use super::*;

    fn next(turns: &mut Turns, bytes: usize) -> Option<Option<Turn>> {
        turns.next(bytes).now_or_never()
    }

    #[test]
    fn of_a_connection_one_long_frame_waits_or_some_short_ones() {
        let mut turns = Turns::default();
        let long = next(&mut turns, MAX_CLIENT_FRAME_BYTES).unwrap().unwrap();
        assert!(next(&mut turns, 1).is_none());
        drop(long);
        let short: Vec<_> = (0..).map_while(|_| next(&mut turns, 1)).collect();
        assert_eq!(short.len(), WAITING / LEAST);
        drop(short);
        let half = next(&mut turns, WAITING / 2 + 1).unwrap();
        assert!(next(&mut turns, WAITING / 2).is_none() && next(&mut turns, 1).is_some());
        drop(half);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_waits_is_told_of_every_room() {
        const FRAMES: usize = 20_000;
        let mut turns = Turns::default();
        let (shard, mut mailbox) = tokio::sync::mpsc::unbounded_channel();
        let taken = tokio::spawn(async move {
            let mut count = 0;
            while let Some(turn) = mailbox.recv().await {
                drop::<Turn>(turn);
                count += 1;
            }
            count
        });
        for _ in 0..FRAMES {
            shard.send(turns.next(WAITING).await.unwrap()).unwrap();
        }
        drop(shard);
        assert_eq!(taken.await.unwrap(), FRAMES);
    }

    #[tokio::test]
    async fn who_waits_is_told_of_the_end() {
        let mut turns = Turns::default();
        let turn = turns.next(WAITING).await.unwrap();
        let reader = tokio::spawn(async move { turns.next(1).await.is_none() });
        tokio::task::yield_now().await;
        turn.last();
        assert!(reader.await.unwrap());
    }

    #[test]
    fn a_connection_that_was_closed_has_no_more_turns() {
        let mut turns = Turns::default();
        next(&mut turns, 1).unwrap().unwrap().last();
        assert!(matches!(next(&mut turns, 1), Some(None)));
    }
}

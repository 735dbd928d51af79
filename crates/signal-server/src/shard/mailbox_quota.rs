//! Limits what one connection has waiting in the mailbox of its shard. Comes in: lengths of frames. Goes out: a permit
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
const MAX_WAITING_BYTES: usize = MAX_CLIENT_FRAME_BYTES;
/// A shorter frame counts as this length, because each frame has a fixed cost.
const MIN_FRAME_COST: usize = 4 * 1024;
/// Flag in [`QuotaState::bytes`]: the shard takes no more frames of the connection. The number of waiting bytes never
/// gets so high.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// The quota of one connection, for the one task that reads it. Each idle connection has this: a semaphore, which
/// supports many waiting tasks, is larger.
#[derive(Debug, Default)]
pub(crate) struct MailboxQuota(Arc<QuotaState>);

#[derive(Debug, Default)]
struct QuotaState {
    /// The waiting bytes, and [`CLOSED`].
    bytes: AtomicUsize,
    reader: AtomicWaker,
}

/// The permission for one frame to wait in the mailbox. Dropping it makes room.
#[derive(Debug)]
pub(crate) struct MailboxPermit {
    state: Arc<QuotaState>,
    bytes: usize,
}

impl MailboxQuota {
    /// Waits for room for a frame; `None` when the shard takes no more frames of the connection. Cancel safe.
    pub(crate) fn acquire(&mut self, bytes: usize) -> impl Future<Output = Option<MailboxPermit>> {
        let bytes = bytes.clamp(MIN_FRAME_COST, MAX_WAITING_BYTES);
        poll_fn(move |cx| self.poll(bytes, cx))
    }

    fn poll(&mut self, bytes: usize, cx: &Context<'_>) -> Poll<Option<MailboxPermit>> {
        let permit = self.try_acquire(bytes);
        if permit.is_ready() {
            return permit;
        }
        self.0.reader.register(cx.waker());
        // Room may have become free before the waker was registered.
        self.try_acquire(bytes)
    }

    fn try_acquire(&mut self, bytes: usize) -> Poll<Option<MailboxPermit>> {
        let waiting = self.0.bytes.load(Ordering::Acquire);
        if waiting >= CLOSED {
            return Poll::Ready(None);
        }
        if waiting + bytes > MAX_WAITING_BYTES {
            return Poll::Pending;
        }
        // Only this task adds bytes, so there is still room.
        self.0.bytes.fetch_add(bytes, Ordering::AcqRel);
        Poll::Ready(Some(MailboxPermit { state: self.0.clone(), bytes }))
    }
}

impl MailboxPermit {
    /// Closes the quota: the shard takes no more frames of the connection.
    pub(crate) fn close(self) {
        self.state.bytes.fetch_or(CLOSED, Ordering::AcqRel);
        // The drop of `self` wakes the reader.
    }
}

impl Drop for MailboxPermit {
    fn drop(&mut self) {
        self.state.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.state.reader.wake();
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: how much of a connection waits.

    use futures_util::FutureExt;

    use super::*;

    fn acquire(quota: &mut MailboxQuota, bytes: usize) -> Option<Option<MailboxPermit>> {
        quota.acquire(bytes).now_or_never()
    }

    #[test]
    fn a_connection_may_queue_one_long_frame_or_some_short_ones() {
        let mut quota = MailboxQuota::default();
        let long = acquire(&mut quota, MAX_CLIENT_FRAME_BYTES).unwrap().unwrap();
        assert!(acquire(&mut quota, 1).is_none());
        drop(long);
        let short: Vec<_> = (0..).map_while(|_| acquire(&mut quota, 1)).collect();
        assert_eq!(short.len(), MAX_WAITING_BYTES / MIN_FRAME_COST);
        drop(short);
        let half = acquire(&mut quota, MAX_WAITING_BYTES / 2 + 1).unwrap();
        assert!(
            acquire(&mut quota, MAX_WAITING_BYTES / 2).is_none()
                && acquire(&mut quota, 1).is_some()
        );
        drop(half);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_waiter_is_woken_when_quota_is_released() {
        const FRAMES: usize = 20_000;
        let mut quota = MailboxQuota::default();
        let (shard, mut mailbox) = tokio::sync::mpsc::unbounded_channel();
        let taken = tokio::spawn(async move {
            let mut count = 0;
            while let Some(permit) = mailbox.recv().await {
                drop::<MailboxPermit>(permit);
                count += 1;
            }
            count
        });
        for _ in 0..FRAMES {
            shard.send(quota.acquire(MAX_WAITING_BYTES).await.unwrap()).unwrap();
        }
        drop(shard);
        assert_eq!(taken.await.unwrap(), FRAMES);
    }

    #[tokio::test]
    async fn a_waiter_is_woken_by_the_close() {
        let mut quota = MailboxQuota::default();
        let permit = quota.acquire(MAX_WAITING_BYTES).await.unwrap();
        let reader = tokio::spawn(async move { quota.acquire(1).await.is_none() });
        tokio::task::yield_now().await;
        permit.close();
        assert!(reader.await.unwrap());
    }

    #[test]
    fn a_closed_connection_gets_no_permit() {
        let mut quota = MailboxQuota::default();
        acquire(&mut quota, 1).unwrap().unwrap().close();
        assert!(matches!(acquire(&mut quota, 1), Some(None)));
    }
}

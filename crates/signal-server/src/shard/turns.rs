//! What one connection may have waiting in the mailbox of its shard. Comes in: lengths of frames. Goes out: a turn for each,
//! when there is room. Deliberately absent: what is in a frame, and its rate, which the engine knows.
//!
//! A mailbox is read in order. With so little of each connection in it, connections take turns: nobody waits behind more
//! of another than one long frame or some short ones, and a mailbox holds no more bytes than its connections may.

use std::sync::Arc;

use lianmai_protocol::limits::MAX_CLIENT_FRAME_BYTES;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of one connection that may wait.
const WAITING: usize = MAX_CLIENT_FRAME_BYTES;
/// A shorter frame counts as so long: each costs something.
const LEAST: usize = 4 * 1024;

/// The turns of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<Semaphore>);

/// A frame may wait while this is held.
#[derive(Debug)]
pub(crate) struct Turn(OwnedSemaphorePermit);

impl Default for Turns {
    fn default() -> Self {
        Turns(Arc::new(Semaphore::new(WAITING)))
    }
}

impl Turns {
    /// Waits for room for a frame; `None` when nobody listens to the connection any more. Cancel safe.
    pub(crate) async fn next(&self, bytes: usize) -> Option<Turn> {
        let bytes = u32::try_from(bytes.clamp(LEAST, WAITING)).unwrap_or(u32::MAX);
        self.0.clone().acquire_many_owned(bytes).await.ok().map(Turn)
    }
}

impl Turn {
    /// Nobody listens to the connection any more: there are no more turns.
    pub(crate) fn last(self) {
        self.0.semaphore().close();
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: how much of a connection waits.

    use futures_util::FutureExt;

    use super::*;

    fn next(turns: &Turns, bytes: usize) -> Option<Option<Turn>> {
        turns.next(bytes).now_or_never()
    }

    #[test]
    fn of_a_connection_one_long_frame_waits_or_some_short_ones() {
        let turns = Turns::default();
        let long = next(&turns, MAX_CLIENT_FRAME_BYTES).unwrap().unwrap();
        assert!(next(&turns, 1).is_none());
        drop(long);
        let short: Vec<_> = (0..).map_while(|_| next(&turns, 1)).collect();
        assert_eq!(short.len(), WAITING / LEAST);
        drop(short);
        let half = next(&turns, WAITING / 2 + 1).unwrap();
        assert!(next(&turns, WAITING / 2).is_none() && next(&turns, 1).is_some());
        drop(half);
    }

    #[test]
    fn a_connection_that_was_closed_has_no_more_turns() {
        let turns = Turns::default();
        next(&turns, 1).unwrap().unwrap().last();
        assert!(matches!(next(&turns, 1), Some(None)));
    }
}

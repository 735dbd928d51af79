//! What shards say to each other. Comes in: messages, each for one shard. Goes out: the same, in their order. A shard never
//! waits for another one's mailbox: whoever delivers does.
//!
//! How much can wait here is bounded by the engines: a channel has one request under way, and a claim for each of its
//! tasks.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::ShardMsg;
use crate::route::shard_of;

/// The mailboxes of all shards, which keep none of them open.
#[derive(Clone)]
pub(super) struct Neighbours(Arc<[mpsc::WeakSender<ShardMsg>]>);

impl Neighbours {
    pub(super) fn new(senders: &[mpsc::Sender<ShardMsg>]) -> Self {
        Neighbours(senders.iter().map(mpsc::Sender::downgrade).collect())
    }

    /// The shard of a routing value.
    pub(super) fn of(&self, route: u32) -> mpsc::WeakSender<ShardMsg> {
        self.0[shard_of(route, self.0.len())].clone()
    }
}

struct Letter {
    to: mpsc::WeakSender<ShardMsg>,
    message: ShardMsg,
}

/// What one shard says to others.
pub(super) struct Letters {
    queue: mpsc::UnboundedSender<Letter>,
    /// Until somebody delivers.
    waiting: Option<mpsc::UnboundedReceiver<Letter>>,
}

impl Letters {
    pub(super) fn new() -> Self {
        let (queue, waiting) = mpsc::unbounded_channel();
        Letters { queue, waiting: Some(waiting) }
    }

    /// Behind everything of before.
    pub(super) fn send(&self, to: mpsc::WeakSender<ShardMsg>, message: ShardMsg) {
        // An error: nobody delivers any more, as the shard ends.
        let _ = self.queue.send(Letter { to, message });
    }

    /// Delivers from now on, until the shard has ended.
    pub(super) fn deliver(&mut self) {
        let Some(mut waiting) = self.waiting.take() else { return };
        tokio::spawn(async move {
            while let Some(Letter { to, message }) = waiting.recv().await {
                if let Some(to) = to.upgrade() {
                    // An error: that shard has ended.
                    let _ = to.send(message).await;
                }
            }
        });
    }
}

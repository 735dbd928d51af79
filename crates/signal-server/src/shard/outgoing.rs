//! Messages from one shard to others. Comes in: messages, each for one shard. Goes out: the same messages in their
//! order. A shard never waits for the mailbox of another shard: the delivery task does.
//!
//! The engines bound the number of waiting messages: a channel has one request in progress, and one claim for each of
//! its tasks.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::ShardMsg;
use crate::route::shard_of;

/// Weak senders to the mailboxes of all shards: they keep no mailbox open.
#[derive(Clone)]
pub(super) struct WeakShards(Arc<[mpsc::WeakSender<ShardMsg>]>);

impl WeakShards {
    pub(super) fn new(senders: &[mpsc::Sender<ShardMsg>]) -> Self {
        WeakShards(senders.iter().map(mpsc::Sender::downgrade).collect())
    }

    /// The shard of a routing value.
    pub(super) fn of(&self, route: u32) -> mpsc::WeakSender<ShardMsg> {
        self.0[shard_of(route, self.0.len())].clone()
    }
}

struct Outgoing {
    to: mpsc::WeakSender<ShardMsg>,
    message: ShardMsg,
}

/// The messages of one shard to others.
pub(super) struct OutgoingQueue {
    queue: mpsc::UnboundedSender<Outgoing>,
    /// The receiving end, until [`OutgoingQueue::start_delivery`] takes it.
    receiver: Option<mpsc::UnboundedReceiver<Outgoing>>,
}

impl OutgoingQueue {
    pub(super) fn new() -> Self {
        let (queue, receiver) = mpsc::unbounded_channel();
        OutgoingQueue { queue, receiver: Some(receiver) }
    }

    /// Adds a message to the end of the queue.
    pub(super) fn send(&self, to: mpsc::WeakSender<ShardMsg>, message: ShardMsg) {
        // An error: the delivery task has ended, because the runtime ends.
        let _ = self.queue.send(Outgoing { to, message });
    }

    /// Starts the delivery task. It runs until this value is dropped.
    pub(super) fn start_delivery(&mut self) {
        let Some(mut receiver) = self.receiver.take() else { return };
        tokio::spawn(async move {
            while let Some(Outgoing { to, message }) = receiver.recv().await {
                if let Some(to) = to.upgrade() {
                    // An error: that shard has ended.
                    let _ = to.send(message).await;
                }
            }
        });
    }
}

//! The writing side of one connection in its shard: a sink and what waits for it.

use bytes::Bytes;
use lianmai_protocol::CloseCode;
use lianmai_signal_engine::{ConnId, Outbox};
use tokio::sync::mpsc;

use super::ShardMsg;
use crate::socket::frame;
use crate::socket::halves::{NotWritten, Sink};

pub(super) struct Slot {
    sink: Sink,
    outbox: Outbox,
    /// A task waits until the sink takes bytes again.
    blocked: bool,
    /// In the list of connections to write at the end of the turn.
    pub(super) dirty: bool,
}

impl Slot {
    pub(super) fn new(sink: Sink) -> Self {
        Slot { sink, outbox: Outbox::default(), blocked: false, dirty: false }
    }

    pub(super) fn push(&mut self, frame: Bytes) {
        self.outbox.push(frame);
    }

    /// Whether more waits than a slow reader may have waiting.
    pub(super) fn lags(&self, max_lag: usize) -> bool {
        self.outbox.lags(max_lag)
    }

    /// Writes what the sink takes; the rest waits for a task that says when to go on. `false` when the
    /// socket is gone.
    pub(super) fn write(&mut self, conn: ConnId, shard: &mpsc::Sender<ShardMsg>) -> bool {
        if self.blocked || self.outbox.is_empty() {
            return true;
        }
        match self.sink.try_write(&mut self.outbox) {
            Ok(()) => true,
            Err(NotWritten::Gone) => false,
            Err(NotWritten::Blocked) => {
                self.blocked = true;
                let (sink, shard) = (self.sink.clone(), shard.clone());
                tokio::spawn(async move {
                    let message = if sink.ready().await {
                        ShardMsg::Writable(conn)
                    } else {
                        ShardMsg::Input(lianmai_signal_engine::Input::Lagging { conn })
                    };
                    drop(sink);
                    let _ = shard.send(message).await;
                });
                true
            }
        }
    }

    pub(super) fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Writes what the sink takes now, `last` behind all else, and lets go of it.
    pub(super) fn end(mut self, last: Bytes) {
        if !self.blocked {
            self.outbox.push(last);
            let _ = self.sink.try_write(&mut self.outbox);
        }
    }

    /// Sends the close frame behind what waits, and ends the connection. Who is too slow gets only the rest
    /// of the frame that was begun.
    pub(super) fn close(self, code: CloseCode) {
        let Slot { sink, mut outbox, .. } = self;
        if code == CloseCode::SLOW_READER {
            outbox.keep_begun();
        }
        outbox.push(frame::close(code));
        // At once, since a server that stops may not get to its tasks any more; the rest in a task.
        let _ = sink.try_write(&mut outbox);
        tokio::spawn(sink.finish(outbox));
    }
}

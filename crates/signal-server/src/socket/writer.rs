//! The writing side of one connection: a sink and what waits for it. Comes in: frames. Goes out: bytes, as far as the
//! sink takes them. Deliberately absent: who goes on when the sink takes bytes again; the owner is told to wait.

use bytes::Bytes;
use lianmai_protocol::CloseCode;
use lianmai_signal_engine::Outbox;

use super::frame;
use super::halves::{NotWritten, Sink, Wait};

/// The writing counterpart of a [`super::reader::Reader`].
pub(crate) struct Writer {
    sink: Sink,
    outbox: Outbox,
    /// The owner waits until the sink takes bytes again.
    blocked: bool,
}

/// What came of writing.
pub(crate) enum Written {
    /// All that waits is written, or somebody waits for the sink already.
    Done,
    /// The sink is full: wait for it, then call [`Writer::unblock`].
    Blocked(Wait),
    /// The socket is gone.
    Gone,
}

impl Writer {
    pub(crate) fn new(sink: Sink) -> Self {
        Writer { sink, outbox: Outbox::default(), blocked: false }
    }

    pub(crate) fn push(&mut self, frame: Bytes) {
        self.outbox.push(frame);
    }

    /// Whether more waits than a slow reader may have waiting.
    pub(crate) fn lags(&self, max_lag: usize) -> bool {
        self.outbox.lags(max_lag)
    }

    /// Writes what the sink takes.
    pub(crate) fn write(&mut self) -> Written {
        if self.blocked || self.outbox.is_empty() {
            return Written::Done;
        }
        match self.sink.try_write(&mut self.outbox) {
            Ok(()) => Written::Done,
            Err(NotWritten::Gone) => Written::Gone,
            Err(NotWritten::Blocked) => {
                self.blocked = true;
                Written::Blocked(self.sink.wait())
            }
        }
    }

    pub(crate) fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Writes what the sink takes now, `last` behind all else, and lets go of it.
    pub(crate) fn end(mut self, last: Bytes) {
        if !self.blocked {
            self.outbox.push(last);
            let _ = self.sink.try_write(&mut self.outbox);
        }
    }

    /// Sends the close frame behind what waits, and ends the connection. Who is too slow gets only the rest
    /// of the frame that was begun.
    pub(crate) fn close(self, code: CloseCode) {
        let Writer { sink, mut outbox, .. } = self;
        if code == CloseCode::SLOW_READER {
            outbox.keep_begun();
        }
        outbox.push(frame::close(code));
        // At once, since a server that stops may not get to its tasks any more; the rest in a task.
        let _ = sink.try_write(&mut outbox);
        tokio::spawn(sink.finish(outbox));
    }
}

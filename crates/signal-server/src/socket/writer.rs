//! The writing side of one connection: a sink and its outbox. Comes in: frames. Goes out: bytes, as far as the sink
//! accepts them. Deliberately absent: waiting until the sink accepts bytes again; the owner does that.

use bytes::Bytes;
use lianmai_protocol::CloseCode;
use lianmai_signal_engine::Outbox;

use super::frame;
use super::halves::{NotWritten, Sink, Wait};

/// The writing counterpart of a [`super::reader::Reader`].
pub(crate) struct Writer {
    sink: Sink,
    outbox: Outbox,
    /// The owner waits until the sink accepts bytes again.
    blocked: bool,
}

/// The result of a write.
pub(crate) enum Written {
    /// Everything is written, or the owner already waits for the sink.
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

    /// Whether more bytes wait than a slow reader may have.
    pub(crate) fn lags(&self, max_lag: usize) -> bool {
        self.outbox.lags(max_lag)
    }

    /// Writes as much as the sink accepts.
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

    /// Writes as much as the sink accepts now, with `last` at the end, and drops it.
    pub(crate) fn end(mut self, last: Bytes) {
        if !self.blocked {
            self.outbox.push(last);
            let _ = self.sink.try_write(&mut self.outbox);
        }
    }

    /// Sends the close frame after the waiting frames, and ends the connection. A slow reader gets only the rest of the
    /// frame that was begun.
    pub(crate) fn close(self, code: CloseCode) {
        let Writer { sink, mut outbox, .. } = self;
        if code == CloseCode::SLOW_READER {
            outbox.keep_begun();
        }
        outbox.push(frame::close(code));
        // The first write happens now, because a stopping server may not run its tasks any more. A task writes the
        // rest.
        let _ = sink.try_write(&mut outbox);
        tokio::spawn(sink.finish(outbox));
    }
}

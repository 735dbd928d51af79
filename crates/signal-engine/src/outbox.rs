//! What waits for one connection: frames in order, bounded in bytes. Comes in: frames, and how many bytes
//! the socket took. Goes out: slices to write. The shell keeps one per connection and only moves bytes.
//!
//! Deliberately absent: the socket, and what to do with a connection that lags (the engine decides).

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// More bytes wait than the bound allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagging;

/// Frames that wait for one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<Bytes>,
    bytes: usize,
    /// Part of the first frame is written.
    begun: bool,
}

impl Outbox {
    /// Adds bytes behind what waits. Always adds, so that a close can follow.
    ///
    /// # Errors
    /// [`Lagging`] when more than `max_bytes` wait now.
    pub fn push(&mut self, frame: Bytes, max_bytes: usize) -> Result<(), Lagging> {
        self.bytes += frame.len();
        self.waiting.push_back(frame);
        if self.bytes > max_bytes { Err(Lagging) } else { Ok(()) }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The bytes that wait, in order, for one vectored write.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.waiting.iter().map(AsRef::as_ref)
    }

    /// Drops the first `written` bytes, which the socket took. Memory of an emptied queue is given back.
    pub fn advance(&mut self, mut written: usize) {
        self.bytes -= written.min(self.bytes);
        while let Some(first) = self.waiting.front_mut() {
            if first.len() > written {
                first.advance(written);
                self.begun |= written > 0;
                return;
            }
            self.begun = false;
            written -= first.len();
            self.waiting.pop_front();
        }
        self.waiting = VecDeque::new();
    }

    /// Drops everything but the rest of a frame whose begin is written: a close frame may follow.
    pub fn keep_begun(&mut self) {
        self.waiting.truncate(usize::from(self.begun));
        self.bytes = self.waiting.front().map_or(0, Bytes::len);
    }

    /// Takes everything that waits.
    pub fn take(&mut self) -> VecDeque<Bytes> {
        self.bytes = 0;
        self.begun = false;
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_writes_keep_order_and_count() {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from_static(b"hello"), 8).unwrap();
        assert_eq!(outbox.push(Bytes::from_static(b"world"), 8), Err(Lagging));
        outbox.advance(7);
        let rest: Vec<u8> = outbox.slices().flatten().copied().collect();
        assert_eq!(rest, b"rld");
        assert_eq!(outbox.bytes(), 3);
        outbox.push(Bytes::from_static(b"dropped"), 8).unwrap_err();
        outbox.keep_begun();
        assert_eq!(outbox.bytes(), 3);
        outbox.advance(3);
        assert!(outbox.is_empty());
    }
}

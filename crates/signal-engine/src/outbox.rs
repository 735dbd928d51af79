//! Frames that wait for one connection, in order. Comes in: frames, and how many bytes the socket took. Goes out:
//! slices to write, and whether too much waits. The shell keeps one per connection and only moves bytes.
//!
//! Deliberately absent: the socket, and the treatment of a connection that lags (the engine decides).

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// What a waiting frame costs besides its bytes: its place in the queue and its share of a buffer.
const FRAME_COST: usize = 64;

/// Frames that wait for one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<Bytes>,
    bytes: usize,
    /// Part of the first frame is written.
    begun: bool,
}

impl Outbox {
    /// Adds a frame at the end.
    pub fn push(&mut self, frame: Bytes) {
        if !frame.is_empty() {
            self.bytes += frame.len();
            self.waiting.push_back(frame);
        }
    }

    /// Whether more than `max_bytes` wait, a cost for each frame included. Ask after the socket has taken all that it
    /// can: before, it says nothing about the reader.
    #[must_use]
    pub fn lags(&self, max_bytes: usize) -> bool {
        self.bytes + self.waiting.len() * FRAME_COST > max_bytes
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

    /// Drops everything but the rest of a frame that is written in part, so that a close frame can follow.
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

    /// Proves no rule of the protocol: bytes leave in order and are counted.
    #[test]
    fn partial_writes_keep_order_and_count() {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from_static(b"hello"));
        outbox.push(Bytes::from_static(b"world"));
        assert!(outbox.lags(10 + 2 * FRAME_COST - 1) && !outbox.lags(10 + 2 * FRAME_COST));
        outbox.advance(7);
        let rest: Vec<u8> = outbox.slices().flatten().copied().collect();
        assert_eq!(rest, b"rld");
        assert_eq!(outbox.bytes(), 3);
        outbox.push(Bytes::from_static(b"dropped"));
        outbox.keep_begun();
        assert_eq!(outbox.bytes(), 3);
        outbox.advance(3);
        assert!(outbox.is_empty());
    }
}

//! The bytes of one message.
//!
//! In: bytes, with the expected length of the message. Out: shared [`Bytes`]. Absent: what the bytes mean, and a bound
//! on their number; the caller keeps it.
//!
//! A long message gets memory pages of its own, which return to the system as soon as its last holder drops it. On the
//! heap, short allocations between long messages would fragment the memory, and the process would never give it back.

use bytes::Bytes;
use memmap2::MmapMut;

/// Messages of at least this many bytes get pages of their own.
const LONG: usize = 128 * 1024;

/// A buffer to which bytes are appended.
#[derive(Debug)]
pub(crate) enum Block {
    Short(Vec<u8>),
    Long { pages: MmapMut, length: usize },
}

impl Default for Block {
    fn default() -> Self {
        Block::Short(Vec::new())
    }
}

impl Block {
    /// An empty buffer with room for `capacity` bytes.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        if capacity >= LONG
            && let Ok(pages) = MmapMut::map_anon(capacity)
        {
            return Block::Long { pages, length: 0 };
        }
        Block::Short(Vec::with_capacity(capacity))
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Block::Short(bytes) => bytes.len(),
            Block::Long { length, .. } => *length,
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        match self {
            Block::Short(bytes) => bytes.capacity(),
            Block::Long { pages, .. } => pages.len(),
        }
    }

    /// Appends bytes. If they do not fit, the buffer grows to exactly the length that it needs.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.grow(self.len() + bytes.len());
        match self {
            Block::Short(to) => to.extend_from_slice(bytes),
            Block::Long { pages, length } => {
                let end = *length + bytes.len();
                pages[*length..end].copy_from_slice(bytes);
                *length = end;
            }
        }
    }

    /// Makes room for at least `capacity` bytes in total.
    pub(crate) fn grow(&mut self, capacity: usize) {
        if capacity <= self.capacity() {
            return;
        }
        let mut larger = Block::with_capacity(capacity);
        larger.put(self.as_ref());
        *self = larger;
    }

    /// The appended bytes, as a shared buffer.
    pub(crate) fn share(self) -> Bytes {
        match self {
            Block::Short(bytes) => bytes.into(),
            long @ Block::Long { .. } => Bytes::from_owner(long),
        }
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        match self {
            Block::Short(bytes) => bytes,
            Block::Long { pages, length } => &pages[..*length],
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: bytes come out as they went in.

    use super::*;

    #[test]
    fn bytes_are_read_back_unchanged() {
        let cases = [(0, 3), (10, 70_000), (LONG, 1), (LONG + 7, 50_000), (0, 90_000)];
        for (capacity, pieces) in cases {
            let mut block = Block::with_capacity(capacity);
            let mut expected = Vec::new();
            for piece in 0..pieces {
                let bytes = [piece as u8, 1, 2, 3];
                block.put(&bytes);
                expected.extend_from_slice(&bytes);
                if piece % 1_000 == 0 {
                    block.grow(2 * block.len());
                }
            }
            assert_eq!(block.len(), expected.len());
            assert!(block.capacity() >= block.len());
            assert_eq!(block.share(), expected);
        }
    }

    #[test]
    fn only_long_blocks_have_separate_pages() {
        assert!(matches!(Block::with_capacity(LONG - 1), Block::Short(_)));
        assert!(matches!(Block::with_capacity(LONG), Block::Long { .. }));
        let mut block = Block::default();
        block.put(&[7; LONG]);
        assert!(matches!(block, Block::Long { length: LONG, .. }));
    }
}

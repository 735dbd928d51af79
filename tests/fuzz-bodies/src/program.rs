//! Bytes interpreted as a small program. In: the input of a target. Out: operations, numbers, texts. Deliberately
//! absent: errors; after the end of the bytes come zeros and empty texts.

/// Reads operands from the front of an input.
pub(crate) struct Program<'a> {
    rest: &'a [u8],
}

impl<'a> Program<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Program { rest: input }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// The next two bytes.
    pub(crate) fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// The next four bytes.
    pub(crate) fn long(&mut self) -> u32 {
        u32::from(self.word()) << 16 | u32::from(self.word())
    }

    /// The next eight bytes.
    pub(crate) fn huge(&mut self) -> u64 {
        u64::from(self.long()) << 32 | u64::from(self.long())
    }

    /// Up to `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (head, tail) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = tail;
        head
    }

    /// As many bytes as the value of the next byte.
    pub(crate) fn short(&mut self) -> &'a [u8] {
        let count = self.byte();
        self.take(usize::from(count))
    }

    /// As many bytes as the value of the next two bytes.
    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let count = self.word();
        self.take(usize::from(count))
    }

    /// Like [`Program::short`], as text.
    pub(crate) fn text(&mut self) -> String {
        String::from_utf8_lossy(self.short()).into_owned()
    }

    /// One of several.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}

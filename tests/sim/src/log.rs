//! The log of a world: one hashed line for everything that happens. Two runs of a seed are equal exactly if their
//! hashes are. Comes in: lines. Goes out: a hash, and the text if it was asked for.

use std::fmt::{self, Write as _};

/// The log of one world.
#[derive(Debug)]
pub(crate) struct Log {
    hash: u64,
    lines: u64,
    line: String,
    /// All lines, if they were asked for.
    text: Option<String>,
}

impl Log {
    pub(crate) fn new(keep: bool) -> Self {
        Log {
            hash: 0xcbf2_9ce4_8422_2325,
            lines: 0,
            line: String::new(),
            text: keep.then(String::new),
        }
    }

    pub(crate) fn line(&mut self, now: u64, what: fmt::Arguments<'_>) {
        self.line.clear();
        let _ = writeln!(self.line, "{:>9} {what}", Seconds(now));
        self.hash = mix(self.hash, self.line.as_bytes());
        self.lines += 1;
        if let Some(text) = &mut self.text {
            text.push_str(&self.line);
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    pub(crate) fn take_text(&mut self) -> String {
        self.text.take().unwrap_or_default()
    }
}

/// Milliseconds shown as seconds.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{:03}", self.0 / 1000, self.0 % 1000))
    }
}

/// A hash that is the same in every process; takes eight bytes at a time.
pub(crate) fn mix(mut hash: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = step(hash, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    step(hash, u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56)
}

fn step(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95) ^ (hash >> 32)
}

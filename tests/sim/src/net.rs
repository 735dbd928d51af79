//! Sockets as pairs of byte pipes. Comes in: bytes, and faults on the way. Goes out: frames, reassembled, or the end.
//! The framing is a short form of RFC 6455: one byte is the type, four are the length.
//!
//! Deliberately absent: the readers and writers (`server/`, `client.rs`, `raw.rs`), and the clock.
//!
//! ```text
//!   write -> [chunks under way, each with its time of arrival] -> deliver -> [pieces] -> frames
//!             bounded together with what the reader has not read
//! ```

use std::collections::VecDeque;

/// Number of a socket; never used twice. The simulated shell uses it as the number of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId(pub(crate) u64);

/// Direction of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Up,
    Down,
}

/// The owner of the client's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Client(usize),
    Raw(usize),
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping,
    Pong,
    Close(Option<u16>),
}

const HEAD: usize = 5;

impl Frame {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (kind, payload): (u8, &[u8]) = match self {
            Frame::Text(text) => (1, text),
            Frame::Binary(bytes) => (2, bytes),
            Frame::Close(None) => (8, &[]),
            Frame::Close(Some(code)) => return with_head(8, &code.to_be_bytes()),
            Frame::Ping => (9, &[]),
            Frame::Pong => (10, &[]),
        };
        with_head(kind, payload)
    }
}

fn with_head(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + payload.len());
    bytes.push(kind);
    let len = u32::try_from(payload.len()).expect("no frame is so long");
    bytes.extend(len.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Assembles frames from bytes that arrive in any pieces.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    bytes: Vec<u8>,
    at: usize,
}

impl Reader {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.at == self.bytes.len() {
            self.bytes.clear();
            self.at = 0;
        }
        self.bytes.extend(bytes);
    }

    pub(crate) fn next(&mut self) -> Option<Frame> {
        let rest = &self.bytes[self.at..];
        let (head, body) = rest.split_first_chunk::<HEAD>()?;
        let [kind, len @ ..] = *head;
        let len = usize::try_from(u32::from_be_bytes(len)).ok()?;
        let payload = body.get(..len)?;
        let frame = match kind {
            1 => Frame::Text(payload.to_vec()),
            2 => Frame::Binary(payload.to_vec()),
            9 => Frame::Ping,
            10 => Frame::Pong,
            _ => Frame::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
        };
        self.at += HEAD + len;
        Some(frame)
    }
}

/// One direction of a socket.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// Bytes under way, or arrived and not read, with their times of arrival.
    chunks: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
    /// Most bytes in `chunks`.
    pub(crate) capacity: usize,
    /// Shortest and longest delay of a chunk in milliseconds.
    pub(crate) delay: (u64, u64),
    /// Nothing arrives any more, and neither side is informed.
    pub(crate) black: bool,
    /// Nothing arrives before this time.
    pub(crate) stalled_until: u64,
    /// Time at which the end arrives after the bytes under way, once the writer or the network has closed.
    fin: Option<u64>,
    last_at: u64,
    pub(crate) reader: Reader,
}

impl Pipe {
    pub(crate) fn new(capacity: usize, delay: (u64, u64)) -> Self {
        Pipe {
            chunks: VecDeque::new(),
            bytes: 0,
            capacity,
            delay,
            black: false,
            stalled_until: 0,
            fin: None,
            last_at: 0,
            reader: Reader::default(),
        }
    }

    pub(crate) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.bytes)
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.fin.is_some()
    }

    /// Takes as many bytes as there is room for. Returns their number and the time of arrival.
    pub(crate) fn write(&mut self, now: u64, bytes: &[u8], delay: u64) -> (usize, u64) {
        let taken = bytes.len().min(self.room());
        let at = (now + delay).max(self.last_at).max(self.stalled_until);
        if taken > 0 && self.fin.is_none() {
            self.last_at = at;
            self.bytes += taken;
            self.chunks.push_back((at, bytes[..taken].to_vec()));
        }
        (taken, at)
    }

    /// The writer closes: the end arrives after the bytes under way. Returns when.
    pub(crate) fn finish(&mut self, now: u64, delay: u64) -> u64 {
        let at = (now + delay).max(self.last_at).max(self.stalled_until);
        *self.fin.get_or_insert(at)
    }

    /// The network is cut; with `lose`, the bytes under way are lost.
    pub(crate) fn cut(&mut self, at: u64, lose: bool) {
        if lose {
            self.chunks.clear();
            self.bytes = 0;
        }
        self.black = false;
        self.stalled_until = 0;
        for (arrives, _) in &mut self.chunks {
            *arrives = (*arrives).min(at);
        }
        self.fin = Some(at);
    }

    /// Holds everything back until then. Returns until when the pipe is stalled.
    pub(crate) fn stall(&mut self, until: u64) -> u64 {
        self.stalled_until = self.stalled_until.max(until);
        for (arrives, _) in &mut self.chunks {
            *arrives = (*arrives).max(until);
        }
        self.last_at = self.last_at.max(until);
        if let Some(fin) = &mut self.fin {
            *fin = (*fin).max(until);
        }
        self.stalled_until
    }

    /// Passes at most `most` arrived bytes to the frame reader. True if the end was reached.
    pub(crate) fn deliver(&mut self, now: u64, mut most: usize) -> bool {
        if self.black {
            return false;
        }
        while most > 0
            && let Some((at, chunk)) = self.chunks.front_mut()
            && *at <= now
        {
            let taken = chunk.len().min(most);
            self.reader.push(&chunk[..taken]);
            most -= taken;
            self.bytes -= taken;
            if taken == chunk.len() {
                self.chunks.pop_front();
            } else {
                chunk.drain(..taken);
            }
        }
        self.chunks.is_empty() && self.fin.is_some_and(|fin| fin <= now)
    }

    /// Drops bytes that will not be read.
    pub(crate) fn forget(&mut self) {
        self.chunks = VecDeque::new();
        self.bytes = 0;
        self.reader = Reader::default();
    }
}

/// One socket.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) end: End,
    pub(crate) up: Pipe,
    pub(crate) down: Pipe,
    /// Whether the client, and whether the server, has it open.
    pub(crate) client_open: bool,
    pub(crate) server_open: bool,
    /// The server accepted it.
    pub(crate) accepted: bool,
    /// The process that holds the server's end.
    pub(crate) process: u64,
    /// Randomness of this socket alone.
    pub(crate) rng: crate::rng::Rng,
    /// When a fault last affected it.
    pub(crate) disturbed_at: u64,
}

impl Link {
    pub(crate) fn pipe(&mut self, way: Way) -> &mut Pipe {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }

    pub(crate) fn delay(&mut self, way: Way) -> u64 {
        let (low, high) = self.pipe(way).delay;
        self.rng.between(low, high)
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: the sockets of the simulator.

    use super::*;

    #[test]
    fn frames_survive_any_cut_into_pieces() {
        let frames = [
            Frame::Text(b"hello".to_vec()),
            Frame::Close(Some(4001)),
            Frame::Ping,
            Frame::Text(vec![]),
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        for size in 1..bytes.len() {
            let mut reader = Reader::default();
            let mut found = Vec::new();
            for piece in bytes.chunks(size) {
                reader.push(piece);
                while let Some(frame) = reader.next() {
                    found.push(frame);
                }
            }
            assert_eq!(found, frames);
        }
    }

    #[test]
    fn a_pipe_is_bounded_and_keeps_order() {
        let mut pipe = Pipe::new(4, (0, 0));
        assert_eq!(pipe.write(0, b"abcdef", 9), (4, 9));
        assert_eq!(pipe.write(0, b"x", 1).0, 0);
        assert!(!pipe.deliver(8, 99));
        pipe.finish(0, 0);
        assert!(!pipe.deliver(9, 2) && pipe.room() == 2);
        assert!(pipe.deliver(9, 99));
    }
}

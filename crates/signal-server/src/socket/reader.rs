//! Reads WebSocket messages from a connection. Comes in: a readable half. Goes out: messages, and pongs that the owner
//! of the sink must write. An idle connection holds no buffer: bytes are read into the stack, and only an incomplete
//! frame is kept (tungstenite's context keeps its largest buffer for ever).
//!
//! Deliberately absent: UTF-8 checks, which the codec does.

use std::io::Cursor;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use lianmai_protocol::limits::MAX_CLIENT_FRAME_BYTES;
use lianmai_signal_engine::lobby::LOBBY_BYTES;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::frame;
use super::halves::Source;

/// Size of one read in bytes.
const READ_BYTES: usize = 4 * 1024;
/// Longest payload of a control frame (RFC 6455 §5.5).
const MAX_CONTROL_BYTES: u64 = 125;
/// Maximum number of empty fragments of one text that are not its last. RFC 6455 sets no limit. But peers are limited
/// by the number of their texts, and empty fragments without end never complete one.
const MAX_EMPTY_FRAGMENTS: u8 = 16;
/// A peer that only listens may send [`LOBBY_BYTES`] in each such period.
const LISTENER_TIME: Duration = Duration::from_secs(60);

/// One action of the peer.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A text message.
    Text(Bytes),
    /// A ping or pong. The reply is written as it is; it is empty for a pong.
    Alive(Bytes),
    /// A close frame, and the answer to it. Nothing follows in either direction.
    Close(Bytes),
    /// A binary message, a message that is too long, or a frame that breaks RFC 6455. The reader reads nothing after
    /// it.
    Violation,
    /// The peer sent more than it may before it joins, or while it only listens. The reader reads nothing after it.
    TooMuch,
}

/// The number of bytes that a peer may still send.
#[derive(Debug)]
enum ByteLimit {
    /// Bytes left until the peer joins.
    Lobby(u64),
    /// Bytes left until [`LISTENER_TIME`] is over; then the full number is allowed again.
    Listener { left: u64, since: Instant },
    /// No limit here: the shard limits a joined peer.
    Joined,
}

impl ByteLimit {
    /// The bytes that a frame costs: payload and head. In the lobby a complete text costs only its payload, because the
    /// lobby refuses empty texts.
    fn cost(&self, header: &FrameHeader, head: usize, length: u64) -> u64 {
        match (self, header.opcode) {
            (ByteLimit::Lobby(_), OpCode::Data(Data::Text)) if header.is_final => length,
            _ => length.saturating_add(head as u64),
        }
    }

    /// Subtracts the cost of a frame. Returns `false` and subtracts nothing when less is left. `is_complete` says whether
    /// the whole frame has arrived; before that, nothing is subtracted either.
    fn take(&mut self, cost: u64, is_complete: bool) -> bool {
        if let ByteLimit::Listener { left, since } = self
            && cost > *left
            && since.elapsed() >= LISTENER_TIME
        {
            *self = ByteLimit::listener();
        }
        let (ByteLimit::Lobby(left) | ByteLimit::Listener { left, .. }) = self else { return true };
        let rest = left.checked_sub(cost);
        if let Some(rest) = rest.filter(|_| is_complete) {
            *left = rest;
        }
        rest.is_some()
    }

    fn listener() -> Self {
        ByteLimit::Listener { left: LOBBY_BYTES as u64, since: Instant::now() }
    }
}

/// The reading side of a WebSocket.
pub(crate) struct Reader {
    source: Source,
    /// Bytes of an incomplete frame.
    partial: BytesMut,
    /// Fragments of an incomplete text message.
    fragments: Option<BytesMut>,
    limit: ByteLimit,
    /// The number of empty ones among these fragments.
    empty: u8,
    /// A close frame or a violation arrived: the rest is ignored.
    ended: bool,
}

/// The result of one frame.
enum FrameOutcome {
    Incoming(Incoming),
    /// The frame was a fragment: continue.
    More,
}

impl Reader {
    /// `early` holds the bytes that arrived with the upgrade request.
    pub(crate) fn new(source: Source, early: &[u8]) -> Self {
        let partial = BytesMut::from(early);
        let limit = ByteLimit::Lobby(LOBBY_BYTES as u64);
        Reader { source, partial, fragments: None, limit, empty: 0, ended: false }
    }

    /// The peer has joined: the limits of the lobby no longer apply.
    pub(crate) fn set_joined(&mut self) {
        self.limit = ByteLimit::Joined;
    }

    /// From now on the peer only listens. It may send pings without end, within the limit of [`ByteLimit::Listener`].
    pub(crate) fn set_listener(&mut self) {
        self.limit = ByteLimit::listener();
    }

    /// The next action of the peer; `None` when the connection has ended. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Incoming> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// Reads and discards until the peer ends the connection. A close with unread bytes would reset the connection, and
    /// the peer might lose the last bytes that were written.
    pub(crate) async fn drain(&mut self) {
        self.partial = BytesMut::new();
        self.fragments = None;
        // A buffer that lives across an await would be part of each connection's task.
        std::future::poll_fn(|cx| {
            loop {
                let mut bytes = [0; READ_BYTES];
                let mut buffer = ReadBuf::new(&mut bytes);
                match ready!(Pin::new(&mut self.source).poll_read(cx, &mut buffer)) {
                    Ok(()) if !buffer.filled().is_empty() => {}
                    _ => return Poll::Ready(()),
                }
            }
        })
        .await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            match self.take_frame() {
                Some(FrameOutcome::Incoming(incoming)) => {
                    self.ended |= !matches!(incoming, Incoming::Text(_) | Incoming::Alive(_));
                    return Poll::Ready(Some(incoming));
                }
                Some(FrameOutcome::More) => continue,
                None => {}
            }
            let mut bytes = [0; READ_BYTES];
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.source).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    self.partial.extend_from_slice(buffer.filled());
                }
                _ => return Poll::Ready(None),
            }
        }
    }

    /// Takes one whole frame from the bytes that were read.
    fn take_frame(&mut self) -> Option<FrameOutcome> {
        if self.partial.is_empty() {
            return None;
        }
        let violation = Some(FrameOutcome::Incoming(Incoming::Violation));
        let mut cursor = Cursor::new(&self.partial[..]);
        let (header, length) = match FrameHeader::parse(&mut cursor) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return None,
            Err(_) => return violation,
        };
        let head = usize::try_from(cursor.position()).ok()?;
        let Some(mask) = header.mask else { return violation };
        if header.rsv1 || header.rsv2 || header.rsv3 || !self.is_allowed(&header, length) {
            return violation;
        }
        let cost = self.limit.cost(&header, head, length);
        let is_complete = (self.partial.len() as u64).saturating_sub(head as u64) >= length;
        if !self.limit.take(cost, is_complete) {
            return Some(FrameOutcome::Incoming(Incoming::TooMuch));
        }
        if !is_complete {
            return None;
        }
        // The whole frame is in `partial`, so its length fits.
        let length = usize::try_from(length).ok()?;
        self.partial.advance(head);
        let mut payload = self.partial.split_to(length);
        if self.partial.is_empty() {
            self.partial = BytesMut::new();
        }
        // Chunks of four bytes, which the compiler vectorizes.
        for word in payload.chunks_mut(mask.len()) {
            for (byte, key) in word.iter_mut().zip(mask) {
                *byte ^= key;
            }
        }
        Some(self.step(&header, payload))
    }

    /// Whether a frame fits into its message and its bound.
    fn is_allowed(&self, header: &FrameHeader, length: u64) -> bool {
        let begun = self.fragments.as_ref().map_or(0, BytesMut::len) as u64;
        let fits = begun.saturating_add(length) <= MAX_CLIENT_FRAME_BYTES as u64
            && (length > 0 || header.is_final || self.empty < MAX_EMPTY_FRAGMENTS);
        match header.opcode {
            OpCode::Data(Data::Text) => self.fragments.is_none() && fits,
            OpCode::Data(Data::Continue) => self.fragments.is_some() && fits,
            OpCode::Control(Control::Close | Control::Ping | Control::Pong) => {
                header.is_final && length <= MAX_CONTROL_BYTES
            }
            OpCode::Data(_) | OpCode::Control(_) => false,
        }
    }

    fn step(&mut self, header: &FrameHeader, payload: BytesMut) -> FrameOutcome {
        match header.opcode {
            OpCode::Control(Control::Close) => {
                FrameOutcome::Incoming(Incoming::Close(frame::close_reply(&payload)))
            }
            OpCode::Control(Control::Ping) => {
                FrameOutcome::Incoming(Incoming::Alive(frame::pong(&payload)))
            }
            OpCode::Control(_) => FrameOutcome::Incoming(Incoming::Alive(Bytes::new())),
            OpCode::Data(_) => {
                let is_empty = payload.is_empty();
                let message = match mem::take(&mut self.fragments) {
                    Some(mut fragments) => {
                        fragments.extend_from_slice(&payload);
                        fragments
                    }
                    None => payload,
                };
                if header.is_final {
                    self.empty = 0;
                    FrameOutcome::Incoming(Incoming::Text(message.freeze()))
                } else {
                    self.empty += u8::from(is_empty);
                    self.fragments = Some(message);
                    FrameOutcome::More
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;

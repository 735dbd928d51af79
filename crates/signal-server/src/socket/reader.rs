//! Reads WebSocket messages from a connection. Comes in: a readable half. Goes out: messages, and pongs to be
//! written by the owner of the sink. A connection that is idle holds no buffer: bytes are read through the
//! stack, and only what is incomplete is kept (tungstenite's context keeps its largest buffer for ever).
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

/// Bytes that are read at a time.
const READ_BYTES: usize = 4 * 1024;
/// Longest payload of a control frame (RFC 6455 §5.5).
const MAX_CONTROL_BYTES: u64 = 125;
/// Fragments of one text that may hold nothing and yet not be its last. RFC 6455 forbids none, but a text is what a peer
/// is counted by, and it would never come.
const MAX_EMPTY_FRAGMENTS: u8 = 16;
/// Who only listens may say [`LOBBY_BYTES`] in each of these.
const LISTENER_TIME: Duration = Duration::from_secs(60);

/// One thing that a peer did.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A text message.
    Text(Bytes),
    /// A ping or pong; the reply, if any, is to be written as it is.
    Alive(Bytes),
    /// A close frame, and its answer: nothing follows, either way.
    Close(Bytes),
    /// A binary message, one that is too long, or a frame that breaks RFC 6455. Nothing sensible follows.
    Violation,
    /// More than a peer may send before it joins, or while it only listens. Nothing is read any more.
    TooMuch,
}

/// What a peer may still send.
#[derive(Debug)]
enum Bound {
    /// So many bytes until it joins.
    Lobby(u64),
    /// So many bytes until [`LISTENER_TIME`] is over, and then as many as at the beginning.
    Listener { left: u64, since: Instant },
    /// Others bound it.
    Joined,
}

impl Bound {
    /// What a frame takes: its payload, and the whole of a frame that can be empty and yet be nothing to refuse. A lobby
    /// refuses an empty text; who listens may say anything, and nobody hears it.
    fn cost(&self, header: &FrameHeader, head: usize, length: u64) -> u64 {
        match (self, header.opcode) {
            (Bound::Lobby(_), OpCode::Data(Data::Text)) if header.is_final => length,
            _ => length.saturating_add(head as u64),
        }
    }

    /// Takes the cost of a frame; `false`, and nothing is taken, when there is not so much left. `has_come` says whether
    /// the frame is there as a whole; before that nothing is taken either.
    fn take(&mut self, cost: u64, has_come: bool) -> bool {
        if let Bound::Listener { left, since } = self
            && cost > *left
            && since.elapsed() >= LISTENER_TIME
        {
            *self = Bound::listener();
        }
        let (Bound::Lobby(left) | Bound::Listener { left, .. }) = self else { return true };
        let rest = left.checked_sub(cost);
        if let Some(rest) = rest.filter(|_| has_come) {
            *left = rest;
        }
        rest.is_some()
    }

    fn listener() -> Self {
        Bound::Listener { left: LOBBY_BYTES as u64, since: Instant::now() }
    }
}

/// The reading side of a WebSocket.
pub(crate) struct Reader {
    source: Source,
    /// Bytes that do not make a frame yet.
    partial: BytesMut,
    /// Fragments of a text message that is not complete.
    fragments: Option<BytesMut>,
    bound: Bound,
    /// Fragments among those that hold nothing.
    empty: u8,
    /// A close frame or a violation came: nothing after it counts.
    over: bool,
}

/// What a frame came to.
enum Step {
    Incoming(Incoming),
    /// A fragment: go on.
    More,
}

impl Reader {
    /// `early` are bytes that arrived with the upgrade request.
    pub(crate) fn new(source: Source, early: &[u8]) -> Self {
        let partial = BytesMut::from(early);
        let bound = Bound::Lobby(LOBBY_BYTES as u64);
        Reader { source, partial, fragments: None, bound, empty: 0, over: false }
    }

    /// The peer has joined: the bounds of the lobby are over.
    pub(crate) fn joined(&mut self) {
        self.bound = Bound::Joined;
    }

    /// The peer only listens from now on: it has pings to send, for ever, and nothing else.
    pub(crate) fn listens(&mut self) {
        self.bound = Bound::listener();
    }

    /// The next thing that the peer did; `None` when the connection is over. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Incoming> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// Reads and forgets until the peer ends the connection: closing with unread bytes would reset it, and the
    /// peer might lose what was written last.
    pub(crate) async fn drain(&mut self) {
        self.partial = BytesMut::new();
        self.fragments = None;
        // A buffer that lives across an await would be part of every connection's task.
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
            if self.over {
                return Poll::Ready(None);
            }
            match self.take_frame() {
                Some(Step::Incoming(incoming)) => {
                    self.over |= !matches!(incoming, Incoming::Text(_) | Incoming::Alive(_));
                    return Poll::Ready(Some(incoming));
                }
                Some(Step::More) => continue,
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

    /// Takes one whole frame from what was read.
    fn take_frame(&mut self) -> Option<Step> {
        if self.partial.is_empty() {
            return None;
        }
        let violation = Some(Step::Incoming(Incoming::Violation));
        let mut cursor = Cursor::new(&self.partial[..]);
        let (header, length) = match FrameHeader::parse(&mut cursor) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return None,
            Err(_) => return violation,
        };
        let head = usize::try_from(cursor.position()).ok()?;
        let Some(mask) = header.mask else { return violation };
        if header.rsv1 || header.rsv2 || header.rsv3 || !self.may_come(&header, length) {
            return violation;
        }
        let cost = self.bound.cost(&header, head, length);
        let has_come = (self.partial.len() as u64).saturating_sub(head as u64) >= length;
        if !self.bound.take(cost, has_come) {
            return Some(Step::Incoming(Incoming::TooMuch));
        }
        if !has_come {
            return None;
        }
        // It is here, so it is no longer than what is here.
        let length = usize::try_from(length).ok()?;
        self.partial.advance(head);
        let mut payload = self.partial.split_to(length);
        if self.partial.is_empty() {
            self.partial = BytesMut::new();
        }
        // Four at a time, which the compiler makes many of.
        for word in payload.chunks_mut(mask.len()) {
            for (byte, key) in word.iter_mut().zip(mask) {
                *byte ^= key;
            }
        }
        Some(self.step(&header, payload))
    }

    /// Whether a frame fits into its message and its bound.
    fn may_come(&self, header: &FrameHeader, length: u64) -> bool {
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

    fn step(&mut self, header: &FrameHeader, payload: BytesMut) -> Step {
        match header.opcode {
            OpCode::Control(Control::Close) => {
                Step::Incoming(Incoming::Close(frame::close_reply(&payload)))
            }
            OpCode::Control(Control::Ping) => {
                Step::Incoming(Incoming::Alive(frame::pong(&payload)))
            }
            OpCode::Control(_) => Step::Incoming(Incoming::Alive(Bytes::new())),
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
                    Step::Incoming(Incoming::Text(message.freeze()))
                } else {
                    self.empty += u8::from(is_empty);
                    self.fragments = Some(message);
                    Step::More
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;

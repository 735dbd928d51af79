//! Reads WebSocket messages from a connection. Comes in: a readable half. Goes out: messages, and pongs to be
//! written by the owner of the sink. A connection that is idle holds no buffer: bytes are read through the
//! stack, and only what is incomplete is kept (tungstenite's context keeps its largest buffer for ever).
//!
//! Deliberately absent: UTF-8 checks, which the codec does.

use std::io::Cursor;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use lianmai_protocol::limits::MAX_CLIENT_FRAME_BYTES;
use lianmai_signal_engine::lobby::LOBBY_BYTES;
use tokio::io::{AsyncRead, ReadBuf};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::frame;
use super::halves::Source;

/// Bytes that are read at a time.
const READ_BYTES: usize = 4 * 1024;
/// Longest payload of a control frame (RFC 6455 §5.5).
const MAX_CONTROL_BYTES: u64 = 125;

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
    /// More than a peer may send before it joins. Nothing is read any more.
    TooMuch,
}

/// The reading side of a WebSocket.
pub(crate) struct Reader {
    source: Source,
    /// Bytes that do not make a frame yet.
    partial: BytesMut,
    /// Fragments of a text message that is not complete.
    fragments: Option<BytesMut>,
    /// Bytes that the peer may still send before it joins; `None` once it did.
    lobby: Option<usize>,
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
        Reader { source, partial, fragments: None, lobby: Some(LOBBY_BYTES), over: false }
    }

    /// The peer has joined: the bounds of the lobby are over.
    pub(crate) fn joined(&mut self) {
        self.lobby = None;
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
        let cost = cost(&header, head, length);
        if self.lobby.is_some_and(|left| cost > left as u64) {
            return Some(Step::Incoming(Incoming::TooMuch));
        }
        // The length is within the bound now.
        let length = usize::try_from(length).ok()?;
        if self.partial.len() < head + length {
            return None;
        }
        if let Some(left) = &mut self.lobby {
            *left = left.saturating_sub(usize::try_from(cost).ok()?);
        }
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
        let fits = begun.saturating_add(length) <= MAX_CLIENT_FRAME_BYTES as u64;
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
                let message = match mem::take(&mut self.fragments) {
                    Some(mut fragments) => {
                        fragments.extend_from_slice(&payload);
                        fragments
                    }
                    None => payload,
                };
                if header.is_final {
                    Step::Incoming(Incoming::Text(message.freeze()))
                } else {
                    self.fragments = Some(message);
                    Step::More
                }
            }
        }
    }
}

/// What a frame takes from what a peer may send before it joins: its payload, and the whole of a frame that
/// can be empty and yet be nothing to refuse.
fn cost(header: &FrameHeader, head: usize, length: u64) -> u64 {
    match header.opcode {
        OpCode::Data(Data::Text) if header.is_final => length,
        _ => length.saturating_add(head as u64),
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;

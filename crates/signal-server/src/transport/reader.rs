//! Reads WebSocket messages from a connection with tungstenite's I/O-free context. Comes in: a readable
//! half. Goes out: messages, and the bytes of control replies, which only the owner of the sink may write.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use lianmai_protocol::limits::MAX_CLIENT_FRAME_BYTES;
use tokio::io::{AsyncRead, ReadBuf};
use tungstenite::Message;
use tungstenite::error::Error;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use super::io::Source;

/// Bytes that are read at a time, and held by each idle connection.
const READ_BUFFER: usize = 1024;

/// One thing that a peer did.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A text message.
    Text(Bytes),
    /// A ping or pong; the reply, if any, is to be written as it is.
    Alive(Bytes),
    /// A binary message, one that is too long, or one that breaks RFC 6455.
    Violation,
}

/// The reading side of a WebSocket.
pub(crate) struct Reader {
    source: Source,
    context: WebSocketContext,
    replies: Vec<u8>,
}

/// Lends a source to tungstenite for one poll: a read that would wait is `WouldBlock`, writes are kept.
struct Poller<'a, 'b> {
    source: &'a mut Source,
    replies: &'a mut Vec<u8>,
    cx: &'a mut Context<'b>,
}

impl Read for Poller<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut *self.source).poll_read(self.cx, &mut buffer) {
            Poll::Ready(Ok(())) => Ok(buffer.filled().len()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Poller<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.replies.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Reader {
    /// `early` are bytes that arrived with the upgrade request.
    pub(crate) fn new(source: Source, early: &[u8]) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(READ_BUFFER)
            .max_message_size(Some(MAX_CLIENT_FRAME_BYTES))
            .max_frame_size(Some(MAX_CLIENT_FRAME_BYTES));
        let context =
            WebSocketContext::from_partially_read(early.to_vec(), Role::Server, Some(config));
        Reader { source, context, replies: Vec::new() }
    }

    /// The next thing that the peer did; `None` when the connection is over. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Incoming> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        let mut poller = Poller { source: &mut self.source, replies: &mut self.replies, cx };
        let incoming = match self.context.read(&mut poller) {
            Ok(Message::Text(text)) => Incoming::Text(Bytes::from(text)),
            Ok(Message::Ping(_) | Message::Pong(_)) => {
                // Makes the context write the pong now.
                let _ = self.context.flush(&mut poller);
                Incoming::Alive(std::mem::take(&mut self.replies).into())
            }
            Ok(Message::Close(_)) => return Poll::Ready(None),
            Ok(_) | Err(Error::Capacity(_) | Error::Utf8(_) | Error::Protocol(_)) => {
                Incoming::Violation
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return Poll::Pending;
            }
            Err(_) => return Poll::Ready(None),
        };
        Poll::Ready(Some(incoming))
    }
}

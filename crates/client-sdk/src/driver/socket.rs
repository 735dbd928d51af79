//! One WebSocket at a time, as something that can be polled. In: an address, text to send. Out: opened, frames, closed.
//! Deliberately absent: the meaning of frames, and the decision when to connect or close.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Sink, SinkExt, StreamExt};
use lianmai_protocol::SUBPROTOCOL;
use lianmai_protocol::limits::{MAX_CLIENT_FRAME_BYTES, MAX_SERVER_FRAME_BYTES};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::session::SocketId;

/// RFC 6455: no close frame arrived.
const LOST: u16 = 1006;
/// Time limit for the close handshake of a closed socket, in the background.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

type WsStream = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Opening = Pin<Box<dyn Future<Output = Result<WsStream, Error>> + Send>>;

/// An event of the socket.
pub(super) enum SocketEvent {
    /// The socket is open.
    Opened,
    /// A text frame arrived.
    Frame(Utf8Bytes),
    /// The socket received data that no server sends. Nothing more is read.
    Unreadable,
    /// The socket is gone, or could not be opened.
    Closed { code: u16, reason: String },
}

/// The host's socket, if it has one.
pub(super) struct Socket {
    id: SocketId,
    state: SocketState,
    outgoing: VecDeque<Message>,
    writing: Writing,
}

/// The state of writing.
#[derive(Default)]
enum Writing {
    #[default]
    Flushed,
    Unflushed,
    /// Writing failed. Data that was received before is still read: it may contain the reason.
    Failed,
}

#[derive(Default)]
enum SocketState {
    #[default]
    None,
    Opening(Opening),
    Open(Box<WsStream>),
}

impl Default for Socket {
    fn default() -> Socket {
        let (state, outgoing, writing) = (SocketState::None, VecDeque::new(), Writing::Flushed);
        Socket { id: SocketId(0), state, outgoing, writing }
    }
}

impl Socket {
    /// Starts to open a socket. An earlier socket that was not closed is dropped, with all its reports.
    pub(super) fn connect(&mut self, id: SocketId, url: String) {
        *self =
            Socket { id, state: SocketState::Opening(Box::pin(open(url))), ..Socket::default() };
    }

    /// Queues a text frame.
    pub(super) fn send(&mut self, text: String) {
        self.outgoing.push_back(Message::text(text));
    }

    /// Closes the socket in the background, after sending the queued frames.
    pub(super) fn close(&mut self, code: u16) {
        let Socket { state, outgoing, .. } = std::mem::take(self);
        if let SocketState::Open(stream) = state {
            let frame = CloseFrame { code: code.into(), reason: "".into() };
            tokio::spawn(close_gracefully(stream, outgoing, Some(frame)));
        }
    }

    /// Writes the queued frames and waits for the next event; reads only if `read` is true. The future may be dropped
    /// at any point without losing anything.
    pub(super) async fn next(&mut self, read: bool) -> (SocketId, SocketEvent) {
        let id = self.id;
        (id, poll_fn(|cx| self.poll(cx, read)).await)
    }

    fn poll(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<SocketEvent> {
        match &mut self.state {
            SocketState::None => Poll::Pending,
            SocketState::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                Ok(stream) => {
                    self.state = SocketState::Open(Box::new(stream));
                    Poll::Ready(SocketEvent::Opened)
                }
                Err(error) => Poll::Ready(self.lost(&error)),
            },
            SocketState::Open(_) => {
                if let Poll::Ready(Err(_)) = self.poll_write(cx) {
                    self.writing = Writing::Failed;
                    self.outgoing.clear();
                }
                if read { self.poll_read(cx) } else { Poll::Pending }
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let SocketState::Open(stream) = &mut self.state else { return Poll::Pending };
        if let Writing::Failed = self.writing {
            self.outgoing.clear();
            return Poll::Pending;
        }
        let mut stream = Pin::new(stream.as_mut());
        while !self.outgoing.is_empty() {
            ready!(stream.as_mut().poll_ready(cx))?;
            if let Some(message) = self.outgoing.pop_front() {
                stream.as_mut().start_send(message)?;
                self.writing = Writing::Unflushed;
            }
        }
        if let Writing::Unflushed = self.writing {
            ready!(stream.poll_flush(cx))?;
            self.writing = Writing::Flushed;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<SocketEvent> {
        loop {
            let SocketState::Open(stream) = &mut self.state else { return Poll::Pending };
            return Poll::Ready(match ready!(stream.poll_next_unpin(cx)) {
                Some(Ok(Message::Text(text))) => SocketEvent::Frame(text),
                Some(Ok(Message::Binary(_))) => SocketEvent::Unreadable,
                Some(Ok(Message::Close(frame))) => {
                    let (code, reason) = frame.map_or((LOST, String::new()), |frame| {
                        (frame.code.into(), frame.reason.as_str().to_owned())
                    });
                    let state = std::mem::take(self).state;
                    if let SocketState::Open(stream) = state {
                        tokio::spawn(close_gracefully(stream, VecDeque::new(), None));
                    }
                    SocketEvent::Closed { code, reason }
                }
                Some(Ok(_)) => continue,
                Some(Err(error)) if is_protocol_violation(&error) => SocketEvent::Unreadable,
                Some(Err(error)) => self.lost(&error),
                None => self.lost(&Error::ConnectionClosed),
            });
        }
    }

    fn lost(&mut self, error: &Error) -> SocketEvent {
        *self = Socket::default();
        SocketEvent::Closed { code: LOST, reason: error.to_string() }
    }
}

/// Whether the peer violated the framing rules (CON-12), as opposed to being gone.
fn is_protocol_violation(error: &Error) -> bool {
    match error {
        Error::Protocol(error) => !matches!(error, ProtocolError::ResetWithoutClosingHandshake),
        Error::Capacity(_) | Error::Utf8(_) => true,
        _ => false,
    }
}

async fn close_gracefully(
    mut stream: Box<WsStream>,
    outgoing: VecDeque<Message>,
    frame: Option<CloseFrame>,
) {
    let closing = async {
        for message in outgoing {
            stream.feed(message).await?;
        }
        // If the peer has sent its close frame, this only flushes the reply.
        stream.close(frame).await?;
        while stream.next().await.transpose()?.is_some() {}
        Ok::<(), Error>(())
    };
    // Nobody waits for the result.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
}

async fn open(url: String) -> Result<WsStream, Error> {
    let mut request = url.into_client_request()?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(SUBPROTOCOL));
    // The library's defaults suit bulk transfers: 128 KiB read buffer, 64 MiB messages, unlimited write buffer.
    let config = WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(16 * 1024)
        .max_write_buffer_size(4 * MAX_CLIENT_FRAME_BYTES)
        .max_message_size(Some(MAX_SERVER_FRAME_BYTES))
        .max_frame_size(Some(MAX_SERVER_FRAME_BYTES));
    connect(request, config).await
}

type Request = tokio_tungstenite::tungstenite::handshake::client::Request;

#[cfg(not(feature = "tls"))]
async fn connect(request: Request, config: WebSocketConfig) -> Result<WsStream, Error> {
    let opened = tokio_tungstenite::connect_async_with_config(request, Some(config), true).await;
    opened.map(|(stream, _)| stream)
}

#[cfg(feature = "tls")]
async fn connect(request: Request, config: WebSocketConfig) -> Result<WsStream, Error> {
    use std::sync::Arc;

    use tokio_tungstenite::Connector;
    use tokio_tungstenite::tungstenite::error::TlsError;

    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    // The provider is named because a process may contain several providers and then has no default.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Tls(TlsError::Rustls(error.into())))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = Some(Connector::Rustls(Arc::new(tls)));
    let opened =
        tokio_tungstenite::connect_async_tls_with_config(request, Some(config), true, connector);
    opened.await.map(|(stream, _)| stream)
}

//! One WebSocket after the other, as a thing that can be polled. Comes in: an address, text to send. Goes
//! out: opened, frames, closed. Deliberately absent: what a frame means, when to connect, when to close.

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

/// RFC 6455: no close frame came.
const LOST: u16 = 1006;
/// How long a closed socket may take to say goodbye in the background.
const FAREWELL: Duration = Duration::from_secs(1);

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Opening = Pin<Box<dyn Future<Output = Result<Stream, Error>> + Send>>;

/// What happened to the socket.
pub(super) enum SocketEvent {
    /// It is open.
    Opened,
    /// A text frame came.
    Frame(Utf8Bytes),
    /// Something came that no server sends. Nothing more is read.
    Unreadable,
    /// It is gone, or could not be opened.
    Closed { code: u16, reason: String },
}

/// No socket, or one.
pub(super) struct Socket {
    id: SocketId,
    state: State,
    outgoing: VecDeque<Message>,
    writing: Writing,
}

/// How far writing got.
#[derive(Default)]
enum Writing {
    #[default]
    Flushed,
    Unflushed,
    /// Nothing can be written any more. What was received before that is read all the same: the reason
    /// may be in it.
    Failed,
}

#[derive(Default)]
enum State {
    #[default]
    None,
    Opening(Opening),
    Open(Box<Stream>),
}

impl Default for Socket {
    fn default() -> Socket {
        let (state, outgoing, writing) = (State::None, VecDeque::new(), Writing::Flushed);
        Socket { id: SocketId(0), state, outgoing, writing }
    }
}

impl Socket {
    /// Starts to open a socket. An earlier one was closed before; one that was not is dropped, and with it
    /// whatever it had to report.
    pub(super) fn connect(&mut self, id: SocketId, url: String) {
        *self = Socket { id, state: State::Opening(Box::pin(open(url))), ..Socket::default() };
    }

    /// Queues a text frame.
    pub(super) fn send(&mut self, text: String) {
        self.outgoing.push_back(Message::text(text));
    }

    /// Says goodbye in the background, after what is queued.
    pub(super) fn close(&mut self, code: u16) {
        let Socket { state, outgoing, .. } = std::mem::take(self);
        if let State::Open(stream) = state {
            let frame = CloseFrame { code: code.into(), reason: "".into() };
            tokio::spawn(say_goodbye(stream, outgoing, Some(frame)));
        }
    }

    /// Writes what is queued and waits for the next event; reads only if told so. May be dropped at any
    /// point without losing anything.
    pub(super) async fn next(&mut self, read: bool) -> (SocketId, SocketEvent) {
        let id = self.id;
        (id, poll_fn(|cx| self.poll(cx, read)).await)
    }

    fn poll(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<SocketEvent> {
        match &mut self.state {
            State::None => Poll::Pending,
            State::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                Ok(stream) => {
                    self.state = State::Open(Box::new(stream));
                    Poll::Ready(SocketEvent::Opened)
                }
                Err(error) => Poll::Ready(self.lost(&error)),
            },
            State::Open(_) => {
                if let Poll::Ready(Err(_)) = self.poll_write(cx) {
                    self.writing = Writing::Failed;
                    self.outgoing.clear();
                }
                if read { self.poll_read(cx) } else { Poll::Pending }
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let State::Open(stream) = &mut self.state else { return Poll::Pending };
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
            let State::Open(stream) = &mut self.state else { return Poll::Pending };
            return Poll::Ready(match ready!(stream.poll_next_unpin(cx)) {
                Some(Ok(Message::Text(text))) => SocketEvent::Frame(text),
                Some(Ok(Message::Binary(_))) => SocketEvent::Unreadable,
                Some(Ok(Message::Close(frame))) => {
                    let (code, reason) = frame.map_or((LOST, String::new()), |frame| {
                        (frame.code.into(), frame.reason.as_str().to_owned())
                    });
                    let state = std::mem::take(self).state;
                    if let State::Open(stream) = state {
                        tokio::spawn(say_goodbye(stream, VecDeque::new(), None));
                    }
                    SocketEvent::Closed { code, reason }
                }
                Some(Ok(_)) => continue,
                Some(Err(error)) if is_garbage(&error) => SocketEvent::Unreadable,
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

/// Whether the peer broke the rules of frames, rather than went away (CON-12).
fn is_garbage(error: &Error) -> bool {
    match error {
        Error::Protocol(error) => !matches!(error, ProtocolError::ResetWithoutClosingHandshake),
        Error::Capacity(_) | Error::Utf8(_) => true,
        _ => false,
    }
}

async fn say_goodbye(
    mut stream: Box<Stream>,
    outgoing: VecDeque<Message>,
    frame: Option<CloseFrame>,
) {
    let goodbye = async {
        for message in outgoing {
            stream.feed(message).await?;
        }
        // After the peer's close frame this only flushes the reply to it.
        stream.close(frame).await?;
        while stream.next().await.transpose()?.is_some() {}
        Ok::<(), Error>(())
    };
    // Nobody is left to be told how it went.
    let _ = tokio::time::timeout(FAREWELL, goodbye).await;
}

async fn open(url: String) -> Result<Stream, Error> {
    let mut request = url.into_client_request()?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(SUBPROTOCOL));
    // The library's defaults are meant for bulk: 128 KiB read buffer, 64 MiB messages, endless writes.
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
async fn connect(request: Request, config: WebSocketConfig) -> Result<Stream, Error> {
    let opened = tokio_tungstenite::connect_async_with_config(request, Some(config), true).await;
    opened.map(|(stream, _)| stream)
}

#[cfg(feature = "tls")]
async fn connect(request: Request, config: WebSocketConfig) -> Result<Stream, Error> {
    use std::sync::Arc;

    use tokio_tungstenite::Connector;
    use tokio_tungstenite::tungstenite::error::TlsError;

    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    // Named, because a process may hold several providers and then has no default.
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

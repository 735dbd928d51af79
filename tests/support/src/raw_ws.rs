//! A WebSocket client that can also misbehave: it writes exactly the bytes that it is given, and keeps what it reads.
//! In: an address. Out: text messages, the close code, or the HTTP response. Deliberately absent: fragmentation.

use std::fmt::Display;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Frame types of RFC 6455.
pub const TEXT: u8 = 1;
/// See [`TEXT`].
pub const BINARY: u8 = 2;
/// See [`TEXT`].
pub const CLOSE: u8 = 8;
/// See [`TEXT`].
pub const PING: u8 = 9;
/// See [`TEXT`].
pub const PONG: u8 = 10;

/// An item from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A text message.
    Text(Bytes),
    /// A pong.
    Pong(Bytes),
    /// A close frame, with code and reason.
    Close(u16, String),
    /// The end of the stream without a close frame.
    Gone,
}

/// One connection, over TCP by default.
#[derive(Debug)]
pub struct RawWs<S = TcpStream> {
    stream: S,
    read: BytesMut,
    next_id: u64,
    /// Number of pings of the server so far; `answers` says whether they are answered.
    pings: u64,
    answers: bool,
}

impl RawWs {
    /// Connects and upgrades like a well-behaved client.
    ///
    /// # Errors
    /// The server cannot be reached or refuses.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let mut socket = RawWs::open(address).await?;
        socket.upgrade(address).await?;
        Ok(socket)
    }

    /// Connects without sending anything.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("connect")?;
        stream.set_nodelay(true)?;
        Ok(RawWs::over(stream))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawWs<S> {
    /// Uses a stream on which nothing has been sent yet.
    pub fn over(stream: S) -> Self {
        RawWs { stream, read: BytesMut::new(), next_id: 1, pings: 0, answers: false }
    }

    /// Makes the client answer pings while it is read, like a browser.
    #[must_use]
    pub fn answering_pings(mut self) -> Self {
        self.answers = true;
        self
    }

    /// Number of pings from the server.
    pub fn pings(&self) -> u64 {
        self.pings
    }

    /// The underlying stream.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// An id that was not used on this connection.
    pub fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// The id that [`RawWs::fresh_id`] gave last.
    pub fn last_id(&self) -> u64 {
        self.next_id - 1
    }

    /// Performs the WebSocket handshake.
    ///
    /// # Errors
    /// The status of the response is not 101.
    pub async fn upgrade(&mut self, host: impl Display) -> Result<()> {
        let request = format!(
            "GET /v1/signal HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: lianmai.v1\r\n\r\n"
        );
        self.write(request.as_bytes()).await?;
        let head = self.http_head().await?;
        ensure!(head.starts_with("HTTP/1.1 101"), "refused: {head}");
        Ok(())
    }

    /// Writes bytes unchanged.
    ///
    /// # Errors
    /// The socket is gone.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Reads the status line and the headers of an HTTP response.
    ///
    /// # Errors
    /// The socket ends before that, or the headers are longer than 64 KiB.
    pub async fn http_head(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.read.split_to(end + 4);
                return Ok(String::from_utf8_lossy(&head).into_owned());
            }
            ensure!(self.read.len() < 64 * 1024, "the head of the answer does not end");
            if self.stream.read_buf(&mut self.read).await? == 0 {
                bail!("the connection ended inside an HTTP head");
            }
        }
    }

    /// Reads everything until the other side ends the connection, properly or not.
    pub async fn read_to_end(&mut self) -> BytesMut {
        while matches!(self.stream.read_buf(&mut self.read).await, Ok(1..)) {}
        self.read.split()
    }

    /// Sends a frame of any type. Its masking key is zero, so the payload stays as it is.
    ///
    /// # Errors
    /// The socket is gone.
    pub async fn send_frame(&mut self, opcode: u8, payload: &[u8]) -> Result<()> {
        let mut frame = Vec::with_capacity(payload.len() + 14);
        frame.push(0x80 | opcode);
        match payload.len() {
            length @ 0..=125 => frame.push(0x80 | length as u8),
            length @ 126..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        self.write(&frame).await
    }

    /// Sends a text frame.
    ///
    /// # Errors
    /// The socket is gone.
    pub async fn send(&mut self, text: &str) -> Result<()> {
        self.send_frame(TEXT, text.as_bytes()).await
    }

    /// Sends a request and returns its id.
    ///
    /// # Errors
    /// The socket is gone.
    pub async fn request(&mut self, method: &str, params: Value) -> Result<u64> {
        let id = self.fresh_id();
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.send(&request.to_string()).await?;
        Ok(id)
    }

    /// Sends a request and waits for its answer, skipping everything else.
    ///
    /// # Errors
    /// The answer is an error, or the connection ends.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        let id = self.request(method, params).await?;
        let answer = self.answer(id).await?;
        match answer.get("result") {
            Some(result) => Ok(result.clone()),
            None => bail!("{method}: {answer}"),
        }
    }

    /// Waits for the answer to a request, a result or an error, skipping everything else.
    ///
    /// # Errors
    /// The connection ends.
    pub async fn answer(&mut self, id: u64) -> Result<Value> {
        loop {
            for message in self.messages().await? {
                if message.get("id").and_then(Value::as_u64) == Some(id) {
                    return Ok(message);
                }
            }
        }
    }

    /// Waits for the next frame and returns its messages; a pong has none.
    ///
    /// # Errors
    /// The connection ends, or the text is not JSON.
    pub async fn messages(&mut self) -> Result<Vec<Value>> {
        match self.receive().await? {
            Received::Text(text) => Ok(match serde_json::from_slice(&text)? {
                Value::Array(messages) => messages,
                message => vec![message],
            }),
            Received::Pong(_) => Ok(Vec::new()),
            ended => bail!("the connection ended: {ended:?}"),
        }
    }

    /// Waits for the next item.
    ///
    /// # Errors
    /// The server sends something that a server must not send.
    pub async fn receive(&mut self) -> Result<Received> {
        loop {
            if let Some((opcode, payload)) = self.take_frame()? {
                return Ok(match opcode {
                    TEXT => Received::Text(payload),
                    PONG => Received::Pong(payload),
                    CLOSE if payload.len() >= 2 => {
                        let reason = String::from_utf8_lossy(&payload[2..]).into_owned();
                        Received::Close(u16::from_be_bytes([payload[0], payload[1]]), reason)
                    }
                    CLOSE => Received::Close(1005, String::new()),
                    PING => {
                        self.pings += 1;
                        if self.answers {
                            self.send_frame(PONG, &payload).await?;
                        }
                        continue;
                    }
                    other => bail!("unexpected frame type {other}"),
                });
            }
            match self.stream.read_buf(&mut self.read).await {
                Ok(0) | Err(_) => return Ok(Received::Gone),
                Ok(_) => {}
            }
        }
    }

    /// Takes one complete frame from the data that was read.
    fn take_frame(&mut self) -> Result<Option<(u8, Bytes)>> {
        let [first, second, rest @ ..] = &self.read[..] else { return Ok(None) };
        ensure!(first & 0x80 != 0, "the server fragments");
        ensure!(second & 0x80 == 0, "the server masks");
        let opcode = first & 0x0f;
        let (head, length) = match (second & 0x7f, rest) {
            (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
            (127, bytes) if bytes.len() >= 8 => {
                let mut eight = [0; 8];
                eight.copy_from_slice(&bytes[..8]);
                (10, usize::try_from(u64::from_be_bytes(eight))?)
            }
            (126 | 127, _) => return Ok(None),
            (length, _) => (2, usize::from(length)),
        };
        if self.read.len() < head + length {
            return Ok(None);
        }
        self.read.advance(head);
        Ok(Some((opcode, self.read.split_to(length).freeze())))
    }
}

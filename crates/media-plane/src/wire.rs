//! One TCP connection with or without TLS, and the queue of bytes for it.
//!
//! In: sockets, shared `Bytes`. Out: received bytes, vectored writes. Absent: copies of the bytes that a plain
//! connection writes; a bound on the queue, which its owner keeps.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsStream;

use crate::shares::Charge;

/// Buffers in one vectored write.
const SLICES: usize = 64;
/// Silence after which the kernel probes a connection, and the interval of its probes.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// A connection, plain or with TLS.
#[derive(Debug)]
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// The TCP socket. Bytes read from it directly may be encrypted.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Reads once and returns the number of bytes; 0 is the end. Cancel safe.
    pub(crate) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer).await,
            Self::Tls(stream) => stream.read(buffer).await,
        }
    }

    /// Closes the sending half.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.shutdown().await,
            Self::Tls(stream) => stream.shutdown().await,
        }
    }

    /// Makes the close drop the unsent bytes and reset the connection, so that a peer that still writes gets an error
    /// at once.
    pub(crate) fn reset(&self) {
        let socket = socket2::SockRef::from(self.tcp());
        if let Err(error) = socket.set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "linger refused");
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, &mut buffer),
        })?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, slices),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }
}

/// Sets `TCP_NODELAY` and keep-alive. Best effort: a socket without these options still works.
pub(crate) fn prepare(stream: &TcpStream) {
    let keep_alive =
        socket2::TcpKeepalive::new().with_time(KEEP_ALIVE.0).with_interval(KEEP_ALIVE.1);
    let result =
        stream.set_nodelay(true).and(socket2::SockRef::from(stream).set_tcp_keepalive(&keep_alive));
    if let Err(error) = result {
        tracing::debug!(%error, "socket option refused");
    }
}

/// Limits how many written bytes the kernel holds for the peer. Best effort: a socket without this option still
/// works.
pub(crate) fn cap_send_buffer(stream: &TcpStream, bytes: usize) {
    let socket = socket2::SockRef::from(stream);
    if let Err(error) = socket.set_send_buffer_size(bytes) {
        tracing::debug!(%error, "socket option refused");
    }
}

/// Bytes that wait to be written.
#[derive(Debug, Default)]
pub(crate) struct WriteQueue {
    buffers: VecDeque<Bytes>,
    /// The TLS layer may hold bytes that it has accepted and not yet written.
    unflushed: bool,
    /// When the socket last took bytes; `None` restarts the measurement of a stall at the next attempt to write.
    progress: Option<Instant>,
    /// Bytes that the socket took since the connection began.
    written: u64,
    /// Pays for the queued bytes while they are copies, see [`WriteQueue::detach`].
    charge: Option<Charge>,
}

/// What [`WriteQueue::exchange`] did.
#[derive(Debug)]
pub(crate) enum Exchanged {
    /// Everything that was queued is written.
    Written,
    /// This many bytes came; 0 is the end.
    Read(usize),
}

impl WriteQueue {
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            if self.is_empty() {
                self.progress = None;
            }
            self.buffers.push_back(bytes);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.buffers.is_empty() && !self.unflushed
    }

    /// Bytes in the queue.
    pub(crate) fn len(&self) -> usize {
        self.buffers.iter().map(Bytes::len).sum()
    }

    /// Buffers in the queue, including one that is partly written.
    pub(crate) fn blocks(&self) -> usize {
        self.buffers.len()
    }

    /// Restarts the measurement of how long the socket has taken nothing.
    pub(crate) fn forgive(&mut self) {
        self.progress = None;
    }

    /// Whether the queue holds no buffer that it shares with others.
    pub(crate) fn is_detached(&self) -> bool {
        self.is_empty() || self.charge.is_some()
    }

    /// Replaces the queued buffers by copies, so that the queue shares nothing with others. `charge` pays for the
    /// copies.
    pub(crate) fn detach(&mut self, charge: Charge) {
        for buffer in &mut self.buffers {
            *buffer = Bytes::copy_from_slice(buffer);
        }
        self.charge = Some(charge);
    }

    /// Bytes that the socket took since the connection began.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Writes everything. Fails with `TimedOut` when the socket takes nothing for `stall`. Cancel safe.
    pub(crate) async fn flush(&mut self, wire: &mut Wire, stall: Duration) -> io::Result<()> {
        while !self.is_empty() {
            self.exchange(wire, None, stall).await?;
        }
        Ok(())
    }

    /// Writes what is queued and, if there is a buffer, reads meanwhile. Returns when everything is written or
    /// something was read. Fails with `TimedOut` when something is queued and the socket takes nothing for `stall`.
    /// Without queued bytes and without a buffer it never completes. Cancel safe.
    pub(crate) async fn exchange(
        &mut self,
        wire: &mut Wire,
        mut buffer: Option<&mut [u8]>,
        stall: Duration,
    ) -> io::Result<Exchanged> {
        loop {
            let waits = !self.is_empty();
            let since = *self.progress.get_or_insert_with(Instant::now);
            let exchange = poll_fn(|cx| {
                if waits && let Poll::Ready(result) = self.poll_write(wire, cx) {
                    return Poll::Ready(result.map(|()| Exchanged::Written));
                }
                match &mut buffer {
                    Some(buffer) => wire.poll_read(cx, buffer).map_ok(Exchanged::Read),
                    None => Poll::Pending,
                }
            });
            if !waits {
                return exchange.await;
            }
            match timeout(stall.saturating_sub(since.elapsed()), exchange).await {
                Ok(result) => return result,
                Err(_) if self.progress == Some(since) => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(_) => {}
            }
        }
    }

    fn poll_write(&mut self, wire: &mut Wire, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.buffers.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.buffers.len().min(SLICES);
            for (slice, buffer) in slices.iter_mut().zip(&self.buffers) {
                *slice = IoSlice::new(buffer);
            }
            match ready!(wire.poll_write(cx, &slices[..count]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => {
                    self.advance(written);
                    self.unflushed = true;
                    self.progress = Some(Instant::now());
                }
            }
        }
        ready!(wire.poll_flush(cx))?;
        self.unflushed = false;
        self.progress = None;
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        self.written += written as u64;
        while let Some(front) = self.buffers.front_mut() {
            if written < front.len() {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.buffers.pop_front();
        }
        self.charge = None;
    }
}

//! The two halves of a connection. The shard writes through a [`Sink`], which never waits; a task of the connection
//! reads. The shard itself writes plain TCP; TLS goes through a task that holds at most two batches (ADR 0005). A
//! connection is open until its sink is dropped or finished; the rest must be written within [`WRITE_STALL`].

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use lianmai_signal_engine::Outbox;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::server::TlsStream;

use super::connection_limit::ConnectionPermit;

/// A socket that accepts no byte for this time is given up. It is also the limit for writing the rest of a closed
/// connection.
pub(crate) const WRITE_STALL: Duration = Duration::from_secs(10);
/// The time that the peer has to answer a close.
pub(crate) const CLOSE_LINGER: Duration = Duration::from_secs(2);
/// Maximum number of frames in one write.
const MAX_SLICES: usize = 64;

/// A TCP stream that one task reads and another writes. Its permit becomes free when both drop it.
pub(crate) struct Tcp {
    stream: TcpStream,
    _permit: ConnectionPermit,
}

/// The reading half of a TCP stream.
pub(crate) struct TcpReader(Arc<Tcp>);

impl AsyncRead for TcpReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.stream.poll_read_ready(cx))?;
            match self.0.stream.try_read(buf.initialize_unfilled()) {
                Ok(read) => {
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// The reading half of a TLS stream. It ends when the writer task has ended: nothing else wakes the reading task while
/// the peer keeps the connection open.
pub(crate) struct TlsReader {
    half: ReadHalf<TlsStream<TcpStream>>,
    /// `None` when the writer has ended.
    writer: Option<oneshot::Receiver<()>>,
    _permit: ConnectionPermit,
}

impl AsyncRead for TlsReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(writer) = &mut this.writer else { return Poll::Ready(Ok(())) };
        if Pin::new(writer).poll(cx).is_ready() {
            this.writer = None;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.half).poll_read(cx, buf)
    }
}

/// The half that the task of a connection reads.
pub(crate) enum Source {
    Tcp(TcpReader),
    Tls(Box<TlsReader>),
}

impl AsyncRead for Source {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Source::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Source::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

/// The half that is written. A connection has one, and is closed when it is dropped.
pub(crate) enum Sink {
    Tcp(Arc<Tcp>),
    Tls(TlsSink),
}

/// The sender of batches to the writer task of a TLS stream.
pub(crate) struct TlsSink {
    batches: mpsc::Sender<VecDeque<Bytes>>,
    writer: AbortHandle,
    /// Dropping it tells the writer task that the connection is closed. Clones of `batches` in [`Wait`] may outlive the
    /// sink.
    open: Option<oneshot::Sender<Infallible>>,
}

/// Waits until a sink accepts bytes. It does not keep the connection open.
pub(crate) enum Wait {
    Tcp(Arc<Tcp>),
    Tls(mpsc::Sender<VecDeque<Bytes>>),
}

impl Wait {
    /// Waits until something can be written; `false` when the socket is gone or accepts nothing for [`WRITE_STALL`].
    /// The kernel reports room when a third of its buffer is free: a peer that reads less than that in this time counts
    /// as stalled.
    pub(crate) async fn ready(self) -> bool {
        match self {
            Wait::Tcp(tcp) => {
                matches!(timeout(WRITE_STALL, tcp.stream.writable()).await, Ok(Ok(())))
            }
            // The writer task measures the stall, because one batch may take longer without one. It ends when the
            // socket stalls.
            Wait::Tls(batches) => batches.reserve().await.is_ok(),
        }
    }
}

/// Ends a connection. It keeps no part of the connection alive.
pub(crate) enum Aborter {
    Tcp(Weak<Tcp>),
    Tls(AbortHandle),
}

impl Aborter {
    /// Ends the connection now.
    pub(crate) fn abort(self) {
        match self {
            Aborter::Tcp(tcp) => {
                if let Some(tcp) = tcp.upgrade() {
                    let _ = SockRef::from(&tcp.stream).shutdown(Shutdown::Both);
                }
            }
            Aborter::Tls(writer) => writer.abort(),
        }
    }
}

/// Why a write did not finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotWritten {
    /// The socket is full: await [`Sink::wait`].
    Blocked,
    /// The socket is gone.
    Gone,
}

pub(crate) fn split_tcp(stream: TcpStream, permit: ConnectionPermit) -> (Source, Sink) {
    let tcp = Arc::new(Tcp { stream, _permit: permit });
    (Source::Tcp(TcpReader(tcp.clone())), Sink::Tcp(tcp))
}

/// Starts the writer task of a TLS stream. The task ends soon after the sink is dropped, or when the socket fails.
pub(crate) fn split_tls(stream: TlsStream<TcpStream>, permit: ConnectionPermit) -> (Source, Sink) {
    let (half, write) = tokio::io::split(stream);
    let (batches, waiting) = mpsc::channel(1);
    let (open, closed) = oneshot::channel();
    let (reader, writer) = oneshot::channel();
    let reading = TlsReader { half, writer: Some(writer), _permit: permit.clone() };
    let writing = tokio::spawn(async move {
        write_tls(write, waiting, closed, reader).await;
        drop(permit);
    });
    let sink = TlsSink { batches, writer: writing.abort_handle(), open: Some(open) };
    (Source::Tls(Box::new(reading)), Sink::Tls(sink))
}

/// `closed` resolves when the connection is closed. `reader` reports the end of the reader, and its drop tells the
/// reader that the writer has ended.
async fn write_tls(
    mut stream: impl AsyncWrite + Unpin,
    mut batches: mpsc::Receiver<VecDeque<Bytes>>,
    closed: oneshot::Receiver<Infallible>,
    mut reader: oneshot::Sender<()>,
) {
    let write = async {
        while let Some(batch) = batches.recv().await {
            let write = async {
                for frame in &batch {
                    stream.write_all(frame).await?;
                }
                stream.flush().await
            };
            if unless_stalled(WRITE_STALL, write).await.is_err() {
                return false;
            }
        }
        true
    };
    // A peer that accepts a byte now and then has not stalled. But a closed connection is no longer in any limit, so
    // its time is bounded.
    let too_late = async {
        let _ = closed.await;
        sleep(WRITE_STALL).await;
    };
    let is_written = tokio::select! {
        is_written = write => is_written,
        () = too_late => false,
    };
    if !is_written {
        return;
    }
    if let Ok(Ok(())) = timeout(CLOSE_LINGER, stream.shutdown()).await {
        let _ = timeout(CLOSE_LINGER, reader.closed()).await;
    }
}

/// Waits for writes; an error when the socket accepts nothing for `stall`. Only the socket and the timer wake this
/// future, so each wake that is not the timer means progress. The one exception is the wake at the end of the
/// connection.
async fn unless_stalled(
    stall: Duration,
    write: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    let mut write = pin!(write);
    let mut stalled = pin!(sleep(stall));
    poll_fn(|cx| {
        if let Poll::Ready(written) = write.as_mut().poll(cx) {
            return Poll::Ready(written);
        }
        if stalled.is_elapsed() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        stalled.as_mut().reset(Instant::now() + stall);
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    })
    .await
}

impl Sink {
    /// Writes what the socket takes now.
    pub(crate) fn try_write(&self, outbox: &mut Outbox) -> Result<(), NotWritten> {
        match self {
            Sink::Tcp(tcp) => {
                while !outbox.is_empty() {
                    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                    let mut count = 0;
                    for (slot, slice) in slices.iter_mut().zip(outbox.slices()) {
                        *slot = IoSlice::new(slice);
                        count += 1;
                    }
                    let written = match tcp.stream.try_write_vectored(&slices[..count]) {
                        Ok(0) => return Err(NotWritten::Gone),
                        Ok(written) => written,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            return Err(NotWritten::Blocked);
                        }
                        Err(_) => return Err(NotWritten::Gone),
                    };
                    outbox.advance(written);
                }
                Ok(())
            }
            Sink::Tls(tls) => match tls.batches.try_reserve() {
                Ok(permit) => {
                    permit.send(outbox.take());
                    Ok(())
                }
                Err(mpsc::error::TrySendError::Full(())) => Err(NotWritten::Blocked),
                Err(mpsc::error::TrySendError::Closed(())) => Err(NotWritten::Gone),
            },
        }
    }

    /// A future that resolves when the sink can write again.
    pub(crate) fn wait(&self) -> Wait {
        match self {
            Sink::Tcp(tcp) => Wait::Tcp(tcp.clone()),
            Sink::Tls(tls) => Wait::Tls(tls.batches.clone()),
        }
    }

    /// Writes everything and waits where necessary; `false` when the socket fails or stalls.
    pub(crate) async fn write_all(&self, outbox: &mut Outbox) -> bool {
        while !outbox.is_empty() {
            match self.try_write(outbox) {
                Ok(()) => {}
                Err(NotWritten::Gone) => return false,
                Err(NotWritten::Blocked) => {
                    if !self.wait().ready().await {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// A handle that ends the connection, whatever is left to write.
    pub(crate) fn aborter(&self) -> Aborter {
        match self {
            Sink::Tcp(tcp) => Aborter::Tcp(Arc::downgrade(tcp)),
            Sink::Tls(tls) => Aborter::Tls(tls.writer.clone()),
        }
    }

    /// Writes the rest, shuts down the sending side, and gives the peer [`CLOSE_LINGER`] to do the same. Then the
    /// reader ends.
    pub(crate) async fn finish(mut self, mut outbox: Outbox) {
        // The rest is bounded, and so is its time: the connection is no longer in any limit.
        if let Sink::Tls(tls) = &mut self {
            drop(tls.open.take());
        }
        let written = timeout(WRITE_STALL, self.write_all(&mut outbox)).await.unwrap_or(false);
        // A TLS writer does the rest when the sink is dropped.
        let Sink::Tcp(tcp) = self else { return };
        if written {
            let _ = SockRef::from(&tcp.stream).shutdown(Shutdown::Write);
            let weak = Arc::downgrade(&tcp);
            drop(tcp);
            sleep(CLOSE_LINGER).await;
            // The reader still waits for the peer: end it.
            if let Some(tcp) = weak.upgrade() {
                let _ = SockRef::from(&tcp.stream).shutdown(Shutdown::Both);
            }
        } else {
            let _ = SockRef::from(&tcp.stream).shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: when a write has stalled, and how long the rest of a closed connection is
    //! written.

    use tokio::io::AsyncReadExt;

    use super::*;

    /// Progress prevents a stall, even when the whole write takes longer.
    #[tokio::test(start_paused = true)]
    async fn only_a_silent_peer_is_stalled() {
        const STALL: Duration = Duration::from_millis(300);
        let (mut near, mut far) = tokio::io::duplex(16);
        let start = Instant::now();
        let slow = async {
            let mut bytes = [0; 16];
            for _ in 0..8 {
                sleep(STALL / 3).await;
                far.read_exact(&mut bytes).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(unless_stalled(STALL, near.write_all(&[7; 9 * 16])), slow);
        written.unwrap();
        assert!(start.elapsed() > STALL * 2, "the test itself was too fast");
        let stalled = unless_stalled(STALL, near.write_all(&[7; 32])).await;
        assert_eq!(stalled.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    /// A peer that reads slowly does not hold a closed connection for ever.
    #[tokio::test(start_paused = true)]
    async fn flushing_a_closed_connection_has_a_total_timeout() {
        let (near, mut far) = tokio::io::duplex(16);
        let (batches, waiting) = mpsc::channel(1);
        let (open, closed) = oneshot::channel();
        let (reader, _writer) = oneshot::channel();
        let writing = tokio::spawn(write_tls(near, waiting, closed, reader));
        batches.send([Bytes::from(vec![7; 64 << 10])].into()).await.unwrap();
        tokio::spawn(async move {
            while far.read_exact(&mut [0; 16]).await.is_ok() {
                sleep(WRITE_STALL / 2).await;
            }
        });
        sleep(WRITE_STALL * 10).await;
        assert!(!writing.is_finished(), "an open connection has no total timeout");
        drop(open);
        assert!(timeout(WRITE_STALL * 2, writing).await.is_ok(), "the write does not end");
        // A sender still exists, so the channel closes because the writer has ended.
        assert!(batches.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_closes_as_soon_as_requested() {
        let (batches, mut waiting) = mpsc::channel(1);
        let (open, closed) = oneshot::channel();
        let writer = tokio::spawn(std::future::pending::<()>()).abort_handle();
        let sink = Sink::Tls(TlsSink { batches, writer, open: Some(open) });
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from_static(b"first"));
        sink.try_write(&mut outbox).unwrap();
        let wait = sink.wait();
        outbox.push(Bytes::from_static(b"last"));
        let start = Instant::now();
        let finishing = tokio::spawn(sink.finish(outbox));
        assert!(closed.await.is_err() && !finishing.is_finished());
        assert_eq!(start.elapsed(), Duration::ZERO, "before the last message is read");
        drop(wait);
        assert_eq!(waiting.recv().await.unwrap()[0], "first");
        assert_eq!(waiting.recv().await.unwrap()[0], "last");
        finishing.await.unwrap();
        assert!(waiting.recv().await.is_none());
    }
}

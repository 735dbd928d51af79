//! The two halves of a connection. The shard writes through a [`Sink`], which never waits; a task of the
//! connection reads. Plain TCP is written by the shard itself, TLS through a task that holds at most two
//! batches (decisions §4.2).

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use lianmai_signal_engine::Outbox;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

/// A socket that takes no byte for so long is given up (contract rule B20).
pub(crate) const WRITE_STALL: Duration = Duration::from_secs(10);
/// After a close the peer has so long to answer it.
pub(crate) const CLOSE_LINGER: Duration = Duration::from_secs(2);
/// Frames in one write.
const MAX_SLICES: usize = 64;

/// A TCP stream that is read by one task and written by another.
pub(crate) struct TcpReader(Arc<TcpStream>);

impl AsyncRead for TcpReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(buf.initialize_unfilled()) {
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

/// The half that a connection's task reads.
pub(crate) enum Source {
    Tcp(TcpReader),
    Tls(Box<ReadHalf<TlsStream<TcpStream>>>),
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

/// The half that is written.
#[derive(Clone)]
pub(crate) enum Sink {
    Tcp(Arc<TcpStream>),
    Tls(mpsc::Sender<VecDeque<Bytes>>),
}

/// Why a write did not finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotWritten {
    /// The socket is full: wait for [`Sink::ready`].
    Blocked,
    /// The socket is gone.
    Gone,
}

pub(crate) fn split_tcp(stream: TcpStream) -> (Source, Sink) {
    let stream = Arc::new(stream);
    (Source::Tcp(TcpReader(stream.clone())), Sink::Tcp(stream))
}

/// Starts the writer task of a TLS stream; it ends when the sink is dropped or the socket fails.
pub(crate) fn split_tls(stream: TlsStream<TcpStream>) -> (Source, Sink) {
    let (read, write) = tokio::io::split(stream);
    let (sink, batches) = mpsc::channel(1);
    tokio::spawn(write_tls(write, batches));
    (Source::Tls(Box::new(read)), Sink::Tls(sink))
}

async fn write_tls(
    mut stream: WriteHalf<TlsStream<TcpStream>>,
    mut batches: mpsc::Receiver<VecDeque<Bytes>>,
) {
    while let Some(batch) = batches.recv().await {
        let write = async {
            for frame in &batch {
                stream.write_all(frame).await?;
            }
            stream.flush().await
        };
        if !matches!(timeout(WRITE_STALL, write).await, Ok(Ok(()))) {
            return;
        }
    }
    let _ = timeout(CLOSE_LINGER, stream.shutdown()).await;
}

impl Sink {
    /// Writes what the socket takes now.
    pub(crate) fn try_write(&self, outbox: &mut Outbox) -> Result<(), NotWritten> {
        match self {
            Sink::Tcp(stream) => {
                while !outbox.is_empty() {
                    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                    let mut count = 0;
                    for (slot, slice) in slices.iter_mut().zip(outbox.slices()) {
                        *slot = IoSlice::new(slice);
                        count += 1;
                    }
                    let written = match stream.try_write_vectored(&slices[..count]) {
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
            Sink::Tls(batches) => match batches.try_reserve() {
                Ok(permit) => {
                    permit.send(outbox.take());
                    Ok(())
                }
                Err(mpsc::error::TrySendError::Full(())) => Err(NotWritten::Blocked),
                Err(mpsc::error::TrySendError::Closed(())) => Err(NotWritten::Gone),
            },
        }
    }

    /// Waits until something can be written; `false` when the socket is gone or takes nothing for
    /// [`WRITE_STALL`].
    pub(crate) async fn ready(&self) -> bool {
        match self {
            Sink::Tcp(stream) => {
                matches!(timeout(WRITE_STALL, stream.writable()).await, Ok(Ok(())))
            }
            Sink::Tls(batches) => {
                matches!(timeout(WRITE_STALL * 2, batches.reserve()).await, Ok(Ok(_)))
            }
        }
    }

    /// Writes everything, waiting where necessary; `false` when that fails.
    pub(crate) async fn write_all(&self, outbox: &mut Outbox) -> bool {
        while !outbox.is_empty() {
            match self.try_write(outbox) {
                Ok(()) => {}
                Err(NotWritten::Gone) => return false,
                Err(NotWritten::Blocked) => {
                    if !self.ready().await {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Writes what is left, ends the sending side, and gives the peer a moment to do the same.
    pub(crate) async fn finish(self, mut outbox: Outbox) {
        let written = self.write_all(&mut outbox).await;
        // A TLS writer ends its stream when its sink is dropped.
        let Sink::Tcp(stream) = self else { return };
        if written {
            let _ = SockRef::from(&*stream).shutdown(Shutdown::Write);
            let weak = Arc::downgrade(&stream);
            drop(stream);
            tokio::time::sleep(CLOSE_LINGER).await;
            // The reader still waits for the peer: end that.
            if let Some(stream) = weak.upgrade() {
                let _ = SockRef::from(&*stream).shutdown(Shutdown::Both);
            }
        } else {
            let _ = SockRef::from(&*stream).shutdown(Shutdown::Both);
        }
    }
}

//! The socket of an HTTP connection, which fails when its peer stops reading. Comes in: what hyper writes. Goes out:
//! the same bytes, or an error. Deliberately absent: the content; it works for all answers, whatever their body is.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::{Sleep, sleep};

/// A socket whose writes fail when none makes progress for `limit`.
pub(crate) struct StallTimeout<I> {
    io: I,
    limit: Duration,
    /// Runs from the first write that had to wait. Boxed, because most sockets never need it.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<I> StallTimeout<I> {
    pub(crate) fn new(io: I, limit: Duration) -> Self {
        StallTimeout { io, limit, timer: None }
    }

    pub(crate) fn into_inner(self) -> I {
        self.io
    }
}

impl<I: Unpin> StallTimeout<I> {
    fn unless_stalled<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut I>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let written = write(Pin::new(&mut self.io), cx);
        if written.is_ready() {
            self.timer = None;
            return written;
        }
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: Read + Unpin> Read for StallTimeout<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl<I: Write + Unpin> Write for StallTimeout<I> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().unless_stalled(cx, |io, cx| io.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().unless_stalled(cx, |io, cx| io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().unless_stalled(cx, |io, cx| io.poll_shutdown(cx))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().unless_stalled(cx, |io, cx| io.poll_write_vectored(cx, bufs))
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: when a write has stalled.

    use std::future::poll_fn;

    use hyper_util::rt::TokioIo;
    use tokio::io::AsyncReadExt;
    use tokio::time::Instant;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_slow_but_reading_peer_does_not_time_out() {
        const PIECES: usize = 8;
        let (near, mut far) = tokio::io::duplex(16);
        let mut near = StallTimeout::new(TokioIo::new(near), LIMIT);
        let slow = tokio::spawn(async move {
            for _ in 0..PIECES {
                sleep(LIMIT / 2).await;
                far.read_exact(&mut [0; 16]).await.unwrap();
            }
            far
        });
        let start = Instant::now();
        let mut written = 0;
        let error = loop {
            match poll_fn(|cx| Pin::new(&mut near).poll_write(cx, &[7; 16])).await {
                Ok(count) => written += count,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(written, 16 * (PIECES + 1), "the bytes read, and those in the pipe");
        let silent = start.elapsed() - LIMIT / 2 * PIECES as u32;
        assert!(silent >= LIMIT && silent < LIMIT * 2, "{silent:?}");
        drop(slow.await);
    }
}

//! Bytes on their way to one socket.
//!
//! In: shared `Bytes`. Out: vectored writes. Absent: copies, and a bound; the owner fills it with media only
//! when it is empty.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::shares::Charge;

/// Buffers in one write.
const SLICES: usize = 64;

#[derive(Debug, Default)]
pub(super) struct WriteQueue {
    buffers: VecDeque<Bytes>,
    /// When the socket took something last, or had nothing to take.
    progress: Option<Instant>,
    /// For what is not shared.
    charge: Option<Charge>,
}

impl WriteQueue {
    pub(super) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            if self.buffers.is_empty() {
                self.progress = None;
            }
            self.buffers.push_back(bytes);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffers.is_empty()
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.buffers.iter().map(Bytes::len).sum()
    }

    /// Copies what waits, so that nothing is shared with anybody; the charge is for the copies.
    pub(super) fn detach(&mut self, charge: Charge) {
        for buffer in &mut self.buffers {
            *buffer = Bytes::copy_from_slice(buffer);
        }
        self.charge = Some(charge);
    }

    /// Writes everything; fails with `TimedOut` when the socket takes nothing for `stall`. Cancel
    /// safe.
    pub(super) async fn flush(&mut self, stream: &TcpStream, stall: Duration) -> io::Result<()> {
        while !self.buffers.is_empty() {
            let progress = *self.progress.get_or_insert_with(Instant::now);
            match self.write_some(stream) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.progress = None;
                    self.advance(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    timeout(stall.saturating_sub(progress.elapsed()), stream.writable())
                        .await
                        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_some(&self, stream: &TcpStream) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = self.buffers.len().min(SLICES);
        for (slice, buffer) in slices.iter_mut().zip(&self.buffers) {
            *slice = IoSlice::new(buffer);
        }
        stream.try_write_vectored(&slices[..count])
    }

    fn advance(&mut self, mut written: usize) {
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

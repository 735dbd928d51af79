//! A proxy between one client and the server, with the faults of a network: it ends connections with or without a
//! close, falls silent in one or both directions, delays bytes, and accepts no connection. Held bytes arrive later,
//! complete and in order. Comes in: faults. Deliberately absent: when they occur, and for which client.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// How the bytes of a connection are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PipeMode {
    /// They pass after this delay.
    Flow(Duration),
    /// They are held, in the direction to the server, to the client, or both; nothing ends.
    Hold { up: bool, down: bool },
    /// Both ends are closed, by a reset or an orderly end.
    Cut { reset: bool },
}

type Pipes = Arc<Mutex<Vec<watch::Sender<PipeMode>>>>;
/// The time of the last bytes to the server.
type LastSent = Arc<Mutex<Instant>>;

/// A connection of one client to a server through the proxy.
#[derive(Debug)]
pub(crate) struct FaultProxy {
    /// The address to which the client connects.
    pub(crate) address: SocketAddr,
    pipes: Pipes,
    last_sent: LastSent,
    gate: watch::Sender<bool>,
    listener: JoinHandle<()>,
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl FaultProxy {
    /// Opens the proxy to `server`, which need not be there all the time.
    pub(crate) async fn to(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (gate, open) = watch::channel(true);
        let pipes = Pipes::default();
        let last_sent = Arc::new(Mutex::new(Instant::now()));
        let ends = (Arc::clone(&pipes), Arc::clone(&last_sent));
        let listener = tokio::spawn(accept(listener, server, ends, open));
        Ok(FaultProxy { address, pipes, last_sent, gate, listener })
    }

    fn pipes(&self) -> MutexGuard<'_, Vec<watch::Sender<PipeMode>>> {
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, mode: PipeMode) {
        let mut pipes = self.pipes();
        pipes.retain(|pipe| !pipe.is_closed());
        for pipe in &*pipes {
            pipe.send_replace(mode);
        }
    }

    /// When the last bytes went to the server.
    pub(crate) fn last_sent(&self) -> Instant {
        *self.last_sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a connection that can be disturbed.
    pub(crate) fn is_flowing(&self) -> bool {
        let flows = |pipe: &watch::Sender<PipeMode>| {
            !pipe.is_closed() && matches!(*pipe.borrow(), PipeMode::Flow(_))
        };
        self.pipes().iter().any(flows)
    }

    /// Closes the present connections, at both ends.
    pub(crate) fn cut(&self, reset: bool) {
        self.set(PipeMode::Cut { reset });
    }

    /// The present connections fall silent, for ever unless [`FaultProxy::release`] continues them. Neither side is
    /// informed. New ones are served.
    pub(crate) fn stall(&self, up: bool, down: bool) {
        self.set(PipeMode::Hold { up, down });
    }

    /// Held bytes arrive, and from now on all bytes do, after this delay.
    pub(crate) fn release(&self, delay: Duration) {
        self.set(PipeMode::Flow(delay));
    }

    /// Whether new connections are accepted. Otherwise they wait, and the client is not informed.
    pub(crate) fn set_accepting(&self, accepts: bool) {
        self.gate.send_replace(accepts);
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    (pipes, last_sent): (Pipes, LastSent),
    open: watch::Receiver<bool>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let (mode, modes) = watch::channel(PipeMode::Flow(Duration::ZERO));
        pipes.lock().unwrap_or_else(PoisonError::into_inner).push(mode);
        let (mut open, last_sent) = (open.clone(), Arc::clone(&last_sent));
        tokio::spawn(async move {
            if open.wait_for(|open| *open).await.is_err() {
                return;
            }
            let Ok(server) = TcpStream::connect(server).await else { return };
            // Pings and commands are small: without this the kernels hold them back.
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let (client, server) = (client.into_split(), server.into_split());
            tokio::spawn(pass(client.0, server.1, modes.clone(), Some(last_sent)));
            pass(server.0, client.1, modes, None).await;
        });
    }
}

/// Passes bytes in one direction, until one end is gone or both are cut; `up` notes bytes to the server.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut modes: watch::Receiver<PipeMode>,
    up: Option<LastSent>,
) {
    let mut bytes = BytesMut::new();
    loop {
        let mode = *modes.borrow_and_update();
        let delay = match mode {
            PipeMode::Flow(delay) => Some(delay),
            PipeMode::Hold { up: holds_up, down } => {
                let held = if up.is_some() { holds_up } else { down };
                (!held).then_some(Duration::ZERO)
            }
            PipeMode::Cut { reset: false } => break,
            PipeMode::Cut { reset: true } => {
                for socket in [from.as_ref(), to.as_ref()] {
                    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
                }
                // Nothing may be sent before the reset.
                return to.forget();
            }
        };
        let step = async {
            let Some(delay) = delay else { return std::future::pending().await };
            if bytes.is_empty() && !matches!(from.read_buf(&mut bytes).await, Ok(1..)) {
                return false;
            }
            if !delay.is_zero() {
                sleep(delay).await;
            }
            if let Some(last_sent) = &up {
                *last_sent.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            }
            to.write_all_buf(&mut bytes).await.is_ok()
        };
        tokio::select! {
            // If the proxy is dropped, its connections end.
            changed = modes.changed() => if changed.is_err() { break },
            goes_on = step => if !goes_on { break },
        }
    }
    let _ = to.shutdown().await;
}

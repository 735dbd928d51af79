//! The RTMP server on TCP, plain and with TLS.
//!
//! In: listeners, a hub, an authorizer. Out: connections, served until the shutdown. Absent: certificates; HTTP;
//! tasks that outlive [`RtmpServer::serve`].

mod admission;
mod connection;
mod hangup;

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_rustls::{TlsAcceptor, TlsStream};

use crate::auth::Authorizer;
use crate::hub::Hub;
use crate::wire::{Wire, cap_send_buffer, prepare};
use admission::ConnectionAdmission;
use connection::Connection;

/// Interval of [`Hub::tick`].
const TICK: Duration = Duration::from_millis(500);
/// Pause after a failed accept. Mostly the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Size of the kernel's send buffer, bytes; Linux doubles it. Without a limit it would grow to megabytes for a peer
/// that does not read, and no bound of the relay counts these bytes.
const SEND_BUFFER: usize = 128 << 10;

/// The RTMP server of a hub.
#[derive(Debug)]
pub struct RtmpServer<A> {
    hub: Hub,
    authorizer: Arc<A>,
    tls: Option<TlsListener>,
}

/// The listener for RTMPS.
struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl fmt::Debug for TlsListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsListener").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl<A: Authorizer> RtmpServer<A> {
    /// A server for `hub`, with the configuration of the hub.
    #[must_use]
    pub fn new(hub: Hub, authorizer: Arc<A>) -> Self {
        Self { hub, authorizer, tls: None }
    }

    /// Adds a listener for RTMPS. Both listeners share the same limits.
    #[must_use]
    pub fn with_tls(self, listener: TcpListener, acceptor: TlsAcceptor) -> Self {
        Self { tls: Some(TlsListener { listener, acceptor }), ..self }
    }

    /// Serves connections until `shutdown` completes, and calls [`Hub::tick`] meanwhile. All connections are closed
    /// when this returns or is dropped.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) {
        let mut connections = JoinSet::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let seeds = RandomState::new();
        let mut accepted: u64 = 0;
        let mut admission = ConnectionAdmission::new(self.hub.config());
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                _ = tick.tick() => self.hub.tick(),
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        tracing::error!("an rtmp connection panicked");
                    }
                }
                (result, acceptor) = accept(&listener, self.tls.as_ref()) => match result {
                    Ok((stream, peer)) => {
                        let slot = match admission.admit(peer.ip()) {
                            Ok(slot) => slot,
                            Err(code) => {
                                self.hub.counters().connection_refused();
                                if self.hub.log_limiter().allow(peer.ip()) {
                                    tracing::info!(%peer, code, "rtmp connection refused");
                                }
                                continue;
                            }
                        };
                        accepted += 1;
                        self.hub.counters().connection();
                        prepare(&stream);
                        cap_send_buffer(&stream, SEND_BUFFER);
                        let seed = seed(&seeds, accepted);
                        let (hub, authorizer) = (self.hub.clone(), self.authorizer.clone());
                        connections.spawn(async move {
                            // Boxed, so that a connection without TLS does not hold the state of a TLS handshake.
                            let wire = Box::pin(wire(stream, peer, acceptor, &hub));
                            if let Some(wire) = wire.await {
                                Connection::new(wire, peer, seed, hub, authorizer).run().await;
                            }
                            drop(slot);
                        });
                    }
                    Err(error) => {
                        if self.hub.log_limiter().allow_any() {
                            tracing::warn!(%error, "rtmp accept failed");
                        }
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        connections.shutdown().await;
    }
}

/// Accepts the next connection of either listener. For a TLS connection, it returns the acceptor, too.
async fn accept(
    plain: &TcpListener,
    tls: Option<&TlsListener>,
) -> (io::Result<(TcpStream, SocketAddr)>, Option<TlsAcceptor>) {
    let with_tls = async {
        match tls {
            Some(tls) => (tls.listener.accept().await, Some(tls.acceptor.clone())),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        result = plain.accept() => (result, None),
        result = with_tls => result,
    }
}

/// Performs the TLS handshake, if there is an acceptor. `None` when the handshake fails.
async fn wire(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    hub: &Hub,
) -> Option<Wire> {
    let Some(acceptor) = acceptor else { return Some(Wire::Plain(stream)) };
    match timeout(hub.config().handshake_timeout, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(Wire::Tls(Box::new(TlsStream::Server(stream)))),
        Ok(Err(error)) => {
            hub.counters().protocol_error();
            tracing::debug!(%peer, code = "tls", %error, "rtmps connection closed");
            None
        }
        Err(_) => {
            tracing::debug!(%peer, code = "handshakeTimeout", "rtmps connection closed");
            None
        }
    }
}

/// Filler bytes for the RTMP handshake. They differ for each connection and need not be secret.
fn seed(seeds: &RandomState, number: u64) -> [u8; 16] {
    let mut seed = [0; 16];
    seed[..8].copy_from_slice(&seeds.hash_one(number).to_le_bytes());
    seed[8..].copy_from_slice(&seeds.hash_one((number, number)).to_le_bytes());
    seed
}

//! RTMP on TCP.
//!
//! In: a listener, a hub, an authorizer. Out: connections served until the shutdown. Absent: TLS,
//! HTTP, and tasks that outlive [`RtmpServer::serve`].

mod connection;
mod entrance;
mod hangup;
mod write;

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::auth::Authorizer;
use crate::hub::Hub;
use connection::Connection;
use entrance::Entrance;

/// Interval of [`Hub::tick`].
const TICK: Duration = Duration::from_millis(500);
/// Pause after a failed accept, which mostly means that file descriptors are used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Bytes that the kernel keeps for a peer that does not read (it doubles the number). Left to itself it would grow to
/// megabytes, which no bound of ours counts.
const SEND_BUFFER: usize = 128 << 10;
/// Silence after which the kernel probes a connection, and the interval of its probes.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// The RTMP listener of a hub.
#[derive(Debug)]
pub struct RtmpServer<A> {
    hub: Hub,
    authorizer: Arc<A>,
}

impl<A: Authorizer> RtmpServer<A> {
    /// A server for `hub` with the hub's configuration.
    #[must_use]
    pub fn new(hub: Hub, authorizer: Arc<A>) -> Self {
        Self { hub, authorizer }
    }

    /// Serves until `shutdown` completes, and ticks the hub meanwhile. All connections are closed
    /// when this returns or is dropped.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) {
        let mut connections = JoinSet::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let seeds = RandomState::new();
        let mut accepted: u64 = 0;
        let mut entrance = Entrance::new(self.hub.config());
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
                result = listener.accept() => match result {
                    Ok((stream, peer)) => {
                        let place = match entrance.enter(peer.ip()) {
                            Ok(place) => place,
                            Err(code) => {
                                self.hub.counters().connection_refused();
                                if self.hub.lines().allow(peer.ip()) {
                                    tracing::info!(%peer, code, "rtmp connection refused");
                                }
                                continue;
                            }
                        };
                        accepted += 1;
                        self.hub.counters().connection();
                        prepare(&stream);
                        let seed = seed(&seeds, accepted);
                        let connection =
                            Connection::new(stream, peer, seed, self.hub.clone(), self.authorizer.clone());
                        connections.spawn(async move {
                            connection.run().await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        if self.hub.lines().allow_any() {
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

/// Best effort: a socket without these options still works.
fn prepare(stream: &TcpStream) {
    let keep_alive =
        socket2::TcpKeepalive::new().with_time(KEEP_ALIVE.0).with_interval(KEEP_ALIVE.1);
    let socket = socket2::SockRef::from(stream);
    let options = [
        stream.set_nodelay(true),
        socket.set_tcp_keepalive(&keep_alive),
        socket.set_send_buffer_size(SEND_BUFFER),
    ];
    for error in options.into_iter().filter_map(Result::err) {
        tracing::debug!(%error, "socket option refused");
    }
}

/// Filler for a handshake: differs per connection, protects nothing.
fn seed(seeds: &RandomState, number: u64) -> [u8; 16] {
    let mut seed = [0; 16];
    seed[..8].copy_from_slice(&seeds.hash_one(number).to_le_bytes());
    seed[8..].copy_from_slice(&seeds.hash_one((number, number)).to_le_bytes());
    seed
}

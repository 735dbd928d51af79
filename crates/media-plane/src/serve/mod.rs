//! RTMP on TCP.
//!
//! In: a listener, a hub, an authorizer. Out: connections served until the shutdown. Absent: TLS,
//! HTTP, and tasks that outlive [`RtmpServer::serve`].

mod connection;
mod hangup;
mod write;

use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::auth::Authorizer;
use crate::hub::Hub;
use connection::Connection;

/// Interval of [`Hub::tick`].
const TICK: Duration = Duration::from_millis(500);
/// Pause after a failed accept, which mostly means that file descriptors are used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Silence after which the kernel probes a connection, and the interval of its probes.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// The RTMP listener of a hub.
#[derive(Debug)]
pub struct RtmpServer<A> {
    hub: Hub,
    authorizer: Arc<A>,
    addresses: Arc<Addresses>,
}

impl<A: Authorizer> RtmpServer<A> {
    /// A server for `hub` with the hub's configuration.
    #[must_use]
    pub fn new(hub: Hub, authorizer: Arc<A>) -> Self {
        Self { hub, authorizer, addresses: Arc::default() }
    }

    /// Serves until `shutdown` completes, and ticks the hub meanwhile. All connections are closed
    /// when this returns or is dropped.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) {
        let mut connections = JoinSet::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let seeds = RandomState::new();
        let mut accepted: u64 = 0;
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
                        let config = self.hub.config();
                        let place = self.addresses.enter(peer.ip(), config.max_connections_per_address);
                        let Some(place) = place.filter(|_| connections.len() < config.max_connections) else {
                            self.hub.counters().connection_refused();
                            tracing::warn!(%peer, code = "tooManyConnections", "rtmp connection refused");
                            continue;
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
                        tracing::warn!(%error, "rtmp accept failed");
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
    let result =
        stream.set_nodelay(true).and(socket2::SockRef::from(stream).set_tcp_keepalive(&keep_alive));
    if let Err(error) = result {
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

/// Connections by address.
#[derive(Debug, Default)]
struct Addresses(Mutex<HashMap<IpAddr, usize>>);

impl Addresses {
    fn enter(self: &Arc<Self>, address: IpAddr, limit: usize) -> Option<Place> {
        let address = group(address);
        let mut addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = addresses.entry(address).or_insert(0);
        if *held >= limit {
            return None;
        }
        *held += 1;
        Some(Place { addresses: self.clone(), address })
    }
}

/// One connection's share of its address; given back when dropped.
#[derive(Debug)]
struct Place {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut addresses = self.addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = addresses.get_mut(&self.address) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: one IPv6 subscriber has a whole /64.
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        address => address,
    }
}

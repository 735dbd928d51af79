//! The task of a connection: first its lobby, then a loop that moves frames from its socket to its shard. It decides
//! nothing: the [`Lobby`] decides the answers, and the authenticator checks the tokens.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use lianmai_protocol::message::session::Join;
use lianmai_protocol::{Appkey, CloseCode, RequestId};
use lianmai_signal_engine::lobby::LOBBY_MS;
use lianmai_signal_engine::{
    AddrId, ChannelKey, ConnId, Input, JoinRequest, Lobby, LobbyOutput, Outbox, ReconnectRequest,
    TicketKey,
};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::refusals::with_retry_after;
use crate::api::error::ApiError;
use crate::auth::Authenticator;
use crate::ops::drain::{Phase, wait_for_stop};
use crate::ops::metrics::Metrics;
use crate::ops::peer_addresses::{PeerAddressGuard, PeerAddresses};
use crate::shard::{MailboxQuota, ShardMsg, Shards};
use crate::socket::connection_limit::address_group;
use crate::socket::frame;
use crate::socket::halves::{CLOSE_LINGER, Sink};
use crate::socket::reader::{Incoming, Reader};

/// The parts of the server that all lobbies share.
#[derive(Clone)]
pub(crate) struct LobbyParts {
    pub(crate) shards: Shards,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tickets: TicketKey,
    pub(crate) peers: PeerAddresses,
    /// The time to stay away for a client that connects while the server is frozen.
    pub(crate) retry_after: Duration,
    pub(crate) phase: watch::Receiver<Phase>,
}

/// Starts lobbies. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LobbyServer {
    parts: LobbyParts,
    next_conn: Arc<AtomicU64>,
    /// Hashes apps and addresses with a random key, so that clients cannot cause collisions.
    address_hasher: RandomState,
}

/// What to do after the outputs of a lobby.
enum LobbyAction {
    Continue,
    Close(CloseCode),
    Join(RequestId, Box<Join>),
    Reconnect(Box<ReconnectRequest>),
}

impl LobbyServer {
    pub(crate) fn new(parts: LobbyParts) -> Self {
        LobbyServer {
            parts,
            next_conn: Arc::new(AtomicU64::new(1)),
            address_hasher: RandomState::new(),
        }
    }

    /// Checks whether new connections are accepted now.
    ///
    /// # Errors
    /// `draining`, and how long to stay away.
    pub(crate) fn check_open(&self) -> Result<(), ApiError> {
        if *self.parts.phase.borrow() >= Phase::Frozen {
            return Err(with_retry_after(ApiError::draining(), self.parts.retry_after));
        }
        Ok(())
    }

    /// The number by which the engine counts the connections of an address group in an app.
    fn address_id(&self, appkey: &Appkey, peer: IpAddr) -> AddrId {
        AddrId(self.address_hasher.hash_one((appkey.as_str(), address_group(peer.to_canonical()))))
    }

    /// Serves a connection until it has joined, or the server stops. After the join, a separate task moves its frames
    /// to the shard.
    pub(crate) async fn serve(mut self, peer: IpAddr, mut reader: Reader, sink: Sink) {
        let conn = ConnId(self.next_conn.fetch_add(1, Ordering::Relaxed));
        let deadline = Instant::now() + Duration::from_millis(LOBBY_MS);
        let mut lobby = Lobby::new(self.parts.tickets.clone());
        let mut outbox = Outbox::default();
        loop {
            let outputs = tokio::select! {
                incoming = reader.next() => match incoming {
                    Some(Incoming::Text(text)) => lobby.frame(&text),
                    Some(Incoming::Alive(reply)) => {
                        push(&mut outbox, reply);
                        Vec::new()
                    }
                    Some(Incoming::Close(reply)) => {
                        push(&mut outbox, reply);
                        sink.write_all(&mut outbox).await;
                        return;
                    }
                    Some(Incoming::Violation) => lobby.binary(),
                    // Closed like a lobby that takes too long.
                    Some(Incoming::TooMuch) => lobby.timeout(),
                    None => return,
                },
                () = wait_for_stop(&mut self.parts.phase) => {
                    return self.stopped(conn, reader, sink, outbox).await;
                }
                () = sleep_until(deadline) => lobby.timeout(),
            };
            match self.apply(outputs, &mut outbox) {
                LobbyAction::Continue => {
                    if !sink.write_all(&mut outbox).await {
                        return;
                    }
                }
                LobbyAction::Close(code) => {
                    return self.close(conn, code, reader, sink, outbox).await;
                }
                LobbyAction::Join(id, join) => {
                    let key =
                        ChannelKey { appkey: join.appkey.clone(), name: join.channel_name.clone() };
                    let grant = self.parts.authenticator.verify_join(&join);
                    let request = Box::new(JoinRequest { id, join: *join, grant });
                    let address_id = self.address_id(&key.appkey, peer);
                    let entry = Input::Join { conn, addr: address_id, request };
                    return self.enter(conn, peer, &key, entry, reader, sink).await;
                }
                LobbyAction::Reconnect(request) => {
                    let key = request.claims.channel.clone();
                    let address_id = self.address_id(&key.appkey, peer);
                    let entry = Input::Reconnect { conn, addr: address_id, request };
                    return self.enter(conn, peer, &key, entry, reader, sink).await;
                }
            }
        }
    }

    /// Writes the outbox, which ends with a close frame, and waits a short time for the peer to answer.
    async fn close(
        self,
        conn: ConnId,
        code: CloseCode,
        mut reader: Reader,
        sink: Sink,
        outbox: Outbox,
    ) {
        debug!(conn = conn.0, reason = code.row().map(|row| row.name), "lobby closes");
        self.parts.metrics.lobby_closed(code);
        tokio::select! {
            // Writing is polled first, so that the end of the peer cannot prevent the first write.
            biased;
            () = sink.finish(outbox) => {}
            () = reader.drain() => return,
        }
        // With TLS the writer task continues, and its end ends the reader.
        reader.drain().await;
    }

    /// Closes a connection because the server stops: no shard knows this connection.
    async fn stopped(self, conn: ConnId, reader: Reader, sink: Sink, mut outbox: Outbox) {
        push(&mut outbox, frame::going_away());
        push(&mut outbox, frame::close(CloseCode::GOING_AWAY));
        self.close(conn, CloseCode::GOING_AWAY, reader, sink, outbox).await;
    }

    fn apply(&self, outputs: Vec<LobbyOutput>, outbox: &mut Outbox) -> LobbyAction {
        for output in outputs {
            match output {
                LobbyOutput::Send(text) => push(outbox, frame::text(text.as_bytes())),
                LobbyOutput::Close(code) => {
                    push(outbox, frame::close(code));
                    return LobbyAction::Close(code);
                }
                LobbyOutput::Join(id, join) => return LobbyAction::Join(id, join),
                LobbyOutput::Reconnect(request) => return LobbyAction::Reconnect(request),
            }
        }
        LobbyAction::Continue
    }

    /// Hands the connection to the shard of the channel.
    async fn enter(
        self,
        conn: ConnId,
        peer: IpAddr,
        channel: &ChannelKey,
        entry: Input,
        mut reader: Reader,
        sink: Sink,
    ) {
        let shard = self.parts.shards.of(channel.route());
        // Must be registered before the engine can report anything about the connection.
        let address = self.parts.peers.insert(conn, peer);
        match shard.send(ShardMsg::Adopt { conn, sink, entry }).await {
            Ok(()) => {
                reader.set_joined();
                // A separate task, so that the memory of the lobby is freed.
                tokio::spawn(pump(address, reader, shard));
            }
            // The shard has ended.
            Err(SendError(ShardMsg::Adopt { sink, .. })) => {
                self.stopped(conn, reader, sink, Outbox::default()).await;
            }
            Err(_) => {}
        }
    }
}

/// Sends all frames of a joined connection to its shard, in order. The waiting bytes are bounded: at the limit, nothing
/// is read.
#[expect(clippy::manual_async_fn, reason = "an `async fn` would keep what it is given twice")]
fn pump(
    address: PeerAddressGuard,
    mut reader: Reader,
    shard: Sender<ShardMsg>,
) -> impl Future<Output = ()> + Send {
    async move {
        let conn = address.conn();
        let mut quota = MailboxQuota::default();
        let last = loop {
            let Some(incoming) = reader.next().await else { break Some(Bytes::new()) };
            let bytes = match &incoming {
                Incoming::Text(frame) => frame.len(),
                Incoming::Close(reply) => break Some(reply.clone()),
                Incoming::Alive(_) | Incoming::Violation | Incoming::TooMuch => 0,
            };
            // `None`: the shard has closed the connection, or ends.
            let Some(permit) = quota.acquire(bytes).await else { break None };
            let Ok(slot) = shard.reserve().await else { break None };
            match incoming {
                Incoming::Text(frame) => slot.send(ShardMsg::Frame { conn, frame, permit }),
                Incoming::Alive(reply) => slot.send(ShardMsg::Alive { conn, reply, permit }),
                Incoming::Close(_) | Incoming::Violation | Incoming::TooMuch => {
                    slot.send(ShardMsg::Input(Input::BinaryFrame { conn }));
                    break None;
                }
            }
        };
        if last.is_none() {
            // The shard closes the connection. Bytes that the peer still sends must not turn that into a reset.
            let _ = timeout(CLOSE_LINGER * 2, reader.drain()).await;
        }
        // The message is made after `reserve`, so that this task does not store it while it waits.
        if let Ok(slot) = shard.reserve().await {
            slot.send(ShardMsg::Over { conn, reply: last.unwrap_or_default() });
        }
    }
}

/// A lobby sends little and waits for each write, so the outbox needs no limit.
fn push(outbox: &mut Outbox, bytes: Bytes) {
    outbox.push(bytes);
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: the memory of an idle connection, and how much of one waits for its shard.

    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc;

    use super::*;
    use crate::socket::connection_limit::ConnectionLimit;
    use crate::socket::halves::split_tcp;

    /// Each joined member has this task: its size is the memory of an idle member.
    #[tokio::test]
    async fn the_future_of_an_idle_connection_is_small() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let permit = ConnectionLimit::new(1, 1).try_acquire([127, 0, 0, 1].into()).unwrap();
        let (source, _sink) = split_tcp(stream, permit);
        let (shard, _mailbox) = mpsc::channel(1);
        let address = PeerAddresses::default().insert(ConnId(1), [127, 0, 0, 1].into());
        let pump = pump(address, Reader::new(source, b""), shard);
        let bytes = size_of_val(&pump);
        assert!(bytes <= 400, "{bytes} bytes");
    }

    /// A connection that has joined, and its peer.
    async fn pumped(number: u64, shard: &Sender<ShardMsg>) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, address) = listener.accept().await.unwrap();
        let permit = ConnectionLimit::new(1, 1).try_acquire(address.ip()).unwrap();
        let (source, sink) = split_tcp(stream, permit);
        let mut reader = Reader::new(source, b"");
        reader.set_joined();
        let shard = shard.clone();
        let address = PeerAddresses::default().insert(ConnId(number), address.ip());
        tokio::spawn(async move {
            pump(address, reader, shard).await;
            drop(sink);
        });
        peer
    }

    /// A text frame; its mask leaves the payload unchanged.
    fn text(length: usize) -> Vec<u8> {
        let mut frame = vec![0x81, 0xff];
        frame.extend_from_slice(&(length as u64).to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.resize(frame.len() + length, b' ');
        frame
    }

    fn sender_of(message: Option<&ShardMsg>) -> u64 {
        match message {
            Some(ShardMsg::Frame { conn, .. }) => conn.0,
            _ => panic!("expected a frame"),
        }
    }

    #[tokio::test]
    async fn each_other_connection_delays_a_frame_by_one_long_frame_at_most() {
        const GREEDY: u64 = 10;
        const FRAMES: usize = 20;
        let (shard, mut mailbox) = mpsc::channel(4096);
        let mut floods = Vec::new();
        for number in 0..GREEDY {
            let mut peer = pumped(number, &shard).await;
            let flood = text(60_000).repeat(FRAMES);
            // The peer lives until its task is awaited.
            floods.push(tokio::spawn(async move {
                peer.write_all(&flood).await.unwrap();
                peer
            }));
        }
        // The shard holds the first frame of each connection, and no other frame follows.
        let mut held = Vec::new();
        for _ in 0..GREEDY {
            held.push(mailbox.recv().await);
        }
        let mut senders: Vec<u64> =
            held.iter().map(|message| sender_of(message.as_ref())).collect();
        senders.sort_unstable();
        assert_eq!(senders, (0..GREEDY).collect::<Vec<_>>());
        let mut witness = pumped(GREEDY, &shard).await;
        witness.write_all(&text(2)).await.unwrap();
        assert_eq!(
            sender_of(mailbox.recv().await.as_ref()),
            GREEDY,
            "it waits behind more than one frame of each"
        );
        // All frames arrive, one after the other.
        let mut count = held.len();
        held.clear();
        while count < GREEDY as usize * FRAMES {
            assert!(sender_of(mailbox.recv().await.as_ref()) < GREEDY);
            count += 1;
        }
    }
}

//! FLV over WebSocket. Comes in: a pull, a socket. Goes out: binary messages that together are the same file as over
//! HTTP. A browser opens six HTTP connections to one host, but many more WebSockets, so a page can play more streams.
//!
//! Deliberately absent: messages of the client. It may only close and ping.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use lianmai_media_plane::EndReason;
use lianmai_media_plane::pull::{FlvStream, PIECE_BYTES};
use lianmai_signal_engine::Outbox;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::ops::drain::{Phase, wait_for_stop};
use crate::socket::frame;
use crate::socket::halves::{CLOSE_LINGER, Sink, WRITE_STALL};
use crate::socket::reader::{Incoming, Reader};

/// The stream has ended, or a media kind began that the head of the file does not name (RFC 6455 §7.4.1).
const NORMAL: u16 = 1000;
/// The server stops.
const GOING_AWAY: u16 = 1001;
/// The client broke RFC 6455, or sent too much.
const PROTOCOL_ERROR: u16 = 1002;
/// The play was cut, was replaced by newer ones, or was too slow.
const POLICY: u16 = 1008;

/// After a cut, the peer has this time to read the close frame.
const CUT_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A close frame with one of these codes of RFC 6455. They say nothing about memberships.
fn close(code: u16) -> Bytes {
    frame::close_reply(&code.to_be_bytes())
}

/// Plays while the client reads and the server runs.
pub(crate) async fn serve(
    mut media: FlvStream,
    mut reader: Reader,
    sink: Sink,
    mut phase: watch::Receiver<Phase>,
) {
    reader.set_listener();
    let mut cut = pin!(media.cut_signal());
    let mut stalled = pin!(media.stall_signal());
    let mut outbox = Outbox::default();
    let mut answers = false;
    let aborter = sink.aborter();
    let mut close_timeout = WRITE_STALL + CLOSE_LINGER;
    // The rest of the message that is being written.
    let mut rest = Bytes::new();
    // The answer to the newest ping; older pings need none.
    let mut pong = Bytes::new();
    let last = loop {
        if outbox.is_empty() {
            if rest.is_empty() {
                outbox.push(std::mem::take(&mut pong));
            } else {
                media.note_progress();
                outbox.push(rest.split_to(rest.len().min(PIECE_BYTES)));
            }
        }
        let writing = !outbox.is_empty();
        tokio::select! {
            _ = &mut cut => {
                close_timeout = CUT_CLOSE_TIMEOUT;
                break Some(close(POLICY));
            }
            () = &mut stalled => break None,
            () = wait_for_stop(&mut phase) => break Some(close(GOING_AWAY)),
            incoming = reader.next() => match incoming {
                Some(Incoming::Text(_)) => {}
                Some(Incoming::Alive(answer)) if answer.is_empty() => {}
                Some(Incoming::Alive(answer)) => pong = answer,
                Some(Incoming::Close(answer)) => {
                    answers = true;
                    break Some(answer);
                }
                Some(Incoming::Violation | Incoming::TooMuch) => {
                    break Some(close(PROTOCOL_ERROR));
                }
                None => break None,
            },
            written = sink.write_all(&mut outbox), if writing => if !written {
                break None;
            },
            block = media.next(), if !writing => match block {
                Some(block) => {
                    outbox.push(frame::binary_head(block.len()));
                    rest = block;
                }
                None => break Some(close(match media.ended() {
                    Some(EndReason::StreamEnded | EndReason::KindBegan) => NORMAL,
                    _ => POLICY,
                })),
            },
        }
    };
    // Frees the place among the players now, even if the socket still has bytes to write.
    drop(media);
    let Some(last) = last else { return aborter.abort() };
    if !(outbox.is_empty() && rest.is_empty() || answers) {
        // A close frame cannot follow an incomplete message, so the connection ends at once.
        return aborter.abort();
    }
    outbox.push(rest);
    outbox.push(last);
    let end = async { tokio::join!(sink.finish(outbox), reader.drain()) };
    if timeout(close_timeout, end).await.is_err() {
        // The play is no longer in any limit, so the connection ends now.
        aborter.abort();
    }
}

#[cfg(test)]
mod tests {
    //! FLV in binary messages.
    //! Proves URL-2.

    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::Duration;

    use lianmai_media_plane::{
        Authorizer, Direction, Hub, Kinds, MediaKind, Protocol, Publisher, RelayConfig, StreamName,
        StreamRequest, Verdict, pull,
    };
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::socket::connection_limit::ConnectionLimit;
    use crate::socket::halves::{Source, split_tcp, split_tls};

    const KEY: &[u8] = &[0x12, 1];

    struct Allow;

    impl Authorizer for Allow {
        async fn authorize(&self, _: StreamRequest) -> Verdict {
            Verdict::Allow { viewer: None, kinds: Kinds::BOTH, account: None }
        }
    }

    fn request(direction: Direction) -> StreamRequest {
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        StreamRequest::new(direction, "live", "a", "", Protocol::HttpFlv, peer)
    }

    /// A publisher, and the client's end of a play of its stream.
    struct TestPlay {
        hub: Hub,
        publisher: Publisher,
        socket: TcpStream,
        phase: watch::Sender<Phase>,
    }

    impl TestPlay {
        async fn new(config: RelayConfig) -> Self {
            let hub = Hub::new(config);
            let publisher = hub.publish(&Allow, request(Direction::Publish)).await.unwrap();
            let media = pull::open(&hub, &Allow, request(Direction::Play)).await.unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let (source, sink) =
                split_tcp(stream, ConnectionLimit::new(1, 1).try_acquire_unassigned().unwrap());
            let (phase, stop) = watch::channel(Phase::Serving);
            tokio::spawn(serve(media, Reader::new(source, &[]), sink, stop));
            TestPlay { hub, publisher, socket, phase }
        }

        fn send(&self, kind: MediaKind, body: &[u8]) {
            self.publisher.send(kind, 0, body).unwrap();
        }

        /// The next frame: its first byte and its payload.
        async fn frame(&mut self) -> (u8, Vec<u8>) {
            let mut head = [0; 2];
            self.socket.read_exact(&mut head).await.unwrap();
            let length = match head[1] {
                126 => usize::from(self.socket.read_u16().await.unwrap()),
                127 => usize::try_from(self.socket.read_u64().await.unwrap()).unwrap(),
                length => usize::from(length),
            };
            let mut payload = vec![0; length];
            self.socket.read_exact(&mut payload).await.unwrap();
            (head[0], payload)
        }

        /// Sends a frame of the client, with a mask of zeros.
        async fn send_frame(&mut self, first: u8, payload: &[u8]) {
            let length = 0x80 | u8::try_from(payload.len()).unwrap();
            let frame = [&[first, length, 0, 0, 0, 0], payload].concat();
            self.socket.write_all(&frame).await.unwrap();
        }
    }

    #[tokio::test]
    async fn each_message_holds_complete_tags() {
        let mut play_test = TestPlay::new(RelayConfig::default()).await;
        play_test.send(MediaKind::Audio, &[0x2F]);
        play_test.send(MediaKind::Video, KEY);
        let (first, bytes) = play_test.frame().await;
        assert_eq!((first, &bytes[..5]), (0x82, &b"FLV\x01\x05"[..]));
        assert_eq!(bytes.len(), 13 + 16 + 17);
        let large = [KEY, &[7; 3 << 20]].concat();
        play_test.send(MediaKind::Video, &large);
        let (first, bytes) = play_test.frame().await;
        assert_eq!((first, bytes.len()), (0x82, large.len() + 15));
        play_test.send_frame(0x89, b"ping").await;
        assert_eq!(play_test.frame().await, (0x8A, b"ping".to_vec()));
        play_test.send_frame(0x88, &1000_u16.to_be_bytes()).await;
        assert_eq!(play_test.frame().await, (0x88, 1000_u16.to_be_bytes().to_vec()));
        assert_eq!(play_test.socket.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_player_may_ping_while_it_plays() {
        let mut play_test = TestPlay::new(RelayConfig::default()).await;
        play_test.send(MediaKind::Audio, &[0x2F]);
        play_test.send(MediaKind::Video, KEY);
        play_test.frame().await;
        let ping = [7; 125];
        for _ in 0..3 {
            for _ in 0..100 {
                play_test.send_frame(0x89, &ping).await;
                assert_eq!(play_test.frame().await, (0x8A, ping.to_vec()));
            }
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(60)).await;
            tokio::time::resume();
        }
    }

    #[tokio::test]
    async fn each_end_has_its_close_code() {
        let begun = async |config| {
            let mut play_test = TestPlay::new(config).await;
            play_test.send(MediaKind::Audio, &[0x2F]);
            play_test.send(MediaKind::Video, KEY);
            play_test.frame().await;
            play_test
        };
        let mut play_test = begun(RelayConfig::default()).await;
        play_test.hub.cut_stream(&StreamName::new("live", "a"));
        assert_eq!(play_test.frame().await, (0x88, 1008_u16.to_be_bytes().to_vec()));
        let mut play_test = begun(RelayConfig::default()).await;
        play_test.phase.send(Phase::Stopping).unwrap();
        let (first, payload) = play_test.frame().await;
        assert_eq!((first, &payload[..2]), (0x88, &1001_u16.to_be_bytes()[..]));
        let mut play_test = begun(RelayConfig::default()).await;
        play_test.send_frame(0x82, b"binary").await;
        assert_eq!(play_test.frame().await, (0x88, 1002_u16.to_be_bytes().to_vec()));
        let config = RelayConfig { publisher_gap: Duration::ZERO, ..RelayConfig::default() };
        let TestPlay { hub, publisher, socket, phase } = begun(config).await;
        drop(publisher);
        hub.tick();
        // Only fills the field of `TestPlay`; it is a new publication of the stream.
        let publisher = hub.publish(&Allow, request(Direction::Publish)).await.unwrap();
        let mut play_test = TestPlay { hub, publisher, socket, phase };
        assert_eq!(play_test.frame().await, (0x88, 1000_u16.to_be_bytes().to_vec()));
        assert_eq!(play_test.hub.stats().players, 0, "the connection permit is released");
    }

    /// A TLS connection over loopback: the stream of the client, and the halves of the server.
    async fn tls() -> (tokio_rustls::client::TlsStream<TcpStream>, Source, Sink) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let connector = TlsConnector::from(Arc::new(client));
        let name = ServerName::try_from("localhost").unwrap();
        let (near, far) = tokio::join!(acceptor.accept(accepted), connector.connect(name, socket));
        let (source, sink) =
            split_tls(near.unwrap(), ConnectionLimit::new(1, 1).try_acquire_unassigned().unwrap());
        (far.unwrap(), source, sink)
    }

    /// A cut ends a play at once, even within a message, with TLS as well as without.
    #[tokio::test]
    async fn a_cut_ends_a_tls_play_within_a_message() {
        const LARGE: usize = 12 << 20;
        let hub = Hub::new(RelayConfig::default());
        let publisher = hub.publish(&Allow, request(Direction::Publish)).await.unwrap();
        let media = pull::open(&hub, &Allow, request(Direction::Play)).await.unwrap();
        let (mut client, source, sink) = tls().await;
        let (_phase, stop) = watch::channel(Phase::Serving);
        let play = tokio::spawn(serve(media, Reader::new(source, &[]), sink, stop));
        publisher.send(MediaKind::Audio, 0, &[0x2F]).unwrap();
        publisher.send(MediaKind::Video, 0, &[KEY, &[7; LARGE]].concat()).unwrap();
        client.read_exact(&mut [0; 64]).await.unwrap();
        hub.cut_stream(&StreamName::new("live", "a"));
        play.await.unwrap();
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest).await;
        assert!(rest.len() < LARGE, "the player got the whole message");
    }
}

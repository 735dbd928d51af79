//! Proves SES-3.

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::advance;

use super::*;
use crate::socket::connection_limit::ConnectionLimit;
use crate::socket::halves::{Sink, split_tcp};

const LOBBY: usize = LOBBY_BYTES;

/// A reader and the peer that it reads.
async fn pair(early: &[u8]) -> (Reader, Sink, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, address) = listener.accept().await.unwrap();
    let permit = ConnectionLimit::new(1, 1).try_acquire(address.ip()).unwrap();
    let (source, sink) = split_tcp(stream, permit);
    (Reader::new(source, early), sink, peer)
}

/// The head of a frame with this length; a mask of zeros leaves the payload unchanged.
fn head(first: u8, length: usize) -> Vec<u8> {
    let mut head = vec![first, 0xff];
    head.extend_from_slice(&(length as u64).to_be_bytes());
    head.extend_from_slice(&[0; 4]);
    head
}

fn frame(first: u8, length: usize) -> Vec<u8> {
    let mut frame = match length {
        0..=125 => vec![first, 0x80 | length as u8, 0, 0, 0, 0],
        _ => head(first, length),
    };
    frame.resize(frame.len() + length, b' ');
    frame
}

/// Reads bytes in the lobby. Gives the length of the texts, the message that ends it, and the reader.
async fn lobby(bytes: Vec<u8>) -> (usize, Option<Incoming>, Reader) {
    let (mut reader, _sink, mut peer) = pair(b"").await;
    let sending = tokio::spawn(async move {
        let _ = peer.write_all(&bytes).await;
        let _ = peer.shutdown().await;
        peer
    });
    let mut texts = 0;
    let end = loop {
        match reader.next().await {
            Some(Incoming::Text(text)) => texts += text.len(),
            Some(Incoming::Alive(_)) => {}
            end => break end,
        }
        assert!(
            reader.partial.capacity() <= 2 * (LOBBY + READ_BYTES),
            "{:?}",
            reader.partial.capacity()
        );
    };
    // A refused peer is not read to the end.
    sending.abort();
    (texts, end, reader)
}

#[tokio::test]
async fn the_lobby_takes_16_kib() {
    let (texts, end, _) = lobby(frame(0x81, LOBBY)).await;
    assert!(texts == LOBBY && end.is_none(), "{texts} {end:?}");
    let (texts, end, _) = lobby([frame(0x81, LOBBY), frame(0x81, 1)].concat()).await;
    assert!(texts == LOBBY && matches!(end, Some(Incoming::TooMuch)), "{texts} {end:?}");
}

/// No part of a message that will be refused is kept, however it is fragmented.
#[tokio::test]
async fn longer_frames_are_refused_before_they_are_read() {
    let two = [frame(0x01, LOBBY / 2), head(0x80, LOBBY / 2 + 1)].concat();
    for bytes in [head(0x81, LOBBY + 1), head(0x81, 65_536), head(0x81, usize::MAX >> 1), two] {
        let (texts, end, reader) = lobby(bytes.clone()).await;
        let head = &bytes[..2];
        assert!(
            texts == 0 && matches!(end, Some(Incoming::TooMuch) | Some(Incoming::Violation)),
            "{head:?} {end:?}"
        );
        let kept = reader.partial.len() + reader.fragments.map_or(0, |all| all.len());
        assert!(kept <= LOBBY, "{head:?}: {kept} bytes");
    }
}

#[tokio::test]
async fn control_frames_count_too() {
    for (first, length) in [(0x89, 0), (0x89, 125), (0x8a, 0)] {
        let one = frame(first, length);
        let fit = LOBBY / one.len();
        let (_, end, _) = lobby(one.repeat(fit)).await;
        assert!(end.is_none(), "{first:#x} {end:?}");
        let (_, end, _) = lobby(one.repeat(fit + 1)).await;
        assert!(matches!(end, Some(Incoming::TooMuch)), "{first:#x} {end:?}");
    }
    let short = [frame(0x01, 1), frame(0x00, 1).repeat(LOBBY / 7)].concat();
    let (_, end, _) = lobby(short).await;
    assert!(matches!(end, Some(Incoming::TooMuch)), "{end:?}");
}

/// A peer that listens to a stream for a day sends pings all the time.
#[tokio::test(start_paused = true)]
async fn a_listener_may_ping_forever_but_not_in_bulk() {
    let (mut reader, _sink, mut peer) = pair(b"").await;
    reader.set_listener();
    let ping = frame(0x89, 125);
    let at_once = LOBBY / ping.len();
    for _ in 0..3 {
        for _ in 0..at_once {
            peer.write_all(&ping).await.unwrap();
            assert!(matches!(reader.next().await, Some(Incoming::Alive(_))));
        }
        advance(LISTENER_TIME).await;
    }
    peer.write_all(&ping.repeat(at_once + 1)).await.unwrap();
    drop(peer);
    for _ in 0..at_once {
        assert!(matches!(reader.next().await, Some(Incoming::Alive(_))));
    }
    assert!(matches!(reader.next().await, Some(Incoming::TooMuch)));
    assert!(reader.next().await.is_none());
}

#[tokio::test]
async fn a_listener_must_not_send_empty_texts_forever() {
    let (mut reader, _sink, mut peer) = pair(b"").await;
    reader.set_listener();
    let nothing = frame(0x81, 0);
    let at_once = LOBBY / nothing.len();
    peer.write_all(&nothing.repeat(at_once + 1)).await.unwrap();
    drop(peer);
    for _ in 0..at_once {
        assert!(matches!(reader.next().await, Some(Incoming::Text(text)) if text.is_empty()));
    }
    assert!(matches!(reader.next().await, Some(Incoming::TooMuch)));
}

/// The limits of a joined peer count texts, so fragments without end would be at most one text.
/// Proves CON-11.
#[tokio::test]
async fn too_many_empty_fragments_are_refused() {
    let empty = usize::from(MAX_EMPTY_FRAGMENTS);
    let text = |empty| [frame(0x01, 0), frame(0x00, 0).repeat(empty - 1)].concat();
    let whole = [text(empty), frame(0x00, 7), frame(0x89, 0), frame(0x80, 0)].concat();
    // Each text has its own limit.
    let bytes = [whole.clone(), whole, text(empty + 1), frame(0x80, 0)].concat();
    let (mut reader, _sink, mut peer) = pair(b"").await;
    reader.set_joined();
    peer.write_all(&bytes).await.unwrap();
    for _ in 0..2 {
        assert!(matches!(reader.next().await, Some(Incoming::Alive(_))));
        assert!(matches!(reader.next().await, Some(Incoming::Text(text)) if text.len() == 7));
    }
    assert!(matches!(reader.next().await, Some(Incoming::Violation)));
    assert!(reader.next().await.is_none());
}

/// Proves CON-11.
#[tokio::test]
async fn a_member_may_send_64_kib() {
    let (mut reader, _sink, mut peer) = pair(&frame(0x81, 7)).await;
    assert!(matches!(reader.next().await, Some(Incoming::Text(text)) if text.len() == 7));
    reader.set_joined();
    let sending = tokio::spawn(async move {
        let _ = peer.write_all(&frame(0x81, MAX_CLIENT_FRAME_BYTES)).await;
        let _ = peer.write_all(&frame(0x81, MAX_CLIENT_FRAME_BYTES + 1)).await;
        peer
    });
    let whole = reader.next().await;
    assert!(matches!(whole, Some(Incoming::Text(text)) if text.len() == MAX_CLIENT_FRAME_BYTES));
    assert!(matches!(reader.next().await, Some(Incoming::Violation)));
    assert!(reader.next().await.is_none());
    sending.abort();
}

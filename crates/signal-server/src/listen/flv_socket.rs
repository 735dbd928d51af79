//! FLV over WebSocket. Comes in: a pull, a socket. Goes out: binary messages that together are the same file as over
//! HTTP. A browser opens six HTTP connections to one host, and many more WebSockets, so a page may hold more streams.
//!
//! Deliberately absent: what the client says; it may close, and is answered where it pings.

use std::pin::pin;

use lianmai_media_plane::EndReason;
use lianmai_media_plane::pull::FlvStream;
use lianmai_protocol::CloseCode;
use lianmai_signal_engine::Outbox;
use tokio::sync::watch;

use crate::ops::drain::{Phase, wait_for_stop};
use crate::socket::frame;
use crate::socket::halves::Sink;
use crate::socket::reader::{Incoming, Reader};

/// The stream has ended (RFC 6455 §7.4.1).
const NORMAL: CloseCode = CloseCode(1000);
/// The client broke RFC 6455, or said more than it has to say.
const PROTOCOL_ERROR: CloseCode = CloseCode(1002);
/// The play was cut, gave way to newer ones, or was too slow.
const POLICY: CloseCode = CloseCode(1008);

/// Plays for as long as the client reads and the server runs.
pub(crate) async fn serve(
    mut media: FlvStream,
    mut reader: Reader,
    sink: Sink,
    mut phase: watch::Receiver<Phase>,
) {
    let mut cut = pin!(media.cut_signal());
    let mut stalled = pin!(media.stall_signal());
    let mut outbox = Outbox::default();
    let mut answers = false;
    let close = loop {
        let writing = !outbox.is_empty();
        tokio::select! {
            _ = &mut cut => break Some(frame::close(POLICY)),
            () = &mut stalled => break None,
            () = wait_for_stop(&mut phase) => break Some(frame::close(CloseCode::GOING_AWAY)),
            incoming = reader.next() => match incoming {
                Some(Incoming::Text(_)) => {}
                Some(Incoming::Alive(pong)) if pong.is_empty() => {}
                Some(Incoming::Alive(pong)) => outbox.push(pong),
                Some(Incoming::Close(answer)) => {
                    answers = true;
                    break Some(answer);
                }
                Some(Incoming::Violation | Incoming::TooMuch) => {
                    break Some(frame::close(PROTOCOL_ERROR));
                }
                None => break None,
            },
            written = sink.write_all(&mut outbox), if writing => if !written {
                break None;
            },
            block = media.next(), if !writing => match block {
                Some(block) => {
                    outbox.push(frame::binary_head(block.len()));
                    outbox.push(block);
                }
                None if media.ended() == Some(EndReason::StreamEnded) => {
                    break Some(frame::close(NORMAL));
                }
                None => break Some(frame::close(POLICY)),
            },
        }
    };
    // Its place among the players is free, whatever the socket still takes.
    drop(media);
    let Some(close) = close else { return };
    if !outbox.is_empty() && !answers {
        // A close frame cannot stand within a message, and what was cut ends now.
        return;
    }
    outbox.push(close);
    tokio::join!(sink.finish(outbox), reader.drain());
}

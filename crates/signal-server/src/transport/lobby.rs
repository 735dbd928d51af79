//! The task of a connection: first its lobby, then a pump from its socket to its shard. It decides
//! nothing: the [`Lobby`] says what to answer, the authenticator what a token grants.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use lianmai_protocol::message::session::Join;
use lianmai_protocol::{CloseCode, RequestId};
use lianmai_signal_engine::lobby::LOBBY_MS;
use lianmai_signal_engine::{ChannelKey, ConnId, Input, JoinRequest, Lobby, LobbyOutput, Outbox};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::accept::Permit;
use super::frame;
use super::io::{CLOSE_LINGER, Sink};
use super::reader::{Incoming, Reader};
use crate::auth::Authenticator;
use crate::metrics::Metrics;
use crate::shard::{ShardMsg, Shards};

/// What every lobby needs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LobbyServer {
    shards: Shards,
    authenticator: Arc<Authenticator>,
    metrics: Arc<Metrics>,
    next_conn: Arc<AtomicU64>,
}

/// What a lobby came to.
enum Step {
    Stay,
    Close(CloseCode),
    Join(RequestId, Box<Join>),
}

impl LobbyServer {
    pub(crate) fn new(
        shards: Shards,
        authenticator: Arc<Authenticator>,
        metrics: Arc<Metrics>,
    ) -> Self {
        LobbyServer { shards, authenticator, metrics, next_conn: Arc::new(AtomicU64::new(1)) }
    }

    /// Serves a connection until it has joined; then a task of its own pumps its frames to the shard.
    pub(crate) async fn serve(self, mut reader: Reader, sink: Sink, permit: Permit) {
        let conn = ConnId(self.next_conn.fetch_add(1, Ordering::Relaxed));
        let deadline = Instant::now() + Duration::from_millis(LOBBY_MS);
        let mut lobby = Lobby::default();
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
                    None => return,
                },
                () = sleep_until(deadline) => lobby.timeout(),
            };
            match self.apply(outputs, &mut outbox) {
                Step::Stay => {
                    if !sink.write_all(&mut outbox).await {
                        return;
                    }
                }
                Step::Close(code) => {
                    debug!(conn = conn.0, reason = code.row().map(|row| row.name), "lobby closes");
                    self.metrics.lobby_closed(code);
                    tokio::select! {
                        // First, so that it has written before the end of the peer can come between.
                        biased;
                        () = sink.finish(outbox) => {}
                        () = reader.drain() => {}
                    }
                    return;
                }
                Step::Join(id, join) => {
                    self.join(conn, id, *join, reader, sink, permit).await;
                    return;
                }
            }
        }
    }

    fn apply(&self, outputs: Vec<LobbyOutput>, outbox: &mut Outbox) -> Step {
        for output in outputs {
            match output {
                LobbyOutput::Send(text) => push(outbox, frame::text(text.as_bytes())),
                LobbyOutput::Close(code) => {
                    push(outbox, frame::close(code));
                    return Step::Close(code);
                }
                LobbyOutput::Join(id, join) => return Step::Join(id, join),
            }
        }
        Step::Stay
    }

    async fn join(
        self,
        conn: ConnId,
        id: RequestId,
        join: Join,
        reader: Reader,
        sink: Sink,
        permit: Permit,
    ) {
        let key = ChannelKey { appkey: join.appkey.clone(), name: join.channel_name.clone() };
        let grant = self.authenticator.verify_join(&join);
        let shard = self.shards.of(key.route());
        let request = Box::new(JoinRequest { id, join, grant });
        if shard.send(ShardMsg::Adopt { conn, sink, request }).await.is_ok() {
            // A task of its own, so that what the lobby needed is given back.
            tokio::spawn(pump(conn, reader, shard, permit));
        }
    }
}

/// Hands every frame of a joined connection to its shard, in order. A full mailbox stops the reading.
async fn pump(
    conn: ConnId,
    mut reader: Reader,
    shard: tokio::sync::mpsc::Sender<ShardMsg>,
    permit: Permit,
) {
    let mut violated = false;
    while let Some(incoming) = reader.next().await {
        violated = matches!(incoming, Incoming::Violation);
        let message = match incoming {
            Incoming::Text(frame) => ShardMsg::Input(Input::Frame { conn, frame }),
            Incoming::Alive(reply) => ShardMsg::Alive { conn, reply },
            Incoming::Close(reply) => {
                let _ = shard.send(ShardMsg::Over { conn, reply }).await;
                return;
            }
            Incoming::Violation => ShardMsg::Input(Input::BinaryFrame { conn }),
        };
        if shard.send(message).await.is_err() {
            return;
        }
    }
    if violated {
        // The shard closes; what the peer still sends must not turn that into a reset.
        let _ = timeout(CLOSE_LINGER * 2, reader.drain()).await;
    }
    let _ = shard.send(ShardMsg::Over { conn, reply: Bytes::new() }).await;
    drop(permit);
}

/// A lobby sends little and waits for each write: no bound is needed.
fn push(outbox: &mut Outbox, bytes: Bytes) {
    outbox.push(bytes);
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::{Semaphore, mpsc};

    use super::*;
    use crate::transport::io::split_tcp;

    /// Every joined member has this task: what it holds is the memory of an idle member.
    #[tokio::test]
    async fn the_task_of_an_idle_connection_is_small() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (source, _sink) = split_tcp(stream);
        let (shard, _mailbox) = mpsc::channel(1);
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let pump = pump(ConnId(1), Reader::new(source, b""), shard, Permit::new(permit));
        let bytes = size_of_val(&pump);
        assert!(bytes <= 1024, "{bytes} bytes");
    }
}

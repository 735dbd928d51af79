//! One RTMP connection.
//!
//! In: a connection, plain or with TLS. Out: a publish or play in the hub, or several, one after the other. Absent:
//! the protocol, see [`Session`]; unbounded reading. Nothing is read while a decision is pending. While bytes wait to
//! be written, nothing is read from a publisher and little from a player ([`READS_WHILE_WRITING`]). The peer then has
//! to stop sending, and no memory grows.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::hangup::hung_up;
use crate::auth::{Authorizer, Denied, DeniedKind, Direction, Protocol, StreamRequest};
use crate::hub::{EndReason, Hub, Player, Publisher};
use crate::rtmp::{Event, Output, Refusal, Request, RequestKind, RtmpError, Session};
use crate::wire::{Exchanged, Wire, WriteQueue};

/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;
/// Bytes read at once from a player, which sends little.
const PLAYER_READ_BYTES: usize = 1 << 10;
/// Packets taken from the hub at once.
const BATCH: usize = 64;
/// Reads from a player while bytes for it wait. A few are needed to notice that the player pauses. More would let a
/// player that does not read pile up answers.
const READS_WHILE_WRITING: usize = 16;
/// Shortest time between two changes of the pause of a play. Each change takes the lock of the stream, and a play that
/// goes on gets a group of pictures.
const PAUSE_STEP: Duration = Duration::from_millis(200);
/// Time for a peer to read the last messages before the connection is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// The peer closed the connection, or the socket failed.
    Peer(io::Error),
    /// The peer broke the protocol or a bound.
    Protocol(RtmpError),
    /// The socket takes nothing, so the peer is told nothing.
    Stalled,
    /// The peer was too slow with a step, or its publish was ended. The code and the sentence are sent to the peer.
    Failed(&'static str, &'static str),
    /// The hub ended the play. Unsent bytes are dropped, those in the kernel included.
    Hub(EndReason),
    /// The session asked for the close. Its remaining messages are sent first.
    Closed,
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::Stalled,
            _ => Self::Peer(error),
        }
    }
}

impl From<RtmpError> for End {
    fn from(error: RtmpError) -> Self {
        Self::Protocol(error)
    }
}

/// The end of the connection that follows from the end of its publish.
fn publish_ended(reason: EndReason) -> End {
    match reason {
        EndReason::Replaced => {
            End::Failed("replaced", "another publisher took the place of a silent one")
        }
        EndReason::TooManyHeaders => {
            End::Failed("sequenceHeaders", "they are too many or too long")
        }
        EndReason::Cut => End::Failed("cut", "the URL is not in use any more"),
        EndReason::NoRoom => End::Failed("noRoom", "there is no memory left for this push"),
        EndReason::TooSlow | EndReason::StreamEnded | EndReason::KindBegan => {
            End::Failed("ended", "the stream has ended")
        }
    }
}

pub(super) struct Connection<A> {
    wire: Wire,
    peer: SocketAddr,
    session: Session,
    out: WriteQueue,
    buffer: Vec<u8>,
    hub: Hub,
    authorizer: Arc<A>,
}

impl<A: Authorizer> Connection<A> {
    pub(super) fn new(
        wire: Wire,
        peer: SocketAddr,
        seed: [u8; 16],
        hub: Hub,
        authorizer: Arc<A>,
    ) -> Self {
        Self {
            wire,
            peer,
            session: Session::new(seed),
            out: WriteQueue::default(),
            buffer: Vec::new(),
            hub,
            authorizer,
        }
    }

    pub(super) async fn run(mut self) {
        let Err(end) = self.serve().await;
        let peer = self.peer;
        let is_logged = !matches!(end, End::Peer(_) | End::Closed) && self.may_log();
        match end {
            End::Peer(error) => tracing::debug!(%peer, %error, "rtmp connection ended"),
            End::Protocol(error) => {
                self.hub.counters().protocol_error();
                if is_logged {
                    tracing::info!(%peer, code = error.code(), %error, "rtmp protocol error");
                }
                self.close_gracefully().await;
            }
            End::Stalled => {
                if is_logged {
                    tracing::info!(%peer, code = "writeStalled", "rtmp connection closed");
                }
                self.wire.reset();
            }
            End::Failed(code, sentence) => {
                if is_logged {
                    tracing::info!(%peer, code, "rtmp connection closed");
                }
                self.session.fail(&format!("{code}: {sentence}"));
                self.close_gracefully().await;
            }
            End::Hub(reason) => {
                if is_logged {
                    tracing::info!(%peer, ?reason, "rtmp connection cut");
                }
                self.wire.reset();
            }
            End::Closed => self.close_gracefully().await,
        }
    }

    /// Whether a line about the peer may be logged now.
    fn may_log(&self) -> bool {
        self.hub.log_limiter().allow(self.peer.ip())
    }

    /// Serves one request after the other until the connection ends.
    async fn serve(&mut self) -> Result<std::convert::Infallible, End> {
        loop {
            self.buffer.resize(READ_BYTES, 0);
            let deadline = Instant::now() + self.hub.config().handshake_timeout;
            let request = timeout_at(deadline, self.request()).await.map_err(|_| {
                End::Failed("handshakeTimeout", "no publish or play came in time")
            })??;
            let asked = StreamRequest::new(
                match request.kind {
                    RequestKind::Publish => Direction::Publish,
                    RequestKind::Play => Direction::Play,
                },
                request.app,
                request.stream,
                request.query,
                Protocol::Rtmp,
                self.peer,
            );
            let hub = self.hub.clone();
            let authorizer = self.authorizer.clone();
            match request.kind {
                RequestKind::Publish => {
                    match self.unless_hung_up(Box::pin(hub.publish(&*authorizer, asked))).await? {
                        Ok(publisher) => self.publish(publisher).await?,
                        Err(denied) => self.refuse(request.kind, &denied).await?,
                    }
                }
                RequestKind::Play => match hub.connection_of_play(&asked) {
                    Ok(_slot) => {
                        match self.unless_hung_up(Box::pin(hub.play(&*authorizer, asked))).await? {
                            Ok(player) => self.play(player).await?,
                            Err(denied) => self.refuse(request.kind, &denied).await?,
                        }
                    }
                    Err(denied) => self.refuse(request.kind, &denied).await?,
                },
            }
        }
    }

    /// Waits for a decision, unless the peer hangs up first. The future is boxed because it is large, and the
    /// connection does not need its space afterwards.
    async fn unless_hung_up<T>(
        &self,
        decision: Pin<Box<impl Future<Output = T>>>,
    ) -> Result<T, End> {
        tokio::select! {
            biased;
            decided = decision => Ok(decided),
            () = hung_up(self.wire.tcp()) => Err(End::Peer(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Serves the peer until it requests to publish or play.
    async fn request(&mut self) -> Result<Request, End> {
        loop {
            let event = self.pump();
            self.flush().await?;
            match event? {
                Some(Event::Request(request)) => return Ok(request),
                Some(_) => {}
                None => self.read().await?,
            }
        }
    }

    async fn refuse(&mut self, kind: RequestKind, denied: &Denied) -> Result<(), End> {
        let code = match (kind, denied.kind) {
            (RequestKind::Play, _) => "NetStream.Play.Failed",
            (RequestKind::Publish, DeniedKind::Busy) => "NetStream.Publish.BadName",
            (RequestKind::Publish, _) => "NetStream.Publish.Denied",
        };
        self.session.refuse(&Refusal { code, description: denied.to_string() });
        let closed = self.pump();
        self.flush().await?;
        closed.map(|_| ())
    }

    async fn publish(&mut self, mut publisher: Publisher) -> Result<(), End> {
        self.session.accept()?;
        let idle = self.hub.config().publisher_idle_timeout;
        loop {
            while let Some(event) = self.pump()? {
                match event {
                    Event::Media { kind, timestamp, payload } => {
                        match publisher.send(kind, timestamp, &payload) {
                            Ok(()) => {}
                            Err(reason) => return Err(publish_ended(reason)),
                        }
                    }
                    Event::Skipped(what) => {
                        if self.may_log() {
                            tracing::info!(peer = %self.peer, what, "left out of a publish");
                        }
                    }
                    Event::Stopped => return Ok(()),
                    Event::Request(_) | Event::Paused(_) => {}
                }
            }
            tokio::select! {
                biased;
                reason = publisher.cut() => return Err(publish_ended(reason)),
                result = timeout(idle, self.exchange()) => {
                    result.map_err(|_| End::Failed("publisherIdle", "nothing was sent for too long"))??;
                    let unfinished = self.session.unfinished_bytes();
                    publisher.charge_unfinished(unfinished).map_err(publish_ended)?;
                }
            }
        }
    }

    async fn play(&mut self, player: Player) -> Result<(), End> {
        self.session.accept()?;
        self.buffer = vec![0; PLAYER_READ_BYTES];
        let stall = self.hub.config().write_timeout;
        let mut batch = Vec::new();
        let (mut paused, mut wanted, mut reads) = (false, false, 0);
        // From this time on, the pause may change.
        let mut may_change = Instant::now();
        loop {
            while let Some(event) = self.pump()? {
                match event {
                    Event::Stopped => return Ok(()),
                    // If several came since the last change, the last one counts.
                    Event::Paused(now) => wanted = now,
                    _ => {}
                }
            }
            let now = Instant::now();
            if wanted != paused && may_change <= now {
                may_change = now + PAUSE_STEP;
                paused = wanted;
                player.pause(paused);
                // A paused player did not have to read, so the measurement of a stall starts anew.
                self.out.forgive();
                if paused && !self.out.is_detached() {
                    // The player may be slow to take the rest of a message. The player pays for it, not the
                    // publisher.
                    let charge = player.charge(self.out.len());
                    self.out.detach(charge.ok_or(End::Hub(EndReason::NoRoom))?);
                }
            }
            let writing = !self.out.is_empty();
            if !writing {
                reads = 0;
            }
            // A paused player need not read.
            let stall = if paused { Duration::MAX } else { stall };
            tokio::select! {
                reason = player.cut() => return Err(End::Hub(reason)),
                () = sleep_until(may_change), if wanted != paused => {}
                result = self.out.exchange(
                    &mut self.wire,
                    (reads < READS_WHILE_WRITING).then_some(&mut self.buffer[..]),
                    stall,
                ) => match result? {
                    Exchanged::Written => {}
                    Exchanged::Read(0) => return Err(End::Peer(io::ErrorKind::UnexpectedEof.into())),
                    Exchanged::Read(count) => {
                        reads += 1;
                        self.session.input(&self.buffer[..count])?;
                    }
                },
                result = player.next(&mut batch, BATCH), if !writing => match result {
                    Ok(()) => {
                        for packet in batch.drain(..) {
                            let bytes = packet.rtmp();
                            player.count_out(bytes.len());
                            self.out.push(bytes.clone());
                        }
                    }
                    Err(EndReason::StreamEnded) => {
                        self.session.finish_play("the stream has ended");
                        let closed = self.pump();
                        self.flush().await?;
                        closed?;
                    }
                    Err(reason) => return Err(End::Hub(reason)),
                },
            }
        }
    }

    /// Handles the outputs of the session. Returns at an event, and with [`End::Closed`] at a close.
    fn pump(&mut self) -> Result<Option<Event>, End> {
        while let Some(output) = self.session.next_output() {
            match output {
                Output::Send(bytes) => self.out.push(bytes),
                Output::Event(event) => return Ok(Some(event)),
                Output::Close => return Err(End::Closed),
            }
        }
        Ok(None)
    }

    async fn flush(&mut self) -> Result<(), End> {
        Ok(self.out.flush(&mut self.wire, self.hub.config().write_timeout).await?)
    }

    /// Writes everything that is queued, then reads once.
    async fn exchange(&mut self) -> Result<(), End> {
        self.flush().await?;
        self.read().await
    }

    async fn read(&mut self) -> Result<(), End> {
        match self.wire.read(&mut self.buffer).await? {
            0 => Err(End::Peer(io::ErrorKind::UnexpectedEof.into())),
            count => Ok(self.session.input(&self.buffer[..count])?),
        }
    }

    /// Sends the remaining messages and closes the connection in order. Closing with unread input would reset the
    /// connection, and the peer might lose the last messages.
    async fn close_gracefully(&mut self) {
        while let Some(output) = self.session.next_output() {
            if let Output::Send(bytes) = output {
                self.out.push(bytes);
            }
        }
        let wire = &mut self.wire;
        let buffer = &mut self.buffer;
        let out = &mut self.out;
        let read_all = async {
            out.flush(wire, CLOSE_TIMEOUT).await?;
            wire.shutdown().await?;
            while wire.read(buffer).await? > 0 {}
            io::Result::Ok(())
        };
        if !matches!(timeout(CLOSE_TIMEOUT, read_all).await, Ok(Ok(()))) {
            self.wire.reset();
        }
    }
}

//! The client side of one RTMP connection, without I/O. The client publishes like an encoder, or plays.
//!
//! In: bytes of an upstream, and the media to publish. Out: [`ClientOutput`]s in order, with the media of a play
//! among them. Absent: sockets; timeouts, which the owner keeps; aggregates in a play; the logins of single vendors;
//! redirects.
//!
//! The upstream is not trusted. Until it accepts, and during a publish, the bytes that it may send are bounded by the
//! bytes that it received ([`MAX_UPSTREAM_BYTES`]). During a play, the bounds on messages apply. The text of a
//! refusal is shortened, and the keys of the [`Target`] are removed from it, before the owner sees it.

mod answers;
mod handshake;
mod target;

use std::collections::VecDeque;

use bytes::Bytes;

use super::RtmpError;
use super::amf0::{self, Value};
use super::chunk::{ChunkReader, encode_message};
use super::command::Command;
use super::limits::{
    ACK_WINDOW, DEFAULT_CHUNK_SIZE, MAX_UPSTREAM_BYTES, MIN_ACK_WINDOW, OUT_CHUNK_SIZE,
    UPSTREAM_SHARE,
};
use super::message::{
    Message, chunk_stream, control, message_type, user_control, user_control_message,
};
use super::session::{MediaKind, control_value};

pub use answers::Answer;
use handshake::ClientHandshake;
pub use target::Target;

/// What the owner of a client has to do, in order.
#[derive(Debug)]
pub enum ClientOutput {
    /// Send these bytes to the upstream.
    Send(Bytes),
    /// Act on this event.
    Event(ClientEvent),
    /// Send everything before this, then close. No output follows.
    Close,
}

/// An action of the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEvent {
    /// The upstream accepted the publish or play. From here on media may be sent, or media comes.
    Accepted,
    /// The upstream refused the publish or play.
    Refused(Answer),
    /// The upstream ended a publish or play that it had accepted.
    Closed(Answer),
    /// A media message of a play.
    Media {
        /// Audio or video.
        kind: MediaKind,
        /// Timestamp, milliseconds.
        timestamp: u32,
        /// FLV tag body. Never empty.
        payload: Bytes,
    },
}

/// Transaction numbers of the commands.
mod transaction {
    pub(super) const CONNECT: f64 = 1.0;
    pub(super) const RELEASE_STREAM: f64 = 2.0;
    pub(super) const FC_PUBLISH: f64 = 3.0;
    pub(super) const CREATE_STREAM: f64 = 4.0;
    /// Used for `publish` and for `play`.
    pub(super) const PUBLISH: f64 = 5.0;
    pub(super) const FC_UNPUBLISH: f64 = 6.0;
    pub(super) const DELETE_STREAM: f64 = 7.0;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientState {
    /// The client awaits the end of the handshake, or the answer to `connect`.
    Connecting,
    /// The client awaits the answer to `createStream`.
    Creating,
    /// The client awaits the answer to `publish` or `play` on this message stream.
    Starting(u32),
    Publishing(u32),
    Playing,
    Closed,
}

/// The client side of one RTMP connection. It publishes or plays one stream.
#[derive(Debug)]
pub struct Client {
    target: Target,
    plays: bool,
    handshake: Option<ClientHandshake>,
    reader: ChunkReader,
    state: ClientState,
    out: VecDeque<ClientOutput>,
    out_chunk_size: usize,
    /// Unparsed input: an incomplete header.
    held: Vec<u8>,
    /// Bytes received, and bytes sent.
    total: (u64, u64),
    received: u32,
    acknowledged: u32,
    window: u32,
}

impl Client {
    /// A client that publishes. Its first bytes are in the queue of outputs. `seed` fills the handshake and need not
    /// be secret.
    #[must_use]
    pub fn new(target: Target, seed: [u8; 16]) -> Self {
        Self::begun(target, seed, false)
    }

    /// As [`Client::new`], for a client that plays.
    #[must_use]
    pub fn player(target: Target, seed: [u8; 16]) -> Self {
        Self::begun(target, seed, true)
    }

    fn begun(target: Target, seed: [u8; 16], plays: bool) -> Self {
        let mut client = Self {
            target,
            plays,
            handshake: Some(ClientHandshake::default()),
            reader: ChunkReader::default(),
            state: ClientState::Connecting,
            out: VecDeque::new(),
            out_chunk_size: DEFAULT_CHUNK_SIZE,
            held: Vec::new(),
            total: (0, 0),
            received: 0,
            acknowledged: 0,
            window: ACK_WINDOW,
        };
        client.push(ClientHandshake::hello(seed).into());
        client
    }

    /// The next output, or `None` if nothing is to be done now.
    pub fn next_output(&mut self) -> Option<ClientOutput> {
        self.out.pop_front()
    }

    /// Whether the upstream has accepted the publish, so that media may be sent.
    #[must_use]
    pub fn is_publishing(&self) -> bool {
        matches!(self.state, ClientState::Publishing(_))
    }

    /// Whether the upstream has accepted the play, so that media comes.
    #[must_use]
    pub fn is_playing(&self) -> bool {
        self.state == ClientState::Playing
    }

    /// Takes bytes of the upstream, in pieces of any size. Bytes after a close are ignored.
    ///
    /// # Errors
    /// If the upstream breaks a rule or a bound. The owner must then close the connection; outputs that are in the
    /// queue stay there.
    pub fn input(&mut self, data: &[u8]) -> Result<(), RtmpError> {
        if self.state == ClientState::Closed {
            return Ok(());
        }
        self.received = self.received.wrapping_add(u32::try_from(data.len()).unwrap_or(u32::MAX));
        self.total.0 += data.len() as u64;
        let most = MAX_UPSTREAM_BYTES + self.total.1 / UPSTREAM_SHARE;
        let result = if !self.is_playing() && self.total.0 > most {
            Err(RtmpError::UpstreamBytes)
        } else {
            let mut held = std::mem::take(&mut self.held);
            let mut rest = data;
            if !held.is_empty() {
                held.extend_from_slice(data);
                rest = &held;
            }
            let result = self.parse(&mut rest);
            self.held = rest.to_vec();
            result
        };
        if let Err(error) = result {
            self.state = ClientState::Closed;
            self.held = Vec::new();
            return Err(error);
        }
        let unacknowledged = self.received.wrapping_sub(self.acknowledged);
        if self.state != ClientState::Closed && unacknowledged >= self.window {
            self.acknowledged = self.received;
            let received = self.received.to_be_bytes();
            self.send(chunk_stream::CONTROL, &control(message_type::ACK, &received));
        }
        Ok(())
    }

    /// Publishes one message: an FLV tag body, or `onMetaData` with its name. Returns false, without an effect,
    /// before the upstream has accepted and after a close.
    pub fn publish(&mut self, kind: MediaKind, timestamp: u32, payload: &Bytes) -> bool {
        let ClientState::Publishing(stream_id) = self.state else { return false };
        let (type_id, chunk_stream, payload) = match kind {
            MediaKind::Audio => (message_type::AUDIO, chunk_stream::AUDIO, payload.clone()),
            MediaKind::Video => (message_type::VIDEO, chunk_stream::VIDEO, payload.clone()),
            MediaKind::Metadata => {
                let mut data = Vec::with_capacity(16 + payload.len());
                amf0::encode(&mut data, &Value::String("@setDataFrame".into()));
                data.extend_from_slice(payload);
                (message_type::DATA, chunk_stream::DATA, data.into())
            }
        };
        self.send(chunk_stream, &Message { timestamp, type_id, stream_id, payload });
        true
    }

    /// Ends the publish from this side, then closes.
    pub fn finish(&mut self) {
        if let ClientState::Publishing(stream) = self.state {
            let name = Value::String(self.target.stream().to_owned());
            self.command(0, "FCUnpublish", transaction::FC_UNPUBLISH, Value::Null, vec![name]);
            let number = Value::Number(f64::from(stream));
            self.command(0, "deleteStream", transaction::DELETE_STREAM, Value::Null, vec![number]);
        }
        self.close();
    }

    fn parse(&mut self, input: &mut &[u8]) -> Result<(), RtmpError> {
        while !input.is_empty() && self.state != ClientState::Closed {
            let before = input.len();
            if let Some(handshake) = &mut self.handshake {
                let mut reply = Vec::new();
                let done = handshake.advance(input, &mut reply)?;
                if !reply.is_empty() {
                    self.push(reply.into());
                }
                if done {
                    self.handshake = None;
                    self.connect();
                }
                continue;
            }
            match self.reader.read(input)? {
                Some(message) => self.message(&message)?,
                None if before == input.len() => break,
                None => {}
            }
        }
        Ok(())
    }

    fn message(&mut self, message: &Message) -> Result<(), RtmpError> {
        match message.type_id {
            message_type::SET_CHUNK_SIZE => self.reader.set_chunk_size(control_value(message)?)?,
            message_type::ABORT => self.reader.abort(control_value(message)?),
            message_type::WINDOW_ACK_SIZE => {
                self.window = control_value(message)?.max(MIN_ACK_WINDOW)
            }
            message_type::USER_CONTROL => self.user_control(&message.payload),
            message_type::AUDIO if self.plays => self.media(MediaKind::Audio, message),
            message_type::VIDEO if self.plays => self.media(MediaKind::Video, message),
            message_type::COMMAND => self.answer(&message.payload)?,
            message_type::COMMAND_AMF3 => self.answer(message.payload.get(1..).unwrap_or(&[]))?,
            _ => {}
        }
        Ok(())
    }

    fn user_control(&mut self, payload: &[u8]) {
        if let [a, b, c, d, e, f, ..] = *payload
            && u16::from_be_bytes([a, b]) == user_control::PING_REQUEST
        {
            let argument = u32::from_be_bytes([c, d, e, f]);
            let pong = user_control_message(user_control::PING_RESPONSE, argument);
            self.send(chunk_stream::CONTROL, &pong);
        }
    }

    fn media(&mut self, kind: MediaKind, message: &Message) {
        if self.is_playing() && !message.payload.is_empty() {
            let (timestamp, payload) = (message.timestamp, message.payload.clone());
            self.out.push_back(ClientOutput::Event(ClientEvent::Media {
                kind,
                timestamp,
                payload,
            }));
        }
    }

    fn connect(&mut self) {
        let text = |text: &str| Value::String(text.to_owned());
        let object = Value::Object(vec![
            ("app".into(), text(self.target.app())),
            ("type".into(), text("nonprivate")),
            ("flashVer".into(), text("FMLE/3.0 (compatible; Lianmai)")),
            ("tcUrl".into(), text(self.target.tc_url())),
        ]);
        self.command(0, "connect", transaction::CONNECT, object, Vec::new());
    }

    /// Requests a message stream, with the same commands as encoders.
    fn connected(&mut self) {
        let window = ACK_WINDOW.to_be_bytes();
        self.send(chunk_stream::CONTROL, &control(message_type::WINDOW_ACK_SIZE, &window));
        let size = u32::try_from(OUT_CHUNK_SIZE).unwrap_or(u32::MAX).to_be_bytes();
        self.send(chunk_stream::CONTROL, &control(message_type::SET_CHUNK_SIZE, &size));
        self.out_chunk_size = OUT_CHUNK_SIZE;
        if !self.plays {
            let name = || vec![Value::String(self.target.stream().to_owned())];
            let (release, publish) = (name(), name());
            self.command(0, "releaseStream", transaction::RELEASE_STREAM, Value::Null, release);
            self.command(0, "FCPublish", transaction::FC_PUBLISH, Value::Null, publish);
        }
        self.command(0, "createStream", transaction::CREATE_STREAM, Value::Null, Vec::new());
        self.state = ClientState::Creating;
    }

    fn created(&mut self, stream: u32) {
        let name = Value::String(self.target.stream().to_owned());
        if self.plays {
            // A live stream, or a recorded one if there is no live stream.
            let start = Value::Number(-2000.0);
            self.command(stream, "play", transaction::PUBLISH, Value::Null, vec![name, start]);
        } else {
            let arguments = vec![name, Value::String("live".to_owned())];
            self.command(stream, "publish", transaction::PUBLISH, Value::Null, arguments);
        }
        self.state = ClientState::Starting(stream);
    }

    fn close(&mut self) {
        if self.state != ClientState::Closed {
            self.state = ClientState::Closed;
            self.held = Vec::new();
            self.out.push_back(ClientOutput::Close);
        }
    }

    fn command(
        &mut self,
        stream_id: u32,
        name: &str,
        transaction: f64,
        object: Value,
        arguments: Vec<Value>,
    ) {
        let command = Command { name: name.to_owned(), transaction, object, arguments };
        let payload = command.encode();
        let message = Message { timestamp: 0, type_id: message_type::COMMAND, stream_id, payload };
        self.send(chunk_stream::COMMAND, &message);
    }

    fn send(&mut self, chunk_stream: u8, message: &Message) {
        let mut bytes = Vec::new();
        encode_message(&mut bytes, chunk_stream, message, self.out_chunk_size);
        self.push(bytes.into());
    }

    fn push(&mut self, bytes: Bytes) {
        self.total.1 += bytes.len() as u64;
        self.out.push_back(ClientOutput::Send(bytes));
    }
}

//! The client's side of one RTMP connection: what an encoder does, or a player, without I/O.
//!
//! In: bytes of an upstream, and the media to publish. Out: [`ClientOutput`]s in order; the media of a play is among
//! them. Absent: sockets, timeouts, which are the owner's; aggregates in a play; the logins of single vendors;
//! redirects.
//!
//! The upstream is not trusted. All that it may send to a publish is bounded by what it was sent ([`MAX_UPSTREAM_BYTES`]),
//! and to a play by the bounds of messages; what it says of a refusal is cut short and cleared of the keys of the
//! [`Target`] before anybody sees it.

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
use super::session::{MediaKind, word};

pub use answers::Answer;
use handshake::ClientHandshake;
pub use target::Target;

/// What a client wants done, in order.
#[derive(Debug)]
pub enum ClientOutput {
    /// Bytes for the upstream.
    Send(Bytes),
    /// Something the owner acts on.
    Event(ClientEvent),
    /// Send what is before this, then close. Nothing follows.
    Close,
}

/// What an upstream did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientEvent {
    /// It takes the publish, so media may be sent from here on, or the play.
    Accepted,
    /// It does not take the publish or the play.
    Refused(Answer),
    /// It ended a publish or a play that it had taken.
    Closed(Answer),
    /// Media of a play.
    Media {
        /// Audio or video.
        kind: MediaKind,
        /// Milliseconds.
        timestamp: u32,
        /// FLV tag body.
        payload: Bytes,
    },
}

/// The numbers of the commands that are answered.
mod transaction {
    pub(super) const CONNECT: f64 = 1.0;
    pub(super) const RELEASE_STREAM: f64 = 2.0;
    pub(super) const FC_PUBLISH: f64 = 3.0;
    pub(super) const CREATE_STREAM: f64 = 4.0;
    /// Of `play`, too.
    pub(super) const PUBLISH: f64 = 5.0;
    pub(super) const FC_UNPUBLISH: f64 = 6.0;
    pub(super) const DELETE_STREAM: f64 = 7.0;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The answer to `connect` is awaited, or the end of the handshake.
    Connecting,
    /// That to `createStream`.
    Creating,
    /// That to `publish` or `play`, on this message stream.
    Starting(u32),
    Publishing(u32),
    Playing,
    Closed,
}

/// The client side of one RTMP connection that publishes or plays one stream.
#[derive(Debug)]
pub struct Client {
    target: Target,
    plays: bool,
    handshake: Option<ClientHandshake>,
    reader: ChunkReader,
    state: State,
    out: VecDeque<ClientOutput>,
    out_chunk_size: usize,
    /// An incomplete header.
    held: Vec<u8>,
    /// Bytes that came, and that were sent.
    total: (u64, u64),
    received: u32,
    acknowledged: u32,
    window: u32,
}

impl Client {
    /// A client that publishes and has said its first bytes. `seed` fills the handshake and protects nothing.
    #[must_use]
    pub fn new(target: Target, seed: [u8; 16]) -> Self {
        Self::begun(target, seed, false)
    }

    /// As [`Client::new`], but it plays.
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
            state: State::Connecting,
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

    /// The next thing to do.
    pub fn next_output(&mut self) -> Option<ClientOutput> {
        self.out.pop_front()
    }

    /// Whether media may be sent.
    #[must_use]
    pub fn is_publishing(&self) -> bool {
        matches!(self.state, State::Publishing(_))
    }

    /// Whether media comes.
    #[must_use]
    pub fn is_playing(&self) -> bool {
        self.state == State::Playing
    }

    /// Takes bytes of the upstream, split anyhow. Bytes after a close are ignored.
    ///
    /// # Errors
    /// When the upstream breaks a rule or a bound: close the connection. Outputs of what came before stay in the queue.
    pub fn input(&mut self, data: &[u8]) -> Result<(), RtmpError> {
        if self.state == State::Closed {
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
            self.state = State::Closed;
            self.held = Vec::new();
            return Err(error);
        }
        let unacknowledged = self.received.wrapping_sub(self.acknowledged);
        if self.state != State::Closed && unacknowledged >= self.window {
            self.acknowledged = self.received;
            let received = self.received.to_be_bytes();
            self.send(chunk_stream::CONTROL, &control(message_type::ACK, &received));
        }
        Ok(())
    }

    /// Publishes one message: an FLV tag body, or `onMetaData` with its name. Says whether it was taken: it is not before
    /// the upstream has accepted, and not after a close.
    pub fn publish(&mut self, kind: MediaKind, timestamp: u32, payload: &Bytes) -> bool {
        let State::Publishing(stream_id) = self.state else { return false };
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
        if let State::Publishing(stream) = self.state {
            let name = Value::String(self.target.stream().to_owned());
            self.command(0, "FCUnpublish", transaction::FC_UNPUBLISH, Value::Null, vec![name]);
            let number = Value::Number(f64::from(stream));
            self.command(0, "deleteStream", transaction::DELETE_STREAM, Value::Null, vec![number]);
        }
        self.close();
    }

    fn parse(&mut self, input: &mut &[u8]) -> Result<(), RtmpError> {
        while !input.is_empty() && self.state != State::Closed {
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
            message_type::SET_CHUNK_SIZE => self.reader.set_chunk_size(word(message)?)?,
            message_type::ABORT => self.reader.abort(word(message)?),
            message_type::WINDOW_ACK_SIZE => self.window = word(message)?.max(MIN_ACK_WINDOW),
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

    /// Asks for a message stream, as encoders do.
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
        self.state = State::Creating;
    }

    fn created(&mut self, stream: u32) {
        let name = Value::String(self.target.stream().to_owned());
        if self.plays {
            // Live where it is, else as a record.
            let start = Value::Number(-2000.0);
            self.command(stream, "play", transaction::PUBLISH, Value::Null, vec![name, start]);
        } else {
            let arguments = vec![name, Value::String("live".to_owned())];
            self.command(stream, "publish", transaction::PUBLISH, Value::Null, arguments);
        }
        self.state = State::Starting(stream);
    }

    fn close(&mut self) {
        if self.state != State::Closed {
            self.state = State::Closed;
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

//! One connection of a publisher or player.
//!
//! In: bytes, and the owner's decisions (`accept`, `refuse`, `finish_play`). Out: [`Output`]s in
//! order. Absent: more than one publish or play at a time, aggregate messages, data messages other
//! than `onMetaData`, and `NetStream.Data.Start` (players would show a text stream for it).

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;

use super::RtmpError;
use super::amf0::{self, Value};
use super::chunk::{ChunkReader, encode_message};
use super::command::{Command, split_query, status};
use super::handshake::Handshake;
use super::limits::{
    ACK_WINDOW, DEFAULT_CHUNK_SIZE, MAX_HELD_BYTES, MAX_NAME_BYTES, MAX_REQUESTS,
    MAX_UNAUTHORIZED_BYTES, MIN_ACK_WINDOW, OUT_CHUNK_SIZE,
};
use super::message::{
    MEDIA_STREAM, Message, chunk_stream, control, message_type, user_control, user_control_message,
};

/// What a session wants done, in order.
#[derive(Debug)]
pub enum Output {
    /// Bytes for the peer.
    Send(Bytes),
    /// Something the owner acts on.
    Event(Event),
    /// Send what is before this, then close. Nothing follows.
    Close,
}

/// What a peer did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A publish or play awaits [`Session::accept`] or [`Session::refuse`]; input is held until then.
    Request(Request),
    /// A message of the accepted publish.
    Media {
        /// Kind.
        kind: MediaKind,
        /// As sent, milliseconds.
        timestamp: u32,
        /// FLV tag body. Never empty.
        payload: Bytes,
    },
    /// The publish or play was ended by the peer; it may ask anew.
    Stopped,
}

/// The kinds of media messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// Audio.
    Audio,
    /// Video.
    Video,
    /// `onMetaData` with its name, without `@setDataFrame`.
    Metadata,
}

/// Direction of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// The peer sends media.
    Publish,
    /// The peer receives media.
    Play,
}

/// A publish or play. `Debug` leaves the query out: it holds tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// Direction.
    pub kind: RequestKind,
    /// `app` of `connect`, without query and slashes at its ends.
    pub app: String,
    /// Stream name without query.
    pub stream: String,
    /// Raw query of the stream name, else that of `tcUrl`, else that of `app`.
    pub query: String,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("kind", &self.kind)
            .field("app", &self.app)
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `NetStream.…` code.
    pub code: &'static str,
    /// Text for the peer; begins with a code word and a colon.
    pub description: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before `connect`.
    New,
    /// Connected, neither publishing nor playing.
    Idle,
    /// A decision is open.
    Awaiting(RequestKind, u32),
    Publishing(u32),
    Playing(u32),
    Closed,
}

/// The server side of one RTMP connection.
#[derive(Debug)]
pub struct Session {
    handshake: Option<Handshake>,
    reader: ChunkReader,
    state: State,
    out: VecDeque<Output>,
    out_chunk_size: usize,
    /// Unparsed input: an incomplete header, or everything while a decision is open.
    held: Vec<u8>,
    app: String,
    fallback_query: String,
    requests: u32,
    unauthorized_bytes: usize,
    received: u32,
    acknowledged: u32,
    window: u32,
}

impl Session {
    /// A session before its first byte. `seed` fills the handshake and protects nothing.
    #[must_use]
    pub fn new(seed: [u8; 16]) -> Self {
        Self {
            handshake: Some(Handshake::new(seed)),
            reader: ChunkReader::default(),
            state: State::New,
            out: VecDeque::new(),
            out_chunk_size: DEFAULT_CHUNK_SIZE,
            held: Vec::new(),
            app: String::new(),
            fallback_query: String::new(),
            requests: 0,
            unauthorized_bytes: 0,
            received: 0,
            acknowledged: 0,
            window: ACK_WINDOW,
        }
    }

    /// The next thing to do.
    pub fn next_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Takes bytes of the peer, split anyhow. Bytes after a close are ignored.
    ///
    /// # Errors
    /// When the peer breaks a rule or a bound: close the connection. Outputs of what came before
    /// stay in the queue.
    pub fn input(&mut self, data: &[u8]) -> Result<(), RtmpError> {
        if self.state == State::Closed {
            return Ok(());
        }
        self.received = self.received.wrapping_add(u32::try_from(data.len()).unwrap_or(u32::MAX));
        let result = if self.held.is_empty() {
            let mut rest = data;
            let result = self.parse(&mut rest);
            self.held.extend_from_slice(rest);
            result
        } else {
            self.held.extend_from_slice(data);
            self.resume()
        };
        let result = result.and(match self.held.len() {
            0..=MAX_HELD_BYTES => Ok(()),
            _ => Err(RtmpError::HeldBytes),
        });
        if result.is_err() {
            self.state = State::Closed;
            self.held = Vec::new();
            return result;
        }
        if self.received.wrapping_sub(self.acknowledged) >= self.window {
            self.acknowledged = self.received;
            self.send(
                chunk_stream::CONTROL,
                &control(message_type::ACK, &self.received.to_be_bytes()),
            );
        }
        Ok(())
    }

    /// Grants the open request and parses what was held.
    ///
    /// # Errors
    /// As [`Session::input`]; [`RtmpError::CommandOrder`] when no decision is open.
    pub fn accept(&mut self) -> Result<(), RtmpError> {
        match self.state {
            State::Awaiting(RequestKind::Publish, stream) => {
                self.state = State::Publishing(stream);
                self.reader.expect_media(true)?;
                self.on_status(stream, "status", "NetStream.Publish.Start", "publishing");
            }
            State::Awaiting(RequestKind::Play, stream) => {
                self.state = State::Playing(stream);
                self.send(
                    chunk_stream::CONTROL,
                    &user_control_message(user_control::STREAM_BEGIN, stream),
                );
                self.on_status(stream, "status", "NetStream.Play.Reset", "resetting");
                self.on_status(stream, "status", "NetStream.Play.Start", "playing");
            }
            _ => return Err(RtmpError::CommandOrder),
        }
        self.resume().inspect_err(|_| self.state = State::Closed)
    }

    /// Refuses the open request and closes.
    pub fn refuse(&mut self, refusal: &Refusal) {
        if let State::Awaiting(_, stream) = self.state {
            self.on_status(stream, "error", refusal.code, &refusal.description);
            self.close();
        }
    }

    /// Ends a play from this side: end of stream, then close. Without a play it only closes.
    pub fn finish_play(&mut self, description: &str) {
        if let State::Playing(stream) = self.state {
            self.send(
                chunk_stream::CONTROL,
                &user_control_message(user_control::STREAM_EOF, stream),
            );
            self.on_status(stream, "status", "NetStream.Play.UnpublishNotify", description);
            self.on_status(stream, "status", "NetStream.Play.Stop", description);
        }
        self.close();
    }

    fn close(&mut self) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.held = Vec::new();
            self.out.push_back(Output::Close);
        }
    }

    fn resume(&mut self) -> Result<(), RtmpError> {
        let held = std::mem::take(&mut self.held);
        let mut rest = &held[..];
        let result = self.parse(&mut rest);
        self.held = rest.to_vec();
        result
    }

    fn parse(&mut self, input: &mut &[u8]) -> Result<(), RtmpError> {
        while !input.is_empty() && !matches!(self.state, State::Awaiting(..) | State::Closed) {
            let before = input.len();
            let authorized = matches!(self.state, State::Publishing(_) | State::Playing(_));
            let message = self.step(input)?;
            if !authorized {
                self.unauthorized_bytes += before - input.len();
                if self.unauthorized_bytes > MAX_UNAUTHORIZED_BYTES {
                    return Err(RtmpError::UnauthorizedBytes);
                }
            }
            match message {
                Some(message) => self.message(message)?,
                None if before == input.len() => break,
                None => {}
            }
        }
        Ok(())
    }

    fn step(&mut self, input: &mut &[u8]) -> Result<Option<Message>, RtmpError> {
        let Some(handshake) = &mut self.handshake else { return self.reader.read(input) };
        let mut reply = Vec::new();
        let done = handshake.advance(input, &mut reply)?;
        if !reply.is_empty() {
            self.out.push_back(Output::Send(reply.into()));
        }
        if done {
            self.handshake = None;
        }
        Ok(None)
    }

    fn message(&mut self, message: Message) -> Result<(), RtmpError> {
        match message.type_id {
            message_type::SET_CHUNK_SIZE => self.reader.set_chunk_size(word(&message)?)?,
            message_type::ABORT => self.reader.abort(word(&message)?),
            message_type::WINDOW_ACK_SIZE => self.window = word(&message)?.max(MIN_ACK_WINDOW),
            message_type::USER_CONTROL => self.user_control(&message.payload),
            message_type::AUDIO => self.media(MediaKind::Audio, message.timestamp, message.payload),
            message_type::VIDEO => self.media(MediaKind::Video, message.timestamp, message.payload),
            message_type::DATA => self.data(message.timestamp, message.payload),
            message_type::DATA_AMF3 if !message.payload.is_empty() => {
                self.data(message.timestamp, message.payload.slice(1..));
            }
            message_type::COMMAND => self.command(message.stream_id, &message.payload)?,
            message_type::COMMAND_AMF3 => {
                self.command(message.stream_id, message.payload.get(1..).unwrap_or(&[]))?
            }
            _ => {}
        }
        Ok(())
    }

    fn user_control(&mut self, payload: &[u8]) {
        if let [a, b, c, d, e, f, ..] = *payload
            && u16::from_be_bytes([a, b]) == user_control::PING_REQUEST
        {
            let argument = u32::from_be_bytes([c, d, e, f]);
            self.send(
                chunk_stream::CONTROL,
                &user_control_message(user_control::PING_RESPONSE, argument),
            );
        }
    }

    fn media(&mut self, kind: MediaKind, timestamp: u32, payload: Bytes) {
        if matches!(self.state, State::Publishing(_)) && !payload.is_empty() {
            self.out.push_back(Output::Event(Event::Media { kind, timestamp, payload }));
        }
    }

    /// Metadata that breaks a bound is dropped: it is no reason to end a call.
    fn data(&mut self, timestamp: u32, payload: Bytes) {
        let mut rest = &payload[..];
        let mut name = amf0::decode_first(&mut rest);
        let mut start = 0;
        if matches!(&name, Ok(Value::String(name)) if name == "@setDataFrame") {
            start = payload.len() - rest.len();
            name = amf0::decode_first(&mut rest);
        }
        if matches!(&name, Ok(Value::String(name)) if name == "onMetaData")
            && amf0::decode_all(rest).is_ok()
        {
            self.media(MediaKind::Metadata, timestamp, payload.slice(start..));
        }
    }

    fn command(&mut self, stream: u32, payload: &[u8]) -> Result<(), RtmpError> {
        let command = Command::parse(payload)?;
        if self.state == State::New && command.name != "connect" {
            return Err(RtmpError::CommandOrder);
        }
        match command.name.as_str() {
            "connect" => self.connect(&command)?,
            "createStream" => {
                self.result(&command, Value::Null, Value::Number(f64::from(MEDIA_STREAM)))
            }
            "releaseStream" | "FCPublish" | "FCUnpublish" => {
                self.result(&command, Value::Null, Value::Undefined)
            }
            "getStreamLength" => self.result(&command, Value::Null, Value::Number(0.0)),
            "publish" => self.request(RequestKind::Publish, stream, &command)?,
            "play" => self.request(RequestKind::Play, stream, &command)?,
            "deleteStream" | "closeStream" => self.stop()?,
            // Pause, seek, bandwidth checks and what else clients say.
            _ => {}
        }
        Ok(())
    }

    fn connect(&mut self, command: &Command) -> Result<(), RtmpError> {
        if self.state != State::New {
            return Err(RtmpError::CommandOrder);
        }
        let text = |name| command.object.get(name).and_then(Value::as_str).unwrap_or("");
        let (app, tc_url) = (text("app"), text("tcUrl"));
        if app.len() > MAX_NAME_BYTES || tc_url.len() > MAX_NAME_BYTES {
            return Err(RtmpError::NameSize);
        }
        let (app, app_query) = split_query(app);
        let (_, url_query) = split_query(tc_url);
        self.app = app.trim_matches('/').to_owned();
        self.fallback_query = if url_query.is_empty() { app_query } else { url_query }.to_owned();
        self.state = State::Idle;
        let window = ACK_WINDOW.to_be_bytes();
        self.send(chunk_stream::CONTROL, &control(message_type::WINDOW_ACK_SIZE, &window));
        // Limit type 2: dynamic.
        let [a, b, c, d] = window;
        self.send(
            chunk_stream::CONTROL,
            &control(message_type::SET_PEER_BANDWIDTH, &[a, b, c, d, 2]),
        );
        let size = u32::try_from(OUT_CHUNK_SIZE).unwrap_or(u32::MAX).to_be_bytes();
        self.send(chunk_stream::CONTROL, &control(message_type::SET_CHUNK_SIZE, &size));
        self.out_chunk_size = OUT_CHUNK_SIZE;
        let properties = Value::Object(vec![
            ("fmsVer".into(), Value::String("FMS/3,0,1,123".into())),
            ("capabilities".into(), Value::Number(31.0)),
        ]);
        let mut information = status("status", "NetConnection.Connect.Success", "connected");
        if let Value::Object(fields) = &mut information {
            fields.push(("objectEncoding".into(), Value::Number(0.0)));
        }
        self.result(command, properties, information);
        Ok(())
    }

    fn request(
        &mut self,
        kind: RequestKind,
        stream: u32,
        command: &Command,
    ) -> Result<(), RtmpError> {
        if self.state != State::Idle {
            return Err(RtmpError::CommandOrder);
        }
        self.requests += 1;
        if self.requests > MAX_REQUESTS {
            return Err(RtmpError::Requests);
        }
        let name = command.arguments.first().and_then(Value::as_str).ok_or(RtmpError::Command)?;
        if name.len() > MAX_NAME_BYTES {
            return Err(RtmpError::NameSize);
        }
        let (name, query) = split_query(name);
        self.state = State::Awaiting(kind, stream);
        self.out.push_back(Output::Event(Event::Request(Request {
            kind,
            app: self.app.clone(),
            stream: name.to_owned(),
            query: if query.is_empty() { self.fallback_query.clone() } else { query.to_owned() },
        })));
        Ok(())
    }

    fn stop(&mut self) -> Result<(), RtmpError> {
        match self.state {
            State::Publishing(stream) => {
                self.on_status(stream, "status", "NetStream.Unpublish.Success", "unpublished");
            }
            State::Playing(stream) => {
                self.on_status(stream, "status", "NetStream.Play.Stop", "stopped")
            }
            _ => return Ok(()),
        }
        self.state = State::Idle;
        self.unauthorized_bytes = 0;
        self.out.push_back(Output::Event(Event::Stopped));
        self.reader.expect_media(false)
    }

    fn result(&mut self, command: &Command, object: Value, argument: Value) {
        if command.transaction != 0.0 {
            let reply = Command {
                name: "_result".into(),
                transaction: command.transaction,
                object,
                arguments: vec![argument],
            };
            self.send_command(0, &reply);
        }
    }

    fn on_status(&mut self, stream: u32, level: &str, code: &str, description: &str) {
        let reply = Command {
            name: "onStatus".into(),
            transaction: 0.0,
            object: Value::Null,
            arguments: vec![status(level, code, description)],
        };
        self.send_command(stream, &reply);
    }

    fn send_command(&mut self, stream_id: u32, command: &Command) {
        let payload = command.encode();
        let message = Message { timestamp: 0, type_id: message_type::COMMAND, stream_id, payload };
        self.send(chunk_stream::COMMAND, &message);
    }

    fn send(&mut self, chunk_stream: u8, message: &Message) {
        let mut bytes = Vec::new();
        encode_message(&mut bytes, chunk_stream, message, self.out_chunk_size);
        self.out.push_back(Output::Send(bytes.into()));
    }
}

/// The first 32 bits of a control message.
fn word(message: &Message) -> Result<u32, RtmpError> {
    message
        .payload
        .first_chunk::<4>()
        .map(|bytes| u32::from_be_bytes(*bytes))
        .ok_or(RtmpError::ControlMessage(message.type_id))
}

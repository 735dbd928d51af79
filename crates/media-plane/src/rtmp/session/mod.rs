//! The server side of one connection of a publisher or player.
//!
//! In: bytes, and the owner's decisions (`accept`, `refuse`, `finish_play`, `fail`). Out: [`Output`]s in order.
//! Absent: more than one publish or play at a time; data messages other than `onMetaData`; `NetStream.Data.Start`,
//! for which players would show a text stream.
//!
//! A request that cannot be served is answered, and a running publish or play continues. Bytes that break the chunk
//! format or a bound end the connection, with a last status that says why.

mod commands;
mod media;

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;

use super::RtmpError;
use super::chunk::{ChunkReader, encode_message};
use super::handshake::Handshake;
use super::limits::{
    ACK_WINDOW, DEFAULT_CHUNK_SIZE, MAX_HELD_BYTES, MAX_LEFTOVER_BYTES, MAX_UNAUTHORIZED_BYTES,
    MIN_ACK_WINDOW,
};
use super::message::{
    Message, chunk_stream, control, message_type, user_control, user_control_message,
};

/// What the owner of a session has to do, in order.
#[derive(Debug)]
pub enum Output {
    /// Send these bytes to the peer.
    Send(Bytes),
    /// Act on this event.
    Event(Event),
    /// Send everything before this, then close. No output follows.
    Close,
}

/// An action of the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The peer requests a publish or play. Input is held until [`Session::accept`] or [`Session::refuse`].
    Request(Request),
    /// A media message of the accepted publish.
    Media {
        /// Kind of the media.
        kind: MediaKind,
        /// Timestamp as sent, milliseconds.
        timestamp: u32,
        /// FLV tag body. Never empty.
        payload: Bytes,
    },
    /// The peer paused its play (true) or resumed it (false).
    Paused(bool),
    /// A part of the publish was dropped; the text for the log says what. Each text comes once.
    Skipped(&'static str),
    /// The peer ended its publish or play. It may request another one.
    Stopped,
}

/// The kind of a media message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// Audio.
    Audio,
    /// Video.
    Video,
    /// `onMetaData`: its name and its values, without `@setDataFrame`.
    Metadata,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// The peer sends media.
    Publish,
    /// The peer receives media.
    Play,
}

/// A request to publish or play. `Debug` omits the query, because the query holds tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// Publish or play.
    pub kind: RequestKind,
    /// `app` of `connect`, without query and without leading and trailing slashes. If the client named no stream, the
    /// last part of `app` is the stream name instead.
    pub app: String,
    /// Stream name, without query.
    pub stream: String,
    /// Query, not decoded: that of the stream name; else that of `tcUrl`; else that of `app`.
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

/// The refusal of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Status code `NetStream.…`.
    pub code: &'static str,
    /// Text for the peer: a code word, a colon, and a sentence.
    pub description: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before `connect`.
    New,
    /// Connected, neither publishing nor playing.
    Idle,
    /// A decision of the owner is pending.
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
    /// Unparsed input: an incomplete header, or everything while a decision is pending.
    held: Vec<u8>,
    app: String,
    fallback_query: String,
    requests: u32,
    refusals: u32,
    /// Message streams handed out in addition to the one in use. Their numbers begin with 2.
    other_streams: u32,
    /// Whether the play is paused.
    paused: bool,
    /// The texts of [`Event::Skipped`] so far.
    reported: Vec<&'static str>,
    unauthorized_bytes: usize,
    unauthorized_limit: usize,
    received: u32,
    acknowledged: u32,
    window: u32,
}

impl Session {
    /// A session before its first byte. `seed` fills the handshake and need not be secret.
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
            refusals: 0,
            other_streams: 0,
            paused: false,
            reported: Vec::new(),
            unauthorized_bytes: 0,
            unauthorized_limit: MAX_UNAUTHORIZED_BYTES,
            received: 0,
            acknowledged: 0,
            window: ACK_WINDOW,
        }
    }

    /// The next output, or `None` if nothing is to be done now.
    pub fn next_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Takes bytes of the peer, in pieces of any size. Bytes after a close are ignored.
    ///
    /// # Errors
    /// If the peer breaks a rule or a bound. The owner must then close the connection; outputs that are in the queue,
    /// with the last status among them, may still be sent.
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
        if let Err(error) = result {
            self.broken(error);
            return Err(error);
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

    /// Accepts the pending request and parses the held input.
    ///
    /// # Errors
    /// As [`Session::input`]; [`RtmpError::CommandOrder`] if no request is pending.
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
        self.resume().inspect_err(|error| self.broken(*error))
    }

    /// Refuses the pending request and closes.
    pub fn refuse(&mut self, refusal: &Refusal) {
        if let State::Awaiting(_, stream) = self.state {
            self.on_status(stream, "error", refusal.code, &refusal.description);
            self.close();
        }
    }

    /// Bytes of memory that incomplete messages take.
    #[must_use]
    pub fn unfinished_bytes(&self) -> usize {
        self.reader.unfinished_bytes()
    }

    /// Ends a play from this side: sends the end of the stream, then closes. Without a play it only closes.
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

    /// Ends the connection from this side: tells the peer why, if the protocol allows it, then closes.
    pub fn fail(&mut self, description: &str) {
        self.send_failure(description);
        self.close();
    }

    /// Ends the session after an error. No more input is read.
    fn broken(&mut self, error: RtmpError) {
        self.send_failure(&error.to_string());
        self.state = State::Closed;
        self.held = Vec::new();
    }

    fn send_failure(&mut self, description: &str) {
        match self.state {
            State::New if self.handshake.is_none() => self.reject_connection(description),
            State::New | State::Closed => {}
            State::Idle => self.on_status(0, "error", "NetConnection.Call.Failed", description),
            State::Publishing(stream) | State::Awaiting(RequestKind::Publish, stream) => {
                self.on_status(stream, "error", "NetStream.Publish.Failed", description);
            }
            State::Playing(stream) | State::Awaiting(RequestKind::Play, stream) => {
                self.on_status(stream, "error", "NetStream.Play.Failed", description);
            }
        }
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
                if self.unauthorized_bytes > self.unauthorized_limit {
                    return Err(RtmpError::UnauthorizedBytes);
                }
            }
            if self.reader.take_skipped() {
                self.report_skipped("a message that is too long");
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
            message_type::SET_CHUNK_SIZE => self.reader.set_chunk_size(control_value(&message)?)?,
            message_type::ABORT => self.reader.abort(control_value(&message)?),
            message_type::WINDOW_ACK_SIZE => {
                self.window = control_value(&message)?.max(MIN_ACK_WINDOW)
            }
            message_type::USER_CONTROL => self.user_control(&message.payload),
            message_type::AUDIO
            | message_type::VIDEO
            | message_type::DATA
            | message_type::DATA_AMF3
            | message_type::AGGREGATE => self.published(message)?,
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

    /// Ends the publish or play on request of the peer.
    fn stop(&mut self) -> Result<(), RtmpError> {
        match self.state {
            State::Publishing(stream) => {
                self.on_status(stream, "status", "NetStream.Unpublish.Success", "unpublished");
                self.unauthorized_limit = MAX_LEFTOVER_BYTES;
            }
            State::Playing(stream) => {
                self.on_status(stream, "status", "NetStream.Play.Stop", "stopped");
            }
            _ => return Ok(()),
        }
        self.state = State::Idle;
        self.paused = false;
        self.unauthorized_bytes = 0;
        self.out.push_back(Output::Event(Event::Stopped));
        self.reader.expect_media(false)
    }

    /// Reports once that a part of a publish was dropped.
    fn report_skipped(&mut self, what: &'static str) {
        if matches!(self.state, State::Publishing(_)) && !self.reported.contains(&what) {
            self.reported.push(what);
            self.out.push_back(Output::Event(Event::Skipped(what)));
        }
    }

    fn send(&mut self, chunk_stream: u8, message: &Message) {
        let mut bytes = Vec::new();
        encode_message(&mut bytes, chunk_stream, message, self.out_chunk_size);
        self.out.push_back(Output::Send(bytes.into()));
    }
}

/// The first 32 bits of a control message.
pub(in crate::rtmp) fn control_value(message: &Message) -> Result<u32, RtmpError> {
    message
        .payload
        .first_chunk::<4>()
        .map(|bytes| u32::from_be_bytes(*bytes))
        .ok_or(RtmpError::ControlMessage(message.type_id))
}

//! The RTMP server session. In: a program that writes the bytes of a peer, well-formed or not. Checked: the same bytes
//! give the same events and replies however they are split; media comes only while a publish is accepted; everything
//! stays within its bound; nothing follows a close; the decoder can read what the encoder writes. Deliberately absent:
//! sockets.

use lianmai_media_plane::rtmp::amf0::{self, Value};
use lianmai_media_plane::rtmp::chunk::{ChunkReader, encode_message};
use lianmai_media_plane::rtmp::command::Command;
use lianmai_media_plane::rtmp::handshake::PACKET;
use lianmai_media_plane::rtmp::limits::{
    DEFAULT_CHUNK_SIZE, MAX_CHUNK_SIZE, MAX_COMMAND_MESSAGE, MAX_DATA_MESSAGE, MAX_HELD_BYTES,
    MAX_IDLE_PARTIAL_BYTES, MAX_MEDIA_MESSAGE, MAX_NAME_BYTES, MAX_PARTIAL_BYTES, MAX_REQUESTS,
};
use lianmai_media_plane::rtmp::message::{Message, message_type};
use lianmai_media_plane::rtmp::{
    Event, MediaKind, Output, Refusal, Request, RequestKind, RtmpError, Session,
};

use crate::program::Program;

/// Maximum number of bytes that one program writes.
const MAX_WIRE: usize = 160 << 10;
const MAX_STEPS: usize = 256;
/// Upper bound of the other comma-separated items in the `Debug` text of a session.
const SMALL_CHANGE: usize = 4 << 10;

const COMMANDS: [&str; 11] = [
    "createStream",
    "publish",
    "play",
    "deleteStream",
    "closeStream",
    "releaseStream",
    "FCPublish",
    "getStreamLength",
    "pause",
    "seek",
    "connect",
];

const NAMES: [&str; 6] = ["a", "a?sign=1", "", "?", "live/a?v=x&v=y", "\u{e9}"];

/// Interprets any bytes as the data of a peer.
pub fn rtmp(data: &[u8]) {
    let mut program = Program::new(data);
    let with_handshake = program.flag();
    let decisions = program.byte();
    let seed = program.word();
    let wire = write(&mut program, with_handshake);

    let whole = run(&wire, std::iter::once(wire.len()), decisions);
    check(&whole, wire.len());
    let split = run(&wire, pieces(wire.len(), seed), decisions);
    check(&split, wire.len());
    // If there are more bytes than may be held, only one of the two runs may receive them in one piece before
    // permission: then the outcomes may differ.
    if wire.len() <= MAX_HELD_BYTES {
        compare(&whole, &split);
    }
}

/// Writes the bytes of the peer.
fn write(program: &mut Program<'_>, with_handshake: bool) -> Vec<u8> {
    let mut wire = Vec::new();
    if with_handshake {
        wire.push(3);
        wire.extend([0; 8]);
        wire.extend((0..PACKET * 2 - 8).map(|index| (index % 251) as u8));
    }
    let mut size = DEFAULT_CHUNK_SIZE;
    for _ in 0..MAX_STEPS {
        if program.is_over() || wire.len() > MAX_WIRE {
            break;
        }
        match program.byte() & 0x1F {
            0 => wire.extend_from_slice(program.short()),
            1 => wire.extend_from_slice(program.bytes()),
            2 => {
                let (id, message) = message(program);
                put(&mut wire, id, &message, size);
            }
            3 => {
                let (id, mut message) = message(program);
                let length = (program.long() & 0xFFFF) as usize;
                message.payload = vec![program.byte(); length].into();
                put(&mut wire, id, &message, size);
            }
            4 => {
                let name = program.pick(&COMMANDS);
                let stream = u32::from(program.byte() & 3);
                let argument = program.pick(&NAMES);
                put(&mut wire, 3, &command(name, stream, Value::Null, &[argument]), size);
            }
            5 => {
                let fields = ["app", "tcUrl"].map(|key| {
                    let value = format!("live{}", program.pick(&NAMES));
                    (key.to_owned(), Value::String(value))
                });
                let object = Value::Object(fields.into());
                put(&mut wire, 3, &command("connect", 0, object, &[]), size);
            }
            6 => {
                let wanted = program.long();
                put(&mut wire, 2, &control(message_type::SET_CHUNK_SIZE, wanted), size);
                let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
                if (1..=MAX_CHUNK_SIZE).contains(&wanted) {
                    size = wanted;
                }
            }
            7 => {
                let messages = [message(program), message(program)];
                interleave(&mut wire, &messages, size);
            }
            8 => {
                let type_id = program.pick(&[message_type::AUDIO, message_type::VIDEO]);
                let timestamp = program.long();
                let payload = program.short().to_vec().into();
                let message = Message { timestamp, type_id, stream_id: 1, payload };
                put(&mut wire, type_id - 4, &message, size);
            }
            9 => {
                let mut payload = Vec::new();
                if program.flag() {
                    amf0::encode(&mut payload, &Value::String("@setDataFrame".into()));
                }
                amf0::encode(&mut payload, &Value::String("onMetaData".into()));
                payload.extend_from_slice(program.short());
                let type_id = program.pick(&[message_type::DATA, message_type::DATA_AMF3]);
                let message =
                    Message { timestamp: 0, type_id, stream_id: 1, payload: payload.into() };
                put(&mut wire, 5, &message, size);
            }
            10 => {
                let type_id = program.pick(&[
                    message_type::ABORT,
                    message_type::WINDOW_ACK_SIZE,
                    message_type::USER_CONTROL,
                    message_type::ACK,
                ]);
                put(&mut wire, 2, &control(type_id, program.long()), size);
            }
            11 => {
                // A compressed header: the missing fields are those of the previous chunk.
                let format = program.byte() & 3;
                wire.push(format << 6 | (program.byte() & 0x3F));
                wire.extend_from_slice(program.take([11, 7, 3, 0][usize::from(format)]));
                wire.extend_from_slice(program.short());
            }
            12 => {
                // A command with arbitrary values of the program.
                let payload = program.short().to_vec().into();
                let type_id = program.pick(&[message_type::COMMAND, message_type::COMMAND_AMF3]);
                let stream_id = u32::from(program.flag());
                put(&mut wire, 3, &Message { timestamp: 0, type_id, stream_id, payload }, size);
            }
            13 => {
                // Unfinished messages on several chunk streams, possibly too many bytes.
                for id in 0..program.byte() & 7 {
                    let payload = vec![id; 0xFFFF].into();
                    let type_id = program.byte();
                    let message = Message { timestamp: 0, type_id, stream_id: 1, payload };
                    let mut bytes = Vec::new();
                    encode_message(&mut bytes, 8 + id, &message, size);
                    bytes.truncate(bytes.len() / 2);
                    // Cut at the end of a chunk, so that the next header is read as a header.
                    let chunk = 12 + size;
                    let rest = bytes.len().saturating_sub(chunk) / (1 + size) * (1 + size);
                    wire.extend_from_slice(&bytes[..(chunk + rest).min(bytes.len())]);
                }
            }
            14 => {
                let mut payload = Vec::new();
                for _ in 0..program.byte() & 7 {
                    let body = program.short();
                    let length = (body.len() as u32 + u32::from(program.byte() & 1)).to_be_bytes();
                    payload.push(program.pick(&[8, 9, 18, 22, 0]));
                    payload.extend_from_slice(&length[1..]);
                    payload.extend_from_slice(&program.long().to_be_bytes());
                    payload.extend_from_slice(&[0; 3]);
                    payload.extend_from_slice(body);
                    payload.extend_from_slice(&length);
                }
                let (type_id, timestamp) = (message_type::AGGREGATE, program.long());
                let message = Message { timestamp, type_id, stream_id: 1, payload: payload.into() };
                put(&mut wire, 6, &message, size);
            }
            15 => {
                let arguments = vec![Value::Boolean(program.flag())];
                let name = program.pick(&["pause", "publish", "play"]).into();
                let command = Command { name, transaction: 0.0, object: Value::Null, arguments };
                let (type_id, payload) = (message_type::COMMAND, command.encode());
                let message = Message { timestamp: 0, type_id, stream_id: 1, payload };
                put(&mut wire, 3, &message, size);
            }
            _ => check_amf0(program.short()),
        }
    }
    wire
}

fn message(program: &mut Program<'_>) -> (u8, Message) {
    let id = 2 + program.byte() % 62;
    let type_id = program.byte();
    let timestamp = program.long();
    let stream_id = u32::from(program.byte());
    let payload = program.short().to_vec().into();
    (id, Message { timestamp, type_id, stream_id, payload })
}

fn command(name: &str, stream_id: u32, object: Value, arguments: &[&str]) -> Message {
    let arguments = arguments.iter().map(|text| Value::String((*text).into())).collect();
    let command = Command { name: name.into(), transaction: 2.0, object, arguments };
    let payload = command.encode();
    assert_eq!(Command::parse(&payload), Ok(command), "an encoded message can be read");
    Message { timestamp: 0, type_id: message_type::COMMAND, stream_id, payload }
}

fn control(type_id: u8, value: u32) -> Message {
    let mut payload = value.to_be_bytes().to_vec();
    payload.extend([0; 2]);
    Message { timestamp: 0, type_id, stream_id: 0, payload: payload.into() }
}

/// Appends a message in chunks, and asserts that they can be read.
fn put(wire: &mut Vec<u8>, id: u8, message: &Message, size: usize) {
    let start = wire.len();
    encode_message(wire, id, message, size);
    let mut reader = ChunkReader::default();
    reader.set_chunk_size(size as u32).expect("a size that was taken");
    reader.expect_media(true).expect("nothing is unfinished");
    let mut rest = &wire[start..];
    match reader.read(&mut rest) {
        Ok(Some(read)) => {
            assert_eq!(read, *message, "an encoded message can be read");
            assert!(rest.is_empty(), "a message ends where it ends");
        }
        // This message exceeds only the limit for commands.
        Err(RtmpError::MessageSize { length, .. }) => assert!(length > MAX_COMMAND_MESSAGE),
        other => panic!("{message:?} is read as {other:?}"),
    }
}

/// Two messages with alternating chunks, as encoders send audio in the middle of a video frame.
fn interleave(wire: &mut Vec<u8>, messages: &[(u8, Message); 2], size: usize) {
    let chunks = messages.each_ref().map(|(id, message)| {
        let mut bytes = Vec::new();
        encode_message(&mut bytes, *id, message, size);
        let extended = if message.timestamp >= 0xFF_FFFF { 4 } else { 0 };
        let mut chunks = Vec::new();
        let mut header = 12 + extended;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (chunk, tail) = rest.split_at((header + size).min(rest.len()));
            chunks.push(chunk.to_vec());
            rest = tail;
            header = 1 + extended;
        }
        chunks
    });
    let most = chunks.iter().map(Vec::len).max().unwrap_or(0);
    for index in 0..most {
        for chunks in &chunks {
            wire.extend(chunks.get(index).into_iter().flatten());
        }
    }
}

/// Asserts that values are unchanged after encoding and decoding.
fn check_amf0(bytes: &[u8]) {
    let Ok(values) = amf0::decode_all(bytes) else { return };
    let mut once = Vec::new();
    values.iter().for_each(|value| amf0::encode(&mut once, value));
    let again = amf0::decode_all(&once).expect("an encoded message can be read");
    let mut twice = Vec::new();
    again.iter().for_each(|value| amf0::encode(&mut twice, value));
    // Compares bytes, because NaN does not equal itself.
    assert_eq!(once, twice);
}

/// The lengths of the pieces in which the bytes arrive.
pub(crate) fn pieces(mut left: usize, seed: u16) -> impl Iterator<Item = usize> {
    let mut state = u32::from(seed);
    let longest = if seed & 7 == 0 && left < 8 << 10 { 1 } else { 1 + u32::from(seed >> 4) };
    std::iter::from_fn(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let piece = (1 + (state >> 8) % longest) as usize;
        let piece = piece.min(left);
        left -= piece;
        (piece > 0).then_some(piece)
    })
}

/// The outputs of a session.
#[derive(Default)]
struct SessionOutcome {
    events: Vec<Event>,
    sent: Vec<u8>,
    closed: bool,
    error: Option<RtmpError>,
    /// The decision about each request.
    granted: Vec<bool>,
}

impl SessionOutcome {
    fn drain(&mut self, session: &mut Session) {
        while let Some(output) = session.next_output() {
            assert!(!self.closed, "nothing follows a close");
            match output {
                Output::Send(bytes) => self.sent.extend_from_slice(&bytes),
                Output::Event(event) => self.events.push(event),
                Output::Close => self.closed = true,
            }
        }
    }

    /// Whether it was ever permitted to send media.
    fn has_published(&self) -> bool {
        let requests = self.events.iter().filter_map(|event| match event {
            Event::Request(request) => Some(request.kind),
            _ => None,
        });
        let mut granted = requests.zip(&self.granted);
        granted.any(|(kind, granted)| *granted && kind == RequestKind::Publish)
    }

    /// Passes one piece to the session and decides about its requests.
    fn input(&mut self, session: &mut Session, piece: &[u8], decisions: u8) {
        let mut result = session.input(piece);
        loop {
            let before = self.events.len();
            self.drain(session);
            self.error = self.error.or(result.err());
            match &self.events[before..] {
                [.., Event::Request(_)] if self.error.is_none() => {}
                _ => return,
            }
            let granted = decisions >> (self.granted.len() % 8) & 1 == 0;
            self.granted.push(granted);
            if granted {
                result = session.accept();
            } else {
                let description = "denied: no".to_owned();
                session.refuse(&Refusal { code: "NetStream.Publish.BadName", description });
            }
        }
    }
}

fn run(wire: &[u8], pieces: impl Iterator<Item = usize>, decisions: u8) -> SessionOutcome {
    let mut session = Session::new([7; 16]);
    let mut outcome = SessionOutcome::default();
    let mut rest = wire;
    for piece in pieces {
        let (head, tail) = rest.split_at(piece);
        rest = tail;
        outcome.input(&mut session, head, decisions);
        if outcome.error.is_some() {
            assert_eq!(session.input(tail), Ok(()), "bytes after an error are ignored");
            assert!(session.next_output().is_none(), "nothing follows an error");
            return outcome;
        }
    }
    assert!(rest.is_empty());
    // `Debug` shows every byte that is held. It is slow, so it is used only if a bound could be exceeded. Without an
    // open decision these bytes are unfinished messages and less than a header.
    if wire.len() > MAX_IDLE_PARTIAL_BYTES {
        let held = format!("{session:?}").matches(", ").count();
        let most = if outcome.has_published() { MAX_PARTIAL_BYTES } else { MAX_IDLE_PARTIAL_BYTES };
        assert!(held <= most + SMALL_CHANGE, "{held} bytes are held");
    }
    if session.accept().is_ok() {
        panic!("accepted without a request");
    }
    session.finish_play("over");
    outcome.drain(&mut session);
    assert!(outcome.closed);
    assert_eq!(session.input(wire), Ok(()), "bytes after a close are ignored");
    assert!(session.next_output().is_none(), "nothing follows a close");
    outcome
}

/// Checks the order of the events, and every bound.
fn check(outcome: &SessionOutcome, received: usize) {
    let mut current: Option<RequestKind> = None;
    let mut granted = outcome.granted.iter();
    let (mut requests, mut media) = (0, 0);
    for event in &outcome.events {
        match event {
            Event::Request(Request { kind, app, stream, query }) => {
                requests += 1;
                assert_eq!(current, None, "one at a time");
                assert!([app, stream, query].iter().all(|text| text.len() <= MAX_NAME_BYTES));
                if let Some(true) = granted.next() {
                    current = Some(*kind);
                }
            }
            Event::Media { kind, payload, .. } => {
                assert_eq!(current, Some(RequestKind::Publish), "media of an accepted publish");
                let most = match kind {
                    MediaKind::Metadata => MAX_DATA_MESSAGE,
                    MediaKind::Audio | MediaKind::Video => MAX_MEDIA_MESSAGE,
                };
                assert!((1..=most).contains(&payload.len()));
                media += payload.len();
            }
            Event::Paused(_) => assert_eq!(current, Some(RequestKind::Play), "a play is paused"),
            Event::Skipped(_) => assert_eq!(current, Some(RequestKind::Publish), "of a publish"),
            Event::Stopped => assert!(current.take().is_some(), "a begun stream is stopped"),
        }
    }
    assert!(requests <= MAX_REQUESTS);
    assert!(media <= received, "no more media than bytes");
    let sent = outcome.sent.len();
    assert!(sent <= 30_000 + 4 * received, "{sent} bytes for {received}");
}

fn compare(whole: &SessionOutcome, split: &SessionOutcome) {
    assert_eq!(whole.events, split.events);
    // Bytes without permission are counted when they arrive, so this bound may be exceeded before another.
    let counted = Some(RtmpError::UnauthorizedBytes);
    if whole.error != counted && split.error != counted {
        assert_eq!(whole.error, split.error);
    }
    assert_eq!(whole.error.is_some(), split.error.is_some());
    assert_ne!(whole.error, Some(RtmpError::HeldBytes));
    assert_eq!(whole.closed, split.closed);
    // The last reply contains the error.
    if whole.error == split.error {
        assert_eq!(replies(&whole.sent), replies(&split.sent));
    }
}

/// The sent messages without acknowledgements, which depend on how the bytes are split.
fn replies(sent: &[u8]) -> (&[u8], Vec<Message>) {
    let (handshake, mut rest) = sent.split_at(sent.len().min(1 + 2 * PACKET));
    let mut reader = ChunkReader::default();
    let mut messages = Vec::new();
    while let Some(message) = reader.read(&mut rest).expect("a sent message can be read") {
        if message.type_id == message_type::SET_CHUNK_SIZE {
            let size = message.payload.first_chunk().expect("a size has four bytes");
            reader.set_chunk_size(u32::from_be_bytes(*size)).expect("a size in range");
        }
        if message.type_id != message_type::ACK {
            messages.push(message);
        }
    }
    assert!(rest.is_empty(), "whole messages are sent");
    (handshake, messages)
}

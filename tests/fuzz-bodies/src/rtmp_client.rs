//! The RTMP publishing client. In: a program that writes the bytes of an upstream server, well-formed or not. Checked:
//! the same bytes give the same events and answers however they are split; the sent bytes can be read, and are not many
//! more than the received ones; an end is the last event, and contains no key; everything stays within its bound.
//! Deliberately absent: sockets.

use lianmai_media_plane::rtmp::amf0::Value;
use lianmai_media_plane::rtmp::chunk::{ChunkReader, encode_message};
use lianmai_media_plane::rtmp::command::Command;
use lianmai_media_plane::rtmp::handshake::PACKET;
use lianmai_media_plane::rtmp::limits::{
    DEFAULT_CHUNK_SIZE, MAX_ANSWER_CODE, MAX_ANSWER_TEXT, MAX_CHUNK_SIZE, MAX_IDLE_PARTIAL_BYTES,
    MAX_UPSTREAM_BYTES,
};
use lianmai_media_plane::rtmp::message::{Message, message_type};
use lianmai_media_plane::rtmp::{
    Answer, Client, ClientEvent, ClientOutput, MediaKind, RtmpError, Target,
};

use crate::program::Program;

/// Maximum number of bytes that one program writes. Below [`MAX_UPSTREAM_BYTES`] the split makes no difference.
const MAX_WIRE: usize = 96 << 10;
const MAX_STEPS: usize = 256;
/// Upper bound of the other comma-separated items in the `Debug` text of a client.
const SMALL_CHANGE: usize = 4 << 10;
/// Maximum number of bytes that a client sends unprompted, from the handshake to `deleteStream`.
const OWN_WORDS: usize = 2 * PACKET + 2048;

const KEY: &str = "keykey";
const NAMES: [&str; 6] = ["_result", "_error", "onStatus", "close", "onFCPublish", "onBWDone"];
const LEVELS: [&str; 3] = ["status", "error", "warning"];
const CODES: [&str; 6] = [
    "NetStream.Publish.Start",
    "NetStream.Publish.BadName",
    "NetStream.Unpublish.Success",
    "NetConnection.Connect.Success",
    "NetConnection.Connect.Closed",
    "\u{e9}\n",
];

/// Interprets any bytes as the data of an upstream.
pub fn rtmp_client(data: &[u8]) {
    let mut program = Program::new(data);
    let with_handshake = program.flag();
    let seed = program.word();
    let wire = write(&mut program, with_handshake);
    let whole = run(&wire, std::iter::once(wire.len()));
    let split = run(&wire, crate::rtmp::pieces(wire.len(), seed));
    if (wire.len() as u64) < MAX_UPSTREAM_BYTES {
        assert_eq!(whole.events, split.events);
        assert_eq!(whole.error, split.error);
        assert_eq!(whole.closed, split.closed);
        assert_eq!(replies(&whole.sent), replies(&split.sent));
    }
}

/// Writes the bytes of the upstream.
fn write(program: &mut Program<'_>, with_handshake: bool) -> Vec<u8> {
    let mut wire = Vec::new();
    if with_handshake {
        wire.push(3);
        wire.extend((0..PACKET * 2).map(|index| (index % 251) as u8));
    }
    let mut size = DEFAULT_CHUNK_SIZE;
    for _ in 0..MAX_STEPS {
        if program.is_over() || wire.len() > MAX_WIRE {
            break;
        }
        match program.byte() & 0xF {
            0 => wire.extend_from_slice(program.short()),
            1 => wire.extend_from_slice(program.bytes()),
            // The answers on the way to a publish.
            2 => put(&mut wire, &answer("_result", 1.0, Value::Null), size),
            3 => {
                let stream = Value::Number(f64::from(program.byte()));
                put(&mut wire, &answer("_result", 4.0, stream), size);
            }
            4 => put(&mut wire, &answer("onStatus", 0.0, status(program)), size),
            5 => {
                let (name, number) = (program.pick(&NAMES), f64::from(program.byte() & 7));
                let information = if program.flag() { status(program) } else { Value::Undefined };
                put(&mut wire, &answer(name, number, information), size);
            }
            6 => {
                let number = f64::from_bits(program.huge());
                put(&mut wire, &answer("_result", 4.0, Value::Number(number)), size);
            }
            7 => {
                let wanted = program.long();
                put(&mut wire, &control(message_type::SET_CHUNK_SIZE, wanted), size);
                let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
                if (1..=MAX_CHUNK_SIZE).contains(&wanted) {
                    size = wanted;
                }
            }
            8 => {
                let payload = [&[0, 6][..], &program.long().to_be_bytes()].concat().into();
                let type_id = message_type::USER_CONTROL;
                put(&mut wire, &Message { timestamp: 0, type_id, stream_id: 0, payload }, size);
            }
            9 => {
                let type_id = program.pick(&[
                    message_type::ABORT,
                    message_type::WINDOW_ACK_SIZE,
                    message_type::SET_PEER_BANDWIDTH,
                    message_type::ACK,
                ]);
                put(&mut wire, &control(type_id, program.long()), size);
            }
            10 => {
                let (type_id, timestamp) = (program.byte(), program.long());
                let stream_id = u32::from(program.byte());
                let payload = program.short().to_vec().into();
                put(&mut wire, &Message { timestamp, type_id, stream_id, payload }, size);
            }
            11 => {
                let (type_id, length) = (program.byte(), program.word());
                let payload = vec![program.byte(); usize::from(length)].into();
                put(&mut wire, &Message { timestamp: 0, type_id, stream_id: 1, payload }, size);
            }
            12 => {
                // A command with arbitrary values of the program.
                let payload = program.short().to_vec().into();
                let type_id = program.pick(&[message_type::COMMAND, message_type::COMMAND_AMF3]);
                put(&mut wire, &Message { timestamp: 0, type_id, stream_id: 0, payload }, size);
            }
            _ => {
                for _ in 0..program.byte() {
                    let ping = control(message_type::USER_CONTROL, 0x0006_0000);
                    put(&mut wire, &ping, size);
                }
            }
        }
    }
    wire
}

fn status(program: &mut Program<'_>) -> Value {
    let text = |text: &str| Value::String(text.to_owned());
    let description = format!("{}{KEY}{KEY}{}", program.text(), "x".repeat(400));
    Value::Object(vec![
        ("level".into(), text(program.pick(&LEVELS))),
        ("code".into(), text(program.pick(&CODES))),
        ("description".into(), Value::String(description)),
    ])
}

fn answer(name: &str, transaction: f64, argument: Value) -> Message {
    let command =
        Command { name: name.into(), transaction, object: Value::Null, arguments: vec![argument] };
    let (type_id, payload) = (message_type::COMMAND, command.encode());
    Message { timestamp: 0, type_id, stream_id: 0, payload }
}

fn control(type_id: u8, value: u32) -> Message {
    let mut payload = value.to_be_bytes().to_vec();
    payload.extend([0; 2]);
    Message { timestamp: 0, type_id, stream_id: 0, payload: payload.into() }
}

fn put(wire: &mut Vec<u8>, message: &Message, size: usize) {
    encode_message(wire, 3, message, size);
}

/// The outputs of a client.
#[derive(Default)]
struct ClientOutcome {
    events: Vec<ClientEvent>,
    sent: Vec<u8>,
    closed: bool,
    error: Option<RtmpError>,
}

impl ClientOutcome {
    fn drain(&mut self, client: &mut Client) {
        while let Some(output) = client.next_output() {
            assert!(!self.closed, "nothing follows a close");
            match output {
                ClientOutput::Send(bytes) => self.sent.extend_from_slice(&bytes),
                ClientOutput::Event(event) => self.events.push(event),
                ClientOutput::Close => self.closed = true,
            }
        }
    }
}

fn run(wire: &[u8], pieces: impl Iterator<Item = usize>) -> ClientOutcome {
    let target = Target::new("live", "rtmp://h/live", &format!("{KEY}?a={KEY}")).expect("short");
    let mut client = Client::new(target, [7; 16]);
    let mut outcome = ClientOutcome::default();
    let mut rest = wire;
    for piece in pieces {
        let (head, tail) = rest.split_at(piece);
        rest = tail;
        outcome.error = client.input(head).err();
        outcome.drain(&mut client);
        if outcome.error.is_some() {
            assert_eq!(client.input(tail), Ok(()), "bytes after an error are ignored");
            assert!(client.next_output().is_none(), "nothing follows an error");
            break;
        }
    }
    let held = format!("{client:?}").matches(", ").count();
    assert!(held <= MAX_IDLE_PARTIAL_BYTES + SMALL_CHANGE, "{held} bytes are held");
    let is_publishing = client.is_publishing();
    let accepted = outcome.events.first() == Some(&ClientEvent::Accepted);
    assert_eq!(is_publishing, accepted && outcome.events.len() == 1 && outcome.error.is_none());
    let taken = client.publish(MediaKind::Audio, 0, &vec![0xAF, 1].into());
    assert_eq!(taken, is_publishing);
    client.finish();
    outcome.drain(&mut client);
    assert!(outcome.closed || outcome.error.is_some());
    check(&outcome, wire.len());
    outcome
}

/// Checks the order of events, and every bound.
fn check(outcome: &ClientOutcome, received: usize) {
    let fits = |answer: &Answer| {
        let Answer { code, description } = answer;
        assert!(code.len() <= MAX_ANSWER_CODE && description.chars().count() <= MAX_ANSWER_TEXT);
        assert!(!format!("{code}{description}").contains(KEY), "{answer:?}");
        assert!(!format!("{code}{description}").chars().any(char::is_control), "{answer:?}");
    };
    match &outcome.events[..] {
        [] | [ClientEvent::Accepted] => {}
        [ClientEvent::Refused(answer)] | [ClientEvent::Accepted, ClientEvent::Closed(answer)] => {
            fits(answer);
        }
        other => panic!("{other:?}"),
    }
    let sent = outcome.sent.len();
    assert!(sent <= OWN_WORDS + 3 * received, "{sent} bytes for {received}");
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

//! Helpers of several test modules: the bytes of a client, a reader of the server's bytes, authorizers.

use std::net::SocketAddr;

use lianmai_media_plane::rtmp::amf0::Value;
use lianmai_media_plane::rtmp::chunk::{ChunkReader, encode_message};
use lianmai_media_plane::rtmp::command::Command;
use lianmai_media_plane::rtmp::handshake::PACKET;
use lianmai_media_plane::rtmp::message::{Message, message_type};
use lianmai_media_plane::rtmp::{Event, Output, RtmpError, Session};
use lianmai_media_plane::{Authorizer, Direction, Kinds, Protocol, StreamRequest, Verdict};

/// C0, C1 and C2.
pub(crate) fn handshake() -> Vec<u8> {
    let mut bytes = vec![3];
    bytes.extend([0; 8]);
    bytes.extend((0..PACKET * 2 - 8).map(|index| (index % 251) as u8));
    bytes
}

pub(crate) fn chunked(
    chunk_stream: u8,
    type_id: u8,
    stream_id: u32,
    timestamp: u32,
    payload: &[u8],
    size: usize,
) -> Vec<u8> {
    let mut out = Vec::new();
    let message = Message { timestamp, type_id, stream_id, payload: payload.to_vec().into() };
    encode_message(&mut out, chunk_stream, &message, size);
    out
}

pub(crate) fn message(
    chunk_stream: u8,
    type_id: u8,
    stream_id: u32,
    timestamp: u32,
    payload: &[u8],
) -> Vec<u8> {
    chunked(chunk_stream, type_id, stream_id, timestamp, payload, 128)
}

pub(crate) fn text(text: &str) -> Value {
    Value::String(text.into())
}

pub(crate) fn command(
    stream_id: u32,
    name: &str,
    transaction: f64,
    object: Value,
    arguments: Vec<Value>,
) -> Vec<u8> {
    let command = Command { name: name.into(), transaction, object, arguments };
    message(3, message_type::COMMAND, stream_id, 0, &command.encode())
}

pub(crate) fn connect(app: &str, tc_url: &str) -> Vec<u8> {
    let object = Value::Object(vec![("app".into(), text(app)), ("tcUrl".into(), text(tc_url))]);
    command(0, "connect", 1.0, object, vec![])
}

/// Everything from the handshake to the publish request, in the order of ffmpeg and OBS.
pub(crate) fn publish_bytes(name: &str) -> Vec<u8> {
    let mut bytes = handshake();
    bytes.extend(connect("live", "rtmp://host/live"));
    bytes.extend(command(0, "releaseStream", 2.0, Value::Null, vec![text(name)]));
    bytes.extend(command(0, "FCPublish", 3.0, Value::Null, vec![text(name)]));
    bytes.extend(command(0, "createStream", 4.0, Value::Null, vec![]));
    bytes.extend(command(1, "publish", 5.0, Value::Null, vec![text(name), text("live")]));
    bytes
}

pub(crate) fn play_bytes(name: &str) -> Vec<u8> {
    let mut bytes = handshake();
    bytes.extend(connect("live", "rtmp://host/live"));
    bytes.extend(command(0, "createStream", 2.0, Value::Null, vec![]));
    bytes.extend(command(0, "getStreamLength", 3.0, Value::Null, vec![text(name)]));
    bytes.extend(command(1, "play", 4.0, Value::Null, vec![text(name), Value::Number(-2000.0)]));
    bytes
}

/// The outputs of a session.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) sent: Vec<u8>,
    pub(crate) events: Vec<Event>,
    pub(crate) closed: bool,
}

impl Outcome {
    pub(crate) fn drain(&mut self, session: &mut Session) {
        while let Some(output) = session.next_output() {
            assert!(!self.closed, "nothing follows a close");
            match output {
                Output::Send(bytes) => self.sent.extend_from_slice(&bytes),
                Output::Event(event) => self.events.push(event),
                Output::Close => self.closed = true,
            }
        }
    }

    /// The server's messages after its handshake, read with the chunk size that the server sets.
    pub(crate) fn messages(&self) -> Vec<Message> {
        messages(&self.sent[1 + 2 * PACKET..])
    }

    pub(crate) fn commands(&self) -> Vec<Command> {
        let messages = self.messages();
        let commands = messages.iter().filter(|message| message.type_id == message_type::COMMAND);
        commands.map(|message| Command::parse(&message.payload).unwrap()).collect()
    }

    /// The codes of the statuses that the server sent, in order.
    pub(crate) fn codes(&self) -> Vec<String> {
        let information = |command: Command| {
            command.arguments.first()?.get("code")?.as_str().map(ToOwned::to_owned)
        };
        self.commands().into_iter().filter_map(information).collect()
    }
}

pub(crate) fn messages(mut bytes: &[u8]) -> Vec<Message> {
    let mut reader = ChunkReader::default();
    reader.expect_media(true).unwrap();
    let mut messages = Vec::new();
    while let Some(message) = reader.read(&mut bytes).unwrap() {
        if message.type_id == message_type::SET_CHUNK_SIZE {
            reader
                .set_chunk_size(u32::from_be_bytes(message.payload[..4].try_into().unwrap()))
                .unwrap();
        }
        messages.push(message);
    }
    messages
}

/// Passes bytes to a session and accepts every request.
pub(crate) fn run(
    session: &mut Session,
    outcome: &mut Outcome,
    bytes: &[u8],
) -> Result<(), RtmpError> {
    let mut result = session.input(bytes);
    loop {
        let before = outcome.events.len();
        outcome.drain(session);
        let asked = outcome.events[before..].iter().any(|event| matches!(event, Event::Request(_)));
        if !asked || result.is_err() {
            return result;
        }
        result = session.accept();
    }
}

pub(crate) fn session() -> Session {
    Session::new([7; 16])
}

/// The viewer that the query of a request names, as in [`Answer`].
pub(crate) fn viewer_of(request: &StreamRequest) -> Option<String> {
    request.query.strip_prefix("v=").map(ToOwned::to_owned)
}

/// An authorizer that answers with a function.
pub(crate) struct Answer<F>(pub(crate) F);

impl<F: Fn(StreamRequest) -> Verdict + Send + Sync + 'static> Authorizer for Answer<F> {
    async fn authorize(&self, request: StreamRequest) -> Verdict {
        (self.0)(request)
    }

    fn viewer(&self, request: &StreamRequest) -> Option<String> {
        viewer_of(request)
    }
}

/// Allows everything. The viewer is the one that the query names.
pub(crate) fn allow() -> Answer<fn(StreamRequest) -> Verdict> {
    Answer(|request| Verdict::Allow {
        viewer: viewer_of(&request),
        kinds: Kinds::BOTH,
        account: None,
    })
}

pub(crate) fn request(direction: Direction, stream: &str, query: &str) -> StreamRequest {
    StreamRequest::new(
        direction,
        "live",
        stream,
        query,
        Protocol::Rtmp,
        SocketAddr::from(([127, 0, 0, 1], 9)),
    )
}

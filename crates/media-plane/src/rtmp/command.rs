//! Message types, commands and the control messages this side sends.
//!
//! In: bodies of command messages. Out: parsed commands, and bodies of replies. Absent: state.

use bytes::Bytes;

use super::RtmpError;
use super::amf0::{self, Value};
use super::chunk::Message;

/// Numbers of the message types (RTMP 1.0 §5.4, §7.1).
pub mod message_type {
    /// Chunk size of the sender from here on.
    pub const SET_CHUNK_SIZE: u8 = 1;
    /// The unfinished message of a chunk stream is void.
    pub const ABORT: u8 = 2;
    /// Bytes received so far.
    pub const ACK: u8 = 3;
    /// Ping, stream begin, stream end.
    pub const USER_CONTROL: u8 = 4;
    /// How often to acknowledge.
    pub const WINDOW_ACK_SIZE: u8 = 5;
    /// How much may be unacknowledged.
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    /// Audio, an FLV audio tag body.
    pub const AUDIO: u8 = 8;
    /// Video, an FLV video tag body.
    pub const VIDEO: u8 = 9;
    /// Data behind one AMF3 marker byte.
    pub const DATA_AMF3: u8 = 15;
    /// Command behind one AMF3 marker byte.
    pub const COMMAND_AMF3: u8 = 17;
    /// Data, AMF0.
    pub const DATA: u8 = 18;
    /// Command, AMF0.
    pub const COMMAND: u8 = 20;
}

/// Chunk streams this side sends on.
pub mod chunk_stream {
    /// Protocol control.
    pub const CONTROL: u8 = 2;
    /// Commands and status.
    pub const COMMAND: u8 = 3;
    /// Audio of a play.
    pub const AUDIO: u8 = 4;
    /// Metadata of a play.
    pub const DATA: u8 = 5;
    /// Video of a play.
    pub const VIDEO: u8 = 6;
}

/// Events of user control messages.
pub(super) mod user_control {
    pub(in super::super) const STREAM_BEGIN: u16 = 0;
    pub(in super::super) const STREAM_EOF: u16 = 1;
    pub(in super::super) const PING_REQUEST: u16 = 6;
    pub(in super::super) const PING_RESPONSE: u16 = 7;
}

/// The only message stream a connection has: `createStream` always answers it, so that encoded media
/// is the same for every player.
pub const MEDIA_STREAM: u32 = 1;

/// A command of the peer.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Name.
    pub name: String,
    /// Transaction number; 0 wants no answer.
    pub transaction: f64,
    /// The command object, often null.
    pub object: Value,
    /// What follows it.
    pub arguments: Vec<Value>,
}

impl Command {
    /// Parses the body of a command message.
    ///
    /// # Errors
    /// When it is not AMF0 within bounds or has no name. A missing transaction number is taken as 0.
    pub fn parse(payload: &[u8]) -> Result<Self, RtmpError> {
        let mut values = amf0::decode_all(payload)?.into_iter();
        let Some(Value::String(name)) = values.next() else { return Err(RtmpError::Command) };
        let transaction = values.next().and_then(|value| value.as_number()).unwrap_or(0.0);
        let object = values.next().unwrap_or(Value::Null);
        Ok(Self { name, transaction, object, arguments: values.collect() })
    }

    /// The body of a command message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        amf0::encode(&mut out, &Value::String(self.name.clone()));
        amf0::encode(&mut out, &Value::Number(self.transaction));
        amf0::encode(&mut out, &self.object);
        self.arguments.iter().for_each(|value| amf0::encode(&mut out, value));
        out.into()
    }
}

/// A protocol control message on message stream 0.
pub(super) fn control(type_id: u8, payload: &[u8]) -> Message {
    Message { timestamp: 0, type_id, stream_id: 0, payload: Bytes::copy_from_slice(payload) }
}

/// A user control message with a 32-bit argument.
pub(super) fn user_control_message(event: u16, argument: u32) -> Message {
    let mut payload = [0; 6];
    payload[..2].copy_from_slice(&event.to_be_bytes());
    payload[2..].copy_from_slice(&argument.to_be_bytes());
    control(message_type::USER_CONTROL, &payload)
}

/// The information object of a status.
pub(super) fn status(level: &str, code: &str, description: &str) -> Value {
    Value::Object(vec![
        ("level".into(), Value::String(level.into())),
        ("code".into(), Value::String(code.into())),
        ("description".into(), Value::String(description.into())),
    ])
}

/// `name?query` to its two parts.
pub(super) fn split_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

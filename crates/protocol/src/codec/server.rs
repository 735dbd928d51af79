//! Server-to-client frames: answers, channel events and notices, alone or in an array.

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::gate::{self, FrameError};
use crate::error::{ErrorName, RpcError};
use crate::id::{Epoch, RequestId};
use crate::limits::MAX_SERVER_FRAME_BYTES;
use crate::message::{ChannelEvent, Notice, Position};

/// One message of a server.
#[derive(Clone)]
pub enum ServerMessage {
    /// An answer. The result is JSON; its type follows from the method that was asked.
    Answer {
        /// The request; `None` for a refusal of something that had no readable id.
        id: Option<RequestId>,
        /// Its outcome.
        outcome: Result<Box<RawValue>, RpcError>,
    },
    /// An event of the channel's log.
    Event(Position, ChannelEvent),
    /// A message to this session.
    Notice(Notice),
}

impl std::fmt::Debug for ServerMessage {
    /// Leaves results out: they hold URLs and tickets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ServerMessage::Answer { id, outcome } => {
                let error = outcome.as_ref().err();
                f.debug_struct("Answer")
                    .field("id", id)
                    .field("error", &error)
                    .finish_non_exhaustive()
            }
            ServerMessage::Event(position, event) => {
                f.debug_tuple("Event").field(position).field(&event.method()).finish()
            }
            ServerMessage::Notice(notice) => {
                f.debug_tuple("Notice").field(&notice.method()).finish()
            }
        }
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default)]
    id: Option<RequestId>,
    #[serde(borrow)]
    method: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<RpcError>,
}

#[derive(Deserialize)]
struct MaybePosition {
    epoch: Option<Epoch>,
    seq: Option<u64>,
}

/// Reads one server-to-client frame.
///
/// # Errors
/// The frame is longer than 1 MiB, too deep, not JSON, or holds a message that cannot be read: the
/// receiver closes and resumes (contract rules A19, B22).
pub fn decode_server_frame(frame: &[u8]) -> Result<Vec<ServerMessage>, FrameError> {
    let text = gate::check(frame, MAX_SERVER_FRAME_BYTES)?;
    let parse_error = |_| FrameError::from(ErrorName::ParseError);
    let whole: &RawValue = serde_json::from_str(text).map_err(parse_error)?;
    if !whole.get().starts_with('[') {
        return Ok(vec![decode_message(whole).map_err(parse_error)?]);
    }
    let elements: Vec<&RawValue> = serde_json::from_str(whole.get()).map_err(parse_error)?;
    elements.into_iter().map(|json| decode_message(json).map_err(parse_error)).collect()
}

fn decode_message(json: &RawValue) -> Result<ServerMessage, serde_json::Error> {
    let envelope: Envelope<'_> = serde_json::from_str(json.get())?;
    let Some(method) = envelope.method else {
        let outcome = match (envelope.result, envelope.error) {
            (_, Some(error)) => Err(error),
            (Some(result), None) => Ok(result.to_owned()),
            (None, None) => {
                return Err(serde::de::Error::custom("neither method, result nor error"));
            }
        };
        return Ok(ServerMessage::Answer { id: envelope.id, outcome });
    };
    let Some(params) = envelope.params else {
        return Err(serde::de::Error::custom("a notification without params"));
    };
    let position: MaybePosition = serde_json::from_str(params.get())?;
    match (position.epoch, position.seq) {
        (Some(epoch), Some(seq)) => Ok(ServerMessage::Event(
            Position { epoch, seq },
            ChannelEvent::decode(&method, params)?,
        )),
        _ => Ok(ServerMessage::Notice(Notice::decode(&method, params)?)),
    }
}

/// Writes an answer with a result.
#[must_use]
pub fn encode_result<T: Serialize>(id: RequestId, result: &T) -> String {
    #[derive(Serialize)]
    struct Answer<'a, T> {
        jsonrpc: &'static str,
        id: RequestId,
        result: &'a T,
    }
    serde_json::to_string(&Answer { jsonrpc: "2.0", id, result })
        .expect("a result has string keys only")
}

/// Writes an error answer; `id` is `null` where the request had none that could be read.
#[must_use]
pub fn encode_error(id: Option<RequestId>, error: &RpcError) -> String {
    #[derive(Serialize)]
    struct Answer<'a> {
        jsonrpc: &'static str,
        id: Option<RequestId>,
        error: &'a RpcError,
    }
    serde_json::to_string(&Answer { jsonrpc: "2.0", id, error })
        .expect("an error has string keys only")
}

#[derive(Serialize)]
struct Notification<'a, T> {
    jsonrpc: &'static str,
    method: &'a str,
    params: T,
}

/// Puts `epoch` and `seq` in front of an event's own fields.
struct Numbered<'a> {
    position: Position,
    event: &'a ChannelEvent,
}

impl Serialize for Numbered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Flat<'a> {
            epoch: Epoch,
            seq: u64,
            #[serde(flatten)]
            event: &'a ChannelEvent,
        }
        if let ChannelEvent::Unknown { .. } = self.event {
            let mut map = serializer.serialize_map(Some(2))?;
            map.serialize_entry("epoch", &self.position.epoch)?;
            map.serialize_entry("seq", &self.position.seq)?;
            return map.end();
        }
        Flat { epoch: self.position.epoch, seq: self.position.seq, event: self.event }
            .serialize(serializer)
    }
}

/// Writes a channel event.
#[must_use]
pub fn encode_event(position: Position, event: &ChannelEvent) -> String {
    serde_json::to_string(&Notification {
        jsonrpc: "2.0",
        method: event.method(),
        params: Numbered { position, event },
    })
    .expect("an event has string keys only")
}

/// Writes a notice.
#[must_use]
pub fn encode_notice(notice: &Notice) -> String {
    serde_json::to_string(&Notification { jsonrpc: "2.0", method: notice.method(), params: notice })
        .expect("a notice has string keys only")
}

/// Joins encoded messages to one frame: an array, or the message itself when there is one.
#[must_use]
pub fn join_batch<B: AsRef<[u8]>>(messages: &[B]) -> Vec<u8> {
    if let [only] = messages {
        return only.as_ref().to_vec();
    }
    let bytes = messages.iter().map(|m| m.as_ref().len() + 1).sum::<usize>() + 2;
    let mut frame = Vec::with_capacity(bytes);
    frame.push(b'[');
    for (at, message) in messages.iter().enumerate() {
        if at > 0 {
            frame.push(b',');
        }
        frame.extend_from_slice(message.as_ref());
    }
    frame.push(b']');
    frame
}

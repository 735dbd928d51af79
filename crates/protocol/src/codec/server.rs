//! Reading what a server sends: answers, channel events and notices, alone or in an array. Comes in: one text frame.
//! Goes out: its messages. Deliberately absent: writing (`reply.rs`).

use serde::Deserialize;
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
/// receiver closes and resumes (CLI-2, CLI-6).
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

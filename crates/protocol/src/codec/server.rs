//! Reads what a server sends: answers, channel events and notices, alone or in an array. Comes in: one text frame. Goes
//! out: its messages. Deliberately absent: writing (`reply.rs`).

use super::gate::{self, FrameError};
use crate::error::{ErrorName, RpcError};
use crate::id::{Epoch, RequestId};
use crate::limits::MAX_SERVER_FRAME_BYTES;
use crate::message::{ChannelEvent, Notice, Position};
use crate::prelude::*;
use crate::raw::RawJson;
use crate::wire::{self, Read, Reader, Refusal, Refused, Wire};

/// One message of a server.
#[derive(Clone)]
pub enum ServerMessage {
    /// An answer. The result is JSON; its type follows from the method that was asked.
    Answer {
        /// The request; `None` for a refusal of something that had no readable id.
        id: Option<RequestId>,
        /// Its outcome.
        outcome: Result<RawJson, RpcError>,
    },
    /// An event of the channel's log.
    Event(Position, ChannelEvent),
    /// A message to this session.
    Notice(Notice),
}

impl core::fmt::Debug for ServerMessage {
    /// Leaves results out: they hold URLs and tickets.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
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

/// The members of every message.
#[derive(Wire)]
struct Envelope {
    id: Option<RequestId>,
    method: Option<String>,
    params: Option<RawJson>,
    result: Option<RawJson>,
    error: Option<RpcError>,
}

/// Present in an event, absent in a notice.
#[derive(Wire)]
struct MaybePosition {
    epoch: Option<Epoch>,
    seq: Option<u64>,
}

/// Reads one server-to-client frame as bytes, which need not be UTF-8.
///
/// # Errors
/// See [`decode_server_text`].
#[cfg(feature = "server")]
pub fn decode_server_frame(frame: &[u8]) -> Result<Vec<ServerMessage>, FrameError> {
    decode_server_text(gate::check(frame, MAX_SERVER_FRAME_BYTES)?)
}

/// Reads one server-to-client frame.
///
/// # Errors
/// The frame is longer than 1 MiB, too deep, not JSON, or holds a message that cannot be read: the
/// receiver closes and resumes (CLI-2, CLI-6).
pub fn decode_server_text(text: &str) -> Result<Vec<ServerMessage>, FrameError> {
    gate::check_text(text, MAX_SERVER_FRAME_BYTES)?;
    let mut reader = Reader::new(text);
    let mut messages = Vec::new();
    let mut message = |reader: &mut Reader<'_>| {
        let mut envelope = Envelope::blank();
        envelope.read(reader)?;
        messages.push(envelope.open().map_err(|_| Refused)?);
        Ok(())
    };
    let read = match reader.peek() {
        Some(b'[') => reader.array(&mut message),
        _ => message(&mut reader),
    };
    match read.and_then(|()| reader.finish()) {
        Ok(()) => Ok(messages),
        Err(Refused) => Err(ErrorName::ParseError.into()),
    }
}

impl Envelope {
    fn open(self) -> Result<ServerMessage, Refusal> {
        let none = || Refusal { name: "invalidRequest".into(), field: String::new() };
        let Some(method) = self.method else {
            let outcome = match (self.result, self.error) {
                (_, Some(error)) => Err(error),
                (Some(result), None) => Ok(result),
                (None, None) => return Err(none()),
            };
            return Ok(ServerMessage::Answer { id: self.id, outcome });
        };
        let params = self.params.ok_or_else(none)?;
        let position: MaybePosition = wire::from_text(params.get())?;
        Ok(match (position.epoch, position.seq) {
            (Some(epoch), Some(seq)) => ServerMessage::Event(
                Position { epoch, seq },
                ChannelEvent::read(method, params.get())?,
            ),
            _ => ServerMessage::Notice(Notice::read(method, params.get())?),
        })
    }
}

/// Reads a result, whose type follows from the method that was asked.
///
/// # Errors
/// It is not such a result.
pub fn decode_result<T: Wire>(result: &RawJson) -> Result<T, FrameError> {
    wire::from_text(result.get()).map_err(|_| ErrorName::ParseError.into())
}

//! Writes what a server sends: answers, channel events and notices, alone or in an array. Only a server does this
//! (feature `server`). Deliberately absent: reading (`server.rs`).

use crate::prelude::*;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::error::RpcError;
use crate::id::{Epoch, RequestId};
use crate::message::{ChannelEvent, Notice, Position};

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

/// Writes an error answer; `id` is `null` if none could be read from the request.
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

//! Writes a request. Comes in: a call and its id. Goes out: the text of a frame. Deliberately absent: reading
//! (`client.rs`).

use super::gate::nests_deeper_than;
use crate::id::RequestId;
use crate::limits::MAX_JSON_DEPTH;
use crate::message::{Call, Request};
use crate::prelude::*;
use crate::wire::Writer;

/// A call as text that can be sent more than once. Its parameters are the same bytes each time, and a server recognises
/// a repeat by them (IDS-2).
#[derive(Clone)]
pub struct EncodedCall {
    method: &'static str,
    params: String,
}

impl EncodedCall {
    /// Writes the parameters.
    #[must_use]
    pub fn new(call: &Call) -> EncodedCall {
        EncodedCall { method: call.method(), params: call.params_text() }
    }

    /// The text of a frame that contains only this request.
    #[must_use]
    pub fn frame(&self, id: RequestId, ack: Option<RequestId>) -> String {
        let mut writer = Writer::default();
        writer.begin('{');
        writer.name("jsonrpc");
        writer.string("2.0");
        writer.field("id", &id);
        if let Some(ack) = &ack {
            writer.field("ack", ack);
        }
        writer.name("method");
        writer.string(self.method);
        writer.name("params");
        writer.raw(&self.params);
        writer.end('}');
        writer.into_text()
    }

    /// Whether its frame nests deeper than a server accepts.
    #[must_use]
    pub fn is_too_deep(&self) -> bool {
        nests_deeper_than(&self.params, MAX_JSON_DEPTH - 1)
    }

    /// Greatest possible length of its frame in bytes, for any ids.
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        self.frame(RequestId(u64::MAX), Some(RequestId(u64::MAX))).len()
    }
}

/// Writes one request as the text of a frame.
#[must_use]
pub fn encode_request(request: &Request) -> String {
    EncodedCall::new(&request.call).frame(request.id, request.ack)
}

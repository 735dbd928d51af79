//! Writing a request. Comes in: a call, its id. Goes out: the text of a frame. Deliberately absent: reading
//! (`client.rs`).

use serde::Serialize;
use serde_json::value::RawValue;

use crate::id::RequestId;
use crate::message::{Call, Request};

#[derive(Serialize)]
struct Envelope<'a> {
    jsonrpc: &'static str,
    id: RequestId,
    #[serde(skip_serializing_if = "Option::is_none")]
    ack: Option<RequestId>,
    method: &'static str,
    params: &'a RawValue,
}

/// A call as text that can be sent more than once: its parameters are the same to the byte each time, which is how a
/// server knows a repeat (IDS-2).
#[derive(Clone)]
pub struct EncodedCall {
    method: &'static str,
    params: Box<RawValue>,
}

impl EncodedCall {
    /// Writes the parameters.
    #[must_use]
    pub fn new(call: &Call) -> EncodedCall {
        let params = call.params_json().expect("parameters have string keys only");
        EncodedCall { method: call.method(), params }
    }

    /// The text of a frame with this request alone.
    #[must_use]
    pub fn frame(&self, id: RequestId, ack: Option<RequestId>) -> String {
        let EncodedCall { method, params } = self;
        serde_json::to_string(&Envelope { jsonrpc: "2.0", id, ack, method, params })
            .expect("an envelope has string keys only")
    }

    /// The most bytes that its frame can have, whatever the ids are.
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

//! Reads what a client sends: one request, or an array of up to 32. Only a server does this (feature `server`). Comes
//! in: one text frame. Goes out: requests, and refusals of elements that are not requests. Deliberately absent: writing
//! (`request.rs`).

use alloc::format;
use alloc::string::ToString;
use alloc::vec;

use crate::prelude::*;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::gate::{self, FrameError};
use crate::error::{ErrorName, RpcError};
use crate::id::RequestId;
use crate::limits::{MAX_BATCH, MAX_CLIENT_FRAME_BYTES};
use crate::message::{Call, Request};

/// One element of a frame: a request, or a refusal to send to the client.
#[derive(Clone, Debug, PartialEq)]
pub enum Element {
    /// A well-formed request.
    Request(Request),
    /// Not a request that this version can read.
    Refused {
        /// The id for the answer; `None` if none could be read.
        id: Option<RequestId>,
        /// The reason.
        error: RpcError,
    },
}

/// The value of absent `params`.
const NO_PARAMS: &str = "{}";

/// Every member is raw, so that a member of the wrong type does not prevent an answer with the `id`.
#[derive(Deserialize)]
struct RawEnvelope<'a> {
    #[serde(borrow)]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    ack: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// Reads a member of the envelope; `None` when it is absent, null or of another type.
fn member<'a, T: Deserialize<'a>>(json: Option<&'a RawValue>) -> Option<T> {
    json.and_then(|json| serde_json::from_str(json.get()).ok())
}

/// One element of a frame of which only the envelope was read. Reading `params` costs many times as much, so a limit on
/// requests can be applied before.
#[derive(Clone, Debug, PartialEq)]
pub enum ElementEnvelope<'a> {
    /// A valid envelope.
    Request(RequestEnvelope<'a>),
    /// An element without a valid envelope.
    Refused {
        /// The id for the answer; `None` if none could be read.
        id: Option<RequestId>,
        /// The reason.
        error: RpcError,
    },
}

impl ElementEnvelope<'_> {
    /// Length of its parameters in bytes as they were received; 0 for a refusal.
    #[must_use]
    pub fn params_len(&self) -> usize {
        match self {
            ElementEnvelope::Request(envelope) => envelope.params.len(),
            ElementEnvelope::Refused { .. } => 0,
        }
    }
}

/// A request whose parameters were not read yet.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestEnvelope<'a> {
    /// As [`Request::id`].
    pub id: RequestId,
    /// As [`Request::ack`].
    pub ack: Option<RequestId>,
    /// Name of the method; it may be unknown.
    pub method: String,
    /// The text of its `params` as received, `{}` if they are absent. A repeat is recognised by comparing it (IDS-2).
    pub params: &'a str,
}

impl RequestEnvelope<'_> {
    /// Whether the request concerns the connection and is not a command of the session. Such requests have ids of their
    /// own (IDS-1, IDS-3).
    #[must_use]
    pub fn is_connection_request(&self) -> bool {
        matches!(&*self.method, "ping" | "join" | "reconnect")
    }

    /// Reads the parameters.
    ///
    /// # Errors
    /// The method is unknown, or these are not its parameters.
    pub fn open(&self) -> Result<Request, RpcError> {
        let mut track = serde_path_to_error::Track::new();
        let mut json = serde_json::Deserializer::from_str(self.params);
        let json = serde_path_to_error::Deserializer::new(&mut json, &mut track);
        match Call::decode(&self.method, json) {
            None => Err(ErrorName::MethodNotFound.into()),
            // serde would read an array as the fields in order of declaration.
            Some(_) if !self.params.starts_with('{') => Err(ErrorName::InvalidParams.into()),
            Some(Ok(call)) => Ok(Request { id: self.id, ack: self.ack, call }),
            Some(Err(error)) => Err(params_error(&track.path(), &error)),
        }
    }
}

impl From<ElementEnvelope<'_>> for Element {
    fn from(element: ElementEnvelope<'_>) -> Self {
        match element {
            ElementEnvelope::Request(envelope) => match envelope.open() {
                Ok(request) => Element::Request(request),
                Err(error) => Element::Refused { id: Some(envelope.id), error },
            },
            ElementEnvelope::Refused { id, error } => Element::Refused { id, error },
        }
    }
}

/// Reads one client-to-server frame, including the parameters.
///
/// # Errors
/// See [`read_client_frame`].
pub fn decode_client_frame(frame: &[u8]) -> Result<Vec<Element>, FrameError> {
    Ok(read_client_frame(frame)?.into_iter().map(Element::from).collect())
}

/// Reads one client-to-server frame, but of each element only the envelope.
///
/// # Errors
/// The frame is longer than 64 KiB (`frameTooLarge`), nested deeper than 32 (`tooDeep`), not JSON
/// (`parseError`), or an array that is empty or longer than 32 (`badBatch`). An element that cannot be
/// read does not fail the frame: it comes as [`ElementEnvelope::Refused`].
pub fn read_client_frame(frame: &[u8]) -> Result<Vec<ElementEnvelope<'_>>, FrameError> {
    let text = gate::check(frame, MAX_CLIENT_FRAME_BYTES)?;
    // White space around the frame belongs to no element.
    let whole = text.trim_matches([' ', '\t', '\n', '\r']);
    if whole.starts_with('{') {
        return Ok(vec![read_element(whole)?]);
    }
    if !raw(whole)?.get().starts_with('[') {
        return Ok(vec![read_element(whole)?]);
    }
    let elements: Vec<&RawValue> =
        serde_json::from_str(whole).map_err(|_| FrameError::from(ErrorName::ParseError))?;
    if elements.is_empty() || elements.len() > MAX_BATCH {
        return Err(ErrorName::BadBatch.into());
    }
    elements.into_iter().map(|element| read_element(element.get())).collect()
}

fn raw(json: &str) -> Result<&RawValue, FrameError> {
    serde_json::from_str(json).map_err(|_| ErrorName::ParseError.into())
}

fn read_element(json: &str) -> Result<ElementEnvelope<'_>, FrameError> {
    let refused = |id, name: ErrorName| ElementEnvelope::Refused { id, error: name.into() };
    if json.starts_with('[') {
        return Ok(refused(None, ErrorName::BadBatch));
    }
    let Ok(envelope) = serde_json::from_str::<RawEnvelope<'_>>(json) else {
        // If the element is not JSON, the whole frame is refused.
        raw(json)?;
        return Ok(refused(None, ErrorName::InvalidRequest));
    };
    let id = member::<RequestId>(envelope.id);
    let ack = member::<RequestId>(envelope.ack);
    let version = member::<String>(envelope.jsonrpc);
    Ok(match (version.as_deref(), id, member::<String>(envelope.method)) {
        (Some("2.0"), Some(id), Some(method)) if ack.is_some() == envelope.ack.is_some() => {
            let params = envelope.params.map_or(NO_PARAMS, RawValue::get);
            ElementEnvelope::Request(RequestEnvelope { id, ack, method, params })
        }
        _ => refused(id, ErrorName::InvalidRequest),
    })
}

/// Turns a failed read of parameters into the error that names it. An id type and a map start their
/// complaint with the wire name of its own error; everything else is `invalidParams`.
fn params_error(path: &serde_path_to_error::Path, error: &serde_json::Error) -> RpcError {
    let text = error.to_string();
    let prefix = text.split(':').next().unwrap_or_default();
    let name = match ErrorName::from(prefix) {
        ErrorName::Unknown(_) => ErrorName::InvalidParams,
        known => known,
    };
    // The path of a missing or repeated field ends at the object that should hold it once.
    let own = ["missing field `", "duplicate field `"]
        .iter()
        .find_map(|start| text.strip_prefix(start))
        .and_then(|rest| rest.split('`').next());
    let path = path.to_string();
    let field = match (path.as_str(), own) {
        (".", None) => return RpcError::new(name),
        (".", Some(own)) => own.to_owned(),
        (path, None) => path.to_owned(),
        (path, Some(own)) => format!("{path}.{own}"),
    };
    RpcError::new(name).field(field.chars().take(64).collect::<String>())
}

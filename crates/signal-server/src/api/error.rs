//! Errors in HTTP answers: always a problem of RFC 9457; programs compare its `name`. A name has one meaning on all
//! routes and listeners, and the names of the protocol are those of `docs/protocol.md`. Deliberately absent: the
//! causes.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use lianmai_protocol::{ErrorName, RpcError};
use serde::Serialize;

use crate::records::DatabaseError;

/// Maximum length of a text of a problem in bytes. Texts may quote the request.
const MAX_TEXT: usize = 1024;

/// An error as a problem of RFC 9457.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Problem {
    /// `urn:lianmai:problem:` and the name.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The name in words.
    pub(crate) title: String,
    /// The status of the answer.
    pub(crate) status: u16,
    /// The error, for people. It may change.
    pub(crate) detail: String,
    /// The error, for programs. Each operation lists its errors; the description of the API explains those of all
    /// operations, and the table of errors in docs/protocol.md those that clients have, too.
    pub(crate) name: String,
    /// The invalid parameter: its path in the body, such as `kinds[0]`, or its name in the query or path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<String>,
    /// Time in milliseconds after which the same request may succeed. Absent if the server does not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after_ms: Option<u64>,
}

/// An error for an HTTP answer.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    name: Cow<'static, str>,
    message: Cow<'static, str>,
    field: Option<String>,
    retry_after_ms: Option<u64>,
    may_succeed_later: bool,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// Marks the answer to a request that changed nothing and may succeed later, as it is or with another header. Server
/// errors need no mark.
#[derive(Clone, Copy, Debug)]
pub(super) struct MaySucceedLater;

impl ApiError {
    pub(crate) fn new(
        status: StatusCode,
        name: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let (name, message) = (name.into(), message.into());
        ApiError {
            status,
            name,
            message,
            field: None,
            retry_after_ms: None,
            may_succeed_later: false,
            headers: Vec::new(),
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The same error with one more header.
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same error of a request that changed nothing and may succeed later.
    pub(crate) fn may_succeed_later(mut self) -> Self {
        self.may_succeed_later = true;
        self
    }

    /// The same error of a request that may succeed after this time.
    pub(crate) fn retry_after_ms(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self.may_succeed_later()
    }

    /// The same error, about this parameter.
    pub(crate) fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    #[cfg(test)]
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// There is no such path.
    pub(crate) fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "notFound", "No such path.")
    }

    /// The path exists, but not for this method.
    pub(crate) fn no_such_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "methodNotAllowed", "Allow says which methods.")
    }

    /// There is no object of that kind and id.
    pub(crate) fn not_found(name: &'static str, message: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, name, message)
    }

    /// A parameter of the query or the body is invalid.
    pub(crate) fn invalid_params(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorName::InvalidParams.to_string(), message)
    }

    /// The server stops, and its answer could be incomplete.
    pub(crate) fn draining() -> Self {
        ErrorName::Draining.into()
    }

    /// Status and body, for a later answer.
    pub(super) fn text(&self) -> (u16, String) {
        let text = serde_json::to_string(&self.problem());
        (self.status.as_u16(), text.expect("answers have string keys only"))
    }

    fn problem(&self) -> Problem {
        Problem {
            kind: format!("urn:lianmai:problem:{}", self.name),
            title: in_words(&self.name),
            status: self.status.as_u16(),
            detail: shortened(&self.message),
            name: self.name.to_string(),
            field: self.field.as_deref().map(shortened),
            retry_after_ms: self.retry_after_ms,
        }
    }
}

/// At most [`MAX_TEXT`] bytes of a text.
fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

/// `noSuchChannel` as `No such channel`.
fn in_words(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        match words.is_empty() {
            true => words.extend(letter.to_uppercase()),
            false if letter.is_ascii_uppercase() => {
                words.push(' ');
                words.push(letter.to_ascii_lowercase());
            }
            false => words.push(letter),
        }
    }
    words
}

impl From<ErrorName> for ApiError {
    fn from(name: ErrorName) -> Self {
        RpcError::from(name).into()
    }
}

/// Errors of the engine keep their names.
impl From<RpcError> for ApiError {
    fn from(error: RpcError) -> Self {
        let status = match error.name() {
            // Members are told that a channel was closed; other callers only that there is none.
            ErrorName::ChannelClosed | ErrorName::TaskChannelGone => {
                return Self::not_found("noSuchChannel", "No such channel.");
            }
            ErrorName::NoSuchMember | ErrorName::NoSuchTask => StatusCode::NOT_FOUND,
            // Push tasks are not served. No other command of this API gives this error.
            ErrorName::MethodNotFound => {
                let text = "This server carries no push tasks out.";
                return Self::new(StatusCode::CONFLICT, "tasksNotServed", text);
            }
            ErrorName::Forbidden
            // What is there already counts, too.
            | ErrorName::AttributesTooLarge
            | ErrorName::TooManyBroadcasters
            | ErrorName::DuplicateTask
            | ErrorName::TaskLimitExceeded
            | ErrorName::TaskOverridden
            | ErrorName::StreamUrlBusy
            | ErrorName::TaskFailed => StatusCode::CONFLICT,
            // The form is valid, but the content is contradictory or leads nowhere.
            ErrorName::BadAttributes
            | ErrorName::BadTask
            | ErrorName::BadLayout
            | ErrorName::BadImage => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorName::Draining | ErrorName::TooManyBans | ErrorName::TooManyChannels => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            // `NotStored`: the change took effect, but may not survive a crash.
            ErrorName::NotStored | ErrorName::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        let name = error.name().as_str().to_owned();
        ApiError {
            field: error.data.field.clone(),
            retry_after_ms: error.data.retry_after_ms,
            may_succeed_later: error.data.retryable,
            ..Self::new(status, name, error.message)
        }
    }
}

impl From<DatabaseError> for ApiError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Closed => Self::draining(),
            DatabaseError::Failed => {
                let text = "The store cannot be used now; nothing has changed.";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "storeUnavailable", text)
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = json(self.status, &self.problem());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(ms) = self.retry_after_ms {
            headers.insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
        }
        headers.extend(self.headers);
        if self.may_succeed_later {
            response.extensions_mut().insert(MaySucceedLater);
        }
        response
    }
}

/// A JSON answer that must not be cached.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    let body = serde_json::to_vec(value).expect("answers have string keys only");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

//! What an HTTP answer says that is an error: always JSON, `{name, message}`, and of a task the `field` that is wrong;
//! programs compare the name. One name is one
//! thing, on every route and listener, and those of the protocol are the names of `docs/protocol.md`. Deliberately
//! absent: what led to it.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use lianmai_protocol::{ErrorName, RpcError};
use serde::Serialize;

/// An error that HTTP tells.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    name: Cow<'static, str>,
    message: Cow<'static, str>,
    field: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    pub(crate) fn new(
        status: StatusCode,
        name: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let (name, message) = (name.into(), message.into());
        ApiError { status, name, message, field: None, headers: Vec::new() }
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The same error with one more header.
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
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

    /// The path is there, but not for this method.
    pub(crate) fn no_such_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "methodNotAllowed", "Allow says which methods.")
    }

    /// A parameter, of the query or the body.
    pub(crate) fn invalid_params(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorName::InvalidParams.to_string(), message)
    }

    /// The server stops, and answers only what it is sure of.
    pub(crate) fn draining() -> Self {
        ErrorName::Draining.into()
    }
}

impl From<ErrorName> for ApiError {
    fn from(name: ErrorName) -> Self {
        RpcError::from(name).into()
    }
}

/// Answers of the engine have their names.
impl From<RpcError> for ApiError {
    fn from(error: RpcError) -> Self {
        let status = match error.name() {
            // Members hear of a channel that was closed; who asks from outside only knows that there is none.
            ErrorName::ChannelClosed | ErrorName::TaskChannelGone => {
                return Self::new(StatusCode::NOT_FOUND, "noSuchChannel", "No such channel.");
            }
            ErrorName::NoSuchMember | ErrorName::NoSuchTask => StatusCode::NOT_FOUND,
            // Nobody carries tasks out here.
            ErrorName::MethodNotFound => StatusCode::NOT_IMPLEMENTED,
            ErrorName::DuplicateTask
            | ErrorName::TaskLimitExceeded
            | ErrorName::TaskOverridden
            | ErrorName::StreamUrlBusy => StatusCode::CONFLICT,
            ErrorName::Draining | ErrorName::TooManyBans | ErrorName::TaskFailed => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            // It took effect, and may not outlive a crash.
            ErrorName::NotStored | ErrorName::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        let field = error
            .data
            .field
            .clone()
            .filter(|field| field.starts_with("rtmpTasks") || field.starts_with("taskIds"));
        let retry_after = error.data.retry_after_ms.map(|ms| HeaderValue::from(ms.div_ceil(1000)));
        let name = error.name().as_str().to_owned();
        let mut error = Self { field, ..Self::new(status, name, error.message) };
        error.headers.extend(retry_after.map(|seconds| (RETRY_AFTER, seconds)));
        error
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body<'a> {
            name: &'a str,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            field: Option<&'a str>,
        }
        let ApiError { status, name, message, field, headers } = self;
        let mut response =
            json(status, &Body { name: &name, message: &message, field: field.as_deref() });
        response.headers_mut().extend(headers);
        response
    }
}

/// A JSON answer that nobody keeps.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    let body = serde_json::to_vec(value).expect("answers have string keys only");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

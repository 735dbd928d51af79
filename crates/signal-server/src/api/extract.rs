//! Reads requests. Comes in: path, query, body. Goes out: what they say, or an [`ApiError`], also where the framework
//! refuses. Deliberately absent: what is done with it.

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Request, StatusCode};
use lianmai_protocol::{ErrorName, TaskId};
use lianmai_signal_engine::ChannelKey;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// Longest body of a request in bytes.
pub(super) const MAX_BODY: usize = 16 * 1024;

/// The channel that a request is about: `{name}` of the path, `appkey` of the query.
pub(super) struct Channel(pub(super) ChannelKey);

impl<S: Send + Sync> FromRequestParts<S> for Channel {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        #[derive(Deserialize)]
        struct App {
            appkey: String,
        }
        // What is no text is the name of no channel.
        let Path(name) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| ErrorName::BadChannelName)?;
        let Query(App { appkey }) = Query::from_request_parts(parts, state)
            .await
            .map_err(|rejection| ApiError::invalid_params(rejection.body_text()))?;
        Ok(Channel(key(&appkey, &name)?))
    }
}

/// The channel that a request is about: `{appkey}` and `{channel}` of the path, percent-encoded.
pub(super) struct AppChannel(pub(super) ChannelKey);

impl<S: Send + Sync> FromRequestParts<S> for AppChannel {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        // What is no text is the name of no channel.
        let Path((appkey, name)) = Path::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|_| ErrorName::BadChannelName)?;
        Ok(AppChannel(key(&appkey, &name)?))
    }
}

/// A task of a channel: `{task}` of the path, too.
pub(super) struct AppTask(pub(super) ChannelKey, pub(super) TaskId);

impl<S: Send + Sync> FromRequestParts<S> for AppTask {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<(String, String, String)>::from_request_parts(parts, state).await;
        let Path((appkey, name, task)) = path.map_err(|_| ErrorName::BadChannelName)?;
        Ok(AppTask(key(&appkey, &name)?, task.parse().map_err(|_| ErrorName::BadTask)?))
    }
}

fn key(appkey: &str, name: &str) -> Result<ChannelKey, ApiError> {
    Ok(ChannelKey {
        appkey: appkey.parse().map_err(|_| ErrorName::BadAppkey)?,
        name: name.parse().map_err(|_| ErrorName::BadChannelName)?,
    })
}

/// A JSON body. Only `application/json` is one: a page of another origin cannot send that without being asked first.
pub(super) struct Json<T, const MAX: usize = MAX_BODY>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync, const MAX: usize> FromRequest<S> for Json<T, MAX> {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, ApiError> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
        if !kind.trim().eq_ignore_ascii_case("application/json") {
            let text = "The body must be application/json.";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "notJson", text));
        }
        let body = to_bytes(request.into_body(), MAX).await;
        let body = body.map_err(|_| {
            let text = "The body is too large.";
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "bodyTooLarge", text)
        })?;
        let value = serde_json::from_slice(&body);
        value.map(Json).map_err(|error| ApiError::invalid_params(error.to_string()))
    }
}

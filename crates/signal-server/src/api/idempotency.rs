//! The same request twice takes effect once. Comes in: requests that change something and have the header
//! `Idempotency-Key`. Goes out: the first answer again to whoever repeats one. Deliberately absent: what routes do.
//!
//! A request is noted before it is done, and its answer after. What a process did not come to the end of is answered
//! `idempotencyInProgress`: it may have taken effect, and whoever asks has to look (ADR 0054).

use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use sha2::{Digest, Sha256};

use super::Api;
use super::error::ApiError;
use super::extract::{MAX_TASKS_BODY, too_large};
use super::keys::Caller;
use crate::clock::wall_now;
use crate::records::Asked;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Longest key in bytes.
const MAX_KEY: usize = 128;
/// An answer is remembered so long, in milliseconds.
const KEEP_MS: u64 = 24 * 3600 * 1000;
/// Most answers that are remembered of one caller.
const MOST: usize = 10_000;
/// Longest answer that is remembered; those of requests that change something are short.
const MAX_ANSWER: usize = 64 * 1024;

/// Marks an answer that holds a secret. It is told once and not kept: of a key the file holds a hash and nothing else.
#[derive(Clone, Copy, Debug)]
pub(super) struct HoldsSecret;

/// See the module.
pub(super) async fn once(
    State(api): State<Arc<Api>>,
    request: Request<Body>,
    next: Next,
) -> Result<Response, ApiError> {
    let Some(key) = request.headers().get(KEY) else { return Ok(next.run(request).await) };
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(next.run(request).await);
    }
    let good = |key: &&str| (1..=MAX_KEY).contains(&key.len());
    let key = key.to_str().ok().filter(good).map(ToOwned::to_owned).ok_or_else(|| {
        let text = "Idempotency-Key is 1 to 128 visible characters.";
        ApiError::new(StatusCode::BAD_REQUEST, "badIdempotencyKey", text)
    })?;
    let caller = request.extensions().get::<Caller>().map_or("", Caller::id).to_owned();
    let (parts, body) = request.into_parts();
    // The longest that any route takes; each looks at its own bound again.
    let body = to_bytes(body, MAX_TASKS_BODY).await.map_err(|_| too_large())?;
    let hash = hash(&parts.method, parts.uri.path_and_query().map_or("", |it| it.as_str()), &body);
    let (desk, id) = (api.service.desk().clone(), (caller, key));
    let now = wall_now().0;
    let times = (now, now.saturating_sub(KEEP_MS));
    match desk.begin(id.clone(), hash, times, MOST).await? {
        None => {
            let text = "Too many idempotency keys of this caller are remembered.";
            return Err(ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                "tooManyIdempotencyKeys",
                text,
            ));
        }
        Some(Asked::Other) => {
            let text = "The idempotency key was used for another request.";
            return Err(ApiError::new(StatusCode::CONFLICT, "idempotencyKeyReused", text));
        }
        Some(Asked::Begun) => {
            let text = "The request is being done, or the server ended while it was: look before you ask again with \
                        another key.";
            return Err(ApiError::new(StatusCode::CONFLICT, "idempotencyInProgress", text));
        }
        Some(Asked::Answered { status, body }) => return Ok(again(status, body)),
        Some(Asked::New) => {}
    }
    // To its end, whether or not somebody still waits for the answer.
    let request = Request::from_parts(parts, Body::from(body));
    let done = tokio::spawn(async move {
        let response = next.run(request).await;
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, MAX_ANSWER).await.unwrap_or_default();
        let answer = if parts.extensions.get::<HoldsSecret>().is_some() {
            Some(told_once())
        } else {
            // What failed may be asked again.
            let text = String::from_utf8(body.to_vec()).ok();
            let text = text.filter(|_| !parts.status.is_server_error());
            text.map(|text| (parts.status.as_u16(), text))
        };
        // An answer that cannot be noted is the right one all the same.
        let _ = desk.answered(id, answer).await;
        Response::from_parts(parts, Body::from(body))
    });
    done.await.map_err(|_| lianmai_protocol::ErrorName::InternalError.into())
}

/// What whoever repeats a request hears whose answer held a secret.
fn told_once() -> (u16, String) {
    let text = "The request took effect before, and its answer held a secret, which is told once.";
    ApiError::new(StatusCode::CONFLICT, "idempotencyAnswerNotKept", text).text()
}

fn again(status: u16, body: String) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let kind = if status.is_success() { "application/json" } else { "application/problem+json" };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        (REPLAYED, HeaderValue::from_static("true")),
    ];
    (status, headers, body).into_response()
}

fn hash(method: &Method, path: &str, body: &Bytes) -> String {
    let mut hash = Sha256::new();
    for part in [method.as_str().as_bytes(), path.as_bytes(), body] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    URL_SAFE_NO_PAD.encode(hash.finalize())
}

//! A request that changes something runs to its end, and a repeated one takes effect once. Comes in: such requests, with
//! or without the header `Idempotency-Key`. Goes out: the answer, or the first answer again for each repetition.
//! Deliberately absent: the routes.
//!
//! A request is stored before it is carried out, and its answer afterwards. If a process did not finish a request, its
//! repetition is answered `idempotencyInProgress`: it may have taken effect, and the caller must check that (ADR 0054).

use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use lianmai_protocol::ErrorName;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::Api;
use super::error::{ApiError, MaySucceedLater};
use super::extract::{MAX_TASKS_BODY, too_large};
use super::keys::Caller;
use crate::clock::wall_now;
use crate::records::IdempotencyState;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Marks a repeated answer.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Maximum length of a key in bytes.
const MAX_KEY: usize = 128;
/// Retention of an answer in milliseconds.
const RETENTION_MS: u64 = 24 * 3600 * 1000;
/// Maximum number of stored answers of one caller: one each second, with some to spare. Most answers are `{}`.
const MAX_ANSWERS: usize = 100_000;
/// Maximum size of a stored answer in bytes. Only a channel with long attributes has a longer one; problems are short.
const MAX_ANSWER: usize = 64 * 1024;
/// Maximum number of requests that run at the same time, including those whose clients have gone. Further ones wait.
const MAX_RUNNING: usize = 128;

/// Marks an answer that holds a secret. It is given once and not stored: the file holds only hashes of keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct HoldsSecret;

/// The state of the middleware. Clones share it.
#[derive(Clone)]
pub(super) struct Requests {
    api: Arc<Api>,
    running: Arc<Semaphore>,
}

impl Requests {
    pub(super) fn new(api: Arc<Api>) -> Self {
        Requests { api, running: Arc::new(Semaphore::new(MAX_RUNNING)) }
    }
}

/// The middleware; see the module.
pub(super) async fn replay_or_run(
    State(Requests { api, running }): State<Requests>,
    request: Request<Body>,
    next: Next,
) -> Result<Response, ApiError> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(next.run(request).await);
    }
    let key = request.headers().get(KEY).map(read_key).transpose()?;
    let permit = running.acquire_owned().await.map_err(|_| ErrorName::InternalError)?;
    // A task of its own: a client that goes away must leave neither a part of the change nor a key without an answer.
    let done = tokio::spawn(async move {
        let _permit = permit;
        match key {
            Some(key) => once(&api, key, request, next).await,
            None => Ok(next.run(request).await),
        }
    });
    done.await.map_err(|_| ErrorName::InternalError)?
}

fn read_key(key: &HeaderValue) -> Result<String, ApiError> {
    let good = |key: &&str| (1..=MAX_KEY).contains(&key.len());
    key.to_str().ok().filter(good).map(ToOwned::to_owned).ok_or_else(|| {
        let text = "Idempotency-Key is 1 to 128 visible characters.";
        ApiError::new(StatusCode::BAD_REQUEST, "badIdempotencyKey", text)
    })
}

/// Carries out a request, unless its key is known.
async fn once(
    api: &Api,
    key: String,
    request: Request<Body>,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = request.extensions().get::<Caller>().map_or("", Caller::id).to_owned();
    let (parts, body) = request.into_parts();
    // The maximum of all routes. Each route checks its own limit again.
    let body = to_bytes(body, MAX_TASKS_BODY).await.map_err(|_| too_large())?;
    let hash = hash(&parts.method, parts.uri.path_and_query().map_or("", |it| it.as_str()), &body);
    let (database, id) = (api.service.database().clone(), (caller, key));
    let now = wall_now().0;
    let times = (now, now.saturating_sub(RETENTION_MS));
    match database.begin_request(id.clone(), hash, times, MAX_ANSWERS).await? {
        IdempotencyState::TooManyKeys { oldest } => {
            let text = "Too many idempotency keys of this caller are remembered.";
            let error =
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, "tooManyIdempotencyKeys", text);
            return Err(error.retry_after_ms((oldest + RETENTION_MS + 1).saturating_sub(now)));
        }
        IdempotencyState::KeyReused => {
            let text = "The idempotency key was used for another request.";
            return Err(ApiError::new(StatusCode::CONFLICT, "idempotencyKeyReused", text));
        }
        IdempotencyState::InProgress => {
            let text = "The request is being done, or the server ended while it was: look before you ask again with \
                        another key.";
            return Err(ApiError::new(StatusCode::CONFLICT, "idempotencyInProgress", text));
        }
        IdempotencyState::Answered { status, body } => return Ok(replayed(status, body)),
        IdempotencyState::New => {}
    }
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    let (parts, body) = response.into_parts();
    // Answers to requests that change something are in memory as a whole.
    let body = to_bytes(body, usize::MAX).await.map_err(|_| ErrorName::InternalError)?;
    let too_long = body.len() > MAX_ANSWER;
    let answer = if too_long || parts.extensions.get::<HoldsSecret>().is_some() {
        Some(not_repeated())
    } else {
        // A request that may succeed later may be repeated.
        let repeatable =
            parts.status.is_server_error() || parts.extensions.get::<MaySucceedLater>().is_some();
        let text = String::from_utf8(body.to_vec()).ok();
        text.filter(|_| !repeatable).map(|text| (parts.status.as_u16(), text))
    };
    // The answer is right even if it cannot be stored.
    let _ = database.store_answer(id, answer).await;
    Ok(Response::from_parts(parts, Body::from(body)))
}

/// The answer to a repeated request whose first answer held a secret, or was too long.
fn not_repeated() -> (u16, String) {
    let text = "The request took effect before, and its answer is not kept: it held a secret, which is told once, or was \
                too long.";
    ApiError::new(StatusCode::CONFLICT, "idempotencyAnswerNotKept", text).text()
}

fn replayed(status: u16, body: String) -> Response {
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

//! The admin listener: channels, health, metrics. Comes in: HTTP requests that the guard let through. Goes out: JSON
//! (metrics have their own format). Everything but the health checks needs the bearer token. Deliberately absent: the
//! public listener, see `listen/public.rs`, which shares [`error`].

pub(crate) mod error;
mod extract;
mod health;
pub(crate) mod service;
mod v1;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::middleware::{self, Next};
use axum::response::Response;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use lianmai_media_plane::Hub;
use tokio::sync::watch;

use crate::config::Secret;
use crate::ops::drain::Phase;
use crate::ops::metrics::Metrics;
use crate::records::Records;
use crate::relay::forward::Forwards;
use crate::socket::give_way::Seat;
use crate::tasks::LocalExecutor;
use error::ApiError;
use service::Service;

/// What the routes need.
pub(crate) struct Api {
    pub(crate) service: Service,
    pub(crate) hub: Hub,
    pub(crate) forwards: Arc<Forwards>,
    /// Who carries push tasks out, if anybody does.
    pub(crate) tasks: Option<Arc<LocalExecutor>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) token: Secret,
    pub(crate) store: Arc<dyn Records>,
    pub(crate) phase: watch::Receiver<Phase>,
}

pub(crate) fn router(api: Api) -> Router {
    let api = Arc::new(api);
    let guarded = v1::routes()
        .merge(health::routes())
        .method_not_allowed_fallback(async || ApiError::no_such_method())
        .fallback(async || ApiError::no_such_path())
        .layer(middleware::from_fn_with_state(api.clone(), bearer));
    health::open_routes()
        .method_not_allowed_fallback(async || ApiError::no_such_method())
        .merge(guarded)
        .with_state(api)
}

async fn bearer(
    State(api): State<Arc<Api>>,
    request: Request<Body>,
    next: Next,
) -> Result<Response, ApiError> {
    if is_authorized(request.headers(), &api.token) {
        let _busy = request.extensions().get::<Seat>().map(Seat::busy);
        return Ok(next.run(request).await);
    }
    let text = "The header Authorization must be `Bearer` and the token in <data-dir>/admin.token.";
    Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", text)
        .with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
}

/// Schemes have no case (RFC 9110 §11.1).
fn is_authorized(headers: &HeaderMap, token: &Secret) -> bool {
    headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .is_some_and(|(_, given)| token.equals(given.trim_start_matches(' ')))
}

#[cfg(test)]
mod tests;

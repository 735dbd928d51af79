//! The admin listener: channels, keys, webhooks, health, metrics. Comes in: HTTP requests that the guard accepted. Goes
//! out: JSON (metrics have their own format). All routes but the health checks need a key or the token of the
//! deployment. Deliberately absent: the public listener, see `listen/public.rs`, which shares [`error`].

mod access;
mod answer_body;
pub(crate) mod docs;
pub(crate) mod error;
mod extract;
mod health;
mod idempotency;
pub(crate) mod keys;
pub(crate) mod messages;
mod objects;
mod operation_docs;
mod paging;
pub(crate) mod service;
pub(crate) mod stored_state;
mod v1;

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::get;
use http::header::CONTENT_TYPE;
use lianmai_media_plane::Hub;
use tokio::sync::watch;

use crate::config::Secret;
use crate::ops::drain::Phase;
use crate::ops::metrics::Metrics;
use crate::records::Records;
use crate::relay::forward::Forwards;
use crate::tasks::LocalExecutor;
use access::NoInputs;
use error::ApiError;
use service::Service;

/// The state of the routes.
pub(crate) struct Api {
    pub(crate) service: Service,
    pub(crate) hub: Hub,
    pub(crate) forwards: Arc<Forwards>,
    /// Carries out push tasks; `None` if none are served.
    pub(crate) tasks: Option<Arc<LocalExecutor>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) token: Secret,
    pub(crate) store: Arc<dyn Records>,
    pub(crate) phase: watch::Receiver<Phase>,
}

pub(crate) fn router(api: Api) -> Router {
    let api = Arc::new(api);
    let (v1, document) = docs::documented_routes().split_for_parts();
    let document: Arc<str> = docs::complete(document).to_string().into();
    let json = |document: Arc<str>| {
        get(async move |_: NoInputs| ([(CONTENT_TYPE, "application/json")], document.to_string()))
    };
    let requests = idempotency::Requests::new(api.clone());
    let callers = access::Callers::new(api.clone());
    // The last layer is the outermost: the caller is identified before a request is stored.
    let guarded = v1
        .layer(middleware::from_fn_with_state(requests, idempotency::replay_or_run))
        .merge(health::routes())
        .route("/openapi.json", json(document))
        .route("/asyncapi.json", json(messages::asyncapi().to_string().into()))
        .route("/schema.json", json(messages::schema().to_string().into()))
        .method_not_allowed_fallback(async || ApiError::no_such_method())
        .fallback(async || ApiError::no_such_path())
        .layer(middleware::from_fn_with_state(callers, access::identify));
    health::open_routes()
        .method_not_allowed_fallback(async || ApiError::no_such_method())
        .merge(guarded)
        .with_state(api)
}

#[cfg(test)]
mod tests;

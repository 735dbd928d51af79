//! Monitoring of a server: whether it lives, whether it accepts members, and its metrics.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::HeaderValue;
use http::header::CONTENT_TYPE;

use super::Api;
use super::access::AllApps;
use super::error::ApiError;
use crate::ops::drain::Phase;
use crate::ops::metrics::MetricValues;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Routes without a token.
pub(super) fn open_routes() -> Router<Arc<Api>> {
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(ready))
}

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/metrics", get(metrics))
}

async fn ready(State(api): State<Arc<Api>>) -> Result<&'static str, ApiError> {
    if *api.phase.borrow() == Phase::Serving { Ok("ready\n") } else { Err(ApiError::draining()) }
}

/// For the token of the deployment, and for keys for all apps.
async fn metrics(State(api): State<Arc<Api>>, _: AllApps) -> Result<Response, ApiError> {
    let engine = api.service.stats().await?;
    api.metrics.wait_until_counted().await;
    let values = MetricValues {
        engine,
        hub: api.hub.stats(),
        forwards: api.forwards.stats(),
        tasks: api.tasks.as_ref().map(|tasks| tasks.stats()),
        store: api.store.stats(),
        phase: *api.phase.borrow(),
    };
    let mut response = Response::new(Body::from(api.metrics.text(values)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS));
    Ok(response)
}

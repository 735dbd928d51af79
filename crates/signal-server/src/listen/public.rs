//! The public listener: the signaling WebSocket and HTTP-FLV.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::routing::get;
use futures_util::StreamExt;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, ORIGIN, VARY,
};
use http::{HeaderValue, Request, Response, StatusCode};
use lianmai_media_plane::{Denied, DeniedKind, Direction, Hub, Protocol, StreamRequest, pull};
use lianmai_protocol::SIGNAL_PATH;
use tokio::sync::{oneshot, watch};

use super::accept::{Hangup, Peer};
use super::lobby::LobbyServer;
use super::upgrade;
use crate::api::error::ApiError;
use crate::ops::drain::{Phase, wait_for_stop};
use crate::relay::authorizer::RelayAuthorizer;
use crate::signing::MEDIA_APP;

/// From the end of a play to the end of its connection.
const LAST_BLOCKS: Duration = Duration::from_secs(1);

struct Public {
    lobby: LobbyServer,
    hub: Hub,
    authorizer: Arc<RelayAuthorizer>,
    phase: watch::Receiver<Phase>,
}

pub(crate) fn router(
    lobby: LobbyServer,
    hub: Hub,
    authorizer: Arc<RelayAuthorizer>,
    phase: watch::Receiver<Phase>,
) -> Router {
    Router::new()
        .route(SIGNAL_PATH, get(signal))
        .route("/live/{file}", get(pull))
        .method_not_allowed_fallback(async || ApiError::no_such_method())
        .fallback(async || ApiError::no_such_path())
        .with_state(Arc::new(Public { lobby, hub, authorizer, phase }))
}

async fn signal(
    State(public): State<Arc<Public>>,
    request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    upgrade::upgrade(&public.lobby, request)
}

/// `GET /live/{stream}.flv?…`: plays a stream for as long as the client reads and the server runs.
async fn pull(
    State(public): State<Arc<Public>>,
    file: Result<Path<String>, PathRejection>,
    request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    // What is no text is the name of no stream.
    let Path(file) = file.map_err(|_| ApiError::no_such_path())?;
    let extensions = request.extensions();
    let (Some(stream), Some(&Peer(peer)), Some(hangup)) =
        (file.strip_suffix(".flv"), extensions.get::<Peer>(), extensions.get::<Hangup>())
    else {
        return Err(ApiError::no_such_path());
    };
    let query = request.uri().query().unwrap_or_default();
    let asked =
        StreamRequest::new(Direction::Play, MEDIA_APP, stream, query, Protocol::HttpFlv, peer);
    let media = pull::open(&public.hub, &*public.authorizer, asked).await.map_err(refused)?;
    let mut phase = public.phase.clone();
    let stop = async move { wait_for_stop(&mut phase).await };
    let (running, ended) = oneshot::channel::<()>();
    let (cut, hangup) = (media.cut_signal(), hangup.clone());
    tokio::spawn(async move {
        tokio::select! {
            _ = cut => {}
            _ = ended => {}
        }
        tokio::time::sleep(LAST_BLOCKS).await;
        // A peer that does not read would keep its connection, and its place among the players, for ever.
        hangup.hang_up();
    });
    let body = media.into_stream().take_until(stop).map(move |block| {
        // Dropped with the body.
        let _ = &running;
        Ok::<_, Infallible>(block)
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("video/x-flv"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    // The guard let the origin through, so its page may read what it plays.
    if let Some(origin) = request.headers().get(ORIGIN) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(VARY, HeaderValue::from_static("Origin"));
    }
    Ok(response)
}

fn refused(denied: Denied) -> ApiError {
    let status = match denied.kind {
        DeniedKind::Denied => StatusCode::FORBIDDEN,
        DeniedKind::Busy | DeniedKind::Overload => StatusCode::SERVICE_UNAVAILABLE,
    };
    ApiError::new(status, denied.code, denied.message)
}

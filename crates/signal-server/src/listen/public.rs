//! The public listener: the signaling WebSocket, HTTP-FLV, HLS, and the page. The guard has accepted each request that
//! gets here, so a page whose origin it accepted may read each answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::middleware::{self, Next};
use axum::routing::get;
use futures_util::StreamExt;
use http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, ORIGIN,
    RETRY_AFTER, VARY,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use lianmai_media_plane::{Denied, DeniedKind, Direction, Hls, Hub, Protocol, StreamRequest, pull};
use lianmai_protocol::SIGNAL_PATH;
use tokio::sync::{oneshot, watch};

use super::accept::{ClientAddr, Hangup};
use super::flv_socket;
use super::lobby::LobbyServer;
use super::{page, upgrade};
use crate::api::error::ApiError;
use crate::config::Config;
use crate::ops::drain::{Phase, wait_for_stop};
use crate::relay::authorizer::RelayAuthorizer;
use crate::signing::MEDIA_APP;

/// Time for a peer to read a segment of a few seconds. A segment that takes longer than its playing time is useless for
/// a player, and its unread bytes count for the publisher.
const SEGMENT_TIME: Duration = Duration::from_secs(30);
/// Time from the end of a play to the end of its connection.
const LAST_BLOCKS: Duration = Duration::from_secs(1);

struct PublicState {
    lobby: LobbyServer,
    hub: Hub,
    hls: Hls,
    authorizer: Arc<RelayAuthorizer>,
    phase: watch::Receiver<Phase>,
}

pub(crate) fn router(
    config: &Config,
    lobby: LobbyServer,
    hub: Hub,
    authorizer: Arc<RelayAuthorizer>,
    phase: watch::Receiver<Phase>,
) -> Router {
    Router::new()
        .route(SIGNAL_PATH, get(signal))
        .route("/live/{file}", get(play).head(probe).options(preflight))
        .route("/live/{stream}/{file}", get(segment).options(preflight))
        .with_state(Arc::new(PublicState {
            lobby,
            hls: Hls::new(hub.clone()),
            hub,
            authorizer,
            phase,
        }))
        .merge(page::router(config))
        .method_not_allowed_fallback(async || ApiError::no_such_method())
        .fallback(async || ApiError::no_such_path())
        .layer(middleware::from_fn(allow_cors))
}

async fn signal(
    State(public): State<Arc<PublicState>>,
    request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    upgrade::upgrade(&public.lobby, request)
}

/// Lets the requesting page read the answer, whatever it is.
async fn allow_cors(request: Request<Body>, next: Next) -> Response<Body> {
    let origin = request.headers().get(ORIGIN).cloned();
    let mut response = next.run(request).await;
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from(RETRY_AFTER));
        headers.append(VARY, HeaderValue::from(ORIGIN));
    }
    response
}

/// `OPTIONS` of a stream: what a page may ask. All its headers are allowed, because they are ignored. Without an
/// Origin, the header names are not sent back.
async fn preflight(request: Request<Body>) -> Response<Body> {
    const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ALLOW, METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    let request_headers = request.headers();
    if request_headers.contains_key(ORIGIN)
        && let Some(requested) = request_headers.get(ACCESS_CONTROL_REQUEST_HEADERS)
    {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, requested.clone());
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

/// The stream request of an HTTP request.
fn stream_request(
    stream: &str,
    protocol: Protocol,
    request: &Request<Body>,
) -> Result<StreamRequest, ApiError> {
    let Some(&ClientAddr(peer)) = request.extensions().get::<ClientAddr>() else {
        return Err(ApiError::no_such_path());
    };
    let query = request.uri().query().unwrap_or_default();
    Ok(StreamRequest::new(Direction::Play, MEDIA_APP, stream, query, protocol, peer))
}

/// The stream of a file, and how it is played. A path that is not UTF-8 names no stream.
fn parse_file(file: &Result<Path<String>, PathRejection>) -> Result<(&str, Protocol), ApiError> {
    let Ok(Path(file)) = file else { return Err(ApiError::no_such_path()) };
    let flv = file.strip_suffix(".flv").map(|stream| (stream, Protocol::HttpFlv));
    flv.or_else(|| file.strip_suffix(".m3u8").map(|stream| (stream, Protocol::Hls)))
        .ok_or_else(ApiError::no_such_path)
}

/// The headers of an FLV answer. Its length is unknown, so it has no ranges (RFC 9110 §14.3).
fn flv_head(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("video/x-flv"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("none"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}

/// `HEAD /live/{stream}.flv?…`, or of a playlist: whether a play would be accepted. It takes no place of a player.
async fn probe(
    State(public): State<Arc<PublicState>>,
    file: Result<Path<String>, PathRejection>,
    request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    let (stream, protocol) = parse_file(&file)?;
    let asked = stream_request(stream, protocol, &request)?;
    public.hub.probe(&*public.authorizer, asked).await.map_err(denied_error)?;
    let mut response = Response::new(Body::empty());
    match protocol {
        Protocol::Hls => hls_head(response.headers_mut(), PLAYLIST),
        _ => flv_head(response.headers_mut()),
    }
    Ok(response)
}

/// Media types of HLS (RFC 8216 §4, §10).
const PLAYLIST: HeaderValue = HeaderValue::from_static("application/vnd.apple.mpegurl");
const SEGMENT: HeaderValue = HeaderValue::from_static("video/mp2t");

fn hls_head(headers: &mut HeaderMap, content_type: HeaderValue) {
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// `GET /live/{stream}.flv?…` and `GET /live/{stream}.m3u8?…`.
async fn play(
    State(public): State<Arc<PublicState>>,
    file: Result<Path<String>, PathRejection>,
    request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    let (stream, protocol) = parse_file(&file)?;
    let asked = stream_request(stream, protocol, &request)?;
    match protocol {
        Protocol::Hls => playlist(&public, asked).await,
        _ => pull(&public, asked, request).await,
    }
}

/// A playlist. The viewer is authorized for each request.
async fn playlist(public: &PublicState, asked: StreamRequest) -> Result<Response<Body>, ApiError> {
    let list = public.hls.playlist(&*public.authorizer, asked).await.map_err(denied_error)?;
    let mut response = Response::new(Body::from(list));
    hls_head(response.headers_mut(), PLAYLIST);
    Ok(response)
}

/// `GET /live/{stream}/{number}.ts?…`: a segment. The viewer is authorized again.
async fn segment(
    State(public): State<Arc<PublicState>>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    let Ok(Path((stream, file))) = path else { return Err(ApiError::no_such_path()) };
    let number = file.strip_suffix(".ts").and_then(|number| number.parse().ok());
    let number = number.ok_or_else(ApiError::no_such_path)?;
    let asked = stream_request(&stream, Protocol::Hls, &request)?;
    let Some(hangup) = request.extensions().get::<Hangup>().cloned() else {
        return Err(ApiError::no_such_path());
    };
    let segment = public.hls.segment(&*public.authorizer, asked, number).await;
    let bytes = segment.map_err(denied_error)?.ok_or_else(|| {
        let message = "the segment is not there any more, or not yet";
        ApiError::new(StatusCode::NOT_FOUND, "noSuchSegment", message)
    })?;
    let mut response = Response::new(Body::from(hangup.unless_written(bytes, SEGMENT_TIME)));
    hls_head(response.headers_mut(), SEGMENT);
    Ok(response)
}

/// Plays a stream while the client reads and the server runs, over WebSocket if the request asks for it.
async fn pull(
    public: &PublicState,
    asked: StreamRequest,
    mut request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    let Some(hangup) = request.extensions().get::<Hangup>().cloned() else {
        return Err(ApiError::no_such_path());
    };
    let peer = asked.peer;
    if upgrade::is_websocket(request.headers()) {
        let handshake = upgrade::Handshake::new(&mut request, None)?;
        let media =
            pull::open(&public.hub, &*public.authorizer, asked).await.map_err(denied_error)?;
        let (response, socket) = handshake.accept();
        let phase = public.phase.clone();
        tokio::spawn(async move {
            let Some((reader, sink)) = socket.await else { return };
            flv_socket::serve(media, reader, sink, phase).await;
        });
        return Ok(response);
    }
    let media = pull::open(&public.hub, &*public.authorizer, asked).await.map_err(denied_error)?;
    let mut phase = public.phase.clone();
    let stop = async move { wait_for_stop(&mut phase).await };
    let lines = public.hub.log_limiter().clone();
    let (running, ended) = oneshot::channel::<()>();
    let (cut, stalled, end) = (media.cut_signal(), media.stall_signal(), media.end_handle());
    tokio::spawn(async move {
        tokio::select! {
            () = stop => {
                end();
                tokio::time::sleep(LAST_BLOCKS).await;
            }
            _ = cut => tokio::time::sleep(LAST_BLOCKS).await,
            _ = ended => tokio::time::sleep(LAST_BLOCKS).await,
            () = stalled => if lines.allow(peer.ip()) {
                tracing::info!(%peer, code = "writeStalled", "play ended");
            },
        }
        // A peer that does not read would keep its connection and its place among the players for ever.
        hangup.close();
    });
    let body = media.into_stream().map(move |block| {
        // Dropped with the body.
        let _ = &running;
        Ok::<_, Infallible>(block)
    });
    let mut response = Response::new(Body::from_stream(body));
    flv_head(response.headers_mut());
    Ok(response)
}

fn denied_error(denied: Denied) -> ApiError {
    let status = match denied.kind {
        DeniedKind::Denied => StatusCode::FORBIDDEN,
        DeniedKind::Busy | DeniedKind::Overload => StatusCode::SERVICE_UNAVAILABLE,
    };
    ApiError::new(status, denied.code, denied.message)
}

//! The admin listener: channels over REST, metrics, health. Everything but the health checks needs the
//! bearer token (contract rule C2).

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, State};
use axum::middleware::{self, Next};
use axum::routing::{get, post};
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use lianmai_media_plane::Hub;
use lianmai_protocol::message::session::CloseChannel;
use lianmai_protocol::{Appkey, Cid, ErrorName, KindSet, Mid, Role, RpcError, UserId};
use lianmai_signal_engine::output::{ChannelView, MemberView};
use lianmai_signal_engine::{AdminCommand, AdminReply, ChannelKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::api::error::{error_response, json_response, not_found};
use crate::config::Secret;
use crate::ops::drain::Phase;
use crate::ops::metrics::Metrics;
use crate::records::Store;
use crate::shard::Shards;

/// Longest body of an admin request in bytes.
const MAX_BODY: usize = 16 * 1024;

pub(crate) struct Admin {
    pub(crate) shards: Shards,
    pub(crate) hub: Hub,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) token: Secret,
    pub(crate) store: Store,
    pub(crate) phase: watch::Receiver<Phase>,
}

pub(crate) fn router(admin: Admin) -> Router {
    let admin = Arc::new(admin);
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/v1/channels", get(list))
        .route("/v1/channels/{name}", get(show))
        .route("/v1/channels/{name}/kick", post(kick))
        .route("/v1/channels/{name}/close", post(close))
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(admin.clone(), bearer));
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .merge(guarded)
        .with_state(admin)
}

async fn bearer(
    State(admin): State<Arc<Admin>>,
    request: Request<Body>,
    next: Next,
) -> Response<Body> {
    if is_authorized(request.headers(), &admin.token) {
        return next.run(request).await;
    }
    let text = "The header Authorization must be `Bearer` and the token in <data-dir>/admin.token.";
    let mut response = error_response(StatusCode::UNAUTHORIZED, "unauthorized", text);
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn is_authorized(headers: &HeaderMap, token: &Secret) -> bool {
    headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .is_some_and(|given| token.equals(given))
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response<Body> {
    if *admin.phase.borrow() == Phase::Serving {
        Response::new(Body::from("ready\n"))
    } else {
        error_response(StatusCode::SERVICE_UNAVAILABLE, "notReady", "The server is stopping.")
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response<Body> {
    let engine = admin.shards.stats().await;
    admin.metrics.caught_up().await;
    let (hub, store, phase) = (admin.hub.stats(), admin.store.stats(), *admin.phase.borrow());
    let text = admin.metrics.text(engine, &hub, store, phase);
    let mut response = Response::new(Body::from(text));
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChannelDto {
    appkey: Appkey,
    channel_name: String,
    cid: Cid,
    creator: UserId,
    members: usize,
    broadcasters: usize,
}

impl From<ChannelView> for ChannelDto {
    fn from(view: ChannelView) -> Self {
        ChannelDto {
            appkey: view.channel.appkey,
            channel_name: view.channel.name.to_string(),
            cid: view.cid,
            creator: view.creator,
            members: view.members,
            broadcasters: view.broadcasters,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MemberDto {
    uid: UserId,
    mid: Mid,
    role: Role,
    connected: bool,
    published: KindSet,
    muted: KindSet,
}

impl From<MemberView> for MemberDto {
    fn from(view: MemberView) -> Self {
        let MemberView { uid, mid, role, connected, published, muted } = view;
        MemberDto { uid, mid, role, connected, published, muted }
    }
}

async fn list(State(admin): State<Arc<Admin>>) -> Response<Body> {
    #[derive(Serialize)]
    struct List {
        channels: Vec<ChannelDto>,
    }
    let channels = admin.shards.channels().await.into_iter().map(ChannelDto::from).collect();
    json_response(StatusCode::OK, &List { channels })
}

/// An answer that says why not.
type Refused = Box<Response<Body>>;

/// Which app a request is about.
#[derive(Deserialize)]
struct AppQuery {
    appkey: Appkey,
}

fn key(name: &str, query: AppQuery) -> Result<ChannelKey, Refused> {
    let name = name.parse().map_err(|_| Box::new(rpc_error(&ErrorName::BadChannelName.into())))?;
    Ok(ChannelKey { appkey: query.appkey, name })
}

async fn show(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    Query(query): Query<AppQuery>,
) -> Response<Body> {
    #[derive(Serialize)]
    struct Channel {
        #[serde(flatten)]
        channel: ChannelDto,
        #[serde(rename = "memberList")]
        members: Vec<MemberDto>,
    }
    let key = match key(&name, query) {
        Ok(key) => key,
        Err(refused) => return *refused,
    };
    match admin.shards.channel(key).await {
        Some((view, members)) => {
            let members = members.into_iter().map(MemberDto::from).collect();
            json_response(StatusCode::OK, &Channel { channel: view.into(), members })
        }
        None => error_response(StatusCode::NOT_FOUND, "noSuchChannel", "No such channel."),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KickBody {
    uid: UserId,
    #[serde(default)]
    duration_s: u32,
    reason: Option<String>,
}

async fn kick(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    Query(query): Query<AppQuery>,
    request: Request<Body>,
) -> Response<Body> {
    let asked = async {
        let channel = key(&name, query)?;
        let KickBody { uid, duration_s, reason } = read_json(request).await?;
        Ok(AdminCommand::Kick { channel, uid, duration_s, reason })
    };
    command(&admin, asked.await).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CloseBody {
    #[serde(default = "CloseChannel::default_hold_s")]
    hold_s: u32,
    reason: Option<String>,
}

async fn close(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    Query(query): Query<AppQuery>,
    request: Request<Body>,
) -> Response<Body> {
    let asked = async {
        let channel = key(&name, query)?;
        let CloseBody { hold_s, reason } = read_json(request).await?;
        Ok(AdminCommand::Close { channel, hold_s, reason })
    };
    command(&admin, asked.await).await
}

async fn command(admin: &Admin, asked: Result<AdminCommand, Refused>) -> Response<Body> {
    let command = match asked {
        Ok(command) => command,
        Err(refused) => return *refused,
    };
    match admin.shards.admin(command).await {
        Some(Ok(AdminReply::Done | AdminReply::Channels(_) | AdminReply::Channel(..))) => {
            json_response(StatusCode::OK, &serde_json::json!({}))
        }
        Some(Err(error)) => rpc_error(&error),
        None => {
            error_response(StatusCode::SERVICE_UNAVAILABLE, "notReady", "The server is stopping.")
        }
    }
}

fn rpc_error(error: &RpcError) -> Response<Body> {
    let status = match error.name() {
        ErrorName::ChannelClosed | ErrorName::NoSuchMember => StatusCode::NOT_FOUND,
        ErrorName::Draining => StatusCode::SERVICE_UNAVAILABLE,
        // It took effect, and may not outlive a crash.
        ErrorName::NotStored => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    error_response(status, error.name().as_str(), &error.message)
}

/// Reads a JSON body; only `application/json` is one (contract rule C2).
async fn read_json<T: DeserializeOwned>(request: Request<Body>) -> Result<T, Refused> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_json = kind.is_some_and(|kind| {
        kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
    });
    if !is_json {
        let text = "The body must be application/json.";
        return Err(Box::new(error_response(StatusCode::UNSUPPORTED_MEDIA_TYPE, "notJson", text)));
    }
    let refuse = |status, name, text: &str| Box::new(error_response(status, name, text));
    let body = to_bytes(request.into_body(), MAX_BODY).await.map_err(|_| {
        refuse(StatusCode::PAYLOAD_TOO_LARGE, "bodyTooLarge", "The body is too large.")
    })?;
    serde_json::from_slice(&body)
        .map_err(|error| refuse(StatusCode::BAD_REQUEST, "invalidParams", &error.to_string()))
}

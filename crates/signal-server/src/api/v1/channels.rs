//! Channels: list, show, kick, close.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;
use lianmai_protocol::message::session::CloseChannel;
use lianmai_protocol::{Appkey, Cid, KindSet, Mid, Role, UserId};
use lianmai_signal_engine::output::{ChannelView, MemberView};
use serde::{Deserialize, Serialize};

use crate::api::Api;
use crate::api::error::{ApiError, json};
use crate::api::extract::{Channel, Json};
use crate::relay::forward::ForwardView;

type Answer = Result<Response, ApiError>;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/channels", get(list))
        .route("/v1/channels/{name}", get(show))
        .route("/v1/channels/{name}/kick", post(kick))
        .route("/v1/channels/{name}/close", post(close))
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
        let ChannelView { channel, cid, creator, members, broadcasters } = view;
        let channel_name = channel.name.to_string();
        ChannelDto { appkey: channel.appkey, channel_name, cid, creator, members, broadcasters }
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

/// One publish on its way to another server.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ForwardDto {
    uid: UserId,
    kind: &'static str,
    /// Without stream and query.
    url: String,
    state: &'static str,
    /// How long it has been in that state.
    state_ms: u64,
    failures: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<ForwardErrorDto>,
}

#[derive(Serialize)]
struct ForwardErrorDto {
    code: &'static str,
    message: String,
}

impl From<ForwardView> for ForwardDto {
    fn from(view: ForwardView) -> Self {
        let ForwardView { uid, kind, url, state, state_ms, failures, last_error } = view;
        let last_error = last_error.map(|(code, message)| ForwardErrorDto { code, message });
        ForwardDto { uid, kind: kind.as_str(), url, state, state_ms, failures, last_error }
    }
}

async fn list(State(api): State<Arc<Api>>) -> Answer {
    #[derive(Serialize)]
    struct List {
        channels: Vec<ChannelDto>,
    }
    let channels = api.service.channels().await?.into_iter().map(ChannelDto::from).collect();
    Ok(json(StatusCode::OK, &List { channels }))
}

async fn show(State(api): State<Arc<Api>>, Channel(key): Channel) -> Answer {
    #[derive(Serialize)]
    struct Shown {
        #[serde(flatten)]
        channel: ChannelDto,
        #[serde(rename = "memberList")]
        members: Vec<MemberDto>,
        forwards: Vec<ForwardDto>,
    }
    let (view, members) = api.service.channel(key).await?;
    let members = members.into_iter().map(MemberDto::from).collect();
    let forwards = api.forwards.of(&view.channel).into_iter().map(ForwardDto::from).collect();
    Ok(json(StatusCode::OK, &Shown { channel: view.into(), members, forwards }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kick {
    uid: UserId,
    #[serde(default)]
    duration_s: u32,
    reason: Option<String>,
}

async fn kick(
    State(api): State<Arc<Api>>,
    Channel(key): Channel,
    Json(kick): Json<Kick>,
) -> Answer {
    let Kick { uid, duration_s, reason } = kick;
    api.service.kick(key, uid, duration_s, reason).await?;
    Ok(done())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Close {
    #[serde(default = "CloseChannel::default_hold_s")]
    hold_s: u32,
    reason: Option<String>,
}

async fn close(
    State(api): State<Arc<Api>>,
    Channel(key): Channel,
    Json(close): Json<Close>,
) -> Answer {
    let Close { hold_s, reason } = close;
    api.service.close(key, hold_s, reason).await?;
    Ok(done())
}

/// It took effect, and there is nothing to say.
fn done() -> Response {
    json(StatusCode::OK, &serde_json::json!({}))
}

//! Bans and holds: list, lift.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;
use lianmai_protocol::{Appkey, UserId};
use lianmai_signal_engine::output::BanView;
use serde::{Deserialize, Serialize};

use crate::api::Api;
use crate::api::error::{ApiError, json};
use crate::api::extract::{Channel, Json};

type Answer = Result<Response, ApiError>;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/v1/bans", get(all))
        .route("/v1/unban", post(lift_all))
        .route("/v1/channels/{name}/bans", get(of_channel))
        .route("/v1/channels/{name}/unban", post(lift))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BanDto {
    appkey: Appkey,
    channel_name: String,
    /// Absent where the name is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<UserId>,
    /// The moderator; absent where it was an operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<UserId>,
    left_ms: u64,
}

impl From<BanView> for BanDto {
    fn from(view: BanView) -> Self {
        let BanView { channel, uid, by, left_ms } = view;
        BanDto { appkey: channel.appkey, channel_name: channel.name.to_string(), uid, by, left_ms }
    }
}

fn listed(bans: Vec<BanView>) -> Response {
    #[derive(Serialize)]
    struct List {
        bans: Vec<BanDto>,
    }
    json(StatusCode::OK, &List { bans: bans.into_iter().map(BanDto::from).collect() })
}

fn lifted(count: usize) -> Response {
    json(StatusCode::OK, &serde_json::json!({ "lifted": count }))
}

async fn all(State(api): State<Arc<Api>>) -> Answer {
    Ok(listed(api.service.bans(None).await?))
}

async fn of_channel(State(api): State<Arc<Api>>, Channel(key): Channel) -> Answer {
    Ok(listed(api.service.bans(Some(key)).await?))
}

// A name that is misspelt must not end a hold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lift {
    /// Absent: the hold of the name.
    uid: Option<UserId>,
}

async fn lift(
    State(api): State<Arc<Api>>,
    Channel(key): Channel,
    Json(Lift { uid }): Json<Lift>,
) -> Answer {
    Ok(lifted(api.service.lift_ban(key, uid).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LiftAll {
    appkey: Appkey,
    by: UserId,
}

async fn lift_all(
    State(api): State<Arc<Api>>,
    Json(LiftAll { appkey, by }): Json<LiftAll>,
) -> Answer {
    Ok(lifted(api.service.lift_bans_by(appkey, by).await?))
}

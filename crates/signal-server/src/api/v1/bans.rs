//! Bans and holds: list, lift.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use lianmai_protocol::{ChannelName, UserId};
use lianmai_signal_engine::output::BanView;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{ApiResult, Lifted};
use crate::api::Api;
use crate::api::access::{App, Channel, Member, Moderate, Read};
use crate::api::error::json;
use crate::api::extract::Json;

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(of_app))
        .routes(routes!(of_channel))
        .routes(routes!(lift))
        .routes(routes!(lift_hold))
        .routes(routes!(lift_by))
}

/// A ban of a user, or the hold of a channel's name.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct BanDto {
    /// The name of the channel.
    #[schema(value_type = String)]
    channel_name: ChannelName,
    /// The banned user; absent for a hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    uid: Option<UserId>,
    /// The moderator that made it; absent if it was made with this API.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    by: Option<UserId>,
    /// Remaining time in milliseconds; the end is the time of the answer plus this. 0: the ban is over, but tokens from
    /// before the kick are still refused. A hold that is over is not listed.
    left_ms: u64,
}

impl From<BanView> for BanDto {
    fn from(view: BanView) -> Self {
        let BanView { channel, uid, by, left_ms } = view;
        BanDto { channel_name: channel.name, uid, by, left_ms }
    }
}

/// The bans and holds that are in force.
#[derive(Serialize, utoipa::ToSchema)]
struct Bans {
    /// All of them, without pages. The reason and the begin of a ban are not stored. A user has one entry for each
    /// moderator that banned it, and one for this API.
    bans: Vec<BanDto>,
}

fn listed(bans: Vec<BanView>) -> Response {
    json(StatusCode::OK, &Bans { bans: bans.into_iter().map(BanDto::from).collect() })
}

/// Bans of all channels of an app
#[utoipa::path(
    get, path = "/v1/apps/{appkey}/bans", operation_id = "listBansOfApp", tag = "bans", params(("appkey" = String, Path)),
    responses((status = 200, body = Bans))
)]
async fn of_app(State(api): State<Arc<Api>>, App(appkey, _): App<Read>) -> ApiResult {
    Ok(listed(api.service.bans_of_app(&appkey).await?))
}

/// Bans of a channel
///
/// A ban applies to the name of a channel, whether or not the channel exists now.
#[utoipa::path(
    get, path = "/v1/apps/{appkey}/channels/{channel}/bans", operation_id = "listBans", tag = "bans",
    params(("appkey" = String, Path), ("channel" = String, Path)),
    responses((status = 200, body = Bans))
)]
async fn of_channel(State(api): State<Arc<Api>>, Channel(key, _): Channel<Read>) -> ApiResult {
    Ok(listed(api.service.bans(key).await?))
}

/// Lift a ban
///
/// All bans of the user in channels of this name, whoever made them. The user may come back at once, with the token that
/// it has. Without a ban the answer is `lifted: 0`.
#[utoipa::path(
    delete, path = "/v1/apps/{appkey}/channels/{channel}/bans/{uid}", operation_id = "liftBan", tag = "bans",
    params(("appkey" = String, Path), ("channel" = String, Path), ("uid" = String, Path, description = "The banned user")),
    responses((status = 200, body = Lifted))
)]
async fn lift(State(api): State<Arc<Api>>, Member(key, uid, _): Member<Moderate>) -> ApiResult {
    let lifted = api.service.lift_ban(key, Some(uid)).await?;
    Ok(json(StatusCode::OK, &Lifted { lifted }))
}

/// Lift the hold of a channel's name
///
/// Users that a close kept out may come back at once, with the tokens that they have. Without a hold the answer is
/// `lifted: 0`.
#[utoipa::path(
    delete, path = "/v1/apps/{appkey}/channels/{channel}/hold", operation_id = "liftHold", tag = "bans",
    params(("appkey" = String, Path), ("channel" = String, Path)),
    responses((status = 200, body = Lifted))
)]
async fn lift_hold(State(api): State<Arc<Api>>, Channel(key, _): Channel<Moderate>) -> ApiResult {
    let lifted = api.service.lift_ban(key, None).await?;
    Ok(json(StatusCode::OK, &Lifted { lifted }))
}

/// Whose bans to lift.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct LiftBy {
    /// The moderator.
    #[schema(value_type = String, pattern = "^(0|[1-9][0-9]{0,19})$")]
    by: UserId,
}

/// Lift all bans that a moderator has made
///
/// In all channels of the app: its bans, its holds, and the roles of audience that it set (`setRole` of a moderator), which
/// the members may then leave by themselves. Not bans that were made with this API.
#[utoipa::path(
    post, path = "/v1/apps/{appkey}/bans/lift", operation_id = "liftBansBy", tag = "bans", params(("appkey" = String, Path)),
    request_body = LiftBy, responses((status = 200, body = Lifted))
)]
async fn lift_by(
    State(api): State<Arc<Api>>,
    App(appkey, _): App<Moderate>,
    Json(LiftBy { by }): Json<LiftBy>,
) -> ApiResult {
    let lifted = api.service.lift_bans_by(appkey, by).await?;
    Ok(json(StatusCode::OK, &Lifted { lifted }))
}

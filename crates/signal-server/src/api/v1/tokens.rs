//! Tokens of members: mint, revoke.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use lianmai_protocol::{ChannelName, Rights, UserId, WallTime};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{ApiResult, Kind, secret_response};
use crate::api::Api;
use crate::api::access::{Admin, App};
use crate::api::error::json;
use crate::api::extract::{Json, optional_whole_number, whole_number};
use crate::api::service::MintToken;

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(mint)).routes(routes!(revoke))
}

/// The rights of a token; absent ones are not granted.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
struct Granted {
    publish: Vec<Kind>,
    subscribe: Vec<Kind>,
    broadcast: bool,
    tasks: bool,
    message: bool,
    moderate: bool,
}

impl Default for Granted {
    fn default() -> Self {
        let (publish, subscribe) = (Vec::new(), Vec::new());
        let [broadcast, tasks, message, moderate] = [false; 4];
        Granted { publish, subscribe, broadcast, tasks, message, moderate }
    }
}

impl From<Granted> for Rights {
    fn from(of: Granted) -> Self {
        Rights {
            publish: Kind::set(&of.publish),
            subscribe: Kind::set(&of.subscribe),
            broadcast: of.broadcast,
            tasks: of.tasks,
            message: of.message,
            moderate: of.moderate,
        }
    }
}

/// The content of a token to mint.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewToken {
    /// The only uid; any when absent.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^(0|[1-9][0-9]{0,19})$")]
    uid: Option<UserId>,
    /// The only channel; any when absent.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9 !#$%&()+:;<=.,>?@\\[\\]^_{}~\"|-]{1,64}$")]
    channel_name: Option<ChannelName>,
    /// All rights but `moderate` when absent.
    #[serde(default)]
    rights: Option<Granted>,
    /// Validity in seconds.
    #[serde(deserialize_with = "whole_number")]
    #[schema(minimum = 1, maximum = 604800)]
    ttl_s: u64,
    /// The token is not valid before this time, in Unix milliseconds.
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[schema(maximum = 253402300799000u64)]
    not_before: Option<u64>,
}

/// A token.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct TokenDto {
    /// For `join`.
    token: String,
    /// In Unix milliseconds.
    expires_at: u64,
}

/// Latest time in a token, in Unix milliseconds: the end of the year 9999.
const MAX_TIME: u64 = 253_402_300_799_000;

/// Mint a token
///
/// A JWT, signed with the first key of the app in the configuration.
#[utoipa::path(
    post, path = "/v1/apps/{appkey}/tokens", operation_id = "mintToken", tag = "tokens", params(("appkey" = String, Path)),
    request_body = NewToken, responses((status = 201, body = TokenDto))
)]
async fn mint(
    State(api): State<Arc<Api>>,
    App(appkey, _): App<Admin>,
    Json(new): Json<NewToken>,
) -> ApiResult {
    let NewToken { uid, channel_name: channel, rights, ttl_s, not_before } = new;
    if not_before.is_some_and(|at| at > MAX_TIME) {
        let error = crate::api::error::ApiError::invalid_params("notBefore is too late");
        return Err(error.field("notBefore"));
    }
    let (rights, not_before) = (rights.map(Rights::from), not_before.map(WallTime));
    let minting = MintToken { uid, channel, rights, ttl_s, not_before };
    let (token, expires) = api.service.mint(&appkey, minting)?;
    let token = token.expose().to_owned();
    Ok(secret_response(StatusCode::CREATED, &TokenDto { token, expires_at: expires.0 }))
}

/// Which tokens to revoke.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Revoke {
    /// Only tokens of this uid; of all when absent.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^(0|[1-9][0-9]{0,19})$")]
    uid: Option<UserId>,
    /// Tokens that were issued before this time, in Unix milliseconds; before now when absent.
    #[serde(default, deserialize_with = "optional_whole_number")]
    not_before: Option<u64>,
}

/// The time of a revocation.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct Revoked {
    /// In Unix milliseconds; tokens that were issued before are refused. Times of a JWT are whole seconds, so one of
    /// the same second may be refused, too.
    not_before: u64,
}

/// Revoke tokens
///
/// They can no longer be used to join or to renew a membership. Members stay in their channels: kick them to end that.
#[utoipa::path(
    post, path = "/v1/apps/{appkey}/tokens/revoke", operation_id = "revokeTokens", tag = "tokens", params(("appkey" = String, Path)),
    request_body = Revoke, responses((status = 200, body = Revoked))
)]
async fn revoke(
    State(api): State<Arc<Api>>,
    App(appkey, _): App<Admin>,
    Json(Revoke { uid, not_before }): Json<Revoke>,
) -> ApiResult {
    let from = api.service.revoke_tokens(&appkey, uid, not_before.map(WallTime)).await?;
    Ok(json(StatusCode::OK, &Revoked { not_before: from.0 }))
}

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

/// The rights of a token; absent ones are not granted. An empty object grants nothing.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
struct Granted {
    /// Kinds of media that it may publish.
    publish: Vec<Kind>,
    /// Kinds of media of others that it may subscribe to.
    subscribe: Vec<Kind>,
    /// To be a broadcaster.
    broadcast: bool,
    /// Own push tasks.
    tasks: bool,
    /// To send messages, and to change its name and attributes.
    message: bool,
    /// To kick, close the channel, set its attributes, mute and move other members, and manage all push tasks.
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
    #[schema(value_type = Option<String>, pattern = "^(?!\\.{1,2}$)[A-Za-z0-9 !#$%&()+:;<=.,>?@\\[\\]^_{}~\"|-]{1,64}$")]
    channel_name: Option<ChannelName>,
    /// What the client may do; everything but `moderate` when absent.
    #[serde(default)]
    rights: Option<Granted>,
    /// Validity in seconds, 1 to 604800 (7 days). No setting lowers this limit.
    #[serde(deserialize_with = "whole_number")]
    #[schema(minimum = 1, maximum = 604800)]
    ttl_s: u64,
    /// The token is not valid before this time, in Unix milliseconds; from now on when absent. The validity counts from now
    /// all the same, so this time is before its end.
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[schema(maximum = 253402300799000u64)]
    not_before: Option<u64>,
}

/// A token.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct TokenDto {
    /// For `join` of a client: the field `token`.
    token: String,
    /// When it expires, in Unix milliseconds.
    expires_at: u64,
}

/// Latest time in a token, in Unix milliseconds: the end of the year 9999.
const MAX_TIME: u64 = 253_402_300_799_000;

/// Mint a token
///
/// A token with which a client joins: a JWT, signed with the first signing key of the app in the configuration
/// (`[[apps.jwt]]`); API keys (`createKey`) have nothing to do with it. Your back end may also sign such tokens itself:
/// docs/protocol.md, section "Tokens", has the form.
///
/// 409 `debugMode`: an app in debug mode, such as `demo`, takes no tokens; clients join it without one. 409 `noSigningKey`:
/// the app has only a key for NERTC basic tokens.
///
/// When the token expires, the membership ends 5 s later (`memberLeft` with `tokenExpired`). The client is told 30 s before
/// and can send a new token with `renewToken`. The token is in no list: to make it invalid, use `revokeTokens`. A client
/// also needs the address of the public listener, which this answer does not have; see the description of the API.
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
    /// Only tokens of this uid, and joins of this uid with a token that names none; of all users when absent.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^(0|[1-9][0-9]{0,19})$")]
    uid: Option<UserId>,
    /// Tokens that were issued before this time, in Unix milliseconds; before now when absent. It may be up to 60 s in the
    /// future (otherwise 409 `inFuture`). A join accepts a token of a server whose clock is up to 60 s ahead. Only a time
    /// in the future revokes all such tokens; new tokens are refused until then, too.
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
/// They can no longer be used to join or to renew a membership. Members stay in their channels: kick them to end that. At
/// most 10,000 uids of an app can have revoked tokens at a time (409 `tooManyRevocations`); a revocation is forgotten after
/// 14 days, when no token is left that it concerns.
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

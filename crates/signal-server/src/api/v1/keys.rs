//! Keys of the API: list, make, revoke. Keys of an app are for its administrators, keys for all apps for the operator.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use lianmai_protocol::{Appkey, WallTime};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{ApiResult, Done, done, secret_response};
use crate::api::Api;
use crate::api::access::{Admin, App, KeyOf, KeysOf, Root, RootObject};
use crate::api::error::{ApiError, json};
use crate::api::extract::{Json, optional_whole_number};
use crate::api::keys::{ApiKey, Scope};

/// Maximum length of a key's name in bytes.
const MAX_NAME: usize = 128;

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(revoke))
        .routes(routes!(list_all, create_for_all))
        .routes(routes!(revoke_for_all))
}

/// A key without its text.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct KeyDto {
    /// Its id: it is part of the text of the key, and names the key in the paths of this API.
    id: String,
    /// The only app; absent for a key for all apps.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    appkey: Option<Appkey>,
    /// A label for people.
    name: String,
    /// Its scopes; the greatest counts.
    scopes: Vec<Scope>,
    /// When it was made, in Unix milliseconds.
    created_at: u64,
    /// When it expires, in Unix milliseconds; absent if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
}

impl From<&ApiKey> for KeyDto {
    fn from(key: &ApiKey) -> Self {
        KeyDto {
            id: key.id.clone(),
            appkey: key.appkey.clone(),
            name: key.name.clone(),
            scopes: key.scopes.clone(),
            created_at: key.created_at.0,
            expires_at: key.expires_at.map(|end| end.0),
        }
    }
}

/// Keys.
#[derive(Serialize, utoipa::ToSchema)]
struct Keys {
    /// At most 256 keys.
    keys: Vec<KeyDto>,
}

/// A key to make.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewKey {
    /// A label for people, at most 128 bytes of UTF-8; empty when absent.
    #[serde(default)]
    #[schema(max_length = 128)]
    name: String,
    /// One scope is enough: `admin` includes `moderate`, and `moderate` includes `read`.
    #[schema(min_items = 1, max_items = 3)]
    scopes: Vec<Scope>,
    /// When it expires, in Unix milliseconds, in the future (otherwise 409 `hasPassed`); never when absent.
    #[serde(default, deserialize_with = "optional_whole_number")]
    expires_at: Option<u64>,
}

/// A key with its text, which is not given again.
#[derive(Serialize, utoipa::ToSchema)]
struct KeyWithText {
    #[serde(flatten)]
    key: KeyDto,
    /// The key itself, for `Authorization: Bearer`. It is given only here; the server stores a hash.
    text: String,
}

fn listed(keys: &[Arc<ApiKey>]) -> Response {
    json(StatusCode::OK, &Keys { keys: keys.iter().map(|key| KeyDto::from(&**key)).collect() })
}

async fn create_key(api: &Api, appkey: Option<Appkey>, new: NewKey) -> ApiResult {
    let NewKey { name, scopes, expires_at } = new;
    if name.len() > MAX_NAME {
        return Err(ApiError::invalid_params("name is too long").field("name"));
    }
    if !(1..=3).contains(&scopes.len()) {
        return Err(ApiError::invalid_params("1 to 3 scopes").field("scopes"));
    }
    let expires_at = expires_at.map(WallTime);
    let (key, text) = api.service.add_key(appkey, name, scopes, expires_at).await?;
    let text = text.expose().to_owned();
    Ok(secret_response(StatusCode::CREATED, &KeyWithText { key: KeyDto::from(&*key), text }))
}

/// API keys of an app
///
/// Without their texts. Also those of an app that is no longer in the configuration: if it comes back, they are valid
/// again.
#[utoipa::path(
    get, path = "/v1/apps/{appkey}/keys", operation_id = "listKeys", tag = "keys", params(("appkey" = String, Path)),
    responses((status = 200, body = Keys))
)]
async fn list(State(api): State<Arc<Api>>, KeysOf(appkey): KeysOf) -> ApiResult {
    Ok(listed(&api.service.keys().list(Some(&appkey))))
}

/// Make an API key of an app
///
/// For a back end, with as little scope as it needs. It is for requests to this API; it does not sign tokens of clients. The
/// first key of an app needs the admin token, or a key for all apps. A key can make keys with at most its own scope, that is
/// `admin`. An app has at most 256 keys; expired ones are removed when another is made.
#[utoipa::path(
    post, path = "/v1/apps/{appkey}/keys", operation_id = "createKey", tag = "keys", params(("appkey" = String, Path)),
    request_body = NewKey, responses((status = 201, body = KeyWithText))
)]
async fn create(
    State(api): State<Arc<Api>>,
    App(appkey, _): App<Admin>,
    Json(new): Json<NewKey>,
) -> ApiResult {
    create_key(&api, Some(appkey), new).await
}

/// Revoke an API key of an app
///
/// It is invalid from the answer on. The app need not be in the configuration.
#[utoipa::path(
    delete, path = "/v1/apps/{appkey}/keys/{id}", operation_id = "revokeKey", tag = "keys",
    params(("appkey" = String, Path), ("id" = String, Path, description = "The id of the key")), responses((status = 200, body = Done))
)]
async fn revoke(State(api): State<Arc<Api>>, KeyOf(appkey, id): KeyOf) -> ApiResult {
    api.service.revoke_key(Some(&appkey), &id).await?;
    Ok(done())
}

/// API keys for all apps
#[utoipa::path(get, path = "/v1/keys", operation_id = "listGlobalKeys", tag = "keys", responses((status = 200, body = Keys)))]
async fn list_all(State(api): State<Arc<Api>>, _: Root) -> ApiResult {
    Ok(listed(&api.service.keys().list(None)))
}

/// Make an API key for all apps
///
/// As `createKey`, but the key is for every app. There are at most 256 of them.
#[utoipa::path(
    post, path = "/v1/keys", operation_id = "createGlobalKey", tag = "keys", request_body = NewKey,
    responses((status = 201, body = KeyWithText))
)]
async fn create_for_all(
    State(api): State<Arc<Api>>,
    _: Root,
    Json(new): Json<NewKey>,
) -> ApiResult {
    create_key(&api, None, new).await
}

/// Revoke an API key for all apps
///
/// It is invalid from the answer on.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", operation_id = "revokeGlobalKey", tag = "keys", params(("id" = String, Path, description = "The id of the key")),
    responses((status = 200, body = Done))
)]
async fn revoke_for_all(State(api): State<Arc<Api>>, RootObject(id): RootObject) -> ApiResult {
    api.service.revoke_key(None, &id).await?;
    Ok(done())
}

//! Webhooks: make, list, change, remove, rotate the secret, ping, dead letters.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{ApiResult, Done, done, secret_response};
use crate::api::Api;
use crate::api::access::{Admin, App, AppObject};
use crate::api::error::json;
use crate::api::extract::{Json, Query};
use crate::api::paging::{self, PageQuery, Position};
use crate::api::service::NewEndpoint;
use crate::hooks::Endpoint;
use crate::hooks::body::EventDto;

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, change, remove))
        .routes(routes!(rotate))
        .routes(routes!(ping))
        .routes(routes!(dead_letters))
}

/// A webhook without its secret.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct WebhookDto {
    /// Its id, for the paths of this API.
    id: String,
    /// Where deliveries go.
    url: String,
    /// Kinds of events that it receives; empty for all.
    events: Vec<String>,
    /// Whether events are delivered.
    enabled: bool,
    /// When it was made, in Unix milliseconds.
    created_at: u64,
}

impl From<&Endpoint> for WebhookDto {
    fn from(endpoint: &Endpoint) -> Self {
        WebhookDto {
            id: endpoint.id.clone(),
            url: endpoint.url.clone(),
            events: endpoint.events.clone(),
            enabled: endpoint.enabled,
            created_at: endpoint.created_at.0,
        }
    }
}

/// Webhooks of an app.
#[derive(Serialize, utoipa::ToSchema)]
struct Webhooks {
    /// All webhooks of the app, at most 16.
    webhooks: Vec<WebhookDto>,
}

/// A kind of event.
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes texts; `hooks::KINDS` has them, and a test compares")]
enum EventKind {
    ChannelOpened,
    ChannelEnded,
    MemberJoined,
    MemberLeft,
    RoleChanged,
    StreamAdded,
    StreamRemoved,
    TaskAdded,
    TaskChanged,
    TaskEnded,
}

/// A webhook to make.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewWebhook {
    /// `https://` or `http://`, ASCII, at most 2048 bytes, with a host, without user and fragment; otherwise the error is
    /// 422 `badWebhookUrl`.
    ///
    /// Only the form is checked here. The address is checked at each delivery. `https` to a public address is always
    /// allowed. Every other address (loopback, private networks) must be in `webhooks.allow` of the configuration: a
    /// list of addresses and CIDR ranges, such as `["127.0.0.1", "10.0.0.0/8"]`, which is empty by default. `http` is
    /// possible only to addresses of this list. The listeners of the server itself are always refused. `https` trusts
    /// the certificate authorities of browsers; others cannot be added. An address that is not allowed makes each
    /// delivery fail; `pingWebhook` shows that.
    #[schema(max_length = 2048, pattern = "^[Hh][Tt][Tt][Pp][Ss]?://")]
    url: String,
    /// Kinds of events that it receives; all kinds when absent or empty. With a list, `seq` has gaps. `lost` is always
    /// delivered.
    #[serde(default)]
    #[schema(value_type = Vec<EventKind>)]
    events: Vec<String>,
    /// Whether events are delivered; true when absent.
    #[serde(default = "yes")]
    enabled: bool,
}

fn yes() -> bool {
    true
}

/// A webhook with its secret, which is not given again.
#[derive(Serialize, utoipa::ToSchema)]
struct WebhookWithSecret {
    #[serde(flatten)]
    webhook: WebhookDto,
    /// The secret that signs deliveries by Standard Webhooks: `whsec_` and the base64 of 32 bytes. It is given only here.
    secret: String,
}

/// Webhooks of an app
#[utoipa::path(
    get, path = "/v1/apps/{appkey}/webhooks", operation_id = "listWebhooks", tag = "webhooks", params(("appkey" = String, Path)),
    responses((status = 200, body = Webhooks))
)]
async fn list(State(api): State<Arc<Api>>, App(appkey, _): App<Admin>) -> ApiResult {
    let webhooks = api.service.endpoints_of(&appkey).iter().map(WebhookDto::from).collect();
    Ok(json(StatusCode::OK, &Webhooks { webhooks }))
}

/// Make a webhook
///
/// It receives the events of the app from now on, also those of channels that live already; the first event of such a
/// channel may have any `seq`, and a `memberLeft` may come without its `memberJoined`. The server does not try the URL: use
/// `pingWebhook`. Two webhooks may have the same URL; then each event comes twice. An app has at most 16 webhooks.
/// asyncapi.json, channel `webhook`, describes deliveries: headers, signature, answer, retries and order.
#[utoipa::path(
    post, path = "/v1/apps/{appkey}/webhooks", operation_id = "createWebhook", tag = "webhooks", params(("appkey" = String, Path)),
    request_body = NewWebhook, responses((status = 201, body = WebhookWithSecret))
)]
async fn create(
    State(api): State<Arc<Api>>,
    App(appkey, _): App<Admin>,
    Json(NewWebhook { url, events, enabled }): Json<NewWebhook>,
) -> ApiResult {
    let new = NewEndpoint { url, events, enabled };
    let (endpoint, secret) = api.service.add_endpoint(&appkey, new).await?;
    let (webhook, secret) = (WebhookDto::from(&endpoint), secret.expose().to_owned());
    Ok(secret_response(StatusCode::CREATED, &WebhookWithSecret { webhook, secret }))
}

/// One webhook
#[utoipa::path(
    get, path = "/v1/apps/{appkey}/webhooks/{id}", operation_id = "getWebhook", tag = "webhooks",
    params(("appkey" = String, Path), ("id" = String, Path, description = "The id of the webhook")), responses((status = 200, body = WebhookDto))
)]
async fn show(
    State(api): State<Arc<Api>>,
    AppObject(appkey, id, _): AppObject<Admin>,
) -> ApiResult {
    Ok(json(StatusCode::OK, &WebhookDto::from(&api.service.endpoint(&appkey, &id)?)))
}

/// Changes of a webhook; absent fields stay.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeWebhook {
    /// The new URL, as in `createWebhook`. Deliveries that begin later go there.
    #[serde(default)]
    #[schema(max_length = 2048, pattern = "^[Hh][Tt][Tt][Pp][Ss]?://")]
    url: Option<String>,
    /// Kinds of events that it receives; empty for all.
    #[serde(default)]
    #[schema(value_type = Option<Vec<EventKind>>)]
    events: Option<Vec<String>>,
    /// While this is false, nothing is delivered. When it is true again, the webhook receives the events that it missed
    /// and that are still stored; `lost` stands for the others. A missed event that is older than `webhooks.give_up_s`
    /// (6 hours by default) becomes a dead letter when eight attempts in a row have failed, after about a minute.
    #[serde(default)]
    enabled: Option<bool>,
}

/// Change a webhook
#[utoipa::path(
    patch, path = "/v1/apps/{appkey}/webhooks/{id}", operation_id = "changeWebhook", tag = "webhooks",
    params(("appkey" = String, Path), ("id" = String, Path, description = "The id of the webhook")), request_body = ChangeWebhook,
    responses((status = 200, body = WebhookDto))
)]
async fn change(
    State(api): State<Arc<Api>>,
    AppObject(appkey, id, _): AppObject<Admin>,
    Json(ChangeWebhook { url, events, enabled }): Json<ChangeWebhook>,
) -> ApiResult {
    let endpoint = api.service.change_endpoint(&appkey, &id, (url, events, enabled)).await?;
    Ok(json(StatusCode::OK, &WebhookDto::from(&endpoint)))
}

/// Remove a webhook
///
/// No delivery begins after the answer; one that has begun may still arrive. Its dead letters are removed, too.
#[utoipa::path(
    delete, path = "/v1/apps/{appkey}/webhooks/{id}", operation_id = "removeWebhook", tag = "webhooks",
    params(("appkey" = String, Path), ("id" = String, Path, description = "The id of the webhook")), responses((status = 200, body = Done))
)]
async fn remove(
    State(api): State<Arc<Api>>,
    AppObject(appkey, id, _): AppObject<Admin>,
) -> ApiResult {
    api.service.remove_endpoint(&appkey, &id).await?;
    Ok(done())
}

/// Give a webhook a new secret
///
/// The answer gives the new secret, which signs from now on. The old one also signs for another 24 hours, so each delivery
/// has two signatures. If you rotate again within this time, it has more; only the last eight secrets sign.
#[utoipa::path(
    post, path = "/v1/apps/{appkey}/webhooks/{id}/rotateSecret", operation_id = "rotateWebhookSecret", tag = "webhooks",
    params(("appkey" = String, Path), ("id" = String, Path, description = "The id of the webhook")),
    responses((status = 200, body = WebhookWithSecret))
)]
async fn rotate(
    State(api): State<Arc<Api>>,
    AppObject(appkey, id, _): AppObject<Admin>,
) -> ApiResult {
    let (endpoint, secret) = api.service.rotate_secret(&appkey, &id).await?;
    let (webhook, secret) = (WebhookDto::from(&endpoint), secret.expose().to_owned());
    Ok(secret_response(StatusCode::OK, &WebhookWithSecret { webhook, secret }))
}

/// The result of a ping.
#[derive(Serialize, utoipa::ToSchema)]
struct Pong {
    /// Whether the endpoint answered with a 2xx status in time.
    delivered: bool,
    /// The reason if not, for people: `it was answered 404`, for instance, `there was no answer in time`, `the
    /// connection failed`, `there is no address that is allowed` (also if the name has none; see `url` of
    /// `createWebhook`), or `there is no TLS that can be trusted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Ping a webhook
///
/// One delivery of the type `ping`, now and without retries, also if the webhook is disabled. The answer is 200 whether or
/// not the endpoint accepted it: see `delivered`. The body is `pingHook` in asyncapi.json: it has no `channelName` and no
/// `seq`. At most four pings of an app, fewer if other apps ping too, are on the way at the same time (429 `tooManyPings`).
#[utoipa::path(
    post, path = "/v1/apps/{appkey}/webhooks/{id}/ping", operation_id = "pingWebhook", tag = "webhooks",
    params(("appkey" = String, Path), ("id" = String, Path, description = "The id of the webhook")), responses((status = 200, body = Pong))
)]
async fn ping(
    State(api): State<Arc<Api>>,
    AppObject(appkey, id, _): AppObject<Admin>,
) -> ApiResult {
    let error = api.service.ping(&appkey, &id).await?;
    Ok(json(StatusCode::OK, &Pong { delivered: error.is_none(), error }))
}

/// An event that an endpoint did not accept in time.
#[derive(Serialize, utoipa::ToSchema)]
struct DeadLetterDto {
    /// The event. It is not delivered again: handle it from here.
    event: EventDto,
    /// The number of attempts since the last start of the server.
    attempts: u32,
    /// Why the last attempt failed.
    error: String,
    /// When it was given up, in Unix milliseconds.
    at: u64,
}

/// A page of dead letters, the oldest first.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct DeadLetters {
    /// The dead letters of this page.
    dead_letters: Vec<DeadLetterDto>,
    /// Cursor of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Dead letters of a webhook
///
/// Events that the endpoint did not accept until they were older than `webhooks.give_up_s` (6 hours by default). A dead
/// letter stays as long as its event is stored (see `listEvents`) and the webhook exists.
#[utoipa::path(
    get, path = "/v1/apps/{appkey}/webhooks/{id}/deadLetters", operation_id = "listDeadLetters", tag = "webhooks",
    params(("appkey" = String, Path), ("id" = String, Path, description = "The id of the webhook"), PageQuery),
    responses((status = 200, body = DeadLetters))
)]
async fn dead_letters(
    State(api): State<Arc<Api>>,
    AppObject(appkey, id, _): AppObject<Admin>,
    Query(page): Query<PageQuery>,
) -> ApiResult {
    let after = page.after("deadLetters")?.map_or(0, |Position(pos)| pos);
    let limit = page.limit()?;
    let mut letters = api.service.dead_letters(&appkey, &id, after, limit + 1).await?;
    let more = letters.len() > limit;
    letters.truncate(limit);
    let last = letters.last().filter(|_| more).map(|last| last.event.pos);
    let next_cursor = last.map(|last| paging::cursor("deadLetters", &last));
    let dead_letters = letters.into_iter().filter_map(|letter| {
        let event = EventDto::of(&appkey, &letter.event)?;
        let (attempts, error, at) = (letter.attempts, letter.error, letter.at);
        Some(DeadLetterDto { event, attempts, error, at })
    });
    let dead_letters = dead_letters.collect();
    Ok(json(StatusCode::OK, &DeadLetters { dead_letters, next_cursor }))
}

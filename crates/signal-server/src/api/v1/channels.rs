//! Channels: list, show, create, close, attributes, policy, messages.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use http::{HeaderMap, StatusCode};
use lianmai_protocol::limits::{MAX_ATTRIBUTE_KEYS, MAX_MESSAGE_RECIPIENTS};
use lianmai_protocol::message::session::CloseChannel;
use lianmai_protocol::{Appkey, ChannelName, Cid, Map, UserId};
use lianmai_signal_engine::ChannelKey;
use lianmai_signal_engine::output::{ChannelDetail, ChannelView};
use lianmai_signal_engine::record::ChannelRules;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{ApiResult, Done, Uid, done};
use crate::api::Api;
use crate::api::access::{Admin, App, Channel, Moderate, Read};
use crate::api::error::json;
use crate::api::extract::{Json, Query, optional_whole_number, unique_keys, whole_number};
use crate::api::paging::{self, MAX_LIMIT, PageQuery};
use crate::relay::forward::ForwardView;

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show))
        .routes(routes!(close))
        .routes(routes!(set_attributes))
        .routes(routes!(set_policy))
        .routes(routes!(send))
}

/// A channel in a list.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct ChannelDto {
    /// Its app.
    #[schema(value_type = String)]
    appkey: Appkey,
    /// Its name.
    #[schema(value_type = String)]
    channel_name: ChannelName,
    /// Its incarnation: another channel with the same name has another one.
    #[schema(value_type = String)]
    cid: Cid,
    /// Its creator; absent if none was named and nobody has joined yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    creator: Option<UserId>,
    /// The number of members, including the audience.
    members: usize,
    /// The number of broadcasters.
    broadcasters: usize,
}

impl From<ChannelView> for ChannelDto {
    fn from(view: ChannelView) -> Self {
        let ChannelView { channel, cid, creator, members, broadcasters } = view;
        let ChannelKey { appkey, name: channel_name } = channel;
        ChannelDto { appkey, channel_name, cid, creator, members, broadcasters }
    }
}

/// What happens when a uid joins that is already in the channel.
#[derive(Clone, Copy, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
enum Duplicate {
    /// The new member takes its place.
    KickOld,
    /// The new member is refused.
    RejectNew,
}

/// Rules of one channel. An absent rule is that of the app: the setting of the same name in its table `[[apps]]`
/// (`duplicate`, `creator_moderates`, `dissolve_on_creator_leave`). The API does not show the rules of the app.
#[derive(Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Policy {
    /// What happens when a uid joins that is already in the channel. The default of an app is `kickOld`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    duplicate: Option<Duplicate>,
    /// The creator may kick, close and mute, if its token is for its uid alone. The default of an app is false (of `demo`,
    /// true).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    creator_moderates: Option<bool>,
    /// The channel ends when its creator leaves. The default of an app is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dissolve_on_creator_leave: Option<bool>,
    /// Maximum number of members, including the audience. When absent, or greater than `limits.members` of the
    /// configuration (10,000 by default), that limit applies. With 0 nobody can join.
    #[serde(
        default,
        deserialize_with = "optional_whole_number",
        skip_serializing_if = "Option::is_none"
    )]
    max_members: Option<u32>,
    /// Maximum number of broadcasters. When absent, or greater than `limits.broadcasters` (2,000 by default), that limit
    /// applies. With 0 there can be no broadcaster.
    #[serde(
        default,
        deserialize_with = "optional_whole_number",
        skip_serializing_if = "Option::is_none"
    )]
    max_broadcasters: Option<u32>,
    /// The channel stays without members, also before the first join, until it is closed. False when absent.
    #[serde(default)]
    keep_empty: bool,
}

impl From<Policy> for ChannelRules {
    fn from(policy: Policy) -> Self {
        ChannelRules {
            reject_new: policy.duplicate.map(|it| matches!(it, Duplicate::RejectNew)),
            creator_moderates: policy.creator_moderates,
            dissolve_on_creator_leave: policy.dissolve_on_creator_leave,
            max_members: policy.max_members,
            max_broadcasters: policy.max_broadcasters,
            keep_empty: policy.keep_empty,
        }
    }
}

impl From<ChannelRules> for Policy {
    fn from(rules: ChannelRules) -> Self {
        let duplicate = |reject| if reject { Duplicate::RejectNew } else { Duplicate::KickOld };
        Policy {
            duplicate: rules.reject_new.map(duplicate),
            creator_moderates: rules.creator_moderates,
            dissolve_on_creator_leave: rules.dissolve_on_creator_leave,
            max_members: rules.max_members,
            max_broadcasters: rules.max_broadcasters,
            keep_empty: rules.keep_empty,
        }
    }
}

/// A publish that is forwarded to another server.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct ForwardDto {
    #[schema(value_type = String)]
    uid: UserId,
    /// `av`, `screenShare` or `slaveAudio`.
    kind: &'static str,
    /// Without stream name and query.
    url: String,
    /// `connecting`, `publishing` or `waiting`.
    state: &'static str,
    /// Time in this state in milliseconds.
    state_ms: u64,
    failures: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<ForwardErrorDto>,
}

/// The last failure of a forward.
#[derive(Serialize, utoipa::ToSchema)]
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

/// A channel.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct ChannelDetailDto {
    #[serde(flatten)]
    channel: ChannelDto,
    /// Its attributes.
    attributes: BTreeMap<String, String>,
    /// Its own rules.
    policy: Policy,
    /// When the channel ends if nobody joins, in Unix milliseconds: 24 hours after `createChannel`. Absent after the
    /// first join. With `policy.keepEmpty` the channel does not end then.
    #[serde(skip_serializing_if = "Option::is_none")]
    prepared_until: Option<u64>,
    /// Publishes that are forwarded to other servers.
    forwards: Vec<ForwardDto>,
}

impl ChannelDetailDto {
    fn of(api: &Api, detail: ChannelDetail) -> Self {
        let ChannelDetail { view, attributes, rules, prepared_until } = detail;
        let forwards = api.forwards.of(&view.channel).into_iter().map(ForwardDto::from).collect();
        ChannelDetailDto {
            channel: view.into(),
            attributes: attributes.0.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            policy: rules.into(),
            prepared_until: prepared_until.map(|until| until.0),
            forwards,
        }
    }
}

/// A page of channels, ordered by name.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct Channels {
    /// The channels of this page.
    channels: Vec<ChannelDto>,
    /// Cursor of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

const LIST: &str = "channels";

/// Channels of an app
///
/// Ordered by name. With `Accept: application/x-ndjson`: all channels, one per line.
#[utoipa::path(
    get, path = "/v1/apps/{appkey}/channels", operation_id = "listChannels", tag = "channels",
    params(("appkey" = String, Path), PageQuery),
    responses((status = 200, content((Channels = "application/json"), (ChannelDto = "application/x-ndjson"))))
)]
async fn list(
    State(api): State<Arc<Api>>,
    App(appkey, _): App<Read>,
    Query(page): Query<PageQuery>,
    headers: HeaderMap,
) -> ApiResult {
    let (after, limit) = (page.after(LIST)?, page.limit()?);
    if paging::wants_lines(&headers) {
        // A request that fails here gets an error; later, the stream can only break off.
        let service = api.service.clone();
        service.channels(&appkey, after.clone(), 1).await?;
        return Ok(paging::lines(
            after,
            |channel: &ChannelDto| channel.channel_name.clone(),
            move |after| {
                let (service, appkey) = (service.clone(), appkey.clone());
                async move {
                    let page = service.channels(&appkey, after, MAX_LIMIT).await?;
                    Ok(page.into_iter().map(ChannelDto::from).collect())
                }
            },
        ));
    }
    let views = api.service.channels(&appkey, after, limit + 1).await?;
    let more = views.len() > limit;
    let channels: Vec<ChannelDto> = views.into_iter().take(limit).map(Into::into).collect();
    let last = channels.last().filter(|_| more).map(|last| &last.channel_name);
    let next_cursor = last.map(|last| paging::cursor(LIST, last));
    Ok(json(StatusCode::OK, &Channels { channels, next_cursor }))
}

/// A channel to make.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewChannel {
    /// Its name: 1 to 64 letters, digits, spaces and ``!#$%&()+:;<=.,>?@[]^_{}~"|-``, but not `.` or `..`.
    #[schema(value_type = String, min_length = 1, max_length = 64, pattern = "^(?!\\.{1,2}$)[A-Za-z0-9 !#$%&()+:;<=.,>?@\\[\\]^_{}~\"|-]{1,64}$")]
    channel_name: ChannelName,
    /// Its creator; when absent, the first user that joins.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^(0|[1-9][0-9]{0,19})$")]
    creator: Option<UserId>,
    /// Its own rules; those of the app when absent.
    #[serde(default)]
    policy: Policy,
    /// Its attributes, at most 64, each key at most 64 bytes, and `limits.attribute_bytes` of the configuration as JSON
    /// (4096 by default); none when absent.
    #[serde(default, deserialize_with = "unique_keys")]
    attributes: BTreeMap<String, String>,
}

/// Make a channel ahead of its first join
///
/// The channel begins now: `channelOpened` is stored before the answer. Without `policy.keepEmpty` it ends with its last
/// membership, also if that was kicked, and it ends after 24 hours if nobody joins. With `policy.keepEmpty` it ends only
/// when it is closed. Each end gives a `channelEnded`. Its rules and attributes end with it.
///
/// If a channel of this name lives, the error is 409 `channelExists`, and nothing changes: use `setChannelPolicy` and
/// `setChannelAttributes`. A hold of the name (see `closeChannel`) does not hinder this request.
#[utoipa::path(
    post, path = "/v1/apps/{appkey}/channels", operation_id = "createChannel", tag = "channels",
    params(("appkey" = String, Path)), request_body = NewChannel,
    responses((status = 201, body = ChannelDetailDto))
)]
async fn create(
    State(api): State<Arc<Api>>,
    App(appkey, _): App<Admin>,
    Json(new): Json<NewChannel>,
) -> ApiResult {
    let NewChannel { channel_name: name, creator, policy, attributes } = new;
    let key = ChannelKey { appkey, name };
    let attributes = attributes.into_iter().collect();
    let detail = api.service.create(key, creator, policy.into(), attributes).await?;
    Ok(json(StatusCode::CREATED, &ChannelDetailDto::of(&api, detail)))
}

/// One channel
#[utoipa::path(
    get, path = "/v1/apps/{appkey}/channels/{channel}", operation_id = "getChannel", tag = "channels",
    params(("appkey" = String, Path), ("channel" = String, Path)),
    responses((status = 200, body = ChannelDetailDto))
)]
async fn show(State(api): State<Arc<Api>>, Channel(key, _): Channel<Read>) -> ApiResult {
    let detail = api.service.channel(key).await?;
    Ok(json(StatusCode::OK, &ChannelDetailDto::of(&api, detail)))
}

/// How to close a channel.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Close {
    /// Duration of the hold in seconds, 0 to 3600; 10 when absent.
    #[serde(default = "CloseChannel::default_hold_s", deserialize_with = "whole_number")]
    #[schema(maximum = 3600)]
    hold_s: u32,
    /// Sent to the members; at most 256 bytes of UTF-8.
    #[serde(default)]
    #[schema(max_length = 256)]
    reason: Option<String>,
}

/// Close a channel
///
/// This is how a channel is removed, also one without members. All members are told, and their memberships end
/// (`memberLeft` with `channelClosed`, then `channelEnded`).
///
/// The name is then held for `holdS` seconds. During the hold, a join is refused with `channelClosed` if its token was
/// issued before the close or less than about 60 s after it, because clocks may differ; an app in debug mode gets no joins
/// at all. So during the hold a new token helps only if it is issued a minute after the close. After the hold, or after
/// `liftHold`, every valid token can join again, and the first join creates the channel anew with the rules of the app. To
/// keep users out for longer, use short tokens or `revokeTokens`. The hold is in `listBans`, without `uid`.
#[utoipa::path(
    post, path = "/v1/apps/{appkey}/channels/{channel}/close", operation_id = "closeChannel", tag = "channels",
    params(("appkey" = String, Path), ("channel" = String, Path)), request_body = Close,
    responses((status = 200, body = Done))
)]
async fn close(
    State(api): State<Arc<Api>>,
    Channel(key, _): Channel<Moderate>,
    Json(Close { hold_s, reason }): Json<Close>,
) -> ApiResult {
    api.service.close(key, hold_s, reason).await?;
    Ok(done())
}

/// Attributes to set and to remove.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Patch {
    /// The new values; `null` removes a key; other keys stay. At most 128 keys in one request. The result has the limits of
    /// `attributes` in `createChannel`.
    #[serde(deserialize_with = "unique_keys")]
    attributes: BTreeMap<String, Option<String>>,
}

/// Change attributes of a channel
///
/// All members are told the new attributes.
#[utoipa::path(
    patch, path = "/v1/apps/{appkey}/channels/{channel}/attributes", operation_id = "setChannelAttributes", tag = "channels",
    params(("appkey" = String, Path), ("channel" = String, Path)), request_body = Patch,
    responses((status = 200, body = Done))
)]
async fn set_attributes(
    State(api): State<Arc<Api>>,
    Channel(key, _): Channel<Moderate>,
    Json(Patch { attributes }): Json<Patch>,
) -> ApiResult {
    // A patch may remove as many keys as there can be, and set as many.
    if attributes.len() > 2 * MAX_ATTRIBUTE_KEYS {
        return Err(lianmai_protocol::ErrorName::BadAttributes.into());
    }
    let mut patch = Map::new();
    for (name, value) in attributes {
        patch.insert(name, value);
    }
    api.service.set_attributes(key, patch).await?;
    Ok(done())
}

/// Replace the rules of a channel
///
/// All rules are replaced: an absent rule is that of the app. They apply to joins and to the end of the channel; no
/// membership ends because of them.
#[utoipa::path(
    put, path = "/v1/apps/{appkey}/channels/{channel}/policy", operation_id = "setChannelPolicy", tag = "channels",
    params(("appkey" = String, Path), ("channel" = String, Path)), request_body = Policy,
    responses((status = 200, body = Done))
)]
async fn set_policy(
    State(api): State<Arc<Api>>,
    Channel(key, _): Channel<Admin>,
    Json(policy): Json<Policy>,
) -> ApiResult {
    api.service.set_rules(key, policy.into()).await?;
    Ok(done())
}

/// A message.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Message {
    /// The uid of the sender; it need not be in the channel.
    #[schema(value_type = String, pattern = "^(0|[1-9][0-9]{0,19})$")]
    uid: UserId,
    /// The message, at most `limits.message_bytes` of the configuration as JSON (8192 by default).
    data: String,
    /// Only to these members, at most 64; to all members when absent. A uid that is not in the channel gets nothing and
    /// is not counted.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Uid>>, max_items = 64)]
    to: Option<Vec<UserId>>,
}

/// The number of receivers of a message.
#[derive(Serialize, utoipa::ToSchema)]
struct Sent {
    /// Members, including those that are reconnecting. Such a member may miss a message to all (MSG-3).
    delivered: u64,
}

/// Send a message to a channel or to members
#[utoipa::path(
    post, path = "/v1/apps/{appkey}/channels/{channel}/messages", operation_id = "sendMessage", tag = "channels",
    params(("appkey" = String, Path), ("channel" = String, Path)), request_body = Message,
    responses((status = 200, body = Sent))
)]
async fn send(
    State(api): State<Arc<Api>>,
    Channel(key, _): Channel<Moderate>,
    Json(Message { uid, data, to }): Json<Message>,
) -> ApiResult {
    if to.as_ref().is_some_and(|to| to.len() > MAX_MESSAGE_RECIPIENTS) {
        return Err(lianmai_protocol::ErrorName::TooManyRecipients.into());
    }
    let delivered = api.service.announce(key, uid, data, to).await?;
    Ok(json(StatusCode::OK, &Sent { delivered }))
}

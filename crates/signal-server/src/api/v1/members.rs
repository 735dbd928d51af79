//! Members: list, show, kick, role, barred kinds; and what they publish.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use http::{HeaderMap, StatusCode};
use lianmai_protocol::{Mid, Pub, Rights, Role, UserId};
use lianmai_signal_engine::output::MemberDetail;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{ApiResult, Done, Kind, done};
use crate::api::Api;
use crate::api::access::{Channel, Member, Moderate, Read};
use crate::api::error::json;
use crate::api::extract::{Json, Query, whole_number};
use crate::api::paging::{self, MAX_LIMIT, PageQuery};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(kick))
        .routes(routes!(set_role))
        .routes(routes!(set_barred))
        .routes(routes!(streams))
}

/// The role of a member in a channel.
#[derive(Clone, Copy, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
enum RoleDto {
    /// May publish, and is visible to others.
    Broadcaster,
    /// Only watches, and is not visible to others.
    Audience,
}

impl From<&Role> for RoleDto {
    fn from(role: &Role) -> Self {
        if *role == Role::Broadcaster { RoleDto::Broadcaster } else { RoleDto::Audience }
    }
}

impl From<RoleDto> for Role {
    fn from(role: RoleDto) -> Self {
        match role {
            RoleDto::Broadcaster => Role::Broadcaster,
            RoleDto::Audience => Role::Audience,
        }
    }
}

/// The rights of a member.
#[derive(Serialize, utoipa::ToSchema)]
struct RightsDto {
    publish: Vec<Kind>,
    subscribe: Vec<Kind>,
    broadcast: bool,
    tasks: bool,
    message: bool,
    moderate: bool,
}

impl From<Rights> for RightsDto {
    fn from(rights: Rights) -> Self {
        RightsDto {
            publish: Kind::all(rights.publish),
            subscribe: Kind::all(rights.subscribe),
            broadcast: rights.broadcast,
            tasks: rights.tasks,
            message: rights.message,
            moderate: rights.moderate,
        }
    }
}

/// A stream of a member.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct StreamDto {
    media_type: Kind,
    /// The publication.
    #[serde(rename = "pub")]
    #[schema(value_type = String)]
    publication: Pub,
}

/// A member.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct MemberDto {
    #[schema(value_type = String)]
    uid: UserId,
    /// The membership; each join begins a new one, and a reconnect keeps it.
    #[schema(value_type = String)]
    mid: Mid,
    role: RoleDto,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    attributes: BTreeMap<String, String>,
    /// Whether it has a connection now. Otherwise it is expected back: its membership ends only when `session.grace_ms`
    /// (30 s by default) has passed, later while its media flows.
    connected: bool,
    rights: RightsDto,
    /// Kinds that it may not publish here, whatever its token grants.
    barred: Vec<Kind>,
    /// Kinds that are muted.
    muted: Vec<Kind>,
    streams: Vec<StreamDto>,
}

impl From<MemberDetail> for MemberDto {
    fn from(member: MemberDetail) -> Self {
        let MemberDetail { uid, mid, role, name, attributes, connected, .. } = member;
        let streams = member.streams.iter();
        let streams = streams.filter_map(|(kind, publication)| {
            Some(StreamDto { media_type: Kind::of(kind)?, publication: *publication })
        });
        MemberDto {
            uid,
            mid,
            role: (&role).into(),
            name,
            attributes: attributes.0.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            connected,
            rights: member.rights.into(),
            barred: Kind::all(member.barred),
            muted: Kind::all(member.muted),
            streams: streams.collect(),
        }
    }
}

/// A page of members, ordered by uid.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct Members {
    members: Vec<MemberDto>,
    /// Cursor of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

const LIST: &str = "members";

/// Members of a channel
///
/// All memberships, including the audience and members that are reconnecting, ordered by uid. The list has no `seq`: see
/// asyncapi.json, channel `webhook`, for how to use it after a `lost`. With `Accept: application/x-ndjson`: all members, one per line.
#[utoipa::path(
    get, path = "/v1/apps/{appkey}/channels/{channel}/members", operation_id = "listMembers", tag = "members",
    params(("appkey" = String, Path), ("channel" = String, Path), PageQuery),
    responses((status = 200, content((Members = "application/json"), (MemberDto = "application/x-ndjson"))))
)]
async fn list(
    State(api): State<Arc<Api>>,
    Channel(key, _): Channel<Read>,
    Query(page): Query<PageQuery>,
    headers: HeaderMap,
) -> ApiResult {
    let (after, limit) = (page.after(LIST)?, page.limit()?);
    if paging::wants_lines(&headers) {
        let service = api.service.clone();
        service.members(key.clone(), after, 1).await?;
        return Ok(paging::lines(
            after,
            |member: &MemberDto| member.uid,
            move |after| {
                let (service, key) = (service.clone(), key.clone());
                async move {
                    let page = service.members(key, after, MAX_LIMIT).await?;
                    Ok(page.into_iter().map(MemberDto::from).collect())
                }
            },
        ));
    }
    let details = api.service.members(key, after, limit + 1).await?;
    let more = details.len() > limit;
    let members: Vec<MemberDto> = details.into_iter().take(limit).map(Into::into).collect();
    let last = members.last().filter(|_| more).map(|last| last.uid);
    let next_cursor = last.map(|last| paging::cursor(LIST, &last));
    Ok(json(StatusCode::OK, &Members { members, next_cursor }))
}

/// One member
#[utoipa::path(
    get, path = "/v1/apps/{appkey}/channels/{channel}/members/{uid}", operation_id = "getMember", tag = "members",
    params(("appkey" = String, Path), ("channel" = String, Path), ("uid" = String, Path, description = "The member")),
    responses((status = 200, body = MemberDto))
)]
async fn show(State(api): State<Arc<Api>>, Member(key, uid, _): Member<Read>) -> ApiResult {
    Ok(json(StatusCode::OK, &MemberDto::from(api.service.member(key, uid).await?)))
}

/// How to kick a user.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kick {
    /// Duration of the ban in seconds, 0 to 604800 (7 days); 0 when absent.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(maximum = 604800)]
    duration_s: u32,
    /// Sent to the member; at most 256 bytes of UTF-8. It is not stored: `listBans` does not show it.
    #[serde(default)]
    #[schema(max_length = 256)]
    reason: Option<String>,
}

/// Kick a user
///
/// The user is told, and its membership ends: the `memberLeft` with `kicked` is stored before the answer, but a webhook may
/// deliver it after the answer. If it was the last membership, the channel ends, unless `keepEmpty` is set.
///
/// For `durationS` seconds the user cannot join a channel of this name, with any token (`banned`). Tokens that were issued
/// before the kick, or less than about 60 s after it (clocks may differ), stay refused for this user and channel name
/// (`tokenRevoked`), also after the ban. So with `durationS` 0 the user can come back with a token that is issued a minute
/// after the kick, or at once after `liftBan`. In an app in debug mode only the duration counts. A shorter ban does not
/// shorten a longer one.
///
/// A user that is not in the channel is banned, too, if `durationS` is more than 0, also if the channel does not exist. With
/// `durationS` 0 the error is then 404 `noSuchMember`.
#[utoipa::path(
    post, path = "/v1/apps/{appkey}/channels/{channel}/members/{uid}/kick", operation_id = "kickMember", tag = "members",
    params(("appkey" = String, Path), ("channel" = String, Path), ("uid" = String, Path, description = "The user to kick; it need not be in the channel")), request_body = Kick,
    responses((status = 200, body = Done))
)]
async fn kick(
    State(api): State<Arc<Api>>,
    Member(key, uid, _): Member<Moderate>,
    Json(Kick { duration_s, reason }): Json<Kick>,
) -> ApiResult {
    api.service.kick(key, uid, duration_s, reason).await?;
    Ok(done())
}

/// The new role.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct SetRole {
    role: RoleDto,
}

/// Move a member to another role
///
/// A member that becomes audience stops publishing, and cannot become a broadcaster by itself until this request, or a
/// moderator, makes it one. Its membership goes on: webhooks get `roleChanged`, not `memberLeft`. 409 `forbidden`: its token
/// does not grant `broadcast`.
#[utoipa::path(
    put, path = "/v1/apps/{appkey}/channels/{channel}/members/{uid}/role", operation_id = "setMemberRole", tag = "members",
    params(("appkey" = String, Path), ("channel" = String, Path), ("uid" = String, Path, description = "The member whose role is set")), request_body = SetRole,
    responses((status = 200, body = Done))
)]
async fn set_role(
    State(api): State<Arc<Api>>,
    Member(key, uid, _): Member<Moderate>,
    Json(SetRole { role }): Json<SetRole>,
) -> ApiResult {
    api.service.set_role(key, uid, role.into()).await?;
    Ok(done())
}

/// Kinds that a user may not publish.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct SetBarred {
    /// The complete list. If it is empty, the user may publish all that its token grants.
    kinds: Vec<Kind>,
}

/// Bar a user from publishing kinds of media
///
/// Its streams of these kinds end. This applies to the uid as long as the channel lives, whether or not the user is in
/// it.
#[utoipa::path(
    put, path = "/v1/apps/{appkey}/channels/{channel}/members/{uid}/barred", operation_id = "setBarredKinds", tag = "members",
    params(("appkey" = String, Path), ("channel" = String, Path), ("uid" = String, Path, description = "The user to bar; it need not be in the channel")), request_body = SetBarred,
    responses((status = 200, body = Done))
)]
async fn set_barred(
    State(api): State<Arc<Api>>,
    Member(key, uid, _): Member<Moderate>,
    Json(SetBarred { kinds }): Json<SetBarred>,
) -> ApiResult {
    api.service.bar(key, uid, Kind::set(&kinds)).await?;
    Ok(done())
}

/// The streams of one member.
#[derive(Serialize, utoipa::ToSchema)]
struct PublisherDto {
    #[schema(value_type = String)]
    uid: UserId,
    #[schema(value_type = String)]
    mid: Mid,
    streams: Vec<StreamDto>,
}

/// The members that publish, and their streams, ordered by uid.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct Publishers {
    publishers: Vec<PublisherDto>,
    /// Where to continue; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Streams of a channel
///
/// `limit` members are examined, so a page may hold fewer publishers.
#[utoipa::path(
    get, path = "/v1/apps/{appkey}/channels/{channel}/streams", operation_id = "listStreams", tag = "members",
    params(("appkey" = String, Path), ("channel" = String, Path), PageQuery),
    responses((status = 200, body = Publishers))
)]
async fn streams(
    State(api): State<Arc<Api>>,
    Channel(key, _): Channel<Read>,
    Query(page): Query<PageQuery>,
) -> ApiResult {
    let (after, limit) = (page.after("streams")?, page.limit()?);
    let mut details = api.service.members(key, after, limit + 1).await?;
    let more = details.len() > limit;
    details.truncate(limit);
    let last = details.last().filter(|_| more).map(|last| last.uid);
    let next_cursor = last.map(|last| paging::cursor("streams", &last));
    let publishers = details.into_iter().map(MemberDto::from);
    let publishers = publishers.filter(|member| !member.streams.is_empty());
    let publishers = publishers
        .map(|MemberDto { uid, mid, streams, .. }| PublisherDto { uid, mid, streams })
        .collect();
    Ok(json(StatusCode::OK, &Publishers { publishers, next_cursor }))
}

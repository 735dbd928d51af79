//! Events of an app, for clients that read them instead of using webhooks.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiResult;
use crate::api::Api;
use crate::api::access::{App, Read};
use crate::api::error::json;
use crate::api::extract::Query;
use crate::api::paging::{self, PageQuery};
use crate::hooks::body::EventDto;

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Events of an app.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct Events {
    /// The events of one channel are in the order of their numbers.
    events: Vec<EventDto>,
    /// Where to continue, now or after further events.
    next_cursor: String,
    /// Whether there are more events now.
    more: bool,
}

const LIST: &str = "events";

/// Events of an app
///
/// Without `after`, from the oldest stored event. The order is guaranteed only within one channel. Events that are no
/// longer stored are given as events of the type `lost`.
#[utoipa::path(
    get, path = "/v1/apps/{appkey}/events", operation_id = "listEvents", tag = "events",
    params(("appkey" = String, Path), PageQuery), responses((status = 200, body = Events))
)]
async fn list(
    State(api): State<Arc<Api>>,
    App(appkey, _): App<Read>,
    Query(page): Query<PageQuery>,
) -> ApiResult {
    let (after, limit) = (page.after(LIST)?.unwrap_or(0), page.limit()?);
    let mut told = api.service.events(&appkey, after, limit + 1).await?;
    let more = told.len() > limit;
    told.truncate(limit);
    let last = told.last().map_or(after, |(pos, _)| *pos);
    let events = told.into_iter().map(|(_, event)| event).collect();
    Ok(json(StatusCode::OK, &Events { events, next_cursor: paging::cursor(LIST, &last), more }))
}

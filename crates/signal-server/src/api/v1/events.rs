//! Events of an app, for clients that read them instead of using webhooks.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Answer;
use crate::api::Api;
use crate::api::access::{App, Read};
use crate::api::error::json;
use crate::api::extract::Query;
use crate::api::page::{self, Page};
use crate::hooks::body::EventDto;

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Events of an app.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct Events {
    /// Those of one channel in the order of their numbers.
    events: Vec<EventDto>,
    /// Where to go on, now or when more has happened.
    next_cursor: String,
    /// There is more now.
    more: bool,
}

const LIST: &str = "events";

/// What has happened in an app
///
/// Without `after` from the oldest event that is kept. Order is promised within one channel only. What is not kept any more
/// is told as events of the type `lost`.
#[utoipa::path(
    get, path = "/v1/apps/{appkey}/events", operation_id = "listEvents", tag = "events",
    params(("appkey" = String, Path), Page), responses((status = 200, body = Events))
)]
async fn list(
    State(api): State<Arc<Api>>,
    App(appkey, _): App<Read>,
    Query(page): Query<Page>,
) -> Answer {
    let (after, limit) = (page.after(LIST)?.unwrap_or(0), page.limit()?);
    let mut told = api.service.events(&appkey, after, limit + 1).await?;
    let more = told.len() > limit;
    told.truncate(limit);
    let last = told.last().map_or(after, |(pos, _)| *pos);
    let events = told.into_iter().map(|(_, event)| event).collect();
    Ok(json(StatusCode::OK, &Events { events, next_cursor: page::cursor(LIST, &last), more }))
}

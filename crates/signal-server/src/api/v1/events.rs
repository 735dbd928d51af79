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
use crate::api::service::EventPage;
use crate::hooks::body::EventDto;

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Events of an app.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct Events {
    /// The events of this page. Those of one channel are in the order of their numbers.
    events: Vec<EventDto>,
    /// `after` of the next request, now or later. It is present also if there are no more events now.
    next_cursor: String,
    /// Whether there are more events now.
    more: bool,
}

const LIST: &str = "events";

/// Events of an app
///
/// The events that webhooks deliver, with the same `id`, also without a webhook. An event that a webhook delivers is here
/// before. The order is guaranteed only within one channel.
///
/// Without `after`, from the oldest stored event. To begin with the present, read all pages once and keep the last
/// `nextCursor`; a delivery of a webhook has no cursor.
///
/// Events are stored for `webhooks.keep_s` (72 hours by default), and at most `webhooks.keep_events` of all apps together
/// (1,000,000 by default); with `webhooks.keep_s = 0` there are none (409 `eventsNotKept`). A cursor does not expire: an
/// old one continues with the oldest stored event. It belongs to the file of the server: if that was lost, or restored
/// from a copy that does not have the event, the answer is 404 `badCursor`; then begin without `after`. Events that were
/// removed are given as one `lost` of each channel, for `webhooks.keep_s` after the removal. Take it as a loss, too, if `seq`
/// jumps without `first` and without a `lost`. `from` of a `lost` may be less than numbers that you have read: only the
/// events after your last number are missing.
#[utoipa::path(
    get, path = "/v1/apps/{appkey}/events", operation_id = "listEvents", tag = "events",
    params(("appkey" = String, Path), PageQuery), responses((status = 200, body = Events))
)]
async fn list(
    State(api): State<Arc<Api>>,
    App(appkey, _): App<Read>,
    Query(page): Query<PageQuery>,
) -> ApiResult {
    let (after, limit) = (page.after(LIST)?, page.limit()?);
    let EventPage { events, last, more } = api.service.events(&appkey, after, limit).await?;
    Ok(json(StatusCode::OK, &Events { events, next_cursor: paging::cursor(LIST, &last), more }))
}

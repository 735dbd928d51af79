//! The history of calls, to find out why a member did not see another one.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use lianmai_protocol::{Cid, UserId};
use lianmai_signal_engine::HistoryRecord;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiResult;
use crate::api::Api;
use crate::api::access::{Channel, Read};
use crate::api::error::{ApiError, json};
use crate::api::extract::Query;
use crate::api::paging::{self, PageQuery};
use crate::records::{HistoryCursor, HistorySearch};

/// Latest time: greater numbers are not exact in JavaScript.
const MAX_AT: u64 = (1 << 53) - 1;
const LIST: &str = "history";

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(read))
}

/// The requested entries.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct HistoryQuery {
    /// Begin of the time range, in Unix milliseconds.
    #[param(minimum = 0, maximum = 9007199254740991u64)]
    from: Option<u64>,
    /// End of the time range (exclusive), in Unix milliseconds.
    #[param(minimum = 0, maximum = 9007199254740991u64)]
    to: Option<u64>,
    /// Only entries about this user, and entries about no user.
    #[param(pattern = "^(0|[1-9][0-9]{0,19})$")]
    uid: Option<String>,
    /// Only entries about `uid`, about this other user, about both of them, and about no user.
    #[param(pattern = "^(0|[1-9][0-9]{0,19})$")]
    with: Option<String>,
    /// Maximum number of items, 1 to 1000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
    /// The `nextCursor` of an earlier answer, to continue after it.
    after: Option<String>,
}

/// An entry of the history of a channel.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct HistoryEntry {
    /// The type: that of an event; or `restarted`, `connected`, `disconnected`, `joinRefused`, `commandRefused`,
    /// `subscribed`, `unsubscribed`, `urlIssued`, `mediaAllowed`, `mediaRefused`, `pushBegan`, `pushStalled`,
    /// `pushEnded`, `pushCut`, `playEnded`, `playCut`, `muted`, `unmuted`, `quality`, `levelChanged` or `missed`.
    #[serde(rename = "type")]
    kind: String,
    /// The time in Unix milliseconds.
    at: u64,
    /// The incarnation of the channel.
    #[schema(value_type = String)]
    cid: Cid,
    /// The user that the entry is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    uid: Option<UserId>,
    /// The user whose media the entry is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    of: Option<UserId>,
    /// Further fields, which depend on the type.
    #[schema(value_type = BTreeMap<String, Value>)]
    data: BTreeMap<String, Value>,
}

/// Entries of the history of a channel.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct History {
    /// Ordered by time.
    entries: Vec<HistoryEntry>,
    /// Where to continue; absent at the end. A page may have fewer entries than `limit`, or none, without being the
    /// last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

impl HistoryEntry {
    /// Reads a stored entry; `None` if it is damaged.
    fn of(text: &str) -> Option<Self> {
        let record: HistoryRecord = serde_json::from_str(text).ok()?;
        let kind = record.entry.kind().to_owned();
        let Ok(Value::Object(data)) = serde_json::to_value(&record.entry) else { return None };
        let mut data: BTreeMap<String, Value> = data.into_iter().collect();
        data.remove("type");
        let mut user =
            |key: &str| -> Option<UserId> { serde_json::from_value(data.remove(key)?).ok() };
        let (uid, of) = (user("uid"), user("of"));
        Some(HistoryEntry { kind, at: record.at.0, cid: record.cid, uid, of, data })
    }
}

/// The history of a channel
///
/// One timeline of the events of a channel and of the steps between them: joins and refusals, issued URLs, begins and
/// ends of pushes and plays, and their quality about once a minute. `uid` and `with` show why one user did not see the
/// other. Channels that have ended are included, as long as their entries are stored.
#[utoipa::path(
    get, path = "/v1/apps/{appkey}/channels/{channel}/history", operation_id = "readHistory", tag = "history",
    params(("appkey" = String, Path), ("channel" = String, Path), HistoryQuery),
    responses((status = 200, body = History))
)]
async fn read(
    State(api): State<Arc<Api>>,
    Channel(channel, _): Channel<Read>,
    Query(query): Query<HistoryQuery>,
) -> ApiResult {
    let HistoryQuery { from, to, uid, with, limit, after } = query;
    let page = PageQuery { limit, after };
    let (from, to) = (moment(from, "from")?.unwrap_or(0), moment(to, "to")?.unwrap_or(u64::MAX));
    let (uid, with) = (user(uid, "uid")?, user(with, "with")?);
    if with.is_some() && uid.is_none() {
        let text = "`with` needs `uid`: it is about two users.";
        let error = ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "withNeedsUid", text);
        return Err(error.field("with"));
    }
    let (after, limit) = (page.after::<HistoryCursor>(LIST)?, page.limit()?);
    let search = HistorySearch { channel, after, from, to, uid, with, limit };
    let found = api.service.history(search).await?;
    let entries = found.records.iter().filter_map(|text| HistoryEntry::of(text)).collect();
    let next_cursor = found.next.map(|cursor| paging::cursor(LIST, &cursor));
    Ok(json(StatusCode::OK, &History { entries, next_cursor }))
}

fn moment(at: Option<u64>, field: &'static str) -> Result<Option<u64>, ApiError> {
    match at {
        Some(at) if at > MAX_AT => {
            Err(ApiError::invalid_params("no moment is that late").field(field))
        }
        at => Ok(at),
    }
}

fn user(text: Option<String>, field: &'static str) -> Result<Option<UserId>, ApiError> {
    let uid = text.map(|text| text.parse::<UserId>()).transpose();
    uid.map_err(|error| ApiError::from(error.name).field(field))
}

//! First version of the API, below `/v1`. The type of the app, channel or member of a route determines the scope that
//! the route needs; the document is generated from the same types (`api/docs.rs`).
//!
//! A new kind of object is one more file with `routes()`, merged here.

mod bans;
mod channels;
mod events;
mod history;
mod keys;
mod members;
mod tasks;
mod tokens;
mod webhooks;

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use lianmai_protocol::{KindSet, MediaKind};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;

use super::Api;
use super::error::{ApiError, json};
use super::idempotency::HoldsSecret;

type ApiResult = Result<Response, ApiError>;

/// All routes with their descriptions.
pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .merge(channels::routes())
        .merge(members::routes())
        .merge(bans::routes())
        .merge(tasks::routes())
        .merge(tokens::routes())
        .merge(keys::routes())
        .merge(webhooks::routes())
        .merge(events::routes())
        .merge(history::routes())
}

/// A kind of media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum Kind {
    /// The microphone.
    Audio,
    /// The camera.
    Video,
    /// The screen.
    ScreenShare,
    /// A second audio track.
    SlaveAudio,
}

impl Kind {
    fn of(kind: &MediaKind) -> Option<Kind> {
        Some(match kind {
            MediaKind::Audio => Kind::Audio,
            MediaKind::Video => Kind::Video,
            MediaKind::ScreenShare => Kind::ScreenShare,
            MediaKind::SlaveAudio => Kind::SlaveAudio,
            _ => return None,
        })
    }

    fn all(kinds: KindSet) -> Vec<Kind> {
        kinds.iter().filter_map(Kind::of).collect()
    }

    fn set(kinds: &[Kind]) -> KindSet {
        kinds.iter().map(|kind| MediaKind::from(*kind)).collect()
    }
}

impl From<Kind> for MediaKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Audio => MediaKind::Audio,
            Kind::Video => MediaKind::Video,
            Kind::ScreenShare => MediaKind::ScreenShare,
            Kind::SlaveAudio => MediaKind::SlaveAudio,
        }
    }
}

/// A user: a whole number up to 2^64 - 1, as text.
#[derive(utoipa::ToSchema)]
#[schema(pattern = "^(0|[1-9][0-9]{0,19})$")]
#[expect(dead_code, reason = "it describes texts inside of lists")]
struct Uid(String);

/// The request took effect; there is nothing more to return.
#[derive(Serialize, utoipa::ToSchema)]
struct Done {}

fn done() -> Response {
    json(StatusCode::OK, &Done {})
}

/// An answer with a secret, which is not given again.
fn secret_response<T: Serialize>(status: StatusCode, value: &T) -> Response {
    let mut response = json(status, value);
    response.extensions_mut().insert(HoldsSecret);
    response
}

/// The result of lifting bans or a hold.
#[derive(Serialize, utoipa::ToSchema)]
struct Lifted {
    /// How many were lifted; 0 if there were none.
    lifted: usize,
}

//! First version of the API, below `/v1`.

mod bans;
mod channels;
mod tasks;

use std::sync::Arc;

use axum::Router;

use super::Api;

pub(super) fn routes() -> Router<Arc<Api>> {
    channels::routes().merge(bans::routes()).merge(tasks::routes())
}

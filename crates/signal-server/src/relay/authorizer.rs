//! Whether the relay takes a push or a play: when its URL is one of its provider *and* the engine says that the
//! stream lives and the viewer is subscribed.

use std::sync::Arc;

use lianmai_media_plane::{Authorizer, StreamRequest, Verdict};
use lianmai_signal_engine::Access;
use tokio::sync::Semaphore;

use crate::clock::wall_now;
use crate::media::{MediaProvider, Presented};
use crate::shard::Shards;
use crate::signing::MEDIA_APP;

/// Pushes and plays that may wait for the engine's answer: after a restart, for a member that comes back.
const MAX_WAITING: usize = 1024;

/// Asks provider and engine.
pub(crate) struct RelayAuthorizer {
    provider: Arc<dyn MediaProvider>,
    shards: Shards,
    waiting: Semaphore,
}

impl RelayAuthorizer {
    pub(crate) fn new(provider: Arc<dyn MediaProvider>, shards: Shards) -> Self {
        RelayAuthorizer { provider, shards, waiting: Semaphore::new(MAX_WAITING) }
    }

    async fn verdict(
        &self,
        request: &StreamRequest,
    ) -> Result<Option<String>, (&'static str, &'static str)> {
        if request.app != MEDIA_APP {
            return Err(("unknownApp", "The app is `live`."));
        }
        let StreamRequest { direction, stream, query, .. } = request;
        let presented = Presented { direction: *direction, stream, query };
        let (generation, access) = self
            .provider
            .verify(presented, wall_now())
            .map_err(|error| (error.code(), "The URL is not valid."))?;
        // Only who holds a URL of ours gets so far.
        let Ok(_place) = self.waiting.try_acquire() else {
            return Err(("busy", "Too many wait."));
        };
        match self.shards.authorize(generation, access).await {
            Some(Ok(())) => Ok(match access {
                Access::Publish => None,
                Access::Play { viewer } => Some(viewer.to_string()),
            }),
            Some(Err(denial)) => Err((denial.code(), "The URL is not in use.")),
            None => Err(("draining", "The server is stopping.")),
        }
    }
}

impl Authorizer for RelayAuthorizer {
    async fn authorize(&self, request: StreamRequest) -> Verdict {
        match self.verdict(&request).await {
            Ok(viewer) => Verdict::Allow { viewer },
            Err((code, message)) => Verdict::Deny { code, message: message.to_owned() },
        }
    }

    fn viewer(&self, request: &StreamRequest) -> Option<String> {
        self.provider.viewer(&request.query).map(|viewer| viewer.to_string())
    }
}

//! Between the relay and the engine: a push or play is allowed when its URL is signed by us *and* the
//! engine says that the stream lives and the viewer is subscribed; what the relay sees goes back to the
//! engine as liveness.

use std::sync::Arc;

use lianmai_media_plane::{
    Authorizer, FactState, Hub, StreamFact, StreamName, StreamRequest, Verdict,
};
use lianmai_protocol::{Gen, Mid};
use lianmai_signal_engine::{Access, Input};
use tokio::sync::{Semaphore, mpsc};

use crate::clock::wall_now;
use crate::shard::{ShardMsg, Shards};
use crate::signing::{MEDIA_APP, UrlSigner};

/// Pushes and plays that may wait for the engine's answer: after a restart, for a member that comes back.
const MAX_WAITING: usize = 1024;

/// Asks signature and engine.
pub(crate) struct RelayAuthorizer {
    signer: Arc<UrlSigner>,
    shards: Shards,
    waiting: Semaphore,
}

impl RelayAuthorizer {
    pub(crate) fn new(signer: Arc<UrlSigner>, shards: Shards) -> Self {
        RelayAuthorizer { signer, shards, waiting: Semaphore::new(MAX_WAITING) }
    }

    async fn verdict(
        &self,
        request: &StreamRequest,
    ) -> Result<Option<String>, (&'static str, &'static str)> {
        if request.app != MEDIA_APP {
            return Err(("unknownApp", "The app is `live`."));
        }
        let (generation, access) = self
            .signer
            .verify(request.direction, &request.stream, &request.query, wall_now())
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
            None => Err(("stopping", "The server is stopping.")),
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
}

/// The relay's name of a stream.
fn stream_name(generation: Gen) -> StreamName {
    StreamName::new(MEDIA_APP, &generation.to_string())
}

/// Ends a stream and everyone who plays it.
pub(crate) fn cut_stream(hub: &Hub, generation: Gen) {
    hub.cut_stream(&stream_name(generation));
}

/// Ends what one viewer plays of a stream.
pub(crate) fn cut_viewer(hub: &Hub, generation: Gen, viewer: Mid) {
    hub.cut_viewer_of(&viewer.to_string(), &stream_name(generation));
}

/// Hands what the relay sees to the shards until the relay is gone.
pub(crate) async fn forward_facts(mut facts: mpsc::Receiver<StreamFact>, shards: Shards) {
    while let Some(fact) = facts.recv().await {
        let Ok(generation) = fact.stream.name().parse::<Gen>() else { continue };
        if fact.state != FactState::Flowing {
            continue;
        }
        let message = ShardMsg::Input(Input::MediaFlow { generation });
        let _ = shards.of(generation.route).send(message).await;
    }
}

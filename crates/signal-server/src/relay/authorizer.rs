//! Decides whether the relay accepts a push or a play: the provider must have signed its URL, *and* the engine must
//! confirm that the stream lives and the viewer is subscribed.

use std::sync::Arc;

use lianmai_media_plane::{Account, Authorizer, StreamRequest, Verdict};
use lianmai_signal_engine::{Access, Allowed, Denial};

use super::provider::carried;
use crate::clock::wall_now;
use crate::media::{MediaProvider, PresentedUrl};
use crate::shard::Shards;
use crate::signing::MEDIA_APP;

/// Asks the provider and the engine.
pub(crate) struct RelayAuthorizer {
    provider: Arc<dyn MediaProvider>,
    shards: Shards,
}

impl RelayAuthorizer {
    pub(crate) fn new(provider: Arc<dyn MediaProvider>, shards: Shards) -> Self {
        RelayAuthorizer { provider, shards }
    }

    async fn verdict(&self, request: &StreamRequest) -> Verdict {
        if request.app != MEDIA_APP {
            return deny("unknownApp", "The app is `live`.");
        }
        let StreamRequest { direction, stream, query, .. } = request;
        let presented = PresentedUrl { direction: *direction, stream, query };
        let (generation, access) = match self.provider.verify(presented, wall_now()) {
            Ok(verified) => verified,
            Err(error) => return deny(error.code(), "The URL is not valid."),
        };
        match self.shards.authorize(generation, access).await {
            Some(Ok(Allowed { appkey, uid, kinds })) => Verdict::Allow {
                viewer: match access {
                    Access::Publish => None,
                    Access::Play { viewer } => Some(viewer.to_string()),
                },
                kinds: carried(kinds),
                account: Some(Account::new(appkey.as_str(), &uid.to_string())),
            },
            Some(Err(Denial::Busy)) => {
                later(Denial::Busy.code(), "The viewer is not back yet. Ask again later.")
            }
            Some(Err(denial)) => deny(denial.code(), "The URL is not in use."),
            None => later("draining", "The server is stopping."),
        }
    }
}

fn deny(code: &'static str, message: &str) -> Verdict {
    Verdict::Deny { code, message: message.to_owned() }
}

fn later(code: &'static str, message: &str) -> Verdict {
    Verdict::Later { code, message: message.to_owned() }
}

impl Authorizer for RelayAuthorizer {
    async fn authorize(&self, request: StreamRequest) -> Verdict {
        self.verdict(&request).await
    }

    fn viewer(&self, request: &StreamRequest) -> Option<String> {
        self.provider.viewer(&request.query).map(|viewer| viewer.to_string())
    }
}

//! The interface of media providers. Comes in: streams and viewers of the engine, and URLs that media clients present.
//! Goes out: URLs, and the access that a URL grants. Deliberately absent: the media servers, which have their own
//! folders, so far only `relay/` (ADR 0020); and whether a stream lives, which the engine knows.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use lianmai_protocol::{Appkey, Gen, KindSet, Mid, WallTime};
use lianmai_signal_engine::{Access, MediaAddress, MintRequest, Minted};

use crate::signing::{Direction, SignError};

/// Carries the media of an app: the embedded relay, another media server, a CDN.
pub(crate) trait MediaProvider: Send + Sync + 'static {
    /// Issues the requested URLs.
    fn mint(&self, request: &MintRequest, now: WallTime) -> Minting;

    /// Hashes of the addresses in its URLs, the same in each process. When they change, earlier URLs are invalid, and
    /// their holders get new ones (URL-10).
    fn address(&self) -> MediaAddress;

    /// The access that a presented URL grants, if this server issued it.
    ///
    /// # Errors
    /// [`SignError`].
    fn verify(
        &self,
        presented: PresentedUrl<'_>,
        now: WallTime,
    ) -> Result<(Gen, Access), SignError>;

    /// The viewer in the query of a URL, without any check.
    fn viewer(&self, query: &str) -> Option<Mid>;

    /// Sets the kinds that are published on a stream from now on; players get no others. It is ordered with cuts, and
    /// overrides verdicts in progress.
    fn set_published(&self, generation: Gen, kinds: KindSet);

    /// Sets the kinds of a stream that a viewer subscribes from now on; it gets no others. Ordered as
    /// [`Self::set_published`].
    fn set_subscribed(&self, generation: Gen, viewer: Mid, kinds: KindSet);

    /// A URL by which a process of this machine plays a stream as this viewer, as long as the engine allows it; `None`
    /// if that is not possible.
    fn local_pull_url(&self, generation: Gen, viewer: Mid, now: WallTime) -> Option<String>;

    /// Ends the push and all plays of a stream, without waiting for that.
    fn cut_stream(&self, generation: Gen);

    /// Ends the plays of a stream by one viewer, without waiting for that.
    fn cut_viewer(&self, generation: Gen, viewer: Mid);
}

/// The result of issuing URLs; `None` in it: there are none.
pub(crate) enum Minting {
    /// Known at once: the answer comes within the turn of the shard.
    Ready(Option<Minted>),
    /// Another service is asked, and no shard waits for it. The future has its own timeout; an answer after the
    /// deadline of the engine is ignored.
    #[cfg_attr(not(test), expect(dead_code, reason = "the embedded relay signs by itself"))]
    Pending(Pin<Box<dyn Future<Output = Option<Minted>> + Send>>),
}

/// A URL as a media client presents it.
#[derive(Clone, Copy)]
pub(crate) struct PresentedUrl<'a> {
    /// To publish or to play.
    pub(crate) direction: Direction,
    /// Name of the stream, without what the protocol adds.
    pub(crate) stream: &'a str,
    /// The query, raw and without `?`. A secret.
    pub(crate) query: &'a str,
}

/// The media providers of all apps. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Providers(Arc<HashMap<Appkey, Arc<dyn MediaProvider>>>);

impl Providers {
    /// The provider of an app; `None` if there is no such app.
    pub(crate) fn of(&self, appkey: &Appkey) -> Option<&dyn MediaProvider> {
        self.0.get(appkey).map(|provider| &**provider)
    }
}

impl FromIterator<(Appkey, Arc<dyn MediaProvider>)> for Providers {
    fn from_iter<T: IntoIterator<Item = (Appkey, Arc<dyn MediaProvider>)>>(apps: T) -> Self {
        Providers(Arc::new(apps.into_iter().collect()))
    }
}

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

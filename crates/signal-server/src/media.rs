//! What is asked of whoever carries the media of an app. Comes in: streams and viewers of the engine, and what media
//! clients present. Goes out: URLs, and what a URL says. Deliberately absent: any one media server, which has its own
//! folder; and whether a stream lives, which the engine knows.

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
    /// Issues the URLs that are asked for.
    fn mint(&self, request: &MintRequest, now: WallTime) -> Minting;

    /// Numbers for the addresses in its URLs, the same in every process: with another one the URLs of before are void,
    /// and who holds one is given another (URL-10).
    fn address(&self) -> MediaAddress;

    /// What a presented URL allows, if it is one of ours.
    ///
    /// # Errors
    /// [`SignError`].
    fn verify(&self, presented: Presented<'_>, now: WallTime) -> Result<(Gen, Access), SignError>;

    /// The viewer that the query of a URL names. Nothing of it is checked.
    fn viewer(&self, query: &str) -> Option<Mid>;

    /// Says which kinds are published on a stream from now on; nobody is to get others. In order with cuts, and newer
    /// than any verdict that is on its way.
    fn set_published(&self, generation: Gen, kinds: KindSet);

    /// Says which kinds of a stream a viewer subscribes from now on; it is to get no others. As [`Self::set_published`].
    fn set_subscribed(&self, generation: Gen, viewer: Mid, kinds: KindSet);

    /// A URL by which a process of this machine plays a stream as that viewer, for as long as the engine lets it; `None`
    /// where none can.
    fn pull_here(&self, generation: Gen, viewer: Mid, now: WallTime) -> Option<String>;

    /// Ends the push of a stream and everyone who plays it, without waiting for it.
    fn cut_stream(&self, generation: Gen);

    /// Ends what one viewer plays of a stream, without waiting for it.
    fn cut_viewer(&self, generation: Gen, viewer: Mid);
}

/// URLs, or that there are none.
pub(crate) enum Minting {
    /// Known at once: the answer does not leave the turn of the shard.
    Done(Option<Minted>),
    /// Somebody else is asked; no shard waits for it. The future gives up by itself; what comes later than the deadline
    /// of the engine counts for nothing.
    #[cfg_attr(not(test), expect(dead_code, reason = "the embedded relay signs by itself"))]
    Asked(Pin<Box<dyn Future<Output = Option<Minted>> + Send>>),
}

/// A URL as a media client presents it.
#[derive(Clone, Copy)]
pub(crate) struct Presented<'a> {
    /// To publish or to play.
    pub(crate) direction: Direction,
    /// Name of the stream, without what the protocol adds to it.
    pub(crate) stream: &'a str,
    /// The query, raw and without `?`. A secret.
    pub(crate) query: &'a str,
}

/// Who carries the media of which app. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Providers(Arc<HashMap<Appkey, Arc<dyn MediaProvider>>>);

impl Providers {
    /// The provider of an app; `None`: there is no such app.
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

//! The embedded relay as a provider of media. Comes in: what the engine wants. Goes out: signed URLs, and cuts in the
//! relay's words.

use std::sync::Arc;

use lianmai_media_plane::{Hub, Kinds, StreamName};
use lianmai_protocol::{Gen, KindSet, MediaKind, Mid, WallTime};
use lianmai_signal_engine::{Access, MediaAddress, MintRequest};

use crate::media::{MediaProvider, Minting, Presented};
use crate::signing::{MEDIA_APP, SignError, UrlSigner};

/// The relay in this process.
pub(crate) struct EmbeddedRelay {
    signer: UrlSigner,
    hub: Hub,
}

impl EmbeddedRelay {
    pub(crate) fn new(signer: UrlSigner, hub: Hub) -> Arc<Self> {
        Arc::new(EmbeddedRelay { signer, hub })
    }
}

impl MediaProvider for EmbeddedRelay {
    fn mint(&self, request: &MintRequest, now: WallTime) -> Minting {
        Minting::Done(Some(self.signer.mint(request, now)))
    }

    fn address(&self) -> MediaAddress {
        self.signer.address()
    }

    fn verify(&self, presented: Presented<'_>, now: WallTime) -> Result<(Gen, Access), SignError> {
        let Presented { direction, stream, query } = presented;
        self.signer.verify(direction, stream, query, now)
    }

    fn viewer(&self, query: &str) -> Option<Mid> {
        UrlSigner::viewer(query)
    }

    fn set_published(&self, generation: Gen, kinds: KindSet) {
        self.hub.set_published(&stream_name(generation), carried(kinds));
    }

    fn set_subscribed(&self, generation: Gen, viewer: Mid, kinds: KindSet) {
        let stream = stream_name(generation);
        self.hub.set_subscribed(&viewer.to_string(), &stream, carried(kinds));
    }

    fn cut_stream(&self, generation: Gen) {
        self.hub.cut_stream(&stream_name(generation));
    }

    fn cut_viewer(&self, generation: Gen, viewer: Mid) {
        self.hub.cut_viewer_of(&viewer.to_string(), &stream_name(generation));
    }
}

/// What the relay carries of these kinds. A shared screen may have sound.
pub(super) fn carried(kinds: KindSet) -> Kinds {
    let has = |any: &[MediaKind]| any.iter().any(|kind| kinds.contains(kind));
    Kinds {
        audio: has(&[MediaKind::Audio, MediaKind::SlaveAudio, MediaKind::ScreenShare]),
        video: has(&[MediaKind::Video, MediaKind::ScreenShare]),
    }
}

/// The relay's name of a stream.
pub(super) fn stream_name(generation: Gen) -> StreamName {
    StreamName::new(MEDIA_APP, &generation.to_string())
}

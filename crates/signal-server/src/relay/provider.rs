//! The embedded relay as a media provider. Comes in: requests of the engine. Goes out: signed URLs, and calls to the
//! hub.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use lianmai_media_plane::{Hub, Kinds, StreamName};
use lianmai_protocol::{Gen, KindSet, MediaKind, Mid, WallTime};
use lianmai_signal_engine::{Access, MediaAddress, MintRequest};

use crate::media::{MediaProvider, Minting, PresentedUrl};
use crate::signing::{MEDIA_APP, SignError, UrlSigner};

/// The relay in this process.
pub(crate) struct EmbeddedRelay {
    signer: UrlSigner,
    hub: Hub,
    /// Base of the URLs by which this machine reaches the relay.
    local_base: String,
}

impl EmbeddedRelay {
    /// `rtmp` is the address of the RTMP listener.
    pub(crate) fn new(signer: UrlSigner, hub: Hub, rtmp: SocketAddr) -> Arc<Self> {
        let local_base = format!("rtmp://{}/{MEDIA_APP}", reachable_address(rtmp));
        Arc::new(EmbeddedRelay { signer, hub, local_base })
    }
}

impl MediaProvider for EmbeddedRelay {
    fn mint(&self, request: &MintRequest, now: WallTime) -> Minting {
        Minting::Ready(Some(self.signer.mint(request, now)))
    }

    fn address(&self) -> MediaAddress {
        self.signer.address()
    }

    fn verify(
        &self,
        presented: PresentedUrl<'_>,
        now: WallTime,
    ) -> Result<(Gen, Access), SignError> {
        let PresentedUrl { direction, stream, query } = presented;
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

    fn local_pull_url(&self, generation: Gen, viewer: Mid, now: WallTime) -> Option<String> {
        let query = self.signer.long_play(generation, viewer, now);
        Some(format!("{}/{generation}?{query}", self.local_base))
    }

    fn cut_stream(&self, generation: Gen) {
        self.hub.cut_stream(&stream_name(generation));
    }

    fn cut_viewer(&self, generation: Gen, viewer: Mid) {
        self.hub.cut_viewer_of(&viewer.to_string(), &stream_name(generation));
    }
}

/// The address at which this machine reaches a listener.
fn reachable_address(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

/// The tracks that the relay carries for these kinds. A shared screen may have sound.
pub(super) fn carried(kinds: KindSet) -> Kinds {
    let has = |any: &[MediaKind]| any.iter().any(|kind| kinds.contains(kind));
    Kinds {
        audio: has(&[MediaKind::Audio, MediaKind::SlaveAudio, MediaKind::ScreenShare]),
        video: has(&[MediaKind::Video, MediaKind::ScreenShare]),
    }
}

/// The name of a stream in the relay.
pub(super) fn stream_name(generation: Gen) -> StreamName {
    StreamName::new(MEDIA_APP, &generation.to_string())
}

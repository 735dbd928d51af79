//! A claim on a stream: requested, then held by a publisher or player.
//!
//! In: requests, the viewer of a verdict. Out: the claim, released when it is dropped. Absent: the
//! queue and the end of the claim, see `claim_core.rs`.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::claim_core::ClaimCore;
use super::stream::Stream;
use super::{Hub, lock};
use crate::auth::{Account, StreamName};
use crate::shares::PlayerSlot;

/// The owner's side of a claim. Dropping it releases the claim.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) hub: Hub,
    pub(super) stream: Arc<Stream>,
    pub(super) core: Arc<ClaimCore>,
    /// Keys under which the index of viewers knows the claim.
    viewers: Vec<String>,
    /// The one of them that the authorizer gave.
    confirmed: Option<String>,
    /// Whose it is, if the verdict says so.
    pub(super) account: Option<Account>,
    /// Its slot as a player.
    pub(super) slot: Option<PlayerSlot>,
}

impl Claim {
    /// Registers a claim, so that cuts find it from here on.
    pub(super) fn register(
        hub: &Hub,
        name: StreamName,
        peer: IpAddr,
        hint: Option<String>,
    ) -> Self {
        let id = hub.inner.next_claim.fetch_add(1, Relaxed);
        let core = Arc::new(ClaimCore::new(id, name.clone(), peer));
        let mut streams = lock(&hub.inner.streams);
        let stream =
            streams.entry(name.clone()).or_insert_with(|| Arc::new(Stream::new(name))).clone();
        stream.await_verdict(&core);
        drop(streams);
        let mut claim = Self {
            hub: hub.clone(),
            stream,
            account: None,
            core,
            viewers: Vec::new(),
            confirmed: None,
            slot: None,
        };
        if let Some(viewer) = &hint {
            claim.add_viewer(viewer);
        }
        claim
    }

    fn add_viewer(&mut self, viewer: &str) {
        if self.viewers.iter().all(|known| known != viewer) {
            self.hub.inner.viewers.add(viewer, &self.core);
            self.viewers.push(viewer.to_owned());
        }
    }

    /// Takes whose it is from a verdict. Without an account, it is its viewer's.
    pub(super) fn charge(&mut self, account: Option<Account>, viewer: Option<&str>) {
        let app = self.core.stream.app();
        self.account = account.or_else(|| Some(Account::new(app, viewer?)));
    }

    /// Takes the viewer of a verdict.
    pub(super) fn confirm_viewer(&mut self, viewer: String) {
        self.add_viewer(&viewer);
        self.core.set_viewer(&viewer);
        self.confirmed = Some(viewer);
    }

    /// Whether the viewer has no room for another play of the stream.
    pub(super) fn is_viewer_full(&self) -> bool {
        let viewer = self.confirmed.as_ref();
        viewer.is_some_and(|viewer| self.hub.inner.viewers.is_full(viewer, &self.core.stream))
    }

    /// Ends the oldest plays of the viewer on the stream, if there are too many with this one. Their
    /// slots to wait are free at once, whenever their owners drop them.
    pub(super) fn replace_older(&self) {
        let Some(viewer) = &self.confirmed else { return };
        let inner = &self.hub.inner;
        for older in inner.viewers.begin(viewer, &self.core) {
            if inner.log_limiter.allow(self.core.peer) {
                tracing::info!(stream = ?self.core.stream, code = "tooManyPlays", "player cut");
            }
            self.stream.release(inner, &older);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let inner = &self.hub.inner;
        let mut streams = lock(&inner.streams);
        // A claim that was ended may outlive its stream, and another may have the name by now.
        let ours = |stream: &Arc<Stream>| Arc::ptr_eq(stream, &self.stream);
        if self.stream.release(inner, &self.core)
            && streams.get(&self.core.stream).is_some_and(ours)
        {
            streams.remove(&self.core.stream);
        }
        drop(streams);
        for viewer in &self.viewers {
            inner.viewers.remove(viewer, &self.core);
        }
    }
}

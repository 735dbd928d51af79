//! A player with a claim on a stream.
//!
//! In: packets of the stream. Out: batches in order, or the reason of the end. Absent: encodings.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Hub;
use super::claim::Claim;
use super::claim_core::EndReason;
use crate::auth::Account;
use crate::kinds::Kinds;
use crate::media::Packet;
use crate::shares::{BytesAccount, Charge};

/// A play in progress; dropping it ends the play. It waits while the stream has no publisher.
#[derive(Debug)]
pub struct Player {
    claim: Claim,
    tracks: Option<Kinds>,
}

impl Player {
    pub(super) fn new(claim: Claim, tracks: Option<Kinds>) -> Self {
        Self { claim, tracks }
    }

    /// Appends up to `count` packets to `batch`, waiting for at least one. Cancel safe. One task
    /// may do so at a time.
    ///
    /// # Errors
    /// The reason, when the play has ended; after [`EndReason::StreamEnded`] nothing is left queued.
    pub async fn next(&self, batch: &mut Vec<Arc<Packet>>, count: usize) -> Result<(), EndReason> {
        self.claim.core.next(batch, count).await
    }

    /// As [`Player::next`], without waiting; says whether there were packets.
    pub fn take_ready(&self, batch: &mut Vec<Arc<Packet>>, count: usize) -> bool {
        self.claim.core.take(batch, count)
    }

    /// Pauses the play, which drops what is queued, or goes on with it as one that comes now.
    pub fn pause(&self, paused: bool) {
        self.claim.stream.pause(&self.claim.core, paused);
    }

    /// Waits until the play is cut; an ordinary end of the stream does not count.
    pub async fn cut(&self) -> EndReason {
        self.claim.core.wait_interrupted().await
    }

    /// As [`Player::cut`], but independent of the player: for whoever owns a socket that is busy
    /// writing.
    pub fn cut_signal(&self) -> impl Future<Output = EndReason> + Send + use<> {
        let core = self.claim.core.clone();
        async move { core.wait_interrupted().await }
    }

    /// Ends the play as its stream's end would, for as long as there is the player: what is queued can still be had.
    pub fn end_handle(&self) -> impl FnOnce() + Send + use<> {
        let core = self.claim.core.clone();
        move || {
            core.end(EndReason::StreamEnded);
        }
    }

    /// Why the play was cut, if it was.
    #[must_use]
    pub fn cut_reason(&self) -> Option<EndReason> {
        self.claim.core.interrupted()
    }

    /// The kinds that it gets and that have come, if all of them were known when the play began.
    #[must_use]
    pub fn tracks(&self) -> Option<Kinds> {
        self.tracks
    }

    /// The kinds that it gets now: those that are published, of those that its viewer may have.
    #[must_use]
    pub fn delivered_kinds(&self) -> Kinds {
        self.claim.core.delivered_kinds()
    }

    /// On which segments of the stream are, while it has a publisher.
    pub(crate) fn segments_account(&self) -> Option<BytesAccount> {
        let owner = self.claim.stream.owner()?;
        Some(self.hub().inner.shares.segments(&owner, &self.claim.core.stream))
    }

    /// On which a forward of the stream takes what waits for its upstream, while the stream has a publisher.
    pub(crate) fn forward_account(&self) -> Option<BytesAccount> {
        let owner = self.claim.stream.owner()?;
        Some(self.hub().inner.shares.forwarded(&owner, &self.claim.core.stream))
    }

    /// Where the publisher of the stream is from, while it has one.
    #[must_use]
    pub fn publisher(&self) -> Option<IpAddr> {
        self.claim.stream.publisher()
    }

    /// Takes bytes on the account of the viewer, if there is room.
    pub(crate) fn charge(&self, bytes: usize) -> Option<Charge> {
        let Claim { account, core, .. } = &self.claim;
        let stream = &core.stream;
        let viewer = account.clone().unwrap_or_else(|| Account::new(stream.app(), stream.name()));
        self.hub().inner.shares.viewed(&viewer).take(bytes).ok()
    }

    /// Whether a line about the play may be logged now.
    pub(crate) fn may_log(&self) -> bool {
        self.hub().log_limiter().allow(self.claim.core.peer)
    }

    /// How long the peer may take nothing.
    pub(crate) fn write_timeout(&self) -> Duration {
        self.hub().config().write_timeout
    }

    /// Counts bytes handed to the peer.
    pub fn count_out(&self, bytes: usize) {
        self.hub().counters().bytes_out(bytes);
        self.claim.core.count_out(bytes);
    }

    fn hub(&self) -> &Hub {
        &self.claim.hub
    }
}

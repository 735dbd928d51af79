//! A publisher that holds a stream.
//!
//! In: messages. Out: packets for the players. Absent: pacing and order; what comes is passed on.

use super::claim::Claim;
use super::claim_core::EndReason;
use crate::rtmp::MediaKind;

/// A publish in progress; dropping it ends the publish, and never one that took its place.
#[derive(Debug)]
pub struct Publisher {
    claim: Claim,
}

impl Publisher {
    pub(super) fn new(claim: Claim) -> Self {
        Self { claim }
    }

    /// Passes a message on. `timestamp` is the publisher's own, ms; `body` is an FLV tag body.
    ///
    /// # Errors
    /// The reason, when the publish has been ended.
    pub fn send(&self, kind: MediaKind, timestamp: u32, body: &[u8]) -> Result<(), EndReason> {
        let hub = &self.claim.hub.inner;
        hub.counters.bytes_in(body.len());
        self.claim.stream.send(hub, &self.claim.core, kind, timestamp, body)
    }

    /// Waits until the publish is ended by a cut or a replacement.
    pub async fn cut(&self) -> EndReason {
        self.claim.core.wait_interrupted().await
    }
}

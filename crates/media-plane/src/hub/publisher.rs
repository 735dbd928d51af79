//! A publisher that holds a stream.
//!
//! In: messages. Out: packets for the players. Absent: pacing and order; what comes is passed on.

use super::claim::Claim;
use super::claim_core::EndReason;
use crate::rtmp::MediaKind;
use crate::shares::Charge;

/// Unfinished messages are counted in steps of so many bytes; less than one is not counted, as any connection may have that.
const HOLD_STEP: usize = 64 << 10;

/// A publish in progress; dropping it ends the publish, and never one that took its place.
#[derive(Debug)]
pub struct Publisher {
    claim: Claim,
    /// For messages that are not whole yet.
    unfinished: Charge,
}

impl Publisher {
    pub(super) fn new(claim: Claim, unfinished: Charge) -> Self {
        Self { claim, unfinished }
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

    /// Says how many bytes of memory the messages take that are not whole yet.
    ///
    /// # Errors
    /// The reason, when the publish has been ended, for instance since there is no room for so much.
    pub fn hold(&mut self, bytes: usize) -> Result<(), EndReason> {
        // In steps, so that most reads change nothing.
        let bytes = if bytes <= HOLD_STEP { 0 } else { bytes.next_multiple_of(HOLD_STEP) };
        if bytes == self.unfinished.amount() || self.unfinished.resize(bytes).is_ok() {
            return Ok(());
        }
        let Self { claim, unfinished } = self;
        claim.stream.make_room(&claim.hub.inner, &claim.core, || unfinished.resize(bytes).is_ok())
    }

    /// Waits until the publish is ended by a cut or a replacement.
    pub async fn cut(&self) -> EndReason {
        self.claim.core.wait_interrupted().await
    }
}

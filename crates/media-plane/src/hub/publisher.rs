//! A publisher of a stream.
//!
//! In: messages. Out: packets for the players. Absent: pacing and reordering; messages are passed on as they come.

use super::claim::Claim;
use super::claim_core::EndReason;
use crate::rtmp::MediaKind;
use crate::shares::Charge;

/// Incomplete messages are charged in steps of this many bytes. The first step is free, because any connection may
/// have that much.
const HOLD_STEP: usize = 64 << 10;

/// A publish in progress. Dropping it ends the publish; a publisher that has replaced it is not affected.
#[derive(Debug)]
pub struct Publisher {
    claim: Claim,
    /// The charge for incomplete messages.
    unfinished: Charge,
}

impl Publisher {
    pub(super) fn new(claim: Claim, unfinished: Charge) -> Self {
        Self { claim, unfinished }
    }

    /// Passes a message on. `timestamp` is that of the publisher, ms; `body` is an FLV tag body.
    ///
    /// # Errors
    /// The reason, if the publish has ended.
    pub fn send(&self, kind: MediaKind, timestamp: u32, body: &[u8]) -> Result<(), EndReason> {
        let hub = &self.claim.hub.inner;
        hub.counters.bytes_in(body.len());
        self.claim.stream.send(hub, &self.claim.core, kind, timestamp, body)
    }

    /// Reports how many bytes of memory the incomplete messages take.
    ///
    /// # Errors
    /// The reason, if the publish has ended, for example [`EndReason::NoRoom`] because there is no memory for so
    /// much.
    pub fn charge_unfinished(&mut self, bytes: usize) -> Result<(), EndReason> {
        // In steps, so that most reads need no lock of the shared pool.
        let bytes = if bytes <= HOLD_STEP { 0 } else { bytes.next_multiple_of(HOLD_STEP) };
        if bytes == self.unfinished.amount() || self.unfinished.resize(bytes).is_ok() {
            return Ok(());
        }
        let Self { claim, unfinished } = self;
        claim.stream.make_room(&claim.hub.inner, &claim.core, || unfinished.resize(bytes).is_ok())
    }

    /// Waits until the publish ends, for example by a cut or a replacement.
    pub async fn cut(&self) -> EndReason {
        self.claim.core.wait_interrupted().await
    }
}

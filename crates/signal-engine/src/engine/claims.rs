//! The claims of push addresses that this engine keeps (TSK-7, ADR 0041). The key of a claim selects its engine, so
//! channels of any engine may ask. Comes in: claims, releases, rows of an earlier process. Goes out: answers once the
//! claim is written, rows.
//!
//! ```text
//!   (free) -- Claim --> [held] -- Release, a run has pushed --> [rests] -- REST_MS --> (free)
//!                         |    `- Release, no run has --------------------------------> (free)
//!   loaded while held --> [held until REST_MS] -- the same Claim --> [held]
//!                                              `- no claim ----------------------------> (free)
//! ```
//!
//! So a crash that leaves a claim without its task, or a task without its claim, is repaired: a restored task claims
//! again, and a claim that no task asks for becomes free after its rest.

use std::collections::BTreeMap;

use lianmai_protocol::{MonoTime, WallTime};

use super::Engine;
use crate::asks::AfterWrite;
use crate::ids::QueryId;
use crate::output::Output;
use crate::record::ClaimRecord;
use crate::rows::{Row, RowOp};
use crate::task::{Claim, ClaimKey, Claimed, Holder};

/// An address rests this long after a run may have pushed there, in milliseconds.
pub(crate) const REST_MS: u64 = 10_000;
/// Most claims of one engine, those that rest included.
const MAX_CLAIMS: usize = 100_000;

#[derive(Debug)]
struct ClaimEntry {
    /// `None` while it rests.
    holder: Option<Holder>,
    /// When it becomes free; `None` while its holder is certain.
    free_at: Option<MonoTime>,
}

/// The claims of an engine.
#[derive(Debug, Default)]
pub(crate) struct Claims(BTreeMap<ClaimKey, ClaimEntry>);

impl Engine {
    /// A task wants a claim.
    pub(super) fn claim(&mut self, query: QueryId, claim: Claim) {
        let now = self.context.now.mono;
        let Claim { key, holder } = claim.clone();
        let full = self.claims.0.len() >= MAX_CLAIMS;
        let claimed = match self.claims.0.get_mut(&key) {
            Some(kept) if kept.holder.as_ref() == Some(&holder) => {
                kept.free_at = None;
                Claimed::Granted
            }
            Some(ClaimEntry { free_at, .. }) if free_at.is_none_or(|at| at > now) => {
                let retry_after_ms = free_at.map(|at| at.since(now));
                Claimed::Busy { retry_after_ms }
            }
            None if full || self.context.config.tasks.is_none() => Claimed::Unavailable,
            None | Some(_) => {
                self.claims
                    .0
                    .insert(key, ClaimEntry { holder: Some(holder.clone()), free_at: None });
                let record = ClaimRecord { holder: Some(holder), rests_until: None };
                self.context.ops.push(RowOp::put_claim(key, record));
                self.context.store(AfterWrite::Claim { query, claim });
                self.sweep_from_now_on();
                return;
            }
        };
        self.context.outputs.push_back(Output::Claimed { query, claimed });
    }

    /// A claim was written, or could not be: then it is dropped.
    pub(super) fn claim_written(&mut self, query: QueryId, claim: &Claim, stored: bool) {
        let holds = self
            .claims
            .0
            .get(&claim.key)
            .is_some_and(|kept| kept.holder.as_ref() == Some(&claim.holder));
        if !stored && holds {
            self.claims.0.remove(&claim.key);
            self.context.ops.push(RowOp::drop(&claim.key.name(), Row::Claim));
        }
        let claimed = if stored && holds { Claimed::Granted } else { Claimed::Unavailable };
        self.context.outputs.push_back(Output::Claimed { query, claimed });
    }

    /// A holder releases its claim. A release by any other task is ignored.
    pub(super) fn released(&mut self, claim: &Claim, rest: bool) {
        let (key, now) = (claim.key, self.context.now);
        let Some(kept) = self.claims.0.get_mut(&key) else { return };
        if kept.holder.as_ref() != Some(&claim.holder) {
            return;
        }
        if rest {
            *kept = ClaimEntry { holder: None, free_at: Some(now.mono + REST_MS) };
            let rests_until = Some(WallTime(now.wall.0 + REST_MS));
            let record = ClaimRecord { holder: None, rests_until };
            self.context.ops.push(RowOp::put_claim(key, record));
        } else {
            self.claims.0.remove(&key);
            self.context.ops.push(RowOp::drop(&key.name(), Row::Claim));
        }
    }

    /// Forgets claims that are free.
    pub(super) fn sweep_claims(&mut self) {
        let now = self.context.now.mono;
        let ops = &mut self.context.ops;
        self.claims.0.retain(|key, kept| {
            let stays = kept.free_at.is_none_or(|at| at > now);
            if !stays {
                ops.push(RowOp::drop(&key.name(), Row::Claim));
            }
            stays
        });
    }

    /// Restores the claims of an earlier process. Their holders have to ask for them again.
    pub(super) fn restore_claims(&mut self, claims: Vec<(ClaimKey, ClaimRecord)>) {
        let now = self.context.now;
        for (key, record) in claims {
            // A clock that was set back makes no rest longer.
            let left = match (&record.holder, record.rests_until) {
                (Some(_), _) => REST_MS,
                (None, Some(until)) => until.0.saturating_sub(now.wall.0).min(REST_MS),
                (None, None) => 0,
            };
            if left == 0 {
                self.context.ops.push(RowOp::drop(&key.name(), Row::Claim));
                continue;
            }
            let free_at = Some(now.mono + left);
            self.claims.0.insert(key, ClaimEntry { holder: record.holder, free_at });
        }
    }
}

//! How a session came back, for the app. Comes in: what the server answered. Goes out: one outcome, also
//! where several attempts lie between two announcements.

use lianmai_protocol::message::session::ResumeReason;

/// How the session came back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReconnectOutcome {
    /// Nothing was lost: everything that was missed was told as it happened.
    Replayed {
        /// Events of the channel.
        events: u64,
        /// Messages to the app alone.
        messages: u64,
    },
    /// The membership goes on; what changed was told as the difference of two pictures.
    Snapshot {
        /// Why.
        reason: ResumeReason,
    },
    /// It is a new membership: others saw the app leave and join. What it was before was restored as
    /// far as the server allowed.
    Rejoined {
        /// Why the old one could not go on.
        reason: ResumeReason,
    },
}

/// Numbers of the events among which messages to all are that the app did not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The first, in the log that the app followed before.
    pub from_seq: u64,
    /// The last; `None` when it is not known, because the log is another one now.
    pub to_seq: Option<u64>,
}

/// What has to be said once everything that the gap changed was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) outcome: ReconnectOutcome,
    pub(super) missed: Option<Missed>,
    pub(super) messages_lost: u64,
}

impl Told {
    /// Adds what an earlier attempt would have said, had it lived long enough.
    pub(super) fn after(self, earlier: Option<Told>) -> Told {
        let Some(earlier) = earlier else { return self };
        let missed = match (earlier.missed, self.missed) {
            (Some(first), Some(last)) => {
                Some(Missed { from_seq: first.from_seq, to_seq: first.to_seq.and(last.to_seq) })
            }
            (one, other) => one.or(other),
        };
        let messages_lost = earlier.messages_lost.saturating_add(self.messages_lost);
        Told { outcome: stronger(earlier.outcome, self.outcome), missed, messages_lost }
    }
}

/// The outcome that says more; of two that say the same, the later one.
fn stronger(earlier: ReconnectOutcome, later: ReconnectOutcome) -> ReconnectOutcome {
    use ReconnectOutcome::{Rejoined, Replayed, Snapshot};
    match (earlier, later) {
        (Replayed { events: e0, messages: m0 }, Replayed { events, messages }) => {
            Replayed { events: e0.saturating_add(events), messages: m0.saturating_add(messages) }
        }
        (earlier @ Rejoined { .. }, Replayed { .. } | Snapshot { .. })
        | (earlier @ Snapshot { .. }, Replayed { .. }) => earlier,
        (_, later) => later,
    }
}

//! How a session came back, as told to the app. In: the server's answers. Out: one outcome, even if several attempts
//! were made between two announcements.

use lianmai_protocol::message::session::ResumeReason;

/// How the session came back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReconnectOutcome {
    /// Nothing was lost: the server replayed everything that was missed.
    Replayed {
        /// Number of replayed channel events.
        events: u64,
        /// Number of replayed targeted messages.
        messages: u64,
    },
    /// The membership continues. The app was told the differences between the old picture and the new snapshot.
    Snapshot {
        /// Why the server could not replay.
        reason: ResumeReason,
    },
    /// A new membership: the other members saw the app leave and join. The session restored the app's state as far as
    /// the server allowed.
    Rejoined {
        /// Why the old membership could not continue.
        reason: ResumeReason,
    },
}

/// A range of event numbers that may contain messages to all that the app missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The first number, in the log that the app followed before.
    pub from_seq: u64,
    /// The last number; `None` if it is unknown because the log has changed.
    pub to_seq: Option<u64>,
}

/// What the app is told after it was told all differences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Announcement {
    pub(super) outcome: ReconnectOutcome,
    pub(super) missed: Option<Missed>,
    pub(super) messages_lost: u64,
}

impl Announcement {
    /// Merges the announcement that an earlier attempt did not get to make.
    pub(super) fn after(self, earlier: Option<Announcement>) -> Announcement {
        let Some(earlier) = earlier else { return self };
        let missed = match (earlier.missed, self.missed) {
            (Some(first), Some(last)) => {
                Some(Missed { from_seq: first.from_seq, to_seq: first.to_seq.and(last.to_seq) })
            }
            (one, other) => one.or(other),
        };
        let messages_lost = earlier.messages_lost.saturating_add(self.messages_lost);
        Announcement { outcome: stronger(earlier.outcome, self.outcome), missed, messages_lost }
    }
}

/// The outcome with the larger loss; of two equal ones, the later.
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

//! How memberships ended, so that a client that returns to an ended one gets the right reason (RES-12). Bounded; bans
//! and watermarks still apply to forgotten memberships.

use std::collections::{BTreeMap, VecDeque};

use lianmai_protocol::message::event::LeaveReason;
use lianmai_protocol::message::session::ResumeReason;
use lianmai_protocol::{Mid, MonoTime};

use crate::ticket::TICKET_MS;

/// Most endings that a shard remembers; about 100 bytes each.
const MAX_ENDINGS: usize = 50_000;

#[derive(Debug, Default)]
pub(crate) struct Endings {
    reasons: BTreeMap<Mid, ResumeReason>,
    /// The oldest first; all are kept equally long.
    order: VecDeque<(MonoTime, Mid)>,
}

impl Endings {
    /// A membership ended. An end by grace is not stored: it is the default for an unknown membership.
    pub(crate) fn add(&mut self, now: MonoTime, mid: Mid, reason: &LeaveReason) {
        let reason = match reason {
            LeaveReason::Left => ResumeReason::Left,
            LeaveReason::Kicked => ResumeReason::Kicked,
            LeaveReason::Replaced => ResumeReason::Replaced,
            LeaveReason::TokenExpired => ResumeReason::TokenExpired,
            LeaveReason::ChannelClosed => ResumeReason::ChannelClosed,
            _ => return,
        };
        while self.order.len() >= MAX_ENDINGS
            || self.order.front().is_some_and(|(at, _)| *at + TICKET_MS < now)
        {
            if let Some((_, oldest)) = self.order.pop_front() {
                self.reasons.remove(&oldest);
            }
        }
        self.order.push_back((now, mid));
        self.reasons.insert(mid, reason);
    }

    pub(crate) fn reason_of(&self, mid: Mid) -> ResumeReason {
        self.reasons.get(&mid).cloned().unwrap_or(ResumeReason::Gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves no rule of the protocol: the memory of endings is bounded.
    #[test]
    fn res_12_endings_are_bounded_in_number_and_time() {
        let mut endings = Endings::default();
        let mid = |n: usize| {
            let mut mid = [0; 12];
            mid[..8].copy_from_slice(&n.to_be_bytes());
            Mid(mid)
        };
        for n in 0..MAX_ENDINGS + 10 {
            endings.add(MonoTime(0), mid(n), &LeaveReason::Kicked);
        }
        assert_eq!(endings.reason_of(mid(9)), ResumeReason::Gone);
        assert_eq!(endings.reason_of(mid(10)), ResumeReason::Kicked);
        endings.add(MonoTime(TICKET_MS + 1), mid(0), &LeaveReason::Left);
        assert_eq!((endings.order.len(), endings.reasons.len()), (1, 1));
    }
}

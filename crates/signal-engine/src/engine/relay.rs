//! Who may push and play. Comes in: questions of the relay about URLs whose signature is right. Goes out:
//! verdicts, at once or, shortly after a crash, when the member is back that they are about.

use std::collections::VecDeque;

use lianmai_protocol::{Gen, MonoTime};

use super::Engine;
use crate::ids::QueryId;
use crate::input::Access;
use crate::output::{Denial, Output};
use crate::timers::Timer;

/// A push or play of somebody who is not known yet waits so long, in milliseconds (RST-4).
const PARK_MS: u64 = 10_000;
/// So many of them; and they are looked at this often, in milliseconds.
const MAX_PARKED: usize = 1_000;
const PARK_LOOK_MS: u64 = 100;

/// Questions that wait for a member to come back: until when.
pub(super) type Parked = VecDeque<(MonoTime, QueryId, Gen, Access)>;

impl Engine {
    /// Whether a URL may be used. After a crash somebody who is not known yet may be soon (RST-4).
    pub(super) fn authorize(&mut self, query: QueryId, generation: Gen, access: Access) {
        let verdict = self.may_use(generation, access);
        let now = self.context.mono();
        let waits = self.context.crash_over.is_some_and(|over| now < over);
        if verdict.is_err() && waits && self.parked.len() < MAX_PARKED {
            self.parked.push_back((now + PARK_MS, query, generation, access));
            if self.parked.len() == 1 {
                self.context.arm_in(PARK_LOOK_MS, Timer::Parked);
            }
            return;
        }
        self.context.outputs.push_back(Output::Verdict { query, verdict });
    }

    pub(super) fn may_use(&self, generation: Gen, access: Access) -> Result<(), Denial> {
        let channel = self.context.streams.get(&generation);
        let channel = channel.and_then(|id| self.channels.get(id)).ok_or(Denial::UnknownStream)?;
        channel.authorize(generation, access)
    }

    pub(super) fn look_at_parked(&mut self) {
        let now = self.context.mono();
        for (until, query, generation, access) in std::mem::take(&mut self.parked) {
            let verdict = self.may_use(generation, access);
            if verdict.is_ok() || until <= now {
                self.context.outputs.push_back(Output::Verdict { query, verdict });
            } else {
                self.parked.push_back((until, query, generation, access));
            }
        }
        if !self.parked.is_empty() {
            self.context.arm_in(PARK_LOOK_MS, Timer::Parked);
        }
    }
}

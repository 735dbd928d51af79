//! Permission to push and play. Comes in: questions of the relay about URLs whose signature is valid. Goes out:
//! verdicts: at once or, shortly after a crash, when the viewer of the play is back.
//!
//! ```text
//!   Authorize --known--------------------------------> Verdict
//!        `-- its viewer may be back soon --> Waits --> Verdict, or Withdraw
//! ```
//!
//! Streams and memberships that were not stored never come back, so their URLs are refused at once, and no push waits.

use lianmai_protocol::{Gen, Mid};

use super::Engine;
use super::waiting_plays::Play;
use crate::ids::{MemberRef, QueryId};
use crate::input::Access;
use crate::output::{Allowed, Denial, Output, Publication};
use crate::timers::Timer;

/// A play waits this long for its viewer, in milliseconds (RST-4).
const WAIT_MS: u64 = 10_000;
/// How often waiting plays are checked, in milliseconds.
const CHECK_MS: u64 = 100;

impl Engine {
    /// Whether a URL may be used.
    pub(super) fn authorize(&mut self, query: QueryId, generation: Gen, access: Access) {
        let mut verdict = self.may_use(generation, access);
        if let Access::Play { viewer } = access
            && verdict == Err(Denial::NotSubscribed)
            && self.check_awaited(viewer)
            && self.context.crash_grace_end.is_some_and(|over| self.context.mono() < over)
        {
            let until = self.context.mono() + WAIT_MS;
            if self.waiting_plays.add(query, Play { generation, viewer, until }) {
                self.arm_check();
                self.context.outputs.push_back(Output::AuthorizePending { query });
                return;
            }
            verdict = Err(Denial::Busy);
        }
        self.judged(query, generation, access, verdict);
    }

    /// Answers, and reports the verdict to the channel.
    fn judged(
        &mut self,
        query: QueryId,
        generation: Gen,
        access: Access,
        verdict: Result<Allowed, Denial>,
    ) {
        let denied = verdict.as_ref().err().copied();
        self.context.outputs.push_back(Output::Verdict { query, verdict });
        let channel = self.context.streams.get(&generation);
        if let Some(channel) = channel.and_then(|id| self.channels.get_mut(id)) {
            channel.judged(&mut self.context, generation, access, denied);
        }
    }

    pub(super) fn may_use(&self, generation: Gen, access: Access) -> Result<Allowed, Denial> {
        let channel = self.context.streams.get(&generation);
        let channel = channel.and_then(|id| self.channels.get(id)).ok_or(Denial::UnknownStream)?;
        channel.authorize(generation, access)
    }

    /// The owner and content of a stream that lives.
    #[must_use]
    pub fn publication(&self, generation: Gen) -> Option<Publication> {
        let channel = self.channels.get(self.context.streams.get(&generation)?)?;
        channel.publication(generation)
    }

    /// Whether a membership was restored after a recent crash: its client may be about to subscribe again, since
    /// subscriptions are not stored.
    fn check_awaited(&mut self, viewer: Mid) -> bool {
        let now = self.context.mono();
        if self.context.crash_grace_end.is_none_or(|over| over + WAIT_MS <= now) {
            self.context.awaited_viewers.clear();
        }
        let Some(&MemberRef { channel, uid }) = self.context.awaited_viewers.get(&viewer) else {
            return false;
        };
        self.channels.get(&channel).is_some_and(|channel| channel.has_membership(uid, viewer))
    }

    pub(super) fn check_waiting_plays(&mut self) {
        let now = self.context.mono();
        self.waiting_plays.is_check_armed = false;
        for (query, Play { generation, viewer, until }) in self.waiting_plays.plays() {
            let mut verdict = self.may_use(generation, Access::Play { viewer });
            if verdict == Err(Denial::NotSubscribed) && self.check_awaited(viewer) {
                if now < until {
                    continue;
                }
                verdict = Err(Denial::Busy);
            }
            self.waiting_plays.remove(query);
            self.judged(query, generation, Access::Play { viewer }, verdict);
        }
        if self.waiting_plays.len() > 0 {
            self.arm_check();
        }
    }

    /// Only one check is armed at a time, however many plays wait.
    fn arm_check(&mut self) {
        if !std::mem::replace(&mut self.waiting_plays.is_check_armed, true) {
            self.context.arm_in(CHECK_MS, Timer::WaitingPlays);
        }
    }
}

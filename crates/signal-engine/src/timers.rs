//! Deadlines of an engine, ordered by time. A timer that fires checks the state that it is about and may have nothing
//! to do: no timer is cancelled, and a frame does not arm one again.

use std::collections::BTreeSet;

use lianmai_protocol::{MonoTime, UserId};

use crate::ids::{AskId, ChannelRef};

/// The subject of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Events of a channel wait to be sent.
    Flush(ChannelRef),
    /// The member count of a channel may have changed.
    Count(ChannelRef),
    /// Levels of quality of a channel wait to be told.
    Levels(ChannelRef),
    /// A socket may be dead.
    Liveness(ChannelRef, UserId),
    /// A membership without a socket may be over.
    Grace(ChannelRef, UserId),
    /// A token may be about to expire.
    Token(ChannelRef, UserId),
    /// A question was not answered in time.
    Ask(AskId),
    /// The next step of the tasks of a channel.
    Tasks(ChannelRef),
    /// The lease of a run that was told to stop may be over.
    Stopping,
    /// Bans, holds and logs may be over.
    Sweep,
    /// Plays that wait for their viewer are checked.
    WaitingPlays,
    /// The next step of a drain.
    Drain,
}

/// All timers, in the order of their times.
#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(MonoTime, Timer)>);

impl Timers {
    pub(crate) fn arm(&mut self, at: MonoTime, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(crate) fn next(&self) -> Option<MonoTime> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes the earliest timer that is due at `now`.
    pub(crate) fn pop_due(&mut self, now: MonoTime) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.0.pop_first().map(|(_, timer)| timer)
    }
}

//! What an engine is told at its start. Values are checked by the shell's configuration.

use std::collections::BTreeMap;

use lianmai_protocol::limits::Limits;
use lianmai_protocol::message::session::Timers;
use lianmai_protocol::{Appkey, Rights};

use crate::ticket::TicketKey;

/// An engine that was not called for so long, in milliseconds, stood still: for that time nobody is held
/// silent. `dead_after_ms` should be longer than `ping_interval_ms` by more.
pub const STALL_MS: u64 = 2_000;

/// What happens when a uid joins a channel that it is already in (JOI-3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DuplicatePolicy {
    /// The newcomer replaces the old membership.
    #[default]
    KickOld,
    /// The newcomer is refused while the old membership has a live socket.
    RejectNew,
}

/// Numbers for the addresses in URLs: another number, another address. Who holds a URL with another one, from before
/// a restart, is given one that is good (URL-10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MediaAddress {
    /// Of push URLs.
    pub push: u64,
    /// Of pull URLs.
    pub pull: u64,
}

/// Rules of one app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppPolicy {
    /// Same uid again.
    pub duplicate: DuplicatePolicy,
    /// The creator of a channel has the right `moderate` in it.
    pub creator_moderates: bool,
    /// Where the app's media is pushed to and played from.
    pub media: MediaAddress,
    /// Push tasks end when the membership of their owner does, unless it joined from another place (TSK-1).
    pub tasks_end_with_owner: bool,
    /// The channel ends when its creator's membership ends (JOI-8).
    pub dissolve_on_creator_leave: bool,
}

impl AppPolicy {
    /// Rights of a member with `granted` rights that is the creator, by a token that says so, or is not.
    pub(crate) fn rights(&self, granted: Rights, is_creator: bool) -> Rights {
        Rights { moderate: granted.moderate || (self.creator_moderates && is_creator), ..granted }
    }
}

/// Clocks of a session, in milliseconds (LIV-2, LIV-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimers {
    /// A silent client pings this often.
    pub ping_interval_ms: u64,
    /// A socket without an inbound frame for so long is given up.
    pub dead_after_ms: u64,
    /// A membership without a socket lives so long.
    pub grace_ms: u64,
    /// Payload on the current push URL keeps a membership so long after the last of it.
    pub media_idle_ms: u64,
    /// But never longer than this after the socket was lost.
    pub media_cap_ms: u64,
}

impl Default for SessionTimers {
    fn default() -> Self {
        SessionTimers {
            ping_interval_ms: 10_000,
            dead_after_ms: 25_000,
            grace_ms: 30_000,
            media_idle_ms: 15_000,
            media_cap_ms: 300_000,
        }
    }
}

impl SessionTimers {
    /// A socket that is silent for so long is pinged: somewhat later than its client would ping, and in time for an
    /// answer.
    pub(crate) fn ping_after_ms(&self) -> u64 {
        let slack = self.dead_after_ms.saturating_sub(self.ping_interval_ms) / 2;
        self.ping_interval_ms + (self.ping_interval_ms / 10).min(slack)
    }

    /// What a `join` answer says of them.
    pub(crate) fn told(&self) -> Timers {
        Timers {
            ping_interval_ms: self.ping_interval_ms,
            dead_after_ms: self.dead_after_ms,
            grace_ms: self.grace_ms,
            media_cap_ms: self.media_cap_ms,
        }
    }
}

/// How push tasks are carried out. All times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskPolicy {
    /// A task stops running when nobody was seen or heard for so long, and goes on when somebody is (TSK-8).
    pub idle_ms: u64,
    /// How often in a row a push is tried again (TSK-9).
    pub max_retries: u32,
    /// A run stops by itself when its lease was not renewed for so long.
    pub lease_ms: u64,
}

impl Default for TaskPolicy {
    fn default() -> Self {
        TaskPolicy { idle_ms: 120_000, max_retries: 10, lease_ms: 2_000 }
    }
}

/// Everything that an engine is told at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Maxima of channels, members and commands.
    pub limits: Limits,
    /// Clocks of a session.
    pub timers: SessionTimers,
    /// The apps that exist.
    pub apps: BTreeMap<Appkey, AppPolicy>,
    /// Told in each `join` answer; the same on every node of a deployment (RES-11).
    pub deployment_id: String,
    /// Seals the secrets that resume memberships; the same on every node of a deployment and in every
    /// process of it (RES-9).
    pub ticket_key: TicketKey,
    /// After a crash tickets stand in for expired tokens so long, in milliseconds (RES-9).
    pub restart_grace_ms: u64,
    /// Bytes of all logs of this shard, of events that were sent already (RES-7).
    pub log_bytes: usize,
    /// Bytes of targeted messages of this shard that are kept until they are known to have arrived; beyond
    /// that they are sent and not kept.
    pub message_bytes: usize,
    /// Bytes of events that a channel may say at once (IDS-8); the shell cuts who lags by so many more.
    pub channel_burst_bytes: usize,
    /// Events of a channel leave at most this often, in milliseconds (ORD-6).
    pub flush_interval_ms: u64,
    /// How push tasks are carried out; `None` where nobody can: then there are none (NSY-1).
    pub tasks: Option<TaskPolicy>,
    /// Whether what happens in channels is written down for those who follow them from outside.
    pub journal: bool,
    /// Whether what somebody needs to find out later how a call went is written down: what happens in channels, the steps
    /// between, and how well media goes.
    pub history: bool,
}

impl EngineConfig {
    /// Whether what happens in channels is written down at all.
    pub(crate) fn follows(&self) -> bool {
        self.journal || self.history
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            limits: Limits::default(),
            timers: SessionTimers::default(),
            apps: BTreeMap::new(),
            deployment_id: String::new(),
            ticket_key: TicketKey::new([0; 32]),
            restart_grace_ms: 60_000,
            log_bytes: 64 * 1024 * 1024,
            message_bytes: 16 * 1024 * 1024,
            channel_burst_bytes: 7 * 256 * 1024,
            flush_interval_ms: 20,
            tasks: None,
            journal: true,
            history: false,
        }
    }
}

//! The configuration of an engine. The shell has checked the values.

use std::collections::BTreeMap;

use lianmai_protocol::limits::Limits;
use lianmai_protocol::message::session::Timers;
use lianmai_protocol::{Appkey, Rights};

use crate::ticket::TicketKey;

/// If an engine was not called for longer than this, in milliseconds, the process stalled: the time does not count as
/// silence of members. `dead_after_ms` should exceed `ping_interval_ms` by more than this.
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

/// Numbers of the addresses in URLs: a new address has a new number. A client that holds a URL with an old number, from
/// before a restart, gets a new URL (URL-10).
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
    /// The effect of a second join of the same uid.
    pub duplicate: DuplicatePolicy,
    /// The creator of a channel has the right `moderate` in it.
    pub creator_moderates: bool,
    /// Where the app's media is pushed to and played from.
    pub media: MediaAddress,
    /// Push tasks end with the membership of their owner, unless another join replaces it (TSK-1).
    pub tasks_end_with_owner: bool,
    /// The channel ends when its creator's membership ends (JOI-8).
    pub dissolve_on_creator_leave: bool,
}

impl AppPolicy {
    /// Rights of a member whose token grants `granted`. `is_creator`: it counts as the creator (AUT-6).
    pub(crate) fn rights(&self, granted: Rights, is_creator: bool) -> Rights {
        Rights { moderate: granted.moderate || (self.creator_moderates && is_creator), ..granted }
    }
}

/// Timers of a session, in milliseconds (LIV-2, LIV-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimers {
    /// A silent client pings this often.
    pub ping_interval_ms: u64,
    /// A socket without an inbound frame for this long is closed.
    pub dead_after_ms: u64,
    /// A membership lives this long without a socket.
    pub grace_ms: u64,
    /// A membership without a socket lives this long after the last payload on its current push URL.
    pub media_idle_ms: u64,
    /// But no longer than this after the loss of the socket.
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
    /// A socket that is silent for this long is pinged: somewhat later than its client would ping, and early enough for
    /// an answer.
    pub(crate) fn ping_after_ms(&self) -> u64 {
        let slack = self.dead_after_ms.saturating_sub(self.ping_interval_ms) / 2;
        self.ping_interval_ms + (self.ping_interval_ms / 10).min(slack)
    }

    /// The timers in the answer of `join`.
    pub(crate) fn for_clients(&self) -> Timers {
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
    /// A task stops when no member was seen or heard for this long, and starts again when one is (TSK-8).
    pub idle_ms: u64,
    /// How often in a row a push is tried again (TSK-9).
    pub max_retries: u32,
    /// A run stops by itself when its lease was not renewed for this long.
    pub lease_ms: u64,
}

impl Default for TaskPolicy {
    fn default() -> Self {
        TaskPolicy { idle_ms: 120_000, max_retries: 10, lease_ms: 2_000 }
    }
}

/// The configuration of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Maxima of channels, members and commands.
    pub limits: Limits,
    /// Timers of a session.
    pub timers: SessionTimers,
    /// The apps that exist.
    pub apps: BTreeMap<Appkey, AppPolicy>,
    /// Told in each `join` answer; the same on every node of a deployment (RES-11).
    pub deployment_id: String,
    /// Seals the secrets that resume memberships; the same on every node of a deployment and in every
    /// process of it (RES-9).
    pub ticket_key: TicketKey,
    /// For this long after a crash, tickets replace missing or expired tokens, in milliseconds (RES-9).
    pub restart_grace_ms: u64,
    /// Most bytes of all event logs of this shard; only events that were sent are forgotten (RES-7).
    pub log_bytes: usize,
    /// Bytes of targeted messages of this shard that are kept until they are known to have arrived. Beyond that, each
    /// member keeps at most an equal share.
    pub message_bytes: usize,
    /// Bytes of events that a channel may send at once (IDS-8). The shell must let a connection lag by more than this.
    pub channel_burst_bytes: usize,
    /// Least time between two flushes of a channel's events, in milliseconds (ORD-6).
    pub flush_interval_ms: u64,
    /// How push tasks are carried out; `None` if the server offers none (NSY-1).
    pub tasks: Option<TaskPolicy>,
    /// Whether the events of channels are written to the journal, for followers outside the server.
    pub journal: bool,
    /// Whether the history of calls is written, for a later analysis: events of channels, the steps between them, and
    /// quality of media.
    pub history: bool,
}

impl EngineConfig {
    /// Whether events of channels are recorded, in the journal or the history.
    pub(crate) fn records_events(&self) -> bool {
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

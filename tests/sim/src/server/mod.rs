//! The simulated process: what the shell of `signal-server` does around the shipped engines, without sockets, threads
//! and disks. Comes in: bytes of sockets, actions of the scenario. Goes out: bytes, and the start, crash, drain and
//! stop of the process. Deliberately absent: decisions about channels.
//!
//! ```text
//!   connect -> lobby (shipped) -> mailbox -> turn: engine (shipped) -> outbox (shipped) -> pipe
//!                                    ^                 `-> store, signer, relay --.
//!                                    `--------------------------------------------'
//! ```

pub(crate) mod journal;
mod lobby;
mod process;
mod shard;
pub(crate) mod store;

use std::collections::BTreeMap;

use lianmai_protocol::limits::Limits;
use lianmai_protocol::{MonoTime, Now};
use lianmai_signal_engine::{EngineConfig, MediaAddress, Outbox, SessionTimers, TicketKey};

use crate::net::LinkId;
use crate::rng::Rng;
use crate::scenario::Scenario;
use crate::tokens;
use crate::world::World;
use shard::Shard;
use store::Store;

pub(crate) use shard::{Msg, QueryOrigin};

/// The id of the deployment.
pub(crate) const DEPLOYMENT: &str = "dep-sim";

/// The progress of a process towards its stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    Draining,
    Frozen,
}

/// A running process.
pub(crate) struct Process {
    pub(crate) id: u64,
    /// Its monotonic clock at time 0 of the world.
    mono_off: u64,
    pub(crate) shards: Vec<Shard>,
    lobbies: BTreeMap<LinkId, lobby::LobbyConn>,
    pub(crate) connections: BTreeMap<LinkId, usize>,
    pub(crate) phase: Phase,
    drained: usize,
    handed_over: bool,
    down_ms: u64,
    pub(crate) started_at: u64,
}

/// The server over all its processes.
pub(crate) struct Server {
    pub(crate) process: Option<Process>,
    pub(crate) processes: u64,
    pub(crate) store: Store,
    /// Bytes that are still to be written on sockets that are closed.
    pub(crate) closing_outboxes: BTreeMap<LinkId, Outbox>,
    /// The process stands still until this time.
    paused_until: u64,
    /// Trouble of the disk and of the signer: until when, by how many milliseconds slower at most, and how often in
    /// 1000 they fail.
    pub(crate) disk_trouble: (u64, u64, u64),
    pub(crate) mint_trouble: (u64, u64, u64),
    pub(crate) rng: Rng,
    key: TicketKey,
    config: EngineConfig,
    pub(crate) starts_at: Option<u64>,
    /// Number of the relay's address, which may change with the next process.
    pub(crate) relay: u64,
}

impl Server {
    pub(crate) fn new(scenario: &Scenario, mut rng: Rng) -> Self {
        let key = TicketKey::new(rng.bytes());
        let knobs = &scenario.knobs;
        let [members, broadcasters, channels, subscriptions] = knobs.limits;
        let [bans, channel_attribute_bytes] = knobs.shares;
        let [ping_interval_ms, dead_after_ms, grace_ms, media_idle_ms, media_cap_ms] = knobs.timers;
        let config = EngineConfig {
            limits: Limits {
                members,
                broadcasters,
                channels,
                subscriptions,
                bans,
                channel_attribute_bytes,
                ..Limits::default()
            },
            timers: SessionTimers {
                ping_interval_ms,
                dead_after_ms,
                grace_ms,
                media_idle_ms,
                media_cap_ms,
            },
            apps: tokens::policies(),
            deployment_id: DEPLOYMENT.to_owned(),
            ticket_key: key.clone(),
            log_bytes: knobs.log_bytes,
            ..EngineConfig::default()
        };
        Server {
            process: None,
            processes: 0,
            store: Store::default(),
            closing_outboxes: BTreeMap::new(),
            paused_until: 0,
            disk_trouble: (0, 0, 0),
            mint_trouble: (0, 0, 0),
            rng,
            key,
            config,
            starts_at: Some(0),
            relay: 0,
        }
    }

    pub(crate) fn config(&self) -> &EngineConfig {
        &self.config
    }

    pub(crate) fn key(&self) -> &TicketKey {
        &self.key
    }

    /// Sometimes the relay gets another address, after the first process.
    fn move_relay(&mut self) {
        if self.processes > 1 && self.rng.chance(300) {
            self.relay += 1;
        }
        let (push, pull) = (self.relay, self.relay);
        for policy in self.config.apps.values_mut() {
            policy.media = MediaAddress { push, pull };
        }
    }

    /// The beginning of all URLs.
    pub(crate) fn relay_base(&self) -> String {
        format!("rtmp://relay-{}.sim/live/", self.relay)
    }

    /// If the process stands still, until when.
    pub(crate) fn standing_still(&self, now: u64) -> Option<u64> {
        (self.process.is_some() && self.paused_until > now).then_some(self.paused_until)
    }

    /// Milliseconds since the last pause ended.
    pub(crate) fn quiet_since(&self, now: u64) -> u64 {
        now.saturating_sub(self.paused_until)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// The process of that number, if it is running.
    pub(crate) fn process(&mut self, id: u64) -> Option<&mut Process> {
        self.process.as_mut().filter(|process| process.id == id)
    }
}

impl World {
    /// The clocks of the process.
    pub(crate) fn server_now(&self) -> Now {
        let off = self.server.process.as_ref().map_or(0, |process| process.mono_off);
        Now { mono: MonoTime(self.now + off), wall: self.wall() }
    }
}

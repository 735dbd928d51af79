//! The checkers. Each has a name, which reports use.
//!
//! | name | looks at | demands |
//! |---|---|---|
//! | `delivery` | wire, app | events are contiguous, equal for all, and in time |
//! | `order` | wire, app | an answer comes after its events and before the next ones; calls are sent in the order of
//! the calls |
//! | `pairing` | wire | joins and leaves, additions and removals alternate |
//! | `model` | engine | everything is as the reference model predicts |
//! | `outcome` | engine, app | each refusal, loss or end has its reason |
//! | `once` | engine | no command takes effect twice |
//! | `transients` | wire, app | messages come once, and only to their recipients |
//! | `ghosts` | engine | memberships end in time, and not before |
//! | `stability` | engine | a member that was present is never absent for others |
//! | `adversary` | engine | what is invalid is never accepted again |
//! | `media` | engine | every push and play is permitted |
//! | `app` | app | the events of an app are consistent and complete, and its getters agree |
//! | `settle` | app | every call is settled once, in its time, and as it was answered |
//! | `host` | app | sockets, deadlines and outputs are used as a host expects |
//! | `roster` | app | at rest the pictures are equal to the model |
//! | `fair` | engine | no client is refused for what others did |
//! | `leaks`, `bounded` | engine | nothing remains at the end; nothing grows without bound |
//! | `journal` | disk | the journal has every record once, numbered, and agrees with the rows |
//! | `errors` | all | nothing happens that is a bug by itself |
//! | `receiver`, `tasks` | engine | see `tasks/mod.rs` |

pub(crate) mod app;
pub(crate) mod ends;
pub(crate) mod fair;
pub(crate) mod own;
pub(crate) mod rest;
pub(crate) mod sent;
pub(crate) mod wire;

use std::collections::BTreeMap;

use lianmai_protocol::{Epoch, UserId};

use crate::net::LinkId;

/// What checkers remember of a world.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    /// Hash of the text of each event that was seen on the wire.
    pub(crate) texts: BTreeMap<(Epoch, u64), u64>,
    pub(crate) conns: BTreeMap<LinkId, wire::Conn>,
    /// Number of events that apps received.
    pub(crate) delivered: u64,
    /// Largest footprint of an engine per member, in bytes.
    pub(crate) largest: usize,
    /// Numbers of messages that took effect, and their recipients; `None` for all members.
    pub(crate) recipients: BTreeMap<u64, Option<Vec<UserId>>>,
}

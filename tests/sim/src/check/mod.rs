//! What must hold. Each checker has a name, which reports use.
//!
//! | name | looks at | demands |
//! |---|---|---|
//! | `delivery` | wire, app | events are contiguous, equal for all, and in time |
//! | `order` | wire, app | an answer comes behind its events and before the next; calls leave as they were made |
//! | `pairing` | wire | joins and leaves, additions and removals alternate |
//! | `model` | engine | everything is as the reference model says |
//! | `outcome` | engine, app | a refusal, a loss or an end has its reason |
//! | `once` | engine | no command takes effect twice |
//! | `transients` | wire, app | messages come once, to whom they are for |
//! | `ghosts` | engine | memberships end in time, and not before |
//! | `stability` | engine | who was there was not away for others |
//! | `adversary` | engine | what is dead stays dead |
//! | `media` | engine | nothing is pushed or played that may not be |
//! | `app` | app | what an app hears makes sense, is complete, and is what its getters show |
//! | `settle` | app | every call is settled once, in its time, and as it was answered |
//! | `host` | app | sockets, deadlines and outputs are used as a host expects |
//! | `roster` | app | at rest pictures are the model |
//! | `fair` | engine | nobody is refused for what others did |
//! | `leaks`, `bounded` | engine | nothing is left; nothing grows |
//! | `journal` | disk | who follows channels from outside hears all, once, numbered, and as the rows are |
//! | `errors` | all | nothing that is a bug by itself |
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
    /// Events that apps got.
    pub(crate) delivered: u64,
    /// Largest footprint of an engine per member, in bytes.
    pub(crate) largest: usize,
    /// Payloads of messages that took effect, and who they were for.
    pub(crate) said: BTreeMap<u64, Option<Vec<UserId>>>,
}

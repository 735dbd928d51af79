//! From a listener to a seat in a shard: accept, who may come at all, upgrade, lobby.
//!
//! Deliberately absent: what a message means.

pub(crate) mod accept;
pub(crate) mod budgets;
pub(crate) mod descriptors;
mod flv_socket;
pub(crate) mod guard;
pub(crate) mod lobby;
mod page;
mod patience;
pub(crate) mod proxies;
pub(crate) mod public;
pub(crate) mod refusals;
pub(crate) mod upgrade;

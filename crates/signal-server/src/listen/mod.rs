//! From a listener to a slot in a shard: accept, checks of the request, upgrade, lobby.
//!
//! Deliberately absent: the meaning of messages.

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

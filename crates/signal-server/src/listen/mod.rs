//! From a listener to a slot in a shard: accept, checks of the request, upgrade, lobby.
//!
//! Deliberately absent: the meaning of messages.

pub(crate) mod accept;
pub(crate) mod connect_limiter;
pub(crate) mod descriptors;
mod flv_socket;
pub(crate) mod guard;
pub(crate) mod lobby;
mod page;
pub(crate) mod proxies;
pub(crate) mod public;
pub(crate) mod refusals;
mod stall_timeout;
pub(crate) mod upgrade;

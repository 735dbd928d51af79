//! From an accepted socket to a seat in a shard: accept, TLS, upgrade, lobby, frames.
//!
//! Deliberately absent: what a message means.

pub(crate) mod accept;
pub(crate) mod budgets;
pub(crate) mod frame;
pub(crate) mod io;
pub(crate) mod lobby;
pub(crate) mod places;
pub(crate) mod proxies;
pub(crate) mod reader;
pub(crate) mod tls;
pub(crate) mod upgrade;

//! For operators: how the server stops, metrics, the log, and periodic tasks.

pub(crate) mod drain;
pub mod logs;
pub(crate) mod metrics;
pub(crate) mod note_log;
pub(crate) mod peer_addresses;
pub(crate) mod periodic;
pub mod stop_requests;

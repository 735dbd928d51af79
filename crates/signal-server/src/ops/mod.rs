//! For operators: how the server stops, its numbers, its log, and tasks that look after something.

pub(crate) mod drain;
pub(crate) mod helpers;
pub mod logs;
pub(crate) mod metrics;
pub(crate) mod note_log;
pub(crate) mod peers;
pub mod stops;

//! What is asked over HTTP by others than clients and players.

pub(crate) mod error;
pub(crate) mod v1;

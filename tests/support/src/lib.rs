//! What the loopback tests and the load generator share.

pub mod arrivals;
pub mod media;
pub mod process;
pub mod raw_ws;

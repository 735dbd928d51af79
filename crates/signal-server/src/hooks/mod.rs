//! Webhooks: the events of the journal go to the endpoints of their app. Comes in: commits with events, endpoints, the
//! clock. Goes out: signed requests, one at a time for each endpoint and channel, in the order of the channel, each
//! until it is accepted or given up. Deliberately absent: rooms, shards and engines; a slow or unreachable receiver
//! delays only its own queue. Waiting events are in the file, not in memory.
//!
//! ```text
//!   commit --> channels with news --> [queue: a lane for each endpoint and channel] --> attempt --> POST
//!                                            ^   taken: the next one; else: later       |
//!                                            `-------------------------------------------'
//! ```

pub(crate) mod body;
mod deliver;
pub(crate) mod describe;
mod egress;
pub(crate) mod endpoint;
mod post;
mod queue;
mod sign;
#[cfg(test)]
mod test_store;

pub(crate) use deliver::{Deliverer, HookMetrics};
pub(crate) use egress::Egress;
pub(crate) use endpoint::{Endpoint, Endpoints, KINDS};
pub(crate) use post::Poster;

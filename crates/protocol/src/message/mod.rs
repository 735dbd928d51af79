//! Every message of the protocol, as types. [`Call`] and the results go client to server and back;
//! [`ChannelEvent`]s go to every member, numbered and byte-identical; [`Notice`]s go to one session.
//!
//! Deliberately absent: what a message does. That is in `signal-engine` and `client-sdk`.

pub mod call;
pub mod event;
pub mod media;
pub mod notice;
pub mod session;
pub mod snapshot;
pub mod task;

use serde::{Deserialize, Deserializer};

pub use call::{Call, Method, Request, method};
pub use event::{ChannelEvent, Position};
pub use notice::Notice;

/// Reads a number of a request. A number that no `u32` holds becomes the greatest one. That is beyond the limit of each such
/// number, so the server answers with the error of that limit (LIM-1). The small codec refuses it: no client sends it.
fn saturated<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    Ok(u32::try_from(u64::deserialize(deserializer)?).unwrap_or(u32::MAX))
}

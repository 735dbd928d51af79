//! Every message of the protocol, as types. A client sends [`Call`]s and receives their results; [`ChannelEvent`]s go
//! to every member, numbered and byte-identical; [`Notice`]s go to one session.
//!
//! Deliberately absent: the effect of a message, which is in `signal-engine` and `client-sdk`.

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

/// Reads a number of a request. A number beyond `u32` becomes the greatest `u32`. That is above the limit of each such
/// number, so the server answers with the error of the limit (LIM-1). The small codec refuses such a number, because no
/// client of this library sends one.
fn saturated<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    Ok(u32::try_from(u64::deserialize(deserializer)?).unwrap_or(u32::MAX))
}

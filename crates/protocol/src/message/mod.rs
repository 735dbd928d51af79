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

pub use call::{Call, Method, Request, method};
pub use event::{ChannelEvent, Position};
pub use notice::Notice;

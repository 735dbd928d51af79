//! The embedded media relay: RTMP publish and play, HTTP-FLV and HLS play, and publishing to other servers.
//!
//! In: RTMP connections, pull requests for HTTP-FLV, verdicts of an [`Authorizer`], cuts. Out: media,
//! [`StreamFact`]s about liveness, [`HubStats`]. Absent: channels, users and signatures, which the
//! embedding server knows; HTTP, which serves [`pull::open`] and [`Hls`]; transcoding.
//!
//! A [`Hub`] holds the streams. [`RtmpServer`] and [`pull::open`] register a claim in it *before*
//! they ask the authorizer, so that a cut which comes between verdict and activation still counts.
//! Media is encoded once per stream and shared by all players; a player that lags is cut and delays
//! nobody. A player gets the [`Kinds`] that are published and that it may play, both as of now: the
//! authorizer says them when it allows, and [`Hub::set_published`] and [`Hub::set_subscribed`] when they change.

mod address;
mod auth;
mod block;
mod config;
pub mod flv;
pub mod hls;
mod hub;
mod kinds;
mod log_limiter;
mod media;
pub mod pull;
pub mod rtmp;
mod serve;
mod shares;
pub mod upstream;
mod wire;

pub use address::is_public;
pub use auth::{
    Account, Authorizer, Denied, DeniedKind, Direction, Protocol, StreamName, StreamRequest,
    Verdict,
};
pub use config::RelayConfig;
pub use hls::Hls;
pub use hub::{
    EndReason, FactState, Hub, HubStats, PlaySample, Player, Publisher, PushSample, StreamFact,
    StreamSample,
};
pub use kinds::Kinds;
pub use log_limiter::LogLimiter;
pub use media::Packet;
pub use rtmp::MediaKind;
pub use serve::RtmpServer;

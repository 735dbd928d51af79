//! The embedded relay as a media provider: URLs and cuts, authorization, state and quality of streams, and forwards.

pub(crate) mod authorizer;
pub(crate) mod client_tls;
pub(crate) mod forward;
pub(crate) mod media_stats;
pub(crate) mod provider;
pub(crate) mod stream_facts;

#[cfg(test)]
mod tests;

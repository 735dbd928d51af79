//! The embedded relay as a media provider: URLs and cuts, authorization, state and quality of streams, and forwards.

pub(crate) mod authorizer;
pub(crate) mod facts;
pub(crate) mod forward;
pub(crate) mod provider;
pub(crate) mod seen;
pub(crate) mod trust;

#[cfg(test)]
mod tests;

//! The embedded relay as a provider of media: its URLs and cuts, whom it lets in, what it sees, and where else it goes.

pub(crate) mod authorizer;
pub(crate) mod facts;
pub(crate) mod forward;
pub(crate) mod provider;
pub(crate) mod seen;
pub(crate) mod trust;

#[cfg(test)]
mod tests;

//! The embedded relay as a provider of media: its URLs and cuts, whom it lets in, and what it sees.

pub(crate) mod authorizer;
pub(crate) mod facts;
pub(crate) mod provider;

#[cfg(test)]
mod tests;

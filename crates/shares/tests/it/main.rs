//! What is shared stays within its bounds, and nobody's greed refuses others.

#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

mod pool;
mod rates;

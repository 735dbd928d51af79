//! Shared amounts and rates stay within their bounds, and no greedy key causes refusals of other keys.

#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

mod pool;
mod rate_limiter;

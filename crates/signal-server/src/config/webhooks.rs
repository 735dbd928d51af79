//! Checks the table `webhooks`. Comes in: the table as written. Goes out: how long events are kept, where requests may
//! go, how long one delivery may take and when an event is given up, and reports of problems. Deliberately absent: the
//! endpoints, which the API makes; the part that uses the values, which `api/stored_state.rs` builds.

use super::raw::RawWebhooks;
use super::validate::{Check, ranges};
use super::{Cidr, HOUR_MS};

/// Storage and delivery of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhooksConfig {
    /// Private address ranges that webhooks may use.
    pub allow: Vec<Cidr>,
    /// Retention of events in milliseconds; 0 stores none.
    pub keep_ms: u64,
    /// Maximum number of stored events.
    pub keep_events: u64,
    /// Age in milliseconds at which an event that was tried is given up.
    pub give_up_ms: u64,
    /// Timeout of one delivery in milliseconds.
    pub timeout_ms: u64,
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        WebhooksConfig {
            allow: Vec::new(),
            keep_ms: 72 * HOUR_MS,
            keep_events: 1_000_000,
            give_up_ms: 6 * HOUR_MS,
            timeout_ms: 10_000,
        }
    }
}

pub(super) fn webhooks(check: &mut Check, raw: RawWebhooks) -> WebhooksConfig {
    let d = WebhooksConfig::default();
    let month = 31 * 24 * HOUR_MS / 1000;
    let mut seconds = |key: &str, value, default_ms: u64, least| {
        check.number(&format!("webhooks.{key}"), value, default_ms / 1000, least..=month) * 1000
    };
    let keep_ms = seconds("keep_s", raw.keep_s, d.keep_ms, 0);
    let give_up_ms = seconds("give_up_s", raw.give_up_s, d.give_up_ms, 1);
    let count = 1_000..=100_000_000;
    WebhooksConfig {
        allow: ranges(check, "webhooks.allow", raw.allow),
        keep_ms,
        keep_events: check.number("webhooks.keep_events", raw.keep_events, d.keep_events, count),
        give_up_ms,
        timeout_ms: check.number("webhooks.timeout_ms", raw.timeout_ms, d.timeout_ms, 100..=60_000),
    }
}

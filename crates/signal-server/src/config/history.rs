//! Checks the table `history`. Comes in: the table as written. Goes out: the limits of the history of calls, and
//! reports of problems. Deliberately absent: the content of the history, which the engine decides.

use super::HOUR_MS;
use super::raw::RawHistory;
use super::validate::Check;

/// Limits of the history of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryConfig {
    /// Retention in milliseconds; 0 stores nothing.
    pub keep_ms: u64,
    /// Maximum number of entries of all apps together.
    pub keep_rows: u64,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        HistoryConfig { keep_ms: 72 * HOUR_MS, keep_rows: 2_000_000 }
    }
}

pub(super) fn history(check: &mut Check, raw: RawHistory) -> HistoryConfig {
    let d = HistoryConfig::default();
    let month = 31 * 24 * HOUR_MS / 1000;
    let keep_s = check.number("history.keep_s", raw.keep_s, d.keep_ms / 1000, 0..=month);
    let count = 1_000..=100_000_000;
    HistoryConfig {
        keep_ms: keep_s * 1000,
        keep_rows: check.number("history.keep_rows", raw.keep_rows, d.keep_rows, count),
    }
}

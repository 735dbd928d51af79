//! The addresses of the server. In: the configured addresses, those that servers name in redirects, and failed
//! attempts. Out: the address to try next. Deliberately absent: waits.
//!
//! The configured addresses stay. Addresses that servers name are learned: at most [`MAX_LEARNED`], after the
//! configured ones; a further one replaces the one that was learned first.

use crate::error::ConfigError;
use crate::prelude::*;

/// The addresses of one deployment; the preferred one is first.
pub(super) struct Addresses {
    all: Vec<Address>,
    at: usize,
    /// Failed attempts in this round since an address worked.
    failed: usize,
}

struct Address {
    url: String,
    /// The address belongs to another deployment, which has other channels (RES-11).
    foreign: bool,
    /// A server named the address in a redirect.
    learned: bool,
}

impl Addresses {
    pub(super) fn new(urls: &[String]) -> Result<Addresses, ConfigError> {
        if urls.is_empty() {
            return Err(ConfigError::NoAddress);
        }
        if urls.len() > MAX_CONFIGURED {
            return Err(ConfigError::TooManyAddresses(urls.len()));
        }
        if let Some(bad) = urls.iter().find(|url| !is_address(url)) {
            return Err(ConfigError::BadAddress(bad.clone()));
        }
        let address = |url: &String| Address { url: url.clone(), foreign: false, learned: false };
        Ok(Addresses { all: urls.iter().map(address).collect(), at: 0, failed: 0 })
    }

    pub(super) fn url(&self) -> String {
        self.all.get(self.at).map(|address| address.url.clone()).unwrap_or_default()
    }

    /// Starts with the first address again: a new membership may be on any of them.
    pub(super) fn start_over(&mut self) {
        self.at = 0;
        self.failed = 0;
        for address in &mut self.all {
            address.foreign = false;
        }
    }

    /// Records that the present address works.
    pub(super) fn worked(&mut self) {
        self.failed = 0;
    }

    /// Records that the present address failed. Returns whether another one is left in this round.
    pub(super) fn failed(&mut self) -> bool {
        self.failed += 1;
        self.step();
        let more = self.failed < self.all.iter().filter(|address| !address.foreign).count();
        if !more {
            self.failed = 0;
        }
        more
    }

    /// Records that the present address belongs to another deployment. Returns whether another one is left.
    pub(super) fn foreign(&mut self) -> bool {
        if let Some(address) = self.all.get_mut(self.at) {
            address.foreign = true;
        }
        self.step();
        self.all.get(self.at).is_some_and(|address| !address.foreign)
    }

    /// Follows a redirect of the server, but never from TLS to plain text.
    pub(super) fn redirect(&mut self, url: &str) {
        let plain = |url: &str| !url.starts_with("wss://");
        let Some(present) = self.all.get(self.at) else { return };
        if !is_address(url) || (plain(url) && !plain(&present.url)) {
            return;
        }
        if let Some(at) = self.all.iter().position(|address| address.url == url) {
            self.at = at;
            return;
        }
        if self.all.iter().filter(|address| address.learned).count() == MAX_LEARNED
            && let Some(oldest) = self.all.iter().position(|address| address.learned)
        {
            self.all.remove(oldest);
        }
        self.all.push(Address { url: url.to_owned(), foreign: false, learned: true });
        self.at = self.all.len() - 1;
    }

    fn step(&mut self) {
        let count = self.all.len();
        let after = (1..=count).map(|n| (self.at + n) % count);
        self.at = after.into_iter().find(|at| !self.all[*at].foreign).unwrap_or(self.at);
    }
}

/// Whether the URL has the form of a WebSocket address.
fn is_address(url: &str) -> bool {
    url.len() <= MAX_URL_BYTES && (url.starts_with("ws://") || url.starts_with("wss://"))
}

/// Maximum number of configured addresses.
const MAX_CONFIGURED: usize = 16;
/// Maximum number of learned addresses. It is small because every dead address makes a round longer.
const MAX_LEARNED: usize = 4;
/// Maximum length of an address, in bytes.
const MAX_URL_BYTES: usize = 1024;

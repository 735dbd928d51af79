//! Where the server can be found. Comes in: the addresses of the configuration and those that servers name, which
//! one failed. Goes out: the one to try next. Deliberately absent: waiting.
//!
//! The addresses of the configuration stay. What servers name is learned: at most [`MAX_LEARNED`], behind the others,
//! and one more takes the place of the one that was learned first.

use crate::error::ConfigError;
use crate::prelude::*;

/// The addresses of one deployment, the preferred one first.
pub(super) struct Addresses {
    all: Vec<Address>,
    at: usize,
    /// Attempts that failed since one address worked, within one round.
    failed: usize,
}

struct Address {
    url: String,
    /// It belongs to another deployment: other channels are behind it (RES-11).
    foreign: bool,
    /// A server named it.
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

    /// A new membership may be anywhere.
    pub(super) fn start_over(&mut self) {
        self.at = 0;
        self.failed = 0;
        for address in &mut self.all {
            address.foreign = false;
        }
    }

    /// The present address answers.
    pub(super) fn worked(&mut self) {
        self.failed = 0;
    }

    /// The present address does not answer. Whether another one is left in this round.
    pub(super) fn failed(&mut self) -> bool {
        self.failed += 1;
        self.step();
        let more = self.failed < self.all.iter().filter(|address| !address.foreign).count();
        if !more {
            self.failed = 0;
        }
        more
    }

    /// The present address is that of another deployment. Whether another one is left.
    pub(super) fn foreign(&mut self) -> bool {
        if let Some(address) = self.all.get_mut(self.at) {
            address.foreign = true;
        }
        self.step();
        self.all.get(self.at).is_some_and(|address| !address.foreign)
    }

    /// The server sends the client elsewhere; never from TLS to plain text.
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

/// Whether a host can connect there, by its looks.
fn is_address(url: &str) -> bool {
    url.len() <= MAX_URL_BYTES && (url.starts_with("ws://") || url.starts_with("wss://"))
}

/// Most addresses of a configuration.
const MAX_CONFIGURED: usize = 16;
/// Most that servers named. Few: each that is dead makes a round longer.
const MAX_LEARNED: usize = 4;
/// The longest address.
const MAX_URL_BYTES: usize = 1024;

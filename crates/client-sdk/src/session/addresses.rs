//! Where the server can be found. Comes in: which address failed. Goes out: the one to try next.
//! Deliberately absent: waiting.

/// The addresses of one deployment, the preferred one first.
pub(super) struct Addresses {
    all: Vec<Address>,
    at: usize,
    /// Attempts that failed since one address worked, within one round.
    failed: usize,
}

struct Address {
    url: String,
    /// It belongs to another deployment: other channels are behind it (rule A13).
    foreign: bool,
}

impl Addresses {
    pub(super) fn new(urls: Vec<String>) -> Addresses {
        let all = urls.into_iter().map(|url| Address { url, foreign: false }).collect();
        Addresses { all, at: 0, failed: 0 }
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
        if url.len() > MAX_URL_BYTES || (plain(url) && !plain(&present.url)) {
            return;
        }
        match self.all.iter().position(|address| address.url == url) {
            Some(at) => self.at = at,
            None if self.all.len() < MAX_ADDRESSES => {
                self.all.push(Address { url: url.to_owned(), foreign: false });
                self.at = self.all.len() - 1;
            }
            None => {}
        }
    }

    fn step(&mut self) {
        let count = self.all.len();
        let after = (1..=count).map(|n| (self.at + n) % count);
        self.at = after.into_iter().find(|at| !self.all[*at].foreign).unwrap_or(self.at);
    }
}

/// Servers may name new addresses; so many are remembered.
const MAX_ADDRESSES: usize = 16;
/// A redirect that is longer is not followed.
const MAX_URL_BYTES: usize = 1024;

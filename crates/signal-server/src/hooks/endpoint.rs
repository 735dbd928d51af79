//! The endpoints of all apps. Comes in: decisions of the API, and the stored endpoints. Goes out: endpoints and the
//! events that they want. Deliberately absent: deliveries.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lianmai_protocol::{Appkey, WallTime};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tracing::warn;

use super::sign;
use crate::config::Secret;
use crate::records::{Database, DatabaseError, Entry, Table};

/// The kinds that endpoints can select. All endpoints receive `lost`.
pub(crate) const KINDS: [&str; 10] = [
    "channelOpened",
    "channelEnded",
    "memberJoined",
    "memberLeft",
    "roleChanged",
    "streamAdded",
    "streamRemoved",
    "taskAdded",
    "taskChanged",
    "taskEnded",
];

/// Maximum number of endpoints of one app.
pub(crate) const MAX_ENDPOINTS: usize = 16;
/// Time for which a replaced secret still signs, in milliseconds.
pub(crate) const OVERLAP_MS: u64 = 24 * 3600 * 1000;
/// Maximum number of secrets that sign at the same time. Each makes the header of a delivery longer.
const MAX_SECRETS: usize = 8;

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) id: String,
    pub(crate) appkey: Appkey,
    pub(crate) url: String,
    /// Kinds of events; empty for all.
    pub(crate) events: Vec<String>,
    pub(crate) enabled: bool,
    pub(crate) created_at: WallTime,
    /// It receives the events after this position.
    pub(crate) since: u64,
    /// The secrets that sign: the newest first; the others with the time at which they expire.
    pub(crate) secrets: Vec<(Secret, Option<WallTime>)>,
}

/// An endpoint as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredEndpoint {
    url: String,
    events: Vec<String>,
    enabled: bool,
    created_at: WallTime,
    since: u64,
    secrets: Vec<(String, Option<WallTime>)>,
}

impl Endpoint {
    /// The secrets that sign now.
    pub(super) fn signing(&self, now: WallTime) -> Vec<Secret> {
        let good = self.secrets.iter().filter(|(_, until)| until.is_none_or(|until| until > now));
        good.map(|(secret, _)| secret.clone()).collect()
    }

    /// Whether it wants events of a kind.
    pub(super) fn wants(&self, kind: &str) -> bool {
        self.events.is_empty() || kind == "lost" || self.events.iter().any(|own| own == kind)
    }

    /// Makes a new secret, which signs from now on. The one before signs for [`OVERLAP_MS`] more, and earlier ones as long as
    /// was said when they were replaced: the receiver may still have any of them. Beyond [`MAX_SECRETS`] the oldest goes.
    pub(crate) fn rotate(&mut self, now: WallTime) -> Result<Secret, getrandom::Error> {
        let secret = sign::new_secret()?;
        self.secrets.retain(|(_, until)| until.is_none_or(|until| until > now));
        for (_, until) in &mut self.secrets {
            until.get_or_insert(WallTime(now.0 + OVERLAP_MS));
        }
        self.secrets.insert(0, (secret.clone(), None));
        self.secrets.truncate(MAX_SECRETS);
        Ok(secret)
    }

    fn entry(&self) -> Entry {
        let stored = StoredEndpoint {
            url: self.url.clone(),
            events: self.events.clone(),
            enabled: self.enabled,
            created_at: self.created_at,
            since: self.since,
            secrets: self
                .secrets
                .iter()
                .map(|(s, until)| (s.expose().to_owned(), *until))
                .collect(),
        };
        let record = serde_json::to_string(&stored).expect("a record has string keys only");
        Entry { id: self.id.clone(), appkey: self.appkey.to_string(), record }
    }

    fn read(entry: Entry) -> Option<Self> {
        let StoredEndpoint { url, events, enabled, created_at, since, secrets } =
            serde_json::from_str(&entry.record).ok()?;
        let secrets = secrets.into_iter().map(|(text, until)| (Secret::new(text), until)).collect();
        let appkey = entry.appkey.parse().ok()?;
        Some(Endpoint { id: entry.id, appkey, url, events, enabled, created_at, since, secrets })
    }
}

/// All endpoints, as they are stored. Clones share them. A caller that changes one runs to its end, so that memory does
/// not differ from the file.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    database: Database,
    /// Each with the number of the last change of its URL or of `enabled`.
    all: Arc<Mutex<BTreeMap<String, (Endpoint, u64)>>>,
    changed: Arc<watch::Sender<u64>>,
    /// Held from the read of an endpoint until its change is stored and in memory.
    changing: Arc<AsyncMutex<()>>,
}

impl Endpoints {
    /// Reads the stored endpoints.
    pub(crate) async fn load(database: Database) -> Result<Self, DatabaseError> {
        let mut all = BTreeMap::new();
        for entry in database.entries(Table::Endpoints).await? {
            let id = entry.id.clone();
            match Endpoint::read(entry) {
                Some(endpoint) => drop(all.insert(id, (endpoint, 0))),
                None => warn!(id, "a stored webhook endpoint cannot be read"),
            }
        }
        let all = Arc::new(Mutex::new(all));
        let (changed, changing) = (Arc::new(watch::Sender::new(0)), Arc::default());
        Ok(Endpoints { database, all, changed, changing })
    }

    /// Stores a new endpoint. `false` if the app has too many.
    pub(crate) async fn add(&self, endpoint: Endpoint) -> Result<bool, DatabaseError> {
        let _turn = self.changing.lock().await;
        self.put(endpoint).await
    }

    /// Changes an endpoint of an app, and stores it. Returns it with what `change` returned; `None` if there is none.
    /// Changes come one after the other, so that none undoes another.
    pub(crate) async fn change<T, E: From<DatabaseError>>(
        &self,
        appkey: &Appkey,
        id: &str,
        change: impl FnOnce(&mut Endpoint) -> Result<T, E>,
    ) -> Result<Option<(Endpoint, T)>, E> {
        let _turn = self.changing.lock().await;
        let Some(mut endpoint) = self.get(appkey, id) else { return Ok(None) };
        let changed = change(&mut endpoint)?;
        // It replaces its own row, so the app has room for it.
        self.put(endpoint.clone()).await?;
        Ok(Some((endpoint, changed)))
    }

    /// Removes an endpoint of an app. `false` if there is none.
    pub(crate) async fn remove(&self, appkey: &Appkey, id: &str) -> Result<bool, DatabaseError> {
        let _turn = self.changing.lock().await;
        if self.get(appkey, id).is_none() {
            return Ok(false);
        }
        self.database.drop_entry(Table::Endpoints, id.to_owned()).await?;
        self.lock().remove(id);
        self.changed.send_modify(|count| *count += 1);
        Ok(true)
    }

    async fn put(&self, endpoint: Endpoint) -> Result<bool, DatabaseError> {
        let entry = endpoint.entry();
        if !self.database.put_entry(Table::Endpoints, entry, MAX_ENDPOINTS).await? {
            return Ok(false);
        }
        let next = *self.changed.borrow() + 1;
        let mut all = self.lock();
        let old = all.get(&endpoint.id);
        let same =
            old.filter(|(old, _)| old.enabled == endpoint.enabled && old.url == endpoint.url);
        let number = same.map_or(next, |(_, number)| *number);
        all.insert(endpoint.id.clone(), (endpoint, number));
        drop(all);
        self.changed.send_replace(next);
        Ok(true)
    }

    /// An endpoint of an app.
    pub(crate) fn get(&self, appkey: &Appkey, id: &str) -> Option<Endpoint> {
        self.by_id(id).filter(|endpoint| endpoint.appkey == *appkey)
    }

    /// The endpoints of an app.
    pub(crate) fn of(&self, appkey: &Appkey) -> Vec<Endpoint> {
        let all = self.lock();
        let own = all.values().filter(|(endpoint, _)| endpoint.appkey == *appkey);
        own.map(|(endpoint, _)| endpoint.clone()).collect()
    }

    /// The enabled endpoints of all apps. The number of an endpoint is another one if its URL has changed, or if it was
    /// disabled meanwhile.
    pub(super) fn enabled(&self) -> Vec<(Endpoint, u64)> {
        self.lock().values().filter(|(endpoint, _)| endpoint.enabled).cloned().collect()
    }

    pub(super) fn by_id(&self, id: &str) -> Option<Endpoint> {
        self.lock().get(id).map(|(endpoint, _)| endpoint.clone())
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (Endpoint, u64)>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;

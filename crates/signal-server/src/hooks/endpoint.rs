//! The endpoints of all apps. Comes in: decisions of the API, and the stored endpoints. Goes out: endpoints and the
//! events that they want. Deliberately absent: deliveries.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lianmai_protocol::{Appkey, WallTime};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
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

    /// Makes a new secret, which signs from now on. The one before signs for [`OVERLAP_MS`] more.
    pub(crate) fn rotate(&mut self, now: WallTime) -> Result<Secret, getrandom::Error> {
        let secret = sign::new_secret()?;
        self.secrets.retain(|(_, until)| until.is_none());
        for (_, until) in &mut self.secrets {
            *until = Some(WallTime(now.0 + OVERLAP_MS));
        }
        self.secrets.insert(0, (secret.clone(), None));
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

/// All endpoints, as they are stored. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    database: Database,
    all: Arc<Mutex<BTreeMap<String, Endpoint>>>,
    changed: Arc<watch::Sender<u64>>,
}

impl Endpoints {
    /// Reads the stored endpoints.
    pub(crate) async fn load(database: Database) -> Result<Self, DatabaseError> {
        let mut all = BTreeMap::new();
        for entry in database.entries(Table::Endpoints).await? {
            let id = entry.id.clone();
            match Endpoint::read(entry) {
                Some(endpoint) => drop(all.insert(id, endpoint)),
                None => warn!(id, "a stored webhook endpoint cannot be read"),
            }
        }
        let all = Arc::new(Mutex::new(all));
        Ok(Endpoints { database, all, changed: Arc::new(watch::Sender::new(0)) })
    }

    /// Stores a new or changed endpoint. `false` if the app has too many.
    pub(crate) async fn put(&self, endpoint: Endpoint) -> Result<bool, DatabaseError> {
        let entry = endpoint.entry();
        if !self.database.put_entry(Table::Endpoints, entry, MAX_ENDPOINTS).await? {
            return Ok(false);
        }
        self.lock().insert(endpoint.id.clone(), endpoint);
        self.changed.send_modify(|count| *count += 1);
        Ok(true)
    }

    /// Removes an endpoint.
    pub(crate) async fn remove(&self, id: &str) -> Result<(), DatabaseError> {
        self.database.drop_entry(Table::Endpoints, id.to_owned()).await?;
        self.lock().remove(id);
        self.changed.send_modify(|count| *count += 1);
        Ok(())
    }

    /// An endpoint of an app.
    pub(crate) fn get(&self, appkey: &Appkey, id: &str) -> Option<Endpoint> {
        self.lock().get(id).filter(|endpoint| endpoint.appkey == *appkey).cloned()
    }

    /// The endpoints of an app.
    pub(crate) fn of(&self, appkey: &Appkey) -> Vec<Endpoint> {
        self.lock().values().filter(|endpoint| endpoint.appkey == *appkey).cloned().collect()
    }

    /// The enabled endpoints of all apps.
    pub(super) fn enabled(&self) -> Vec<Endpoint> {
        self.lock().values().filter(|endpoint| endpoint.enabled).cloned().collect()
    }

    pub(super) fn by_id(&self, id: &str) -> Option<Endpoint> {
        self.lock().get(id).cloned()
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Endpoint>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

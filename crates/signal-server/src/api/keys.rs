//! Keys of the API. Comes in: the key of a request, and decisions of the API. Goes out: the caller and its scopes. Only
//! a hash of a key is stored; the text is given once, when the key is made. Deliberately absent: routes.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lianmai_protocol::{Appkey, WallTime};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::warn;

use crate::config::Secret;
use crate::records::{Database, DatabaseError, Entry, Table};

/// Prefix of a key, so that leaked keys can be found.
const PREFIX: &str = "lmk_";
/// Maximum number of keys of one app, and of keys for all apps.
pub(crate) const MAX_KEYS: usize = 256;

/// What a caller may do. Each scope includes those before it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Scope {
    /// Read.
    Read,
    /// Also decide who may do what in channels, and send messages there.
    Moderate,
    /// Also make channels, tokens, keys and webhooks.
    Admin,
}

/// A key without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiKey {
    pub(crate) id: String,
    /// The only app; `None` for all apps.
    pub(crate) appkey: Option<Appkey>,
    /// Its scopes; the greatest counts.
    pub(crate) scopes: Vec<Scope>,
    pub(crate) name: String,
    pub(crate) created_at: WallTime,
    /// Time at which it expires.
    pub(crate) expires_at: Option<WallTime>,
}

/// A key as it is stored.
#[derive(Clone, Serialize, Deserialize)]
struct StoredKey {
    hash: String,
    scopes: Vec<Scope>,
    name: String,
    created_at: WallTime,
    expires_at: Option<WallTime>,
}

/// The caller of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// With the token of the deployment.
    Root,
    /// With a key.
    Key(Arc<ApiKey>),
}

impl Caller {
    /// Whether it has a scope.
    pub(crate) fn may(&self, scope: Scope) -> bool {
        match self {
            Caller::Root => true,
            Caller::Key(key) => key.scopes.iter().max().is_some_and(|own| *own >= scope),
        }
    }

    /// Whether it may access an app.
    pub(crate) fn may_access(&self, appkey: &Appkey) -> bool {
        match self {
            Caller::Root => true,
            Caller::Key(key) => key.appkey.as_ref().is_none_or(|own| own == appkey),
        }
    }

    /// The only app that it may access; `None` for all apps.
    pub(crate) fn appkey(&self) -> Option<&Appkey> {
        match self {
            Caller::Root => None,
            Caller::Key(key) => key.appkey.as_ref(),
        }
    }

    /// A name that differs from those of other callers.
    pub(crate) fn id(&self) -> &str {
        match self {
            Caller::Root => "root",
            Caller::Key(key) => &key.id,
        }
    }
}

type KeyEntry = (Arc<ApiKey>, Secret);

/// All keys, as they are stored. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct ApiKeys {
    database: Database,
    all: Arc<RwLock<BTreeMap<String, KeyEntry>>>,
}

fn hash(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(secret.as_bytes()))
}

/// `N` random bytes as base64url.
fn random<const N: usize>() -> Result<String, getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// A random id of 12 hexadecimal digits.
pub(crate) fn random_id() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 6];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl ApiKeys {
    /// Reads the stored keys.
    pub(crate) async fn load(database: Database) -> Result<Self, DatabaseError> {
        let mut all = BTreeMap::new();
        for entry in database.entries(Table::Keys).await? {
            let id = entry.id.clone();
            match read(entry) {
                Some(kept) => drop(all.insert(id, kept)),
                None => warn!(id, "a stored key of the API cannot be read"),
            }
        }
        Ok(ApiKeys { database, all: Arc::new(RwLock::new(all)) })
    }

    /// The caller with this key, if the key is valid at `now`.
    pub(crate) fn caller(&self, given: &str, now: WallTime) -> Option<Caller> {
        let (id, secret) = given.strip_prefix(PREFIX)?.split_once('_')?;
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        let (key, kept) = all.get(id)?;
        let good = kept.equals(&hash(secret)) && key.expires_at.is_none_or(|end| end > now);
        good.then(|| Caller::Key(key.clone()))
    }

    /// Stores a key and returns its text, which is given only here. `None` if there are too many. Expired keys of the
    /// same app do not count, and are removed.
    pub(crate) async fn add(&self, key: ApiKey) -> Result<Option<Secret>, DatabaseError> {
        for old in self.list(key.appkey.as_ref()) {
            if old.expires_at.is_some_and(|end| end <= key.created_at) {
                self.revoke(key.appkey.as_ref(), &old.id).await?;
            }
        }
        let Ok(secret) = random::<32>() else { return Err(DatabaseError::Failed) };
        let stored = StoredKey {
            hash: hash(&secret),
            scopes: key.scopes.clone(),
            name: key.name.clone(),
            created_at: key.created_at,
            expires_at: key.expires_at,
        };
        let record = serde_json::to_string(&stored).expect("a record has string keys only");
        let appkey = key.appkey.as_ref().map(ToString::to_string).unwrap_or_default();
        let entry = Entry { id: key.id.clone(), appkey, record };
        if !self.database.put_entry(Table::Keys, entry, MAX_KEYS).await? {
            return Ok(None);
        }
        let text = Secret::new(format!("{PREFIX}{}_{secret}", key.id));
        let kept = (Arc::new(key.clone()), Secret::new(stored.hash));
        self.all.write().unwrap_or_else(PoisonError::into_inner).insert(key.id, kept);
        Ok(Some(text))
    }

    /// The keys of an app, or those for all apps.
    pub(crate) fn list(&self, appkey: Option<&Appkey>) -> Vec<Arc<ApiKey>> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        let own = all.values().filter(|(key, _)| key.appkey.as_ref() == appkey);
        own.map(|(key, _)| key.clone()).collect()
    }

    /// Revokes a key. `false` if the app, or for `None` all apps together, has no key with this id.
    pub(crate) async fn revoke(
        &self,
        appkey: Option<&Appkey>,
        id: &str,
    ) -> Result<bool, DatabaseError> {
        if !self.list(appkey).iter().any(|key| key.id == id) {
            return Ok(false);
        }
        self.database.drop_entry(Table::Keys, id.to_owned()).await?;
        self.all.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok(true)
    }
}

fn read(entry: Entry) -> Option<KeyEntry> {
    let StoredKey { hash, scopes, name, created_at, expires_at } =
        serde_json::from_str(&entry.record).ok()?;
    let appkey = match entry.appkey.as_str() {
        "" => None,
        text => Some(text.parse().ok()?),
    };
    let key = ApiKey { id: entry.id, appkey, scopes, name, created_at, expires_at };
    Some((Arc::new(key), Secret::new(hash)))
}

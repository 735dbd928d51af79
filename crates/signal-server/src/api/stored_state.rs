//! The stored state of the API, loaded when a server starts. Comes in: the rows of the deployment, the configuration.
//! Goes out: the service that uses them, and the deliverer of webhooks with its settings. Deliberately absent: how rows
//! are written.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lianmai_protocol::WallTime;
use lianmai_shares::Slots;

use super::keys::ApiKeys;
use super::service::{MAX_PINGS, Service};
use crate::auth::RevocationList;
use crate::config::Config;
use crate::hooks::{Deliverer, Egress, Endpoints, HookMetrics, Poster};
use crate::records::{Database, DatabaseError, Records, Revocation};
use crate::shard::Shards;

/// The loaded rows.
pub(crate) struct StoredState {
    database: Database,
    keys: ApiKeys,
    endpoints: Endpoints,
    revocations: Vec<Revocation>,
    /// The certificate authorities for deliveries.
    client_tls: Arc<rustls::ClientConfig>,
}

impl StoredState {
    /// Reads all rows.
    pub(crate) async fn load(
        database: Database,
        client_tls: Arc<rustls::ClientConfig>,
    ) -> Result<Self, DatabaseError> {
        Ok(StoredState {
            keys: ApiKeys::load(database.clone()).await?,
            endpoints: Endpoints::load(database.clone()).await?,
            revocations: database.revocations().await?,
            database,
            client_tls,
        })
    }

    /// The service of a server with these listeners. Adds the stored revocations to `revoked`.
    pub(crate) fn service(
        self,
        config: &Config,
        own: Vec<SocketAddr>,
        store: Arc<dyn Records>,
        shards: Shards,
        revoked: RevocationList,
        metrics: HookMetrics,
    ) -> Service {
        let StoredState { database, keys, endpoints, revocations, client_tls } = self;
        for row in revocations {
            // A revocation with an appkey or uid that is no longer valid concerns no token.
            let uid = if row.uid.is_empty() { Ok(None) } else { row.uid.parse().map(Some) };
            if let (Ok(appkey), Ok(uid)) = (row.appkey.parse(), uid) {
                revoked.revoke(appkey, uid, WallTime(row.not_before), WallTime(0));
            }
        }
        let webhooks = &config.webhooks;
        let deliverer = Deliverer {
            database: database.clone(),
            endpoints: endpoints.clone(),
            poster: Poster {
                egress: Arc::new(Egress::new(webhooks.allow.clone(), own)),
                tls: client_tls,
                timeout: Duration::from_millis(webhooks.timeout_ms),
            },
            give_up_ms: webhooks.give_up_ms,
            keep_ms: webhooks.keep_ms,
            keep_events: webhooks.keep_events,
            metrics,
        };
        let modes = config.apps.iter().map(|app| (app.appkey.clone(), app.mode.clone()));
        let apps = Arc::new(modes.collect());
        let keeps_history = config.history.keep_ms > 0;
        Service {
            shards,
            database,
            store,
            keeps_history,
            keys,
            endpoints,
            deliverer,
            pings: Slots::new(MAX_PINGS),
            revocations: revoked,
            apps,
        }
    }
}

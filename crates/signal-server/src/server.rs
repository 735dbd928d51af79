//! Puts the parts together: listeners, shards, relay; and takes them apart in order.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lianmai_media_plane::{Hub, RtmpServer};
use lianmai_signal_engine::{Engine, EngineConfig};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use tracing::{error, info, warn};

use crate::auth::Authenticator;
use crate::clock::Clock;
use crate::config::{AppMode, Config};
use crate::data_dir::{DataDir, DataDirError};
use crate::descriptors;
use crate::http::admin::{self, Admin};
use crate::http::guard::Guard;
use crate::http::public;
use crate::media::{self, RelayAuthorizer};
use crate::metrics::Metrics;
use crate::shard::{Shards, Worker, WorkerParts};
use crate::signing::{UrlBases, UrlSigner};
use crate::transport::accept::{self, HttpListener};
use crate::transport::lobby::LobbyServer;
use crate::transport::places::Places;
use crate::transport::tls::{TlsError, TlsReloader};

/// Facts of the relay that may wait for the shards.
const FACTS: usize = 1024;
/// Certificate files are looked at this often.
const TLS_CHECK: Duration = Duration::from_secs(10);

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be bound.
    #[error("cannot listen on {address} ({name}): {source}")]
    Bind {
        /// Which listener.
        name: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system: {0}")]
    Random(getrandom::Error),
}

/// Where a server listens: with port 0 configured, the free ports that it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// WebSocket and HTTP-FLV.
    pub public: SocketAddr,
    /// Admin API.
    pub admin: SocketAddr,
    /// RTMP.
    pub rtmp: SocketAddr,
}

/// A server whose listeners are bound and that serves nobody yet.
pub struct Server {
    config: Config,
    addresses: Addresses,
    public: TcpListener,
    admin: TcpListener,
    rtmp: TcpListener,
    data_dir: DataDir,
    tls: Option<Arc<TlsReloader>>,
    seeds: Vec<[u8; 32]>,
    admin_connections: usize,
}

impl Server {
    /// Opens the data directory and binds every listener.
    ///
    /// # Errors
    /// An address is taken, a file cannot be used, or the system has no randomness.
    pub async fn bind(mut config: Config) -> Result<Self, StartError> {
        let admin_connections = descriptors::fit(&mut config);
        let data_dir = DataDir::open(&config.data_dir)?;
        let tls = match &config.tls {
            Some(files) => Some(Arc::new(TlsReloader::load(files)?)),
            None => None,
        };
        let bind = async |name, address| {
            accept::bind(address).await.map_err(|source| StartError::Bind { name, address, source })
        };
        let (public, public_address) = bind("public", config.listen).await?;
        let (admin, admin_address) = bind("admin", config.admin_listen).await?;
        let (rtmp, rtmp_address) = bind("rtmp", config.rtmp_listen).await?;
        let shards = config.shards.unwrap_or_else(default_shards);
        let mut seeds = vec![[0; 32]; shards];
        for seed in &mut seeds {
            getrandom::fill(seed).map_err(StartError::Random)?;
        }
        let addresses =
            Addresses { public: public_address, admin: admin_address, rtmp: rtmp_address };
        Ok(Server {
            config,
            addresses,
            public,
            admin,
            rtmp,
            data_dir,
            tls,
            seeds,
            admin_connections,
        })
    }

    /// Where the server listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// File that holds the token of the admin API.
    #[must_use]
    pub fn admin_token_file(&self) -> PathBuf {
        self.data_dir.admin_token_path()
    }

    /// Token of the admin API. A secret.
    #[must_use]
    pub fn admin_token(&self) -> &str {
        self.data_dir.admin_token().expose()
    }

    /// Serves until `stop` completes, then stops: no new connections, every client is told to come back
    /// later, at most `stop_deadline_ms`. Returns whether all ended in time. A part of the server that fails
    /// is a stop as well, and `false`.
    pub async fn run(self, stop: impl Future<Output = ()>) -> bool {
        let Server {
            config,
            addresses,
            public,
            admin,
            rtmp,
            data_dir,
            tls,
            seeds,
            admin_connections,
        } = self;
        let clock = Clock::start();
        let metrics = Arc::new(Metrics::default());
        let authenticator = Arc::new(Authenticator::new(&config.apps));
        let bases = UrlBases::new(&config, addresses.public, addresses.rtmp);
        let signer = Arc::new(UrlSigner::new(data_dir.url_key(), bases, config.url_ttl_s));
        let (fact_sink, facts) = mpsc::channel(FACTS);
        let hub = Hub::with_facts(config.relay.clone(), fact_sink);

        let mut workers = JoinSet::new();
        let (shards, mailboxes) = Shards::new(seeds.len());
        let parts = WorkerParts {
            clock,
            hub: hub.clone(),
            signer: signer.clone(),
            authenticator: authenticator.clone(),
            metrics: metrics.clone(),
            max_lag_bytes: config.max_lag_bytes,
        };
        let engine_config = engine_config(&config, data_dir.deployment_id());
        for (index, (mailbox, seed)) in mailboxes.into_iter().zip(seeds).enumerate() {
            let engine = Engine::new(engine_config.clone(), seed);
            let own = shards.of(u32::try_from(index).unwrap_or(0));
            workers.spawn(Worker::new(engine, parts.clone(), mailbox, &own).run());
        }

        let (stop_sender, stopping) = watch::channel(false);
        let ready = Arc::new(AtomicBool::new(true));
        let authorizer = Arc::new(RelayAuthorizer::new(signer, shards.clone()));
        let lobby =
            LobbyServer::new(shards.clone(), authenticator, metrics.clone(), stopping.clone());
        let public_router =
            public::router(lobby, hub.clone(), authorizer.clone(), stopping.clone());
        let admin_router = admin::router(Admin {
            shards: shards.clone(),
            hub: hub.clone(),
            metrics,
            token: data_dir.admin_token().clone(),
            ready: ready.clone(),
        });
        let mut listeners = JoinSet::new();
        listeners.spawn(
            HttpListener {
                name: "public",
                listener: public,
                router: public_router,
                guard: Arc::new(Guard::public(&config, addresses.public)),
                tls: tls.clone(),
                places: Places::new(config.max_connections, config.max_connections_per_address),
            }
            .serve(stopping.clone()),
        );
        listeners.spawn(
            HttpListener {
                name: "admin",
                listener: admin,
                router: admin_router,
                guard: Arc::new(Guard::admin(&config)),
                tls: None,
                places: Places::new(admin_connections, usize::MAX),
            }
            .serve(stopping.clone()),
        );
        let mut stopping = stopping;
        listeners.spawn(async move {
            let stopped = accept::wait_for_stop(&mut stopping);
            RtmpServer::new(hub, authorizer).serve(rtmp, stopped).await;
        });
        let mut helpers = JoinSet::new();
        helpers.spawn(media::forward_facts(facts, shards.clone()));
        if let Some(tls) = tls {
            helpers.spawn(reload_tls(tls));
        }
        if config.apps.iter().any(|app| app.mode == AppMode::Debug)
            && !config.debug_allow_from.is_empty()
        {
            helpers.spawn(warn_of_debug());
        }
        info!(public = %addresses.public, admin = %addresses.admin, rtmp = %addresses.rtmp, "listening");

        let asked = tokio::select! {
            () = stop => true,
            () = failed("shard", &mut workers) => false,
            () = failed("listener", &mut listeners) => false,
            () = failed("helper", &mut helpers) => false,
        };
        info!("stopping");
        ready.store(false, Ordering::Relaxed);
        let _ = stop_sender.send(true);
        shards.stop().await;
        drop(shards);
        let ended = timeout(Duration::from_millis(config.stop_deadline_ms), async {
            drain(&mut workers).await;
            drain(&mut listeners).await;
        })
        .await
        .is_ok();
        helpers.shutdown().await;
        if !ended {
            warn!("stopped before everything had ended");
        }
        asked && ended
    }
}

/// One shard per core.
fn default_shards() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn engine_config(config: &Config, deployment_id: &str) -> EngineConfig {
    EngineConfig {
        limits: config.limits.clone(),
        timers: config.session,
        apps: config.apps.iter().map(|app| (app.appkey.clone(), app.policy.clone())).collect(),
        deployment_id: deployment_id.to_owned(),
        ..EngineConfig::default()
    }
}

/// Completes when one of the tasks ends while the server should run. That is a bug of ours, and what is left of
/// the server is better started anew than left standing.
async fn failed(part: &str, tasks: &mut JoinSet<()>) {
    match tasks.join_next().await {
        Some(Ok(())) => error!(part, "a part of the server has ended"),
        Some(Err(failure)) => error!(part, %failure, "a part of the server has failed"),
        None => std::future::pending().await,
    }
}

/// Waits for tasks; one that panicked is a bug, and says so.
async fn drain(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(failure) = ended
            && failure.is_panic()
        {
            error!(%failure, "a task panicked");
        }
    }
}

async fn reload_tls(tls: Arc<TlsReloader>) {
    let mut ticks = interval(TLS_CHECK);
    let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok();
    loop {
        match &mut hangup {
            Some(hangup) => {
                tokio::select! {
                    _ = ticks.tick() => {}
                    _ = hangup.recv() => {}
                }
            }
            None => {
                ticks.tick().await;
            }
        }
        match tls.reload_if_changed() {
            Ok(true) => info!("certificate reloaded"),
            Ok(false) => {}
            Err(error) => warn!(%error, "certificate not reloaded; the old one stays"),
        }
    }
}

/// Debug mode that leaves loopback is said aloud for as long as it lasts (contract rule C3).
async fn warn_of_debug() {
    let mut ticks = interval(Duration::from_secs(60));
    loop {
        ticks.tick().await;
        warn!("debug mode is open to debug.allow_from: anybody there can join as anybody");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_fails_is_noticed() {
        const MOMENT: Duration = Duration::from_millis(50);
        let mut none = JoinSet::new();
        assert!(timeout(MOMENT, failed("helper", &mut none)).await.is_err(), "nothing can fail");
        let mut tasks = JoinSet::new();
        tasks.spawn(std::future::pending());
        assert!(timeout(MOMENT, failed("shard", &mut tasks)).await.is_err(), "all is well");
        tasks.spawn(async { panic!("for the test") });
        assert!(timeout(MOMENT * 100, failed("shard", &mut tasks)).await.is_ok(), "a panic");
        tasks.spawn(async {});
        assert!(timeout(MOMENT * 100, failed("shard", &mut tasks)).await.is_ok(), "an end");
    }
}

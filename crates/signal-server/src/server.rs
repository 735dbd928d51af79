//! Assembles the parts: store, listeners, shards, relay; and stops them in order.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lianmai_media_plane::{Hub, RtmpServer};
use lianmai_signal_engine::{AppPolicy, Engine, EngineConfig, Restored};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{error, info, warn};

use crate::api::stored_state::StoredState;
use crate::api::{self, Api};
use crate::auth::Authenticator;
use crate::clock::{Clock, wall_now};
use crate::config::{AppConfig, AppMode, Config, MediaServer};
use crate::data_dir::{DataDir, DataDirError, DataDirProblem, DirLock};
use crate::executor::Executor;
use crate::listen::accept::{self, HttpListener};
use crate::listen::connect_limiter::ConnectLimiter;
use crate::listen::descriptors;
use crate::listen::guard::Guard;
use crate::listen::lobby::{LobbyParts, LobbyServer};
use crate::listen::proxies::Proxies;
use crate::listen::public;
use crate::media::{MediaProvider, Providers};
use crate::notes::Notes;
use crate::ops::drain::{self, Drained, Phase};
use crate::ops::metrics::{self, Metrics};
use crate::ops::note_log;
use crate::ops::peer_addresses::PeerAddresses;
use crate::ops::periodic;
use crate::records::{self, DatabaseError, HistoryRetention, OpenParams, Records, StoreError};
use crate::relay::authorizer::RelayAuthorizer;
use crate::relay::client_tls;
use crate::relay::forward::{self, Forwarder, Forwards};
use crate::relay::provider::EmbeddedRelay;
use crate::relay::stream_facts;
use crate::shard::{Shards, Worker, WorkerParts};
use crate::signing::{UrlBases, UrlSigner};
use crate::socket::connection_limit::ConnectionLimit;
use crate::socket::halves::WRITE_STALL;
use crate::socket::idle_connections::IdleConnections;
use crate::socket::tls::{TlsError, TlsReloader};
use crate::tasks::{self, LocalExecutor, MissingProgram, Programs};

/// Maximum number of facts of the relay that wait for the shards.
const FACT_QUEUE: usize = 1024;
/// Time for the last process on the data directory to end, and the interval of attempts.
const LOCK_WAIT: Duration = Duration::from_secs(1);
const LOCK_RETRY: Duration = Duration::from_millis(20);
/// Time for the rest of the server to end after a part of it failed.
const STOP_TIMEOUT_AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be bound.
    #[error("cannot listen on {address} ({name}): {source}")]
    Bind {
        /// The name of the listener.
        name: &'static str,
        /// Its address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The data of earlier processes cannot be read, or the store cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Push tasks must be served, but cannot.
    #[error(transparent)]
    Tasks(#[from] MissingProgram),
    /// The certificate or the authorities of a forward cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The stored state of the API cannot be read.
    #[error("keys, webhooks and revocations cannot be read from the store")]
    StoredState,
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system: {0}")]
    Random(getrandom::Error),
}

/// The addresses of the listeners. Port 0 of the configuration is replaced by the actual port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// WebSocket, HTTP-FLV, HLS and the page.
    pub public: SocketAddr,
    /// Admin API.
    pub admin: SocketAddr,
    /// RTMP.
    pub rtmp: SocketAddr,
    /// RTMPS, where it is configured.
    pub rtmps: Option<SocketAddr>,
}

impl Addresses {
    /// All addresses.
    fn all(&self) -> Vec<SocketAddr> {
        let Addresses { public, admin, rtmp, rtmps } = *self;
        [public, admin, rtmp].into_iter().chain(rtmps).collect()
    }
}

impl From<DatabaseError> for StartError {
    fn from(_: DatabaseError) -> Self {
        StartError::StoredState
    }
}

/// A server whose listeners are bound, but which serves no connection yet.
pub struct Server {
    config: Config,
    addresses: Addresses,
    public: TcpListener,
    admin: TcpListener,
    rtmp: TcpListener,
    rtmps: Option<TcpListener>,
    data_dir: DataDir,
    lock: Arc<DirLock>,
    store: Arc<dyn Records>,
    restored: Vec<Restored>,
    tls: Option<Arc<TlsReloader>>,
    plans: forward::Plans,
    programs: Option<Programs>,
    seeds: Vec<[u8; 32]>,
    admin_connections: usize,
    stored_state: StoredState,
}

impl Server {
    /// Opens the data directory, reads the state that the last process left, and binds all listeners.
    ///
    /// # Errors
    /// An address is taken, a file cannot be used, another server uses the directory, or the system has no
    /// randomness.
    pub async fn bind(mut config: Config) -> Result<Self, StartError> {
        for warning in &config.warnings {
            warn!(at = warning.path, "{}", warning.text);
        }
        let programs = tasks::find(&config.tasks)?;
        config.tasks.serve = Some(programs.is_some());
        let admin_connections = descriptors::fit(&mut config);
        let lock = Arc::new(take_lock(&config.data_dir).await?);
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
        let (rtmps, rtmps_address) = match config.rtmps_listen {
            Some(address) => {
                let (rtmps, address) = bind("rtmps", address).await?;
                (Some(rtmps), Some(address))
            }
            None => (None, None),
        };
        let own: Vec<SocketAddr> = [rtmp_address].into_iter().chain(rtmps_address).collect();
        let plans = forward::plans(&config, &own)?;
        let shards = config.shards.unwrap_or_else(default_shards);
        // After the listeners, so that a start that fails does not use up a hand-over.
        let params = OpenParams { now: wall_now(), grace_ms: config.session.grace_ms, shards };
        let (store, restored) = records::open(&config.data_dir, lock.clone(), params)?;
        let stored_state =
            StoredState::load(store.database(), client_tls::client_config(None)?).await?;
        let mut seeds = vec![[0; 32]; shards];
        for seed in &mut seeds {
            getrandom::fill(seed).map_err(StartError::Random)?;
        }
        let addresses = Addresses {
            public: public_address,
            admin: admin_address,
            rtmp: rtmp_address,
            rtmps: rtmps_address,
        };
        Ok(Server {
            config,
            addresses,
            public,
            admin,
            rtmp,
            rtmps,
            data_dir,
            lock,
            store,
            restored,
            tls,
            plans,
            programs,
            seeds,
            admin_connections,
            stored_state,
        })
    }

    /// The addresses of the listeners.
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

    /// Serves until `stop` completes, then drains: all members are moved to the next process on the same data
    /// directory, within `drain.deadline_ms`. Returns whether that process can continue from the state of this one. If
    /// a part of the server fails, it stops without a drain, and returns `false`.
    pub async fn run(self, stop: impl Future<Output = ()>) -> bool {
        self.run_until(stop, std::future::pending()).await
    }

    /// Like [`Server::run`]. `at_once` ends the drain, and the result is `false`.
    pub async fn run_until(
        self,
        stop: impl Future<Output = ()>,
        at_once: impl Future<Output = ()>,
    ) -> bool {
        let Server {
            config,
            addresses,
            public,
            admin,
            rtmp,
            rtmps,
            data_dir,
            // Held until the end, so that no other process starts before.
            lock: _lock,
            store,
            restored,
            tls,
            plans,
            programs,
            seeds,
            admin_connections,
            stored_state,
        } = self;
        let clock = Clock::start();
        let notes = Notes::new();
        let (metrics, questions) = Metrics::new();
        let mut readers = JoinSet::new();
        let reader = |name| notes.reader(name, metrics.missed_by(name));
        readers.spawn(metrics::count(metrics.clone(), reader("metrics"), questions));
        let authenticator = Arc::new(Authenticator::new(&config.apps));
        let revoked = authenticator.revocations().clone();
        let bases = UrlBases::new(&config, addresses.public, addresses.rtmp, addresses.rtmps);
        let signer = UrlSigner::new(data_dir.url_key(), bases, config.url_ttl_s);
        let (fact_sink, seen) = mpsc::channel(FACT_QUEUE);
        let hub = Hub::with_facts(config.relay.clone(), fact_sink);
        let peers = PeerAddresses::default();
        readers.spawn(note_log::log(reader("log"), hub.log_limiter().clone(), peers.clone()));
        let relay: Arc<dyn MediaProvider> = EmbeddedRelay::new(signer, hub.clone(), addresses.rtmp);
        let provider = |app: &AppConfig| match app.media {
            MediaServer::Relay => (app.appkey.clone(), relay.clone()),
        };

        let mut workers = JoinSet::new();
        let (shards, mailboxes) = Shards::new(seeds.len());
        let providers: Providers = config.apps.iter().map(provider).collect();
        let executor = programs.map(|programs| {
            let own = addresses.all();
            let (providers, lines) = (providers.clone(), hub.log_limiter().clone());
            tasks::executor(programs, &config, &own, providers, shards.clone(), lines)
        });
        let parts = WorkerParts {
            clock,
            providers,
            executor: executor.clone().map(|executor| executor as Arc<dyn Executor>),
            authenticator: authenticator.clone(),
            notes,
            store: store.clone(),
            max_lag_bytes: config.max_lag_bytes,
        };
        let mut engine_config = engine_config(&config, &data_dir, &parts.providers, seeds.len());
        engine_config.tasks = executor.as_ref().map(|_| config.tasks.policy);
        let starts = seeds.into_iter().zip(restored);
        for (index, (mailbox, (seed, restored))) in mailboxes.into_iter().zip(starts).enumerate() {
            let engine = Engine::new(engine_config.clone(), seed);
            let own = shards.of(u32::try_from(index).unwrap_or(0));
            let mut worker = Worker::new(engine, parts.clone(), mailbox, &own, &shards);
            worker.restore(restored);
            workers.spawn(worker.run());
        }
        // Drops a sender of notes: the readers end after the last one.
        drop(parts);

        let (phases, phase) = watch::channel(Phase::Serving);
        let authorizer = Arc::new(RelayAuthorizer::new(relay.clone(), shards.clone()));
        let connect_limiter =
            Arc::new(ConnectLimiter::new(config.connection_rate(), config.has_debug_app()));
        let lobby = LobbyServer::new(LobbyParts {
            shards: shards.clone(),
            authenticator,
            metrics: metrics.clone(),
            tickets: data_dir.ticket_key().clone(),
            peers,
            retry_after: Duration::from_millis(config.drain.retry_after_ms),
            phase: phase.clone(),
        });
        let public_router =
            public::router(&config, lobby, hub.clone(), authorizer.clone(), phase.clone());
        let forwards = Arc::new(Forwards::default());
        let own = addresses.all();
        let hooks = metrics.hooks.clone();
        let service =
            stored_state.service(&config, own, store.clone(), shards.clone(), revoked, hooks);
        let deliverer = service.deliverer.clone();
        let admin_router = api::router(Api {
            service,
            hub: hub.clone(),
            forwards: forwards.clone(),
            tasks: executor.clone(),
            metrics,
            token: data_dir.admin_token().clone(),
            store: store.clone(),
            phase: phase.clone(),
        });
        let mut listeners = JoinSet::new();
        listeners.spawn(
            HttpListener {
                name: "public",
                listener: public,
                router: public_router,
                guard: Arc::new(Guard::public(&config, addresses.public)),
                tls: tls.clone(),
                limit: ConnectionLimit::new(
                    config.max_connections,
                    config.max_connections_per_address,
                ),
                idle_connections: None,
                connect_limiter: Some(connect_limiter),
                proxies: Arc::new(Proxies::new(config.trusted_proxies.clone())),
                // The operator may have set a longer timeout for players.
                stall_timeout: WRITE_STALL.max(config.relay.write_timeout),
                lines: hub.log_limiter().clone(),
            }
            .serve(phase.clone()),
        );
        listeners.spawn(
            HttpListener {
                name: "admin",
                listener: admin,
                router: admin_router,
                guard: Arc::new(Guard::admin(&config)),
                tls: tls.clone().filter(|_| config.admin_tls),
                limit: ConnectionLimit::new(admin_connections, usize::MAX),
                idle_connections: Some(IdleConnections::default()),
                connect_limiter: None,
                proxies: Arc::default(),
                stall_timeout: WRITE_STALL,
                lines: hub.log_limiter().clone(),
            }
            .serve(phase.clone()),
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(deliverer.clone().run_pruning());
        tasks.spawn(deliverer.run(store.appended()));
        let keep = HistoryRetention { ms: config.history.keep_ms, rows: config.history.keep_rows };
        tasks.spawn(store.database().run_history_pruning(keep));
        tasks.spawn(crate::relay::media_stats::report(hub.clone(), shards.clone()));
        let live = (!plans.is_empty()).then(|| {
            let (live, seen) = mpsc::channel(FACT_QUEUE);
            let forwarder = Forwarder { hub: hub.clone(), shards: shards.clone(), plans, forwards };
            tasks.spawn(forwarder.run(seen));
            live
        });
        tasks.spawn(stream_facts::send_facts(seen, shards.clone(), live));
        let mut media = RtmpServer::new(hub, authorizer);
        if let (Some(listener), Some(tls)) = (rtmps, &tls) {
            media = media.with_tls(listener, tls.media_acceptor());
        }
        let mut phase = phase;
        listeners.spawn(async move {
            media.serve(rtmp, drain::wait_for_stop(&mut phase)).await;
        });
        if let Some(tls) = tls {
            tasks.spawn(periodic::reload_tls(tls));
        }
        if config.apps.iter().any(|app| app.mode == AppMode::Debug)
            && !config.debug_allow_from.is_empty()
        {
            tasks.spawn(periodic::warn_of_debug());
        }
        info!(
            public = %addresses.public,
            admin = %addresses.admin,
            rtmp = %addresses.rtmp,
            rtmps = addresses.rtmps.map(tracing::field::display),
            "listening"
        );

        let asked = tokio::select! {
            () = stop => true,
            () = wait_for_failure("shard", &mut workers) => false,
            () = wait_for_failure("reader", &mut readers) => false,
            () = wait_for_failure("listener", &mut listeners) => false,
            () = wait_for_failure("helper", &mut tasks) => false,
        };
        let Drained { handed_over, deadline } = if asked {
            drain::drain(&config.drain, &shards, &*store, &phases, at_once).await
        } else {
            phases.send_replace(Phase::Stopping);
            Drained { handed_over: false, deadline: Instant::now() + STOP_TIMEOUT_AFTER_FAILURE }
        };
        info!("stopping");
        let ended = async {
            shards.stop().await;
            drop(shards);
            end_runs(executor.as_deref()).await;
            join_all(&mut workers).await;
            join_all(&mut readers).await;
            join_all(&mut listeners).await;
            if !asked {
                // The writes of the other shards are included by now.
                store.close(None).await;
            }
        };
        if timeout_at(deadline, ended).await.is_err() {
            warn!("stopped before every connection had ended");
        }
        tasks.shutdown().await;
        handed_over
    }
}

/// No child process outlives this one.
async fn end_runs(executor: Option<&LocalExecutor>) {
    if let Some(executor) = executor {
        executor.shut_down().await;
    }
}

/// Takes the lock, and waits a short time for the last process to end.
async fn take_lock(data_dir: &Path) -> Result<DirLock, DataDirError> {
    let until = Instant::now() + LOCK_WAIT;
    loop {
        match DirLock::take(data_dir) {
            Err(DataDirError { problem: DataDirProblem::InUse, .. }) if Instant::now() < until => {
                sleep(LOCK_RETRY).await;
            }
            taken => return taken,
        }
    }
}

/// One shard per core.
fn default_shards() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn engine_config(
    config: &Config,
    data_dir: &DataDir,
    providers: &Providers,
    shards: usize,
) -> EngineConfig {
    let policy = |app: &AppConfig| {
        let media = providers.of(&app.appkey).map(MediaProvider::address).unwrap_or_default();
        (app.appkey.clone(), AppPolicy { media, ..app.policy.clone() })
    };
    let mut limits = config.limits.clone();
    // Names are spread evenly over the shards.
    limits.channels = limits.channels.div_ceil(shards.max(1));
    EngineConfig {
        limits,
        timers: config.session,
        apps: config.apps.iter().map(policy).collect(),
        deployment_id: data_dir.deployment_id().to_owned(),
        ticket_key: data_dir.ticket_key().clone(),
        restart_grace_ms: config.restart_grace_ms,
        log_bytes: config.log_bytes / shards.max(1),
        // The rest is for bytes that already wait.
        channel_burst_bytes: config.max_lag_bytes / 8 * 7,
        journal: config.webhooks.keep_ms > 0,
        history: config.history.keep_ms > 0,
        ..EngineConfig::default()
    }
}

/// Completes when one of the tasks ends while the server should run. That is a bug, and a restart is better than
/// running without this part.
async fn wait_for_failure(part: &str, tasks: &mut JoinSet<()>) {
    match tasks.join_next().await {
        Some(Ok(())) => error!(part, "a part of the server has ended"),
        Some(Err(failure)) => error!(part, %failure, "a part of the server has failed"),
        None => std::future::pending().await,
    }
}

/// Waits for tasks, and logs each panic, which is a bug.
async fn join_all(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(failure) = ended
            && failure.is_panic()
        {
            error!(%failure, "a task panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: a part of the server that fails is noticed.

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failed_component_is_noticed() {
        const MOMENT: Duration = Duration::from_millis(50);
        let mut none = JoinSet::new();
        assert!(
            timeout(MOMENT, wait_for_failure("helper", &mut none)).await.is_err(),
            "no component can fail"
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(std::future::pending());
        assert!(
            timeout(MOMENT, wait_for_failure("shard", &mut tasks)).await.is_err(),
            "no component has failed"
        );
        tasks.spawn(async { panic!("for the test") });
        assert!(timeout(MOMENT, wait_for_failure("shard", &mut tasks)).await.is_ok(), "a panic");
        tasks.spawn(async {});
        assert!(timeout(MOMENT, wait_for_failure("shard", &mut tasks)).await.is_ok(), "an end");
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod http_tests;

//! Sends published streams to other servers, too. Comes in: streams that have a publisher, and the forwards of each
//! app. Goes out: one [`upstream::forward`] for each, log lines, and their states for operators. Deliberately absent:
//! clients; none of them can ask for a forward or see one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lianmai_media_plane::upstream::{
    self, ForwardPhase, ForwardState, UpstreamOptions, UpstreamUrl,
};
use lianmai_media_plane::{Hub, LogLimiter};
use lianmai_protocol::{Appkey, Gen, UserId};
use lianmai_shares::{Rate, RateLimiter};
use lianmai_signal_engine::{ChannelKey, Publication, PushKind};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use super::client_tls::client_config;
use super::provider::stream_name;
use crate::config::{Config, ForwardConfig, ForwardTemplate};
use crate::shard::Shards;
use crate::socket::tls::TlsError;

/// The forwards of each app.
pub(crate) type Plans = HashMap<Appkey, Vec<Plan>>;

/// A forward to one other server.
pub(crate) struct Plan {
    template: ForwardTemplate,
    options: Arc<UpstreamOptions>,
}

/// Prepares the forwards of a configuration. `own` are the RTMP listeners of this process.
///
/// # Errors
/// The file of certificate authorities cannot be used.
pub(crate) fn plans(config: &Config, own: &[SocketAddr]) -> Result<Plans, TlsError> {
    let mut plans = Plans::new();
    for app in config.apps.iter().filter(|app| !app.forwards.is_empty()) {
        let plan = |forward: &ForwardConfig| -> Result<Plan, TlsError> {
            let mut options = UpstreamOptions::new(client_config(forward.ca.as_deref())?);
            options.own = own.to_vec();
            Ok(Plan { template: forward.template.clone(), options: Arc::new(options) })
        };
        let all = app.forwards.iter().map(plan).collect::<Result<_, TlsError>>()?;
        plans.insert(app.appkey.clone(), all);
    }
    Ok(plans)
}

/// A forward as operators see it.
pub(crate) struct ForwardView {
    pub(crate) uid: UserId,
    pub(crate) kind: PushKind,
    /// Without stream name and query.
    pub(crate) url: String,
    pub(crate) state: &'static str,
    pub(crate) state_ms: u64,
    pub(crate) failures: u64,
    /// Code and text.
    pub(crate) last_error: Option<(&'static str, String)>,
}

/// Counters of all forwards: the number in each state, and failures since the start by code.
#[derive(Clone, Debug, Default)]
pub(crate) struct ForwardStats {
    pub(crate) connecting: usize,
    pub(crate) publishing: usize,
    pub(crate) waiting: usize,
    pub(crate) failures: BTreeMap<&'static str, u64>,
}

/// The forwards of this process.
#[derive(Default)]
pub(crate) struct Forwards(Mutex<Registry>);

/// How often one [`StartKey`] may begin a forward. Without this limit, a member that publishes and unpublishes all the
/// time would cause as many connections to the upstream. A refused forward begins with the next report of its stream.
const START_RATE: Rate = Rate { interval: Duration::from_secs(5), burst: 4 };
/// Maximum number of remembered rates.
const MAX_MEMBERS: usize = 50_000;

/// A stream, and the index of a forward in its app.
type ForwardKey = (Gen, usize);

#[derive(Default)]
struct Registry {
    running: HashMap<ForwardKey, RunningForward>,
    failures: BTreeMap<&'static str, u64>,
}

#[derive(Clone)]
struct RunningForward {
    publication: Publication,
    url: UpstreamUrl,
    state: watch::Receiver<ForwardState>,
}

impl Forwards {
    /// The forwards of a channel, by uid and kind.
    pub(crate) fn of(&self, channel: &ChannelKey) -> Vec<ForwardView> {
        let registry = self.lock();
        let mut running: Vec<_> = registry
            .running
            .iter()
            .filter(|(_, running)| running.publication.channel == *channel)
            .collect();
        running.sort_by_key(|((_, index), running)| {
            (running.publication.uid, running.publication.kind, *index)
        });
        running.into_iter().map(|(_, running)| running.view()).collect()
    }

    /// The counters.
    pub(crate) fn stats(&self) -> ForwardStats {
        let registry = self.lock();
        let mut stats =
            ForwardStats { failures: registry.failures.clone(), ..ForwardStats::default() };
        for running in registry.running.values() {
            match running.state.borrow().phase {
                ForwardPhase::Connecting => stats.connecting += 1,
                ForwardPhase::Publishing => stats.publishing += 1,
                ForwardPhase::Waiting => stats.waiting += 1,
            }
        }
        stats
    }

    fn failed(&self, code: &'static str) {
        *self.lock().failures.entry(code).or_default() += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunningForward {
    fn view(&self) -> ForwardView {
        let ForwardState { phase, since, failures, last_error } = self.state.borrow().clone();
        ForwardView {
            uid: self.publication.uid,
            kind: self.publication.kind,
            url: self.url.to_string(),
            state: match phase {
                ForwardPhase::Connecting => "connecting",
                ForwardPhase::Publishing => "publishing",
                ForwardPhase::Waiting => "waiting",
            },
            state_ms: u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
            failures,
            last_error: last_error.map(|error| (error.code(), error.to_string())),
        }
    }
}

/// Begins forwards.
pub(crate) struct Forwarder {
    pub(crate) hub: Hub,
    pub(crate) shards: Shards,
    pub(crate) plans: Plans,
    pub(crate) forwards: Arc<Forwards>,
}

impl Forwarder {
    /// Forwards each stream from `live` until its publish ends; a repeated report has no effect. Returns when `live`
    /// ends, and ends all forwards.
    pub(crate) async fn run(self, mut live: mpsc::Receiver<Gen>) {
        let begin = Instant::now();
        let mut start_rates = RateLimiter::new(START_RATE, MAX_MEMBERS);
        let mut tasks = JoinSet::new();
        // By the id of the task, which is known even if the task panics.
        let mut keys = HashMap::new();
        loop {
            tokio::select! {
                generation = live.recv() => match generation {
                    Some(generation) => {
                        let mut try_begin = |key: &StartKey| start_rates.take(key, begin.elapsed()).is_ok();
                        self.begin(generation, &mut tasks, &mut keys, &mut try_begin).await;
                    }
                    None => return,
                },
                Some(ended) = tasks.join_next_with_id() => {
                    let id = match ended {
                        Ok((id, ())) => id,
                        Err(failure) => {
                            error!(%failure, "a forward has failed");
                            failure.id()
                        }
                    };
                    if let Some(key) = keys.remove(&id) {
                        self.forwards.lock().running.remove(&key);
                    }
                }
            }
        }
    }

    /// Begins the forwards of a stream that do not run yet.
    async fn begin(
        &self,
        generation: Gen,
        tasks: &mut JoinSet<()>,
        keys: &mut HashMap<tokio::task::Id, ForwardKey>,
        try_begin: &mut (dyn FnMut(&StartKey) -> bool + Send),
    ) {
        let Some(publication) = self.shards.publication(generation).await else { return };
        let Some(plans) = self.plans.get(&publication.channel.appkey) else { return };
        let Publication { channel, uid, kind } = &publication;
        let running: HashSet<usize> = {
            let registry = self.forwards.lock();
            let indices = 0..plans.len();
            indices.filter(|index| registry.running.contains_key(&(generation, *index))).collect()
        };
        for (index, plan) in plans.iter().enumerate() {
            // Two streams with one URL would replace each other.
            let has_address = *kind == PushKind::Av || plan.template.has_kind();
            if running.contains(&index) || !has_address {
                continue;
            }
            let url = plan.template.url(channel.name.as_str(), &uid.to_string(), kind.as_str());
            let url = match url {
                Ok(url) => url,
                Err(error) => {
                    warn!(%generation, %error, "a forward has no URL");
                    continue;
                }
            };
            let Some(player) = self.hub.tap(&stream_name(generation)) else { return };
            if !try_begin(&(channel.clone(), *uid, *kind, index)) {
                continue;
            }
            // Log lines about the forward count for the publisher.
            let peer = player.publisher().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            let log = Log { lines: self.hub.log_limiter().clone(), peer };
            let (state_sender, state) = watch::channel(ForwardState::default());
            let entry = RunningForward {
                publication: publication.clone(),
                url: url.clone(),
                state: state.clone(),
            };
            self.forwards.lock().running.insert((generation, index), entry);
            let (options, forwards) = (plan.options.clone(), self.forwards.clone());
            let task = tasks.spawn(async move {
                let reason = tokio::select! {
                    reason = upstream::forward(player, &url, &options, &state_sender) => reason,
                    () = watch_state(generation, &url, state, &forwards, &log) => return,
                };
                if log.allow() {
                    info!(stream = %generation, %url, ?reason, "forward ended");
                }
            });
            keys.insert(task.id(), (generation, index));
        }
    }
}

/// The key of the rate limit: a member, a kind and a forward.
type StartKey = (ChannelKey, UserId, PushKind, usize);

/// Log lines about a forward, within the limit of its publisher.
struct Log {
    lines: LogLimiter,
    peer: IpAddr,
}

impl Log {
    fn allow(&self) -> bool {
        self.lines.allow(self.peer)
    }
}

/// Logs and counts the changes of a forward's state.
async fn watch_state(
    generation: Gen,
    url: &UpstreamUrl,
    mut state: watch::Receiver<ForwardState>,
    forwards: &Forwards,
    log: &Log,
) {
    let mut reported = 0;
    while state.changed().await.is_ok() {
        let ForwardState { phase, failures, last_error, .. } = state.borrow_and_update().clone();
        if let Some(error) = last_error.filter(|_| failures > reported) {
            reported = failures;
            let code = error.code();
            forwards.failed(code);
            if log.allow() {
                warn!(stream = %generation, %url, code, %error, failures, "forward failed");
            }
        }
        if phase == ForwardPhase::Publishing && log.allow() {
            info!(stream = %generation, %url, "forward publishes");
        }
    }
}

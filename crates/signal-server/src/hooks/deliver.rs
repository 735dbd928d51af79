//! The loop of deliveries, and beside it the loop that removes old events, for which no delivery waits. Comes in:
//! commits of events, changes of endpoints, results of attempts. Goes out: attempts, and the progress of each endpoint
//! in the file. After a crash, the next process repeats each delivery whose success was not stored. Deliberately
//! absent: the order of deliveries (`queue`), and the form of requests (`post`).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use lianmai_protocol::ChannelName;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tracing::{info, warn};

use super::body::EventDto;
use super::endpoint::{Endpoint, Endpoints};
use super::post::{Delivery, PostError, Poster};
use super::queue::{LaneKey, Outcome, Queue, Refusals};
use crate::clock::wall_now;
use crate::records::{
    Database, DatabaseError, DeliveryKey, EventContent, EventRetention, Settled, StoredEvent,
    pause_after_step,
};

/// Interval of pruning.
const PRUNE_INTERVAL: Duration = Duration::from_secs(30);
/// Progress in channels that are gone is removed in one of so many rounds of pruning: once an hour.
const ROUNDS_OF_DELIVERIES: u32 = 120;
/// Time until reads that have failed are repeated.
const REPEAT_INTERVAL: Duration = Duration::from_secs(30);
/// Maximum number of unwanted events that one attempt skips.
const MAX_SKIPS: usize = 256;
/// Minimum number of attempts in a row that fail before an event is given up, however old it is: about a minute. So what
/// gathered while the receiver or the server was away is not given up in the moment of the return.
const MIN_ATTEMPTS: u32 = 8;
/// Minimum time between two log lines about one endpoint.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// Metrics of deliveries.
#[derive(Clone, Debug, Default)]
pub(crate) struct HookMetrics {
    /// Requests that were accepted.
    pub(crate) accepted: Counter,
    /// Requests that were not accepted.
    pub(crate) refused: Counter,
    /// Events that were given up for an endpoint.
    pub(crate) dead: Counter,
    /// Events that were removed because they were too old or too many.
    pub(crate) pruned: Counter,
    /// Endpoints and channels that have something to deliver.
    pub(crate) lanes: Gauge,
}

/// Carries out deliveries.
#[derive(Clone)]
pub(crate) struct Deliverer {
    pub(crate) database: Database,
    pub(crate) endpoints: Endpoints,
    pub(crate) poster: Poster,
    /// Age in milliseconds at which an event that was tried is given up.
    pub(crate) give_up_ms: u64,
    /// Retention of events in milliseconds.
    pub(crate) keep_ms: u64,
    /// Maximum number of stored events.
    pub(crate) keep_events: u64,
    pub(crate) metrics: HookMetrics,
}

/// The end of an attempt.
#[derive(Debug)]
struct Attempted {
    outcome: Outcome,
    /// Why the endpoint did not accept the event.
    refusal: Option<PostError>,
}

/// What is sent to an endpoint.
struct Payload {
    event: EventDto,
    /// The number up to which the endpoint has received everything then.
    seq: u64,
    /// The position of the event.
    pos: u64,
}

/// The last log line about each endpoint: that it refuses, or that an event was given up.
#[derive(Default)]
struct Complaints(BTreeMap<(String, bool), Instant>);

impl Complaints {
    /// Whether there may be a line now.
    fn may_log(&mut self, endpoint: &str, given_up: bool) -> bool {
        self.0.retain(|_, at| at.elapsed() < COMPLAINT_INTERVAL);
        let key = (endpoint.to_owned(), given_up);
        let first = !self.0.contains_key(&key);
        if first {
            self.0.insert(key, Instant::now());
        }
        first
    }
}

impl Deliverer {
    /// Delivers until it is dropped. `appended` changes with each commit of events.
    pub(crate) async fn run(self, appended: watch::Receiver<u64>) {
        self.deliver(appended).await;
        // The store is closed: the next process delivers the rest.
        std::future::pending().await
    }

    async fn deliver(self, mut appended: watch::Receiver<u64>) {
        let origin = Instant::now();
        let now_ms = || u64::try_from(origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut changes = self.endpoints.changes();
        let mut queue = Queue::default();
        let mut attempts: JoinSet<(LaneKey, Attempted)> = JoinSet::new();
        let mut complaints = Complaints::default();
        let mut repeat = interval(REPEAT_INTERVAL);
        repeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Events after this position are found by position, earlier ones by endpoint.
        let Some(mut reached) = until_read(|| self.database.last_pos()).await else { return };
        let mut known = BTreeMap::new();
        if self.sync_endpoints(&mut queue, &mut known).await.is_err() {
            return;
        }
        loop {
            while let Some((key, refusals)) = queue.next(now_ms()) {
                let deliverer = self.clone();
                attempts.spawn(async move {
                    let attempted = deliverer.attempt(&key, refusals).await;
                    (key, attempted)
                });
            }
            self.metrics.lanes.set(i64::try_from(queue.lanes()).unwrap_or(i64::MAX));
            let deadline = queue.deadline().map(|at| origin + Duration::from_millis(at));
            let due = async {
                match deadline {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = appended.changed() => {
                    if changed.is_err() || self.enqueue_new_events(&mut queue, &mut reached).await.is_err() {
                        return;
                    }
                }
                _ = changes.changed() => {
                    if self.sync_endpoints(&mut queue, &mut known).await.is_err() {
                        return;
                    }
                }
                Some(ended) = attempts.join_next() => {
                    // A panic is a bug; the lane stays as it is.
                    if let Ok((key, Attempted { outcome, refusal })) = ended {
                        queue.finish(&key, outcome, now_ms());
                        if let Some(refusal) = refusal {
                            self.complain(&mut complaints, &key, outcome, refusal);
                        }
                    }
                }
                () = due => {}
                _ = repeat.tick() => {
                    if self.enqueue_new_events(&mut queue, &mut reached).await.is_err()
                        || self.sync_endpoints(&mut queue, &mut known).await.is_err()
                    {
                        return;
                    }
                }
            }
        }
    }

    /// Finds the channels with new events, and queues them for their endpoints.
    async fn enqueue_new_events(
        &self,
        queue: &mut Queue,
        reached: &mut u64,
    ) -> Result<(), DatabaseError> {
        loop {
            let (channels, last) = match self.database.channels_after(*reached).await {
                Err(DatabaseError::Failed) => return Ok(()),
                found => found?,
            };
            if last == *reached {
                return Ok(());
            }
            *reached = last;
            let endpoints = self.endpoints.enabled();
            for (appkey, channel) in channels {
                for (endpoint, _) in endpoints.iter().filter(|(it, _)| it.appkey.as_str() == appkey)
                {
                    let key = LaneKey { endpoint: endpoint.id.clone(), channel: channel.clone() };
                    queue.enqueue(key);
                }
            }
        }
    }

    /// Queues the missed events of endpoints that are new, enabled again or at another URL, and removes endpoints that
    /// are gone. `known` has their numbers: an endpoint may have been disabled and enabled again since the last call.
    async fn sync_endpoints(
        &self,
        queue: &mut Queue,
        known: &mut BTreeMap<String, u64>,
    ) -> Result<(), DatabaseError> {
        let enabled = self.endpoints.enabled();
        let numbers: BTreeMap<&str, u64> =
            enabled.iter().map(|(endpoint, number)| (endpoint.id.as_str(), *number)).collect();
        known.retain(|id, number| {
            let stays = numbers.get(id.as_str()) == Some(number);
            if !stays {
                queue.forget(id);
            }
            stays
        });
        for (endpoint, number) in &enabled {
            if known.contains_key(&endpoint.id) {
                continue;
            }
            let Endpoint { id, appkey, since, .. } = endpoint;
            let behind = match self.database.behind(id, appkey, *since).await {
                Err(DatabaseError::Failed) => continue,
                found => found?,
            };
            for channel in behind {
                queue.enqueue(LaneKey { endpoint: id.clone(), channel });
            }
            known.insert(id.clone(), *number);
        }
        Ok(())
    }

    /// Logs a refusal, unless there was such a line about the endpoint recently.
    fn complain(
        &self,
        complaints: &mut Complaints,
        key: &LaneKey,
        outcome: Outcome,
        refusal: PostError,
    ) {
        let (id, given_up) = (&key.endpoint, outcome != Outcome::Refused);
        let Some(Endpoint { appkey, .. }) = self.endpoints.by_id(id) else { return };
        if !complaints.may_log(id, given_up) {
            return;
        }
        if given_up {
            warn!(%appkey, endpoint = id, %refusal, "a webhook is given up");
        } else {
            info!(%appkey, endpoint = id, %refusal, "a webhook is not taken; it is tried again");
        }
    }

    async fn attempt(&self, key: &LaneKey, refusals: Refusals) -> Attempted {
        // While the file cannot be used, the result is unknown, so the attempt is repeated.
        let refused = Attempted { outcome: Outcome::Refused, refusal: None };
        self.try_attempt(key, refusals).await.unwrap_or(refused)
    }

    async fn try_attempt(
        &self,
        key: &LaneKey,
        refusals: Refusals,
    ) -> Result<Attempted, DatabaseError> {
        let mut outcome = Outcome::Advanced { accepted: false };
        // The number of the last event that was skipped. It is stored at the end, or with a later event.
        let mut skipped = None;
        for _ in 0..MAX_SKIPS {
            let Some(endpoint) = self.endpoints.by_id(&key.endpoint).filter(|it| it.enabled) else {
                outcome = Outcome::Empty;
                break;
            };
            let Endpoint { id, appkey, since, .. } = &endpoint;
            let next = self.database.next_event(id, appkey, &key.channel, *since, skipped).await?;
            let Some((stored, last_seq)) = next else {
                outcome = Outcome::Empty;
                break;
            };
            match next_payload(&endpoint, &stored, last_seq) {
                Some((event, seq)) if endpoint.wants(&event.kind) => {
                    let payload = Payload { event, seq, pos: stored.pos };
                    return self.deliver_event(key, &endpoint, payload, refusals).await;
                }
                Some((_, seq)) => skipped = Some(seq),
                None => {
                    warn!(pos = stored.pos, "a stored event cannot be read");
                    skipped = Some(stored.seq);
                }
            }
        }
        if let Some(seq) = skipped {
            outcome = self.settle(key, seq, None, outcome).await?;
        }
        Ok(Attempted { outcome, refusal: None })
    }

    /// Delivers an event, and stores the result.
    async fn deliver_event(
        &self,
        key: &LaneKey,
        endpoint: &Endpoint,
        payload: Payload,
        refusals: Refusals,
    ) -> Result<Attempted, DatabaseError> {
        let Payload { event, seq, pos } = payload;
        let Err(refusal) = self.post(endpoint, &event).await else {
            self.metrics.accepted.inc();
            let accepted = Outcome::Advanced { accepted: true };
            let outcome = self.settle(key, seq, None, accepted).await?;
            return Ok(Attempted { outcome, refusal: None });
        };
        self.metrics.refused.inc();
        let now = wall_now().0;
        let outcome = if now.saturating_sub(event.at) <= self.give_up_ms
            || refusals.in_a_row + 1 < MIN_ATTEMPTS
        {
            Outcome::Refused
        } else {
            self.metrics.dead.inc();
            // Nobody can handle a gap later, so it is no dead letter.
            let attempts = refusals.of_event.saturating_add(1);
            let dead = (event.kind != "lost").then(|| (pos, attempts, refusal.to_string(), now));
            self.settle(key, seq, dead, Outcome::Advanced { accepted: false }).await?
        };
        Ok(Attempted { outcome, refusal: Some(refusal) })
    }

    async fn post(&self, endpoint: &Endpoint, event: &EventDto) -> Result<(), PostError> {
        let body = serde_json::to_vec(event).expect("an event has string keys only");
        let now = wall_now();
        let delivery = Delivery {
            appkey: &endpoint.appkey,
            url: &endpoint.url,
            secrets: &endpoint.signing(now),
            id: &event.id,
            at_s: now.unix_seconds(),
            body: Bytes::from(body),
        };
        self.poster.post(delivery).await
    }

    /// Sends a ping, which belongs to no channel: it tests whether an endpoint accepts deliveries.
    pub(crate) async fn ping(&self, endpoint: &Endpoint) -> Result<(), PostError> {
        let now = wall_now();
        let id = format!("ping_{}_{}", endpoint.id, now.0);
        let body = serde_json::json!({
            "id": id, "type": "ping", "at": now.0, "appkey": endpoint.appkey, "data": {},
        });
        let delivery = Delivery {
            appkey: &endpoint.appkey,
            url: &endpoint.url,
            secrets: &endpoint.signing(now),
            id: &id,
            at_s: now.unix_seconds(),
            body: Bytes::from(body.to_string()),
        };
        self.poster.post(delivery).await
    }

    /// Stores the progress of a lane. Returns `outcome`, or that there is nothing to deliver if the endpoint was removed:
    /// without progress the same event would be next for ever.
    async fn settle(
        &self,
        key: &LaneKey,
        seq: u64,
        dead: Option<(u64, u32, String, u64)>,
        outcome: Outcome,
    ) -> Result<Outcome, DatabaseError> {
        let (endpoint, channel) = (key.endpoint.clone(), key.channel.clone());
        let exists = self.database.settle(vec![Settled { endpoint, channel, seq, dead }]).await?;
        Ok(if exists { outcome } else { Outcome::Empty })
    }

    /// Removes events that are too old or too many, until it is dropped.
    pub(crate) async fn run_pruning(self) {
        let mut ticks = interval(PRUNE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for round in (0..ROUNDS_OF_DELIVERIES).cycle() {
            ticks.tick().await;
            let mut pruned = self.prune_events().await;
            if round == 0 {
                pruned = pruned.and(self.prune_deliveries().await);
            }
            // After another failure the next round goes on.
            if pruned == Err(DatabaseError::Closed) {
                break;
            }
        }
        // The next process removes the rest.
        std::future::pending().await
    }

    async fn prune_events(&self) -> Result<(), DatabaseError> {
        loop {
            let (begin, now) = (Instant::now(), wall_now().0);
            let since = now.saturating_sub(self.keep_ms);
            let keep = EventRetention { now, since, events: self.keep_events };
            let (gone, all) = self.database.prune(keep).await?;
            self.metrics.pruned.inc_by(gone);
            if all {
                return Ok(());
            }
            pause_after_step(begin).await;
        }
    }

    async fn prune_deliveries(&self) -> Result<(), DatabaseError> {
        let mut after = DeliveryKey::default();
        loop {
            let begin = Instant::now();
            match self.database.prune_deliveries(after).await? {
                Some(last) => after = last,
                None => return Ok(()),
            }
            pause_after_step(begin).await;
        }
    }
}

/// Reads until that succeeds; `None` if the store is closed.
async fn until_read<T, F>(read: impl Fn() -> F) -> Option<T>
where
    F: Future<Output = Result<T, DatabaseError>>,
{
    loop {
        match read().await {
            Ok(value) => return Some(value),
            Err(DatabaseError::Closed) => return None,
            Err(DatabaseError::Failed) => sleep(REPEAT_INTERVAL).await,
        }
    }
}

/// What to send to an endpoint now, and the number up to which it has received everything then: the event, or the gap
/// before it.
fn next_payload(
    endpoint: &Endpoint,
    stored: &StoredEvent,
    last_seq: Option<u64>,
) -> Option<(EventDto, u64)> {
    let event = EventDto::of(&endpoint.appkey, stored)?;
    let from =
        last_seq.map(|last_seq| last_seq + 1).filter(|from| *from < stored.seq && !event.first);
    // The record of a gap already holds its first number.
    let from =
        from.filter(|_| matches!(stored.content, EventContent::Record(_)) && event.kind != "lost");
    match from {
        Some(from) => {
            let name: ChannelName = stored.channel.parse().ok()?;
            let to = stored.seq - 1;
            Some((EventDto::lost(&endpoint.appkey, name, from, to, event.at), to))
        }
        None => Some((event, stored.seq)),
    }
}

#[cfg(test)]
#[path = "deliver_tests.rs"]
mod tests;

//! Metrics for Prometheus. Gauges are read on request; counters count the notes of the engines. Labels come from closed
//! tables only: no channel and no uid, because clients can create any number of them.

use std::sync::Arc;

use lianmai_media_plane::HubStats;
use lianmai_protocol::CloseCode;
use lianmai_signal_engine::{Note, Stats};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot};

use super::drain::Phase;
use crate::hooks::HookMetrics;
use crate::notes::NoteReader;
use crate::records::StoreStats;
use crate::relay::forward::ForwardStats;
use crate::tasks::TaskStats;

type Label = [(&'static str, String); 1];
type Labels = [(&'static str, String); 2];

/// The values that are read on request.
pub(crate) struct MetricValues {
    pub(crate) engine: Stats,
    pub(crate) hub: HubStats,
    pub(crate) forwards: ForwardStats,
    /// `None` without push tasks.
    pub(crate) tasks: Option<TaskStats>,
    pub(crate) store: StoreStats,
    pub(crate) phase: Phase,
}

/// The counters.
#[derive(Debug)]
pub(crate) struct Metrics {
    flush_requests: mpsc::Sender<oneshot::Sender<()>>,
    missed: Family<Label, Counter>,
    joins: Counter,
    leaves: Family<Label, Counter>,
    refusals: Family<Label, Counter>,
    closes: Family<Label, Counter>,
    resumes: Family<Labels, Counter>,
    /// Counters of webhooks.
    pub(crate) hooks: HookMetrics,
}

/// Requests to answer when all earlier notes are counted.
pub(crate) type FlushRequests = mpsc::Receiver<oneshot::Sender<()>>;

/// Maximum number of waiting requests. Further callers wait.
const MAX_FLUSH_REQUESTS: usize = 4;

impl Metrics {
    /// The metrics, and the requests that [`count`] answers.
    pub(crate) fn new() -> (Arc<Self>, FlushRequests) {
        let (flush_requests, asked) = mpsc::channel(MAX_FLUSH_REQUESTS);
        let metrics = Metrics {
            flush_requests,
            missed: Family::default(),
            joins: Counter::default(),
            leaves: Family::default(),
            refusals: Family::default(),
            closes: Family::default(),
            resumes: Family::default(),
            hooks: HookMetrics::default(),
        };
        (Arc::new(metrics), asked)
    }

    /// The counter of the notes that a reader misses.
    pub(crate) fn missed_by(&self, reader: &str) -> Counter {
        self.missed.get_or_create(&[("reader", reader.to_owned())]).clone()
    }

    /// Completes when all earlier notes are counted.
    pub(crate) async fn wait_until_counted(&self) {
        let (answer, counted) = oneshot::channel();
        // An error: counting has ended.
        let _ = self.flush_requests.send(answer).await;
        let _ = counted.await;
    }

    fn count_note(&self, note: &Note) {
        match note {
            Note::MemberJoined { .. } => {
                self.joins.inc();
            }
            Note::MemberLeft { reason, .. } => {
                self.leaves.get_or_create(&[("reason", reason.to_string())]).inc();
            }
            Note::JoinRefused { error, .. } | Note::CommandRefused { error, .. } => {
                self.refusals.get_or_create(&[("error", error.to_string())]).inc();
            }
            Note::Resumed { outcome, reason, .. } => {
                let reason = reason.as_ref().map(ToString::to_string).unwrap_or_default();
                let labels = [("outcome", outcome.to_string()), ("reason", reason)];
                self.resumes.get_or_create(&labels).inc();
            }
            Note::Closing { code, .. } => self.closed(*code),
            Note::ChannelOpened { .. }
            | Note::ChannelEnded { .. }
            | Note::RoleChanged { .. }
            | Note::StreamAdded { .. }
            | Note::StreamRemoved { .. }
            | Note::TaskAdded { .. }
            | Note::TaskChanged { .. }
            | Note::TaskEnded { .. } => {}
        }
    }

    pub(crate) fn lobby_closed(&self, code: CloseCode) {
        self.closed(code);
    }

    fn closed(&self, code: CloseCode) {
        let reason = code.row().map_or("unknown", |row| row.name).to_owned();
        self.closes.get_or_create(&[("reason", reason)]).inc();
    }

    /// Registers the counters. The pattern names each field, so that the compiler reports a new one.
    fn register(&self, registry: &mut Registry) {
        let Metrics { flush_requests: _, missed, joins, leaves, refusals, closes, resumes, hooks } =
            self;
        let help = "Notes of the engines that a reader was too slow for, by reader";
        registry.register("missed_notes", help, missed.clone());
        registry.register("joins", "Memberships that began", joins.clone());
        registry.register("leaves", "Memberships that ended, by reason", leaves.clone());
        registry.register("refusals", "Joins and commands refused, by error", refusals.clone());
        registry.register("closes", "Connections closed by the server, by reason", closes.clone());
        let help = "Sessions that came back or were refused, by outcome and reason";
        registry.register("resumes", help, resumes.clone());
        let HookMetrics { accepted, refused, dead, pruned, lanes } = hooks;
        registry.register("webhooks_taken", "Deliveries that were taken", accepted.clone());
        registry.register("webhooks_refused", "Deliveries that were not", refused.clone());
        let help = "Events that were given up for an endpoint";
        registry.register("webhooks_dead", help, dead.clone());
        let help = "Endpoints and channels that have something to deliver";
        registry.register("webhooks_waiting", help, lanes.clone());
        let help = "Events that went because they were too old or too many";
        registry.register("events_pruned", help, pruned.clone());
    }

    /// All metrics in the text format of OpenMetrics.
    pub(crate) fn text(&self, values: MetricValues) -> String {
        let MetricValues { engine, hub, forwards, tasks, store, phase } = values;
        let mut registry = Registry::with_prefix("lianmai");
        self.register(&mut registry);
        engine_metrics(&mut registry, engine);
        relay_metrics(&mut registry, hub);
        forward_metrics(&mut registry, forwards);
        if let Some(tasks) = tasks {
            task_metrics(&mut registry, tasks);
        }
        store_metrics(&mut registry, store);
        gauge(
            &mut registry,
            "drain_phase",
            "0 serves, 1 moves members away, 2 is frozen, 3 stops",
            phase as u64,
        );
        let mut text = String::new();
        encode(&mut text, &registry).expect("writing to a String cannot fail");
        text
    }
}

fn engine_metrics(registry: &mut Registry, engine: Stats) {
    let Stats {
        channels,
        members,
        connected,
        streams,
        waiting_plays,
        log_bytes,
        message_bytes,
        events,
        frames,
        commands,
        refusals,
    } = engine;
    gauge(registry, "channels", "Channels", channels as u64);
    gauge(registry, "members", "Memberships, those in grace included", members as u64);
    gauge(registry, "connected_members", "Memberships with a socket", connected as u64);
    gauge(registry, "push_urls", "Live push URLs", streams as u64);
    let help = "Plays that wait for their viewer to come back after a crash";
    gauge(registry, "waiting_plays", help, waiting_plays as u64);
    gauge(registry, "log_bytes", "Bytes of past events that are kept", log_bytes as u64);
    let help = "Bytes of targeted messages that may not have arrived";
    gauge(registry, "message_bytes", help, message_bytes as u64);
    counter(registry, "events", "Channel events", events);
    counter(registry, "frames", "Frames handed to connections", frames);
    counter(registry, "commands", "Commands answered with a result", commands);
    counter(registry, "refused_requests", "Joins and commands refused", refusals);
}

fn relay_metrics(registry: &mut Registry, hub: HubStats) {
    let HubStats {
        streams,
        publishers,
        players,
        waiters,
        media_bytes,
        segment_bytes,
        bytes_in,
        bytes_out,
        slow_players_cut,
        cuts,
        replaced,
        refusals,
        connections,
        connections_refused,
        protocol_errors,
        lines_left_out,
        facts_delayed,
    } = hub;
    let help = "Streams with a publisher, a player or an open request";
    gauge(registry, "relay_streams", help, streams as u64);
    gauge(registry, "relay_publishers", "Streams that the relay receives", publishers as u64);
    gauge(registry, "relay_players", "Players of the relay", players as u64);
    let help = "Players whose stream has no publisher";
    gauge(registry, "relay_waiting_players", help, waiters as u64);
    let help = "Bytes of media that pushes hold: groups of pictures, and what is on its way";
    gauge(registry, "relay_media_bytes", help, media_bytes as u64);
    let help = "Bytes of segments of HLS";
    gauge(registry, "relay_segment_bytes", help, segment_bytes as u64);
    counter(registry, "relay_received_bytes", "Media bytes received", bytes_in);
    counter(registry, "relay_sent_bytes", "Media bytes sent", bytes_out);
    counter(registry, "relay_slow_players", "Players cut because they lagged", slow_players_cut);
    counter(registry, "relay_cuts", "Pushes and plays that were cut", cuts);
    let help = "Silent publishers that another took the place of";
    counter(registry, "relay_replaced_publishers", help, replaced);
    counter(registry, "relay_refusals", "Pushes and plays refused", refusals);
    counter(registry, "relay_connections", "RTMP connections accepted", connections);
    let help = "RTMP connections closed at once, because of a limit";
    counter(registry, "relay_refused_connections", help, connections_refused);
    let help = "RTMP connections closed because the peer broke the protocol or a bound";
    counter(registry, "relay_protocol_errors", help, protocol_errors);
    let help = "Lines of the log that were left out, since their address caused too many";
    counter(registry, "log_lines_left_out", help, lines_left_out);
    let help = "Reports on streams that had to wait for the shards";
    counter(registry, "relay_delayed_facts", help, facts_delayed);
}

fn forward_metrics(registry: &mut Registry, forwards: ForwardStats) {
    let ForwardStats { connecting, publishing, waiting, failures } = forwards;
    let by_state = Family::<Label, Gauge>::default();
    for (state, count) in
        [("connecting", connecting), ("publishing", publishing), ("waiting", waiting)]
    {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        by_state.get_or_create(&[("state", state.to_owned())]).set(count);
    }
    registry.register("relay_forwards", "Forwards to other servers, by state", by_state);
    let by_code = Family::<Label, Counter>::default();
    for (code, count) in failures {
        by_code.get_or_create(&[("code", code.to_owned())]).inc_by(count);
    }
    let help = "Attempts to forward that failed or broke off, by code";
    registry.register("relay_forward_failures", help, by_code);
}

fn task_metrics(registry: &mut Registry, tasks: TaskStats) {
    let TaskStats { runs, pushing, begun, refused, killed, failures, late, dropped, capacity } =
        tasks;
    gauge(registry, "task_runs", "Push tasks that have a process", runs as u64);
    let help = "Push tasks whose stream a receiver takes";
    gauge(registry, "task_pushing", help, pushing as u64);
    let help = "Thousandths of a core that running and promised push tasks may need";
    gauge(registry, "task_millicores", help, capacity.cpu as u64);
    let help = "Thousandths of a core that there are for push tasks";
    gauge(registry, "task_millicores_limit", help, capacity.cpu_total as u64);
    let help = "Bytes of memory that running and promised push tasks may need";
    gauge(registry, "task_memory_bytes", help, capacity.memory as u64);
    let help = "Bytes of memory that there are for push tasks";
    gauge(registry, "task_memory_limit_bytes", help, capacity.memory_total as u64);
    counter(registry, "task_begun_runs", "Runs of push tasks that began", begun);
    counter(registry, "task_refusals", "Push tasks that had no room", refused);
    counter(registry, "task_killed_processes", "Compositors that had to be killed", killed);
    counter(registry, "task_late_pictures", "Pictures that were not composed in time", late);
    let help = "Pictures for which an encoder of a push task had no time";
    counter(registry, "task_dropped_pictures", help, dropped);
    let by_reason = Family::<Label, Counter>::default();
    for (reason, count) in failures {
        by_reason.get_or_create(&[("reason", reason.to_owned())]).inc_by(count);
    }
    let help = "Pushes of tasks that failed or broke off, by reason";
    registry.register("task_failures", help, by_reason);
}

fn store_metrics(registry: &mut Registry, store: StoreStats) {
    let StoreStats { commits, failures, waiting, forgotten, lost_events, lost_history } = store;
    gauge(registry, "store_waiting_rows", "Rows that wait for the disk", waiting as u64);
    counter(registry, "store_commits", "Transactions of the store", commits);
    counter(registry, "store_failures", "Transactions of the store that failed", failures);
    counter(registry, "store_forgotten_rows", "Removals that were given up", forgotten);
    let help = "Events of channels that the disk took too long for";
    counter(registry, "store_lost_events", help, lost_events);
    let help = "Entries of call histories that the disk took too long for";
    counter(registry, "store_lost_history", help, lost_history);
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter = Counter::<u64>::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

/// Counts all notes until the last sender of notes is dropped.
pub(crate) async fn count(
    metrics: Arc<Metrics>,
    mut notes: NoteReader,
    mut flush_requests: FlushRequests,
) {
    loop {
        tokio::select! {
            // Notes come first, so an answer follows all waiting notes.
            biased;
            note = notes.next() => match note {
                Some(note) => metrics.count_note(&note),
                None => return,
            },
            Some(answer) = flush_requests.recv() => {
                let _ = answer.send(());
            }
        }
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;

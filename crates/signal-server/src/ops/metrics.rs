//! Numbers for Prometheus. Gauges are read when they are asked for; what happens between is counted, from the notes of
//! the engines. Labels come from closed tables only: no channel and no uid, since anybody can make new ones.

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
use crate::notes::NoteReader;
use crate::records::StoreStats;

type Label = [(&'static str, String); 1];
type Labels = [(&'static str, String); 2];

/// What is counted as it happens.
#[derive(Debug)]
pub(crate) struct Metrics {
    questions: mpsc::Sender<oneshot::Sender<()>>,
    missed: Family<Label, Counter>,
    joins: Counter,
    leaves: Family<Label, Counter>,
    refusals: Family<Label, Counter>,
    closes: Family<Label, Counter>,
    resumes: Family<Labels, Counter>,
}

/// Asks of readers of the metrics for everything that was noted before.
pub(crate) type Questions = mpsc::Receiver<oneshot::Sender<()>>;

/// Questions that may wait; who asks waits, too.
const QUESTIONS: usize = 4;

impl Metrics {
    /// Numbers, and what [`count`] needs.
    pub(crate) fn new() -> (Arc<Self>, Questions) {
        let (questions, asked) = mpsc::channel(QUESTIONS);
        let metrics = Metrics {
            questions,
            missed: Family::default(),
            joins: Counter::default(),
            leaves: Family::default(),
            refusals: Family::default(),
            closes: Family::default(),
            resumes: Family::default(),
        };
        (Arc::new(metrics), asked)
    }

    /// Counts the notes that a reader misses.
    pub(crate) fn missed_by(&self, reader: &str) -> Counter {
        self.missed.get_or_create(&[("reader", reader.to_owned())]).clone()
    }

    /// Completes when everything is counted that was noted before.
    pub(crate) async fn caught_up(&self) {
        let (answer, counted) = oneshot::channel();
        // An error: nobody counts any more.
        let _ = self.questions.send(answer).await;
        let _ = counted.await;
    }

    fn noted(&self, note: &Note) {
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
            Note::ChannelOpened { .. } | Note::ChannelEnded { .. } => {}
        }
    }

    pub(crate) fn lobby_closed(&self, code: CloseCode) {
        self.closed(code);
    }

    fn closed(&self, code: CloseCode) {
        let reason = code.row().map_or("unknown", |row| row.name).to_owned();
        self.closes.get_or_create(&[("reason", reason)]).inc();
    }

    /// Everything in the text format of OpenMetrics.
    pub(crate) fn text(
        &self,
        engine: Stats,
        hub: &HubStats,
        store: StoreStats,
        phase: Phase,
    ) -> String {
        let mut registry = Registry::with_prefix("lianmai");
        registry.register(
            "missed_notes",
            "Notes of the engines that a reader was too slow for, by reader",
            self.missed.clone(),
        );
        registry.register("joins", "Memberships that began", self.joins.clone());
        registry.register("leaves", "Memberships that ended, by reason", self.leaves.clone());
        registry.register(
            "refusals",
            "Joins and commands refused, by error",
            self.refusals.clone(),
        );
        registry.register(
            "closes",
            "Connections closed by the server, by reason",
            self.closes.clone(),
        );
        registry.register(
            "resumes",
            "Sessions that came back or were refused, by outcome and reason",
            self.resumes.clone(),
        );
        let mut gauge = |name: &str, help: &str, value: u64| {
            let gauge = Gauge::<i64>::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            registry.register(name, help, gauge);
        };
        gauge("channels", "Channels", engine.channels as u64);
        gauge("members", "Memberships, those in grace included", engine.members as u64);
        gauge("connected_members", "Memberships with a socket", engine.connected as u64);
        gauge("push_urls", "Live push URLs", engine.streams as u64);
        gauge("relay_publishers", "Streams that the relay receives", hub.publishers as u64);
        gauge("relay_players", "Players of the relay", hub.players as u64);
        gauge("store_waiting_rows", "Rows that wait for the disk", store.waiting as u64);
        gauge(
            "drain_phase",
            "0 serves, 1 moves members away, 2 is frozen, 3 stops",
            u64::from(phase as u8),
        );
        let mut counter = |name: &str, help: &str, value: u64| {
            let counter = Counter::<u64>::default();
            counter.inc_by(value);
            registry.register(name, help, counter);
        };
        counter("events", "Channel events", engine.events);
        counter("frames", "Frames handed to connections", engine.frames);
        counter("commands", "Commands answered with a result", engine.commands);
        counter("store_commits", "Transactions of the store", store.commits);
        counter("store_failures", "Transactions of the store that failed", store.failures);
        counter("store_forgotten_rows", "Removals that were given up", store.forgotten);
        counter("relay_received_bytes", "Media bytes received", hub.bytes_in);
        counter("relay_sent_bytes", "Media bytes sent", hub.bytes_out);
        counter("relay_slow_players", "Players cut because they lagged", hub.slow_players_cut);
        counter("relay_refusals", "Pushes and plays refused", hub.refusals);
        let mut text = String::new();
        encode(&mut text, &registry).expect("a String takes everything");
        text
    }
}

/// Counts every note until nobody is left who notes.
pub(crate) async fn count(metrics: Arc<Metrics>, mut notes: NoteReader, mut questions: Questions) {
    loop {
        tokio::select! {
            // An answer comes behind all that waits.
            biased;
            note = notes.next() => match note {
                Some(note) => metrics.noted(&note),
                None => return,
            },
            Some(answer) = questions.recv() => {
                let _ = answer.send(());
            }
        }
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;

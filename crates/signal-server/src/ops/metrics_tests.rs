//! Proves no rule of the protocol: metrics for operators.

use lianmai_signal_engine::ConnId;

use super::*;
use crate::notes::Notes;
use crate::tasks::CapacityStats;

#[tokio::test]
async fn earlier_notes_are_counted_before_a_scrape() {
    let notes = Notes::new();
    let (metrics, flush_requests) = Metrics::new();
    let reader = notes.reader("metrics", metrics.missed_by("metrics"));
    let counting = tokio::spawn(count(metrics.clone(), reader, flush_requests));
    for number in 1..=100 {
        notes.note(Note::Closing { conn: ConnId(number), code: CloseCode::NORMAL });
        metrics.wait_until_counted().await;
        let reason = CloseCode::NORMAL.row().unwrap().name.to_owned();
        assert_eq!(metrics.closes.get_or_create(&[("reason", reason)]).get(), number);
    }
    drop(notes);
    counting.await.unwrap();
    // Counting has ended, so the call returns.
    metrics.wait_until_counted().await;
}

/// A value that is not exported would look like zero.
#[test]
fn every_number_is_exported() {
    let engine = Stats {
        channels: 101,
        members: 102,
        connected: 103,
        streams: 104,
        log_bytes: 105,
        message_bytes: 106,
        events: 107,
        frames: 108,
        commands: 109,
        refusals: 110,
        waiting_plays: 111,
    };
    let hub = HubStats {
        streams: 201,
        publishers: 202,
        players: 203,
        waiters: 204,
        media_bytes: 215,
        segment_bytes: 216,
        bytes_in: 205,
        bytes_out: 206,
        slow_players_cut: 207,
        cuts: 208,
        replaced: 209,
        refusals: 210,
        connections: 211,
        connections_refused: 212,
        protocol_errors: 213,
        facts_delayed: 214,
        lines_left_out: 217,
    };
    let store = StoreStats {
        commits: 301,
        failures: 302,
        waiting: 303,
        forgotten: 304,
        lost_events: 305,
        lost_history: 306,
    };
    let forwards = ForwardStats {
        connecting: 401,
        publishing: 402,
        waiting: 403,
        failures: [("refused", 404)].into(),
    };
    let phase = Phase::Frozen;
    let tasks = TaskStats {
        runs: 501,
        pushing: 502,
        begun: 503,
        refused: 504,
        killed: 505,
        failures: [("broken", 506)].into(),
        late: 507,
        dropped: 508,
        capacity: CapacityStats { cpu: 509, cpu_total: 510, memory: 511, memory_total: 512 },
    };
    let tasks = Some(tasks);
    let text = Metrics::new().0.text(MetricValues { engine, hub, forwards, tasks, store, phase });
    for number in (101..=111).chain(201..=217).chain(301..=306).chain(401..=404).chain(501..=512) {
        let lines = text.lines().filter(|line| line.ends_with(&format!(" {number}"))).count();
        assert_eq!(lines, 1, "{number} in\n{text}");
    }
}

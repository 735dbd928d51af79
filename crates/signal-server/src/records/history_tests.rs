//! Proves no rule of the protocol: writing, reading and pruning the history of calls.

use std::sync::Arc;

use lianmai_protocol::{Cid, Mid, WallTime};
use lianmai_signal_engine::history::{HistoryEntry, HistoryRecord, HistoryStep};
use lianmai_signal_engine::{Event, RowOp};

use super::*;
use crate::data_dir::DirLock;
use crate::records::Records;
use crate::records::sqlite::{FILE, Sqlite};
use crate::records::tests::{Temp, key, params};

fn entry(name: &str, at: u64, entry: HistoryEntry) -> RowOp {
    let record = HistoryRecord { at: WallTime(at), cid: Cid(1), entry };
    RowOp::AppendHistory(key(name), Box::new(record))
}

fn connected(uid: u64, at: u64) -> RowOp {
    let step = HistoryStep::Connected { uid: UserId(uid), mid: Mid([1; 12]) };
    entry("a", at, HistoryEntry::Step(step))
}

fn subscribed(uid: u64, of: u64, at: u64) -> RowOp {
    let (uid, of, mid) = (UserId(uid), UserId(of), Mid([1; 12]));
    let media_type = lianmai_protocol::MediaKind::Audio;
    entry("a", at, HistoryEntry::Step(HistoryStep::Subscribed { uid, mid, of, media_type }))
}

async fn written(temp: &Temp, ops: Vec<RowOp>) -> Sqlite {
    let lock = Arc::new(DirLock::take(&temp.0).unwrap());
    let store = Sqlite::open(&temp.0, lock, params(1)).unwrap().0;
    let (ack, stored) = tokio::sync::oneshot::channel();
    store.write(ops, Some(Box::new(move |well| _ = ack.send(well))));
    assert!(stored.await.unwrap());
    store
}

fn all(channel: &str) -> HistorySearch {
    let (after, uid, with) = (None, None, None);
    HistorySearch { channel: key(channel), after, from: 0, to: u64::MAX, uid, with, limit: 100 }
}

/// The times of the entries.
fn times(found: &HistoryPage) -> Vec<u64> {
    let read = |text: &String| serde_json::from_str::<HistoryRecord>(text).unwrap().at.0;
    found.records.iter().map(read).collect()
}

#[tokio::test]
async fn entries_of_a_channel_are_read_in_time_order_and_in_pages() {
    let temp = Temp::new("history-order");
    let other = entry("b", 15, HistoryEntry::Event(Event::ChannelOpened));
    let ops = vec![connected(1, 10), other, connected(1, 30), connected(1, 20), connected(1, 20)];
    let store = written(&temp, ops).await;
    let database = store.database();
    assert_eq!(times(&database.history(all("a")).await.unwrap()), [10, 20, 20, 30]);
    let part = HistorySearch { from: 20, to: 30, ..all("a") };
    assert_eq!(times(&database.history(part).await.unwrap()), [20, 20]);
    let (mut after, mut all_times) = (None, Vec::new());
    loop {
        let found = database.history(HistorySearch { after, limit: 1, ..all("a") }).await.unwrap();
        all_times.extend(times(&found));
        let Some(next) = found.next else { break };
        assert_eq!(next.to_string().parse(), Ok(next));
        after = Some(next);
    }
    assert_eq!(all_times, [10, 20, 20, 30], "each once");
    assert_eq!(database.history(all("c")).await.unwrap(), HistoryPage::default());
}

#[tokio::test]
async fn entries_about_others_are_filtered_out() {
    let temp = Temp::new("history-search");
    let opened = entry("a", 1, HistoryEntry::Event(Event::ChannelOpened));
    let ops = vec![
        opened,
        connected(1, 2),
        connected(2, 3),
        connected(3, 4),
        subscribed(1, 2, 5),
        subscribed(2, 1, 6),
        subscribed(1, 3, 7),
        subscribed(3, 1, 8),
        subscribed(2, 3, 9),
    ];
    let store = written(&temp, ops).await;
    let database = store.database();
    let of = |uid, with: Option<u64>| HistorySearch {
        uid: Some(UserId(uid)),
        with: with.map(UserId),
        ..all("a")
    };
    let found = database.history(of(1, None)).await.unwrap();
    assert_eq!(times(&found), [1, 2, 5, 6, 7, 8]);
    let found = database.history(of(1, Some(2))).await.unwrap();
    assert_eq!(times(&found), [1, 2, 3, 5, 6]);
    let found = database.history(of(9, None)).await.unwrap();
    assert_eq!(times(&found), [1]);
}

#[tokio::test]
async fn old_and_surplus_entries_are_deleted() {
    let temp = Temp::new("history-prune");
    let ops = (1..=10).map(|at| connected(1, at)).collect();
    let store = written(&temp, ops).await;
    let database = store.database();
    assert_eq!(database.prune_history(3, 100).await.unwrap(), (2, true));
    assert_eq!(database.prune_history(3, 5).await.unwrap(), (3, true));
    assert_eq!(database.prune_history(3, 5).await.unwrap(), (0, true));
    assert_eq!(times(&database.history(all("a")).await.unwrap()), [6, 7, 8, 9, 10]);
}

#[tokio::test]
async fn a_pruning_step_does_not_read_all_entries() {
    let temp = Temp::new("history-plan");
    let _store = written(&temp, vec![connected(1, 1)]).await;
    let connection = rusqlite::Connection::open(temp.0.join(FILE)).unwrap();
    let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {HISTORY_SPAN}")).unwrap();
    let steps = plan.query_map([], |row| row.get::<_, String>("detail")).unwrap();
    for step in steps.map(Result::unwrap) {
        assert!(!step.starts_with("SCAN history"), "{step}");
    }
}

#[test]
fn a_cursor_survives_encoding_and_decoding() {
    let place = HistoryCursor { at: 5, pos: 7 };
    assert_eq!(place.to_string().parse(), Ok(place));
    for text in ["", "5", "5.", ".7", "5.7.9", "a.b"] {
        assert!(text.parse::<HistoryCursor>().is_err(), "{text}");
    }
}

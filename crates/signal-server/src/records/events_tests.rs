//! Proves no rule of the protocol: writing, reading and pruning the journal.

use lianmai_protocol::{Appkey, Cid, WallTime};
use lianmai_signal_engine::{Event, EventRecord};
use rusqlite::{Connection, params_from_iter};

use super::events::{EVENT_SPAN, STORE_GAPS};
use super::pending::{MAX_EVENTS, Pending};
use super::sqlite::FILE;
use super::tests::{Temp, key, params};
use super::*;

fn event(seq: u64, at: u64) -> Box<EventRecord> {
    let event = Event::ChannelOpened;
    Box::new(EventRecord { seq, first: seq == 1, at: WallTime(at), cid: Cid(1), event })
}

fn append(name: &str, seq: u64, at: u64) -> RowOp {
    RowOp::AppendEvent(key(name), event(seq, at))
}

fn demo() -> Appkey {
    "demo".parse().unwrap()
}

fn open(temp: &Temp) -> Sqlite {
    let lock = Arc::new(DirLock::take(&temp.0).unwrap());
    Sqlite::open(&temp.0, lock, params(1)).unwrap().0
}

/// Writes, and waits for the commit.
async fn write(store: &Sqlite, ops: Vec<RowOp>) {
    let (ack, written) = tokio::sync::oneshot::channel();
    store.write(ops, Some(Box::new(move |well| _ = ack.send(well))));
    assert!(written.await.unwrap());
}

/// Channel and number of events, and the first number of a gap.
fn summarize(events: &[StoredEvent]) -> Vec<(String, u64, Option<u64>)> {
    let summary = events.iter().map(|event| {
        let lost_from = match &event.content {
            EventContent::Record(_) => None,
            EventContent::Lost { from, .. } => Some(*from),
        };
        (event.channel.clone(), event.seq, lost_from)
    });
    summary.collect()
}

fn kept(channel: &str, seq: u64) -> (String, u64, Option<u64>) {
    (channel.to_owned(), seq, None)
}

#[tokio::test]
async fn events_are_read_in_commit_order() {
    let temp = Temp::new("events-order");
    let store = open(&temp);
    let (database, mut appended) = (store.database(), store.appended());
    write(&store, vec![append("a", 1, 10), append("b", 1, 10), append("a", 2, 11)]).await;
    appended.changed().await.unwrap();
    let events = database.events_after(&demo(), 0, 10).await.unwrap();
    assert_eq!(summarize(&events), [kept("a", 1), kept("b", 1), kept("a", 2)]);
    let after = events[0].pos;
    let rest = database.events_after(&demo(), after, 1).await.unwrap();
    assert_eq!(summarize(&rest), [kept("b", 1)]);
    assert!(database.events_after(&"other".parse().unwrap(), 0, 10).await.unwrap().is_empty());
    let (channels, reached) = database.channels_after(after).await.unwrap();
    assert_eq!(channels.len(), 2);
    assert_eq!((reached, database.last_pos().await.unwrap()), (events[2].pos, events[2].pos));
    // The next process has the events, too, and continues with the positions.
    drop(database);
    assert!(store.close(None).await);
    drop(store);
    let store = open(&temp);
    write(&store, vec![append("b", 2, 12)]).await;
    let all = store.database().events_after(&demo(), 0, 10).await.unwrap();
    assert_eq!(all.len(), 4);
    assert!(all[3].pos > reached);
}

#[tokio::test]
async fn a_cursor_is_valid_for_its_file_only() {
    let (temp, other) = (Temp::new("events-cursor"), Temp::new("events-cursor-other"));
    let store = open(&temp);
    write(&store, vec![append("a", 1, 10)]).await;
    let end = store.database().end_of_events().await.unwrap();
    assert_eq!(end.to_string().parse(), Ok(end.clone()));
    assert!(end.is_in(&end) && EventCursor { pos: 0, ..end.clone() }.is_in(&end));
    assert!(!EventCursor { pos: end.pos + 1, ..end.clone() }.is_in(&end), "of a lost state");
    assert!(store.close(None).await);
    drop(store);
    let again = open(&temp).database().end_of_events().await.unwrap();
    assert_eq!(again, end, "a restart keeps the id");
    let other = open(&other);
    write(&other, vec![append("a", 1, 10)]).await;
    assert!(!end.is_in(&other.database().end_of_events().await.unwrap()));
    for text in ["", "7", "x", "x.", "x.-1", "x.y", "x.1.2"] {
        assert!(text.parse::<EventCursor>().is_err(), "{text}");
    }
}

#[tokio::test]
async fn a_number_that_comes_twice_does_not_stop_the_store() {
    let temp = Temp::new("events-twice");
    let store = open(&temp);
    write(&store, vec![append("a", 1, 10)]).await;
    write(&store, vec![append("a", 1, 20), append("b", 1, 20)]).await;
    let events = store.database().events_after(&demo(), 0, 10).await.unwrap();
    assert_eq!(summarize(&events), [kept("a", 1), kept("b", 1)]);
}

#[tokio::test]
async fn an_endpoint_gets_each_event_of_a_channel_once() {
    let temp = Temp::new("events-heard");
    let store = open(&temp);
    let database = store.database();
    write(&store, vec![append("a", 1, 10), append("a", 2, 10), append("b", 1, 10)]).await;
    let entry = Entry { id: "e".into(), appkey: "demo".into(), record: "{}".into() };
    assert!(database.put_entry(Table::Endpoints, entry, 1).await.unwrap());
    let behind = async |since| {
        let mut behind = database.behind("e", &demo(), since).await.unwrap();
        behind.sort();
        behind
    };
    assert_eq!(behind(0).await, ["a", "b"]);
    assert!(
        behind(database.last_pos().await.unwrap()).await.is_empty(),
        "no notification before the commit"
    );
    let next = async |channel: &'static str| {
        let next = database.next_event("e", &demo(), channel, 0, None).await.unwrap();
        next.map(|(event, delivered)| (event.seq, delivered))
    };
    let settle = async |channel: &str, seq, dead| {
        let (endpoint, channel) = ("e".to_owned(), channel.to_owned());
        database.settle(vec![Settled { endpoint, channel, seq, dead }]).await.unwrap()
    };
    assert_eq!(next("a").await, Some((1, None)));
    assert!(settle("a", 1, None).await);
    assert_eq!(next("a").await, Some((2, Some(1))));
    let pos = database.next_event("e", &demo(), "a", 0, None).await.unwrap().unwrap().0.pos;
    assert!(settle("a", 2, Some((pos, 3, "why".to_owned(), 99))).await);
    assert!(settle("a", 1, None).await);
    assert_eq!(next("a").await, None, "the progress moves back");
    assert_eq!(behind(0).await, ["b"]);
    let dead = database.dead_letters("e", 0, 10).await.unwrap();
    assert_eq!((dead.len(), dead[0].attempts, dead[0].event.seq), (1, 3, 2));
    // Its deliveries are removed with it, and none are stored for a removed endpoint.
    database.drop_entry(Table::Endpoints, "e".to_owned()).await.unwrap();
    assert!(!settle("a", 2, None).await);
    assert_eq!(next("a").await, Some((1, None)));
    assert!(database.dead_letters("e", 0, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn old_and_surplus_events_are_deleted_and_reported_as_lost() {
    let temp = Temp::new("events-prune");
    let store = open(&temp);
    let database = store.database();
    let ops =
        (1..=10_u64).map(|n| append(if n % 2 == 0 { "a" } else { "b" }, n.div_ceil(2), 100 + n));
    write(&store, ops.collect()).await;
    let prune = async |since, events| {
        database.prune(EventRetention { now: 200, since, events }).await.unwrap()
    };
    assert_eq!(prune(0, 10).await, (0, true));
    // The first four are too old: b 1, a 1, b 2, a 2.
    assert_eq!(prune(105, 10).await, (4, true));
    let events = database.events_after(&demo(), 0, 20).await.unwrap();
    let gone = |channel: &str| (channel.to_owned(), 2, Some(1));
    assert_eq!(summarize(&events)[..3], [gone("b"), gone("a"), kept("b", 3)]);
    assert_eq!(events.len(), 8);
    // Of the rest, all but two are too many.
    assert_eq!(prune(0, 2).await, (4, true));
    let events = database.events_after(&demo(), 0, 20).await.unwrap();
    let gone = |channel: &str| (channel.to_owned(), 4, Some(1));
    assert_eq!(summarize(&events), [gone("b"), gone("a"), kept("b", 5), kept("a", 5)]);
    let after = database.events_after(&demo(), events[1].pos, 20).await.unwrap();
    assert_eq!(
        summarize(&after),
        [kept("b", 5), kept("a", 5)],
        "a reader at this position misses nothing"
    );
    // A gap is reported for the retention time after the removal, whatever the age of its events was.
    assert_eq!(prune(200, 2).await, (2, true));
    assert_eq!(prune(200, 2).await, (0, true));
    let gone = |channel: &str| (channel.to_owned(), 5, Some(1));
    let events = database.events_after(&demo(), 0, 20).await.unwrap();
    assert_eq!(summarize(&events), [gone("b"), gone("a")]);
    assert_eq!(prune(201, 2).await, (0, true));
    assert!(database.events_after(&demo(), 0, 20).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_endpoint_is_told_of_gaps_without_a_later_event() {
    let temp = Temp::new("events-gaps");
    let store = open(&temp);
    let database = store.database();
    let entry = Entry { id: "e".into(), appkey: "demo".into(), record: "{}".into() };
    assert!(database.put_entry(Table::Endpoints, entry, 1).await.unwrap());
    write(&store, (1..=4).map(|seq| append("a", seq, 10)).collect()).await;
    write(&store, vec![append("b", 7, 10), append("c", 1, 30), append("c", 2, 30)]).await;
    let settle = async |channel: &str, seq| {
        let (endpoint, channel) = ("e".to_owned(), channel.to_owned());
        database.settle(vec![Settled { endpoint, channel, seq, dead: None }]).await.unwrap()
    };
    let next = async |channel: &'static str, since| {
        let next = database.next_event("e", &demo(), channel, since, None).await.unwrap();
        next.map(|(event, _)| (event.seq, event.content))
    };
    assert!(settle("a", 2).await && settle("c", 1).await);
    let keep = EventRetention { now: 50, since: 20, events: 10 };
    assert_eq!(database.prune(keep).await.unwrap(), (5, true));
    let mut behind = database.behind("e", &demo(), 0).await.unwrap();
    behind.sort();
    assert_eq!(behind, ["a", "b", "c"]);
    let lost = |from, to| Some((to, EventContent::Lost { from, at: 50 }));
    assert_eq!(next("a", 0).await, lost(3, 4), "the rest of a channel that has ended");
    assert_eq!(next("b", 0).await, lost(7, 7), "a channel of which it has heard nothing");
    assert_eq!(next("c", 0).await.map(|(seq, _)| seq), Some(2));
    let last = database.last_pos().await.unwrap();
    assert_eq!(next("a", last).await, None, "from before the endpoint");
    assert!(settle("a", 4).await);
    assert_eq!(next("a", 0).await, None);
    let mut behind = database.behind("e", &demo(), 0).await.unwrap();
    behind.sort();
    assert_eq!(behind, ["b", "c"]);
}

#[tokio::test]
async fn a_pruning_step_reads_only_what_it_removes() {
    let temp = Temp::new("events-plan");
    let store = open(&temp);
    write(&store, (1..=100).map(|seq| append("a", seq, seq)).collect()).await;
    let connection = Connection::open(temp.0.join(FILE)).unwrap();
    for sql in [EVENT_SPAN, STORE_GAPS] {
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let values = params_from_iter(vec![1; plan.parameter_count()]);
        let steps = plan.query_map(values, |row| row.get::<_, String>("detail")).unwrap();
        for step in steps.map(Result::unwrap) {
            assert!(!step.starts_with("SCAN event"), "{step} in {sql}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_at_least_as_long_as_the_step_before_it() {
    use std::time::Duration;
    use tokio::time::{Instant, advance};
    let begin = Instant::now();
    pause_after_step(begin).await;
    assert!(begin.elapsed() >= Duration::from_millis(100));
    let begin = Instant::now();
    advance(Duration::from_secs(3)).await;
    pause_after_step(begin).await;
    assert!(begin.elapsed() >= Duration::from_secs(6));
}

#[tokio::test]
async fn progress_is_deleted_when_a_channel_has_neither_events_nor_numbers() {
    let temp = Temp::new("events-progress");
    let store = open(&temp);
    let database = store.database();
    let entry = Entry { id: "e".into(), appkey: "demo".into(), record: "{}".into() };
    assert!(database.put_entry(Table::Endpoints, entry, 1).await.unwrap());
    write(&store, vec![append("a", 1, 10), append("b", 1, 20)]).await;
    for channel in ["a", "b", "c"] {
        let (endpoint, channel) = ("e".to_owned(), channel.to_owned());
        database.settle(vec![Settled { endpoint, channel, seq: 1, dead: None }]).await.unwrap();
    }
    // The event of `a` becomes a gap.
    let keep = EventRetention { now: 30, since: 15, events: 10 };
    assert_eq!(database.prune(keep).await.unwrap(), (1, true));
    assert_eq!(database.prune_deliveries(DeliveryKey::default()).await.unwrap(), None);
    let connection = Connection::open(temp.0.join(FILE)).unwrap();
    let mut left = connection.prepare("SELECT channel FROM delivery ORDER BY channel").unwrap();
    let left = left.query_map([], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(left.map(Result::unwrap).collect::<Vec<_>>(), ["a", "b"]);
}

/// The states of a request with an idempotency key.
#[tokio::test]
async fn an_idempotency_key_is_stored_once() {
    let temp = Temp::new("idempotency");
    let store = open(&temp);
    let database = store.database();
    let id = |key: &str| ("root".to_owned(), key.to_owned());
    let begin = async |key, hash: &str, now| {
        database.begin_request(id(key), hash.to_owned(), (now, now - 10), 2).await.unwrap()
    };
    assert_eq!(begin("a", "h", 100).await, IdempotencyState::New);
    assert_eq!(begin("a", "h", 100).await, IdempotencyState::InProgress);
    assert_eq!(begin("a", "x", 100).await, IdempotencyState::KeyReused);
    database.store_answer(id("a"), Some((200, "{}".to_owned()))).await.unwrap();
    let answered = IdempotencyState::Answered { status: 200, body: "{}".to_owned() };
    assert_eq!(begin("a", "h", 110).await, answered);
    assert_eq!(begin("b", "h", 110).await, IdempotencyState::New);
    let too_many = IdempotencyState::TooManyKeys { oldest: 100 };
    assert_eq!(begin("c", "h", 110).await, too_many, "the key limit is reached");
    database.store_answer(id("b"), None).await.unwrap();
    assert_eq!(begin("b", "other", 110).await, IdempotencyState::New, "the key was removed");
    assert_eq!(begin("a", "h", 111).await, IdempotencyState::New, "the answer has expired");
}

#[test]
fn gaps_of_pending_events_are_bounded() {
    let mut pending = Pending::default();
    for seq in 1..=MAX_EVENTS as u64 {
        pending.apply(append("a", seq, seq));
    }
    for channel in 0..MAX_EVENTS + 3 {
        pending.apply(append(&format!("b{channel}"), 1, 7));
    }
    pending.apply(append("b0", 2, 8));
    assert_eq!(pending.len(), 2 * MAX_EVENTS);
    assert_eq!(pending.lost_events(), MAX_EVENTS as u64 + 4);
    let gap = pending.events().find(|(of, _)| **of == key("b0")).unwrap().1;
    assert_eq!(gap.event, Event::Lost { from: 1, to: 2 });
}

#[test]
fn surplus_pending_events_become_one_lost_event_of_their_channel() {
    let mut pending = Pending::default();
    for seq in 1..=MAX_EVENTS as u64 {
        pending.apply(append("a", seq, seq));
    }
    for seq in 1..=3 {
        pending.apply(append("b", seq, 7));
    }
    let end = |pending: &Pending| {
        let events = pending.events().skip(MAX_EVENTS);
        events
            .map(|(of, record)| (of.name.to_string(), record.seq, record.event.clone()))
            .collect::<Vec<_>>()
    };
    let lost = |from, to| Event::Lost { from, to };
    assert_eq!(end(&pending), [("b".to_owned(), 3, lost(1, 3))]);
    assert_eq!(pending.lost_events(), 3);
    // The commit fails, so later events come after the batch.
    let batch = pending.take();
    assert_eq!(pending.lost_events(), 3);
    pending.apply(append("b", 4, 8));
    pending.apply(append("c", 1, 8));
    pending.put_back(batch);
    assert_eq!(end(&pending), [("b".to_owned(), 4, lost(1, 4)), ("c".to_owned(), 1, lost(1, 1))]);
    assert_eq!(pending.lost_events(), 5);
    assert_eq!(pending.take().events().count(), MAX_EVENTS + 2);
    assert!(!pending.has_events());
}

//! Proves no rule of the protocol: single attempts, with a receiver on this machine, and what the loop knows of
//! endpoints.

use std::cell::Cell;
use std::sync::Arc;

use lianmai_protocol::Appkey;
use lianmai_signal_engine::Event;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::hooks::Egress;
use crate::hooks::test_store::{TestStore, endpoint};
use crate::records::Table;
use crate::relay::client_tls;

const ACCEPTED: Outcome = Outcome::Advanced { accepted: true };
const GIVEN_UP: Outcome = Outcome::Advanced { accepted: false };

async fn deliverer(store: &TestStore) -> Deliverer {
    let egress = Egress::new(vec!["127.0.0.1".parse().unwrap()], Vec::new());
    Deliverer {
        database: store.1.database(),
        endpoints: Endpoints::load(store.1.database()).await.unwrap(),
        poster: Poster {
            egress: Arc::new(egress),
            tls: client_tls::client_config(None).unwrap(),
            timeout: Duration::from_secs(10),
        },
        give_up_ms: 3_600_000,
        keep_ms: 3_600_000,
        keep_events: 1_000,
        metrics: HookMetrics::default(),
    }
}

/// A receiver that gives all requests this answer, and the bodies that it receives.
async fn receiver(status: u16) -> (String, UnboundedReceiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (sender, bodies) = unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            let body = loop {
                let mut bytes = [0; 4096];
                let count = socket.read(&mut bytes).await.unwrap();
                assert!(count > 0, "the request ends early");
                request.extend_from_slice(&bytes[..count]);
                let text = String::from_utf8_lossy(&request);
                let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
                if let Some(Ok(body)) = body.map(serde_json::from_str::<Value>) {
                    break body;
                }
            };
            let _ = sender.send(body);
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, bodies)
}

fn demo() -> Appkey {
    "demo".parse().unwrap()
}

fn lane() -> LaneKey {
    LaneKey { endpoint: "a".to_owned(), channel: "room".to_owned() }
}

async fn attempt(deliverer: &Deliverer, refusals: u32) -> Outcome {
    let refusals = Refusals { in_a_row: refusals, of_event: 0 };
    deliverer.attempt(&lane(), refusals).await.outcome
}

/// Type and number of the next body.
fn told(bodies: &mut UnboundedReceiver<Value>) -> (String, u64) {
    let body = bodies.try_recv().unwrap();
    (body["type"].as_str().unwrap().to_owned(), body["seq"].as_u64().unwrap())
}

#[tokio::test]
async fn a_removed_endpoint_is_not_sent_the_same_event_for_ever() {
    let store = TestStore::open("removed");
    let (url, mut bodies) = receiver(200).await;
    let deliverer = deliverer(&store).await;
    assert!(deliverer.endpoints.add(endpoint("a", &url)).await.unwrap());
    store.append("room", 1, wall_now().0, Event::ChannelOpened).await;
    // The row is gone, and memory does not know it.
    store.1.database().drop_entry(Table::Endpoints, "a".to_owned()).await.unwrap();
    assert_eq!(attempt(&deliverer, 0).await, Outcome::Empty);
    assert_eq!(told(&mut bodies), ("channelOpened".to_owned(), 1));
}

#[tokio::test]
async fn unwanted_events_are_skipped_and_are_no_gap() {
    let store = TestStore::open("skipped");
    let (url, mut bodies) = receiver(200).await;
    let deliverer = deliverer(&store).await;
    let wanted = vec!["channelEnded".to_owned()];
    let choosy = Endpoint { events: wanted, ..endpoint("a", &url) };
    assert!(deliverer.endpoints.add(choosy).await.unwrap());
    let now = wall_now().0;
    for seq in 1..=3 {
        store.append("room", seq, now, Event::ChannelOpened).await;
    }
    store.append("room", 4, now, Event::ChannelEnded).await;
    store.append("room", 5, now, Event::ChannelOpened).await;
    assert_eq!(attempt(&deliverer, 0).await, ACCEPTED);
    assert_eq!(told(&mut bodies), ("channelEnded".to_owned(), 4));
    assert_eq!(attempt(&deliverer, 0).await, Outcome::Empty);
    let behind = deliverer.database.behind("a", &demo(), 0).await.unwrap();
    assert!(behind.is_empty(), "the progress is stored: {behind:?}");
    assert!(bodies.try_recv().is_err());
}

#[tokio::test]
async fn an_old_event_is_not_given_up_at_its_first_refusal() {
    let store = TestStore::open("given-up");
    let (url, mut bodies) = receiver(500).await;
    let deliverer = deliverer(&store).await;
    assert!(deliverer.endpoints.add(endpoint("a", &url)).await.unwrap());
    store.append("room", 1, 1, Event::ChannelOpened).await;
    store.append("room", 2, wall_now().0, Event::ChannelEnded).await;
    assert_eq!(attempt(&deliverer, MIN_ATTEMPTS - 2).await, Outcome::Refused);
    assert_eq!(attempt(&deliverer, MIN_ATTEMPTS - 1).await, GIVEN_UP);
    let dead = deliverer.database.dead_letters("a", 0, 10).await.unwrap();
    assert_eq!((dead.len(), dead[0].event.seq, dead[0].attempts), (1, 1, 1));
    assert_eq!(attempt(&deliverer, MIN_ATTEMPTS).await, Outcome::Refused, "a young one stays");
    let told: Vec<_> = (0..3).map(|_| told(&mut bodies).1).collect();
    assert_eq!(told, [1, 1, 2]);
}

#[tokio::test]
async fn a_gap_is_delivered_and_is_no_dead_letter() {
    let store = TestStore::open("gap");
    let (url, mut bodies) = receiver(500).await;
    let deliverer = deliverer(&store).await;
    assert!(deliverer.endpoints.add(endpoint("a", &url)).await.unwrap());
    store.append("room", 1, 1, Event::ChannelOpened).await;
    store.append("room", 2, 1, Event::ChannelEnded).await;
    let keep = EventRetention { now: 10, since: 5, events: 10 };
    assert_eq!(deliverer.database.prune(keep).await.unwrap(), (2, true));
    assert_eq!(attempt(&deliverer, MIN_ATTEMPTS).await, GIVEN_UP);
    let body = bodies.try_recv().unwrap();
    assert_eq!(body["type"], "lost");
    assert_eq!((&body["data"]["from"], &body["data"]["to"]), (&Value::from(1), &Value::from(2)));
    assert_eq!(attempt(&deliverer, MIN_ATTEMPTS).await, Outcome::Empty, "it is told once");
    assert!(deliverer.database.dead_letters("a", 0, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_endpoint_that_was_disabled_for_a_moment_gets_what_it_missed() {
    let store = TestStore::open("pause");
    let deliverer = deliverer(&store).await;
    assert!(deliverer.endpoints.add(endpoint("a", "https://a.example/")).await.unwrap());
    let (mut queue, mut known) = (Queue::default(), BTreeMap::new());
    deliverer.sync_endpoints(&mut queue, &mut known).await.unwrap();
    assert_eq!(queue.lanes(), 0);
    store.append("room", 1, 1, Event::ChannelOpened).await;
    // The loop sees both changes at once; an attempt in between found the endpoint disabled.
    for enabled in [false, true] {
        let set = |one: &mut Endpoint| {
            one.enabled = enabled;
            Ok::<_, DatabaseError>(())
        };
        assert!(deliverer.endpoints.change(&demo(), "a", set).await.unwrap().is_some());
    }
    deliverer.sync_endpoints(&mut queue, &mut known).await.unwrap();
    assert_eq!(queue.lanes(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_is_repeated() {
    let reads = Cell::new(0);
    let read = || {
        reads.set(reads.get() + 1);
        std::future::ready(if reads.get() < 3 { Err(DatabaseError::Failed) } else { Ok(7) })
    };
    assert_eq!(until_read(read).await, Some(7));
    assert_eq!(reads.get(), 3);
    let closed = || std::future::ready(Err::<u64, _>(DatabaseError::Closed));
    assert_eq!(until_read(closed).await, None);
}

#[tokio::test(start_paused = true)]
async fn refusals_of_one_endpoint_are_logged_once_a_minute() {
    let mut complaints = Complaints::default();
    assert!(complaints.may_log("a", false));
    assert!(!complaints.may_log("a", false));
    assert!(complaints.may_log("a", true) && complaints.may_log("b", false));
    tokio::time::advance(COMPLAINT_INTERVAL).await;
    assert!(complaints.may_log("a", false));
    assert_eq!(complaints.0.len(), 1, "old ones are forgotten");
}

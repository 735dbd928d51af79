//! The tokio driver against a scripted server. Nothing here sleeps: every wait is for an event.
//! Proves no rule of the protocol: the driver around the session.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lianmai_client_sdk::driver::IntoUserId;
use lianmai_client_sdk::protocol::message::notice::Closing;
use lianmai_client_sdk::protocol::message::session::MessageSent;
use lianmai_client_sdk::protocol::message::{ChannelEvent, Notice};
use lianmai_client_sdk::protocol::{
    Action, CloseCode, ErrorName, MediaKind, MediaSelector, Role, UserId,
};
use lianmai_client_sdk::session::{ConnectionState, StateReason};
use lianmai_client_sdk::{
    Client, ClientConfig, Event, EventKind, EventStream, JoinError, JoinOptions, LeaveError,
    MessageError, PublishError, SubscribeError,
};
use num_bigint::BigUint;
use tokio::sync::mpsc;

use super::server::{Connection, Server};
use super::support::*;

fn options() -> JoinOptions {
    JoinOptions::new("room").uid(7u64).unwrap()
}

fn client(server: &Server) -> Client {
    Client::new(ClientConfig::new(&server.url, "demo")).unwrap()
}

/// Runs both sides of a conversation. Fails if one of them hangs.
async fn both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let talk = async { tokio::join!(a, b) };
    tokio::time::timeout(Duration::from_secs(60), talk).await.expect("the conversation ends")
}

async fn until(events: &mut EventStream, kind: EventKind) -> Event {
    loop {
        let event = events.next().await.expect("the client lives");
        if event.kind() == kind {
            return event;
        }
    }
}

/// Proves ORD-4, ORD-7.
#[tokio::test]
async fn join_publish_hear_leave() {
    let server = Server::start().await;
    let client = client(&server);
    let mut events = client.events();
    let script = async {
        let mut connection = server.let_in(Role::Broadcaster).await;
        let request = connection.request().await;
        let mine = ChannelEvent::StreamAdded(stream(ME, MY_MID, MediaKind::Audio, 1));
        let answer = result(&request, &published(12));
        let events = batch(11, &[client_join(BOB, BOB_MID), mine]);
        connection.send(&events).await;
        connection.send(&answer).await;
        let request = connection.request().await;
        assert_eq!(request.call.method(), "leave");
        connection.send(&done(&request, 12)).await;
        connection.closed().await
    };
    let app = async {
        let joined = client.join(options()).await.unwrap();
        assert_eq!((joined.uid, client.state()), (ME, ConnectionState::Connected));
        let push = client.publish(MediaSelector::Kind(MediaKind::Audio)).await.unwrap();
        assert_eq!(push.url, "rtmp://host/live/x");
        // The answer came after its events, so the getters show their effect.
        assert!(client.self_info().unwrap().published.contains_key(&MediaKind::Audio));
        assert_eq!(client.members().len(), 2);
        client.leave().await.unwrap();
        assert!(client.self_info().is_none());
        assert!(matches!(client.leave().await, Err(LeaveError::NotJoined)));
    };
    let (code, ()) = both(script, app).await;
    assert_eq!(code, Some(1000));

    let mut heard = vec![];
    loop {
        let event = events.next().await.unwrap();
        if let Event::ClientJoin(_) = event {
            let picture = events.picture().unwrap();
            assert_eq!(picture.seq, 11, "the stream's picture is that of the event");
            assert!(picture.own.published.is_empty());
        }
        heard.push(event.kind().name());
        if let Event::Disconnected { code, terminal, .. } = event {
            assert_eq!((code, terminal), (1000, true));
            break;
        }
    }
    assert_eq!(
        heard,
        [
            "connectionStateChange",
            "open",
            "connectionStateChange",
            "clientJoin",
            "connectionStateChange",
            "disconnected"
        ]
    );
}

#[tokio::test]
async fn handlers_run_in_order_use_getters_and_call_methods() {
    let server = Server::start().await;
    let client = client(&server);
    let (done_in, mut done_out) = mpsc::unbounded_channel();
    let seqs = Arc::new(Mutex::new(vec![]));
    let weak = client.downgrade();
    let id = Arc::new(Mutex::new(None));
    let (seen, own_id) = (Arc::clone(&seqs), Arc::clone(&id));
    *id.lock().unwrap() = Some(client.on(EventKind::Message, move |event| {
        let client = weak.upgrade().expect("the client lives");
        seen.lock().unwrap().push(client.picture().unwrap().seq);
        let Event::Message { data, .. } = event else { panic!("a message") };
        if data == "last" {
            // A handler may remove itself, and may start a call that outlives it.
            let id = own_id.lock().unwrap().take().expect("set before the first event");
            assert!(client.off(id));
            let done = done_in.clone();
            tokio::spawn(async move { done.send(client.send_message("heard").await) });
        }
    }));
    // A handler that panics does not affect the others.
    client.on(EventKind::All, |_| panic!("a handler of an app fails"));

    let script = async {
        let mut connection = server.let_in(Role::Audience).await;
        connection.send(&batch(11, &[says(BOB, "a"), says(BOB, "b"), says(BOB, "last")])).await;
        let request = connection.request().await;
        connection.send(&batch(14, &[says(BOB, "unheard")])).await;
        connection.send(&result(&request, &MessageSent { seq: 14, delivered: 0 })).await;
        connection
    };
    let app = async {
        client.join(options()).await.unwrap();
        done_out.recv().await.unwrap().unwrap();
    };
    let (_connection, ()) = both(script, app).await;
    assert_eq!(*seqs.lock().unwrap(), [11, 12, 13]);
}

/// Proves SES-7.
#[tokio::test]
async fn a_full_stream_stops_reading_and_loses_nothing() {
    const EVENTS: u64 = 100;
    let server = Server::start().await;
    let mut config = ClientConfig::new(&server.url, "demo");
    config.event_capacity = 16;
    config.command_timeout = Duration::from_secs(5);
    let client = Client::new(config).unwrap();
    let mut events = client.events();
    let script = async {
        let mut connection = server.let_in(Role::Audience).await;
        for n in 0..EVENTS {
            connection.send(&batch(11 + n, &[says(BOB, &n.to_string())])).await;
        }
        let request = connection.request().await;
        let seq = 10 + EVENTS;
        connection.send(&result(&request, &MessageSent { seq, delivered: 0 })).await;
        connection
    };
    let app = async {
        client.join(options()).await.unwrap();
        while events.backlog() < 16 {
            tokio::task::yield_now().await;
        }
        // The server answers at once, but the client is not reading: the call still ends in time.
        let outcome = client.send_message("hello?").await;
        assert_eq!(outcome, Err(MessageError::OutcomeUnknown));
        // The capacity of 16, two for one frame, and one for the call that timed out.
        assert!(events.backlog() <= 16 + 2 + 1, "{}", events.backlog());
        for n in 0..EVENTS {
            let Event::Message { data, .. } = until(&mut events, EventKind::Message).await else {
                panic!("a message")
            };
            assert_eq!(data, n.to_string());
        }
        // The client reads again: the next call is answered; the late answer before it was dropped.
        client.state()
    };
    let (mut connection, state) = both(script, app).await;
    assert_eq!(state, ConnectionState::Connected);
    let answer = async {
        let request = connection.request().await;
        let sent = MessageSent { seq: 10 + EVENTS, delivered: 0 };
        connection.send(&result(&request, &sent)).await;
    };
    let (outcome, ()) = both(client.send_message("again"), answer).await;
    assert_eq!(outcome, Ok(()));
}

#[tokio::test]
async fn dropping_a_full_stream_lets_the_client_go_on() {
    let server = Server::start().await;
    let mut config = ClientConfig::new(&server.url, "demo");
    config.event_capacity = 4;
    let client = Client::new(config).unwrap();
    let events = client.events();
    let script = async {
        let mut connection = server.let_in(Role::Audience).await;
        let many: Vec<_> = (0..50).map(|n| says(BOB, &n.to_string())).collect();
        for (n, event) in many.iter().enumerate() {
            connection.send(&batch(11 + n as u64, std::slice::from_ref(event))).await;
        }
        let request = connection.request().await;
        connection.send(&result(&request, &MessageSent { seq: 60, delivered: 0 })).await;
        connection
    };
    let app = async {
        client.join(options()).await.unwrap();
        while events.backlog() < 4 {
            tokio::task::yield_now().await;
        }
        drop(events);
        client.send_message("x").await
    };
    let (_connection, outcome) = both(script, app).await;
    assert_eq!(outcome, Ok(()));
}

#[tokio::test]
async fn dropping_the_last_handle_closes_the_socket_and_ends_the_stream() {
    let server = Server::start().await;
    let client = client(&server);
    let mut events = client.events();
    let (connection, joined) = both(server.let_in(Role::Audience), client.join(options())).await;
    joined.unwrap();
    let mut connection = connection;
    let weak = client.downgrade();
    let other = client.clone();
    drop(client);
    assert!(weak.upgrade().is_some());
    drop(other);
    assert!(weak.upgrade().is_none());
    assert_eq!(connection.closed().await, Some(1000));
    while events.next().await.is_some() {}
}

/// Proves CLO-1.
#[tokio::test]
async fn after_a_terminal_close_the_same_client_joins_again() {
    let server = Server::start().await;
    let client = client(&server);
    let mut events = client.events();
    let (connection, joined) = both(server.let_in(Role::Audience), client.join(options())).await;
    joined.unwrap();
    let mut connection = connection;
    connection.close(4500).await;
    let event = until(&mut events, EventKind::Disconnected).await;
    assert!(matches!(event,
        Event::Disconnected { code: 4500, reason, terminal: true } if reason == "kicked"));
    assert!(events.picture().is_none());
    let publish = client.publish(MediaSelector::Both).await;
    assert!(matches!(publish, Err(PublishError::NotJoined)));

    let (_connection, joined) = both(server.let_in(Role::Audience), client.join(options())).await;
    assert_eq!(joined.unwrap().uid, ME);
}

/// Proves ERR-1.
#[tokio::test]
async fn a_refusal_comes_as_the_operations_own_error() {
    let server = Server::start().await;
    let client = client(&server);
    let script = async {
        let mut connection = server.accept().await;
        let request = connection.request().await;
        connection.send(&refusal(&request, ErrorName::ChannelFull)).await;
        assert_eq!(connection.closed().await, Some(1000));
    };
    let (joined, ()) = both(client.join(options()), script).await;
    assert!(matches!(joined, Err(JoinError::ChannelFull(_))));
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_fails_the_join() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let servers = [format!("ws://{address}"), "ws://not an address".to_owned()];
    for server in servers {
        let mut config = ClientConfig::new(server, "demo");
        config.command_timeout = Duration::from_secs(5);
        let client = Client::new(config).unwrap();
        let joined = client.join(options()).await;
        // The client retried until the deadline, and the error contains the failure of the last attempt.
        assert!(matches!(joined, Err(JoinError::Closed { code: 1006, .. })), "{joined:?}");
        assert_eq!(client.state(), ConnectionState::Disconnected);
    }
}

/// Proves FRM-9, FRM-11.
#[tokio::test]
async fn names_and_uids_are_checked_before_anything_is_sent() {
    let server = Server::start().await;
    let client = client(&server);
    let joined = client.join(JoinOptions::new("")).await;
    assert!(matches!(joined, Err(JoinError::BadChannelName(_))));
    let bad = Client::new(ClientConfig::new(&server.url, "no spaces")).unwrap();
    assert!(matches!(bad.join(options()).await, Err(JoinError::BadAppkey(_))));
    let subscribed = client.subscribe("007", MediaKind::Audio).await;
    assert!(matches!(subscribed, Err(SubscribeError::BadUid(_))));
    let huge = BigUint::from(u64::MAX) + 1u32;
    let subscribed = client.subscribe(&huge, MediaKind::Audio).await;
    assert!(matches!(subscribed, Err(SubscribeError::UidOutOfRange(_))));
    // A plain integer literal needs no type suffix.
    let subscribed = client.subscribe(42, MediaKind::Audio).await;
    assert!(matches!(subscribed, Err(SubscribeError::NotJoined)));
    assert_eq!("18446744073709551615".into_user_id(), Ok(UserId(u64::MAX)));
}

/// Accepts a client that resumes with `reconnect`, and returns the new connection.
async fn back(server: &Server, k: u64) -> Connection {
    let mut connection = server.accept().await;
    let request = connection.request().await;
    assert_eq!(reconnect_of(&request).ticket, format!("t{}", k - 1));
    connection.send(&replayed(&request, k)).await;
    let ping = connection.request().await;
    assert!(is_ping(&ping));
    connection.send(&pong(&ping, 10)).await;
    connection
}

/// Proves IDS-7, RES-1.
#[tokio::test]
async fn res_1_a_lost_socket_comes_back_and_a_call_takes_effect_once() {
    let server = Server::start().await;
    let client = client(&server);
    let mut events = client.events();
    let script = async {
        let mut connection = server.let_in(Role::Audience).await;
        let request = connection.request().await;
        drop(connection);
        let mut connection = server.accept().await;
        let resume = connection.request().await;
        connection.send(&replayed(&resume, 2)).await;
        let ping = connection.request().await;
        let again = connection.request().await;
        assert_eq!((again.id, &again.call), (request.id, &request.call));
        let last = connection.request().await;
        connection.send(&result(&again, &MessageSent { seq: 10, delivered: 0 })).await;
        connection.send(&pong(&ping, 10)).await;
        connection.send(&pong(&last, 10)).await;
        connection
    };
    let app = async {
        client.join(options()).await.unwrap();
        assert_eq!(client.send_message("once").await, Ok(()));
        until(&mut events, EventKind::Reconnected).await
    };
    let (_connection, event) = both(script, app).await;
    assert!(matches!(event, Event::Reconnected { .. }));
    assert_eq!(client.state(), ConnectionState::Connected);
}

/// Proves CLI-8, RES-1.
#[tokio::test]
async fn a_changed_network_gets_a_new_socket_and_the_old_one_is_closed() {
    let server = Server::start().await;
    let client = client(&server);
    let mut events = client.events();
    let (first, joined) = both(server.let_in(Role::Audience), client.join(options())).await;
    joined.unwrap();
    let mut first = first;
    client.network_changed();
    let app = until(&mut events, EventKind::Reconnected);
    let (second, _) = both(back(&server, 2), app).await;
    assert_eq!(first.closed().await, Some(1000));
    // Late frames of the old socket have no effect; the new socket is read.
    let mut second = second;
    client.foreground();
    let ping = second.request().await;
    assert!(is_ping(&ping));
    second.send(&batch(11, &[says(BOB, "heard")])).await;
    let event = until(&mut events, EventKind::Message).await;
    assert!(matches!(event, Event::Message { data, .. } if data == "heard"));
}

/// Proves CLI-2, CON-12.
#[tokio::test]
async fn con_12_a_binary_and_an_endless_frame_are_gaps() {
    let server = Server::start().await;
    let client = client(&server);
    let mut events = client.events();
    let (connection, joined) = both(server.let_in(Role::Audience), client.join(options())).await;
    joined.unwrap();
    let mut connection = connection;
    // Valid JSON, but in a binary frame.
    connection.send_binary(batch(11, &[says(BOB, "binary")]).as_bytes()).await;
    let gap = |event| {
        assert!(matches!(
            event,
            Event::ConnectionStateChange {
                state: ConnectionState::Reconnecting,
                reason: StateReason::Gap
            }
        ));
    };
    gap(until_state(&mut events, ConnectionState::Reconnecting).await);
    assert_eq!(connection.closed().await, Some(4005));
    let (mut connection, _) =
        both(back(&server, 2), until(&mut events, EventKind::Reconnected)).await;
    let huge = batch(11, &[says(BOB, &"x".repeat(1_100_000))]);
    let (_, event) =
        both(connection.send_huge(huge), until_state(&mut events, ConnectionState::Reconnecting))
            .await;
    gap(event);
}

async fn until_state(events: &mut EventStream, wanted: ConnectionState) -> Event {
    loop {
        let event = until(events, EventKind::ConnectionStateChange).await;
        if matches!(event, Event::ConnectionStateChange { state, .. } if state == wanted) {
            return event;
        }
    }
}

/// The reason of a close is in the received frames; a failed write is not the reason.
/// Proves CLO-1, NOT-2.
#[tokio::test]
async fn not_2_a_close_that_was_received_is_seen_although_writing_failed() {
    let server = Server::start().await;
    let mut config = ClientConfig::new(&server.url, "demo");
    config.event_capacity = 4;
    config.command_timeout = Duration::from_secs(5);
    let client = Client::new(config).unwrap();
    let mut events = client.events();
    let script = async {
        let mut connection = server.let_in(Role::Audience).await;
        for n in 0..20 {
            connection.send(&batch(11 + n, &[says(BOB, &n.to_string())])).await;
        }
        connection.send(&notice(kicked())).await;
        // The server sends no close frame, and the kernel answers the client's next data with a reset.
    };
    let app = async {
        client.join(options()).await.unwrap();
        while events.backlog() < 4 {
            tokio::task::yield_now().await;
        }
    };
    both(script, app).await;
    // The server does not read: these calls fail.
    for _ in 0..3 {
        assert_eq!(client.send_message("x").await, Err(MessageError::OutcomeUnknown));
    }
    let event = until(&mut events, EventKind::Disconnected).await;
    assert!(matches!(event, Event::Disconnected { code: 4500, terminal: true, .. }), "{event:?}");
}

fn kicked() -> Notice {
    Notice::Closing(Closing {
        code: CloseCode::KICKED,
        reason: "kicked".to_owned(),
        action: Action::None,
        url: None,
        retry_after_ms: None,
    })
}

//! Proves no rule of the protocol: requests run once and to their end, errors may be repeated or not, and no caller uses up
//! what others need.

use futures_util::FutureExt;
use http::header::RETRY_AFTER;
use lianmai_protocol::{Appkey, WallTime};
use lianmai_shares::Share;
use tokio::sync::Notify;

use super::*;
use crate::api::keys::{ApiKey, MAX_KEYS, Scope};
use crate::socket::idle_connections::{IdleConnections, TrackedConnection};

/// A connection from this machine, and what tells it to close.
fn track(connections: &IdleConnections) -> (TrackedConnection, Arc<Notify>) {
    let end = Arc::new(Notify::new());
    (connections.track([127, 0, 0, 1].into(), end.clone()), end)
}

fn was_told_to_end(end: &Notify) -> bool {
    end.notified().now_or_never().is_some()
}

/// Proves no rule of the protocol: a connection whose answer is not written yet gives way after all idle ones.
#[tokio::test]
async fn an_answer_that_is_being_written_is_not_cut_for_a_new_connection() {
    let scratch = Scratch::new("writing");
    let (router, _) = obliging(&scratch).await;
    let connections = IdleConnections::default();
    let (reader, reader_end) = track(&connections);
    let request = Request::builder()
        .uri("/v1/apps/demo/channels")
        .header(AUTHORIZATION, format!("Bearer {TOKEN}"))
        .extension(reader.clone())
        .body(Body::empty())
        .unwrap();
    let response = router.oneshot(request).await.unwrap();
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    assert_eq!(bytes, r#"{"channels":[]}"#);
    let (_younger, younger_end) = track(&connections);
    assert!(connections.make_room(), "one is idle");
    assert!(was_told_to_end(&younger_end) && !was_told_to_end(&reader_end));
    drop(bytes);
    let (_younger, younger_end) = track(&connections);
    assert!(connections.make_room(), "both are idle");
    assert!(was_told_to_end(&reader_end) && !was_told_to_end(&younger_end));
}

/// Proves no rule of the protocol: requests of one app that wait do not keep all connections.
#[tokio::test]
async fn connections_beyond_the_share_of_an_app_give_way() {
    let scratch = Scratch::new("busy");
    // No shard answers.
    let (shards, _mailboxes) = Shards::new(1);
    let router = routes(shards, &scratch.1).await;
    let (_, made) = send(&router, "POST /v1/apps/demo/keys", r#"{"scopes": ["read"]}"#).await;
    let key = made["text"].as_str().unwrap();
    let connections = IdleConnections::default();
    let mut asking = Vec::new();
    for key in [key; 17].into_iter().chain([TOKEN; 2]) {
        let (connection, end) = track(&connections);
        let mut request = request(key, "GET /v1/apps/demo/channels", &[], "");
        request.extensions_mut().insert(connection);
        let mut answer = Box::pin(router.clone().oneshot(request));
        assert!(answer.as_mut().now_or_never().is_none(), "it waits for the shard");
        asking.push((answer, end));
    }
    assert!(connections.make_room() && !connections.make_room());
    for (number, (_, end)) in asking.iter().enumerate() {
        assert_eq!(was_told_to_end(end), number == 16, "number {number}");
    }
}

/// Proves no rule of the protocol: expired keys make room, and keys of a removed app can be revoked.
#[tokio::test]
async fn keys_that_are_not_in_use_can_be_removed() {
    let scratch = Scratch::new("unused");
    let (shards, _mailboxes) = Shards::new(1);
    let service = service(shards, &scratch.1).await;
    let (gone, read) = ("gone".parse::<Appkey>().unwrap(), vec![Scope::Read]);
    let (key, _) = service.add_key(Some(gone), String::new(), read.clone(), None).await.unwrap();
    let (keys, demo) = (service.keys.clone(), "demo".parse::<Appkey>().unwrap());
    for number in 0..MAX_KEYS {
        // All but the first expired long ago.
        let (id, name, scopes) = (format!("k{number}"), String::new(), read.clone());
        let expires_at = (number > 0).then_some(WallTime(2));
        let (appkey, created_at) = (Some(demo.clone()), WallTime(1));
        let key = ApiKey { id, appkey, scopes, name, created_at, expires_at };
        assert!(keys.add(key).await.unwrap().is_some(), "key {number}");
    }
    let router = routes_of(service, &scratch.1);
    let (status, made) = send(&router, "POST /v1/apps/demo/keys", r#"{"scopes": ["read"]}"#).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(keys.list(Some(&demo)).len(), 2);
    let again = ApiKeys::load(scratch.1.database()).await.unwrap();
    assert_eq!(again.list(Some(&demo)).len(), 2);

    let revoke = format!("DELETE /v1/apps/gone/keys/{}", key.id);
    let (_, listed) = send(&router, "GET /v1/apps/gone/keys", "").await;
    assert_eq!(listed["keys"][0]["id"], key.id);
    let (status, problem) =
        send(&router, "POST /v1/apps/gone/keys", r#"{"scopes": ["read"]}"#).await;
    assert_eq!((status, &problem["name"]), (404, &json!("noSuchApp")));
    assert_eq!(send(&router, &revoke, "").await.0, 200);
    assert_eq!(send(&router, "GET /v1/apps/gone/keys", "").await.0, 404);
}

/// Proves no rule of the protocol: an error that quotes a long request is whole, also when it is repeated.
#[tokio::test]
async fn an_error_about_a_long_request_is_short() {
    let scratch = Scratch::new("long");
    let (router, _) = obliging(&scratch).await;
    let add = "POST /v1/apps/demo/channels/room/tasks";
    let body = format!(r#"{{"{}": 1}}"#, "ä".repeat(20_000));
    for _ in 0..2 {
        let headers = [("idempotency-key", "a")];
        let (status, _, problem) = send_as(&router, TOKEN, add, &headers, &body).await;
        assert_eq!((status, &problem["name"]), (400, &json!("invalidParams")));
        for text in ["detail", "field"] {
            let length = problem[text].as_str().unwrap().len();
            assert!((1_000..=1_024).contains(&length), "{text} has {length} bytes");
        }
    }
}

/// Proves no rule of the protocol: a refusal of what may succeed later is not stored for its idempotency key.
#[tokio::test]
async fn what_may_succeed_later_is_carried_out_again() {
    let scratch = Scratch::new("later");
    let (shards, mut mailboxes) = Shards::new(1);
    let mut mailbox = mailboxes.remove(0);
    tokio::spawn(async move {
        let mut replies = [
            Err(RpcError::from(ErrorName::StreamUrlBusy).retry_after_ms(30_000)),
            Ok(AdminReply::Done),
        ]
        .into_iter();
        while let Some(message) = mailbox.recv().await {
            let ShardMsg::Admin { answer, .. } = message else { panic!("something else") };
            answer.send(replies.next().expect("it was carried out before")).unwrap();
        }
    });
    let router = routes(shards, &scratch.1).await;
    let kick = "POST /v1/apps/demo/channels/room/members/7/kick";
    let headers = [("idempotency-key", "a")];
    let mut bare = request(TOKEN, kick, &headers, "{}");
    bare.headers_mut().remove(CONTENT_TYPE);
    assert_eq!(router.clone().oneshot(bare).await.unwrap().status(), 415);
    let ask = async || {
        let (status, head, _) = send_as(&router, TOKEN, kick, &headers, "{}").await;
        let retry_after = head.headers().get(RETRY_AFTER).map(|it| it.to_str().unwrap().to_owned());
        (status, retry_after, head.headers().contains_key("idempotent-replayed"))
    };
    assert_eq!(ask().await, (409, Some("30".to_owned()), false));
    assert_eq!(ask().await, (200, None, false));
    assert_eq!(ask().await, (200, None, true));
}

/// Proves no rule of the protocol: a client that goes away leaves no key in progress and no part of a change.
#[tokio::test]
async fn a_request_is_finished_after_its_client_has_gone() {
    let scratch = Scratch::new("gone");
    let kick = "POST /v1/apps/demo/channels/room/members/7/kick";
    let headers = [("idempotency-key", "a")];
    let (shards, mut mailboxes) = Shards::new(1);
    let router = routes(shards, &scratch.1).await;
    let mut asking = Box::pin(router.oneshot(request(TOKEN, kick, &headers, "{}")));
    assert!(asking.as_mut().now_or_never().is_none(), "its key is not stored yet");
    drop(asking);
    let asked = mailboxes[0].recv().await;
    let Some(ShardMsg::Admin { answer, .. }) = asked else { panic!("it is not carried out") };
    answer.send(Ok(AdminReply::Done)).unwrap();
    // The request holds the last handle to the shards.
    assert!(mailboxes[0].recv().await.is_none());
    let (router, asked) = obliging(&scratch).await;
    let (status, head, _) = send_as(&router, TOKEN, kick, &headers, "{}").await;
    assert!(status == 200 && head.headers().contains_key("idempotent-replayed"));
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 0);

    // A request without a key: what is in memory is what is stored.
    let (shards, mut mailboxes) = Shards::new(1);
    let service = service(shards, &scratch.1).await;
    let keys = service.keys.clone();
    let router = routes_of(service, &scratch.1);
    let scopes = r#"{"scopes": ["read"]}"#;
    let (_, made) = send(&router, "POST /v1/apps/demo/keys", scopes).await;
    let text = made["text"].as_str().unwrap();
    let revoke = format!("DELETE /v1/apps/demo/keys/{}", made["id"].as_str().unwrap());
    let mut asking = Box::pin(router.oneshot(request(TOKEN, &revoke, &[], "")));
    assert!(asking.as_mut().now_or_never().is_none(), "it is not written yet");
    drop(asking);
    assert!(mailboxes[0].recv().await.is_none());
    assert!(keys.caller(text, wall_now()).is_none());
}

/// Proves no rule of the protocol: a reader gets past events that cannot be read.
#[tokio::test]
async fn damaged_events_do_not_stop_a_reader() {
    let scratch = Scratch::new("damaged");
    let (shards, mut mailboxes) = Shards::new(1);
    let mut mailbox = mailboxes.remove(0);
    tokio::spawn(async move {
        while let Some(ShardMsg::Stats(answer)) = mailbox.recv().await {
            answer.send(lianmai_signal_engine::Stats::default()).unwrap();
        }
    });
    let router = routes(shards, &scratch.1).await;
    let file = rusqlite::Connection::open(scratch.0.join("lianmai.db")).unwrap();
    for seq in 1..=3 {
        let sql = "INSERT INTO event (appkey, channel, seq, at, record) VALUES ('demo', 'room', ?, 1, 'x')";
        file.execute(sql, [seq]).unwrap();
    }
    let mut path = "GET /v1/apps/demo/events?limit=1".to_owned();
    for more in [true, true, false] {
        let (status, page) = send(&router, &path, "").await;
        assert_eq!((status, &page["events"]), (200, &json!([])));
        assert_eq!(page["more"], more, "{path}");
        path = format!(
            "GET /v1/apps/demo/events?limit=1&after={}",
            page["nextCursor"].as_str().unwrap()
        );
    }
}

/// Proves no rule of the protocol: bounds of a channel are conflicts, and no shares of bans.
#[tokio::test]
async fn a_full_channel_is_a_conflict() {
    let scratch = Scratch::new("barred");
    let (shards, mut mailboxes) = Shards::new(1);
    let mut mailbox = mailboxes.remove(0);
    tokio::spawn(async move {
        while let Some(ShardMsg::Admin { command, answer }) = mailbox.recv().await {
            let name = match command {
                AdminCommand::SetRole { .. } => ErrorName::AttributesTooLarge,
                _ => ErrorName::TooManyBans,
            };
            answer.send(Err(name.into())).unwrap();
        }
    });
    let router = routes(shards, &scratch.1).await;
    let bar = "PUT /v1/apps/demo/channels/room/members/7/barred";
    let (status, problem) = send(&router, bar, r#"{"kinds": ["audio"]}"#).await;
    assert_eq!((status, &problem["name"]), (409, &json!("tooManyBarred")));
    let role = "PUT /v1/apps/demo/channels/room/members/7/role";
    let (status, problem) = send(&router, role, r#"{"role": "broadcaster"}"#).await;
    assert_eq!((status, &problem["name"]), (409, &json!("attributesTooLarge")));
    let kick = "POST /v1/apps/demo/channels/room/members/7/kick";
    let (status, problem) = send(&router, kick, "{}").await;
    assert_eq!((status, &problem["name"]), (503, &json!("tooManyBans")));
}

/// Proves no rule of the protocol: pings that wait for the endpoints of one app leave room for those of others.
#[tokio::test]
async fn an_app_has_a_bounded_number_of_pings() {
    let scratch = Scratch::new("pings");
    let (shards, _mailboxes) = Shards::new(1);
    let service = service(shards, &scratch.1).await;
    let pings = service.pings.clone();
    let router = routes_of(service, &scratch.1);
    // An address that no delivery may go to: nothing is sent.
    let made = r#"{"url": "https://127.0.0.1/x"}"#;
    let (_, webhook) = send(&router, "POST /v1/apps/demo/webhooks", made).await;
    let ping = format!("POST /v1/apps/demo/webhooks/{}/ping", webhook["id"].as_str().unwrap());
    let of = |appkey: &str| [(appkey.parse::<Appkey>().unwrap(), Share::ALL)];
    let held: Vec<_> = (0..4).map(|_| pings.acquire(of("demo")).unwrap()).collect();
    let (status, full) = send(&router, &ping, "").await;
    assert_eq!((status, &full["name"]), (429, &json!("tooManyPings")));
    assert_eq!(pings.taken(), 4, "others have room");
    drop(held);
    assert_eq!(send(&router, &ping, "").await.0, 200);
    assert_eq!(pings.taken(), 0);
}

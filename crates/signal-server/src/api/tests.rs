//! Proves no rule of the protocol: what operators hear of a server that stops, and of bans.

use std::path::PathBuf;

use axum::body::to_bytes;
use lianmai_media_plane::RelayConfig;
use lianmai_protocol::{ErrorName, RpcError, UserId};
use lianmai_signal_engine::output::BanView;
use lianmai_signal_engine::{AdminCommand, AdminReply, ChannelKey};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::clock::wall_now;
use crate::data_dir::DirLock;
use crate::records::{self, Opening};
use crate::shard::{ShardMsg, Shards};

const TOKEN: &str = "for the test";

/// A store for routes that look at none, and its directory.
struct Scratch(PathBuf, Arc<dyn Records>);

impl Scratch {
    fn new(name: &str) -> Self {
        let directory = format!("lianmai-api-{}-{name}", std::process::id());
        let directory = std::env::temp_dir().join(directory);
        let _ = std::fs::remove_dir_all(&directory);
        let lock = Arc::new(DirLock::take(&directory).unwrap());
        let opening = Opening { now: wall_now(), grace_ms: 1000, shards: 1 };
        let (store, _) = records::open(&directory, lock, opening).unwrap();
        Scratch(directory, store)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn routes(shards: Shards, store: &Arc<dyn Records>) -> Router {
    let (_, phase) = watch::channel(Phase::Frozen);
    router(Api {
        service: Service::new(shards),
        hub: Hub::new(RelayConfig::default()),
        forwards: Arc::default(),
        tasks: None,
        metrics: Metrics::new().0,
        token: Secret::new(TOKEN),
        store: Arc::clone(store),
        phase,
    })
}

/// Status and name of the error, if it is one.
async fn ask(router: &Router, first: &str) -> (u16, Option<String>) {
    let (status, body) = send(router, first, r#"{"uid": "7"}"#).await;
    (status, body["name"].as_str().map(ToOwned::to_owned))
}

/// Status and body.
async fn send(router: &Router, first: &str, body: &'static str) -> (u16, Value) {
    let (method, path) = first.split_once(' ').unwrap();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(AUTHORIZATION, format!("Bearer {TOKEN}"))
        .header("content-type", "application/json")
        .body(Body::from(body))
        .unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

const QUESTIONS: [&str; 8] = [
    "GET /v1/channels",
    "GET /v1/channels/room?appkey=demo",
    "POST /v1/channels/room/kick?appkey=demo",
    "POST /v1/channels/room/close?appkey=demo",
    "GET /v1/channels/room/bans?appkey=demo",
    "POST /v1/channels/room/unban?appkey=demo",
    "GET /v1/bans",
    "GET /readyz",
];

/// A channel that lives is never 404, and the list is never short: somebody would end what is not in it.
#[tokio::test]
async fn a_server_that_stops_says_so_instead_of_less_than_there_is() {
    let scratch = Scratch::new("stops");
    let draining = (503, Some("draining".to_owned()));

    // One of two shards is frozen, and answers as an engine does then.
    let (shards, mailboxes) = Shards::new(2);
    for (frozen, mut mailbox) in [false, true].into_iter().zip(mailboxes) {
        tokio::spawn(async move {
            while let Some(message) = mailbox.recv().await {
                let ShardMsg::Admin { answer, .. } = message else { panic!("something else") };
                let reply = if frozen {
                    Err(ErrorName::Draining.into())
                } else {
                    Ok(AdminReply::Channels(Vec::new()))
                };
                answer.send(reply).unwrap();
            }
        });
    }
    let router = routes(shards, &scratch.1);
    assert_eq!(ask(&router, QUESTIONS[0]).await, draining, "a part of the channels is no list");

    // All are.
    let (shards, mailboxes) = Shards::new(2);
    for mut mailbox in mailboxes {
        tokio::spawn(async move {
            while let Some(message) = mailbox.recv().await {
                let ShardMsg::Admin { answer, .. } = message else { panic!("something else") };
                answer.send(Err::<_, RpcError>(ErrorName::Draining.into())).unwrap();
            }
        });
    }
    let router = routes(shards, &scratch.1);
    for question in QUESTIONS {
        assert_eq!(ask(&router, question).await, draining, "frozen: {question}");
    }

    // They have ended, and so have their numbers.
    let (shards, mailboxes) = Shards::new(2);
    drop(mailboxes);
    let router = routes(shards, &scratch.1);
    for question in QUESTIONS.into_iter().chain(["GET /metrics"]) {
        assert_eq!(ask(&router, question).await, draining, "ended: {question}");
    }
    assert_eq!(ask(&router, "GET /healthz").await.0, 200, "it lives");
}

/// One shard of two has a ban, made by a moderator.
#[tokio::test]
async fn operators_see_and_lift_bans() {
    let scratch = Scratch::new("bans");
    let (shards, mailboxes) = Shards::new(2);
    let key = ChannelKey { appkey: "demo".parse().unwrap(), name: "room".parse().unwrap() };
    let ban = BanView { channel: key, uid: Some(UserId(7)), by: Some(UserId(1)), left_ms: 60_000 };
    for (bans, mut mailbox) in [vec![ban], Vec::new()].into_iter().zip(mailboxes) {
        tokio::spawn(async move {
            while let Some(message) = mailbox.recv().await {
                let ShardMsg::Admin { command, answer } = message else { panic!("something else") };
                let reply = match command {
                    AdminCommand::ListBans(_) => AdminReply::Bans(bans.clone()),
                    AdminCommand::LiftBan { .. } => AdminReply::Lifted(1),
                    AdminCommand::LiftBansBy { by, .. } => {
                        assert_eq!(by, UserId(1));
                        AdminReply::Lifted(bans.len())
                    }
                    other => panic!("{other:?}"),
                };
                answer.send(Ok(reply)).unwrap();
            }
        });
    }
    let router = routes(shards, &scratch.1);
    let listed = json!({"bans": [{"appkey": "demo", "channelName": "room", "uid": "7", "by": "1", "leftMs": 60_000}]});
    assert_eq!(send(&router, "GET /v1/bans", "").await, (200, listed));
    let (status, _) = send(&router, "GET /v1/channels/room/bans?appkey=demo", "").await;
    assert_eq!(status, 200);
    let lifted = |count: u64| (200, json!({ "lifted": count }));
    let one = send(&router, "POST /v1/channels/room/unban?appkey=demo", r#"{"uid": "7"}"#).await;
    assert_eq!(one, lifted(1));
    let all = send(&router, "POST /v1/unban", r#"{"appkey": "demo", "by": "1"}"#).await;
    assert_eq!(all, lifted(1));
    assert_eq!(send(&router, "POST /v1/unban", r#"{"by": "1"}"#).await.0, 400);
    let misspelt = r#"{"uuid": "7"}"#;
    assert_eq!(send(&router, "POST /v1/channels/room/unban?appkey=demo", misspelt).await.0, 400);
}

//! Proves no rule of the protocol: answers to operators while a server stops, and bans.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use http::header::AUTHORIZATION;
use http::{Request, Response};
use lianmai_media_plane::RelayConfig;
use lianmai_protocol::{ErrorName, RpcError, UserId};
use lianmai_signal_engine::output::BanView;
use lianmai_signal_engine::{AdminCommand, AdminReply, ChannelKey};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::keys::ApiKeys;
use super::*;
use crate::auth::RevocationList;
use crate::clock::wall_now;
use crate::config::{AppMode, JwtKey, TokenKeys};
use crate::data_dir::DirLock;
use crate::hooks::{Deliverer, Egress, Endpoints, HookMetrics, Poster};
use crate::records::{self, OpenParams};
use crate::relay::client_tls;
use crate::shard::{ShardMsg, Shards};

mod requests;

const TOKEN: &str = "for the test";

/// A store, and its directory.
struct Scratch(PathBuf, Arc<dyn Records>);

impl Scratch {
    fn new(name: &str) -> Self {
        let directory = format!("lianmai-api-{}-{name}", std::process::id());
        let directory = std::env::temp_dir().join(directory);
        let _ = std::fs::remove_dir_all(&directory);
        let lock = Arc::new(DirLock::take(&directory).unwrap());
        let params = OpenParams { now: wall_now(), grace_ms: 1000, shards: 1 };
        let (store, _) = records::open(&directory, lock, params).unwrap();
        Scratch(directory, store)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn routes(shards: Shards, store: &Arc<dyn Records>) -> Router {
    routes_of(service(shards, store).await, store)
}

async fn service(shards: Shards, store: &Arc<dyn Records>) -> Service {
    let endpoints = Endpoints::load(store.database()).await.unwrap();
    let deliverer = Deliverer {
        database: store.database(),
        endpoints: endpoints.clone(),
        poster: Poster {
            egress: Arc::new(Egress::default()),
            tls: client_tls::client_config(None).unwrap(),
            timeout: Duration::from_secs(1),
        },
        give_up_ms: 1_000,
        keep_ms: 1_000,
        keep_events: 1_000,
        metrics: HookMetrics::default(),
    };
    let jwt = JwtKey { kid: "k".to_owned(), secret: Secret::new("x".repeat(32)) };
    let safe = AppMode::Safe(TokenKeys { basic: None, jwt: vec![jwt] });
    let apps = [("demo", AppMode::Debug), ("other", safe)];
    let apps = apps.map(|(appkey, mode)| (appkey.parse().unwrap(), mode));
    Service {
        shards,
        database: store.database(),
        store: Arc::clone(store),
        keeps_history: true,
        keys: ApiKeys::load(store.database()).await.unwrap(),
        endpoints,
        deliverer,
        pings: lianmai_shares::Slots::new(service::MAX_PINGS),
        revocations: RevocationList::default(),
        apps: Arc::new(BTreeMap::from(apps)),
    }
}

fn routes_of(service: Service, store: &Arc<dyn Records>) -> Router {
    let (_, phase) = watch::channel(Phase::Frozen);
    router(Api {
        service,
        hub: Hub::new(RelayConfig::default()),
        forwards: Arc::default(),
        tasks: None,
        metrics: Metrics::new().0,
        token: Secret::new(TOKEN),
        store: Arc::clone(store),
        phase,
    })
}

/// Status, and name of the error if it is one.
async fn ask(router: &Router, first: &str) -> (u16, Option<String>) {
    let body = if first.contains("/kick") { r#"{"durationS": 60}"# } else { "{}" };
    let (status, body) = send(router, first, body).await;
    (status, body["name"].as_str().map(ToOwned::to_owned))
}

/// Status and body.
async fn send(router: &Router, first: &str, body: &str) -> (u16, Value) {
    let (status, _, body) = send_as(router, TOKEN, first, &[], body).await;
    (status, body)
}

fn request(key: &str, first: &str, headers: &[(&str, &str)], body: &str) -> Request<Body> {
    let (method, path) = first.split_once(' ').unwrap();
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(AUTHORIZATION, format!("Bearer {key}"))
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body.to_owned())).unwrap()
}

/// Status, head and body of the answer to a request with this key.
async fn send_as(
    router: &Router,
    key: &str,
    first: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, Response<()>, Value) {
    let response = router.clone().oneshot(request(key, first, headers, body)).await.unwrap();
    let (parts, body) = response.into_parts();
    let status = parts.status.as_u16();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let value = serde_json::from_slice(&body).unwrap_or_default();
    (status, Response::from_parts(parts, ()), value)
}

const QUESTIONS: [&str; 9] = [
    "GET /v1/apps/demo/channels",
    "GET /v1/apps/demo/channels/room",
    "GET /v1/apps/demo/channels/room/members",
    "POST /v1/apps/demo/channels/room/members/7/kick",
    "POST /v1/apps/demo/channels/room/close",
    "GET /v1/apps/demo/channels/room/bans",
    "DELETE /v1/apps/demo/channels/room/bans/7",
    "GET /v1/apps/demo/bans",
    "GET /readyz",
];

/// A channel that lives never gives 404, and the list is never incomplete: callers might end what is not in it.
#[tokio::test]
async fn a_stopping_server_answers_with_an_error_instead_of_a_partial_list() {
    let scratch = Scratch::new("stops");
    let draining = (503, Some("draining".to_owned()));

    // One of two shards is frozen, and answers like an engine in that state.
    let (shards, mailboxes) = Shards::new(2);
    for (frozen, mut mailbox) in [false, true].into_iter().zip(mailboxes) {
        tokio::spawn(async move {
            while let Some(message) = mailbox.recv().await {
                let ShardMsg::Admin { answer, .. } = message else {
                    panic!("expected a command of the API")
                };
                let reply = if frozen {
                    Err(ErrorName::Draining.into())
                } else {
                    Ok(AdminReply::Channels(Vec::new()))
                };
                answer.send(reply).unwrap();
            }
        });
    }
    let router = routes(shards, &scratch.1).await;
    assert_eq!(ask(&router, QUESTIONS[0]).await, draining, "a partial list must not be sent");

    // All shards are frozen.
    let (shards, mailboxes) = Shards::new(2);
    for mut mailbox in mailboxes {
        tokio::spawn(async move {
            while let Some(message) = mailbox.recv().await {
                let ShardMsg::Admin { answer, .. } = message else {
                    panic!("expected a command of the API")
                };
                answer.send(Err::<_, RpcError>(ErrorName::Draining.into())).unwrap();
            }
        });
    }
    let router = routes(shards, &scratch.1).await;
    for question in QUESTIONS {
        assert_eq!(ask(&router, question).await, draining, "frozen: {question}");
    }

    // The shards have ended, so there are no metrics either.
    let (shards, mailboxes) = Shards::new(2);
    drop(mailboxes);
    let router = routes(shards, &scratch.1).await;
    for question in QUESTIONS.into_iter().chain(["GET /metrics"]) {
        assert_eq!(ask(&router, question).await, draining, "ended: {question}");
    }
    assert_eq!(ask(&router, "GET /healthz").await.0, 200, "the shard is alive");
}

/// One of two shards has a ban, made by a moderator.
#[tokio::test]
async fn operators_see_and_lift_bans() {
    let scratch = Scratch::new("bans");
    let (shards, mailboxes) = Shards::new(2);
    let key = ChannelKey { appkey: "demo".parse().unwrap(), name: "room".parse().unwrap() };
    let ban = BanView { channel: key, uid: Some(UserId(7)), by: Some(UserId(1)), left_ms: 60_000 };
    for (bans, mut mailbox) in [vec![ban], Vec::new()].into_iter().zip(mailboxes) {
        tokio::spawn(async move {
            while let Some(message) = mailbox.recv().await {
                let ShardMsg::Admin { command, answer } = message else {
                    panic!("expected a command of the API")
                };
                let reply = match command {
                    AdminCommand::ListBans(_) => AdminReply::Bans(bans.clone()),
                    AdminCommand::ListBansOfApp(appkey) => {
                        let own = bans.iter().filter(|ban| ban.channel.appkey == appkey);
                        AdminReply::Bans(own.cloned().collect())
                    }
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
    let router = routes(shards, &scratch.1).await;
    let listed =
        json!({"bans": [{"channelName": "room", "uid": "7", "by": "1", "leftMs": 60_000}]});
    assert_eq!(send(&router, "GET /v1/apps/demo/bans", "").await, (200, listed.clone()));
    assert_eq!(send(&router, "GET /v1/apps/other/bans", "").await, (200, json!({"bans": []})));
    assert_eq!(send(&router, "GET /v1/apps/demo/channels/room/bans", "").await, (200, listed));
    let lifted = |count: u64| (200, json!({ "lifted": count }));
    let one = send(&router, "DELETE /v1/apps/demo/channels/room/bans/7", "").await;
    assert_eq!(one, lifted(1));
    let all = send(&router, "POST /v1/apps/demo/bans/lift", r#"{"by": "1"}"#).await;
    assert_eq!(all, lifted(1));
    assert_eq!(send(&router, "POST /v1/apps/demo/bans/lift", "{}").await.0, 400);
}

/// A router whose shards accept all changes, and the number of requests to them.
async fn obliging(scratch: &Scratch) -> (Router, Arc<std::sync::atomic::AtomicUsize>) {
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (shards, mailboxes) = Shards::new(1);
    for mut mailbox in mailboxes {
        let asked = asked.clone();
        tokio::spawn(async move {
            while let Some(message) = mailbox.recv().await {
                let ShardMsg::Admin { command, answer } = message else {
                    panic!("expected a command of the API")
                };
                asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let reply = match command {
                    AdminCommand::PageChannels { .. } => AdminReply::Channels(Vec::new()),
                    AdminCommand::ListBans(_) | AdminCommand::ListBansOfApp(_) => {
                        AdminReply::Bans(Vec::new())
                    }
                    AdminCommand::LiftBan { .. } => AdminReply::Lifted(0),
                    _ => AdminReply::Done,
                };
                let _ = answer.send(Ok(reply));
            }
        });
    }
    (routes(shards, &scratch.1).await, asked)
}

/// Proves no rule of the protocol: the scopes of a key, and that a revoked key has none.
#[tokio::test]
async fn an_api_key_is_limited_to_its_scopes_and_app() {
    let scratch = Scratch::new("keys");
    let (router, _) = obliging(&scratch).await;
    let mut keys = BTreeMap::new();
    for scope in ["read", "moderate", "admin"] {
        let body = format!(r#"{{"scopes": ["{scope}"], "name": "{scope}"}}"#);
        let (status, made) = send(&router, "POST /v1/apps/demo/keys", &body).await;
        assert_eq!(status, 201, "{made}");
        let text = made["text"].as_str().unwrap().to_owned();
        assert!(text.starts_with("lmk_"), "{text}");
        keys.insert(scope, (text, made["id"].as_str().unwrap().to_owned()));
    }
    let ask = async |key: &str, first: &str, body: &str| {
        let (status, _, body) = send_as(&router, key, first, &[], body).await;
        (status, body["name"].as_str().unwrap_or_default().to_owned())
    };
    let kick = "POST /v1/apps/demo/channels/room/members/7/kick";
    let policy = "PUT /v1/apps/demo/channels/room/policy";
    for (scope, allowed) in [("read", 1), ("moderate", 2), ("admin", 3)] {
        let key = &keys[scope].0;
        let routes = [("GET /v1/apps/demo/channels", ""), (kick, "{}"), (policy, "{}")];
        for (number, (first, body)) in routes.into_iter().enumerate() {
            let got = ask(key, first, body).await;
            if number < allowed {
                assert_eq!(got.0, 200, "{scope} {first} {got:?}");
            } else {
                assert_eq!(got, (403, "missingScope".to_owned()), "{scope} {first}");
            }
        }
        assert_eq!(ask(key, "GET /metrics", "").await, (403, "wrongApp".to_owned()));
        assert_eq!(ask(key, "GET /v1/keys", "").await, (403, "missingScope".to_owned()));
    }
    let admin = &keys["admin"].0;
    for app in ["other", "none", "%20", "%FF"] {
        let got = ask(admin, &format!("GET /v1/apps/{app}/channels"), "").await;
        assert_eq!(got, (403, "wrongApp".to_owned()), "{app}");
    }
    assert_eq!(ask(TOKEN, "GET /v1/apps/none/channels", "").await, (404, "noSuchApp".to_owned()));
    // The text is not given again.
    let (_, listed) = send(&router, "GET /v1/apps/demo/keys", "").await;
    assert_eq!(listed["keys"].as_array().unwrap().len(), 3);
    let secret = keys["read"].0.rsplit('_').next().unwrap().to_owned();
    assert!(!listed.to_string().contains(&secret));
    for wrong in
        ["lmk_", "lmk_x_y", "lmk", &keys["read"].0[..20], "", &format!("{}x", keys["read"].0)]
    {
        let got = ask(wrong, "GET /v1/apps/demo/channels", "").await;
        assert_eq!(got, (401, "unauthorized".to_owned()), "{wrong}");
    }
    // As the next process loads them.
    let again = ApiKeys::load(scratch.1.database()).await.unwrap();
    assert!(again.caller(&keys["read"].0, wall_now()).is_some());
    let path = format!("DELETE /v1/apps/demo/keys/{}", keys["read"].1);
    assert_eq!(ask(admin, &path, "").await.0, 200);
    assert_eq!(ask(admin, &path, "").await, (404, "noSuchKey".to_owned()));
    assert_eq!(ask(&keys["read"].0, "GET /v1/apps/demo/channels", "").await.0, 401);
    let again = ApiKeys::load(scratch.1.database()).await.unwrap();
    assert!(again.caller(&keys["read"].0, wall_now()).is_none());
    // A key for all apps.
    let (_, made) = send(&router, "POST /v1/keys", r#"{"scopes": ["read"]}"#).await;
    let text = made["text"].as_str().unwrap();
    assert_eq!(ask(text, "GET /v1/apps/other/channels", "").await.0, 200);
    assert_eq!(ask(text, "GET /v1/keys", "").await.0, 403);
}

/// Proves no rule of the protocol: a request with an idempotency key takes effect once.
#[tokio::test]
async fn a_repeated_request_takes_effect_once() {
    let scratch = Scratch::new("idempotency");
    let (router, asked) = obliging(&scratch).await;
    let kick = "POST /v1/apps/demo/channels/room/members/7/kick";
    let count = || asked.load(std::sync::atomic::Ordering::Relaxed);
    let ask = async |first: &str, key: &str, body: &str| {
        let headers = [("idempotency-key", key)];
        let (status, head, body) = send_as(&router, TOKEN, first, &headers, body).await;
        let replayed = head.headers().contains_key("idempotent-replayed");
        (status, body["name"].as_str().unwrap_or_default().to_owned(), replayed)
    };
    assert_eq!(ask(kick, "a", "{}").await, (200, String::new(), false));
    assert_eq!(ask(kick, "a", "{}").await, (200, String::new(), true));
    assert_eq!(count(), 1);
    for (first, body) in
        [(kick, r#"{"durationS": 1}"#), ("POST /v1/apps/demo/channels/other/members/7/kick", "{}")]
    {
        let got = ask(first, "a", body).await;
        assert_eq!(got, (409, "idempotencyKeyReused".to_owned(), false));
    }
    assert_eq!(count(), 1, "nothing changed");
    // A request that was refused is refused again, without being carried out.
    let bad = ask(kick, "b", r#"{"durationS": "x"}"#).await;
    assert_eq!((bad.0, bad.2), (400, false));
    let bad = ask(kick, "b", r#"{"durationS": "x"}"#).await;
    assert_eq!((bad.0, bad.1.as_str(), bad.2), (400, "invalidParams", true));
    assert_eq!(ask(kick, "", "{}").await.1, "badIdempotencyKey");
    assert_eq!(ask(kick, &"x".repeat(129), "{}").await.1, "badIdempotencyKey");
    assert_eq!(
        ask("GET /v1/apps/demo/channels", "a", "").await.0,
        200,
        "a read ignores the idempotency key"
    );
    // A secret is given once, and the file does not hold it.
    let make = "POST /v1/apps/demo/keys";
    let scopes = r#"{"scopes": ["read"]}"#;
    let headers = [("idempotency-key", "k")];
    let (status, _, made) = send_as(&router, TOKEN, make, &headers, scopes).await;
    assert_eq!(status, 201, "{made}");
    let (status, _, again) = send_as(&router, TOKEN, make, &headers, scopes).await;
    assert_eq!((status, &again["name"]), (409, &json!("idempotencyAnswerNotKept")));
    // Keys of two callers are independent.
    let (_, made) = send(&router, "POST /v1/apps/demo/keys", r#"{"scopes": ["admin"]}"#).await;
    let key = made["text"].as_str().unwrap();
    let headers = [("idempotency-key", "a")];
    let (status, ..) = send_as(&router, key, kick, &headers, r#"{"durationS": 5}"#).await;
    assert_eq!((status, count()), (200, 3), "expected a kick, a read and a kick");
}

/// Proves no rule of the protocol: errors of a request are reported, and nothing changes.
#[tokio::test]
async fn invalid_requests_are_explained() {
    let scratch = Scratch::new("wrong");
    let (router, asked) = obliging(&scratch).await;
    for (first, body, status, name, field) in [
        ("GET /v1/apps/demo/channels?limit=0", "", 400, "invalidParams", "limit"),
        ("GET /v1/apps/demo/channels?limit=1001", "", 400, "invalidParams", "limit"),
        ("GET /v1/apps/demo/channels?limit=x", "", 400, "invalidParams", ""),
        ("GET /v1/apps/demo/channels?limit=1&limit=1", "", 400, "invalidParams", ""),
        ("GET /v1/apps/demo/channels?nonsense=1", "", 400, "invalidParams", ""),
        ("GET /v1/apps/demo/channels/a?nonsense=1", "", 400, "invalidParams", ""),
        ("DELETE /v1/apps/demo/channels/a/bans/7?limit=1", "", 400, "invalidParams", ""),
        ("GET /v1/keys?limit=1", "", 400, "invalidParams", ""),
        ("GET /v1/apps/demo/channels?after=x", "", 404, "badCursor", "after"),
        ("GET /v1/apps/demo/events?after=bWVtYmVyczo3", "", 404, "badCursor", "after"),
        // `events:x.9223372036854775808`
        (
            "GET /v1/apps/demo/events?after=ZXZlbnRzOnguOTIyMzM3MjAzNjg1NDc3NTgwOA",
            "",
            404,
            "badCursor",
            "after",
        ),
        ("GET /v1/apps/demo/channels/a%2Fb", "", 400, "badChannelName", ""),
        ("GET /v1/apps/demo/channels/%2E%2E", "", 400, "badChannelName", ""),
        ("GET /v1/apps/demo/channels/%FF", "", 400, "badChannelName", ""),
        ("GET /v1/apps/%FF/channels/a", "", 404, "noSuchApp", ""),
        ("GET /v1/apps/demo/channels/a/members/%FF", "", 400, "badUid", "uid"),
        ("GET /v1/apps/demo/channels/a/tasks/%FF", "", 422, "badTask", "task"),
        ("DELETE /v1/apps/demo/keys/%FF", "", 404, "noSuchKey", ""),
        ("DELETE /v1/keys/%FF", "", 404, "noSuchKey", ""),
        ("GET /v1/apps/demo/channels/a/members/007", "", 400, "badUid", "uid"),
        (
            "GET /v1/apps/demo/channels/a/members/18446744073709551616",
            "",
            400,
            "uidOutOfRange",
            "uid",
        ),
        ("POST /v1/apps/demo/channels/a/members/7/kick", r#"{"x": 1}"#, 400, "invalidParams", "x"),
        (
            "POST /v1/apps/demo/channels/a/members/7/kick",
            r#"{"durationS": 1, "durationS": 1}"#,
            400,
            "invalidParams",
            "",
        ),
        ("POST /v1/apps/demo/channels/a/members/7/kick", r#"{} {}"#, 400, "invalidParams", ""),
        (
            "PUT /v1/apps/demo/channels/a/members/7/role",
            r#"{"role": "king"}"#,
            400,
            "invalidParams",
            "role",
        ),
        (
            "PUT /v1/apps/demo/channels/a/members/7/barred",
            r#"{"kinds": ["smell"]}"#,
            400,
            "invalidParams",
            "kinds[0]",
        ),
        ("POST /v1/apps/demo/tokens", r#"{"ttlS": 60}"#, 409, "debugMode", ""),
        ("POST /v1/apps/other/tokens", r#"{"ttlS": 0}"#, 400, "invalidParams", "ttlS"),
        (
            "POST /v1/apps/other/tokens/revoke",
            r#"{"notBefore": 99999999999999}"#,
            409,
            "inFuture",
            "notBefore",
        ),
        (
            "POST /v1/apps/demo/webhooks",
            r#"{"url": "ftp://a.example/"}"#,
            422,
            "badWebhookUrl",
            "url",
        ),
        (
            "POST /v1/apps/demo/webhooks",
            r#"{"url": "https://a.example/", "events": ["x"]}"#,
            400,
            "badEventType",
            "events",
        ),
        ("GET /v1/apps/demo/webhooks/none", "", 404, "noSuchWebhook", ""),
        ("GET /v1/apps/demo/webhooks/none/deadLetters", "", 404, "noSuchWebhook", ""),
        ("POST /v1/apps/demo/keys", r#"{"scopes": []}"#, 400, "invalidParams", "scopes"),
        (
            "POST /v1/apps/demo/keys",
            r#"{"scopes": ["read"], "expiresAt": 1}"#,
            409,
            "hasPassed",
            "expiresAt",
        ),
        (
            "POST /v1/apps/demo/channels",
            r#"{"channelName": ".."}"#,
            400,
            "invalidParams",
            "channelName",
        ),
        ("DELETE /v1/apps/demo/channels/a/bans/7", r#"{"x": 1}"#, 400, "invalidParams", ""),
        ("POST /v1/apps/demo/webhooks/none/rotateSecret", r#"{"x": 1}"#, 400, "invalidParams", ""),
        ("DELETE /v1/keys/none", "x", 400, "invalidParams", ""),
        ("GET /metrics?x=1", "", 400, "invalidParams", ""),
        ("GET /openapi.json?x=1", "", 400, "invalidParams", ""),
        ("DELETE /v1/keys/none", "{}", 404, "noSuchKey", ""),
        (
            "POST /v1/apps/demo/channels",
            r#"{"channelName": "a", "attributes": {"a": "1", "\u0061": "2"}}"#,
            400,
            "invalidParams",
            "attributes",
        ),
        (
            "PATCH /v1/apps/demo/channels/a/attributes",
            r#"{"attributes": {"a": "1", "a": null}}"#,
            400,
            "invalidParams",
            "attributes",
        ),
        (
            "POST /v1/apps/other/tokens",
            r#"{"ttlS": 60, "notBefore": 253402300799000}"#,
            400,
            "invalidParams",
            "notBefore",
        ),
        ("GET /v1/channels", "", 404, "notFound", ""),
        ("GET /v1/bans", "", 404, "notFound", ""),
    ] {
        let (got, problem) = send(&router, first, body).await;
        let context = format!("{first} {body}: {got} {problem}");
        assert_eq!(
            (got, problem["name"].as_str().unwrap_or_default()),
            (status, name),
            "{context}"
        );
        assert_eq!(problem["status"], status, "{context}");
        assert_eq!(problem["type"], format!("urn:lianmai:problem:{name}"), "{context}");
        if !field.is_empty() {
            assert_eq!(problem["field"], field, "{context}");
        }
    }
    assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 0);
}

/// Proves no rule of the protocol: tokens are minted and revoked, webhooks made and changed.
#[tokio::test]
async fn tokens_and_webhooks_are_created_and_removed() {
    let scratch = Scratch::new("made");
    let (router, _) = obliging(&scratch).await;
    let body = r#"{"uid": "7", "channelName": "room", "ttlS": 60, "rights": {"publish": ["audio"], "broadcast": true}}"#;
    let (status, token) = send(&router, "POST /v1/apps/other/tokens", body).await;
    assert_eq!(status, 201, "{token}");
    assert_eq!(token["token"].as_str().unwrap().split('.').count(), 3);
    let (status, from) =
        send(&router, "POST /v1/apps/other/tokens/revoke", r#"{"uid": "7"}"#).await;
    assert!(status == 200 && from["notBefore"].as_u64().is_some(), "{from}");
    // As far ahead as the clock of an app's server may be.
    let ahead = format!(r#"{{"uid": "7", "notBefore": {}}}"#, wall_now().0 + 59_000);
    assert_eq!(send(&router, "POST /v1/apps/other/tokens/revoke", &ahead).await.0, 200);
    let ahead = format!(r#"{{"uid": "7", "notBefore": {}}}"#, wall_now().0 + 86_400_000);
    let (status, problem) = send(&router, "POST /v1/apps/other/tokens/revoke", &ahead).await;
    assert_eq!((status, &problem["name"]), (409, &json!("inFuture")));
    // No token is as old, so nothing is stored.
    let old = r#"{"uid": "8", "notBefore": 0}"#;
    assert_eq!(send(&router, "POST /v1/apps/other/tokens/revoke", old).await.0, 200);
    assert_eq!(scratch.1.database().revocations().await.unwrap().len(), 1);

    let made = r#"{"url": "https://hooks.example/x", "events": ["memberLeft", "memberJoined"]}"#;
    let (status, webhook) = send(&router, "POST /v1/apps/demo/webhooks", made).await;
    assert_eq!(status, 201, "{webhook}");
    let secret = webhook["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_"));
    let path = format!("/v1/apps/demo/webhooks/{}", webhook["id"].as_str().unwrap());
    let (_, shown) = send(&router, &format!("GET {path}"), "").await;
    assert_eq!(shown["events"], json!(["memberJoined", "memberLeft"]));
    assert!(shown["secret"].is_null());
    let (_, changed) = send(&router, &format!("PATCH {path}"), r#"{"enabled": false}"#).await;
    assert_eq!((&changed["enabled"], &changed["url"]), (&json!(false), &shown["url"]));
    let (_, rotated) = send(&router, &format!("POST {path}/rotateSecret"), "").await;
    assert_ne!(rotated["secret"].as_str().unwrap(), secret);
    let (_, letters) = send(&router, &format!("GET {path}/deadLetters"), "").await;
    assert_eq!(letters, json!({"deadLetters": []}));
    let (status, _) = send(&router, &format!("GET {}", path.replace("demo", "other")), "").await;
    assert_eq!(status, 404, "the webhook of another app");
    let again = Endpoints::load(scratch.1.database()).await.unwrap();
    assert_eq!(
        again.of(&"demo".parse().unwrap())[0].secrets.len(),
        2,
        "the old secret still signs"
    );
    assert_eq!(send(&router, &format!("DELETE {path}"), "").await.0, 200);
    let (_, none) = send(&router, "GET /v1/apps/demo/webhooks", "").await;
    assert_eq!(none, json!({"webhooks": []}));
    for number in 0..16 {
        let made = format!(r#"{{"url": "https://hooks.example/{number}"}}"#);
        assert_eq!(send(&router, "POST /v1/apps/demo/webhooks", &made).await.0, 201);
    }
    let (status, full) = send(&router, "POST /v1/apps/demo/webhooks", made).await;
    assert_eq!((status, full["name"].as_str().unwrap()), (409, "tooManyWebhooks"));
}

/// Proves no rule of the protocol: a server that stores no events says so.
#[tokio::test]
async fn a_server_without_events_gives_none_and_takes_no_webhooks() {
    let scratch = Scratch::new("no-events");
    let (shards, _mailboxes) = Shards::new(1);
    let mut service = service(shards, &scratch.1).await;
    service.deliverer.keep_ms = 0;
    let router = routes_of(service, &scratch.1);
    let made = r#"{"url": "https://hooks.example/x"}"#;
    for (first, body) in [("GET /v1/apps/demo/events", ""), ("POST /v1/apps/demo/webhooks", made)] {
        let (status, refused) = send(&router, first, body).await;
        assert_eq!((status, refused["name"].as_str()), (409, Some("eventsNotKept")), "{first}");
    }
}

/// Proves no rule of the protocol: the document describes all that is served.
#[tokio::test]
async fn the_complete_document_is_served() {
    let scratch = Scratch::new("document");
    let (router, _) = obliging(&scratch).await;
    let (status, document) = send(&router, "GET /openapi.json", "").await;
    assert_eq!(status, 200);
    assert_eq!(document, serde_json::from_str::<Value>(&docs::text()).unwrap());
    let mut ids = std::collections::BTreeSet::new();
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations += 1;
            assert!(ids.insert(operation["operationId"].to_string()), "{method} {path}");
            assert!(operation["responses"]["default"].is_object(), "{method} {path}");
            assert!(operation["summary"].is_string(), "{method} {path}");
            for response in operation["responses"].as_object().unwrap().values() {
                assert!(response["description"].is_string(), "{method} {path}");
            }
        }
    }
    assert!(operations > 30, "{operations}");
    let kinds = &document["components"]["schemas"]["EventKind"]["enum"];
    assert_eq!(kinds, &json!(crate::hooks::KINDS));
}

/// Proves no rule of the protocol: the document names the scope that each operation needs, and its errors.
#[tokio::test]
async fn the_document_names_the_scope_of_each_operation() {
    const SCOPES: [&str; 3] = ["read", "moderate", "admin"];
    let scratch = Scratch::new("scopes");
    let (router, _) = obliging(&scratch).await;
    let document: Value = serde_json::from_str(&docs::text()).unwrap();
    for (level, scope) in SCOPES.into_iter().enumerate() {
        // A key of another app: a scope that is enough gives `wrongApp`, and nothing takes effect.
        let body = format!(r#"{{"scopes": ["{scope}"]}}"#);
        let (_, made) = send(&router, "POST /v1/apps/other/keys", &body).await;
        let key = made["text"].as_str().unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let named = operation["x-scope"].as_str();
                let named = named.unwrap_or_else(|| panic!("{method} {path} names no scope"));
                let needed = SCOPES.iter().position(|known| *known == named);
                let expected = match needed {
                    Some(needed) if needed <= level => "wrongApp",
                    _ => "missingScope",
                };
                let values =
                    [("appkey", "demo"), ("channel", "room"), ("uid", "7"), ("task", "t1")];
                let values = values.into_iter().chain([("id", "none")]);
                let path = values.fold(path.clone(), |path, (name, value)| {
                    path.replace(&format!("{{{name}}}"), value)
                });
                let first = format!("{} {path}", method.to_uppercase());
                let (status, _, problem) = send_as(&router, key, &first, &[], "{}").await;
                let name = problem["name"].as_str().unwrap_or_default();
                assert_eq!((status, name), (403, expected), "{scope} {first}");
                let listed = operation["responses"]["403"]["description"].as_str().unwrap();
                assert!(listed.contains(name), "{first} {listed}");
            }
        }
    }
}

/// Proves no rule of the protocol: the document in the repository is the one that is served.
#[test]
fn the_document_in_the_repository_is_the_one() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api/openapi.json");
    let kept = std::fs::read_to_string(file).unwrap_or_default();
    assert!(kept == docs::text(), "run `cargo xtask api`");
}

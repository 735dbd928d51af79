//! Proves no rule of the protocol: the history that explains later how a call went.

use anyhow::{Context, Result, ensure};
use lianmai_test_support::arrivals::Arrivals;
use lianmai_test_support::media::Ffmpeg;
use serde_json::{Value, json};

use crate::api::{ROOM, ask, ok};
use crate::server::{TEST_TIMEOUT, TestServer};

/// The types of all entries of a history, in order.
fn types(history: &Value) -> Vec<&str> {
    let entries = history["entries"].as_array().into_iter().flatten();
    entries.filter_map(|entry| entry["type"].as_str()).collect()
}

/// Whether `wanted` occurs in this order, possibly with other entries in between.
fn follow(all: &[&str], wanted: &[&str]) -> bool {
    let mut all = all.iter();
    wanted.iter().all(|one| all.any(|other| other == one))
}

#[tokio::test]
async fn one_timeline_tells_why_somebody_saw_somebody() -> Result<()> {
    let mut server = TestServer::start().await?;
    let mut ann = server.join("room", 1).await?;
    let mut bob = server.join("room", 2).await?;
    let mut eve = server.join("room", 3).await?;
    let push = Ffmpeg::push(&ann.publish().await?)?;
    let pull = bob.subscribe(1).await?;
    let mut play = Arrivals::open(&pull.flv).await?;
    play.media(TEST_TIMEOUT).await?;
    // The relay has measured the quality more than once.
    bob.hear("networkQuality", |told| told["uid"] == "1" && told["direction"] == "push").await?;
    bob.hear("networkQuality", |told| told["uid"] == "1" && told["direction"] == "pull").await?;
    eve.refusal("subscribe", json!({"uid": "9", "mediaType": "audio"})).await?;
    let data = json!({"info": {"videoBitrate": 500, "netQualityLevel": 1}});
    let said = json!({"dir": "pull", "type": "bindnetstatus", "data": data, "uid": "1"});
    bob.call("report", said).await?;
    ann.call("unpublish", json!({"mediaType": ""})).await?;

    let history = ok(&server, &format!("GET {ROOM}/history?uid=2&with=1"), Value::Null).await?;
    let all = types(&history);
    let pushed = ["channelOpened", "memberJoined", "memberJoined", "urlIssued", "mediaAllowed"];
    ensure!(follow(&all, &pushed), "{history}");
    ensure!(follow(&all, &["mediaAllowed", "pushBegan", "pushCut"]), "{history}");
    // The order of the pusher and the subscriber is not known.
    let played = ["urlIssued", "urlIssued", "subscribed", "mediaAllowed", "quality", "pushCut"];
    ensure!(follow(&all, &played), "{history}");
    ensure!(!all.contains(&"commandRefused"), "it is about eve: {history}");
    let entries = history["entries"].as_array().context("entries")?;
    let quality =
        |uid: &str| entries.iter().find(|entry| entry["type"] == "quality" && entry["uid"] == uid);
    let pushed = &quality("1").context("no figures of the push")?["data"]["server"];
    ensure!(pushed["kbps"]["mean"].as_u64() > Some(0) && pushed["video"] == "avc1", "{pushed}");
    let played = quality("2").context("no figures of the play")?;
    ensure!(played["of"] == "1" && played["data"]["client"]["kbps"]["most"] == 500, "{played}");

    // Pages, a period without entries, and the history after a restart.
    let page = ok(&server, &format!("GET {ROOM}/history?limit=2"), Value::Null).await?;
    let next = page["nextCursor"].as_str().context("a cursor")?;
    let rest = ok(&server, &format!("GET {ROOM}/history?after={next}"), Value::Null).await?;
    ensure!(types(&page) == ["channelOpened", "memberJoined"], "{page}");
    ensure!(types(&rest).first() == Some(&"memberJoined"), "{rest}");
    let past = ok(&server, &format!("GET {ROOM}/history?to=1000"), Value::Null).await?;
    ensure!(past == json!({"entries": []}), "{past}");
    drop((push, play));
    server.process.kill().await?;
    server.start_again(&[]).await?;
    let again = ok(&server, &format!("GET {ROOM}/history"), Value::Null).await?;
    ensure!(follow(&types(&again), &["pushCut", "restarted"]), "{again}");
    for (query, name) in [
        ("uid=01", "badUid"),
        ("with=1", "withNeedsUid"),
        ("from=-1", "invalidParams"),
        ("from=9007199254740992", "invalidParams"),
        ("limit=0", "invalidParams"),
        ("since=1", "invalidParams"),
        ("uid=1&uid=2", "invalidParams"),
        ("after=x", "badCursor"),
    ] {
        let (_, refused) =
            ask(&server, &format!("GET {ROOM}/history?{query}"), Value::Null).await?;
        ensure!(refused["name"] == name, "{query}: {refused}");
    }
    server.finish().await
}

#[tokio::test]
async fn a_server_that_remembers_nothing_says_so() -> Result<()> {
    let server = TestServer::start_with(&[("LIANMAI_HISTORY__KEEP_S", "0")]).await?;
    let (status, refused) = ask(&server, &format!("GET {ROOM}/history"), Value::Null).await?;
    ensure!((status, &refused["name"]) == (409, &json!("historyNotKept")), "{refused}");
    server.finish().await
}

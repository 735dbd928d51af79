//! Crowds of players that come back after a crash at the same time and earlier than their members: what they wait for,
//! and that no push waits for them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use lianmai_test_support::arrivals;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::bans::is_taken;
use crate::reconnecting::ReconnectingMember;
use crate::server::TestServer;

/// Members may stay away for as long as this test takes on any machine.
const LONG_GRACE: [(&str, &str); 2] =
    [("LIANMAI_SESSION__GRACE_MS", "300000"), ("LIANMAI_SESSION__RESTART_GRACE_MS", "600000")];

/// Uid 1 pushes, the others play.
struct Room {
    host: ReconnectingMember,
    push: String,
    viewers: Vec<(ReconnectingMember, String)>,
}

impl Room {
    async fn new(address: SocketAddr, name: &str, viewers: u64) -> Result<Room> {
        let mut host = ReconnectingMember::join(address, name, 1).await?;
        let push = host.call("publish", json!({"mediaType": ""})).await?["url"].clone();
        let push = push.as_str().context("no URL")?.to_owned();
        let mut room = Room { host, push, viewers: Vec::new() };
        for uid in 2..viewers + 2 {
            let params = json!({"appkey": "demo", "channelName": name, "uid": uid.to_string(),
                                "role": "audience"});
            let mut viewer = ReconnectingMember::join_with(address, params).await?;
            let pull = subscribe(&mut viewer).await?;
            room.viewers.push((viewer, pull));
        }
        // The answer to a kick proves that everything is stored.
        let guest = ReconnectingMember::join(address, name, 9999).await?;
        room.host.call("kick", json!({"uid": "9999", "durationS": 0})).await?;
        drop(guest);
        Ok(room)
    }
}

/// The FLV URL of uid 1's audio.
async fn subscribe(viewer: &mut ReconnectingMember) -> Result<String> {
    let answer = viewer.call("subscribe", json!({"uid": "1", "mediaType": "audio"})).await?;
    Ok(answer["urls"]["flv"].as_str().context("no URL")?.to_owned())
}

async fn rooms(server: &TestServer, count: usize, viewers: u64) -> Result<Vec<Room>> {
    let mut opening = JoinSet::new();
    for number in 0..count {
        let address = server.process.public;
        opening.spawn(async move { Room::new(address, &format!("room{number}"), viewers).await });
    }
    opening.join_all().await.into_iter().collect()
}

async fn kill(server: &mut TestServer) -> Result<()> {
    server.process.kill().await?;
    ensure!(server.process.bugs().is_empty(), "{:#?}", server.process.bugs());
    server.start_again(&LONG_GRACE).await
}

/// Plays like a player: tries again after a 503. Returns the final status.
async fn play(url: String, answered: Arc<AtomicUsize>) -> Result<u16> {
    loop {
        let answer = arrivals::get(&url).await?;
        if answer.status != 503 {
            answered.fetch_add(1, Ordering::SeqCst);
            return Ok(answer.status);
        }
    }
}

/// Proves RST-4.
#[tokio::test]
async fn rst_4_a_crowd_that_is_earlier_than_its_members_waits_and_no_push_does() -> Result<()> {
    let mut server = TestServer::start_with(&LONG_GRACE).await?;
    let rooms = rooms(&server, 6, 200).await?;
    kill(&mut server).await?;
    let answered = Arc::new(AtomicUsize::new(0));
    let mut plays = JoinSet::new();
    for (_, url) in rooms.iter().flat_map(|room| &room.viewers) {
        plays.spawn(play(url.clone(), answered.clone()));
    }
    server.counts("waiting_plays", 1200).await?;
    for room in &rooms {
        ensure!(is_taken(&server, &room.push).await?, "a push is refused");
    }
    ensure!(answered.load(Ordering::SeqCst) == 0, "a play is answered before its member is back");
    let mut returning = JoinSet::new();
    for room in rooms {
        returning.spawn(async move {
            let mut back = Vec::new();
            for (mut viewer, _) in room.viewers {
                viewer.reconnect_expecting("snapshot").await?;
                // A URL with a later expiry than the one of the player, which is still valid.
                subscribe(&mut viewer).await?;
                back.push(viewer);
            }
            anyhow::Ok((room.host, back))
        });
    }
    let members: Result<Vec<_>> = returning.join_all().await.into_iter().collect();
    let members = members?;
    let statuses: Result<Vec<_>> = plays.join_all().await.into_iter().collect();
    ensure!(statuses?.into_iter().all(|status| status == 200), "a player is told to give up");
    server.counts("waiting_plays", 0).await?;
    drop(members);
    server.finish().await
}

/// URLs of streams and members that do not exist any more are refused without a wait.
/// Proves RST-4.
#[tokio::test]
async fn rst_4_a_crowd_of_old_urls_is_refused_at_once() -> Result<()> {
    let mut server = TestServer::start_with(&LONG_GRACE).await?;
    let mut rooms = rooms(&server, 8, 2).await?;
    let mut old = Vec::new();
    for (number, room) in rooms.iter_mut().enumerate() {
        old.extend(room.viewers.iter().map(|(_, url)| url.clone()));
        if number % 2 == 0 {
            room.host.call("unpublish", json!({"mediaType": ""})).await?;
        }
        // The answer to a kick proves that everything is stored.
        for uid in ["2", "3"] {
            room.host.call("kick", json!({"uid": uid, "durationS": 0})).await?;
        }
    }
    kill(&mut server).await?;
    let answered = Arc::new(AtomicUsize::new(0));
    let mut plays = JoinSet::new();
    for number in 0..1100 {
        plays.spawn(play(old[number % old.len()].clone(), answered.clone()));
    }
    for (number, room) in rooms.iter().enumerate() {
        let lives = number % 2 == 1;
        ensure!(is_taken(&server, &room.push).await? == lives, "the push of room {number}");
    }
    let statuses: Result<Vec<_>> = plays.join_all().await.into_iter().collect();
    ensure!(statuses?.into_iter().all(|status| status == 403), "an old URL is not refused");
    server.counts("waiting_plays", 0).await?;
    server.finish().await
}

/// Proves no rule of the protocol: a player that hangs up gives up its place.
#[tokio::test]
async fn a_waiting_player_that_hangs_up_frees_its_slot() -> Result<()> {
    let mut server = TestServer::start_with(&LONG_GRACE).await?;
    let rooms = rooms(&server, 1, 1).await?;
    let url = rooms[0].viewers[0].1.clone();
    kill(&mut server).await?;
    let path = url.strip_prefix("http://").and_then(|rest| rest.split_once('/'));
    let (host, path) = path.context("no HTTP URL")?;
    let mut peers = Vec::new();
    for _ in 0..8 {
        let mut peer = TcpStream::connect(server.process.public).await?;
        peer.write_all(format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
        peers.push(peer);
    }
    server.counts("waiting_plays", 8).await?;
    ensure!(arrivals::get(&url).await?.status == 503, "a ninth play of one viewer waits, too");
    drop(peers);
    server.counts("waiting_plays", 0).await?;
    server.finish().await
}

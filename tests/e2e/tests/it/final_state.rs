//! The end of a fault test: waits until nothing changes any more, then compares what each app received and shows with
//! the server. Comes in: actors and a server. Goes out: all differences.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lianmai_client_sdk::{ConnectionState, MediaKind, Member, Picture, Role, UserId};
use lianmai_test_support::arrivals;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::actors::{Actor, room_name};
use crate::fold::counter;
use crate::server::TestServer;

/// The first uid of the auditors, which join at the end.
const AUDITORS: u64 = 1_000_000;
/// The number of members is sent at most once per second.
const COUNTED: Duration = Duration::from_secs(3);
/// Most faults that are printed.
const TOLD: usize = 12;

/// The admin API of a server, and of later processes with the same data and addresses.
#[derive(Clone, Debug)]
pub(crate) struct AdminApi {
    public: SocketAddr,
    admin: SocketAddr,
    token: String,
}

impl AdminApi {
    pub(crate) fn of(server: &TestServer) -> Result<AdminApi> {
        let (public, admin) = (server.process.public, server.process.admin);
        Ok(AdminApi { public, admin, token: server.process.admin_token()? })
    }

    /// The server's list of a room's members; `None` if there is no such room.
    pub(crate) async fn roster(&self, room: usize) -> Result<Option<Value>> {
        let AdminApi { admin, token, .. } = self;
        let request = format!(
            "GET /v1/apps/demo/channels/{}/members?limit=1000 HTTP/1.0\r\nHost: {admin}\r\n\
             Authorization: Bearer {token}\r\n\r\n",
            room_name(room),
        );
        let mut answer = arrivals::ask(*admin, &request).await?;
        let text = answer.text().await?;
        if answer.status == 404 {
            return Ok(None);
        }
        ensure!(answer.status == 200, "{}: {text}", answer.head);
        let mut roster: Value = serde_json::from_str(&text)?;
        let mut rows = roster["members"].take();
        let rows = rows.as_array_mut().context("no members")?;
        for row in rows.iter_mut() {
            let streams = row["streams"].as_array().context("no streams")?;
            row["published"] = streams.iter().map(|stream| stream["mediaType"].clone()).collect();
        }
        Ok(Some(json!({"members": rows.len(), "memberList": rows})))
    }
}

/// The row of a uid in a roster.
pub(crate) fn row_of(roster: &Value, uid: u64) -> Option<&Value> {
    let uid = uid.to_string();
    roster["memberList"].as_array()?.iter().find(|row| row["uid"] == *uid)
}

fn rooms(actors: &[Actor]) -> BTreeMap<usize, Vec<&Actor>> {
    let mut rooms: BTreeMap<usize, Vec<&Actor>> = BTreeMap::new();
    for actor in actors {
        rooms.entry(actor.room).or_default().push(actor);
    }
    rooms
}

/// Waits until all actors are back, the server lists all of them, and all members of a room have the same position.
pub(crate) async fn settle(api: &AdminApi, actors: &[Actor], limit: Duration) -> Result<Duration> {
    let start = Instant::now();
    loop {
        let unsettled = unsettled(api, actors).await?;
        let Some(unsettled) = unsettled else { break };
        ensure!(start.elapsed() < limit, "not calm after {limit:?}: {unsettled}");
        // There is no notification of the last event, so the test polls.
        sleep(Duration::from_millis(100)).await;
    }
    let calm = start.elapsed();
    // The number of members follows a moment later; `differences` finds an actor that never gets it.
    let knows = |actor: &Actor| {
        let picture = actor.client.picture();
        let count = actors.iter().filter(|other| other.room == actor.room).count() as u64;
        picture.is_some_and(|picture| picture.member_count == count)
    };
    let all_know = async {
        while !actors.iter().all(knows) {
            sleep(Duration::from_millis(100)).await;
        }
    };
    let _ = timeout(COUNTED, all_know).await;
    Ok(calm)
}

async fn unsettled(api: &AdminApi, actors: &[Actor]) -> Result<Option<String>> {
    let away = |actor: &&Actor| {
        actor.client.state() != ConnectionState::Connected || !actor.observer.is_back()
    };
    let mut all_away = actors.iter().filter(away).peekable();
    if let Some(first) = all_away.peek() {
        let (uid, state) = (first.uid().0, first.client.state());
        let ends = first.observer.seen().ends.clone();
        let count = all_away.count();
        return Ok(Some(format!("{count} away, uid {uid} is {state:?}, ends: {ends:?}")));
    }
    for (room, actors) in rooms(actors) {
        let places = actors.iter().filter_map(|actor| actor.client.picture());
        let places: BTreeSet<_> = places.map(|picture| (picture.epoch, picture.seq)).collect();
        if places.len() != 1 {
            return Ok(Some(format!("room {room} is at {places:?}")));
        }
        let Some(roster) = api.roster(room).await? else {
            return Ok(Some(format!("room {room} is no more")));
        };
        let rows = roster["memberList"].as_array().context("no members")?;
        if rows.len() != actors.len() || rows.iter().any(|row| row["connected"] != true) {
            return Ok(Some(format!("room {room} has {} actors and {rows:?}", actors.len())));
        }
    }
    Ok(None)
}

/// All differences, once nothing changes any more.
pub(crate) async fn differences(api: &AdminApi, actors: &[Actor]) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for (room, actors) in rooms(actors) {
        let roster = api.roster(room).await?.context("no room")?;
        for actor in &actors {
            let uid = actor.uid().0;
            let mut wrong = observed_faults(actor);
            match row_of(&roster, uid) {
                Some(row) => wrong.extend(own_state_faults(actor, row)),
                None => wrong.push("not in the roster".to_owned()),
            }
            let picture = actor.client.picture().context("no picture")?;
            wrong.extend(picture_difference(&picture, &roster));
            if let Some(last) = wrong.last_mut() {
                let returns = actor.observer.seen().returns.clone();
                let returns: Vec<_> = returns.iter().map(|back| &back.outcome).collect();
                last.push_str(&format!("; it is {:?} and came back {returns:?}", picture.own.role));
            }
            faults
                .extend(wrong.into_iter().map(|what| format!("uid {uid} in room {room}: {what}")));
        }
        // A member that joins now must see the same as the others.
        let auditor = AUDITORS + room as u64;
        let auditor = Actor::new(api.public, room, auditor, Role::Audience);
        auditor.join().await?;
        let fresh = auditor.client.picture().context("no picture")?;
        for actor in &actors {
            let picture = actor.client.picture().context("no picture")?;
            if picture.members != fresh.members || picture.attributes != fresh.attributes {
                let uid = actor.uid().0;
                let (shown, is) = (&picture.members, &fresh.members);
                let (shown, is) = (only(shown, is), only(is, shown));
                faults
                    .push(format!("uid {uid} in room {room} shows {shown:?}, a fresh one {is:?}"));
            }
        }
        auditor.client.leave().await?;
    }
    Ok(faults)
}

type Members = lianmai_client_sdk::protocol::Map<UserId, Member>;

/// Members of `a` that are missing or different in `b`.
fn only(a: &Members, b: &Members) -> Vec<String> {
    let only = a.values().filter(|member| b.get(&member.uid) != Some(*member));
    only.map(|member| format!("{member:?}")).collect()
}

/// Faults that an actor found itself.
fn observed_faults(actor: &Actor) -> Vec<String> {
    let seen = actor.observer.seen();
    let mut wrong = seen.complaints.clone();
    if !actor.comes_and_goes && !seen.ends.is_empty() {
        wrong.push(format!("thrown out: {:?}", seen.ends));
    }
    let shown = actor.client.picture();
    match (&seen.fold, shown) {
        (Some(fold), Some(picture)) => wrong.extend(fold.differs(&picture)),
        _ => wrong.push("in no room".to_owned()),
    }
    wrong
}

fn names(row: &Value) -> BTreeSet<String> {
    let all = row.as_array().into_iter().flatten();
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn kinds<'a>(kinds: impl Iterator<Item = &'a MediaKind>) -> BTreeSet<String> {
    kinds.map(|kind| kind.as_str().to_owned()).collect()
}

/// Compares the own state of the app, and what it asked for, with the server's row.
fn own_state_faults(actor: &Actor, row: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let Some(own) = actor.client.self_info() else { return vec!["nobody".to_owned()] };
    let (published, muted) = (kinds(own.published.keys()), kinds(own.muted.iter()));
    let is_same = row["mid"] == own.mid.to_string()
        && row["role"] == own.role.as_str()
        && names(&row["published"]) == published
        && names(&row["muted"]) == muted;
    if !is_same {
        wrong.push(format!("it is {own:?}, to the server {row}"));
    }
    let asked = actor.observer.seen().wanted.clone();
    if asked.role.as_ref().is_some_and(|role| *role != own.role) {
        wrong.push(format!("it asked to be {:?} and is {:?}", asked.role, own.role));
    }
    let wanted = |of: &BTreeMap<MediaKind, bool>, is: &BTreeSet<String>| {
        of.iter().all(|(kind, wanted)| is.contains(kind.as_str()) == *wanted)
    };
    if !wanted(&asked.published, &published) {
        wrong.push(format!("it asked to publish {:?} and does {published:?}", asked.published));
    }
    if !wanted(&asked.muted, &muted) {
        wrong.push(format!("it asked to mute {:?} and did {muted:?}", asked.muted));
    }
    let counts = counter(&own.attributes.0);
    if asked.counter.is_some_and(|wanted| wanted != counts) {
        wrong.push(format!("it counted to {:?}, not to {counts}", asked.counter));
    }
    wrong
}

/// Compares the getters with the server's list.
fn picture_difference(picture: &Picture, roster: &Value) -> Option<String> {
    let rows = roster["memberList"].as_array()?;
    let listed = rows.iter().filter(|row| row["role"] == "broadcaster").map(|row| {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        (text("uid"), (text("mid"), names(&row["published"]), names(&row["muted"])))
    });
    let listed: BTreeMap<_, _> = listed.collect();
    if roster["members"] != picture.member_count {
        let (shown, is) = (picture.member_count, &roster["members"]);
        return Some(format!("it shows {shown} members, the server has {is}"));
    }
    let shown = picture.members.values().map(|member| {
        let (published, muted) = (kinds(member.streams.keys()), kinds(member.muted.iter()));
        (member.uid.0.to_string(), (member.mid.to_string(), published, muted))
    });
    let shown: BTreeMap<_, _> = shown.collect();
    (shown != listed).then(|| format!("it shows {shown:?}, the server {listed:?}"))
}

/// Fails with the first faults, if there are any.
pub(crate) fn ensure_none(what: &str, faults: &[String]) -> Result<()> {
    let first: Vec<_> = faults.iter().take(TOLD).cloned().collect();
    ensure!(faults.is_empty(), "{what}: {} faults:\n{}", faults.len(), first.join("\n"));
    Ok(())
}

/// How often clients came back, by outcome.
pub(crate) fn returns(actors: &[Actor]) -> BTreeMap<String, u64> {
    use lianmai_client_sdk::ReconnectOutcome::{Rejoined, Replayed, Snapshot};
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    for actor in actors {
        for back in &actor.observer.seen().returns {
            let name = match &back.outcome {
                Replayed { .. } => "replayed".to_owned(),
                Snapshot { reason } => format!("snapshot {}", reason.as_str()),
                Rejoined { reason } => format!("rejoined {}", reason.as_str()),
                _ => "another".to_owned(),
            };
            *all.entry(name).or_default() += 1;
        }
    }
    all
}

//! `Debug`, which logs use, shows no token, no ticket and no URL.
//! Proves CLI-9, URL-4.

use std::fmt::Debug;

use lianmai_protocol::message::media::{Published, Subscribed, Urls};
use lianmai_protocol::message::notice::{Direction, SyncDone};
use lianmai_protocol::message::session::{
    Join, Joined, Outcome, Reconnect, RenewToken, ResumeReason, Resumed, Timers,
};
use lianmai_protocol::message::snapshot::{ChannelInfo, SelfInfo};
use lianmai_protocol::message::task::{Canvas, Layout, Task, Tasks};
use lianmai_protocol::message::{Call, Notice, Request};
use lianmai_protocol::{
    Attributes, Cid, Epoch, Gen, KindSet, MediaKind, Mid, RequestId, Rights, Role, SessionId,
    UserId,
};

/// Contained in every secret, and in nothing else.
const SECRET: &str = "S3CRET";

fn secret(what: &str) -> String {
    format!("{what}{SECRET}")
}

/// Formats a value in every way; it must show `shown` and no secret.
#[track_caller]
fn check<T: Debug + serde::Serialize>(value: &T, shown: &[&str]) {
    let json = serde_json::to_string(value).unwrap();
    assert!(json.contains(SECRET), "the value holds a secret: {json}");
    check_debug(value, shown);
}

#[track_caller]
fn check_debug<T: Debug>(value: &T, shown: &[&str]) {
    for text in [format!("{value:?}"), format!("{value:#?}"), format!("{:?}", vec![Some(value)])] {
        assert!(!text.contains(SECRET), "{text}");
        assert!(!text.contains("://"), "{text}");
        for part in shown {
            assert!(text.contains(part), "{part} helps whoever reads a log: {text}");
        }
    }
}

fn urls() -> Urls {
    let url = |scheme: &str| Some(secret(&format!("{scheme}://host/live/stream?t=")));
    let (rtmp, rtmps, ws_flv) = (url("rtmp"), url("rtmps"), url("ws"));
    Urls { rtmp, rtmps, flv: url("http"), ws_flv, hls: url("https"), webrtc: url("webrtc") }
}

fn url() -> String {
    secret("rtmp://host/live/stream?t=")
}

fn join() -> Join {
    Join {
        appkey: "demo".parse().unwrap(),
        channel_name: "room1".parse().unwrap(),
        uid: Some(UserId(7)),
        token: Some(secret("eyJ.")),
        role: Some(Role::Audience),
        join_id: Some(secret("0123456789")),
        continues: Some(secret("AW")),
        name: None,
        attributes: Attributes::default(),
    }
}

fn joined() -> Joined {
    Joined {
        cid: Cid(5),
        uid: UserId(7),
        mid: Mid([1; 12]),
        session_id: SessionId([2; 12]),
        ticket: Some(secret("v1.")),
        k: Some(1),
        deployment_id: "dep".to_owned(),
        epoch: Epoch([3; 12]),
        seq: 42,
        channel: ChannelInfo {
            name: "room1".parse().unwrap(),
            creator: UserId(7),
            attributes: Attributes::default(),
            tasks: vec![],
        },
        members: vec![],
        own: SelfInfo {
            uid: UserId(7),
            mid: Mid([1; 12]),
            role: Role::Audience,
            rights: Rights::MEMBER,
            name: None,
            attributes: Attributes::default(),
            muted: KindSet::NONE,
            published: vec![],
            subscriptions: vec![],
            token_expires_in_ms: None,
        },
        member_count: 1,
        timers: Timers { ping_interval_ms: 1, dead_after_ms: 2, grace_ms: 3, media_cap_ms: 4 },
    }
}

fn reconnect() -> Reconnect {
    Reconnect {
        ticket: secret("v1."),
        attempt: 2,
        epoch: Epoch([3; 12]),
        seq: 42,
        n: 1,
        want: None,
    }
}

fn task() -> Task {
    Task {
        task_id: "cdn_1".parse().unwrap(),
        stream_url: secret("rtmp://cdn/live/"),
        record: true,
        host_uid: Some(UserId(7)),
        revision: None,
        layout: Layout {
            canvas: Canvas { width: 1280, height: 720, color: 0 },
            users: vec![],
            images: vec![],
        },
        config: None,
        extra_info: Some(secret("opaque")),
    }
}

#[test]
fn cli_9_joins_and_reconnects_show_no_token_and_no_ticket() {
    check(&join(), &["Join", "demo", "room1", "7"]);
    check(&joined(), &["Joined", "42", "room1"]);
    check(&reconnect(), &["Reconnect", "42"]);
    check(&RenewToken { token: secret("eyJ.") }, &["RenewToken"]);
    let resumed = Resumed {
        outcome: Outcome::Snapshot,
        reason: Some(ResumeReason::EpochChanged),
        action: None,
        ticket: Some(secret("v1.")),
        k: Some(1),
        replayed: 0,
        messages: 0,
        messages_lost: 0,
        restore: true,
        snapshot: Some(Box::new(joined())),
    };
    check(&resumed, &["Resumed", "EpochChanged", "42"]);
}

#[test]
fn cli_9_media_and_tasks_show_no_url() {
    check(&urls(), &["Urls"]);
    let generation = Gen { route: 5, random: [5; 12] };
    let published = Published { uid: UserId(7), url: url(), urls: urls(), generation, seq: 44 };
    check(&published, &["Published", "44"]);
    let subscribed = Subscribed { uid: UserId(8), url: url(), urls: urls(), seq: 44 };
    check(&subscribed, &["Subscribed", "8", "44"]);
    let moved = SyncDone {
        uid: UserId(8),
        direction: Direction::Pull,
        media_type: MediaKind::Video,
        url: url(),
        urls: urls(),
    };
    check(&moved, &["SyncDone", "8", "Pull", "Video"]);
    check_debug(&Notice::SyncDone(moved), &["SyncDone"]);
    check(&task(), &["Task", "cdn_1", "1280"]);
}

#[test]
fn cli_9_requests_hide_what_their_parameters_hide() {
    for call in [
        Call::Join(join()),
        Call::RenewToken(RenewToken { token: secret("eyJ.") }),
        Call::Reconnect(reconnect()),
        Call::AddTasks(Tasks { rtmp_tasks: vec![task()] }),
        Call::UpdateTasks(Tasks { rtmp_tasks: vec![task()] }),
    ] {
        check_debug(&Request { id: RequestId(99), ack: None, call }, &["Request", "99"]);
    }
}

//! The session accepts messages of a server that it does not fully know: other texts, names and messages.

use lianmai_client_sdk::Event;
use lianmai_client_sdk::protocol::codec::encode_error;
use lianmai_client_sdk::protocol::message::media::{Published, Subscribe, Subscribed, Urls};
use lianmai_client_sdk::protocol::message::notice::{Closing, Direction, NetworkQuality, SyncDone};
use lianmai_client_sdk::protocol::message::session::MessageSent;
use lianmai_client_sdk::protocol::message::snapshot::StreamInfo;
use lianmai_client_sdk::protocol::message::task::{TaskState, TaskStatus};
use lianmai_client_sdk::protocol::message::{ChannelEvent, Notice};
use lianmai_client_sdk::protocol::{Action, CloseCode, ErrorName, MediaKind, Pub, Role, RpcError};
use lianmai_client_sdk::session::{Command, ConnectionState, Reply, SessionConfig};

use crate::support::*;

/// Proves FRM-12.
#[test]
fn frm_12_an_answer_without_id_is_nobodys() {
    for name in [ErrorName::BadBatch, ErrorName::InvalidRequest, ErrorName::ParseError] {
        let mut rig = Rig::joined(Role::Audience);
        let (call, request) = rig.send(message("waits"));
        rig.frame(&encode_error(None, &RpcError::new(name)));
        let outputs = rig.drain();
        assert!(told(&outputs).is_empty(), "{:?}", told(&outputs));
        assert_eq!(close_code(&outputs), None);
        rig.frame(&result(&request, &MessageSent { seq: 10, delivered: 0 }));
        assert!(outcome(&rig.drain(), call).is_ok());
    }
}

fn closing(code: CloseCode, action: &str) -> String {
    notice(Notice::Closing(Closing {
        code,
        reason: "in words that nobody knows".to_owned(),
        action: Action::from(action),
        url: None,
        retry_after_ms: None,
    }))
}

/// Proves NOT-3.
#[test]
fn not_3_an_unknown_action_is_that_of_the_code() {
    for (code, comes_back) in [
        (CloseCode::GOING_AWAY, true),
        (CloseCode::SERVER_RESTART, true),
        (CloseCode(4_321), true),
        (CloseCode::KICKED, false),
        (CloseCode(4_876), false),
    ] {
        let mut rig = Rig::joined(Role::Audience);
        rig.frame(&closing(code, "dance"));
        rig.closed(code.0, "");
        let outputs = rig.drain();
        assert_eq!(disconnected(&outputs).is_none(), comes_back, "{code:?}");
    }
}

/// Proves CLO-4.
#[test]
fn clo_4_the_text_of_a_close_frame_decides_nothing() {
    for (code, text, comes_back) in
        [(4_500, "serverRestart", false), (4_003, "kicked", true), (4_001, "banned", true)]
    {
        let mut rig = Rig::joined(Role::Audience);
        rig.closed(code, text);
        assert_eq!(disconnected(&rig.drain()).is_none(), comes_back, "{code} {text}");
    }
}

/// Proves NSY-2.
#[test]
fn nsy_2_what_no_server_sends_yet_is_read() {
    let mut rig = Rig::joined(Role::Audience);
    let quality = NetworkQuality { uid: BOB, direction: Direction::Pull, level: 2 };
    let moved = SyncDone {
        uid: BOB,
        direction: Direction::Pull,
        media_type: MediaKind::Video,
        url: "rtmp://elsewhere".to_owned(),
        urls: Urls::default(),
    };
    let status = TaskStatus {
        task_id: "cdn_1".parse().unwrap(),
        uid: Some(BOB),
        stream_url: "rtmp://push.example.com/live/***".to_owned(),
        state: Some(TaskState::Pushing),
        code: 505,
        msg: "pushing".to_owned(),
        revision: 1,
        retries: 0,
    };
    rig.frame(&notice(Notice::NetworkQuality(quality)));
    rig.frame(&notice(Notice::SyncDone(moved)));
    rig.events(11, &[ChannelEvent::RtmpTasksStatus(status)]);
    let outputs = rig.drain();
    assert_eq!(told(&outputs), ["networkQuality", "syncDone", "rtmpTasksStatus"]);
    assert_eq!(close_code(&outputs), None);
    assert_eq!((rig.picture().seq, rig.picture().tasks.len()), (11, 1));
}

/// Proves URL-3, URL-10.
#[test]
fn url_3_urls_are_handed_on_byte_by_byte() {
    let odd =
        |scheme: &str| format!("{scheme}://H:01935//live/../%7Ex+y?b=&a=%2f&&a=2;c#frag ment");
    let urls = || Urls { rtmp: Some(odd("rtmp")), flv: Some(odd("http")), ..Urls::default() };
    let mut bob = member(BOB, BOB_MID);
    bob.streams = vec![StreamInfo { media_type: MediaKind::Video, publication: Pub([3; 12]) }];
    let hello = snapshot(Role::Broadcaster, 10, vec![bob]);
    let mut rig = Rig::joined_with(SessionConfig::new("ws://server/v1/signal"), hello);

    let (call, request) = rig.send(publish());
    rig.events(11, &[my_audio(MY_MID)]);
    let pushed = Published { url: odd("rtmp"), urls: urls(), ..published(11) };
    rig.frame(&result(&request, &pushed));
    let Ok(Reply::Published(told)) = outcome(&rig.drain(), call) else { panic!("published") };
    assert_eq!((&told.url, &told.urls), (&pushed.url, &pushed.urls));

    let video = Subscribe { uid: BOB, media_type: MediaKind::Video };
    let (call, request) = rig.send(Command::Subscribe(video));
    let pulled = Subscribed { uid: BOB, url: odd("rtmp"), urls: urls(), seq: 10 };
    rig.frame(&result(&request, &pulled));
    let Ok(Reply::Subscribed(told)) = outcome(&rig.drain(), call) else { panic!("subscribed") };
    assert_eq!((&told.url, &told.urls), (&pulled.url, &pulled.urls));

    let moved = SyncDone {
        uid: BOB,
        direction: Direction::Pull,
        media_type: MediaKind::Video,
        // A URL that differs from the one that the app holds; otherwise the app would not be told.
        url: odd("rtmps"),
        urls: urls(),
    };
    rig.frame(&notice(Notice::SyncDone(moved.clone())));
    assert!(app_events(&rig.drain()).contains(&Event::SyncDone(moved.clone())));
    // A server repeats the notice if it may have been lost.
    rig.frame(&notice(Notice::SyncDone(moved)));
    assert!(app_events(&rig.drain()).is_empty());
}

/// Proves FWD-3.
#[test]
fn fwd_3_unknown_names_of_lists_are_kept_and_mean_nothing() {
    let mut rig = Rig::joined(Role::Audience);
    let kind = MediaKind::from("hologram");
    rig.events(11, &[client_join(BOB, BOB_MID)]);
    rig.events(12, &[ChannelEvent::StreamAdded(stream(BOB, BOB_MID, kind.clone(), 4))]);
    assert_eq!(told(&rig.drain()), ["clientJoin", "streamAdded"]);
    assert!(rig.picture().members[&BOB].streams.contains_key(&kind));
    assert_eq!(rig.session.state(), ConnectionState::Connected);
}

/// The second wait before a reconnect, in ms, after two gaps that are `apart_ms` apart.
fn second_wait(seed: u64, apart_ms: u64) -> u64 {
    let config = SessionConfig { seed, ..SessionConfig::new("ws://server/v1/signal") };
    let mut rig = Rig::joined_with(config, snapshot(Role::Audience, 10, vec![]));
    let mut waited = 0;
    for k in 2..4 {
        rig.frame("{");
        let begin = rig.now;
        let (_, request) = rig.reopen();
        waited = rig.now - begin;
        rig.frame(&replayed(&request, k));
        let pings = requests(&rig.drain());
        rig.frame(&pong(&pings[0], 10));
        rig.drain();
        for _ in 0..apart_ms / 5_000 {
            for ping in requests(&rig.advance(5_000)) {
                rig.frame(&pong(&ping, 10));
            }
            rig.drain();
        }
    }
    waited
}

/// Proves CLI-7.
#[test]
fn cli_7_two_gaps_within_a_minute_count_as_a_failed_attempt() {
    let longest = |apart_ms| (0..200).map(|seed| second_wait(seed, apart_ms)).max();
    let (soon, late) = (longest(15_000).unwrap(), longest(90_000).unwrap());
    assert!(late <= 500, "as after any loss: {late} ms");
    assert!(soon > 500, "in a window that doubled: {soon} ms");
}

//! The quality of media: what members are told, from measurements of the relay and reports of clients.

use lianmai_protocol::limits::MAX_REPORT_BYTES;
use lianmai_protocol::message::session::{Report, ReportDir, ReportType};
use lianmai_protocol::message::{Call, Notice};
use lianmai_protocol::{ErrorName, Gen, Mid, UserId};
use lianmai_signal_engine::{Input, PlayStats, PushState, PushStats, StreamStats};
use serde_json::json;

use crate::calls::*;
use crate::world::{Client, World};

/// Two seconds pass, then the relay reports this push (bytes and longest gap) and these plays.
fn look(w: &mut World, generation: Gen, push: Option<(u64, u64)>, plays: &[(Mid, u64, u64)]) {
    w.advance(2_000);
    let push = push.map(|(bytes, longest_gap_ms)| PushStats {
        ms: 2_000,
        bytes,
        longest_gap_ms,
        ..PushStats::default()
    });
    let play = |(mid, bytes, lag_ms): &(Mid, u64, u64)| {
        (*mid, PlayStats { ms: 2_000, bytes: *bytes, lag_ms: *lag_ms })
    };
    let plays = plays.iter().map(play).collect();
    w.input(Input::StreamStats(Box::new(StreamStats { generation, push, plays })));
}

/// The levels that a client was told since the last call, in words.
fn levels(w: &mut World, client: Client) -> Vec<String> {
    let words = w.notices(client).into_iter().map(|notice| match notice {
        Notice::NetworkQuality(told) => format!("{} {} {}", told.uid, told.direction, told.level),
        other => panic!("{other:?}"),
    });
    words.collect()
}

fn report(dir: &str, kind: &str, data: &str, uid: Option<u64>) -> Call {
    let data = data.parse().expect("an object");
    let (dir, kind) = (ReportDir::from(dir), ReportType::from(kind));
    Call::Report(Report { dir, kind, data, uid: uid.map(UserId) })
}

fn net(level: u8) -> String {
    json!({"info": {"videoBitrate": 800, "videoFPS": 15, "netQualityLevel": level}}).to_string()
}

/// Proves QUA-1, QUA-2.
#[test]
fn qua_1_the_level_of_a_push_goes_to_its_viewers_and_that_of_a_play_to_one() {
    let mut w = World::new();
    let (a, b, c) = (w.join(1), w.join(2), w.join(3));
    let (_, stream) = w.push_url(a, "");
    w.pull_url(b, 1, "video");
    let mid = w.mid(b);
    w.skip_received();
    look(&mut w, stream, Some((9, 0)), &[(mid, 9, 0)]);
    assert!(levels(&mut w, a).is_empty(), "the first look is at a part of the time");
    look(&mut w, stream, Some((9, 0)), &[(mid, 9, 0)]);
    assert_eq!(levels(&mut w, a), ["1 push 1"]);
    assert_eq!(levels(&mut w, b), ["1 pull 1", "1 push 1"]);
    look(&mut w, stream, Some((9, 0)), &[(mid, 9, 0)]);
    look(&mut w, stream, Some((9, 0)), &[(mid, 9, 2_500)]);
    look(&mut w, stream, Some((9, 1_200)), &[(mid, 9, 2_500)]);
    assert_eq!(levels(&mut w, a), ["1 push 4"]);
    assert_eq!(levels(&mut w, b), ["1 pull 4", "1 push 4"]);
    assert!(levels(&mut w, c).is_empty());
    // A later viewer is told the present level.
    w.pull_url(c, 1, "audio");
    assert_eq!(levels(&mut w, c), ["1 push 4"]);
    // A publisher that sends nothing because it is muted is not down.
    w.advance(6_000);
    w.ok(a, mute(""));
    look(&mut w, stream, Some((0, 9_000)), &[(mid, 0, 0)]);
    assert_eq!(levels(&mut w, a), ["1 push 0"]);
    w.ok(a, unmute("video"));
    w.advance(6_000);
    look(&mut w, stream, Some((0, 9_000)), &[(mid, 0, 0)]);
    assert_eq!(levels(&mut w, a), ["1 push 6"]);
    w.ok(a, unpublish(""));
    w.advance(6_000);
    assert!(levels(&mut w, a).is_empty());
    w.audit();
}

/// Proves QUA-2.
#[test]
fn qua_2_a_level_is_sent_when_it_changes_and_not_too_often() {
    let mut w = World::new();
    let (a, b) = (w.join(1), w.join(2));
    let (_, stream) = w.push_url(a, "");
    w.pull_url(b, 1, "video");
    w.skip_received();
    look(&mut w, stream, Some((9, 0)), &[]);
    look(&mut w, stream, Some((9, 0)), &[]);
    look(&mut w, stream, Some((9, 3_000)), &[]);
    look(&mut w, stream, Some((9, 600)), &[]);
    assert_eq!(levels(&mut w, a), ["1 push 1"]);
    w.advance(5_000);
    assert_eq!(levels(&mut w, a), ["1 push 3"], "only the last one counts");
    look(&mut w, stream, Some((9, 0)), &[]);
    look(&mut w, stream, Some((9, 600)), &[]);
    w.advance(6_000);
    assert!(levels(&mut w, a).is_empty(), "the level is as announced");
    w.skip_received();
    // A member that comes back is told again.
    w.drop_socket(b);
    let (b, _) = w.resume(b);
    assert_eq!(levels(&mut w, b), ["1 push 3"]);
    // The publisher disconnects, and comes back.
    w.input(Input::Push { generation: stream, state: PushState::Ended });
    assert_eq!(levels(&mut w, b), ["1 push 6"]);
    w.advance(6_000);
    w.input(Input::Push { generation: stream, state: PushState::Began });
    look(&mut w, stream, Some((9, 0)), &[]);
    look(&mut w, stream, Some((9, 0)), &[]);
    w.advance(5_000);
    assert_eq!(levels(&mut w, b), ["1 push 0", "1 push 1"]);
    w.audit();
}

/// Proves REP-2, REP-3, QUA-1.
#[test]
fn rep_3_a_report_counts_for_the_stream_that_it_is_about() {
    let mut w = World::new();
    let (a, b, c) = (w.join(1), w.join(2), w.join(3));
    w.push_url(a, "screenShare");
    let (_, stream) = w.push_url(a, "");
    w.pull_url(b, 1, "video");
    w.skip_received();
    w.ok(a, report("push", "bindnetstatus", &net(3), None));
    assert_eq!(levels(&mut w, a), ["1 push 3"]);
    assert_eq!(levels(&mut w, b), ["1 push 3"]);
    w.ok(b, report("pull", "bindnetstatus", &net(2), Some(1)));
    assert_eq!((levels(&mut w, a), levels(&mut w, b)), (vec![], vec!["1 pull 2".to_owned()]));
    // A report counts for a limited time.
    w.advance(10_000);
    look(&mut w, stream, Some((9, 0)), &[]);
    assert_eq!(levels(&mut w, a), ["1 push 0"]);
    assert_eq!(levels(&mut w, b), ["1 pull 0", "1 push 0"]);
    // Reports about no stream, or without a figure.
    w.ok(c, report("pull", "bindnetstatus", &net(5), Some(1)));
    w.ok(c, report("pull", "bindnetstatus", &net(5), None));
    w.ok(c, report("push", "bindnetstatus", &net(5), None));
    w.ok(a, report("push", "bindnetstatus", &net(7), None));
    w.ok(a, report("push", "binderror", r#"{"errCode": 9}"#, None));
    w.ok(a, report("sideways", "bindnetstatus", &net(5), None));
    for client in [a, b, c] {
        assert!(levels(&mut w, client).is_empty());
    }
    let fits = json!({"x": "y".repeat(MAX_REPORT_BYTES - 8)}).to_string();
    assert_eq!(fits.len(), MAX_REPORT_BYTES);
    w.ok(a, report("push", "binderror", &fits, None));
    w.advance(2_000);
    let long = format!("{fits} ").replace("}", " }");
    assert_eq!(w.err(a, report("push", "binderror", long.trim(), None)), ErrorName::InvalidParams);
    w.audit();
}

/// Proves no rule of the protocol: measurements of streams that are unknown, as after a crash.
#[test]
fn measurements_and_reports_without_a_stream_change_nothing() {
    let mut w = World::new();
    let a = w.join(1);
    let (_, stream) = w.push_url(a, "");
    let nobody = Mid([9; 12]);
    let unknown = Gen { route: 1, random: [9; 12] };
    w.skip_received();
    for generation in [stream, unknown] {
        look(&mut w, generation, None, &[(nobody, 0, 9_000)]);
        look(&mut w, generation, None, &[(nobody, 0, 9_000)]);
    }
    for state in [PushState::Began, PushState::Stalled, PushState::Ended] {
        w.input(Input::Push { generation: unknown, state });
    }
    assert!(levels(&mut w, a).is_empty());
    w.audit();
}

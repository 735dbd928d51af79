//! Proves no rule of the protocol: the history of a call, for a later analysis.

use lianmai_protocol::message::Call;
use lianmai_protocol::message::notice::Direction;
use lianmai_protocol::message::session::{Report, ReportDir, ReportType};
use lianmai_protocol::{Gen, Mid, UserId};
use lianmai_signal_engine::history::{FigureRange, HistoryEntry, HistoryStep, Quality};
use lianmai_signal_engine::{
    DrainPlan, Event, Input, PlayStats, PushState, PushStats, StreamStats,
};

use crate::calls::*;
use crate::world::{DiskMode, World, entry};

fn world() -> World {
    World::with(|config| config.history = true)
}

/// The entries since the last call, in words: the member, the step, and the publisher.
fn new_entries(w: &mut World) -> Vec<String> {
    let words = std::mem::take(&mut w.disk.history).into_iter().map(|(_, record)| {
        let (uid, of) = record.uids();
        let name = |uid: Option<UserId>| uid.map_or(String::new(), |uid| format!(" {uid}"));
        let more = match &record.entry {
            HistoryEntry::Event(Event::MemberLeft { reason, .. }) => format!(" {reason}"),
            HistoryEntry::Step(
                HistoryStep::JoinRefused { error, .. } | HistoryStep::MediaRefused { error, .. },
            ) => {
                format!(" !{error}")
            }
            HistoryEntry::Step(HistoryStep::CommandRefused { method, error, .. }) => {
                format!(" {method} !{error}")
            }
            HistoryEntry::Step(HistoryStep::Missed { count, .. }) => format!(" *{count}"),
            HistoryEntry::Step(HistoryStep::LevelChanged { level, .. }) => format!(" ={level}"),
            _ => String::new(),
        };
        format!("{}{}{}{more}", record.entry.kind(), name(uid), name(of))
    });
    words.collect()
}

fn look(w: &mut World, generation: Gen, plays: &[Mid]) {
    w.advance(2_000);
    let push = PushStats { ms: 2_000, bytes: 250_000, frames: 30, ..PushStats::default() };
    let play = PlayStats { ms: 2_000, bytes: 250_000, lag_ms: 40 };
    let plays = plays.iter().map(|mid| (*mid, play)).collect();
    w.input(Input::StreamStats(Box::new(StreamStats { generation, push: Some(push), plays })));
}

fn qualities(w: &World) -> Vec<Quality> {
    let steps = w.disk.history.iter().filter_map(|(_, record)| match &record.entry {
        HistoryEntry::Step(HistoryStep::Quality(quality)) => Some((**quality).clone()),
        _ => None,
    });
    steps.collect()
}

#[test]
fn the_history_shows_how_a_viewer_came_to_see_a_publisher() {
    let mut w = world();
    let (a, b) = (w.join(1), w.join(2));
    let (_, stream) = w.push_url(a, "video");
    w.pull_url(b, 1, "video");
    let mid = w.mid(b);
    w.may_push(stream).unwrap();
    w.input(Input::Push { generation: stream, state: PushState::Began });
    w.may_play(stream, mid).unwrap();
    w.ok(a, mute("video"));
    w.ok(b, unsubscribe(1, "video"));
    let line = [
        "channelOpened",
        "memberJoined 1",
        "memberJoined 2",
        "urlIssued 1",
        "streamAdded 1",
        "urlIssued 2 1",
        "subscribed 2 1",
        "mediaAllowed 1",
        "pushBegan 1",
        "mediaAllowed 2 1",
        "muted 1",
        "unsubscribed 2 1",
        "playCut 2 1",
    ];
    assert_eq!(new_entries(&mut w), line);
    w.may_play(stream, mid).unwrap_err();
    w.drop_socket(b);
    let (b, _) = w.resume(b);
    w.err(b, subscribe(9, "video"));
    w.enter(entry(3).grant(|grant| grant.uid = Some(UserId(4)))).unwrap_err();
    w.ok(a, leave());
    w.ok(b, leave());
    let line = [
        "mediaRefused 2 1 !notSubscribed",
        "disconnected 2",
        "connected 2",
        "commandRefused 2 subscribe !noSuchMember",
        "joinRefused 3 !uidMismatch",
        "streamRemoved 1",
        "pushCut 1",
        "memberLeft 1 left",
        "memberLeft 2 left",
        "channelEnded",
    ];
    assert_eq!(new_entries(&mut w), line);
    w.audit();
}

#[test]
fn figures_of_both_sides_are_recorded_each_minute_and_at_the_end() {
    let mut w = world();
    let (a, b) = (w.join(1), w.join(2));
    let (_, stream) = w.push_url(a, "");
    w.pull_url(b, 1, "video");
    let mid = w.mid(b);
    w.may_push(stream).unwrap();
    w.may_play(stream, mid).unwrap();
    new_entries(&mut w);
    for _ in 0..33 {
        look(&mut w, stream, &[mid]);
        w.ok(a, ping());
        w.ok(b, ping());
    }
    let first = qualities(&w);
    let line = ["levelChanged 2 1 =1", "levelChanged 1 =1", "quality 1", "quality 2 1"];
    assert_eq!(new_entries(&mut w), line);
    let steady = Some(FigureRange { least: 1_000, mean: 1_000, most: 1_000 });
    for (quality, direction) in first.iter().zip([Direction::Push, Direction::Pull]) {
        assert_eq!((&quality.direction, quality.carries.as_str()), (&direction, "av"));
        assert_eq!(quality.server.as_ref().and_then(|server| server.kbps), steady);
        assert_eq!(quality.client, None);
    }
    let data = r#"{"info": {"videoBitrate": 900, "netQualityLevel": 1}}"#.parse().unwrap();
    let kind = ReportType::NetStatus;
    w.ok(a, Call::Report(Report { dir: ReportDir::Push, kind, data, uid: None }));
    // The player disconnects.
    look(&mut w, stream, &[]);
    assert_eq!(new_entries(&mut w), ["quality 2 1", "playEnded 2 1"]);
    w.ok(a, unpublish(""));
    let last = qualities(&w);
    let line = ["streamRemoved 1", "streamRemoved 1", "quality 1", "pushCut 1"];
    assert_eq!(new_entries(&mut w), line);
    let client = last[0].client.as_ref().unwrap();
    assert_eq!((client.reports, client.kbps.map(|kbps| kbps.mean)), (1, Some(900)));
    w.audit();
}

#[test]
fn a_write_of_a_member_contains_its_history_entries() {
    let mut w = world();
    let a = w.join(1);
    new_entries(&mut w);
    w.disk.mode = DiskMode::Hold;
    w.push_url(a, "audio");
    assert!(new_entries(&mut w).is_empty());
    w.disk.mode = DiskMode::AtOnce;
    w.crash();
    let (a, _) = w.resume(a);
    assert_eq!(
        new_entries(&mut w),
        ["restarted", "connected 1"],
        "the publication was never written"
    );
    w.ok(a, leave());
    assert_eq!(new_entries(&mut w), ["memberLeft 1 left", "channelEnded"]);
}

#[test]
fn a_process_records_all_open_figures_when_it_ends() {
    let mut w = world();
    let a = w.join(1);
    let (_, stream) = w.push_url(a, "");
    w.may_push(stream).unwrap();
    look(&mut w, stream, &[]);
    look(&mut w, stream, &[]);
    new_entries(&mut w);
    w.input(Input::Drain(DrainPlan {
        notice_ms: 100,
        freeze_ms: 1_000,
        deadline_ms: 2_000,
        retry_after_ms: 100,
        jitter_ms: 100,
    }));
    w.advance(2_000);
    assert_eq!(w.drained, Some(true));
    assert_eq!(new_entries(&mut w), ["disconnected 1", "quality 1"]);
}

#[test]
fn the_history_limits_the_steps_of_a_busy_member() {
    let mut w = world();
    let a = w.join(1);
    new_entries(&mut w);
    for _ in 0..130 {
        w.advance(60);
        w.err(a, subscribe(9, "video"));
    }
    let refused = new_entries(&mut w);
    assert_eq!(refused.len(), 120, "{refused:?}");
    w.advance_alive(60_000, &[a]);
    w.ok(a, mute("audio"));
    assert_eq!(new_entries(&mut w), ["missed 1 *10", "muted 1"]);
    w.audit();
}

#[test]
fn a_disabled_history_records_nothing() {
    let mut w = World::new();
    let a = w.join(1);
    w.push_url(a, "");
    w.ok(a, leave());
    assert!(new_entries(&mut w).is_empty());
    assert!(!w.disk.journal.is_empty());
}

//! Proves no rule of the protocol: the journal of channels, and that no crash makes it differ from the stored records.

use lianmai_protocol::UserId;
use lianmai_signal_engine::task::{RunFailure, RunReport};
use lianmai_signal_engine::{AdminCommand, Event};

use crate::calls::*;
use crate::world::{DiskMode, World, add, delete, entry, room, task, update};

/// The events appended since the last call, in words; their numbers are contiguous.
fn new_records(w: &mut World, last: &mut Option<u64>) -> Vec<String> {
    let words = std::mem::take(&mut w.disk.journal).into_iter().map(|(_, record)| {
        assert_eq!(record.first, last.is_none());
        assert!(last.is_none_or(|last| record.seq == last + 1), "{record:?} behind {last:?}");
        *last = Some(record.seq);
        let kind = record.event.kind();
        match record.event {
            Event::MemberJoined { uid, .. } | Event::RoleChanged { uid, .. } => {
                format!("{kind} {uid}")
            }
            Event::MemberLeft { uid, reason, .. } => format!("{kind} {uid} {reason}"),
            Event::StreamAdded { uid, media_type, .. }
            | Event::StreamRemoved { uid, media_type, .. } => format!("{kind} {uid} {media_type}"),
            Event::TaskAdded { task_id, .. } | Event::TaskEnded { task_id, .. } => {
                format!("{kind} {task_id}")
            }
            Event::TaskChanged { task_id, state, .. } => format!("{kind} {task_id} {state}"),
            _ => kind.to_owned(),
        }
    });
    words.collect()
}

#[test]
fn each_event_of_a_call_is_journaled_once_and_in_order() {
    let (mut w, mut last) = (World::new(), None);
    let a = w.join(1);
    w.push_url(a, "audio");
    w.ok(a, set_role("audience"));
    w.ok(a, leave());
    let life = [
        "channelOpened",
        "memberJoined 1",
        "streamAdded 1 audio",
        "streamRemoved 1 audio",
        "roleChanged 1",
        "memberLeft 1 left",
        "channelEnded",
    ];
    assert_eq!(new_records(&mut w, &mut last), life);
    // The next channel of that name continues the numbers.
    w.join(1);
    assert_eq!(new_records(&mut w, &mut last), ["channelOpened", "memberJoined 1"]);
    w.crash();
    w.join(2);
    assert_eq!(
        new_records(&mut w, &mut last),
        ["memberJoined 2"],
        "a restart tells nothing of its own"
    );
}

#[test]
fn the_write_of_a_ban_contains_the_leave_of_the_kicked_member() {
    let (mut w, mut last) = (World::new(), None);
    let m = w.admit(entry(1).moderator());
    let b = w.join(2);
    w.push_url(b, "video");
    new_records(&mut w, &mut last);
    w.disk.mode = DiskMode::Hold;
    w.send(m, kick(2, 60));
    w.send(m, kick(2, 90));
    w.disk.mode = DiskMode::AtOnce;
    // The write contains the leave; its note comes later and is not appended again.
    w.write_held();
    assert_eq!(new_records(&mut w, &mut last), ["streamRemoved 2 video", "memberLeft 2 kicked"]);
    w.crash();
    w.join(3);
    assert_eq!(new_records(&mut w, &mut last), ["memberJoined 3"]);
}

#[test]
fn the_write_of_a_close_contains_the_end_of_the_channel() {
    let (mut w, mut last) = (World::new(), None);
    let m = w.admit(entry(1).moderator());
    let b = w.join(2);
    w.push_url(b, "audio");
    new_records(&mut w, &mut last);
    w.disk.mode = DiskMode::Hold;
    w.send(m, close_channel(10));
    assert!(new_records(&mut w, &mut last).is_empty());
    w.write_held();
    let end = [
        "memberLeft 1 channelClosed",
        "streamRemoved 2 audio",
        "memberLeft 2 channelClosed",
        "channelEnded",
    ];
    assert_eq!(new_records(&mut w, &mut last), end);
    w.disk.mode = DiskMode::AtOnce;
    w.advance(20_000);
    w.join(7);
    assert_eq!(
        new_records(&mut w, &mut last),
        ["channelOpened", "memberJoined 7"],
        "no event is written twice"
    );
}

#[test]
fn a_crash_before_a_kick_is_seen_leaves_no_channel_open() {
    let (mut w, mut last) = (World::new(), None);
    w.join(2);
    new_records(&mut w, &mut last);
    w.disk.mode = DiskMode::Hold;
    let (channel, uid) = (room("plain"), UserId(2));
    w.admin_later(AdminCommand::Kick { channel, uid, duration_s: 60, reason: None });
    w.disk.apply_held();
    w.disk.mode = DiskMode::AtOnce;
    w.crash();
    w.advance(1);
    assert_eq!(new_records(&mut w, &mut last), ["memberLeft 2 kicked", "channelEnded"]);
}

#[test]
fn a_member_that_stays_away_after_a_crash_leaves_once() {
    let (mut w, mut last) = (World::new(), None);
    let a = w.join(1);
    w.push_url(a, "audio");
    new_records(&mut w, &mut last);
    w.crash();
    w.advance(400_000);
    let end = ["streamRemoved 1 audio", "memberLeft 1 serverRestart", "channelEnded"];
    assert_eq!(new_records(&mut w, &mut last), end);
}

#[test]
fn a_task_is_journaled_from_begin_to_end_across_a_crash() {
    let (mut w, mut last) = (World::with_tasks(), None);
    let a = w.join(1);
    w.push_url(a, "");
    new_records(&mut w, &mut last);
    w.ok(a, add(&[task("a", "rtmp://h/live/a", &[1])]));
    let (run, _) = w.started();
    w.push(&run);
    w.report(&run, RunReport::Retrying(RunFailure::Broken));
    let begun = [
        "taskAdded a",
        "taskChanged a starting",
        "taskChanged a pushing",
        "taskChanged a retrying",
    ];
    assert_eq!(new_records(&mut w, &mut last), begun);
    w.crash();
    w.advance(1);
    assert_eq!(new_records(&mut w, &mut last), ["taskChanged a idle", "taskChanged a starting"]);
    let (a, _) = w.resume(a);
    w.ok(a, delete(&["a"]));
    assert_eq!(new_records(&mut w, &mut last), ["taskEnded a"]);
}

#[test]
fn tasks_end_in_the_write_that_closes_their_channel() {
    let (mut w, mut last) = (World::with_tasks(), None);
    let m = w.admit(entry(1).moderator());
    w.push_url(m, "audio");
    w.ok(m, add(&[task("a", "rtmp://h/live/a", &[1])]));
    new_records(&mut w, &mut last);
    w.disk.mode = DiskMode::Hold;
    w.send(m, close_channel(10));
    w.write_held();
    let end =
        ["streamRemoved 1 audio", "memberLeft 1 channelClosed", "taskEnded a", "channelEnded"];
    assert_eq!(new_records(&mut w, &mut last), end);
    w.disk.mode = DiskMode::AtOnce;
    w.advance(20_000);
    assert!(new_records(&mut w, &mut last).is_empty(), "no event is written twice");
}

#[test]
fn tasks_end_when_the_server_no_longer_serves_tasks() {
    let (mut w, mut last) = (World::with_tasks(), None);
    let a = w.join(1);
    w.ok(a, add(&[task("a", "rtmp://h/live/a", &[1])]));
    new_records(&mut w, &mut last);
    w.config.tasks = None;
    w.crash();
    w.advance(1);
    assert_eq!(new_records(&mut w, &mut last), ["taskEnded a"]);
    assert!(w.disk.tasks().is_empty());
}

#[test]
fn a_disabled_journal_writes_nothing() {
    let mut w = World::with(|config| config.journal = false);
    let a = w.admit(entry(1).moderator());
    w.join(2);
    w.ok(a, kick(2, 60));
    w.ok(a, close_channel(1));
    assert!(w.disk.journal.is_empty());
    assert!(w.disk.is_empty());
}

#[test]
fn each_update_is_in_the_write_that_stores_its_task() {
    let (mut w, mut last) = (World::with_tasks(), None);
    let a = w.join(1);
    w.push_url(a, "");
    // The task `a` begins a run in the middle of the update, and `b` stays idle.
    w.ok(a, add(&[task("a", "rtmp://h/live/a", &[9]), task("b", "rtmp://h/live/b", &[9])]));
    new_records(&mut w, &mut last);
    w.disk.mode = DiskMode::Hold;
    w.send(a, update(&[task("a", "rtmp://h/live/a", &[1]), task("b", "rtmp://h/live/b", &[8])]));
    w.write_next();
    assert_eq!(new_records(&mut w, &mut last), ["taskChanged a starting", "taskChanged b idle"]);
    w.disk.mode = DiskMode::AtOnce;
    w.crash();
    w.resume(a);
    let revisions: Vec<u64> = w.task_views().iter().map(|view| view.info.revision).collect();
    assert_eq!(revisions, [2, 2], "the rows are in that write as well");
}

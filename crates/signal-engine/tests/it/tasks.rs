//! The work of tasks: when they run, the effects of executors that fail, are silent or late, and the states that
//! members are told.

use lianmai_protocol::message::task::{Task, TaskState};
use lianmai_protocol::{ErrorName, UserId};
use lianmai_signal_engine::task::{
    Draft, LayoutSource, Pane, PaneSet, RunFailure, RunId, RunReport, layout::WHOLE,
};
use lianmai_signal_engine::{Access, Denial, Input, QueryId, TaskChange};

use crate::calls::*;
use crate::world::{ACCEPTED, Client, DiskMode, RENEW, World, add, delete, entry, task, update};

fn a_task() -> Task {
    task("a", "rtmp://h/live/a", &[1, 2])
}

/// A world with a task that pushes the publications of member 1.
fn pushing() -> (World, Client, RunId) {
    let mut w = World::with_tasks();
    let a = w.join(1);
    w.push_url(a, "");
    w.ok(a, add(&[a_task()]));
    let (run, _) = w.started();
    w.push(&run);
    w.advance(20);
    w.skip_received();
    (w, a, run)
}

/// Proves TSK-5, TSK-8, TSK-10.
#[test]
fn tsk_8_a_task_runs_while_a_member_is_seen_or_heard() {
    let mut w = World::with_tasks();
    let a = w.join(1);
    let b = w.join(2);
    w.ok(a, add(&[a_task()]));
    w.advance(20);
    assert_eq!(w.new_events(b), ["task a idle 0 r1"]);
    assert!(w.orders().is_empty(), "no member publishes");
    w.push_url(b, "screenShare");
    w.advance(20);
    assert!(w.orders().is_empty(), "a screen is no part of it");
    let (_, generation) = w.push_url(a, "");
    w.advance(20);
    assert_eq!(
        w.new_events(b)[1..],
        ["streamAdded 1 audio", "streamAdded 1 video", "task a starting 0 r1"]
    );
    let (run, job) = w.started();
    assert_eq!(run.number, 1);
    let uids: Vec<_> = job.shown.tiles.iter().map(|tile| tile.uid.0).collect();
    assert_eq!((uids, job.shown.voices.len()), (vec![1], 1));
    assert_eq!(job.spec.address.secret_url(), "rtmp://h/live/a");
    // Its URLs are valid for the shown streams, from the start on.
    assert_eq!(w.may_play(generation, job.viewer), Ok(()));
    let (_, screen) = w.push_url(b, "screenShare");
    assert_eq!(w.may_play(screen, job.viewer), Err(Denial::NotSubscribed));
    w.report(&run, RunReport::Pushing);
    assert!(w.new_events(b).is_empty(), "nothing is pushed without a lease");
    w.report(&run, ACCEPTED);
    assert_eq!(w.orders(), ["lease a 1 2000"]);
    w.report(&run, RunReport::Pushing);
    w.report(&run, RunReport::Pushing);
    w.advance(20);
    assert_eq!(w.new_events(b), ["task a pushing 505 r1"]);
    // A member that begins or ends to publish changes the composition, not the run.
    let (_, second) = w.push_url(b, "video");
    let job = w.updated();
    assert_eq!(job.shown.tiles.iter().map(|tile| tile.uid.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(w.may_play(second, job.viewer), Ok(()));
    w.ok(a, unpublish(""));
    assert_eq!(w.updated().shown.voices, []);
    w.ok(b, unpublish("video"));
    assert!(w.updated().shown.is_empty());
    w.skip_received();
    // No member publishes. The run stays for a while.
    assert!(w.advance_pushing(119_500, &[&run]).is_empty());
    w.push_url(a, "audio");
    assert_eq!(w.updated().shown.voices.len(), 1);
    w.ok(a, unpublish(""));
    w.orders();
    assert!(w.advance_pushing(119_500, &[&run]).is_empty());
    let orders = w.advance_pushing(1_000, &[&run]);
    assert!(!orders.is_empty() && orders.iter().all(|order| order == "stop a 1"), "{orders:?}");
    w.report(&run, RunReport::Stopped);
    w.advance(20);
    assert_eq!(w.new_events(b).last().map(String::as_str), Some("task a idle 0 r1"));
    assert_eq!(w.may_play(generation, job.viewer), Err(Denial::UnknownStream));
    w.push_url(a, "audio");
    assert_eq!(w.started().0.number, 2);
    w.audit();
}

/// Proves TSK-9.
#[test]
fn tsk_9_a_failed_run_is_retried_up_to_the_limit() {
    let (mut w, a, mut run) = pushing();
    for retry in 1..=3_u64 {
        w.report(&run, RunReport::Failed(RunFailure::Unreachable));
        w.advance(20);
        assert_eq!(w.new_events(a), [format!("task a retrying 0 r1 {retry}")]);
        let wait = [980, 1_980, 3_980][retry as usize - 1];
        w.advance(wait - 1);
        assert!(w.orders().is_empty(), "not before its time");
        w.advance(1);
        run = w.started().0;
        assert_eq!(run.number, retry + 1);
        w.report(&run, ACCEPTED);
        w.orders();
    }
    w.report(&run, RunReport::Failed(RunFailure::Rejected));
    w.advance(20);
    assert_eq!(w.new_events(a), ["task a failed 506 r1 3"]);
    w.advance_alive(100_000, &[a]);
    assert!(w.orders().is_empty());
    // An update begins the retries anew, even with the same specification.
    w.ok(a, update(&[a_task()]));
    assert_eq!(w.started().0.number, 5);
    assert_eq!(w.new_events(a), ["task a starting 0 r2"]);
}

/// Proves TSK-9.
#[test]
fn tsk_9_a_long_push_resets_the_retries() {
    let (mut w, _, run) = pushing();
    w.report(&run, RunReport::Retrying(RunFailure::Broken));
    w.report(&run, RunReport::Retrying(RunFailure::Broken));
    w.report(&run, RunReport::Pushing);
    w.orders();
    assert!(w.advance_pushing(10_000, &[&run]).is_empty());
    assert_eq!(w.task_views()[0].info.retries, 2);
    for _ in 0..3 {
        w.report(&run, RunReport::Retrying(RunFailure::Broken));
    }
    assert_eq!(w.task_views()[0].info.code, 0, "three times");
    assert!(w.orders().is_empty(), "the run connects again by itself");
    w.report(&run, RunReport::Retrying(RunFailure::Broken));
    assert_eq!(w.orders(), ["stop a 1"]);
    assert_eq!(w.task_views()[0].info.code, 506);
    w.audit();
}

/// A shard that stalls handles a late renewal before its own timer.
/// Proves TSK-9.
#[test]
fn tsk_9_a_late_renewal_does_not_forget_how_long_the_run_has_pushed() {
    let (mut w, _, mut run) = pushing();
    for _ in 0..3 {
        w.report(&run, RunReport::Failed(RunFailure::Unreachable));
        w.advance(4_000);
        run = w.started().0;
        w.push(&run);
    }
    assert_eq!(w.task_views()[0].info.retries, 3, "as often as it may");
    assert!(w.advance_pushing(10_000, &[&run]).is_empty());
    // No timer fires in these 2.1 s.
    w.now.mono = w.now.mono + 2_100;
    w.report(&run, RENEW);
    assert_eq!(w.orders(), ["stop a 4"]);
    let info = &w.task_views()[0].info;
    assert_eq!((info.state.as_ref(), info.retries), (Some(&TaskState::Retrying), 1));
    w.advance(1_000);
    assert_eq!(w.started().0.number, 5);
    w.audit();
}

/// Proves TSK-11.
#[test]
fn tsk_11_the_next_run_waits_for_the_lease_of_the_last() {
    let (mut w, _, run) = pushing();
    // Silent from now on: its lease ends after 2 s, and half a second more is for its clock.
    w.advance(2_479);
    assert!(w.orders().is_empty());
    w.advance(1);
    assert_eq!(w.orders(), ["stop a 1"]);
    w.advance(1_000);
    let (second, _) = w.started();
    assert_eq!(second.number, 2);
    // Later reports of the first run have no effect.
    for late in [
        RunReport::Pushing,
        RunReport::Retrying(RunFailure::Broken),
        RunReport::ImageFailed,
        RunReport::Stopped,
        RunReport::Failed(RunFailure::Encoder),
    ] {
        w.report(&run, late);
        assert!(w.orders().is_empty(), "{late:?}");
    }
    for late in [ACCEPTED, RENEW] {
        w.report(&run, late);
        assert_eq!(w.orders(), ["stop a 1"], "{late:?}");
    }
    w.report(&second, ACCEPTED);
    w.orders();
    // A run that asks too late has stopped already.
    w.now.mono.0 += 2_001;
    w.report(&second, RENEW);
    assert_eq!(w.orders(), ["stop a 2"]);
    let unknown = RunId { task: "other".parse().unwrap(), ..second.clone() };
    let elsewhere = RunId { channel: crate::world::room("creator"), ..second.clone() };
    let ahead = RunId { number: 9, ..second.clone() };
    let earlier = RunId { life: second.life ^ 1, ..second };
    for stranger in [unknown, elsewhere, ahead, earlier] {
        w.report(&stranger, RunReport::Failed(RunFailure::Encoder));
        w.report(&stranger, RunReport::Stopped);
        assert!(w.orders().is_empty());
        w.report(&stranger, ACCEPTED);
        assert_eq!(w.orders().len(), 1, "a stop is ordered");
    }
    w.audit();
}

/// Proves TSK-11.
#[test]
fn tsk_11_a_silent_executor_is_given_up() {
    let mut w = World::with_tasks();
    let a = w.join(1);
    w.push_url(a, "");
    w.ok(a, add(&[a_task()]));
    let (run, _) = w.started();
    w.advance(4_999);
    assert!(w.orders().is_empty());
    w.advance(1);
    assert_eq!(w.orders(), ["stop a 1"]);
    // It never had a lease, so only the usual wait follows.
    w.report(&run, ACCEPTED);
    assert_eq!(w.orders(), ["stop a 1"]);
    w.advance(1_000);
    assert_eq!(w.started().0.number, 2);
    w.audit();
}

/// Proves TSK-11.
#[test]
fn tsk_11_an_unstored_run_number_starts_no_run() {
    let mut w = World::with_tasks();
    let a = w.join(1);
    w.ok(a, add(&[a_task()]));
    w.disk.mode = DiskMode::Hold;
    w.push_url(a, "");
    w.advance(20);
    assert!(w.orders().is_empty(), "it is not written down yet");
    w.answer_held(&[false]);
    assert!(w.orders().is_empty());
    w.disk.mode = DiskMode::AtOnce;
    w.advance(1_020);
    assert_eq!(w.started().0.number, 2);
    w.audit();
}

/// Proves TSK-6, TSK-10.
#[test]
fn tsk_6_an_update_replaces_all_of_it() {
    let (mut w, a, run) = pushing();
    let mut changed = a_task();
    changed.stream_url = "rtmp://h/live/a?fresh=1".to_owned();
    changed.layout.users.truncate(1);
    changed.record = true;
    w.ok(a, update(std::slice::from_ref(&changed)));
    let job = w.updated();
    assert!(job.spec.record && job.spec.address.secret_url().ends_with("?fresh=1"));
    assert_eq!(w.new_events(a), ["task a pushing 505 r2"]);
    // A revision must grow; the same one again changes nothing.
    let at = |revision: u64, record: bool| Task { revision: Some(revision), record, ..a_task() };
    assert_eq!(w.err(a, update(&[at(2, false)])), ErrorName::TaskOverridden);
    assert_eq!(w.err(a, update(&[at(1, false)])), ErrorName::TaskOverridden);
    w.ok(a, update(&[at(7, false)]));
    w.ok(a, update(&[at(7, false)]));
    assert_eq!(w.err(a, update(&[at(7, true)])), ErrorName::TaskOverridden);
    assert_eq!(w.new_events(a), ["task a pushing 505 r7"]);
    w.orders();
    // A picture that cannot be used is reported, and stops nothing.
    w.report(&run, RunReport::ImageFailed);
    w.report(&run, RunReport::ImageFailed);
    w.advance(20);
    assert_eq!(w.new_events(a), ["task a pushing 512 r7"]);
    w.audit();
}

/// Proves TSK-6, TSK-7.
#[test]
fn tsk_6_an_update_may_change_the_address() {
    let (mut w, a, run) = pushing();
    let b = w.join(2);
    w.skip_received();
    let moved = task("a", "rtmp://h/live/b", &[1]);
    w.ok(a, update(&[moved]));
    assert_eq!(w.orders(), ["stop a 1"]);
    w.advance(20);
    assert_eq!(w.new_events(b), ["task a starting 0 r2"]);
    // The old address is free 10 s after the end of the old run, not earlier.
    let old = task("b", "rtmp://h/live/a", &[1]);
    assert_eq!(w.err(b, add(std::slice::from_ref(&old))), ErrorName::StreamUrlBusy);
    assert!(w.orders().is_empty());
    w.report(&run, RunReport::Stopped);
    let (second, job) = w.started();
    assert_eq!((second.number, job.spec.address.secret_url()), (2, "rtmp://h/live/b"));
    let error = w.ask(b, add(std::slice::from_ref(&old))).expect_err("it rests");
    assert_eq!(error.data.retry_after_ms, Some(10_000));
    w.advance(9_999);
    assert_eq!(w.err(b, add(std::slice::from_ref(&old))), ErrorName::StreamUrlBusy);
    w.advance(1);
    w.ok(b, add(&[old]));
    w.audit();
}

/// Proves TSK-7.
#[test]
fn tsk_7_a_task_may_return_to_an_address_before_its_claim_is_released() {
    let (mut w, a, run) = pushing();
    w.ok(a, update(&[task("a", "rtmp://h/live/b", &[1])]));
    w.ok(a, update(&[task("a", "rtmp://h/live/a", &[1])]));
    assert_eq!(w.orders(), ["stop a 1"]);
    w.report(&run, RunReport::Stopped);
    let (second, job) = w.started();
    assert_eq!(job.spec.address.secret_url(), "rtmp://h/live/a");
    w.push(&second);
    // The address in between rests, the present one is held.
    let other = |url: &str| add(&[task("b", url, &[1])]);
    let error = w.ask(a, other("rtmp://h/live/b")).expect_err("it rests");
    assert!(error.data.retry_after_ms.is_some());
    let error = w.ask(a, other("rtmp://h/live/a?x=y")).expect_err("it is held");
    assert_eq!(error.data.retry_after_ms, None);
    w.audit();
}

/// Proves TSK-1, TSK-10.
#[test]
fn tsk_1_tasks_end_with_the_channel() {
    let mut w = World::with_tasks();
    let a = w.admit(entry(1).moderator());
    let b = w.join(2);
    w.push_url(a, "");
    w.ok(a, add(&[a_task(), task("b", "rtmp://h/live/b", &[2])]));
    let (run, _) = w.started();
    w.push(&run);
    w.advance(20);
    w.skip_received();
    w.ok(a, close_channel(0));
    assert_eq!(w.orders(), ["stop a 1"]);
    assert_eq!(
        w.new_events(b),
        ["task a ended 511 r1", "task b ended 511 r1", "liveRoomClose closed"]
    );
    assert!(w.disk.tasks().is_empty());
    // Its run outlives it by its lease, and the address rests after that.
    let c = w.admit(entry(3).channel("other"));
    let again = || add(&[task("x", "rtmp://h/live/a", &[3])]);
    assert_eq!(w.err(c, again()), ErrorName::StreamUrlBusy);
    w.ok(c, add(&[task("y", "rtmp://h/live/b", &[3])]));
    w.advance(2_480);
    let error = w.ask(c, again()).expect_err("it rests");
    assert_eq!(error.data.retry_after_ms, Some(10_000));
    w.advance(10_000);
    w.ok(c, again());
    w.ok(c, leave());
    w.assert_empty();
    w.advance(120_000);
    assert_eq!(w.disk.claims(), 0, "a claim without holder is dropped");
}

/// Proves TSK-1, TSK-9.
#[test]
fn tsk_1_no_run_begins_while_the_end_of_the_channel_is_being_written() {
    let mut w = World::with_tasks();
    let a = w.admit(entry(1).moderator());
    w.push_url(a, "");
    w.ok(a, add(&[a_task()]));
    let (run, _) = w.started();
    w.report(&run, RunReport::Failed(RunFailure::Unreachable));
    w.disk.mode = DiskMode::Hold;
    let id = w.send(a, close_channel(0));
    // The next run is due meanwhile.
    w.advance(2_000);
    assert!(w.orders().is_empty() && w.answer(a, id).is_none());
    w.disk.mode = DiskMode::AtOnce;
    w.write_held();
    assert!(w.answer(a, id).is_some_and(|answer| answer.is_ok()));
    assert!(w.orders().is_empty());
    w.assert_empty();
}

/// Proves TSK-5.
#[test]
fn tsk_5_panes_follow_the_order_of_the_publishers() {
    let mut w = World::with_tasks();
    let clients: Vec<_> = [5, 1, 3].map(|uid| w.join(uid)).into();
    let mut draft = Draft::of_wire(&task("a", "rtmp://h/live/a", &[])).unwrap();
    let pane = |x: u32, width: u32| Pane { x, y: 0, width, height: WHOLE, z: 0, major: x == 0 };
    let one = PaneSet { panes: vec![pane(0, WHOLE)] };
    let two = PaneSet { panes: vec![pane(0, WHOLE / 2), pane(WHOLE / 2, WHOLE / 2)] };
    draft.spec.source = LayoutSource::Panes { sets: vec![one, two], adaption: Default::default() };
    draft.spec.host = Some(UserId(3));
    w.admin_tasks(TaskChange::Add(vec![draft])).unwrap();
    let seen = |job: &lianmai_signal_engine::task::Job| {
        job.shown.tiles.iter().map(|t| (t.uid.0, t.rect.x, t.rect.width)).collect::<Vec<_>>()
    };
    w.push_url(clients[0], "");
    let (run, job) = w.started();
    assert_eq!(seen(&job), [(5, 0, 1_280)]);
    w.push(&run);
    w.push_url(clients[1], "");
    assert_eq!(seen(&w.updated()), [(5, 0, 640), (1, 640, 640)]);
    // The host takes the major pane; the last publisher gets none.
    w.push_url(clients[2], "");
    let job = w.updated();
    assert_eq!((seen(&job), job.shown.voices.len()), (vec![(3, 0, 640), (5, 640, 640)], 3));
    w.ok(clients[0], leave());
    assert_eq!(seen(&w.updated()), [(3, 0, 640), (1, 640, 640)]);
    w.audit();
}

/// Proves TSK-5.
#[test]
fn tsk_5_members_that_published_before_there_was_a_task_have_an_order_too() {
    let mut w = World::with_tasks();
    let clients: Vec<_> = [5, 1, 3, 2].map(|uid| w.join(uid)).into();
    // A screen is no part of a task; a member that stopped loses its place in the order.
    w.push_url(clients[3], "screenShare");
    w.push_url(clients[1], "");
    w.push_url(clients[0], "audio");
    w.push_url(clients[2], "video");
    w.push_url(clients[0], "video");
    w.ok(clients[1], unpublish(""));
    w.push_url(clients[1], "video");
    w.push_url(clients[3], "video");
    let mut draft = Draft::of_wire(&task("a", "rtmp://h/live/a", &[])).unwrap();
    let pane = |x: u32| Pane { x, y: 0, width: WHOLE / 4, height: WHOLE, z: 0, major: false };
    let panes = (0..4).map(|at| pane(at * (WHOLE / 4))).collect();
    draft.spec.source =
        LayoutSource::Panes { sets: vec![PaneSet { panes }], adaption: Default::default() };
    w.admin_tasks(TaskChange::Add(vec![draft])).unwrap();
    let (_, job) = w.started();
    let mut tiles: Vec<_> = job.shown.tiles.iter().map(|t| (t.rect.x, t.uid.0)).collect();
    tiles.sort_unstable();
    assert_eq!(tiles, [(0, 5), (320, 3), (640, 1), (960, 2)]);
    w.audit();
}

/// Proves TSK-2, LEA-3.
#[test]
fn tsk_2_an_owner_that_leaves_during_the_claims_has_no_task() {
    let mut w = World::with_tasks();
    let a = w.join(1);
    let b = w.join(2);
    w.tasks.hold_claims = true;
    let id =
        w.send(a, add(&[task("a", "rtmp://h/live/a", &[1]), task("b", "rtmp://h/live/b", &[1])]));
    assert_eq!(w.answer(a, id), None, "it waits");
    let behind = w.send(b, add(&[task("a", "rtmp://h/live/c", &[1])]));
    w.ok(a, leave());
    assert_eq!(w.error(a, id), ErrorName::Superseded);
    w.deliver_claims();
    assert_eq!(w.answer(b, behind).map(|answer| answer.is_ok()), Some(true), "its turn has come");
    assert_eq!(w.task_views().len(), 1);
    // The claims of the other request are free, without a rest: nothing was pushed.
    w.ok(b, add(&[task("x", "rtmp://h/live/a", &[1]), task("y", "rtmp://h/live/b", &[1])]));
    w.audit();
}

/// Proves TSK-2, MET-2.
#[test]
fn tsk_2_a_claim_without_answer_fails_the_command() {
    let mut w = World::with_tasks();
    let a = w.join(1);
    w.tasks.hold_claims = true;
    let id = w.send(a, add(&[a_task()]));
    let held = w.send(a, send_message("behind"));
    w.advance(4_999);
    assert_eq!((w.answer(a, id), w.answer(a, held)), (None, None));
    w.advance(1);
    assert_eq!(w.error(a, id), ErrorName::TaskFailed);
    assert!(w.answer(a, held).is_some_and(|answer| answer.is_ok()), "the session goes on");
    w.deliver_claims();
    assert!(w.task_views().is_empty());
    w.audit();
}

/// Proves TSK-2, RST-5.
#[test]
fn tsk_2_tasks_are_written_before_they_are_answered() {
    let mut w = World::with_tasks();
    let a = w.join(1);
    w.disk.mode = DiskMode::Hold;
    let id = w.send(a, add(&[a_task()]));
    w.write_held();
    assert_eq!(w.answer(a, id), None, "the claim is written down, the task is not");
    w.write_held();
    assert!(w.answer(a, id).is_some_and(|answer| answer.is_ok()));
    let id = w.send(a, delete(&["a"]));
    w.answer_held(&[false]);
    assert_eq!(w.error(a, id), ErrorName::NotStored);
    w.disk.mode = DiskMode::AtOnce;
    w.audit();
}

/// Proves TSK-11.
#[test]
fn tsk_11_reports_of_hostile_numbers_break_nothing() {
    let (mut w, _, run) = pushing();
    for number in [0, 2, u64::MAX] {
        for report in [ACCEPTED, RENEW, RunReport::Pushing, RunReport::Stopped] {
            w.report(&RunId { number, ..run.clone() }, report);
        }
    }
    for _ in 0..1_000 {
        w.report(&run, RunReport::Retrying(RunFailure::Broken));
        w.report(&run, RunReport::Pushing);
    }
    let view = &w.task_views()[0];
    assert_eq!((view.info.code, view.info.retries), (506, 3), "a run that flaps is ended");
    let query = QueryId(u64::MAX);
    let access = Access::Play { viewer: w.mid(w.open()[0]) };
    let generation = lianmai_protocol::Gen { route: 0, random: [0; 12] };
    w.input(Input::Authorize { query, generation, access });
    w.audit();
}

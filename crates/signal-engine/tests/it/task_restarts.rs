//! Tasks across the end of a process: a crash between any two writes, and a stop that hands over.

use lianmai_protocol::ErrorName;
use lianmai_protocol::message::session::Outcome;
use lianmai_protocol::message::task::TaskState;
use lianmai_signal_engine::TaskPolicy;
use lianmai_signal_engine::task::{RunFailure, RunReport};

use crate::world::{DiskMode, RENEW, World, add, delete, task, update};

/// Proves TSK-12, TSK-11.
#[test]
fn tsk_12_a_task_survives_a_crash_and_its_next_run_waits() {
    let mut w = World::with_tasks();
    let a = w.join(1);
    w.push_url(a, "");
    w.ok(a, add(&[task("a", "rtmp://h/live/a", &[1]), task("b", "rtmp://h/live/b", &[9])]));
    let (run, _) = w.started();
    w.push(&run);
    w.ok(a, update(&[task("a", "rtmp://h/live/a?two", &[1])]));
    w.ok(a, delete(&["b"]));
    w.crash();
    assert!(w.orders().is_empty());
    // The run of the earlier process may push until its lease is over, whatever it reports.
    w.report(&run, RENEW);
    assert_eq!(w.orders(), ["stop a 1"]);
    let (a, resumed) = w.resume(a);
    let tasks = resumed.snapshot.expect("another epoch").channel.tasks;
    assert_eq!(tasks.len(), 1, "a deleted task never comes back");
    assert_eq!((&tasks[0].state, tasks[0].revision), (&Some(TaskState::Starting), 2));
    w.advance(2_499);
    assert!(w.orders().is_empty());
    w.advance(1);
    let (second, job) = w.started();
    assert_eq!((second.number, second.life), (2, run.life));
    assert_eq!(job.spec.address.secret_url(), "rtmp://h/live/a?two");
    w.push(&second);
    assert_eq!(w.err(a, add(&[task("c", "rtmp://h/live/a", &[1])])), ErrorName::StreamUrlBusy);
    w.audit();
}

/// Proves TSK-12, ORD-3, RST-2.
#[test]
fn tsk_12_a_hand_over_announces_the_state_of_each_task() {
    let mut w = World::with_tasks();
    let a = w.join(1);
    w.push_url(a, "");
    w.ok(a, add(&[task("a", "rtmp://h/live/a", &[1])]));
    let (run, _) = w.started();
    w.push(&run);
    w.advance(20);
    w.drain();
    w.advance(5_000);
    w.orders();
    w.start_again();
    w.skip_received();
    let (a, resumed) = w.resume(a);
    assert_eq!(resumed.outcome, Outcome::Replayed);
    let heard = w.new_events(a);
    assert_eq!(heard.last().map(String::as_str), Some("task a starting 0 r1"), "{heard:?}");
    w.advance(2_500);
    assert_eq!(w.started().0.number, 2);
    w.audit();
}

/// Proves TSK-12.
#[test]
fn tsk_12_a_failed_task_stays_failed_after_a_crash() {
    let mut w = World::with_tasks();
    let a = w.join(1);
    w.push_url(a, "");
    w.ok(a, add(&[task("a", "rtmp://h/live/a", &[1])]));
    for _ in 0..4 {
        let (run, _) = w.started();
        w.report(&run, RunReport::Failed(RunFailure::Rejected));
        w.advance(4_000);
    }
    w.crash();
    let (a, _) = w.resume(a);
    w.advance_alive(10_000, &[a]);
    assert!(w.orders().is_empty());
    assert_eq!((w.task_views()[0].info.code, w.task_views()[0].info.retries), (506, 3));
    w.audit();
}

/// Proves TSK-7, TSK-12.
#[test]
fn tsk_12_a_crash_between_a_claim_and_its_task_is_repaired() {
    let mut w = World::with_tasks();
    let a = w.join(1);
    w.disk.mode = DiskMode::Hold;
    w.send(a, add(&[task("a", "rtmp://h/live/a", &[1])]));
    w.write_held();
    assert_eq!((w.disk.claims(), w.disk.tasks().len()), (1, 0), "the claim alone is written down");
    w.disk.mode = DiskMode::AtOnce;
    w.crash();
    let (a, _) = w.resume(a);
    assert!(w.task_views().is_empty());
    let error = w.ask(a, add(&[task("a", "rtmp://h/live/a", &[1])])).expect_err("it rests");
    assert_eq!(
        (error.name(), error.data.retry_after_ms),
        (&ErrorName::StreamUrlBusy, Some(10_000))
    );
    w.advance(10_000);
    w.ok(a, add(&[task("a", "rtmp://h/live/a", &[1])]));
    // The other case: the task is deleted, its claim is not released yet.
    w.push_url(a, "");
    let (run, _) = w.started();
    w.push(&run);
    w.ok(a, delete(&["a"]));
    assert_eq!((w.disk.claims(), w.disk.tasks().len()), (1, 0));
    w.crash();
    let (a, _) = w.resume(a);
    assert_eq!(w.err(a, add(&[task("a", "rtmp://h/live/a", &[1])])), ErrorName::StreamUrlBusy);
    w.advance(10_000);
    w.ok(a, add(&[task("a", "rtmp://h/live/a", &[1])]));
    w.audit();
}

/// Proves TSK-2.
#[test]
fn tsk_2_a_crash_leaves_all_tasks_of_a_request_or_none() {
    let both =
        |uid: u64| [task("a", "rtmp://h/live/a", &[uid]), task("b", "rtmp://h/live/b", &[uid])];
    for updates in [false, true] {
        let mut w = World::with_tasks();
        let a = w.join(1);
        w.push_url(a, "");
        let mut claims = 2;
        if updates {
            w.ok(a, add(&both(9)));
            claims = 0;
        }
        // The number of a run is written in the middle of a request, and a crash may follow any write.
        w.disk.mode = DiskMode::Hold;
        w.send(a, if updates { update(&both(1)) } else { add(&both(1)) });
        for _ in 0..claims {
            w.write_next();
        }
        assert_eq!(w.disk.tasks().len(), if updates { 2 } else { 0 });
        w.write_next();
        w.disk.mode = DiskMode::AtOnce;
        w.crash();
        w.resume(a);
        let revisions: Vec<u64> = w.task_views().iter().map(|view| view.info.revision).collect();
        assert_eq!(revisions, if updates { [2, 2] } else { [1, 1] });
        w.audit();
    }
}

/// Proves TSK-7, TSK-12.
#[test]
fn tsk_12_a_rest_continues_after_a_crash_and_no_clock_extends_it() {
    for (back, left) in [(0, 7_000), (1_000_000, 10_000)] {
        let mut w = World::with_tasks();
        let a = w.join(1);
        w.push_url(a, "");
        w.ok(a, add(&[task("a", "rtmp://h/live/a", &[1])]));
        let (run, _) = w.started();
        w.push(&run);
        w.ok(a, delete(&["a"]));
        w.report(&run, RunReport::Stopped);
        w.advance(3_000);
        w.now.wall.0 -= back;
        w.crash();
        let (a, _) = w.resume(a);
        let error = w.ask(a, add(&[task("a", "rtmp://h/live/a", &[1])])).expect_err("it rests");
        assert_eq!(error.data.retry_after_ms, Some(left));
        w.advance(left);
        w.ok(a, add(&[task("a", "rtmp://h/live/a", &[1])]));
        w.audit();
    }
}

/// Proves NSY-1, TSK-12.
#[test]
fn tsk_12_a_server_without_executors_forgets_tasks() {
    let mut w = World::with_tasks();
    let a = w.join(1);
    w.ok(a, add(&[task("a", "rtmp://h/live/a", &[1])]));
    w.change(|config| config.tasks = None);
    w.crash();
    assert!(w.disk.tasks().is_empty());
    let (a, resumed) = w.resume(a);
    assert!(resumed.snapshot.expect("another epoch").channel.tasks.is_empty());
    assert_eq!(w.err(a, delete(&["a"])), ErrorName::MethodNotFound);
    w.audit();
}

/// Proves TSK-12.
#[test]
fn tsk_12_damaged_tasks_are_forgotten() {
    let mut w = World::with_tasks();
    let a = w.join(1);
    w.ok(a, add(&[task("a", "rtmp://h/live/a", &[1])]));
    let mono = w.now.mono.0;
    for damage in 0..3 {
        w.start_with(mono, false, |restored| {
            let tasks = restored.tasks.values_mut().next();
            let Some(task) = tasks.and_then(|tasks| tasks.first_mut()) else { return };
            match damage {
                0 => {}
                1 => task.run = u64::MAX,
                _ => task.spec.canvas.width = 3,
            }
        });
        let left = usize::from(damage == 0);
        assert_eq!((w.task_views().len(), w.disk.tasks().len()), (left, left), "{damage}");
        if damage > 0 {
            // Adds a task again for the next damage.
            let (a, _) = w.resume(a);
            let other = format!("rtmp://h/live/{damage}");
            w.ok(a, add(&[task("a", &other, &[1])]));
            w.drop_socket(a);
        }
    }
}

/// Proves TSK-12, LIM-1.
#[test]
fn tsk_12_a_restart_obeys_a_smaller_limit() {
    let mut w = World::with_tasks();
    let a = w.join(1);
    w.ok(a, add(&[task("a", "rtmp://h/live/a", &[1]), task("b", "rtmp://h/live/b", &[1])]));
    w.change(|config| {
        config.limits.tasks = 1;
        config.tasks = Some(TaskPolicy::default());
    });
    w.crash();
    assert_eq!((w.task_views().len(), w.disk.tasks().len()), (1, 1));
    let (a, _) = w.resume(a);
    assert_eq!(w.err(a, add(&[task("c", "rtmp://h/live/c", &[1])])), ErrorName::TaskLimitExceeded);
    w.audit();
}

/// Proves TSK-2, RST-2.
#[test]
fn tsk_2_a_stop_finishes_open_requests_first() {
    let mut w = World::with_tasks();
    let a = w.join(1);
    w.push_url(a, "");
    w.tasks.hold_claims = true;
    let id = w.send(a, add(&[task("a", "rtmp://h/live/a", &[1])]));
    w.drain();
    w.advance(1_600);
    assert_eq!(w.drained, None, "it waits for the open claim");
    w.deliver_claims();
    assert_eq!(w.drained, Some(true));
    assert!(w.orders().is_empty(), "the next process begins its run");
    w.start_again();
    let (a, _) = w.resume(a);
    assert_eq!(w.task_views().len(), 1);
    // Sent again with the same id, it is answered with the remembered answer.
    w.send_as(a, id, add(&[task("a", "rtmp://h/live/a", &[1])]));
    assert!(w.answer(a, id).is_some_and(|answer| answer.is_ok()));
    w.advance(3_000);
    assert_eq!(w.started().0.number, 1);
    w.audit();
}

/// A restored task asks for its claim, and so does a request about it, which is refused.
/// Proves TSK-2, TSK-7.
#[test]
fn tsk_7_a_refused_request_takes_no_claim_from_a_task() {
    let mut w = World::with_tasks();
    let a = w.join(1);
    w.push_url(a, "");
    w.ok(a, add(&[task("x", "rtmp://h/live/x", &[1])]));
    let (run, _) = w.started();
    w.push(&run);
    w.ok(a, delete(&["x"]));
    w.report(&run, RunReport::Stopped);
    w.ok(a, add(&[task("a", "rtmp://h/live/a", &[1]), task("b", "rtmp://h/live/b", &[9])]));
    w.orders();
    w.tasks.hold_claims = true;
    w.crash();
    let (a, _) = w.resume(a);
    let id = w.send(
        a,
        update(&[task("a", "rtmp://h/live/a", &[1, 2]), task("b", "rtmp://h/live/x", &[9])]),
    );
    w.deliver_claims();
    assert_eq!(w.error(a, id), ErrorName::StreamUrlBusy, "the place of `x` rests");
    w.advance(2_500);
    let (run, _) = w.started();
    assert_eq!(run.task.as_str(), "a");
    w.push(&run);
    // Longer than a rest.
    assert!(w.advance_pushing(12_000, &[&run]).is_empty());
    for url in ["rtmp://h/live/a", "rtmp://h/live/b"] {
        assert_eq!(w.err(a, add(&[task("c", url, &[1])])), ErrorName::StreamUrlBusy, "{url}");
    }
    w.ok(a, add(&[task("c", "rtmp://h/live/x", &[1])]));
    w.audit();
}

/// Proves NSY-1, ORD-3, RST-2, TSK-12.
#[test]
fn tsk_12_members_are_told_of_a_task_that_is_not_restored() {
    for why in ["no executors", "a smaller limit", "a stricter check"] {
        let mut w = World::with_tasks();
        let a = w.join(1);
        w.ok(a, add(&[task("a", "rtmp://h/live/a", &[9]), task("b", "rtmp://h/live/b", &[9])]));
        w.advance(20);
        w.drain();
        w.advance(5_000);
        w.skip_received();
        match why {
            "no executors" => w.change(|config| config.tasks = None),
            "a smaller limit" => w.change(|config| config.limits.tasks = 1),
            _ => {}
        }
        let mono = w.now.mono.0;
        w.start_with(mono, true, |restored| {
            let task = restored.tasks.values_mut().flatten().find(|task| task.task.as_str() == "b");
            if let Some(task) = task.filter(|_| why == "a stricter check") {
                task.spec.canvas.width = 3;
            }
        });
        let (a, resumed) = w.resume(a);
        assert_eq!(resumed.outcome, Outcome::Replayed, "{why}");
        w.advance(20);
        let heard = w.new_events(a);
        let ended: Vec<&str> = match why {
            "no executors" => vec!["task a ended 511 r1", "task b ended 511 r1"],
            _ => vec!["task b ended 511 r1"],
        };
        assert_eq!(heard, ended, "{why}");
        // The folded picture is the same as the snapshot of a new member.
        w.audit();
        assert_eq!(w.disk.tasks().len(), 2 - ended.len(), "{why}");
    }
}

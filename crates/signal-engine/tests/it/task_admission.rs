//! Tasks that cannot be carried out, and the streams that a run may play.

use lianmai_protocol::{ErrorName, UserId};
use lianmai_signal_engine::Denial;
use lianmai_signal_engine::task::{RefusalReason, RunReport};

use crate::world::{ACCEPTED, World, add, delete, task, update};

/// Proves TSK-2, TSK-3.
#[test]
fn tsk_2_an_unfit_task_has_no_effect() {
    let mut w = World::with_tasks();
    let a = w.join(1);
    w.push_url(a, "");
    let tasks = [task("a", "rtmp://h/live/a", &[1]), task("b", "rtmp://h/live/b", &[1])];
    for (why, name, field) in [
        (RefusalReason::NoRoom, ErrorName::TaskFailed, "rtmpTasks[1]"),
        (RefusalReason::Address, ErrorName::BadTask, "rtmpTasks[1].streamUrl"),
        (RefusalReason::OwnAddress, ErrorName::BadTask, "rtmpTasks[1].streamUrl"),
        (RefusalReason::PrivateAddress, ErrorName::BadTask, "rtmpTasks[1].streamUrl"),
    ] {
        w.tasks.unfit = Some(why);
        let error = w.ask(a, add(&tasks)).unwrap_err();
        assert_eq!((error.name(), error.data.field.as_deref()), (&name, Some(field)), "{why:?}");
        assert!(!error.message.is_empty());
    }
    w.advance(20);
    assert!(w.orders().is_empty() && w.disk.tasks().is_empty());
    // Nothing was claimed: another task may have the address at once.
    w.tasks.unfit = None;
    w.tasks.admissions.clear();
    w.ok(a, add(&tasks));
    let asked = w.tasks.admissions.remove(0);
    let wanted: Vec<_> = asked.tasks.iter().map(|t| (t.at, t.task.as_str(), t.owner)).collect();
    assert_eq!(wanted, [(0, "a", Some(UserId(1))), (1, "b", Some(UserId(1)))]);
    // A request that changes nothing needs no admission, and neither does a deletion.
    w.ok(a, add(&tasks));
    w.ok(a, update(&tasks));
    assert!(w.tasks.admissions.is_empty());
    // A change that cannot be carried out leaves the task as it was.
    w.tasks.unfit = Some(RefusalReason::NoRoom);
    let more = task("b", "rtmp://h/live/c", &[1, 2]);
    assert_eq!(w.ask(a, update(&[more])).unwrap_err().name(), &ErrorName::TaskFailed);
    assert_eq!(w.tasks.admissions.remove(0).tasks[0].life, asked.tasks[1].life);
    w.ok(a, delete(&["a", "b"]));
    assert!(w.tasks.admissions.is_empty());
    w.audit();
}

/// Proves TSK-2.
#[test]
fn tsk_2_an_admission_without_answer_times_out() {
    let mut w = World::with_tasks();
    let (a, b) = (w.join(1), w.join(2));
    w.tasks.nobody_admits = true;
    let first = w.send(a, add(&[task("a", "rtmp://h/live/a", &[1])]));
    // The next one waits for its turn.
    let second = w.send(b, add(&[task("b", "rtmp://h/live/b", &[1])]));
    w.tasks.nobody_admits = false;
    w.advance(4_999);
    assert!(w.answer(a, first).is_none() && w.answer(b, second).is_none());
    w.advance(1);
    assert_eq!(w.answer(a, first).unwrap().unwrap_err().name(), &ErrorName::TaskFailed);
    assert!(w.answer(b, second).unwrap().is_ok());
    w.audit();
}

/// Proves TSK-5.
#[test]
fn tsk_5_a_run_plays_what_it_shows_and_nothing_else() {
    let mut w = World::with_tasks();
    let (a, b) = (w.join(1), w.join(2));
    let (_, first) = w.push_url(a, "");
    let (_, second) = w.push_url(b, "");
    w.ok(a, add(&[task("a", "rtmp://h/live/a", &[1, 2])]));
    let (run, job) = w.started();
    let viewer = job.viewer;
    assert_eq!(job.owner, Some(UserId(1)));
    w.report(&run, ACCEPTED);
    w.report(&run, RunReport::Pushing);
    // A member that is no longer shown is no longer played, though it still publishes.
    w.ok(a, update(&[task("a", "rtmp://h/live/a", &[1])]));
    assert_eq!(w.cut_viewers, [(second, viewer)]);
    assert_eq!(w.may_play(second, viewer), Err(Denial::NotSubscribed));
    assert_eq!(w.may_play(first, viewer), Ok(()));
    // After the run, however it ends, no stream may be played.
    w.orders();
    w.report(&run, RunReport::Stopped);
    assert_eq!(w.cut_viewers[1..], [(first, viewer)]);
    assert_eq!(w.may_play(first, viewer), Err(Denial::NotSubscribed));
    w.advance(1_000);
    let (run, job) = w.started();
    assert_ne!(job.viewer, viewer);
    w.report(&run, ACCEPTED);
    w.ok(a, delete(&["a"]));
    assert_eq!(w.cut_viewers[2..], [(first, job.viewer)]);
    w.audit();
}

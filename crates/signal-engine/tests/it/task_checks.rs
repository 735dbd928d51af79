//! Every error of a request for tasks, with the path to it; next to each a valid task, and no effect.

use lianmai_protocol::message::task::{AudioParam, LayoutImage, Task, TaskConfig};
use lianmai_protocol::{Action, ErrorName, RpcError};
use lianmai_signal_engine::task::{
    Adaption, Draft, Encoding, LayoutSource, Pane, PaneSet, layout::WHOLE,
};
use lianmai_signal_engine::{AppPolicy, TaskChange, TaskPolicy};

use crate::calls::*;
use crate::world::{World, add, delete, entry, task, update};

const URL: &str = "rtmp://push.example.com/live/S3CRET";

fn good() -> Task {
    task("a", URL, &[1, 2])
}

fn image(url: &str) -> LayoutImage {
    LayoutImage { url: url.to_owned(), x: 0, y: 0, width: 64, height: 64, adaption: 0 }
}

fn audio(change: impl FnOnce(&mut AudioParam)) -> Option<TaskConfig> {
    let mut audio = AudioParam { bit_rate: 64, sample_rate: 48_000, channels: 2, codec_profile: 0 };
    change(&mut audio);
    Some(TaskConfig { single_video_no_trans: false, audio_param: Some(audio) })
}

type Row = (&'static str, fn(&mut Task), ErrorName, &'static str);

/// The description, the change that makes a task invalid, the error, and the path from the task on.
fn rows() -> Vec<Row> {
    use ErrorName::{BadImage, BadLayout, BadTask};
    vec![
        ("no scheme", |t| t.stream_url = "push.example.com/a/b".into(), BadTask, "streamUrl"),
        ("another scheme", |t| t.stream_url = "srt://h/a/b".into(), BadTask, "streamUrl"),
        ("no stream", |t| t.stream_url = "rtmp://h/a".into(), BadTask, "streamUrl"),
        ("a user", |t| t.stream_url = "rtmp://u@h/a/b".into(), BadTask, "streamUrl"),
        (
            "long URL",
            |t| t.stream_url = format!("{URL}{}", "x".repeat(2_048)),
            BadTask,
            "streamUrl",
        ),
        ("long text", |t| t.extra_info = Some("x".repeat(1_025)), BadTask, "extraInfo"),
        ("revision 0", |t| t.revision = Some(0), BadTask, "revision"),
        ("revision 2^53", |t| t.revision = Some(1 << 53), BadTask, "revision"),
        ("rate 9", |t| t.config = audio(|a| a.bit_rate = 9), BadTask, "config.audioParam.bitRate"),
        (
            "rate 193",
            |t| t.config = audio(|a| a.bit_rate = 193),
            BadTask,
            "config.audioParam.bitRate",
        ),
        (
            "8000 a second",
            |t| t.config = audio(|a| a.sample_rate = 8_000),
            BadTask,
            "config.audioParam.sampleRate",
        ),
        (
            "no channel",
            |t| t.config = audio(|a| a.channels = 0),
            BadTask,
            "config.audioParam.channels",
        ),
        (
            "3 channels",
            |t| t.config = audio(|a| a.channels = 3),
            BadTask,
            "config.audioParam.channels",
        ),
        (
            "codec 2",
            |t| t.config = audio(|a| a.codec_profile = 2),
            BadTask,
            "config.audioParam.codecProfile",
        ),
        ("colour", |t| t.layout.canvas.color = 0x0100_0000, BadLayout, "layout.canvas.color"),
        ("width 15", |t| t.layout.canvas.width = 15, BadLayout, "layout.canvas.width"),
        ("width 1922", |t| t.layout.canvas.width = 1_922, BadLayout, "layout.canvas.width"),
        ("height 0 alone", |t| t.layout.canvas.height = 0, BadLayout, "layout.canvas.height"),
        ("height 1922", |t| t.layout.canvas.height = 1_922, BadLayout, "layout.canvas.height"),
        (
            "pixels",
            |t| (t.layout.canvas.width, t.layout.canvas.height) = (1_920, 1_200),
            BadLayout,
            "layout.canvas",
        ),
        ("right edge", |t| t.layout.users[1].x = 962, BadLayout, "layout.users[1]"),
        ("bottom edge", |t| t.layout.users[0].height = 722, BadLayout, "layout.users[0]"),
        ("overflow", |t| t.layout.users[0].x = u32::MAX, BadLayout, "layout.users[0]"),
        ("empty", |t| t.layout.users[0].width = 1, BadLayout, "layout.users[0]"),
        (
            "twice",
            |t| t.layout.users[1].uid = t.layout.users[0].uid,
            BadLayout,
            "layout.users[1].uid",
        ),
        ("zOrder", |t| t.layout.users[1].z_order = 101, BadLayout, "layout.users[1].zOrder"),
        (
            "zOrder 2^32-1",
            |t| t.layout.users[1].z_order = u32::MAX,
            BadLayout,
            "layout.users[1].zOrder",
        ),
        ("adaption", |t| t.layout.users[1].adaption = 2, BadLayout, "layout.users[1].adaption"),
        ("8 seen", |t| *t = task("a", URL, &[1, 2, 3, 4, 5, 6, 7, 8]), BadLayout, "layout.users"),
        (
            "22 heard",
            |t| {
                *t = task("a", URL, &(1..=22).collect::<Vec<_>>());
                for user in &mut t.layout.users {
                    (user.x, user.push_video) = (0, false);
                }
            },
            BadLayout,
            "layout.users",
        ),
        (
            "seen on no canvas",
            |t| (t.layout.canvas.width, t.layout.canvas.height) = (0, 0),
            BadLayout,
            "layout.users[0]",
        ),
        (
            "a picture on no canvas",
            |t| {
                t.layout.canvas.width = 0;
                t.layout.canvas.height = 0;
                t.layout.users.clear();
                t.layout.images = vec![image("http://h/a.png")];
            },
            BadLayout,
            "layout.images[0]",
        ),
        (
            "no picture",
            |t| t.layout.images = vec![image("xxxxxx")],
            BadImage,
            "layout.images[0].url",
        ),
        (
            "a file",
            |t| t.layout.images = vec![image("file:///a")],
            BadImage,
            "layout.images[0].url",
        ),
        (
            "no host",
            |t| t.layout.images = vec![image("http:///a")],
            BadImage,
            "layout.images[0].url",
        ),
        (
            "long picture",
            |t| t.layout.images = vec![image(&format!("http://h/{}", "x".repeat(2_048)))],
            BadImage,
            "layout.images[0].url",
        ),
        (
            "9 pictures",
            |t| t.layout.images = vec![image("http://h/a"); 9],
            BadImage,
            "layout.images",
        ),
        (
            "picture too wide",
            |t| t.layout.images = vec![LayoutImage { width: 1_282, ..image("http://h/a") }],
            BadLayout,
            "layout.images[0]",
        ),
        (
            "picture without height",
            |t| t.layout.images = vec![LayoutImage { height: 0, ..image("http://h/a") }],
            BadLayout,
            "layout.images[0]",
        ),
        (
            "picture adaption",
            |t| t.layout.images = vec![LayoutImage { adaption: 9, ..image("http://h/a") }],
            BadLayout,
            "layout.images[0].adaption",
        ),
        (
            "two passed through",
            |t| t.config = Some(TaskConfig { single_video_no_trans: true, audio_param: None }),
            BadLayout,
            "config.singleVideoNoTrans",
        ),
        (
            "passed through before a picture",
            |t| {
                *t = task("a", URL, &[1]);
                t.layout.images = vec![image("http://h/a")];
                t.config = Some(TaskConfig { single_video_no_trans: true, audio_param: None });
            },
            BadLayout,
            "config.singleVideoNoTrans",
        ),
    ]
}

#[track_caller]
fn check(error: &RpcError, name: &ErrorName, field: Option<&str>, what: &str) {
    assert_eq!((error.name(), error.data.field.as_deref()), (name, field), "{what}");
    assert_eq!(error.code, name.code(), "{what}");
    let text = format!("{error:?}");
    assert!(!text.contains("S3CRET") && !text.contains("push.example"), "{what}: {text}");
    assert_eq!(error.data.action, None::<Action>, "{what}");
}

/// Proves TSK-2, TSK-3, TSK-4.
#[test]
fn tsk_3_each_invalid_field_has_its_error_and_no_effect() {
    let mut w = World::with_tasks();
    let a = w.join(1);
    w.push_url(a, "");
    w.skip_received();
    for (what, spoil, name, field) in rows() {
        let mut bad = good();
        spoil(&mut bad);
        // Behind a valid one: neither is added.
        let right = task("right", "rtmp://push.example.com/live/other", &[1]);
        let refused = w.ask(a, add(&[right.clone(), bad.clone()]));
        let error = refused.expect_err(what);
        check(&error, &name, Some(&format!("rtmpTasks[1].{field}")), what);
        let refused = w.ask(a, update(&[bad]));
        check(&refused.expect_err(what), &name, Some(&format!("rtmpTasks[0].{field}")), what);
        assert!(
            w.new_events(a).is_empty() && w.orders().is_empty() && w.task_views().is_empty(),
            "{what}"
        );
    }
    assert!(w.disk.tasks().is_empty());
    // The same task unchanged, and one with every value at its bound.
    w.ok(a, add(&[good()]));
    let mut most = task("b", "rtmps://[::1]:443/a/b", &[]);
    most.extra_info = Some("x".repeat(1_024));
    most.revision = Some((1 << 53) - 1);
    most.layout.canvas.color = 0x00ff_ffff;
    (most.layout.canvas.width, most.layout.canvas.height) = (1_921, 1_081);
    most.layout.images = vec![image("HTTPS://h/a?b"); 8];
    most.config = audio(|a| (a.bit_rate, a.sample_rate, a.channels) = (192, 44_100, 1));
    w.ok(a, add(&[most]));
    let mut heard = task("c", "rtmp://h/a/c", &(1..=21).collect::<Vec<_>>());
    (heard.layout.canvas.width, heard.layout.canvas.height) = (0, 0);
    for user in &mut heard.layout.users {
        user.push_video = false;
    }
    w.ok(a, add(&[heard]));
    let mut passed = task("d", "rtmp://h/a/d", &[1]);
    passed.config = Some(TaskConfig { single_video_no_trans: true, audio_param: None });
    w.ok(a, add(&[passed]));
    w.audit();
}

/// Proves TSK-2, TSK-7.
#[test]
fn tsk_2_lists_are_judged_as_a_whole() {
    use ErrorName::{BadTask, DuplicateTask, NoSuchTask, StreamUrlBusy, TaskLimitExceeded};
    let mut w = World::with_tasks();
    let a = w.join(1);
    let with = |id: &str| task(id, &format!("rtmp://h/live/{id}"), &[1]);
    let seven: Vec<_> = (0..7).map(|n| with(&format!("t{n}"))).collect();
    let twin = Task { task_id: "other".parse().unwrap(), ..with("a") };
    let other = task("a", "rtmp://h/live/other", &[1]);
    for (what, call, name, field) in [
        ("nothing", add(&[]), BadTask, "rtmpTasks"),
        ("nothing", update(&[]), BadTask, "rtmpTasks"),
        ("nothing", delete(&[]), BadTask, "taskIds"),
        ("7", add(&seven), TaskLimitExceeded, "rtmpTasks"),
        ("an id twice", add(&[with("a"), other]), DuplicateTask, "rtmpTasks[1].taskId"),
        ("a URL twice", add(&[with("a"), twin]), StreamUrlBusy, "rtmpTasks[1].streamUrl"),
        ("not there", update(&[with("a")]), NoSuchTask, "rtmpTasks[0].taskId"),
        ("not there", delete(&["a"]), NoSuchTask, "taskIds[0]"),
    ] {
        check(&w.ask(a, call).expect_err(what), &name, Some(field), what);
    }
    assert!(w.task_views().is_empty());
    w.ok(a, add(&seven[..6]));
    w.skip_received();
    let more = w.ask(a, add(&seven[6..])).expect_err("a seventh");
    check(&more, &TaskLimitExceeded, Some("rtmpTasks"), "a seventh");
    let other = task("t0", "rtmp://h/live/other", &[1]);
    let refused = w.ask(a, add(&[other])).expect_err("an id that is taken");
    check(&refused, &DuplicateTask, Some("rtmpTasks[0].taskId"), "an id that is taken");
    let half = w.ask(a, update(&[with("t1"), with("gone")])).expect_err("half of it");
    check(&half, &NoSuchTask, Some("rtmpTasks[1].taskId"), "half of it");
    let half = w.ask(a, delete(&["t1", "gone"])).expect_err("half of it");
    check(&half, &NoSuchTask, Some("taskIds[1]"), "half of it");
    let taken = task("t1", "rtmp://h/live/t2", &[1]);
    let taken = w.ask(a, update(&[with("t3"), taken])).expect_err("a URL that is taken");
    check(&taken, &StreamUrlBusy, Some("rtmpTasks[1].streamUrl"), "a URL that is taken");
    assert_eq!(w.task_views().len(), 6);
    assert!(w.new_events(a).is_empty(), "nothing has changed");
    // A repeated request is no error: a client that crashed sends it again.
    w.ok(a, add(&seven[..6]));
    w.ok(a, update(&seven[..6]));
    assert!(w.new_events(a).is_empty());
    w.ok(a, delete(&["t1", "t1"]));
    assert_eq!(w.new_events(a), ["task t1 ended 511 r1"]);
    w.audit();
}

/// Proves TSK-1.
#[test]
fn tsk_1_who_may_manage_whose_tasks() {
    use ErrorName::{Forbidden, NoSuchTask, NotBroadcaster};
    let mut w = World::with_tasks();
    let owner = w.join(1);
    let other = w.join(2);
    let moderator = w.admit(entry(3).moderator().audience());
    let nobody = w.admit(entry(4).rights(|rights| rights.tasks = false));
    let hidden = w.admit(entry(5).audience());
    let own = task("a", "rtmp://h/live/a", &[1]);
    w.ok(owner, add(std::slice::from_ref(&own)));
    let changed = Task { record: true, ..own.clone() };
    for (who, error) in [(other, Forbidden), (nobody, Forbidden), (hidden, NotBroadcaster)] {
        assert_eq!(w.err(who, update(std::slice::from_ref(&changed))), error);
        assert_eq!(w.err(who, delete(&["a"])), error);
    }
    for (who, error) in [(nobody, Forbidden), (hidden, NotBroadcaster)] {
        assert_eq!(w.err(who, add(&[task("b", "rtmp://h/live/b", &[1])])), error);
    }
    assert_eq!(w.err(other, delete(&["a", "gone"])), Forbidden);
    assert_eq!(w.err(other, delete(&["gone"])), NoSuchTask);
    w.skip_received();
    w.ok(moderator, update(&[changed]));
    let views = w.task_views();
    assert_eq!((views[0].info.uid, views[0].record), (Some(lianmai_protocol::UserId(1)), true));
    w.ok(moderator, delete(&["a"]));
    // A task of the app's server has no owner, so only moderators may change it.
    let drafts = |task: &Task| vec![Draft::of_wire(task).unwrap()];
    w.admin_tasks(TaskChange::Add(drafts(&own))).unwrap();
    assert_eq!(w.task_views()[0].info.uid, None);
    assert_eq!(w.err(owner, delete(&["a"])), Forbidden);
    w.admin_tasks(TaskChange::Delete(vec!["a".parse().unwrap()])).unwrap();
    w.audit();
}

/// Proves TSK-1.
#[test]
fn tsk_1_tasks_end_with_their_owner_only_where_the_app_says_so() {
    for ends in [false, true] {
        let mut w = World::with(|config| {
            config.tasks = Some(TaskPolicy::default());
            let policy = AppPolicy { tasks_end_with_owner: ends, ..AppPolicy::default() };
            config.apps.insert("plain".parse().unwrap(), policy);
        });
        let stays = w.join(9);
        let owner = w.join(1);
        w.ok(owner, add(&[task("a", "rtmp://h/live/a", &[1])]));
        let unowned = task("b", "rtmp://h/live/b", &[1]);
        w.admin_tasks(TaskChange::Add(vec![Draft::of_wire(&unowned).unwrap()])).unwrap();
        // Another join replaces the owner: it is still a member.
        let owner = {
            w.advance(1_000);
            let again = w.join(1);
            assert!(w.closed(owner).is_some());
            again
        };
        w.advance(100);
        w.skip_received();
        w.ok(owner, leave());
        let mut wanted = vec!["clientLeave 1 left"];
        if ends {
            wanted.push("task a ended 511 r1");
        }
        w.advance(100);
        assert_eq!(w.new_events(stays), wanted);
        assert_eq!(w.task_views().len(), if ends { 1 } else { 2 });
        w.audit();
    }
}

/// Proves TSK-4.
#[test]
fn tsk_4_panes_of_the_apps_server_are_judged_too() {
    let mut w = World::with_tasks();
    w.join(1);
    let pane = |major| Pane { x: 0, y: 0, width: WHOLE, height: WHOLE, z: 0, major };
    let one = || PaneSet { panes: vec![pane(true)] };
    let with = |sets: Vec<PaneSet>| {
        let mut draft = Draft::of_wire(&task("a", "rtmp://h/live/a", &[])).unwrap();
        draft.spec.source = LayoutSource::Panes { sets, adaption: Adaption::Stretch };
        draft
    };
    let wide = Pane { x: 1, ..pane(false) };
    let flat = Pane { height: 0, ..pane(false) };
    let high = Pane { z: 101, ..pane(false) };
    // 1.28 of 1280 pixels, which is 0 in even pixels.
    let thin = Pane { width: WHOLE / 1_000, ..pane(false) };
    let set = |panes: Vec<Pane>| PaneSet { panes };
    for (what, sets, field) in [
        ("no sets", vec![], "layout.paneSets"),
        ("17 sets", (1..=17).map(|n| set(vec![pane(false); n])).collect(), "layout.paneSets"),
        ("no panes", vec![set(vec![])], "layout.paneSets[0]"),
        ("17 panes", vec![set(vec![pane(false); 17])], "layout.paneSets[0]"),
        ("as many", vec![one(), one()], "layout.paneSets[1]"),
        ("two hosts", vec![set(vec![pane(true), pane(true)])], "layout.paneSets[0]"),
        ("too wide", vec![set(vec![pane(true), wide])], "layout.paneSets[0].panes[1]"),
        ("flat", vec![set(vec![flat])], "layout.paneSets[0].panes[0]"),
        ("high", vec![set(vec![high])], "layout.paneSets[0].panes[0]"),
        ("a pixel wide", vec![one(), set(vec![pane(true), thin])], "layout.paneSets[1].panes[1]"),
    ] {
        let refused = w.admin_tasks(TaskChange::Add(vec![with(sets)])).expect_err(what);
        check(&refused, &ErrorName::BadLayout, Some(&format!("rtmpTasks[0].{field}")), what);
    }
    let mut slow = with(vec![one()]);
    slow.spec.encoding = Encoding { fps: 4, video_kbps: 600 };
    let refused = w.admin_tasks(TaskChange::Add(vec![slow])).expect_err("slow");
    check(&refused, &ErrorName::BadTask, Some("rtmpTasks[0].fps"), "slow");
    let mut thick = with(vec![one()]);
    thick.spec.encoding = Encoding { fps: 25, video_kbps: 20_001 };
    let refused = w.admin_tasks(TaskChange::Add(vec![thick])).expect_err("thick");
    check(&refused, &ErrorName::BadTask, Some("rtmpTasks[0].videoKbps"), "thick");
    let mut odd = with(vec![one()]);
    odd.spec.canvas.width = 1_279;
    let refused = w.admin_tasks(TaskChange::Add(vec![odd])).expect_err("odd");
    check(&refused, &ErrorName::BadLayout, Some("rtmpTasks[0].layout.canvas.width"), "odd");
    w.admin_tasks(TaskChange::Add(vec![with(vec![one()])])).unwrap();
}

/// Proves TSK-1.
#[test]
fn tsk_1_a_missing_channel_has_no_tasks() {
    let mut w = World::with_tasks();
    let draft = Draft::of_wire(&good()).unwrap();
    let refused = w.admin_tasks(TaskChange::Add(vec![draft])).expect_err("no channel");
    check(&refused, &ErrorName::TaskChannelGone, None, "no channel");
}

/// Proves NSY-1.
#[test]
fn nsy_1_without_executors_there_are_no_tasks() {
    let mut w = World::new();
    let a = w.join(1);
    for call in [add(&[good()]), update(&[good()]), delete(&["a"]), add(&[])] {
        assert_eq!(w.err(a, call), ErrorName::MethodNotFound);
    }
    let draft = Draft::of_wire(&good()).unwrap();
    let refused = w.admin_tasks(TaskChange::Add(vec![draft])).expect_err("no tasks");
    check(&refused, &ErrorName::MethodNotFound, None, "no tasks");
    assert!(w.orders().is_empty());
}

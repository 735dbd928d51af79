//! A stop without loss.

use lianmai_protocol::message::Notice;
use lianmai_protocol::message::session::{Outcome, ResumeReason};
use lianmai_protocol::{CloseCode, ErrorName, RpcError};
use lianmai_signal_engine::task::Draft;
use lianmai_signal_engine::{AdminCommand, AdminReply, DrainPlan, Input, TaskChange};

use crate::calls::*;
use crate::world::{Client, DiskMode, Issuer, World, entry, room, task};

const PLAN: DrainPlan = DrainPlan {
    notice_ms: 1_000,
    freeze_ms: 3_000,
    deadline_ms: 10_000,
    retry_after_ms: 500,
    jitter_ms: 2_000,
};

/// Proves RES-6, RST-1.
#[test]
fn rst_1_a_drain_notifies_serves_and_closes_members_gradually() {
    let mut w = World::new();
    let clients: Vec<Client> = (1..=40).map(|uid| w.join(uid)).collect();
    w.advance(1_100);
    w.skip_received();
    w.input(Input::Drain(PLAN));
    for client in &clients {
        let notices = w.notices(*client);
        let [Notice::ServerRestarting(notice)] = &notices[..] else { panic!("{notices:?}") };
        assert_eq!((notice.retry_after_ms, notice.jitter_ms), (500, 2_000));
        assert_eq!(notice.deadline_ms, 10_000);
    }
    assert_eq!(w.refusal(entry(99)), ErrorName::Draining);
    w.advance(900);
    w.ok(clients[39], send_message("served"));
    let (resumed, _) = w.resume(clients[38]);
    assert!(matches!(w.notices(resumed)[..], [Notice::ServerRestarting(_)]), "RES-6");
    let mut open = 40;
    while w.drained.is_none() {
        w.advance(50);
        let left = w.open().len();
        assert!(open - left <= 2, "{} at once", open - left);
        open = left;
    }
    assert_eq!(w.drained, Some(true));
    let closed = w.closing(clients[0]).expect("closing");
    assert_eq!(closed.code, CloseCode::SERVER_RESTART);
    assert!(closed.retry_after_ms.expect("when") >= 500);
    assert_eq!(w.refusal(entry(99)), ErrorName::Draining);
    assert_eq!(w.refused(clients[0]), ResumeReason::Draining);
}

/// Proves RST-4, URL-9.
#[test]
fn rst_4_pushes_continue_after_the_freeze() {
    let mut w = World::new();
    let a = w.join(1);
    let (_, push) = w.push_url(a, "video");
    let (_, dead) = w.push_url(a, "screenShare");
    w.ok(a, unpublish("screenShare"));
    w.drop_socket(a);
    w.input(Input::Drain(PLAN));
    w.advance(0);
    assert_eq!(w.drained, Some(true));
    assert_eq!(w.may_push(push), Ok(()));
    assert!(w.may_push(dead).is_err());
}

/// Proves no rule of the protocol: a stop does not wait if no member is connected.
#[test]
fn rst_1_a_drain_without_members_does_not_wait() {
    let mut w = World::new();
    w.input(Input::Drain(PLAN));
    w.advance(0);
    assert_eq!(w.drained, Some(true));
}

/// Proves IDS-7, RES-8, RST-2, RST-4.
#[test]
fn rst_2_the_next_process_continues_where_the_last_one_ended() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    let (_, generation) = w.push_url(a, "video");
    w.pull_url(b, 1, "video");
    let viewer = w.mid(b);
    let gone = w.join(3);
    w.drop_socket(gone);
    w.advance(12_000);
    w.ok(b, ping());
    w.ok(a, send_to(&[3], "for three"));
    w.input(Input::Drain(PLAN));
    let id = w.send(a, send_message("last words"));
    w.advance(5_000);
    w.start_again();
    assert_eq!(w.may_push(generation), Ok(()));
    assert_eq!(w.may_play(generation, viewer), Ok(()));
    w.advance(2_000);
    let (a, resumed) = w.resume(a);
    assert_eq!((resumed.outcome, resumed.replayed), (Outcome::Replayed, 0));
    w.send_as(a, id, send_message("last words"));
    assert!(w.answer(a, id).expect("answered").is_ok(), "IDS-7: from memory");
    w.ok(a, send_message("first words"));
    let (b, resumed) = w.resume(b);
    assert_eq!((resumed.outcome, resumed.replayed), (Outcome::Replayed, 1), "and nothing twice");
    assert_eq!(w.new_events(b), ["message 1 first words"]);
    // Its grace continues, too: 17 s of it have passed.
    let (gone, resumed) = w.resume(gone);
    assert_eq!((resumed.outcome, resumed.messages), (Outcome::Replayed, 1));
    w.drop_socket(gone);
    w.audit();
}

/// Proves LIV-3, RST-2.
#[test]
fn rst_2_running_grace_continues_after_a_hand_over() {
    let mut w = World::new();
    let a = w.join(1);
    let gone = w.join(2);
    w.drop_socket(gone);
    w.advance_alive(20_000, &[a]);
    w.input(Input::Drain(PLAN));
    w.advance(5_000);
    w.start_again();
    let (a, _) = w.resume(a);
    w.advance(10_000);
    assert_eq!(w.new_events(a), ["clientLeave 2 timeout"]);
}

/// Proves IDS-7, RST-2.
#[test]
fn rst_2_accepted_commands_run_exactly_once_across_a_hand_over() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    let b = w.admit(entry(2).app("creator"));
    w.issuer = Issuer::Hold;
    let publish_id = w.send(a, publish("video"));
    let held = w.send(a, send_message("behind"));
    w.advance(100);
    w.skip_received();
    w.input(Input::Drain(PLAN));
    w.advance(3_500);
    assert_eq!(w.drained, Some(true));
    w.issuer = Issuer::AtOnce;
    w.start_again();
    let (a, _) = w.resume(a);
    w.send_as(a, publish_id, publish("video"));
    w.send_as(a, held, send_message("behind"));
    assert!(w.answer(a, publish_id).expect("answered").is_ok());
    assert!(w.answer(a, held).expect("answered").is_ok());
    let (b, _) = w.resume(b);
    assert_eq!(w.new_events(b), ["streamAdded 1 video", "message 1 behind"]);
}

/// Proves RST-2, RST-5.
#[test]
fn rst_5_a_kick_that_is_being_written_is_finished_before_the_end() {
    let mut w = World::new();
    let a = w.admit(entry(1).app("creator"));
    let b = w.admit(entry(2).app("creator"));
    w.disk.mode = DiskMode::Hold;
    let id = w.send(a, kick(2, 60));
    w.input(Input::Drain(PLAN));
    w.advance(4_900);
    assert_eq!(w.drained, None);
    w.disk.mode = DiskMode::AtOnce;
    w.write_held();
    assert_eq!(w.drained, Some(true));
    w.start_again();
    assert_eq!(w.refused(b), ResumeReason::Kicked);
    let (a, _) = w.resume(a);
    assert_eq!(w.new_events(a), ["clientLeave 2 kicked"]);
    w.send_as(a, id, kick(2, 60));
    assert!(w.answer(a, id).expect("answered").is_ok());
    w.audit();
}

/// Proves no rule of the protocol: a request of the admin API does not wait until the process ends.
#[test]
fn task_requests_of_the_app_server_are_answered_at_the_hand_over() {
    let mut w = World::with_tasks();
    w.join(1);
    w.tasks.nobody_admits = true;
    // The second one waits for its turn.
    for name in ["a", "b"] {
        let draft = Draft::of_wire(&task(name, "rtmp://h/live/a", &[1])).expect("valid");
        let (channel, change) = (room("plain"), TaskChange::Add(vec![draft]));
        w.admin_later(AdminCommand::ChangeTasks { channel, change });
    }
    w.input(Input::Drain(PLAN));
    w.advance(3_500);
    assert_eq!(w.drained, Some(true));
    let draining = Err::<AdminReply, RpcError>(ErrorName::Draining.into());
    assert_eq!(w.later_replies(), [draining.clone(), draining]);
}

/// Proves no rule of the protocol: a failed hand-over is reported.
#[test]
fn rst_2_a_failing_disk_prevents_the_hand_over() {
    let mut w = World::new();
    w.join(1);
    w.disk.mode = DiskMode::Fail;
    w.input(Input::Drain(PLAN));
    w.advance(5_000);
    assert_eq!(w.drained, Some(false));
}

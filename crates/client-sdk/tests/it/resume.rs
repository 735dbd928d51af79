//! Resuming a membership: the request, what follows its answer, and the order in which the app is told.

use lianmai_client_sdk::protocol::message::media::*;
use lianmai_client_sdk::protocol::message::session::*;
use lianmai_client_sdk::protocol::message::snapshot::StreamInfo;
use lianmai_client_sdk::protocol::message::{Call, ChannelEvent, Notice};
use lianmai_client_sdk::protocol::*;
use lianmai_client_sdk::session::*;
use lianmai_client_sdk::{CallError, Event};

use super::support::*;

fn sent(request: &lianmai_client_sdk::protocol::message::Request) -> String {
    result(request, &MessageSent { seq: 10, delivered: 0 })
}

fn replay(events: u64, messages: u64) -> ReconnectOutcome {
    ReconnectOutcome::Replayed { events, messages }
}

/// Proves CLI-3, PIN-2, RES-1.
#[test]
fn res_1_a_lost_socket_is_no_end_and_comes_back_by_a_replay() {
    let mut rig = Rig::joined(Role::Audience);
    rig.frame(&whisper(3));
    rig.drain();
    let outputs = rig.lose();
    assert_eq!(told(&outputs), ["connectionStateChange"]);
    assert!(matches!(
        app_events(&outputs)[0],
        Event::ConnectionStateChange {
            state: ConnectionState::Reconnecting,
            reason: StateReason::SocketClosed
        }
    ));
    assert_eq!(rig.picture().seq, 10, "the picture stays");

    let (outputs, request) = rig.reopen();
    assert_eq!(told(&outputs), ["open"]);
    let wanted =
        Reconnect { ticket: "t1".to_owned(), attempt: 1, epoch: EPOCH, seq: 10, n: 3, want: None };
    assert_eq!(reconnect_of(&request), &wanted);
    // Nothing is sent before the answer.
    rig.call(message("later"));
    assert!(rig.drain().is_empty());

    let answer = Resumed { replayed: 2, messages: 1, ..resumed(Outcome::Replayed, 2) };
    rig.frame(&result(&request, &answer));
    let outputs = rig.drain();
    assert_eq!(told(&outputs), ["connectionStateChange"]);
    let sent = requests(&outputs);
    assert_eq!(methods(&outputs), ["ping", "sendMessage"]);
    assert_eq!(sent[0].call, Call::Ping(Ping { k: Some(2), n: Some(3) }));

    rig.events(11, &[client_join(BOB, BOB_MID), says(BOB, "hello")]);
    rig.frame(&whisper(4));
    assert_eq!(told(&rig.drain()), ["clientJoin", "message", "message"]);
    rig.frame(&pong(&sent[0], 12));
    let outputs = rig.drain();
    assert_eq!(told(&outputs), ["reconnected"]);
    assert_eq!(reconnected(&outputs), Some((replay(2, 1), None, 0)));
}

/// Proves RES-2, RES-3.
#[test]
fn res_2_the_newest_ticket_and_a_greater_attempt_each_time() {
    let mut rig = Rig::joined(Role::Audience);
    rig.lose();
    let (_, request) = rig.reopen();
    assert_eq!((reconnect_of(&request).attempt, &*reconnect_of(&request).ticket), (1, "t1"));
    // The answer is lost: the client does not know whether the server issued a new ticket.
    rig.lose();
    let (_, request) = rig.reopen();
    assert_eq!((reconnect_of(&request).attempt, &*reconnect_of(&request).ticket), (2, "t1"));
    rig.frame(&replayed(&request, 3));
    rig.drain();
    rig.lose();
    let (_, request) = rig.reopen();
    assert_eq!((reconnect_of(&request).attempt, &*reconnect_of(&request).ticket), (3, "t3"));
}

/// Proves PIN-2.
#[test]
fn pin_2_every_ping_tells_the_ticket_and_the_last_message() {
    let mut rig = Rig::joined(Role::Audience);
    rig.frame(&whisper(7));
    let outputs = rig.advance(10_000);
    assert_eq!(requests(&outputs)[0].call, Call::Ping(Ping { k: Some(1), n: Some(7) }));
}

/// Proves RES-8.
#[test]
fn res_8_no_targeted_message_is_told_twice() {
    let mut rig = Rig::joined(Role::Audience);
    rig.frame(&whisper(1));
    rig.frame(&whisper(2));
    rig.drain();
    rig.lose();
    let (_, request) = rig.reopen();
    assert_eq!(reconnect_of(&request).n, 2);
    rig.frame(&replayed(&request, 2));
    rig.drain();
    rig.frame(&array(&[whisper(1), whisper(2), whisper(3)]));
    let heard = app_events(&rig.drain());
    assert_eq!(heard.len(), 1);
    assert!(matches!(&heard[0], Event::Message { data, targeted: true, .. } if data == "3"));
    assert_eq!(rig.session.ignored().repeats, 2);
}

/// Proves IDS-4, IDS-7.
#[test]
fn ids_7_every_command_without_an_answer_is_sent_again_in_order_with_its_id() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let (a, first) = rig.send(message("a"));
    let (b, second) = rig.send(publish());
    let (c, third) = rig.send(message("c"));
    rig.frame(&sent(&first));
    assert!(outcome(&rig.drain(), a).is_ok());
    rig.lose();
    let waited = rig.call(message("waited"));
    let (_, request) = rig.reopen();
    assert_eq!(request.ack, Some(RequestId(second.id.0 - 1)));
    rig.frame(&replayed(&request, 2));
    let outputs = rig.drain();
    assert_eq!(methods(&outputs), ["ping", "publish", "sendMessage", "ping", "sendMessage"]);
    let again = requests(&outputs);
    assert_eq!((again[1].id, &again[1].call), (second.id, &second.call));
    assert_eq!((again[2].id, &again[2].call), (third.id, &third.call));
    assert!(again[4].id > again[3].id);

    // The app is told when the last of these is answered, in any order.
    rig.frame(&pong(&again[0], 10));
    rig.frame(&pong(&again[3], 10));
    assert!(told(&rig.drain()).is_empty());
    rig.frame(&result(&third, &MessageSent { seq: 10, delivered: 0 }));
    assert!(outcome(&rig.drain(), c).is_ok());
    rig.events(11, &[my_audio(MY_MID)]);
    rig.frame(&result(&second, &published(11)));
    let outputs = rig.drain();
    assert_eq!(told(&outputs), [format!("{}:Published", b.0), "reconnected".to_owned()]);
    rig.frame(&sent(&again[4]));
    assert!(outcome(&rig.drain(), waited).is_ok());
}

/// Proves IDS-7, SES-7.
#[test]
fn ids_7_a_command_that_was_given_up_is_sent_again_and_settles_nothing() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let (call, request) = rig.send(publish());
    rig.advance(9_000);
    rig.lose();
    let late = rig.call(message("unsent"));
    let outputs = rig.advance(4_000);
    assert_eq!(outcome(&outputs, call), Err(CallError::OutcomeUnknown));
    let (_, resume) = rig.reopen();
    rig.frame(&replayed(&resume, 2));
    let outputs = rig.drain();
    assert_eq!(methods(&outputs), ["ping", "publish", "ping", "sendMessage"]);
    let pings = requests(&outputs);
    // The call took effect later: the app is told a change of its own state.
    rig.events(11, &[ChannelEvent::StreamAdded(stream(ME, MY_MID, MediaKind::Audio, 1))]);
    rig.frame(&result(&request, &published(11)));
    rig.frame(&pong(&pings[0], 11));
    rig.frame(&pong(&pings[2], 11));
    assert_eq!(told(&rig.drain()), ["published", "syncDone", "reconnected"]);
    let _ = late;
}

/// The publication ended while the session was away: the old answer is out of date, and its URL is invalid.
/// Proves no rule of the protocol: the settlement of a call whose answer is out of date.
#[test]
fn a_publication_that_ended_since_is_superseded() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let (call, request) = rig.send(publish());
    rig.lose();
    let (_, resume) = rig.reopen();
    rig.frame(&replayed(&resume, 2));
    rig.drain();
    let ended = ChannelEvent::StreamRemoved(stream(ME, MY_MID, MediaKind::Audio, 1));
    rig.events(11, &[my_audio(MY_MID), ended]);
    rig.frame(&result(&request, &published(11)));
    let outputs = rig.drain();
    assert_eq!(told(&outputs)[0], "unpublished");
    assert_eq!(
        outcome(&outputs, call),
        Err(CallError::Refused(RpcError::bare(ErrorName::Superseded)))
    );
}

/// An answer that the host does not read yet is not late.
/// Proves no rule of the protocol: the pace of the app.
#[test]
fn the_way_back_waits_for_a_host_that_does_not_read() {
    let mut rig = Rig::joined(Role::Broadcaster);
    rig.lose();
    let (_, request) = rig.reopen();
    rig.input(Input::ReadingPaused);
    let outputs = rig.advance(500_000);
    assert_eq!((close_code(&outputs), told(&outputs)), (None, vec![]));
    rig.input(Input::ReadingResumed);
    assert!(told(&rig.advance(9_000)).is_empty());
    rig.frame(&replayed(&request, 2));
    rig.drain();
    assert_eq!(rig.session.state(), ConnectionState::Connected);

    // From then on it has the normal time, and no more.
    rig.lose();
    rig.reopen();
    rig.input(Input::ReadingPaused);
    rig.advance(100_000);
    rig.input(Input::ReadingResumed);
    assert_eq!(close_code(&rig.advance(10_000)), Some(1000));
}

/// Proves SES-7.
#[test]
fn ids_7_a_call_that_waits_keeps_its_own_deadline() {
    let mut rig = Rig::joined(Role::Broadcaster);
    rig.lose();
    let call = rig.call(message("never"));
    let mut outputs = rig.drain();
    let due = rig.now + 10_000;
    while rig.now < due {
        if wants_socket(&outputs) {
            rig.lose();
        }
        rig.now = rig.session.next_deadline().unwrap().0.max(rig.now);
        rig.input(Input::Timeout);
        outputs = rig.drain();
    }
    assert_eq!(told(&outputs)[0], "sendCommandOverTime");
    assert_eq!(outcome(&outputs, call), Err(CallError::Timeout));
    assert_eq!(rig.session.state(), ConnectionState::Reconnecting);
}

/// Proves no rule of the protocol: the contents of `reconnected`.
#[test]
fn a_death_before_the_announcement_is_announced_with_the_next() {
    let mut rig = Rig::joined(Role::Audience);
    rig.lose();
    let (_, request) = rig.reopen();
    let trimmed = ResumeReason::LogTrimmed;
    rig.frame(&resnapshot(&request, trimmed.clone(), false, snapshot(Role::Audience, 20, vec![])));
    assert_eq!(told(&rig.drain()), ["connectionStateChange"]);
    rig.lose();
    let (_, request) = rig.reopen();
    assert_eq!(reconnect_of(&request).seq, 20);
    let answer = Resumed { replayed: 1, messages_lost: 2, ..resumed(Outcome::Replayed, 3) };
    rig.frame(&result(&request, &answer));
    let pings = requests(&rig.drain());
    rig.events(21, &[says(BOB, "x")]);
    rig.frame(&pong(&pings[0], 21));
    let missed = Some(Missed { from_seq: 11, to_seq: Some(20) });
    let outcome = ReconnectOutcome::Snapshot { reason: trimmed };
    assert_eq!(reconnected(&rig.drain()), Some((outcome, missed, 2)));
}

/// Proves CLI-4, ORD-3.
#[test]
fn cli_4_a_snapshot_is_told_as_a_difference_and_server_truth_wins() {
    let mut bob = member(BOB, BOB_MID);
    bob.streams = vec![StreamInfo { media_type: MediaKind::Video, publication: Pub([3; 12]) }];
    let mut rig = Rig::joined_with(
        SessionConfig::new("ws://server/v1/signal"),
        snapshot(Role::Broadcaster, 10, vec![bob.clone()]),
    );
    let (_, request) = rig.send(publish());
    rig.events(11, &[ChannelEvent::StreamAdded(stream(ME, MY_MID, MediaKind::Audio, 1))]);
    rig.frame(&result(&request, &published(11)));
    let wanted = Subscribe { uid: BOB, media_type: MediaKind::Video };
    let (_, request) = rig.send(Command::Subscribe(wanted));
    let url = "rtmp://x".to_owned();
    rig.frame(&result(&request, &Subscribed { uid: BOB, url, urls: Urls::default(), seq: 11 }));
    rig.drain();

    // Meanwhile a moderator made the app audience, Bob published again, and Cid joined.
    rig.lose();
    let (_, request) = rig.reopen();
    bob.streams = vec![StreamInfo { media_type: MediaKind::Video, publication: Pub([4; 12]) }];
    let others = vec![bob, member(UserId(9), Mid([9; 12]))];
    let truth = snapshot(Role::Audience, 30, others);
    rig.frame(&resnapshot(&request, ResumeReason::LogTrimmed, false, truth.clone()));
    // The getters show the picture as of each event.
    let mut heard = vec![];
    let mut pings = vec![];
    while let Some(output) = rig.poll() {
        let picture = rig.picture();
        match &output {
            Output::Event(event) => {
                let streams = |uid| picture.members.get(&uid).map_or(0, |m| m.streams.len());
                heard.push((event.kind().name(), picture.members.len(), streams(BOB)));
            }
            Output::Send { .. } => pings.extend(requests(&[output])),
            _ => {}
        }
    }
    assert_eq!(
        heard,
        [
            ("connectionStateChange", 2, 1),
            ("streamRemoved", 2, 0),
            ("clientJoin", 3, 0),
            ("streamAdded", 3, 1),
            ("unpublished", 3, 1),
            ("roleChanged", 3, 1),
        ]
    );
    assert_eq!(rig.picture(), &Picture::from_snapshot(truth, MonoTime(rig.now)));
    assert_eq!(pings.len(), 1, "nothing is restored");
    rig.frame(&pong(&pings[0], 30));
    let missed = Some(Missed { from_seq: 12, to_seq: Some(30) });
    let reason = ResumeReason::LogTrimmed;
    let wanted = (ReconnectOutcome::Snapshot { reason }, missed, 0);
    assert_eq!(reconnected(&rig.drain()), Some(wanted));
}

/// Proves CLI-2.
#[test]
fn cli_2_a_second_gap_soon_asks_for_a_snapshot() {
    let mut rig = Rig::joined(Role::Audience);
    for (want, pause) in [(None, 1_000), (Some(Want::Snapshot), 70_000), (None, 0)] {
        rig.frame("{");
        assert_eq!(close_code(&rig.drain()), Some(4005));
        let (_, request) = rig.reopen();
        assert_eq!(reconnect_of(&request).want, want);
        rig.frame(&replayed(&request, 2));
        let pings = requests(&rig.drain());
        rig.frame(&pong(&pings[0], 10));
        rig.drain();
        for _ in 0..pause / 10_000 {
            rig.advance(10_000);
            rig.frame(&notice(Notice::MemberCount(notice_count(1))));
            rig.drain();
        }
    }
}

fn notice_count(count: u64) -> lianmai_client_sdk::protocol::message::notice::MemberCount {
    lianmai_client_sdk::protocol::message::notice::MemberCount { count }
}

/// Proves CLI-2, CON-12.
#[test]
fn con_12_what_no_server_sends_is_a_gap() {
    let mut rig = Rig::joined(Role::Audience);
    rig.unreadable();
    assert_eq!(close_code(&rig.drain()), Some(4005));
    assert_eq!(rig.session.state(), ConnectionState::Reconnecting);
}

/// Proves CLI-2, CLI-8.
#[test]
fn cli_8_what_an_old_socket_says_is_not_applied() {
    let mut rig = Rig::joined(Role::Audience);
    rig.frame(&array(&["{}".to_owned()]));
    assert_eq!(close_code(&rig.drain()), Some(4005));
    rig.events(11, &[says(BOB, "late")]);
    assert!(told(&rig.drain()).is_empty());
    assert_eq!(rig.session.ignored().late, 1);
    // Nor events before the answer to the new request.
    rig.reopen();
    rig.events(11, &[says(BOB, "early")]);
    assert!(told(&rig.drain()).is_empty());
    assert_eq!(rig.picture().seq, 10);
}

/// Proves CLO-3.
#[test]
fn a_refusal_that_cannot_be_helped_is_the_end() {
    for (reason, code) in [
        (ResumeReason::Kicked, 4500),
        (ResumeReason::ChannelClosed, 4501),
        (ResumeReason::Replaced, 4502),
        (ResumeReason::TokenExpired, 4507),
        (ResumeReason::Left, 1000),
    ] {
        let mut rig = Rig::joined(Role::Audience);
        rig.lose();
        let call = rig.call(message("lost"));
        let (_, request) = rig.reopen();
        rig.frame(&resume_refused(&request, reason.clone()));
        let outputs = rig.drain();
        assert_eq!(disconnected(&outputs), Some((code, reason.as_str().to_owned(), true)));
        assert!(matches!(outcome(&outputs, call), Err(CallError::Closed { .. })));
        assert_eq!(rig.session.next_deadline(), None);
    }
}

/// Proves RES-3.
#[test]
fn res_3_a_stale_attempt_is_one_that_failed() {
    let mut rig = Rig::joined(Role::Audience);
    rig.lose();
    let (_, request) = rig.reopen();
    rig.frame(&resume_refused(&request, ResumeReason::StaleAttempt));
    assert!(told(&rig.drain()).is_empty());
    let (_, again) = rig.reopen();
    assert_eq!(reconnect_of(&again).attempt, 2);
}

/// Proves CLI-2, CLI-6.
#[test]
fn a_broken_answer_of_reconnect_is_a_gap() {
    let mut rig = Rig::joined(Role::Audience);
    rig.lose();
    let (_, request) = rig.reopen();
    rig.frame(&result(&request, &resumed(Outcome::Snapshot, 2)));
    assert_eq!(close_code(&rig.drain()), Some(4005), "a snapshot without a snapshot");
    let (_, request) = rig.reopen();
    assert_eq!(request.call.method(), "reconnect");
}

/// Proves no rule of the protocol: the time of `reconnected`.
#[test]
fn reconnected_waits_for_answers_no_longer_than_a_call() {
    let mut rig = Rig::joined(Role::Broadcaster);
    rig.send(message("never answered"));
    rig.lose();
    let (_, request) = rig.reopen();
    rig.frame(&replayed(&request, 2));
    for ping in requests(&rig.drain()).iter().filter(|request| is_ping(request)) {
        rig.frame(&pong(ping, 10));
    }
    let outputs = rig.drain();
    assert_eq!(reconnected(&outputs), None);
    let mut outputs = vec![];
    for _ in 0..2 {
        outputs.extend(rig.advance(5_000));
        rig.frame(&notice(Notice::MemberCount(notice_count(1))));
    }
    outputs.extend(rig.drain());
    assert!(reconnected(&outputs).is_some());
}

/// Proves ORD-7.
#[test]
fn evt_1_own_changes_of_a_call_that_waits_are_its_answer() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let set = SetRole { role: Role::Audience, uid: None };
    let (call, request) = rig.send(Command::SetRole(set));
    rig.lose();
    let (_, resume) = rig.reopen();
    // The call took effect, its answer was lost, and the log no longer contains its event.
    let truth = snapshot(Role::Audience, 30, vec![]);
    rig.frame(&resnapshot(&resume, ResumeReason::LogTrimmed, false, truth));
    let outputs = rig.drain();
    assert_eq!(told(&outputs), ["connectionStateChange", "memberCount"]);
    assert_eq!(rig.picture().own.role, Role::Audience);
    rig.frame(&done(&request, 30));
    assert_eq!(outcome(&rig.drain(), call), Ok(Reply::Done));
}

//! Joining and leaving a channel.
//! Proves no rule of the protocol: how calls of the app begin and end.

use lianmai_client_sdk::protocol::codec::encode_error;
use lianmai_client_sdk::protocol::message::notice::{Closing, Kicked};
use lianmai_client_sdk::protocol::message::session::*;
use lianmai_client_sdk::protocol::message::{Notice, Request};
use lianmai_client_sdk::protocol::*;
use lianmai_client_sdk::session::*;
use lianmai_client_sdk::{CallError, Event, JoinError};

use super::support::*;

/// Proves IDS-4.
#[test]
fn join_connects_sends_and_settles_with_the_snapshot() {
    let mut rig = Rig::new();
    let call = rig.call(join());
    let outputs = rig.drain();
    assert!(matches!(&outputs[0], Output::Connect { url, .. } if url == "ws://server/v1/signal"));
    assert_eq!(told(&outputs), ["connectionStateChange"]);
    assert_eq!(rig.session.state(), ConnectionState::Connecting);

    rig.open();
    let outputs = rig.drain();
    assert_eq!(told(&outputs), ["open"]);
    let request = requests(&outputs).remove(0);
    assert_eq!((request.id, request.ack), (RequestId(1), None));

    rig.frame(&result(&request, &snapshot(Role::Broadcaster, 10, vec![member(BOB, BOB_MID)])));
    let outputs = rig.drain();
    assert_eq!(told(&outputs), ["connectionStateChange", "1:Joined"]);
    let Ok(Reply::Joined(joined)) = outcome(&outputs, call) else { panic!("joined") };
    assert_eq!(joined.uid, ME);
    assert_eq!(joined.picture.others().map(|m| m.uid).collect::<Vec<_>>(), [BOB]);
    assert_eq!(rig.picture(), &joined.picture);
}

/// Proves FRM-5, ORD-2.
#[test]
fn an_event_right_behind_the_join_answer_is_applied() {
    let mut rig = Rig::new();
    rig.call(join());
    let request = rig.opened();
    let answer = result(&request, &snapshot(Role::Audience, 10, vec![]));
    rig.frame(&array(&[answer, batch(11, &[client_join(BOB, BOB_MID)])]));
    assert_eq!(told(&rig.drain()), ["connectionStateChange", "1:Joined", "clientJoin"]);
    assert!(rig.picture().members.contains_key(&BOB));
}

/// Proves CLI-8, ERR-1.
#[test]
fn a_refused_join_closes_and_may_be_tried_again() {
    let mut rig = Rig::new();
    let call = rig.call(join());
    let request = rig.opened();
    rig.frame(&refusal(&request, ErrorName::Banned));
    let outputs = rig.drain();
    assert_eq!(close_code(&outputs), Some(1000));
    assert_eq!(told(&outputs), ["connectionStateChange", "1:banned"]);
    let error = outcome(&outputs, call).unwrap_err();
    assert!(matches!(JoinError::from(error), JoinError::Banned(_)));

    // Later reports about the dead socket have no effect.
    rig.closed(4503, "");
    assert!(rig.drain().is_empty());
    rig.call(join());
    assert!(matches!(rig.drain()[0], Output::Connect { .. }));
}

/// Proves SES-7.
#[test]
fn cli_3_a_join_is_tried_again_until_its_deadline() {
    let mut rig = Rig::new();
    let call = rig.call(join());
    rig.drain();
    assert!(rig.advance(4_999).is_empty());
    let outputs = rig.advance(1);
    assert!(close_code(&outputs).is_some(), "one attempt has 5 s");
    assert!(told(&outputs).is_empty());
    let outputs = rig.advance(5_000);
    assert_eq!(connects(&outputs).len(), 1);
    assert_eq!(told(&outputs), ["sendCommandOverTime", "connectionStateChange", "1:timeout"]);
    assert_eq!(outcome(&outputs, call), Err(CallError::Timeout));
    assert_eq!(rig.session.next_deadline(), None);
}

/// Proves SES-7.
#[test]
fn a_join_without_an_answer_is_unknown() {
    let mut rig = Rig::new();
    let call = rig.call(join());
    rig.drain();
    rig.now += 3_000;
    rig.open();
    let outputs = rig.advance(7_000);
    assert_eq!(outcome(&outputs, call), Err(CallError::OutcomeUnknown));
    assert_eq!(close_code(&outputs), Some(1000));
    assert_eq!(rig.session.state(), ConnectionState::Disconnected);
}

#[test]
fn cli_3_a_join_that_could_not_connect_says_why() {
    let mut rig = Rig::new();
    let call = rig.call(join());
    let mut outputs = rig.drain();
    while rig.session.state() == ConnectionState::Connecting {
        if wants_socket(&outputs) {
            rig.closed(1006, "refused");
        }
        outputs = rig.drain();
        if rig.session.state() == ConnectionState::Connecting {
            let at = rig.session.next_deadline().unwrap();
            assert!(at.0 <= 11_000);
            rig.now = rig.now.max(at.0);
            rig.input(Input::Timeout);
            outputs.extend(rig.drain());
        }
    }
    let closed = CallError::Closed { code: 1006, reason: "refused".to_owned() };
    assert_eq!(outcome(&outputs, call), Err(closed));
    assert_eq!(close_code(&outputs), None);
}

/// Proves IDS-1, JOI-2.
#[test]
fn joi_2_a_join_without_an_answer_is_sent_again_with_its_join_id() {
    let mut rig = Rig::new();
    let call = rig.call(join());
    let first = rig.opened();
    let outputs = rig.lose();
    assert!(told(&outputs).is_empty(), "the join goes on");
    let (_, second) = rig.reopen();
    assert_eq!(join_of(&second), join_of(&first));
    assert!(second.id > first.id);
    rig.frame(&result(&second, &snapshot(Role::Audience, 10, vec![])));
    assert!(outcome(&rig.drain(), call).is_ok());
}

/// Proves ERR-2, RST-1.
#[test]
fn rst_1_a_join_waits_for_a_server_that_restarts() {
    let draining =
        |id, ms| encode_error(Some(id), &RpcError::new(ErrorName::Draining).retry_after_ms(ms));
    let mut rig = Rig::new();
    let call = rig.call(join());
    let request = rig.opened();
    rig.frame(&draining(request.id, 2_000));
    assert!(told(&rig.drain()).is_empty());
    let begin = rig.now;
    let (_, request) = rig.reopen();
    assert!(rig.now >= begin + 2_000);
    // If the server asks for a longer wait than the call has left, the call fails.
    rig.frame(&draining(request.id, 9_000));
    let error = outcome(&rig.drain(), call).unwrap_err();
    assert!(matches!(JoinError::from(error), JoinError::Draining(_)));
}

/// Proves ERR-2, IDS-9.
#[test]
fn ids_9_a_join_waits_for_a_rate() {
    let mut rig = Rig::new();
    let call = rig.call(join());
    let request = rig.opened();
    let limited = RpcError::new(ErrorName::RateLimited).retry_after_ms(700);
    rig.frame(&encode_error(Some(request.id), &limited));
    assert!(told(&rig.drain()).is_empty());
    let begin = rig.now;
    let (_, request) = rig.reopen();
    assert!(rig.now >= begin + 700);
    rig.frame(&result(&request, &snapshot(Role::Audience, 10, vec![])));
    assert!(outcome(&rig.drain(), call).is_ok());
}

/// Proves CLO-1.
#[test]
fn a_close_with_a_code_says_why_the_joiner_was_thrown_out() {
    let mut rig = Rig::new();
    let call = rig.call(join());
    rig.drain();
    rig.open();
    rig.drain();
    rig.closed(4504, "");
    let closed = CallError::Closed { code: 4504, reason: "protocolViolation".to_owned() };
    assert_eq!(outcome(&rig.drain(), call), Err(closed));
}

/// Proves IDS-1.
#[test]
fn leave_ends_the_session_before_it_settles() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let (call, request) = rig.send(leave());
    // No further call is accepted.
    let late = rig.call(publish());
    assert_eq!(outcome(&rig.drain(), late), Err(CallError::NotJoined));
    rig.frame(&done(&request, 10));
    let outputs = rig.drain();
    assert_eq!(told(&outputs), ["connectionStateChange", "disconnected", "2:Done"]);
    assert!(matches!(&app_events(&outputs)[1],
        Event::Disconnected { code: 1000, reason, terminal: true } if reason == "left"));
    assert_eq!(outcome(&outputs, call), Ok(Reply::Done));
    assert!(rig.session.picture().is_none());

    // The client can join again.
    rig.call(join());
    let request = rig.opened();
    assert!(request.id.0 > 2, "ids never repeat");
    rig.frame(&result(&request, &snapshot(Role::Audience, 3, vec![])));
    assert!(told(&rig.drain()).contains(&"4:Joined".to_owned()));
}

/// Proves SES-7.
#[test]
fn leave_without_an_answer_is_out_all_the_same() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let (call, _) = rig.send(leave());
    let outputs = rig.advance(10_000);
    let words = told(&outputs);
    assert_eq!(words[0], "sendCommandOverTime");
    assert_eq!(outcome(&outputs, call), Err(CallError::OutcomeUnknown));
    assert_eq!(rig.session.state(), ConnectionState::Disconnected);
}

#[test]
fn leave_takes_back_a_join_that_was_not_sent() {
    let mut rig = Rig::new();
    let joining = rig.call(join());
    let leaving = rig.call(leave());
    let outputs = rig.drain();
    assert!(matches!(outcome(&outputs, joining), Err(CallError::Closed { code: 1000, .. })));
    assert_eq!(outcome(&outputs, leaving), Ok(Reply::Done));
}

#[test]
fn a_join_that_was_refused_is_not_unknown_later() {
    for lost_before in [false, true] {
        let mut rig = Rig::new();
        let call = rig.call(join());
        let (_, mut request) = rig.reopen();
        if lost_before {
            rig.lose();
            (_, request) = rig.reopen();
        }
        rig.frame(&refusal(&request, ErrorName::Draining));
        let mut outputs = rig.drain();
        // From here on the server is out of reach.
        while rig.session.state() == ConnectionState::Connecting {
            outputs.extend(rig.advance(500));
            outputs.extend(rig.lose());
        }
        let expected =
            if lost_before { ErrorName::OutcomeUnknown } else { ErrorName::NotConnected };
        assert_eq!(outcome(&outputs, call).unwrap_err().name(), expected);
    }
}

/// Proves CLO-3.
#[test]
fn a_refusal_can_name_another_address() {
    let elsewhere = |code: CloseCode| {
        notice(Notice::Closing(Closing {
            code,
            reason: "redirect".to_owned(),
            action: Action::Redirect,
            url: Some("ws://elsewhere/v1/signal".to_owned()),
            retry_after_ms: None,
        }))
    };
    let refused = |request: &Request| {
        let mut error = RpcError::new(ErrorName::Draining);
        error.data.action = Some(Action::Redirect);
        array(&[encode_error(Some(request.id), &error), elsewhere(CloseCode::JOIN_REFUSED)])
    };
    let mut rig = Rig::new();
    rig.call(join());
    let (_, request) = rig.reopen();
    rig.frame(&refused(&request));
    let mut outputs = rig.drain();
    outputs.extend(rig.lose());
    outputs.extend(rig.reopen().0);
    assert_eq!(connects(&outputs), ["ws://elsewhere/v1/signal"]);

    let mut rig = Rig::joined(Role::Broadcaster);
    rig.lose();
    let (_, request) = rig.reopen();
    let action = Some(Action::Redirect);
    let answer = resumed(Outcome::Refused, 0);
    let answer =
        Resumed { reason: Some(ResumeReason::Draining), action, ticket: None, k: None, ..answer };
    rig.frame(&array(&[result(&request, &answer), elsewhere(CloseCode::JOIN_REFUSED)]));
    let mut outputs = rig.drain();
    outputs.extend(rig.lose());
    outputs.extend(rig.reopen().0);
    assert_eq!(connects(&outputs), ["ws://elsewhere/v1/signal"]);
}

#[test]
fn leave_during_a_join_follows_it() {
    let mut rig = Rig::new();
    rig.call(join());
    let request = rig.opened();
    rig.call(leave());
    assert!(rig.drain().is_empty());
    rig.frame(&result(&request, &snapshot(Role::Broadcaster, 10, vec![])));
    let outputs = rig.drain();
    assert_eq!(requests(&outputs)[0].call.method(), "leave");
}

/// Proves CLO-1, CLO-3, NOT-2.
#[test]
fn closing_names_the_end_and_settles_everything() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let (call, _) = rig.send(publish());
    let kicked = Notice::Kicked(Kicked { reason: None, duration_s: 60 });
    let closing = Notice::Closing(Closing {
        code: CloseCode::KICKED,
        reason: "kicked".to_owned(),
        action: Action::None,
        url: None,
        retry_after_ms: None,
    });
    rig.frame(&array(&[notice(kicked), notice(closing)]));
    assert_eq!(told(&rig.drain()), ["kicked", "connectionStateChange", "closing"]);
    let late = rig.call(publish());
    assert!(matches!(outcome(&rig.drain(), late), Err(CallError::Closed { code: 4500, .. })));

    rig.closed(1006, "");
    let outputs = rig.drain();
    assert_eq!(outcome(&outputs, call), Err(CallError::OutcomeUnknown));
    assert!(app_events(&outputs).iter().any(|event| matches!(event,
        Event::Disconnected { code: 4500, reason, terminal: true } if reason == "kicked")));
}

/// Proves CLO-3, CON-10.
#[test]
fn a_server_that_says_closing_and_does_not_is_left() {
    let mut rig = Rig::joined(Role::Broadcaster);
    rig.frame(&notice(Notice::Closing(Closing {
        code: CloseCode::GOING_AWAY,
        reason: "goingAway".to_owned(),
        action: Action::Reconnect,
        url: None,
        retry_after_ms: None,
    })));
    assert_eq!(told(&rig.drain()), ["connectionStateChange", "closing"]);
    assert_eq!(rig.session.state(), ConnectionState::Reconnecting);
    let outputs = rig.advance(3_000);
    assert_eq!(close_code(&outputs), Some(4000));
    assert!(told(&outputs).is_empty());
    let (_, request) = rig.reopen();
    assert_eq!(request.call.method(), "reconnect");
}

/// Proves CLO-1, CLO-2, CLO-4.
#[test]
fn clo_1_the_class_of_a_code_says_who_comes_back() {
    for (code, back) in [
        (1000, true),
        (1001, true),
        (1006, true),
        (4000, true),
        (4001, true),
        (4002, true),
        (4003, true),
        (4004, false),
        (4005, true),
        (4099, true),
        (4500, false),
        (4502, false),
        (4507, false),
        (4777, false),
    ] {
        let mut rig = Rig::joined(Role::Broadcaster);
        rig.closed(code, "x");
        let outputs = rig.drain();
        if back {
            assert_eq!(rig.session.state(), ConnectionState::Reconnecting, "{code}");
            assert_eq!(disconnected(&outputs), None);
            assert!(rig.session.picture().is_some());
        } else {
            let told = disconnected(&outputs).unwrap();
            assert_eq!((told.0, told.2), (code, true));
            assert!(rig.session.picture().is_none());
        }
    }
}

#[test]
fn a_second_join_and_calls_without_one_are_refused_at_once() {
    let mut rig = Rig::new();
    let call = rig.call(publish());
    assert_eq!(outcome(&rig.drain(), call), Err(CallError::NotJoined));
    let call = rig.call(leave());
    assert_eq!(outcome(&rig.drain(), call), Err(CallError::NotJoined));
    let mut rig = Rig::joined(Role::Broadcaster);
    let call = rig.call(join());
    let error = outcome(&rig.drain(), call).unwrap_err();
    assert_eq!(error.name(), ErrorName::AlreadyJoined);
}

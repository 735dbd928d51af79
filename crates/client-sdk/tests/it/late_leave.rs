//! `leave` without a connection: the membership ends at once, and delivery is attempted afterwards.
//! Proves no rule of the protocol: the fate of a `leave` without a connection.

use lianmai_client_sdk::protocol::message::Request;
use lianmai_client_sdk::protocol::message::session::*;
use lianmai_client_sdk::protocol::*;
use lianmai_client_sdk::session::*;
use lianmai_client_sdk::{CallError, Event};

use super::rejoin::anew;
use super::support::*;

/// A session that left without a connection. The app must receive nothing from here on.
fn left() -> Rig {
    let mut rig = Rig::joined(Role::Broadcaster);
    let (other, _) = rig.send(message("sent"));
    rig.lose();
    let call = rig.call(leave());
    let outputs = rig.drain();
    assert_eq!(outcome(&outputs, call), Ok(Reply::Done));
    assert_eq!(outcome(&outputs, other).unwrap_err().name(), ErrorName::OutcomeUnknown);
    assert_eq!(disconnected(&outputs), Some((1000, "left".to_owned(), true)));
    assert_eq!(rig.session.state(), ConnectionState::Disconnected);
    assert!(rig.session.picture().is_none());
    rig
}

#[test]
fn a_leave_is_delivered_by_a_resume_without_events() {
    let mut rig = left();
    let begin = rig.now;
    let (outputs, request) = rig.reopen();
    assert!(told(&outputs).is_empty());
    assert!(rig.now - begin <= 3_000);
    assert_eq!(reconnect_of(&request).ticket, "t1");
    rig.frame(&replayed(&request, 2));
    let outputs = rig.drain();
    assert!(told(&outputs).is_empty());
    let sent = requests(&outputs);
    assert_eq!(methods(&outputs), ["leave"]);
    rig.events(11, &[says(BOB, "unheard")]);
    rig.frame(&done(&sent[0], 11));
    let outputs = rig.drain();
    assert!(told(&outputs).is_empty());
    assert_eq!(close_code(&outputs), Some(1000));
    assert_eq!(rig.session.next_deadline(), None);
}

#[test]
fn a_refusal_counts_as_delivery() {
    for reason in [ResumeReason::Left, ResumeReason::Gone, ResumeReason::Invalid] {
        let mut rig = left();
        let (_, request) = rig.reopen();
        rig.frame(&resume_refused(&request, reason));
        let outputs = rig.drain();
        assert!(told(&outputs).is_empty());
        assert_eq!(rig.session.next_deadline(), None);
    }
}

/// Proves RES-3.
#[test]
fn three_attempts_within_10_s() {
    let mut rig = left();
    let begin = rig.now;
    let mut attempts = vec![];
    let mut outputs = rig.drain();
    while let Some(at) = rig.session.next_deadline() {
        if wants_socket(&outputs) {
            let request = rig.opened();
            attempts.push(reconnect_of(&request).attempt);
            outputs = rig.lose();
        } else {
            rig.now = at.0.max(rig.now);
            rig.input(Input::Timeout);
            outputs = rig.drain();
        }
        assert!(told(&outputs).is_empty());
    }
    assert_eq!(attempts.len(), 3);
    assert!(attempts.windows(2).all(|pair| pair[0] < pair[1]));
    assert!(rig.now - begin <= 10_000);

    // The session does not wait longer for a server that does not answer.
    let mut rig = left();
    let begin = rig.now;
    rig.reopen();
    let outputs = rig.advance(20_000);
    assert!(told(&outputs).is_empty());
    assert_eq!(rig.session.next_deadline(), None);
    assert!(rig.now > begin);
}

#[test]
fn a_join_ends_the_delivery() {
    let mut rig = left();
    rig.reopen();
    let call = rig.call(join());
    let outputs = rig.drain();
    assert!(matches!(outputs[0], Output::CloseSocket { code: 1000, .. }));
    assert!(wants_socket(&outputs));
    let request = rig.opened();
    rig.frame(&result(&request, &snapshot(Role::Audience, 10, vec![])));
    assert!(outcome(&rig.drain(), call).is_ok());
}

#[test]
fn a_leave_that_was_sent_is_delivered_again_when_its_socket_dies() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let (call, _) = rig.send(leave());
    let outputs = rig.lose();
    assert_eq!(outcome(&outputs, call), Ok(Reply::Done));
    assert_eq!(disconnected(&outputs), Some((1000, "left".to_owned(), true)));
    let (outputs, request) = rig.reopen();
    assert!(told(&outputs).is_empty());
    rig.frame(&resume_refused(&request, ResumeReason::Left));
    rig.drain();
    assert_eq!(rig.session.next_deadline(), None);

    // A close with 1000 after `leave` confirms it.
    let mut rig = Rig::joined(Role::Broadcaster);
    let (call, _) = rig.send(leave());
    rig.closed(1000, "");
    let outputs = rig.drain();
    assert_eq!(outcome(&outputs, call), Ok(Reply::Done));
    assert_eq!(rig.session.next_deadline(), None);
}

/// Proves RES-3.
#[test]
fn leave_during_an_attempt_to_come_back() {
    let mut rig = Rig::joined(Role::Broadcaster);
    rig.lose();
    rig.reopen();
    let call = rig.call(leave());
    let outputs = rig.drain();
    assert_eq!(outcome(&outputs, call), Ok(Reply::Done));
    assert_eq!(close_code(&outputs), Some(1000));
    let late = rig.call(publish());
    assert_eq!(outcome(&rig.drain(), late).unwrap_err().name(), ErrorName::NotJoined);
    let (outputs, request) = rig.reopen();
    assert!(!app_events(&outputs).contains(&Event::Open {}));
    assert_eq!(reconnect_of(&request).attempt, 2 + 1, "the attempt number keeps growing");
}

/// The membership is gone, and the answer to the `join` that replaces it has not come.
fn rejoining() -> (Rig, Request) {
    let mut rig = Rig::joined(Role::Broadcaster);
    rig.lose();
    let (_, request) = rig.reopen();
    rig.frame(&resume_refused(&request, ResumeReason::Gone));
    rig.drain();
    let request = rig.opened();
    (rig, request)
}

#[test]
fn the_last_refusal_closes_once() {
    let mut rig = left();
    for _ in 0..3 {
        let (outputs, request) = rig.reopen();
        assert!(told(&outputs).is_empty());
        rig.frame(&resume_refused(&request, ResumeReason::Draining));
    }
    let closed = rig.drain().into_iter().filter(|o| matches!(o, Output::CloseSocket { .. }));
    assert_eq!(closed.count(), 1);
    assert_eq!(rig.session.next_deadline(), None);
}

/// Proves JOI-2.
#[test]
fn a_first_join_that_may_have_arrived_is_joined_once_more_and_left() {
    for lost_first in [true, false] {
        let mut rig = Rig::new();
        let joining = rig.call(join());
        let sent = rig.opened();
        let mut outputs = vec![];
        if lost_first {
            rig.lose();
        }
        let leaving = rig.call(leave());
        outputs.extend(rig.drain());
        if !lost_first {
            // `leave` waits for the answer to `join`, which never comes.
            assert_eq!(told(&outputs), Vec::<String>::new());
            outputs.extend(rig.advance(10_000));
        }
        assert_eq!(outcome(&outputs, joining), Err(CallError::OutcomeUnknown));
        assert_eq!(outcome(&outputs, leaving), Ok(Reply::Done));
        let (outputs, request) = rig.reopen();
        assert!(told(&outputs).is_empty());
        assert_eq!(join_of(&request), join_of(&sent), "the same joinId");
        rig.frame(&result(&request, &snapshot(Role::Broadcaster, 10, vec![])));
        assert_eq!(methods(&rig.drain()), ["leave"]);
    }
}

#[test]
fn a_leave_without_an_answer_is_delivered_again() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let (call, _) = rig.send(leave());
    let outputs = rig.advance(10_000);
    assert_eq!(outcome(&outputs, call), Err(CallError::OutcomeUnknown));
    let (outputs, request) = rig.reopen();
    assert!(told(&outputs).is_empty());
    rig.frame(&replayed(&request, 2));
    assert_eq!(methods(&rig.drain()), ["leave"]);
}

/// Proves LEA-2.
#[test]
fn lea_2_nothing_goes_out_behind_a_leave() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let calls: Vec<CallId> = (0..40).map(|_| rig.call(message("x"))).collect();
    let leaving = rig.call(leave());
    let sent = requests(&rig.drain());
    assert_eq!((sent.len(), sent[32].call.method()), (33, "leave"));
    for request in &sent[..8] {
        rig.frame(&refusal(request, ErrorName::Superseded));
    }
    assert!(methods(&rig.drain()).is_empty());
    rig.frame(&done(&sent[32], 10));
    let outputs = rig.drain();
    assert_eq!(outcome(&outputs, leaving), Ok(Reply::Done));
    assert!(matches!(outcome(&outputs, calls[39]), Err(CallError::Closed { code: 1000, .. })));
}

/// Proves JOI-2.
#[test]
fn a_new_join_that_may_have_arrived_is_joined_once_more_and_left() {
    for lost in [false, true] {
        let (mut rig, join) = rejoining();
        if lost {
            rig.lose();
        }
        let call = rig.call(leave());
        let outputs = rig.drain();
        assert_eq!(outcome(&outputs, call), Ok(Reply::Done));
        let (outputs, request) = rig.reopen();
        assert!(told(&outputs).is_empty());
        assert_eq!(join_of(&request), join_of(&join), "the same joinId");
        rig.frame(&result(&request, &anew(Role::Broadcaster, 20, vec![])));
        let outputs = rig.drain();
        assert!(told(&outputs).is_empty());
        assert!(rig.session.picture().is_none());
        let sent = requests(&outputs);
        assert_eq!(methods(&outputs), ["leave"]);
        rig.frame(&done(&sent[0], 21));
        let outputs = rig.drain();
        assert!(told(&outputs).is_empty());
        assert_eq!(close_code(&outputs), Some(1000));
        assert_eq!(rig.session.next_deadline(), None);
    }
}

#[test]
fn a_new_join_that_is_refused_leaves_nothing_to_leave() {
    for (name, ends) in [(ErrorName::Banned, true), (ErrorName::Draining, false)] {
        let (mut rig, _) = rejoining();
        rig.call(leave());
        let (_, request) = rig.reopen();
        rig.frame(&refusal(&request, name));
        assert!(told(&rig.drain()).is_empty());
        assert_eq!(rig.session.next_deadline().is_none(), ends);
    }
    // A `join` that was refused created no membership.
    let (mut rig, request) = rejoining();
    rig.frame(&refusal(&request, ErrorName::ChannelFull));
    rig.call(leave());
    assert_eq!(disconnected(&rig.drain()), Some((1000, "left".to_owned(), true)));
    assert_eq!(rig.session.next_deadline(), None);
    // Neither did a `join` that was not sent.
    let mut rig = Rig::joined(Role::Broadcaster);
    rig.lose();
    let (_, request) = rig.reopen();
    rig.frame(&resume_refused(&request, ResumeReason::Gone));
    rig.call(leave());
    rig.drain();
    assert_eq!(rig.session.next_deadline(), None);
}

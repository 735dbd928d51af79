//! A server that closes a new connection before it received the first request (SES-3): that close answers nothing.
//! Proves CLO-3.

use lianmai_client_sdk::protocol::message::Notice;
use lianmai_client_sdk::protocol::message::notice::Closing;
use lianmai_client_sdk::protocol::message::session::*;
use lianmai_client_sdk::protocol::*;
use lianmai_client_sdk::session::*;

use super::rejoin::anew;
use super::support::*;

/// The server closes the connection because no request came, with or without the `closing` notice.
fn given_up(rig: &mut Rig, with_notice: bool) -> Vec<Output> {
    let code = CloseCode::JOIN_TIMEOUT;
    let mut outputs = vec![];
    if with_notice {
        rig.frame(&notice(Notice::Closing(Closing {
            code,
            reason: "joinTimeout".to_owned(),
            action: Action::None,
            url: None,
            retry_after_ms: None,
        })));
        outputs = rig.drain();
    }
    rig.closed(code.0, "joinTimeout");
    outputs.extend(rig.drain());
    outputs
}

#[test]
fn ses_3_a_resume_that_was_not_heard_is_a_failed_attempt() {
    for with_notice in [true, false] {
        let mut rig = Rig::joined(Role::Audience);
        rig.lose();
        let (_, request) = rig.reopen();
        let outputs = given_up(&mut rig, with_notice);
        assert_eq!(disconnected(&outputs), None);
        assert_eq!(rig.session.state(), ConnectionState::Reconnecting);
        let again = rig.reopen().1;
        assert!(reconnect_of(&again).attempt > reconnect_of(&request).attempt);
        rig.frame(&replayed(&again, 2));
        let ping = requests(&rig.drain()).remove(0);
        rig.frame(&pong(&ping, 10));
        assert!(reconnected(&rig.drain()).is_some());
    }
}

/// Proves CLO-3, JOI-2.
#[test]
fn ses_3_a_new_join_that_was_not_heard_is_a_failed_attempt() {
    for with_notice in [true, false] {
        let mut rig = Rig::joined(Role::Audience);
        rig.lose();
        let (_, request) = rig.reopen();
        rig.frame(&resume_refused(&request, ResumeReason::Gone));
        rig.drain();
        let join = rig.opened();
        assert_eq!(disconnected(&given_up(&mut rig, with_notice)), None);
        let again = rig.reopen().1;
        assert_eq!(join_of(&again), join_of(&join));
        rig.frame(&result(&again, &anew(Role::Audience, 20, vec![])));
        let ping = requests(&rig.drain()).remove(0);
        rig.frame(&pong(&ping, 20));
        assert!(reconnected(&rig.drain()).is_some());
    }
}

/// Proves CLO-3, JOI-2, SES-7.
#[test]
fn ses_3_a_first_join_that_was_not_heard_is_sent_again_until_its_deadline() {
    for with_notice in [true, false] {
        let mut rig = Rig::new();
        let call = rig.call(join());
        let request = rig.opened();
        given_up(&mut rig, with_notice);
        assert_eq!(rig.session.state(), ConnectionState::Connecting);
        let again = rig.reopen().1;
        assert_eq!(join_of(&again), join_of(&request));
        rig.frame(&result(&again, &snapshot(Role::Audience, 10, vec![])));
        assert!(outcome(&rig.drain(), call).is_ok());

        let mut rig = Rig::new();
        let begin = rig.now;
        let call = rig.call(join());
        let mut outputs = rig.drain();
        while rig.session.next_deadline().is_some() {
            if wants_socket(&outputs) {
                rig.open();
                rig.drain();
                outputs = given_up(&mut rig, with_notice);
                continue;
            }
            rig.now = rig.session.next_deadline().unwrap().0.max(rig.now);
            rig.input(Input::Timeout);
            outputs = rig.drain();
        }
        assert_eq!(rig.now - begin, 10_000);
        assert!(outcome(&outputs, call).is_err());
    }
}

#[test]
fn ses_3_a_late_leave_that_was_not_heard_is_delivered_again() {
    for with_notice in [true, false] {
        let mut rig = Rig::joined(Role::Audience);
        rig.lose();
        rig.call(Command::Leave(Empty {}));
        rig.reopen();
        given_up(&mut rig, with_notice);
        let (outputs, request) = rig.reopen();
        assert!(told(&outputs).is_empty());
        assert_eq!(request.call.method(), "reconnect");
    }
}

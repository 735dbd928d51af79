//! A new membership that replaces one that cannot continue, tokens that change meanwhile, and addresses of other
//! deployments.

use lianmai_client_sdk::protocol::codec::encode_error;
use lianmai_client_sdk::protocol::message::notice::{Closing, TargetedMessage};
use lianmai_client_sdk::protocol::message::session::{Joined, *};
use lianmai_client_sdk::protocol::message::snapshot::MemberInfo;
use lianmai_client_sdk::protocol::message::{Call, Notice, Request};
use lianmai_client_sdk::protocol::*;
use lianmai_client_sdk::session::*;

use super::support::*;

pub(crate) const NEW_MID: Mid = Mid([70; 12]);

/// The snapshot of the same app in a new membership.
pub(crate) fn anew(role: Role, seq: u64, others: Vec<MemberInfo>) -> Joined {
    let mut hello = snapshot(role, seq, others);
    hello.mid = NEW_MID;
    hello.own.mid = NEW_MID;
    hello.session_id = SessionId([10; 12]);
    hello.ticket = Some("n1".to_owned());
    for member in hello.members.iter_mut().filter(|member| member.uid == ME) {
        member.mid = NEW_MID;
    }
    hello
}

/// The connection is lost and the server refuses to resume for this reason. Returns the outputs, at the end of which
/// the session wants another socket.
fn refused(rig: &mut Rig, reason: ResumeReason) -> Vec<Output> {
    rig.lose();
    let (_, request) = rig.reopen();
    rig.frame(&resume_refused(&request, reason));
    rig.drain()
}

fn safe_join(token: &str) -> Command {
    let Command::Join(join) = join() else { panic!("a join") };
    Command::Join(Join { token: Some(token.to_owned()), ..join })
}

fn in_safe_mode(token: &str) -> Rig {
    let mut rig = Rig::new();
    rig.call(safe_join(token));
    let request = rig.opened();
    rig.frame(&result(&request, &snapshot(Role::Audience, 10, vec![])));
    rig.drain();
    rig
}

/// Proves CLI-4, RES-9.
#[test]
fn res_9_a_membership_that_is_gone_is_joined_anew() {
    let mut rig = Rig::joined(Role::Broadcaster);
    rig.lose();
    let (_, request) = rig.reopen();
    let waited = rig.call(message("waited"));
    rig.frame(&resume_refused(&request, ResumeReason::Gone));
    let outputs = rig.drain();
    assert!(told(&outputs).is_empty());
    assert!(wants_socket(&outputs), "at once, on a socket of its own");
    let request = rig.opened();
    let params = join_of(&request);
    assert_eq!(params.continues.as_deref(), Some("t1"));
    assert_eq!(params.join_id.as_deref(), Some("0123456789abcdef0123456789abcdef"));
    assert_eq!(params.uid, Some(ME));

    rig.frame(&result(&request, &anew(Role::Broadcaster, 20, vec![member(BOB, BOB_MID)])));
    let outputs = rig.drain();
    // Bob is new; the app's own leave and join cause no event.
    assert_eq!(told(&outputs), ["connectionStateChange", "clientJoin", "memberCount"]);
    assert_eq!(rig.picture().own.mid, NEW_MID);
    assert_eq!(rig.picture().members[&ME].mid, NEW_MID);
    let sent = requests(&outputs);
    assert_eq!(methods(&outputs), ["ping", "sendMessage"]);
    rig.frame(&pong(&sent[0], 20));
    let reason = ResumeReason::Gone;
    let missed = Some(Missed { from_seq: 11, to_seq: Some(20) });
    let wanted = (ReconnectOutcome::Rejoined { reason }, missed, 0);
    assert_eq!(reconnected(&rig.drain()), Some(wanted));
    rig.frame(&result(&sent[1], &MessageSent { seq: 20, delivered: 0 }));
    assert!(outcome(&rig.drain(), waited).is_ok());
    // The next resume uses the new ticket.
    rig.lose();
    let (_, request) = rig.reopen();
    assert_eq!(reconnect_of(&request).ticket, "n1");
}

/// Proves JOI-2, RES-9.
#[test]
fn res_9_a_lost_answer_of_the_new_join_does_no_harm() {
    let mut rig = Rig::joined(Role::Broadcaster);
    refused(&mut rig, ResumeReason::Invalid);
    let first = rig.opened();
    rig.lose();
    let (_, second) = rig.reopen();
    assert_eq!(join_of(&first), join_of(&second));
    rig.frame(&result(&second, &anew(Role::Broadcaster, 20, vec![])));
    let pings = requests(&rig.drain());
    rig.frame(&pong(&pings[0], 20));
    let outcome = reconnected(&rig.drain()).unwrap().0;
    assert_eq!(outcome, ReconnectOutcome::Rejoined { reason: ResumeReason::Invalid });
}

/// Proves IDS-1.
#[test]
fn ids_1_commands_of_a_dead_session_get_new_ids() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let (call, old) = rig.send(publish());
    let (gone, _) = rig.send(message("once"));
    refused(&mut rig, ResumeReason::Gone);
    let request = rig.opened();
    rig.frame(&result(&request, &anew(Role::Broadcaster, 20, vec![])));
    let outputs = rig.drain();
    assert_eq!(outcome(&outputs, gone).unwrap_err().name(), ErrorName::OutcomeUnknown);
    let sent = requests(&outputs);
    assert_eq!(methods(&outputs), ["ping", "publish", "ping"]);
    assert_eq!(sent[1].call, old.call);
    assert!(sent[1].id > request.id);
    let mid = rig.picture().own.mid;
    rig.events(21, &[my_audio(mid)]);
    rig.frame(&result(&sent[1], &published(21)));
    assert!(outcome(&rig.drain(), call).is_ok());
}

/// Proves IDS-1, JOI-2.
#[test]
fn joi_2_a_join_that_finds_its_own_membership_takes_it_as_it_is() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let (unknown, _) = rig.send(message("once"));
    let (again, old) = rig.send(publish());
    refused(&mut rig, ResumeReason::Invalid);
    let request = rig.opened();
    let same = snapshot(Role::Audience, 20, vec![]);
    rig.frame(&result(&request, &same));
    let outputs = rig.drain();
    // After a `join` the server remembers no answers (IDS-1). Its state is valid, so nothing is restored.
    assert_eq!(outcome(&outputs, unknown).unwrap_err().name(), ErrorName::OutcomeUnknown);
    assert_eq!(methods(&outputs), ["ping", "publish", "ping"]);
    let sent = requests(&outputs);
    assert!(sent[1].id > old.id);
    assert!(told(&outputs).contains(&"roleChanged".to_owned()));
    rig.frame(&refusal(&sent[1], ErrorName::NotBroadcaster));
    assert_eq!(outcome(&rig.drain(), again).unwrap_err().name(), ErrorName::NotBroadcaster);
}

/// Proves RES-8.
#[test]
fn res_8_messages_are_counted_on_where_a_join_goes_on_with_the_membership() {
    let whisper =
        |n| notice(Notice::Message(TargetedMessage { uid: BOB, data: "psst".to_owned(), n }));
    for (mid, heard) in [(MY_MID, 1), (NEW_MID, 3)] {
        let mut rig = Rig::joined(Role::Broadcaster);
        rig.frame(&whisper(2));
        rig.drain();
        refused(&mut rig, ResumeReason::Invalid);
        let request = rig.opened();
        let mut same = snapshot(Role::Audience, 20, vec![]);
        (same.mid, same.own.mid) = (mid, mid);
        rig.frame(&result(&request, &same));
        rig.frame(&array(&[whisper(1), whisper(2), whisper(3)]));
        let words = told(&rig.drain());
        assert_eq!(words.iter().filter(|word| *word == "message").count(), heard);
    }
}

/// The server refuses the new `join` with this error and a wait of `wait` ms.
fn refused_anew(rig: &mut Rig, request: &Request, name: ErrorName, wait: u64) -> Vec<Output> {
    let error = RpcError::new(name).retry_after_ms(wait);
    rig.frame(&encode_error(Some(request.id), &error));
    rig.drain()
}

/// Proves ERR-2.
#[test]
fn err_2_a_new_join_waits_for_what_may_pass() {
    for name in [
        ErrorName::ChannelFull,
        ErrorName::TooManyBroadcasters,
        ErrorName::DuplicateLogin,
        ErrorName::ReplacedTooOften,
        ErrorName::TooManyChannels,
        ErrorName::TokenNotYetValid,
        ErrorName::RateLimited,
        ErrorName::InternalError,
        ErrorName::Draining,
    ] {
        let mut rig = Rig::joined(Role::Broadcaster);
        refused(&mut rig, ResumeReason::Gone);
        let mut request = rig.opened();
        for _ in 0..5 {
            let outputs = refused_anew(&mut rig, &request, name.clone(), 3_000);
            assert!(told(&outputs).is_empty(), "{name}: it is away as before");
            let begin = rig.now;
            let again = rig.reopen().1;
            assert!(rig.now >= begin + 3_000, "{name}");
            assert_eq!(join_of(&request), join_of(&again));
            request = again;
        }
        rig.frame(&result(&request, &anew(Role::Broadcaster, 20, vec![])));
        let pings = requests(&rig.drain());
        rig.frame(&pong(&pings[0], 20));
        assert!(reconnected(&rig.drain()).is_some());
    }
}

/// Proves CLI-7.
#[test]
fn err_2_what_does_not_pass_is_given_up_in_the_end() {
    let mut rig = Rig::joined(Role::Audience);
    let begin = rig.now;
    let mut outputs = refused(&mut rig, ResumeReason::Gone);
    let mut attempts = 0;
    while disconnected(&outputs).is_none() {
        if wants_socket(&outputs) {
            let request = rig.opened();
            attempts += 1;
            outputs = refused_anew(&mut rig, &request, ErrorName::ChannelFull, 0);
            continue;
        }
        rig.now = rig.session.next_deadline().unwrap().0.max(rig.now);
        rig.input(Input::Timeout);
        outputs = rig.drain();
    }
    assert_eq!(disconnected(&outputs), Some((1006, "gaveUp".to_owned(), false)));
    assert_eq!(rig.now - begin, 600_000);
    assert!((20..100).contains(&attempts), "with backoff: {attempts}");
}

/// Proves ERR-2.
#[test]
fn err_2_what_no_waiting_helps_is_the_end() {
    for name in [
        ErrorName::Banned,
        ErrorName::TokenRevoked,
        ErrorName::ChannelClosed,
        ErrorName::TokenInvalid,
        ErrorName::Forbidden,
    ] {
        let mut rig = Rig::joined(Role::Broadcaster);
        refused(&mut rig, ResumeReason::Gone);
        let request = rig.opened();
        // The end of a ban is not a time to retry.
        let outputs = refused_anew(&mut rig, &request, name.clone(), 3_000);
        assert_eq!(disconnected(&outputs), Some((4503, name.as_str().to_owned(), true)));
        assert_eq!(rig.session.next_deadline(), None);
    }
}

/// Proves CLO-3, RES-9.
#[test]
fn aut_4_an_expired_token_is_the_end_unless_the_app_has_a_newer_one() {
    let mut rig = in_safe_mode("old");
    let outputs = refused(&mut rig, ResumeReason::TokenExpired);
    assert_eq!(disconnected(&outputs), Some((4507, "tokenExpired".to_owned(), true)));

    let mut rig = in_safe_mode("old");
    rig.lose();
    let (_, request) = rig.reopen();
    let call = rig.call(Command::RenewToken(RenewToken { token: "new".to_owned() }));
    rig.frame(&resume_refused(&request, ResumeReason::TokenExpired));
    assert!(wants_socket(&rig.drain()));
    let request = rig.opened();
    assert_eq!(join_of(&request).token.as_deref(), Some("new"));
    rig.frame(&result(&request, &anew(Role::Audience, 20, vec![])));
    let sent = requests(&rig.drain());
    assert!(matches!(&sent[1].call, Call::RenewToken(renew) if renew.token == "new"));
    let answer = TokenRenewed { seq: 20, rights: Rights::MEMBER, token_expires_in_ms: None };
    rig.frame(&result(&sent[1], &answer));
    assert!(outcome(&rig.drain(), call).is_ok());
}

/// Proves CLO-3.
#[test]
fn aut_4_a_token_that_came_too_late_for_the_socket_is_in_time_for_a_new_membership() {
    let closing = || {
        notice(Notice::Closing(Closing {
            code: CloseCode::TOKEN_EXPIRED,
            reason: "tokenExpired".to_owned(),
            action: Action::RenewToken,
            url: None,
            retry_after_ms: None,
        }))
    };
    let mut rig = in_safe_mode("old");
    rig.frame(&closing());
    rig.drain();
    assert_eq!(disconnected(&rig.lose()).unwrap().0, 4507);

    let mut rig = in_safe_mode("old");
    rig.send(Command::RenewToken(RenewToken { token: "new".to_owned() }));
    rig.frame(&closing());
    rig.drain();
    assert_eq!(disconnected(&rig.lose()), None);
    let (_, request) = rig.reopen();
    assert_eq!(join_of(&request).token.as_deref(), Some("new"));
}

/// Proves RES-9.
#[test]
fn res_9_the_newest_good_token_is_presented() {
    let mut rig = in_safe_mode("old");
    let (_, request) = rig.send(Command::RenewToken(RenewToken { token: "good".to_owned() }));
    let answer = TokenRenewed { seq: 10, rights: Rights::MEMBER, token_expires_in_ms: None };
    rig.frame(&result(&request, &answer));
    rig.drain();
    let (_, request) = rig.send(Command::RenewToken(RenewToken { token: "bad".to_owned() }));
    rig.frame(&refusal(&request, ErrorName::TokenInvalid));
    rig.drain();
    refused(&mut rig, ResumeReason::Gone);
    let request = rig.opened();
    assert_eq!(join_of(&request).token.as_deref(), Some("good"));
}

/// Proves no rule of the protocol: a server without `reconnect` is joined anew.
#[test]
fn a_server_without_reconnect_is_joined_anew() {
    let mut rig = Rig::joined(Role::Audience);
    rig.lose();
    let (_, request) = rig.reopen();
    rig.frame(&refusal(&request, ErrorName::MethodNotFound));
    assert!(wants_socket(&rig.drain()));
    rig.open();
    assert_eq!(methods(&rig.drain()), ["join"]);

    // A server that gives no ticket.
    let mut hello = snapshot(Role::Audience, 10, vec![]);
    hello.ticket = None;
    let mut rig = Rig::joined_with(SessionConfig::new("ws://a"), hello);
    rig.lose();
    let (_, request) = rig.reopen();
    assert_eq!(join_of(&request).continues, None);
}

/// Proves RES-11.
#[test]
fn an_address_of_another_deployment_is_dead() {
    let mut config = SessionConfig::new("ws://a");
    config.urls.push("ws://b".to_owned());
    let hello = snapshot(Role::Audience, 10, vec![]);
    let mut rig = Rig::joined_with(config, hello);
    // `a` is out of reach, `b` is another deployment.
    rig.lose();
    let (_, _) = rig.reopen();
    assert_eq!(connects(&rig.lose()), ["ws://b"]);
    let request = rig.opened();
    rig.frame(&resume_refused(&request, ResumeReason::Invalid));
    let outputs = rig.drain();
    assert_eq!(connects(&outputs), ["ws://b"]);
    let request = rig.opened();
    let mut foreign = anew(Role::Audience, 5, vec![]);
    foreign.deployment_id = "elsewhere".to_owned();
    rig.frame(&result(&request, &foreign));
    let outputs = rig.drain();
    // The session leaves the foreign channel and resumes with the ticket that is valid at home.
    assert_eq!(methods(&outputs), ["leave"]);
    assert!(told(&outputs).is_empty());
    assert_eq!(rig.picture().own.mid, MY_MID);
    assert_eq!(connects(&outputs), ["ws://a"]);
    let request = rig.opened();
    assert_eq!(reconnect_of(&request).ticket, "t1");
    // `b` is not tried again.
    rig.lose();
    let (outputs, request) = rig.reopen();
    assert_eq!(connects(&outputs), ["ws://a"]);
    rig.frame(&resume_refused(&request, ResumeReason::Gone));
    rig.drain();
    let request = rig.opened();
    rig.frame(&result(&request, &foreign));
    let outputs = rig.drain();
    assert_eq!(disconnected(&outputs), Some((4503, "wrongDeployment".to_owned(), true)));
}

//! Calls: order, ids, limits, deadlines.
//! Proves no rule of the protocol: how the session keeps calls.

use lianmai_client_sdk::protocol::message::event::{
    ChannelMessage, LiveRoomClose, RoomCloseReason,
};
use lianmai_client_sdk::protocol::message::session::*;
use lianmai_client_sdk::protocol::message::{Call, ChannelEvent, Request};
use lianmai_client_sdk::protocol::*;
use lianmai_client_sdk::session::*;
use lianmai_client_sdk::{CallError, Event};

use super::support::*;

fn my_stream(kind: MediaKind, publication: u8) -> ChannelEvent {
    ChannelEvent::StreamAdded(stream(ME, MY_MID, kind, publication))
}

/// Proves ORD-4, ORD-7.
#[test]
fn events_up_to_an_answer_come_before_it_and_getters_show_each() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let (call, request) = rig.send(publish());
    let events =
        [client_join(BOB, BOB_MID), my_stream(MediaKind::Audio, 1), my_stream(MediaKind::Video, 2)];
    let answer = result(&request, &published(13));
    rig.frame(&array(&[
        batch(11, &events[..1]),
        batch(12, &events[1..2]),
        batch(13, &events[2..]),
        answer,
    ]));
    // Checked after each output: the picture is never ahead of the outputs.
    let mut seen = vec![];
    while let Some(output) = rig.poll() {
        match output {
            Output::Event(event) => seen.push((event.kind().name(), rig.picture().seq)),
            Output::Settled { .. } => seen.push(("settled", rig.picture().seq)),
            _ => {}
        }
    }
    assert_eq!(seen, [("clientJoin", 11), ("settled", 13)]);
    let own = &rig.picture().own.published;
    assert_eq!(own.len(), 2);
    assert!(own.values().all(|publication| publication.generation == Some(GEN)));
    let _ = call;
}

/// Proves CLI-2.
#[test]
fn an_answer_that_is_ahead_of_the_events_is_a_gap() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let (call, request) = rig.send(publish());
    rig.frame(&result(&request, &published(12)));
    let outputs = rig.drain();
    assert_eq!(close_code(&outputs), Some(4005));
    // The answer comes again, after the events that it covers.
    let (_, resume) = rig.reopen();
    let mine = [my_stream(MediaKind::Audio, 1), my_stream(MediaKind::Video, 2)];
    let answer = result(&request, &published(12));
    rig.frame(&replayed(&resume, 2));
    rig.events(11, &mine);
    rig.frame(&answer);
    assert!(outcome(&rig.drain(), call).is_ok());
}

/// Proves CLI-2, CLI-6.
#[test]
fn an_answer_that_cannot_be_read_is_not_asked_for_again() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let (call, request) = rig.send(publish());
    rig.frame(&result(&request, &Empty {}));
    let outputs = rig.drain();
    assert_eq!(close_code(&outputs), Some(4005));
    assert_eq!(outcome(&outputs, call), Err(CallError::OutcomeUnknown));
    let (_, resume) = rig.reopen();
    rig.frame(&replayed(&resume, 2));
    assert_eq!(methods(&rig.drain()), ["ping"]);
}

/// Proves SES-7.
#[test]
fn a_sent_call_without_an_answer_is_unknown_and_its_effect_comes_as_state() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let (call, request) = rig.send(publish());
    let outputs = rig.advance(10_000);
    assert_eq!(told(&outputs), ["sendCommandOverTime", "2:outcomeUnknown"]);
    assert_eq!(outcome(&outputs, call), Err(CallError::OutcomeUnknown));
    assert!(matches!(app_events(&outputs)[0], Event::SendCommandOverTime { method: "publish" }));

    rig.events(11, &[my_stream(MediaKind::Audio, 1)]);
    assert_eq!(told(&rig.drain()), ["published"]);
    // The late answer settles no call, but it corrects the picture and tells the app the URL.
    rig.frame(&result(&request, &published(11)));
    assert_eq!(told(&rig.drain()), ["syncDone"]);
    let own = &rig.picture().own.published;
    assert_eq!(own[&MediaKind::Audio].generation, Some(GEN));
}

/// Proves IDS-5, ORD-8, SES-7.
#[test]
fn at_most_32_are_on_the_wire_and_the_rest_waits_in_order() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let calls: Vec<CallId> = (0..40).map(|n| rig.call(message(&n.to_string()))).collect();
    let sent = requests(&rig.drain());
    assert_eq!(sent.len(), 32);
    // Answers free places in the window, in any order.
    rig.frame(&result(&sent[5], &MessageSent { seq: 10, delivered: 0 }));
    let outputs = rig.drain();
    assert!(outcome(&outputs, calls[5]).is_ok());
    let next = requests(&outputs);
    assert_eq!(next.len(), 1);
    assert!(matches!(&next[0].call, Call::SendMessage(m) if m.data == "32"));
    // Unsent calls time out; sent calls have an unknown outcome.
    let outputs = rig.advance(10_000);
    assert_eq!(outcome(&outputs, calls[0]), Err(CallError::OutcomeUnknown));
    assert_eq!(outcome(&outputs, calls[39]), Err(CallError::Timeout));
}

#[test]
fn the_queue_is_bounded_but_leave_waits_for_nobody() {
    let mut config = SessionConfig::new("ws://server/v1/signal");
    config.max_queued = 2;
    let mut rig = Rig::joined_with(config, snapshot(Role::Broadcaster, 10, vec![]));
    for n in 0..34 {
        rig.call(message(&n.to_string()));
    }
    rig.drain();
    let call = rig.call(message("too much"));
    let error = outcome(&rig.drain(), call).unwrap_err();
    assert_eq!(error.name(), ErrorName::TooManyInFlight);
    rig.call(Command::Leave(Empty {}));
    let sent = requests(&rig.drain());
    assert!(matches!(&sent[..], [Request { call: Call::Leave(_), .. }]), "{sent:?}");
}

/// Proves IDS-1, IDS-4.
#[test]
fn ids_grow_and_ack_follows_the_answers() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let (_, a) = rig.send(message("a"));
    let (_, b) = rig.send(message("b"));
    assert_eq!((a.id, a.ack), (RequestId(2), Some(RequestId(1))));
    assert_eq!((b.id, b.ack), (RequestId(3), Some(RequestId(1))));
    rig.frame(&result(&b, &MessageSent { seq: 10, delivered: 0 }));
    let (_, c) = rig.send(message("c"));
    assert_eq!(c.ack, Some(RequestId(1)), "a is not answered");
    rig.frame(&result(&a, &MessageSent { seq: 10, delivered: 0 }));
    let (_, d) = rig.send(message("d"));
    assert_eq!(d.ack, Some(RequestId(3)));
}

/// Proves RES-1.
#[test]
fn apps_cannot_send_session_requests() {
    let ping = Command::Ping(Ping { k: None, n: None });
    let (ticket, attempt, epoch, seq) = ("t".to_owned(), 1, EPOCH, 10);
    let reconnect = Command::Reconnect(Reconnect { ticket, attempt, epoch, seq, n: 0, want: None });
    let mut rig = Rig::joined(Role::Broadcaster);
    for command in [ping, reconnect] {
        let call = rig.call(command);
        let outputs = rig.drain();
        let error = CallError::Refused(RpcError::bare(ErrorName::MethodNotFound));
        assert_eq!(outcome(&outputs, call), Err(error));
        assert!(requests(&outputs).is_empty());
    }
}

/// Proves CLO-1.
#[test]
fn an_end_settles_every_call() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let calls: Vec<CallId> = (0..40).map(|n| rig.call(message(&n.to_string()))).collect();
    rig.drain();
    rig.closed(4500, "");
    let outputs = rig.drain();
    for (n, call) in calls.into_iter().enumerate() {
        match outcome(&outputs, call) {
            Err(CallError::OutcomeUnknown) => assert!(n < 32),
            Err(CallError::Closed { code: 4500, .. }) => assert!(n >= 32),
            other => panic!("{other:?}"),
        }
    }
    let words = told(&outputs);
    assert_eq!(words[..2], ["connectionStateChange", "disconnected"]);
    assert_eq!(rig.session.next_deadline(), None);
}

/// Proves LIM-1.
#[test]
fn requests_that_would_end_the_connection_are_not_sent() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let call = rig.call(message(&"x".repeat(70_000)));
    let error = outcome(&rig.drain(), call).unwrap_err();
    assert_eq!(error.name(), ErrorName::FrameTooLarge);

    let nested = |depth| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        Command::Report(Report {
            dir: ReportDir::Push,
            kind: ReportType::NetStatus,
            data: format!("{{\"info\":{open}1{close}}}").parse().unwrap(),
            uid: None,
        })
    };
    rig.send(nested(29));
    let call = rig.call(nested(30));
    let error = outcome(&rig.drain(), call).unwrap_err();
    assert_eq!(error.name(), ErrorName::TooDeep);
}

/// Proves SES-7.
#[test]
fn an_answer_in_a_frame_that_waits_to_be_polled_is_in_time() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let (call, request) = rig.send(publish());
    rig.now += 10_000;
    rig.frame(&array(&[batch(11, &[my_audio(MY_MID)]), result(&request, &published(11))]));
    assert!(outcome(&rig.drain(), call).is_ok());
}

/// Proves ORD-4.
#[test]
fn close_channel_is_answered_after_its_event() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let close = CloseChannel { hold_s: 10, reason: None };
    let (_, request) = rig.send(Command::CloseChannel(close));
    let event = ChannelEvent::LiveRoomClose(LiveRoomClose {
        cid: Cid(3),
        reason: RoomCloseReason::Closed,
        text: None,
    });
    rig.frame(&array(&[batch(11, &[event]), done(&request, 11)]));
    assert_eq!(told(&rig.drain()), ["liveRoomClose", "2:Done"]);
}

/// Proves ERR-1.
#[test]
fn the_operation_errors_are_chosen_by_name() {
    use lianmai_client_sdk::{PublishError, SubscribeError};
    let refused = |name: ErrorName| CallError::Refused(RpcError::bare(name));
    assert!(matches!(
        PublishError::from(refused(ErrorName::NotBroadcaster)),
        PublishError::NotBroadcaster(_)
    ));
    // Five errors share the number 434, so the conversion must not use it.
    assert!(matches!(
        SubscribeError::from(refused(ErrorName::NotPublished)),
        SubscribeError::NotPublished(_)
    ));
    let other = SubscribeError::from(refused(ErrorName::Draining));
    assert!(matches!(&other, SubscribeError::Refused(_)));
    assert_eq!(other.rpc().unwrap().name(), &ErrorName::Draining);
    assert!(matches!(PublishError::from(refused(ErrorName::NotJoined)), PublishError::NotJoined));
}

/// A server that sends frames without a pause does not delay the deadline of a call.
/// Proves SES-7.
#[test]
fn frames_without_end_do_not_hold_a_deadline_back() {
    let mut rig = Rig::joined(Role::Broadcaster);
    let (call, _) = rig.send(message("never answered"));
    let mut settled = None;
    for seq in 11..=22 {
        rig.now += 1_000;
        let said = ChannelEvent::Message(ChannelMessage { uid: UserId(2), data: seq.to_string() });
        rig.events(seq, &[said]);
        let outputs = rig.drain();
        if outputs
            .iter()
            .any(|output| matches!(output, Output::Settled { call: c, .. } if *c == call))
        {
            settled.get_or_insert((seq, outcome(&outputs, call)));
        }
    }
    assert_eq!(settled, Some((20, Err(CallError::OutcomeUnknown))));
}

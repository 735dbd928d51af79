//! Every encoded message decodes to the same value.
//! Proves no rule of the protocol: that every message survives the codec.

use lianmai_protocol::codec::{
    Element, ServerMessage, decode_client_frame, decode_server_frame, encode_error, encode_event,
    encode_notice, encode_request, encode_result, join_batch,
};
use lianmai_protocol::message::call::reencode_result;
use lianmai_protocol::message::session::{Done, Joined, MessageSent, Pong, Resumed, TokenRenewed};
use lianmai_protocol::message::{ChannelEvent, Notice};
use lianmai_protocol::{Epoch, RequestId};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support;

/// Encodes a result as an answer, decodes the frame, and returns the raw result.
fn result_of<T: serde::Serialize>(result: &T) -> String {
    match support::server_one(&encode_result(RequestId(7), result)) {
        ServerMessage::Answer { id: Some(RequestId(7)), outcome: Ok(raw) } => raw.get().to_owned(),
        other => panic!("not an answer: {other:?}"),
    }
}

proptest! {
    /// Proves FRM-2.
    #[test]
    fn requests(request in support::request()) {
        let frame = encode_request(&request);
        prop_assert_eq!(support::client_one(&frame), Element::Request(request));
    }

    /// Proves FRM-1.
    #[test]
    fn client_batches(requests in vec(support::request(), 1..=32)) {
        let frames: Vec<String> = requests.iter().map(encode_request).collect();
        let frame = join_batch(&frames);
        prop_assume!(frame.len() <= lianmai_protocol::limits::MAX_CLIENT_FRAME_BYTES);
        let wanted: Vec<Element> = requests.into_iter().map(Element::Request).collect();
        prop_assert_eq!(decode_client_frame(&frame).unwrap(), wanted);
    }

    /// Proves EVT-1.
    #[test]
    fn events(position in support::position(), event in support::event()) {
        match support::server_one(&encode_event(position, &event)) {
            ServerMessage::Event(at, same) => {
                prop_assert_eq!(at, position);
                prop_assert_eq!(same, event);
            }
            other => prop_assert!(false, "not an event: {other:?}"),
        }
    }

    /// Proves EVT-1.
    #[test]
    fn notices(notice in support::notice()) {
        match support::server_one(&encode_notice(&notice)) {
            ServerMessage::Notice(same) => prop_assert_eq!(same, notice),
            other => prop_assert!(false, "not a notice: {other:?}"),
        }
    }

    #[test]
    fn errors(id in proptest::option::of(1u64..(1 << 53)), error in support::error()) {
        let id = id.map(RequestId);
        match support::server_one(&encode_error(id, &error)) {
            ServerMessage::Answer { id: to, outcome: Err(same) } => {
                prop_assert_eq!(to, id);
                prop_assert_eq!(same, error);
            }
            other => prop_assert!(false, "not an error: {other:?}"),
        }
    }

    /// Proves FRM-1, FRM-5.
    #[test]
    fn server_batches(
        notices in vec(support::notice(), 0..5),
        events in vec((support::position(), support::event()), 0..5),
    ) {
        let mut frames: Vec<String> = notices.iter().map(encode_notice).collect();
        frames.extend(events.iter().map(|(position, event)| encode_event(*position, event)));
        let messages = decode_server_frame(&join_batch(&frames)).unwrap();
        prop_assert_eq!(messages.len(), notices.len() + events.len());
        let again: Vec<String> = messages.iter().map(support::encode_server).collect();
        prop_assert_eq!(again, frames);
    }

    #[test]
    fn join_results(joined in support::joined()) {
        let raw = result_of(&joined);
        prop_assert_eq!(&serde_json::from_str::<Joined>(&raw).unwrap(), &joined);
        prop_assert_eq!(reencode_result("join", &raw).unwrap(), raw);
        let resumed = Resumed {
            outcome: lianmai_protocol::message::session::Outcome::Snapshot,
            reason: Some(lianmai_protocol::message::session::ResumeReason::Ahead),
            action: None,
            ticket: joined.ticket.clone(),
            k: Some(joined.seq),
            replayed: 0,
            messages: 3,
            messages_lost: 1,
            restore: true,
            snapshot: Some(Box::new(joined)),
        };
        prop_assert_eq!(&serde_json::from_str::<Resumed>(&result_of(&resumed)).unwrap(), &resumed);
    }

    #[test]
    fn media_results(published in support::published(), subscribed in support::subscribed()) {
        prop_assert_eq!(&serde_json::from_str::<lianmai_protocol::message::media::Published>(
            &result_of(&published)).unwrap(), &published);
        prop_assert_eq!(&serde_json::from_str::<lianmai_protocol::message::media::Subscribed>(
            &result_of(&subscribed)).unwrap(), &subscribed);
    }

    #[test]
    fn small_results(
        seq in 0u64..(1 << 53),
        other in proptest::option::of(any::<u32>()),
        rights in support::rights(),
    ) {
        let done = Done { seq };
        prop_assert_eq!(serde_json::from_str::<Done>(&result_of(&done)).unwrap(), done);
        let sent = MessageSent { seq, delivered: other.unwrap_or(0).into() };
        prop_assert_eq!(&serde_json::from_str::<MessageSent>(&result_of(&sent)).unwrap(), &sent);
        let renewed = TokenRenewed { seq, rights, token_expires_in_ms: other.map(u64::from) };
        prop_assert_eq!(
            &serde_json::from_str::<TokenRenewed>(&result_of(&renewed)).unwrap(), &renewed);
        let pong = Pong { epoch: Epoch([3; 12]), seq };
        prop_assert_eq!(&serde_json::from_str::<Pong>(&result_of(&pong)).unwrap(), &pong);
    }
}

/// A message of a newer server is passed on, with its position if it is an event.
/// Proves EVT-1, FWD-2.
#[test]
fn fwd_2_unknown_notifications_are_kept() {
    let frame = r#"[{"jsonrpc":"2.0","method":"handRaised","params":
        {"epoch":"ujzdegxdncf32epf3dha","seq":9,"uid":"7"}},
        {"jsonrpc":"2.0","method":"weather","params":{"sunny":true}}]"#;
    let messages = decode_server_frame(frame.as_bytes()).unwrap();
    let [ServerMessage::Event(position, event), ServerMessage::Notice(notice)] = &messages[..]
    else {
        panic!("an event and a notice: {messages:?}");
    };
    assert_eq!(position.seq, 9);
    let ChannelEvent::Unknown { method, params } = event else { panic!("{event:?}") };
    assert_eq!(method, "handRaised");
    assert!(params.contains(r#""uid":"7""#));
    let Notice::Unknown { method, params } = notice else { panic!("{notice:?}") };
    assert_eq!((method.as_str(), params.as_str()), ("weather", r#"{"sunny":true}"#));
}

/// Unknown members are ignored everywhere.
/// Proves FWD-1.
#[test]
fn fwd_1_unknown_members_are_ignored() {
    let request = r#"{"jsonrpc":"2.0","id":1,"trace":[1],"method":"join","params":
        {"appkey":"demo","channelName":"room1","uid":"7","colour":{"r":1}}}"#;
    assert!(matches!(support::client_one(request), Element::Request(_)));
    let answer = r#"{"jsonrpc":"2.0","id":1,"took":3,"error":{"code":20099,"message":"m","more":1,
        "data":{"name":"tooPurple","retryable":true,"shade":2}}}"#;
    let ServerMessage::Answer { outcome: Err(error), .. } = support::server_one(answer) else {
        panic!("an error answer");
    };
    assert_eq!(
        (error.code, error.name().as_str(), error.data.retryable),
        (20099, "tooPurple", true)
    );
    let event = r#"{"jsonrpc":"2.0","method":"message","params":
        {"epoch":"ujzdegxdncf32epf3dha","seq":9,"uid":"7","data":"x","lang":"zh"}}"#;
    assert!(matches!(
        support::server_one(event),
        ServerMessage::Event(_, ChannelEvent::Message(_))
    ));
}

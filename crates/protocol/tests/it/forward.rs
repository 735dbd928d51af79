//! What clients and servers of other versions rely on: names that stay, the shape of every message, texts without
//! secrets.

use std::collections::BTreeSet;

use lianmai_protocol::codec::{Element, encode_event, encode_notice, encode_result};
use lianmai_protocol::message::session::{Done, Empty, MessageSent, Pong, TokenRenewed};
use lianmai_protocol::message::{Call, ChannelEvent, Notice};
use lianmai_protocol::{CloseCode, Epoch, ErrorName, RequestId, Rights};
use proptest::prelude::*;
use serde_json::Value;

use crate::support;

/// The names of the first version. A line may be added here, never removed or changed.
const METHODS: &str = "join leave publish unpublish subscribe unsubscribe setRole mute unmute kick closeChannel \
    sendMessage setAttributes renewToken report ping addTasks updateTasks deleteTasks reconnect";
const EVENTS: &str = "clientJoin clientLeave clientUpdate channelUpdate roleChanged streamAdded streamRemoved \
    muted unmuted message rtmpTasksStatus liveRoomClose";
const NOTICES: &str =
    "kicked syncDone tokenWillExpire serverRestarting memberCount networkQuality message closing";
const ERRORS: &str = "\
    parseError:-32700 invalidRequest:-32600 methodNotFound:-32601 invalidParams:-32602 internalError:-32603 \
    tokenMissing:403 timeout:408 badUid:414 uidOutOfRange:414 badChannelName:414 badMediaType:414 badRole:414 \
    badAttributes:414 badName:414 badReason:414 badDuration:414 tokenInvalid:414 tokenExpired:414 \
    tokenNotYetValid:414 tokenUnexpected:414 tokenRevoked:414 uidMismatch:414 channelMismatch:414 badAppkey:417 \
    urlUnavailable:420 alreadyJoined:434 notJoined:434 notBroadcaster:434 noSuchMember:434 notPublished:434 \
    selfTarget:434 taskOverridden:1301 badTask:1400 taskChannelGone:1401 taskLimitExceeded:1402 \
    duplicateTask:1403 noSuchTask:1404 taskFailed:1417 taskInternal:1500 badLayout:1501 badImage:1502 \
    publishForbidden:1620 subscribeForbidden:2803 tooManyBroadcasters:4001 channelFull:4003 forbidden:20001 \
    rateLimited:20002 tooManyInFlight:20003 idReuse:20004 idTooOld:20005 draining:20006 banned:20007 \
    channelClosed:20008 duplicateLogin:20009 frameTooLarge:20010 tooDeep:20011 badBatch:20012 \
    messageTooLarge:20013 attributesTooLarge:20014 superseded:20015 tooManySubscriptions:20016 \
    tooManyChannels:20017 tooManyRecipients:20018 kicked:20019 replaced:20020 replacedTooOften:20021 \
    outcomeUnknown:20022 notConnected:20023 notStored:20024 tooManyBans:20025 streamUrlBusy:20026";
const CLOSES: &str = "left:1000 goingAway:4000 slowReader:4001 idle:4002 serverRestart:4003 takenOver:4004 gap:4005 \
    kicked:4500 channelClosed:4501 replaced:4502 joinRefused:4503 protocolViolation:4504 joinTimeout:4505 \
    rateLimited:4506 tokenExpired:4507";

/// Proves FWD-5.
#[test]
fn fwd_5_no_name_and_no_number_goes_away() {
    let numbered = |name: &str, code: i64| format!("{name}:{code}");
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let errors = ErrorName::ALL.iter().map(|name| numbered(name.as_str(), name.code().into()));
    let closes = CloseCode::TABLE.iter().map(|row| numbered(row.name, row.code.0.into()));
    let now: [(&str, BTreeSet<String>); 5] = [
        (METHODS, names(Call::METHODS)),
        (EVENTS, names(ChannelEvent::METHODS)),
        (NOTICES, names(Notice::METHODS)),
        (ERRORS, errors.collect()),
        (CLOSES, closes.collect()),
    ];
    for (then, now) in now {
        let gone: Vec<&str> = then.split(' ').filter(|name| !now.contains(*name)).collect();
        assert!(gone.is_empty(), "{gone:?}");
    }
}

/// A message as JSON.
fn json(frame: &str) -> Value {
    serde_json::from_str(frame).unwrap()
}

proptest! {
    /// Proves FWD-4.
    #[test]
    fn fwd_4_notifications_have_params(
        position in support::position(),
        event in support::event(),
        notice in support::notice(),
    ) {
        for frame in [encode_event(position, &event), encode_notice(&notice)] {
            prop_assert!(json(&frame)["params"].is_object(), "{frame}");
        }
    }

    /// Proves FWD-4.
    #[test]
    fn fwd_4_results_are_objects(
        joined in support::joined(),
        published in support::published(),
        subscribed in support::subscribed(),
    ) {
        let id = RequestId(1);
        let renewed = TokenRenewed { seq: 1, rights: Rights::MEMBER, token_expires_in_ms: None };
        for frame in [
            encode_result(id, &joined),
            encode_result(id, &published),
            encode_result(id, &subscribed),
            encode_result(id, &renewed),
            encode_result(id, &Done { seq: 1 }),
            encode_result(id, &Empty {}),
            encode_result(id, &MessageSent { seq: 1, delivered: 0 }),
            encode_result(id, &Pong { epoch: Epoch([1; 12]), seq: 1 }),
        ] {
            prop_assert!(json(&frame)["result"].is_object(), "{frame}");
        }
    }
}

/// Proves CLS-2, KIC-2, MUT-1, PUB-1.
#[test]
fn absent_fields_have_the_documented_defaults() {
    let decoded = |method: &str, params: &str| {
        let frame = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let Element::Request(request) = support::client_one(&frame) else { panic!("{frame}") };
        request.call
    };
    for (method, short, long) in [
        ("kick", r#"{"uid":"7"}"#, r#"{"uid":"7","durationS":0}"#),
        ("closeChannel", "{}", r#"{"holdS":10}"#),
        ("publish", "{}", r#"{"mediaType":""}"#),
        ("unpublish", "{}", r#"{"mediaType":""}"#),
        ("mute", "{}", r#"{"mediaType":""}"#),
        ("unmute", "{}", r#"{"mediaType":""}"#),
    ] {
        assert_eq!(decoded(method, short), decoded(method, long), "{method}");
    }
}

/// Parameters that hold secrets are wrong in several ways; the message of the error never repeats them.
///
/// Proves ERR-4.
#[test]
fn err_4_an_error_message_contains_nothing_of_the_request() {
    const SECRET: &str = "S3CRET";
    let wrong = [r#""S3CRET""#, r#"["S3CRET"]"#, r#"{"S3CRET":"S3CRET"}"#];
    let mut count = 0;
    for (method, params) in [
        ("join", r#"{"appkey":"demo","channelName":"r","token":$}"#),
        ("join", r#"{"appkey":"demo","channelName":"r","joinId":$}"#),
        ("join", r#"{"appkey":"demo","channelName":"r","continues":$}"#),
        ("join", r#"{"appkey":"demo","channelName":"r","uid":$}"#),
        ("join", r#"{"appkey":"demo","channelName":"r","token":"S3CRET","role":$}"#),
        ("renewToken", r#"{"token":$}"#),
        ("renewToken", r#"{"token":"S3CRET","token":$}"#),
        ("reconnect", r#"{"ticket":$,"attempt":1,"epoch":"ujzdegxdncf32epf3dha","seq":1}"#),
        ("reconnect", r#"{"ticket":"S3CRET","attempt":$,"epoch":"ujzdegxdncf32epf3dha","seq":1}"#),
        ("reconnect", r#"{"ticket":"S3CRET","attempt":1,"epoch":$,"seq":1}"#),
        ("addTasks", r#"{"rtmpTasks":[{"taskId":"a","streamUrl":$,"layout":{}}]}"#),
        ("addTasks", r#"{"rtmpTasks":[{"taskId":$,"streamUrl":"S3CRET","layout":{}}]}"#),
        ("sendMessage", r#"{"data":$,"to":["S3CRET"]}"#),
        ("S3CRET", r#"{"token":$}"#),
        ("join", "$"),
    ] {
        for wrong in wrong {
            let params = params.replace('$', wrong);
            let frame =
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
            let Element::Refused { error, .. } = support::client_one(&frame) else { continue };
            assert!(!error.message.contains(SECRET), "{frame}: {}", error.message);
            count += 1;
        }
    }
    assert!(count >= 30, "only {count} were refused");
}

/// Proves CLO-1.
#[test]
fn clo_1_the_table_decides_known_codes_and_the_range_unknown_ones() {
    let terminal = |code: u16| CloseCode(code).is_terminal();
    for row in CloseCode::TABLE {
        let back = matches!(row.action.as_str(), "reconnect" | "rejoin");
        assert_eq!(terminal(row.code.0), !back, "{}", row.name);
    }
    assert!(terminal(4004) && !terminal(4505), "each against its range");
    assert!(!terminal(4400) && terminal(4900) && !terminal(1006) && !terminal(3000));
}

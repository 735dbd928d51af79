//! Hostile input: every byte sequence gives a value or an error and never a panic, and each mistake gives its own
//! error.
//! Proves no rule of the protocol: that no bytes make the codec panic.

use lianmai_protocol::codec::{
    Element, FrameError, decode_client_frame, decode_server_frame, encode_event, encode_notice,
    encode_request, join_batch,
};
use lianmai_protocol::limits::{MAX_CLIENT_FRAME_BYTES, MAX_PATCH_KEYS, MAX_SERVER_FRAME_BYTES};
use lianmai_protocol::message::{Call, session};
use lianmai_protocol::{Attributes, ErrorName, RequestId, RpcError};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support;

fn decode_both(frame: &[u8]) {
    let _ = decode_client_frame(frame);
    let _ = decode_server_frame(frame);
}

/// One edit of a frame.
#[derive(Clone, Debug)]
enum Edit {
    Set(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Copy(usize, usize),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let token = prop_oneof![
        proptest::sample::select(
            &[
                "{",
                "}",
                "[",
                "]",
                "\"",
                ":",
                ",",
                "null",
                "true",
                "-1",
                "1e999",
                "0.5",
                "\\u0000",
                "\\ud800",
                "\\",
                "{}",
                "[]",
                "\"id\":1,",
                "\"params\":[],",
                " "
            ][..]
        )
        .prop_map(|text| text.as_bytes().to_vec()),
        vec(any::<u8>(), 1..4),
    ];
    let at = any::<u16>().prop_map(usize::from);
    let edit = prop_oneof![
        (at.clone(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (at.clone(), token).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (at.clone(), 1usize..20).prop_map(|(at, len)| Edit::Remove(at, len)),
        (at, 1usize..60).prop_map(|(at, len)| Edit::Copy(at, len)),
    ];
    vec(edit, 0..6)
}

fn apply(frame: &mut Vec<u8>, edits: Vec<Edit>) {
    for edit in edits {
        let size = frame.len().max(1);
        match edit {
            Edit::Set(at, byte) => {
                if let Some(slot) = frame.get_mut(at % size) {
                    *slot = byte;
                }
            }
            Edit::Insert(at, bytes) => {
                let at = (at % size).min(frame.len());
                frame.splice(at..at, bytes);
            }
            Edit::Remove(at, len) => {
                let at = (at % size).min(frame.len());
                frame.drain(at..(at + len).min(frame.len()));
            }
            Edit::Copy(at, len) => {
                let at = (at % size).min(frame.len());
                let part = frame[at..(at + len).min(frame.len())].to_vec();
                frame.extend(part);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes(frame in vec(any::<u8>(), 0..300)) {
        decode_both(&frame);
    }

    #[test]
    fn random_json_like_text(frame in r#"[\[\]{}":,0-9a-z\\ .eE+-]{0,200}"#) {
        decode_both(frame.as_bytes());
    }

    #[test]
    fn mutated_requests(request in support::request(), edits in edits()) {
        let mut frame = encode_request(&request).into_bytes();
        apply(&mut frame, edits);
        decode_both(&frame);
    }

    #[test]
    fn mutated_server_frames(
        position in support::position(),
        event in support::event(),
        notice in support::notice(),
        edits in edits(),
    ) {
        let mut frame = join_batch(&[encode_event(position, &event), encode_notice(&notice)]);
        apply(&mut frame, edits);
        decode_both(&frame);
    }

    #[test]
    fn any_params_for_any_method(
        method in proptest::sample::select(Call::METHODS),
        params in r#"[\[{]"[a-zA-Z]{1,11}":("[^"\\]{0,9}"|-?[0-9]{1,20}|null|\{\}|\[\])[}\]]"#,
    ) {
        let frame = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        decode_both(frame.as_bytes());
    }
}

#[test]
fn deep_nesting_does_not_overflow() {
    for open in ["[", "{\"a\":", "[{\"a\":["] {
        for count in [31, 32, 33, 128, 5_000, 60_000 / open.len()] {
            let mut frame = open.repeat(count);
            decode_both(frame.as_bytes());
            frame.push('1');
            for letter in open.repeat(count).chars().rev() {
                match letter {
                    '[' => frame.push(']'),
                    '{' => frame.push('}'),
                    _ => {}
                }
            }
            decode_both(frame.as_bytes());
        }
    }
}

/// Proves FRM-6.
#[test]
fn long_arrays_are_handled() {
    for element in ["1", "[]", "{}", "\"\"", "{\"id\":1}"] {
        let count = 60_000 / (element.len() + 1);
        let frame = format!("[{}]", vec![element; count].join(","));
        assert_eq!(refusal_of_frame(&frame), ErrorName::BadBatch);
        let _ = decode_server_frame(frame.as_bytes());
    }
}

fn refusal_of_frame(frame: &str) -> ErrorName {
    match decode_client_frame(frame.as_bytes()) {
        Err(FrameError(name)) => name,
        Ok(elements) => panic!("accepted: {frame:.200} as {elements:?}"),
    }
}

/// Id, error and field of a frame with one element that is refused.
fn refusal(frame: &str) -> (Option<u64>, ErrorName, Option<String>) {
    match support::client_one(frame) {
        Element::Refused { id, error } => {
            assert_eq!(error.code, error.name().code());
            assert_eq!(error.data.retryable, error.name().is_retryable());
            (id.map(|RequestId(id)| id), error.data.name.clone(), error.data.field.clone())
        }
        Element::Request(request) => panic!("accepted: {frame} as {request:?}"),
    }
}

fn call(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":9,"method":"{method}","params":{params}}}"#)
}

/// Proves FRM-7.
#[test]
fn frm_7_frames_that_are_not_json() {
    for frame in [
        "",
        " ",
        "x",
        "{",
        "}",
        "[",
        "[1",
        "[1,]",
        "{\"a\":1,}",
        "{\"a\" 1}",
        "{'a':1}",
        "{\"a\":01}",
        "{\"a\":+1}",
        "{\"a\":.5}",
        "{\"a\":NaN}",
        "{}{}",
        "{} x",
        "[]]",
        "\"abc",
        "\"\\x\"",
        "nul",
        "\u{feff}{}",
        "{\"a\":\"\n\"}",
        "// no\n{}",
    ] {
        assert_eq!(refusal_of_frame(frame), ErrorName::ParseError, "{frame:?}");
    }
    for bytes in [&b"\xff"[..], b"{\"a\":\"\xc3\x28\"}", b"\"\xed\xa0\x80\"", b"{}\x00"] {
        assert_eq!(decode_client_frame(bytes), Err(FrameError(ErrorName::ParseError)));
    }
}

/// 32 levels are accepted, 33 are not; brackets inside strings do not count.
/// Proves FRM-7.
#[test]
fn frm_7_depth() {
    let report = |levels: usize| {
        let data = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        call("report", &format!(r#"{{"dir":"pull","type":"binderror","data":{{"a":{data}}}}}"#))
    };
    // The envelope, its params and the data are three levels.
    assert!(matches!(support::client_one(&report(29)), Element::Request(_)));
    assert_eq!(refusal_of_frame(&report(30)), ErrorName::TooDeep);
    let text = "[{".repeat(100);
    let frame = call("sendMessage", &format!(r#"{{"data":"\"{text}\\"}}"#));
    assert!(matches!(support::client_one(&frame), Element::Request(_)));
}

/// 64 KiB are accepted, one byte more is not.
/// Proves LIM-1.
#[test]
fn frm_7_frame_size() {
    let empty = call("sendMessage", r#"{"data":""}"#).len();
    let frame = |bytes: usize| {
        call("sendMessage", &format!(r#"{{"data":"{}"}}"#, "x".repeat(bytes - empty)))
    };
    let longest = frame(MAX_CLIENT_FRAME_BYTES);
    assert_eq!(longest.len(), 65_536);
    assert!(matches!(support::client_one(&longest), Element::Request(_)));
    assert_eq!(refusal_of_frame(&frame(MAX_CLIENT_FRAME_BYTES + 1)), ErrorName::FrameTooLarge);

    let notice =
        |bytes: usize| format!(r#"{{"method":"x","params":{{"a":"{}"}}}}"#, "x".repeat(bytes));
    let empty = notice(0).len();
    assert!(decode_server_frame(notice(MAX_SERVER_FRAME_BYTES - empty).as_bytes()).is_ok());
    assert_eq!(
        decode_server_frame(notice(MAX_SERVER_FRAME_BYTES - empty + 1).as_bytes()).unwrap_err(),
        FrameError(ErrorName::FrameTooLarge)
    );
}

/// Proves FRM-4, FRM-6.
#[test]
fn frm_6_arrays() {
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let array = |count: usize| format!("[{}]", vec![ping; count].join(", "));
    assert_eq!(refusal_of_frame("[]"), ErrorName::BadBatch);
    assert_eq!(refusal_of_frame(" [ ] "), ErrorName::BadBatch);
    assert_eq!(decode_client_frame(array(32).as_bytes()).unwrap().len(), 32);
    assert_eq!(refusal_of_frame(&array(33)), ErrorName::BadBatch);
    let frame = format!(r#"[{ping}, [{ping}], [], 5, null, "x", {ping}]"#);
    let names: Vec<Option<ErrorName>> = decode_client_frame(frame.as_bytes())
        .unwrap()
        .into_iter()
        .map(|element| match element {
            Element::Request(_) => None,
            Element::Refused { id, error } => {
                assert_eq!(id, None);
                Some(error.name().clone())
            }
        })
        .collect();
    let (batch, invalid) = (Some(ErrorName::BadBatch), Some(ErrorName::InvalidRequest));
    assert_eq!(
        names,
        [None, batch.clone(), batch, invalid.clone(), invalid.clone(), invalid, None]
    );
}

/// Proves FRM-2, FRM-3.
#[test]
fn frm_2_envelopes() {
    for (frame, id) in [
        (r#"5"#, None),
        (r#""ping""#, None),
        (r#"null"#, None),
        (r#"{}"#, None),
        (r#"{"jsonrpc":"2.0","method":"ping"}"#, None),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, None),
        (r#"{"jsonrpc":"2.0","id":0,"method":"ping"}"#, None),
        (r#"{"jsonrpc":"2.0","id":-1,"method":"ping"}"#, None),
        (r#"{"jsonrpc":"2.0","id":1.0,"method":"ping"}"#, None),
        (r#"{"jsonrpc":"2.0","id":1e2,"method":"ping"}"#, None),
        (r#"{"jsonrpc":"2.0","id":"1","method":"ping"}"#, None),
        (r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#, None),
        (r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, None),
        (r#"{"jsonrpc":"2.0","id":9007199254740992,"method":"ping"}"#, None),
        (r#"{"jsonrpc":"2.0","id":18446744073709551616,"method":"ping"}"#, None),
        (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, None),
        (r#"{"jsonrpc":"2.0","id":3,"method":"ping","method":"leave"}"#, None),
        (r#"{"id":3,"method":"ping"}"#, Some(3)),
        (r#"{"jsonrpc":"1.0","id":3,"method":"ping"}"#, Some(3)),
        (r#"{"jsonrpc":2.0,"id":3,"method":"ping"}"#, Some(3)),
        (r#"{"jsonrpc":null,"id":3,"method":"ping"}"#, Some(3)),
        (r#"{"jsonrpc":"2.0","id":3}"#, Some(3)),
        (r#"{"jsonrpc":"2.0","id":3,"method":7}"#, Some(3)),
        (r#"{"jsonrpc":"2.0","id":3,"ack":0,"method":"ping"}"#, Some(3)),
        (r#"{"jsonrpc":"2.0","id":3,"ack":"2","method":"ping"}"#, Some(3)),
        (r#"{"jsonrpc":"2.0","id":3,"result":{}}"#, Some(3)),
    ] {
        assert_eq!(refusal(frame), (id, ErrorName::InvalidRequest, None), "{frame}");
    }
    let largest =
        r#" { "method" : "p\u0069ng" , "id" : 9007199254740991 , "jsonrpc" : "2\u002e0" } "#;
    let Element::Request(request) = support::client_one(largest) else { panic!("refused") };
    assert_eq!(request.id, RequestId((1 << 53) - 1));
    assert_eq!(request.call, Call::Ping(session::Ping::default()));
}

/// Members that may be absent or null.
/// Proves FRM-2, FRM-3, FRM-8.
#[test]
fn frm_3_absent_and_null_parameters_are_none() {
    for rest in ["", r#","params":null"#, r#","params":{}"#, r#","ack":null"#, r#","ack":3"#] {
        let frame = format!(r#"{{"jsonrpc":"2.0","id":4,"method":"ping"{rest}}}"#);
        let Element::Request(request) = support::client_one(&frame) else { panic!("{frame}") };
        assert_eq!(request.call, Call::Ping(session::Ping::default()), "{frame}");
        assert_eq!(request.ack.is_some(), rest.ends_with('3'));
    }
    for uid in ["", r#","uid":null"#] {
        let frame = call("join", &format!(r#"{{"appkey":"demo","channelName":"r"{uid}}}"#));
        let Element::Request(request) = support::client_one(&frame) else { panic!("{frame}") };
        assert!(matches!(request.call, Call::Join(join) if join.uid.is_none()));
    }
}

/// Proves FWD-2.
#[test]
fn fwd_2_unknown_methods() {
    for method in ["", "Join", "join ", "fly", "clientJoin", "rpc.discover", "加入"] {
        assert_eq!(refusal(&call(method, "{}")), (Some(9), ErrorName::MethodNotFound, None));
        assert_eq!(refusal(&call(method, "[1]")), (Some(9), ErrorName::MethodNotFound, None));
    }
}

/// Proves ERR-3, FRM-3.
#[test]
fn err_3_wrong_parameters_are_named() {
    let join =
        |rest: &str| call("join", &format!(r#"{{"appkey":"demo","channelName":"r"{rest}}}"#));
    for (frame, field) in [
        (call("join", r#"{"channelName":"r"}"#), Some("appkey")),
        (call("join", r#"{"appkey":"demo"}"#), Some("channelName")),
        (call("join", r#"{"appkey":5,"channelName":"r"}"#), Some("appkey")),
        (call("join", r#"{"appkey":"demo","channelName":["r"]}"#), Some("channelName")),
        (join(r#","uid":{}"#), Some("uid")),
        (join(r#","uid":["7"]"#), Some("uid")),
        (join(r#","token":1"#), Some("token")),
        (join(r#","role":true"#), Some("role")),
        (join(r#","name":{"a":1}"#), Some("name")),
        (join(r#","attributes":null"#), Some("attributes")),
        (join(r#","attributes":["a"]"#), Some("attributes")),
        (join(r#","attributes":{"seat":3}"#), Some("attributes.seat")),
        (call("publish", r#"{"mediaType":7}"#), Some("mediaType")),
        (call("publish", r#"{"mediaType":null}"#), Some("mediaType")),
        (call("subscribe", r#"{"mediaType":"audio"}"#), Some("uid")),
        (call("subscribe", r#"{"uid":null,"mediaType":"audio"}"#), Some("uid")),
        (call("subscribe", r#"{"uid":"7"}"#), Some("mediaType")),
        (call("setRole", "{}"), Some("role")),
        (call("kick", r#"{"uid":"7","durationS":-1}"#), Some("durationS")),
        (call("kick", r#"{"uid":"7","durationS":1.5}"#), Some("durationS")),
        (call("kick", r#"{"uid":"7","durationS":18446744073709551616}"#), Some("durationS")),
        (call("kick", r#"{"uid":"7","durationS":"60"}"#), Some("durationS")),
        (call("closeChannel", r#"{"holdS":null}"#), Some("holdS")),
        (call("sendMessage", r#"{"data":{}}"#), Some("data")),
        (call("sendMessage", r#"{"data":"x","to":"7"}"#), Some("to")),
        (call("sendMessage", r#"{"data":"x","to":["7",null]}"#), Some("to[1]")),
        (call("setAttributes", r#"{"attributes":{"a":1}}"#), Some("attributes.a")),
        (call("report", r#"{"dir":"push","type":"binderror","data":[]}"#), Some("data")),
        (call("reconnect", r#"{"ticket":"t","attempt":1,"seq":1}"#), Some("epoch")),
        (call("reconnect", r#"{"ticket":"t","attempt":1,"seq":1,"epoch":"x"}"#), Some("epoch")),
        (
            call("addTasks", r#"{"rtmpTasks":[{"taskId":"a","streamUrl":"u","layout":{}}]}"#),
            Some("rtmpTasks[0].layout.canvas"),
        ),
        (call("join", "[]"), None),
        (call("join", r#"["demo","r",null]"#), None),
        (call("publish", r#"["audio"]"#), None),
        (call("leave", "[]"), None),
        (call("ping", "5"), None),
        (call("ping", r#""x""#), None),
    ] {
        let wanted = (Some(9), ErrorName::InvalidParams, field.map(str::to_owned));
        assert_eq!(refusal(&frame), wanted, "{frame}");
    }
}

/// The saturated number is above the limit, so the check of the limit gives its own error.
/// Proves LIM-1.
#[test]
fn lim_1_a_number_too_great_for_its_type_saturates() {
    for seconds in ["4294967295", "4294967296", "9007199254740991", "18446744073709551615"] {
        let frame = call("kick", &format!(r#"{{"uid":"7","durationS":{seconds}}}"#));
        let Element::Request(request) = support::client_one(&frame) else { panic!("{frame}") };
        let Call::Kick(kick) = request.call else { panic!("{frame}") };
        assert_eq!(kick.duration_s, u32::MAX, "{frame}");
    }
}

/// Proves ERR-3.
#[test]
fn err_3_a_field_is_never_long() {
    let frame = call("setAttributes", &format!(r#"{{"attributes":{{"{}":1}}}}"#, "鱼".repeat(500)));
    let (_, name, field) = refusal(&frame);
    assert_eq!(name, ErrorName::InvalidParams);
    assert_eq!(field.unwrap().chars().count(), 64);
}

/// The server writes the text of each error: a client cannot choose the name of the error that it gets.
/// Proves ERR-1.
#[test]
fn err_1_names_cannot_be_smuggled() {
    for frame in [
        call("kick", r#"{"uid":"7","durationS":"banned: x"}"#),
        call("join", r#"{"appkey":"demo","channelName":"r","role":{"banned: x":1}}"#),
        call("setAttributes", r#"{"attributes":{"banned: x":1}}"#),
    ] {
        assert_eq!(refusal(&frame).1, ErrorName::InvalidParams, "{frame}");
    }
}

/// Proves FRM-9.
#[test]
fn frm_9_uids() {
    use ErrorName::{BadUid, UidOutOfRange};
    for (uid, name) in [
        (r#""007""#, BadUid),
        (r#""+7""#, BadUid),
        (r#""-1""#, BadUid),
        (r#""-0""#, BadUid),
        (r#""1e3""#, BadUid),
        (r#""7.0""#, BadUid),
        (r#"" 7""#, BadUid),
        (r#""7 ""#, BadUid),
        (r#""""#, BadUid),
        (r#""seven""#, BadUid),
        (r#""\u0667""#, BadUid),
        ("7.5", BadUid),
        ("7.0", BadUid),
        ("1e3", BadUid),
        ("-1", BadUid),
        ("-0", BadUid),
        ("true", BadUid),
        ("9007199254740992", BadUid),
        ("18446744073709551615", BadUid),
        ("18446744073709551616", BadUid),
        (r#""18446744073709551616""#, UidOutOfRange),
        (r#""340282366920938463463374607431768211456""#, UidOutOfRange),
    ] {
        let join = call("join", &format!(r#"{{"appkey":"demo","channelName":"r","uid":{uid}}}"#));
        assert_eq!(refusal(&join), (Some(9), name.clone(), Some("uid".to_owned())), "{uid}");
        let kick = call("kick", &format!(r#"{{"uid":{uid}}}"#));
        assert_eq!(refusal(&kick), (Some(9), name.clone(), Some("uid".to_owned())), "{uid}");
        let message = call("sendMessage", &format!(r#"{{"data":"","to":["7",{uid}]}}"#));
        assert_eq!(refusal(&message), (Some(9), name, Some("to[1]".to_owned())), "{uid}");
    }
    for (uid, value) in [
        (r#""0""#, 0),
        (r#""7""#, 7),
        (r#""\u0037""#, 7),
        ("0", 0),
        ("7", 7),
        ("9007199254740991", (1 << 53) - 1),
        (r#""18446744073709551615""#, u64::MAX),
    ] {
        let frame = call("kick", &format!(r#"{{"uid":{uid}}}"#));
        let Element::Request(request) = support::client_one(&frame) else { panic!("{uid}") };
        let Call::Kick(kick) = request.call else { panic!("{uid}") };
        assert_eq!(kick.uid.0, value, "{uid}");
    }
}

/// Proves FRM-11.
#[test]
fn frm_11_channel_names_and_appkeys() {
    let long = "x".repeat(65);
    for name in [
        "", ".", "..", &long, "a/b", "a\\\\b", "a*b", "a'b", "a`b", "a\\nb", "\\u0000", "房间", "é",
    ] {
        let frame = call("join", &format!(r#"{{"appkey":"demo","channelName":"{name}"}}"#));
        let wanted = (Some(9), ErrorName::BadChannelName, Some("channelName".to_owned()));
        assert_eq!(refusal(&frame), wanted, "{name}");
    }
    for key in ["", ".", "..", &long, "a b", "a/b", "é"] {
        let frame = call("join", &format!(r#"{{"appkey":"{key}","channelName":"r"}}"#));
        let wanted = (Some(9), ErrorName::BadAppkey, Some("appkey".to_owned()));
        assert_eq!(refusal(&frame), wanted, "{key}");
    }
    for id in ["", &long, "a-b", "a b"] {
        let frame = call("deleteTasks", &format!(r#"{{"taskIds":["a","{id}"]}}"#));
        let wanted = (Some(9), ErrorName::BadTask, Some("taskIds[1]".to_owned()));
        assert_eq!(refusal(&frame), wanted, "{id}");
    }
}

/// Proves FRM-3.
#[test]
fn frm_3_repeated_keys() {
    for (frame, field) in [
        (call("kick", r#"{"uid":"7","uid":"8"}"#), "uid"),
        (call("join", r#"{"appkey":"a","channelName":"r","appkey":"b"}"#), "appkey"),
        (call("ping", r#"{"k":1,"k":1}"#), "k"),
        (
            call("join", r#"{"appkey":"a","channelName":"r","attributes":{"x":"1","x":"2"}}"#),
            "attributes",
        ),
        (call("setAttributes", r#"{"attributes":{"x":"1","\u0078":null}}"#), "attributes"),
    ] {
        let wanted = (Some(9), ErrorName::InvalidParams, Some(field.to_owned()));
        assert_eq!(refusal(&frame), wanted, "{frame}");
    }
}

/// Sorting thousands of keys takes milliseconds, during which the shard serves no other member.
/// Proves ATT-4.
#[test]
fn att_4_a_map_is_read_up_to_its_limit() {
    let entries = |keys: usize| -> Vec<String> {
        // The keys come in descending order: each insertion would move all earlier ones.
        (0..keys).rev().map(|key| format!(r#""{key:04}":"""#)).collect()
    };
    let read = |entries: &[String]| {
        let params = format!(r#"{{"attributes":{{{}}}}}"#, entries.join(","));
        decode_client_frame(call("setAttributes", &params).as_bytes()).unwrap().remove(0)
    };
    let Element::Request(request) = read(&entries(MAX_PATCH_KEYS)) else { panic!("a request") };
    let Call::SetAttributes(patch) = &request.call else { panic!("a patch") };
    assert_eq!(patch.attributes.len(), MAX_PATCH_KEYS);
    for keys in [MAX_PATCH_KEYS + 1, 5_000] {
        let mut long = entries(keys);
        assert_eq!(
            read(&long),
            Element::Refused {
                id: Some(RequestId(9)),
                error: RpcError::new(ErrorName::BadAttributes).field("attributes"),
            }
        );
        // The map is refused for its length, although a wrong value follows.
        long.extend([r#""more":5"#.to_owned()]);
        let Element::Refused { error, .. } = read(&long) else { panic!("refused") };
        assert_eq!(error.name(), &ErrorName::BadAttributes);
    }
    // The same for a map that is read outside of a request.
    let map = format!("{{{}}}", entries(MAX_PATCH_KEYS + 1).join(","));
    assert!(serde_json::from_str::<Attributes>(&map).is_err());
}

/// One message that cannot be read makes the whole frame invalid.
/// Proves CLI-6.
#[test]
fn cli_6_server_frames_are_read_whole() {
    let good = r#"{"jsonrpc":"2.0","method":"memberCount","params":{"count":1}}"#;
    assert!(decode_server_frame(good.as_bytes()).is_ok());
    for bad in [
        r#"{"jsonrpc":"2.0","method":"memberCount","params":{"count":-1}}"#,
        r#"{"jsonrpc":"2.0","method":"memberCount"}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"jsonrpc":"2.0","id":0,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":1}}"#,
        r#"{"jsonrpc":"2.0","method":"message","params":{"epoch":"x","seq":1,"uid":"7","data":""}}"#,
        r#"{"jsonrpc":"2.0","method":"message","params":
            {"epoch":"ujzdegxdncf32epf3dha","seq":1,"uid":"07","data":""}}"#,
        "5",
        "null",
    ] {
        for frame in [bad.to_owned(), format!("[{good},{bad}]")] {
            let error = decode_server_frame(frame.as_bytes()).unwrap_err();
            assert_eq!(error, FrameError(ErrorName::ParseError), "{frame}");
        }
    }
}

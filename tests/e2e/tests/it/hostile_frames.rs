//! Hostile input below requests: WebSocket frames, UTF-8, JSON, arrays and ids.

use anyhow::Result;
use lianmai_test_support::raw_ws::{BINARY, PING, PONG, TEXT};
use serde_json::json;

use crate::hostile::{Input, Row, lobby, member, run_topic};

/// Opcode of a later fragment.
const CONTINUATION: u8 = 0;
/// Longest frame that a client may send.
const MAX_FRAME: usize = 64 * 1024;

fn text(text: impl Into<String>) -> Vec<Input> {
    vec![Input::Text(text.into())]
}

fn bytes(bytes: &[u8]) -> Vec<Input> {
    vec![Input::Bytes(bytes.to_vec())]
}

/// A masked frame with any first byte; the mask of zeros leaves the payload unchanged.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

/// Nested objects, `depth` levels in total.
fn nested(depth: usize) -> String {
    let mut text = r#"{"jsonrpc":"2.0","id":$ID,"method":"report","params":"#.to_owned();
    // The envelope is the first level.
    text.push_str(&r#"{"data":"#.repeat(depth - 1));
    text.push('1');
    text.push_str(&"}".repeat(depth));
    text
}

fn request(id: &str, rest: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},{rest}}}"#)
}

const PING_CALL: &str = r#""method":"ping","params":{}"#;
const MUTE_CALL: &str = r#""method":"mute","params":{"mediaType":"audio"}"#;
const UNMUTE_CALL: &str = r#""method":"unmute","params":{"mediaType":"audio"}"#;

/// The end of a connection that violates the framing.
const CUT: [&str; 2] = ["closing 4504 none", "close 4504 protocolViolation"];

/// The same after an answer.
fn answered(error: &'static str) -> Vec<&'static str> {
    [&[error][..], &CUT].concat()
}

fn frames() -> Vec<Row> {
    let hello = br#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#;
    let parse = answered("parseError null");
    let deep = answered("tooDeep null");
    let quick = |mut say: Vec<Input>, more: Vec<Input>| {
        say.extend(more);
        say
    };
    let fragments: Vec<Input> = hello
        .iter()
        .enumerate()
        .map(|(at, byte)| {
            let first = if at == 0 { TEXT } else { CONTINUATION };
            let last = if at + 1 == hello.len() { 0x80 } else { 0 };
            Input::Bytes(frame(first | last, &[*byte]))
        })
        .collect();
    let mut interrupted = fragments.clone();
    interrupted.insert(3, Input::Frame(PING, b"in between".to_vec()));
    let half = vec![b' '; MAX_FRAME / 2 + 1];
    vec![
        member("malformed JSON", text("{not json"), &parse),
        member("truncated JSON", text(r#"{"jsonrpc":"2.0","id":7,"meth"#), &parse),
        member("two values in a frame", text("{} {}"), &parse),
        member("empty text frame", text(""), &parse),
        member("NaN", text(r#"{"id":NaN}"#), &parse),
        member("byte order mark", text("\u{feff}{}"), &parse),
        member(
            "lone surrogate",
            text(r#"{"jsonrpc":"2.0","id":$ID,"method":"\ud800"}"#),
            &["invalidRequest"],
        ),
        lobby("malformed JSON in the lobby", text("{not json"), &parse),
        lobby("depth 33 in the lobby", text(nested(33)), &deep),
        member("depth 32", text(nested(32)), &["invalidParams dir"]),
        member("depth 33", text(nested(33)), &deep),
        member("depth 10000", text("[".repeat(10_000)), &deep),
        member("depth 10000 of objects", text(r#"{"a":"#.repeat(10_000)), &deep),
        member(
            "frame of 64 KiB",
            text(format!("{}{}", " ".repeat(MAX_FRAME - 2), "{}")),
            &["invalidRequest null"],
        ),
        member("frame of 64 KiB + 1", vec![Input::Frame(TEXT, vec![b' '; MAX_FRAME + 1])], &CUT),
        member(
            "two fragments of 64 KiB",
            vec![
                Input::Bytes([&[TEXT, 0xfe, 0x80, 1, 0, 0, 0, 0][..], &half].concat()),
                Input::Bytes([&[0x80, 0xfe, 0x80, 1, 0, 0, 0, 0][..], &half].concat()),
            ],
            &CUT,
        ),
        member(
            "announced 2^63 bytes",
            bytes(&[0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
            &CUT,
        ),
        member("binary frame", vec![Input::Frame(BINARY, hello.to_vec())], &CUT),
        lobby("binary frame in the lobby", vec![Input::Frame(BINARY, hello.to_vec())], &CUT),
        member("fragmented text", fragments, &["ok"]),
        member("ping between fragments", interrupted, &["pong", "ok"]),
        member(
            "text inside a fragmented text",
            vec![Input::Bytes(frame(TEXT, b"{")), Input::Bytes(frame(0x80 | TEXT, b"{}"))],
            &CUT,
        ),
        member("continuation of nothing", bytes(&frame(0x80, b"{}")), &CUT),
        member("unmasked frame", bytes(&[0x81, 2, b'{', b'}']), &CUT),
        member("reserved bit", bytes(&frame(0x80 | 0x40 | TEXT, b"{}")), &CUT),
        member("reserved opcode 3", bytes(&frame(0x83, b"{}")), &CUT),
        member("reserved opcode 11", bytes(&frame(0x8b, b"{}")), &CUT),
        member("fragmented ping", bytes(&frame(PING, b"x")), &CUT),
        member("ping of 126 bytes", vec![Input::Frame(PING, vec![b'x'; 126])], &CUT),
        member("close of one byte", bytes(&frame(0x88, b"x")), &["close 1002 "]),
        member("close with a reserved code", bytes(&frame(0x88, &[0x03, 0xed])), &["close 1002 "]),
        lobby("close with code 0", bytes(&frame(0x88, &[0, 0])), &["close 1002 "]),
        member(
            "reason of a close is no text",
            bytes(&frame(0x88, &[0x03, 0xe8, 0xff])),
            &["close 1007 "],
        ),
        member("close frame", bytes(&frame(0x88, &[0x0f, 0xa5, b'g'])), &["close 4005 "]),
        lobby("close frame in the lobby", bytes(&frame(0x88, &[0x03, 0xe8])), &["close 1000 "]),
        member("invalid UTF-8", vec![Input::Frame(TEXT, vec![b'"', 0xff, b'"'])], &parse),
        member("half a character", vec![Input::Frame(TEXT, vec![b'"', 0xe2, 0x82])], &parse),
        lobby("invalid UTF-8 in the lobby", vec![Input::Frame(TEXT, vec![0xc0, 0x80])], &parse),
        member(
            "pong that nobody asked for",
            quick(vec![Input::Frame(PONG, b"x".to_vec())], text(request("$ID", PING_CALL))),
            &["ok"],
        ),
        member(
            "flood of 2000 pings",
            vec![Input::Frame(PING, b"x".to_vec()); 2000],
            &["pong"; 2000],
        )
        .once(),
        lobby("HTTP in the place of a frame", bytes(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), &CUT),
    ]
}

fn envelopes() -> Vec<Row> {
    let many = |count: usize| format!("[{}]", vec![request("$ID", PING_CALL); count].join(","));
    let nested = format!("[{},[{}]]", request("$ID", MUTE_CALL), request("$ID", MUTE_CALL));
    let null = "invalidRequest null";
    vec![
        member("no request: a number", text("7"), &[null]),
        member("no request: null", text("null"), &[null]),
        member("no request: a string", text(r#""join""#), &[null]),
        member("empty object", text("{}"), &[null]),
        member("notification", text(r#"{"jsonrpc":"2.0","method":"ping","params":{}}"#), &[null]),
        member(
            "jsonrpc 1.0",
            text(r#"{"jsonrpc":"1.0","id":$ID,"method":"ping"}"#),
            &["invalidRequest"],
        ),
        member("no method", text(r#"{"jsonrpc":"2.0","id":$ID}"#), &["invalidRequest"]),
        member(
            "method is a number",
            text(r#"{"jsonrpc":"2.0","id":$ID,"method":7}"#),
            &["invalidRequest"],
        ),
        member(
            "method twice",
            text(r#"{"jsonrpc":"2.0","id":$ID,"method":"ping","method":"leave"}"#),
            &[null],
        ),
        member(
            "ack is text",
            text(r#"{"jsonrpc":"2.0","id":$ID,"ack":"1","method":"ping"}"#),
            &["invalidRequest"],
        ),
        member("id 0", text(request("0", PING_CALL)), &[null]),
        member("id negative", text(request("-1", PING_CALL)), &[null]),
        member("id is text", text(request(r#""1""#, PING_CALL)), &[null]),
        member("id is a fraction", text(request("1.5", PING_CALL)), &[null]),
        member("id null", text(request("null", PING_CALL)), &[null]),
        member("id 2^53", text(request("9007199254740992", PING_CALL)), &[null]),
        member("id 10^400", text(request(&format!("1{}", "0".repeat(400)), PING_CALL)), &[null]),
        member(
            "id reuse",
            [text(request("$ID", MUTE_CALL)), text(request("$LAST", UNMUTE_CALL))].concat(),
            &["ok", "idReuse"],
        ),
        member(
            "the same command again",
            [text(request("$ID", MUTE_CALL)), text(request("$LAST", MUTE_CALL))].concat(),
            &["ok", "ok"],
        ),
        member(
            "id too old",
            [text(request("$ID", MUTE_CALL)), text(request("1", MUTE_CALL))].concat(),
            &["ok", "idTooOld"],
        ),
        member("empty array", text("[]"), &["badBatch null"]),
        member("array of 32", text(many(32)), &["ok"; 32]),
        member("array of 33", text(many(33)), &["badBatch null"]),
        member("array of 20000", text(format!("[{}1]", "1,".repeat(20_000))), &["badBatch null"])
            .once(),
        member("array in an array", text(nested), &["ok", "badBatch null"]),
        member(
            "array with noise",
            text(format!("[1,null,{},\"x\"]", request("$ID", PING_CALL))),
            &[null, null, "ok", null],
        ),
        lobby("empty array in the lobby", text("[]"), &["badBatch null"]),
        lobby(
            "join among others",
            text(
                r#"[{"jsonrpc":"2.0","id":1,"method":"join","params":{"appkey":"demo","channelName":"x","uid":"7"}},7]"#,
            ),
            &["badBatch", null],
        ),
        lobby(
            "eight refused requests",
            vec![Input::Call("ping", json!({})); 8],
            &[
                "notJoined",
                "notJoined",
                "notJoined",
                "notJoined",
                "notJoined",
                "notJoined",
                "notJoined",
                "notJoined",
                "closing 4505 reconnect",
                "close 4505 joinTimeout",
            ],
        ),
        lobby(
            "more than 16 KiB in the lobby",
            vec![Input::Text(" ".repeat(16 * 1024 + 1))],
            &["closing 4505 reconnect", "close 4505 joinTimeout"],
        ),
    ]
}

/// Proves CLO-4, CON-8, CON-9, CON-10, CON-11, FRM-7.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_frame_disturbs_others() -> Result<()> {
    println!("{}", run_topic("frames", &frames()).await?);
    Ok(())
}

/// Proves FRM-2, FRM-4, FRM-6, IDS-2, JOI-7, SES-2, SES-3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_envelope_disturbs_others() -> Result<()> {
    println!("{}", run_topic("envelopes", &envelopes()).await?);
    Ok(())
}

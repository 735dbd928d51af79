//! `docs/protocol.md` is the source of the vectors and of every table; these tests compare it with the code.
//! Proves no rule of the protocol: that document and code say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lianmai_protocol::codec::{
    Element, ServerMessage, decode_client_frame, decode_server_frame, join_batch,
};
use lianmai_protocol::limits::{self, Limits};
use lianmai_protocol::message::call::reencode_result;
use lianmai_protocol::message::{Call, ChannelEvent, Notice};
use lianmai_protocol::{CloseCode, ErrorName, SIGNAL_PATH, SUBPROTOCOL};
use serde_json::Value;

use crate::support;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn document() -> String {
    read("../../docs/protocol.md")
}

/// One fenced block.
struct Block {
    /// Line of its fence, from 1.
    line: usize,
    /// Language and label.
    info: String,
    body: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (at, line) in text.lines().enumerate() {
        match line.strip_prefix("```") {
            Some("") if open => open = false,
            Some(info) => {
                assert!(!open, "line {}: a fence inside a fence", at + 1);
                assert!(!info.is_empty(), "line {}: a fence without a language", at + 1);
                blocks.push(Block { line: at + 1, info: info.to_owned(), body: String::new() });
                open = true;
            }
            None if open => {
                let block = blocks.last_mut().unwrap();
                block.body.push_str(line);
                block.body.push('\n');
            }
            None => assert!(!line.trim_start().starts_with("```"), "line {}: indented", at + 1),
        }
    }
    assert!(!open, "the last fence is open");
    blocks
}

/// Text outside of fenced blocks.
fn prose(text: &str) -> String {
    let mut fenced = false;
    text.lines()
        .filter(|line| {
            let fence = line.starts_with("```");
            fenced ^= fence;
            !fenced && !fence
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Cells of every table row outside of fenced blocks.
fn rows(text: &str) -> Vec<Vec<String>> {
    prose(text)
        .lines()
        .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'))
        .map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// Decodes the frame of a block and encodes it again.
fn reencode(label: &str, body: &str) -> String {
    let (class, name) = label.split_once(':').unwrap_or((label, ""));
    match class {
        "request" => {
            let element = support::client_one(body);
            let Element::Request(request) = &element else { panic!("{element:?}") };
            assert_eq!(request.call.method(), name, "method and label");
            support::encode_client(&element)
        }
        "batch" if name == "client" => {
            let elements = decode_client_frame(body.as_bytes()).unwrap();
            let frames: Vec<String> = elements.iter().map(support::encode_client).collect();
            String::from_utf8(join_batch(&frames)).unwrap()
        }
        "batch" if name == "server" => {
            let messages = decode_server_frame(body.as_bytes()).unwrap();
            let frames: Vec<String> = messages.iter().map(support::encode_server).collect();
            String::from_utf8(join_batch(&frames)).unwrap()
        }
        "result" => match support::server_one(body) {
            ServerMessage::Answer { id: Some(id), outcome: Ok(raw) } => {
                let result = reencode_result(name, raw.get()).expect("a result of the method");
                format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id.0)
            }
            other => panic!("{other:?}"),
        },
        "event" => {
            let message = support::server_one(body);
            let ServerMessage::Event(_, event) = &message else { panic!("{message:?}") };
            assert!(!matches!(event, ChannelEvent::Unknown { .. }), "unknown event");
            assert_eq!(event.method(), name, "method and label");
            support::encode_server(&message)
        }
        "notice" => {
            let message = support::server_one(body);
            let ServerMessage::Notice(notice) = &message else { panic!("{message:?}") };
            assert!(!matches!(notice, Notice::Unknown { .. }), "unknown notice");
            assert_eq!(notice.method(), name, "method and label");
            support::encode_server(&message)
        }
        "error" => {
            let message = support::server_one(body);
            let ServerMessage::Answer { outcome: Err(error), .. } = &message else {
                panic!("{message:?}")
            };
            assert!(!matches!(error.name(), ErrorName::Unknown(_)), "unknown error");
            assert_eq!(error.code, error.name().code(), "number of the error");
            assert_eq!(error.data.retryable, error.name().is_retryable(), "retryable");
            support::encode_server(&message)
        }
        _ => panic!("unknown label {label}"),
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// Proves FRM-8.
#[test]
fn every_block_survives_the_codec() {
    let mut count = 0;
    for block in blocks(&document()) {
        let Some(label) = block.info.strip_prefix("json") else {
            assert!(["http", "text"].contains(&block.info.as_str()), "line {}", block.line);
            continue;
        };
        let label = label.trim();
        assert!(!label.is_empty(), "line {}: a JSON block without a label", block.line);
        let place = format!("line {} ({label})", block.line);
        let once = std::panic::catch_unwind(|| reencode(label, &block.body))
            .unwrap_or_else(|_| panic!("{place}: see above"));
        assert_eq!(json(&once), json(&block.body), "{place}: decoded and encoded again");
        assert_eq!(reencode(label, &once), once, "{place}: a second time");
        count += 1;
    }
    assert!(count > 60, "only {count} blocks");
}

#[test]
fn every_message_has_a_block() {
    let mut wanted = BTreeSet::new();
    for method in Call::METHODS {
        wanted.insert(format!("json request:{method}"));
        wanted.insert(format!("json result:{method}"));
    }
    wanted.extend(ChannelEvent::METHODS.iter().map(|method| format!("json event:{method}")));
    wanted.extend(Notice::METHODS.iter().map(|method| format!("json notice:{method}")));
    wanted.extend(["json error", "json batch:client", "json batch:server"].map(str::to_owned));
    let given: BTreeSet<String> = blocks(&document())
        .into_iter()
        .map(|block| block.info)
        .filter(|info| info.starts_with("json"))
        .collect();
    let missing: Vec<_> = wanted.difference(&given).collect();
    assert!(missing.is_empty(), "no block for {missing:?}");
    let unknown: Vec<_> = given.difference(&wanted).collect();
    assert!(unknown.is_empty(), "unknown labels {unknown:?}");
}

#[test]
fn every_method_event_and_notice_has_a_row() {
    let rows = rows(&document());
    for name in Call::METHODS.iter().chain(ChannelEvent::METHODS).chain(Notice::METHODS) {
        let named = |cell: &String| cell.split(", ").any(|part| part == code(name));
        assert!(rows.iter().any(|row| row.len() > 2 && named(&row[0])), "no row for {name}");
    }
}

/// Proves ERR-1.
#[test]
fn the_error_table_is_the_code() {
    let rows = rows(&document());
    let given: Vec<Vec<String>> = rows
        .iter()
        .skip_while(|row| row[0] != "name" || row[1] != "number")
        .skip(2)
        .take_while(|row| row.len() == 4 && row[0].starts_with('`'))
        .cloned()
        .collect();
    let wanted: Vec<Vec<String>> = ErrorName::ALL
        .iter()
        .map(|name| {
            let retryable = if name.is_retryable() { "yes" } else { "no" };
            vec![
                code(name.as_str()),
                name.code().to_string(),
                retryable.to_owned(),
                name.meaning().to_owned(),
            ]
        })
        .collect();
    // Each row is checked alone first, so that the message names it.
    for row in &wanted {
        assert!(given.contains(row), "no row {row:?}");
    }
    assert_eq!(given.len(), wanted.len(), "rows of unknown errors");
}

#[test]
fn the_close_table_is_the_code() {
    let given: Vec<Vec<String>> = rows(&document())
        .into_iter()
        .skip_while(|row| row[0] != "code" || row[1] != "name")
        .skip(2)
        .take_while(|row| row.len() == 4)
        .collect();
    for row in CloseCode::TABLE {
        let wanted = vec![
            row.code.0.to_string(),
            code(row.name),
            row.code.meaning().to_owned(),
            code(row.action.as_str()),
        ];
        assert!(given.contains(&wanted), "no row {wanted:?}");
    }
    let codes: BTreeSet<&str> = given
        .iter()
        .map(|row| row[0].as_str())
        .filter(|cell| cell.parse::<u16>().is_ok())
        .collect();
    assert_eq!(codes.len(), CloseCode::TABLE.len(), "rows of unknown codes");
}

/// The errors that the tables of limits and of methods name.
#[test]
fn named_errors_exist() {
    let known: BTreeSet<&str> = ErrorName::ALL.iter().map(ErrorName::as_str).collect();
    let mut count = 0;
    for row in rows(&document()) {
        let cell = match row.len() {
            4 if ["fixed", "default"].contains(&row[2].as_str()) => &row[3],
            6 if row[0].starts_with('`') => &row[4],
            _ => continue,
        };
        for name in cell.split('`').skip(1).step_by(2) {
            assert!(known.contains(name), "{name} in {row:?}");
            count += 1;
        }
    }
    assert!(count > 50, "only {count} errors are named");
}

/// `MAX_CLIENT_FRAME_BYTES` is `clientFrameBytes` in the document.
fn camel(constant: &str) -> String {
    let mut name = String::new();
    for (at, part) in constant.trim_start_matches("MAX_").split('_').enumerate() {
        let part = part.to_lowercase();
        let (first, rest) = part.split_at(1);
        name.push_str(&if at == 0 { first.to_owned() } else { first.to_uppercase() });
        name.push_str(rest);
    }
    name
}

/// Proves LIM-1.
#[test]
fn the_limits_table_is_the_code() {
    macro_rules! fixed {
        ($($name:ident),+ $(,)?) => { [$((stringify!($name), limits::$name as u64)),+] };
    }
    let fixed = fixed![
        MAX_CLIENT_FRAME_BYTES,
        MAX_SERVER_FRAME_BYTES,
        MAX_JSON_DEPTH,
        MAX_BATCH,
        MAX_IN_FLIGHT,
        MAX_CHANNEL_NAME_BYTES,
        MAX_APPKEY_BYTES,
        MAX_TASK_ID_BYTES,
        MAX_NAME_BYTES,
        MAX_REASON_BYTES,
        MAX_TOKEN_BYTES,
        MAX_REQUEST_ID,
        MAX_BAN_S,
        MAX_HOLD_S,
        MAX_ATTRIBUTE_KEYS,
        MAX_PATCH_KEYS,
        MAX_ATTRIBUTE_KEY_BYTES,
        MAX_MESSAGE_RECIPIENTS,
        MAX_REPORT_BYTES,
        MAX_TASK_URL_BYTES,
        MAX_EXTRA_INFO_BYTES,
        MAX_TASK_VIDEOS,
        MAX_TASK_USERS,
        MAX_TASK_IMAGES,
        MAX_CANVAS_SIDE,
    ];
    let declared: BTreeSet<String> = read("src/limits.rs")
        .lines()
        .filter_map(|line| Some(line.strip_prefix("pub const ")?.split(':').next()?.to_owned()))
        .collect();
    let listed: BTreeSet<String> = fixed.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(declared, listed, "this list and the constants of limits.rs");

    // Without `..`, so that a new limit does not compile until it is listed.
    let Limits {
        members,
        broadcasters,
        channels,
        subscriptions,
        tasks,
        attribute_bytes,
        channel_attribute_bytes,
        message_bytes,
        commands_per_second,
        command_burst,
        channel_bytes_per_second,
        bans,
    } = Limits::default();
    let mut wanted: BTreeMap<String, (u64, &str)> =
        fixed.iter().map(|(name, value)| (camel(name), (*value, "fixed"))).collect();
    for (name, value) in [
        ("MEMBERS", members),
        ("BROADCASTERS", broadcasters),
        ("CHANNELS", channels),
        ("SUBSCRIPTIONS", subscriptions),
        ("TASKS", tasks),
        ("ATTRIBUTE_BYTES", attribute_bytes),
        ("CHANNEL_ATTRIBUTE_BYTES", channel_attribute_bytes),
        ("MESSAGE_BYTES", message_bytes),
        ("COMMANDS_PER_SECOND", commands_per_second as usize),
        ("COMMAND_BURST", command_burst as usize),
        ("CHANNEL_BYTES_PER_SECOND", channel_bytes_per_second as usize),
        ("BANS", bans),
    ] {
        wanted.insert(camel(name), (value as u64, "default"));
    }
    let document = document();
    let rows = rows(&document);
    let given: BTreeMap<String, (u64, &str)> = rows
        .iter()
        .filter(|row| row.len() == 4 && ["fixed", "default"].contains(&row[2].as_str()))
        .map(|row| {
            (row[0].trim_matches('`').to_owned(), (row[1].parse().unwrap(), row[2].as_str()))
        })
        .collect();
    assert_eq!(given, wanted);
}

/// Whether the text has the shape of a requirement id.
fn is_requirement(text: &str) -> bool {
    text.split_once('-').is_some_and(|(area, number)| {
        area.len() == 3
            && area.bytes().all(|b| b.is_ascii_uppercase())
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

#[test]
fn requirement_ids_are_unique_and_known() {
    let text = prose(&document());
    let mut defined = BTreeSet::new();
    for part in text.split('[').skip(1) {
        let id = part.split(']').next().unwrap();
        if is_requirement(id) {
            assert!(defined.insert(id.to_owned()), "{id} is stated twice");
        }
    }
    assert!(defined.len() > 100, "only {} requirements", defined.len());
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
    for named in text.split(word).filter(|word| is_requirement(word)) {
        // These names have the shape of an id.
        assert!(
            defined.contains(named) || ["SHA-1", "UTF-8"].contains(&named),
            "{named} is named but not stated"
        );
    }
    // The tests of this crate name the requirement that they prove.
    for file in ["hostile", "ids", "roundtrip", "secrets", "sizes", "vectors"] {
        let code = read(&format!("tests/it/{file}.rs"));
        for line in code.lines().filter_map(|line| line.trim().strip_prefix("/// ")) {
            for named in line.split(word).filter(|word| is_requirement(word)) {
                assert!(defined.contains(named), "{named} in {file}.rs is not stated");
            }
        }
    }
}

#[test]
fn the_document_names_path_and_sub_protocol() {
    let text = document();
    assert!(text.contains(&format!("GET {SIGNAL_PATH} HTTP/1.1")));
    assert!(text.contains(&format!("Sec-WebSocket-Protocol: {SUBPROTOCOL}")));
    assert!(text.contains("18446744073709551615"));
}

//! Compares the small codec with serde: both write the same text, read the same values, and refuse the same texts with
//! the same error. Messages are generated, then changed at one place: another type, another number, a field that is
//! missing, occurs twice or is unknown. Only the server accepts a number that is too great in a request, so that it can
//! name the limit.
//! Proves no rule of the protocol: that a client reads and writes what the server does.

use lianmai_protocol::codec::{Element, decode_client_frame};
use lianmai_protocol::message::media::{Mute, Publish, SetRole, Subscribe};
use lianmai_protocol::message::session::{
    CloseChannel, Done, Empty, Join, Joined, Kick, MessageSent, Outcome, Ping, Pong, Reconnect,
    RenewToken, Report, Resumed, SendMessage, SetAttributes, TokenRenewed,
};
use lianmai_protocol::message::task::{TaskIds, Tasks};
use lianmai_protocol::message::{ChannelEvent, Notice};
use lianmai_protocol::wire::{self, Wire};
use lianmai_protocol::{ErrorName, RpcError, message};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::support;

/// A JSON value whose objects may hold a key twice. A leaf is any text.
#[derive(Clone, Debug)]
enum Json {
    Leaf(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    fn parse(text: &str) -> Json {
        fn convert(value: &Value) -> Json {
            match value {
                Value::Array(items) => Json::Array(items.iter().map(convert).collect()),
                Value::Object(map) => Json::Object(
                    map.iter().map(|(key, value)| (quoted(key), convert(value))).collect(),
                ),
                leaf => Json::Leaf(leaf.to_string()),
            }
        }
        convert(&serde_json::from_str(text).expect("an encoded message is JSON"))
    }

    fn text(&self) -> String {
        match self {
            Json::Leaf(text) => text.clone(),
            Json::Array(items) => {
                let items: Vec<String> = items.iter().map(Json::text).collect();
                format!("[{}]", items.join(" , "))
            }
            Json::Object(entries) => {
                let entries: Vec<String> =
                    entries.iter().map(|(key, value)| format!("{key}: {}", value.text())).collect();
                format!("{{{}\n}}", entries.join(","))
            }
        }
    }

    fn count(&self) -> usize {
        1 + match self {
            Json::Leaf(_) => 0,
            Json::Array(items) => items.iter().map(Json::count).sum(),
            Json::Object(entries) => entries.iter().map(|(_, value)| value.count()).sum(),
        }
    }

    /// Changes node number `at`, counted in depth-first order.
    fn change(&mut self, at: &mut usize, change: &Change) {
        if *at == 0 {
            change.apply(self);
            *at = usize::MAX;
            return;
        }
        *at -= 1;
        let inner: Vec<&mut Json> = match self {
            Json::Leaf(_) => Vec::new(),
            Json::Array(items) => items.iter_mut().collect(),
            Json::Object(entries) => entries.iter_mut().map(|(_, value)| value).collect(),
        };
        for value in inner {
            if *at == usize::MAX {
                return;
            }
            value.change(at, change);
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}

/// A change of one node.
#[derive(Clone, Debug)]
enum Change {
    Nothing,
    /// The node is replaced by this text.
    Leaf(&'static str),
    /// Of an object: entry number `n` (modulo the length) is removed.
    Drop(usize),
    /// Of an object: the entry is repeated at the end.
    Repeat(usize),
    /// Of an object: the key of the entry is spelled with escapes.
    Escape(usize),
    /// Of an object: an unknown entry is added.
    Add(&'static str),
    /// Of an array: element number `n` is repeated.
    Double(usize),
}

impl Change {
    fn apply(&self, json: &mut Json) {
        match (self, json) {
            // The only difference between the codecs: serde also reads an array as a struct.
            (Change::Leaf(text), Json::Object(_)) if text.starts_with('[') => {}
            (Change::Leaf(text), json) => *json = Json::Leaf((*text).to_owned()),
            (Change::Drop(n), Json::Object(entries)) if !entries.is_empty() => {
                entries.remove(n % entries.len());
            }
            (Change::Repeat(n), Json::Object(entries)) if !entries.is_empty() => {
                let again = entries[n % entries.len()].clone();
                entries.push(again);
            }
            (Change::Escape(n), Json::Object(entries)) if !entries.is_empty() => {
                let at = n % entries.len();
                let key: String = serde_json::from_str(&entries[at].0).expect("a key is a string");
                let units = key.encode_utf16().map(|unit| format!("\\u{unit:04X}"));
                entries[at].0 = format!("\"{}\"", units.collect::<String>());
            }
            (Change::Add(entry), Json::Object(entries)) => {
                entries.insert(0, ("\"extra\"".to_owned(), Json::Leaf((*entry).to_owned())));
            }
            (Change::Double(n), Json::Array(items)) if !items.is_empty() => {
                let again = items[n % items.len()].clone();
                items.push(again);
            }
            _ => {}
        }
    }
}

/// Texts of JSON values, most of them wrong at most places.
const LEAVES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-1",
    "1",
    "1.0",
    "1e3",
    "255",
    "256",
    "65535",
    "65536",
    "4294967296",
    "9007199254740991",
    "9007199254740992",
    "18446744073709551615",
    "18446744073709551616",
    "1e99",
    "\"\"",
    "\"0\"",
    "\"007\"",
    "\"+7\"",
    "\"-1\"",
    "\"18446744073709551616\"",
    "\"audio\"",
    "\"a\\u0041\\ud83d\\ude00\\n\\/\"",
    "\"\\ud800\"",
    "\"\\udc00\\ud800\"",
    "\"\u{7f}你\"",
    "{}",
    "[]",
    "[null]",
    "[\"audio\",\"x\",\"video\"]",
    "{\"a\":{\"b\":[1,{}]}}",
];

/// Values of an unknown field.
const EXTRAS: &[&str] =
    &["1", "[{}, [], \"\\ud800\"]", "{\"uid\":{\"uid\":1,\"uid\":-2.5e+7}}", "null", "\"\\\\\""];

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        1 => Just(Change::Nothing),
        6 => proptest::sample::select(LEAVES).prop_map(Change::Leaf),
        3 => any::<usize>().prop_map(Change::Drop),
        3 => any::<usize>().prop_map(Change::Repeat),
        2 => any::<usize>().prop_map(Change::Escape),
        2 => proptest::sample::select(EXTRAS).prop_map(Change::Add),
        1 => any::<usize>().prop_map(Change::Double),
    ]
}

/// The text of a message, changed.
fn changed(json: &str, at: usize, change: &Change) -> String {
    let mut tree = Json::parse(json);
    let mut at = at % tree.count();
    tree.change(&mut at, change);
    tree.text()
}

/// Reads parameters with the small codec and writes them with serde, or returns the error.
fn read<T: Wire + Serialize>(text: &str) -> Result<String, RpcError> {
    let value: T = wire::from_text(text)?;
    assert_eq!(wire::to_text(&value), serde_json::to_string(&value).unwrap(), "what is read");
    Ok(serde_json::to_string(&value).expect("a message has string keys only"))
}

/// Reads parameters of a method with the small codec.
fn read_params(method: &str, text: &str) -> Result<String, RpcError> {
    match method {
        "join" => read::<Join>(text),
        "leave" => read::<Empty>(text),
        "publish" | "unpublish" => read::<Publish>(text),
        "subscribe" | "unsubscribe" => read::<Subscribe>(text),
        "setRole" => read::<SetRole>(text),
        "mute" | "unmute" => read::<Mute>(text),
        "kick" => read::<Kick>(text),
        "closeChannel" => read::<CloseChannel>(text),
        "addTasks" | "updateTasks" => read::<Tasks>(text),
        "deleteTasks" => read::<TaskIds>(text),
        "sendMessage" => read::<SendMessage>(text),
        "setAttributes" => read::<SetAttributes>(text),
        "renewToken" => read::<RenewToken>(text),
        "report" => read::<Report>(text),
        "reconnect" => read::<Reconnect>(text),
        "ping" => read::<Ping>(text),
        other => panic!("no such method: {other}"),
    }
}

/// Reads parameters with the server's codec.
fn read_as_server(method: &str, params: &str) -> Result<String, RpcError> {
    let frame = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
    match decode_client_frame(frame.as_bytes()).expect("the frame is JSON").remove(0) {
        Element::Request(request) => {
            Ok(request.call.params_json().expect("string keys only").get().to_owned())
        }
        Element::Refused { error, .. } => Err(error),
    }
}

/// Checks that both codecs write a message alike, and read it and a changed copy alike.
fn agree<T: Wire + Serialize + DeserializeOwned>(
    value: &T,
    at: usize,
    change: &Change,
) -> Result<(), TestCaseError> {
    let json = serde_json::to_string(value).expect("a message has string keys only");
    prop_assert_eq!(&wire::to_text(value), &json);
    let text = changed(&json, at, change);
    let theirs = serde_json::from_str::<T>(&text).ok();
    let theirs = theirs.map(|value| serde_json::to_string(&value).expect("string keys only"));
    prop_assert_eq!(read::<T>(&text).ok(), theirs, "{}", text);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parameters(call in support::call(), at in any::<usize>(), change in change()) {
        let json = call.params_json().expect("string keys only").get().to_owned();
        prop_assert_eq!(read_params(call.method(), &json), Ok(json.clone()));
        let text = changed(&json, at, &change);
        prop_assume!(text.starts_with('{'));
        let (ours, theirs) = (read_params(call.method(), &text), read_as_server(call.method(), &text));
        // Errors of the client have no sentence.
        let theirs = theirs.map_err(|error| error.message(""));
        // A number of a request that is too great: a client refuses it, a server reads the greatest possible one
        // (LIM-1).
        let saturates = theirs.as_ref().is_ok_and(|read| read.contains(&u32::MAX.to_string()));
        if let (true, Err(error)) = (saturates, &ours) {
            prop_assert_eq!(error.name(), &ErrorName::InvalidParams, "{} {}", call.method(), text);
            return Ok(());
        }
        prop_assert_eq!(ours, theirs, "{} {}", call.method(), text);
    }

    #[test]
    fn results(
        joined in support::joined(),
        published in support::published(),
        subscribed in support::subscribed(),
        renewed in (any::<u64>(), support::rights(), proptest::option::of(any::<u64>())),
        epoch in any::<[u8; 12]>(),
        at in any::<usize>(),
        change in change(),
    ) {
        let seq = joined.seq;
        agree(&joined, at, &change)?;
        agree(&published, at, &change)?;
        agree(&subscribed, at, &change)?;
        let (_, rights, token_expires_in_ms) = renewed;
        agree(&TokenRenewed { seq, rights, token_expires_in_ms }, at, &change)?;
        agree(&Done { seq }, at, &change)?;
        agree(&MessageSent { seq, delivered: 7 }, at, &change)?;
        agree(&Pong { epoch: lianmai_protocol::Epoch(epoch), seq }, at, &change)?;
        agree(&Empty {}, at, &change)?;
        let resumed = Resumed {
            outcome: Outcome::Snapshot,
            reason: Some(message::session::ResumeReason::EpochChanged),
            action: None,
            ticket: joined.ticket.clone(),
            k: joined.k,
            replayed: 0,
            messages: seq,
            messages_lost: 0,
            restore: seq % 2 == 0,
            snapshot: (seq % 3 != 0).then(|| Box::new(joined.clone())),
        };
        agree(&resumed, at, &change)?;
    }

    #[test]
    fn events_and_notices(
        event in support::event(),
        notice in support::notice(),
        error in support::error(),
        at in any::<usize>(),
        change in change(),
    ) {
        agree(&error, at, &change)?;
        match &event {
            ChannelEvent::ClientJoin(params) => agree(params, at, &change)?,
            ChannelEvent::ClientLeave(params) => agree(params, at, &change)?,
            ChannelEvent::ClientUpdate(params) => agree(params, at, &change)?,
            ChannelEvent::ChannelUpdate(params) => agree(params, at, &change)?,
            ChannelEvent::RoleChanged(params) => agree(params, at, &change)?,
            ChannelEvent::StreamAdded(params) | ChannelEvent::StreamRemoved(params) => {
                agree(params, at, &change)?;
            }
            ChannelEvent::Muted(params) | ChannelEvent::Unmuted(params) => {
                agree(params, at, &change)?;
            }
            ChannelEvent::Message(params) => agree(params, at, &change)?,
            ChannelEvent::RtmpTasksStatus(params) => agree(params, at, &change)?,
            ChannelEvent::LiveRoomClose(params) => agree(params, at, &change)?,
            _ => prop_assert!(false, "an event without a case: {event:?}"),
        }
        match &notice {
            Notice::Kicked(params) => agree(params, at, &change)?,
            Notice::SyncDone(params) => agree(params, at, &change)?,
            Notice::TokenWillExpire(params) => agree(params, at, &change)?,
            Notice::ServerRestarting(params) => agree(params, at, &change)?,
            Notice::MemberCount(params) => agree(params, at, &change)?,
            Notice::NetworkQuality(params) => agree(params, at, &change)?,
            Notice::Message(params) => agree(params, at, &change)?,
            Notice::Closing(params) => agree(params, at, &change)?,
            _ => prop_assert!(false, "a notice without a case: {notice:?}"),
        }
    }

    /// Both codecs refuse a broken text, or both accept it.
    #[test]
    fn broken_text(
        joined in support::joined(),
        cut in any::<proptest::sample::Index>(),
        byte in proptest::option::of(proptest::sample::select(b" \"\\{}[]:,-0a\x00\x1f".as_slice())),
    ) {
        let mut bytes = serde_json::to_vec(&joined).expect("string keys only");
        let at = cut.index(bytes.len());
        match byte {
            Some(byte) => bytes[at] = byte,
            None => bytes.truncate(at),
        }
        let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
        let theirs = serde_json::from_str::<Joined>(&text).ok();
        prop_assert_eq!(wire::from_text::<Joined>(&text).ok(), theirs, "{}", text);
    }
}

/// A skipped value may be deep, but there is a bound.
#[test]
fn deep_nesting_is_refused() {
    let tower = |open: usize| format!("{{\"x\":{}{}}}", "[".repeat(open), "]".repeat(open));
    assert!(wire::from_text::<Empty>(&tower(100)).is_ok());
    assert!(wire::from_text::<Empty>(&tower(100_000)).is_err());
}

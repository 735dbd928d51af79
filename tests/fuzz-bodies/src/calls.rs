//! Meaningful commands, for the engine and the session. In: the program. Out: method and parameters. Deliberately
//! absent: garbage, which the targets produce themselves.

use serde_json::{Value, json};

use crate::program::Program;

pub(crate) const APPS: [&str; 4] = ["plain", "reject", "creator", "dissolve"];
pub(crate) const CHANNELS: [&str; 3] = ["room", "hall", "~ \"|"];
pub(crate) const TOKENS: [&str; 6] = ["all", "little", "short", "bad", "old", "held"];
const JOIN_IDS: [&str; 2] = ["0123456789abcdef", "fedcba9876543210"];

const KINDS: [&str; 6] = ["", "audio", "video", "screenShare", "slaveAudio", "smell"];
const ROLES: [&str; 3] = ["broadcaster", "audience", "king"];

/// A uid as a string, or null.
fn uid(program: &mut Program<'_>) -> Value {
    match program.byte() & 7 {
        0 => Value::Null,
        uid => Value::String(uid.to_string()),
    }
}

/// Removes the null members of an object.
fn object(all: Value) -> Value {
    match all {
        Value::Object(map) => map.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        other => other,
    }
}

fn attributes(program: &mut Program<'_>) -> Value {
    let mut all = serde_json::Map::new();
    for _ in 0..program.byte() & 3 {
        let key = program.pick(&["a", "b", "", "\u{7}"]);
        let value = match program.byte() & 7 {
            0 => Value::Null,
            1 => Value::String("x".repeat(usize::from(program.word() & 0x7FF))),
            _ => Value::String(program.text()),
        };
        all.insert(key.to_owned(), value);
    }
    Value::Object(all)
}

fn name(program: &mut Program<'_>) -> Value {
    if program.flag() { Value::String(program.text()) } else { Value::Null }
}

pub(crate) fn join(program: &mut Program<'_>) -> Value {
    let bits = program.byte();
    let uid = uid(program);
    let mut join = object(json!({
        "appkey": APPS[usize::from(bits) & 3],
        "channelName": if bits & 4 == 0 { "room" } else { program.pick(&CHANNELS) },
        "token": if bits & 8 == 0 { Value::Null } else { program.pick(&TOKENS).into() },
        "role": if bits & 16 == 0 { Value::Null } else { program.pick(&ROLES).into() },
        "joinId": if bits & 32 == 0 { Value::Null } else { program.pick(&JOIN_IDS).into() },
        "name": if bits & 64 == 0 { Value::Null } else { name(program) },
        "uid": uid,
    }));
    if bits & 128 != 0 {
        let all = attributes(program);
        let known = all.as_object().into_iter().flatten();
        let known = known.filter(|(_, value)| value.is_string());
        join["attributes"] = known.map(|(key, value)| (key.clone(), value.clone())).collect();
    }
    join
}

/// The name of a known method, chosen by the program.
pub(crate) fn method(program: &mut Program<'_>) -> &'static str {
    let methods = lianmai_protocol::message::Call::METHODS;
    methods[usize::from(program.byte()) % methods.len()]
}

pub(crate) fn any(program: &mut Program<'_>) -> (&'static str, Value) {
    match program.byte() & 0x1F {
        0..=3 => ("publish", json!({"mediaType": program.pick(&KINDS)})),
        4 => {
            let kind = program.pick(&KINDS);
            ("unpublish", object(json!({"mediaType": kind, "uid": uid(program)})))
        }
        5..=8 => {
            let kind = program.pick(&KINDS);
            ("subscribe", object(json!({"mediaType": kind, "uid": uid(program)})))
        }
        9 => {
            let kind = program.pick(&KINDS);
            ("unsubscribe", object(json!({"mediaType": kind, "uid": uid(program)})))
        }
        10 | 11 => {
            let role = program.pick(&ROLES);
            ("setRole", object(json!({"role": role, "uid": uid(program)})))
        }
        12 | 13 => {
            let method = program.pick(&["mute", "unmute"]);
            let kind = program.pick(&KINDS);
            (method, object(json!({"mediaType": kind, "uid": uid(program)})))
        }
        14 => {
            let seconds = u32::from(program.word()) << (program.byte() & 7);
            let reason = name(program);
            let uid = uid(program);
            ("kick", object(json!({"uid": uid, "durationS": seconds, "reason": reason})))
        }
        15 => {
            let seconds = program.word();
            ("closeChannel", object(json!({"holdS": seconds, "reason": name(program)})))
        }
        16 | 17 => ("sendMessage", json!({"data": program.text()})),
        18 | 19 => {
            let to: Vec<Value> = (0..program.byte() % 70).map(|_| uid(program)).collect();
            ("sendMessage", json!({"data": program.text(), "to": to}))
        }
        20 | 21 => {
            let target = program.pick(&["self", "channel", "nobody"]);
            let (attributes, name) = (attributes(program), name(program));
            let params = json!({"attributes": attributes, "target": target, "name": name});
            ("setAttributes", object(params))
        }
        22 | 23 => ("renewToken", json!({"token": program.pick(&TOKENS)})),
        24 => ("report", json!({"dir": "push", "type": "binderror", "data": {"errCode": 1}})),
        25 => ("join", join(program)),
        26 => ("addTasks", json!({"rtmpTasks": []})),
        27 => ("leave", json!({})),
        28 => ("sendMessage", json!({"data": "y".repeat(usize::from(program.word()))})),
        29 => ("unknownMethod", json!({"x": program.text()})),
        _ => {
            let (k, n) = (program.byte(), program.byte());
            ("ping", json!({"k": k, "n": n}))
        }
    }
}

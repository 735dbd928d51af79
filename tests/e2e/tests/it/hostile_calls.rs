//! Hostile requests: wrong parameters, names and uids, and commands that the sender is not permitted to give.

use anyhow::Result;
use serde_json::{Value, json};

use crate::hostile::{Input, Row, broadcaster, lobby, member, run_topic};
use crate::hostile_bystanders::{LISTENER, SPEAKER};

fn call(method: &'static str, params: Value) -> Vec<Input> {
    vec![Input::Call(method, params)]
}

/// A call with parameters that cannot be written as a `Value`.
fn text(method: &str, params: &str) -> Vec<Input> {
    vec![Input::Text(format!(
        r#"{{"jsonrpc":"2.0","id":$ID,"method":"{method}","params":{params}}}"#
    ))]
}

fn join(uid: &str) -> Vec<Input> {
    text("join", &format!(r#"{{"appkey":"demo","channelName":"room","uid":{uid}}}"#))
}

fn join_channel(name: &str) -> Vec<Input> {
    call("join", json!({"appkey": "demo", "channelName": name, "uid": "7"}))
}

/// A join that is refused before its app is considered.
fn bad_join(name: &'static str, say: Vec<Input>, error: &'static str) -> Row {
    lobby(name, say, &[error])
}

fn params() -> Vec<Row> {
    let bad = "badUid uid";
    vec![
        member("unknown method", call("fly", json!({})), &["methodNotFound"]),
        member("method with a NUL", call("ping\0", json!({})), &["methodNotFound"]),
        member(
            "tasks of somebody in the audience",
            call("addTasks", json!({"rtmpTasks": []})),
            &["notBroadcaster"],
        ),
        lobby("unknown method in the lobby", call("fly", json!({})), &["methodNotFound"]),
        lobby("command before the join", call("publish", json!({})), &["notJoined"]),
        member("second join", join_channel("room"), &["alreadyJoined"]),
        member("params is an array", text("mute", r#"["audio"]"#), &["invalidParams"]),
        member("params is text", text("mute", r#""audio""#), &["invalidParams"]),
        // `null` counts as absent (FRM-3).
        member("params is null", text("mute", "null"), &["ok"]),
        member(
            "parameter twice",
            text("mute", r#"{"mediaType":"audio","mediaType":"video"}"#),
            &["invalidParams mediaType"],
        ),
        member("missing parameter", call("kick", json!({})), &["invalidParams uid"]),
        member("wrong type", call("sendMessage", json!({"data": 7})), &["invalidParams data"]),
        member(
            "wrong type inside",
            call("setAttributes", json!({"attributes": {"seat": 4}})),
            &["invalidParams attributes.seat"],
        ),
        member(
            "recipient that is no uid",
            call("sendMessage", json!({"data": "x", "to": ["7", "07"]})),
            &["badUid to[1]"],
        ),
        member(
            "65 recipients",
            call("sendMessage", json!({"data": "x", "to": vec!["7"; 65]})),
            &["tooManyRecipients to"],
        ),
        member(
            "message of 8 KiB + 1",
            call("sendMessage", json!({"data": "x".repeat(8193)})),
            &["messageTooLarge data"],
        ),
        member(
            "65 attributes",
            call(
                "setAttributes",
                json!({"attributes": (0..65).map(|n| (n.to_string(), json!("x"))).collect::<serde_json::Map<_, _>>()}),
            ),
            &["badAttributes attributes"],
        ),
        member(
            "empty attribute key",
            call("setAttributes", json!({"attributes": {"": "x"}})),
            &["badAttributes attributes"],
        ),
        member(
            "attributes of 5000 bytes",
            call("setAttributes", json!({"attributes": {"a": "x".repeat(5000)}})),
            &["attributesTooLarge attributes"],
        ),
        member(
            "name of 129 bytes",
            call("setAttributes", json!({"attributes": {}, "name": "x".repeat(129)})),
            &["badName name"],
        ),
        member(
            "unknown kind",
            call("mute", json!({"mediaType": "smell"})),
            &["badMediaType mediaType"],
        ),
        member(
            "mute of a screen",
            call("mute", json!({"mediaType": "screenShare"})),
            &["badMediaType mediaType"],
        ),
        member("unknown role", call("setRole", json!({"role": "king"})), &["badRole role"]),
        bad_join("join without params", call("join", json!({})), "invalidParams appkey"),
        bad_join("uid with leading zeros", join(r#""007""#), bad),
        bad_join("uid is a fraction", join("1.5"), bad),
        bad_join("uid 1e3", join("1e3"), bad),
        bad_join("uid \"1e3\"", join(r#""1e3""#), bad),
        bad_join("uid negative", join("-1"), bad),
        bad_join("uid \"-1\"", join(r#""-1""#), bad),
        bad_join("uid is empty", join(r#""""#), bad),
        bad_join("uid with a space", join(r#"" 7""#), bad),
        bad_join("uid in other digits", join(r#""\u0667""#), bad),
        bad_join("uid 2^53 as a number", join("9007199254740992"), bad),
        bad_join("uid 2^64", join(r#""18446744073709551616""#), "uidOutOfRange uid"),
        bad_join(
            "uid of 1000 digits",
            join(&format!(r#""{}""#, "9".repeat(1000))),
            "uidOutOfRange uid",
        ),
        bad_join("uid is an array", join("[7]"), "invalidParams uid"),
        bad_join("channel name empty", join_channel(""), "badChannelName channelName"),
        bad_join(
            "channel name of 65 bytes",
            join_channel(&"x".repeat(65)),
            "badChannelName channelName",
        ),
        bad_join("channel name with a slash", join_channel("a/b"), "badChannelName channelName"),
        bad_join("channel name with a NUL", join_channel("a\0b"), "badChannelName channelName"),
        bad_join("channel name in Chinese", join_channel("连麦"), "badChannelName channelName"),
        bad_join(
            "appkey with a slash",
            call("join", json!({"appkey": "../demo", "channelName": "x", "uid": "7"})),
            "badAppkey appkey",
        ),
        lobby(
            "short joinId",
            call(
                "join",
                json!({"appkey": "demo", "channelName": "x", "uid": "7", "joinId": "short"}),
            ),
            &["invalidParams joinId", "closing 4503 none", "close 4503 joinRefused"],
        ),
        lobby(
            "unknown role in a join",
            call("join", json!({"appkey": "demo", "channelName": "x", "uid": "7", "role": "king"})),
            &["badRole role", "closing 4503 none", "close 4503 joinRefused"],
        ),
    ]
}

fn rights() -> Vec<Row> {
    let of = |uid: &str| json!({"uid": uid});
    let see = |uid: &str, kind: &str| json!({"uid": uid, "mediaType": kind});
    vec![
        member("publish as audience", call("publish", json!({})), &["notBroadcaster"]),
        broadcaster("publish for somebody else", call("publish", of(SPEAKER)), &["forbidden uid"]),
        broadcaster("unpublish of somebody else", call("unpublish", of(SPEAKER)), &["forbidden"]),
        member("subscribe to nobody", call("subscribe", see("999", "video")), &["noSuchMember uid"]),
        member("subscribe to audience", call("subscribe", see(LISTENER, "video")), &["noSuchMember uid"]),
        member("subscribe to what is not published", call("subscribe", see(SPEAKER, "screenShare")), &["notPublished"]),
        member("subscribe to all kinds", call("subscribe", see(SPEAKER, "")), &["badMediaType mediaType"]),
        member("unsubscribe from nobody", call("unsubscribe", see("999", "video")), &["ok"]),
        member("kick without right", call("kick", of(SPEAKER)), &["forbidden"]),
        member("kick of nobody without right", call("kick", of("999")), &["forbidden"]),
        member("setRole of others without right", call("setRole", json!({"uid": SPEAKER, "role": "audience"})), &["forbidden"]),
        member("mute of others without right", call("mute", of(SPEAKER)), &["forbidden"]),
        member("unmute of others without right", call("unmute", of(SPEAKER)), &["forbidden"]),
        member("closeChannel without right", call("closeChannel", json!({})), &["forbidden"]),
        member("channel attributes without right", call("setAttributes", json!({"target": "channel", "attributes": {"a": "b"}})), &["forbidden"]),
        member("attributes of another target", call("setAttributes", json!({"target": "world", "attributes": {}})), &["invalidParams target"]),
        // The moderator of its own channel.
        lobby("subscribe to oneself", [
            call("join", json!({"appkey": "demo", "channelName": "own", "uid": "7", "joinId": "sixteen-characters"})),
            call("publish", json!({})),
            call("subscribe", see("7", "video")),
        ].concat(), &["ok", "ok", "selfTarget"]).once(),
        lobby("kick of oneself", [
            call("join", json!({"appkey": "demo", "channelName": "own2", "uid": "7", "joinId": "sixteen-characters"})),
            call("kick", of("7")),
            call("kick", json!({"uid": "8", "durationS": 604_801})),
            call("kick", json!({"uid": "8", "durationS": 1, "reason": "x".repeat(257)})),
            call("kick", of("8")),
            call("closeChannel", json!({"holdS": 3601})),
        ].concat(), &["ok", "selfTarget", "badDuration durationS", "badReason reason", "noSuchMember uid", "badDuration holdS"]).once(),
    ]
}

/// Proves ERR-3, FRM-3, FRM-9, FRM-11, FWD-2, FWD-3, JOI-5, LIM-1, MUT-1, NSY-1, SES-1, SES-2.
/// Proves SES-5.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_parameter_disturbs_others() -> Result<()> {
    println!("{}", run_topic("parameters", &params()).await?);
    Ok(())
}

/// Proves ATT-3, KIC-4, MUT-4, PUB-1, PUB-7, ROL-3, SUB-1, SUB-2, SUB-6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_does_what_it_may_not() -> Result<()> {
    println!("{}", run_topic("rights", &rights()).await?);
    Ok(())
}

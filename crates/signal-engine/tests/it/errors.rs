//! The errors of each method, and the messages before a connection is closed.

use std::collections::{BTreeMap, BTreeSet};

use lianmai_protocol::message::media::Publish;
use lianmai_protocol::message::session::{MessageSent, Report, ReportDir, ReportType};
use lianmai_protocol::message::{Call, Notice};
use lianmai_protocol::raw::JsonObject;
use lianmai_protocol::{CloseCode, ErrorName, UserId, WallTime};
use lianmai_signal_engine::{Grant, Input, Lobby, LobbyOutput, TicketKey};

use crate::calls::*;
use crate::world::{Client, DiskMode, Issuer, World, entry};

/// The names in backquotes.
fn names(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The errors that the document allows: those of MET-1, and those of each method in section 5.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md");
    let document = std::fs::read_to_string(path).expect("the document");
    let row = |start: &str| {
        let line = document.lines().find(|line| line.starts_with(start)).expect("a row");
        names(line)
    };
    let (any, tokens) = (row("| [MET-1]"), row("| [JOI-9]"));
    let methods = document.lines().filter(|line| line.starts_with("| `")).filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        let [methods, _, _, _, own, _] = cells[..] else { return None };
        let mut errors = any.clone();
        errors.extend(names(own));
        if own.contains("JOI-9") {
            errors.extend(tokens.iter().filter(|name| name.starts_with("token")).cloned());
            errors.extend(["uidMismatch", "channelMismatch", "badAppkey"].map(str::to_owned));
        }
        Some(names(methods).into_iter().map(move |method| (method, errors.clone())))
    });
    methods.flatten().collect()
}

/// Every call: about members that exist, about others, and with unknown words.
fn every_call() -> Vec<Call> {
    let mut calls = vec![
        leave(),
        ping(),
        send_message("x"),
        send_message(&"x".repeat(9_000)),
        send_to(&[2, 9], "x"),
    ];
    calls.push(send_to(&(0..65).collect::<Vec<_>>(), "x"));
    for kind in ["", "audio", "screenShare", "smell"] {
        calls.extend([publish(kind), unpublish(kind), mute(kind), unmute(kind)]);
        for uid in [1, 2, 3, 9] {
            calls.extend([subscribe(uid, kind), unsubscribe(uid, kind), unpublish_of(uid, kind)]);
            calls.extend([mute_of(uid, kind), unmute_of(uid, kind)]);
        }
    }
    calls.push(Call::Publish(Publish { media_type: selector("audio"), uid: Some(UserId(3)) }));
    for role in ["audience", "broadcaster", "king"] {
        calls.extend([set_role(role), set_role_of(2, role), set_role_of(9, role)]);
    }
    for uid in [1, 2, 9] {
        calls.extend([kick(uid, 0), kick(uid, 1), kick(uid, 700_000)]);
    }
    calls.extend([close_channel(0), close_channel(4_000)]);
    calls.extend([set_attributes(&[("k", "v")]), set_attributes(&[("", "v")])]);
    calls.extend([set_attributes(&[("k", &"v".repeat(5_000))]), rename(&"n".repeat(200))]);
    calls.push(set_channel_attributes(&[("k", "v")]));
    calls.extend(["all", "none", "bad", "late", "held"].map(renew_token));
    calls.push(Call::Report(Report {
        dir: ReportDir::Push,
        kind: ReportType::Error,
        data: JsonObject::default(),
        uid: None,
    }));
    calls
}

/// A member that calls, a moderator that publishes, and an audience member.
fn scene(asks: u8) -> (World, Client) {
    let mut w = World::with(|config| {
        config.limits.subscriptions = 1;
        config.limits.channel_attribute_bytes = 10_000;
        config.limits.command_burst = 60;
    });
    let mut none = Grant::debug();
    none.rights = lianmai_protocol::Rights::default();
    w.tokens.insert("all".to_owned(), Ok(Grant::debug()));
    w.tokens.insert("none".to_owned(), Ok(none.clone()));
    w.tokens.insert("bad".to_owned(), Err(ErrorName::TokenInvalid));
    w.tokens.insert("late".to_owned(), Err(ErrorName::TokenExpired));
    let other = w.admit(entry(2).moderator());
    w.push_url(other, "");
    w.admit(entry(3).audience());
    let client = match asks {
        0 => w.admit(entry(1).moderator()),
        1 => w.join(1),
        2 => w.admit(entry(1).moderator().audience()),
        _ => w.admit(entry(1).grant(|grant| grant.rights = none.rights)),
    };
    (w, client)
}

/// Every call by every kind of member, alone and behind one that waits, with a disk and an issuer that work or fail.
/// Messages of functions that a server does not offer are not sent either.
///
/// Proves MET-1, NSY-2.
#[test]
fn met_1_no_method_is_answered_with_an_error_that_it_does_not_have() {
    let allowed = allowed();
    assert_eq!(allowed.len(), Call::METHODS.len());
    let mut seen = BTreeSet::new();
    for asks in 0..4 {
        for call in every_call() {
            for how in 0..5 {
                let (mut w, client) = scene(asks);
                w.skip_received();
                match how {
                    0 => {}
                    1 => w.issuer = Issuer::Fail,
                    2 => w.disk.mode = DiskMode::Fail,
                    3 => w.issuer = Issuer::Hold,
                    _ => while w.ask(client, ping()).is_ok() {},
                }
                let id = w.send(client, call.clone());
                // The same id with another content; then the call that may overtake it.
                w.send_as(client, id, send_message("another"));
                if how == 3 {
                    w.send(client, call.clone());
                    w.send(client, leave());
                }
                for line in w.log(client) {
                    let word = line.split(' ').next().expect("one");
                    assert!(
                        !["rtmpTasksStatus", "~syncDone", "~networkQuality"].contains(&word),
                        "{line}"
                    );
                    let Some((method, error)) = line.split_once(" !") else { continue };
                    let Some(errors) = allowed.get(method) else { panic!("{line}") };
                    // A moderator's change of another member can also be answered with this (RST-5).
                    let is_stored = ["unpublish", "setRole", "mute", "unmute"].contains(&method);
                    let fits = errors.contains(error) || (is_stored && error == "notStored");
                    assert!(fits, "{line}, asked by {asks}: {call:?}");
                    seen.insert((method.to_owned(), error.to_owned()));
                }
            }
        }
    }
    let kinds: BTreeSet<_> = seen.iter().map(|(_, error)| error.as_str()).collect();
    assert!(kinds.len() >= 20 && seen.len() >= 60, "{} of {} errors", seen.len(), kinds.len());
}

/// Proves NOT-3.
#[test]
fn not_3_the_reason_of_a_closing_is_the_name_of_its_code() {
    type Ending = fn(&mut World, Client);
    let endings: [(CloseCode, Ending); 9] = [
        (CloseCode::NORMAL, |w, client| drop(w.ok(client, leave()))),
        (CloseCode::GOING_AWAY, |w, _| w.input(Input::Stop)),
        (CloseCode::IDLE, |w, _| w.advance(25_000)),
        (CloseCode::TAKEN_OVER, |w, client| drop(w.resume(client))),
        (CloseCode::KICKED, |w, _| {
            let other = w.admit(entry(9).moderator());
            w.ok(other, kick(1, 0));
        }),
        (CloseCode::CHANNEL_CLOSED, |w, client| drop(w.ok(client, close_channel(0)))),
        (CloseCode::REPLACED, |w, _| {
            w.join(1);
        }),
        (CloseCode::PROTOCOL_VIOLATION, |w, client| w.text(client, "{")),
        (CloseCode::RATE_LIMITED, |w, client| {
            while w.closed(client).is_none() {
                w.send(client, ping());
            }
        }),
    ];
    for (code, end) in endings {
        let mut w = World::new();
        let client = w.admit(entry(1).moderator());
        end(&mut w, client);
        let closing = w.closing(client).expect("announced");
        let row = code.row().expect("a known code");
        assert_eq!((closing.code, closing.reason.as_str()), (code, row.name));
        assert_eq!(closing.action, row.action, "{}", row.name);
    }
}

/// Proves SES-4.
#[test]
fn ses_4_the_closing_of_a_refused_join_repeats_when_to_come_back() {
    let mut w = World::new();
    let m = w.admit(entry(1).moderator());
    w.ok(m, kick(2, 60));
    let client = w.send_join(entry(2));
    let error = w.answer(client, 1).expect("answered").expect_err("banned");
    assert_eq!(error.data.retry_after_ms, Some(60_000));
    assert_eq!(w.closing(client).expect("announced").retry_after_ms, Some(60_000));
    // A permanent error tells no time.
    let client = w.send_join(entry(3).role("king"));
    assert_eq!(w.closing(client).expect("announced").retry_after_ms, None);
}

/// Proves KIC-1.
#[test]
fn kic_1_a_kicked_member_gets_the_reason_its_events_and_the_close() {
    let mut w = World::new();
    let m = w.admit(entry(1).moderator());
    let b = w.join(2);
    w.push_url(b, "video");
    w.advance(100);
    w.skip_received();
    w.ok(m, kick(2, 60));
    let expected = ["~kicked", "streamRemoved 2 video", "clientLeave 2 kicked", "~closing kicked"];
    assert_eq!(w.log(b), expected);
}

/// Proves LEA-3, RST-5.
#[test]
fn lea_3_a_command_that_is_being_stored_is_answered_before_the_leave() {
    let mut w = World::new();
    let m = w.admit(entry(1).moderator());
    let b = w.join(2);
    w.advance(100);
    w.skip_received();
    w.disk.mode = DiskMode::Hold;
    w.send(m, kick(2, 60));
    w.send(m, leave());
    w.disk.mode = DiskMode::AtOnce;
    w.write_held();
    let expected =
        ["clientLeave 2 kicked", "kick ok", "clientLeave 1 left", "leave ok", "~closing left"];
    assert_eq!(w.log(m), expected);
    assert_eq!(w.closed(b), Some(CloseCode::KICKED));
}

/// Proves MSG-2.
#[test]
fn msg_2_a_message_to_all_is_delivered_to_nobody_by_name() {
    let mut w = World::new();
    let a = w.join(1);
    w.join(2);
    let mut delivered = |call| {
        let sent: MessageSent = serde_json::from_value(w.ok(a, call)).expect("sent");
        sent.delivered
    };
    assert_eq!(delivered(send_message("to all")), 0);
    assert_eq!(delivered(send_to(&[], "to nobody")), 0);
    assert_eq!(delivered(send_to(&[2], "to one")), 1);
}

/// Proves IDS-5, MET-2.
#[test]
fn ids_5_the_thirty_third_is_refused_and_had_no_effect() {
    let mut w = World::new();
    let a = w.join(1);
    w.advance(5_000);
    w.issuer = Issuer::Hold;
    w.send(a, publish("audio"));
    for n in 1..32 {
        w.send(a, send_message(&n.to_string()));
    }
    let over = w.send(a, mute("audio"));
    assert_eq!(w.error(a, over), ErrorName::TooManyInFlight);
    // It was refused without an effect (MET-2), and the waiting commands are not affected.
    w.issue();
    let muted = w.log(a).iter().any(|line| line.starts_with("muted"));
    assert!(!muted);
    assert!(!w.notices(a).iter().any(|notice| matches!(notice, Notice::Closing(_))));
}

/// Proves NSY-1, SES-2.
#[test]
fn nsy_1_tasks_are_not_joined_in_the_lobby() {
    let mut lobby = Lobby::new(TicketKey::new([0; 32]));
    for (method, params) in [
        ("addTasks", r#"{"rtmpTasks":[]}"#),
        ("updateTasks", r#"{"rtmpTasks":[]}"#),
        ("deleteTasks", r#"{"taskIds":["a"]}"#),
    ] {
        let frame = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let outputs = lobby.frame(frame.as_bytes());
        let [LobbyOutput::Send(text)] = &outputs[..] else { panic!("{outputs:?}") };
        let text = String::from_utf8_lossy(text.as_bytes());
        assert!(text.contains("\"notJoined\""), "{text}");
    }
}

/// Proves AUT-5.
#[test]
fn aut_5_the_times_of_a_token_are_judged_at_its_renewal_too() {
    let mut w = World::new();
    let a = w.join(1);
    let now = w.now.wall.0;
    let at = |ms: u64| Some(WallTime(ms));
    let grant = |change: fn(&mut Grant, Option<WallTime>), time| {
        let mut grant = Grant::debug();
        change(&mut grant, time);
        Ok(grant)
    };
    for (change, refused, taken, error) in [
        (
            (|grant, time| grant.not_before = time) as fn(&mut Grant, Option<WallTime>),
            at(now + 5_001),
            at(now + 5_000),
            ErrorName::TokenNotYetValid,
        ),
        (
            |grant, time| grant.issued_at = time,
            at(now + 60_001),
            at(now + 60_000),
            ErrorName::TokenNotYetValid,
        ),
        (
            |grant, time| grant.expires = time,
            at(now - 5_000),
            at(now - 4_999),
            ErrorName::TokenExpired,
        ),
    ] {
        w.tokens.insert("t".to_owned(), grant(change, refused));
        assert_eq!(w.err(a, renew_token("t")), error);
        w.tokens.insert("t".to_owned(), grant(change, taken));
        w.ok(a, renew_token("t"));
    }
}

/// Proves LEA-3.
#[test]
fn lea_3_a_leave_supersedes_what_waits_behind_a_write() {
    let mut w = World::new();
    let m = w.admit(entry(1).moderator());
    w.join(2);
    w.advance(100);
    w.skip_received();
    w.disk.mode = DiskMode::Hold;
    w.send(m, kick(2, 60));
    w.send(m, send_message("never"));
    w.send(m, leave());
    w.disk.mode = DiskMode::AtOnce;
    w.write_held();
    let expected = [
        "clientLeave 2 kicked",
        "kick ok",
        "sendMessage !superseded",
        "clientLeave 1 left",
        "leave ok",
        "~closing left",
    ];
    assert_eq!(w.log(m), expected);
}

//! Messages, attributes and reports.

use lianmai_protocol::message::notice::TargetedMessage;
use lianmai_protocol::message::session::{
    AttributeTarget, MessageSent, Report, ReportDir, ReportType, SetAttributes,
};
use lianmai_protocol::message::{Call, Notice};
use lianmai_protocol::{ErrorName, UserId};
use serde_json::json;

use crate::calls::*;
use crate::world::{World, entry};

/// Proves MSG-1, MSG-2, MSG-3, RES-8.
#[test]
fn a_targeted_message_reaches_its_recipients_only() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    let c = w.join(3);
    let hidden = w.admit(entry(4).audience());
    let lost = w.join(5);
    w.drop_socket(lost);
    let events = w.engine.stats().events;
    let sent = w.ok(a, send_to(&[2, 4, 2, 5, 99], "psst-secret"));
    let sent: MessageSent = serde_json::from_value(sent).expect("sent");
    assert_eq!(sent.delivered, 4, "each recipient counts once, present or not");
    w.ok(c, send_to(&[2], "another-secret"));
    w.advance(100);
    assert_eq!(w.engine.stats().events, events, "not in the log");
    let expected = |n: u64, uid: u64, data: &str| {
        Notice::Message(TargetedMessage { uid: UserId(uid), data: data.to_owned(), n })
    };
    assert_eq!(w.notices(b), [expected(1, 1, "psst-secret"), expected(2, 3, "another-secret")]);
    assert_eq!(w.notices(hidden), [expected(1, 1, "psst-secret")]);
    let (lost, resumed) = w.resume(lost);
    assert_eq!((resumed.messages, resumed.messages_lost), (1, 0), "RES-8");
    assert_eq!(w.notices(lost), [expected(1, 1, "psst-secret")]);
    for client in [a, c] {
        for frame in &w.conns[&client.0].frames {
            assert!(!String::from_utf8_lossy(frame).contains("secret"), "RES-8");
        }
    }
}

/// Proves no rule of the protocol: a targeted message overtakes no event.
#[test]
fn a_targeted_message_comes_behind_the_events_before_it() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.advance(1_000);
    w.skip_received();
    w.ok(a, send_message("one"));
    w.ok(a, send_message("two"));
    w.ok(a, send_to(&[2], "three"));
    assert_eq!(w.log(b), ["message 1 one", "message 1 two", "~message three"]);
}

/// Proves LIM-1.
#[test]
fn messages_have_a_right_a_length_and_a_number_of_recipients() {
    let mut w = World::new();
    let a = w.join(1);
    let mute = w.admit(entry(2).rights(|rights| rights.message = false));
    assert_eq!(w.err(mute, send_message("x")), ErrorName::Forbidden);
    assert_eq!(w.err(mute, send_to(&[1], "x")), ErrorName::Forbidden);
    w.ok(a, send_message(&"x".repeat(8 * 1024)));
    assert_eq!(w.err(a, send_message(&"x".repeat(8 * 1024 + 1))), ErrorName::MessageTooLarge);
    assert_eq!(w.err(a, send_to(&[2], &"x".repeat(8 * 1024 + 1))), ErrorName::MessageTooLarge);
    // Counted as JSON, so that a frame is no longer than its message seems to be.
    assert_eq!(
        w.err(a, send_message(&"\u{1}".repeat(8 * 1024 / 6 + 1))),
        ErrorName::MessageTooLarge
    );
    w.advance(1_000);
    w.ok(a, send_message(&"\u{1}".repeat(8 * 1024 / 6)));
    let many: Vec<u64> = (0..65).collect();
    assert_eq!(w.err(a, send_to(&many, "x")), ErrorName::TooManyRecipients);
    w.ok(a, send_to(&many[..64], "x"));
    w.audit();
}

/// Proves ATT-1, ATT-2, MET-3.
#[test]
fn attributes_are_patched_and_sent_whole_only_on_a_change() {
    let mut w = World::new();
    let a = w.admit(entry(1).name("Ann").attribute("seat", "1"));
    let b = w.join(2);
    w.advance(100);
    w.skip_received();
    w.ok(a, set_attributes(&[("mood", "gay"), ("seat", "")]));
    w.ok(a, set_attributes(&[("mood", "gay")]));
    w.ok(a, set_attributes(&[("unknown", "")]));
    w.ok(a, rename("Ann"));
    w.ok(a, rename("Anna"));
    w.advance(20);
    assert_eq!(w.new_events(b), ["clientUpdate 1", "clientUpdate 1"]);
    let picture = w.conns[&b.0].picture.clone().expect("a picture");
    let ann = &picture.members[&UserId(1)];
    assert_eq!(ann.name.as_deref(), Some("Anna"));
    let attributes: Vec<_> = ann.attributes.0.iter().collect();
    assert_eq!(attributes, [(&"mood".to_owned(), &"gay".to_owned())]);
    w.audit();
}

/// Proves ATT-4, ATT-5, MET-2.
#[test]
fn attributes_have_limits_and_a_refused_patch_changes_nothing() {
    let mut w = World::new();
    let a = w.admit(entry(1).moderator());
    let long = "k".repeat(65);
    assert_eq!(w.err(a, set_attributes(&[("", "x")])), ErrorName::BadAttributes);
    assert_eq!(w.err(a, set_attributes(&[(&long, "x")])), ErrorName::BadAttributes);
    // Also for a patch that removes them: attributes cannot have such a key.
    for key in ["", &long] {
        assert_eq!(w.err(a, set_attributes(&[(key, "")])), ErrorName::BadAttributes);
        assert_eq!(w.err(a, set_channel_attributes(&[(key, "")])), ErrorName::BadAttributes);
    }
    w.advance(1_000);
    // `"k":"…",` with quotes and separators: 4096 bytes.
    let big = "x".repeat(4_089);
    assert_eq!(
        w.err(a, set_attributes(&[("k", &format!("{big}x"))])),
        ErrorName::AttributesTooLarge
    );
    w.ok(a, set_attributes(&[("k", &big)]));
    assert_eq!(w.err(a, set_attributes(&[("l", "y")])), ErrorName::AttributesTooLarge);
    w.ok(a, set_attributes(&[("k", ""), ("l", "y")]));
    let keys: Vec<String> = (0..64).map(|n| n.to_string()).collect();
    let many: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "v")).collect();
    assert_eq!(w.err(a, set_attributes(&many)), ErrorName::BadAttributes, "65 keys");
    let removing = |keys: usize| {
        let attributes = (0..keys).map(|n| (format!("gone{n}"), None)).collect();
        Call::SetAttributes(SetAttributes { attributes, target: None, name: None })
    };
    let b = w.join(2);
    w.ok(b, removing(128));
    assert_eq!(w.err(b, removing(129)), ErrorName::BadAttributes, "129 keys of a patch");
    assert_eq!(w.err(a, rename(&"n".repeat(129))), ErrorName::BadName);
    assert_eq!(
        w.err(a, set_channel_attributes(&[("k", &"x".repeat(4_090))])),
        ErrorName::AttributesTooLarge
    );
    // As JSON a control character takes six bytes, a quote two.
    let escaped = "\u{1}".repeat(681) + "\"";
    assert_eq!(escaped.len() + 1, 683);
    w.ok(a, set_channel_attributes(&[("k", &escaped)]));
    assert_eq!(
        w.err(a, set_channel_attributes(&[("k", &(escaped + "\""))])),
        ErrorName::AttributesTooLarge
    );
    assert_eq!(w.err(a, set_channel_attributes(&[("", "x")])), ErrorName::BadAttributes);
    let b = w.join(2);
    let ann = &w.joined(b).members[0];
    assert_eq!(ann.attributes.0.iter().collect::<Vec<_>>(), [(&"l".to_owned(), &"y".to_owned())]);
    w.audit();
}

/// Proves ATT-3, MET-3.
#[test]
fn channel_attributes_need_a_moderator() {
    let mut w = World::new();
    let m = w.admit(entry(1).moderator());
    let b = w.join(2);
    w.advance(100);
    w.skip_received();
    assert_eq!(w.err(b, set_channel_attributes(&[("topic", "tea")])), ErrorName::Forbidden);
    w.ok(m, set_channel_attributes(&[("topic", "tea")]));
    w.ok(m, set_channel_attributes(&[("topic", "tea")]));
    w.advance(20);
    assert_eq!(w.new_events(b), ["channelUpdate"]);
    let set = |target: &str, name: Option<&str>| {
        Call::SetAttributes(SetAttributes {
            attributes: patch(&[("a", "b")]),
            target: Some(AttributeTarget::from(target)),
            name: name.map(str::to_owned),
        })
    };
    assert_eq!(w.err(m, set("channel", Some("x"))), ErrorName::InvalidParams);
    assert_eq!(w.err(m, set("world", None)), ErrorName::InvalidParams);
    w.audit();
}

/// Proves REP-1.
#[test]
fn a_report_is_answered_and_causes_no_event() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.advance(100);
    w.skip_received();
    let data = r#"{"code":1002}"#.parse().expect("an object");
    let report = Report { dir: ReportDir::Push, kind: ReportType::StateChange, data, uid: None };
    assert_eq!(w.ok(a, Call::Report(report)), json!({}));
    w.advance(100);
    assert!(w.new_events(b).is_empty() && w.notices(b).is_empty());
}

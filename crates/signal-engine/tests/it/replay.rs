//! Events and messages that are kept for an absent member, and their order at its return.

use lianmai_protocol::codec::{ServerMessage, decode_server_frame};
use lianmai_protocol::message::Notice;
use lianmai_protocol::message::session::Outcome;

use crate::calls::*;
use crate::world::{Client, World, entry};

const JOIN_ID: &str = "0123456789abcdef";

/// Everything that a connection was sent, as one word each.
fn order(w: &World, client: Client) -> Vec<&'static str> {
    let frames = w.conns[&client.0].frames.iter();
    let messages = frames.flat_map(|frame| decode_server_frame(frame).expect("readable"));
    let words = messages.map(|message| match message {
        ServerMessage::Answer { .. } => "answer",
        ServerMessage::Event(..) => "event",
        ServerMessage::Notice(Notice::Message(_)) => "message",
        ServerMessage::Notice(Notice::MemberCount(_)) => "memberCount",
        ServerMessage::Notice(Notice::TokenWillExpire(_)) => "tokenWillExpire",
        ServerMessage::Notice(Notice::ServerRestarting(_)) => "serverRestarting",
        ServerMessage::Notice(_) => "notice",
    });
    words.collect()
}

/// Proves RES-6.
#[test]
fn res_6_a_resume_sends_events_then_messages_then_the_present_state() {
    let mut w = World::new();
    let a = w.join(1);
    let short = entry(2).jwt(&w, 0, 40_000);
    let b = w.admit(short);
    w.advance(100);
    w.drop_socket(b);
    w.ok(a, send_to(&[2], "for two"));
    w.ok(a, send_message("for all"));
    w.admit(entry(3).audience());
    w.advance_alive(25_000, &[a]);
    let (b, resumed) = w.resume(b);
    assert_eq!(resumed.outcome, Outcome::Replayed);
    w.ok(a, send_message("new"));
    w.advance(100);
    let expected = ["answer", "event", "message", "memberCount", "tokenWillExpire", "event"];
    assert_eq!(order(&w, b), expected);
}

/// Proves JOI-2, RES-8.
#[test]
fn res_8_stored_messages_follow_a_repeated_join() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.admit(entry(2).join_id(JOIN_ID));
    w.drop_socket(b);
    w.ok(a, send_to(&[2], "one"));
    w.ok(a, send_to(&[2], "two"));
    let again = w.admit(entry(2).join_id(JOIN_ID));
    let texts: Vec<String> =
        w.log(again).into_iter().filter(|l| l.starts_with("~message")).collect();
    assert_eq!(texts, ["~message one", "~message two"]);
    assert_eq!(order(&w, again)[..3], ["answer", "message", "message"]);
    // Another membership of the uid gets none of them.
    w.drop_socket(again);
    w.ok(a, send_to(&[2], "three"));
    let other = w.join(2);
    assert!(w.log(other).iter().all(|line| !line.starts_with("~message")));
}

/// Proves RES-8.
#[test]
fn res_8_no_more_than_64_kib_of_messages_are_kept() {
    let mut w = World::new();
    let a = w.join(1);
    let b = w.join(2);
    w.drop_socket(b);
    let text = "x".repeat(7_000);
    for _ in 0..12 {
        w.ok(a, send_to(&[2], &text));
        w.advance(1_000);
        w.ok(a, ping());
    }
    let (b, resumed) = w.resume(b);
    assert_eq!(resumed.messages + resumed.messages_lost, 12);
    let kept: usize = w.conns[&b.0].frames.iter().map(|frame| frame.len()).sum();
    assert!((8..=9).contains(&resumed.messages), "{} messages, {kept} bytes", resumed.messages);
    assert!(kept < 64 * 1024 + 4_096, "{kept} bytes with the answer");
}

/// Proves RES-8.
#[test]
fn res_8_a_member_that_confirms_nothing_does_not_cost_others_their_messages() {
    let mut w = World::with(|config| config.message_bytes = 40_000);
    let a = w.join(1);
    let victim = w.join(2);
    w.join(3); // confirms nothing
    w.ok(a, send_to(&[2], "one"));
    w.drop_socket(victim);
    let text = "x".repeat(7_000);
    for _ in 0..10 {
        w.ok(a, send_to(&[3], &text));
        w.advance(1_000);
        w.ok(a, ping());
    }
    assert!(w.engine.stats().message_bytes <= 40_000);
    w.ok(a, send_to(&[2], "two"));
    let (_, resumed) = w.resume(victim);
    // The first was received, although not confirmed.
    assert_eq!((resumed.messages, resumed.messages_lost), (1, 0));
    assert!(w.engine.stats().message_bytes <= 2 * 40_000);
}

/// Proves RES-7.
#[test]
fn res_7_the_log_of_a_channel_grows_with_its_members_up_to_256_kib() {
    for (others, most) in [(0, 16 * 1024 + 512), (39, 16 * 1024 + 40 * 512), (489, 256 * 1024)] {
        let mut w = World::with(|config| {
            config.limits.commands_per_second = 1_000;
            config.limits.command_burst = 1_000;
        });
        let a = w.join(1);
        for uid in 0..others {
            w.admit(entry(1_000 + uid).audience());
        }
        let text = "x".repeat(3_000);
        for _ in 0..120 {
            w.ok(a, send_message(&text));
            w.advance(20);
        }
        let bytes = w.engine.stats().log_bytes;
        assert!(bytes <= most && bytes + 4_000 > most, "{bytes} of {most} with {others} others");
    }
}

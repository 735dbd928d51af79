//! Proves no rule of the protocol: the notes of an engine, in the order of the events.

use lianmai_protocol::MediaKind;
use lianmai_signal_engine::Note;

use crate::calls::*;
use crate::world::{DiskMode, World, entry};

/// The notes since the last call, in words, without those about connections and refusals.
fn noted(w: &mut World) -> Vec<String> {
    let kind = |kind: &MediaKind| kind.as_str().to_owned();
    let words = std::mem::take(&mut w.notes).into_iter().filter_map(|note| {
        Some(match note {
            Note::ChannelOpened { .. } => "opened".to_owned(),
            Note::ChannelEnded { .. } => "ended".to_owned(),
            Note::MemberJoined { uid, role, .. } => format!("joined {uid} {role}"),
            Note::MemberLeft { uid, reason, .. } => format!("left {uid} {reason}"),
            Note::RoleChanged { uid, role, .. } => format!("role {uid} {role}"),
            Note::StreamAdded { uid, kind: of, .. } => format!("added {uid} {}", kind(&of)),
            Note::StreamRemoved { uid, kind: of, .. } => format!("removed {uid} {}", kind(&of)),
            _ => return None,
        })
    });
    words.collect()
}

#[test]
fn notes_begin_and_end_channel_membership_and_streams_in_order() {
    let mut w = World::new();
    let a = w.join(1);
    assert_eq!(noted(&mut w), ["opened", "joined 1 broadcaster"]);
    w.ok(a, publish(""));
    w.ok(a, publish(""));
    assert_eq!(noted(&mut w), ["added 1 audio", "added 1 video"]);
    w.ok(a, unpublish("audio"));
    w.ok(a, set_role("audience"));
    w.ok(a, set_role("broadcaster"));
    assert_eq!(
        noted(&mut w),
        ["removed 1 audio", "removed 1 video", "role 1 audience", "role 1 broadcaster"]
    );
    w.ok(a, publish("screenShare"));
    w.ok(a, leave());
    assert_eq!(
        noted(&mut w),
        ["added 1 screenShare", "removed 1 screenShare", "left 1 left", "ended"]
    );
}

#[test]
fn the_end_of_a_channel_ends_everything_in_it_first() {
    let mut w = World::new();
    let m = w.admit(entry(1).moderator());
    let b = w.join(2);
    w.push_url(m, "audio");
    w.push_url(b, "video");
    w.ok(m, subscribe(2, "video"));
    noted(&mut w);
    let (cut, viewers) = (w.cut.len(), w.cut_viewers.len());
    w.ok(m, close_channel(10));
    assert_eq!(
        noted(&mut w),
        [
            "removed 1 audio",
            "removed 2 video",
            "left 1 channelClosed",
            "left 2 channelClosed",
            "ended"
        ]
    );
    // Each stream ends as a whole, in one step.
    assert_eq!((w.cut.len() - cut, w.cut_viewers.len() - viewers), (2, 0));
    assert_eq!(w.engine.stats().streams, 0);
}

#[test]
fn a_replacement_is_a_leave_and_a_join_in_the_same_channel() {
    let mut w = World::new();
    let a = w.join(1);
    w.push_url(a, "audio");
    noted(&mut w);
    w.join(1);
    assert_eq!(noted(&mut w), ["removed 1 audio", "left 1 replaced", "joined 1 broadcaster"]);
}

#[test]
fn a_kicked_member_leaves_after_the_write_and_a_refused_join_opens_no_channel() {
    let mut w = World::new();
    let m = w.admit(entry(1).moderator());
    let b = w.join(2);
    w.push_url(b, "audio");
    noted(&mut w);
    w.disk.mode = DiskMode::Hold;
    w.send(m, kick(2, 60));
    assert!(noted(&mut w).is_empty());
    w.write_held();
    assert_eq!(noted(&mut w), ["removed 2 audio", "left 2 kicked"]);
    let mut wrong = entry(3);
    wrong.join.channel_name = "other".parse().expect("valid");
    wrong.join.name = Some("x".repeat(1_000));
    w.enter(wrong).expect_err("the name is too long");
    assert!(noted(&mut w).is_empty());
}

/// Restored channels and members neither begin nor end.
#[test]
fn a_restart_makes_no_notes() {
    let mut w = World::new();
    let a = w.join(1);
    w.push_url(a, "audio");
    noted(&mut w);
    w.crash();
    assert!(noted(&mut w).is_empty());
    let (a, _) = w.resume(a);
    w.ok(a, leave());
    assert_eq!(noted(&mut w), ["removed 1 audio", "left 1 left", "ended"]);
}

//! What the limits count: JSON bytes of text, and the largest snapshot that they permit.

use lianmai_protocol::attributes::json_bytes;
use lianmai_protocol::codec::{decode_server_frame, encode_result};
use lianmai_protocol::limits::{Limits, MAX_NAME_BYTES, MAX_REQUEST_ID, MAX_SERVER_FRAME_BYTES};
use lianmai_protocol::message::session::{Joined, Timers};
use lianmai_protocol::message::snapshot::{
    ChannelInfo, MemberInfo, OwnStream, SelfInfo, StreamInfo, Subscription,
};
use lianmai_protocol::message::task::{TaskInfo, TaskState};
use lianmai_protocol::{
    Attributes, Cid, Epoch, Gen, KindSet, MediaKind, Mid, Pub, RequestId, Rights, Role, SessionId,
    UserId,
};
use proptest::prelude::*;

use crate::support;

fn written<T: serde::Serialize>(value: &T) -> usize {
    serde_json::to_string(value).unwrap().len()
}

proptest! {
    /// A text counts as many bytes as its JSON string, and one byte for the separator after it.
    /// Proves ATT-5.
    #[test]
    fn json_bytes_are_those_of_the_writer(random in any::<String>(), nasty in support::text()) {
        for text in [&random, &nasty] {
            prop_assert_eq!(json_bytes(text), written(text) + 1);
        }
    }

    /// Proves ATT-5.
    #[test]
    fn attributes_count_what_is_between_their_braces(attributes in support::attributes()) {
        let last_mark = usize::from(!attributes.is_empty());
        prop_assert_eq!(attributes.bytes() + 2, written(&attributes) + last_mark);
    }
}

/// Proves ATT-5.
#[test]
fn json_bytes_of_every_character_that_has_its_own_escape() {
    for character in (0..=0x2ff_u32).chain([0x2028, 0x2029, 0xfeff, 0x1_f600]) {
        let text = char::from_u32(character).unwrap().to_string();
        assert_eq!(json_bytes(&text), written(&text) + 1, "{character:#x}");
    }
}

/// A value that takes `bytes` in JSON, separator included, with as few characters as possible.
fn value(bytes: usize) -> String {
    let text = "\u{1}".repeat((bytes - 3) / 6) + &"x".repeat((bytes - 3) % 6);
    assert_eq!(json_bytes(&text), bytes);
    text
}

/// One attribute that takes `bytes` in JSON.
fn attributes(bytes: usize) -> Attributes {
    let attributes = Attributes::from_iter([("k".to_owned(), value(bytes - 4))]);
    assert_eq!(attributes.bytes(), bytes);
    attributes
}

fn member(uid: u64, name: String, attributes: Attributes) -> MemberInfo {
    let stream =
        |kind: &MediaKind| StreamInfo { media_type: kind.clone(), publication: Pub([255; 12]) };
    MemberInfo {
        uid: UserId(uid),
        mid: Mid([255; 12]),
        role: Role::Broadcaster,
        name: Some(name),
        attributes,
        muted: KindSet::AUDIO_VIDEO,
        streams: MediaKind::ALL.iter().map(stream).collect(),
    }
}

/// The longest answer of `join` that a server may send: everything is at its limit.
fn longest(limits: &Limits) -> Joined {
    let (long_name, map_bytes) = ("\u{1}".repeat(MAX_NAME_BYTES), limits.attribute_bytes);
    let own = member(u64::MAX, long_name, attributes(map_bytes));
    let own_bytes = json_bytes(own.name.as_deref().unwrap()) + own.attributes.bytes();
    // The rest of the budget is divided among the members, so that each member also adds its braces and keys.
    let mut left = limits.channel_attribute_bytes - own_bytes;
    let mut members = vec![own.clone()];
    for others in (1..limits.broadcasters).rev() {
        let share = left / others;
        left -= share;
        let uid = u64::MAX - others as u64;
        members.push(member(uid, value(share - 40), attributes(40)));
    }
    assert_eq!(left, 0);
    let told = members.iter().map(|m| json_bytes(m.name.as_ref().unwrap()) + m.attributes.bytes());
    assert_eq!(told.sum::<usize>(), limits.channel_attribute_bytes);
    let task = |n: usize| TaskInfo {
        task_id: format!("{n:_>64}").parse().unwrap(),
        uid: Some(UserId(u64::MAX)),
        state: Some(TaskState::Retrying),
        code: u16::MAX,
        revision: u64::MAX,
        retries: u32::MAX,
    };
    let long = MAX_REQUEST_ID;
    let generation = Gen { route: u32::MAX, random: [255; 12] };
    let own_stream = |kind: &MediaKind| OwnStream {
        media_type: kind.clone(),
        publication: Pub([255; 12]),
        generation,
    };
    let subscription = |_| Subscription {
        uid: UserId(u64::MAX),
        media_type: MediaKind::ScreenShare,
        publication: Pub([255; 12]),
    };
    Joined {
        cid: Cid(long),
        uid: UserId(u64::MAX),
        mid: own.mid,
        session_id: SessionId([255; 12]),
        // A sealed ticket with the longest names.
        ticket: Some("x".repeat(360)),
        k: Some(u64::from(u32::MAX)),
        deployment_id: "d".repeat(64),
        epoch: Epoch([255; 12]),
        seq: long,
        channel: ChannelInfo {
            name: "\"".repeat(64).parse().unwrap(),
            creator: UserId(u64::MAX),
            attributes: attributes(map_bytes),
            tasks: (0..limits.tasks).map(task).collect(),
        },
        member_count: limits.members as u64,
        own: SelfInfo {
            uid: UserId(u64::MAX),
            mid: own.mid,
            role: Role::Broadcaster,
            rights: Rights { moderate: false, ..Rights::MEMBER },
            name: own.name.clone(),
            attributes: own.attributes.clone(),
            muted: KindSet::AUDIO_VIDEO,
            published: MediaKind::ALL.iter().map(own_stream).collect(),
            subscriptions: (0..limits.subscriptions).map(subscription).collect(),
            token_expires_in_ms: Some(long),
        },
        members,
        timers: Timers {
            ping_interval_ms: long,
            dead_after_ms: long,
            grace_ms: long,
            media_cap_ms: long,
        },
    }
}

/// A snapshot always fits into a frame.
/// Proves LIM-2.
#[test]
fn lim_2_the_largest_snapshot_is_bounded_and_fits_a_frame() {
    let default = Limits::default();
    let tight = Limits {
        broadcasters: 1,
        subscriptions: 0,
        channel_attribute_bytes: 6 * MAX_NAME_BYTES + 3 + default.attribute_bytes,
        ..default.clone()
    };
    let long_maps = Limits { attribute_bytes: 32 * 1024, ..default.clone() };
    for limits in [default, tight, long_maps] {
        let frame = encode_result(RequestId(MAX_REQUEST_ID), &longest(&limits));
        let bound = limits.snapshot_bytes();
        assert!(frame.len() <= bound, "{} of {bound} bytes", frame.len());
        assert!(bound <= MAX_SERVER_FRAME_BYTES);
        // The encoded snapshot is close to the bound, so the estimate for each member is not much too high.
        assert!(bound - frame.len() < 40 * 1024, "{} of {bound} bytes", frame.len());
        decode_server_frame(frame.as_bytes()).unwrap();
    }
}

/// Proves LIM-2.
#[test]
fn the_bound_follows_the_limits() {
    let default = Limits::default();
    let bytes = |change: fn(&mut Limits)| {
        let mut limits = default.clone();
        change(&mut limits);
        limits.snapshot_bytes()
    };
    let usual = default.snapshot_bytes();
    assert!(bytes(|limits| limits.broadcasters += 1) > usual);
    assert!(bytes(|limits| limits.subscriptions += 1) > usual);
    assert_eq!(bytes(|limits| limits.channel_attribute_bytes += 1), usual + 1);
    assert_eq!(bytes(|limits| limits.broadcasters = usize::MAX), usize::MAX, "no overflow");
}

//! HEVC, AV1 and Opus in Enhanced RTMP: every byte that is pushed comes out again, by RTMP and by FLV, for early and
//! for late players.
//! Proves URL-2, URL-11, URL-13.

use lianmai_media_plane::rtmp::message::message_type;
use lianmai_media_plane::{Direction, MediaKind, RelayConfig, pull};

use crate::sockets::{Client, Server, player, publisher, within};
use crate::support::*;

/// A message: its kind, its timestamp and its body.
type Said = (MediaKind, u32, Vec<u8>);

/// A message body: its head, and `length` different bytes as coded data.
fn coded(head: &[u8], length: u8) -> Vec<u8> {
    head.iter().copied().chain((0..length).rev()).collect()
}

fn video(time: u32, head: &[u8]) -> Said {
    (MediaKind::Video, time, coded(head, 200))
}

fn audio(time: u32, head: &[u8]) -> Said {
    (MediaKind::Audio, time, coded(head, 90))
}

/// Two groups of pictures: headers, colour information, frames with and without a composition time, and audio.
fn push(codec: &[u8; 4]) -> Vec<Said> {
    let head = |first: u8, rest: &[u8]| [&[first], &codec[..], rest].concat();
    let group = |time: u32| {
        vec![
            video(time, &head(0x91, &[0, 0, 40])),
            audio(time + 3, b"\x91Opus"),
            video(time + 40, &head(0xA3, &[])),
            audio(time + 23, b"\x91Opus"),
            // With a nanosecond offset, which stands before the packet type.
            video(time + 80, &[&[0xA7, 2, 0, 0, 7, 1], &codec[..], &[0, 0, 0]].concat()),
        ]
    };
    let heads = vec![
        video(0, &head(0x90, &[])),
        video(0, &head(0x94, b"\x02\x00\x09colorInfo\x05")),
        audio(0, b"\x90Opus"),
        audio(0, b"\x94Opus\x01\x02"),
    ];
    [heads, group(0), group(1000)].concat()
}

/// Index of the first message of the last group.
const LAST_GROUP: usize = 9;

fn bytes(said: &[Said]) -> Vec<u8> {
    let bytes = |(kind, time, body): &Said| match kind {
        MediaKind::Audio => message(4, message_type::AUDIO, 1, *time, body),
        _ => message(6, message_type::VIDEO, 1, *time, body),
    };
    said.iter().flat_map(bytes).collect()
}

async fn by_rtmp(player: &mut Client, count: usize) -> Vec<Said> {
    let mut got = Vec::new();
    while got.len() < count {
        let message = player.next().await.unwrap().expect("media");
        match message.type_id {
            message_type::AUDIO => {
                got.push((MediaKind::Audio, message.timestamp, message.payload.to_vec()))
            }
            message_type::VIDEO => {
                got.push((MediaKind::Video, message.timestamp, message.payload.to_vec()))
            }
            _ => {}
        }
    }
    got
}

async fn by_flv(pull: &mut pull::FlvStream, length: usize) -> Vec<Said> {
    let mut file = Vec::new();
    while file.len() < length {
        file.extend(within(pull.next()).await.expect("media"));
    }
    assert_eq!(file.len(), length);
    let mut got = Vec::new();
    let mut rest = &file[13..];
    while let Some((head, tail)) = rest.split_first_chunk::<11>() {
        let length = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
        let kind = if head[0] == 8 { MediaKind::Audio } else { MediaKind::Video };
        let time = u32::from_be_bytes([head[7], head[4], head[5], head[6]]);
        got.push((kind, time, tail[..length].to_vec()));
        rest = &tail[length + 4..];
    }
    got
}

/// Length of the FLV file with these messages, bytes.
fn length(said: &[Said]) -> usize {
    13 + said.iter().map(|(_, _, body)| body.len() + 15).sum::<usize>()
}

async fn comes_out_as_it_went_in(codec: &[u8; 4]) {
    let server = Server::start(RelayConfig::default(), allow()).await;
    let pull = async || {
        pull::open(&server.hub, &allow(), request(Direction::Play, "a", "")).await.unwrap()
    };
    let mut early = (player(&server, "a").await, pull().await);
    let mut publisher = publisher(&server, "a").await;
    let push = push(codec);
    publisher.send(&bytes(&push)).await.unwrap();
    assert_eq!(by_rtmp(&mut early.0, push.len()).await, push);
    assert_eq!(by_flv(&mut early.1, length(&push)).await, push);

    // Late players get the headers with the times of their kinds when the last group began, and that group.
    let time = |kind| if kind == MediaKind::Audio { 23 } else { 1000 };
    let heads = push[..4].iter().map(|(kind, _, body)| (*kind, time(*kind), body.clone()));
    let wanted: Vec<_> = heads.chain(push[LAST_GROUP..].iter().cloned()).collect();
    let mut late = (player(&server, "a").await, pull().await);
    assert_eq!(by_rtmp(&mut late.0, wanted.len()).await, wanted);
    assert_eq!(by_flv(&mut late.1, length(&wanted)).await, wanted);
    server.stop().await;
}

#[tokio::test]
async fn hevc_and_opus() {
    comes_out_as_it_went_in(b"hvc1").await;
}

#[tokio::test]
async fn av1_and_opus() {
    comes_out_as_it_went_in(b"av01").await;
}

/// Several tracks in one message, each with its own codec.
#[tokio::test]
async fn several_tracks() {
    let server = Server::start(RelayConfig::default(), allow()).await;
    let mut early = player(&server, "a").await;
    let mut publisher = publisher(&server, "a").await;
    let tracks = |first: u8, packet_type: u8| {
        let head = [first, 0x20 | packet_type];
        let one = [&b"hvc1\x00\0\0\x05"[..], b"12345"].concat();
        (MediaKind::Video, 0, [&head[..], &one, b"av01\x01\0\0\x03", b"678"].concat())
    };
    let push = [tracks(0x96, 0), tracks(0x96, 1), tracks(0xA6, 3)];
    publisher.send(&bytes(&push)).await.unwrap();
    assert_eq!(by_rtmp(&mut early, 3).await, push);
    let mut late = player(&server, "a").await;
    assert_eq!(by_rtmp(&mut late, 3).await, push);
    server.stop().await;
}

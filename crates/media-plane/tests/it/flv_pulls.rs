//! What HTTP-FLV players pull from the hub, under a paused clock: the head of the file, and its tags.
//! Proves URL-2, URL-14.

use std::time::Duration;

use lianmai_media_plane::{Direction, EndReason, MediaKind, flv, pull};
use tokio::time::advance;

use crate::hub::{
    AAC, AUDIO, AVC_FRAME, AVC_KEY, KEY, METADATA, audio, headers, hub, publish, video,
};
use crate::support::*;

/// Proves URL-2.
#[tokio::test(start_paused = true)]
async fn flv_pulls() {
    let hub = hub();
    let publisher = publish(&hub, "a").await.unwrap();
    headers(&publisher);
    video(&publisher, 0x0123_4540, AVC_KEY);
    let big = [AVC_FRAME, &[7; 50_000]].concat();
    video(&publisher, 0x0123_4567, &big);
    let mut pull =
        pull::open(&hub, &allow(), request(Direction::Play, "a", "v=bob")).await.unwrap();
    let first = pull.next().await.unwrap();
    assert_eq!(&first[..13], b"FLV\x01\x05\0\0\0\x09\0\0\0\0");
    let mut bytes = first.to_vec();
    let second = pull.next().await.unwrap();
    assert_eq!(
        second.len(),
        big.len() + flv::TAG_HEADER + flv::TAG_TRAILER,
        "a large tag is passed as it is"
    );
    bytes.extend(&second);
    let tags = tags(&bytes[13..]);
    let kinds: Vec<_> = tags.iter().map(|(kind, time, _)| (*kind, *time)).collect();
    assert_eq!(
        kinds,
        [(18, 0), (9, 0x0123_4540), (8, 0x0123_4540), (9, 0x0123_4540), (9, 0x0123_4567)]
    );
    assert_eq!(tags[4].2, big);

    audio(&publisher, 0x0123_4568, AAC);
    audio(&publisher, 0x0123_4569, AAC);
    assert_eq!(pull.next().await.unwrap().len(), 2 * (AAC.len() + 15), "small tags leave together");
    audio(&publisher, 0x0123_456A, AAC);
    let signal = pull.cut_signal();
    assert_eq!(hub.cut_viewer("bob"), 1);
    assert_eq!((pull.next().await, pull.ended()), (None, Some(EndReason::Cut)));
    drop(pull);
    assert_eq!(signal.await, EndReason::Cut);
    assert_eq!(hub.stats().players, 0);
}

/// For players that come before the push, just after its start, and late.
/// Proves URL-14.
#[tokio::test(start_paused = true)]
async fn an_flv_header_names_the_present_kinds() {
    for (kinds, flags) in [("a", 4), ("v", 1), ("av", 5), ("va", 5)] {
        let hub = hub();
        let open =
            async || pull::open(&hub, &allow(), request(Direction::Play, "a", "")).await.unwrap();
        let mut pulls = vec![open().await];
        advance(Duration::from_secs(60)).await;
        let publisher = publish(&hub, "a").await.unwrap();
        publisher.send(MediaKind::Metadata, 0, METADATA).unwrap();
        let mut firsts = Vec::new();
        for step in 0..60 {
            match step {
                5 | 40 => pulls.push(open().await),
                _ => {}
            }
            for kind in kinds.chars() {
                let (kind, body) = match kind {
                    'a' => (MediaKind::Audio, AUDIO),
                    _ => (MediaKind::Video, KEY),
                };
                publisher.send(kind, step * 40, body).unwrap();
            }
            advance(Duration::from_millis(40)).await;
        }
        for pull in &mut pulls {
            firsts.push(pull.next().await.unwrap());
        }
        assert_eq!(firsts.len(), 3);
        for first in firsts {
            assert_eq!((&first[..4], first[4]), (&b"FLV\x01"[..], flags), "{kinds}");
            assert_eq!(tags(&first[13..])[0].0, 18);
        }
    }
}

/// Proves URL-14.
#[tokio::test(start_paused = true)]
async fn an_flv_header_does_not_wait_for_ever() {
    let hub = hub();
    let mut pull = pull::open(&hub, &allow(), request(Direction::Play, "a", "")).await.unwrap();
    let publisher = publish(&hub, "a").await.unwrap();
    audio(&publisher, 0, AUDIO);
    let begin = tokio::time::Instant::now();
    assert_eq!(pull.next().await.unwrap()[4], 4);
    assert_eq!(begin.elapsed(), Duration::from_secs(1));
    let mut pull =
        pull::open(&hub, &allow(), request(Direction::Play, "b", "v=bob")).await.unwrap();
    assert_eq!(hub.cut_viewer("bob"), 1);
    assert_eq!((pull.next().await, pull.ended()), (None, Some(EndReason::Cut)));
}

/// Type, timestamp and body of each FLV tag.
fn tags(mut bytes: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
    let mut tags = Vec::new();
    while !bytes.is_empty() {
        let length = u32::from_be_bytes([0, bytes[1], bytes[2], bytes[3]]) as usize;
        let time = u32::from_be_bytes([bytes[7], bytes[4], bytes[5], bytes[6]]);
        tags.push((bytes[0], time, bytes[11..11 + length].to_vec()));
        assert_eq!(
            &bytes[11 + length..15 + length],
            u32::try_from(length + 11).unwrap().to_be_bytes()
        );
        bytes = &bytes[15 + length..];
    }
    tags
}

//! Whatever is pushed: from its first keyframe on, a late player decodes what an early player decodes.
//! Proves URL-11.
//!
//! The judge is a model of a decoder. It knows what each message was made as, and does not use the relay's classes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lianmai_media_plane::{Direction, Hub, MediaKind, Packet, Player, RelayConfig};
use proptest::prelude::*;

use crate::support::*;

/// What a message was made as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    Config,
    Key,
    Inter,
    Sample,
    /// Colour information, channel layout.
    Extra,
    Metadata,
    /// The end of a sequence.
    End,
    /// Commands, and headers without content.
    Nothing,
}

#[derive(Debug, Clone, Copy)]
struct Kind {
    made: Made,
    media: MediaKind,
    track: u8,
    codec: &'static str,
    /// Whether a decoder of the codec needs its header.
    needs_config: bool,
    prefix: &'static [u8],
}

const fn kind(
    made: Made,
    media: MediaKind,
    track: u8,
    codec: &'static str,
    needs_config: bool,
    prefix: &'static [u8],
) -> Kind {
    Kind { made, media, track, codec, needs_config, prefix }
}

use MediaKind::{Audio, Metadata as Data, Video};

const KINDS: &[Kind] = &[
    kind(Made::Config, Video, 0, "avc", true, b"\x17\0\0\0\0"),
    kind(Made::Key, Video, 0, "avc", true, b"\x17\x01\0\0\0"),
    kind(Made::Inter, Video, 0, "avc", true, b"\x27\x01\0\0\0"),
    kind(Made::Inter, Video, 0, "avc", true, b"\x27\x01\0\0\0"),
    kind(Made::Config, Audio, 0, "aac", true, b"\xAF\0"),
    kind(Made::Sample, Audio, 0, "aac", true, b"\xAF\x01"),
    kind(Made::Sample, Audio, 0, "aac", true, b"\xAF\x01"),
    // Messages that look like headers or keyframes and are none.
    kind(Made::Nothing, Video, 0, "avc", true, b"\x57\0"),
    kind(Made::Nothing, Video, 0, "avc", true, b"\x57\x01"),
    kind(Made::Nothing, Video, 0, "hevc", true, b"\xD0"),
    kind(Made::End, Video, 0, "avc", true, b"\x17\x02\0\0\0"),
    kind(Made::End, Video, 0, "hevc", true, b"\x92hvc1"),
    kind(Made::End, Audio, 0, "opus", false, b"\x92Opus"),
    kind(Made::Metadata, Data, 0, "", false, b"\x02\x00\x0aonMetaData\x05"),
    // Other codecs, and the same codecs in the other format.
    kind(Made::Config, Video, 0, "avc", true, b"\x90avc1"),
    kind(Made::Config, Video, 0, "hevc", true, b"\x90hvc1"),
    kind(Made::Key, Video, 0, "hevc", true, b"\x93hvc1"),
    kind(Made::Inter, Video, 0, "hevc", true, b"\xA3hvc1"),
    kind(Made::Key, Video, 0, "h263", false, b"\x12"),
    kind(Made::Inter, Video, 0, "h263", false, b"\x22"),
    kind(Made::Extra, Video, 0, "hevc", false, b"\x94hvc1"),
    kind(Made::Sample, Audio, 0, "mp3", false, b"\x2F"),
    kind(Made::Config, Audio, 0, "opus", false, b"\x90Opus"),
    kind(Made::Sample, Audio, 0, "opus", false, b"\x91Opus"),
    // A second track.
    kind(Made::Config, Video, 1, "avc", true, b"\x96\x00avc1\x01"),
    kind(Made::Key, Video, 1, "avc", true, b"\x96\x01avc1\x01"),
    kind(Made::Inter, Video, 1, "avc", true, b"\xA6\x01avc1\x01"),
];

/// What a decoder made of a frame: the message, its header, its keyframe, and its timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decoded {
    frame: usize,
    config: Option<usize>,
    key: Option<usize>,
    timestamp: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Fault {
    NoHeader(usize),
    NoKeyframe(usize),
}

#[derive(Debug, Default)]
struct Track {
    config: Option<(usize, &'static str)>,
    key: Option<usize>,
    decoded: Vec<Decoded>,
}

/// The decoders of one player, one for each track.
#[derive(Debug, Default)]
struct Decoder(HashMap<(MediaKind, u8), Track>);

impl Decoder {
    fn feed(&mut self, message: usize, kind: &Kind, timestamp: u32) -> Result<(), Fault> {
        let track = self.0.entry((kind.media, kind.track)).or_default();
        match kind.made {
            Made::Config => track.config = Some((message, kind.codec)),
            Made::Key | Made::Inter | Made::Sample => {
                let config = track.config.filter(|(_, codec)| *codec == kind.codec);
                if kind.needs_config && config.is_none() {
                    return Err(Fault::NoHeader(message));
                }
                match kind.made {
                    Made::Key => track.key = Some(message),
                    Made::Inter if track.key.is_none() => return Err(Fault::NoKeyframe(message)),
                    _ => {}
                }
                let config = config.filter(|_| kind.needs_config).map(|(config, _)| config);
                track.decoded.push(Decoded { frame: message, config, key: track.key, timestamp });
            }
            Made::Extra | Made::Metadata | Made::End | Made::Nothing => {}
        }
        Ok(())
    }
}

/// Decodes the packets of a player.
fn decode(packets: &[Arc<Packet>], pushed: &[Kind]) -> Result<Decoder, Fault> {
    let mut decoder = Decoder::default();
    for packet in packets {
        let body = packet.body();
        let message = u32::from_be_bytes(*body.last_chunk().unwrap()) as usize;
        decoder.feed(message, &pushed[message], packet.timestamp())?;
    }
    Ok(decoder)
}

fn body(kind: &Kind, message: usize) -> Vec<u8> {
    [kind.prefix, &u32::try_from(message).unwrap().to_be_bytes()].concat()
}

fn take(player: &Player, into: &mut Vec<Arc<Packet>>) {
    while player.take_ready(into, 64) {}
}

/// Pushes messages to an early player, and to a late player that comes before the message `join`.
fn push(pushed: &[Kind], join: usize, config: RelayConfig) -> [Vec<Arc<Packet>>; 2] {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let hub = Hub::new(config);
        let play = async || hub.play(&allow(), request(Direction::Play, "a", "")).await.unwrap();
        let early = play().await;
        let publisher = hub.publish(&allow(), request(Direction::Publish, "a", "")).await.unwrap();
        let (mut late, mut got) = (None, [Vec::new(), Vec::new()]);
        for (message, kind) in pushed.iter().enumerate() {
            if message == join {
                late = Some(play().await);
            }
            let time = u32::try_from(message * 20).unwrap();
            publisher.send(kind.media, time, &body(kind, message)).unwrap();
            tokio::time::advance(Duration::from_millis(20)).await;
            take(&early, &mut got[0]);
        }
        take(&late.unwrap(), &mut got[1]);
        got
    })
}

/// Pushes that consist mostly of ordinary messages.
fn pushes() -> impl Strategy<Value = Vec<Kind>> {
    let ordinary = 0..7_usize;
    let kind = prop_oneof![6 => ordinary, 2 => 0..KINDS.len()];
    let begin = prop::sample::select(vec![vec![], vec![0, 4], vec![13, 4, 0, 1], vec![7, 0, 4]]);
    (begin, prop::collection::vec(kind, 1..80))
        .prop_map(|(begin, rest)| begin.into_iter().chain(rest).map(|at| KINDS[at]).collect())
}

fn judge(pushed: &[Kind], join: usize, config: RelayConfig, is_whole: bool) {
    let [early, late] = push(pushed, join, config);
    let early = decode(&early, pushed).expect("an early player decodes all it gets");
    let late = decode(&late, pushed).expect("a late player decodes all it gets");
    for (track, early) in &early.0 {
        let late = late.0.get(track).map_or(&[][..], |track| &track.decoded);
        let from = late.first().map(|first| first.frame);
        let same: Vec<_> =
            early.decoded.iter().filter(|it| from.is_some_and(|from| it.frame >= from)).collect();
        assert_eq!(late.iter().collect::<Vec<_>>(), same, "{track:?}");
        // The late player begins at the latest with the first frame that it could begin with.
        let begins = |it: &&Decoded| {
            it.frame >= join && (track.0 == Audio || pushed[it.frame].made == Made::Key)
        };
        if let Some(first) = early.decoded.iter().find(begins) {
            assert!(from.is_some_and(|from| from <= first.frame), "{track:?}");
        }
    }
    let is_video = |track: &MediaKind| *track == Video;
    let keyed = early
        .0
        .iter()
        .any(|(track, it)| is_video(&track.0) && it.decoded.iter().any(|it| it.frame < join));
    let at_once = late.0.iter().any(|(track, it)| {
        is_video(&track.0) && it.decoded.first().is_some_and(|it| it.frame < join)
    });
    assert_eq!(at_once, keyed && is_whole, "a group is cached, and only if it may be");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_late_player_decodes_what_an_early_one_decodes(pushed in pushes(), join in any::<prop::sample::Index>()) {
        let join = join.index(pushed.len());
        judge(&pushed, join, RelayConfig::default(), true);
    }

    #[test]
    fn a_late_player_decodes_without_a_stored_group(pushed in pushes(), join in any::<prop::sample::Index>()) {
        let join = join.index(pushed.len());
        judge(&pushed, join, RelayConfig { gop_bytes: 0, ..RelayConfig::default() }, false);
    }
}

#[test]
fn the_model_finds_planted_faults() {
    let pushed: Vec<Kind> = [0, 4, 1, 5, 2].map(|at| KINDS[at]).to_vec();
    let feed = |order: &[usize]| {
        let mut decoder = Decoder::default();
        order.iter().try_for_each(|at| decoder.feed(*at, &pushed[*at], 0))
    };
    assert_eq!(feed(&[0, 1, 2, 3, 4]), Ok(()));
    assert_eq!(feed(&[1, 2, 3, 4]), Err(Fault::NoHeader(2)), "no header");
    assert_eq!(feed(&[0, 2, 3]), Err(Fault::NoHeader(3)), "no header of the audio");
    assert_eq!(feed(&[0, 1, 4, 2]), Err(Fault::NoKeyframe(4)), "an inter frame first");
    assert_eq!(feed(&[1, 2, 0, 4]), Err(Fault::NoHeader(2)), "the header behind the frame");
}

/// After an overflow, a late player gets audio at once, and video from the next keyframe on.
#[test]
fn a_group_that_exceeds_its_bounds_is_not_stored() {
    let pushed: Vec<Kind> = [0, 4, 1, 2, 5, 2, 5, 2, 5, 1, 2].map(|at| KINDS[at]).to_vec();
    let bounds = [
        RelayConfig { gop_bytes: 90, ..RelayConfig::default() },
        RelayConfig { gop_packets: 4, ..RelayConfig::default() },
        RelayConfig { gop_time: Duration::from_millis(90), ..RelayConfig::default() },
    ];
    for config in bounds {
        let [_, late] = push(&pushed, 8, config);
        let seen: Vec<_> = late.iter().map(|packet| packet.body()[1..2].to_vec()).collect();
        assert_eq!(seen, [[0], [0], [1], [1], [1]]);
        assert_eq!(late[2].kind(), Audio);
        assert!(late[3].is_keyframe());
    }
}

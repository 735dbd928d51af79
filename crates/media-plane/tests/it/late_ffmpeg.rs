//! ffmpeg as the judge of late players. It must decode the same from the file of a late player as from that of an
//! early one: the same pictures at the same times, from a keyframe on that is not later than the next one.
//! Proves URL-11.
//!
//! The pushes consist of the output of an encoder, and of messages that encoders in the field send in between. Their
//! seeds are fixed.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use lianmai_media_plane::{Direction, Hub, MediaKind, Player, RelayConfig, flv};

use crate::support::*;

/// Number of pushes that ffmpeg judges.
const PUSHES: u64 = 20;
/// Length of each push, ms. A keyframe comes at least every 600 ms.
const LENGTH: u32 = 4000;
/// Pause between two encoders, ms. It is long enough for the reordered pictures of the first encoder to be shown.
const PAUSE: u32 = 200;
/// Audio frames at the beginning that are not compared: a decoder that begins with them makes something else of them
/// than in the middle of a stream, because they depend on earlier frames.
const AUDIO_WARM_UP: usize = 3;

/// Keyframe interval in pictures (25 pictures per second), and encoder options. They differ in the reordering of
/// pictures and in the headers. They avoid noise that a decoder generates anew, and audio that is sent long before it
/// is heard.
const ENCODINGS: &[(u32, &[&str])] = &[
    (
        10,
        &[
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-tune",
            "zerolatency",
            "-c:a",
            "aac",
            "-aac_pns",
            "0",
        ],
    ),
    (15, &["-c:v", "libx264", "-preset", "medium", "-bf", "2", "-c:a", "aac", "-aac_pns", "0"]),
    (10, &["-c:v", "flv", "-c:a", "libmp3lame", "-ar", "44100", "-reservoir", "0"]),
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) kind: MediaKind,
    pub(crate) time: u32,
    pub(crate) body: Vec<u8>,
}

impl Tag {
    fn is_config(&self) -> bool {
        match self.kind {
            MediaKind::Video => self.body[0] & 0x0F == 7 && self.body[1] == 0,
            MediaKind::Audio => self.body[0] >> 4 == 10 && self.body[1] == 0,
            MediaKind::Metadata => false,
        }
    }

    fn is_key(&self) -> bool {
        self.kind == MediaKind::Video && self.body[0] >> 4 == 1 && !self.is_config()
    }

    fn is_picture(&self) -> bool {
        match self.body[..] {
            _ if self.kind != MediaKind::Video => false,
            [kind, packet_type, ..] if kind & 0x0F == 7 => packet_type == 1,
            _ => true,
        }
    }

    /// Presentation time of a picture, ms.
    fn shown(&self) -> i64 {
        let delay = match self.body[..] {
            [kind, 1, a, b, c, ..] if kind & 0x0F == 7 => u32::from_be_bytes([0, a, b, c]),
            _ => 0,
        };
        i64::from(self.time + delay)
    }
}

pub(crate) fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Gives each file its own number, because several tests may make the same encoding at a time.
static FILES: AtomicU32 = AtomicU32::new(0);

/// The output of an encoder for a moving picture and a tone.
pub(crate) fn encoded(at: usize) -> Vec<Tag> {
    let (distance, options) = ENCODINGS[at];
    let number = FILES.fetch_add(1, Relaxed);
    let file = scratch(&format!("late-{}-{number}.flv", std::process::id()));
    let made = Command::new("ffmpeg")
        .args("-v error -nostdin -y -f lavfi -i testsrc2=size=160x90:rate=25".split(' '))
        // No two parts of this sound are equal.
        .args(["-f", "lavfi", "-i", "aevalsrc=sin(2*PI*(200+150*t)*t):sample_rate=44100"])
        .args(["-t", "4", "-pix_fmt", "yuv420p", "-sc_threshold", "0", "-g", &distance.to_string()])
        .args(options)
        .args(["-f", "flv"])
        .arg(&file)
        .status()
        .expect("ffmpeg is installed");
    assert!(made.success());
    let tags = read(&std::fs::read(&file).unwrap());
    std::fs::remove_file(file).unwrap();
    tags
}

/// The tags of an FLV file.
fn read(file: &[u8]) -> Vec<Tag> {
    let (mut rest, mut tags) = (&file[13..], Vec::new());
    while let Some((head, tail)) = rest.split_first_chunk::<11>() {
        let length = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
        let kind = match head[0] {
            8 => MediaKind::Audio,
            9 => MediaKind::Video,
            _ => MediaKind::Metadata,
        };
        let time = u32::from_be_bytes([head[7], head[4], head[5], head[6]]);
        tags.push(Tag { kind, time, body: tail[..length].to_vec() });
        rest = &tail[length + 4..];
    }
    tags
}

/// Pseudorandom numbers from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        u32::try_from((mixed ^ (mixed >> 31)) % u64::from(bound)).unwrap()
    }

    fn once_in(&mut self, bound: u32) -> bool {
        self.below(bound) == 0
    }
}

/// Makes a push from the encodings.
fn pushed(dice: &mut Dice, encodings: &[Vec<Tag>]) -> Vec<Tag> {
    let own = usize::try_from(dice.below(u32::try_from(encodings.len()).unwrap())).unwrap();
    // Another encoder takes over in the middle: the headers change with a keyframe, and so may the codec.
    let next = usize::try_from(dice.below(u32::try_from(encodings.len()).unwrap())).unwrap();
    let takes_over = LENGTH / 4 + dice.below(LENGTH / 2);
    // Some pushes begin in the middle of a group, and some clocks do not begin at 0.
    let begins = if dice.once_in(3) { dice.below(500) } else { 0 };
    let clock = if dice.once_in(2) { dice.below(1 << 20) } else { 0 };
    let jumps = dice.once_in(4).then(|| LENGTH / 4 + dice.below(LENGTH / 2));
    let take_over =
        encodings[next].iter().find(|tag| tag.is_key() && tag.time >= takes_over).unwrap().time;
    let mut push = Vec::new();
    let mut add = |kind, time: u32, body: &[u8]| {
        let jumped = if jumps.is_some_and(|at| time >= at) { 3_600_000 } else { 0 };
        push.push(Tag { kind, time: clock + jumped + time, body: body.to_vec() });
    };
    for (encoding, from, to, pause) in
        [(own, begins, take_over, 0), (next, take_over, LENGTH, PAUSE)]
    {
        let tags = &encodings[encoding];
        let mut add = |kind, time: u32, body: &[u8]| add(kind, time + pause, body);
        let heads: Vec<_> = tags.iter().filter(|tag| tag.is_config()).collect();
        heads.iter().for_each(|tag| add(tag.kind, from, &tag.body));
        for tag in tags.iter().filter(|tag| (from..to).contains(&tag.time) && !tag.is_config()) {
            if tag.kind == MediaKind::Metadata {
                add(tag.kind, tag.time, &tag.body);
                continue;
            }
            if tag.is_key() && dice.once_in(3) {
                // Some encoders repeat the headers.
                heads.iter().for_each(|head| add(head.kind, tag.time, &head.body));
            }
            match dice.below(40) {
                0 => add(MediaKind::Video, tag.time, &[0x57, 0]),
                1 => add(MediaKind::Video, tag.time, &[0x57, 1]),
                2 => add(MediaKind::Video, tag.time, &[0xD0, 0]),
                3 => add(MediaKind::Video, tag.time, &[0x17, 0, 0, 0, 0]),
                4 => add(MediaKind::Audio, tag.time, &[0xAF, 0]),
                5 => add(MediaKind::Metadata, tag.time, b"\x02\x00\x0aonMetaData\x05"),
                _ => {}
            }
            add(tag.kind, tag.time, &tag.body);
        }
    }
    push
}

/// What an early player got, what a late player got, and how many messages the early player had when the late one
/// came.
#[derive(Clone)]
struct Got {
    early: Vec<Tag>,
    late: Vec<Tag>,
    joined_behind: usize,
}

fn take(player: &Player, into: &mut Vec<Tag>) {
    let mut packets = Vec::new();
    while player.take_ready(&mut packets, 64) {}
    into.extend(packets.iter().map(|packet| Tag {
        kind: packet.kind(),
        time: packet.timestamp(),
        body: packet.body().to_vec(),
    }));
}

fn play(push: &[Tag], join: usize) -> Got {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let hub = Hub::new(RelayConfig::default());
        let play = async || hub.play(&allow(), request(Direction::Play, "a", "")).await.unwrap();
        let early = play().await;
        let publisher = hub.publish(&allow(), request(Direction::Publish, "a", "")).await.unwrap();
        let mut late = None;
        let mut got = Got { early: Vec::new(), late: Vec::new(), joined_behind: 0 };
        let mut last = push[0].time;
        for (at, tag) in push.iter().enumerate() {
            if at == join {
                late = Some(play().await);
                got.joined_behind = got.early.len();
            }
            // A jump of the timestamps takes no time.
            let step = tag.time.saturating_sub(last).min(100);
            tokio::time::advance(Duration::from_millis(step.into())).await;
            last = tag.time;
            publisher.send(tag.kind, tag.time, &tag.body).unwrap();
            take(&early, &mut got.early);
            late.iter().for_each(|late| take(late, &mut got.late));
        }
        got
    })
}

/// A decoded picture or audio frame: its time, and the hash of its content.
pub(crate) type Frame = (i64, String);

/// Decodes the file of a player. It is an error if a frame cannot be decoded.
fn decode(tags: &[Tag], name: &str) -> Result<[Vec<Frame>; 2], String> {
    let file = scratch(&format!("late-{}-{name}.flv", std::process::id()));
    let mut bytes = flv::file_header(true, true).to_vec();
    tags.iter().for_each(|tag| bytes.extend(flv::encode_tag(tag.kind, tag.time, &tag.body)));
    std::fs::write(&file, bytes).unwrap();
    let result = [("0:v", "1:1000"), ("0:a", "1:1000")].map(|(map, base)| frames(&file, map, base));
    std::fs::remove_file(file).unwrap();
    let [video, audio] = result;
    let (video, mut audio) = (video?, audio?);
    let pictures = tags.iter().filter(|tag| tag.is_picture()).count();
    let sound: Vec<_> =
        tags.iter().filter(|tag| tag.kind == MediaKind::Audio && !tag.is_config()).collect();
    if (video.len(), audio.len()) != (pictures, sound.len()) {
        return Err(format!(
            "{} pictures of {pictures} are decoded, and {} of {} pieces of sound",
            video.len(),
            audio.len(),
            sound.len()
        ));
    }
    // ffmpeg smooths the times of audio from the first frame on. So each frame gets the time that it was sent with.
    for ((time, _), tag) in audio.iter_mut().zip(sound) {
        *time = i64::from(tag.time);
    }
    Ok([video, audio])
}

pub(crate) fn frames(file: &Path, map: &str, base: &str) -> Result<Vec<Frame>, String> {
    let output = Command::new("ffmpeg")
        .args("-v error -nostdin -err_detect explode -copyts -i".split(' '))
        .arg(file)
        .args(["-map", map, "-fps_mode", "passthrough", "-enc_time_base", base])
        .args("-f framemd5 -".split(' '))
        .stdin(Stdio::null())
        .output()
        .expect("ffmpeg is installed");
    // The messages of ffmpeg are ignored. Its parser knows only the first sequence header of a file and complains
    // about later ones, which its decoder understands.
    if !output.status.success() {
        return Err(format!("{map}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let fields = lines.map(|line| line.split(',').map(str::trim).collect::<Vec<_>>());
    Ok(fields.map(|fields| (fields[2].parse().unwrap(), fields[5].to_owned())).collect())
}

/// Compares what a late player got with what an early player got. `joined_behind` messages came before the late one.
fn judge(got: &Got, name: &str) -> Result<(), String> {
    let [early, early_sound] = decode(&got.early, &format!("{name}-early"))?;
    let [late, late_sound] = decode(&got.late, &format!("{name}-late"))?;
    let (first, _) = late.first().ok_or("a late player sees nothing")?;
    // In presentation order: the times of two encoders may overlap.
    let same = early.len().checked_sub(late.len()).map(|at| &early[at..]);
    if same != Some(&late) {
        return Err(format!("{} pictures are not the last of {}", late.len(), early.len()));
    }
    // The late player begins at the latest with the next keyframe.
    let next = got.early[got.joined_behind..].iter().find(|tag| tag.is_key());
    if next.is_some_and(|next| *first > next.shown()) {
        return Err(format!("the first picture at {first} is behind the next keyframe"));
    }
    // The same audio comes at the same time, so its distance from the pictures is the same.
    let heard: HashSet<_> = early_sound.iter().collect();
    if late_sound.len() <= AUDIO_WARM_UP {
        return Err("a late player hears nothing".to_owned());
    }
    for piece in &late_sound[AUDIO_WARM_UP..] {
        if !heard.contains(piece) {
            return Err(format!("the early player does not hear {piece:?}"));
        }
    }
    Ok(())
}

#[test]
fn ffmpeg_decodes_of_a_late_player_what_it_decodes_of_an_early_one() {
    let encodings: Vec<_> = (0..ENCODINGS.len()).map(encoded).collect();
    let (mut groups, mut faults) = (0, Vec::new());
    for seed in 0..PUSHES {
        let mut dice = Dice(seed);
        // Each push has one codec, because ffmpeg does not reliably decode a file whose codec changes.
        let family = if dice.once_in(4) { &encodings[2..] } else { &encodings[..2] };
        let push = pushed(&mut dice, family);
        let messages = u32::try_from(push.len()).unwrap();
        let join = usize::try_from(messages / 8 + dice.below(messages * 3 / 4)).unwrap();
        let got = play(&push, join);
        faults.extend(judge(&got, &seed.to_string()).err().map(|fault| (seed, fault)));
        groups += usize::from(got.late.iter().filter(|tag| tag.is_key()).count() > 1);
    }
    assert_eq!(faults, []);
    assert!(groups > 10, "late players saw {groups} times more than the last group");
}

#[test]
fn ffmpeg_finds_planted_faults() {
    let encodings = [encoded(1)];
    let push = pushed(&mut Dice(1), &encodings);
    let good = play(&push, push.len() / 2);
    judge(&good, "good").unwrap();
    let plant = |name: &str, change: &dyn Fn(&mut Vec<Tag>)| {
        let mut bad = good.clone();
        change(&mut bad.late);
        assert_ne!(bad.late, good.late);
        assert!(judge(&bad, name).is_err(), "{name}");
    };
    let is_head = |tag: &Tag| tag.is_config() && tag.kind == MediaKind::Video;
    let first_key = |late: &[Tag]| late.iter().position(Tag::is_key).unwrap();
    plant("no-header", &|late| late.retain(|tag| !is_head(tag)));
    plant("inter-frame-first", &|late| {
        late.remove(first_key(late));
    });
    plant("header-after-frame", &|late| {
        let head = late.iter().find(|tag| is_head(tag)).unwrap().clone();
        late.retain(|tag| !is_head(tag));
        late.insert(first_key(late) + 1, head);
    });
    plant("a-group-late", &|late| {
        let last = late.iter().rposition(Tag::is_key).unwrap();
        late.drain(first_key(late)..last);
    });
    plant("sound-is-late", &|late| {
        let sound = late.iter_mut().filter(|tag| tag.kind == MediaKind::Audio);
        sound.for_each(|tag| tag.time += 40);
    });
}

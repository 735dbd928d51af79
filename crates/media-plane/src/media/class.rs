//! Classification of audio and video messages.
//!
//! In: FLV tag bodies, legacy and enhanced (E-RTMP v1 and v2). Out: [`Class`]. Absent: the use of the class, see
//! `hub/cache.rs`; a look at the coded data. The publisher's word on its keyframes is trusted.
//!
//! No single field determines the class. `57 00` has the codec of AVC and a zero where AVC has its packet type, but
//! it is a command to a player. `17 02` has the frame type of a keyframe, but it ends a sequence. So frame type,
//! packet type and codec are read together, and only here.

use crate::rtmp::MediaKind;

/// The properties of a message that the relay needs to serve late players.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Class {
    pub(crate) role: Role,
    /// The tracks in the message; track 0 if the message names none.
    pub(crate) tracks: Tracks,
    /// The FourCC of the codec; legacy codecs without a FourCC have their FLV number. 0 if each track names its own
    /// codec.
    pub(crate) codec: u32,
}

impl Class {
    /// Whether the codec sends the decoder configuration apart from the frames.
    pub(crate) fn needs_config(&self) -> bool {
        matches!(self.codec, fourcc::AVC | fourcc::HEVC | fourcc::VVC | fourcc::AAC)
    }
}

/// The role of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// `onMetaData`.
    Metadata,
    /// Sequence header: no frame of its tracks can be decoded without it.
    Config,
    /// Additional data for the decoder: colour information, channel layout.
    Extra,
    /// Video that can be decoded without earlier video.
    Key,
    /// Video that depends on earlier video.
    Inter,
    /// An audio frame.
    Sample,
    /// End of a sequence. Present players get it; late players do not need it.
    End,
    /// An unknown packet type, of a later version. Handled like [`Role::End`].
    Unknown,
    /// A command to a player's controls, a header without content, or a truncated message. Not passed on.
    Void,
}

/// A set of track numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tracks([u64; 4]);

impl Tracks {
    fn insert(&mut self, track: u8) {
        self.0[usize::from(track >> 6)] |= 1 << (track & 63);
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine |= theirs);
    }

    /// Whether the set contains all tracks of `other`.
    pub(crate) fn holds(&self, other: Self) -> bool {
        self.0.iter().zip(other.0).all(|(mine, theirs)| theirs & !mine == 0)
    }
}

impl From<u8> for Tracks {
    fn from(track: u8) -> Self {
        let mut tracks = Self::default();
        tracks.insert(track);
        tracks
    }
}

pub(crate) mod fourcc {
    pub(crate) const AVC: u32 = u32::from_be_bytes(*b"avc1");
    pub(crate) const HEVC: u32 = u32::from_be_bytes(*b"hvc1");
    pub(crate) const VVC: u32 = u32::from_be_bytes(*b"vvc1");
    pub(crate) const AV1: u32 = u32::from_be_bytes(*b"av01");
    pub(crate) const AAC: u32 = u32::from_be_bytes(*b"mp4a");
}

/// Frame type of a command to the player, in legacy and enhanced video.
pub(super) const COMMAND_FRAME: u8 = 5;
const KEY_FRAME: u8 = 1;

/// Classifies a message. Never fails: a message that cannot be read is [`Role::Void`].
pub(crate) fn classify(kind: MediaKind, body: &[u8]) -> Class {
    let class = match kind {
        MediaKind::Metadata => Some(plain(Role::Metadata, 0)),
        MediaKind::Audio => audio(body),
        MediaKind::Video => video(body),
    };
    class.unwrap_or(plain(Role::Void, 0))
}

fn plain(role: Role, codec: u32) -> Class {
    Class { role, tracks: Tracks::from(0), codec }
}

fn audio(body: &[u8]) -> Option<Class> {
    let (&first, rest) = body.split_first()?;
    Some(match first >> 4 {
        9 => {
            let packet = enhanced(first & 0x0F, rest, 5)?;
            let role = match packet.packet_type {
                0 => Role::Config,
                1 => Role::Sample,
                2 => Role::End,
                4 => Role::Extra,
                _ => Role::Unknown,
            };
            Class { role, ..packet.class }
        }
        10 => match rest.split_first()? {
            // An empty header must not replace a complete one.
            (0, []) => plain(Role::Void, fourcc::AAC),
            (0, _) => plain(Role::Config, fourcc::AAC),
            (1, _) => plain(Role::Sample, fourcc::AAC),
            _ => plain(Role::Unknown, fourcc::AAC),
        },
        format => plain(Role::Sample, u32::from(format)),
    })
}

fn video(body: &[u8]) -> Option<Class> {
    let (&first, rest) = body.split_first()?;
    let frame_type = (first >> 4) & 0x07;
    let coded = if frame_type == KEY_FRAME { Role::Key } else { Role::Inter };
    if first & 0x80 != 0 {
        return enhanced_video(first, frame_type, coded, rest);
    }
    if frame_type == COMMAND_FRAME {
        return None;
    }
    let codec = match first & 0x0F {
        7 => fourcc::AVC,
        12 => fourcc::HEVC,
        13 => fourcc::AV1,
        other => return Some(plain(coded, u32::from(other))),
    };
    // The packet type, then three bytes of composition time.
    let role = match rest.split_first()? {
        (0, rest) if rest.len() <= 3 => Role::Void,
        (0, _) => Role::Config,
        (1, _) => coded,
        (2, _) => Role::End,
        _ => Role::Unknown,
    };
    Some(plain(role, codec))
}

fn enhanced_video(first: u8, frame_type: u8, coded: Role, rest: &[u8]) -> Option<Class> {
    const METADATA: u8 = 4;
    let (packet_type, _) = behind_modifiers(first & 0x0F, rest)?;
    // For metadata the frame type is to be ignored. A command has no codec.
    if frame_type == COMMAND_FRAME && packet_type != METADATA {
        return None;
    }
    let packet = enhanced(first & 0x0F, rest, 6)?;
    let role = match packet.packet_type {
        // 5 is a sequence header in MPEG-2 TS format.
        0 | 5 => Role::Config,
        1 | 3 => coded,
        2 => Role::End,
        METADATA => Role::Extra,
        _ => Role::Unknown,
    };
    Some(Class { role, ..packet.class })
}

struct Enhanced {
    packet_type: u8,
    class: Class,
}

/// Reads the part of an enhanced message before its data: modifiers, tracks and codec. `multitrack` is the packet
/// type of messages that name their tracks.
fn enhanced(packet_type: u8, body: &[u8], multitrack: u8) -> Option<Enhanced> {
    let (packet_type, mut body) = behind_modifiers(packet_type, body)?;
    if packet_type != multitrack {
        let class = plain(Role::Unknown, read_u32(&mut body)?);
        return Some(Enhanced { packet_type, class });
    }
    let [head] = take(&mut body)?;
    let (layout, packet_type) = (head >> 4, head & 0x0F);
    let (one_track, codec_each) = match layout {
        0 => (true, false),
        1 => (false, false),
        2 => (false, true),
        _ => return None,
    };
    let mut codec = if codec_each { 0 } else { read_u32(&mut body)? };
    let mut tracks = Tracks::default();
    loop {
        if codec_each {
            codec = read_u32(&mut body)?;
        }
        let [track] = take(&mut body)?;
        tracks.insert(track);
        if one_track {
            break;
        }
        let [a, b, c] = take(&mut body)?;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        body = body.get(length..)?;
        if body.is_empty() {
            break;
        }
    }
    Some(Enhanced { packet_type, class: Class { role: Role::Unknown, tracks, codec } })
}

/// Skips the modifiers (`ModEx`), each of which names the packet type that follows it. `None` if the body is
/// truncated.
pub(super) fn behind_modifiers(mut packet_type: u8, mut body: &[u8]) -> Option<(u8, &[u8])> {
    const MODIFIER: u8 = 7;
    while packet_type == MODIFIER {
        let [short] = take(&mut body)?;
        let length = match short {
            0xFF => usize::from(u16::from_be_bytes(take(&mut body)?)) + 1,
            short => usize::from(short) + 1,
        };
        body = body.get(length..)?;
        let [next] = take(&mut body)?;
        packet_type = next & 0x0F;
    }
    Some((packet_type, body))
}

fn take<const N: usize>(body: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = body.split_first_chunk()?;
    *body = tail;
    Some(*head)
}

fn read_u32(body: &mut &[u8]) -> Option<u32> {
    take(body).map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: which messages are headers, keyframes, commands and ends.

    use super::*;

    fn video(body: &[u8]) -> Role {
        classify(MediaKind::Video, body).role
    }

    fn audio(body: &[u8]) -> Role {
        classify(MediaKind::Audio, body).role
    }

    #[test]
    fn legacy_video() {
        assert_eq!(video(b"\x17\0\0\0\0\x01"), Role::Config);
        assert_eq!(video(b"\x27\0\0\0\0\x01"), Role::Config, "the frame type is irrelevant");
        assert_eq!(video(b"\x17\0\0\0\0"), Role::Void, "an empty one");
        assert_eq!(video(b"\x17\x01\0\0\0\x01"), Role::Key);
        assert_eq!(video(b"\x27\x01\0\0\0\x01"), Role::Inter);
        assert_eq!(video(b"\x37\x01\0\0\0\x01"), Role::Inter);
        assert_eq!(video(b"\x17\x02\0\0\0"), Role::End);
        assert_eq!(video(b"\x27\x02\0\0\0"), Role::End);
        assert_eq!(video(b"\x17\x09\0\0\0"), Role::Unknown);
        for codec in [0x02, 0x04, 0x07, 0x0C] {
            for command in [0, 1, 2] {
                assert_eq!(video(&[0x50 | codec, command]), Role::Void);
                assert_eq!(video(&[0x50 | codec, command, 0, 0, 0, 9]), Role::Void);
            }
        }
        assert_eq!(video(b"\x1C\0\0\0\0\x01"), Role::Config);
        assert_eq!(video(b"\x12"), Role::Key, "H.263 has no packet type");
        assert_eq!(video(b"\x14\0\0\0\0\0"), Role::Key, "nor has VP6");
        assert_eq!((video(b""), video(b"\x17")), (Role::Void, Role::Void));
    }

    #[test]
    fn legacy_audio() {
        assert_eq!(audio(b"\xAF\0\x12\x10"), Role::Config);
        assert_eq!(audio(b"\xAF\0"), Role::Void, "an empty one");
        assert_eq!(audio(b"\xAF\x01\x21"), Role::Sample);
        assert_eq!(audio(b"\x2F\0"), Role::Sample, "MP3 has no packet type");
        assert_eq!(audio(b"\x7F\0"), Role::Sample, "nor has G.711");
        assert_eq!((audio(b""), audio(b"\xAF")), (Role::Void, Role::Void));
    }

    #[test]
    fn enhanced_messages() {
        assert_eq!(video(b"\x90hvc1\x01"), Role::Config);
        assert_eq!(video(b"\x91hvc1\0\0\0\x01"), Role::Key);
        assert_eq!(video(b"\xA1hvc1\0\0\0\x01"), Role::Inter);
        assert_eq!(video(b"\x93av01\x01"), Role::Key);
        assert_eq!(video(b"\xA3av01\x01"), Role::Inter);
        assert_eq!(video(b"\x92hvc1"), Role::End, "though its frame type is that of a keyframe");
        assert_eq!(video(b"\x95av01\x01"), Role::Config);
        for frame_type in [0x90, 0xA0, 0xD0] {
            assert_eq!(video(&[&[frame_type | 4][..], b"hvc1\x02"].concat()), Role::Extra);
        }
        assert_eq!(video(b"\xD0\0"), Role::Void, "a command has no codec");
        assert_eq!(video(b"\xD1hvc1"), Role::Void);
        assert_eq!(video(b"\x98hvc1"), Role::Unknown);
        assert_eq!(video(b"\x90hv"), Role::Void);
        assert_eq!(audio(b"\x90Opus\x01"), Role::Config);
        assert_eq!(audio(b"\x91Opus\x01"), Role::Sample);
        assert_eq!(audio(b"\x92Opus"), Role::End);
        assert_eq!(audio(b"\x94Opus\x01\x02"), Role::Extra);
        assert_eq!(audio(b"\x90Op"), Role::Void);
    }

    #[test]
    fn modifiers_stand_before_the_packet_type() {
        // Three bytes of nanoseconds, then coded frames, then another modifier.
        assert_eq!(video(b"\x97\x02\0\0\x07\x01hvc1\0\0\0\x01"), Role::Key);
        assert_eq!(video(b"\xA7\x02\0\0\x07\x07\x00\x09\x03hvc1\x01"), Role::Inter);
        let long = [b"\x97\xFF\x01\x00".as_slice(), &[0; 257], b"\x00hvc1\x01"].concat();
        assert_eq!(video(&long), Role::Config);
        assert_eq!(video(b"\xD7\x02\0\0\x07\x01\0"), Role::Void, "a command behind a modifier");
        assert_eq!(audio(b"\x97\x00\x09\x01Opus\x01"), Role::Sample);
        for length in 0..9 {
            assert_eq!(video(&b"\x97\x02\0\0\x07\x01hvc1"[..length]), Role::Void, "{length}");
        }
    }

    #[test]
    fn tracks() {
        let class = |body: &[u8]| classify(MediaKind::Video, body);
        let set = |tracks: &[u8]| {
            let mut set = Tracks::default();
            tracks.iter().for_each(|track| set.insert(*track));
            set
        };
        let one = class(b"\x96\x00avc1\x03\x01");
        assert_eq!((one.role, one.tracks), (Role::Config, set(&[3])));
        let many = class(b"\x96\x11avc1\x00\0\0\x02ab\xC8\0\0\x01c");
        assert_eq!((many.role, many.tracks), (Role::Key, set(&[0, 200])));
        let each = class(b"\xA6\x21avc1\x01\0\0\x01ahvc1\x02\0\0\x01b");
        assert_eq!((each.role, each.tracks), (Role::Inter, set(&[1, 2])));
        assert_eq!(class(b"\x96\x11avc1\x00\0\0\x09ab").role, Role::Void, "longer than it is");
        assert_eq!(class(b"\x96\x31avc1\x00").role, Role::Void);
        assert_eq!(classify(MediaKind::Audio, b"\x95\x00mp4a\x01\x12").tracks, set(&[1]));
        assert!(set(&[1, 70]).holds(set(&[70])) && !set(&[1, 70]).holds(set(&[1, 2])));
    }
}

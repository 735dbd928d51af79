//! The coded data in a media message, without the FLV header before it.
//!
//! In: message bodies that `class.rs` has classified. Out: the coded data and its composition time. Absent: messages
//! with several tracks; decoding.

use super::class::{COMMAND_FRAME, behind_modifiers, fourcc};
use crate::rtmp::MediaKind;

/// The coded data of a message with one track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Coded<'a> {
    /// Composition time: from decoding to presentation, ms. Negative if presentation comes first.
    pub(crate) composition: i32,
    /// A decoder configuration, or a frame.
    pub(crate) data: &'a [u8],
}

/// Removes the FLV header. `None` for messages without coded data or with several tracks.
pub(crate) fn coded(kind: MediaKind, body: &[u8]) -> Option<Coded<'_>> {
    let (&first, rest) = body.split_first()?;
    match kind {
        MediaKind::Metadata => None,
        MediaKind::Audio => match first >> 4 {
            9 => match behind_modifiers(first & 0x0F, rest)? {
                (0 | 1, rest) => Some(at(0, rest.get(4..)?)),
                _ => None,
            },
            10 => Some(at(0, rest.get(1..)?)),
            _ => Some(at(0, rest)),
        },
        MediaKind::Video if first & 0x80 != 0 => {
            let (packet_type, rest) = behind_modifiers(first & 0x0F, rest)?;
            let (codec, rest) = rest.split_first_chunk()?;
            let has_composition =
                [fourcc::AVC, fourcc::HEVC, fourcc::VVC].contains(&u32::from_be_bytes(*codec));
            match packet_type {
                1 if has_composition => with_composition(rest),
                0 | 1 | 3 => Some(at(0, rest)),
                _ => None,
            }
        }
        MediaKind::Video if first >> 4 == COMMAND_FRAME => None,
        MediaKind::Video => match first & 0x0F {
            7 | 12 | 13 => with_composition(rest.get(1..)?),
            _ => Some(at(0, rest)),
        },
    }
}

fn at(composition: i32, data: &[u8]) -> Coded<'_> {
    Coded { composition, data }
}

/// Reads a signed composition time of three bytes; the data follows.
fn with_composition(rest: &[u8]) -> Option<Coded<'_>> {
    let ([a, b, c], data) = rest.split_first_chunk()?;
    Some(at(i32::from_be_bytes([*a, *b, *c, 0]) >> 8, data))
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: where the coded data of a message begins.

    use super::*;

    #[test]
    fn headers_are_removed() {
        let video = |body: &'static [u8]| coded(MediaKind::Video, body);
        let audio = |body: &'static [u8]| coded(MediaKind::Audio, body);
        assert_eq!(video(b"\x17\0\0\0\0ab"), Some(at(0, b"ab")));
        assert_eq!(video(b"\x27\x01\0\x01\0ab"), Some(at(256, b"ab")));
        assert_eq!(video(b"\x27\x01\xFF\xFF\xFEab"), Some(at(-2, b"ab")));
        assert_eq!(video(b"\x12ab"), Some(at(0, b"ab")));
        assert_eq!(video(b"\x57\0"), None);
        assert_eq!(video(b"\x17\x01\0"), None);
        assert_eq!(video(b"\x90hvc1ab"), Some(at(0, b"ab")));
        assert_eq!(video(b"\x91hvc1\0\0\x05ab"), Some(at(5, b"ab")));
        assert_eq!(video(b"\x93hvc1ab"), Some(at(0, b"ab")));
        assert_eq!(video(b"\x91av01ab"), Some(at(0, b"ab")));
        assert_eq!(video(b"\x97\x02\0\0\x07\x01hvc1\0\0\x05ab"), Some(at(5, b"ab")));
        assert_eq!(video(b"\x96\x01avc1\x01ab"), None, "of several tracks");
        assert_eq!(audio(b"\xAF\x01ab"), Some(at(0, b"ab")));
        assert_eq!(audio(b"\x2Fab"), Some(at(0, b"ab")));
        assert_eq!(audio(b"\x91mp4aab"), Some(at(0, b"ab")));
        assert_eq!(audio(b"\x95\x01mp4a\x01ab"), None, "of several tracks");
        assert_eq!((audio(b""), audio(b"\x91mp4"), audio(b"\xAF")), (None, None, None));
    }
}

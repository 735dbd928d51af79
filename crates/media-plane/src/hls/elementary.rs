//! Converts the elementary streams of FLV into those of MPEG-TS.
//!
//! In: decoder configurations and frames. Out: H.264 and H.265 with start codes and parameter sets, AAC with ADTS
//! headers. Absent: other codecs, for which MPEG-TS has no format that players read.

use mpeg2ts::es::StreamType;

const START: [u8; 4] = [0, 0, 0, 1];

/// Longest AAC frame with its ADTS header, bytes: the length field has 13 bits.
const MAX_ADTS: usize = 0x1FFF;

/// Parameters of a video decoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Video {
    pub(super) stream_type: StreamType,
    /// Size of the length field before each NAL unit, bytes.
    length_size: usize,
    /// The parameter sets, with start codes.
    sets: Vec<u8>,
    /// The access unit delimiter that begins a picture, and its NAL unit type.
    delimiter: (&'static [u8], u8),
    /// Shift and mask that extract the NAL unit type from the first byte of a unit.
    type_shift: u8,
    type_mask: u8,
}

impl Video {
    /// Reads an `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15).
    pub(super) fn h264(mut record: &[u8]) -> Option<Self> {
        let [1, _, _, _, length, count] = take(&mut record)? else { return None };
        let mut sets = Vec::new();
        for _ in 0..count & 0x1F {
            unit(&mut record, &mut sets)?;
        }
        let [count] = take(&mut record)?;
        for _ in 0..count {
            unit(&mut record, &mut sets)?;
        }
        Some(Self {
            stream_type: StreamType::H264,
            length_size: usize::from(length & 3) + 1,
            sets,
            delimiter: (&[9, 0xF0], 9),
            type_shift: 0,
            type_mask: 0x1F,
        })
    }

    /// Reads an `HEVCDecoderConfigurationRecord` (ISO/IEC 14496-15).
    pub(super) fn h265(mut record: &[u8]) -> Option<Self> {
        let head: [u8; 23] = take(&mut record)?;
        let mut sets = Vec::new();
        for _ in 0..head[22] {
            let [_, high, low] = take(&mut record)?;
            for _ in 0..u16::from_be_bytes([high, low]) {
                unit(&mut record, &mut sets)?;
            }
        }
        Some(Self {
            stream_type: StreamType::H265,
            length_size: usize::from(head[21] & 3) + 1,
            sets,
            delimiter: (&[35 << 1, 1, 0x50], 35),
            type_shift: 1,
            type_mask: 0x3F,
        })
    }

    /// A frame with start codes; before a keyframe, the parameter sets. `None` if the frame contains no complete
    /// unit.
    pub(super) fn frame(&self, mut data: &[u8], is_key: bool) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(data.len() + self.sets.len() + 32);
        out.extend_from_slice(&START);
        out.extend_from_slice(self.delimiter.0);
        if is_key {
            out.extend_from_slice(&self.sets);
        }
        let mut has_units = false;
        while let Some((length, rest)) = data.split_at_checked(self.length_size) {
            let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            let Some((unit, rest)) = rest.split_at_checked(length) else { break };
            data = rest;
            let Some(first) = unit.first() else { continue };
            if first >> self.type_shift & self.type_mask == self.delimiter.1 {
                continue;
            }
            out.extend_from_slice(&START);
            out.extend_from_slice(unit);
            has_units = true;
        }
        has_units.then_some(out)
    }
}

/// Copies a unit that has a length field of 16 bits, with a start code before it.
fn unit(record: &mut &[u8], out: &mut Vec<u8>) -> Option<()> {
    let length = usize::from(u16::from_be_bytes(take(record)?));
    let (unit, rest) = record.split_at_checked(length)?;
    *record = rest;
    out.extend_from_slice(&START);
    out.extend_from_slice(unit);
    Some(())
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = bytes.split_first_chunk()?;
    *bytes = tail;
    Some(*head)
}

/// Parameters of an audio decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audio {
    /// The bytes at index 2 and 3 of each ADTS header, without the bits of the frame length.
    Aac([u8; 2]),
    Mp3,
}

impl Audio {
    /// Reads an `AudioSpecificConfig` (ISO/IEC 14496-3). `None` if an ADTS header cannot express it.
    pub(super) fn aac(config: &[u8]) -> Option<Self> {
        let &[first, second, ..] = config else { return None };
        let profile = match first >> 3 {
            object @ 1..=4 => object - 1,
            // HE-AAC is announced as LC: the decoder finds the extension in the data.
            5 | 29 => 1,
            _ => return None,
        };
        let rate = (first & 7) << 1 | second >> 7;
        let channels = second >> 3 & 0x0F;
        if rate > 12 || !(1..=7).contains(&channels) {
            return None;
        }
        Some(Self::Aac([profile << 6 | rate << 2 | channels >> 2, channels << 6]))
    }

    pub(super) fn stream_type(self) -> StreamType {
        match self {
            Self::Aac(_) => StreamType::AdtsAac,
            Self::Mp3 => StreamType::Mpeg1Audio,
        }
    }

    pub(super) fn frame(self, data: &[u8]) -> Option<Vec<u8>> {
        let Self::Aac([second, third]) = self else { return Some(data.to_vec()) };
        let length = data.len() + 7;
        if data.is_empty() || length > MAX_ADTS {
            return None;
        }
        let [.., high, low] = length.to_be_bytes();
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(&[0xFF, 0xF1, second, third | high >> 3]);
        out.extend_from_slice(&[high << 5 | low >> 3, low << 5 | 0x1F, 0xFC]);
        out.extend_from_slice(data);
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: MPEG-TS.

    use super::*;

    #[test]
    fn h264_gets_start_codes_and_parameter_sets() {
        let record = b"\x01\x42\0\x1e\xFF\xE1\0\x02\x67a\x01\0\x02\x68b";
        let video = Video::h264(record).unwrap();
        let data = b"\0\0\0\x02\x09\xF0\0\0\0\x03\x65cd";
        let key = b"\0\0\0\x01\x09\xF0\0\0\0\x01\x67a\0\0\0\x01\x68b\0\0\0\x01\x65cd";
        assert_eq!(video.frame(data, true).unwrap(), key);
        assert_eq!(video.frame(data, false).unwrap(), b"\0\0\0\x01\x09\xF0\0\0\0\x01\x65cd");
        assert_eq!(video.frame(b"\0\0\0\x09\x65", true), None, "longer than it is");
        assert_eq!(video.frame(b"\0\0\0\0", true), None);
        for length in 0..record.len() {
            assert_eq!(Video::h264(&record[..length]), None, "{length}");
        }
    }

    #[test]
    fn h265_gets_start_codes_and_parameter_sets() {
        let mut record = [0; 22].to_vec();
        record[21] = 0xFD;
        record.extend(b"\x02\xA0\0\x01\0\x02\x40a\xA1\0\x01\0\x02\x42b");
        let video = Video::h265(&record).unwrap();
        let key = b"\0\0\0\x01\x46\x01\x50\0\0\0\x01\x40a\0\0\0\x01\x42b\0\0\0\x01\x26c";
        assert_eq!(video.frame(b"\0\x02\x26c", true).unwrap(), key);
        assert_eq!(Video::h265(&record[..22]), None);
        assert_eq!(Video::h265(&record[..30]), None);
    }

    #[test]
    fn aac_gets_headers() {
        // LC, 44,100 Hz, two channels.
        let aac = Audio::aac(&[0x12, 0x10]).unwrap();
        let frame = aac.frame(&[7; 9]).unwrap();
        assert_eq!(frame[..7], [0xFF, 0xF1, 0x50, 0x80, 0x02, 0x1F, 0xFC]);
        assert_eq!(frame[7..], [7; 9]);
        assert_eq!(aac.frame(&[0; MAX_ADTS]), None);
        assert_eq!(Audio::aac(&[0x12]), None);
        assert_eq!(Audio::aac(&[0x17, 0x90]), None, "a rate of its own");
        assert_eq!(Audio::aac(&[0x12, 0]), None, "channels of its own");
        assert_eq!(Audio::Mp3.frame(&[1, 2]).unwrap(), [1, 2]);
    }
}

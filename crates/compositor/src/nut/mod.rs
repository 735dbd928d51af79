//! NUT, the container for raw pictures and sound between this process and ffmpeg. It stores a time with each frame, and
//! can be read and written as a stream.
//!
//! In: bytes of a pipe, or frames. Out: frames, or bytes. Deliberately absent: pipes; codecs; seeking, so indexes and
//! info packets are skipped; verification of checksums, because the bytes come from a child process.

mod read;
mod write;

pub use read::{Frame, NutReader, Stream};
pub use write::Writer;

use thiserror::Error;

/// The first bytes of a file.
const FILE_ID: &[u8; 25] = b"nut/multimedia container\0";
/// First byte of every start code; no frame starts with it.
const N: u8 = b'N';

mod start {
    pub(super) const MAIN: u64 = 0x4E4D_7A56_1F5F_04AD;
    pub(super) const STREAM: u64 = 0x4E53_1140_5BF2_F9DB;
    pub(super) const SYNCPOINT: u64 = 0x4E4B_E4AD_EECA_4569;
    pub(super) const INDEX: u64 = 0x4E58_DD67_2F23_E64E;
    pub(super) const INFO: u64 = 0x4E49_AB68_B596_BA78;
}

mod flag {
    pub(super) const KEY: u64 = 1;
    pub(super) const CODED_PTS: u64 = 1 << 3;
    pub(super) const STREAM_ID: u64 = 1 << 4;
    pub(super) const SIZE_MSB: u64 = 1 << 5;
    pub(super) const CHECKSUM: u64 = 1 << 6;
    pub(super) const RESERVED: u64 = 1 << 7;
    pub(super) const SIDE_DATA: u64 = 1 << 8;
    pub(super) const HEADER_IDX: u64 = 1 << 10;
    pub(super) const MATCH_TIME: u64 = 1 << 11;
    pub(super) const CODED: u64 = 1 << 12;
    pub(super) const INVALID: u64 = 1 << 13;
}

/// Why a stream cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NutError {
    /// The bytes do not start with the NUT file id.
    #[error("no NUT stream")]
    Id,
    /// A number is too long.
    #[error("a number is too long")]
    Number,
    /// A header is invalid or too long.
    #[error("a header is malformed")]
    Header,
    /// A frame has an unknown stream, an invalid code, or is too long.
    #[error("a frame is malformed")]
    Frame,
    /// A feature is not supported: more streams, or a stream that is neither pictures nor sound.
    #[error("a feature that is not read")]
    Feature,
}

/// CRC-32 with polynomial 0x04C11DB7, most significant bit first, initial value 0.
fn checksum(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut crc = (index as u32) << 24;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 0x8000_0000 == 0 { crc << 1 } else { crc << 1 ^ 0x04C1_1DB7 };
                bit += 1;
            }
            table[index] = crc;
            index += 1;
        }
        table
    };
    bytes.iter().fold(0, |crc, byte| crc << 8 ^ TABLE[(crc >> 24) as usize ^ usize::from(*byte)])
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: what is written is read.

    use super::*;

    #[test]
    fn a_checksum_over_itself_is_zero() {
        let mut bytes = b"123456789".to_vec();
        // CRC-32/CKSUM without its length and final inversion.
        assert_eq!(checksum(&bytes), 0x89A1_897F);
        let crc = checksum(&bytes).to_be_bytes();
        bytes.extend_from_slice(&crc);
        assert_eq!(checksum(&bytes), 0);
    }

    fn written() -> (Vec<u8>, Vec<Frame>) {
        let writer = Writer::new(Some((16, 8, 15)), (48_000, 2));
        let mut bytes = writer.header();
        let mut frames = Vec::new();
        for number in 0..20_u8 {
            let picture = vec![number; 16 * 8 * 3 / 2];
            let sound = vec![number; 4 * 3200];
            for (stream, pts, data) in
                [(0, i64::from(number), picture), (1, i64::from(number) * 3200, sound)]
            {
                bytes.extend(writer.frame_head(stream, pts.unsigned_abs(), data.len()));
                bytes.extend_from_slice(&data);
                frames.push(Frame { stream, pts, data });
            }
        }
        (bytes, frames)
    }

    #[test]
    fn written_data_is_read_back_in_any_pieces() {
        let (bytes, frames) = written();
        for size in [1, 7, 4096, bytes.len()] {
            let mut reader = NutReader::new(1 << 20);
            let mut read = Vec::new();
            for part in bytes.chunks(size) {
                reader.push(part);
                while let Some(frame) = reader.next().unwrap() {
                    read.push(frame);
                }
            }
            assert_eq!(read, frames, "{size}");
            assert_eq!(
                reader.streams(),
                [
                    Some(Stream::Picture { width: 16, height: 8, base: (1, 15) }),
                    Some(Stream::Sound { rate: 48_000, channels: 2, base: (1, 48_000) }),
                ]
            );
        }
    }

    #[test]
    fn no_bytes_cause_a_panic() {
        let (bytes, _) = written();
        for at in 0..bytes.len().min(600) {
            for value in [0, 1, 0x7F, 0x80, 0xFF, b'N'] {
                let mut harmed = bytes[..1200].to_vec();
                harmed[at] = value;
                let mut reader = NutReader::new(1 << 16);
                reader.push(&harmed);
                for _ in 0..1000 {
                    if !matches!(reader.next(), Ok(Some(_))) {
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_an_error() {
        let writer = Writer::new(None, (48_000, 2));
        let mut reader = NutReader::new(1000);
        reader.push(&writer.header());
        reader.push(&writer.frame_head(0, 0, 1001));
        assert_eq!(reader.next(), Err(NutError::Frame));
    }

    proptest::proptest! {
        #[test]
        fn a_changed_byte_causes_an_error_or_other_frames(
            harm in proptest::collection::vec((0..40_000_usize, proptest::num::u8::ANY), 1..40),
            size in 1..5000_usize,
        ) {
            let (mut bytes, _) = written();
            for (at, value) in harm {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            let mut reader = NutReader::new(1 << 16);
            'all: for part in bytes.chunks(size) {
                reader.push(part);
                loop {
                    match reader.next() {
                        Ok(Some(frame)) => proptest::prop_assert!(frame.data.len() <= 1 << 16),
                        Ok(None) => break,
                        Err(_) => break 'all,
                    }
                }
                // The stored bytes are bounded by the longest header.
                proptest::prop_assert!(reader.buffered.len() <= (70 << 10) + size);
            }
        }
    }
}

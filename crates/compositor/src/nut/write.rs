//! The NUT writer.
//!
//! In: frames. Out: bytes for ffmpeg. Deliberately absent: syncpoints other than the first one, because nobody seeks in
//! a pipe and readers store each of them.

use super::{FILE_ID, flag, start};

/// `msb_pts_shift` of all streams: with 0 every time is written in full.
const PTS_SHIFT: u32 = 0;
/// The only frame code in use.
const CODE: u8 = 1;

/// Writes sound, and pictures if there are any.
#[derive(Debug)]
pub struct Writer {
    /// Width and height in pixels, frame rate.
    picture: Option<(u32, u32, u32)>,
    /// Sample rate in Hz, number of channels.
    sound: (u32, u32),
}

impl Writer {
    /// Creates a writer. Pictures are stream 0, sound is the next one. Times count frames and samples.
    #[must_use]
    pub fn new(picture: Option<(u32, u32, u32)>, sound: (u32, u32)) -> Self {
        Self { picture, sound }
    }

    /// The beginning of the stream.
    #[must_use]
    pub fn header(&self) -> Vec<u8> {
        let mut out = FILE_ID.to_vec();
        packet(&mut out, start::MAIN, &self.main());
        let mut id = 0;
        if let Some((width, height, _)) = self.picture {
            let mut body = Vec::new();
            for value in [id, 0] {
                number(&mut body, value);
            }
            self.stream(&mut body, b"I420", 0);
            for value in [width, height, 1, 1, 0] {
                number(&mut body, value.into());
            }
            packet(&mut out, start::STREAM, &body);
            id += 1;
        }
        let mut body = Vec::new();
        for value in [id, 1] {
            number(&mut body, value);
        }
        self.stream(&mut body, &[b'P', b'S', b'D', 16], id);
        for value in [self.sound.0, 1, self.sound.1] {
            number(&mut body, value.into());
        }
        packet(&mut out, start::STREAM, &body);
        if let Some((_, _, fps)) = self.picture {
            packet(&mut out, start::INFO, &frame_rate(fps));
        }
        packet(&mut out, start::SYNCPOINT, &[0, 0]);
        out
    }

    /// The header of a frame, which precedes its `size` bytes.
    #[must_use]
    pub fn frame_head(&self, stream: usize, pts: u64, size: usize) -> Vec<u8> {
        let mut out = vec![CODE];
        number(&mut out, stream as u64);
        number(&mut out, pts + (1 << PTS_SHIFT));
        number(&mut out, size as u64);
        let crc = super::checksum(&out).to_be_bytes();
        out.extend_from_slice(&crc);
        out
    }

    fn main(&self) -> Vec<u8> {
        const VERSION: u64 = 4;
        const DISTANCE: u64 = 65_536;
        const PIPE: u64 = 2;
        let mut body = Vec::new();
        let bases: Vec<u32> = self.picture.iter().map(|it| it.2).chain([self.sound.0]).collect();
        for value in [VERSION, 0, bases.len() as u64, DISTANCE, bases.len() as u64] {
            number(&mut body, value);
        }
        for rate in bases {
            number(&mut body, 1);
            number(&mut body, rate.into());
        }
        let frame = flag::KEY | flag::CODED_PTS | flag::STREAM_ID | flag::SIZE_MSB | flag::CHECKSUM;
        // Flags, and number of consecutive codes that have them. The code `N` is not counted.
        for (flags, count) in [(flag::INVALID, 1), (frame, 1), (flag::INVALID, 253)] {
            // Six fields: time difference, size factor, stream, size, reserved, count.
            for value in [flags, 6, 0, 1, 0, 0, 0, count] {
                number(&mut body, value);
            }
        }
        number(&mut body, 0);
        number(&mut body, PIPE);
        body
    }

    fn stream(&self, body: &mut Vec<u8>, codec: &[u8], base: u64) {
        number(body, codec.len() as u64);
        body.extend_from_slice(codec);
        // Time base, `msb_pts_shift`, `max_pts_distance`, delay, flags, no codec data.
        for value in [base, PTS_SHIFT.into(), 1 << 30, 0, 0, 0] {
            number(body, value);
        }
    }
}

fn frame_rate(fps: u32) -> Vec<u8> {
    let mut body = Vec::new();
    // For stream 0; no chapter; start and length 0; one field.
    for value in [1, 0, 0, 0, 1] {
        number(&mut body, value);
    }
    for text in ["r_frame_rate", &format!("{fps}/1")] {
        number(&mut body, text.len() as u64);
        body.extend_from_slice(text.as_bytes());
        if text.starts_with('r') {
            // The value is text: -1.
            number(&mut body, 2);
        }
    }
    body
}

fn packet(out: &mut Vec<u8>, code: u64, body: &[u8]) {
    out.extend_from_slice(&code.to_be_bytes());
    let begin = out.len();
    number(out, body.len() as u64 + 4);
    if body.len() + 4 > 4096 {
        let crc = super::checksum(&out[begin - 8..]).to_be_bytes();
        out.extend_from_slice(&crc);
    }
    out.extend_from_slice(body);
    out.extend_from_slice(&super::checksum(body).to_be_bytes());
}

/// Variable-length number: seven bits per byte, the highest first.
fn number(out: &mut Vec<u8>, value: u64) {
    let bits = (u64::BITS - value.leading_zeros()).max(1);
    for group in (0..bits.div_ceil(7)).rev() {
        let more = if group == 0 { 0 } else { 0x80 };
        out.push((value >> (7 * group)) as u8 & 0x7F | more);
    }
}

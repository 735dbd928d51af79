//! The NUT reader.
//!
//! In: bytes, in parts of any size. Out: streams and frames. Deliberately absent: recovery from an error; the process
//! that writes is restarted instead.

use super::{FILE_ID, N, NutError, flag, start};

/// Maximum number of streams.
const MAX_STREAMS: usize = 2;
/// Maximum length of a packet, in bytes.
const MAX_HEADER: u64 = 64 << 10;
/// Maximum number of elided headers.
const MAX_ELIDED: u64 = 128;

/// The type and parameters of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Pictures.
    Picture {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Time base: the duration of one unit of time in seconds, as a fraction.
        base: (u32, u32),
    },
    /// Sound.
    Sound {
        /// Sample rate in Hz.
        rate: u32,
        /// Number of channels.
        channels: u32,
        /// Time base, as for pictures.
        base: (u32, u32),
    },
}

impl Stream {
    fn base(self) -> (u32, u32) {
        match self {
            Self::Picture { base, .. } | Self::Sound { base, .. } => base,
        }
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Number of its stream.
    pub stream: usize,
    /// Presentation time, in units of its stream's time base.
    pub pts: i64,
    /// The contents.
    pub data: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct FrameCode {
    flags: u64,
    pts_delta: i64,
    size_factor: u64,
    size: u64,
    stream: usize,
    reserved: u64,
    header: usize,
}

const NO_FRAME_CODE: FrameCode = FrameCode {
    flags: flag::INVALID,
    pts_delta: 0,
    size_factor: 1,
    size: 0,
    stream: 0,
    reserved: 0,
    header: 0,
};

#[derive(Debug, Default)]
struct StreamClock {
    shift: u32,
    last: i64,
}

/// A frame that is not complete yet.
#[derive(Debug)]
struct Pending {
    frame: Frame,
    /// Size of the complete frame, in bytes.
    size: usize,
}

/// Reads frames from a NUT stream.
#[derive(Debug)]
pub struct NutReader {
    max_frame: usize,
    pub(super) buffered: Vec<u8>,
    /// Number of bytes of `buffered` that were read.
    at: usize,
    begun: bool,
    bases: Vec<(u32, u32)>,
    codes: Box<[FrameCode; 256]>,
    elided: Vec<Vec<u8>>,
    streams: [Option<Stream>; MAX_STREAMS],
    clocks: [StreamClock; MAX_STREAMS],
    pending: Option<Pending>,
}

impl NutReader {
    /// Creates a reader for frames of at most `max_frame` bytes.
    #[must_use]
    pub fn new(max_frame: usize) -> Self {
        Self {
            max_frame,
            buffered: Vec::new(),
            at: 0,
            begun: false,
            bases: Vec::new(),
            codes: Box::new([NO_FRAME_CODE; 256]),
            elided: vec![Vec::new()],
            streams: [None; MAX_STREAMS],
            clocks: Default::default(),
            pending: None,
        }
    }

    /// The streams, by number.
    #[must_use]
    pub fn streams(&self) -> &[Option<Stream>] {
        &self.streams
    }

    /// Adds bytes. Read all frames before adding more; only this bounds the stored bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        if self.at == self.buffered.len()
            && let Some(pending) = &mut self.pending
        {
            // Bytes of an incomplete frame are appended to it directly.
            let missing = pending.size - pending.frame.data.len();
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            pending.frame.data.extend_from_slice(now);
            bytes = later;
        }
        if self.at > 0 {
            self.buffered.drain(..self.at);
            self.at = 0;
        }
        self.buffered.extend_from_slice(bytes);
    }

    /// The next frame, or `None` until more bytes have been added.
    ///
    /// # Errors
    /// [`NutError`]; nothing can be read after that.
    #[expect(clippy::should_implement_trait, reason = "it can fail, and go on after an end")]
    pub fn next(&mut self) -> Result<Option<Frame>, NutError> {
        loop {
            if let Some(mut pending) = self.pending.take() {
                let missing = pending.size - pending.frame.data.len();
                let rest = &self.buffered[self.at..];
                let count = missing.min(rest.len());
                pending.frame.data.extend_from_slice(&rest[..count]);
                self.at += count;
                if count == missing {
                    return Ok(Some(pending.frame));
                }
                self.pending = Some(pending);
                return Ok(None);
            }
            let mut cursor = Cursor { bytes: &self.buffered[self.at..], read: 0 };
            let element = self.element(&mut cursor);
            let read = cursor.read;
            match element {
                Ok(element) => {
                    self.at += read;
                    self.apply(element);
                }
                Err(ParseError::Incomplete) => return Ok(None),
                Err(ParseError::Bad(error)) => return Err(error),
            }
        }
    }

    fn apply(&mut self, element: Element) {
        match element {
            Element::Id => self.begun = true,
            Element::Skip => {}
            Element::MainHeader(main) => {
                self.bases = main.bases;
                self.codes = main.codes;
                self.elided = main.elided;
            }
            Element::Stream(id, stream, shift) => {
                self.streams[id] = Some(stream);
                self.clocks[id] = StreamClock { shift, last: 0 };
            }
            Element::Sync(base, value) => {
                for (clock, stream) in self.clocks.iter_mut().zip(self.streams) {
                    let Some(stream) = stream else { continue };
                    clock.last = rescale(value, base, stream.base());
                }
            }
            Element::Frame(pending) => {
                self.clocks[pending.frame.stream].last = pending.frame.pts;
                self.pending = Some(pending);
            }
        }
    }

    fn element(&self, cursor: &mut Cursor) -> Result<Element, ParseError> {
        if !self.begun {
            let id = cursor.take(FILE_ID.len())?;
            return if id == FILE_ID { Ok(Element::Id) } else { Err(NutError::Id.into()) };
        }
        let first = cursor.byte()?;
        if first != N {
            return self.frame(first, cursor);
        }
        let mut code = [first; 8];
        code[1..].copy_from_slice(cursor.take(7)?);
        let code = u64::from_be_bytes(code);
        let size = cursor.number()?;
        if size > MAX_HEADER && code != start::INDEX {
            return Err(NutError::Header.into());
        }
        if size > 4096 {
            cursor.take(4)?;
        }
        let size = usize::try_from(size).map_err(|_| NutError::Header)?;
        let body = cursor.take(size)?;
        let body = body.get(..size.saturating_sub(4)).unwrap_or_default();
        // A packet whose contents are too short is malformed.
        let whole = |error: ParseError| match error {
            ParseError::Incomplete => ParseError::Bad(NutError::Header),
            bad @ ParseError::Bad(_) => bad,
        };
        let mut body = Cursor { bytes: body, read: 0 };
        match code {
            start::MAIN => main(&mut body).map(Element::MainHeader).map_err(whole),
            start::STREAM => self.stream(&mut body).map_err(whole),
            start::SYNCPOINT => self.sync(&mut body).map_err(whole),
            start::INDEX | start::INFO => Ok(Element::Skip),
            _ => Err(NutError::Header.into()),
        }
    }

    fn sync(&self, body: &mut Cursor) -> Result<Element, ParseError> {
        let value = body.number()?;
        let count = self.bases.len() as u64;
        if count == 0 {
            return Err(NutError::Header.into());
        }
        let base = self.bases[(value % count) as usize];
        let value = i64::try_from(value / count).map_err(|_| NutError::Number)?;
        Ok(Element::Sync(base, value))
    }

    fn stream(&self, body: &mut Cursor) -> Result<Element, ParseError> {
        let id = body.index()?;
        let class = body.number()?;
        let codec = body.index()?;
        body.take(codec)?;
        let base = *self.bases.get(body.index()?).ok_or(NutError::Header)?;
        let shift = u32::try_from(body.number()?).map_err(|_| NutError::Header)?;
        for _ in 0..3 {
            body.number()?;
        }
        let extra = body.index()?;
        body.take(extra)?;
        if id >= MAX_STREAMS || shift > 15 {
            return Err(NutError::Feature.into());
        }
        let mut side = || Ok::<_, ParseError>(u32::try_from(body.number()?).unwrap_or(u32::MAX));
        let stream = match class {
            0 => Stream::Picture { width: side()?, height: side()?, base },
            1 => {
                let (rate, divisor) = (side()?, side()?);
                Stream::Sound { rate: rate / divisor.max(1), channels: side()?, base }
            }
            _ => return Err(NutError::Feature.into()),
        };
        Ok(Element::Stream(id, stream, shift))
    }

    fn frame(&self, code: u8, cursor: &mut Cursor) -> Result<Element, ParseError> {
        let code = self.codes[usize::from(code)];
        let mut flags = code.flags;
        if flags & flag::INVALID != 0 {
            return Err(NutError::Frame.into());
        }
        if flags & flag::CODED != 0 {
            flags ^= cursor.number()?;
        }
        let has = |flag: u64| flags & flag != 0;
        let stream = if has(flag::STREAM_ID) { cursor.index()? } else { code.stream };
        let clock = self.clocks.get(stream).ok_or(NutError::Frame)?;
        if self.streams[stream].is_none() || has(flag::SIDE_DATA) {
            return Err(NutError::Frame.into());
        }
        let pts = if has(flag::CODED_PTS) {
            clock.full(cursor.number()?)?
        } else {
            clock.last.checked_add(code.pts_delta).ok_or(NutError::Number)?
        };
        let mut size = code.size;
        if has(flag::SIZE_MSB) {
            let high = cursor.number()?.checked_mul(code.size_factor);
            size = high.and_then(|high| size.checked_add(high)).ok_or(NutError::Frame)?;
        }
        if has(flag::MATCH_TIME) {
            cursor.number()?;
        }
        let header = if has(flag::HEADER_IDX) { cursor.index()? } else { code.header };
        let reserved = if has(flag::RESERVED) { cursor.number()? } else { code.reserved };
        if reserved > 16 {
            return Err(NutError::Frame.into());
        }
        for _ in 0..reserved {
            cursor.number()?;
        }
        if has(flag::CHECKSUM) {
            cursor.take(4)?;
        }
        let size = usize::try_from(size).map_err(|_| NutError::Frame)?;
        let header = if size > 4096 { 0 } else { header };
        let head = self.elided.get(header).ok_or(NutError::Frame)?;
        if size > self.max_frame || size < head.len() {
            return Err(NutError::Frame.into());
        }
        let mut data = Vec::with_capacity(size);
        data.extend_from_slice(head);
        Ok(Element::Frame(Pending { frame: Frame { stream, pts, data }, size }))
    }
}

impl StreamClock {
    /// Decodes a time of which either the low bits or all bits are coded.
    fn full(&self, coded: u64) -> Result<i64, NutError> {
        let coded = i64::try_from(coded).map_err(|_| NutError::Number)?;
        let span = 1_i64 << self.shift;
        if coded >= span {
            return Ok(coded - span);
        }
        let mask = span - 1;
        let low = self.last.checked_sub(mask / 2).ok_or(NutError::Number)?;
        Ok((coded.wrapping_sub(low) & mask).saturating_add(low))
    }
}

enum Element {
    Id,
    Skip,
    MainHeader(MainHeader),
    Stream(usize, Stream, u32),
    Sync((u32, u32), i64),
    Frame(Pending),
}

struct MainHeader {
    bases: Vec<(u32, u32)>,
    codes: Box<[FrameCode; 256]>,
    elided: Vec<Vec<u8>>,
}

fn main(body: &mut Cursor) -> Result<MainHeader, ParseError> {
    let version = body.number()?;
    if !(2..=4).contains(&version) {
        return Err(NutError::Feature.into());
    }
    if version > 3 {
        body.number()?;
    }
    let streams = body.index()?;
    if streams == 0 || streams > MAX_STREAMS {
        return Err(NutError::Feature.into());
    }
    body.number()?;
    let count = body.index()?;
    if count == 0 || count > 16 {
        return Err(NutError::Header.into());
    }
    let mut bases = Vec::with_capacity(count);
    for _ in 0..count {
        let mut part = || Ok::<_, ParseError>(u32::try_from(body.number()?).unwrap_or(0));
        let base = (part()?, part()?);
        if base.0 == 0 || base.1 == 0 {
            return Err(NutError::Header.into());
        }
        bases.push(base);
    }
    let codes = codes(body)?;
    let mut elided = vec![Vec::new()];
    if !body.is_empty() {
        let count = body.number()?;
        if count > MAX_ELIDED {
            return Err(NutError::Header.into());
        }
        for _ in 0..count {
            let size = body.index()?;
            elided.push(body.take(size)?.to_vec());
        }
    }
    Ok(MainHeader { bases, codes, elided })
}

fn codes(body: &mut Cursor) -> Result<Box<[FrameCode; 256]>, ParseError> {
    let mut codes = Box::new([NO_FRAME_CODE; 256]);
    let mut code = FrameCode { flags: 0, ..NO_FRAME_CODE };
    let mut at = 0;
    while at < codes.len() {
        code.flags = body.number()?;
        let fields = body.number()?;
        if fields > 16 {
            return Err(NutError::Header.into());
        }
        (code.size, code.reserved) = (0, 0);
        let mut count = None;
        for field in 0..fields {
            match field {
                0 => code.pts_delta = body.signed()?,
                1 => code.size_factor = body.number()?,
                2 => code.stream = body.index()?,
                3 => code.size = body.number()?,
                4 => code.reserved = body.number()?,
                5 => count = Some(body.number()?),
                7 => code.header = body.index()?,
                _ => {
                    body.number()?;
                }
            }
        }
        let count = match count {
            Some(count) => count,
            None => code.size_factor.checked_sub(code.size).ok_or(NutError::Header)?,
        };
        if count == 0 || count > 256 || code.size > u64::from(u32::MAX) {
            return Err(NutError::Header.into());
        }
        let mut left = count;
        while left > 0 {
            let slot = codes.get_mut(at).ok_or(NutError::Header)?;
            if at != usize::from(N) {
                *slot = FrameCode { size: code.size + (count - left), ..code };
                left -= 1;
            }
            at += 1;
        }
        // The code `N` is not assigned, not even at the end of a row.
        if at == usize::from(N) {
            at += 1;
        }
    }
    Ok(codes)
}

fn rescale(value: i64, from: (u32, u32), to: (u32, u32)) -> i64 {
    let scaled = i128::from(value) * i128::from(from.0) * i128::from(to.1);
    let scaled = scaled.div_euclid(i128::from(from.1) * i128::from(to.0));
    i64::try_from(scaled).unwrap_or(i64::MAX)
}

/// Why an element cannot be read: bytes are missing or malformed.
enum ParseError {
    Incomplete,
    Bad(NutError),
}

impl From<NutError> for ParseError {
    fn from(error: NutError) -> Self {
        Self::Bad(error)
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    read: usize,
}

impl<'a> Cursor<'a> {
    fn is_empty(&self) -> bool {
        self.read >= self.bytes.len()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], ParseError> {
        let end = self.read.checked_add(count).ok_or(ParseError::Incomplete)?;
        let taken = self.bytes.get(self.read..end).ok_or(ParseError::Incomplete)?;
        self.read = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, ParseError> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u64, ParseError> {
        let mut value = 0_u64;
        for _ in 0..10 {
            let byte = self.byte()?;
            if value >> 57 != 0 {
                return Err(NutError::Number.into());
            }
            value = value << 7 | u64::from(byte & 0x7F);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(NutError::Number.into())
    }

    fn index(&mut self) -> Result<usize, ParseError> {
        Ok(usize::try_from(self.number()?).map_err(|_| NutError::Number)?)
    }

    fn signed(&mut self) -> Result<i64, ParseError> {
        let value = self.number()?.checked_add(1).ok_or(NutError::Number)?;
        let half = i64::try_from(value >> 1).map_err(|_| NutError::Number)?;
        Ok(if value & 1 == 1 { -half } else { half })
    }
}

//! Chunks to messages and back (RTMP 1.0 §5.3).
//!
//! In: bytes of the connection. Out: complete messages; each chunk stream is reassembled by itself. Absent: the
//! meaning of messages. The owner applies `SetChunkSize` and `Abort` when it reads them.

use bytes::Bytes;

use super::RtmpError;
use super::limits::{
    DEFAULT_CHUNK_SIZE, MAX_CHUNK_SIZE, MAX_CHUNK_STREAMS, MAX_COMMAND_MESSAGE, MAX_DATA_MESSAGE,
    MAX_IDLE_PARTIAL_BYTES, MAX_MEDIA_MESSAGE, MAX_PARTIAL_BYTES,
};
use super::message::{Message, message_type};
use crate::block::Block;

/// The 24-bit value that announces an extended timestamp of 32 bits.
const EXTENDED: u32 = 0xFF_FFFF;

/// The state of one chunk stream.
#[derive(Debug)]
struct ChunkStream {
    id: u32,
    timestamp: u32,
    /// The last timestamp or delta sent. A type 3 header that starts a message repeats it as the delta.
    field: u32,
    extended: bool,
    length: usize,
    type_id: u8,
    stream_id: u32,
    /// Whether a message is incomplete.
    open: bool,
    /// Bytes of the message received so far.
    received: usize,
    /// The message is too long to be kept: its bytes are dropped as they come.
    skipped: bool,
    partial: Block,
}

/// A message header as the peer sent it.
#[derive(Clone, Copy)]
struct Header {
    format: u8,
    field: u32,
    length: usize,
    type_id: u8,
    stream_id: u32,
}

/// Reassembles messages. Memory grows only with received bytes: up to [`MAX_IDLE_PARTIAL_BYTES`], or up to
/// [`MAX_PARTIAL_BYTES`] while media is expected.
#[derive(Debug)]
pub struct ChunkReader {
    streams: Vec<ChunkStream>,
    chunk_size: usize,
    /// The chunk stream (an index) of the chunk being read, and the bytes that are left of the chunk.
    current: Option<(usize, usize)>,
    partial_bytes: usize,
    media: bool,
    /// A message was dropped since the owner last asked.
    skipped: bool,
}

impl Default for ChunkReader {
    fn default() -> Self {
        Self {
            streams: Vec::new(),
            chunk_size: DEFAULT_CHUNK_SIZE,
            current: None,
            partial_bytes: 0,
            media: false,
            skipped: false,
        }
    }
}

impl ChunkReader {
    /// Applies a `SetChunkSize` of the peer.
    ///
    /// # Errors
    /// [`RtmpError::ChunkSize`] if the size is outside 1..=[`MAX_CHUNK_SIZE`].
    pub fn set_chunk_size(&mut self, size: u32) -> Result<(), RtmpError> {
        let wanted = usize::try_from(size).unwrap_or(usize::MAX);
        if !(1..=MAX_CHUNK_SIZE).contains(&wanted) {
            return Err(RtmpError::ChunkSize(size));
        }
        self.chunk_size = wanted;
        Ok(())
    }

    /// Sets whether media is expected from here on; at first it is not. While it is, media messages and the total of
    /// incomplete messages may be larger. When it is no longer expected, incomplete media messages are dropped.
    ///
    /// # Errors
    /// [`RtmpError::PartialBytes`] if the incomplete messages exceed the new bound.
    pub fn expect_media(&mut self, media: bool) -> Result<(), RtmpError> {
        self.media = media;
        for stream in self.streams.iter_mut().filter(|it| !media && is_media(it.type_id)) {
            self.partial_bytes -= stream.partial.len();
            stream.partial = Block::default();
            stream.skipped = stream.open;
        }
        self.check_partial()
    }

    /// Whether a message was dropped because it was too long, since the last call.
    pub fn take_skipped(&mut self) -> bool {
        std::mem::take(&mut self.skipped)
    }

    /// Bytes of memory that incomplete messages take.
    #[must_use]
    pub fn unfinished_bytes(&self) -> usize {
        self.streams.iter().map(|stream| stream.partial.capacity()).sum()
    }

    fn check_partial(&self) -> Result<(), RtmpError> {
        let limit = if self.media { MAX_PARTIAL_BYTES } else { MAX_IDLE_PARTIAL_BYTES };
        if self.partial_bytes > limit { Err(RtmpError::PartialBytes) } else { Ok(()) }
    }

    /// Drops the incomplete message of a chunk stream, if there is one.
    pub fn abort(&mut self, chunk_stream: u32) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == chunk_stream) {
            self.partial_bytes -= stream.partial.len();
            stream.partial = Block::default();
            stream.open = false;
        }
    }

    /// Takes bytes from the front of `input` until a message is complete or no more bytes can be used. The caller
    /// must keep the rest of `input` and put it before the next bytes.
    ///
    /// # Errors
    /// If the bytes break a rule or a bound. The reader must not be used afterwards.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Message>, RtmpError> {
        loop {
            let (index, left) = match self.current {
                Some(current) => current,
                None => match self.header(input)? {
                    Some(current) => current,
                    None => return Ok(None),
                },
            };
            let (head, tail) = input.split_at(left.min(input.len()));
            *input = tail;
            let stream = &mut self.streams[index];
            stream.received += head.len();
            if !stream.skipped {
                stream.append(head);
                self.partial_bytes += head.len();
                self.check_partial()?;
            }
            if head.len() < left {
                self.current = Some((index, left - head.len()));
                return Ok(None);
            }
            self.current = None;
            let stream = &mut self.streams[index];
            if stream.received < stream.length {
                continue;
            }
            stream.open = false;
            if stream.skipped {
                self.skipped = true;
                continue;
            }
            self.partial_bytes -= stream.partial.len();
            return Ok(Some(Message {
                timestamp: stream.timestamp,
                type_id: stream.type_id,
                stream_id: stream.stream_id,
                payload: std::mem::take(&mut stream.partial).share(),
            }));
        }
    }

    /// Reads one chunk header: the chunk stream and the length of the chunk. `None` if the header is incomplete.
    fn header(&mut self, input: &mut &[u8]) -> Result<Option<(usize, usize)>, RtmpError> {
        let Some((id, format, mut at)) = basic_header(input) else { return Ok(None) };
        let known = self.streams.iter().position(|stream| stream.id == id);
        if known.is_none() {
            if self.streams.len() >= MAX_CHUNK_STREAMS {
                return Err(RtmpError::ChunkStreams);
            }
            // Some clients begin the control chunk stream with a type 1 header.
            if format > 1 {
                return Err(RtmpError::ChunkHeader);
            }
        }
        let Some(fields) = input.get(at..at + [11, 7, 3, 0][usize::from(format)]) else {
            return Ok(None);
        };
        at += fields.len();
        let previous = known.map(|index| &self.streams[index]);
        let mut header = Header {
            format,
            field: previous.map_or(0, |stream| stream.field),
            length: previous.map_or(0, |stream| stream.length),
            type_id: previous.map_or(0, |stream| stream.type_id),
            stream_id: previous.map_or(0, |stream| stream.stream_id),
        };
        if let [a, b, c, rest @ ..] = fields {
            header.field = u32::from_be_bytes([0, *a, *b, *c]);
            if let [a, b, c, type_id, rest @ ..] = rest {
                header.length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                header.type_id = *type_id;
                if let [a, b, c, d] = rest {
                    header.stream_id = u32::from_le_bytes([*a, *b, *c, *d]);
                }
            }
        }
        let mut extended = previous.is_some_and(|stream| stream.extended);
        if format < 3 {
            extended = header.field == EXTENDED;
        }
        if extended {
            let Some(&[a, b, c, d]) = input.get(at..at + 4) else { return Ok(None) };
            let value = u32::from_be_bytes([a, b, c, d]);
            // A type 3 header repeats the extended timestamp. Some senders omit it; then these bytes are payload.
            if format < 3 || value == header.field {
                at += 4;
                header.field = value;
            }
        }
        let limit = match header.type_id {
            type_id if is_media(type_id) && self.media => MAX_MEDIA_MESSAGE,
            message_type::DATA | message_type::DATA_AMF3 if self.media => MAX_DATA_MESSAGE,
            _ => MAX_COMMAND_MESSAGE,
        };
        let skipped = header.length > limit;
        // Published media must not be dropped silently, and the control messages rule the chunks themselves.
        let is_needed = (1..=message_type::SET_PEER_BANDWIDTH).contains(&header.type_id)
            || is_media(header.type_id) && self.media;
        if skipped && is_needed {
            return Err(RtmpError::MessageSize { type_id: header.type_id, length: header.length });
        }
        let index = known.unwrap_or_else(|| {
            self.streams.push(ChunkStream::new(id));
            self.streams.len() - 1
        });
        let stream = &mut self.streams[index];
        stream.apply(header, extended, skipped)?;
        *input = &input[at..];
        Ok(Some((index, self.chunk_size.min(stream.length - stream.received))))
    }
}

impl ChunkStream {
    fn new(id: u32) -> Self {
        Self {
            id,
            timestamp: 0,
            field: 0,
            extended: false,
            length: 0,
            type_id: 0,
            stream_id: 0,
            open: false,
            received: 0,
            skipped: false,
            partial: Block::default(),
        }
    }

    /// Appends bytes of the message. The memory doubles as they come, but never exceeds the length of the message.
    fn append(&mut self, bytes: &[u8]) {
        let needed = self.partial.len() + bytes.len();
        if needed > self.partial.capacity() {
            let wanted = (2 * self.partial.capacity()).clamp(needed, self.length.max(needed));
            self.partial.grow(wanted);
        }
        self.partial.put(bytes);
    }

    /// Applies a header. Within a message, a header of any type continues the message if it describes the same one.
    fn apply(&mut self, header: Header, extended: bool, skipped: bool) -> Result<(), RtmpError> {
        if self.open {
            if header.length != self.length || header.type_id != self.type_id {
                return Err(RtmpError::MessageChanged);
            }
            return Ok(());
        }
        self.timestamp = match header.format {
            0 => header.field,
            _ => self.timestamp.wrapping_add(header.field),
        };
        self.field = header.field;
        self.extended = extended;
        self.length = header.length;
        self.type_id = header.type_id;
        self.stream_id = header.stream_id;
        self.open = true;
        self.received = 0;
        self.skipped = skipped;
        Ok(())
    }
}

fn is_media(type_id: u8) -> bool {
    matches!(type_id, message_type::AUDIO | message_type::VIDEO | message_type::AGGREGATE)
}

/// The chunk stream, the header type, and the length of the basic header.
fn basic_header(input: &[u8]) -> Option<(u32, u8, usize)> {
    let first = *input.first()?;
    let format = first >> 6;
    match first & 0x3F {
        0 => Some((64 + u32::from(*input.get(1)?), format, 2)),
        1 => Some((64 + u32::from(*input.get(1)?) + 256 * u32::from(*input.get(2)?), format, 3)),
        id => Some((u32::from(id), format, 1)),
    }
}

/// Appends a message in chunks: one full header, and type 3 headers for the further chunks.
///
/// `chunk_stream` must be in 2..=63. The result does not depend on earlier messages, so all receivers with this chunk
/// size may share it.
pub fn encode_message(out: &mut Vec<u8>, chunk_stream: u8, message: &Message, chunk_size: usize) {
    out.reserve(encoded_len(message, chunk_size));
    encode_to(&mut |bytes| out.extend_from_slice(bytes), chunk_stream, message, chunk_size);
}

/// As [`encode_message`], as a shared buffer.
pub(crate) fn encode_shared(chunk_stream: u8, message: &Message, chunk_size: usize) -> Bytes {
    let mut out = Block::with_capacity(encoded_len(message, chunk_size));
    encode_to(&mut |bytes| out.put(bytes), chunk_stream, message, chunk_size);
    out.share()
}

/// The encoded length of a message, bytes.
fn encoded_len(message: &Message, chunk_size: usize) -> usize {
    let length = message.payload.len();
    let extended = if message.timestamp >= EXTENDED { 4 } else { 0 };
    let more = length.div_ceil(chunk_size.max(1)).saturating_sub(1);
    12 + extended + length + more * (1 + extended)
}

fn encode_to(put: &mut impl FnMut(&[u8]), chunk_stream: u8, message: &Message, chunk_size: usize) {
    let payload = &message.payload;
    let extended = (message.timestamp >= EXTENDED).then(|| message.timestamp.to_be_bytes());
    let extended = extended.as_ref().map_or(&[][..], |bytes| &bytes[..]);
    put(&[chunk_stream & 0x3F]);
    put(&message.timestamp.min(EXTENDED).to_be_bytes()[1..]);
    put(&u32::try_from(payload.len()).unwrap_or(EXTENDED).to_be_bytes()[1..]);
    put(&[message.type_id]);
    put(&message.stream_id.to_le_bytes());
    put(extended);
    for (index, chunk) in payload.chunks(chunk_size.max(1)).enumerate() {
        if index > 0 {
            put(&[0xC0 | (chunk_stream & 0x3F)]);
            put(extended);
        }
        put(chunk);
    }
}

//! FLV and HLS output. In: a program of publishers, pulls and passing time on one stream. Checked: every pull is a file
//! that can be read back; its tags are the published ones, in order, at times that never go back; it starts where a
//! decoder can start; HLS segments consist of whole packets; a pull that is not read is cut; the hub is empty at the
//! end. Deliberately absent: sockets.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::FutureExt;
use lianmai_media_plane::flv::encode_tag;
use lianmai_media_plane::hls::Segmenter;
use lianmai_media_plane::pull::{FlvStream, open};
use lianmai_media_plane::rtmp::chunk::ChunkReader;
use lianmai_media_plane::rtmp::limits::OUT_CHUNK_SIZE;
use lianmai_media_plane::{
    Authorizer, Direction, EndReason, Hub, Kinds, MediaKind, Player, Protocol, Publisher,
    RelayConfig, StreamName, StreamRequest, Verdict,
};

use crate::program::Program;

const MAX_STEPS: usize = 400;
/// Small, so that a program reaches the limit.
const QUEUE_BYTES: usize = 4 << 10;
const MAX_PLAYERS: usize = 12;
const SEGMENT_MS: u32 = 2000;
/// Size of an MPEG-TS packet, in bytes.
const PACKET: usize = 188;

/// The beginnings of bodies as encoders write them; the program appends to them.
const BODIES: [(MediaKind, &[u8]); 12] = [
    (MediaKind::Video, &[0x17, 0, 0, 0, 0]),
    (MediaKind::Video, &[0x17, 1, 0, 0, 0]),
    (MediaKind::Video, &[0x27, 1, 0, 0, 0]),
    (MediaKind::Video, b"\x90hvc1"),
    (MediaKind::Video, b"\x91hvc1"),
    (MediaKind::Video, b"\xA1hvc1"),
    (MediaKind::Audio, &[0xAF, 0]),
    (MediaKind::Audio, &[0xAF, 1]),
    (MediaKind::Metadata, b"\x02\x00\x0aonMetaData\x05"),
    (MediaKind::Video, &[]),
    (MediaKind::Audio, &[]),
    (MediaKind::Metadata, &[]),
];

/// Interprets any bytes as the life of a stream.
pub fn flv(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing of the system");
    runtime.block_on(tokio::task::unconstrained(live(Program::new(data))));
}

async fn live(mut program: Program<'_>) {
    let config = RelayConfig {
        player_queue_bytes: QUEUE_BYTES,
        gop_bytes: QUEUE_BYTES / 2,
        gop_packets: 16,
        max_players: MAX_PLAYERS,
        max_waiters: MAX_PLAYERS / 2,
        ..RelayConfig::default()
    };
    let mut stage = Stage {
        hub: Hub::new(config),
        publisher: None,
        sent: Vec::new(),
        pulls: Vec::new(),
        players: Vec::new(),
    };
    for _ in 0..MAX_STEPS {
        if program.is_over() {
            break;
        }
        stage.step(&mut program).await;
    }
    stage.end().await;
}

/// A published message.
struct Sent {
    kind: MediaKind,
    body: Vec<u8>,
}

/// A tag that was read.
#[derive(Clone, Debug, PartialEq)]
struct Tag {
    kind: MediaKind,
    timestamp: u32,
    body: Vec<u8>,
}

/// A pull, and the data that it received.
struct Pull {
    stream: FlvStream,
    bytes: Vec<u8>,
}

struct Stage {
    hub: Hub,
    publisher: Option<Publisher>,
    sent: Vec<Sent>,
    pulls: Vec<Pull>,
    /// Players of the hub itself, as used by RTMP and HLS, and the tags that they received.
    players: Vec<(Player, Vec<Tag>, Segmenter)>,
}

struct Allow;

impl Authorizer for Allow {
    async fn authorize(&self, request: StreamRequest) -> Verdict {
        Verdict::Allow { viewer: self.viewer(&request), kinds: Kinds::BOTH, account: None }
    }

    fn viewer(&self, request: &StreamRequest) -> Option<String> {
        request.query.strip_prefix("v=").map(ToOwned::to_owned)
    }
}

fn request(direction: Direction, query: &str) -> StreamRequest {
    let peer = SocketAddr::from(([127, 0, 0, 1], 9));
    StreamRequest::new(direction, "live", "a", query, Protocol::HttpFlv, peer)
}

impl Stage {
    async fn step(&mut self, program: &mut Program<'_>) {
        match program.byte() & 0xF {
            0 => {
                let publisher = self.hub.publish(&Allow, request(Direction::Publish, "")).await;
                if let Ok(publisher) = publisher {
                    self.publisher = Some(publisher);
                }
            }
            1 => self.publisher = None,
            2 => {
                let query = program.pick(&["", "v=x", "v=y"]);
                if let Ok(stream) = open(&self.hub, &Allow, request(Direction::Play, query)).await {
                    self.pulls.push(Pull { stream, bytes: Vec::new() });
                }
            }
            3 => {
                let query = program.pick(&["", "v=x", "v=y"]);
                if let Ok(player) = self.hub.play(&Allow, request(Direction::Play, query)).await {
                    self.players.push((player, Vec::new(), Segmenter::new(SEGMENT_MS)));
                }
            }
            4 => {
                let which = usize::from(program.byte());
                if !self.pulls.is_empty() {
                    let which = which % self.pulls.len();
                    read(&mut self.pulls[which]).await;
                }
            }
            5 => {
                let which = usize::from(program.byte());
                if !self.pulls.is_empty() {
                    let mut pull = self.pulls.swap_remove(which % self.pulls.len());
                    read(&mut pull).await;
                    self.check_pull(&pull);
                }
            }
            6 => {
                let ms = program.word();
                tokio::time::advance(Duration::from_millis(u64::from(ms))).await;
                self.hub.tick();
            }
            7 => _ = self.hub.cut_stream(&StreamName::new("live", "a")),
            8 => _ = self.hub.cut_viewer(program.pick(&["x", "y", "z"])),
            9 => {
                for (player, tags, segmenter) in &mut self.players {
                    take(player, tags, segmenter);
                }
            }
            10 => {
                let kind = program.pick(&[MediaKind::Audio, MediaKind::Video, MediaKind::Metadata]);
                let timestamp = program.long();
                check_tag(kind, timestamp, program.short());
            }
            // A large message.
            11 => {
                let (kind, head) = program.pick(&BODIES);
                let mut body = head.to_vec();
                body.resize(usize::from(program.word() & 0x1FFF), program.byte());
                self.send(kind, u32::from(program.word()), body);
            }
            _ => {
                let (kind, head) = program.pick(&BODIES);
                // Most time steps are small, but any is possible.
                let timestamp = if program.flag() { program.long() } else { program.byte().into() };
                let mut body = head.to_vec();
                body.extend_from_slice(program.short());
                self.send(kind, timestamp, body);
            }
        }
        self.check_stats();
    }

    /// Sends a message. Frames end with a unique number, so that each can be identified; headers may be equal.
    fn send(&mut self, kind: MediaKind, timestamp: u32, mut body: Vec<u8>) {
        let Some(publisher) = &self.publisher else { return };
        if is_header(kind, &body) != Some(true) {
            body.extend_from_slice(&(self.sent.len() as u32).to_be_bytes());
        }
        match publisher.send(kind, timestamp, &body) {
            Ok(()) => self.sent.push(Sent { kind, body }),
            Err(EndReason::Cut | EndReason::Replaced | EndReason::TooManyHeaders) => {
                self.publisher = None;
            }
            Err(other) => panic!("a publisher ended as {other:?}"),
        }
    }

    fn check_stats(&self) {
        let stats = self.hub.stats();
        assert!(stats.publishers <= 1, "one publisher");
        // After a claim was ended, its owner still has to give it back.
        assert!(stats.publishers <= usize::from(self.publisher.is_some()));
        assert_eq!(stats.players, self.pulls.len() + self.players.len(), "every player is counted");
        assert!(stats.players <= MAX_PLAYERS && stats.waiters <= stats.players);
    }

    /// Ends all players and the publisher.
    async fn end(mut self) {
        for mut pull in std::mem::take(&mut self.pulls) {
            read(&mut pull).await;
            self.check_pull(&pull);
        }
        for (player, mut tags, mut segmenter) in std::mem::take(&mut self.players) {
            take(&player, &mut tags, &mut segmenter);
            self.check_tags(&tags);
        }
        self.publisher = None;
        let stats = self.hub.stats();
        let left = (stats.streams, stats.publishers, stats.players, stats.waiters);
        assert_eq!(left, (0, 0, 0, 0), "streams, publishers, players, waiters");
    }

    fn check_pull(&self, pull: &Pull) {
        // It still waits for media.
        if pull.bytes.is_empty() {
            return;
        }
        let (header, tags) = pull.bytes.split_at(13);
        assert!(header.starts_with(b"FLV\x01") && header[5..] == [0, 0, 0, 9, 0, 0, 0, 0]);
        assert!(matches!(header[4], 1 | 4 | 5), "audio, video or both");
        self.check_tags(&parse(tags));
    }

    /// Checks that the tags are the sent ones, in order, at times that never go back.
    fn check_tags(&self, tags: &[Tag]) {
        let mut next = 0;
        let mut last = [None; 2];
        let mut keyed = false;
        for tag in tags {
            let is_it = |sent: &Sent| sent.kind == tag.kind && sent.body == tag.body;
            let header = is_header(tag.kind, &tag.body);
            // A message that names tracks or modifiers may be a keyframe.
            keyed |= tag.kind == MediaKind::Video && header.is_none();
            if header != Some(false) {
                assert!(self.sent.iter().any(is_it), "a header that was sent");
                assert!(tag.kind != MediaKind::Metadata || tag.timestamp == 0);
                continue;
            }
            if tag.kind == MediaKind::Video && !keyed && is_coded(&tag.body) {
                keyed = true;
                assert!(is_key(&tag.body), "the first picture is a keyframe");
            }
            let at = self.sent[next..].iter().position(is_it);
            next += 1 + at.unwrap_or_else(|| panic!("{tag:?} was not sent next"));
            let last = &mut last[usize::from(tag.kind == MediaKind::Video)];
            if let Some(last) = last.replace(tag.timestamp) {
                assert!(tag.timestamp.wrapping_sub(last) < 1 << 31, "{tag:?} goes back");
            }
        }
    }
}

/// Reads the data that is ready.
async fn read(pull: &mut Pull) {
    while let Some(Some(block)) = pull.stream.next().now_or_never() {
        assert!(!block.is_empty(), "no empty block");
        let first = pull.bytes.is_empty();
        // Each block ends at the end of a tag.
        parse(&block[if first { 13.min(block.len()) } else { 0 }..]);
        pull.bytes.extend_from_slice(&block);
    }
}

/// Takes the messages that are ready, in all encodings.
fn take(player: &Player, tags: &mut Vec<Tag>, segmenter: &mut Segmenter) {
    let mut batch = Vec::new();
    while player.take_ready(&mut batch, 7) {}
    for packet in batch {
        if let Some(segment) = segmenter.push(&packet) {
            check_segment(&segment.bytes);
        }
        let (kind, timestamp) = (packet.kind(), packet.timestamp());
        let tag = Tag { kind, timestamp, body: packet.body().to_vec() };
        assert_eq!(parse(packet.flv()), std::slice::from_ref(&tag));
        assert!(is_header(kind, &tag.body).is_none_or(|is_header| packet.is_header() == is_header));
        let mut reader = ChunkReader::default();
        reader.set_chunk_size(OUT_CHUNK_SIZE as u32).expect("our own size");
        reader.expect_media(true).expect("nothing is unfinished");
        let mut rest = &packet.rtmp()[..];
        let message = reader.read(&mut rest).expect("a sent message can be read");
        let message = message.expect("a packet is a whole message");
        assert!(rest.is_empty());
        assert_eq!((message.timestamp, &message.payload[..]), (timestamp, &tag.body[..]));
        tags.push(tag);
    }
}

/// Checks MPEG-TS packets: the first ones contain the tables, and none is missing.
fn check_segment(bytes: &[u8]) {
    let mut counters = HashMap::new();
    assert!(bytes.len() > 2 * PACKET && bytes.len().is_multiple_of(PACKET));
    for (at, packet) in bytes.chunks(PACKET).enumerate() {
        let pid = u16::from_be_bytes([packet[1] & 0x1F, packet[2]]);
        assert_eq!((packet[0], pid == 0), (0x47, at == 0));
        let counter = packet[3] & 0x0F;
        if let Some(last) = counters.insert(pid, counter) {
            assert_eq!(counter, (last + 1) & 0x0F, "{pid:#x}");
        }
    }
}

fn check_tag(kind: MediaKind, timestamp: u32, body: &[u8]) {
    let tag = Tag { kind, timestamp, body: body.to_vec() };
    assert_eq!(parse(&encode_tag(kind, timestamp, body)), [tag]);
}

/// Reads tags; each is followed by its size.
fn parse(mut bytes: &[u8]) -> Vec<Tag> {
    let mut tags = Vec::new();
    while !bytes.is_empty() {
        let (header, rest) = bytes.split_first_chunk::<11>().expect("a whole tag header");
        let [tag_type, l0, l1, l2, t0, t1, t2, t3, s0, s1, s2] = *header;
        let kind = match tag_type {
            8 => MediaKind::Audio,
            9 => MediaKind::Video,
            18 => MediaKind::Metadata,
            other => panic!("a tag of type {other}"),
        };
        assert_eq!([s0, s1, s2], [0, 0, 0], "the stream is always 0");
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        let (body, rest) = rest.split_at_checked(length as usize).expect("a whole body");
        let (size, rest) = rest.split_first_chunk::<4>().expect("the size of the tag");
        assert_eq!(u32::from_be_bytes(*size), length + 11);
        let timestamp = u32::from_be_bytes([t3, t0, t1, t2]);
        tags.push(Tag { kind, timestamp, body: body.to_vec() });
        bytes = rest;
    }
    tags
}

/// Whether a message is a sequence header, by the FLV specification and Enhanced RTMP; `None` for messages that name
/// tracks or modifiers.
fn is_header(kind: MediaKind, body: &[u8]) -> Option<bool> {
    let first = body.first().copied().unwrap_or(0);
    let packet_type = first & 0xF;
    let has_codec = body.len() >= 5;
    Some(match kind {
        MediaKind::Metadata => true,
        MediaKind::Audio => match (first >> 4, body.get(1)) {
            (10, Some(0)) => body.len() > 2,
            (9, _) if matches!(packet_type, 5 | 7) => return None,
            (9, _) => has_codec && matches!(packet_type, 0 | 4),
            _ => false,
        },
        MediaKind::Video if first & 0x80 != 0 => match packet_type {
            6 | 7 => return None,
            4 => has_codec,
            0 | 5 => has_codec && first >> 4 & 7 != 5,
            _ => false,
        },
        MediaKind::Video => {
            let has_packet_type = matches!(packet_type, 7 | 12 | 13) && first >> 4 & 7 != 5;
            has_packet_type && body.get(1) == Some(&0) && body.len() > 5
        }
    })
}

/// Whether a video message that is no header contains a picture.
fn is_coded(body: &[u8]) -> bool {
    let (first, second) = (body.first().copied().unwrap_or(0), body.get(1).copied());
    match first & 0xF {
        packet_type if first & 0x80 != 0 => matches!(packet_type, 1 | 3),
        7 | 12 | 13 => second == Some(1),
        _ => true,
    }
}

fn is_key(body: &[u8]) -> bool {
    body.first().is_some_and(|first| first >> 4 & 7 == 1)
}

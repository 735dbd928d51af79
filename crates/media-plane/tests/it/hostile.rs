//! Malformed bytes: they cause errors with a code, and never a panic.
//! Proves no rule of the protocol: RTMP.

use bytes::Bytes;
use lianmai_media_plane::rtmp::chunk::{ChunkReader, encode_message};
use lianmai_media_plane::rtmp::limits::{MAX_CHUNK_STREAMS, MAX_PARTIAL_BYTES};
use lianmai_media_plane::rtmp::message::{Message, message_type};
use lianmai_media_plane::rtmp::{Event, MediaKind, RtmpError};
use proptest::prelude::*;

use crate::support::*;

/// The result of bytes that follow a handshake, without any permission.
fn early(bytes: &[u8]) -> Result<(), RtmpError> {
    run(&mut session(), &mut Outcome::default(), &[&handshake(), bytes].concat())
}

/// The result and the events of bytes that follow an accepted publish.
fn late(bytes: &[u8]) -> (Result<(), RtmpError>, Vec<Event>) {
    let (mut session, mut outcome) = (session(), Outcome::default());
    run(&mut session, &mut outcome, &publish_bytes("a")).unwrap();
    outcome.events.clear();
    (run(&mut session, &mut outcome, bytes), outcome.events)
}

/// A type 0 chunk header.
fn head(chunk_stream: u8, timestamp: u32, length: u32, type_id: u8) -> Vec<u8> {
    let mut bytes = vec![chunk_stream];
    bytes.extend(&timestamp.to_be_bytes()[1..]);
    bytes.extend(&length.to_be_bytes()[1..]);
    bytes.push(type_id);
    bytes.extend(1_u32.to_le_bytes());
    bytes
}

fn video(timestamp: u32, payload: impl Into<Bytes>) -> Event {
    Event::Media { kind: MediaKind::Video, timestamp, payload: payload.into() }
}

#[test]
fn handshakes() {
    assert_eq!(session().input(b"GET / HTTP/1.1\r\n"), Err(RtmpError::HandshakeVersion(b'G')));
    for length in [0, 1, 2, 1536, 1537, 3072] {
        let (mut session, mut outcome) = (session(), Outcome::default());
        session.input(&handshake()[..length]).unwrap();
        outcome.drain(&mut session);
        assert_eq!(outcome.sent.len(), if length < 1537 { 0 } else { 3073 });
    }
}

#[test]
fn nested_objects_at_depth_ten_thousand() {
    let mut body = vec![2, 0, 7];
    body.extend(b"connect");
    body.extend([0, 0x3F, 0xF0, 0, 0, 0, 0, 0, 0]);
    body.extend([3, 0, 1, b'a'].repeat(2_000));
    assert_eq!(early(&message(3, message_type::COMMAND, 0, 0, &body)), Err(RtmpError::Amf0Depth));
    let metadata = [3, 0, 1, b'a'].repeat(10_000);
    assert_eq!(
        late(&message(4, message_type::DATA, 1, 0, &metadata)),
        (Ok(()), vec![Event::Skipped("a data message other than onMetaData")]),
        "metadata is left out"
    );
    assert_eq!(late(&message(3, message_type::COMMAND, 1, 0, &metadata)).0, Ok(()));
}

#[test]
fn sixteen_mebibytes_are_refused_at_the_header() {
    assert_eq!(
        late(&head(6, 0, 0xFF_FFFF, message_type::VIDEO)).0,
        Err(RtmpError::MessageSize { type_id: 9, length: 0xFF_FFFF })
    );
    assert_eq!(
        early(&[head(3, 0, 70_000, message_type::COMMAND), vec![0; 20_000]].concat()),
        Err(RtmpError::UnauthorizedBytes)
    );
}

#[test]
fn chunk_sizes() {
    let set = |size: u32| message(2, message_type::SET_CHUNK_SIZE, 0, 0, &size.to_be_bytes());
    for size in [0, 0x8000_0000, u32::MAX] {
        assert_eq!(late(&set(size)).0, Err(RtmpError::ChunkSize(size)));
    }
    for size in [65_536, 65_537, 134_217_728, 0x7FFF_FFFF_u32] {
        let body = vec![0x27; 200_000];
        let whole = chunked(6, message_type::VIDEO, 1, 3, &body, size as usize);
        let audio = chunked(4, message_type::AUDIO, 1, 4, &[0x2F], size as usize);
        let (result, events) = late(&[set(size), whole, audio].concat());
        assert_eq!((result, events.len(), &events[0]), (Ok(()), 2, &video(3, body)), "{size}");
    }
    let payload = [0x27, 1, 2, 3, 4];
    let bytes = [set(1), chunked(6, message_type::VIDEO, 1, 3, &payload, 1)].concat();
    assert_eq!(late(&bytes), (Ok(()), vec![video(3, payload.to_vec())]));
    assert_eq!(
        late(&message(2, message_type::SET_CHUNK_SIZE, 0, 0, &[1])).0,
        Err(RtmpError::ControlMessage(1))
    );
}

#[test]
fn a_message_may_not_change_within() {
    let mut bytes = head(6, 0, 300, message_type::VIDEO);
    bytes.extend([0x27; 128]);
    for (length, type_id) in [(200, 9), (400, 9), (300, 8), (0, 9)] {
        // A type 1 header: delta, length, type.
        let change = [0x46, 0, 0, 0, 0, 0, 0, type_id];
        let mut bytes = bytes.clone();
        bytes.extend(change);
        let at = bytes.len() - 4;
        bytes[at..at + 3].copy_from_slice(&u32::to_be_bytes(length)[1..]);
        assert_eq!(late(&bytes).0, Err(RtmpError::MessageChanged), "{length} {type_id}");
    }
}

#[test]
fn interleaved_chunk_streams_are_put_together() {
    let (video_body, audio_body) = ([0x27; 200], [0xAF; 150]);
    let mut bytes = head(6, 10, 200, message_type::VIDEO);
    bytes.extend(&video_body[..128]);
    bytes.extend(head(4, 11, 150, message_type::AUDIO));
    bytes.extend(&audio_body[..128]);
    bytes.push(0xC6);
    bytes.extend(&video_body[128..]);
    bytes.push(0xC4);
    bytes.extend(&audio_body[128..]);
    let audio =
        Event::Media { kind: MediaKind::Audio, timestamp: 11, payload: audio_body.to_vec().into() };
    assert_eq!(late(&bytes), (Ok(()), vec![video(10, video_body.to_vec()), audio]));
}

#[test]
fn all_header_formats() {
    let mut bytes = head(6, 1000, 1, message_type::VIDEO);
    bytes.push(1);
    bytes.extend([0x46, 0, 0, 40, 0, 0, 2, 9, 2, 2]); // type 1: +40, two bytes
    bytes.extend([0x86, 0, 0, 30, 3, 3]); // type 2: +30
    bytes.extend([0xC6, 4, 4]); // type 3: +30 again
    let expected = vec![
        video(1000, vec![1]),
        video(1040, vec![2; 2]),
        video(1070, vec![3; 2]),
        video(1100, vec![4; 2]),
    ];
    assert_eq!(late(&bytes), (Ok(()), expected));
}

#[test]
fn long_chunk_stream_numbers() {
    let mut bytes = vec![0, 200];
    bytes.extend(&head(0, 7, 1, message_type::VIDEO)[1..]);
    bytes.push(1);
    bytes.extend([1, 200, 3]);
    bytes.extend(&head(0, 8, 1, message_type::VIDEO)[1..]);
    bytes.push(2);
    assert_eq!(late(&bytes), (Ok(()), vec![video(7, vec![1]), video(8, vec![2])]));
}

#[test]
fn extended_timestamps() {
    let absolute = 0x0100_0001_u32;
    // Type 3 chunks that repeat the extended timestamp, and an extended delta that wraps.
    let mut bytes = message(6, message_type::VIDEO, 1, absolute, &[0x27; 300]);
    bytes.extend([0x86, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
    bytes.extend([0x17; 128]);
    bytes.extend([0xC6, 0xFF, 0xFF, 0xFF, 0xFF]);
    bytes.extend([0x17; 128]);
    bytes.extend([0xC6, 0xFF, 0xFF, 0xFF, 0xFF]);
    bytes.extend([0x17; 44]);
    let expected = vec![video(absolute, vec![0x27; 300]), video(absolute - 1, vec![0x17; 300])];
    assert_eq!(late(&bytes), (Ok(()), expected));

    // A small delta that is sent as an extended one.
    let mut bytes = message(6, message_type::VIDEO, 1, 5, &[0x27; 4]);
    bytes.extend([0x86, 0xFF, 0xFF, 0xFF, 0, 0, 0, 9, 1, 2, 3, 4]);
    assert_eq!(late(&bytes), (Ok(()), vec![video(5, vec![0x27; 4]), video(14, vec![1, 2, 3, 4])]));

    // A sender that omits the extended timestamp in type 3 chunks.
    let mut bytes = message(6, message_type::VIDEO, 1, absolute, &[0x27; 128]);
    bytes.extend(head(6, 0xFF_FFFF, 200, message_type::VIDEO));
    bytes.extend(absolute.to_be_bytes());
    bytes.extend([0x27; 128]);
    bytes.push(0xC6);
    bytes.extend([0x28; 72]);
    let (result, events) = late(&bytes);
    assert_eq!(result, Ok(()));
    assert_eq!(events[1], video(absolute, [[0x27; 128].as_slice(), &[0x28; 72]].concat()));
}

#[test]
fn too_many_chunk_streams() {
    let open = |count: usize| -> Vec<u8> {
        (0..count)
            .flat_map(|index| {
                let mut bytes = vec![0, u8::try_from(index).unwrap()];
                bytes.extend(&head(0, 0, 1, message_type::VIDEO)[1..]);
                bytes.push(9);
                bytes
            })
            .collect()
    };
    // The commands already use chunk stream 3.
    assert_eq!(late(&open(MAX_CHUNK_STREAMS - 1)).0, Ok(()));
    assert_eq!(late(&open(MAX_CHUNK_STREAMS)).0, Err(RtmpError::ChunkStreams));
    assert_eq!(late(&[0xC9]).0, Err(RtmpError::ChunkHeader));
    assert_eq!(late(&[0x89, 0, 0, 0]).0, Err(RtmpError::ChunkHeader));
}

#[test]
fn unfinished_messages_have_a_common_bound() {
    let mut bytes = message(2, message_type::SET_CHUNK_SIZE, 0, 0, &65_536_u32.to_be_bytes());
    // The last chunk of each message is never sent.
    let length = 4 << 20;
    for stream in 10..13 {
        for chunk in 0..64 {
            match chunk {
                0 => bytes.extend(head(stream, 0, length, message_type::VIDEO)),
                _ => bytes.push(0xC0 | stream),
            }
            let size = if chunk == 63 { 65_535 } else { 65_536 };
            bytes.extend(std::iter::repeat_n(0, size));
            if chunk == 63 {
                break;
            }
        }
        // Removes the last chunk, so that the next chunk stream begins at a chunk boundary.
        let cut = bytes.len() - 65_536;
        bytes.truncate(cut);
    }
    assert!(bytes.len() > MAX_PARTIAL_BYTES);
    assert_eq!(late(&bytes).0, Err(RtmpError::PartialBytes));
}

#[test]
fn an_abort_frees_a_message() {
    let mut bytes = head(6, 0, 300, message_type::VIDEO);
    bytes.extend([0x27; 128]);
    bytes.extend(message(2, message_type::ABORT, 0, 0, &[0, 0, 0, 6]));
    bytes.extend(message(6, message_type::VIDEO, 1, 9, &[0x27; 5]));
    bytes.extend(message(2, message_type::ABORT, 0, 0, &[0, 0, 0, 99]));
    assert_eq!(late(&bytes), (Ok(()), vec![video(9, vec![0x27; 5])]));
}

#[test]
fn an_unauthorized_peer_has_sixteen_kibibytes() {
    let junk = message(6, message_type::VIDEO, 1, 0, &[0x27; 16 << 10]);
    assert_eq!(early(&junk), Err(RtmpError::UnauthorizedBytes));
    assert_eq!(early(&message(6, message_type::VIDEO, 1, 0, &[0x27; 10_000])), Ok(()));
    let mut session = session();
    session.input(&publish_bytes("a")).unwrap();
    session.input(&vec![0; 60 << 10]).unwrap();
    assert_eq!(session.input(&vec![0; 10 << 10]), Err(RtmpError::HeldBytes));
}

#[test]
fn commands_out_of_order() {
    use lianmai_media_plane::rtmp::amf0::Value;
    assert_eq!(
        early(&command(0, "createStream", 1.0, Value::Null, vec![])),
        Err(RtmpError::CommandOrder)
    );
    let twice = [connect("live", ""), connect("live", "")].concat();
    assert_eq!(early(&twice), Err(RtmpError::CommandOrder));
    let nameless = [connect("live", ""), command(1, "publish", 1.0, Value::Null, vec![])].concat();
    assert_eq!(early(&nameless), Ok(()), "it is told");
    assert_eq!(early(&connect(&"x".repeat(5000), "")), Err(RtmpError::NameSize));
    let (mut session, mut outcome) = (session(), Outcome::default());
    run(&mut session, &mut outcome, &publish_bytes("a")).unwrap();
    let again = [
        command(1, "closeStream", 0.0, Value::Null, vec![]),
        command(1, "publish", 0.0, Value::Null, vec![text("a")]),
    ];
    let result = (0..20).find_map(|_| run(&mut session, &mut outcome, &again.concat()).err());
    assert_eq!(result, Some(RtmpError::Requests));
}

/// A valid session with messages of many types.
fn valid() -> Vec<u8> {
    let mut bytes = publish_bytes("a?b=c");
    bytes.extend(message(2, message_type::SET_CHUNK_SIZE, 0, 0, &[0, 0, 0, 200]));
    for index in 0..8_u32 {
        bytes.extend(chunked(6, message_type::VIDEO, 1, index * 0x40_0000, &[0x27; 450], 200));
        bytes.extend(chunked(4, message_type::AUDIO, 1, index * 0x40_0000, &[0xAF; 90], 200));
    }
    bytes.extend([0x86, 0, 0, 3]);
    bytes.extend([1; 200]);
    bytes.extend([0xC6]);
    bytes.extend([2; 200]);
    bytes.extend([0xC6]);
    bytes.extend([3; 50]);
    bytes.extend(message(2, message_type::USER_CONTROL, 0, 0, &[0, 6, 1, 2, 3, 4]));
    bytes
}

#[derive(Debug, Clone)]
enum Mutation {
    Set(usize, u8),
    Remove(usize, usize),
    Insert(usize, Vec<u8>),
    Repeat(usize, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = 0..6000_usize;
    prop_oneof![
        (at.clone(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (at.clone(), 1..64_usize).prop_map(|(at, count)| Mutation::Remove(at, count)),
        (at.clone(), prop::collection::vec(any::<u8>(), 1..32))
            .prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (at, 1..400_usize).prop_map(|(at, count)| Mutation::Repeat(at, count)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: Mutation) {
    match mutation {
        Mutation::Set(at, byte) => {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        Mutation::Remove(at, count) => {
            let at = at % bytes.len();
            let end = (at + count).min(bytes.len() - 1).max(at);
            bytes.drain(at..end);
        }
        Mutation::Insert(at, new) => {
            let at = at % bytes.len();
            bytes.splice(at..at, new);
        }
        Mutation::Repeat(at, count) => {
            let at = at % bytes.len();
            let copy = bytes[at..(at + count).min(bytes.len())].to_vec();
            bytes.splice(at..at, copy);
        }
    }
}

/// Feeds bytes in pieces whose lengths repeat `splits`.
fn split(bytes: &[u8], splits: &[usize]) -> (Result<(), RtmpError>, Outcome) {
    let (mut session, mut outcome) = (session(), Outcome::default());
    let mut rest = bytes;
    let mut result = Ok(());
    for length in splits.iter().cycle() {
        if rest.is_empty() || result.is_err() {
            break;
        }
        let (head, tail) = rest.split_at((*length).min(rest.len()));
        rest = tail;
        result = run(&mut session, &mut outcome, head);
    }
    (result, outcome)
}

/// Encodes messages that are interleaved on several chunk streams, with the shortest possible headers.
fn interleave(lists: &[Vec<(u32, Vec<u8>)>], chunk_size: usize, order: &[usize]) -> Vec<u8> {
    struct Lane<'a> {
        messages: std::slice::Iter<'a, (u32, Vec<u8>)>,
        left: &'a [u8],
        last: Option<(u32, u32, usize)>,
        field: u32,
    }
    let mut lanes: Vec<Lane> = lists
        .iter()
        .map(|list| Lane { messages: list.iter(), left: &[], last: None, field: 0 })
        .collect();
    let mut out = Vec::new();
    let mut order = order.iter().cycle();
    let mut idle = 0;
    while idle < 1000 {
        let index = order.next().unwrap() % lanes.len();
        let chunk_stream = u8::try_from(10 + index).unwrap();
        let lane = &mut lanes[index];
        let start = out.len();
        if lane.left.is_empty() {
            let Some((timestamp, body)) = lane.messages.next() else {
                idle += 1;
                continue;
            };
            let timestamp = *timestamp;
            let (format, field) = match lane.last {
                None => (0, timestamp),
                Some((time, delta, length)) => match timestamp.wrapping_sub(time) {
                    step if step == delta && length == body.len() => (3, step),
                    step if length == body.len() => (2, step),
                    step => (1, step),
                },
            };
            out.push(format << 6 | chunk_stream);
            if format < 3 {
                out.extend(&field.min(0xFF_FFFF).to_be_bytes()[1..]);
            }
            if format < 2 {
                out.extend(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
                out.push(message_type::VIDEO);
            }
            if format == 0 {
                out.extend(1_u32.to_le_bytes());
            }
            lane.last = Some((timestamp, field, body.len()));
            lane.field = field;
            lane.left = body;
        } else {
            out.push(0xC0 | chunk_stream);
        }
        if lane.field >= 0xFF_FFFF {
            out.extend(lane.field.to_be_bytes());
        }
        let (head, tail) = lane.left.split_at(chunk_size.min(lane.left.len()));
        out.extend(head);
        lane.left = tail;
        assert!(out.len() > start);
        idle = 0;
    }
    out
}

fn config(cases: u32) -> ProptestConfig {
    // PROPTEST_CASES may ask for more cases.
    let default = ProptestConfig::default();
    ProptestConfig { cases: cases.max(default.cases), failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config(512))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..5000), skip in any::<bool>(), granted in any::<bool>()) {
        let bytes = match (skip, granted) {
            (true, _) => bytes,
            (_, false) => [handshake(), bytes].concat(),
            (_, true) => [publish_bytes("a"), bytes].concat(),
        };
        let _ = split(&bytes, &[1 << 20]);
    }

    #[test]
    fn mutated_sessions_never_panic(mutations in prop::collection::vec(mutation(), 1..6), splits in prop::collection::vec(1..5000_usize, 1..5)) {
        let mut bytes = valid();
        // The handshake stays valid; otherwise nothing after it would be read.
        let mut tail = bytes.split_off(3073);
        mutations.into_iter().for_each(|mutation| mutate(&mut tail, mutation));
        bytes.extend(tail);
        let (result, outcome) = split(&bytes, &splits);
        let (whole, whole_outcome) = split(&bytes, &[1 << 20]);
        prop_assert_eq!(result, whole);
        prop_assert_eq!(outcome.events, whole_outcome.events);
    }

    #[test]
    fn split_points_do_not_matter(splits in prop::collection::vec(1..3000_usize, 1..6)) {
        let (result, outcome) = split(&valid(), &splits);
        let (whole, whole_outcome) = split(&valid(), &[1 << 20]);
        prop_assert_eq!((result, whole), (Ok(()), Ok(())));
        prop_assert_eq!(outcome.sent, whole_outcome.sent);
        prop_assert_eq!(outcome.events, whole_outcome.events);
    }

    #[test]
    fn interleaved_messages_come_out_whole(
        lists in prop::collection::vec(prop::collection::vec((prop_oneof![0..50_u32, any::<u32>()], prop::collection::vec(any::<u8>(), 1..600)), 1..8), 1..5),
        chunk_size in 1..300_usize,
        order in prop::collection::vec(any::<usize>(), 1..40),
        splits in prop::collection::vec(1..700_usize, 1..5),
    ) {
        let order: Vec<_> = order.into_iter().chain(0..5).collect();
        let bytes = interleave(&lists, chunk_size, &order);
        let mut reader = ChunkReader::default();
        reader.set_chunk_size(u32::try_from(chunk_size).unwrap()).unwrap();
        let mut held = Vec::new();
        let mut seen = Vec::new();
        let mut rest = &bytes[..];
        for length in splits.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (head, tail) = rest.split_at((*length).min(rest.len()));
            rest = tail;
            held.extend_from_slice(head);
            let mut input = &held[..];
            loop {
                let before = input.len();
                match reader.read(&mut input).unwrap() {
                    Some(message) => seen.push((message.timestamp, message.payload.to_vec())),
                    None if input.len() == before => break,
                    None => {}
                }
            }
            held = input.to_vec();
        }
        let mut expected: Vec<_> = lists.into_iter().flatten().collect();
        expected.sort();
        seen.sort();
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn encoded_messages_are_read_back(timestamp in any::<u32>(), payload in prop::collection::vec(any::<u8>(), 0..2000), size in 1..500_u32) {
        let message = Message { timestamp, type_id: message_type::VIDEO, stream_id: 1, payload: payload.into() };
        let mut bytes = Vec::new();
        encode_message(&mut bytes, 6, &message, size as usize);
        let mut reader = ChunkReader::default();
        reader.set_chunk_size(size).unwrap();
        prop_assert_eq!(reader.read(&mut &bytes[..]), Ok(Some(message)));
    }
}

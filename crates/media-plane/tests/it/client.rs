//! The RTMP client without I/O, against the session of a server.
//! Proves no rule of the protocol: RTMP.

use bytes::Bytes;
use lianmai_media_plane::rtmp::amf0::{self, Value};
use lianmai_media_plane::rtmp::chunk::encode_message;
use lianmai_media_plane::rtmp::limits::OUT_CHUNK_SIZE;
use lianmai_media_plane::rtmp::message::{MEDIA_STREAM, Message, chunk_stream, message_type};
use lianmai_media_plane::rtmp::{
    Answer, Client, ClientEvent, ClientOutput, Event, MediaKind, Output, Refusal, Request,
    RequestKind, Session, Target,
};

use crate::support::*;

pub(crate) const STREAM: &str = "room-7?key=se%2Fcret";

pub(crate) fn target() -> Target {
    Target::new("live", "rtmp://upstream.example/live", STREAM).unwrap()
}

/// A client and a server that exchange bytes in memory, and the events of both.
struct ClientHarness {
    client: Client,
    server: Session,
    told: Vec<ClientEvent>,
    heard: Vec<Event>,
    /// The client has asked to close the connection.
    closed: bool,
    /// Length of the pieces in which bytes are passed on.
    piece: usize,
}

impl ClientHarness {
    fn new(piece: usize) -> Self {
        Self {
            client: Client::new(target(), [9; 16]),
            server: session(),
            told: Vec::new(),
            heard: Vec::new(),
            closed: false,
            piece,
        }
    }

    /// Exchanges bytes until neither side has any.
    fn run(&mut self) {
        loop {
            let mut up = Vec::new();
            while let Some(output) = self.client.next_output() {
                assert!(!self.closed, "nothing follows a close");
                match output {
                    ClientOutput::Send(bytes) => up.extend_from_slice(&bytes),
                    ClientOutput::Event(event) => self.told.push(event),
                    ClientOutput::Close => self.closed = true,
                }
            }
            up.chunks(self.piece).for_each(|piece| self.server.input(piece).unwrap());
            let mut down = Vec::new();
            while let Some(output) = self.server.next_output() {
                match output {
                    Output::Send(bytes) => down.extend_from_slice(&bytes),
                    Output::Event(event) => self.heard.push(event),
                    Output::Close => {}
                }
            }
            if up.is_empty() && down.is_empty() {
                return;
            }
            down.chunks(self.piece).for_each(|piece| self.client.input(piece).unwrap());
        }
    }

    /// A pair whose publish is accepted, so that media may be sent.
    fn publishing(piece: usize) -> Self {
        let mut harness = Self::new(piece);
        harness.run();
        harness.server.accept().unwrap();
        harness.run();
        assert_eq!(harness.told, [ClientEvent::Accepted]);
        harness.heard.clear();
        harness
    }
}

#[test]
fn a_publish_is_asked_for_accepted_and_ended() {
    for piece in [1, 7, 1 << 20] {
        let mut harness = ClientHarness::new(piece);
        harness.run();
        assert_eq!(
            harness.heard,
            [Event::Request(Request {
                kind: RequestKind::Publish,
                app: "live".into(),
                stream: "room-7".into(),
                query: "key=se%2Fcret".into(),
            })]
        );
        assert!(harness.told.is_empty() && !harness.client.is_publishing());
        let early = Bytes::from_static(&[0x17, 1]);
        assert!(!harness.client.publish(MediaKind::Video, 0, &early), "not before it is accepted");
        harness.server.accept().unwrap();
        harness.run();
        assert_eq!(harness.told, [ClientEvent::Accepted]);
        harness.heard.clear();
        harness.client.finish();
        harness.run();
        assert_eq!(harness.heard, [Event::Stopped]);
        assert!(harness.closed && !harness.client.publish(MediaKind::Video, 0, &early));
        assert_eq!(harness.client.input(&[0; 9]), Ok(()), "bytes after a close are ignored");
    }
}

#[test]
fn media_arrives_as_it_was_also_by_enhanced_rtmp() {
    let mut harness = ClientHarness::publishing(1000);
    let mut metadata = Vec::new();
    amf0::encode(&mut metadata, &text("onMetaData"));
    amf0::encode(&mut metadata, &Value::EcmaArray(vec![("width".into(), Value::Number(640.0))]));
    let sent = [
        (MediaKind::Metadata, 0, Bytes::from(metadata)),
        // A sequence header of HEVC, a long frame, and Opus.
        (MediaKind::Video, 5, Bytes::from_static(&[0x90, b'h', b'v', b'c', b'1', 1, 2])),
        (MediaKind::Video, 0x0100_0000, vec![0x91; 100_000].into()),
        (MediaKind::Audio, u32::MAX, Bytes::from_static(&[0x91, b'O', b'p', b'u', b's', 3])),
    ];
    for (kind, timestamp, payload) in &sent {
        assert!(harness.client.publish(*kind, *timestamp, payload));
    }
    harness.run();
    let expected = sent.map(|(kind, timestamp, payload)| Event::Media { kind, timestamp, payload });
    assert_eq!(harness.heard, expected);
}

/// The text of a refusal may contain the requested stream, as it was sent or decoded.
#[test]
fn a_refusal_is_reported_without_the_keys() {
    let mut harness = ClientHarness::new(100);
    harness.run();
    harness.server.refuse(&Refusal {
        code: "NetStream.Publish.BadName",
        description: "denied.bad: room-7?key=se%2Fcret, key=se%2Fcret, se%2Fcret, se/cret\n\x1b[1m"
            .to_owned(),
    });
    harness.run();
    assert_eq!(
        harness.told,
        [ClientEvent::Refused(Answer {
            code: "NetStream.Publish.BadName".into(),
            description: "denied.bad: ***, ***, ***, ***  [1m".into(),
        })]
    );
    assert!(harness.closed);
    assert!(!format!("{:?}", harness.client).contains("cret"));
}

#[test]
fn an_end_by_the_upstream_is_reported() {
    let mut harness = ClientHarness::publishing(100);
    harness.server.fail(&format!("full: {}", "no room ".repeat(100)));
    harness.run();
    let [_, ClientEvent::Closed(answer)] = &harness.told[..] else { panic!("{:?}", harness.told) };
    assert_eq!(answer.code, "NetStream.Publish.Failed");
    assert!(answer.description.starts_with("full: no room"));
    assert_eq!(answer.description.chars().count(), 200);
    assert!(harness.closed);
}

#[test]
fn names_are_bounded() {
    let long = "x".repeat(4097);
    assert!(Target::new(&long, "", "a").is_err());
    assert!(Target::new("a", &long, "a").is_err());
    assert!(Target::new("a", "", &long).is_err());
}

#[test]
fn a_play_is_requested_and_its_media_reported() {
    for piece in [1, 7, 1 << 20] {
        let mut harness = ClientHarness {
            client: Client::player(target(), [9; 16]),
            ..ClientHarness::new(piece)
        };
        harness.run();
        let [Event::Request(request)] = &harness.heard[..] else { panic!("{:?}", harness.heard) };
        assert_eq!((request.kind, request.stream.as_str()), (RequestKind::Play, "room-7"));
        harness.server.accept().unwrap();
        harness.run();
        assert_eq!(harness.told, [ClientEvent::Accepted]);
        assert!(harness.client.is_playing() && !harness.client.is_publishing());
        harness.told.clear();
        let payload = Bytes::from(vec![0x17; 90_000]);
        let message = Message {
            timestamp: 5,
            type_id: message_type::VIDEO,
            stream_id: MEDIA_STREAM,
            payload: payload.clone(),
        };
        let mut bytes = Vec::new();
        encode_message(&mut bytes, chunk_stream::VIDEO, &message, OUT_CHUNK_SIZE);
        bytes.chunks(piece).for_each(|piece| harness.client.input(piece).unwrap());
        harness.run();
        let kind = MediaKind::Video;
        assert_eq!(harness.told, [ClientEvent::Media { kind, timestamp: 5, payload }]);
    }
}

//! Scenarios of the session without I/O.
//! Proves no rule of the protocol: RTMP.

use bytes::Bytes;
use lianmai_media_plane::rtmp::amf0::{self, Value};
use lianmai_media_plane::rtmp::command::Command;
use lianmai_media_plane::rtmp::message::message_type;
use lianmai_media_plane::rtmp::{Event, MediaKind, Refusal, Request, RequestKind};

use crate::support::*;

fn asked(kind: RequestKind, stream: &str, query: &str) -> Event {
    Event::Request(Request { kind, app: "live".into(), stream: stream.into(), query: query.into() })
}

#[test]
fn a_publish_in_the_order_of_ffmpeg() {
    let (mut session, mut outcome) = (session(), Outcome::default());
    run(&mut session, &mut outcome, &publish_bytes("a?sign=1&v=2")).unwrap();
    assert_eq!(outcome.events, [asked(RequestKind::Publish, "a", "sign=1&v=2")]);
    assert_eq!(outcome.codes(), ["NetConnection.Connect.Success", "NetStream.Publish.Start"]);
    // connect, releaseStream, FCPublish and createStream are answered with their transaction numbers.
    let answers: Vec<f64> = outcome
        .commands()
        .iter()
        .filter(|command| command.name == "_result")
        .map(|command| command.transaction)
        .collect();
    assert_eq!(answers, [1.0, 2.0, 3.0, 4.0]);

    let mut metadata = Vec::new();
    for value in [
        text("@setDataFrame"),
        text("onMetaData"),
        Value::EcmaArray(vec![("width".into(), Value::Number(640.0))]),
    ] {
        amf0::encode(&mut metadata, &value);
    }
    let mut bytes = message(4, message_type::DATA, 1, 0, &metadata);
    bytes.extend(message(4, message_type::AUDIO, 1, 5, &[0xAF, 0, 1]));
    bytes.extend(message(6, message_type::VIDEO, 1, 0x0100_0000, &[0x17; 300]));
    bytes.extend(message(6, message_type::VIDEO, 1, 7, &[]));
    bytes.extend(command(1, "FCUnpublish", 6.0, Value::Null, vec![text("a")]));
    bytes.extend(command(1, "deleteStream", 7.0, Value::Null, vec![Value::Number(1.0)]));
    outcome.events.clear();
    run(&mut session, &mut outcome, &bytes).unwrap();
    let without_command = Bytes::copy_from_slice(&metadata[16..]);
    assert_eq!(
        outcome.events,
        [
            Event::Media { kind: MediaKind::Metadata, timestamp: 0, payload: without_command },
            Event::Media { kind: MediaKind::Audio, timestamp: 5, payload: vec![0xAF, 0, 1].into() },
            Event::Media {
                kind: MediaKind::Video,
                timestamp: 0x0100_0000,
                payload: vec![0x17; 300].into()
            },
            Event::Stopped,
        ]
    );
    assert_eq!(outcome.codes().last().map(String::as_str), Some("NetStream.Unpublish.Success"));
}

#[test]
fn a_publisher_that_does_not_wait_for_answers_loses_nothing() {
    let (mut session, mut outcome) = (session(), Outcome::default());
    let mut bytes = publish_bytes("a");
    bytes.extend(message(6, message_type::VIDEO, 1, 1, &[0x17, 0]));
    session.input(&bytes).unwrap();
    outcome.drain(&mut session);
    assert_eq!(outcome.events.len(), 1, "media is held while the decision is open");
    session.input(&message(6, message_type::VIDEO, 1, 2, &[0x17, 1])).unwrap();
    session.accept().unwrap();
    outcome.drain(&mut session);
    assert_eq!(outcome.events.len(), 3);
}

#[test]
fn a_connection_may_publish_again() {
    let (mut session, mut outcome) = (session(), Outcome::default());
    run(&mut session, &mut outcome, &publish_bytes("a")).unwrap();
    for name in ["b", "c"] {
        run(&mut session, &mut outcome, &command(1, "closeStream", 0.0, Value::Null, vec![]))
            .unwrap();
        run(&mut session, &mut outcome, &command(1, "publish", 0.0, Value::Null, vec![text(name)]))
            .unwrap();
    }
    assert_eq!(outcome.events.last(), Some(&asked(RequestKind::Publish, "c", "")));
}

#[test]
fn a_play_gets_no_data_message() {
    let (mut session, mut outcome) = (session(), Outcome::default());
    run(&mut session, &mut outcome, &play_bytes("a")).unwrap();
    assert_eq!(outcome.events, [asked(RequestKind::Play, "a", "")]);
    assert_eq!(outcome.codes()[1..], ["NetStream.Play.Reset", "NetStream.Play.Start"]);
    assert!(outcome.messages().iter().all(|message| message.type_id != message_type::DATA));
    run(
        &mut session,
        &mut outcome,
        &command(1, "pause", 0.0, Value::Null, vec![Value::Boolean(true)]),
    )
    .unwrap();
    session.finish_play("the stream has ended");
    outcome.drain(&mut session);
    assert!(outcome.closed);
    assert_eq!(outcome.codes().last().map(String::as_str), Some("NetStream.Play.Stop"));
}

#[test]
fn a_refusal_says_why_and_closes() {
    let (mut session, mut outcome) = (session(), Outcome::default());
    session.input(&publish_bytes("a")).unwrap();
    session.refuse(&Refusal {
        code: "NetStream.Publish.BadName",
        description: "streamBusy: taken".into(),
    });
    outcome.drain(&mut session);
    assert!(outcome.closed);
    let status = outcome.commands().pop().unwrap();
    assert_eq!(
        (status.name.as_str(), outcome.messages().last().unwrap().stream_id),
        ("onStatus", 1)
    );
    assert_eq!(status.arguments[0].get("level"), Some(&text("error")));
    assert_eq!(status.arguments[0].get("description"), Some(&text("streamBusy: taken")));
    session.input(&publish_bytes("a")).unwrap();
    assert!(session.next_output().is_none(), "nothing after the close");
}

#[test]
fn the_query_may_stand_in_the_url_of_connect() {
    let query = |app: &str, url: &str, name: &str| {
        let (mut session, mut outcome) = (session(), Outcome::default());
        let mut bytes = handshake();
        bytes.extend(connect(app, url));
        bytes.extend(command(1, "publish", 2.0, Value::Null, vec![text(name)]));
        run(&mut session, &mut outcome, &bytes).unwrap();
        match outcome.events.pop() {
            Some(Event::Request(request)) => (request.app, request.query),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(query("live", "rtmp://h/live?a=1", "s"), ("live".into(), "a=1".into()));
    assert_eq!(query("live/", "rtmp://h/live?a=1", "s?b=2"), ("live".into(), "b=2".into()));
    assert_eq!(query("live?c=3", "", "s"), ("live".into(), "c=3".into()));
}

#[test]
fn pings_are_answered_and_bytes_acknowledged() {
    let (mut session, mut outcome) = (session(), Outcome::default());
    let mut bytes = publish_bytes("a");
    bytes.extend(message(2, message_type::USER_CONTROL, 0, 0, &[0, 6, 1, 2, 3, 4]));
    bytes.extend(message(2, message_type::WINDOW_ACK_SIZE, 0, 0, &[0, 0, 0x40, 0]));
    run(&mut session, &mut outcome, &bytes).unwrap();
    let pong = outcome.messages().pop().unwrap();
    assert_eq!(
        (pong.type_id, &pong.payload[..]),
        (message_type::USER_CONTROL, &[0, 7, 1, 2, 3, 4][..])
    );
    let block = message(6, message_type::VIDEO, 1, 1, &[0x27; 30_000]);
    run(&mut session, &mut outcome, &block).unwrap();
    let ack = outcome.messages().pop().unwrap();
    let total = u32::try_from(bytes.len() + block.len()).unwrap();
    assert_eq!((ack.type_id, &ack.payload[..]), (message_type::ACK, &total.to_be_bytes()[..]));
}

#[test]
fn an_amf3_client_is_understood_where_it_speaks_amf0() {
    let (mut session, mut outcome) = (session(), Outcome::default());
    let mut bytes = handshake();
    bytes.extend(connect("live", ""));
    let mut body = vec![0];
    for value in [text("publish"), Value::Number(0.0), Value::Null, text("a")] {
        amf0::encode(&mut body, &value);
    }
    bytes.extend(message(3, message_type::COMMAND_AMF3, 1, 0, &body));
    run(&mut session, &mut outcome, &bytes).unwrap();
    assert_eq!(outcome.events, [asked(RequestKind::Publish, "a", "")]);
}

#[test]
fn debug_of_a_request_shows_no_query() {
    assert!(!format!("{:?}", asked(RequestKind::Play, "a", "token=secret")).contains("secret"));
}

#[test]
fn the_order_and_headers_of_librtmp() {
    // OBS and live-pusher send the chunk size first, commands with compressed headers, and a bandwidth check.
    let short = |name: &str, transaction: f64, arguments: Vec<Value>| {
        let command = Command { name: name.into(), transaction, object: Value::Null, arguments };
        let body = command.encode();
        let mut bytes = vec![0x43, 0, 0, 1];
        bytes.extend(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
        bytes.push(message_type::COMMAND);
        bytes.extend(&body);
        bytes
    };
    let mut bytes = handshake();
    bytes.extend(message(2, message_type::SET_CHUNK_SIZE, 0, 0, &4096_u32.to_be_bytes()));
    let object = ["app", "type", "flashVer", "swfUrl", "tcUrl"]
        .map(|key| (key.to_owned(), text(if key == "app" { "live" } else { "x" })));
    let connect = Command {
        name: "connect".into(),
        transaction: 1.0,
        object: Value::Object(object.into()),
        arguments: vec![],
    };
    bytes.extend(chunked(3, message_type::COMMAND, 0, 0, &connect.encode(), 4096));
    bytes.extend(short("releaseStream", 2.0, vec![text("a")]));
    bytes.extend(short("FCPublish", 3.0, vec![text("a")]));
    bytes.extend(short("createStream", 4.0, vec![]));
    bytes.extend(short("_checkbw", 5.0, vec![]));
    let publish = Command {
        name: "publish".into(),
        transaction: 6.0,
        object: Value::Null,
        arguments: vec![text("a?t=1"), text("live")],
    };
    bytes.extend(chunked(4, message_type::COMMAND, 1, 0, &publish.encode(), 4096));
    let (mut session, mut outcome) = (session(), Outcome::default());
    run(&mut session, &mut outcome, &bytes).unwrap();
    assert_eq!(outcome.events, [asked(RequestKind::Publish, "a", "t=1")]);
    // Media may come on the chunk stream that carried `publish`.
    let mut media = chunked(4, message_type::AUDIO, 1, 0, &[0xAF, 0, 0x12, 0x10], 4096);
    media.extend([0x44, 0, 0, 23, 0, 0, 3, message_type::AUDIO, 0xAF, 1, 7]);
    media.extend([0x84, 0, 0, 24, 0xAF, 1, 8]);
    outcome.events.clear();
    run(&mut session, &mut outcome, &media).unwrap();
    let times: Vec<_> = outcome
        .events
        .iter()
        .map(|event| match event {
            Event::Media { timestamp, .. } => *timestamp,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(times, [0, 23, 47]);
}

//! A request that is refused is answered, and never ends a publish or play that runs.
//! Proves URL-13.

use lianmai_media_plane::rtmp::amf0::{self, Value};
use lianmai_media_plane::rtmp::limits::{
    MAX_AGGREGATED, MAX_DATA_MESSAGE, MAX_MEDIA_MESSAGE, MAX_REFUSALS,
};
use lianmai_media_plane::rtmp::message::message_type;
use lianmai_media_plane::rtmp::{Event, MediaKind, RequestKind, RtmpError, Session};

use crate::support::*;

/// A session whose first request was accepted.
struct Running {
    session: Session,
    outcome: Outcome,
}

impl Running {
    fn new(first: &[u8]) -> Self {
        let (mut session, mut outcome) = (session(), Outcome::default());
        run(&mut session, &mut outcome, first).unwrap();
        outcome.events.clear();
        Self { session, outcome }
    }

    fn publish() -> Self {
        Self::new(&publish_bytes("a"))
    }

    fn play() -> Self {
        Self::new(&play_bytes("a"))
    }

    /// Takes bytes. Returns the events and the status codes that they cause.
    fn input(&mut self, bytes: &[u8]) -> (Vec<Event>, Vec<String>) {
        let told = self.outcome.codes().len();
        run(&mut self.session, &mut self.outcome, bytes).unwrap();
        (std::mem::take(&mut self.outcome.events), self.outcome.codes().split_off(told))
    }

    /// Whether media still passes through.
    fn runs(&mut self) -> bool {
        let (events, _) = self.input(&message(6, message_type::VIDEO, 1, 7, &[0x27, 1]));
        matches!(events[..], [Event::Media { timestamp: 7, .. }])
    }

    /// The description of the last status.
    fn description(&self) -> String {
        let status = self.outcome.commands().pop().unwrap();
        status.arguments[0].get("description").and_then(Value::as_str).unwrap().to_owned()
    }
}

fn said(name: &str, arguments: Vec<Value>) -> Vec<u8> {
    command(1, name, 0.0, Value::Null, arguments)
}

fn on(stream: u32, name: &str, arguments: Vec<Value>) -> Vec<u8> {
    command(stream, name, 0.0, Value::Null, arguments)
}

fn values(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    values.iter().for_each(|value| amf0::encode(&mut out, value));
    out
}

#[test]
fn side_commands_and_odd_messages_do_not_end_a_publish() {
    let side = values(&[text("onFI"), Value::Number(0.0), Value::Null]);
    let amf3 = [&side[..], b"\x11\x0a\x0b\x01\x03a\x06\x03b\x01"].concat();
    let reference = [&values(&[text("x"), Value::Number(0.0)])[..], b"\x03\0\x01a\x07\0\0\0\0\x09"];
    let cut_short = [&values(&[text("x"), Value::Number(0.0)])[..], b"\x03\0\x01a\0"].concat();
    let deep = [&values(&[text("x"), Value::Number(0.0)])[..], &[3, 0, 1, b'a'].repeat(4000)];
    let commands: [Vec<u8>; 8] = [
        amf3.clone(),
        reference.concat(),
        cut_short,
        deep.concat(),
        vec![],
        vec![0xFF],
        vec![5],
        values(&[Value::Number(1.0)]),
    ];
    let mut running = Running::publish();
    for body in &commands {
        running.input(&message(3, message_type::COMMAND, 0, 0, body));
        running.input(&message(3, message_type::COMMAND_AMF3, 0, 0, &[&[0], &body[..]].concat()));
        assert!(running.runs(), "{body:?}");
    }
    running.input(&message(3, message_type::COMMAND, 0, 0, &vec![2; 70_000]));
    assert!(running.runs(), "a command of 70 kB");
    running.input(&said("connect", vec![]));
    assert!(running.runs(), "a second connect");
    for type_id in [0, 7, 10, 16, 19, 23, 255] {
        running.input(&message(3, type_id, 0, 0, &[0; 70_000]));
        assert!(running.runs(), "message type {type_id}");
    }
}

/// Each reason to drop a message is reported once, for the log.
#[test]
fn no_data_message_ends_a_publish() {
    let mut running = Running::publish();
    let art = text(&"x".repeat(70_000));
    let bodies = [
        values(&[text("INFO"), text(&"x".repeat(60_000))]),
        values(&[text("INFO"), art.clone()]),
        values(&[text("onTextData"), Value::Object(vec![])]),
        values(&[text("@clearDataFrame"), text("onMetaData")]),
        values(&[
            text("@setDataFrame"),
            text("onMetaData"),
            Value::EcmaArray(vec![("art".into(), art)]),
        ]),
        vec![2; MAX_DATA_MESSAGE + 1],
        vec![],
    ];
    let mut skipped = Vec::new();
    for body in bodies.iter().chain(&bodies) {
        for type_id in [message_type::DATA, message_type::DATA_AMF3] {
            let prefix: &[u8] = if type_id == message_type::DATA { &[] } else { &[0] };
            let (events, _) = running.input(&message(5, type_id, 1, 0, &[prefix, body].concat()));
            skipped.extend(events);
            assert!(running.runs(), "{} bytes", body.len());
        }
    }
    let expected = [
        "a data message other than onMetaData",
        "metadata that cannot be read",
        "a message that is too long",
    ];
    assert_eq!(skipped, expected.map(Event::Skipped));
}

#[test]
fn metadata_is_found_after_leading_values() {
    let fields = Value::Object(vec![("width".into(), Value::Number(160.0))]);
    let expected = values(&[text("onMetaData"), fields.clone()]);
    let set = text("@setDataFrame");
    for front in [
        vec![],
        vec![set.clone()],
        vec![Value::Number(0.0), Value::Number(0.0), set.clone()],
        vec![Value::Null, set],
    ] {
        let front = [front, vec![text("onMetaData"), fields.clone()]].concat();
        let (events, _) =
            Running::publish().input(&message(5, message_type::DATA, 1, 0, &values(&front)));
        let payload = expected.clone().into();
        assert_eq!(events, [Event::Media { kind: MediaKind::Metadata, timestamp: 0, payload }]);
    }
}

#[test]
fn a_second_stream_on_the_connection_is_refused_and_the_first_goes_on() {
    let mut running = Running::publish();
    let create = command(0, "createStream", 9.0, Value::Null, vec![]);
    running.input(&create);
    let created = running.outcome.commands().pop().unwrap();
    assert_eq!(created.arguments, [Value::Number(2.0)], "not the number of the first");
    for (name, code) in
        [("publish", "NetStream.Publish.BadName"), ("play", "NetStream.Play.Failed")]
    {
        assert_eq!(running.input(&on(2, name, vec![text("b")])).1, [code]);
        assert!(running.description().starts_with("oneStream: "));
        assert!(running.runs());
    }
    // The client was told that this message stream does not publish.
    let (events, _) = running.input(&message(7, message_type::VIDEO, 2, 0, &[0x17, 1]));
    assert_eq!(events, []);
    for other in [
        on(2, "closeStream", vec![]),
        on(0, "deleteStream", vec![Value::Number(2.0)]),
        on(2, "publish", vec![text("")]),
        on(1, "publish", vec![text("b")]),
        on(1, "publish", vec![]),
        on(1, "publish", vec![Value::Number(1.0)]),
        on(1, "play", vec![text("b")]),
    ] {
        running.input(&other);
        assert!(running.runs());
    }
    let (events, codes) = running.input(&on(0, "deleteStream", vec![Value::Number(1.0)]));
    assert_eq!((events, codes.len()), (vec![Event::Stopped], 1));
    running.input(&create);
    let created = running.outcome.commands().pop().unwrap();
    assert_eq!(created.arguments, [Value::Number(1.0)], "it is free again");
}

#[test]
fn the_number_of_answered_refusals_is_limited() {
    let mut running = Running::publish();
    let again = said("publish", vec![text("b")]).repeat(1000);
    let (events, codes) = running.input(&again);
    assert_eq!((events, codes.len()), (vec![], MAX_REFUSALS as usize));
    assert!(running.runs());
}

#[test]
fn an_empty_stream_name_ends_the_publish_or_play() {
    for name in [text(""), Value::Boolean(false), Value::Null] {
        let mut running = Running::publish();
        let (events, codes) = running.input(&said("publish", vec![name.clone()]));
        assert_eq!(
            (events, codes),
            (vec![Event::Stopped], vec!["NetStream.Unpublish.Success".into()])
        );
        let (_, codes) = running.input(&said("publish", vec![text("a")]));
        assert_eq!(codes, ["NetStream.Publish.Start"]);
        assert!(running.runs());
        let (events, codes) = Running::play().input(&said("play", vec![name]));
        assert_eq!((events, codes), (vec![Event::Stopped], vec!["NetStream.Play.Stop".into()]));
    }
}

#[test]
fn an_empty_key_is_taken_from_the_url_or_the_answer_says_so() {
    let asked = |app: &str, url: &str| {
        let (mut session, mut outcome) = (session(), Outcome::default());
        let mut bytes = handshake();
        bytes.extend(connect(app, url));
        bytes.extend(said("publish", vec![text("")]));
        run(&mut session, &mut outcome, &bytes).unwrap();
        (outcome.events.pop(), Running { session, outcome })
    };
    for (app, url) in [
        ("live/a?v=1", "rtmp://h/live/a?v=1"),
        ("live/a", "rtmp://h/live/a?v=1"),
        ("live/a/", "rtmp://h/live/a/?v=1"),
    ] {
        let Some(Event::Request(request)) = asked(app, url).0 else { panic!("{app}") };
        let found = (&*request.app, &*request.stream, &*request.query);
        assert_eq!((request.kind, found), (RequestKind::Publish, ("live", "a", "v=1")));
    }
    let (event, told) = asked("live", "rtmp://h/live");
    assert_eq!(event, None);
    assert_eq!(told.outcome.codes().last().unwrap(), "NetStream.Publish.BadName");
    assert!(told.description().contains("stream key"));
    assert!(!told.outcome.closed);
}

#[test]
fn a_play_can_pause_and_resume_but_not_seek() {
    let mut running = Running::play();
    let pause = |flag| said("pause", vec![Value::Boolean(flag), Value::Number(1000.0)]);
    let notify = |code: &str| vec![format!("NetStream.{code}.Notify")];
    assert_eq!(running.input(&pause(true)), (vec![Event::Paused(true)], notify("Pause")));
    assert_eq!(running.input(&pause(true)), (vec![], vec![]), "it is paused");
    assert_eq!(running.input(&pause(false)), (vec![Event::Paused(false)], notify("Unpause")));
    let (events, codes) = running.input(&said("seek", vec![Value::Number(0.0)]));
    assert_eq!((events, codes), (vec![], vec!["NetStream.Seek.Failed".to_owned()]));
    assert_eq!(running.input(&pause(true)).0, [Event::Paused(true)]);
    let mut publish = Running::publish();
    assert_eq!(publish.input(&[pause(true), said("seek", vec![])].concat()).0, []);
    assert!(publish.runs());
}

fn tag(type_id: u8, time: u32, body: &[u8]) -> Vec<u8> {
    let [t3, t0, t1, t2] = time.to_be_bytes();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let head = [type_id, length[1], length[2], length[3], t0, t1, t2, t3, 0, 0, 0];
    let size = (u32::try_from(body.len()).unwrap() + 11).to_be_bytes();
    [&head[..], body, &size].concat()
}

#[test]
fn an_aggregate_message_is_split() {
    let metadata = values(&[text("onMetaData"), Value::Null]);
    let parts = [
        tag(8, 0x0100_0000, &[0x2F, 1]),
        tag(9, 0x0100_0028, &[0x27, 1]),
        tag(18, 0x0100_0028, &metadata),
        tag(9, 0x0100_0028, &[]),
        tag(22, 0, &tag(8, 0, &[0x2F])),
        tag(9, 0x0100_0050, &[0x27, 2]),
    ]
    .concat();
    let (events, _) =
        Running::publish().input(&message(6, message_type::AGGREGATE, 1, 500, &parts));
    let media = |kind, timestamp, payload: &[u8]| Event::Media {
        kind,
        timestamp,
        payload: payload.to_vec().into(),
    };
    let expected = [
        media(MediaKind::Audio, 500, &[0x2F, 1]),
        media(MediaKind::Video, 540, &[0x27, 1]),
        media(MediaKind::Metadata, 540, &metadata),
        media(MediaKind::Video, 580, &[0x27, 2]),
    ];
    assert_eq!(events, expected);
    // The last size may be missing. A truncated part is dropped.
    let short = [tag(8, 0, &[0x2F]), tag(9, 0, &[0x27; 20])].concat();
    let mut running = Running::publish();
    let (events, _) =
        running.input(&message(6, message_type::AGGREGATE, 1, 0, &short[..short.len() - 4]));
    assert_eq!(events.len(), 2);
    let (events, _) =
        running.input(&message(6, message_type::AGGREGATE, 1, 0, &short[..short.len() - 9]));
    assert!(matches!(events[..], [Event::Media { .. }, Event::Skipped(_)]));
    let many = tag(8, 0, &[0x2F]).repeat(MAX_AGGREGATED + 1);
    let result = run(
        &mut running.session,
        &mut running.outcome,
        &message(6, message_type::AGGREGATE, 1, 0, &many),
    );
    assert_eq!(result, Err(RtmpError::Aggregate));
}

#[test]
fn a_refusal_has_a_reason() {
    let too_long = {
        let mut bytes = vec![6, 0, 0, 0];
        bytes.extend(&u32::try_from(MAX_MEDIA_MESSAGE + 1).unwrap().to_be_bytes()[1..]);
        bytes.extend([message_type::VIDEO, 1, 0, 0, 0]);
        bytes
    };
    let chunk_size = message(2, message_type::SET_CHUNK_SIZE, 0, 0, &[0; 4]);
    let bad_connect = message(3, message_type::COMMAND, 0, 0, &[2, 0, 7]);
    let cases: [(Vec<u8>, &[u8], &str, &str); 5] = [
        (publish_bytes("a"), &too_long, "NetStream.Publish.Failed", "messageSize: "),
        (publish_bytes("a"), &chunk_size, "NetStream.Publish.Failed", "chunkSize: "),
        (play_bytes("a"), &chunk_size, "NetStream.Play.Failed", "chunkSize: "),
        (handshake(), &bad_connect, "NetConnection.Connect.Rejected", "amf0Truncated: "),
        (
            [handshake(), connect("live", "")].concat(),
            &chunk_size,
            "NetConnection.Call.Failed",
            "chunkSize: ",
        ),
    ];
    for (first, last, code, description) in cases {
        let mut running = Running::new(&first);
        run(&mut running.session, &mut running.outcome, last).unwrap_err();
        running.outcome.drain(&mut running.session);
        assert_eq!(running.outcome.codes().last().map(String::as_str), Some(code));
        assert!(running.description().starts_with(description));
    }
}

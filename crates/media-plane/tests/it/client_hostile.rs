//! The publishing client against a malicious upstream.
//! Proves no rule of the protocol: bounds of RTMP.

use lianmai_media_plane::rtmp::amf0::Value;
use lianmai_media_plane::rtmp::handshake::PACKET;
use lianmai_media_plane::rtmp::limits::MAX_UPSTREAM_BYTES;
use lianmai_media_plane::rtmp::message::message_type;
use lianmai_media_plane::rtmp::{Client, ClientEvent, ClientOutput, MediaKind, RtmpError};

use crate::client::target;
use crate::support::*;

fn client() -> Client {
    Client::new(target(), [9; 16])
}

/// S0, S1 and S2.
fn hello() -> Vec<u8> {
    let mut bytes = vec![3];
    bytes.extend(vec![1; 2 * PACKET]);
    bytes
}

fn status(level: &str, code: &str) -> Vec<u8> {
    let information = Value::Object(vec![
        ("level".into(), text(level)),
        ("code".into(), text(code)),
        ("description".into(), text("no")),
    ]);
    command(1, "onStatus", 0.0, Value::Null, vec![information])
}

fn result(transaction: f64, argument: Value) -> Vec<u8> {
    command(0, "_result", transaction, Value::Null, vec![argument])
}

/// A client that publishes on this message stream.
fn publishing(stream: f64) -> Client {
    let mut client = client();
    client.input(&hello()).unwrap();
    client.input(&result(1.0, Value::Null)).unwrap();
    client.input(&result(4.0, Value::Number(stream))).unwrap();
    client.input(&status("status", "NetStream.Publish.Start")).unwrap();
    assert!(client.is_publishing());
    client
}

fn events(client: &mut Client) -> Vec<ClientEvent> {
    let outputs = std::iter::from_fn(|| client.next_output());
    let event = |output| match output {
        ClientOutput::Event(event) => Some(event),
        _ => None,
    };
    outputs.filter_map(event).collect()
}

fn sent(client: &mut Client) -> Vec<u8> {
    let outputs = std::iter::from_fn(|| client.next_output());
    let bytes = |output| match output {
        ClientOutput::Send(bytes) => Some(bytes),
        _ => None,
    };
    outputs.filter_map(bytes).flatten().collect()
}

#[test]
fn another_protocol_is_detected_at_its_first_byte() {
    assert_eq!(client().input(b"HTTP/1.1 400"), Err(RtmpError::HandshakeVersion(b'H')));
}

#[test]
fn bytes_from_an_upstream_are_bounded() {
    let mut client = publishing(1.0);
    let ping = message(2, message_type::USER_CONTROL, 0, 0, &[0, 6, 0, 0, 0, 1]);
    let mut pings = 0;
    let error = loop {
        match client.input(&ping) {
            Ok(()) => pings += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, RtmpError::UpstreamBytes);
    let answered = sent(&mut client).len();
    assert!(pings * ping.len() as u64 <= MAX_UPSTREAM_BYTES + answered as u64 / 4);
    assert!(pings > 2000, "an hour of pings once a second is nothing: {pings}");

    // An upstream that receives much may send more.
    let mut client = publishing(1.0);
    let frame = vec![0x27; 1 << 20].into();
    for time in 0..64 {
        assert!(client.publish(MediaKind::Video, time, &frame));
    }
    for _ in 0..100_000 {
        client.input(&ping).unwrap();
    }
}

#[test]
fn an_endless_message_holds_little_memory() {
    let mut client = client();
    client.input(&hello()).unwrap();
    // A command that announces 16 MB is dropped. A control message of that size is an error.
    let mut long = vec![3, 0, 0, 0, 0xFF, 0xFF, 0xFF, message_type::COMMAND, 0, 0, 0, 0];
    long.extend([0; 128]);
    client.input(&long).unwrap();
    let long = [2, 0, 0, 0, 0xFF, 0xFF, 0xFF, message_type::SET_CHUNK_SIZE, 0, 0, 0, 0];
    assert!(matches!(client.input(&long), Err(RtmpError::MessageSize { .. })));
    assert_eq!(client.input(&hello()), Ok(()), "bytes after an error are ignored");
    assert!(!client.publish(MediaKind::Audio, 0, &vec![1].into()));
}

#[test]
fn answers_out_of_order_change_nothing() {
    let mut client = client();
    client.input(&hello()).unwrap();
    client.input(&result(4.0, Value::Number(1.0))).unwrap();
    client.input(&result(5.0, Value::Number(1.0))).unwrap();
    client.input(&status("status", "NetStream.Publish.Start")).unwrap();
    assert!(!client.is_publishing());
    client.input(&result(1.0, Value::Null)).unwrap();
    client.input(&result(1.0, Value::Null)).unwrap();
    // Servers that do not know `releaseStream` and `FCPublish` refuse them and accept the publish nevertheless.
    client.input(&command(0, "_error", 2.0, Value::Null, vec![])).unwrap();
    client.input(&command(0, "_error", 3.0, Value::Null, vec![])).unwrap();
    client.input(&result(4.0, Value::Number(7.0))).unwrap();
    client.input(&status("status", "NetStream.Publish.Start")).unwrap();
    assert_eq!(events(&mut client), [ClientEvent::Accepted]);
    assert!(client.publish(MediaKind::Audio, 0, &vec![0xAF, 1].into()));
    let bytes = sent(&mut client);
    assert_eq!(bytes[8..12], 7_u32.to_le_bytes(), "media goes to the stream that was given");
}

#[test]
fn each_step_can_be_refused() {
    let refuse = |before: &[Vec<u8>], refusal: Vec<u8>| {
        let mut client = client();
        client.input(&hello()).unwrap();
        before.iter().for_each(|bytes| client.input(bytes).unwrap());
        client.input(&refusal).unwrap();
        let events = events(&mut client);
        assert!(matches!(events[..], [ClientEvent::Refused(_)]), "{events:?}");
        client.input(&status("status", "NetStream.Publish.Start")).unwrap();
        assert!(!client.is_publishing() && client.next_output().is_none());
    };
    let error = |number| command(0, "_error", number, Value::Null, vec![]);
    let connected = result(1.0, Value::Null);
    let created = result(4.0, Value::Number(1.0));
    refuse(&[], error(1.0));
    refuse(&[], status("error", "NetConnection.Connect.Rejected"));
    refuse(&[], command(0, "close", 0.0, Value::Null, vec![]));
    refuse(std::slice::from_ref(&connected), error(4.0));
    refuse(&[connected.clone(), created.clone()], error(5.0));
    refuse(&[connected, created], status("error", "NetStream.Publish.BadName"));
}

#[test]
fn a_message_stream_is_a_number_that_fits() {
    for number in [0.0, -1.0, 0.5, f64::NAN, f64::INFINITY, 4_294_967_296.0] {
        let mut client = client();
        client.input(&hello()).unwrap();
        client.input(&result(1.0, Value::Null)).unwrap();
        let wrong = result(4.0, Value::Number(number));
        assert_eq!(client.input(&wrong), Err(RtmpError::Command), "{number}");
    }
}

#[test]
fn pings_are_answered_and_bytes_acknowledged() {
    let mut client = publishing(1.0);
    client.input(&message(2, message_type::WINDOW_ACK_SIZE, 0, 0, &[0, 0, 0, 1])).unwrap();
    sent(&mut client);
    client.input(&message(2, message_type::USER_CONTROL, 0, 0, &[0, 6, 1, 2, 3, 4])).unwrap();
    let bytes = sent(&mut client);
    assert!(bytes.ends_with(&[0, 7, 1, 2, 3, 4]), "{bytes:?}");
    // The client does not acknowledge each byte, whatever window the upstream sets.
    client.input(&message(2, message_type::DATA, 1, 0, &[5; 1200])).unwrap();
    let acknowledgement = messages(&sent(&mut client));
    assert_eq!(acknowledgement.len(), 1);
    assert_eq!(acknowledgement[0].type_id, message_type::ACK);
}

//! The codec. In: one frame. Checked: the reason for which a frame is refused is true; a decoded frame can be encoded,
//! and is the same when it is decoded again. Deliberately absent: the meaning of messages.

use lianmai_protocol::ErrorName;
use lianmai_protocol::codec::{
    Element, ServerMessage, decode_client_frame, decode_server_frame, encode_error, encode_event,
    encode_notice, encode_request, encode_result, join_batch,
};
use lianmai_protocol::limits::{
    MAX_BATCH, MAX_CLIENT_FRAME_BYTES, MAX_JSON_DEPTH, MAX_SERVER_FRAME_BYTES,
};
use lianmai_protocol::message::call::reencode_result;
use lianmai_protocol::message::{Call, ChannelEvent, Notice};
use serde::de::IgnoredAny;

/// Interprets any bytes as a frame of a client.
pub fn codec_client(frame: &[u8]) {
    let elements = match decode_client_frame(frame) {
        Ok(elements) => elements,
        Err(refused) => {
            check_refusal(frame, &refused.0, MAX_CLIENT_FRAME_BYTES);
            if refused.0 == ErrorName::ParseError {
                assert!(!is_json(frame), "JSON is refused as none");
            }
            return;
        }
    };
    assert!(is_json(frame) && frame.len() <= MAX_CLIENT_FRAME_BYTES);
    let array: Option<Vec<IgnoredAny>> = serde_json::from_slice(frame).ok();
    assert_eq!(elements.len(), array.map_or(1, |array| array.len()), "one element each");
    assert!((1..=MAX_BATCH).contains(&elements.len()));

    let mut texts = Vec::new();
    let mut requests = Vec::new();
    for element in elements {
        match element {
            Element::Refused { id, error } => {
                let text = encode_error(id, &error);
                let name = error.name();
                assert!(!matches!(name, ErrorName::Unknown(_)), "refused by a known name: {text}");
                assert_eq!(error.code, name.code());
                assert!(error.data.field.as_ref().is_none_or(|field| field.chars().count() <= 64));
                match &server_messages(&text)[..] {
                    [ServerMessage::Answer { id: read, outcome: Err(again) }] => {
                        assert_eq!((read, again), (&id, &error));
                    }
                    other => panic!("{text} is read as {other:?}"),
                }
            }
            Element::Request(request) => {
                let text = encode_request(&request);
                // The text may be too long now: numbers become strings, and defaults are written out.
                if text.len() <= MAX_CLIENT_FRAME_BYTES {
                    let again = decode_client_frame(text.as_bytes());
                    let again = again.unwrap_or_else(|error| panic!("{text} is refused: {error}"));
                    assert!(matches!(&again[..], [Element::Request(read)] if (read == &request)));
                }
                texts.push(text);
                requests.push(request);
            }
        }
    }
    let batch = join_batch(&texts);
    if !texts.is_empty() && batch.len() <= MAX_CLIENT_FRAME_BYTES {
        let again = decode_client_frame(&batch).expect("requests in an array are a frame");
        assert_eq!(again.len(), requests.len());
        for (read, request) in again.iter().zip(&requests) {
            assert!(matches!(read, Element::Request(read) if (read == request)));
        }
    }
}

/// Interprets any bytes as a frame of a server.
pub fn codec_server(frame: &[u8]) {
    let messages = match decode_server_frame(frame) {
        Ok(messages) => messages,
        Err(refused) => return check_refusal(frame, &refused.0, MAX_SERVER_FRAME_BYTES),
    };
    assert!(is_json(frame) && frame.len() <= MAX_SERVER_FRAME_BYTES);
    let mut texts = Vec::new();
    for message in &messages {
        if let ServerMessage::Answer { outcome: Ok(result), .. } = message {
            for method in Call::METHODS {
                if let Ok(once) = reencode_result(method, result.get()) {
                    let twice = reencode_result(method, &once);
                    assert_eq!(twice.ok().as_deref(), Some(&once[..]), "a result of {method}");
                }
            }
        }
        let Some(text) = encode(message) else { continue };
        match &server_messages(&text)[..] {
            [again] => {
                assert!(same_message(again, message), "{text} is read as {again:?}");
                assert_eq!(encode(again).as_deref(), Some(&text[..]), "one encoding");
            }
            other => panic!("{text} is read as {other:?}"),
        }
        texts.push(text);
    }
    let batch = join_batch(&texts);
    if batch.len() <= MAX_SERVER_FRAME_BYTES {
        let again = decode_server_frame(&batch).expect("messages in an array are a frame");
        assert_eq!(again.len(), texts.len());
    }
}

fn is_json(frame: &[u8]) -> bool {
    std::str::from_utf8(frame).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// Asserts that the reason of a refusal is true.
fn check_refusal(frame: &[u8], name: &ErrorName, max_bytes: usize) {
    let too_large = frame.len() > max_bytes;
    assert_eq!(*name == ErrorName::FrameTooLarge, too_large, "{name} of {} bytes", frame.len());
    let opened = frame.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    match name {
        ErrorName::FrameTooLarge | ErrorName::ParseError => {}
        ErrorName::TooDeep => assert!(opened > MAX_JSON_DEPTH, "{opened} levels at most"),
        ErrorName::BadBatch => {
            let array: Vec<IgnoredAny> = serde_json::from_slice(frame).expect("it is an array");
            assert!(!(1..=MAX_BATCH).contains(&array.len()));
        }
        other => panic!("a frame is refused as {other}"),
    }
}

fn server_messages(text: &str) -> Vec<ServerMessage> {
    decode_server_frame(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Encodes a message. `None` for a result without an id, which nothing writes.
fn encode(message: &ServerMessage) -> Option<String> {
    Some(match message {
        ServerMessage::Answer { id, outcome: Err(error) } => encode_error(*id, error),
        ServerMessage::Answer { id, outcome: Ok(result) } => encode_result((*id)?, result),
        ServerMessage::Event(position, event) => encode_event(*position, event),
        ServerMessage::Notice(notice) => encode_notice(notice),
    })
}

/// Compares messages. The parameters of unknown messages are not encoded, so they are ignored.
fn same_message(one: &ServerMessage, other: &ServerMessage) -> bool {
    match (one, other) {
        (
            ServerMessage::Answer { id: a, outcome: Ok(x) },
            ServerMessage::Answer { id: b, outcome: Ok(y) },
        ) => a == b && x.get() == y.get(),
        (
            ServerMessage::Answer { id: a, outcome: Err(x) },
            ServerMessage::Answer { id: b, outcome: Err(y) },
        ) => a == b && x == y,
        (ServerMessage::Event(at, a), ServerMessage::Event(bt, b)) => {
            let unknown =
                matches!((a, b), (ChannelEvent::Unknown { .. }, ChannelEvent::Unknown { .. }));
            at == bt && (a == b || unknown && a.method() == b.method())
        }
        (ServerMessage::Notice(a), ServerMessage::Notice(b)) => {
            let unknown = matches!((a, b), (Notice::Unknown { .. }, Notice::Unknown { .. }));
            a == b || unknown && a.method() == b.method()
        }
        _ => false,
    }
}

//! Invalid frames and elements, and ids.

use lianmai_protocol::{CloseCode, ErrorName};
use lianmai_signal_engine::Input;

use crate::calls::*;
use crate::world::{Client, World, entry};

fn scene() -> (World, Client) {
    let mut w = World::new();
    let a = w.join(1);
    w.advance(100);
    w.skip_received();
    (w, a)
}

/// Proves CON-11, FRM-7.
#[test]
fn a_frame_that_is_not_json_is_answered_and_closed() {
    let deep = "[".repeat(33);
    let nested = format!("{}1{}", "[".repeat(33), "]".repeat(33));
    let long = format!("\"{}\"", "x".repeat(64 * 1024));
    let cases = [
        ("", ErrorName::ParseError),
        ("{", ErrorName::ParseError),
        ("hello", ErrorName::ParseError),
        ("{} {}", ErrorName::ParseError),
        (&deep, ErrorName::TooDeep),
        (&nested, ErrorName::TooDeep),
        (&long, ErrorName::FrameTooLarge),
    ];
    for (frame, error) in cases {
        let (mut w, a) = scene();
        w.text(a, frame.to_owned());
        assert_eq!(w.conns[&a.0].anonymous, [error]);
        assert_eq!(w.closed(a), Some(CloseCode::PROTOCOL_VIOLATION));
    }
    let (mut w, a) = scene();
    w.text(a, vec![b'"', 0xff, b'"']);
    assert_eq!(w.conns[&a.0].anonymous, [ErrorName::ParseError]);
    assert_eq!(w.closed(a), Some(CloseCode::PROTOCOL_VIOLATION));
}

/// Proves CON-11.
#[test]
fn a_binary_frame_is_closed() {
    let (mut w, a) = scene();
    w.input(Input::BinaryFrame { conn: a.0 });
    assert_eq!(w.closed(a), Some(CloseCode::PROTOCOL_VIOLATION));
    assert_eq!(w.log(a), ["~closing protocolViolation"]);
}

/// Proves FRM-6.
#[test]
fn a_bad_array_is_refused_and_the_connection_stays() {
    let (mut w, a) = scene();
    w.text(a, "[]");
    let many = format!("[{}]", vec!["1"; 33].join(","));
    w.text(a, many);
    assert_eq!(w.conns[&a.0].anonymous, [ErrorName::BadBatch, ErrorName::BadBatch]);
    w.ok(a, ping());
}

/// Proves ERR-3, FRM-2, FRM-3, FRM-4, FRM-6, FRM-9, FWD-2.
#[test]
fn an_element_that_cannot_be_read_does_not_stop_the_next() {
    let (mut w, a) = scene();
    let frame = concat!(
        r#"[{"id":5,"method":"ping"},"#,                // No jsonrpc.
        r#"{"jsonrpc":"2.0","method":"ping"},"#,        // No id.
        r#"{"jsonrpc":"2.0","id":0,"method":"ping"},"#, // An id out of range.
        r#"{"jsonrpc":"2.0","id":9007199254740992,"method":"ping"},"#,
        r#"{"jsonrpc":"2.0","id":"7","method":"ping"},"#, // An id that is no integer.
        r#"{"jsonrpc":"2.0","id":8},"#,                   // No method.
        r#"[{"jsonrpc":"2.0","id":9,"method":"ping"}],"#, // An array in an array.
        r#"{"jsonrpc":"2.0","id":10,"method":"fly"},"#,   // An unknown method.
        r#"{"jsonrpc":"2.0","id":11,"method":"subscribe","params":{"uid":"01","mediaType":"audio"}},"#,
        r#"{"jsonrpc":"2.0","id":12,"method":"subscribe","params":["2","audio"]},"#,
        r#"{"jsonrpc":"2.0","id":13,"method":"subscribe","params":{"mediaType":"audio"}},"#,
        r#"{"jsonrpc":"2.0","id":14,"method":"sendMessage","params":{"data":"still here"}}]"#,
    );
    w.text(a, frame);
    for (id, error) in [
        (5, ErrorName::InvalidRequest),
        (8, ErrorName::InvalidRequest),
        (10, ErrorName::MethodNotFound),
        (11, ErrorName::BadUid),
        (12, ErrorName::InvalidParams),
        (13, ErrorName::InvalidParams),
    ] {
        assert_eq!(w.error(a, id), error, "{id}");
    }
    let field = w.answer(a, 13).expect("answered").expect_err("refused").data.field.clone();
    assert_eq!(field.as_deref(), Some("uid"));
    use ErrorName::{BadBatch, InvalidRequest};
    assert_eq!(
        w.conns[&a.0].anonymous,
        [InvalidRequest, InvalidRequest, InvalidRequest, InvalidRequest, BadBatch]
    );
    w.advance(20);
    assert_eq!(w.new_events(a), ["message 1 still here"]);
}

/// Proves NSY-1, RES-1.
#[test]
fn methods_that_this_version_does_not_serve_are_not_found() {
    let (mut w, a) = scene();
    let mut id = 100;
    for (method, params) in [
        ("addTasks", r#"{"rtmpTasks":[]}"#),
        ("updateTasks", r#"{"rtmpTasks":[]}"#),
        ("deleteTasks", r#"{"taskIds":[]}"#),
    ] {
        id += 1;
        let frame =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
        w.text(a, frame);
        assert_eq!(w.error(a, id), ErrorName::MethodNotFound, "{method}");
    }
    w.ok_at(a, id + 1);
    w.text(a, format!(r#"{{"jsonrpc":"2.0","id":{},"method":"reconnect","params":{{"ticket":"t","attempt":1,"epoch":"aaaaaaaaaaaaaaaaaaaa","seq":0}}}}"#, id + 2));
    assert_eq!(w.error(a, id + 2), ErrorName::AlreadyJoined, "RES-1: in the first frame only");
}

/// Proves IDS-1, IDS-2, IDS-3.
#[test]
fn ids_1_ids_strictly_increase_and_pings_do_not_count() {
    let (mut w, a) = scene();
    w.send_as(a, 5, send_message("five"));
    w.send_as(a, 5, send_message("five again"));
    assert_eq!(w.error(a, 5), ErrorName::IdReuse);
    w.send_as(a, 4, send_message("four"));
    assert_eq!(w.error(a, 4), ErrorName::IdTooOld);
    w.send_as(a, 100, ping());
    w.send_as(a, 3, ping());
    assert!(w.answer(a, 3).expect("answered").is_ok());
    w.send_as(a, 6, send_message("six"));
    w.advance(20);
    assert_eq!(w.new_events(a), ["message 1 five", "message 1 six"]);
}

/// Proves IDS-2, IDS-4.
#[test]
fn ids_2_the_same_command_again_gets_its_answer_again() {
    let (mut w, a) = scene();
    w.send_as(a, 5, send_message("five"));
    let answer = w.answer(a, 5);
    w.send_as(a, 6, send_message("six"));
    w.send_as(a, 5, send_message("five"));
    assert_eq!(w.answer(a, 5), answer);
    w.send_as(a, 7, subscribe(9, "audio"));
    w.send_as(a, 7, subscribe(9, "audio"));
    assert_eq!(w.error(a, 7), ErrorName::NoSuchMember, "a refusal as well");
    w.advance(20);
    assert_eq!(w.new_events(a), ["message 1 five", "message 1 six"]);
    // Answers that the client has confirmed are forgotten.
    w.text(a, r#"{"jsonrpc":"2.0","id":8,"ack":6,"method":"ping"}"#);
    w.send_as(a, 5, send_message("five"));
    assert_eq!(w.error(a, 5), ErrorName::IdTooOld);
}

/// Proves IDS-2.
#[test]
fn ids_2_a_repeat_is_the_same_to_the_byte() {
    let (mut w, a) = scene();
    let raw_message = |id: u64, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"sendMessage","params":{params}}}"#)
    };
    let first = r#"{"data":"x","later":1}"#;
    for (n, other) in [r#"{"data":"x","later":2}"#, r#"{"data":"x"}"#, r#"{ "data":"x","later":1}"#]
        .into_iter()
        .enumerate()
    {
        let id = 10 + n as u64;
        w.text(a, raw_message(id, first));
        w.text(a, raw_message(id, other));
        assert_eq!(w.error(a, id), ErrorName::IdReuse, "{other}");
        w.text(a, raw_message(id, first));
        assert!(w.answer(a, id).expect("answered").is_ok());
    }
    // Text around the parameters makes no difference, and neither does the form of absent parameters.
    w.text(a, r#"{"jsonrpc":"2.0","id":20,"method":"unpublish"}"#);
    for again in [
        r#"{ "id":20, "params":{}, "method":"unpublish", "jsonrpc":"2.0" }"#,
        r#"{"jsonrpc":"2.0","id":20,"method":"unpublish","params":null}"#,
    ] {
        w.text(a, again);
        assert!(w.answer(a, 20).expect("answered").is_ok(), "{again}");
    }
    w.text(a, r#"{"jsonrpc":"2.0","id":20,"method":"leave","params":{}}"#);
    assert_eq!(w.error(a, 20), ErrorName::IdReuse, "another method");
}

/// Proves IDS-6, IDS-7.
#[test]
fn ids_7_repeats_above_the_rate_get_the_stored_answer_and_then_a_close() {
    let (mut w, a) = scene();
    w.send_as(a, 5, send_message("five"));
    let answer = w.answer(a, 5);
    for _ in 0..139 {
        w.send_as(a, 5, send_message("five"));
        assert_eq!(w.answer(a, 5), answer);
    }
    assert_eq!(w.closed(a), Some(lianmai_protocol::CloseCode::RATE_LIMITED));
}

/// Proves IDS-2.
#[test]
fn a_refused_command_settles_its_id() {
    let (mut w, a) = scene();
    w.send_as(a, 5, subscribe(9, "audio"));
    assert_eq!(w.error(a, 5), ErrorName::NoSuchMember);
    w.send_as(a, 5, send_message("retry"));
    assert_eq!(w.error(a, 5), ErrorName::IdReuse);
    w.advance(20);
    assert!(w.new_events(a).is_empty());
}

/// Proves IDS-2, NSY-1.
#[test]
fn a_request_that_cannot_be_decoded_or_comes_too_fast_does_not_use_its_id_up() {
    let (mut w, a) = scene();
    let raw = |id: u64, rest: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},{rest}}}"#);
    for (rest, error) in [
        (r#""method":5"#, ErrorName::InvalidRequest),
        (r#""method":"fly""#, ErrorName::MethodNotFound),
        (r#""method":"sendMessage""#, ErrorName::InvalidParams),
        (r#""method":"kick","params":{"uid":"07"}"#, ErrorName::BadUid),
        (r#""method":"deleteTasks","params":{"taskIds":["-"]}"#, ErrorName::BadTask),
    ] {
        w.text(a, raw(1_000, rest));
        assert_eq!(w.error(a, 1_000), error, "{rest}");
    }
    w.ok_at(a, 5);
    // A method that is known but not offered was decoded.
    w.text(a, raw(6, r#""method":"deleteTasks","params":{"taskIds":[]}"#));
    assert_eq!(w.error(a, 6), ErrorName::MethodNotFound);
    w.send_as(a, 6, send_message("again"));
    assert_eq!(w.error(a, 6), ErrorName::IdReuse);
    while w.ask(a, ping()).is_ok() {}
    w.send_as(a, 2_000, send_message("too fast"));
    assert_eq!(w.error(a, 2_000), ErrorName::RateLimited);
    w.advance(1_000);
    w.ok_at(a, 2_000);
}

impl World {
    #[track_caller]
    fn ok_at(&mut self, client: Client, id: u64) {
        self.send_as(client, id, send_message("fine"));
        assert!(self.answer(client, id).expect("answered").is_ok());
    }
}

/// Proves FRM-8, LIM-1.
#[test]
fn a_huge_number_exceeds_its_limit_as_any_other() {
    use ErrorName::{BadDuration, BadLayout, BadTask, InvalidParams};
    let mut w = World::with_tasks();
    let a = w.admit(entry(1).moderator());
    let task = |canvas: &str, user: &str, audio: &str| {
        format!(
            r#"{{"rtmpTasks":[{{"taskId":"a","streamUrl":"rtmp://h/a/b","layout":{{"canvas":{{{canvas}"height":16}},"users":[{{"uid":"1"{user}}}]}},"config":{{"audioParam":{{{audio}}}}}}}]}}"#
        )
    };
    let (good, n) = (r#""width":16,"#, "5000000000");
    let layout = "rtmpTasks[0].layout";
    let cases = [
        ("kick", r#"{"uid":"2","durationS":5000000000}"#.to_owned(), BadDuration, "durationS"),
        (
            "kick",
            r#"{"uid":"2","durationS":9007199254740991}"#.to_owned(),
            BadDuration,
            "durationS",
        ),
        ("kick", r#"{"uid":"2","durationS":-1}"#.to_owned(), InvalidParams, "durationS"),
        ("kick", r#"{"uid":"2","durationS":1.5}"#.to_owned(), InvalidParams, "durationS"),
        ("closeChannel", r#"{"holdS":4294967296}"#.to_owned(), BadDuration, "holdS"),
        ("addTasks", task(&format!(r#""width":{n},"#), "", ""), BadLayout, "canvas.width"),
        ("addTasks", task(good, &format!(r#","x":{n}"#), ""), BadLayout, "users[0]"),
        ("addTasks", task(good, &format!(r#","zOrder":{n}"#), ""), BadLayout, "users[0].zOrder"),
        ("addTasks", task(good, "", &format!(r#""bitRate":{n}"#)), BadTask, ""),
    ];
    for (id, (method, params, name, field)) in (100..).zip(cases) {
        w.text(
            a,
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#),
        );
        let error = w.answer(a, id).expect("answered").expect_err("refused");
        let field = match method {
            "addTasks" if name == BadTask => "rtmpTasks[0].config.audioParam.bitRate".to_owned(),
            "addTasks" => format!("{layout}.{field}"),
            _ => field.to_owned(),
        };
        assert_eq!((error.name(), error.data.field.as_deref()), (&name, Some(&*field)), "{params}");
    }
    assert!(w.closed(a).is_none());
    w.audit();
}

//! A connection before its join: small budgets, and only a join or reconnect is let through.

use lianmai_protocol::codec::{self, ServerMessage};
use lianmai_protocol::message::Notice;
use lianmai_protocol::{CloseCode, ErrorName};
use lianmai_signal_engine::{Lobby, LobbyOutput, TicketKey};

const JOIN: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"join","params":{"appkey":"plain","channelName":"room"}}"#;
const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

/// Errors that were answered, the announced close, the close.
fn read_outputs(
    outputs: Vec<LobbyOutput>,
) -> (Vec<ErrorName>, Option<CloseCode>, Option<CloseCode>) {
    let (mut errors, mut announced, mut closed) = (Vec::new(), None, None);
    for output in outputs {
        assert_eq!(closed, None, "nothing follows a close");
        match output {
            LobbyOutput::Send(text) => {
                for message in codec::decode_server_frame(text.as_bytes()).expect("readable") {
                    match message {
                        ServerMessage::Answer { outcome: Err(error), .. } => {
                            assert_eq!(announced, None);
                            errors.push(error.name().clone());
                        }
                        ServerMessage::Notice(Notice::Closing(closing)) => {
                            announced = Some(closing.code);
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
            LobbyOutput::Close(code) => closed = Some(code),
            LobbyOutput::Join(..) | LobbyOutput::Reconnect(_) => panic!("a connection entered"),
        }
    }
    assert_eq!(announced, closed, "a close is announced");
    (errors, announced, closed)
}

/// Proves FRM-1, JOI-7.
#[test]
fn a_join_gets_through_alone_or_in_an_array_of_one() {
    for frame in [JOIN.to_owned(), format!("[{JOIN}]")] {
        let outputs = Lobby::new(TicketKey::new([0; 32])).frame(frame.as_bytes());
        let [LobbyOutput::Join(id, join)] = &outputs[..] else { panic!("{outputs:?}") };
        assert_eq!(id.0, 1);
        assert_eq!(join.channel_name.as_str(), "room");
    }
}

/// Proves FRM-6, SES-2, SES-5.
#[test]
fn anything_else_is_refused_and_the_connection_stays() {
    let mut lobby = Lobby::new(TicketKey::new([0; 32]));
    let refused = [
        (PING, ErrorName::NotJoined),
        (r#"{"jsonrpc":"2.0","id":2,"method":"fly"}"#, ErrorName::MethodNotFound),
        (r#"{"jsonrpc":"2.0","id":2,"method":"join"}"#, ErrorName::InvalidParams),
        (
            r#"{"jsonrpc":"2.0","id":2,"method":"join","params":{"appkey":"a","channelName":""}}"#,
            ErrorName::BadChannelName,
        ),
        ("[]", ErrorName::BadBatch),
        ("1", ErrorName::InvalidRequest),
    ];
    for (frame, error) in refused {
        assert_eq!(
            read_outputs(lobby.frame(frame.as_bytes())),
            (vec![error], None, None),
            "{frame}"
        );
    }
    assert!(matches!(lobby.frame(JOIN.as_bytes())[..], [LobbyOutput::Join(..)]));
}

/// Proves JOI-7.
#[test]
fn a_join_comes_alone() {
    let mut lobby = Lobby::new(TicketKey::new([0; 32]));
    let outputs = lobby.frame(format!("[{JOIN},{PING}]").as_bytes());
    assert_eq!(read_outputs(outputs).0, [ErrorName::BadBatch, ErrorName::NotJoined]);
}

/// Proves SES-3.
#[test]
fn after_eight_refusals_it_is_closed() {
    let mut lobby = Lobby::new(TicketKey::new([0; 32]));
    for _ in 0..7 {
        assert_eq!(read_outputs(lobby.frame(PING.as_bytes())).2, None);
    }
    let (errors, _, closed) = read_outputs(lobby.frame(PING.as_bytes()));
    assert_eq!((errors.len(), closed), (1, Some(CloseCode::JOIN_TIMEOUT)));
    // The same in one array, and for refused frames; what comes after that is not answered.
    let many = format!("[{}]", vec![PING; 20].join(","));
    let (errors, _, closed) =
        read_outputs(Lobby::new(TicketKey::new([0; 32])).frame(many.as_bytes()));
    assert_eq!((errors.len(), closed), (8, Some(CloseCode::JOIN_TIMEOUT)));
    let mut lobby = Lobby::new(TicketKey::new([0; 32]));
    for _ in 0..7 {
        assert_eq!(read_outputs(lobby.frame(b"[]")).2, None);
    }
    assert_eq!(read_outputs(lobby.frame(b"[]")).2, Some(CloseCode::JOIN_TIMEOUT));
}

/// Proves SES-3.
#[test]
fn it_may_send_16_kib_in_all() {
    let spaces = " ".repeat(16 * 1024 - JOIN.len());
    let full = format!("{JOIN}{spaces}");
    assert!(matches!(
        Lobby::new(TicketKey::new([0; 32])).frame(full.as_bytes())[..],
        [LobbyOutput::Join(..)]
    ));
    let over = format!("{full} ");
    let closed = (vec![], Some(CloseCode::JOIN_TIMEOUT), Some(CloseCode::JOIN_TIMEOUT));
    assert_eq!(read_outputs(Lobby::new(TicketKey::new([0; 32])).frame(over.as_bytes())), closed);
    // The budget is for all frames together.
    let mut lobby = Lobby::new(TicketKey::new([0; 32]));
    let half = format!("{PING}{}", " ".repeat(8 * 1024));
    assert_eq!(read_outputs(lobby.frame(half.as_bytes())).2, None);
    assert_eq!(read_outputs(lobby.frame(half.as_bytes())).2, Some(CloseCode::JOIN_TIMEOUT));
}

/// Proves CON-11, FRM-7, SES-3.
#[test]
fn garbage_binary_frames_and_slow_joins_are_closed() {
    let garbage = read_outputs(Lobby::new(TicketKey::new([0; 32])).frame(b"hello"));
    assert_eq!(garbage.0, [ErrorName::ParseError]);
    assert_eq!(garbage.2, Some(CloseCode::PROTOCOL_VIOLATION));
    let deep = read_outputs(Lobby::new(TicketKey::new([0; 32])).frame("[".repeat(33).as_bytes()));
    assert_eq!(deep.0, [ErrorName::TooDeep]);
    assert_eq!(deep.2, Some(CloseCode::PROTOCOL_VIOLATION));
    assert_eq!(
        read_outputs(Lobby::new(TicketKey::new([0; 32])).binary()).2,
        Some(CloseCode::PROTOCOL_VIOLATION)
    );
    assert_eq!(
        read_outputs(Lobby::new(TicketKey::new([0; 32])).timeout()).2,
        Some(CloseCode::JOIN_TIMEOUT)
    );
    assert_eq!(lianmai_signal_engine::lobby::LOBBY_MS, 10_000);
}

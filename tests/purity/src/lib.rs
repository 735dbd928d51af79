//! One exported function per pure core that runs a large part of it, so that the linker keeps it. In: bytes and times.
//! Out: a number that depends on the results. Deliberately absent: imports; a clock, a socket or randomness in a core
//! would appear as an import of the module.

/// Decodes a frame in each direction and encodes the results.
#[cfg(feature = "protocol")]
#[unsafe(no_mangle)]
pub extern "C" fn protocol(byte: u8, length: usize) -> usize {
    use lianmai_protocol::codec::{self, Element, ServerMessage};

    let frame = vec![byte; length];
    let mut bytes = 0;
    if let Ok(elements) = codec::decode_client_frame(&frame) {
        for element in elements {
            bytes += match element {
                Element::Request(request) => codec::encode_request(&request).len(),
                Element::Refused { id, error } => codec::encode_error(id, &error).len(),
            };
        }
    }
    if let Ok(messages) = codec::decode_server_frame(&frame) {
        for message in messages {
            bytes += match message {
                ServerMessage::Event(position, event) => {
                    codec::encode_event(position, &event).len()
                }
                ServerMessage::Notice(notice) => codec::encode_notice(&notice).len(),
                ServerMessage::Answer { .. } => 1,
            };
        }
    }
    bytes
}

/// Runs an engine on a frame.
#[cfg(feature = "engine")]
#[unsafe(no_mangle)]
pub extern "C" fn engine(byte: u8, length: usize, mono: u64, wall: u64) -> usize {
    use lianmai_protocol::{MonoTime, Now, WallTime};
    use lianmai_signal_engine::{
        AddrId, ConnId, Engine, EngineConfig, Grant, Input, JoinRequest, Lobby, LobbyOutput,
        TicketKey,
    };

    let now = Now { mono: MonoTime(mono), wall: WallTime(wall) };
    let mut engine = Engine::new(EngineConfig::default(), [byte; 32]);
    let frame = vec![byte; length];
    for output in Lobby::new(TicketKey::new([byte; 32])).frame(&frame) {
        match output {
            LobbyOutput::Join(id, join) => {
                let request = Box::new(JoinRequest { id, join: *join, grant: Ok(Grant::debug()) });
                engine.handle(now, Input::Join { conn: ConnId(1), addr: AddrId(1), request });
            }
            LobbyOutput::Reconnect(request) => {
                engine.handle(now, Input::Reconnect { conn: ConnId(1), addr: AddrId(1), request });
            }
            LobbyOutput::Send(_) | LobbyOutput::Close(_) => {}
        }
    }
    engine.handle(now, Input::Frame { conn: ConnId(1), frame: frame.into() });
    std::iter::from_fn(|| engine.poll_output()).count()
}

/// Runs a session that joins and receives a frame.
#[cfg(feature = "session")]
#[unsafe(no_mangle)]
pub extern "C" fn session(byte: u8, length: usize, mono: u64) -> usize {
    use lianmai_client_sdk::protocol::MonoTime;
    use lianmai_client_sdk::protocol::message::session::Join;
    use lianmai_client_sdk::session::{CallId, Command, Input, Session, SessionConfig, SocketId};

    let now = MonoTime(mono);
    let frame = vec![byte; length];
    let text = String::from_utf8_lossy(&frame);
    let (Ok(appkey), Ok(channel_name)) = (text.parse(), text.parse()) else { return 0 };
    let join = Join {
        appkey,
        channel_name,
        uid: None,
        token: None,
        role: None,
        join_id: None,
        continues: None,
        name: None,
        attributes: lianmai_client_sdk::Attributes::default(),
    };
    let config = SessionConfig::new(format!("ws://{text}"));
    let Ok(mut session) = Session::new(config) else { return 0 };
    session.handle(now, Input::Command { call: CallId(1), command: Command::Join(join) });
    let socket = SocketId(1);
    session.handle(now, Input::SocketOpened { socket });
    session.handle(now, Input::Frame { socket, text: &text });
    session.handle(now + 1_000_000, Input::Timeout);
    std::iter::from_fn(|| session.poll_output()).count()
}

//! Connections that have not joined. Comes in: sockets and their frames. Goes out: the answers of the shipped lobby, or
//! an input for a shard.

use bytes::Bytes;
use lianmai_protocol::CloseCode;
use lianmai_protocol::codec::{self, ServerMessage};
use lianmai_protocol::limits::MAX_CLIENT_FRAME_BYTES;
use lianmai_protocol::message::Notice;
use lianmai_signal_engine::lobby::LOBBY_MS;
use lianmai_signal_engine::{
    AddrId, ChannelKey, ConnId, Input, JoinRequest, Lobby, LobbyOutput, Outbox,
};

use super::Phase;
use super::shard::Msg;
use super::store::shard_of;
use crate::net::{End, Frame, LinkId, Way};
use crate::world::{Ev, World, log};

/// A connection that has not joined.
pub(crate) struct LobbyConn {
    lobby: Lobby,
}

impl World {
    /// A socket has reached the server's address.
    pub(crate) fn server_connect(&mut self, id: LinkId) {
        if let Some(until) = self.server.standing_still(self.now) {
            return self.at(until, Ev::Connect(id));
        }
        let delay = self.link_delay(id, Way::Down);
        let key = self.server.key().clone();
        let open = self.links.get(&id).is_some_and(|link| link.client_open);
        let Some(process) = self.server.process.as_mut().filter(|p| p.phase < Phase::Frozen) else {
            return self.after(delay, Ev::Refused(id));
        };
        if !open {
            self.links.remove(&id);
            return;
        }
        let number = process.id;
        process.lobbies.insert(id, LobbyConn { lobby: Lobby::new(key) });
        if let Some(link) = self.links.get_mut(&id) {
            link.server_open = true;
            link.accepted = true;
            link.process = number;
        }
        self.after(delay, Ev::Opened(id));
        self.after(LOBBY_MS, Ev::LobbyTimeout(id));
    }

    pub(crate) fn lobby_timeout(&mut self, id: LinkId) {
        if let Some(until) = self.server.standing_still(self.now) {
            return self.at(until, Ev::LobbyTimeout(id));
        }
        let waiting = self.server.process.as_mut().and_then(|process| process.lobbies.get(&id));
        if let Some(waiting) = waiting {
            let outputs = waiting.lobby.timeout();
            self.lobby_outputs(id, outputs);
        }
    }

    /// A frame has reached the server.
    pub(crate) fn server_frame(&mut self, id: LinkId, frame: Frame) {
        let Some(process) = self.server.process.as_mut() else { return };
        let conn = ConnId(id.0);
        let too_long = matches!(&frame, Frame::Text(text) if text.len() > MAX_CLIENT_FRAME_BYTES);
        if let Some(waiting) = process.lobbies.get_mut(&id) {
            let outputs = match frame {
                Frame::Text(text) if !too_long => waiting.lobby.frame(&text),
                Frame::Text(_) | Frame::Binary(_) => waiting.lobby.binary(),
                Frame::Ping => {
                    self.write(id, Way::Down, &Frame::Pong.encode());
                    return;
                }
                Frame::Pong => return,
                Frame::Close(_) => return self.server_eof(id),
            };
            return self.lobby_outputs(id, outputs);
        }
        let Some(&shard) = process.connections.get(&id) else { return };
        let message = match frame {
            Frame::Text(text) if !too_long => {
                Msg::Input(Input::Frame { conn, frame: Bytes::from(text) })
            }
            Frame::Text(_) | Frame::Binary(_) => Msg::Input(Input::BinaryFrame { conn }),
            Frame::Ping => Msg::Alive(id, true),
            Frame::Pong => Msg::Alive(id, false),
            Frame::Close(_) => {
                process.connections.remove(&id);
                Msg::Over(id)
            }
        };
        self.post(shard, message);
    }

    /// A socket has ended on the client's side.
    pub(crate) fn server_eof(&mut self, id: LinkId) {
        let Some(process) = self.server.process.as_mut() else { return };
        if process.lobbies.remove(&id).is_some() {
            self.server_lets_go(id);
        } else if let Some(shard) = process.connections.remove(&id) {
            self.post(shard, Msg::Over(id));
        } else if !process.shards.iter().any(|shard| shard.has(id)) {
            self.server_lets_go(id);
        }
    }

    /// Closes the server's end, unless bytes are still to be written.
    pub(crate) fn server_lets_go(&mut self, id: LinkId) {
        let left = self.server.closing_outboxes.get(&id).is_some_and(|outbox| !outbox.is_empty());
        if let Some(link) = self.links.get_mut(&id)
            && link.server_open
            && !left
        {
            link.server_open = false;
            self.finish(id, Way::Down);
        }
    }

    fn lobby_outputs(&mut self, id: LinkId, outputs: Vec<LobbyOutput>) {
        let mut announced = None;
        for output in outputs {
            match output {
                LobbyOutput::Send(text) => {
                    self.checks_lobby_text(id, &text);
                    announced = closing_of(&text);
                    self.write(id, Way::Down, &Frame::Text(text.into_bytes()).encode());
                }
                LobbyOutput::Close(code) => {
                    if announced != Some(code) {
                        self.fail("model", format!("{id:?} is closed as {code:?} without a word"));
                    }
                    self.lobby_closes(id, code);
                    return;
                }
                LobbyOutput::Join(request, join) => {
                    let key =
                        ChannelKey { appkey: join.appkey.clone(), name: join.channel_name.clone() };
                    self.spy_join(&join);
                    let grant = self.tokens.verify_join(&join);
                    let request = Box::new(JoinRequest { id: request, join: *join, grant });
                    let (conn, addr) = (ConnId(id.0), self.addr(id));
                    return self.enter(id, &key, Input::Join { conn, addr, request });
                }
                LobbyOutput::Reconnect(request) => {
                    let key = request.claims.channel.clone();
                    let (conn, addr) = (ConnId(id.0), self.addr(id));
                    return self.enter(id, &key, Input::Reconnect { conn, addr, request });
                }
            }
        }
    }

    /// The address of a socket: all SDK clients share one, and each raw client has its own.
    fn addr(&self, id: LinkId) -> AddrId {
        match self.links.get(&id).map(|link| link.end) {
            Some(End::Raw(r)) => AddrId(1 + r as u64),
            _ => AddrId(0),
        }
    }

    fn lobby_closes(&mut self, id: LinkId, code: CloseCode) {
        log!(self, "{id:?} lobby closes {}", code.0);
        self.cov.close(code.0);
        if let Some(process) = self.server.process.as_mut() {
            process.lobbies.remove(&id);
        }
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from(Frame::Close(Some(code.0)).encode()));
        self.server_farewell(id, outbox);
    }

    /// Hands a connection to the shard of its channel.
    fn enter(&mut self, id: LinkId, key: &ChannelKey, entry: Input) {
        let Some(process) = self.server.process.as_mut() else { return };
        process.lobbies.remove(&id);
        let shard = shard_of(key, process.shards.len());
        process.connections.insert(id, shard);
        self.post(shard, Msg::Adopt(id, entry));
    }
}

/// The code of the close that a text announces.
fn closing_of(text: &str) -> Option<CloseCode> {
    match codec::decode_server_frame(text.as_bytes()).ok()?.pop()? {
        ServerMessage::Notice(Notice::Closing(closing)) => Some(closing.code),
        _ => None,
    }
}

//! The actions of clients: connect, send requests, leave, resume. In: operations. Out: inputs of the lobby and the
//! engine. Checked: a changed ticket is refused; a refusal changes nothing; a client with the newest ticket of a living
//! membership can resume, and has lost no message. Deliberately absent: the SDK.

use bytes::Bytes;
use lianmai_protocol::message::session::ResumeReason;
use lianmai_signal_engine::{
    AddrId, AdminCommand, AdminReply, ConnId, Grant, Input, JoinRequest, Lobby, LobbyOutput, Stats,
    TicketClaims,
};
use serde_json::{Value, json};

use super::Shell;
use crate::engine::client::{Client, Place};
use crate::engine::grant;

/// Maximum number of targeted messages that are kept per membership (RES-8). Their bytes matter only for longer
/// messages than those here.
const MAX_MESSAGES_KEPT: u64 = 32;

/// How a client resumes.
pub(crate) struct Return<'a> {
    /// The number of events that did not arrive.
    pub(crate) behind: u64,
    /// Whether it claims to have seen events that do not exist.
    pub(crate) ahead: bool,
    /// Whether it asks for a snapshot.
    pub(crate) snapshot: bool,
    /// Whether it uses the number of an earlier attempt.
    pub(crate) stale: bool,
    /// Changes the ticket before it is sent.
    pub(crate) change: &'a mut dyn FnMut(&str) -> String,
}

impl Shell {
    fn new_conn(&self) -> ConnId {
        ConnId(self.clients.len() as u64 + 1)
    }

    fn lobby(&self) -> Lobby {
        Lobby::new(self.config.ticket_key.clone())
    }

    pub(crate) fn connect(&mut self) -> ConnId {
        let conn = self.new_conn();
        self.clients.insert(conn, Client::new(self.lobby(), self.processes));
        conn
    }

    pub(crate) fn next_id(&mut self, conn: ConnId) -> u64 {
        let Some(client) = self.clients.get_mut(&conn) else { return 1 };
        client.next_id += 1;
        client.next_id - 1
    }

    pub(crate) fn call(&mut self, conn: ConnId, method: &str, params: &Value) {
        let id = self.next_id(conn);
        self.call_as(conn, id, method, params);
    }

    pub(crate) fn call_as(&mut self, conn: ConnId, id: u64, method: &str, params: &Value) {
        let frame = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.frame(conn, frame.to_string().as_bytes());
    }

    pub(crate) fn calls(&mut self, conn: ConnId, calls: &[(&str, Value)]) {
        let mut frame = Vec::new();
        for (method, params) in calls {
            let id = self.next_id(conn);
            frame.push(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        }
        self.frame(conn, Value::Array(frame).to_string().as_bytes());
    }

    pub(crate) fn ping_all(&mut self) {
        for conn in self.seated() {
            self.call(conn, "ping", &json!({}));
        }
    }

    pub(crate) fn frame(&mut self, conn: ConnId, frame: &[u8]) {
        if let Some(client) = self.clients.get_mut(&conn) {
            match &mut client.place {
                Place::Lobby(lobby) => {
                    let outputs = lobby.frame(frame);
                    client.asks(frame);
                    return self.lobby_outputs(conn, outputs);
                }
                Place::Engine => {
                    let confirmed = client.asks(frame);
                    if let Some(stay) = &client.stay {
                        let before = self.confirmed.entry(stay.mid).or_default();
                        *before = confirmed.max(*before);
                    }
                }
                // The server's shell may still have read a frame.
                Place::Closed | Place::Gone => {}
            }
        }
        self.input(Input::Frame { conn, frame: Bytes::copy_from_slice(frame) });
    }

    pub(crate) fn binary(&mut self, conn: ConnId) {
        match self.clients.get(&conn).map(|client| &client.place) {
            Some(Place::Lobby(lobby)) => {
                let outputs = lobby.binary();
                self.lobby_outputs(conn, outputs);
            }
            _ => self.input(Input::BinaryFrame { conn }),
        }
    }

    fn lobby_outputs(&mut self, conn: ConnId, outputs: Vec<LobbyOutput>) {
        assert!(outputs.len() <= 40, "a frame has at most 32 elements");
        for output in outputs {
            let Some(client) = self.clients.get_mut(&conn) else { return };
            match output {
                LobbyOutput::Send(text) => client.receive(text.as_bytes(), &mut self.told),
                LobbyOutput::Close(code) => client.close(code),
                LobbyOutput::Join(id, join) => {
                    client.place = Place::Engine;
                    let grant = match join.token.as_deref() {
                        None => Ok(Grant::debug()),
                        Some(token) => grant(token, self.now.wall),
                    };
                    let request = Box::new(JoinRequest { id, join: *join, grant });
                    self.input(Input::Join { conn, addr: AddrId(conn.0 % 3), request });
                }
                LobbyOutput::Reconnect(request) => {
                    client.place = Place::Engine;
                    self.input(Input::Reconnect { conn, addr: AddrId(conn.0 % 3), request });
                }
            }
        }
    }

    pub(crate) fn drop_socket(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get_mut(&conn) {
            client.place = Place::Gone;
        }
        self.input(Input::Closed { conn });
    }

    /// Resumes the membership of connection `old`, which may have received less than was sent, and repeats its
    /// unanswered requests.
    pub(crate) fn resume(&mut self, old: ConnId, how: Return) {
        let Some(client) = self.clients.get(&old) else { return };
        let Some(mut stay) = client.stay.clone() else { return };
        stay.forget(how.behind);
        let sent = std::mem::take(&mut stay.sent);
        let ticket = (how.change)(&stay.ticket);
        let genuine = ticket == stay.ticket;
        let claims = TicketClaims::open(&self.config.ticket_key, &ticket);
        assert_eq!(claims.is_some(), genuine, "a ticket that was changed is none: {ticket}");
        let newest = genuine && self.tickets.get(&stay.mid) == Some(&ticket);
        let is_member = claims.as_ref().is_some_and(|claims| self.is_member(claims));
        self.attempts += 1;
        let attempt = if how.stale { 1 } else { self.attempts + 1 };
        let mut params = json!({
            "ticket": ticket, "attempt": attempt, "epoch": stay.epoch, "seq": stay.last,
            "n": stay.n.unwrap_or(0),
        });
        if how.ahead {
            params["seq"] = (stay.last + 1_000_000).into();
        }
        if how.snapshot {
            params["want"] = "snapshot".into();
        }
        let (mid, n) = (stay.mid, stay.n.unwrap_or(0));
        let conn = self.new_conn();
        let of_it = |client: &&Client| client.stay.as_ref().is_some_and(|stay| stay.mid == mid);
        let earlier = self.clients.values().filter(of_it);
        let (next_id, process) = (self.clients[&old].next_id, self.clients[&old].process);
        let place = (self.lobby(), self.processes);
        let client = Client::returning(place, next_id, earlier, stay);
        self.clients.insert(conn, client);
        let before = self.stats();
        self.call(conn, "reconnect", &params);
        match self.clients[&conn].refused.clone() {
            Some(reason) => {
                assert!(matches!(self.clients[&conn].place, Place::Closed), "refused and closed");
                let now = self.stats();
                let shape = |s: Stats| (s.channels, s.members, s.connected, s.streams, s.events);
                assert_eq!(shape(now), shape(before), "a refusal changes nothing");
                let wrong = matches!(
                    reason,
                    ResumeReason::Invalid
                        | ResumeReason::StaleAttempt
                        | ResumeReason::Gone
                        | ResumeReason::Left
                        | ResumeReason::Replaced
                );
                let good = newest && is_member && !how.stale;
                assert!(!(good && wrong), "who holds the newest ticket is refused as {reason}");
            }
            None => {
                assert!(genuine && self.clients[&conn].is_seated(), "refused, or back");
                if process != self.processes {
                    let replayed = self.clients[&conn].messages.is_some();
                    let how = if replayed { "goes on" } else { "begins anew" };
                    self.told.seen.note("the log of another process", how);
                }
                let confirmed = self.confirmed.entry(mid).or_default();
                // Up to this number messages are kept, whatever their contents.
                if let Some((messages, lost)) = self.clients[&conn].messages
                    && messages + lost <= MAX_MESSAGES_KEPT
                {
                    assert!(lost <= confirmed.saturating_sub(n), "{lost} messages are lost");
                }
                *confirmed = n.max(*confirmed);
                // Unanswered requests are sent again, and executed once.
                for frame in sent {
                    self.frame(conn, &frame);
                }
            }
        }
    }

    fn is_member(&mut self, claims: &TicketClaims) -> bool {
        match self.admin(AdminCommand::GetChannel(claims.channel.clone())) {
            Some(Ok(AdminReply::Channel(_, members))) => {
                members.iter().any(|member| member.mid == claims.mid)
            }
            _ => false,
        }
    }
}

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
use crate::engine::client::{Client, ConnState};
use crate::engine::grant;

/// Maximum number of targeted messages that are kept per membership (RES-8). Their bytes matter only for longer
/// messages than those here.
const MAX_MESSAGES_KEPT: u64 = 32;

/// How a client resumes.
pub(crate) struct ResumeOptions<'a> {
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
            match &mut client.state {
                ConnState::Lobby(lobby) => {
                    let outputs = lobby.frame(frame);
                    client.asks(frame);
                    return self.lobby_outputs(conn, outputs);
                }
                ConnState::Engine => {
                    let confirmed = client.asks(frame);
                    if let Some(membership) = &client.membership {
                        let before = self.confirmed.entry(membership.mid).or_default();
                        *before = confirmed.max(*before);
                    }
                }
                // The server's shell may still have read a frame.
                ConnState::Closed | ConnState::Gone => {}
            }
        }
        self.input(Input::Frame { conn, frame: Bytes::copy_from_slice(frame) });
    }

    pub(crate) fn binary(&mut self, conn: ConnId) {
        match self.clients.get(&conn).map(|client| &client.state) {
            Some(ConnState::Lobby(lobby)) => {
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
                LobbyOutput::Send(text) => client.receive(text.as_bytes(), &mut self.observed),
                LobbyOutput::Close(code) => client.close(code),
                LobbyOutput::Join(id, join) => {
                    client.state = ConnState::Engine;
                    let grant = match join.token.as_deref() {
                        None => Ok(Grant::debug()),
                        Some(token) => grant(token, self.now.wall),
                    };
                    let request = Box::new(JoinRequest { id, join: *join, grant });
                    self.input(Input::Join { conn, addr: AddrId(conn.0 % 3), request });
                }
                LobbyOutput::Reconnect(request) => {
                    client.state = ConnState::Engine;
                    self.input(Input::Reconnect { conn, addr: AddrId(conn.0 % 3), request });
                }
            }
        }
    }

    pub(crate) fn drop_socket(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get_mut(&conn) {
            client.state = ConnState::Gone;
        }
        self.input(Input::Closed { conn });
    }

    /// Resumes the membership of connection `old`, which may have received less than was sent, and repeats its
    /// unanswered requests.
    pub(crate) fn resume(&mut self, old: ConnId, how: ResumeOptions) {
        let Some(client) = self.clients.get(&old) else { return };
        let Some(mut membership) = client.membership.clone() else { return };
        membership.forget(how.behind);
        let sent = std::mem::take(&mut membership.sent);
        let ticket = (how.change)(&membership.ticket);
        let genuine = ticket == membership.ticket;
        let claims = TicketClaims::open(&self.config.ticket_key, &ticket);
        assert_eq!(claims.is_some(), genuine, "a ticket that was changed is none: {ticket}");
        let newest = genuine && self.tickets.get(&membership.mid) == Some(&ticket);
        let has_member = claims.as_ref().is_some_and(|claims| self.has_member(claims));
        self.attempts += 1;
        let attempt = if how.stale { 1 } else { self.attempts + 1 };
        let mut params = json!({
            "ticket": ticket, "attempt": attempt, "epoch": membership.epoch, "seq": membership.last,
            "n": membership.n.unwrap_or(0),
        });
        if how.ahead {
            params["seq"] = (membership.last + 1_000_000).into();
        }
        if how.snapshot {
            params["want"] = "snapshot".into();
        }
        let (mid, n) = (membership.mid, membership.n.unwrap_or(0));
        let conn = self.new_conn();
        let of_it = |client: &&Client| {
            client.membership.as_ref().is_some_and(|membership| membership.mid == mid)
        };
        let earlier = self.clients.values().filter(of_it);
        let (next_id, process) = (self.clients[&old].next_id, self.clients[&old].process);
        let place = (self.lobby(), self.processes);
        let client = Client::returning(place, next_id, earlier, membership);
        self.clients.insert(conn, client);
        let before = self.stats();
        self.call(conn, "reconnect", &params);
        match self.clients[&conn].refused.clone() {
            Some(reason) => {
                assert!(
                    matches!(self.clients[&conn].state, ConnState::Closed),
                    "refused and closed"
                );
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
                let good = newest && has_member && !how.stale;
                assert!(!(good && wrong), "the newest ticket is refused as {reason}");
            }
            None => {
                assert!(genuine && self.clients[&conn].is_seated(), "refused, or back");
                if process != self.processes {
                    let replayed = self.clients[&conn].messages.is_some();
                    let how = if replayed { "goes on" } else { "begins anew" };
                    self.observed.states.note("the log of another process", how);
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

    fn has_member(&mut self, claims: &TicketClaims) -> bool {
        match self.admin(AdminCommand::GetChannel(claims.channel.clone())) {
            Some(Ok(AdminReply::Channel(_, members))) => {
                members.iter().any(|member| member.mid == claims.mid)
            }
            _ => false,
        }
    }
}

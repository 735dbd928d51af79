//! Clients that come back.

use lianmai_protocol::message::session::{Outcome, Reconnect, ResumeReason, Resumed};
use lianmai_protocol::{CloseCode, RequestId};
use lianmai_signal_engine::{AddrId, ConnId, Input, ReconnectRequest, TicketClaims};
use serde_json::Value;

use super::{Client, Conn, World};
use crate::picture::Picture;

impl World {
    /// The request with which a client comes back.
    pub(crate) fn reconnect_request(&mut self, client: Client) -> Reconnect {
        let conn = self.conns.get_mut(&client.0).expect("a client");
        conn.attempt += 1;
        Reconnect {
            ticket: conn.ticket.clone(),
            attempt: conn.attempt,
            epoch: conn.joined.as_ref().expect("a joined client").epoch,
            seq: conn.last_seq,
            n: conn.n,
            want: None,
        }
    }

    /// As if the last events had not arrived; only for a connection that has ended.
    pub(crate) fn forget_events(&mut self, client: Client, events: u64) {
        let conn = self.conns.get_mut(&client.0).expect("a client");
        let first = conn.joined.as_ref().map_or(0, |joined| joined.seq);
        let back = events.min(conn.last_seq - first);
        if !conn.is_seated() && back > 0 {
            conn.last_seq -= back;
            conn.picture = None;
        }
    }

    /// Comes back with this request, on a new connection.
    pub(crate) fn send_reconnect(&mut self, client: Client, reconnect: Reconnect) -> Client {
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        let old = &self.conns[&client.0];
        let before = Conn {
            joined: old.joined.clone(),
            picture: old.picture.clone(),
            last_seq: old.last_seq,
            ticket: old.ticket.clone(),
            k: old.k,
            attempt: old.attempt,
            n: old.n,
            next_id: old.next_id,
            ..Conn::default()
        };
        // Greater than any earlier id, from whichever of its connections a test comes back.
        let id = before.next_id.max(self.last_conn * 1_000);
        let mut state = Conn { next_id: id + 1, first_id: id, n: before.n, ..Conn::default() };
        state.attempt = before.attempt;
        state.methods.insert(id, "reconnect");
        state.before = Some(Box::new(before));
        self.conns.insert(conn, state);
        let claims = TicketClaims::open(&self.config.ticket_key, &reconnect.ticket)
            .expect("a genuine ticket");
        let request = ReconnectRequest { id: RequestId(id), reconnect, claims };
        let addr = AddrId::default();
        self.input(Input::Reconnect { conn, addr, request: Box::new(request) });
        Client(conn)
    }

    /// Comes back as a client that has lost its socket, and is accepted.
    #[track_caller]
    pub(crate) fn resume(&mut self, client: Client) -> (Client, Resumed) {
        let reconnect = self.reconnect_request(client);
        let again = self.send_reconnect(client, reconnect);
        let resumed = self.conns[&again.0].resumed.clone().expect("a reconnect is answered");
        assert_ne!(resumed.outcome, Outcome::Refused, "{:?}", resumed.reason);
        (again, resumed)
    }

    /// Comes back and is refused.
    #[track_caller]
    pub(crate) fn refused(&mut self, client: Client) -> ResumeReason {
        let reconnect = self.reconnect_request(client);
        self.refused_with(client, reconnect)
    }

    #[track_caller]
    pub(crate) fn refused_with(&mut self, client: Client, reconnect: Reconnect) -> ResumeReason {
        let again = self.send_reconnect(client, reconnect);
        let state = &self.conns[&again.0];
        let resumed = state.resumed.clone().expect("a reconnect is answered");
        assert_eq!(resumed.outcome, Outcome::Refused);
        assert_eq!(state.closed, Some(CloseCode::JOIN_REFUSED));
        let reason = resumed.reason.expect("a reason");
        assert_eq!(resumed.action, Some(reason.action()));
        assert_eq!(state.closing.clone().expect("closing").action, reason.action());
        reason
    }
}

impl Conn {
    /// A `reconnect` was answered.
    pub(super) fn check_resumed(&mut self, value: &Value) {
        let resumed: Resumed = serde_json::from_value(value.clone()).expect("Resumed");
        let before = self.before.take().expect("a client that comes back");
        self.ticket = before.ticket;
        self.log.push(format!("reconnect {}", resumed.outcome));
        if resumed.outcome != Outcome::Refused {
            (self.joined, self.picture, self.last_seq) =
                (before.joined, before.picture, before.last_seq);
            self.ticket = resumed.ticket.clone().expect("a ticket");
            self.k = resumed.k.expect("a number");
        }
        if let Some(snapshot) = &resumed.snapshot {
            assert_eq!(resumed.outcome, Outcome::Snapshot);
            if self.joined.as_ref().is_some_and(|joined| joined.epoch != snapshot.epoch) {
                self.n = 0;
            }
            self.last_seq = snapshot.seq;
            self.picture = Some(Picture::of(snapshot));
            self.joined = Some((**snapshot).clone());
        }
        self.n += resumed.messages_lost;
        self.resumed = Some(resumed);
    }
}

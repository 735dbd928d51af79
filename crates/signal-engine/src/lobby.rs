//! A connection before it has joined. Comes in: frames. Goes out: answers, a close, or one well-formed `join` or
//! `reconnect`. Its budgets are small, since the client has no verified token yet.
//!
//! Deliberately absent: tokens, channels, and the clock: the shell ends a lobby that takes longer than
//! [`LOBBY_MS`] with [`Lobby::timeout`].

use lianmai_protocol::codec::{self, Element};
use lianmai_protocol::message::notice::Closing;
use lianmai_protocol::message::session::{Join, Outcome, Reconnect, ResumeReason, Resumed};
use lianmai_protocol::message::{Call, Notice};
use lianmai_protocol::{Action, CloseCode, ErrorName, RequestId, RpcError};

use crate::input::ReconnectRequest;
use crate::ticket::{TicketClaims, TicketKey};

/// Milliseconds that a connection has to join (SES-3).
pub const LOBBY_MS: u64 = 10_000;
/// Bytes of frames that a connection may send before it joined (SES-3).
pub const LOBBY_BYTES: usize = 16 * 1024;
/// Refused requests after which a connection that has not joined is closed.
pub const LOBBY_REFUSALS: u32 = 8;

/// An order of the lobby to the shell.
#[derive(Clone, Debug)]
pub enum LobbyOutput {
    /// Send this text.
    Send(String),
    /// Close; nothing follows.
    Close(CloseCode),
    /// Check the token of this join and hand it to the shard of its channel; nothing follows.
    Join(RequestId, Box<Join>),
    /// Hand this to the shard of the channel that its ticket names; nothing follows.
    Reconnect(Box<ReconnectRequest>),
}

/// State of a connection that has not joined.
#[derive(Debug)]
pub struct Lobby {
    tickets: TicketKey,
    bytes: usize,
    refusals: u32,
}

impl Lobby {
    /// The state of a new connection. `tickets` is the key of [`crate::EngineConfig::ticket_key`].
    #[must_use]
    pub fn new(tickets: TicketKey) -> Self {
        Lobby { tickets, bytes: 0, refusals: 0 }
    }

    /// Handles one text frame.
    pub fn frame(&mut self, frame: &[u8]) -> Vec<LobbyOutput> {
        self.bytes += frame.len();
        if self.bytes > LOBBY_BYTES {
            return closing(CloseCode::JOIN_TIMEOUT);
        }
        let elements = match codec::decode_client_frame(frame) {
            Ok(elements) => elements,
            Err(refused) => return self.refuse_frame(&refused.0),
        };
        if let [Element::Request(request)] = &elements[..]
            && let Call::Join(join) = &request.call
        {
            return vec![LobbyOutput::Join(request.id, Box::new(join.clone()))];
        }
        if let [Element::Request(request)] = &elements[..]
            && let Call::Reconnect(reconnect) = &request.call
        {
            return self.reconnect(request.id, reconnect);
        }
        let mut out = Vec::new();
        for element in elements {
            out.push(self.refuse_element(element));
            if self.refusals >= LOBBY_REFUSALS {
                out.extend(closing(CloseCode::JOIN_TIMEOUT));
                break;
            }
        }
        out
    }

    /// A client without a genuine ticket learns nothing, not even whether the channel exists (RES-4).
    fn reconnect(&mut self, id: RequestId, reconnect: &Reconnect) -> Vec<LobbyOutput> {
        match TicketClaims::open(&self.tickets, &reconnect.ticket) {
            Some(claims) => {
                let reconnect = reconnect.clone();
                vec![LobbyOutput::Reconnect(Box::new(ReconnectRequest { id, reconnect, claims }))]
            }
            None => {
                let [answer, notice] = refused_resume(id, ResumeReason::Invalid, None);
                vec![
                    LobbyOutput::Send(answer),
                    LobbyOutput::Send(notice),
                    LobbyOutput::Close(CloseCode::JOIN_REFUSED),
                ]
            }
        }
    }

    /// The frame was not a text frame.
    #[must_use]
    pub fn binary(&self) -> Vec<LobbyOutput> {
        closing(CloseCode::PROTOCOL_VIOLATION)
    }

    /// The time to join is over.
    #[must_use]
    pub fn timeout(&self) -> Vec<LobbyOutput> {
        closing(CloseCode::JOIN_TIMEOUT)
    }

    fn refuse_frame(&mut self, name: &ErrorName) -> Vec<LobbyOutput> {
        self.refusals += 1;
        let mut out = vec![LobbyOutput::Send(codec::encode_error(None, &name.clone().into()))];
        if is_fatal(name) {
            out.extend(closing(CloseCode::PROTOCOL_VIOLATION));
        } else if self.refusals >= LOBBY_REFUSALS {
            out.extend(closing(CloseCode::JOIN_TIMEOUT));
        }
        out
    }

    fn refuse_element(&mut self, element: Element) -> LobbyOutput {
        self.refusals += 1;
        LobbyOutput::Send(match element {
            Element::Refused { id, error } => codec::encode_error(id, &error),
            Element::Request(request) => {
                let error = match request.call {
                    Call::Join(_) | Call::Reconnect(_) => RpcError::new(ErrorName::BadBatch)
                        .message("A join or reconnect comes alone in its frame."),
                    _ => ErrorName::NotJoined.into(),
                };
                codec::encode_error(Some(request.id), &error)
            }
        })
    }
}

/// Whether a refused frame ends the connection, because the two sides may be out of step (FRM-7).
pub(crate) fn is_fatal(name: &ErrorName) -> bool {
    !matches!(name, ErrorName::BadBatch)
}

/// The `closing` notice of a code, as text: with its default action unless another is given.
pub(crate) fn closing_notice(
    code: CloseCode,
    action: Option<Action>,
    retry_after_ms: Option<u64>,
) -> String {
    let row = code.row().expect("only codes of the table are sent");
    codec::encode_notice(&Notice::Closing(Closing {
        code,
        reason: row.name.to_owned(),
        action: action.unwrap_or_else(|| row.action.clone()),
        url: None,
        retry_after_ms,
    }))
}

/// The answer of a `reconnect` that is refused, and the notice that follows it, as text.
pub(crate) fn refused_resume(
    id: RequestId,
    reason: ResumeReason,
    retry_after_ms: Option<u64>,
) -> [String; 2] {
    let action = reason.action();
    let answer = Resumed {
        outcome: Outcome::Refused,
        reason: Some(reason),
        action: Some(action.clone()),
        ticket: None,
        k: None,
        replayed: 0,
        messages: 0,
        messages_lost: 0,
        restore: false,
        snapshot: None,
    };
    let notice = closing_notice(CloseCode::JOIN_REFUSED, Some(action), retry_after_ms);
    [codec::encode_result(id, &answer), notice]
}

fn closing(code: CloseCode) -> Vec<LobbyOutput> {
    vec![LobbyOutput::Send(closing_notice(code, None, None)), LobbyOutput::Close(code)]
}

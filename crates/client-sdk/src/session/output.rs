//! What comes out of a session, in one ordered queue: what the host must do, and what the app must
//! hear.

use crate::prelude::*;
use alloc::sync::Arc;
use core::fmt;

use lianmai_protocol::message::media::{Published, Subscribed};
use lianmai_protocol::{Cid, Mid, SessionId, UserId};

use super::change::Change;
use super::event::Event;
use super::input::{CallId, SocketId};
use super::picture::Picture;
use crate::error::CallError;

/// One output. The order is the contract: every event up to the one that a command caused comes before
/// that command's settlement.
#[derive(Clone)]
#[non_exhaustive]
pub enum Output {
    /// Open a socket with sub-protocol `lianmai.v1`. An earlier one was closed before.
    Connect {
        /// Its number, for everything that is said of it.
        socket: SocketId,
        /// Where.
        url: String,
    },
    /// Send one text frame.
    Send {
        /// On which socket; always the one of the last `Connect`. Dropped where that is gone.
        socket: SocketId,
        /// The frame.
        text: String,
    },
    /// Close the socket, behind what was sent on it. Nothing that is reported of it later matters.
    CloseSocket {
        /// Which one; always that of the last `Connect`. It may be gone already.
        socket: SocketId,
        /// Code of the close frame.
        code: u16,
    },
    /// The picture of the channel changed. [`super::Session::picture`] shows it already; a copy that is kept
    /// elsewhere follows by [`Change::apply`], as [`super::Delivery`] does.
    Picture(Arc<Change>),
    /// The app hears this.
    Event(Event),
    /// A call is over.
    Settled {
        /// The call.
        call: CallId,
        /// How it ended.
        outcome: Result<Reply, CallError>,
    },
}

impl fmt::Debug for Output {
    /// Without payload: frames hold tokens, and an event may hold a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Output::Connect { socket, url } => write!(f, "Connect({}, {url})", socket.0),
            Output::Send { socket, text } => write!(f, "Send({}, {} bytes)", socket.0, text.len()),
            Output::CloseSocket { socket, code } => write!(f, "CloseSocket({}, {code})", socket.0),
            Output::Picture(_) => f.write_str("Picture"),
            Output::Event(event) => write!(f, "Event({})", event.kind().name()),
            Output::Settled { call, outcome } => write!(f, "Settled({}, {outcome:?})", call.0),
        }
    }
}

/// What a call that succeeded is answered.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Reply {
    /// `join`.
    Joined(Box<Joined>),
    /// `publish`. Holds the push URL, a secret.
    Published(Published),
    /// `subscribe`. Holds a pull URL, a secret.
    Subscribed(Subscribed),
    /// `sendMessage`.
    MessageSent {
        /// Different uids that a targeted message names; 0 for a message to all.
        delivered: u64,
    },
    /// `renewToken`.
    TokenRenewed {
        /// Milliseconds until the new token ends the membership; `None` when it never does.
        expires_in_ms: Option<u64>,
    },
    /// Every other command.
    Done,
}

impl fmt::Debug for Reply {
    /// The kind only: replies hold URLs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reply::Joined(_) => "Joined",
            Reply::Published(_) => "Published",
            Reply::Subscribed(_) => "Subscribed",
            Reply::MessageSent { .. } => "MessageSent",
            Reply::TokenRenewed { .. } => "TokenRenewed",
            Reply::Done => "Done",
        })
    }
}

/// What `join` answers to the app.
#[derive(Clone, Debug, PartialEq)]
pub struct Joined {
    /// The incarnation of the channel.
    pub cid: Cid,
    /// The uid, given or chosen by the server.
    pub uid: UserId,
    /// The membership.
    pub mid: Mid,
    /// The session; no secret.
    pub session_id: SessionId,
    /// Names the deployment: another one holds other channels.
    pub deployment_id: String,
    /// The channel as it was on entering.
    pub picture: Picture,
}

//! The outputs of a session. In: the session's decisions. Out: one ordered queue of actions for the host and results
//! for the app. Deliberately absent: the execution of the actions.

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

/// One output. The order is part of the contract: every event up to the one that a command caused comes before that
/// command's settlement.
#[derive(Clone)]
#[non_exhaustive]
pub enum Output {
    /// Open a socket with sub-protocol `lianmai.v1`. The session has closed an earlier one before.
    Connect {
        /// The number of the new socket, which all later inputs and outputs about it contain.
        socket: SocketId,
        /// The address.
        url: String,
    },
    /// Send one text frame.
    Send {
        /// The socket: always that of the last `Connect`. If it is gone, the host drops the frame.
        socket: SocketId,
        /// The frame.
        text: String,
    },
    /// Close the socket after sending everything that was passed to it. The session ignores later reports about it.
    CloseSocket {
        /// The socket: always that of the last `Connect`. It may be gone already.
        socket: SocketId,
        /// Code of the close frame.
        code: u16,
    },
    /// The picture of the channel changed. [`super::Session::picture`] has the change already. A separate copy applies
    /// it with [`Change::apply`], as [`super::Delivery`] does.
    Picture(Arc<Change>),
    /// The app receives this event.
    Event(Event),
    /// A call has its outcome.
    Settled {
        /// The call.
        call: CallId,
        /// The outcome.
        outcome: Result<Reply, CallError>,
    },
}

impl fmt::Debug for Output {
    /// Without payload: frames contain tokens, and an event may contain a URL.
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

/// The result of a successful call.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Reply {
    /// `join`.
    Joined(Box<Joined>),
    /// `publish`. Contains the push URL, which is secret.
    Published(Published),
    /// `subscribe`. Contains a pull URL, which is secret.
    Subscribed(Subscribed),
    /// `sendMessage`.
    MessageSent {
        /// Number of different uids that a targeted message names; 0 for a message to all.
        delivered: u64,
    },
    /// `renewToken`.
    TokenRenewed {
        /// Milliseconds until the new token expires and ends the membership; `None` if it never expires.
        expires_in_ms: Option<u64>,
    },
    /// Every other command.
    Done,
}

impl fmt::Debug for Reply {
    /// The variant only: replies contain URLs.
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

/// The result of `join` for the app.
#[derive(Clone, Debug, PartialEq)]
pub struct Joined {
    /// The incarnation of the channel.
    pub cid: Cid,
    /// The uid, from the app or chosen by the server.
    pub uid: UserId,
    /// Id of the membership.
    pub mid: Mid,
    /// Id of the session; not a secret.
    pub session_id: SessionId,
    /// Id of the deployment. Another deployment has other channels.
    pub deployment_id: String,
    /// The channel as of the `join`.
    pub picture: Picture,
}

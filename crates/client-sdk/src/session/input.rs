//! The inputs of a session. In: calls of the app, and reports of the host about sockets, in any order. Out: the same,
//! as one type. Deliberately absent: their handling. The contract is at the top of `mod.rs`.

use crate::prelude::*;
use core::fmt;

use lianmai_protocol::message::Call;

/// Identifies one call. The host chooses it; it is unique among the calls that are not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Identifies one socket. The session chooses it with `Connect` and never uses a number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u64);

/// One input. A report of the host about a socket contains its id and may come late: a report about a socket other than
/// the present one is counted and changes nothing.
#[derive(Clone)]
pub enum Input<'a> {
    /// The app makes a call. It is settled exactly once with [`super::Output::Settled`].
    Command {
        /// The id of the call.
        call: CallId,
        /// The request in the form of the wire protocol. The session refuses only requests that would make the server
        /// close the connection, and `reconnect` and `ping`, which it sends itself.
        command: Call,
    },
    /// A socket that `Connect` asked for is open and speaks the sub-protocol.
    SocketOpened {
        /// The socket.
        socket: SocketId,
    },
    /// A text frame arrived.
    Frame {
        /// The socket.
        socket: SocketId,
        /// Its text.
        text: &'a str,
    },
    /// A socket is gone, or could not be opened. This is the last report about it.
    SocketClosed {
        /// The socket.
        socket: SocketId,
        /// Code of the close frame; 1006 when there was none.
        code: u16,
        /// Reason of the close frame, or the error text of the transport.
        reason: String,
    },
    /// The time of [`super::Session::next_deadline`] has come. Harmless at any other time.
    Timeout,
    /// The host stopped reading the socket because the app is slow. The session does not count the silence as a dead
    /// server.
    ReadingPaused,
    /// The host reads the socket again.
    ReadingResumed,
    /// The socket received data that no server sends (CON-12): a binary frame, a frame that is too long, or broken
    /// framing.
    Unreadable {
        /// The socket.
        socket: SocketId,
    },
    /// The system reports a change of the network: connections over the old network are dead. It ends the wait before
    /// the next attempt, but for the part that the server asked for.
    NetworkChanged,
    /// The app is shown again and may have been frozen, or it is hidden and may be frozen soon. The session checks the
    /// connection with a ping. Without a connection it does as for [`Input::NetworkChanged`].
    Foreground,
}

impl Input<'_> {
    /// The socket that this input reports about.
    pub(super) fn socket(&self) -> Option<SocketId> {
        match self {
            Input::SocketOpened { socket }
            | Input::Frame { socket, .. }
            | Input::SocketClosed { socket, .. }
            | Input::Unreadable { socket } => Some(*socket),
            _ => None,
        }
    }
}

impl fmt::Debug for Input<'_> {
    /// Without payload: frames contain tickets and URLs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Input::Command { call, command } => {
                write!(f, "Command({}, {})", call.0, command.method())
            }
            Input::SocketOpened { socket } => write!(f, "SocketOpened({})", socket.0),
            Input::Frame { socket, text } => {
                write!(f, "Frame({}, {} bytes)", socket.0, text.len())
            }
            Input::SocketClosed { socket, code, reason } => {
                write!(f, "SocketClosed({}, {code}, {reason:?})", socket.0)
            }
            Input::Timeout => f.write_str("Timeout"),
            Input::ReadingPaused => f.write_str("ReadingPaused"),
            Input::ReadingResumed => f.write_str("ReadingResumed"),
            Input::Unreadable { socket } => write!(f, "Unreadable({})", socket.0),
            Input::NetworkChanged => f.write_str("NetworkChanged"),
            Input::Foreground => f.write_str("Foreground"),
        }
    }
}

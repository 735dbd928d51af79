//! What goes into a session: calls of the app, and what the host reports of sockets. The contract is at the top of
//! `mod.rs`.

use crate::prelude::*;
use core::fmt;

use lianmai_protocol::message::Call;

/// Names one call; chosen by the host, unique among calls that are not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Names one socket: the session numbers what it asks for with `Connect`, and never uses a number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u64);

/// One input. What a host reports of a socket names it, and may come late: what is about another socket
/// than the present one is counted and changes nothing.
#[derive(Clone)]
pub enum Input<'a> {
    /// The app calls. It is settled exactly once with [`super::Output::Settled`].
    Command {
        /// The call.
        call: CallId,
        /// What is asked, in the words of the wire. The session checks only what the server would answer by closing
        /// the connection; `reconnect` and `ping` are its own, and refused.
        command: Call,
    },
    /// A socket that `Connect` asked for is open and speaks the sub-protocol.
    SocketOpened {
        /// Which one.
        socket: SocketId,
    },
    /// A text frame came.
    Frame {
        /// On which socket.
        socket: SocketId,
        /// Its text.
        text: &'a str,
    },
    /// A socket is gone, or could not be opened. Nothing more comes of it.
    SocketClosed {
        /// Which one.
        socket: SocketId,
        /// Code of the close frame; 1006 when there was none.
        code: u16,
        /// Its text, or what the transport said.
        reason: String,
    },
    /// The moment of [`super::Session::next_deadline`] came. Harmless at any other time.
    Timeout,
    /// The host stopped reading the socket because the app is slow: silence is not
    /// held against the server.
    ReadingPaused,
    /// The host reads again.
    ReadingResumed,
    /// Something came that no server sends (CON-12): a binary frame, one that is too long, broken framing.
    Unreadable {
        /// On which socket.
        socket: SocketId,
    },
    /// The system says that the network is another one: what hung on the old one is dead.
    NetworkChanged,
    /// The app is shown again and may have been frozen meanwhile, or it is hidden and may be frozen soon: a
    /// sign of life is due.
    Foreground,
}

impl Input<'_> {
    /// The socket that this is a report of.
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
    /// Without payload: frames hold tickets and URLs.
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

//! Where the connection is. What it is for is in `stay.rs`; no flags beside the two that could contradict
//! them.

use crate::prelude::*;
use lianmai_protocol::MonoTime;
use lianmai_protocol::message::session::ResumeReason;

use super::liveness::Liveness;

/// The connection of a session.
///
/// ```text
///            join             due, network          SocketOpened               answer
///   Idle ----------> (now)  ----------> Connecting ---------------> Entering ----------> Joined
///    ^      Backoff --------------------^  |                           |                  |   |
///    |       ^  ^                          | SocketClosed,             | lost, gap,       |   | `closing`
///    |       |  |                          | timeout                   | timeout, refused |   v
///    |       |  +--------------------------+---------------------------+------------------+  Closing
///    |       |       (the membership is kept, or the join runs on)        lost, gap,      |   |
///    |       |                                                            dead, frozen    |   |
///    |       +---------------------------------------------------------------------------+---+
///    |                                                                     come back          |
///    +----------------------------------------------------------------------------------------+
///      leave, terminal close, refused without a way back, join over time, given up
/// ```
///
/// In Idle, and there only, the session stays for nothing ([`super::stay::Stay::Out`]). Everything that
/// leads to Idle settles every call.
pub(super) enum State {
    /// No socket, and none wanted.
    Idle,
    /// No socket until then.
    Backoff {
        /// The next attempt.
        until: MonoTime,
    },
    /// A socket is being opened.
    Connecting {
        /// The attempt ends here.
        give_up: MonoTime,
    },
    /// The first request went out; nothing else until its answer.
    Entering {
        /// What was asked.
        asked: Asked,
        /// Under which id.
        id: u64,
        /// The attempt ends here.
        give_up: MonoTime,
    },
    /// In the channel.
    Joined(Liveness),
    /// The server said `closing`; the socket still lives.
    Closing(Farewell),
}

/// What an entering connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// `join`: the first, or anew after the old membership was refused.
    Join,
    /// `reconnect`.
    Reconnect,
    /// `leave`, which is all that this connection is for.
    Leave,
}

/// How the server ends a connection.
pub(super) struct Farewell {
    pub(super) code: u16,
    pub(super) reason: String,
    pub(super) then: Then,
    /// The session closes by itself here.
    pub(super) give_up: MonoTime,
}

/// What comes after a farewell.
pub(super) enum Then {
    /// Nothing: the membership is over.
    End,
    /// Back, no sooner than after `at_least`.
    Back {
        at_least: u64,
        /// As a new membership, and why.
        anew: Option<ResumeReason>,
    },
}

impl State {
    /// Whether the host holds a socket.
    pub(super) fn has_socket(&self) -> bool {
        !matches!(self, State::Idle | State::Backoff { .. })
    }

    /// Whether the server ended it all.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self, State::Closing(Farewell { then: Then::End, .. }))
    }
}

/// The connection as an app sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Not in a channel. `join` may be called.
    #[default]
    Disconnected,
    /// `join` is on its way.
    Connecting,
    /// In the channel.
    Connected,
    /// In the channel, and without a connection: the session is on its way back. Calls wait for it.
    Reconnecting,
    /// The server is about to end the membership.
    Disconnecting,
}

/// Why the connection changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum StateReason {
    /// `join` was called.
    JoinCalled,
    /// `join` succeeded.
    Joined,
    /// `join` was refused.
    JoinRefused,
    /// The session came back to its membership.
    Resumed,
    /// The session came back as a new membership.
    Rejoined,
    /// The server refused the way back.
    Refused,
    /// Every address belongs to another deployment.
    WrongDeployment,
    /// No connection for too long.
    GaveUp,
    /// `leave`.
    Left,
    /// No socket, or no answer of `join` or `leave`, in time.
    Timeout,
    /// The server said that it closes.
    ServerClosing,
    /// The server closed, or the network did.
    SocketClosed,
    /// Something in the stream of events was missing or could not be read.
    Gap,
    /// The server was silent for too long.
    DeadPeer,
    /// The host says that the network changed.
    NetworkChanged,
    /// The host was frozen.
    Woken,
}

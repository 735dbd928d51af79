//! The state of the connection. In: nothing; this file only defines types. Out: the state, and the view of it that the
//! app has. Deliberately absent: the phase of the session (`phase.rs`), and any flag that could contradict either
//! of the two.

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
/// The phase of the session is [`super::phase::Phase::Out`] in `Idle` and in no other state. Every transition to `Idle`
/// settles every call.
pub(super) enum State {
    /// No socket, and none wanted.
    Idle,
    /// No socket; the next attempt is at `until`.
    Backoff {
        /// Time of the next attempt.
        until: MonoTime,
    },
    /// A socket is being opened.
    Connecting {
        /// The attempt fails at this time.
        give_up: MonoTime,
    },
    /// The first request was sent. Nothing else is sent before its answer.
    Entering {
        /// The request that was sent.
        asked: FirstRequest,
        /// Its id.
        id: u64,
        /// The attempt fails at this time.
        give_up: MonoTime,
    },
    /// In the channel.
    Joined(Liveness),
    /// The server sent `closing`; the socket is still open.
    Closing(CloseNotice),
}

/// The first request of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstRequest {
    /// `join`: of the app, or in place of a membership that cannot be resumed.
    Join,
    /// `reconnect`.
    Reconnect,
    /// `leave`, the only purpose of this connection.
    Leave,
}

/// The server's announcement that it closes the connection.
pub(super) struct CloseNotice {
    pub(super) code: u16,
    pub(super) reason: String,
    pub(super) then: AfterClose,
    /// The session closes the socket at this time if the server has not.
    pub(super) give_up: MonoTime,
}

/// What the session does after the close.
pub(super) enum AfterClose {
    /// Ends the membership.
    End,
    /// Reconnects, after at least `at_least` milliseconds.
    Back {
        at_least: u64,
        /// `Some` if a new membership is needed, with the reason.
        anew: Option<ResumeReason>,
    },
}

impl State {
    /// Whether the host has a socket.
    pub(super) fn has_socket(&self) -> bool {
        !matches!(self, State::Idle | State::Backoff { .. })
    }

    /// Whether the server is ending the membership.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self, State::Closing(CloseNotice { then: AfterClose::End, .. }))
    }
}

/// The state of the connection as the app sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Not in a channel. `join` may be called.
    #[default]
    Disconnected,
    /// `join` was called and has no outcome yet.
    Connecting,
    /// In the channel.
    Connected,
    /// In the channel, without a connection: the session reconnects. Calls wait for the new connection.
    Reconnecting,
    /// The server is about to end the membership.
    Disconnecting,
}

/// The reason for a change of the connection state.
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
    /// The server refused to resume or to join again.
    Refused,
    /// Every address belongs to another deployment.
    WrongDeployment,
    /// There was no connection for too long.
    GaveUp,
    /// `leave` was called.
    Left,
    /// A socket, or an answer to the first request, did not come in time.
    Timeout,
    /// The server announced that it closes the connection.
    ServerClosing,
    /// The server or the network closed the socket.
    SocketClosed,
    /// An event was missing, or a message could not be read.
    Gap,
    /// The server was silent for too long.
    DeadPeer,
    /// The host reported a change of the network.
    NetworkChanged,
    /// The host was frozen.
    Woken,
}

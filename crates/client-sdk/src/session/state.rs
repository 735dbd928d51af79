//! Where the connection is. One value, no flags beside it that could contradict it.

use lianmai_protocol::MonoTime;

use super::input::CallId;
use super::liveness::Liveness;

/// The connection of a session.
///
/// ```text
///            join                 SocketOpened            answer of join
///   Idle ----------> Connecting ----------------> Joining ----------------> Joined
///    ^                   |                           |                        |
///    |                   | SocketClosed, timeout,    | error, timeout,        | `closing` notice
///    |                   | leave                     | gap, SocketClosed      v
///    |                   |                           |                     Closing
///    |                   v                           v                        | SocketClosed,
///    +-------------------+---------------------------+------------------------+ timeout
///    ^                                                                        |
///    +-------------- leave answered, gap, dead peer, SocketClosed ------------+ (from Joined)
/// ```
///
/// `closing` may come in Joining as well. Everything that leads to Idle settles every call. The picture
/// of the channel exists in Joined and in a Closing that came from there.
pub(super) enum State {
    /// No socket.
    Idle,
    /// A socket is being opened. The join waits to be sent.
    Connecting {
        /// The call of `join`: already in the request queue.
        join: CallId,
        /// The attempt ends here.
        give_up: MonoTime,
    },
    /// `join` was sent.
    Joining,
    /// In the channel.
    Joined(Liveness),
    /// The server said `closing`; the socket still lives.
    Closing(Farewell),
}

/// What the `closing` notice said.
pub(super) struct Farewell {
    pub(super) code: u16,
    pub(super) reason: String,
    pub(super) terminal: bool,
    /// The session closes by itself here.
    pub(super) give_up: MonoTime,
}

impl State {
    pub(super) fn public(&self) -> ConnectionState {
        match self {
            State::Idle => ConnectionState::Disconnected,
            State::Connecting { .. } | State::Joining => ConnectionState::Connecting,
            State::Joined(_) => ConnectionState::Connected,
            State::Closing(_) => ConnectionState::Disconnecting,
        }
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
    /// The server is about to close the connection.
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
}

//! Everything that an app can hear. Comes in: channel events, notices and what the session finds out by
//! itself. Deliberately absent: events that the app's own commands caused; their answers tell it.

use crate::prelude::*;
use lianmai_protocol::message::event::{
    ChannelUpdate, ClientJoin, ClientLeave, ClientUpdate, LiveRoomClose, MuteChange, RoleChanged,
    StreamChange,
};
use lianmai_protocol::message::notice::{
    Closing, Kicked, NetworkQuality, ServerRestarting, SyncDone,
};
use lianmai_protocol::message::task::TaskStatus;
use lianmai_protocol::{MediaKind, UserId};

use super::outcome::{Missed, ReconnectOutcome};
use super::state::{ConnectionState, StateReason};

macro_rules! events {
    ($( $(#[$meta:meta])* $variant:ident $body:tt = $name:literal; )+) => {
        /// Something that the app hears.
        ///
        /// `RoleChanged`, `ClientUpdate`, `Muted` and `Unmuted` that name the app's own uid, and
        /// `Published` and `Unpublished`, tell of a change of its own state that none of its waiting
        /// calls caused: an admin did it, the server crashed, the session put it back after that, or
        /// a call that had been given up took effect after all.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum Event {
            $( $(#[$meta])* $variant $body, )+
        }

        /// What an [`Event`] is, to register handlers by.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum EventKind {
            /// Every kind, for handlers that want all.
            All,
            $( $(#[$meta])* $variant, )+
        }

        impl Event {
            /// What this is; never [`EventKind::All`].
            #[must_use]
            pub fn kind(&self) -> EventKind {
                match self { $( Event::$variant { .. } => EventKind::$variant, )+ }
            }
        }

        impl EventKind {
            /// The camel-case name: that of the wire where there is one.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    EventKind::All => "*",
                    $( EventKind::$variant => $name, )+
                }
            }
        }
    };
}

events! {
    /// The socket is open.
    Open {} = "open";
    /// The connection changed its state.
    ConnectionStateChange {
        /// What it is now.
        state: ConnectionState,
        /// Why.
        reason: StateReason,
    } = "connectionStateChange";
    /// The session came back after its connection was lost. Whatever the gap changed was told before:
    /// missed events, or the difference of the pictures, then changes of the app's own state, then
    /// URLs that are other ones, then the answers of calls that were sent again.
    Reconnected {
        /// How.
        outcome: ReconnectOutcome,
        /// Messages to all that the app may have missed; `None` when it missed none.
        missed: Option<Missed>,
        /// Messages to the app alone that the server could not keep.
        messages_lost: u64,
    } = "reconnected";
    /// The membership of the app ended, by `leave` too. The picture is empty now. A connection that is
    /// lost is not the end: the session comes back by itself, see `ConnectionStateChange`.
    Disconnected {
        /// Close code; 1000 after `leave`, 1006 when no connection could be had for too long.
        code: u16,
        /// Name of the code: `left`, `kicked`, `gaveUp`, ...; or of the error that refused the way back.
        reason: String,
        /// Whether coming back is pointless or unwanted.
        terminal: bool,
    } = "disconnected";
    /// The server is about to close the connection.
    Closing(Closing) = "closing";
    /// A call had no outcome in time. Its settlement follows.
    SendCommandOverTime {
        /// The method on the wire.
        method: &'static str,
    } = "sendCommandOverTime";
    /// A broadcaster became visible.
    ClientJoin(ClientJoin) = "clientJoin";
    /// A broadcaster is visible no longer.
    ClientLeave(ClientLeave) = "clientLeave";
    /// Name or attributes of a broadcaster changed.
    ClientUpdate(ClientUpdate) = "clientUpdate";
    /// Attributes of the channel changed.
    ChannelUpdate(ChannelUpdate) = "channelUpdate";
    /// A role changed.
    RoleChanged(RoleChanged) = "roleChanged";
    /// A member publishes a kind: subscribe to play it.
    StreamAdded(StreamChange) = "streamAdded";
    /// A member publishes a kind no longer; the subscription to it ended.
    StreamRemoved(StreamChange) = "streamRemoved";
    /// Own media is published after all, by a call that had been given up.
    Published {
        /// The kind.
        media_type: MediaKind,
    } = "published";
    /// Own media was taken back from outside; its push URL may be dead.
    Unpublished {
        /// The kind.
        media_type: MediaKind,
    } = "unpublished";
    /// A member muted a kind.
    Muted(MuteChange) = "muted";
    /// A member unmuted a kind.
    Unmuted(MuteChange) = "unmuted";
    /// Somebody said something.
    Message {
        /// Who; may be an audience member.
        uid: UserId,
        /// What.
        data: String,
        /// Whether it was said to the app and few others, not to all.
        targeted: bool,
    } = "message";
    /// A push task changed its state.
    RtmpTasksStatus(TaskStatus) = "rtmpTasksStatus";
    /// The channel ended for all; `Disconnected` follows.
    LiveRoomClose(LiveRoomClose) = "liveRoomClose";
    /// The app was removed; `Disconnected` follows.
    Kicked(Kicked) = "kicked";
    /// A URL that the app holds was replaced: by the server, or because the session had to publish or
    /// subscribe again. Use this one. Holds a URL, a secret.
    SyncDone(SyncDone) = "syncDone";
    /// The token ends soon: renew it.
    TokenWillExpire {
        /// Milliseconds until the membership ends.
        expires_in_ms: u64,
    } = "tokenWillExpire";
    /// The server is about to restart.
    ServerRestarting(ServerRestarting) = "serverRestarting";
    /// How many are in the channel, audience included.
    MemberCount {
        /// So many.
        count: u64,
    } = "memberCount";
    /// How well a stream travels.
    NetworkQuality(NetworkQuality) = "networkQuality";
    /// A message of a newer server.
    Unknown {
        /// Its name.
        method: String,
        /// Its parameters as JSON.
        params: String,
    } = "unknown";
}

//! Everything that an app can hear. Comes in: channel events, notices and what the session finds out by
//! itself. Deliberately absent: events that the app's own commands caused; their answers tell it.

use lianmai_protocol::message::event::{
    ChannelUpdate, ClientJoin, ClientLeave, ClientUpdate, LiveRoomClose, MuteChange, RoleChanged,
    StreamChange,
};
use lianmai_protocol::message::notice::{
    Closing, Kicked, NetworkQuality, ServerRestarting, SyncDone,
};
use lianmai_protocol::message::task::TaskStatus;
use lianmai_protocol::{MediaKind, UserId};

use super::state::{ConnectionState, StateReason};

macro_rules! events {
    ($( $(#[$meta:meta])* $variant:ident $body:tt = $name:literal, $pattern:pat; )+) => {
        /// Something that the app hears.
        ///
        /// `RoleChanged`, `ClientUpdate`, `Muted` and `Unmuted` that name the app's own uid, and `Published` and
        /// `Unpublished`, tell of a change of its own state that none of its waiting calls caused: an
        /// admin did it, or a call that had been given up took effect after all.
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
                match self { $( $pattern => EventKind::$variant, )+ }
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
    Open {} = "open", Event::Open { .. };
    /// The connection changed its state.
    ConnectionStateChange {
        /// What it is now.
        state: ConnectionState,
        /// Why.
        reason: StateReason,
    } = "connectionStateChange", Event::ConnectionStateChange { .. };
    /// The membership of the app ended, by `leave` too. The picture is empty now.
    Disconnected {
        /// Close code; 1000 after `leave`, 1006 when the socket was lost.
        code: u16,
        /// Name of the code: `left`, `gap`, `idle`, `kicked`, ...
        reason: String,
        /// Whether coming back is pointless or unwanted.
        terminal: bool,
    } = "disconnected", Event::Disconnected { .. };
    /// The server is about to close the connection.
    Closing(Closing) = "closing", Event::Closing(_);
    /// A call had no outcome in time. Its settlement follows.
    SendCommandOverTime {
        /// The method on the wire.
        method: &'static str,
    } = "sendCommandOverTime", Event::SendCommandOverTime { .. };
    /// A broadcaster became visible.
    ClientJoin(ClientJoin) = "clientJoin", Event::ClientJoin(_);
    /// A broadcaster is visible no longer.
    ClientLeave(ClientLeave) = "clientLeave", Event::ClientLeave(_);
    /// Name or attributes of a broadcaster changed.
    ClientUpdate(ClientUpdate) = "clientUpdate", Event::ClientUpdate(_);
    /// Attributes of the channel changed.
    ChannelUpdate(ChannelUpdate) = "channelUpdate", Event::ChannelUpdate(_);
    /// A role changed.
    RoleChanged(RoleChanged) = "roleChanged", Event::RoleChanged(_);
    /// A member publishes a kind: subscribe to play it.
    StreamAdded(StreamChange) = "streamAdded", Event::StreamAdded(_);
    /// A member publishes a kind no longer; the subscription to it ended.
    StreamRemoved(StreamChange) = "streamRemoved", Event::StreamRemoved(_);
    /// Own media is published after all, by a call that had been given up.
    Published {
        /// The kind.
        media_type: MediaKind,
    } = "published", Event::Published { .. };
    /// Own media was taken back from outside; its push URL may be dead.
    Unpublished {
        /// The kind.
        media_type: MediaKind,
    } = "unpublished", Event::Unpublished { .. };
    /// A member muted a kind.
    Muted(MuteChange) = "muted", Event::Muted(_);
    /// A member unmuted a kind.
    Unmuted(MuteChange) = "unmuted", Event::Unmuted(_);
    /// Somebody said something.
    Message {
        /// Who; may be an audience member.
        uid: UserId,
        /// What.
        data: String,
        /// Whether it was said to the app and few others, not to all.
        targeted: bool,
    } = "message", Event::Message { .. };
    /// A push task changed its state.
    RtmpTasksStatus(TaskStatus) = "rtmpTasksStatus", Event::RtmpTasksStatus(_);
    /// The channel ended for all; `Disconnected` follows.
    LiveRoomClose(LiveRoomClose) = "liveRoomClose", Event::LiveRoomClose(_);
    /// The app was removed; `Disconnected` follows.
    Kicked(Kicked) = "kicked", Event::Kicked(_);
    /// A URL that the app holds was replaced. Holds a URL, a secret.
    SyncDone(SyncDone) = "syncDone", Event::SyncDone(_);
    /// The token ends soon: renew it.
    TokenWillExpire {
        /// Milliseconds until the membership ends.
        expires_in_ms: u64,
    } = "tokenWillExpire", Event::TokenWillExpire { .. };
    /// The server is about to restart.
    ServerRestarting(ServerRestarting) = "serverRestarting", Event::ServerRestarting(_);
    /// How many are in the channel, audience included.
    MemberCount {
        /// So many.
        count: u64,
    } = "memberCount", Event::MemberCount { .. };
    /// How well a stream travels.
    NetworkQuality(NetworkQuality) = "networkQuality", Event::NetworkQuality(_);
    /// A message of a newer server.
    Unknown {
        /// Its name.
        method: String,
        /// Its parameters as JSON.
        params: String,
    } = "unknown", Event::Unknown { .. };
}

//! The events that an app can receive. In: channel events, notices, and changes that the session itself notices. Out:
//! events. Deliberately absent: events that the app's own commands caused, because the answers report those; and the
//! form of events on the wire (`protocol/src/message`).

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
        /// An event that the app receives.
        ///
        /// `RoleChanged`, `ClientUpdate`, `Muted` and `Unmuted` with the app's own uid, and `Published` and
        /// `Unpublished`, report a change of the app's own state that none of its pending calls caused. Possible
        /// causes: an administrator or a moderator made the change, the server crashed, the session restored the state
        /// after a crash, or a call that was already settled took effect later.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum Event {
            $( $(#[$meta])* $variant $body, )+
        }

        /// The kind of an [`Event`], to register handlers by.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum EventKind {
            /// All kinds, for handlers that receive every event.
            All,
            $( $(#[$meta])* $variant, )+
        }

        impl Event {
            /// The kind of the event; never [`EventKind::All`].
            #[must_use]
            pub fn kind(&self) -> EventKind {
                match self { $( Event::$variant { .. } => EventKind::$variant, )+ }
            }
        }

        impl EventKind {
            /// The camel-case name: the name on the wire if there is one.
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
        /// The new state.
        state: ConnectionState,
        /// The reason for the change.
        reason: StateReason,
    } = "connectionStateChange";
    /// The session came back after it lost its connection. The app was told everything that changed before this event,
    /// in this order: missed events, or the differences between the pictures; changes of the app's own state; URLs that
    /// changed; answers to calls that were sent again.
    Reconnected {
        /// How the session came back.
        outcome: ReconnectOutcome,
        /// Messages to all members that the app may have missed; `None` if it missed none.
        missed: Option<Missed>,
        /// Number of targeted messages that the server could not keep.
        messages_lost: u64,
    } = "reconnected";
    /// The app's membership ended, possibly because of its own `leave`. The picture is empty now. A lost connection
    /// does not cause this event: the session reconnects by itself, see `ConnectionStateChange`.
    Disconnected {
        /// Close code; 1000 after `leave`, 1006 if there was no connection for too long.
        code: u16,
        /// Name of the code (`left`, `kicked`, `gaveUp` and so on), or the error for which the server refused to resume
        /// or to join again.
        reason: String,
        /// Whether joining again is pointless or unwanted.
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
    /// A broadcaster is no longer visible.
    ClientLeave(ClientLeave) = "clientLeave";
    /// Name or attributes of a broadcaster changed.
    ClientUpdate(ClientUpdate) = "clientUpdate";
    /// Attributes of the channel changed.
    ChannelUpdate(ChannelUpdate) = "channelUpdate";
    /// A role changed.
    RoleChanged(RoleChanged) = "roleChanged";
    /// A member publishes a kind: subscribe to play it.
    StreamAdded(StreamChange) = "streamAdded";
    /// A member no longer publishes a kind; the subscription to it ended.
    StreamRemoved(StreamChange) = "streamRemoved";
    /// The app's media is published by a call that had already been settled, or by the session.
    Published {
        /// The kind.
        media_type: MediaKind,
    } = "published";
    /// The app's media was unpublished from outside; its push URL may be invalid.
    Unpublished {
        /// The kind.
        media_type: MediaKind,
    } = "unpublished";
    /// A member muted a kind.
    Muted(MuteChange) = "muted";
    /// A member unmuted a kind.
    Unmuted(MuteChange) = "unmuted";
    /// A member sent a message.
    Message {
        /// The sender; may be an audience member.
        uid: UserId,
        /// The text.
        data: String,
        /// Whether the message was addressed to certain members, not to all.
        targeted: bool,
    } = "message";
    /// A push task changed its state.
    RtmpTasksStatus(TaskStatus) = "rtmpTasksStatus";
    /// The channel was closed for all members; `Disconnected` follows.
    LiveRoomClose(LiveRoomClose) = "liveRoomClose";
    /// The app's user was kicked; `Disconnected` follows.
    Kicked(Kicked) = "kicked";
    /// A URL that the app holds was replaced, by the server or because the session had to publish or subscribe again.
    /// Use the new one. It is secret.
    SyncDone(SyncDone) = "syncDone";
    /// The token expires soon: renew it.
    TokenWillExpire {
        /// Milliseconds until the membership ends.
        expires_in_ms: u64,
    } = "tokenWillExpire";
    /// The server is about to restart.
    ServerRestarting(ServerRestarting) = "serverRestarting";
    /// Number of members of the channel, audience included.
    MemberCount {
        /// The number.
        count: u64,
    } = "memberCount";
    /// Quality of the transport of a stream.
    NetworkQuality(NetworkQuality) = "networkQuality";
    /// A message that this version does not know, from a newer server.
    Unknown {
        /// Its name.
        method: String,
        /// Its parameters as JSON.
        params: String,
    } = "unknown";
}

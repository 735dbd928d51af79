//! Channel events: numbered, in the channel's log, byte-identical for every member. They contain no URL, no secret and
//! nothing that depends on the receiver (EVT-2).
//!
//! Deliberately absent: messages to one session (`notice.rs`), events for webhooks and the journal
//! (`signal-engine/src/event.rs`), and what an app is told (`client-sdk/src/session/event.rs`).

use crate::prelude::*;
use crate::wire::{self, Read, Refusal, Wire};
use serde::{Deserialize, Serialize};

use super::task::TaskStatus;
use crate::attributes::Attributes;
use crate::id::{Cid, Epoch, Mid, Pub, UserId};
use crate::media::{KindSet, MediaKind, Role};
use crate::wire_enum::wire_enum;

/// Position of an event in a log; positions are contiguous within an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct Position {
    /// The log.
    pub epoch: Epoch,
    /// The number, 1..2^53-1.
    pub seq: u64,
}

wire_enum! {
    /// Why a member is no longer visible.
    pub enum LeaveReason {
        /// It called `leave`.
        Left = "left",
        /// Its socket was lost and grace ended.
        Timeout = "timeout",
        /// It was kicked.
        Kicked = "kicked",
        /// The same uid joined from another place.
        Replaced = "replaced",
        /// It became audience and is invisible now.
        RoleChanged = "roleChanged",
        /// Its token expired.
        TokenExpired = "tokenExpired",
        /// The server restarted and the member did not come back.
        ServerRestart = "serverRestart",
        /// The channel was closed.
        ChannelClosed = "channelClosed",
        /// It left while the receiver was away. Clients set this when they compare two snapshots.
        WhileAway = "whileAway",
    }
}

wire_enum! {
    /// Why a channel ended for everybody.
    pub enum RoomCloseReason {
        /// `closeChannel` of a moderator.
        Closed = "closed",
        /// The admin API.
        Admin = "admin",
        /// Its creator left, and the app is configured to close the channel then.
        CreatorLeft = "creatorLeft",
    }
}

/// Payload of `clientJoin`: a broadcaster became visible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct ClientJoin {
    /// The user.
    pub uid: UserId,
    /// The membership.
    pub mid: Mid,
    /// Display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Attributes.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub attributes: Attributes,
    /// Kinds that it has muted.
    #[serde(default, skip_serializing_if = "KindSet::is_empty")]
    pub muted: KindSet,
}

/// Payload of `clientLeave`; every open stream was removed by an earlier event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct ClientLeave {
    /// The user.
    pub uid: UserId,
    /// The membership.
    pub mid: Mid,
    /// Why.
    pub reason: LeaveReason,
}

/// Payload of `clientUpdate`: all values, not only the changed ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct ClientUpdate {
    /// The user.
    pub uid: UserId,
    /// The membership.
    pub mid: Mid,
    /// Display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Every attribute.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub attributes: Attributes,
}

/// Payload of `channelUpdate`: every attribute of the channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct ChannelUpdate {
    /// Every attribute.
    #[serde(default)]
    pub attributes: Attributes,
}

/// Payload of `roleChanged`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct RoleChanged {
    /// The user.
    pub uid: UserId,
    /// The membership.
    pub mid: Mid,
    /// The new role.
    pub role: Role,
}

/// Payload of `streamAdded` and `streamRemoved`: one kind each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct StreamChange {
    /// The publisher.
    pub uid: UserId,
    /// Its membership.
    pub mid: Mid,
    /// The kind.
    pub media_type: MediaKind,
    /// The publication.
    #[serde(rename = "pub")]
    pub publication: Pub,
}

/// Payload of `muted` and `unmuted`: one kind each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct MuteChange {
    /// The member.
    pub uid: UserId,
    /// Its membership.
    pub mid: Mid,
    /// The kind.
    pub media_type: MediaKind,
}

/// Payload of `message` to all members. It is not part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct ChannelMessage {
    /// The sender; may be an audience member.
    pub uid: UserId,
    /// The text of the message.
    pub data: String,
}

/// Payload of `liveRoomClose`: the last event of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct LiveRoomClose {
    /// The incarnation that ends.
    pub cid: Cid,
    /// Why.
    pub reason: RoomCloseReason,
    /// Free text of the one that closed the channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

macro_rules! events {
    ($( $(#[doc = $doc:literal])+ $variant:ident = $method:literal, $params:ty; )+) => {
        /// An event of the channel's log.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum ChannelEvent {
            $( $(#[doc = $doc])+ $variant($params), )+
            /// A numbered event of a newer server. It advances `seq`, and applications get it as received.
            Unknown {
                /// Its name.
                method: String,
                /// Its parameters as JSON, position included.
                params: String,
            },
        }

        impl ChannelEvent {
            /// Every event name.
            pub const METHODS: &'static [&'static str] = &[$( $method, )+];

            /// The name on the wire.
            #[must_use]
            pub fn method(&self) -> &str {
                match self {
                    $( ChannelEvent::$variant(_) => $method, )+
                    ChannelEvent::Unknown { method, .. } => method,
                }
            }

            /// Reads the parameters of `method`; an unknown event is kept as received.
            pub(crate) fn read(method: String, params: &str) -> Result<Self, Refusal> {
                let Some(known) = wire::position(Self::METHODS, &method) else {
                    return Ok(ChannelEvent::Unknown { method, params: params.to_owned() });
                };
                let mut event = Self::BLANK[known]();
                wire::read_into(event.params_mut(), params)?;
                Ok(event)
            }

            /// For each event, in the order of `METHODS`, a function that makes a blank event to read into.
            const BLANK: &'static [fn() -> Self] =
                &[$( || ChannelEvent::$variant(<$params>::blank()), )+];

            fn params_mut(&mut self) -> &mut dyn Read {
                match self {
                    $( ChannelEvent::$variant(params) => params, )+
                    ChannelEvent::Unknown { params, .. } => params,
                }
            }
        }

        impl Serialize for ChannelEvent {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $( ChannelEvent::$variant(params) => params.serialize(serializer), )+
                    ChannelEvent::Unknown { .. } => super::session::Empty {}.serialize(serializer),
                }
            }
        }

        /// Descriptions of all events.
        #[cfg(feature = "schema")]
        pub fn describe_events(
            definitions: &mut crate::schema::Definitions,
        ) -> Vec<crate::schema::MessageSchema> {
            use crate::schema::Describe;
            alloc::vec![ $( crate::schema::MessageSchema {
                method: $method,
                text: concat!($( $doc ),+).trim_ascii(),
                params: <$params>::describe(definitions),
                result: None,
            }, )+ ]
        }
    };
}

events! {
    /// A broadcaster became visible.
    ClientJoin = "clientJoin", ClientJoin;
    /// A broadcaster is no longer visible.
    ClientLeave = "clientLeave", ClientLeave;
    /// Name or attributes of a broadcaster changed.
    ClientUpdate = "clientUpdate", ClientUpdate;
    /// Attributes of the channel changed.
    ChannelUpdate = "channelUpdate", ChannelUpdate;
    /// A role changed.
    RoleChanged = "roleChanged", RoleChanged;
    /// A kind is published.
    StreamAdded = "streamAdded", StreamChange;
    /// A kind is no longer published.
    StreamRemoved = "streamRemoved", StreamChange;
    /// A broadcaster muted a kind.
    Muted = "muted", MuteChange;
    /// A broadcaster unmuted a kind.
    Unmuted = "unmuted", MuteChange;
    /// A member sent a message to all members.
    Message = "message", ChannelMessage;
    /// A push task changed its state.
    RtmpTasksStatus = "rtmpTasksStatus", TaskStatus;
    /// The channel ended.
    LiveRoomClose = "liveRoomClose", LiveRoomClose;
}

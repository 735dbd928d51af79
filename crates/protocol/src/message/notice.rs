//! Notices: messages to one session, without a number in the channel's log (EVT-1). State notices are computed anew at
//! each resume; the last value is valid. Deliberately absent: messages to all members (`event.rs`).

use crate::prelude::*;
use crate::wire::{self, Read, Refusal, Wire};
use serde::{Deserialize, Serialize};

use super::media::Urls;
use crate::close::{Action, CloseCode};
use crate::id::UserId;
use crate::media::MediaKind;
use crate::wire_enum::{shows, wire_enum};

/// Payload of `kicked`; a close follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct Kicked {
    /// Free text of the moderator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Seconds for which the uid is refused.
    pub duration_s: u32,
}

wire_enum! {
    /// Direction of a stream as the receiver of a notice sees it.
    pub enum Direction {
        /// The receiver sends it.
        Push = "push",
        /// The receiver plays it.
        Pull = "pull",
    }
}

/// Payload of `syncDone`: a URL that the session holds changed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct SyncDone {
    /// The publisher: the receiver itself for a push.
    pub uid: UserId,
    /// Push or pull.
    pub direction: Direction,
    /// A kind that the URL carries.
    pub media_type: MediaKind,
    /// The preferred URL.
    pub url: String,
    /// URLs by protocol.
    pub urls: Urls,
}

shows!(SyncDone { uid, direction, media_type });

/// Payload of `tokenWillExpire`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct TokenWillExpire {
    /// Milliseconds until the membership ends, unless `renewToken` is called.
    pub expires_in_ms: u64,
}

/// Payload of `serverRestarting`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct ServerRestarting {
    /// Reconnect no sooner than this after the close, in milliseconds.
    pub retry_after_ms: u64,
    /// A random part of this time is added, in milliseconds.
    pub jitter_ms: u64,
    /// The server is gone at most this long after the notice, in milliseconds.
    pub deadline_ms: u64,
}

/// Payload of `memberCount`: at most one per second per channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct MemberCount {
    /// Members, audience included.
    pub count: u64,
}

/// Payload of `networkQuality`: the transport quality of a member's media.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct NetworkQuality {
    /// The publisher.
    pub uid: UserId,
    /// From its publisher to the server, or from the server to the receiver of the notice.
    pub direction: Direction,
    /// 0 unknown, 1 excellent .. 5 bad, 6 down.
    pub level: u8,
}

/// Payload of `message` to named members only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct TargetedMessage {
    /// The sender.
    pub uid: UserId,
    /// The text of the message.
    pub data: String,
    /// Number of the message among the targeted messages of the receiving membership, from 1 in each epoch.
    pub n: u64,
}

/// Payload of `closing`: precedes a close by the server (NOT-2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct Closing {
    /// The code that the close frame will carry.
    pub code: CloseCode,
    /// Name of that code.
    pub reason: String,
    /// What the client should do.
    pub action: Action,
    /// The address to go to, for `redirect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Come back no sooner than this, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

macro_rules! notices {
    ($( $(#[doc = $doc:literal])+ $variant:ident = $method:literal, $params:ty; )+) => {
        /// A message to one session.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum Notice {
            $( $(#[doc = $doc])+ $variant($params), )+
            /// A notice of a newer server.
            Unknown {
                /// Its name.
                method: String,
                /// Its parameters as JSON.
                params: String,
            },
        }

        impl Notice {
            /// Every notice name.
            pub const METHODS: &'static [&'static str] = &[$( $method, )+];

            /// The name on the wire.
            #[must_use]
            pub fn method(&self) -> &str {
                match self {
                    $( Notice::$variant(_) => $method, )+
                    Notice::Unknown { method, .. } => method,
                }
            }

            /// Reads the parameters of `method`; an unknown notice is kept as received.
            pub(crate) fn read(method: String, params: &str) -> Result<Self, Refusal> {
                let Some(known) = wire::position(Self::METHODS, &method) else {
                    return Ok(Notice::Unknown { method, params: params.to_owned() });
                };
                let mut notice = Self::BLANK[known]();
                wire::read_into(notice.params_mut(), params)?;
                Ok(notice)
            }

            /// For each notice, in the order of `METHODS`, a function that makes a blank notice to read into.
            const BLANK: &'static [fn() -> Self] =
                &[$( || Notice::$variant(<$params>::blank()), )+];

            fn params_mut(&mut self) -> &mut dyn Read {
                match self {
                    $( Notice::$variant(params) => params, )+
                    Notice::Unknown { params, .. } => params,
                }
            }
        }

        impl Serialize for Notice {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $( Notice::$variant(params) => params.serialize(serializer), )+
                    Notice::Unknown { .. } => super::session::Empty {}.serialize(serializer),
                }
            }
        }

        /// Descriptions of all notices.
        #[cfg(feature = "schema")]
        pub fn describe_notices(
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

notices! {
    /// The receiver was removed.
    Kicked = "kicked", Kicked;
    /// A URL changed.
    SyncDone = "syncDone", SyncDone;
    /// The token is about to expire.
    TokenWillExpire = "tokenWillExpire", TokenWillExpire;
    /// The server is about to restart.
    ServerRestarting = "serverRestarting", ServerRestarting;
    /// The number of members.
    MemberCount = "memberCount", MemberCount;
    /// The transport quality of a stream.
    NetworkQuality = "networkQuality", NetworkQuality;
    /// A member sent a message to the receiver and other named members.
    Message = "message", TargetedMessage;
    /// The server is about to close the socket.
    Closing = "closing", Closing;
}

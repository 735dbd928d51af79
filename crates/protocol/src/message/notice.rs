//! Notices: to one session, without a number in the channel's log (EVT-1). State notices
//! are recomputed at each resume, the last value wins.

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
    /// Free text of who kicked.
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
    /// Whose stream: the receiver's own for a push.
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
    /// Plus a random share of this, in milliseconds.
    pub jitter_ms: u64,
    /// The server is gone this long after the notice at the latest, in milliseconds.
    pub deadline_ms: u64,
}

/// Payload of `memberCount`: at most one per second per channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct MemberCount {
    /// Members, audience included.
    pub count: u64,
}

/// Payload of `networkQuality`: how well the media of somebody goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct NetworkQuality {
    /// Whose media.
    pub uid: UserId,
    /// From its publisher to the server, or from there to the receiver of the notice.
    pub direction: Direction,
    /// 0 unknown, 1 excellent .. 5 bad, 6 down.
    pub level: u8,
}

/// Payload of `message` to some members only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct TargetedMessage {
    /// The sender.
    pub uid: UserId,
    /// What it said.
    pub data: String,
    /// Counts the targeted messages of the receiving membership within an epoch, from 1.
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
    /// What to do.
    pub action: Action,
    /// Where to go, for `redirect`.
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

            /// Reads the parameters of `method`; one that is not known is kept as it is.
            pub(crate) fn read(method: String, params: &str) -> Result<Self, Refusal> {
                let Some(known) = wire::position(Self::METHODS, &method) else {
                    return Ok(Notice::Unknown { method, params: params.to_owned() });
                };
                let mut notice = Self::BLANK[known]();
                wire::read_into(notice.params_mut(), params)?;
                Ok(notice)
            }

            /// By its place among the methods: one to read into.
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

        /// Every notice, described.
        #[cfg(feature = "schema")]
        pub fn describe_notices(
            definitions: &mut crate::schema::Definitions,
        ) -> Vec<crate::schema::Described> {
            use crate::schema::Describe;
            alloc::vec![ $( crate::schema::Described {
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
    /// How many are in the channel.
    MemberCount = "memberCount", MemberCount;
    /// How well a stream travels.
    NetworkQuality = "networkQuality", NetworkQuality;
    /// Somebody said something to the receiver and few others.
    Message = "message", TargetedMessage;
    /// The server is about to close the socket.
    Closing = "closing", Closing;
}

//! Messages about media: publish, subscribe, role, mute.

use crate::prelude::*;
use crate::wire::Wire;
use serde::{Deserialize, Serialize};

use crate::id::{Gen, UserId};
use crate::media::{MediaKind, MediaSelector, Role};
use crate::wire_enum::shows;

/// URLs of one stream, by protocol. Each may be absent.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct Urls {
    /// RTMP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtmp: Option<String>,
    /// RTMP over TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtmps: Option<String>,
    /// HTTP-FLV.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flv: Option<String>,
    /// FLV over WebSocket, for pages that play more streams than a browser opens HTTP connections to one host.
    #[serde(default, rename = "wsFlv", skip_serializing_if = "Option::is_none")]
    pub ws_flv: Option<String>,
    /// HLS playlist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hls: Option<String>,
    /// WebRTC, as the provider defines it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webrtc: Option<String>,
}

impl core::fmt::Debug for Urls {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Urls").finish_non_exhaustive()
    }
}

/// Parameters of `publish` and `unpublish`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct Publish {
    /// The kinds; `''` or absent means audio and video.
    #[serde(default)]
    pub media_type: MediaSelector,
    /// The publisher, for `unpublish` by a moderator; the caller if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<UserId>,
}

/// Answer of `publish`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct Published {
    /// The caller.
    pub uid: UserId,
    /// The preferred push URL, signed. A secret.
    pub url: String,
    /// Push URLs by protocol.
    pub urls: Urls,
    /// The lifetime of this URL; a repeated `publish` within it answers with the same URL.
    #[serde(rename = "gen")]
    pub generation: Gen,
    /// Head of the channel after the effect.
    pub seq: u64,
}

shows!(Published { uid, generation, seq });

/// Parameters of `subscribe` and `unsubscribe`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct Subscribe {
    /// The publisher.
    pub uid: UserId,
    /// The kind.
    pub media_type: MediaKind,
}

/// Answer of `subscribe`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct Subscribed {
    /// The publisher.
    pub uid: UserId,
    /// The preferred pull URL, signed for the caller. A secret.
    pub url: String,
    /// Pull URLs by protocol.
    pub urls: Urls,
    /// Head of the channel after the effect.
    pub seq: u64,
}

shows!(Subscribed { uid, seq });

/// Parameters of `setRole`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct SetRole {
    /// The new role.
    pub role: Role,
    /// The member, for a moderator; the caller if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<UserId>,
}

/// Parameters of `mute` and `unmute`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct Mute {
    /// The kinds; `''` or absent means audio and video.
    #[serde(default)]
    pub media_type: MediaSelector,
    /// The member, for a moderator; the caller if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<UserId>,
}

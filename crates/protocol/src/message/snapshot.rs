//! The picture of a channel at one `seq` (ORD-3): part of the answer of `join`, and kept up to date by folding the
//! events that follow.

use crate::prelude::*;
use crate::wire::Wire;
use serde::{Deserialize, Serialize};

use super::task::TaskInfo;
use crate::attributes::Attributes;
use crate::id::{ChannelName, Gen, Mid, Pub, UserId};
use crate::media::{KindSet, MediaKind, Rights, Role};

/// The channel itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct ChannelInfo {
    /// Its name.
    pub name: ChannelName,
    /// The uid that created the channel.
    pub creator: UserId,
    /// Its attributes.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub attributes: Attributes,
    /// Its push tasks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskInfo>,
}

/// A broadcaster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct MemberInfo {
    /// The user.
    pub uid: UserId,
    /// The membership.
    pub mid: Mid,
    /// Always broadcaster; present so that readers need no special rule.
    pub role: Role,
    /// Display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Attributes.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub attributes: Attributes,
    /// Kinds that the member muted.
    #[serde(default, skip_serializing_if = "KindSet::is_empty")]
    pub muted: KindSet,
    /// Its publications.
    pub streams: Vec<StreamInfo>,
}

/// One publication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct StreamInfo {
    /// Its kind.
    pub media_type: MediaKind,
    /// The publication: the same kind with another `pub` is another publication.
    #[serde(rename = "pub")]
    pub publication: Pub,
}

/// The caller's own state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct SelfInfo {
    /// The user.
    pub uid: UserId,
    /// The membership.
    pub mid: Mid,
    /// Its role.
    pub role: Role,
    /// Its rights.
    pub rights: Rights,
    /// Display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Attributes.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub attributes: Attributes,
    /// Kinds that it muted.
    #[serde(default, skip_serializing_if = "KindSet::is_empty")]
    pub muted: KindSet,
    /// Its publications.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<OwnStream>,
    /// Its subscriptions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscriptions: Vec<Subscription>,
    /// Milliseconds until the token ends the membership; absent if it never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_expires_in_ms: Option<u64>,
}

/// One publication of the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct OwnStream {
    /// Its kind.
    pub media_type: MediaKind,
    /// The publication.
    #[serde(rename = "pub")]
    pub publication: Pub,
    /// The lifetime of the push URL that carries it.
    #[serde(rename = "gen")]
    pub generation: Gen,
}

/// One subscription of the caller: it ends with the publication (SUB-3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// The publisher.
    pub uid: UserId,
    /// The kind.
    pub media_type: MediaKind,
    /// The publication.
    #[serde(rename = "pub")]
    pub publication: Pub,
}

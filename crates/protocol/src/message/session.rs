//! Messages about a membership: join, leave, resume, moderation, messages, attributes.

use crate::prelude::*;
use crate::raw::JsonObject;
use crate::wire::Wire;
use serde::{Deserialize, Serialize};

use super::saturated;
use super::snapshot::{ChannelInfo, MemberInfo, SelfInfo};
use crate::Map;
use crate::attributes::Attributes;
use crate::close::Action;
use crate::id::{Appkey, ChannelName, Cid, Epoch, Mid, SessionId, UserId};
use crate::media::{Rights, Role};
use crate::wire_enum::{shows, wire_enum};

/// No parameters, or an empty result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct Empty {}

/// The answer of a command that has no other result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct Done {
    /// Head of the channel after the effect.
    pub seq: u64,
}

/// Parameters of `join`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct Join {
    /// The app.
    pub appkey: Appkey,
    /// The channel.
    pub channel_name: ChannelName,
    /// The user; `null` lets the server choose 2^32..2^53-1.
    #[serde(default)]
    pub uid: Option<UserId>,
    /// Required in safe mode, refused in debug mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Initial role; if absent, broadcaster if the rights allow it, otherwise audience.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// 128 random bits, chosen once per call of `join` (JOI-2). A secret: a second `join` of the uid with the same
    /// value continues the same membership. 16-64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join_id: Option<String>,
    /// Ticket of the membership that this join replaces, after `reconnect` was refused with `rejoin`. Shortly after a
    /// crash of the server it replaces a token that is missing or has expired (RES-9). A secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<String>,
    /// Display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Attributes to start with.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub attributes: Attributes,
}

shows!(Join { appkey, channel_name, uid, role, name });

/// Time limits of the server (LIV-2, LIV-3), all in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct Timers {
    /// A client that has sent nothing for this time sends `ping`.
    pub ping_interval_ms: u64,
    /// A socket without an inbound frame for this time is given up.
    pub dead_after_ms: u64,
    /// A membership without a socket lives for this time.
    pub grace_ms: u64,
    /// A membership without a socket whose media flows lives at most for this time.
    pub media_cap_ms: u64,
}

/// Answer of `join`.
#[derive(Clone, PartialEq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct Joined {
    /// The incarnation of the channel.
    pub cid: Cid,
    /// The uid, given or chosen.
    pub uid: UserId,
    /// The membership.
    pub mid: Mid,
    /// The session.
    pub session_id: SessionId,
    /// Secret that resumes the session; used in `reconnect` and in `continues` of `join` only. Absent in the answer of
    /// `reconnect`, which has a ticket of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Number of that ticket, for `ping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k: Option<u64>,
    /// Random, constant for the deployment: an address with another id serves other channels (RES-11).
    pub deployment_id: String,
    /// The log to which `seq` belongs.
    pub epoch: Epoch,
    /// The snapshot is the picture at this number; the next event is `seq + 1`.
    pub seq: u64,
    /// The channel.
    pub channel: ChannelInfo,
    /// Every broadcaster, the caller included if it is one.
    pub members: Vec<MemberInfo>,
    /// The caller.
    #[serde(rename = "self")]
    pub own: SelfInfo,
    /// Members, audience included.
    pub member_count: u64,
    /// Time limits of the server.
    pub timers: Timers,
}

shows!(Joined { cid, uid, mid, epoch, seq, channel, members, own, member_count });

/// Parameters of `kick`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct Kick {
    /// The member to remove.
    pub uid: UserId,
    /// Seconds for which the uid is refused with any token, 0..=604800. With 0 only its present session and the tokens
    /// issued so far are refused.
    #[serde(default, deserialize_with = "saturated")]
    pub duration_s: u32,
    /// Free text, sent to the kicked member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Parameters of `closeChannel`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct CloseChannel {
    /// Seconds for which joins with tokens issued before the close are refused, 0..=3600; 10 when absent.
    #[serde(default = "CloseChannel::default_hold_s", deserialize_with = "saturated")]
    pub hold_s: u32,
    /// Free text, sent to all members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl CloseChannel {
    /// The value of an absent `holdS`.
    #[must_use]
    pub fn default_hold_s() -> u32 {
        10
    }
}

/// Parameters of `sendMessage`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct SendMessage {
    /// The payload, opaque to the server.
    pub data: String,
    /// Recipients; absent means every member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<UserId>>,
}

/// Answer of `sendMessage`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct MessageSent {
    /// Head of the channel after the effect.
    pub seq: u64,
    /// Number of different uids in `to`; 0 for a message to all, which is an event.
    pub delivered: u64,
}

/// Parameters of `setAttributes`: a patch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct SetAttributes {
    /// Keys to set, and keys to remove (`null`).
    #[serde(with = "crate::attributes::unique_keys")]
    pub attributes: Map<String, Option<String>>,
    /// The owner of the attributes; the caller if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<AttributeTarget>,
    /// A new display name; not with `target: channel`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

wire_enum! {
    /// The owner of the attributes that `setAttributes` changes.
    pub enum AttributeTarget {
        /// The caller's.
        Own = "self",
        /// The channel's; needs the right `moderate`.
        Channel = "channel",
    }
}

/// Parameters of `renewToken`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct RenewToken {
    /// The new token, for the same app, channel and uid.
    pub token: String,
}

impl core::fmt::Debug for RenewToken {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RenewToken").finish_non_exhaustive()
    }
}

/// Answer of `renewToken`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct TokenRenewed {
    /// Head of the channel.
    pub seq: u64,
    /// The rights of the session from now on.
    pub rights: Rights,
    /// Milliseconds until the new token ends the membership; absent if it never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_expires_in_ms: Option<u64>,
}

wire_enum! {
    /// Direction of a media report.
    pub enum ReportDir {
        /// About the `live-pusher`.
        Push = "push",
        /// About a `live-player`.
        Pull = "pull",
    }
}

wire_enum! {
    /// The subject of a media report.
    pub enum ReportType {
        /// State change of the component: `code`.
        StateChange = "bindstatechange",
        /// Network statistics of the component: `info`.
        NetStatus = "bindnetstatus",
        /// Error of the component: `errCode`, `errMsg`.
        Error = "binderror",
    }
}

/// Parameters of `report`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct Report {
    /// Push or pull.
    pub dir: ReportDir,
    /// Which callback of the component.
    #[serde(rename = "type")]
    pub kind: ReportType,
    /// The data that the component gave.
    pub data: JsonObject,
    /// The publisher, for a pull.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<UserId>,
}

/// Parameters of `ping`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct Ping {
    /// Number of the newest ticket that the client holds; all earlier tickets become invalid (PIN-2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k: Option<u64>,
    /// Number of the last targeted message that the client received; the server forgets the messages up to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
}

/// Answer of `ping`: the head of the channel, after every event up to it (PIN-1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct Pong {
    /// The log.
    pub epoch: Epoch,
    /// Its head.
    pub seq: u64,
}

/// Parameters of `reconnect`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct Reconnect {
    /// The newest ticket that the client holds.
    pub ticket: String,
    /// Grows with each attempt of the session (RES-3).
    pub attempt: u64,
    /// The log that the client follows.
    pub epoch: Epoch,
    /// Last event that it applied.
    pub seq: u64,
    /// Last targeted message that it received.
    #[serde(default)]
    pub n: u64,
    /// Asks for a snapshot even if a replay is possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub want: Option<Want>,
}

shows!(Reconnect { attempt, epoch, seq, n, want });

wire_enum! {
    /// What a client may ask for with `reconnect`.
    pub enum Want {
        /// The picture anew.
        Snapshot = "snapshot",
    }
}

wire_enum! {
    /// Outcome of a `reconnect` (section 14 of `docs/protocol.md`). The fourth outcome of a resume, *rejoined*, is a
    /// `join` after a refusal with the action `rejoin`.
    pub enum Outcome {
        /// Missed events follow; nothing is lost.
        Replayed = "replayed",
        /// A whole picture; messages to all members in between may be lost.
        Snapshot = "snapshot",
        /// Nothing changed; `action` names the next step.
        Refused = "refused",
    }
}

wire_enum! {
    /// Why a `reconnect` was answered with a snapshot, or refused.
    pub enum ResumeReason {
        /// Snapshot: the server restarted without a handover, and the log is another one.
        EpochChanged = "epochChanged",
        /// Snapshot: the log does not reach back to `seq`.
        LogTrimmed = "logTrimmed",
        /// Snapshot: `seq` is beyond the head of the log, which is an error.
        Ahead = "ahead",
        /// Snapshot: the client asked for it.
        Asked = "asked",
        /// Refused: the ticket is malformed, forged, or older than the confirmed one.
        Invalid = "invalid",
        /// Refused: a later attempt of this session was accepted already.
        StaleAttempt = "staleAttempt",
        /// Refused: grace ended the membership, or the server does not remember its end.
        Gone = "gone",
        /// Refused: it ended by `leave`.
        Left = "left",
        /// Refused: it was kicked.
        Kicked = "kicked",
        /// Refused: the same uid joined from another place.
        Replaced = "replaced",
        /// Refused: its token expired.
        TokenExpired = "tokenExpired",
        /// Refused: the channel was closed.
        ChannelClosed = "channelClosed",
        /// Refused: the server is about to stop.
        Draining = "draining",
    }
}

impl ResumeReason {
    /// What a client does about a refusal for this reason.
    #[must_use]
    pub fn action(&self) -> Action {
        match self {
            ResumeReason::Invalid | ResumeReason::Gone => Action::Rejoin,
            ResumeReason::TokenExpired => Action::RenewToken,
            ResumeReason::Draining => Action::Reconnect,
            _ => Action::None,
        }
    }
}

/// Answer of `reconnect`. The connection continues with the missed events, then the missed targeted messages, then
/// everything new.
#[derive(Clone, PartialEq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct Resumed {
    /// The outcome.
    pub outcome: Outcome,
    /// The reason, unless the outcome is `replayed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ResumeReason>,
    /// What the client should do about a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// The next ticket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Number of that ticket, for `ping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k: Option<u64>,
    /// Channel events that follow.
    #[serde(default)]
    pub replayed: u64,
    /// Targeted messages that follow.
    #[serde(default)]
    pub messages: u64,
    /// Targeted messages that the server could not keep.
    #[serde(default)]
    pub messages_lost: u64,
    /// After a crash: the picture may be older than the answers that the client has received, so the client requests
    /// its own state again (RES-10). False if a moderator has changed the member since. Subscriptions must be made
    /// again in any case.
    #[serde(default)]
    pub restore: bool,
    /// The picture, if the outcome is `snapshot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Box<Joined>>,
}

shows!(Resumed { outcome, reason, action, k, replayed, messages, restore, snapshot });

//! Events of channels, as the journal stores them for followers outside the server. Comes in and goes out: plain values
//! of a stable format. Deliberately absent: when an event is written (`journal`), and the events that members receive
//! (`protocol/src/message/event.rs`).

use lianmai_protocol::message::event::LeaveReason;
use lianmai_protocol::message::task::TaskState;
use lianmai_protocol::{Cid, MediaKind, Mid, Pub, Role, TaskId, UserId, WallTime};
use serde::{Deserialize, Serialize};

use crate::key::{self, ChannelKey};

/// One event of a channel, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventRecord {
    /// Its number, by channel name.
    pub seq: u64,
    /// Earlier events under this name are not known, so the previous number may be any.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub first: bool,
    /// When it happened.
    pub at: WallTime,
    /// The incarnation of the channel.
    pub cid: Cid,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

impl EventRecord {
    /// A unique id, by which receivers detect repeated events.
    #[must_use]
    pub fn id(channel: &ChannelKey, seq: u64) -> String {
        let bytes = channel.appkey.as_str().bytes().chain([0]).chain(channel.name.as_str().bytes());
        format!("evt_{:016x}_{seq}", key::hash(bytes))
    }
}

/// An event of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Event {
    /// A channel began.
    ChannelOpened,
    /// A channel ended.
    ChannelEnded,
    /// A membership began.
    MemberJoined {
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
        /// Its role.
        role: Role,
    },
    /// A membership ended.
    MemberLeft {
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
        /// Why.
        reason: LeaveReason,
    },
    /// The role of a member changed.
    RoleChanged {
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
        /// The new role.
        role: Role,
    },
    /// A publication began.
    #[serde(rename_all = "camelCase")]
    StreamAdded {
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
        /// The kind.
        media_type: MediaKind,
        /// The publication.
        #[serde(rename = "pub")]
        publication: Pub,
    },
    /// A publication ended.
    #[serde(rename_all = "camelCase")]
    StreamRemoved {
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
        /// The kind.
        media_type: MediaKind,
        /// The publication.
        #[serde(rename = "pub")]
        publication: Pub,
    },
    /// A push task was added. It is idle until another event says otherwise.
    #[serde(rename_all = "camelCase")]
    TaskAdded {
        /// The task; it may have the id of an earlier, ended one.
        task_id: TaskId,
        /// Its owner; absent for a task of the app's server.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<UserId>,
    },
    /// The state of a push task changed, or it was updated.
    #[serde(rename_all = "camelCase")]
    TaskChanged {
        /// The task.
        task_id: TaskId,
        /// Its state.
        state: TaskState,
        /// The code that members are told.
        code: u16,
        /// Grows with each update.
        revision: u64,
        /// Number of retries in a row.
        retries: u32,
        /// One sentence.
        msg: String,
    },
    /// A push task ended.
    #[serde(rename_all = "camelCase")]
    TaskEnded {
        /// The task.
        task_id: TaskId,
        /// One sentence.
        msg: String,
    },
    /// Events that were deleted before any receiver took them. Written by shells.
    Lost {
        /// Number of the first one.
        from: u64,
        /// Number of the last one.
        to: u64,
    },
}

impl Event {
    /// Its name, as it is written.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Event::ChannelOpened => "channelOpened",
            Event::ChannelEnded => "channelEnded",
            Event::MemberJoined { .. } => "memberJoined",
            Event::MemberLeft { .. } => "memberLeft",
            Event::RoleChanged { .. } => "roleChanged",
            Event::StreamAdded { .. } => "streamAdded",
            Event::StreamRemoved { .. } => "streamRemoved",
            Event::TaskAdded { .. } => "taskAdded",
            Event::TaskChanged { .. } => "taskChanged",
            Event::TaskEnded { .. } => "taskEnded",
            Event::Lost { .. } => "lost",
        }
    }

    /// The user that it is about.
    #[must_use]
    pub fn uid(&self) -> Option<UserId> {
        match self {
            Event::ChannelOpened
            | Event::ChannelEnded
            | Event::TaskChanged { .. }
            | Event::TaskEnded { .. }
            | Event::Lost { .. } => None,
            Event::TaskAdded { uid, .. } => *uid,
            Event::MemberJoined { uid, .. }
            | Event::MemberLeft { uid, .. }
            | Event::RoleChanged { uid, .. }
            | Event::StreamAdded { uid, .. }
            | Event::StreamRemoved { uid, .. } => Some(*uid),
        }
    }

    /// The membership that it is about.
    pub(crate) fn mid(&self) -> Option<Mid> {
        match self {
            Event::ChannelOpened
            | Event::ChannelEnded
            | Event::TaskAdded { .. }
            | Event::TaskChanged { .. }
            | Event::TaskEnded { .. }
            | Event::Lost { .. } => None,
            Event::MemberJoined { mid, .. }
            | Event::MemberLeft { mid, .. }
            | Event::RoleChanged { mid, .. }
            | Event::StreamAdded { mid, .. }
            | Event::StreamRemoved { mid, .. } => Some(*mid),
        }
    }
}

/// The journal counter of a channel's name, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalRecord {
    /// Number of the last event.
    pub last: u64,
    /// When it happened.
    pub at: WallTime,
}

//! What happens in channels, as it is written down for those who follow them from outside. Comes in and goes out: plain
//! values of a stable format. Deliberately absent: when something is written down (`journal`).

use lianmai_protocol::message::event::LeaveReason;
use lianmai_protocol::message::task::TaskState;
use lianmai_protocol::{Cid, MediaKind, Mid, Pub, Role, TaskId, UserId, WallTime};
use serde::{Deserialize, Serialize};

use crate::key::{self, ChannelKey};

/// One thing that happened in a channel, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventRecord {
    /// Its number.
    pub seq: u64,
    /// Nothing is known of what happened under this name before, so the number before may be any.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub first: bool,
    /// When.
    pub at: WallTime,
    /// The incarnation of the channel.
    pub cid: Cid,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

impl EventRecord {
    /// A name for it that no other one has: by it receivers know what comes again.
    #[must_use]
    pub fn id(channel: &ChannelKey, seq: u64) -> String {
        let bytes = channel.appkey.as_str().bytes().chain([0]).chain(channel.name.as_str().bytes());
        format!("evt_{:016x}_{seq}", key::hash(bytes))
    }
}

/// What happened.
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
    /// A member became a broadcaster, or is none any more.
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
        /// What it is.
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
        /// What it was.
        media_type: MediaKind,
        /// The publication.
        #[serde(rename = "pub")]
        publication: Pub,
    },
    /// A push task was added. It is idle until something else is told.
    #[serde(rename_all = "camelCase")]
    TaskAdded {
        /// The task: its id may be that of one that has ended.
        task_id: TaskId,
        /// Whose it is; absent for a task of the app's server.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<UserId>,
    },
    /// A push task does something else than before, or was told to.
    #[serde(rename_all = "camelCase")]
    TaskChanged {
        /// The task.
        task_id: TaskId,
        /// What it is doing.
        state: TaskState,
        /// As members are told it.
        code: u16,
        /// Grows with each update.
        revision: u64,
        /// How often in a row it was tried again.
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
    /// These events are gone: nobody took them while they were kept. Written by shells.
    Lost {
        /// The first one.
        from: u64,
        /// The last one.
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

/// The counter of a name, as it is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalRecord {
    /// The number of the last thing that happened.
    pub last: u64,
    /// When that was.
    pub at: WallTime,
}

//! CDN push tasks (section 15 of `docs/protocol.md`).

use crate::prelude::*;
use crate::wire::Wire;
use serde::{Deserialize, Serialize};

use super::saturated;
use crate::id::{TaskId, UserId};
use crate::wire_enum::{shows, wire_enum};

/// Parameters of `addTasks` and `updateTasks`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct Tasks {
    /// The tasks. An update replaces the whole configuration of each.
    pub rtmp_tasks: Vec<Task>,
}

/// Parameters of `deleteTasks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct TaskIds {
    /// The tasks that end.
    pub task_ids: Vec<TaskId>,
}

/// One push of the composed channel to one address.
#[derive(Clone, PartialEq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// Chosen by the client, unique in the channel.
    pub task_id: TaskId,
    /// Where to push, `rtmp://` or `rtmps://`. A secret.
    pub stream_url: String,
    /// Whether to write a file as well.
    #[serde(default)]
    pub record: bool,
    /// The member of the large picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_uid: Option<UserId>,
    /// Of an update: greater than that of the task, 1..2^53-1. Absent: the next one (TSK-6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// The arrangement of the picture and the sound.
    pub layout: Layout,
    /// The encoder settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<TaskConfig>,
    /// Opaque text that the server keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_info: Option<String>,
}

shows!(Task { task_id, record, host_uid, revision, layout, config });

/// The arrangement of the composed picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Wire)]
pub struct Layout {
    /// The whole picture.
    pub canvas: Canvas,
    /// The members, with the place of each.
    #[serde(default)]
    pub users: Vec<LayoutUser>,
    /// Images behind the members, the rearmost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<LayoutImage>,
}

/// Size and colour of the whole picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct Canvas {
    /// Pixels, 16..=1920, or 0 for sound only; an odd number counts as the even one below.
    #[serde(deserialize_with = "saturated")]
    pub width: u32,
    /// As the width; width times height is at most 1920 x 1080.
    #[serde(deserialize_with = "saturated")]
    pub height: u32,
    /// 65536 R + 256 G + B.
    #[serde(default, deserialize_with = "saturated")]
    pub color: u32,
}

/// Place and media of one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct LayoutUser {
    /// The member.
    pub uid: UserId,
    /// Left edge in pixels.
    #[serde(default, deserialize_with = "saturated")]
    pub x: u32,
    /// Top edge in pixels.
    #[serde(default, deserialize_with = "saturated")]
    pub y: u32,
    /// Pixels.
    #[serde(default, deserialize_with = "saturated")]
    pub width: u32,
    /// Pixels.
    #[serde(default, deserialize_with = "saturated")]
    pub height: u32,
    /// 0 fit, 1 crop.
    #[serde(default = "crop", deserialize_with = "saturated")]
    pub adaption: u32,
    /// 0..=100, higher in front.
    #[serde(default, deserialize_with = "saturated")]
    pub z_order: u32,
    /// Whether the member is heard.
    #[serde(default)]
    pub push_audio: bool,
    /// Whether the member is seen.
    #[serde(default)]
    pub push_video: bool,
}

/// A picture in the layout.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct LayoutImage {
    /// `http://` or `https://`.
    pub url: String,
    /// Left edge in pixels.
    #[serde(default, deserialize_with = "saturated")]
    pub x: u32,
    /// Top edge in pixels.
    #[serde(default, deserialize_with = "saturated")]
    pub y: u32,
    /// Pixels.
    #[serde(default, deserialize_with = "saturated")]
    pub width: u32,
    /// Pixels.
    #[serde(default, deserialize_with = "saturated")]
    pub height: u32,
    /// 0 fit, 1 crop.
    #[serde(default = "crop", deserialize_with = "saturated")]
    pub adaption: u32,
}

shows!(LayoutImage { x, y, width, height, adaption });

fn crop() -> u32 {
    1
}

/// Encoder settings of a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct TaskConfig {
    /// Pass the only video through without transcoding.
    #[serde(default)]
    pub single_video_no_trans: bool,
    /// The audio encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_param: Option<AudioParam>,
}

/// The audio encoder of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct AudioParam {
    /// kbit/s, 10..=192.
    #[serde(default = "default_bit_rate", deserialize_with = "saturated")]
    pub bit_rate: u32,
    /// 32000, 44100 or 48000.
    #[serde(default = "default_sample_rate", deserialize_with = "saturated")]
    pub sample_rate: u32,
    /// 1 or 2.
    #[serde(default = "default_channels", deserialize_with = "saturated")]
    pub channels: u32,
    /// 0 LC-AAC, 1 HE-AAC.
    #[serde(default, deserialize_with = "saturated")]
    pub codec_profile: u32,
}

fn default_bit_rate() -> u32 {
    64
}

fn default_sample_rate() -> u32 {
    48_000
}

fn default_channels() -> u32 {
    2
}

wire_enum! {
    /// State of a task.
    pub enum TaskState {
        /// No member publishes anything that the task shows.
        Idle = "idle",
        /// It is about to push.
        Starting = "starting",
        /// It pushes: 505.
        Pushing = "pushing",
        /// The push broke off or could not begin, and the server tries again.
        Retrying = "retrying",
        /// The server has used up its attempts: 506. An update starts the task again.
        Failed = "failed",
        /// The task does not exist any more: 511.
        Ended = "ended",
    }
}

impl TaskState {
    /// Number of the state as existing clients know it; 0 for the other states.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            TaskState::Pushing => 505,
            TaskState::Failed => 506,
            TaskState::Ended => 511,
            _ => 0,
        }
    }
}

/// `code` of a task one of whose images cannot be used. The state of the task does not change.
pub const TASK_IMAGE_FAILED: u16 = 512;

/// A task in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct TaskInfo {
    /// The task.
    pub task_id: TaskId,
    /// The owner; absent for a task of the app's server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<UserId>,
    /// Its state; absent in messages of an older server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<TaskState>,
    /// 505 pushing, 506 failed, 511 ended, 512 an image cannot be used, 0 otherwise.
    pub code: u16,
    /// Grows with each update.
    pub revision: u64,
    /// Number of retries in a row.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u32,
}

/// Payload of `rtmpTasksStatus`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// The task.
    pub task_id: TaskId,
    /// The owner; absent for a task of the app's server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<UserId>,
    /// Its address without the stream key: `scheme://host/app/***`.
    pub stream_url: String,
    /// Its state; absent in messages of an older server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<TaskState>,
    /// 505 pushing, 506 failed, 511 ended, 512 an image cannot be used, 0 otherwise.
    pub code: u16,
    /// One sentence for people.
    pub msg: String,
    /// Grows with each update.
    pub revision: u64,
    /// Number of retries in a row.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

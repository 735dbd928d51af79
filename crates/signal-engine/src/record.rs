//! What an engine writes down and is started with again (ADR 0009). Comes in and goes out: plain values of a
//! stable format. Deliberately absent: where they are written (`rows`).
//!
//! A record holds *remaining* durations, never instants of a clock that ends with the process. The parts
//! `live` are written at a clean stop only: after a crash they would be stale, and are not taken.

use std::fmt;

use lianmai_protocol::message::media::Urls;
use lianmai_protocol::message::task::TaskState;
use lianmai_protocol::{
    Attributes, Cid, Epoch, Gen, KindSet, MediaKind, Mid, Pub, Rights, Role, SessionId, TaskId,
    UserId, WallTime,
};
use serde::{Deserialize, Serialize};

use crate::task::{Holder, Spec};

/// Greatest number of a record. Only a damaged one has a greater.
pub(crate) const MAX_NUMBER: u64 = 1 << 53;

fn always() -> bool {
    true
}

/// A channel without its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelRecord {
    /// Its incarnation.
    pub cid: Cid,
    /// Who made it; `None` where nobody is and nobody has joined yet.
    pub creator: Option<UserId>,
    /// Its attributes.
    pub attributes: Attributes,
    /// Whom a moderator made audience, and which moderator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub demoted: Vec<(UserId, UserId)>,
    /// Whom an operator made audience.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept_down: Vec<UserId>,
    /// Kinds that an operator lets a uid not publish.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub barred: Vec<(UserId, KindSet)>,
    /// What was laid down for this channel alone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rules: ChannelRules,
    /// Made ahead of its first join: it is kept so long without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared_until: Option<WallTime>,
    /// Its log, at a clean stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<LogRecord>,
}

impl ChannelRecord {
    /// Whether it lives without members.
    pub(crate) fn stays_empty(&self, now: WallTime) -> bool {
        self.rules.keep_empty || self.prepared_until.is_some_and(|until| until > now)
    }
}

/// What an operator lays down for one channel; where it says nothing, the app's rules hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChannelRules {
    /// Same uid again: whether the newcomer is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reject_new: Option<bool>,
    /// The creator has the right `moderate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creator_moderates: Option<bool>,
    /// The channel ends when its creator's membership ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dissolve_on_creator_leave: Option<bool>,
    /// Most members; no more than the deployment allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_members: Option<u32>,
    /// Most broadcasters; no more than the deployment allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_broadcasters: Option<u32>,
    /// It outlives its last member, until it is closed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_empty: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The log of a channel at a clean stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// Its epoch.
    pub epoch: Epoch,
    /// Number of the newest event.
    pub head: u64,
    /// The newest events, encoded, and how many milliseconds ago each happened.
    pub events: Vec<(u64, String)>,
}

/// A membership.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// The user.
    pub uid: UserId,
    /// The membership.
    pub mid: Mid,
    /// The session.
    pub session: SessionId,
    /// Secret of the `join` call.
    pub join_id: Option<String>,
    /// Its role.
    pub role: Role,
    /// What it may do.
    pub rights: Rights,
    /// Its token is for its uid alone; so it is in files of before.
    #[serde(default = "always", skip_serializing_if = "Clone::clone")]
    pub named: bool,
    /// Display name.
    pub name: Option<String>,
    /// Its attributes.
    pub attributes: Attributes,
    /// What it muted.
    pub muted: KindSet,
    /// When its token ends it.
    pub token_end: Option<WallTime>,
    /// What it publishes.
    pub published: Vec<(MediaKind, Pub)>,
    /// The life of each push URL, and the URL.
    pub pushes: Vec<PushRecord>,
    /// Number of its confirmed ticket.
    pub confirmed: u64,
    /// Last change that somebody else made to it and that it has not seen for certain.
    pub forced: Option<(Epoch, u64)>,
    /// Its session, at a clean stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<SessionRecord>,
}

/// A push URL.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushRecord {
    /// Its life.
    pub generation: Gen,
    /// A kind that it carries.
    pub kind: MediaKind,
    /// The URL as it was handed out.
    pub minted: Minted,
    /// The addresses that its member is known to have it for (ADR 0014); none in files of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<u64>,
}

/// A pull URL: stream, kinds, the URL as it was handed out, and as of [`PushRecord`] the addresses.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRecord(pub Gen, pub KindSet, pub Minted, #[serde(default)] pub Option<u64>);

/// URLs of one stream, as issued and as written down.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Minted {
    /// The preferred URL.
    pub url: String,
    /// URLs by protocol.
    pub urls: Urls,
    /// From then on a new URL is issued instead of handing this one out again.
    pub renew_after: WallTime,
}

/// What a session has besides its membership, at a clean stop.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Number of its offered ticket.
    pub offered: u64,
    /// Last accepted attempt to resume.
    pub attempt: u64,
    /// Last id that was used.
    pub last_id: Option<u64>,
    /// Answers that may not have arrived: id, hash of the request, text.
    pub answers: Vec<(u64, u64, String)>,
    /// Number of the newest targeted message, and those that may not have arrived.
    pub message_head: u64,
    /// Encoded, the oldest first; the last one has the number above.
    pub messages: Vec<String>,
    /// What it plays.
    pub pulls: Vec<PullRecord>,
    /// Milliseconds since its socket was lost, 0 if it had one.
    pub lost_ms: u64,
    /// Milliseconds since its socket was lost for the first time without a lasting one since.
    pub first_lost_ms: u64,
    /// Tickets with greater numbers may have been given by a process that crashed.
    #[serde(default)]
    pub floor_only: bool,
    /// It was loaded after a crash, and its client is not known to be back.
    #[serde(default)]
    pub restored: bool,
    /// Milliseconds since media flowed on a push URL of it.
    pub media_ms: Option<u64>,
}

/// A ban or a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanRecord {
    /// It ends then.
    pub until: WallTime,
    /// Tokens and tickets issued up to then are refused.
    pub watermark: WallTime,
    /// Who made it; `None` for an operator, and in files of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<UserId>,
    /// The token of who made it named no uid: it counts for all such.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unnamed: bool,
}

/// A push task.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Its id.
    pub task: TaskId,
    /// Tells it from another task of that id.
    pub life: u64,
    /// Who added it; none for one of the app's server.
    pub owner: Option<UserId>,
    /// What it is told to do.
    pub spec: Spec,
    /// Grows with each update.
    pub revision: u64,
    /// Number of its last run.
    pub run: u64,
    /// What members were told last.
    pub state: TaskState,
    /// The number of that.
    pub code: u16,
    /// How often in a row it was tried again.
    pub retries: u32,
}

/// The claim of a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRecord {
    /// Whose it is; none while it rests.
    pub holder: Option<Holder>,
    /// It rests until then.
    pub rests_until: Option<WallTime>,
}

impl SessionRecord {
    /// Whether an engine can have written this.
    pub(crate) fn is_sound(&self) -> bool {
        let numbers = [self.offered, self.attempt, self.last_id.unwrap_or(0), self.message_head];
        numbers.iter().all(|number| *number <= MAX_NUMBER)
            && self.messages.len() as u64 <= self.message_head
    }
}

macro_rules! hides {
    ($($record:ident { $($field:ident),* })+) => {$(
        impl fmt::Debug for $record {
            /// Without secrets: URLs, join ids, answers.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($record))
                    $(.field(stringify!($field), &self.$field))*
                    .finish_non_exhaustive()
            }
        }
    )+};
}

hides! {
    MemberRecord { uid, mid, role, muted, published, confirmed, forced }
    PushRecord { generation, kind }
    Minted { renew_after }
    TaskRecord { task, owner, revision, run, state, retries }
    SessionRecord { offered, attempt, last_id, message_head }
}

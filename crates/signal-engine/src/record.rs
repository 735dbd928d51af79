//! Records that an engine writes and is restored from (ADR 0009). Comes in and goes out: plain values of a stable
//! format. Deliberately absent: where they are written (`rows`).
//!
//! A record holds durations that have passed, or times of the wall clock, never instants of the monotonic clock, which
//! ends with the process. The parts `live` are written at a clean stop only: after a crash they would be stale, and are
//! ignored.

use std::fmt;

use lianmai_protocol::message::media::Urls;
use lianmai_protocol::message::task::TaskState;
use lianmai_protocol::{
    Attributes, Cid, Epoch, Gen, KindSet, MediaKind, Mid, Pub, Rights, Role, SessionId, TaskId,
    UserId, WallTime,
};
use serde::{Deserialize, Serialize};

use crate::task::{Holder, Spec};

/// Greatest number in a record. Only a damaged record has a greater one.
pub(crate) const MAX_NUMBER: u64 = 1 << 53;

fn always() -> bool {
    true
}

/// A channel without its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelRecord {
    /// Its incarnation.
    pub cid: Cid,
    /// Its creator; `None` until the first join, if it was created without one.
    pub creator: Option<UserId>,
    /// Its attributes.
    pub attributes: Attributes,
    /// Members that a moderator made audience, each with the moderator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub demoted: Vec<(UserId, UserId)>,
    /// Members that an operator made audience.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept_down: Vec<UserId>,
    /// Kinds that a uid may not publish, as an operator set them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub barred: Vec<(UserId, KindSet)>,
    /// Its own rules.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rules: ChannelRules,
    /// Created before its first join: it is kept until then without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared_until: Option<WallTime>,
    /// Its log, at a clean stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<LogRecord>,
}

impl ChannelRecord {
    /// Whether it lives without members.
    pub(crate) fn outlives_members(&self, now: WallTime) -> bool {
        self.rules.keep_empty || self.prepared_until.is_some_and(|until| until > now)
    }
}

/// Rules that an operator sets for one channel; where one is absent, the app's rule applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChannelRules {
    /// Whether a second join of the same uid is refused.
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
    /// Its rights.
    pub rights: Rights,
    /// Its token is for its uid alone; absent means `true`, as in older files.
    #[serde(default = "always", skip_serializing_if = "Clone::clone")]
    pub named: bool,
    /// Display name.
    pub name: Option<String>,
    /// Its attributes.
    pub attributes: Attributes,
    /// The kinds that are muted.
    pub muted: KindSet,
    /// When its token ends it.
    pub token_end: Option<WallTime>,
    /// Its publications.
    pub published: Vec<(MediaKind, Pub)>,
    /// Its push URLs.
    pub pushes: Vec<PushRecord>,
    /// Number of its confirmed ticket.
    pub confirmed: u64,
    /// The last change by somebody else that its client may not have seen.
    pub forced: Option<(Epoch, u64)>,
    /// Its session, at a clean stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<SessionRecord>,
}

/// A push URL.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushRecord {
    /// The stream.
    pub generation: Gen,
    /// A kind that it carries.
    pub kind: MediaKind,
    /// The URL as it was handed out.
    pub minted: Minted,
    /// Number of the address that its member is known to have it for (ADR 0014); absent in older files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<u64>,
}

/// A pull URL: stream, kinds, the URL as it was handed out, and the address as in [`PushRecord`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRecord(pub Gen, pub KindSet, pub Minted, #[serde(default)] pub Option<u64>);

/// URLs of one stream, as issued and as stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Minted {
    /// The preferred URL.
    pub url: String,
    /// URLs by protocol.
    pub urls: Urls,
    /// From then on a new URL is issued instead of handing this one out again.
    pub renew_after: WallTime,
}

/// State of a session beyond its membership, at a clean stop.
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
    /// Number of the newest targeted message.
    pub message_head: u64,
    /// Targeted messages that may not have arrived, encoded, the oldest first; the last one has the number
    /// `message_head`.
    pub messages: Vec<String>,
    /// Its pull URLs.
    pub pulls: Vec<PullRecord>,
    /// Milliseconds since its socket was lost, 0 if it had one.
    pub lost_ms: u64,
    /// Milliseconds since the first loss of a socket after the last connection that lasted (LIV-3).
    pub first_lost_ms: u64,
    /// Tickets with greater numbers may have been issued by a process that crashed.
    #[serde(default)]
    pub floor_only: bool,
    /// It was restored after a crash, and its client is not known to be back.
    #[serde(default)]
    pub restored: bool,
    /// Milliseconds since the last media on one of its push URLs.
    pub media_ms: Option<u64>,
}

/// A ban or a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanRecord {
    /// When it ends.
    pub until: WallTime,
    /// Tokens and tickets issued up to then are refused.
    pub watermark: WallTime,
    /// The moderator that made it; `None` for an operator, and in older files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<UserId>,
    /// The token of that moderator named no uid: all such moderators of an app are charged together.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unnamed: bool,
}

/// A push task.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Its id.
    pub task: TaskId,
    /// Distinguishes it from other tasks with the same id.
    pub life: u64,
    /// Its owner; `None` for a task of the app's server.
    pub owner: Option<UserId>,
    /// Its specification.
    pub spec: Spec,
    /// Grows with each update.
    pub revision: u64,
    /// Number of its last run.
    pub run: u64,
    /// The state that members were told last.
    pub state: TaskState,
    /// The code that members were told last.
    pub code: u16,
    /// How often in a row it was tried again.
    pub retries: u32,
}

/// The claim of a push address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRecord {
    /// Its holder; `None` while it rests.
    pub holder: Option<Holder>,
    /// When its rest ends.
    pub rests_until: Option<WallTime>,
}

impl SessionRecord {
    /// Whether its numbers are in range.
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

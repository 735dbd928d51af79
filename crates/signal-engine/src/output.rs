//! Everything that an engine can ask of its shell, in one ordered queue.

use bytes::Bytes;
use lianmai_protocol::message::event::LeaveReason;
use lianmai_protocol::message::session::{Outcome, ResumeReason};
use lianmai_protocol::message::task::TaskInfo;
use lianmai_protocol::{
    Appkey, Attributes, Cid, CloseCode, ErrorName, Gen, KindSet, MediaKind, Mid, Pub, Rights, Role,
    RpcError, TaskId, UserId, WallTime,
};

use crate::asks::Question;
use crate::ids::{AskId, ConnId, QueryId};
use crate::key::ChannelKey;
use crate::record::ChannelRules;
use crate::rows::RowOp;
use crate::task::{Address, Claim, Claimed, Order};

/// Why a push or play is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// No live publication has this stream.
    UnknownStream,
    /// The viewer is not, or no longer, subscribed to it.
    NotSubscribed,
    /// The viewer may be back soon, and is waited for no longer, or by too many: ask again later.
    Busy,
}

impl Denial {
    /// The code that the media client is told.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Denial::UnknownStream => "unknownStream",
            Denial::NotSubscribed => "notSubscribed",
            Denial::Busy => "busy",
        }
    }
}

/// A push or play that is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The app.
    pub appkey: Appkey,
    /// The member that pushes or plays, for whom it counts.
    pub uid: UserId,
    /// The kinds that are published, or that the viewer subscribes. What [`Output::SetPublished`] and
    /// [`Output::SetSubscribed`] say later is newer.
    pub kinds: KindSet,
}

/// Something that happened, for logs, counters and whoever follows channels from outside. Holds no secret.
///
/// Notes come in the order in which things happened: a channel begins before its first membership, a membership
/// before its publications, and they end the other way round. What begins ends once, and what a restart brings back
/// neither begins nor ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A channel began.
    ChannelOpened {
        /// Its name.
        channel: ChannelKey,
        /// Its incarnation.
        cid: Cid,
    },
    /// A channel ended.
    ChannelEnded {
        /// Its name.
        channel: ChannelKey,
        /// Its incarnation.
        cid: Cid,
    },
    /// A membership began.
    MemberJoined {
        /// Its channel.
        channel: ChannelKey,
        /// The incarnation of it.
        cid: Cid,
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
        /// Its role.
        role: Role,
        /// Its connection.
        conn: ConnId,
    },
    /// A member became a broadcaster, or is none any more.
    RoleChanged {
        /// Its channel.
        channel: ChannelKey,
        /// The incarnation of it.
        cid: Cid,
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
        /// The new role.
        role: Role,
    },
    /// A publication began.
    StreamAdded {
        /// The channel.
        channel: ChannelKey,
        /// The incarnation of it.
        cid: Cid,
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
        /// What it is.
        kind: MediaKind,
        /// The publication.
        publication: Pub,
    },
    /// A publication ended.
    StreamRemoved {
        /// The channel.
        channel: ChannelKey,
        /// The incarnation of it.
        cid: Cid,
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
        /// What it was.
        kind: MediaKind,
        /// The publication.
        publication: Pub,
    },
    /// A membership ended.
    MemberLeft {
        /// Its channel.
        channel: ChannelKey,
        /// The incarnation of it.
        cid: Cid,
        /// The user.
        uid: UserId,
        /// The membership.
        mid: Mid,
        /// Why.
        reason: LeaveReason,
    },
    /// A push task was added.
    TaskAdded {
        /// The channel.
        channel: ChannelKey,
        /// The incarnation of it.
        cid: Cid,
        /// The task.
        task: TaskId,
        /// Whose it is; `None` is the app's server.
        owner: Option<UserId>,
    },
    /// A push task does something else than before, or was told to.
    TaskChanged {
        /// The channel.
        channel: ChannelKey,
        /// The incarnation of it.
        cid: Cid,
        /// What members know of it.
        info: TaskInfo,
        /// One sentence.
        msg: String,
    },
    /// A push task ended.
    TaskEnded {
        /// The channel.
        channel: ChannelKey,
        /// The incarnation of it.
        cid: Cid,
        /// The task.
        task: TaskId,
        /// One sentence.
        msg: String,
    },
    /// A join was refused.
    JoinRefused {
        /// The channel.
        channel: ChannelKey,
        /// The connection.
        conn: ConnId,
        /// Why.
        error: ErrorName,
    },
    /// A session came back, or was refused.
    Resumed {
        /// The channel.
        channel: ChannelKey,
        /// The user.
        uid: UserId,
        /// The membership; `None` where the resume was refused.
        mid: Option<Mid>,
        /// The connection.
        conn: ConnId,
        /// What came of it.
        outcome: Outcome,
        /// Why, where it was not replayed.
        reason: Option<ResumeReason>,
    },
    /// A command was refused.
    CommandRefused {
        /// The connection.
        conn: ConnId,
        /// Its method, if it was readable.
        method: Option<&'static str>,
        /// Why.
        error: ErrorName,
    },
    /// The server closes a connection.
    Closing {
        /// The connection.
        conn: ConnId,
        /// Why.
        code: CloseCode,
    },
}

/// What one push carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PushKind {
    /// Sound, picture or both of a member.
    Av,
    /// The screen of a member.
    ScreenShare,
    /// The second sound of a member.
    SlaveAudio,
}

impl PushKind {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            PushKind::Av => "av",
            PushKind::ScreenShare => "screenShare",
            PushKind::SlaveAudio => "slaveAudio",
        }
    }
}

/// Whose a stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The channel.
    pub channel: ChannelKey,
    /// Who publishes.
    pub uid: UserId,
    /// What.
    pub kind: PushKind,
}

/// One channel as the admin API sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelView {
    /// Its name.
    pub channel: ChannelKey,
    /// Its incarnation.
    pub cid: Cid,
    /// Who made it; `None` where nobody is and nobody has joined yet.
    pub creator: Option<UserId>,
    /// Members, audience included.
    pub members: usize,
    /// Broadcasters.
    pub broadcasters: usize,
}

/// One member as the admin API sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// The user.
    pub uid: UserId,
    /// The membership.
    pub mid: Mid,
    /// Its role.
    pub role: Role,
    /// Whether it has a socket now.
    pub connected: bool,
    /// What it publishes.
    pub published: KindSet,
    /// What it muted.
    pub muted: KindSet,
}

/// One channel with all that is to be said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelDetail {
    /// What a list shows.
    pub view: ChannelView,
    /// Its attributes.
    pub attributes: Attributes,
    /// What was laid down for it alone.
    pub rules: ChannelRules,
    /// Made ahead of its first join: it is kept so long without one.
    pub prepared_until: Option<WallTime>,
}

/// One member with all that is to be said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDetail {
    /// The user.
    pub uid: UserId,
    /// The membership.
    pub mid: Mid,
    /// Its role.
    pub role: Role,
    /// Display name.
    pub name: Option<String>,
    /// Its attributes.
    pub attributes: Attributes,
    /// Whether it has a socket now.
    pub connected: bool,
    /// What it may do.
    pub rights: Rights,
    /// Kinds that it may not publish here, whatever its token says.
    pub barred: KindSet,
    /// What it muted.
    pub muted: KindSet,
    /// What it publishes.
    pub streams: Vec<(MediaKind, Pub)>,
}

/// One ban or hold as the admin API sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanView {
    /// The channel's name.
    pub channel: ChannelKey,
    /// Who is refused there; `None` where the name is held.
    pub uid: Option<UserId>,
    /// The moderator that made it; `None` for an operator.
    pub by: Option<UserId>,
    /// For how long still, in milliseconds; 0 where only tokens and tickets of before are refused.
    pub left_ms: u64,
}

/// One push task as the admin API sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskView {
    /// What members know of it.
    pub info: TaskInfo,
    /// Where it pushes to.
    pub address: Address,
    /// Whether a file is written as well.
    pub record: bool,
    /// Number of its present or last run.
    pub run: u64,
}

/// Answer to the admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminReply {
    /// Channels.
    Channels(Vec<ChannelView>),
    /// One channel.
    Channel(ChannelView, Vec<MemberView>),
    /// Push tasks of one channel.
    Tasks(Vec<TaskView>),
    /// It took effect.
    Done,
    /// Bans.
    Bans(Vec<BanView>),
    /// So many bans ended.
    Lifted(usize),
    /// One channel.
    Detail(Box<ChannelDetail>),
    /// A channel of that name is there already.
    Exists,
    /// Members.
    Members(Vec<MemberDetail>),
    /// A message went to so many.
    Sent(u64),
}

/// Counters of an engine, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Channels that exist.
    pub channels: usize,
    /// Memberships, those in grace included.
    pub members: usize,
    /// Memberships with a socket.
    pub connected: usize,
    /// Live push URLs.
    pub streams: usize,
    /// Plays that wait for their viewer to come back after a crash.
    pub waiting_plays: usize,
    /// Bytes of all logs of events.
    pub log_bytes: usize,
    /// Bytes of targeted messages that may not have arrived.
    pub message_bytes: usize,
    /// Events logged since the start.
    pub events: u64,
    /// Frames handed out since the start.
    pub frames: u64,
    /// Commands that were answered with a result since the start.
    pub commands: u64,
    /// Commands and joins that were refused since the start.
    pub refusals: u64,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send a text frame; the payload is shared between receivers.
    Send {
        /// The connection.
        conn: ConnId,
        /// The payload.
        frame: Bytes,
    },
    /// Send a WebSocket ping; what comes back is [`crate::Input::Alive`].
    Ping {
        /// The connection.
        conn: ConnId,
    },
    /// Close the socket after what was sent before. The connection is forgotten.
    Close {
        /// The connection.
        conn: ConnId,
        /// With this code, whose name is the reason.
        code: CloseCode,
    },
    /// Find out or do this, and say so with [`crate::Input::Answer`].
    Ask {
        /// Number of the question.
        id: AskId,
        /// What is asked.
        question: Question,
    },
    /// The answer to [`crate::Input::Authorize`] comes later. Say [`crate::Input::Withdraw`] when nobody waits for it any
    /// more.
    Waits {
        /// Number of the question.
        query: QueryId,
    },
    /// Answer to [`crate::Input::Authorize`].
    Verdict {
        /// Number of the question.
        query: QueryId,
        /// Allowed or not.
        verdict: Result<Allowed, Denial>,
    },
    /// Other kinds of a stream are published than were before. It goes on.
    SetPublished {
        /// The app, which may have its own media provider.
        appkey: Appkey,
        /// The stream.
        generation: Gen,
        /// All kinds that are published on it now, at least one.
        kinds: KindSet,
    },
    /// A viewer of a stream subscribes other kinds of it than it did before. It goes on playing.
    SetSubscribed {
        /// The app, which may have its own media provider.
        appkey: Appkey,
        /// The stream.
        generation: Gen,
        /// The viewer.
        viewer: Mid,
        /// All kinds that it subscribes now, at least one.
        kinds: KindSet,
    },
    /// End the push of a stream and everyone who plays it, at once.
    CutStream {
        /// The app, which may have its own media provider.
        appkey: Appkey,
        /// The stream.
        generation: Gen,
    },
    /// End what one viewer plays of a stream, at once.
    CutViewer {
        /// The app, which may have its own media provider.
        appkey: Appkey,
        /// The stream.
        generation: Gen,
        /// The viewer.
        viewer: Mid,
    },
    /// Answer to [`crate::Input::Claim`].
    Claimed {
        /// Number of the question.
        query: QueryId,
        /// The answer.
        claimed: Claimed,
    },
    /// Hand this to the engine that keeps the claim, as [`crate::Input::Release`], behind what it was handed before.
    Release {
        /// Who had what.
        claim: Claim,
        /// Something may have pushed there.
        rest: bool,
    },
    /// Tell an executor.
    Order(Order),
    /// Answer to [`crate::Input::Admin`].
    AdminReply {
        /// Number of the question.
        query: QueryId,
        /// The answer.
        reply: Result<AdminReply, RpcError>,
    },
    /// Write this down, in this order, behind every write of before. Nobody waits for it.
    Store(Vec<RowOp>),
    /// The drain is over: every connection is closed, and all is written down if `handed_over`.
    Drained {
        /// Whether the next process can go on where this one ends.
        handed_over: bool,
    },
    /// Log or count something.
    Note(Note),
}

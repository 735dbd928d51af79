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
use crate::task::{Address, Claim, Claimed, RunOrder};

/// Why a push or play is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// No live publication has this stream.
    UnknownStream,
    /// The viewer is not, or no longer, subscribed to it.
    NotSubscribed,
    /// The viewer may be back soon, but its wait is over, or too many plays wait. Ask again later.
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

/// A push or play that is permitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The app.
    pub appkey: Appkey,
    /// The member that pushes or plays.
    pub uid: UserId,
    /// The kinds that are published, or that the viewer subscribes to. A later [`Output::SetPublished`] or
    /// [`Output::SetSubscribed`] replaces them.
    pub kinds: KindSet,
}

/// An event for logs, counters and the journal. Holds no secret.
///
/// Notes come in the order of the events: a channel begins before its first membership, a membership before its
/// publications, and they end the other way round. Each of them ends once. Restored ones neither begin nor end.
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
    /// The role of a member changed.
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
        /// The kind.
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
        /// The kind.
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
        /// Its owner; `None` for the app's server.
        owner: Option<UserId>,
    },
    /// The state of a push task changed, or it was updated.
    TaskChanged {
        /// The channel.
        channel: ChannelKey,
        /// The incarnation of it.
        cid: Cid,
        /// The task as members see it.
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
    /// A session resumed, or was refused.
    Resumed {
        /// The channel.
        channel: ChannelKey,
        /// The user.
        uid: UserId,
        /// The membership; `None` where the resume was refused.
        mid: Option<Mid>,
        /// The connection.
        conn: ConnId,
        /// The outcome.
        outcome: Outcome,
        /// Why; `None` if it was replayed.
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

/// The content of one push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PushKind {
    /// Audio, video or both of a member.
    Av,
    /// The screen of a member.
    ScreenShare,
    /// The second audio of a member.
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

/// The owner and the content of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The channel.
    pub channel: ChannelKey,
    /// The publisher.
    pub uid: UserId,
    /// The content.
    pub kind: PushKind,
}

/// One channel as the admin API sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelView {
    /// Its name.
    pub channel: ChannelKey,
    /// Its incarnation.
    pub cid: Cid,
    /// Its creator; `None` until the first join, if it was created without one.
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
    /// The kinds that it publishes.
    pub published: KindSet,
    /// The kinds that are muted.
    pub muted: KindSet,
}

/// One channel in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelDetail {
    /// As in a list of channels.
    pub view: ChannelView,
    /// Its attributes.
    pub attributes: Attributes,
    /// Its own rules.
    pub rules: ChannelRules,
    /// Created before its first join: it is kept until then without one.
    pub prepared_until: Option<WallTime>,
}

/// One member in full.
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
    /// Its rights in this channel.
    pub rights: Rights,
    /// Kinds that it may not publish here, whatever its token says.
    pub barred: KindSet,
    /// The kinds that are muted.
    pub muted: KindSet,
    /// Its publications.
    pub streams: Vec<(MediaKind, Pub)>,
}

/// One ban or hold as the admin API sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanView {
    /// The channel's name.
    pub channel: ChannelKey,
    /// The banned uid; `None` for a hold of the name.
    pub uid: Option<UserId>,
    /// The moderator that made it; `None` for an operator.
    pub by: Option<UserId>,
    /// Milliseconds that are left; 0 if only earlier tokens and tickets are refused.
    pub left_ms: u64,
}

/// One push task as the admin API sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskView {
    /// The task as members see it.
    pub info: TaskInfo,
    /// Its push address.
    pub address: Address,
    /// Whether it is recorded to a file as well.
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
    /// The change took effect.
    Done,
    /// Bans.
    Bans(Vec<BanView>),
    /// Number of bans that ended.
    Lifted(usize),
    /// One channel.
    Detail(Box<ChannelDetail>),
    /// A channel of that name exists already.
    Exists,
    /// Members.
    Members(Vec<MemberDetail>),
    /// Number of members that a message was sent to.
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

/// One order of the engine to the shell.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send a text frame; the payload is shared between receivers.
    Send {
        /// The connection.
        conn: ConnId,
        /// The payload.
        frame: Bytes,
    },
    /// Send a WebSocket ping; the pong is [`crate::Input::ControlFrame`].
    Ping {
        /// The connection.
        conn: ConnId,
    },
    /// Close the socket after the frames that were sent before. The engine forgets the connection.
    Close {
        /// The connection.
        conn: ConnId,
        /// With this code, whose name is the reason.
        code: CloseCode,
    },
    /// Answer this question, with [`crate::Input::Answer`].
    Ask {
        /// Number of the question.
        id: AskId,
        /// The question.
        question: Question,
    },
    /// The answer to [`crate::Input::Authorize`] comes later. Send [`crate::Input::CancelAuthorize`] when it is no
    /// longer needed.
    AuthorizePending {
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
    /// The published kinds of a stream changed. The stream goes on.
    SetPublished {
        /// The app, which may have its own media provider.
        appkey: Appkey,
        /// The stream.
        generation: Gen,
        /// All kinds that are published on it now, at least one.
        kinds: KindSet,
    },
    /// The kinds that a viewer subscribes to on a stream changed. Its play goes on.
    SetSubscribed {
        /// The app, which may have its own media provider.
        appkey: Appkey,
        /// The stream.
        generation: Gen,
        /// The viewer.
        viewer: Mid,
        /// All kinds that it subscribes to now, at least one.
        kinds: KindSet,
    },
    /// End the push of a stream and all its plays, at once.
    CutStream {
        /// The app, which may have its own media provider.
        appkey: Appkey,
        /// The stream.
        generation: Gen,
    },
    /// End the play of a stream by one viewer, at once.
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
    /// Hand this to the engine that keeps the claim, as [`crate::Input::Release`], after what it was handed before.
    Release {
        /// The claim.
        claim: Claim,
        /// Whether a run may have pushed to the address.
        rest: bool,
    },
    /// Send an order to an executor.
    Order(RunOrder),
    /// Answer to [`crate::Input::Admin`].
    AdminReply {
        /// Number of the question.
        query: QueryId,
        /// The answer.
        reply: Result<AdminReply, RpcError>,
    },
    /// Write these rows in this order, after every earlier write. No answer is needed.
    Store(Vec<RowOp>),
    /// The drain is over: every connection is closed, and all state is stored if `handed_over`.
    Drained {
        /// Whether the next process can continue where this one ends.
        handed_over: bool,
    },
    /// Log or count something.
    Note(Note),
}

//! Everything that can happen to an engine.

use bytes::Bytes;
use lianmai_protocol::message::session::{Join, Reconnect};
use lianmai_protocol::{
    Appkey, Attributes, ChannelName, ErrorName, Gen, KindSet, Map, Mid, RequestId, Role, UserId,
};

use crate::admission::Grant;
use crate::asks::Answer;
use crate::drain::DrainPlan;
use crate::ids::{AskId, ConnId, Peer, QueryId};
use crate::key::ChannelKey;
use crate::record::ChannelRules;
use crate::rows::Restored;
use crate::seen::{PushState, Seen};
use crate::task::{Claim, Report, RunId, TaskChange};
use crate::ticket::Claims;

/// A `join` that the [`crate::Lobby`] let through, with what the shell found in its token.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// Id to answer to.
    pub id: RequestId,
    /// The parameters.
    pub join: Join,
    /// What the token grants, or why it is none.
    pub grant: Result<Grant, ErrorName>,
}

/// A `reconnect` that the [`crate::Lobby`] let through: its ticket is genuine.
#[derive(Clone, Debug)]
pub struct ReconnectRequest {
    /// Id to answer to.
    pub id: RequestId,
    /// The parameters.
    pub reconnect: Reconnect,
    /// What the ticket says.
    pub claims: Claims,
}

/// How somebody wants to use a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Push it.
    Publish,
    /// Play it, as the membership that the URL was signed for.
    Play {
        /// That membership.
        viewer: Mid,
    },
}

/// What the admin API asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminCommand {
    /// Every channel of this shard.
    ListChannels,
    /// One channel with its members, audience included.
    GetChannel(ChannelKey),
    /// As `kick`.
    Kick {
        /// The channel.
        channel: ChannelKey,
        /// Who goes.
        uid: UserId,
        /// Seconds of ban.
        duration_s: u32,
        /// Free text.
        reason: Option<String>,
    },
    /// As `closeChannel`.
    Close {
        /// The channel.
        channel: ChannelKey,
        /// Seconds of hold.
        hold_s: u32,
        /// Free text.
        reason: Option<String>,
    },
    /// The bans of a channel's name, or of all of this shard.
    ListBans(Option<ChannelKey>),
    /// Ends the bans of a uid, or the hold of the name: who was kept out may come back with what it has.
    LiftBan {
        /// The channel.
        channel: ChannelKey,
        /// Who may come back; `None` ends the hold.
        uid: Option<UserId>,
    },
    /// So many channels of an app behind a name, in the order of names.
    PageChannels {
        /// The app.
        appkey: Appkey,
        /// Behind this name.
        after: Option<ChannelName>,
        /// At most so many.
        limit: usize,
    },
    /// Makes a channel ahead of its first join.
    Create {
        /// The channel.
        channel: ChannelKey,
        /// Whose it is; where it is nobody's, who joins first.
        creator: Option<UserId>,
        /// What is laid down for it alone.
        rules: ChannelRules,
        /// Its attributes.
        attributes: Attributes,
    },
    /// One channel with all that is to be said of it.
    Show(ChannelKey),
    /// So many members of a channel behind a uid, in the order of uids.
    PageMembers {
        /// The channel.
        channel: ChannelKey,
        /// Behind this uid.
        after: Option<UserId>,
        /// At most so many.
        limit: usize,
    },
    /// One member.
    ShowMember {
        /// The channel.
        channel: ChannelKey,
        /// Who.
        uid: UserId,
    },
    /// Sets and removes attributes of a channel.
    SetAttributes {
        /// The channel.
        channel: ChannelKey,
        /// Keys to set, and keys to remove (`None`).
        patch: Map<String, Option<String>>,
    },
    /// Lays down other rules for a channel.
    SetRules {
        /// The channel.
        channel: ChannelKey,
        /// All of them.
        rules: ChannelRules,
    },
    /// As a moderator's `setRole`.
    SetRole {
        /// The channel.
        channel: ChannelKey,
        /// Who.
        uid: UserId,
        /// Its new role.
        role: Role,
    },
    /// Says which kinds a uid may not publish in a channel.
    Bar {
        /// The channel.
        channel: ChannelKey,
        /// Who.
        uid: UserId,
        /// All of them.
        kinds: KindSet,
    },
    /// Sends a message in the name of a uid.
    Announce {
        /// The channel.
        channel: ChannelKey,
        /// The uid that it is said to be from.
        uid: UserId,
        /// The message.
        data: String,
        /// To these only.
        to: Option<Vec<UserId>>,
    },
    /// Ends every ban, hold and demotion that a moderator has made in channels of an app.
    LiftBansBy {
        /// The app.
        appkey: Appkey,
        /// The moderator.
        by: UserId,
    },
    /// The push tasks of a channel.
    GetTasks(ChannelKey),
    /// As `addTasks`, `updateTasks`, `deleteTasks`; the tasks have no owner.
    Tasks {
        /// The channel.
        channel: ChannelKey,
        /// What is to be done.
        change: TaskChange,
    },
}

impl AdminCommand {
    /// The channel that it is about; `None` concerns every shard.
    #[must_use]
    pub fn channel(&self) -> Option<&ChannelKey> {
        match self {
            AdminCommand::ListChannels
            | AdminCommand::PageChannels { .. }
            | AdminCommand::LiftBansBy { .. } => None,
            AdminCommand::ListBans(channel) => channel.as_ref(),
            AdminCommand::GetChannel(channel)
            | AdminCommand::LiftBan { channel, .. }
            | AdminCommand::GetTasks(channel)
            | AdminCommand::Tasks { channel, .. }
            | AdminCommand::Create { channel, .. }
            | AdminCommand::Show(channel)
            | AdminCommand::PageMembers { channel, .. }
            | AdminCommand::ShowMember { channel, .. }
            | AdminCommand::SetAttributes { channel, .. }
            | AdminCommand::SetRules { channel, .. }
            | AdminCommand::SetRole { channel, .. }
            | AdminCommand::Bar { channel, .. }
            | AdminCommand::Announce { channel, .. }
            | AdminCommand::Kick { channel, .. }
            | AdminCommand::Close { channel, .. } => Some(channel),
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A connection that is in the lobby asks to join.
    Join {
        /// The connection; it belongs to this engine from now on.
        conn: ConnId,
        /// Whom it counts for.
        peer: Peer,
        /// What it asks.
        request: Box<JoinRequest>,
    },
    /// A connection that is in the lobby asks to resume.
    Reconnect {
        /// The connection; it belongs to this engine from now on.
        conn: ConnId,
        /// Whom it counts for.
        peer: Peer,
        /// What it asks.
        request: Box<ReconnectRequest>,
    },
    /// A text frame of a connection.
    Frame {
        /// The connection.
        conn: ConnId,
        /// The payload.
        frame: Bytes,
    },
    /// A frame that is no text frame.
    BinaryFrame {
        /// The connection.
        conn: ConnId,
    },
    /// A sign of life below the protocol: a WebSocket ping or pong.
    Alive {
        /// The connection.
        conn: ConnId,
    },
    /// The socket is gone.
    Closed {
        /// The connection.
        conn: ConnId,
    },
    /// More bytes wait for the connection than the shell allows, or it took none for too long.
    Lagging {
        /// The connection.
        conn: ConnId,
    },
    /// Answer to [`crate::Output::Ask`]. One to a question that is not open any more is ignored.
    Answer {
        /// Which question.
        id: AskId,
        /// What is said to it.
        answer: Answer,
    },
    /// Somebody wants to push or play a stream with a URL whose signature is right.
    Authorize {
        /// Number of the question.
        query: QueryId,
        /// The stream.
        generation: Gen,
        /// Push or play.
        access: Access,
    },
    /// Nobody waits any more for the answer to a question of [`crate::Output::Waits`]. There will be none, unless it is on
    /// its way already.
    Withdraw {
        /// Number of the question.
        query: QueryId,
    },
    /// The relay sees payload on a stream. To be repeated while it flows.
    MediaFlow {
        /// The stream.
        generation: Gen,
    },
    /// The relay says what has become of a push.
    Push {
        /// The stream.
        generation: Gen,
        /// What.
        state: PushState,
    },
    /// The relay has looked at a stream. To be repeated every few seconds, as long as somebody pushes or plays it.
    Seen(Box<Seen>),
    /// A channel of any engine wants a place that this one keeps; answered by [`crate::Output::Claimed`].
    Claim {
        /// Number of the question.
        query: QueryId,
        /// Who wants what.
        claim: Claim,
    },
    /// A channel of any engine gives a place back, behind its claims of before.
    Release {
        /// Who had what.
        claim: Claim,
        /// Something may have pushed there.
        rest: bool,
    },
    /// An executor says something about a run.
    Task {
        /// The run.
        run: RunId,
        /// What.
        report: Report,
    },
    /// The admin API asks something.
    Admin {
        /// Number of the question.
        query: QueryId,
        /// What it asks.
        command: AdminCommand,
    },
    /// What an earlier process left behind. Comes before everything else, with a `mono` that is greater than
    /// every duration in it: a clock should begin at a day.
    Restore(Box<Restored>),
    /// The server is about to stop: members are told, moved to the next process, and written down.
    Drain(DrainPlan),
    /// The server stops at once: every connection is closed and told to come back.
    Stop,
    /// Nothing but the passing of time.
    Tick,
}

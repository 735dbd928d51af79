//! Everything that can happen to an engine.

use bytes::Bytes;
use lianmai_protocol::message::session::{Join, Reconnect};
use lianmai_protocol::{
    Appkey, Attributes, ChannelName, ErrorName, Gen, KindSet, Map, Mid, RequestId, Role, UserId,
};

use crate::asks::Answer;
use crate::drain::DrainPlan;
use crate::grant::Grant;
use crate::ids::{AddrId, AskId, ConnId, QueryId};
use crate::key::ChannelKey;
use crate::media_stats::{PushState, StreamStats};
use crate::record::ChannelRules;
use crate::rows::Restored;
use crate::task::{Claim, RunId, RunReport, TaskChange};
use crate::ticket::TicketClaims;

/// A `join` that the [`crate::Lobby`] let through, with the shell's verdict on its token.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// Id to answer to.
    pub id: RequestId,
    /// The parameters.
    pub join: Join,
    /// What the token grants, or why it is invalid.
    pub grant: Result<Grant, ErrorName>,
}

/// A `reconnect` that the [`crate::Lobby`] let through: its ticket is genuine.
#[derive(Clone, Debug)]
pub struct ReconnectRequest {
    /// Id to answer to.
    pub id: RequestId,
    /// The parameters.
    pub reconnect: Reconnect,
    /// The content of the ticket.
    pub claims: TicketClaims,
}

/// The requested use of a stream.
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

/// A command of the admin API.
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
        /// The member to remove.
        uid: UserId,
        /// Seconds of ban.
        duration_s: u32,
        /// Free text.
        reason: Option<String>,
    },
    /// As `closeChannel`.
    CloseChannel {
        /// The channel.
        channel: ChannelKey,
        /// Seconds of hold.
        hold_s: u32,
        /// Free text.
        reason: Option<String>,
    },
    /// The bans of a channel's name, and its hold.
    ListBans(ChannelKey),
    /// The bans and holds of all channels of an app.
    ListBansOfApp(Appkey),
    /// Ends the bans of a uid, or the hold of the name: tokens and tickets from before are valid again.
    LiftBan {
        /// The channel.
        channel: ChannelKey,
        /// The banned uid; `None` ends the hold.
        uid: Option<UserId>,
    },
    /// Channels of an app after a name, in the order of names.
    PageChannels {
        /// The app.
        appkey: Appkey,
        /// After this name; `None` for the first.
        after: Option<ChannelName>,
        /// Most channels in the answer.
        limit: usize,
    },
    /// Creates a channel before its first join.
    CreateChannel {
        /// The channel.
        channel: ChannelKey,
        /// Its creator; `None`: the first member that joins.
        creator: Option<UserId>,
        /// Its own rules.
        rules: ChannelRules,
        /// Its attributes.
        attributes: Attributes,
    },
    /// One channel in full.
    GetDetail(ChannelKey),
    /// Members of a channel after a uid, in the order of uids.
    PageMembers {
        /// The channel.
        channel: ChannelKey,
        /// After this uid; `None` for the first.
        after: Option<UserId>,
        /// Most members in the answer.
        limit: usize,
    },
    /// One member.
    GetMember {
        /// The channel.
        channel: ChannelKey,
        /// The member.
        uid: UserId,
    },
    /// Sets and removes attributes of a channel.
    SetAttributes {
        /// The channel.
        channel: ChannelKey,
        /// Keys to set, and keys to remove (`None`).
        patch: Map<String, Option<String>>,
    },
    /// Replaces the rules of a channel.
    SetRules {
        /// The channel.
        channel: ChannelKey,
        /// All of its own rules.
        rules: ChannelRules,
    },
    /// As a moderator's `setRole`.
    SetRole {
        /// The channel.
        channel: ChannelKey,
        /// The member.
        uid: UserId,
        /// Its new role.
        role: Role,
    },
    /// Sets the kinds that a uid may not publish in a channel.
    SetBarredKinds {
        /// The channel.
        channel: ChannelKey,
        /// The uid, which need not be a member.
        uid: UserId,
        /// All barred kinds.
        kinds: KindSet,
    },
    /// Sends a message in the name of a uid.
    Announce {
        /// The channel.
        channel: ChannelKey,
        /// The uid of the sender.
        uid: UserId,
        /// The message.
        data: String,
        /// The only recipients; `None` for all members.
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
    ChangeTasks {
        /// The channel.
        channel: ChannelKey,
        /// The change.
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
            | AdminCommand::ListBansOfApp(_)
            | AdminCommand::LiftBansBy { .. } => None,
            AdminCommand::GetChannel(channel)
            | AdminCommand::ListBans(channel)
            | AdminCommand::LiftBan { channel, .. }
            | AdminCommand::GetTasks(channel)
            | AdminCommand::ChangeTasks { channel, .. }
            | AdminCommand::CreateChannel { channel, .. }
            | AdminCommand::GetDetail(channel)
            | AdminCommand::PageMembers { channel, .. }
            | AdminCommand::GetMember { channel, .. }
            | AdminCommand::SetAttributes { channel, .. }
            | AdminCommand::SetRules { channel, .. }
            | AdminCommand::SetRole { channel, .. }
            | AdminCommand::SetBarredKinds { channel, .. }
            | AdminCommand::Announce { channel, .. }
            | AdminCommand::Kick { channel, .. }
            | AdminCommand::CloseChannel { channel, .. } => Some(channel),
        }
    }
}

/// One input.
#[derive(Clone, Debug)]
pub enum Input {
    /// A connection that is in the lobby asks to join.
    Join {
        /// The connection; it belongs to this engine from now on.
        conn: ConnId,
        /// Its app and address.
        addr: AddrId,
        /// The request.
        request: Box<JoinRequest>,
    },
    /// A connection that is in the lobby asks to resume.
    Reconnect {
        /// The connection; it belongs to this engine from now on.
        conn: ConnId,
        /// Its app and address.
        addr: AddrId,
        /// The request.
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
    ControlFrame {
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
    /// Answer to [`crate::Output::Ask`]. An answer to a question that is not open is ignored.
    Answer {
        /// Number of the question.
        id: AskId,
        /// The answer.
        answer: Answer,
    },
    /// A media client wants to push or play a stream, with a URL whose signature is valid.
    Authorize {
        /// Number of the question.
        query: QueryId,
        /// The stream.
        generation: Gen,
        /// Push or play.
        access: Access,
    },
    /// The answer to a question of [`crate::Output::AuthorizePending`] is no longer needed. None follows, unless it
    /// is in the queue already.
    CancelAuthorize {
        /// Number of the question.
        query: QueryId,
    },
    /// The relay sees payload on a stream. To be repeated while it flows.
    MediaFlow {
        /// The stream.
        generation: Gen,
    },
    /// The relay reports the state of a push.
    Push {
        /// The stream.
        generation: Gen,
        /// The state.
        state: PushState,
    },
    /// Measurements of the relay on a stream. To be repeated every few seconds, as long as the stream is pushed or
    /// played.
    StreamStats(Box<StreamStats>),
    /// A channel of any engine claims a push address that this engine keeps; answered by [`crate::Output::Claimed`].
    Claim {
        /// Number of the question.
        query: QueryId,
        /// The claim.
        claim: Claim,
    },
    /// A channel of any engine releases a claim, after its earlier claims.
    Release {
        /// The claim.
        claim: Claim,
        /// Whether a run may have pushed to the address.
        rest: bool,
    },
    /// An executor reports on a run.
    Task {
        /// The run.
        run: RunId,
        /// The report.
        report: RunReport,
    },
    /// A command of the admin API.
    Admin {
        /// Number of the question.
        query: QueryId,
        /// The command.
        command: AdminCommand,
    },
    /// The state that an earlier process stored. It is the first input, with a `mono` that is greater than every
    /// duration in it: a clock should begin at a day.
    Restore(Box<Restored>),
    /// The server is about to stop: members are notified, moved to the next process, and stored.
    Drain(DrainPlan),
    /// The server stops at once: every connection is closed and told to come back.
    Stop,
    /// Only time has passed.
    Tick,
}

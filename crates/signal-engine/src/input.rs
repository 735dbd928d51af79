//! Everything that can happen to an engine.

use bytes::Bytes;
use lianmai_protocol::message::media::Urls;
use lianmai_protocol::message::session::Join;
use lianmai_protocol::{ErrorName, Gen, Mid, RequestId, UserId, WallTime};

use crate::admission::Grant;
use crate::key::ChannelKey;

/// A connection, numbered by the shell and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// A request of the engine for URLs, to be answered with [`Input::Minted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MintId(pub u64);

/// A question of the shell, answered with an output that carries the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub u64);

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

/// URLs of one stream, as issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minted {
    /// The preferred URL.
    pub url: String,
    /// URLs by protocol.
    pub urls: Urls,
    /// From then on a new URL is issued instead of handing this one out again.
    pub renew_after: WallTime,
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
}

impl AdminCommand {
    /// The channel that it is about; `None` concerns every shard.
    #[must_use]
    pub fn channel(&self) -> Option<&ChannelKey> {
        match self {
            AdminCommand::ListChannels => None,
            AdminCommand::GetChannel(channel)
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
        /// What it asks.
        request: Box<JoinRequest>,
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
    /// Answer to [`crate::Output::MintUrls`]; `None` if no URL could be issued.
    Minted {
        /// Which request.
        mint: MintId,
        /// What was issued.
        result: Option<Minted>,
    },
    /// Answer to [`crate::Output::VerifyToken`].
    TokenVerified {
        /// The connection.
        conn: ConnId,
        /// Id of its `renewToken`.
        id: RequestId,
        /// What the token grants, or why it is none.
        grant: Result<Grant, ErrorName>,
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
    /// The relay sees payload on a stream. To be repeated while it flows.
    MediaFlow {
        /// The stream.
        generation: Gen,
    },
    /// The admin API asks something.
    Admin {
        /// Number of the question.
        query: QueryId,
        /// What it asks.
        command: AdminCommand,
    },
    /// The server stops: every connection is closed and told to come back.
    Stop,
    /// Nothing but the passing of time.
    Tick,
}

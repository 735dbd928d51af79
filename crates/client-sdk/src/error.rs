//! Why a call failed: one small enum per operation, so that a `match` sees what can really happen.
//!
//! Comes in: the [`CallError`] with which a session settles a call. Goes out: the operation's own enum,
//! chosen by the *name* of the wire's error. Deliberately absent: error numbers as keys; they repeat.

use crate::prelude::*;
use lianmai_protocol::{ErrorName, RpcError};

/// Why a call did not succeed, for every operation alike.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The server said no, or the session said it in the server's words before sending.
    #[error("{0}")]
    Refused(RpcError),
    /// The session is not in a channel, or `leave` was called.
    #[error("not in a channel")]
    NotJoined,
    /// It was not sent in time, and nothing can come of it any more. What was sent is
    /// [`CallError::OutcomeUnknown`].
    #[error("timed out before it was sent")]
    Timeout,
    /// The command was sent and may or may not have taken effect.
    #[error("sent, but the outcome is not known")]
    OutcomeUnknown,
    /// The connection ended before the command took effect.
    #[error("the connection is closed: {reason} ({code})")]
    Closed {
        /// WebSocket close code; 1006 when there was none.
        code: u16,
        /// Name of the code, or what the transport said.
        reason: String,
    },
}

/// Why a client cannot be made of its settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no address of a server.
    #[error("no address of a server")]
    NoAddress,
    /// There are too many.
    #[error("{0} addresses of servers: at most 16")]
    TooManyAddresses(usize),
    /// One is no address of a WebSocket, or longer than 1024 bytes.
    #[error("{0:?} is no address of a server: it begins with ws:// or wss://")]
    BadAddress(String),
}

impl CallError {
    pub(crate) fn refused(name: ErrorName) -> CallError {
        CallError::Refused(RpcError::bare(name))
    }

    /// The key of the error on the wire; errors made by the client have one too.
    #[must_use]
    pub fn name(&self) -> ErrorName {
        match self {
            CallError::Refused(error) => error.name().clone(),
            CallError::NotJoined => ErrorName::NotJoined,
            CallError::Timeout => ErrorName::Timeout,
            CallError::OutcomeUnknown => ErrorName::OutcomeUnknown,
            CallError::Closed { .. } => ErrorName::NotConnected,
        }
    }
}

/// A method that an app calls, and the error of its call.
#[cfg(feature = "tokio")]
pub(crate) trait Operation: lianmai_protocol::message::Method {
    /// What its caller can tell apart.
    type Error: From<CallError>;
}

/// Defines the error enum of some methods from the wire errors that their callers should tell apart.
macro_rules! operation_errors {
    ($(
        $(#[$meta:meta])*
        pub enum $name:ident of $( $method:ident ),+ { $( $(#[$vmeta:meta])* $variant:ident, )* }
    )+) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
        #[non_exhaustive]
        pub enum $name {
            $( $(#[$vmeta])* #[error("{0}")] $variant(RpcError), )*
            /// Any other refusal; [`RpcError::name`] says which.
            #[error("{0}")]
            Refused(RpcError),
            /// The session is not in a channel, or `leave` was called.
            #[error("not in a channel")]
            NotJoined,
            /// It was not sent in time, and nothing can come of it any more.
            #[error("timed out before it was sent")]
            Timeout,
            /// The command was sent and may or may not have taken effect.
            #[error("sent, but the outcome is not known")]
            OutcomeUnknown,
            /// The connection ended before the command took effect.
            #[error("the connection is closed: {reason} ({code})")]
            Closed {
                /// WebSocket close code; 1006 when there was none.
                code: u16,
                /// Name of the code, or what the transport said.
                reason: String,
            },
        }

        $(
            #[cfg(feature = "tokio")]
            impl Operation for lianmai_protocol::message::method::$method {
                type Error = $name;
            }
        )+

        impl From<CallError> for $name {
            fn from(error: CallError) -> Self {
                match error {
                    CallError::NotJoined => $name::NotJoined,
                    CallError::Timeout => $name::Timeout,
                    CallError::OutcomeUnknown => $name::OutcomeUnknown,
                    CallError::Closed { code, reason } => $name::Closed { code, reason },
                    CallError::Refused(rpc) => match rpc.name() {
                        ErrorName::NotJoined => $name::NotJoined,
                        $( ErrorName::$variant => $name::$variant(rpc), )*
                        _ => $name::Refused(rpc),
                    },
                }
            }
        }

        impl $name {
            /// What the server said, if it was the server that refused.
            #[must_use]
            pub fn rpc(&self) -> Option<&RpcError> {
                match self {
                    $( $name::$variant(rpc) => Some(rpc), )*
                    $name::Refused(rpc) => Some(rpc),
                    _ => None,
                }
            }
        }
    )+ };
}

operation_errors! {
    /// Why `join` failed. After any of these the client is where it was before: in no channel, or for
    /// `AlreadyJoined` in the one that it had joined.
    pub enum JoinError of Join {
        /// The client is in a channel, or on its way into one.
        AlreadyJoined,
        /// The appkey is malformed or unknown.
        BadAppkey,
        /// The channel name is malformed.
        BadChannelName,
        /// The uid is not a canonical decimal string.
        BadUid,
        /// The uid is greater than 2^64-1.
        UidOutOfRange,
        /// Safe mode wants a token.
        TokenMissing,
        /// Debug mode wants none.
        TokenUnexpected,
        /// The token is malformed or its signature is wrong.
        TokenInvalid,
        /// The token has expired: get a new one.
        TokenExpired,
        /// The token is not valid yet.
        TokenNotYetValid,
        /// The token was issued before a kick or close of this channel.
        TokenRevoked,
        /// The token is for another uid.
        UidMismatch,
        /// The token is for another channel.
        ChannelMismatch,
        /// The uid was kicked and is still banned.
        Banned,
        /// The uid is in the channel and the app rejects newcomers.
        DuplicateLogin,
        /// The uid replaced itself too often.
        ReplacedTooOften,
        /// The channel was closed and is held closed.
        ChannelClosed,
        /// The channel is full.
        ChannelFull,
        /// The channel has as many broadcasters as it may have.
        TooManyBroadcasters,
        /// The server has as many channels as it may have.
        TooManyChannels,
        /// The right to be a broadcaster is missing.
        Forbidden,
        /// Left and joined too often; `retry_after_ms` says when.
        RateLimited,
        /// The server is stopping.
        Draining,
    }

    /// Why `publish` or `unpublish` failed.
    pub enum PublishError of Publish, Unpublish {
        /// The role is audience.
        NotBroadcaster,
        /// The right to take back what somebody else publishes is missing.
        Forbidden,
        /// No member has this uid.
        NoSuchMember,
        /// The uid is not a canonical decimal string.
        BadUid,
        /// The uid is greater than 2^64-1.
        UidOutOfRange,
        /// The token does not allow this kind.
        PublishForbidden,
        /// The kind cannot be published.
        BadMediaType,
        /// No push URL could be issued; try again.
        UrlUnavailable,
        /// The membership or publication ended meanwhile.
        Superseded,
        /// Too fast; `retry_after_ms` says when.
        RateLimited,
        /// Too many calls wait already.
        TooManyInFlight,
    }

    /// Why `subscribe` or `unsubscribe` failed.
    pub enum SubscribeError of Subscribe, Unsubscribe {
        /// No visible member has this uid.
        NoSuchMember,
        /// The member does not publish this kind.
        NotPublished,
        /// One cannot subscribe to oneself.
        SelfTarget,
        /// The token does not allow this kind.
        SubscribeForbidden,
        /// The kind is unknown.
        BadMediaType,
        /// The uid is not a canonical decimal string.
        BadUid,
        /// The uid is greater than 2^64-1.
        UidOutOfRange,
        /// As many subscriptions as allowed.
        TooManySubscriptions,
        /// No pull URL could be issued; try again.
        UrlUnavailable,
        /// The membership or publication ended meanwhile.
        Superseded,
        /// Too fast; `retry_after_ms` says when.
        RateLimited,
        /// Too many calls wait already.
        TooManyInFlight,
    }

    /// Why `add_tasks`, `update_tasks` or `delete_tasks` failed; `data.field` says which task and what of it. Nothing took
    /// effect.
    pub enum TaskError of AddTasks, UpdateTasks, DeleteTasks {
        /// The server serves no tasks.
        MethodNotFound,
        /// The right `tasks` is missing, or the task is somebody else's.
        Forbidden,
        /// The role is audience.
        NotBroadcaster,
        /// A later operation on the task took its place.
        TaskOverridden,
        /// The task is malformed, or nobody may push to its address.
        BadTask,
        /// The channel ended.
        TaskChannelGone,
        /// As many tasks as allowed.
        TaskLimitExceeded,
        /// The channel has a task of this id.
        DuplicateTask,
        /// The channel has no task of this id.
        NoSuchTask,
        /// The server has no room for it, or could not find out.
        TaskFailed,
        /// The layout is invalid.
        BadLayout,
        /// An image of the layout is none.
        BadImage,
        /// The address belongs to another task, or rests after one; `retry_after_ms` may say when it is free.
        StreamUrlBusy,
        /// Too fast; `retry_after_ms` says when.
        RateLimited,
        /// Too many calls wait already.
        TooManyInFlight,
    }

    /// Why `send_message` failed.
    pub enum MessageError of SendMessage {
        /// The right to send messages is missing.
        Forbidden,
        /// The message is longer than the limit.
        MessageTooLarge,
        /// More recipients than allowed.
        TooManyRecipients,
        /// Too fast; `retry_after_ms` says when.
        RateLimited,
        /// Too many calls wait already.
        TooManyInFlight,
    }

    /// Why `renew_token` failed. The old token stays in force.
    pub enum RenewTokenError of RenewToken {
        /// The token is malformed or its signature is wrong.
        TokenInvalid,
        /// The token has expired already.
        TokenExpired,
        /// The token is not valid yet.
        TokenNotYetValid,
        /// The token was issued before a kick or close of this channel.
        TokenRevoked,
        /// The app runs in debug mode.
        TokenUnexpected,
        /// The token is for another uid.
        UidMismatch,
        /// The token is for another channel.
        ChannelMismatch,
        /// The token is for another app.
        BadAppkey,
    }

    /// Why `leave` failed. Whatever it says, the client is out of the channel on its side; an outcome
    /// that is not known means that others may see it until the server's grace ends.
    pub enum LeaveError of Leave {}

    /// Why `set_role`, `mute`, `unmute`, `kick`, `close_channel`, `set_attributes` or `report` failed.
    pub enum CommandError of SetRole, Mute, Unmute, Kick, CloseChannel, SetAttributes, Report {
        /// A right is missing.
        Forbidden,
        /// The role does not allow it.
        NotBroadcaster,
        /// No member has this uid.
        NoSuchMember,
        /// It cannot be done to oneself.
        SelfTarget,
        /// The kind does not fit.
        BadMediaType,
        /// The role is unknown.
        BadRole,
        /// An attribute key is empty or too long, or there are too many.
        BadAttributes,
        /// The attributes are larger than the limit.
        AttributesTooLarge,
        /// The duration is out of range.
        BadDuration,
        /// The reason is too long.
        BadReason,
        /// The name is too long.
        BadName,
        /// The uid is not a canonical decimal string.
        BadUid,
        /// The uid is greater than 2^64-1.
        UidOutOfRange,
        /// The channel has as many broadcasters as it may have.
        TooManyBroadcasters,
        /// As many bans, holds and demotions as the member may have made.
        TooManyBans,
        /// Too fast; `retry_after_ms` says when.
        RateLimited,
        /// Too many calls wait already.
        TooManyInFlight,
    }
}

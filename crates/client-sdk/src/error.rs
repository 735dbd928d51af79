//! Errors of calls: one small enum per operation, so that a `match` lists only the errors that can occur.
//!
//! In: the [`CallError`] with which a session settles a call. Out: the enum of the operation, chosen by the *name* of
//! the wire error. Deliberately absent: error numbers as keys, because several errors share a number.

use crate::prelude::*;
use lianmai_protocol::{ErrorName, RpcError};

/// The error of a call, common to all operations.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The server refused the call, or the session refused it with the server's error before it was sent.
    #[error("{0}")]
    Refused(RpcError),
    /// The session is not in a channel, or `leave` was called.
    #[error("not in a channel")]
    NotJoined,
    /// The call was not sent in time and will not be sent any more. A call that was sent ends with
    /// [`CallError::OutcomeUnknown`] instead.
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
        /// Name of the code, or the error text of the transport.
        reason: String,
    },
}

/// Errors in the settings of a client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The list of server addresses is empty.
    #[error("no address of a server")]
    NoAddress,
    /// The list has more than 16 addresses; the value is its length.
    #[error("{0} addresses of servers: at most 16")]
    TooManyAddresses(usize),
    /// An address does not begin with `ws://` or `wss://`, or is longer than 1024 bytes.
    #[error("{0:?} is no address of a server: it begins with ws:// or wss://")]
    BadAddress(String),
}

impl CallError {
    pub(crate) fn refused(name: ErrorName) -> CallError {
        CallError::Refused(RpcError::bare(name))
    }

    /// The wire name of the error. Errors that the client itself makes have a name, too.
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

/// A method that an app calls, with its error type.
#[cfg(feature = "tokio")]
pub(crate) trait Operation: lianmai_protocol::message::Method {
    /// The error enum of the operation.
    type Error: From<CallError>;
}

/// Defines the error enum of some methods: one variant per wire error that callers should tell apart.
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
            /// The call was not sent in time and will not be sent any more.
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
                /// Name of the code, or the error text of the transport.
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
            /// The error of the server, if the server refused the call.
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
    /// Errors of `join`. After an error the client is in no channel; after `AlreadyJoined` it stays in the channel that
    /// it joined before.
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
        /// The app runs in safe mode, which requires a token.
        TokenMissing,
        /// The app runs in debug mode, which accepts no token.
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
        /// The uid is in the channel already, and the app is configured to reject the newcomer.
        DuplicateLogin,
        /// Joins with this uid replaced its membership too often.
        ReplacedTooOften,
        /// A moderator closed the channel, and its hold has not ended.
        ChannelClosed,
        /// The channel is full.
        ChannelFull,
        /// The channel has the maximum number of broadcasters.
        TooManyBroadcasters,
        /// The server has the maximum number of channels.
        TooManyChannels,
        /// The right to be a broadcaster is missing.
        Forbidden,
        /// The client left and joined too often; `retry_after_ms` says when to retry.
        RateLimited,
        /// The server is stopping.
        Draining,
    }

    /// Errors of `publish` and `unpublish`.
    pub enum PublishError of Publish, Unpublish {
        /// The role is audience.
        NotBroadcaster,
        /// The right to unpublish media of another member is missing.
        Forbidden,
        /// No member has this uid.
        NoSuchMember,
        /// The uid is not a canonical decimal string.
        BadUid,
        /// The uid is greater than 2^64-1.
        UidOutOfRange,
        /// The token does not allow this kind.
        PublishForbidden,
        /// This kind cannot be published.
        BadMediaType,
        /// No push URL could be issued; try again.
        UrlUnavailable,
        /// The membership or the publication ended while the call was pending.
        Superseded,
        /// The rate limit is exceeded; `retry_after_ms` says when to retry.
        RateLimited,
        /// Too many calls are pending.
        TooManyInFlight,
    }

    /// Errors of `subscribe` and `unsubscribe`.
    pub enum SubscribeError of Subscribe, Unsubscribe {
        /// No visible member has this uid.
        NoSuchMember,
        /// The member does not publish this kind.
        NotPublished,
        /// A member cannot subscribe to its own media.
        SelfTarget,
        /// The token does not allow this kind.
        SubscribeForbidden,
        /// The kind is unknown.
        BadMediaType,
        /// The uid is not a canonical decimal string.
        BadUid,
        /// The uid is greater than 2^64-1.
        UidOutOfRange,
        /// The member has the maximum number of subscriptions.
        TooManySubscriptions,
        /// No pull URL could be issued; try again.
        UrlUnavailable,
        /// The membership or the publication ended while the call was pending.
        Superseded,
        /// The rate limit is exceeded; `retry_after_ms` says when to retry.
        RateLimited,
        /// Too many calls are pending.
        TooManyInFlight,
    }

    /// Errors of `add_tasks`, `update_tasks` and `delete_tasks`. `data.field` names the task and its invalid field. A
    /// call that fails changes nothing.
    pub enum TaskError of AddTasks, UpdateTasks, DeleteTasks {
        /// The server does not support push tasks.
        MethodNotFound,
        /// The right `tasks` is missing, or the task belongs to another member.
        Forbidden,
        /// The role is audience.
        NotBroadcaster,
        /// A later operation on the same task replaced this one.
        TaskOverridden,
        /// The task is malformed, or pushing to its address is forbidden.
        BadTask,
        /// The channel ended.
        TaskChannelGone,
        /// The channel has the maximum number of tasks.
        TaskLimitExceeded,
        /// The channel has a task with this id already.
        DuplicateTask,
        /// The channel has no task with this id.
        NoSuchTask,
        /// The server has no capacity for the task, or could not determine whether it has.
        TaskFailed,
        /// The layout is invalid.
        BadLayout,
        /// An image of the layout cannot be used.
        BadImage,
        /// Another task uses the address, or the address is blocked for a while after a task ended; `retry_after_ms`
        /// may say when it is free.
        StreamUrlBusy,
        /// The rate limit is exceeded; `retry_after_ms` says when to retry.
        RateLimited,
        /// Too many calls are pending.
        TooManyInFlight,
    }

    /// Errors of `send_message`.
    pub enum MessageError of SendMessage {
        /// The right to send messages is missing.
        Forbidden,
        /// The message is longer than the limit.
        MessageTooLarge,
        /// The message has more recipients than allowed.
        TooManyRecipients,
        /// The rate limit is exceeded; `retry_after_ms` says when to retry.
        RateLimited,
        /// Too many calls are pending.
        TooManyInFlight,
    }

    /// Errors of `renew_token`. The old token stays in force.
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

    /// Errors of `leave`. The client is out of the channel on its side in any case. If the outcome is not known, other
    /// members may see it until the server's grace period ends.
    pub enum LeaveError of Leave {}

    /// Errors of `set_role`, `mute`, `unmute`, `kick`, `close_channel`, `set_attributes` and `report`.
    pub enum CommandError of SetRole, Mute, Unmute, Kick, CloseChannel, SetAttributes, Report {
        /// A right is missing.
        Forbidden,
        /// The role does not allow it.
        NotBroadcaster,
        /// No member has this uid.
        NoSuchMember,
        /// The operation cannot target the caller itself.
        SelfTarget,
        /// The operation does not accept this kind.
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
        /// The channel has the maximum number of broadcasters.
        TooManyBroadcasters,
        /// The member has made the maximum number of bans, holds and demotions.
        TooManyBans,
        /// The rate limit is exceeded; `retry_after_ms` says when to retry.
        RateLimited,
        /// Too many calls are pending.
        TooManyInFlight,
    }
}

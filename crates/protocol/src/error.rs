//! Every error that an answer can carry, in one table. Programs compare the *name*. Several names may have the same
//! number (ERR-1): a number that existing clients know already, a number of JSON-RPC for its own errors, or one from
//! 20000 on. A new error takes the next number from 20000 on, in the last row.

use crate::prelude::*;
use core::fmt;

use crate::wire::{Refusal, Wire};
use serde::{Deserialize, Serialize};

use crate::close::Action;
use crate::wire_enum::wire_enum;

macro_rules! errors {
    ($( $variant:ident = $wire:literal, $code:literal, $retryable:literal, $meaning:literal; )+) => {
        wire_enum! {
            /// Name of an error: the key that programs use.
            pub enum ErrorName {
                $( #[doc = $meaning] $variant = $wire, )+
            }
        }

        impl ErrorName {
            /// Number on the wire; 0 for an unknown name.
            #[must_use]
            pub fn code(&self) -> i32 {
                match self {
                    $( ErrorName::$variant => $code, )+
                    ErrorName::Unknown(_) => 0,
                }
            }

            /// Whether the same request may succeed later without being changed.
            #[must_use]
            pub fn is_retryable(&self) -> bool {
                match self {
                    $( ErrorName::$variant => $retryable, )+
                    ErrorName::Unknown(_) => false,
                }
            }

            /// What the error means, in one sentence.
            #[must_use]
            pub fn meaning(&self) -> &'static str {
                match self {
                    $( ErrorName::$variant => $meaning, )+
                    ErrorName::Unknown(_) => "Unknown error.",
                }
            }
        }
    };
}

errors! {
    // Errors of JSON-RPC 2.0.
    ParseError = "parseError", -32700, false, "The frame is not JSON; the connection is closed.";
    InvalidRequest = "invalidRequest", -32600, false, "The element is not a request object with `jsonrpc`, an integer `id` and a `method`.";
    MethodNotFound = "methodNotFound", -32601, false, "This server does not serve the method.";
    InvalidParams = "invalidParams", -32602, false, "A parameter is missing or has the wrong type; `field` names it.";
    InternalError = "internalError", -32603, true, "The server failed; nothing took effect.";
    // Numbers that existing clients know already.
    TokenMissing = "tokenMissing", 403, false, "The app runs in safe mode and the join carried no token.";
    Timeout = "timeout", 408, true, "No answer in time (made by clients).";
    BadUid = "badUid", 414, false, "The uid is not a canonical decimal string.";
    UidOutOfRange = "uidOutOfRange", 414, false, "The uid is greater than 18446744073709551615.";
    BadChannelName = "badChannelName", 414, false, "The channel name is empty, longer than 64 bytes, or holds a character that is not allowed.";
    BadMediaType = "badMediaType", 414, false, "The media type is unknown or does not fit the method.";
    BadRole = "badRole", 414, false, "The role is unknown.";
    BadAttributes = "badAttributes", 414, false, "An attribute key is empty or too long, or there are too many keys.";
    BadName = "badName", 414, false, "The display name is too long.";
    BadReason = "badReason", 414, false, "The reason is too long.";
    BadDuration = "badDuration", 414, false, "The duration is out of range.";
    TokenInvalid = "tokenInvalid", 414, false, "The token is malformed or its signature is wrong.";
    TokenExpired = "tokenExpired", 414, false, "The token has expired.";
    TokenNotYetValid = "tokenNotYetValid", 414, true, "The token is not valid yet.";
    TokenUnexpected = "tokenUnexpected", 414, false, "The app runs in debug mode and the join carried a token.";
    TokenRevoked = "tokenRevoked", 414, false, "The token was issued before a kick or close of this channel.";
    UidMismatch = "uidMismatch", 414, false, "The token is for another uid.";
    ChannelMismatch = "channelMismatch", 414, false, "The token is for another channel.";
    BadAppkey = "badAppkey", 417, false, "The appkey is unknown or the token is for another app.";
    UrlUnavailable = "urlUnavailable", 420, true, "No URL could be issued.";
    AlreadyJoined = "alreadyJoined", 434, false, "The connection has joined already.";
    NotJoined = "notJoined", 434, false, "The connection has not joined.";
    NotBroadcaster = "notBroadcaster", 434, false, "An audience member may not do this.";
    NoSuchMember = "noSuchMember", 434, false, "No visible member of the channel has this uid.";
    NotPublished = "notPublished", 434, true, "The member does not publish this kind.";
    SelfTarget = "selfTarget", 434, false, "The method cannot be used on oneself.";
    TaskOverridden = "taskOverridden", 1301, false, "A later operation on the task took its place.";
    BadTask = "badTask", 1400, false, "The task is malformed.";
    TaskChannelGone = "taskChannelGone", 1401, false, "The channel of the task ended.";
    TaskLimitExceeded = "taskLimitExceeded", 1402, false, "The channel has as many tasks as it may have.";
    DuplicateTask = "duplicateTask", 1403, false, "The channel has a task of this id.";
    NoSuchTask = "noSuchTask", 1404, false, "The channel has no task of this id.";
    TaskFailed = "taskFailed", 1417, true, "The task could not be started.";
    TaskInternal = "taskInternal", 1500, true, "The task failed inside the server.";
    BadLayout = "badLayout", 1501, false, "The layout is invalid.";
    BadImage = "badImage", 1502, false, "An image of the layout could not be used.";
    PublishForbidden = "publishForbidden", 1620, false, "The token does not allow publishing this kind.";
    SubscribeForbidden = "subscribeForbidden", 2803, false, "The token does not allow subscribing to this kind.";
    TooManyBroadcasters = "tooManyBroadcasters", 4001, true, "The channel has as many broadcasters as it may have.";
    ChannelFull = "channelFull", 4003, true, "The channel has as many members as it may have.";
    // Numbers of this protocol.
    Forbidden = "forbidden", 20001, false, "The session lacks the right that the method needs.";
    RateLimited = "rateLimited", 20002, true, "Too many commands; `retryAfterMs` says when to go on.";
    TooManyInFlight = "tooManyInFlight", 20003, true, "More than 32 commands without an answer.";
    IdReuse = "idReuse", 20004, false, "The id was used for another command of this session.";
    IdTooOld = "idTooOld", 20005, false, "The id is not greater than those already executed; the command did not run.";
    Draining = "draining", 20006, true, "The server is stopping; go elsewhere or come back later.";
    Banned = "banned", 20007, false, "The uid was kicked from this channel and is refused until the ban ends.";
    ChannelClosed = "channelClosed", 20008, false, "The channel was closed.";
    DuplicateLogin = "duplicateLogin", 20009, true, "The uid is in the channel and the app rejects newcomers.";
    FrameTooLarge = "frameTooLarge", 20010, false, "The frame is longer than the limit; the connection is closed.";
    TooDeep = "tooDeep", 20011, false, "The JSON is nested more than 32 deep; the connection is closed.";
    BadBatch = "badBatch", 20012, false, "The array is empty, nested, or longer than 32.";
    MessageTooLarge = "messageTooLarge", 20013, false, "The message is longer than the limit.";
    AttributesTooLarge = "attributesTooLarge", 20014, false, "The attributes are larger than the limit.";
    Superseded = "superseded", 20015, false, "The membership or publication ended while the command waited.";
    TooManySubscriptions = "tooManySubscriptions", 20016, false, "The member has as many subscriptions as it may have.";
    TooManyChannels = "tooManyChannels", 20017, true, "The server has as many channels as it may have.";
    TooManyRecipients = "tooManyRecipients", 20018, false, "The message names more than 64 recipients.";
    Kicked = "kicked", 20019, false, "The session was kicked.";
    Replaced = "replaced", 20020, false, "The same uid joined from another place.";
    ReplacedTooOften = "replacedTooOften", 20021, true, "The uid was replaced 3 times within 60 s.";
    OutcomeUnknown = "outcomeUnknown", 20022, false, "The command was sent and its outcome is not known (made by clients).";
    NotConnected = "notConnected", 20023, true, "There is no connection (made by clients).";
    NotStored = "notStored", 20024, true, "It took effect, but could not be written down: a restart may undo it.";
    TooManyBans = "tooManyBans", 20025, true, "The caller's share of bans, holds and demotions is used up; nothing took effect.";
    StreamUrlBusy = "streamUrlBusy", 20026, true, "The `streamUrl` belongs to another task, or rests after one.";
}

/// An error answer: `error` of a JSON-RPC response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
pub struct RpcError {
    /// The error as a number: the table of errors in docs/protocol.md. Programs compare `data.name` instead.
    pub code: i32,
    /// One sentence for people. Never holds a secret.
    pub message: String,
    /// The data that programs use.
    pub data: Box<ErrorData>,
}

/// `data` of an error answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Wire)]
#[serde(rename_all = "camelCase")]
pub struct ErrorData {
    /// The key of the error.
    pub name: ErrorName,
    /// Whether the same request may succeed later.
    #[serde(default)]
    pub retryable: bool,
    /// What the client should do; absent if the server does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// Path of the offending parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Milliseconds after which a retry may succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl RpcError {
    /// The error of that name with its standard sentence.
    #[must_use]
    pub fn new(name: ErrorName) -> Self {
        let sentence = name.meaning();
        RpcError::bare(name).message(sentence)
    }

    /// The same without its sentence, for an error that a client makes itself; `Display` adds the sentence.
    #[must_use]
    pub fn bare(name: ErrorName) -> Self {
        RpcError {
            code: name.code(),
            message: String::new(),
            data: Box::new(ErrorData {
                retryable: name.is_retryable(),
                name,
                action: None,
                field: None,
                retry_after_ms: None,
            }),
        }
    }

    /// Replaces the sentence.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// Names the offending parameter.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.data.field = Some(field.into());
        self
    }

    /// Says when to retry.
    #[must_use]
    pub fn retry_after_ms(mut self, ms: u64) -> Self {
        self.data.retry_after_ms = Some(ms);
        self
    }

    /// The key of the error.
    #[must_use]
    pub fn name(&self) -> &ErrorName {
        &self.data.name
    }
}

/// Longest path of a field that an error names, in characters.
const MAX_FIELD_CHARS: usize = 64;

impl From<Refusal> for RpcError {
    fn from(refusal: Refusal) -> Self {
        let error = RpcError::bare(ErrorName::from(&*refusal.name));
        if refusal.field.is_empty() {
            return error;
        }
        error.field(refusal.field.chars().take(MAX_FIELD_CHARS).collect::<String>())
    }
}

impl From<ErrorName> for RpcError {
    fn from(name: ErrorName) -> Self {
        RpcError::new(name)
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RpcError { code, message, data } = self;
        let sentence = if message.is_empty() { data.name.meaning() } else { message };
        write!(f, "{} ({code}): {sentence}", data.name)
    }
}

impl core::error::Error for RpcError {}

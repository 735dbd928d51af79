//! The settings of a client and of a join. In: values from the app. Out: settings of a session. Deliberately absent:
//! files and environment.

use std::fmt;
use std::time::Duration;

use lianmai_protocol::id::IdError;
use lianmai_protocol::{Attributes, Role, SIGNAL_PATH, UserId};
use num_bigint::BigUint;

use crate::session::SessionConfig;

/// Settings of a [`super::Client`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// `ws://host:port` or `wss://host:port` (feature `tls`), without a path: the addresses of one deployment, at most
    /// 16. The first is preferred; the client tries the next one when an address cannot be reached.
    pub servers: Vec<String>,
    /// The appkey.
    pub appkey: String,
    /// Maximum number of events that wait for the app, at least 1. When it is reached, the client stops reading its
    /// socket until the app has taken some. If that lasts too long, the server closes the connection with `slowReader`,
    /// and the client reconnects. Nothing is dropped: the changes in the meantime are reported after the waiting
    /// events.
    pub event_capacity: usize,
    /// Time limit of an attempt to connect.
    pub connect_timeout: Duration,
    /// Time limit of every call, extended by the time that a restarting server asks for or that the process was frozen.
    pub command_timeout: Duration,
    /// A membership without a connection is given up after this time.
    pub give_up_after: Duration,
}

impl ClientConfig {
    /// The defaults: 1024 events, 5 s to connect, 10 s for a call, 10 minutes to reconnect.
    #[must_use]
    pub fn new(server: impl Into<String>, appkey: impl Into<String>) -> Self {
        let session = SessionConfig::new("");
        ClientConfig {
            servers: vec![server.into()],
            appkey: appkey.into(),
            event_capacity: 1024,
            connect_timeout: Duration::from_millis(session.connect_timeout_ms),
            command_timeout: Duration::from_millis(session.command_timeout_ms),
            give_up_after: Duration::from_millis(session.give_up_after_ms),
        }
    }

    pub(super) fn session(&self, seed: u64) -> SessionConfig {
        let url = |server: &String| format!("{}{SIGNAL_PATH}", server.trim_end_matches('/'));
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        SessionConfig {
            urls: self.servers.iter().map(url).collect(),
            seed,
            connect_timeout_ms: ms(self.connect_timeout),
            command_timeout_ms: ms(self.command_timeout),
            give_up_after_ms: ms(self.give_up_after),
            ..SessionConfig::new("")
        }
    }
}

/// How to enter a channel.
#[derive(Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct JoinOptions {
    /// 1-64 bytes of the characters that FRM-11 lists.
    pub channel_name: String,
    /// The user; `None` lets the server choose.
    pub uid: Option<UserId>,
    /// The token: required in safe mode, refused in debug mode. Secret.
    pub token: Option<String>,
    /// Role to start with. `None` means broadcaster if the token allows it, otherwise audience.
    pub role: Option<Role>,
    /// Identifies this membership. A join with the same uid and the same value, for instance from a new process,
    /// continues the membership as long as it lives, and other members notice nothing. A running client does not need
    /// this to reconnect. 16-64 bytes; random if `None`. Secret.
    pub join_id: Option<String>,
    /// Display name.
    pub name: Option<String>,
    /// Attributes to start with.
    pub attributes: Attributes,
}

impl JoinOptions {
    /// Options without a token, a uid or a role: the server chooses the uid and the role.
    #[must_use]
    pub fn new(channel_name: impl Into<String>) -> Self {
        JoinOptions { channel_name: channel_name.into(), ..JoinOptions::default() }
    }

    /// Sets the uid.
    ///
    /// # Errors
    /// `badUid` or `uidOutOfRange`, for text and big integers.
    pub fn uid(mut self, uid: impl IntoUserId) -> Result<Self, IdError> {
        self.uid = Some(uid.into_user_id()?);
        Ok(self)
    }

    /// Sets the token.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Sets the role to start in.
    #[must_use]
    pub fn role(mut self, role: Role) -> Self {
        self.role = Some(role);
        self
    }

    /// Sets the id of this membership, so that another process can take it over.
    #[must_use]
    pub fn join_id(mut self, join_id: impl Into<String>) -> Self {
        self.join_id = Some(join_id.into());
        self
    }

    /// Sets the display name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

impl fmt::Debug for JoinOptions {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinOptions")
            .field("channel_name", &self.channel_name)
            .field("uid", &self.uid)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// The types that a uid may have: a number, decimal text, or a big integer, 0..=2^64-1.
pub trait IntoUserId {
    /// Reads the uid.
    ///
    /// # Errors
    /// `badUid` if the text is no canonical decimal number, `uidOutOfRange` above 2^64-1.
    fn into_user_id(self) -> Result<UserId, IdError>;
}

impl IntoUserId for UserId {
    fn into_user_id(self) -> Result<UserId, IdError> {
        Ok(self)
    }
}

impl IntoUserId for u64 {
    fn into_user_id(self) -> Result<UserId, IdError> {
        Ok(UserId(self))
    }
}

impl IntoUserId for &str {
    fn into_user_id(self) -> Result<UserId, IdError> {
        self.parse()
    }
}

impl IntoUserId for String {
    fn into_user_id(self) -> Result<UserId, IdError> {
        self.parse()
    }
}

impl IntoUserId for &BigUint {
    fn into_user_id(self) -> Result<UserId, IdError> {
        UserId::try_from(self)
    }
}

impl IntoUserId for BigUint {
    fn into_user_id(self) -> Result<UserId, IdError> {
        UserId::try_from(&self)
    }
}

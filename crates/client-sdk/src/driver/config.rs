//! What a client is told: where the server is, and how to join. Deliberately absent: files and
//! environment.

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
    /// `ws://host:port` or `wss://host:port` (feature `tls`), without a path: the addresses of one
    /// deployment, at most 16. The first is preferred; the next is tried when one cannot be reached.
    pub servers: Vec<String>,
    /// The app.
    pub appkey: String,
    /// Most events that wait for the app, at least 1. Beyond it the client stops reading its socket
    /// until the app took some; a server that waits too long for that closes with `slowReader`, and the
    /// client comes back. Nothing is dropped: what changed meanwhile is told behind what waits.
    pub event_capacity: usize,
    /// An attempt to connect is given up after this.
    pub connect_timeout: Duration,
    /// Every call is settled after this at the latest, but for the time that a restarting server asks
    /// for and that a frozen process slept.
    pub command_timeout: Duration,
    /// A membership that had no connection for so long is given up.
    pub give_up_after: Duration,
}

impl ClientConfig {
    /// The defaults: 1024 events, 5 s to connect, 10 s for a call, 10 minutes to come back.
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
    /// Needed in safe mode, refused in debug mode. A secret.
    pub token: Option<String>,
    /// Role to start in; when `None` broadcaster if the token allows it, else audience.
    pub role: Option<Role>,
    /// Names this entry: joining again with the same uid and the same value, from a new process for
    /// instance, comes back to the same membership for as long as it lives, and disturbs nobody. A client
    /// that lives comes back by itself. 16-64 bytes; drawn anew when `None`. A secret.
    pub join_id: Option<String>,
    /// Display name.
    pub name: Option<String>,
    /// Attributes to start with.
    pub attributes: Attributes,
}

impl JoinOptions {
    /// A broadcaster without a token whose uid the server chooses.
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

    /// Sets the name of this entry, so that another process can take it over.
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

/// What a uid may be given as: a number, decimal text, or a big integer, 0..=2^64-1.
pub trait IntoUserId {
    /// Reads the uid.
    ///
    /// # Errors
    /// `badUid` where the text is no canonical decimal number, `uidOutOfRange` above 2^64-1.
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

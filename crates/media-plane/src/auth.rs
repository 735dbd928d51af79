//! The interface that decides who may publish and play.
//!
//! In: nothing. Out: the [`Authorizer`] trait, its questions and its answers. Absent: the rules of permission, which
//! the embedding server implements.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use thiserror::Error;

use crate::kinds::Kinds;

/// `Debug` output goes to logs, and peers choose the names: longer names are cut to this many characters.
const MAX_LOGGED_CHARS: usize = 64;

/// The name of a stream: its app, and its name within the app. Cheap to clone. `Debug` shortens long names.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName {
    app: Arc<str>,
    name: Arc<str>,
}

impl StreamName {
    /// The stream `name` of the app `app`, both without query.
    #[must_use]
    pub fn new(app: &str, name: &str) -> Self {
        Self { app: app.into(), name: name.into() }
    }

    /// The app.
    #[must_use]
    pub fn app(&self) -> &str {
        &self.app
    }

    /// The name within the app.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", format!("{}/{}", short(&self.app), short(&self.name)))
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.name)
    }
}

/// Whether media is published or played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The peer sends media.
    Publish,
    /// The peer receives media.
    Play,
}

/// The protocol that the peer uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RTMP.
    Rtmp,
    /// HTTP-FLV.
    HttpFlv,
    /// HLS.
    Hls,
}

/// A request to publish or play. `Debug` shortens long names and omits the query, because the query holds tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamRequest {
    /// Whether the peer wants to publish or play.
    pub direction: Direction,
    /// App, without leading and trailing slashes.
    pub app: String,
    /// Stream name, without query.
    pub stream: String,
    /// Query without `?`, not decoded: that of the stream name; if it has none, that of `tcUrl`; else that of `app`.
    /// Never log it.
    pub query: String,
    /// The protocol that the peer uses.
    pub protocol: Protocol,
    /// Address of the peer.
    pub peer: SocketAddr,
}

impl StreamRequest {
    /// A request with these parts.
    #[must_use]
    pub fn new(
        direction: Direction,
        app: impl Into<String>,
        stream: impl Into<String>,
        query: impl Into<String>,
        protocol: Protocol,
        peer: SocketAddr,
    ) -> Self {
        Self {
            direction,
            app: app.into(),
            stream: stream.into(),
            query: query.into(),
            protocol,
            peer,
        }
    }

    /// The requested stream.
    #[must_use]
    pub fn name(&self) -> StreamName {
        StreamName::new(&self.app, &self.stream)
    }
}

impl fmt::Debug for StreamRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamRequest")
            .field("direction", &self.direction)
            .field("app", &short(&self.app))
            .field("stream", &short(&self.stream))
            .field("protocol", &self.protocol)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// The first [`MAX_LOGGED_CHARS`] characters of a name.
fn short(name: &str) -> &str {
    name.char_indices().nth(MAX_LOGGED_CHARS).map_or(name, |(end, _)| &name[..end])
}

/// The member that is charged for the resources of a push or play: memory and slots. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Account {
    pub(crate) app: Arc<str>,
    pub(crate) member: Arc<str>,
}

impl Account {
    /// The account of a member of an app. The embedding server chooses both names; they are not secret.
    #[must_use]
    pub fn new(app: &str, member: &str) -> Self {
        Self { app: app.into(), member: member.into() }
    }
}

/// The answer of an [`Authorizer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The request is allowed.
    Allow {
        /// Key under which [`crate::Hub::cut_viewer`] finds a play; no publish is found by it. One viewer may have
        /// only a few plays of a stream: a newer play ends the oldest.
        viewer: Option<String>,
        /// For a publish, the kinds that are published. For a play, the kinds that the viewer may have. If the hub
        /// was told other kinds of this stream or viewer after the request came, those are newer and count instead.
        kinds: Kinds,
        /// The member that is charged. `None` charges the viewer, if the verdict names one; otherwise no member is
        /// charged.
        account: Option<Account>,
    },
    /// The request is refused.
    Deny {
        /// Stable code word of the refusal.
        code: &'static str,
        /// Text for the peer. It must hold no secret.
        message: String,
    },
    /// There is no decision now, so the peer may ask again later. Unlike [`Verdict::Deny`], this says nothing about
    /// the URL.
    Later {
        /// Stable code word of the refusal.
        code: &'static str,
        /// Text for the peer. It must hold no secret.
        message: String,
    },
}

/// Decides about every publish and play.
pub trait Authorizer: Send + Sync + 'static {
    /// Decides about one request. If there is no answer within [`crate::RelayConfig::auth_timeout`], the request is
    /// refused as by [`Verdict::Later`]. The future is dropped when the peer hangs up or is cut.
    fn authorize(&self, request: StreamRequest) -> impl Future<Output = Verdict> + Send;

    /// The viewer that a play request names, before anything of the request is verified: a key under which
    /// [`crate::Hub::cut_viewer`] finds the request while its verdict is pending. The key is short, and computing it
    /// does not wait.
    fn viewer(&self, _request: &StreamRequest) -> Option<String> {
        None
    }
}

/// The class of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeniedKind {
    /// The authorizer refused, or the request was cut.
    Denied,
    /// Another publisher is live on the stream.
    Busy,
    /// A limit of the relay is reached, or the authorizer has no answer now. The peer may ask again later.
    Overload,
}

/// Why a request to publish or play was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{code}: {message}", if *.kind == DeniedKind::Denied { "denied." } else { "" })]
pub struct Denied {
    /// The class of the refusal.
    pub kind: DeniedKind,
    /// Stable code word: that of the verdict, or `authTimeout`, `cut`, `noSegment`, `streamBusy`, `tooManyPlayers`,
    /// `tooManyPlays` or `tooManyWaiters`.
    pub code: &'static str,
    /// Text for the peer. It holds no secret.
    pub message: String,
}

impl Denied {
    pub(crate) fn new(kind: DeniedKind, code: &'static str, message: &str) -> Self {
        Self { kind, code, message: message.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: what a request of media shows in a log.

    use super::*;

    #[test]
    fn debug_shows_no_query() {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let request = StreamRequest::new(
            Direction::Play,
            "live",
            "a",
            "v=x&token=secret",
            Protocol::Rtmp,
            peer,
        );
        assert!(!format!("{request:?}").contains("secret"));
    }
}

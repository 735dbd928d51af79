//! Who may publish and play.
//!
//! In: nothing. Out: the [`Authorizer`] trait, what it is asked and what it answers. Absent: any
//! rule; that is the embedding server's.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use thiserror::Error;

use crate::kinds::Kinds;

/// Characters of a name of the peer's choice in `Debug`, which goes to logs.
const MAX_LOGGED_CHARS: usize = 64;

/// A stream: `app` and name. Cheap to clone. `Debug` cuts long names short.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName {
    app: Arc<str>,
    name: Arc<str>,
}

impl StreamName {
    /// The stream `name` in `app`, both without query.
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

/// Publish or play.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Media comes in.
    Publish,
    /// Media goes out.
    Play,
}

/// How the peer is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RTMP.
    Rtmp,
    /// FLV over HTTP.
    HttpFlv,
    /// Playlists and segments over HTTP.
    Hls,
}

/// A request to publish or play. `Debug` leaves the query out, since it holds tokens, and cuts
/// long names short.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamRequest {
    /// Publish or play.
    pub direction: Direction,
    /// App, without slashes at its ends.
    pub app: String,
    /// Stream name, without query.
    pub stream: String,
    /// Raw query without `?`: of the stream name, or if that has none, of `tcUrl`. Never log it.
    pub query: String,
    /// How the peer is connected.
    pub protocol: Protocol,
    /// Address of the peer.
    pub peer: SocketAddr,
}

impl StreamRequest {
    /// A request.
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

    /// The stream asked for.
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

/// The beginning of a name.
fn short(name: &str) -> &str {
    name.char_indices().nth(MAX_LOGGED_CHARS).map_or(name, |(end, _)| &name[..end])
}

/// Who is charged for what a push or play takes: memory, places. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Account {
    pub(crate) app: Arc<str>,
    pub(crate) member: Arc<str>,
}

impl Account {
    /// A member of an app, by whatever names the embedding server has for them. They are no secrets.
    #[must_use]
    pub fn new(app: &str, member: &str) -> Self {
        Self { app: app.into(), member: member.into() }
    }
}

/// Answer of an [`Authorizer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go ahead.
    Allow {
        /// Key for [`crate::Hub::cut_viewer`]; only looked at for play. One viewer has few plays of a
        /// stream: a newer one ends the oldest.
        viewer: Option<String>,
        /// Of a publish the kinds that are published, of a play those that the viewer may have. What [`crate::Hub`] was
        /// told of the stream or viewer since the request came is newer, and counts.
        kinds: Kinds,
        /// Whose push or play it is. Without, it counts for nobody but its stream, and its viewer if it is a play.
        account: Option<Account>,
    },
    /// No.
    Deny {
        /// Stable code word.
        code: &'static str,
        /// Text for the peer; must hold no secret.
        message: String,
    },
    /// Not now: the peer may ask again later. Unlike [`Verdict::Deny`] it says nothing of the URL.
    Later {
        /// Stable code word.
        code: &'static str,
        /// Text for the peer; must hold no secret.
        message: String,
    },
}

/// Decides on every publish and play.
pub trait Authorizer: Send + Sync + 'static {
    /// Answers within [`crate::RelayConfig::auth_timeout`]; later answers count as [`Verdict::Later`]. It is dropped when
    /// the peer hangs up or is cut.
    fn authorize(&self, request: StreamRequest) -> impl Future<Output = Verdict> + Send;

    /// The viewer that a play names, of whom nothing is checked yet: a key under which `cut_viewer` finds the
    /// request while its verdict is open. Short, and known at once.
    fn viewer(&self, _request: &StreamRequest) -> Option<String> {
        None
    }
}

/// What kind of refusal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeniedKind {
    /// The authorizer said no, or the request was cut.
    Denied,
    /// Another publisher is live.
    Busy,
    /// A limit of the relay is reached, or the authorizer has no answer now. The peer may ask again later.
    Overload,
}

/// Why a publish or play did not come about.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{code}: {message}", if *.kind == DeniedKind::Denied { "denied." } else { "" })]
pub struct Denied {
    /// What kind of refusal.
    pub kind: DeniedKind,
    /// Stable code word: of the verdict, or `authTimeout`, `cut`, `streamBusy`, `tooManyPlayers`,
    /// `tooManyPlays`, `tooManyWaiters`.
    pub code: &'static str,
    /// Text for the peer.
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

//! Pulling a stream by HTTP-FLV or RTMP.
//!
//! In: a pull URL of the server or of its media server. Out: tags. Deliberately absent: the contents of tags; HTTPS,
//! because the address is on this machine or its own network.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use lianmai_media_plane::upstream::{UpstreamError, UpstreamOptions, UpstreamPlay, UpstreamUrl};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::flv::{BadFlv, FlvReader, Tag};

/// Maximum length of a URL, in bytes.
const MAX_URL: usize = 2048;
/// Time limit from the DNS lookup until the response starts.
const OPENING: Duration = Duration::from_secs(10);

/// The text is not a pull URL. The error contains no part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this is no `http://` or `rtmp://` URL of a stream")]
pub struct BadUrl;

/// The URL of a stream. `Debug` omits its path and query, because they contain keys.
#[derive(Clone, PartialEq, Eq)]
pub struct PullUrl(Form);

#[derive(Clone, PartialEq, Eq)]
enum Form {
    Http(Uri),
    Rtmp(UpstreamUrl),
}

impl PullUrl {
    /// Parses a URL.
    ///
    /// # Errors
    /// [`BadUrl`] if it is not a pull URL.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        if text.len() > MAX_URL {
            return Err(BadUrl);
        }
        if text.starts_with("rtmp") {
            return UpstreamUrl::parse(text).map(|url| Self(Form::Rtmp(url))).map_err(|_| BadUrl);
        }
        let uri: Uri = text.parse().map_err(|_| BadUrl)?;
        let is_plain = uri.scheme_str() == Some("http");
        let has_host = uri.host().is_some_and(|host| !host.is_empty());
        let has_user = uri.authority().is_some_and(|it| it.as_str().contains('@'));
        if is_plain && has_host && !has_user { Ok(Self(Form::Http(uri))) } else { Err(BadUrl) }
    }
}

impl fmt::Debug for PullUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Http(uri) => write!(f, "PullUrl({})", authority(uri)),
            Form::Rtmp(url) => write!(f, "PullUrl({url})"),
        }
    }
}

fn authority(uri: &Uri) -> &str {
    uri.authority().map_or("", http::uri::Authority::as_str)
}

/// The host, without the brackets of IPv6, and the port.
fn address(uri: &Uri) -> (&str, u16) {
    let host = uri.host().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (host, uri.port_u16().unwrap_or(80))
}

/// Why a stream cannot be pulled or was interrupted.
#[derive(Debug, Error)]
pub(super) enum PullError {
    #[error("connect: {0}")]
    Connect(#[from] io::Error),
    #[error("timeout")]
    Timeout,
    #[error("http: {0}")]
    Http(#[from] hyper::Error),
    #[error("refused: {0}")]
    Refused(StatusCode),
    #[error(transparent)]
    Flv(#[from] BadFlv),
    #[error("rtmp: {0}")]
    Rtmp(#[from] UpstreamError),
}

/// An open stream.
#[derive(Debug)]
pub(super) enum Pull {
    Http(Box<HttpPull>),
    Rtmp(Box<UpstreamPlay>),
}

impl Pull {
    /// Opens a stream.
    pub(super) async fn open(url: &PullUrl, options: &UpstreamOptions) -> Result<Self, PullError> {
        match &url.0 {
            Form::Http(uri) => {
                let pull = timeout(OPENING, HttpPull::open(uri)).await;
                Ok(Self::Http(Box::new(pull.unwrap_or(Err(PullError::Timeout))?)))
            }
            Form::Rtmp(url) => Ok(Self::Rtmp(Box::new(UpstreamPlay::play(url, options).await?))),
        }
    }

    /// The next tag, or `None` at the end. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Tag>, PullError> {
        match self {
            Self::Http(pull) => pull.next().await,
            Self::Rtmp(play) => match play.next().await {
                Ok((kind, time, body)) => Ok(Some(Tag { kind, time, body })),
                Err(UpstreamError::Closed(_)) => Ok(None),
                Err(error) => Err(error.into()),
            },
        }
    }
}

/// An open HTTP-FLV stream.
#[derive(Debug)]
pub(super) struct HttpPull {
    body: Incoming,
    reader: FlvReader,
    connection: JoinHandle<()>,
}

impl HttpPull {
    async fn open(uri: &Uri) -> Result<Self, PullError> {
        let stream = TcpStream::connect(address(uri)).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(64 << 10).handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(async move {
            // The reader of the response sees how the connection ends.
            let _ = connection.await;
        });
        // From here on dropping `pull` ends the connection.
        let mut pull = Connected(Some(connection));
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let request = Request::get(path).header(header::HOST, authority(uri));
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let answer = sender.send_request(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(PullError::Refused(answer.status()));
        }
        let connection = pull.0.take().expect("the connection is only taken here");
        Ok(Self { body: answer.into_body(), reader: FlvReader::default(), connection })
    }

    async fn next(&mut self) -> Result<Option<Tag>, PullError> {
        loop {
            if let Some(tag) = self.reader.next()? {
                return Ok(Some(tag));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.reader.push(&data);
                    }
                }
            }
        }
    }
}

impl Drop for HttpPull {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// A connection that waits for its response.
struct Connected(Option<JoinHandle<()>>);

impl Drop for Connected {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            connection.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: pull URLs.

    use super::*;

    #[test]
    fn urls_are_taken_or_refused_and_show_no_key() {
        let url = PullUrl::parse("http://127.0.0.1:8600/live/stream.flv?t=secret").unwrap();
        assert_eq!(format!("{url:?}"), "PullUrl(127.0.0.1:8600)");
        let Form::Http(uri) = &url.0 else { panic!("it is HTTP") };
        assert_eq!(address(uri), ("127.0.0.1", 8600));
        assert_eq!(address(&"http://[::1]/a".parse().unwrap()), ("::1", 80));
        let url = PullUrl::parse("rtmp://127.0.0.1/live/stream?t=secret").unwrap();
        assert_eq!(format!("{url:?}"), "PullUrl(rtmp://127.0.0.1/live)");
        for text in ["", "/live/a", "https://a/b", "rtmp://a", "http:///a", "http://u:p@h/a"] {
            assert_eq!(PullUrl::parse(text), Err(BadUrl), "{text}");
        }
        assert!(PullUrl::parse(&format!("http://h/{}", "a".repeat(MAX_URL))).is_err());
    }
}

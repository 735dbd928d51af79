//! An RTMP receiver, like that of a CDN, that records everything. In: publishes. Out: when each began and ended, and
//! all tags. It accepts every publish at any time, so that two simultaneous ones are recorded. Deliberately absent:
//! decoding, see `decoding.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use lianmai_media_plane::MediaKind;
use lianmai_media_plane::rtmp::{Event, Output, Request, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::TEST_TIMEOUT;

/// A media message.
#[derive(Clone, Debug)]
pub struct ReceivedTag {
    /// Audio, video or metadata.
    pub kind: MediaKind,
    /// Time on the publisher's clock, in milliseconds.
    pub time: u32,
    /// The body, as in FLV.
    pub body: Bytes,
}

impl ReceivedTag {
    /// Whether this is a picture and not a header.
    #[must_use]
    pub fn is_picture(&self) -> bool {
        self.kind == MediaKind::Video && self.body.get(1) == Some(&1)
    }

    /// Whether this is a keyframe.
    #[must_use]
    pub fn is_key(&self) -> bool {
        self.is_picture() && self.body[0] == 0x17
    }

    /// Whether this is needed to decode what follows.
    #[must_use]
    pub fn is_header(&self) -> bool {
        match self.kind {
            MediaKind::Metadata => true,
            MediaKind::Video => self.body.get(1) == Some(&0),
            MediaKind::Audio => self.body[0] >> 4 == 10 && self.body.get(1) == Some(&0),
        }
    }
}

/// One publish.
#[derive(Clone, Debug)]
pub struct Publish {
    /// App, stream and query.
    pub stream: String,
    /// Time of the request.
    pub began: Instant,
    /// Time at which it or its connection ended.
    pub ended: Option<Instant>,
    /// All media so far.
    pub tags: Vec<Arc<ReceivedTag>>,
}

/// Everything that was received.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The publishes, in the order of their beginnings.
    pub publishes: Vec<Publish>,
    /// Whether two publishes of one stream existed at the same time.
    pub two_at_once: bool,
}

impl Seen {
    /// The publish that has not ended.
    #[must_use]
    pub fn live(&self) -> Option<&Publish> {
        self.publishes.iter().rev().find(|publish| publish.ended.is_none())
    }

    /// Number of pictures so far, of all publishes.
    #[must_use]
    pub fn pictures(&self) -> usize {
        let all = self.publishes.iter().flat_map(|publish| &publish.tags);
        all.filter(|tag| tag.is_picture()).count()
    }
}

/// A receiver. Dropping it closes its listener and connections.
#[derive(Debug)]
pub struct Receiver {
    /// The address on which it listens.
    pub address: SocketAddr,
    seen: watch::Receiver<Seen>,
    _served: JoinSet<()>,
}

impl Receiver {
    /// Starts a receiver on a free address.
    ///
    /// # Errors
    /// There is no free address.
    pub async fn start() -> Result<Self> {
        Receiver::start_at("127.0.0.1:0".parse()?).await
    }

    /// Starts a receiver on an address that another one had.
    ///
    /// # Errors
    /// The address is in use.
    pub async fn start_at(address: SocketAddr) -> Result<Self> {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(64)?;
        let address = listener.local_addr()?;
        let (sender, seen) = watch::channel(Seen::default());
        let mut served = JoinSet::new();
        served.spawn(accept(listener, Arc::new(sender)));
        Ok(Receiver { address, seen, _served: served })
    }

    /// The push URL for a stream; `stream` may include a query.
    #[must_use]
    pub fn url(&self, stream: &str) -> String {
        format!("rtmp://{}/live/{stream}", self.address)
    }

    /// Everything that was received so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// A live view of everything that is received.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Seen> {
        self.seen.clone()
    }

    /// Waits until the received data satisfies `wanted`.
    ///
    /// # Errors
    /// That does not happen within [`TEST_TIMEOUT`].
    pub async fn until(&self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Result<()> {
        let mut seen = self.seen.clone();
        let waited = timeout(TEST_TIMEOUT, seen.wait_for(|seen| wanted(seen))).await;
        waited.with_context(|| format!("not seen: {what}"))?.context("the receiver is gone")?;
        Ok(())
    }

    /// Waits for `more` further pictures.
    ///
    /// # Errors
    /// They do not arrive within [`TEST_TIMEOUT`].
    pub async fn pictures(&self, more: usize) -> Result<()> {
        let enough = self.seen.borrow().pictures() + more;
        self.until("pictures", |seen| seen.pictures() >= enough).await
    }

    /// Checks that no two publishes of a stream existed at the same time.
    ///
    /// # Errors
    /// Two did.
    pub fn assert_one_at_a_time(&self) -> Result<()> {
        ensure!(!self.seen.borrow().two_at_once, "two published at once");
        Ok(())
    }
}

async fn accept(listener: TcpListener, seen: Arc<watch::Sender<Seen>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, seen.clone()));
    }
}

/// When the connection ends, for any reason, its publish ends at the same moment.
async fn serve(stream: TcpStream, seen: Arc<watch::Sender<Seen>>) {
    let mut own = None;
    let _ = publishes(stream, &seen, &mut own).await;
    end(&seen, &mut own);
}

fn end(seen: &watch::Sender<Seen>, own: &mut Option<usize>) {
    if let Some(own) = own.take() {
        seen.send_modify(|seen| seen.publishes[own].ended = Some(Instant::now()));
    }
}

async fn publishes(
    mut stream: TcpStream,
    seen: &watch::Sender<Seen>,
    own: &mut Option<usize>,
) -> Result<()> {
    let mut session = Session::new([7; 16]);
    let mut buffer = vec![0; 64 << 10];
    loop {
        while let Some(output) = session.next_output() {
            match output {
                Output::Send(bytes) => stream.write_all(&bytes).await?,
                Output::Close => return Ok(()),
                Output::Event(Event::Request(request)) => {
                    *own = Some(begin(seen, &request));
                    session.accept()?;
                }
                Output::Event(Event::Media { kind, timestamp, payload }) => {
                    let tag = Arc::new(ReceivedTag { kind, time: timestamp, body: payload });
                    let own = own.context("media before a publish")?;
                    seen.send_modify(|seen| seen.publishes[own].tags.push(tag));
                }
                Output::Event(Event::Stopped) => end(seen, own),
                Output::Event(_) => {}
            }
        }
        let count = stream.read(&mut buffer).await?;
        ensure!(count > 0, "the end");
        session.input(&buffer[..count])?;
    }
}

fn begin(seen: &watch::Sender<Seen>, request: &Request) -> usize {
    let Request { app, stream, query, .. } = request;
    let stream = format!("{app}/{stream}?{query}");
    let mut at = 0;
    seen.send_modify(|seen| {
        at = seen.publishes.len();
        let of = |stream: &str| stream.split('?').next().unwrap_or_default().to_owned();
        seen.two_at_once |= seen
            .publishes
            .iter()
            .any(|other| other.ended.is_none() && of(&other.stream) == of(&stream));
        let publish = Publish { stream, began: Instant::now(), ended: None, tags: Vec::new() };
        seen.publishes.push(publish);
    });
    at
}

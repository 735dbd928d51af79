//! An FLV player that records when tags arrive and decodes nothing. In: a pull URL, or an FLV stream. Out: the tags
//! with their times of arrival, the longest gap between them, the end of the stream. Deliberately absent: decoding.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::TEST_TIMEOUT;

/// The kind of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagKind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
    /// Anything else.
    Data,
}

/// One tag of the stream.
#[derive(Clone, Copy, Debug)]
pub struct Tag {
    /// Time at which its last byte was read.
    pub at: Instant,
    /// The kind.
    pub kind: TagKind,
    /// Its timestamp in milliseconds.
    pub time_ms: u32,
    /// The first two bytes of its body. For H.264, `[0x17, 0]` is a sequence header and `[0x17, 1]` a keyframe.
    pub start: [u8; 2],
}

/// The data that has arrived so far.
#[derive(Debug, Default)]
pub struct Arrived {
    /// All tags, in order.
    pub tags: Vec<Tag>,
    /// Time at which the stream ended; `None` while it goes on.
    pub ended: Option<Instant>,
}

impl Arrived {
    /// Whether sound and pictures arrived after `start`.
    #[must_use]
    pub fn has_media_since(&self, start: Instant) -> bool {
        let has = |kind| self.tags.iter().rev().any(|tag| tag.at > start && tag.kind == kind);
        has(TagKind::Audio) && has(TagKind::Video)
    }

    /// Timestamps of the tags of a kind that arrived after `from`.
    fn times_since(&self, kind: TagKind, from: Instant) -> impl Iterator<Item = u32> {
        let inside = move |tag: &&Tag| tag.kind == kind && tag.at > from;
        self.tags.iter().filter(inside).map(|tag| tag.time_ms)
    }

    /// How long the stream went on after `from`, by its own timestamps: the minimum over these kinds.
    fn went_on(&self, kinds: &[TagKind], from: Instant) -> Duration {
        let of = |kind: &TagKind| {
            let kind = *kind;
            let (mut first, mut last) = (None, 0);
            for time in self.times_since(kind, from) {
                first.get_or_insert(time);
                last = time;
            }
            last.saturating_sub(first.unwrap_or(last))
        };
        Duration::from_millis(kinds.iter().map(of).min().unwrap_or_default().into())
    }

    /// The longest gap in the stream after `from`, by its own timestamps: between two audio tags, or between two video
    /// tags. It does not depend on when they arrived, so the speed of the machine has no influence.
    fn longest_gap(&self, from: Instant) -> Duration {
        let longest = |kind| {
            let mut times = self.times_since(kind, from);
            let first = times.next().unwrap_or_default();
            let gaps =
                times.scan(first, |last, time| Some(time.abs_diff(std::mem::replace(last, time))));
            gaps.max().unwrap_or_default()
        };
        Duration::from_millis(longest(TagKind::Audio).max(longest(TagKind::Video)).into())
    }
}

/// A player. Dropping it closes its connection.
#[derive(Debug)]
pub struct Arrivals {
    arrived: watch::Receiver<Arrived>,
    reader: JoinHandle<()>,
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Arrivals {
    /// Starts to play a URL.
    ///
    /// # Errors
    /// The server answers with a status other than 200.
    pub async fn open(url: &str) -> Result<Self> {
        let mut answer = get(url).await?;
        if answer.status != 200 {
            let text = answer.text().await?;
            bail!("{}: {text}", answer.status);
        }
        let (sender, arrived) = watch::channel(Arrived::default());
        let reader = tokio::spawn(async move {
            let Answer { rest, stream, .. } = answer;
            read(stream, rest, &sender).await;
        });
        Ok(Arrivals { arrived, reader })
    }

    /// Plays an FLV stream that another program writes.
    pub fn from(stream: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let (sender, arrived) = watch::channel(Arrived::default());
        let reader = tokio::spawn(async move { read(stream, BytesMut::new(), &sender).await });
        Arrivals { arrived, reader }
    }

    /// Waits until the data that has arrived satisfies `wanted`.
    ///
    /// # Errors
    /// That does not happen within `limit`.
    pub async fn until(
        &mut self,
        limit: Duration,
        mut wanted: impl FnMut(&Arrived) -> bool,
    ) -> Result<()> {
        let waited = timeout(limit, self.arrived.wait_for(|arrived| wanted(arrived)))
            .await
            .map(|result| result.map(drop));
        if let Ok(result) = waited {
            return result.context("the reader is gone");
        }
        let arrived = self.arrived.borrow();
        let (tags, ended) = (arrived.tags.len(), arrived.ended.is_some());
        bail!("not within {limit:?}: {tags} tags so far, ended: {ended}")
    }

    /// Waits for sound and pictures that arrive from now on.
    ///
    /// # Errors
    /// They do not arrive within `limit`.
    pub async fn media(&mut self, limit: Duration) -> Result<()> {
        let now = Instant::now();
        self.until(limit, |arrived| arrived.has_media_since(now)).await.context("no media")
    }

    /// Waits for the end of the stream.
    ///
    /// # Errors
    /// It does not end within `limit`.
    pub async fn end(&mut self, limit: Duration) -> Result<()> {
        self.until(limit, |arrived| arrived.ended.is_some()).await.context("not cut")
    }

    /// Waits until nothing has arrived for `silence`.
    ///
    /// # Errors
    /// Media still flows after `limit`.
    pub async fn silence(&mut self, silence: Duration, limit: Duration) -> Result<()> {
        let quiet = async {
            // Each arrival starts the wait again.
            while timeout(silence, self.arrived.changed()).await.is_ok() {}
        };
        timeout(limit, quiet).await.context("media still flows")
    }

    /// Waits until sound and pictures have gone on for `duration`, by the stream's own timestamps.
    ///
    /// # Errors
    /// The stream ends, or makes no progress for [`TEST_TIMEOUT`].
    pub async fn goes_on(&mut self, duration: Duration) -> Result<()> {
        self.goes_on_with(&[TagKind::Audio, TagKind::Video], duration).await
    }

    /// Like [`Arrivals::goes_on`], for these kinds.
    ///
    /// # Errors
    /// The stream ends, or one of the kinds makes no progress for [`TEST_TIMEOUT`].
    pub async fn goes_on_with(&mut self, kinds: &[TagKind], duration: Duration) -> Result<()> {
        let from = Instant::now();
        let is_enough =
            |arrived: &Arrived| arrived.ended.is_some() || arrived.went_on(kinds, from) >= duration;
        self.until(TEST_TIMEOUT, is_enough).await?;
        ensure!(self.arrived.borrow().ended.is_none(), "the stream ended");
        Ok(())
    }

    /// All tags that have arrived so far.
    #[must_use]
    pub fn tags(&self) -> Vec<Tag> {
        self.arrived.borrow().tags.clone()
    }

    /// The longest gap in the part of the stream that arrived after `from`.
    ///
    /// # Errors
    /// The stream has ended.
    pub fn longest_gap_since(&self, from: Instant) -> Result<Duration> {
        let arrived = self.arrived.borrow();
        ensure!(arrived.ended.is_none(), "the stream ended");
        Ok(arrived.longest_gap(from))
    }
}

/// An HTTP response whose body has not been read yet.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The status line and the headers.
    pub head: String,
    rest: BytesMut,
    stream: TcpStream,
}

impl Answer {
    /// The whole body.
    ///
    /// # Errors
    /// The connection fails, or the body takes longer than [`TEST_TIMEOUT`].
    pub async fn text(&mut self) -> Result<String> {
        let read = async {
            while self.stream.read_buf(&mut self.rest).await? > 0 {}
            anyhow::Ok(())
        };
        timeout(TEST_TIMEOUT, read).await.context("the body does not end")??;
        Ok(String::from_utf8_lossy(&self.rest).into_owned())
    }
}

/// Requests a URL.
///
/// # Errors
/// The server cannot be reached, or sends no HTTP response within [`TEST_TIMEOUT`].
pub async fn get(url: &str) -> Result<Answer> {
    let (host, path) =
        url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).context("no http URL")?;
    // HTTP/1.0: the body ends with the connection, and there are no chunks.
    let request = format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    ask(host.parse()?, &request).await
}

/// Sends a request unchanged.
///
/// # Errors
/// As for [`get`].
pub async fn ask(address: SocketAddr, request: &str) -> Result<Answer> {
    timeout(TEST_TIMEOUT, ask_now(address, request)).await.context("no answer")?
}

async fn ask_now(address: SocketAddr, request: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut rest = BytesMut::new();
    let end = loop {
        if let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        ensure!(stream.read_buf(&mut rest).await? > 0, "the connection ended inside the head");
    };
    let head = String::from_utf8_lossy(&rest.split_to(end)).into_owned();
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok(Answer { status, head, rest, stream })
}

/// Errors are ignored here: a stream that ends too early fails its test.
async fn read(stream: impl AsyncRead + Unpin, bytes: BytesMut, sender: &watch::Sender<Arrived>) {
    let _ = read_tags(stream, bytes, sender).await;
    sender.send_modify(|arrived| arrived.ended = Some(Instant::now()));
}

async fn read_tags(
    mut stream: impl AsyncRead + Unpin,
    mut bytes: BytesMut,
    sender: &watch::Sender<Arrived>,
) -> Result<()> {
    // The file header, and the size of the tag before the first one, which is 0.
    let mut skip = 9 + 4;
    loop {
        if skip > 0 && bytes.len() >= skip {
            bytes.advance(skip);
            skip = 0;
        }
        while skip == 0
            && let [kind, a, b, c, t1, t2, t3, t0, ..] = bytes[..]
        {
            let size = 11 + u32::from_be_bytes([0, a, b, c]) as usize + 4;
            if bytes.len() < size {
                break;
            }
            // Even after an empty body there are the four bytes of its size.
            let start = [bytes[11], bytes[12]];
            bytes.advance(size);
            let kind = match kind {
                8 => TagKind::Audio,
                9 => TagKind::Video,
                _ => TagKind::Data,
            };
            let time_ms = u32::from_be_bytes([t0, t1, t2, t3]);
            let tag = Tag { at: Instant::now(), kind, time_ms, start };
            sender.send_modify(|arrived| arrived.tags.push(tag));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
}

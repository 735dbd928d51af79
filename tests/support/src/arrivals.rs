//! A player of FLV that notes when what arrived, and decodes nothing. Comes in: a pull URL, or FLV from anywhere. Goes
//! out: the tags with their times of arrival, the longest pause between them, the end of the stream.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::PATIENCE;

/// What a tag holds.
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
    /// When its last byte was read.
    pub at: Instant,
    /// What it holds.
    pub kind: TagKind,
    /// Its time in the stream in milliseconds.
    pub time_ms: u32,
    /// The first two bytes of what it holds: of H.264 `[0x17, 0]` is a sequence header, `[0x17, 1]` a keyframe.
    pub start: [u8; 2],
}

/// What arrived so far.
#[derive(Debug, Default)]
pub struct Arrived {
    /// Every tag in order.
    pub tags: Vec<Tag>,
    /// When the stream ended, if it has.
    pub ended: Option<Instant>,
}

impl Arrived {
    /// Whether sound and pictures came after `start`.
    #[must_use]
    pub fn has_media_since(&self, start: Instant) -> bool {
        let has = |kind| self.tags.iter().rev().any(|tag| tag.at > start && tag.kind == kind);
        has(TagKind::Audio) && has(TagKind::Video)
    }

    /// Times in the stream of what arrived after `from`.
    fn times_since(&self, kind: TagKind, from: Instant) -> impl Iterator<Item = u32> {
        let inside = move |tag: &&Tag| tag.kind == kind && tag.at > from;
        self.tags.iter().filter(inside).map(|tag| tag.time_ms)
    }

    /// How long the stream went on after `from`, by its own clock: of these kinds the shortest time.
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

    /// The longest part of the stream that is missing behind `from`, by its own clock: between two pieces of sound, or
    /// two pictures. How fast they arrived does not matter, so neither does the machine.
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

/// A player; dropping it closes its connection.
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
    /// Begins to play.
    ///
    /// # Errors
    /// The server does not answer 200.
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

    /// Plays what another program writes: FLV.
    pub fn from(stream: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let (sender, arrived) = watch::channel(Arrived::default());
        let reader = tokio::spawn(async move { read(stream, BytesMut::new(), &sender).await });
        Arrivals { arrived, reader }
    }

    /// Waits until what arrived is as wanted.
    ///
    /// # Errors
    /// It is not within `limit`.
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

    /// Waits for sound and pictures that come from now on.
    ///
    /// # Errors
    /// They do not come within `limit`.
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
            // Each change starts the wait anew.
            while timeout(silence, self.arrived.changed()).await.is_ok() {}
        };
        timeout(limit, quiet).await.context("media still flows")
    }

    /// Watches until sound and pictures have gone on for `duration` by the stream's own clock.
    ///
    /// # Errors
    /// The stream ends, or stands still for [`PATIENCE`].
    pub async fn goes_on(&mut self, duration: Duration) -> Result<()> {
        self.goes_on_with(&[TagKind::Audio, TagKind::Video], duration).await
    }

    /// As [`Arrivals::goes_on`], of these kinds.
    ///
    /// # Errors
    /// The stream ends, or one of the kinds stands still for [`PATIENCE`].
    pub async fn goes_on_with(&mut self, kinds: &[TagKind], duration: Duration) -> Result<()> {
        let from = Instant::now();
        let is_enough =
            |arrived: &Arrived| arrived.ended.is_some() || arrived.went_on(kinds, from) >= duration;
        self.until(PATIENCE, is_enough).await?;
        ensure!(self.arrived.borrow().ended.is_none(), "the stream ended");
        Ok(())
    }

    /// Everything that arrived so far.
    #[must_use]
    pub fn tags(&self) -> Vec<Tag> {
        self.arrived.borrow().tags.clone()
    }

    /// How much of the stream is missing at most in what arrived after `from`.
    ///
    /// # Errors
    /// The stream has ended.
    pub fn longest_gap_since(&self, from: Instant) -> Result<Duration> {
        let arrived = self.arrived.borrow();
        ensure!(arrived.ended.is_none(), "the stream ended");
        Ok(arrived.longest_gap(from))
    }
}

/// An HTTP answer whose body is still to be read.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Everything before the body.
    pub head: String,
    rest: BytesMut,
    stream: TcpStream,
}

impl Answer {
    /// The whole body.
    ///
    /// # Errors
    /// The connection fails, or the body takes longer than [`PATIENCE`].
    pub async fn text(&mut self) -> Result<String> {
        let read = async {
            while self.stream.read_buf(&mut self.rest).await? > 0 {}
            anyhow::Ok(())
        };
        timeout(PATIENCE, read).await.context("the body does not end")??;
        Ok(String::from_utf8_lossy(&self.rest).into_owned())
    }
}

/// Asks for a URL.
///
/// # Errors
/// The server cannot be reached or gives no HTTP answer within [`PATIENCE`].
pub async fn get(url: &str) -> Result<Answer> {
    let (host, path) =
        url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).context("no http URL")?;
    // Version 1.0: the body is what comes until the end, and no chunks.
    let request = format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    ask(host.parse()?, &request).await
}

/// Sends a request as it is.
///
/// # Errors
/// As [`get`].
pub async fn ask(address: SocketAddr, request: &str) -> Result<Answer> {
    timeout(PATIENCE, ask_now(address, request)).await.context("no answer")?
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

/// However it ends: a stream that ends too early fails its test.
async fn read(stream: impl AsyncRead + Unpin, bytes: BytesMut, sender: &watch::Sender<Arrived>) {
    let _ = read_tags(stream, bytes, sender).await;
    sender.send_modify(|arrived| arrived.ended = Some(Instant::now()));
}

async fn read_tags(
    mut stream: impl AsyncRead + Unpin,
    mut bytes: BytesMut,
    sender: &watch::Sender<Arrived>,
) -> Result<()> {
    // The header of the file and the size of the tag before the first, which is 0.
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
            // Behind a body, however short, stands a size.
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

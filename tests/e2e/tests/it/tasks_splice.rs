//! A dishonest encoder: one publish whose media comes from one file after the other, with times that continue. Comes
//! in: files, and whether they are corrupted on the way. Goes out: their tags, at the pace of the clock. Deliberately
//! absent: the effect.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use lianmai_compositor::flv::{FlvReader, Tag};
use lianmai_media_plane::MediaKind;
use lianmai_media_plane::rtmp::{Client, ClientEvent, ClientOutput};
use lianmai_media_plane::upstream::UpstreamUrl;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Time between the last tag of one file and the first of the next, in milliseconds.
const STEP_MS: u32 = 40;
/// Length of the header before the coded bytes of a picture, and of a sound.
const HEADER_BYTES: (usize, usize) = (5, 2);

/// Media of a publish, until the next source replaces it.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) file: PathBuf,
    /// Its pictures and sounds are noise, but not the configuration of its decoders.
    pub(crate) is_spoilt: bool,
}

impl Source {
    pub(crate) fn of(file: PathBuf) -> Self {
        Source { file, is_spoilt: false }
    }
}

/// A running publish; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Splice {
    sources: mpsc::Sender<Source>,
    task: JoinSet<Result<()>>,
}

impl Splice {
    pub(crate) fn to(url: String) -> Self {
        let (sources, queue) = mpsc::channel(4);
        let mut task = JoinSet::new();
        task.spawn(publish(url, queue));
        Splice { sources, task }
    }

    /// From now on pushes this source in a loop.
    pub(crate) async fn play(&mut self, source: Source) -> Result<()> {
        if self.sources.send(source).await.is_err() {
            self.task.join_next().await.context("no push")???;
            bail!("the push has ended");
        }
        Ok(())
    }
}

async fn publish(url: String, mut sources: mpsc::Receiver<Source>) -> Result<()> {
    let url = UpstreamUrl::parse(&url)?;
    let mut stream = TcpStream::connect((url.host(), url.port())).await?;
    let mut client = Client::new(url.target().clone(), [9; 16]);
    let mut buffer = vec![0; 4096];
    let mut playing: Option<Playing> = None;
    let mut last = 0;
    loop {
        while let Some(output) = client.next_output() {
            match output {
                ClientOutput::Send(bytes) => stream.write_all(&bytes).await?,
                ClientOutput::Event(ClientEvent::Accepted) => {}
                other => bail!("the server wants no more of it: {other:?}"),
            }
        }
        tokio::select! {
            count = stream.read(&mut buffer) => {
                let count = count?;
                ensure!(count > 0, "the server has closed the push");
                client.input(&buffer[..count])?;
            }
            source = sources.recv(), if client.is_publishing() => {
                let Some(source) = source else { return Ok(()) };
                playing = Some(Playing::start(&source, last + STEP_MS)?);
            }
            tag = next(&mut playing) => {
                let Tag { kind, time, body } = tag?;
                last = last.max(time);
                client.publish(kind, time, &body);
            }
        }
    }
}

async fn next(playing: &mut Option<Playing>) -> Result<Tag> {
    match playing {
        Some(playing) => playing.next().await,
        None => std::future::pending().await,
    }
}

/// A file that an ffmpeg reads at the pace of the clock.
struct Playing {
    output: ChildStdout,
    reader: FlvReader,
    buffer: Vec<u8>,
    begin: u32,
    is_spoilt: bool,
    noise: Noise,
    _ffmpeg: Child,
}

impl Playing {
    fn start(source: &Source, begin: u32) -> Result<Self> {
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args("-v error -nostdin -re -stream_loop -1 -i".split(' ')).arg(&source.file);
        ffmpeg.args("-c copy -flush_packets 1 -flvflags no_duration_filesize".split(' '));
        ffmpeg.args("-f flv pipe:1".split(' '));
        ffmpeg.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut ffmpeg = ffmpeg.spawn().context("ffmpeg")?;
        let output = ffmpeg.stdout.take().context("no output")?;
        Ok(Playing {
            output,
            reader: FlvReader::default(),
            buffer: vec![0; 64 << 10],
            begin,
            is_spoilt: source.is_spoilt,
            noise: Noise(0x9E37_79B9_7F4A_7C15),
            _ffmpeg: ffmpeg,
        })
    }

    /// Cancel safe.
    async fn next(&mut self) -> Result<Tag> {
        loop {
            match self.reader.next()? {
                // Metadata of another file does not apply to this publish.
                Some(tag) if tag.kind == MediaKind::Metadata => {}
                Some(tag) => {
                    let time = tag.time + self.begin;
                    let body = if self.is_spoilt { self.spoilt(&tag) } else { tag.body };
                    return Ok(Tag { time, kind: tag.kind, body });
                }
                None => {
                    let count = self.output.read(&mut self.buffer).await?;
                    ensure!(count > 0, "ffmpeg has ended");
                    self.reader.push(&self.buffer[..count]);
                }
            }
        }
    }

    fn spoilt(&mut self, tag: &Tag) -> Bytes {
        if tag.is_config() {
            return tag.body.clone();
        }
        let head = if tag.kind == MediaKind::Video { HEADER_BYTES.0 } else { HEADER_BYTES.1 };
        let noise = &mut self.noise;
        let spoil = |(at, byte): (usize, &u8)| if at < head { *byte } else { noise.byte() };
        tag.body.iter().enumerate().map(spoil).collect()
    }
}

/// Pseudo-random bytes that are the same in each run.
struct Noise(u64);

impl Noise {
    fn byte(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u8
    }
}

//! Decoding what a receiver gets. In: the tags of a publish. Out: decoded pictures and sound, each with its time, by a
//! separate ffmpeg. Deliberately absent: the pushed media, see `samples.rs`.

use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use lianmai_compositor::nut;
use lianmai_compositor::picture::{Picture, Yuv};
use lianmai_media_plane::flv;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::TEST_TIMEOUT;
use crate::receiver::Seen;

/// Sample rate of the decoded sound, in Hz.
pub const RATE: usize = 16_000;

/// A decoded picture.
#[derive(Debug)]
pub struct Frame {
    /// Time on the publisher's clock, in milliseconds.
    pub time: i64,
    /// The picture, at the size of the canvas.
    pub picture: Picture,
}

/// A chunk of sound.
#[derive(Debug)]
pub struct Sound {
    /// Time in milliseconds.
    pub time: i64,
    /// Samples of one channel.
    pub samples: Vec<i16>,
}

/// The decoded media of a receiver's publish, from a keyframe on.
#[derive(Debug)]
pub struct DecodedPublish {
    seen: watch::Receiver<Seen>,
    size: (u32, u32),
    media: mpsc::Receiver<Media>,
    _ffmpeg: Child,
}

/// A decoded item.
#[derive(Debug)]
pub enum Media {
    /// A picture.
    Frame(Frame),
    /// Sound.
    Sound(Sound),
}

impl DecodedPublish {
    /// Decodes the current publish from its newest keyframe on, and the next one when it ends. `width` and `height` are
    /// those of the canvas.
    ///
    /// # Errors
    /// Nothing is published, or ffmpeg does not start.
    pub fn start(seen: watch::Receiver<Seen>, width: u32, height: u32) -> Result<Self> {
        let at = {
            let seen = seen.borrow();
            let live = seen.publishes.iter().rposition(|publish| publish.ended.is_none());
            live.context("nothing is published")?
        };
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg
            .args("-v error -nostdin -copyts -probesize 200000 -analyzeduration 300000".split(' '));
        ffmpeg.args("-f flv -i pipe:0 -map 0:v:0 -map 0:a:0 -filter:v".split(' '));
        ffmpeg.arg(format!("scale={width}:{height}:out_range=limited,format=yuv420p"));
        ffmpeg.args("-fps_mode passthrough -enc_time_base:v 1:1000 -c:v rawvideo -ac 1".split(' '));
        ffmpeg.args(["-ar", &RATE.to_string()]);
        ffmpeg.args("-c:a pcm_s16le -max_interleave_delta 500000 -flush_packets 1".split(' '));
        ffmpeg.args("-write_index 0 -f nut pipe:1".split(' '));
        ffmpeg.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut ffmpeg = ffmpeg.spawn().context("ffmpeg")?;
        let input = ffmpeg.stdin.take().context("no input")?;
        let output = ffmpeg.stdout.take().context("no output")?;
        tokio::spawn(feed(seen.clone(), at, input));
        let (sender, media) = mpsc::channel(64);
        tokio::spawn(read(output, (width, height), sender));
        Ok(DecodedPublish { seen, size: (width, height), media, _ffmpeg: ffmpeg })
    }

    /// The next picture or sound. When this publish has ended, continues with the next one.
    ///
    /// # Errors
    /// Nothing arrives within [`TEST_TIMEOUT`].
    pub async fn next(&mut self) -> Result<Media> {
        loop {
            let next = timeout(TEST_TIMEOUT, self.media.recv()).await.context("nothing comes")?;
            if let Some(next) = next {
                return Ok(next);
            }
            let begun = |seen: &Seen| {
                seen.live().is_some_and(|live| live.tags.iter().any(|tag| tag.is_key()))
            };
            let mut seen = self.seen.clone();
            timeout(TEST_TIMEOUT, seen.wait_for(begun)).await.context("the stream ended")??;
            *self = DecodedPublish::start(seen, self.size.0, self.size.1)?;
        }
    }

    /// The next picture.
    ///
    /// # Errors
    /// As for [`DecodedPublish::next`].
    pub async fn frame(&mut self) -> Result<Frame> {
        loop {
            if let Media::Frame(frame) = self.next().await? {
                return Ok(frame);
            }
        }
    }

    /// Waits for a picture that has these colours at these places.
    ///
    /// # Errors
    /// There is none within [`TEST_TIMEOUT`].
    pub async fn until(&mut self, wanted: &[(u32, u32, u32)]) -> Result<Frame> {
        let mut last = String::new();
        let search = async {
            loop {
                let frame = self.frame().await?;
                let shown: Vec<_> =
                    wanted.iter().map(|(x, y, _)| frame.picture.at(*x, *y)).collect();
                if shown.iter().zip(wanted).all(|(is, (.., rgb))| is_near(*is, *rgb)) {
                    return anyhow::Ok(frame);
                }
                last = format!("{shown:?}");
            }
        };
        let found = timeout(TEST_TIMEOUT, search).await;
        found.with_context(|| format!("{wanted:x?} is not seen; last {last}"))?
    }

    /// The next `count` samples.
    ///
    /// # Errors
    /// As for [`DecodedPublish::next`].
    pub async fn hear(&mut self, count: usize) -> Result<Vec<i16>> {
        let mut heard = Vec::new();
        while heard.len() < count {
            if let Media::Sound(sound) = self.next().await? {
                heard.extend(sound.samples);
            }
        }
        heard.truncate(count);
        Ok(heard)
    }
}

/// Whether a colour equals red, green or blue, within the loss of an encoder.
#[must_use]
pub fn is_near(color: Yuv, rgb: u32) -> bool {
    let wanted = Yuv::from_rgb(rgb);
    color.y.abs_diff(wanted.y) < 20
        && color.u.abs_diff(wanted.u) < 20
        && color.v.abs_diff(wanted.v) < 20
}

/// Passes the tags of a publish to a decoder: the headers first, then everything from the newest keyframe on.
async fn feed(
    mut seen: watch::Receiver<Seen>,
    publish: usize,
    mut input: ChildStdin,
) -> Result<()> {
    input.write_all(&flv::file_header(true, true)).await?;
    let (mut next, heads) = {
        let seen = seen.borrow();
        let tags = &seen.publishes[publish].tags;
        let key = tags.iter().rposition(|tag| tag.is_key()).unwrap_or(0);
        let heads = tags[..key].iter().filter(|tag| tag.is_header());
        (key, heads.cloned().collect::<Vec<_>>())
    };
    for tag in heads {
        input.write_all(&flv::encode_tag(tag.kind, tag.time, &tag.body)).await?;
    }
    loop {
        let more: Vec<_> = {
            let seen = seen.borrow_and_update();
            let publish = &seen.publishes[publish];
            let more = publish.tags[next..].to_vec();
            if more.is_empty() && publish.ended.is_some() {
                return Ok(());
            }
            more
        };
        next += more.len();
        for tag in &more {
            input.write_all(&flv::encode_tag(tag.kind, tag.time, &tag.body)).await?;
        }
        if more.is_empty() {
            seen.changed().await?;
        }
    }
}

async fn read(
    mut output: ChildStdout,
    (width, height): (u32, u32),
    media: mpsc::Sender<Media>,
) -> Result<()> {
    let mut reader = nut::NutReader::new(16 << 20);
    let mut buffer = vec![0; 256 << 10];
    loop {
        while let Some(frame) = reader.next()? {
            let stream = reader.streams().get(frame.stream).copied().flatten();
            let next = match stream {
                Some(nut::Stream::Picture { base, .. }) => {
                    let time = in_ms(frame.pts, base);
                    let picture = Picture::new(width, height, frame.data).context("its size")?;
                    Media::Frame(Frame { time, picture })
                }
                Some(nut::Stream::Sound { base, .. }) => {
                    let time = in_ms(frame.pts, base);
                    let samples = frame.data.as_chunks::<2>().0.iter().copied();
                    let samples = samples.map(i16::from_le_bytes).collect();
                    Media::Sound(Sound { time, samples })
                }
                None => bail!("a frame of no stream"),
            };
            media.send(next).await?;
        }
        let count = output.read(&mut buffer).await?;
        ensure!(count > 0, "the end");
        reader.push(&buffer[..count]);
    }
}

fn in_ms(pts: i64, (num, den): (u32, u32)) -> i64 {
    pts * 1000 * i64::from(num) / i64::from(den)
}

/// The amplitude of a tone in some samples.
#[must_use]
pub fn loudness(samples: &[i16], tone: f64) -> f64 {
    let step = tone * std::f64::consts::TAU / RATE as f64;
    let (mut re, mut im) = (0.0, 0.0);
    for (index, sample) in samples.iter().enumerate() {
        let (sample, angle) = (f64::from(*sample), index as f64 * step);
        re += sample * angle.cos();
        im += sample * angle.sin();
    }
    2.0 * (re * re + im * im).sqrt() / samples.len() as f64
}

//! Real media: ffmpeg pushes and plays, ffprobe, and decoded frames. The programs run without control from the test,
//! like an encoder in the field. In: URLs. Out: exit codes, codecs, frames. Deliberately absent: judgement of the
//! results.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::TEST_TIMEOUT;
use crate::arrivals::Arrivals;

/// The media that is pushed: 60 s of a test picture (H.264 baseline, 320x180, 25 frames and one keyframe per second)
/// and a tone (AAC). It is longer than any test, so that its repetition does not matter. Made once.
///
/// # Errors
/// ffmpeg is missing or fails.
pub fn sample() -> Result<&'static Path> {
    static SAMPLE: OnceLock<Result<PathBuf>> = OnceLock::new();
    match SAMPLE.get_or_init(make_sample) {
        Ok(path) => Ok(path),
        Err(error) => bail!("no sample: {error:#}"),
    }
}

fn make_sample() -> Result<PathBuf> {
    let directory = crate::process::target_dir().join("test-media");
    let path = directory.join("sample.flv");
    if path.exists() {
        return Ok(path);
    }
    std::fs::create_dir_all(&directory)?;
    // The file is complete or absent, even if two processes make it at the same time.
    let part = directory.join(format!("sample.{}.part", std::process::id()));
    let made = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25"])
        .args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100", "-t", "60"])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency"])
        .args(["-profile:v", "baseline", "-pix_fmt", "yuv420p", "-g", "25", "-sc_threshold", "0"])
        .args(["-c:a", "aac", "-b:a", "64k", "-f", "flv"])
        .arg(&part)
        .stdin(Stdio::null())
        .status()
        .context("ffmpeg")?;
    ensure!(made.success(), "ffmpeg: {made}");
    std::fs::rename(&part, &path)?;
    Ok(path)
}

/// A running ffmpeg. It ends when it is cut, by itself, or when it is dropped.
#[derive(Debug)]
pub struct Ffmpeg {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Ffmpeg {
    /// Pushes the sample in real time, repeatedly.
    ///
    /// # Errors
    /// ffmpeg cannot be started.
    pub fn push(url: &str) -> Result<Self> {
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-nostdin", "-re", "-stream_loop", "-1", "-i"]).arg(sample()?);
        ffmpeg.args(["-c", "copy", "-f", "flv", url]);
        Ffmpeg::start(ffmpeg)
    }

    /// Pushes some minutes of media as fast as the server accepts it, then ends.
    ///
    /// # Errors
    /// ffmpeg cannot be started.
    pub fn push_fast(url: &str) -> Result<Self> {
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-nostdin", "-stream_loop", "3", "-i"]).arg(sample()?);
        ffmpeg.args(["-c", "copy", "-f", "flv", url]);
        Ffmpeg::start(ffmpeg)
    }

    /// Pushes a file in real time, repeatedly.
    ///
    /// # Errors
    /// ffmpeg cannot be started.
    pub fn push_file(file: &Path, url: &str) -> Result<Self> {
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-nostdin", "-re", "-stream_loop", "-1", "-i"]).arg(file);
        ffmpeg.args(["-c", "copy", "-f", "flv", url]);
        Ffmpeg::start(ffmpeg)
    }

    /// Plays as long as the stream lasts, without decoding.
    ///
    /// # Errors
    /// ffmpeg cannot be started.
    pub fn play(url: &str) -> Result<Self> {
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-nostdin", "-fflags", "nobuffer", "-i", url]);
        ffmpeg.args(["-map", "0", "-c", "copy", "-f", "null", "-"]);
        Ffmpeg::start(ffmpeg)
    }

    /// Plays as long as the stream lasts, and reports the arriving tags, without decoding.
    ///
    /// # Errors
    /// ffmpeg cannot be started.
    pub fn relay(url: &str) -> Result<(Self, Arrivals)> {
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-nostdin", "-fflags", "nobuffer", "-i", url]);
        ffmpeg.args(["-map", "0", "-c", "copy", "-copyts", "-flush_packets", "1"]);
        ffmpeg.args(["-f", "flv", "-flvflags", "no_duration_filesize", "-"]);
        let mut ffmpeg = Ffmpeg::start_with(ffmpeg, Stdio::piped())?;
        let output = ffmpeg.child.stdout.take().context("a piped child has an output")?;
        Ok((ffmpeg, Arrivals::from(output)))
    }

    fn start(ffmpeg: Command) -> Result<Self> {
        Ffmpeg::start_with(ffmpeg, Stdio::null())
    }

    fn start_with(mut ffmpeg: Command, output: Stdio) -> Result<Self> {
        let mut child = quiet(&mut ffmpeg).stdout(output).spawn().context("ffmpeg")?;
        let errors = child.stderr.take().context("a piped child has an error output")?;
        let said = Arc::new(Mutex::new(String::new()));
        tokio::spawn(collect(errors, said.clone()));
        Ok(Ffmpeg { child, said })
    }

    /// The process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Its error output so far.
    #[must_use]
    pub fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its exit status; `None` while it runs.
    ///
    /// # Errors
    /// The system cannot tell.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It still runs after `limit`.
    pub async fn exited_within(&mut self, limit: Duration) -> Result<ExitStatus> {
        match timeout(limit, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => bail!("ffmpeg still runs after {limit:?}; it said: {}", self.said()),
        }
    }
}

async fn collect(errors: impl AsyncRead + Unpin, said: Arc<Mutex<String>>) {
    let mut lines = BufReader::new(errors).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.push_str(&line);
        said.push('\n');
    }
}

/// The codecs that ffprobe finds, sorted by name.
///
/// # Errors
/// ffprobe fails, or takes longer than `limit`.
pub async fn probe(url: &str, limit: Duration) -> Result<Vec<String>> {
    probe_media(url, Duration::from_millis(500), limit).await
}

/// Like [`probe`], for a server that sends sound at once and the picture from its next keyframe: ffprobe analyses
/// `media` of the stream.
///
/// # Errors
/// As for [`probe`].
pub async fn probe_media(url: &str, media: Duration, limit: Duration) -> Result<Vec<String>> {
    let mut ffprobe = Command::new("ffprobe");
    let media = media.as_micros().to_string();
    ffprobe.args(["-v", "error", "-fflags", "nobuffer", "-analyzeduration", &media]);
    ffprobe.args(["-show_entries", "stream=codec_name", "-of", "csv=p=0", url]);
    let mut codecs: Vec<_> = output(ffprobe, limit).await?.lines().map(str::to_owned).collect();
    codecs.sort();
    Ok(codecs)
}

/// The output of a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Number of pictures.
    pub frames: usize,
    /// Number of distinct pictures.
    pub distinct: usize,
}

/// The coded pictures of the first `seconds` of a file or stream: the size in bytes and the hash of each.
///
/// # Errors
/// ffmpeg fails, or takes [`TEST_TIMEOUT`] longer than that.
pub async fn pictures(url: &str, seconds: u32) -> Result<Vec<(u64, String)>> {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-nostdin", "-i", url, "-t", &seconds.to_string()]);
    ffmpeg.args(["-map", "0:v", "-c", "copy", "-f", "framemd5", "-"]);
    let text = output(ffmpeg, Duration::from_secs(seconds.into()) + TEST_TIMEOUT).await?;
    let fields = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let mut fields = line.rsplit(',').map(str::trim);
        let hash = fields.next().context("no hash")?;
        Ok((fields.next().context("no size")?.parse()?, hash.to_owned()))
    });
    fields.collect()
}

/// Decodes `seconds` of the video.
///
/// # Errors
/// ffmpeg fails, or takes [`TEST_TIMEOUT`] longer than that.
pub async fn decode(url: &str, seconds: u32) -> Result<Decoded> {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-nostdin", "-fflags", "nobuffer", "-i", url]);
    ffmpeg.args(["-t", &seconds.to_string(), "-map", "0:v", "-f", "framemd5", "-"]);
    let limit = Duration::from_secs(seconds.into()) + TEST_TIMEOUT;
    let text = output(ffmpeg, limit).await?;
    // One line per frame, with the hash as its last field; lines with `#` are comments.
    let hashes: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit(',').next())
        .collect();
    let distinct: HashSet<_> = hashes.iter().collect();
    Ok(Decoded { frames: hashes.len(), distinct: distinct.len() })
}

async fn output(mut command: Command, limit: Duration) -> Result<String> {
    let child = quiet(&mut command).stdout(Stdio::piped()).spawn()?;
    let Ok(output) = timeout(limit, child.wait_with_output()).await else {
        bail!("{:?} takes longer than {limit:?}", command.as_std().get_program());
    };
    let output = output?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true)
}

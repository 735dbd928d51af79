//! The encoder process: pictures and samples in, tags out. There is one at a time.
//!
//! In: frames. Out: tags with times of the output, across all encoder processes. Deliberately absent: the use of the
//! tags.
//!
//! When an encoder fails, another one starts after a pause with the newest frame; the frames in between are not encoded.
//! The caller limits the number of waiting frames with [`Encoder::has_room`].

use std::sync::Arc;
use std::time::Duration;

use lianmai_media_plane::MediaKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::child::{self, EncoderOptions, Tools};
use crate::composer::ComposedFrame;
use crate::flv::{FlvReader, Tag};
use crate::nut::Writer;

/// Maximum number of frames that wait for the encoder.
const MAX_WAITING: usize = 8;
/// An encoder that accepts or produces nothing for this time has failed.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before the next encoder starts; it doubles with each further failure.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// After an encoder has run this long, the pauses start again at the first.
const STEADY: Duration = Duration::from_secs(10);
/// Start of the times that an encoder receives, in seconds. Encoders emit priming samples before the first sample, and
/// their times must not be negative.
const LEAD: u64 = 4;
/// Start of the times of the output, in milliseconds, for the same reason.
pub const OUTPUT_START_MS: i64 = 1000;

/// An event of an encoder.
#[derive(Debug)]
pub enum EncoderEvent {
    /// It failed; another one will start.
    Failed,
}

/// Encodes frames. Dropping it ends the encoder process.
#[derive(Debug)]
pub struct Encoder {
    frames: mpsc::Sender<ComposedFrame>,
    encoding: EncoderOptions,
    task: JoinHandle<()>,
}

impl Encoder {
    /// Starts with the first frame. If `metadata` is false, only tags with pictures or sound are sent.
    #[must_use]
    pub fn start(
        tools: Arc<Tools>,
        encoding: EncoderOptions,
        metadata: bool,
        tags: mpsc::Sender<Tag>,
        events: mpsc::Sender<EncoderEvent>,
    ) -> Self {
        let (frames, queue) = mpsc::channel(MAX_WAITING);
        let sink = TagSink { tags, metadata };
        let task = tokio::spawn(run(tools, encoding, queue, sink, events));
        Self { frames, encoding, task }
    }

    /// The encoding parameters.
    #[must_use]
    pub fn encoding(&self) -> EncoderOptions {
        self.encoding
    }

    /// Whether a frame can be passed to [`Encoder::encode`].
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.frames.capacity() > 0
    }

    /// Encodes a frame, if there is room.
    pub fn encode(&self, frame: ComposedFrame) {
        // Without room the frame is lost; the caller checks `has_room` first.
        let _ = self.frames.try_send(frame);
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // Dropping the handle kills the process.
        self.task.abort();
    }
}

struct TagSink {
    tags: mpsc::Sender<Tag>,
    metadata: bool,
}

async fn run(
    tools: Arc<Tools>,
    encoding: EncoderOptions,
    mut frames: mpsc::Receiver<ComposedFrame>,
    sink: TagSink,
    events: mpsc::Sender<EncoderEvent>,
) {
    let mut pause = FIRST_PAUSE;
    while let Some(first) = frames.recv().await {
        let begun = Instant::now();
        if let Ok(mut process) = child::encoder(&tools, &encoding) {
            let (input, output) = process.pipes();
            let base = OUTPUT_START_MS + first.at / 1000;
            tokio::select! {
                () = feed(input, encoding, first, &mut frames) => {}
                () = read(output, base, &sink) => {}
            }
            process.end().await;
        }
        if events.send(EncoderEvent::Failed).await.is_err() {
            return;
        }
        if begun.elapsed() >= STEADY {
            pause = FIRST_PAUSE;
        }
        let paused = sleep(pause);
        tokio::pin!(paused);
        loop {
            tokio::select! {
                () = &mut paused => break,
                frame = frames.recv() => if frame.is_none() {
                    return;
                },
            }
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Writes frames until the encoder fails to accept them.
async fn feed(
    mut input: ChildStdin,
    encoding: EncoderOptions,
    first: ComposedFrame,
    frames: &mut mpsc::Receiver<ComposedFrame>,
) {
    let picture = encoding.picture.map(|it| (it.width, it.height, it.fps));
    let writer = Writer::new(picture, (encoding.rate, encoding.channels));
    if input.write_all(&writer.header()).await.is_err() {
        return;
    }
    let clock = FirstFrame::of(&first, encoding);
    let mut frame = Some(first);
    while let Some(next) = frame {
        let writing = write(&mut input, &writer, &clock, encoding, next);
        if !matches!(timeout(STALL_TIMEOUT, writing).await, Ok(Ok(()))) {
            return;
        }
        frame = frames.recv().await;
    }
    // The owner dropped the encoder, which also aborts this task.
}

/// The first frame of an encoder.
struct FirstFrame {
    epoch: u64,
    number: u64,
    sound: u64,
    /// Number of samples per channel in its sound, which precedes its picture in time.
    lead: u64,
    channels: usize,
}

impl FirstFrame {
    fn of(frame: &ComposedFrame, encoding: EncoderOptions) -> Self {
        let channels = encoding.channels.max(1) as usize;
        Self {
            epoch: frame.epoch,
            number: frame.number,
            sound: frame.sound_at,
            lead: (frame.sound.len() / channels) as u64,
            channels,
        }
    }
}

async fn write(
    input: &mut ChildStdin,
    writer: &Writer,
    begin: &FirstFrame,
    encoding: EncoderOptions,
    frame: ComposedFrame,
) -> std::io::Result<()> {
    if frame.epoch != begin.epoch {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let rate = u64::from(encoding.rate);
    let sound_stream = usize::from(encoding.picture.is_some());
    if !frame.sound.is_empty() {
        let since = frame.sound_at.saturating_sub(begin.sound);
        let pts = (LEAD * rate + since).saturating_sub(begin.lead);
        let mut out = writer.frame_head(sound_stream, pts, frame.sound.len() * 2);
        debug_assert_eq!(frame.sound.len() % begin.channels, 0);
        out.extend(frame.sound.iter().flat_map(|sample| sample.to_le_bytes()));
        input.write_all(&out).await?;
    }
    if let Some((shape, picture)) = encoding.picture.zip(frame.picture) {
        let pts = LEAD * u64::from(shape.fps) + frame.number.saturating_sub(begin.number);
        let head = writer.frame_head(0, pts, picture.data().len());
        input.write_all(&head).await?;
        input.write_all(picture.data()).await?;
    }
    Ok(())
}

/// Forwards tags until the encoder stops producing them.
async fn read(mut output: ChildStdout, base: i64, sink: &TagSink) {
    let mut reader = FlvReader::default();
    let mut buffer = vec![0; 64 << 10];
    let mut last = 0;
    loop {
        match timeout(STALL_TIMEOUT, output.read(&mut buffer)).await {
            Ok(Ok(count)) if count > 0 => reader.push(&buffer[..count]),
            _ => return,
        }
        loop {
            match reader.next() {
                Ok(Some(tag)) if tag.kind == MediaKind::Metadata && !sink.metadata => {}
                Ok(Some(tag)) => {
                    last = unwrapped(last, tag.time);
                    let time = last - i64::try_from(LEAD * 1000).unwrap_or(0) + base;
                    // It counts the milliseconds of 49 days, then begins anew.
                    let time = (time.max(0) & i64::from(u32::MAX)) as u32;
                    if sink.tags.send(Tag { time, ..tag }).await.is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// A time of ffmpeg's FLV, which has 31 bits: the one that is next to the last.
fn unwrapped(last: i64, time: u32) -> i64 {
    const ROUND: i64 = 1 << 31;
    let ahead = (i64::from(time) - last).rem_euclid(ROUND);
    last + if ahead < ROUND / 2 { ahead } else { ahead - ROUND }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: times of encoders.

    use super::*;

    #[test]
    fn times_continue_after_31_bits() {
        let mut last = 0;
        let mut put = |time: i64| {
            last = unwrapped(last, (time & 0x7FFF_FFFF) as u32);
            last
        };
        // For 100 days, with sound a little before the picture.
        for at in (0..100 * 86_400).map(|second| second * 1000 + 647) {
            assert_eq!(put(at), at);
            assert_eq!(put(at - 30), at - 30);
        }
    }
}

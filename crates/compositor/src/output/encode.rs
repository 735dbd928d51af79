//! The encoder process: pictures and samples in, tags out. There is one at a time.
//!
//! In: beats. Out: tags with times of the output, across all encoder processes. Deliberately absent: the use of the
//! tags.
//!
//! When an encoder fails, another one starts after a pause with the newest beat; the beats in between are not encoded.
//! The caller limits the number of waiting beats with [`Encoder::has_room`].

use std::sync::Arc;
use std::time::Duration;

use lianmai_media_plane::MediaKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::child::{self, Encoding, Tools};
use crate::flv::{Reader, Tag};
use crate::nut::Writer;
use crate::stage::Beat;

/// Maximum number of beats that wait for the encoder.
const WAITING: usize = 8;
/// An encoder that accepts or produces nothing for this time has failed.
const STUCK: Duration = Duration::from_secs(10);
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
pub const BEGIN: i64 = 1000;

/// An event of an encoder.
#[derive(Debug)]
pub enum EncoderEvent {
    /// It failed; another one will start.
    Failed,
}

/// Encodes beats. Dropping it ends the encoder process.
#[derive(Debug)]
pub struct Encoder {
    beats: mpsc::Sender<Beat>,
    encoding: Encoding,
    task: JoinHandle<()>,
}

impl Encoder {
    /// Starts with the first beat. If `metadata` is false, only tags with pictures or sound are sent.
    #[must_use]
    pub fn start(
        tools: Arc<Tools>,
        encoding: Encoding,
        metadata: bool,
        tags: mpsc::Sender<Tag>,
        events: mpsc::Sender<EncoderEvent>,
    ) -> Self {
        let (beats, queue) = mpsc::channel(WAITING);
        let sink = Sink { tags, metadata };
        let task = tokio::spawn(run(tools, encoding, queue, sink, events));
        Self { beats, encoding, task }
    }

    /// The encoding parameters.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Whether a beat can be passed to [`Encoder::encode`].
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.beats.capacity() > 0
    }

    /// Encodes a beat, if there is room.
    pub fn encode(&self, beat: Beat) {
        // Without room the beat is lost; the caller checks `has_room` first.
        let _ = self.beats.try_send(beat);
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // Dropping the handle kills the process.
        self.task.abort();
    }
}

struct Sink {
    tags: mpsc::Sender<Tag>,
    metadata: bool,
}

async fn run(
    tools: Arc<Tools>,
    encoding: Encoding,
    mut beats: mpsc::Receiver<Beat>,
    sink: Sink,
    events: mpsc::Sender<EncoderEvent>,
) {
    let mut pause = FIRST_PAUSE;
    while let Some(first) = beats.recv().await {
        let begun = Instant::now();
        if let Ok(mut process) = child::encoder(&tools, &encoding) {
            let (input, output) = process.pipes();
            let base = BEGIN + first.at / 1000;
            tokio::select! {
                () = feed(input, encoding, first, &mut beats) => {}
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
                beat = beats.recv() => if beat.is_none() {
                    return;
                },
            }
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Writes beats until the encoder fails to accept them.
async fn feed(
    mut input: ChildStdin,
    encoding: Encoding,
    first: Beat,
    beats: &mut mpsc::Receiver<Beat>,
) {
    let picture = encoding.picture.map(|it| (it.width, it.height, it.fps));
    let writer = Writer::new(picture, (encoding.rate, encoding.channels));
    if input.write_all(&writer.header()).await.is_err() {
        return;
    }
    let clock = Begin::of(&first, encoding);
    let mut beat = Some(first);
    while let Some(next) = beat {
        let writing = write(&mut input, &writer, &clock, encoding, next);
        if !matches!(timeout(STUCK, writing).await, Ok(Ok(()))) {
            return;
        }
        beat = beats.recv().await;
    }
    // The owner dropped the encoder, which also aborts this task.
}

/// The first beat of an encoder.
struct Begin {
    epoch: u64,
    number: u64,
    sound: u64,
    /// Number of samples per channel in its sound, which precedes its picture in time.
    lead: u64,
    channels: usize,
}

impl Begin {
    fn of(beat: &Beat, encoding: Encoding) -> Self {
        let channels = encoding.channels.max(1) as usize;
        Self {
            epoch: beat.epoch,
            number: beat.number,
            sound: beat.sound_at,
            lead: (beat.sound.len() / channels) as u64,
            channels,
        }
    }
}

async fn write(
    input: &mut ChildStdin,
    writer: &Writer,
    begin: &Begin,
    encoding: Encoding,
    beat: Beat,
) -> std::io::Result<()> {
    if beat.epoch != begin.epoch {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let rate = u64::from(encoding.rate);
    let sound_stream = usize::from(encoding.picture.is_some());
    if !beat.sound.is_empty() {
        let since = beat.sound_at.saturating_sub(begin.sound);
        let pts = (LEAD * rate + since).saturating_sub(begin.lead);
        let mut out = writer.frame_head(sound_stream, pts, beat.sound.len() * 2);
        debug_assert_eq!(beat.sound.len() % begin.channels, 0);
        out.extend(beat.sound.iter().flat_map(|sample| sample.to_le_bytes()));
        input.write_all(&out).await?;
    }
    if let Some((shape, picture)) = encoding.picture.zip(beat.picture) {
        let pts = LEAD * u64::from(shape.fps) + beat.number.saturating_sub(begin.number);
        let head = writer.frame_head(0, pts, picture.data().len());
        input.write_all(&head).await?;
        input.write_all(picture.data()).await?;
    }
    Ok(())
}

/// Forwards tags until the encoder stops producing them.
async fn read(mut output: ChildStdout, base: i64, sink: &Sink) {
    let mut reader = Reader::default();
    let mut buffer = vec![0; 64 << 10];
    let mut last = 0;
    loop {
        match timeout(STUCK, output.read(&mut buffer)).await {
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
    fn times_go_on_after_31_bits() {
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

//! One encoder at a time: pictures and samples in, tags out.
//!
//! In: beats. Out: tags with the times of the output, whichever encoder made them. Absent: where tags go.
//!
//! An encoder that fails is followed by another one after a pause, which begins with the newest beat; what came in between
//! is not encoded. What waits for an encoder is bounded by whoever hands beats over ([`Encoder::has_room`]).

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

/// Beats that wait for an encoder.
const WAITING: usize = 8;
/// An encoder that takes or gives nothing for so long has failed.
const STUCK: Duration = Duration::from_secs(10);
/// Pause before another encoder; each further one takes twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// After so long the pauses begin anew.
const STEADY: Duration = Duration::from_secs(10);
/// Where times of an encoder begin, seconds: what it puts before the first sample has a time, too.
const LEAD: u64 = 4;
/// Where times of the output begin, milliseconds, for the same reason.
pub const BEGIN: i64 = 1000;

/// What an encoder did.
#[derive(Debug)]
pub enum EncoderEvent {
    /// It failed; another one follows.
    Failed,
}

/// Encodes; dropping it ends it.
#[derive(Debug)]
pub struct Encoder {
    beats: mpsc::Sender<Beat>,
    encoding: Encoding,
    task: JoinHandle<()>,
}

impl Encoder {
    /// Begins with the first beat. Only tags of pictures and sound are handed on where `metadata` is not wanted.
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

    /// How it encodes.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Whether a beat can be handed over.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.beats.capacity() > 0
    }

    /// Hands a beat over, if there is room.
    pub fn encode(&self, beat: Beat) {
        // Without room it is lost, as the owner has seen.
        let _ = self.beats.try_send(beat);
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // The process ends with its handle.
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

/// Writes beats until the encoder takes no more.
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
    // The owner has ended it, and this task with it.
}

/// The beat that an encoder began with.
struct Begin {
    epoch: u64,
    number: u64,
    sound: u64,
    /// Samples of its sound, which is of the time before its picture.
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

/// Hands tags on until the encoder gives no more.
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

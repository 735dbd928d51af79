//! One decoder process: tags in, pictures and sound out.
//!
//! In: filtered tags. Out: [`Media`], with the times of the tags. Deliberately absent: a restart after a failure.
//!
//! The queue to the decoder is bounded, and a decoder that does not keep up has failed. Its output waits until the
//! receiver of [`Media`] takes it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use lianmai_media_plane::{Kinds, flv};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{InputState, Media, MediaSink, Wanted};
use crate::child::{self, Tools};
use crate::flv::Tag;
use crate::nut::{Frame, NutReader, Stream};
use crate::picture::{Picture, bytes};

/// Maximum number of tags, and of bytes, that wait for a decoder.
const MAX_WAITING: (usize, usize) = (8192, 24 << 20);
/// A decoder that accepts nothing for this time has failed.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A decoder that produces nothing for this time after its start cannot decode the stream.
const FIRST_OUTPUT_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of bytes per read.
const READ_BYTES: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Decoder {
    tags: mpsc::Sender<Bytes>,
    waiting: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Decoder {
    /// Starts a decoder for the kinds that the stream has now.
    pub(super) fn start(
        tools: &Tools,
        sink: MediaSink,
        wanted: Wanted,
        kinds: Kinds,
    ) -> io::Result<Self> {
        let (tags, queue) = mpsc::channel(MAX_WAITING.0);
        let waiting = Arc::new(AtomicUsize::new(0));
        let mut process = child::decoder(
            tools,
            &child::DecoderOptions {
                pictures: kinds.video && wanted.pictures,
                sound: kinds.audio,
                rate: wanted.rate,
                channels: wanted.channels,
                longest_side: wanted.longest_side,
                fps: wanted.fps,
            },
        )?;
        let (input, output) = process.pipes();
        let header = flv::file_header(kinds.audio, kinds.video && wanted.pictures);
        let left = waiting.clone();
        let task = tokio::spawn(async move {
            let fed = feed(input, &header, queue, &left);
            tokio::select! {
                () = fed => {}
                () = read(output, &sink, wanted) => {}
            }
            process.end().await;
        });
        Ok(Self { tags, waiting, task })
    }

    /// Passes a tag to the decoder. Returns false if the decoder does not keep up or has ended.
    pub(super) fn feed(&self, tag: &Tag) -> bool {
        let tag = flv::encode_tag(tag.kind, tag.time, &tag.body);
        let size = tag.len();
        self.waiting.fetch_add(size, Relaxed) + size <= MAX_WAITING.1
            && self.tags.try_send(tag).is_ok()
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // Dropping the handle kills the process.
        self.task.abort();
    }
}

/// Completes when the decoder has ended; never if there is none.
pub(super) async fn ended(decoder: &mut Option<Decoder>) {
    match decoder {
        Some(decoder) => drop((&mut decoder.task).await),
        None => std::future::pending().await,
    }
}

async fn feed(
    mut input: ChildStdin,
    header: &[u8],
    mut queue: mpsc::Receiver<Bytes>,
    waiting: &AtomicUsize,
) {
    if input.write_all(header).await.is_err() {
        return;
    }
    while let Some(tag) = queue.recv().await {
        if !matches!(timeout(STALL_TIMEOUT, input.write_all(&tag)).await, Ok(Ok(()))) {
            return;
        }
        waiting.fetch_sub(tag.len(), Relaxed);
    }
}

async fn read(mut output: ChildStdout, sink: &MediaSink, wanted: Wanted) {
    let side = wanted.longest_side;
    let mut reader = NutReader::new(bytes(side, side).unwrap_or_default().max(1 << 20));
    let mut buffer = vec![0; READ_BYTES];
    let mut flows = false;
    loop {
        let reading = output.read(&mut buffer);
        let count = if flows { reading.await } else { first(reading).await };
        match count {
            Ok(0) | Err(_) => return,
            Ok(count) => reader.push(&buffer[..count]),
        }
        loop {
            let frame = match reader.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => return,
            };
            let stream = reader.streams().get(frame.stream).copied().flatten();
            let Some(media) = stream.and_then(|stream| media(frame, stream, wanted)) else {
                return;
            };
            if !flows {
                flows = true;
                sink.send(Media::State(InputState::Flowing)).await;
            }
            sink.send(media).await;
        }
    }
}

async fn first(reading: impl Future<Output = io::Result<usize>>) -> io::Result<usize> {
    timeout(FIRST_OUTPUT_TIMEOUT, reading).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}

/// Converts a frame; `None` if it does not match what was requested.
fn media(frame: Frame, stream: Stream, wanted: Wanted) -> Option<Media> {
    match stream {
        Stream::Picture { width, height, base } => {
            let picture = Picture::new(width, height, frame.data)?;
            Some(Media::Picture(units(frame.pts, base, 1_000_000)?, Arc::new(picture)))
        }
        Stream::Sound { rate, channels, base } => {
            if (rate, channels) != (wanted.rate, wanted.channels) {
                return None;
            }
            let samples = frame.data.as_chunks::<2>().0.iter().copied().map(i16::from_le_bytes);
            Some(Media::Sound(units(frame.pts, base, rate)?, samples.collect()))
        }
    }
}

/// Converts a time to units of 1/`a_second` s.
fn units(pts: i64, base: (u32, u32), a_second: u32) -> Option<i64> {
    let units = i128::from(pts) * i128::from(base.0) * i128::from(a_second);
    i64::try_from(units.div_euclid(i128::from(base.1.max(1)))).ok()
}

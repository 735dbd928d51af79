//! One input: a stream is pulled, filtered, decoded by a child process, and delivered as pictures and sound.
//!
//! In: a pull URL (HTTP-FLV or RTMP), rates. Out: [`Media`]. Deliberately absent: the use of the media. Any failure of
//! the stream, its server or its decoder leads to another attempt after a pause, and affects no other input.
//!
//! ```text
//!   pull ── tags ──> TagFilter ── tags ──> decoder (a child) ── NUT ──> Media
//!                      └── a header changed: another decoder
//! ```

mod decode;
mod pull;
mod tag_filter;

use std::sync::Arc;
use std::time::Duration;

use lianmai_media_plane::MediaKind;
use lianmai_media_plane::upstream::UpstreamOptions;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

pub use pull::{BadUrl, PullUrl};

use crate::child::Tools;
use crate::flv::Tag;
use crate::picture::Picture;
use pull::Pull;
use tag_filter::{FilterResult, TagFilter};

/// Pause before the second attempt; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// An attempt that lasted this long counts as a success: the pauses start again at the first.
const STEADY: Duration = Duration::from_secs(5);

/// What an input delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Whether its pictures are decoded.
    pub pictures: bool,
    /// Whether its video tags are passed through.
    pub passing: bool,
    /// Sample rate of the sound, in Hz.
    pub rate: u32,
    /// Number of channels of the sound.
    pub channels: u32,
    /// Maximum side of a picture in pixels; larger ones are scaled down.
    pub longest_side: u32,
    /// Maximum useful frame rate, in pictures per second.
    pub fps: u32,
}

/// Options for inputs.
#[derive(Clone, Debug)]
pub struct InputOptions {
    /// The programs.
    pub tools: Tools,
    /// Options for connections to RTMP servers.
    pub upstream: UpstreamOptions,
}

/// An item of an input.
#[derive(Debug)]
pub enum Media {
    /// The following times are unrelated to those before.
    Restarted,
    /// A picture with its time in microseconds.
    Picture(i64, Arc<Picture>),
    /// Interleaved samples; the time of the first one counts samples per channel.
    Sound(i64, Vec<i16>),
    /// A video tag that is passed through; its time is as in the decoder's input.
    Passing(Tag),
    /// The state of the input; the same state may be reported repeatedly.
    State(InputState),
}

/// The id of an input, with an item.
pub type NamedMedia = (Arc<str>, Media);

/// The state of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputState {
    /// It waits for media.
    Waiting,
    /// It receives media.
    Flowing,
    /// The stream cannot be pulled.
    Unreachable,
    /// The stream cannot be decoded.
    Undecodable,
}

/// A running input. Dropping it ends it.
#[derive(Debug)]
pub struct Input {
    task: JoinHandle<()>,
    url: PullUrl,
    wanted: Wanted,
}

impl Input {
    /// Starts an input that sends its items under this name.
    #[must_use]
    pub fn start(
        name: &str,
        url: PullUrl,
        wanted: Wanted,
        options: Arc<InputOptions>,
        out: mpsc::Sender<NamedMedia>,
    ) -> Self {
        let sink = MediaSink { name: name.into(), out };
        let task = tokio::spawn(run(sink, url.clone(), wanted, options));
        Self { task, url, wanted }
    }

    /// Whether the input already has this URL and delivers this.
    #[must_use]
    pub fn matches(&self, url: &PullUrl, wanted: Wanted) -> bool {
        (&self.url, self.wanted) == (url, wanted)
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The receiver of one input's items.
#[derive(Clone, Debug)]
struct MediaSink {
    name: Arc<str>,
    out: mpsc::Sender<NamedMedia>,
}

impl MediaSink {
    /// Waits for room. An error means that the receiver is gone and the input is about to end.
    async fn send(&self, media: Media) {
        let _ = self.out.send((self.name.clone(), media)).await;
    }
}

async fn run(sink: MediaSink, url: PullUrl, wanted: Wanted, options: Arc<InputOptions>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let state = match Pull::open(&url, &options.upstream).await {
            Ok(pull) => {
                let begun = Instant::now();
                let state = attempt(&sink, pull, wanted, &options).await;
                if begun.elapsed() >= STEADY {
                    pause = FIRST_PAUSE;
                }
                state
            }
            Err(_) => InputState::Unreachable,
        };
        sink.send(Media::State(state)).await;
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Pulls until the stream or its decoder ends, and returns the reason as a state.
async fn attempt(
    sink: &MediaSink,
    mut pull: Pull,
    wanted: Wanted,
    options: &InputOptions,
) -> InputState {
    let mut filter = TagFilter::new(wanted);
    // Times continue across the decoders of one stream.
    let mut decoder: Option<decode::Decoder> = None;
    sink.send(Media::Restarted).await;
    loop {
        let tag = tokio::select! {
            tag = pull.next() => tag,
            () = decode::ended(&mut decoder) => return InputState::Undecodable,
            () = filter.wait() => {
                decoder = begin(sink, wanted, &options.tools, &mut filter);
                if decoder.is_none() {
                    return InputState::Undecodable;
                }
                continue;
            }
        };
        let tag = match tag {
            Ok(Some(tag)) => tag,
            Ok(None) => return InputState::Waiting,
            Err(_) => return InputState::Unreachable,
        };
        match filter.apply(tag, Instant::now()) {
            FilterResult::Drop => {}
            FilterResult::End => return InputState::Waiting,
            FilterResult::Pass(tag, to_decoder) => {
                if wanted.passing && tag.kind == MediaKind::Video {
                    sink.send(Media::Passing(tag.clone())).await;
                }
                if to_decoder
                    && let Some(decoder) = &mut decoder
                    && !decoder.feed(&tag)
                {
                    return InputState::Undecodable;
                }
            }
            FilterResult::NewDecoder => {
                if !filter.admit_decoder(Instant::now()) {
                    return InputState::Undecodable;
                }
                decoder = None;
            }
        }
    }
}

fn begin(
    sink: &MediaSink,
    wanted: Wanted,
    tools: &Tools,
    filter: &mut TagFilter,
) -> Option<decode::Decoder> {
    let (kinds, first) = filter.begin();
    let decoder = decode::Decoder::start(tools, sink.clone(), wanted, kinds).ok()?;
    first.iter().all(|tag| decoder.feed(tag)).then_some(decoder)
}

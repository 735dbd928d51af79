//! One input: a stream is fetched, screened, decoded by a child, and told as pictures and sounds.
//!
//! In: a pull URL (HTTP-FLV or RTMP), rates. Out: [`Media`]. Absent: what is done with it. Whatever is wrong with the stream, its server or
//! its decoder ends in another attempt after a pause, and touches no other input.
//!
//! ```text
//!   pull ── tags ──> Screen ── tags ──> decoder (a child) ── NUT ──> Media
//!                      └── a header changed: another decoder
//! ```

mod decode;
mod pull;
mod screen;

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
use screen::{Screen, Verdict};

/// Pause before the second attempt; each further one takes twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// After so long an attempt counts as a success, and the pauses begin anew.
const STEADY: Duration = Duration::from_secs(5);

/// What is made of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Whether its pictures are decoded.
    pub pictures: bool,
    /// Whether its pictures are handed on as they are.
    pub passing: bool,
    /// Samples a second of the sound.
    pub rate: u32,
    /// Channels of the sound.
    pub channels: u32,
    /// Longest side of a picture; larger ones are made smaller.
    pub longest_side: u32,
    /// Pictures a second that are of use.
    pub fps: u32,
}

/// What inputs need to come about.
#[derive(Clone, Debug)]
pub struct Means {
    /// Programs.
    pub tools: Tools,
    /// How RTMP servers are reached.
    pub upstream: UpstreamOptions,
}

/// Something of an input.
#[derive(Debug)]
pub enum Media {
    /// Times begin anew.
    Restarted,
    /// A picture; the time is in microseconds.
    Picture(i64, Arc<Picture>),
    /// Samples, interleaved; the time counts samples.
    Sound(i64, Vec<i16>),
    /// A tag of pictures that is handed on as it is; its time is that of the decoder's input.
    Passing(Tag),
    /// What the input is doing; the same may be said again.
    State(InputState),
}

/// The name of an input, and something of it.
pub type Named = (Arc<str>, Media);

/// What an input is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputState {
    /// It waits for media.
    Waiting,
    /// Media comes.
    Flowing,
    /// The stream cannot be fetched.
    Unreachable,
    /// What came cannot be decoded.
    Undecodable,
}

/// An input at work; dropping it ends it.
#[derive(Debug)]
pub struct Input {
    task: JoinHandle<()>,
    url: PullUrl,
    wanted: Wanted,
}

impl Input {
    /// Begins. What comes is sent under this name.
    #[must_use]
    pub fn start(
        name: &str,
        url: PullUrl,
        wanted: Wanted,
        means: Arc<Means>,
        out: mpsc::Sender<Named>,
    ) -> Self {
        let sink = Sink { name: name.into(), out };
        let task = tokio::spawn(run(sink, url.clone(), wanted, means));
        Self { task, url, wanted }
    }

    /// Whether it does what is wanted.
    #[must_use]
    pub fn does(&self, url: &PullUrl, wanted: Wanted) -> bool {
        (&self.url, self.wanted) == (url, wanted)
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where the media of one input goes.
#[derive(Clone, Debug)]
struct Sink {
    name: Arc<str>,
    out: mpsc::Sender<Named>,
}

impl Sink {
    /// Waits for room. What nobody waits for any more goes nowhere: then the input is about to end.
    async fn send(&self, media: Media) {
        let _ = self.out.send((self.name.clone(), media)).await;
    }
}

async fn run(sink: Sink, url: PullUrl, wanted: Wanted, means: Arc<Means>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let begun = Instant::now();
        let state = attempt(&sink, &url, wanted, &means).await;
        if begun.elapsed() >= STEADY {
            pause = FIRST_PAUSE;
        }
        sink.send(Media::State(state)).await;
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Fetches until the stream or its decoder ends, and says what became of it.
async fn attempt(sink: &Sink, url: &PullUrl, wanted: Wanted, means: &Means) -> InputState {
    let Ok(mut pull) = pull::Pull::open(url, &means.upstream).await else {
        return InputState::Unreachable;
    };
    let mut screen = Screen::new(wanted);
    // Over decoders of one stream times go on.
    let mut decoder: Option<decode::Decoder> = None;
    sink.send(Media::Restarted).await;
    loop {
        let tag = tokio::select! {
            tag = pull.next() => tag,
            () = decode::ended(&mut decoder) => return InputState::Undecodable,
            () = screen.wait() => {
                decoder = begin(sink, wanted, &means.tools, &mut screen);
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
        match screen.take(tag, Instant::now()) {
            Verdict::Drop => {}
            Verdict::End => return InputState::Waiting,
            Verdict::Pass(tag, to_decoder) => {
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
            Verdict::Another => {
                if !screen.may_begin(Instant::now()) {
                    return InputState::Undecodable;
                }
                decoder = None;
            }
        }
    }
}

fn begin(
    sink: &Sink,
    wanted: Wanted,
    tools: &Tools,
    screen: &mut Screen,
) -> Option<decode::Decoder> {
    let (kinds, first) = screen.begin();
    let decoder = decode::Decoder::start(tools, sink.clone(), wanted, kinds).ok()?;
    first.iter().all(|tag| decoder.feed(tag)).then_some(decoder)
}

//! The messages between this process and its parent process: one JSON object per line, in both directions.
//!
//! In: lines with [`Order`]s. Out: lines with [`Report`]s. Deliberately absent: the effects of orders.
//!
//! ```text
//!   parent                                        child, one for each run
//!     |--- {"v":1,"type":"start","run":7,"job":…} -->|
//!     |<-- {"type":"accepted","run":7,"ask":1} ------|  nothing is pushed yet
//!     |--- {"type":"lease","run":7,"ask":1,"ms":2000}|  counted from when that was asked
//!     |<-- {"type":"pushing",…} ---------------------|  the receiver took a keyframe
//!     |<-- {"type":"renew","run":7,"ask":2} ---------|  several times in a lease
//!     |--- lease, update{job} ---------------------->|
//!     |<-- retrying, imageFailed, input, stats ------|
//!     |--- {"type":"stop","run":7} ----------------->|  or the end of the pipe
//!     |<-- stopped, or failed -----------------------|  the last line
//! ```
//!
//! Unknown fields and lines of unknown types are ignored, so that either side may be newer. The version `v` changes
//! when a change cannot be ignored.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::scene::{BadScene, MAX_ID, MAX_INPUTS, Scene};

/// The version of these messages.
pub const VERSION: u32 = 1;
/// Maximum length of a line, in bytes.
pub const MAX_LINE: usize = 256 << 10;

/// A stream that can be pulled.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The id by which scenes refer to the stream. Each publication has another id.
    pub id: String,
    /// Pull URL: `http://` for HTTP-FLV, `rtmp://` or `rtmps://`. Contains a secret.
    pub url: String,
}

impl std::fmt::Debug for Source {
    /// Without the URL.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The work of a run.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Push address: `rtmp://` or `rtmps://`. Contains a secret. A changed address applies from the next connection on.
    pub push: String,
    /// The streams that the scene may show or play.
    #[serde(default)]
    pub sources: Vec<Source>,
    /// The layout and sound of the output.
    pub scene: Scene,
}

impl std::fmt::Debug for Job {
    /// Without the push address.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("scene", &self.scene).finish_non_exhaustive()
    }
}

/// Settings of the machine on which a run runs. The operator sets them, never a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    /// The ffmpeg program; `None` means `ffmpeg` from the search path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ffmpeg: Option<String>,
    /// Listeners of the server, `address:port`. A run must not push there.
    pub own: Vec<std::net::SocketAddr>,
    /// Whether images may be fetched from addresses that are not public.
    pub private_images: bool,
    /// Whether a run may push to addresses that are not public.
    pub private_push: bool,
    /// A PEM file with additional certificate authorities for `rtmps://` and `https://`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorities: Option<String>,
}

/// An order of the parent process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Order {
    /// Starts the run. It is the first line and occurs only once.
    Start {
        /// [`VERSION`].
        v: u32,
        /// Number of the run, which all later orders and reports contain.
        run: u64,
        /// The work.
        job: Box<Job>,
        /// Settings of the machine.
        #[serde(default)]
        policy: Policy,
    },
    /// Grants a lease: the run may push for this time, counted from its request.
    Lease {
        /// The run.
        run: u64,
        /// The number of the request that this answers.
        ask: u64,
        /// Milliseconds.
        ms: u64,
    },
    /// Replaces the job.
    Update {
        /// The run.
        run: u64,
        /// The work.
        job: Box<Job>,
    },
    /// Ends the run.
    Stop {
        /// The run.
        run: u64,
    },
    /// A message of a later version.
    #[serde(other)]
    Unknown,
}

/// Why a push was interrupted or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Failure {
    /// The address cannot be reached.
    Unreachable,
    /// The receiver refuses the stream.
    Rejected,
    /// The connection broke, or is too slow for the stream.
    Broken,
    /// The encoder failed.
    Encoder,
    /// The lease expired.
    Silent,
    /// The order cannot be executed.
    Internal,
}

/// The state of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SourceState {
    /// The input waits for media.
    Waiting,
    /// The input receives media.
    Flowing,
    /// The stream cannot be pulled.
    Unreachable,
    /// The stream cannot be decoded.
    Undecodable,
}

/// Counters since the start of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    /// Number of composed frames.
    pub composed: u64,
    /// Number of frames that were skipped because their time had passed.
    pub late: u64,
    /// Number of pictures that were dropped because the encoder was too slow.
    pub dropped: u64,
    /// Number of bytes that the receiver's socket accepted.
    pub sent: u64,
    /// Number of connections to the receiver that failed or broke.
    pub failures: u64,
    /// Number of encoders that failed.
    pub encoders: u64,
}

/// A report of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Report {
    /// The run has started, and requests its first lease.
    Accepted {
        /// [`VERSION`].
        v: u32,
        /// The run.
        run: u64,
        /// The number of this request; the run uses each number once.
        ask: u64,
    },
    /// The run requests a further lease.
    Renew {
        /// The run.
        run: u64,
        /// The number of this request; the run uses each number once.
        ask: u64,
    },
    /// The receiver accepted the publish, and the run has sent it a keyframe (or sound, if there is no picture).
    Pushing {
        /// The run.
        run: u64,
        /// The audio profile that the encoder actually uses: `LC`.
        audio_profile: String,
    },
    /// The stream was interrupted, and the run retries by itself.
    Retrying {
        /// The run.
        run: u64,
        /// The reason.
        failure: Failure,
        /// Details for a log, without stream keys.
        detail: String,
    },
    /// An image cannot be used; the run continues without it.
    ImageFailed {
        /// The run.
        run: u64,
        /// Its index in the list of images.
        index: usize,
        /// Details for a log, without parts of the URL.
        detail: String,
    },
    /// The state of an input changed.
    Input {
        /// The run.
        run: u64,
        /// Id of the input.
        input: String,
        /// The new state.
        state: SourceState,
    },
    /// An update is invalid; the previous job continues.
    Refused {
        /// The run.
        run: u64,
        /// The reason.
        detail: String,
    },
    /// Counters, reported every few seconds.
    Stats {
        /// The run.
        run: u64,
        /// The counters.
        #[serde(flatten)]
        stats: Stats,
    },
    /// The run has failed and pushes no more.
    Failed {
        /// The run.
        run: u64,
        /// The reason.
        failure: Failure,
        /// Details for a log.
        detail: String,
    },
    /// The run has ended as ordered and pushes no more.
    Stopped {
        /// The run.
        run: u64,
    },
    /// A message of a later version.
    #[serde(other)]
    Unknown,
}

/// Why a job is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadJob {
    /// The scene is invalid.
    #[error("scene: {0}")]
    Scene(#[from] BadScene),
    /// The push address is invalid.
    #[error("push: {0}")]
    Push(#[from] lianmai_media_plane::upstream::BadUrl),
    /// There are too many sources, or an id is empty, too long or used twice.
    #[error("sources: too many, or an id that is none")]
    Sources,
    /// A pull URL is invalid.
    #[error("sources: {0}")]
    Pull(#[from] crate::input::BadUrl),
    /// The scene refers to a source that does not exist.
    #[error("sources: one that is shown is missing")]
    Missing,
}

impl Job {
    /// Checks the job, as far as that is possible without a network.
    ///
    /// # Errors
    /// [`BadJob`] says what is invalid.
    pub fn check(&self) -> Result<(), BadJob> {
        self.scene.check()?;
        lianmai_media_plane::upstream::UpstreamUrl::parse(&self.push)?;
        if self.sources.len() > MAX_INPUTS {
            return Err(BadJob::Sources);
        }
        let mut ids = std::collections::BTreeSet::new();
        for source in &self.sources {
            let is_id = !source.id.is_empty() && source.id.len() <= MAX_ID;
            if !is_id || !ids.insert(source.id.as_str()) {
                return Err(BadJob::Sources);
            }
            crate::input::PullUrl::parse(&source.url)?;
        }
        if self.scene.inputs().is_subset(&ids) { Ok(()) } else { Err(BadJob::Missing) }
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: orders and reports of a compositor.

    use super::*;

    const START: &str = r#"{"v":1,"type":"start","run":7,"later":1,"job":{
        "push":"rtmp://cdn.example/live/key?s=1",
        "sources":[{"id":"a","url":"http://127.0.0.1:8600/live/a.flv?t=1"}],
        "scene":{"canvas":{"width":1280,"height":720},"fps":15,"videoKbps":1800,
          "sound":{"kbps":64,"sampleRate":48000,"channels":2},
          "tiles":[{"input":"a","rect":{"x":0,"y":0,"width":640,"height":360},"adaption":"fit"}],
          "voices":["a"],"images":[{"url":"https://a/b.png","unless":"a",
            "rect":{"x":0,"y":0,"width":640,"height":360}}]}}}"#;

    fn job() -> Job {
        let Order::Start { job, .. } = serde_json::from_str(START).unwrap() else {
            panic!("it is a start")
        };
        *job
    }

    #[test]
    fn orders_are_read() {
        assert_eq!(job().check(), Ok(()));
        let text = serde_json::to_string(&Order::Stop { run: 7 }).unwrap();
        assert_eq!(text, r#"{"type":"stop","run":7}"#);
        let later = r#"{"type":"somethingElse","run":7}"#;
        assert_eq!(serde_json::from_str::<Order>(later).unwrap(), Order::Unknown);
    }

    #[test]
    fn reports_are_written() {
        let of = |report: &Report| serde_json::to_string(report).unwrap();
        let pushing = Report::Pushing { run: 7, audio_profile: "LC".into() };
        assert_eq!(of(&pushing), r#"{"type":"pushing","run":7,"audioProfile":"LC"}"#);
        let stats = Report::Stats { run: 7, stats: Stats { composed: 3, ..Stats::default() } };
        assert_eq!(serde_json::from_str::<Report>(&of(&stats)).unwrap(), stats);
    }

    #[test]
    fn jobs_are_checked_and_show_no_secret() {
        let wrong = |change: fn(&mut Job)| {
            let mut job = job();
            change(&mut job);
            job.check().unwrap_err()
        };
        assert_eq!(wrong(|job| job.sources.clear()), BadJob::Missing);
        assert_eq!(wrong(|job| job.sources.push(job.sources[0].clone())), BadJob::Sources);
        assert!(matches!(wrong(|job| job.push = "http://a/b/c".into()), BadJob::Push(_)));
        assert!(matches!(wrong(|job| job.sources[0].url = "file:///x".into()), BadJob::Pull(_)));
        assert!(matches!(wrong(|job| job.scene.fps = 0), BadJob::Scene(_)));
        let shown = format!("{:?}", job());
        assert!(!shown.contains("key") && !shown.contains("t=1") && !shown.contains("b.png"));
    }
}

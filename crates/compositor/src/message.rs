//! What is said between this process and whoever started it: one JSON object a line, in both directions.
//!
//! In: lines with [`Order`]s. Out: lines with [`Report`]s. Absent: what they lead to.
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
//! A field that is not known is ignored, and a line of a type that is not known too, so either side may be the newer one;
//! `v` is for what cannot be ignored.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::scene::{BadScene, MAX_ID, MAX_INPUTS, Scene};

/// The version of what is said.
pub const VERSION: u32 = 1;
/// Longest line, bytes.
pub const MAX_LINE: usize = 256 << 10;

/// A stream that can be fetched.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// What scenes call it: another one for each publication.
    pub id: String,
    /// Pull URL: `http://` to FLV, `rtmp://` or `rtmps://`. Holds a secret.
    pub url: String,
}

impl std::fmt::Debug for Source {
    /// Without the URL.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a run does.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Where it publishes: `rtmp://` or `rtmps://`. Holds a secret. Another one than before is used from the next
    /// connection on.
    pub push: String,
    /// Streams that the scene may name.
    #[serde(default)]
    pub sources: Vec<Source>,
    /// What is seen and heard.
    pub scene: Scene,
}

impl std::fmt::Debug for Job {
    /// Without the address.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("scene", &self.scene).finish_non_exhaustive()
    }
}

/// What a run must know of the place where it runs. Set by the operator, never by a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    /// The ffmpeg to use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ffmpeg: Option<String>,
    /// Listeners of the server, `address:port`: nothing is pushed there.
    pub own: Vec<std::net::SocketAddr>,
    /// Images may be fetched from addresses that are not public.
    pub private_images: bool,
    /// Pushes may go to addresses that are not public.
    pub private_push: bool,
    /// A file with further certificate authorities for `rtmps://` and `https://`, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorities: Option<String>,
}

/// What a run is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Order {
    /// Begin. The first line, and only that.
    Start {
        /// [`VERSION`].
        v: u32,
        /// Number of the run, said with everything.
        run: u64,
        /// What to do.
        job: Box<Job>,
        /// Where it runs.
        #[serde(default)]
        policy: Policy,
    },
    /// It may push so long, counted from when it asked.
    Lease {
        /// The run.
        run: u64,
        /// The number of that ask.
        ask: u64,
        /// Milliseconds.
        ms: u64,
    },
    /// Do this from now on.
    Update {
        /// The run.
        run: u64,
        /// What to do.
        job: Box<Job>,
    },
    /// End.
    Stop {
        /// The run.
        run: u64,
    },
    /// Something of a later version.
    #[serde(other)]
    Unknown,
}

/// Why a push does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Failure {
    /// Nobody answers at the address.
    Unreachable,
    /// The receiver refuses the stream.
    Rejected,
    /// The connection broke, or takes less than the stream has.
    Broken,
    /// The encoder failed.
    Encoder,
    /// The lease is over.
    Silent,
    /// The order cannot be carried out.
    Internal,
}

/// What an input is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SourceState {
    /// It waits for media.
    Waiting,
    /// Media comes.
    Flowing,
    /// It cannot be fetched.
    Unreachable,
    /// It cannot be decoded.
    Undecodable,
}

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    /// Beats that were composed.
    pub composed: u64,
    /// Beats that were left out as their time had passed.
    pub late: u64,
    /// Pictures that the encoder had no time for.
    pub dropped: u64,
    /// Bytes that the receiver's socket took.
    pub sent: u64,
    /// Connections to the receiver that failed or broke.
    pub failures: u64,
    /// Encoders that failed.
    pub encoders: u64,
}

/// What a run says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Report {
    /// It has begun, and asks for its first lease.
    Accepted {
        /// [`VERSION`].
        v: u32,
        /// The run.
        run: u64,
        /// A number that the run uses once.
        ask: u64,
    },
    /// It asks for a further lease.
    Renew {
        /// The run.
        run: u64,
        /// A number that the run uses once.
        ask: u64,
    },
    /// The receiver accepted the publish, and a keyframe (without a picture: a sound) went to it.
    Pushing {
        /// The run.
        run: u64,
        /// How the sound is encoded in fact: `LC`.
        audio_profile: String,
    },
    /// The stream broke off, and the run tries again by itself.
    Retrying {
        /// The run.
        run: u64,
        /// Why.
        failure: Failure,
        /// For a log: no key in it.
        detail: String,
    },
    /// An image cannot be used; the run goes on without it.
    ImageFailed {
        /// The run.
        run: u64,
        /// Its place in the list.
        index: usize,
        /// For a log: nothing of the URL in it.
        detail: String,
    },
    /// What an input is doing has changed.
    Input {
        /// The run.
        run: u64,
        /// Name of the input.
        input: String,
        /// What it is doing.
        state: SourceState,
    },
    /// An update is not carried out: what was before goes on.
    Refused {
        /// The run.
        run: u64,
        /// Why.
        detail: String,
    },
    /// Every few seconds.
    Stats {
        /// The run.
        run: u64,
        /// What was counted.
        #[serde(flatten)]
        stats: Stats,
    },
    /// It is over and pushes nothing.
    Failed {
        /// The run.
        run: u64,
        /// Why.
        failure: Failure,
        /// For a log.
        detail: String,
    },
    /// It is over and pushes nothing, as it was told.
    Stopped {
        /// The run.
        run: u64,
    },
    /// Something of a later version.
    #[serde(other)]
    Unknown,
}

/// What is wrong with a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadJob {
    /// Its scene.
    #[error("scene: {0}")]
    Scene(#[from] BadScene),
    /// Its address.
    #[error("push: {0}")]
    Push(#[from] lianmai_media_plane::upstream::BadUrl),
    /// There are too many sources, or an id is empty, too long or twice there.
    #[error("sources: too many, or an id that is none")]
    Sources,
    /// A pull URL.
    #[error("sources: {0}")]
    Pull(#[from] crate::input::BadUrl),
    /// The scene names a source that is not there.
    #[error("sources: one that is shown is missing")]
    Missing,
}

impl Job {
    /// Whether it can be carried out, as far as that can be seen without a network.
    ///
    /// # Errors
    /// [`BadJob`].
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

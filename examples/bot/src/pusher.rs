//! The media of a bot. In: what to publish, and a push URL. Out: a running ffmpeg. Deliberately absent: the decision
//! when to push, and where.

use std::process::Stdio;

use anyhow::Context;
use clap::ValueEnum;
use lianmai_client_sdk::Urls;
use tokio::process::{Child, ChildStdin, Command};

use crate::Args;

/// A moving test picture that ffmpeg generates.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Picture {
    /// Bars and shapes.
    Bars,
    /// A dial that counts seconds.
    Clock,
    /// Colours that blend into each other.
    Colours,
}

impl Picture {
    fn source(self) -> &'static str {
        match self {
            Picture::Bars => "testsrc2=size=640x360:rate=25",
            Picture::Clock => "testsrc=size=640x360:rate=25",
            Picture::Colours => "gradients=size=640x360:rate=25:n=4:seed=7:speed=0.02",
        }
    }
}

/// A running ffmpeg and its push URL. It ends soon after this value is dropped, and when this process ends in any way.
pub(crate) struct Pusher {
    /// The guard of ffmpeg, which ends it when `stdin` is dropped.
    pub(crate) ffmpeg: Child,
    stdin: ChildStdin,
    /// The push URL, which is secret.
    url: String,
}

impl Pusher {
    pub(crate) fn start(args: &Args, url: &str, urls: &Urls) -> anyhow::Result<Pusher> {
        let url = Pusher::choose(url, urls).to_owned();
        let own = std::env::current_exe().context("cannot find this program")?;
        let mut ffmpeg = Command::new(own);
        let level = if args.ffmpeg_log { "error" } else { "quiet" };
        ffmpeg.args(["--guard", "ffmpeg", "-hide_banner", "-loglevel", level, "-nostdin"]);
        match &args.file {
            // In real time, repeatedly.
            Some(file) => ffmpeg.args(["-re", "-stream_loop", "-1", "-i"]).arg(file),
            None => ffmpeg
                .args(["-re", "-f", "lavfi", "-i", args.picture.source()])
                .args(["-re", "-f", "lavfi", "-i"])
                .arg(format!("sine=frequency={}:sample_rate=44100", args.tone)),
        };
        // One keyframe per second, so that a new viewer waits at most that long.
        ffmpeg
            .args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency"])
            .args(["-pix_fmt", "yuv420p", "-force_key_frames", "expr:gte(t,n_forced)"])
            .args(["-c:a", "aac", "-ar", "44100", "-b:a", "64k", "-f", "flv"])
            .arg(&url)
            // Only this process holds the other end, and never writes to it.
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        // Ctrl-C in a terminal reaches only the bot, which then ends ffmpeg itself.
        #[cfg(unix)]
        ffmpeg.process_group(0);
        let mut ffmpeg = ffmpeg.spawn().context("cannot start the guard of ffmpeg")?;
        // Taken out, because waiting for the end would drop it.
        let stdin = ffmpeg.stdin.take().context("the guard of ffmpeg has no stdin")?;
        Ok(Pusher { ffmpeg, stdin, url })
    }

    /// Ends ffmpeg and waits for that.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let Pusher { mut ffmpeg, stdin, .. } = self;
        drop(stdin);
        ffmpeg.wait().await.context("cannot stop ffmpeg")?;
        Ok(())
    }

    pub(crate) fn is_for(&self, url: &str, urls: &Urls) -> bool {
        self.url == Pusher::choose(url, urls)
    }

    fn choose<'a>(url: &'a str, urls: &'a Urls) -> &'a str {
        urls.rtmp.as_deref().unwrap_or(url)
    }
}

//! The media of a bot. Comes in: what to publish, and a push URL. Goes out: a running ffmpeg. Deliberately absent: when to push,
//! and to where.

use std::process::Stdio;

use anyhow::Context;
use clap::ValueEnum;
use lianmai_client_sdk::Urls;
use tokio::process::{Child, ChildStdin, Command};

use crate::Args;

/// A moving picture that ffmpeg makes by itself.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Picture {
    /// Bars and shapes.
    Bars,
    /// A dial that counts seconds.
    Clock,
    /// Colours that flow into each other.
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

/// ffmpeg, and where it pushes to. It ends soon after the value, and with this process however that ends.
pub(crate) struct Pusher {
    /// Behind its guard, which ends it when `hold` is dropped.
    pub(crate) ffmpeg: Child,
    hold: ChildStdin,
    /// A secret.
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
            // At the pace of the clock, over and over.
            Some(file) => ffmpeg.args(["-re", "-stream_loop", "-1", "-i"]).arg(file),
            None => ffmpeg
                .args(["-re", "-f", "lavfi", "-i", args.picture.source()])
                .args(["-re", "-f", "lavfi", "-i"])
                .arg(format!("sine=frequency={}:sample_rate=44100", args.tone)),
        };
        // A key frame every second: whoever begins to watch waits no longer than that.
        ffmpeg
            .args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency"])
            .args(["-pix_fmt", "yuv420p", "-force_key_frames", "expr:gte(t,n_forced)"])
            .args(["-c:a", "aac", "-ar", "44100", "-b:a", "64k", "-f", "flv"])
            .arg(&url)
            // Held by this process alone, and never written to.
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        // Ctrl-C in a terminal is for the bot alone, which then ends ffmpeg in its own time.
        #[cfg(unix)]
        ffmpeg.process_group(0);
        let mut ffmpeg = ffmpeg.spawn().context("cannot start the guard of ffmpeg")?;
        // Not left in its place: there waiting for the end would drop it.
        let hold = ffmpeg.stdin.take().context("a piped child has an input")?;
        Ok(Pusher { ffmpeg, hold, url })
    }

    /// Waits for the end.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let Pusher { mut ffmpeg, hold, .. } = self;
        drop(hold);
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

//! A member without a face: publishes a file, or a test picture and tone, and answers who says hello.
//!
//! ```text
//! signal-server run
//! cargo run -p lianmai-example-bot -- --channel room-1 --file clip.mp4
//! ```
//!
//! Comes in: a server, a channel, maybe a file. Goes out: media by `ffmpeg`, which must be installed,
//! and messages. Deliberately absent: coming back after a lost connection; the client does that, and says
//! where to push then.
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

mod guard;

use std::ffi::OsString;
use std::io::{Write as _, stdout};
use std::path::PathBuf;
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use lianmai_client_sdk::protocol::message::notice::Direction;
use lianmai_client_sdk::{
    Client, ClientConfig, Event, JoinOptions, MediaSelector, PublishError, Urls,
};
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

#[derive(Parser)]
#[command(about = "Publishes a file or a test picture, and answers who says hello.")]
struct Args {
    /// Address of the signaling server.
    #[arg(long, default_value = "ws://127.0.0.1:8600")]
    server: String,
    /// Key of the app; `demo` needs no token.
    #[arg(long, default_value = "demo")]
    appkey: String,
    /// Token, for apps in safe mode.
    #[arg(long, env = "LIANMAI_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Name of the channel.
    #[arg(long, default_value = "quickstart")]
    channel: String,
    /// Uid; the server chooses when absent.
    #[arg(long)]
    uid: Option<u64>,
    /// Name that others see.
    #[arg(long, default_value = "bot")]
    name: String,
    /// What to publish, over and over; a test picture and tone when absent.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Show what ffmpeg says. It may name the push URL, which is a secret.
    #[arg(long)]
    ffmpeg_log: bool,
    /// Leave when standard input ends: whoever started this is gone.
    #[arg(long)]
    stop_with_stdin: bool,
    /// Run this instead, until standard input ends; see `guard.rs`.
    #[arg(long, hide = true, num_args = 1.., allow_hyphen_values = true)]
    guard: Vec<OsString>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if !args.guard.is_empty() {
        return guard::run(&args.guard).await;
    }
    let client = Client::new(ClientConfig::new(&args.server, &args.appkey))?;
    let mut events = client.events();

    let mut options = JoinOptions::new(&args.channel).name(&args.name);
    options.token.clone_from(&args.token);
    if let Some(uid) = args.uid {
        options = options.uid(uid)?;
    }
    let joined = client.join(options).await.context("cannot join")?;
    println!("in channel {} as {}", joined.picture.channel, joined.uid);

    let push = client.publish(MediaSelector::Both).await.context("cannot publish")?;
    // `None` while nothing is pushed.
    let mut pusher = Some(Pusher::start(&args, &push.url, &push.urls)?);
    // When to publish again, after ffmpeg ended.
    let mut again = None;
    println!("publishing audio and video");
    // Made once: a signal that comes while the loop is busy waits for its turn.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut alone = pin!(guard::input_ends(args.stop_with_stdin));

    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            () = &mut alone => break,
            event = events.next() => match event {
                Some(Event::Message { uid, data, .. }) if is_greeting(&data) => {
                    println!("{uid} says hello");
                    // The sender may have left meanwhile: then nobody gets it, which is no error.
                    let answer = format!("hello {uid}, I am a bot");
                    if let Err(error) = client.send_message_to([uid], answer).await {
                        println!("could not answer: {error}");
                    }
                }
                // Somebody with the right to do so took us off the air: stay off. Or the membership ended while
                // there was no connection: then a new URL follows. Where it is published again already, an
                // answer of ours overtook this.
                Some(Event::Unpublished { media_type })
                    if client
                        .self_info()
                        .is_none_or(|own| !own.published.contains_key(&media_type)) =>
                {
                    println!("{media_type} was taken off the air");
                    (pusher, again) = (None, None);
                }
                Some(Event::SyncDone(sync))
                    if sync.direction == Direction::Push && sync.uid == joined.uid =>
                {
                    again = None;
                    // An answer of ours may have told it already.
                    if pusher.as_ref().is_none_or(|pusher| !pusher.is_for(&sync.url, &sync.urls)) {
                        println!("publishing to another URL");
                        // The old one ends first.
                        if let Some(old) = pusher.take() {
                            old.stop().await?;
                        }
                        pusher = Some(Pusher::start(&args, &sync.url, &sync.urls)?);
                    }
                }
                Some(Event::Disconnected { code, reason, .. }) => {
                    bail!("disconnected: {reason} ({code})")
                }
                Some(_) => {}
                None => break,
            },
            status = wait(&mut pusher) => {
                println!("ffmpeg ended ({}), starting again", status?);
                pusher = None;
                again = Some(Instant::now() + PAUSE);
            }
            () = due(again) => {
                again = None;
                // Still published: the same URL comes back, or a fresh one if it had to change.
                match client.publish(MediaSelector::Both).await {
                    Ok(push) => pusher = Some(Pusher::start(&args, &push.url, &push.urls)?),
                    // The server may be away for longer than a call waits; the client still looks for it.
                    Err(PublishError::Timeout | PublishError::OutcomeUnknown) => {
                        again = Some(Instant::now() + PAUSE);
                    }
                    Err(error) => return Err(error).context("cannot publish"),
                }
            }
        }
    }

    // Stop the media first, so that the server does not have to cut it.
    if let Some(pusher) = pusher {
        pusher.stop().await?;
    }
    // The server, or whoever reads our output, may have gone first.
    let outcome = client.leave().await;
    let _ = writeln!(
        stdout(),
        "{}",
        outcome.map_or_else(|error| error.to_string(), |()| "left".into())
    );
    Ok(())
}

/// Pause before ffmpeg is started again.
const PAUSE: Duration = Duration::from_secs(1);

/// Waits for the end of ffmpeg; for ever while there is none.
async fn wait(pusher: &mut Option<Pusher>) -> std::io::Result<std::process::ExitStatus> {
    match pusher {
        Some(pusher) => pusher.ffmpeg.wait().await,
        None => std::future::pending().await,
    }
}

/// Waits until then; for ever without a moment.
async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// ffmpeg, and where it pushes to. It ends soon after the value, and with this process however that ends.
struct Pusher {
    /// Behind its guard, which ends it when `hold` is dropped.
    ffmpeg: Child,
    hold: ChildStdin,
    /// A secret.
    url: String,
}

impl Pusher {
    fn start(args: &Args, url: &str, urls: &Urls) -> anyhow::Result<Pusher> {
        let url = Pusher::choose(url, urls).to_owned();
        let own = std::env::current_exe().context("cannot find this program")?;
        let mut ffmpeg = Command::new(own);
        let level = if args.ffmpeg_log { "error" } else { "quiet" };
        ffmpeg.args(["--guard", "ffmpeg", "-hide_banner", "-loglevel", level, "-nostdin"]);
        match &args.file {
            // At the pace of the clock, over and over.
            Some(file) => ffmpeg.args(["-re", "-stream_loop", "-1", "-i"]).arg(file),
            None => ffmpeg
                .args(["-re", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25"])
                .args(["-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100"]),
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
    async fn stop(self) -> anyhow::Result<()> {
        let Pusher { mut ffmpeg, hold, .. } = self;
        drop(hold);
        ffmpeg.wait().await.context("cannot stop ffmpeg")?;
        Ok(())
    }

    fn is_for(&self, url: &str, urls: &Urls) -> bool {
        self.url == Pusher::choose(url, urls)
    }

    fn choose<'a>(url: &'a str, urls: &'a Urls) -> &'a str {
        urls.rtmp.as_deref().unwrap_or(url)
    }
}

fn is_greeting(text: &str) -> bool {
    let text = text.trim().to_lowercase();
    ["hello", "hi", "hey", "你好"].iter().any(|greeting| {
        text.strip_prefix(greeting)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphabetic()))
    })
}

#[cfg(test)]
mod tests {
    use super::is_greeting;

    #[test]
    fn greetings_are_words() {
        assert!(is_greeting(" Hello, bot"));
        assert!(is_greeting("你好"));
        assert!(!is_greeting("history"));
        assert!(!is_greeting("oh hello"));
    }
}

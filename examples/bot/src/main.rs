//! A bot: it publishes a file, or a test picture and tone, and answers messages.
//!
//! ```text
//! signal-server run
//! cargo run -p lianmai-example-bot -- --channel room-1 --file clip.mp4
//! ```
//!
//! In: a server, a channel, optionally a file. Out: media by `ffmpeg`, which must be installed, and messages.
//! Deliberately absent: reconnecting after a connection loss; the client does that, and then says where to push.
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

mod guard;
mod pusher;
mod restless;

use std::ffi::OsString;
use std::io::{Write as _, stdout};
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use lianmai_client_sdk::protocol::message::notice::Direction;
use lianmai_client_sdk::{
    Client, ClientConfig, CommandError, Event, JoinOptions, Joined, MediaSelector, PublishError,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use crate::pusher::{Picture, Pusher};
use crate::restless::{Restless, Step};

#[derive(Parser)]
#[command(about = "Publishes a file or a test picture, and answers who says hello.")]
struct Args {
    /// Address of the signaling server.
    #[arg(long, default_value = "ws://127.0.0.1:8600")]
    server: String,
    /// Appkey; `demo` needs no token.
    #[arg(long, default_value = "demo")]
    appkey: String,
    /// Token, for apps in safe mode.
    #[arg(long, env = "LIANMAI_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Name of the channel.
    #[arg(long, default_value = "quickstart")]
    channel: String,
    /// Uid; chosen by the server if absent.
    #[arg(long)]
    uid: Option<u64>,
    /// Display name.
    #[arg(long, default_value = "bot")]
    name: String,
    /// File to publish repeatedly; a test picture and tone if absent.
    #[arg(long)]
    file: Option<PathBuf>,
    /// The test picture.
    #[arg(long, value_enum, default_value = "bars")]
    picture: Picture,
    /// Frequency of the test tone in hertz.
    #[arg(long, default_value_t = 440)]
    tone: u32,
    /// Mute, leave or return: one of them after every this many seconds.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=3600))]
    restless: Option<u64>,
    /// Show the messages of ffmpeg. They may contain the push URL, which is secret.
    #[arg(long)]
    ffmpeg_log: bool,
    /// Leave when standard input ends, that is, when the parent process is gone.
    #[arg(long)]
    stop_with_stdin: bool,
    /// Run this command instead, until standard input ends; see `guard.rs`.
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

    let mut joined = join(&client, &args).await?;
    println!("in channel {} as {}", joined.picture.channel, joined.uid);
    // `None` while nothing is pushed.
    let mut pusher = Some(publish(&client, &args).await?);
    // Time at which to publish again after ffmpeg ended.
    let mut restart_at = None;
    println!("publishing audio and video");
    // Created once: a signal that arrives while the loop is busy waits for its turn.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut stdin_closed = pin!(guard::input_ends(args.stop_with_stdin));
    let mut restless = Restless::new(args.restless.map(Duration::from_secs));
    // True between leaving and returning.
    let mut has_left = false;

    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            () = &mut stdin_closed => break,
            event = events.next() => match event {
                Some(Event::Message { uid, data, .. }) if is_greeting(&data) => {
                    println!("{uid} says hello");
                    // The sender may have left meanwhile. Then nobody gets the message, which is no error.
                    let answer = format!("hello {uid}, I am a bot");
                    if let Err(error) = client.send_message_to([uid], answer).await {
                        println!("could not answer: {error}");
                    }
                }
                // A moderator unpublished our media: stay off air. Or the membership ended while there was no
                // connection: then a new URL follows. If the media is published again already, an answer to one of our
                // calls overtook this event.
                Some(Event::Unpublished { media_type })
                    if client
                        .self_info()
                        .is_none_or(|own| !own.published.contains_key(&media_type)) =>
                {
                    println!("{media_type} was taken off the air");
                    (pusher, restart_at) = (None, None);
                }
                Some(Event::SyncDone(sync))
                    if sync.direction == Direction::Push && sync.uid == joined.uid =>
                {
                    restart_at = None;
                    // An answer to one of our calls may have contained this URL already.
                    if pusher.as_ref().is_none_or(|pusher| !pusher.is_for(&sync.url, &sync.urls)) {
                        println!("publishing to another URL");
                        // The old ffmpeg ends first.
                        if let Some(old) = pusher.take() {
                            old.stop().await?;
                        }
                        pusher = Some(Pusher::start(&args, &sync.url, &sync.urls)?);
                    }
                }
                Some(Event::Disconnected { code, reason, .. }) if !has_left => {
                    bail!("disconnected: {reason} ({code})")
                }
                Some(_) => {}
                None => break,
            },
            status = wait_for_ffmpeg(&mut pusher) => {
                println!("ffmpeg ended ({}), starting again", status?);
                pusher = None;
                restart_at = Some(Instant::now() + PAUSE);
            }
            step = restless.step() => match step {
                Step::Mute(kind) => print_error(client.mute(MediaSelector::Kind(kind)).await),
                Step::Unmute(kind) => print_error(client.unmute(MediaSelector::Kind(kind)).await),
                Step::Leave => {
                    (has_left, restart_at) = (true, None);
                    if let Some(old) = pusher.take() {
                        old.stop().await?;
                    }
                    client.leave().await.context("cannot leave")?;
                }
                Step::Return => {
                    joined = join(&client, &args).await?;
                    pusher = Some(publish(&client, &args).await?);
                    has_left = false;
                }
            },
            () = wait_until(restart_at) => {
                restart_at = None;
                // The media is still published: the server returns the same URL, or a new one if it had to change.
                match client.publish(MediaSelector::Both).await {
                    Ok(push) => pusher = Some(Pusher::start(&args, &push.url, &push.urls)?),
                    // The server may be out of reach for longer than a call waits; the client keeps trying.
                    Err(PublishError::Timeout | PublishError::OutcomeUnknown) => {
                        restart_at = Some(Instant::now() + PAUSE);
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
    // The server, or the process that reads our output, may have ended first.
    let outcome = client.leave().await;
    let _ = writeln!(
        stdout(),
        "{}",
        outcome.map_or_else(|error| error.to_string(), |()| "left".into())
    );
    Ok(())
}

async fn join(client: &Client, args: &Args) -> anyhow::Result<Joined> {
    let mut options = JoinOptions::new(&args.channel).name(&args.name);
    options.token.clone_from(&args.token);
    if let Some(uid) = args.uid {
        options = options.uid(uid)?;
    }
    client.join(options).await.context("cannot join")
}

async fn publish(client: &Client, args: &Args) -> anyhow::Result<Pusher> {
    let push = client.publish(MediaSelector::Both).await.context("cannot publish")?;
    Pusher::start(args, &push.url, &push.urls)
}

/// Prints the error of a mute; muting is not essential for the bot.
fn print_error(outcome: Result<(), CommandError>) {
    if let Err(error) = outcome {
        println!("{error}");
    }
}

/// Pause before ffmpeg is started again.
const PAUSE: Duration = Duration::from_secs(1);

/// Waits for the end of ffmpeg; forever if there is none.
async fn wait_for_ffmpeg(pusher: &mut Option<Pusher>) -> std::io::Result<std::process::ExitStatus> {
    match pusher {
        Some(pusher) => pusher.ffmpeg.wait().await,
        None => std::future::pending().await,
    }
}

/// Waits until `at`; forever if it is `None`.
async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
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

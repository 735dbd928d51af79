//! An audience member that subscribes to everybody in a channel and prints the pull URLs.
//!
//! ```text
//! signal-server run
//! cargo run -p lianmai-example-watch -- --channel room-1
//! ```
//!
//! In: a server and a channel. Out: pull URLs on stdout, for `ffplay` or `ffprobe`. Deliberately absent: playing, and
//! reconnecting after a connection loss, which the client does. A pull URL is signed for this member and is valid as
//! long as the member stays.
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use std::io;
use std::pin::pin;
use std::thread;

use anyhow::{Context, bail};
use clap::Parser;
use lianmai_client_sdk::{Client, ClientConfig, Event, JoinOptions, MediaKind, Role, UserId};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

#[derive(Parser)]
#[command(about = "Subscribes to everybody in a channel and prints where to play it.")]
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
    /// Leave when standard input ends, that is, when the parent process is gone.
    #[arg(long)]
    stop_with_stdin: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let client = Client::new(ClientConfig::new(&args.server, &args.appkey))?;
    let mut events = client.events();

    // The audience is invisible: no member is told that it comes or goes.
    let mut options = JoinOptions::new(&args.channel).role(Role::Audience);
    options.token.clone_from(&args.token);
    if let Some(uid) = args.uid {
        options = options.uid(uid)?;
    }
    let joined = client.join(options).await.context("cannot join")?;
    println!("watching channel {} as {}", joined.picture.channel, joined.uid);

    // Media that is on air already is in the result of `join`; later changes come as events.
    for member in joined.picture.others() {
        for kind in member.streams.keys() {
            show(&client, member.uid, kind).await?;
        }
    }
    // Created once: a signal that arrives while the loop is busy waits for its turn.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut stdin_closed = pin!(input_ends(args.stop_with_stdin));
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            () = &mut stdin_closed => break,
            event = events.next() => match event {
                Some(Event::StreamAdded(stream)) => {
                    show(&client, stream.uid, &stream.media_type).await?;
                }
                Some(Event::StreamRemoved(stream)) => {
                    println!("{} of {} ended", stream.media_type, stream.uid);
                }
                Some(Event::Disconnected { code, reason, .. }) => {
                    bail!("disconnected: {reason} ({code})")
                }
                Some(_) => {}
                None => break,
            },
        }
    }
    // The server may have ended first: then there is nothing to leave.
    let _ = client.leave().await;
    Ok(())
}

/// Completes when standard input ends; never if `enabled` is false.
async fn input_ends(enabled: bool) {
    if !enabled {
        return std::future::pending().await;
    }
    let (end, ended) = oneshot::channel();
    // Reading blocks, and a blocked task would delay the end of the program.
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = end.send(());
    });
    let _ = ended.await;
}

/// Subscribes and prints the URLs. Audio and video of one member share them, so they are printed once.
async fn show(client: &Client, uid: UserId, kind: &MediaKind) -> anyhow::Result<()> {
    match client.subscribe(uid, kind.clone()).await {
        Ok(pull) if *kind != MediaKind::Audio => {
            println!("{kind} of {uid}");
            println!("rtmp  {}", pull.urls.rtmp.unwrap_or_default());
            println!("flv   {}", pull.urls.flv.unwrap_or_default());
        }
        // The stream may have ended meanwhile.
        Ok(_) => {}
        Err(error) => println!("{kind} of {uid}: {error}"),
    }
    Ok(())
}

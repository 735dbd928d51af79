//! Two members of one channel: Ann publishes, Bob watches. Start a server first:
//!
//! ```text
//! signal-server run
//! cargo run -p lianmai-example-quickstart
//! ```
//!
//! Comes in: the address of a server. Goes out: the URLs and events of a short call, on stdout.
//! Deliberately absent: media. Hand the push URL to `ffmpeg` and the pull URL to `ffplay` to have some.
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use clap::Parser;
use lianmai_client_sdk::{
    Client, ClientConfig, Event, EventKind, JoinOptions, MediaKind, MediaSelector,
};

#[derive(Parser)]
#[command(about = "Two members of one channel: Ann publishes, Bob watches.")]
struct Args {
    /// Address of the signaling server.
    #[arg(long, default_value = "ws://127.0.0.1:8600")]
    server: String,
    /// Key of the app; `demo` needs no token.
    #[arg(long, default_value = "demo")]
    appkey: String,
    /// Name of the channel, made by whoever comes first.
    #[arg(long, default_value = "quickstart")]
    channel: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();

    // A client is made without any traffic. Events can be heard by handlers ...
    let ann = Client::new(ClientConfig::new(&args.server, &args.appkey))?;
    ann.on(EventKind::All, |event| println!("Ann hears {}", event.kind().name()));

    // `join` answers with the channel as it is. Without a uid the server chooses one.
    let joined = ann.join(JoinOptions::new(&args.channel).name("Ann")).await?;
    println!("Ann is {} in channel {}", joined.uid, joined.picture.channel);

    // `publish` announces media and answers where to push it. Keep the URL to yourself: it is signed.
    let push = ann.publish(MediaSelector::Kind(MediaKind::Audio)).await?;
    println!("Ann may push to {}", push.url);

    // ... or be taken from a stream, one at a time and in order.
    let bob = Client::new(ClientConfig::new(&args.server, &args.appkey))?;
    let mut events = bob.events();
    let joined = bob.join(JoinOptions::new(&args.channel).name("Bob")).await?;
    println!("Bob is {} and sees:", joined.uid);

    // What is on air already is in the answer of `join`, not among the events.
    for member in joined.picture.others() {
        for kind in member.streams.keys() {
            let pull = bob.subscribe(member.uid, kind.clone()).await?;
            println!("  {kind} of {}: play {}", member.uid, pull.url);
        }
    }

    // What comes later is heard. Ann turns her camera on: the push URL stays the same.
    ann.publish(MediaSelector::Kind(MediaKind::Video)).await?;
    while let Some(event) = events.next().await {
        println!("Bob hears {}", event.kind().name());
        if let Event::StreamAdded(stream) = event {
            let pull = bob.subscribe(stream.uid, stream.media_type).await?;
            println!("  play {}", pull.url);
            break;
        }
    }

    // Leaving is a call. A client that just goes away is seen by others until the server's grace ends.
    ann.leave().await?;
    while let Some(event) = events.next().await {
        println!("Bob hears {}", event.kind().name());
        if let Event::ClientLeave(_) = event {
            break;
        }
    }
    bob.leave().await?;
    Ok(())
}

//! Two members of one channel: Ann publishes, Bob watches. Start a server first:
//!
//! ```text
//! signal-server run
//! cargo run -p lianmai-example-quickstart
//! ```
//!
//! In: the address of a server. Out: the URLs and events of a short call, on stdout. Deliberately absent: media. To add
//! some, pass the push URL to `ffmpeg` and the pull URL to `ffplay`.
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
    /// Appkey; `demo` needs no token.
    #[arg(long, default_value = "demo")]
    appkey: String,
    /// Name of the channel, which is created by the first member.
    #[arg(long, default_value = "quickstart")]
    channel: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();

    // Creating a client causes no traffic. Events are received by handlers ...
    let ann = Client::new(ClientConfig::new(&args.server, &args.appkey))?;
    ann.on(EventKind::All, |event| println!("Ann hears {}", event.kind().name()));

    // `join` returns the present state of the channel. Without a uid the server chooses one.
    let joined = ann.join(JoinOptions::new(&args.channel).name("Ann")).await?;
    println!("Ann is {} in channel {}", joined.uid, joined.picture.channel);

    // `publish` announces media and returns the push URL. Keep the URL secret: it is signed.
    let push = ann.publish(MediaSelector::Kind(MediaKind::Audio)).await?;
    println!("Ann may push to {}", push.url);

    // ... or taken from a stream, one at a time and in order.
    let bob = Client::new(ClientConfig::new(&args.server, &args.appkey))?;
    let mut events = bob.events();
    let joined = bob.join(JoinOptions::new(&args.channel).name("Bob")).await?;
    println!("Bob is {} and sees:", joined.uid);

    // Media that is on air already is in the result of `join`, not among the events.
    for member in joined.picture.others() {
        for kind in member.streams.keys() {
            let pull = bob.subscribe(member.uid, kind.clone()).await?;
            println!("  {kind} of {}: play {}", member.uid, pull.url);
        }
    }

    // Later changes come as events. Ann turns her camera on: the push URL stays the same.
    ann.publish(MediaSelector::Kind(MediaKind::Video)).await?;
    while let Some(event) = events.next().await {
        println!("Bob hears {}", event.kind().name());
        if let Event::StreamAdded(stream) = event {
            let pull = bob.subscribe(stream.uid, stream.media_type).await?;
            println!("  play {}", pull.url);
            break;
        }
    }

    // Leaving is a call. A client that only disappears stays visible until the server's grace period ends.
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

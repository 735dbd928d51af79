//! The load generator behind `cargo xtask bench`. In: a release server, which it runs in a separate process. Out: the
//! costs of a member, a join, a delivery and so on, for people to read. Deliberately absent: pass or fail.

mod bare;
mod beside;
mod compose;
mod cut;
mod decode;
mod fanout;
mod idle;
mod join;
mod pullers;
mod rtmp;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measures a signal-server.
#[derive(Parser)]
struct Cli {
    /// The server to measure.
    #[arg(long, default_value = "target/release/signal-server")]
    server: PathBuf,
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Time from a join request to its answer.
    Join {
        /// Number of joins, one after the other, in rooms of 10.
        #[arg(long, default_value_t = 5000)]
        joins: usize,
    },
    /// Memory per idle joined member, in rooms of 10.
    Idle {
        /// Number of members.
        #[arg(long, default_value_t = 5000)]
        members: usize,
    },
    /// Processor time per delivery in one room, compared with a bare write loop.
    Fanout {
        /// Number of members.
        #[arg(long, default_value_t = 500)]
        members: usize,
        /// Number of events.
        #[arg(long, default_value_t = 400)]
        events: usize,
        /// Milliseconds between events.
        #[arg(long, default_value_t = 25)]
        pace_ms: u64,
    },
    /// The cost and the delays of many players of one stream, compared with nginx-rtmp; needs ffmpeg and nginx.
    Pullers {
        /// Number of players.
        #[arg(long, default_value_t = 50)]
        pullers: usize,
    },
    /// Time from the end of a publication to the end of its push and its play; needs ffmpeg.
    Cut {
        /// Number of cuts.
        #[arg(long, default_value_t = 10)]
        cuts: usize,
    },
    /// The cost of a push task and the time until its first picture, compared with one plain ffmpeg; needs ffmpeg, and
    /// the compositor next to the server.
    Compose {
        /// Numbers of members, separated by commas.
        #[arg(long, value_delimiter = ',', default_value = "2,4,7")]
        members: Vec<usize>,
        /// Measures instead the offset between picture and sound for this many minutes.
        #[arg(long)]
        drift_minutes: Option<u32>,
    },
    /// How long a member waits for its answers next to members that send the costliest frames.
    Beside {
        /// Number of other members.
        #[arg(long, default_value_t = 10)]
        greedy: usize,
        /// Milliseconds between two frames of one of them.
        #[arg(long, default_value_t = 50)]
        pace_ms: u64,
        /// Duration of each of the two measurements in seconds.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Processor time to read one event.
    Decode,
    /// The bare write loop itself, in a separate process.
    #[command(hide = true)]
    Bare,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.bench {
        Bench::Join { joins } => join::run(&cli.server, joins).await,
        Bench::Idle { members } => idle::run(&cli.server, members).await,
        Bench::Fanout { members, events, pace_ms } => {
            fanout::run(&cli.server, members, events, pace_ms).await
        }
        Bench::Pullers { pullers } => pullers::run(&cli.server, pullers).await,
        Bench::Cut { cuts } => cut::run(&cli.server, cuts).await,
        Bench::Compose { members, drift_minutes: None } => {
            compose::run(&cli.server, &members).await
        }
        Bench::Compose { drift_minutes: Some(minutes), .. } => {
            compose::drift(&cli.server, minutes.into()).await
        }
        Bench::Beside { greedy, pace_ms, seconds } => {
            beside::run(&cli.server, greedy, pace_ms, seconds).await
        }
        Bench::Decode => decode::run(),
        Bench::Bare => bare::serve().await,
    }
}

/// A folder for the data of a server, which is removed afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("lianmai-load-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Scratch(path.join("data")))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(parent) = self.0.parent() {
            let _ = std::fs::remove_dir_all(parent);
        }
    }
}

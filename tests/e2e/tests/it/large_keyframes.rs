//! A still picture of high quality: keyframes of 3 MB every 4 s, and almost nothing in between. A keyframe is much
//! larger than the permitted lag of a player, but reaches every player that reads.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lianmai_test_support::arrivals::Arrivals;
use lianmai_test_support::media::{Ffmpeg, decode, pictures};
use tokio::process::Command;

use crate::server::{Scratch, TEST_TIMEOUT, TestServer};

/// Pictures per second, and pictures from keyframe to keyframe.
const RATE: usize = 25;
const DISTANCE: usize = 100;
/// Duration of the file, which is pushed in a loop.
const SECONDS: u32 = 12;
/// Size of the smallest keyframe in bytes.
const KEYFRAME: u64 = 3_000_000;

/// Noise that does not move, which an encoder cannot compress.
async fn still(folder: &Path) -> Result<PathBuf> {
    let file = folder.join("still.flv");
    let noise = "nullsrc=size=1440x816:rate=25:duration=0.04,\
                 geq=lum='random(1)*255':cb='random(2)*255':cr='random(3)*255',loop=300:1";
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", noise])
        .args(["-f", "lavfi", "-i", "sine=sample_rate=44100", "-t", &SECONDS.to_string()])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-qp", "3"])
        .args(["-g", &DISTANCE.to_string(), "-sc_threshold", "0", "-pix_fmt", "yuv420p"])
        .args(["-c:a", "aac"])
        .arg(&file)
        .status()
        .await
        .context("ffmpeg")?;
    ensure!(made.success(), "ffmpeg: {made}");
    Ok(file)
}

/// Proves URL-11, URL-13.
#[tokio::test]
async fn keyframes_of_3_mb_reach_early_and_late_players() -> Result<()> {
    let scratch = Scratch::new()?;
    let file = still(&scratch.0).await?;
    let pushed = pictures(&file.display().to_string(), SECONDS).await?;
    let keys: Vec<_> = pushed.iter().filter(|(size, _)| *size >= KEYFRAME).collect();
    ensure!(keys.len() == pushed.len() / DISTANCE, "{keys:?}");
    let bits = pushed.iter().map(|(size, _)| size * 8).sum::<u64>() / u64::from(SECONDS);
    ensure!((6_000_000..12_000_000).contains(&bits), "{bits} bit/s");
    let known: HashSet<_> = pushed.iter().collect();

    let server = TestServer::start().await?;
    let mut ann = server.join("room", 1).await?;
    let mut bob = server.join("room", 2).await?;
    let push = ann.publish().await?;
    let pull = bob.subscribe(1).await?;
    // Both are connected before the push, and see three keyframes.
    let early = [&pull.rtmp, &pull.flv].map(|url| {
        let url = url.clone();
        tokio::spawn(async move { pictures(&url, 9).await })
    });
    server.players(2).await?;
    let _push = Ffmpeg::push_file(&file, &push)?;
    let mut watched = Arrivals::open(&pull.flv).await?;
    watched.goes_on(Duration::from_secs(5)).await?;
    // The last keyframe was sent some time ago. A viewer has at most four plays, so another one joins.
    let mut cid = server.join("room", 3).await?;
    let later = cid.subscribe(1).await?;
    let late = [&later.rtmp, &later.flv].map(|url| {
        let url = url.clone();
        tokio::spawn(async move { pictures(&url, 5).await })
    });
    for (players, seconds) in [(early, 9), (late, 5)] {
        for player in players {
            let played = player.await??;
            ensure!(played.len() >= seconds * RATE - 2, "{} of {seconds} s", played.len());
            ensure!(played[0].0 >= KEYFRAME, "a keyframe comes first");
            ensure!(played.iter().all(|picture| known.contains(picture)), "as it was pushed");
        }
    }
    // The decoder may begin with the next keyframe, because it drops the data that it used for probing.
    ensure!(decode(&later.flv, 6).await?.frames >= RATE, "a decoder shows it");
    watched.media(TEST_TIMEOUT).await?;
    let cut = server.process.log();
    ensure!(cut.iter().all(|line| !line.contains("tooSlow")), "a player was cut");
    server.finish().await
}

//! The time from the end of a publication to the end of its push and of its play: from the answer to `unpublish` until
//! ffmpeg has its write error, and until a viewer sees the end. In: a release server, a number of cuts. Out: median and
//! maximum. Deliberately absent: other causes of a cut.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lianmai_test_support::TEST_TIMEOUT;
use lianmai_test_support::arrivals::Arrivals;
use lianmai_test_support::media::Ffmpeg;
use lianmai_test_support::process::ServerProcess;
use lianmai_test_support::raw_ws::RawWs;
use serde_json::{Value, json};

use crate::Scratch;

#[expect(clippy::print_stdout, reason = "figures are the output")]
pub(crate) async fn run(server: &Path, cuts: usize) -> Result<()> {
    let scratch = Scratch::new("cut")?;
    let env = [("LIANMAI_LOG__FILTER", "warn"), ("LIANMAI_SESSION__DEAD_AFTER_MS", "600000")];
    let server = ServerProcess::start(server, &scratch.0, &env).await?;
    let (mut host, mut viewer) =
        (RawWs::connect(server.public).await?, RawWs::connect(server.public).await?);
    for (uid, socket) in [("1", &mut host), ("2", &mut viewer)] {
        let join = json!({"appkey": "demo", "channelName": "room", "uid": uid});
        socket.call("join", join).await?;
    }
    let (mut plays, mut pushes) = (Vec::new(), Vec::new());
    for _ in 0..cuts {
        let push = host.call("publish", json!({"mediaType": ""})).await?;
        let mut ffmpeg = Ffmpeg::push(push["url"].as_str().context("no URL")?)?;
        let play = |kind| json!({"uid": "1", "mediaType": kind});
        viewer.call("subscribe", play("audio")).await?;
        let pull: Value = viewer.call("subscribe", play("video")).await?;
        let flv = pull["urls"]["flv"].as_str().context("no URL")?;
        let mut playing = Arrivals::open(flv).await?;
        playing.media(TEST_TIMEOUT).await?;
        host.call("unpublish", json!({"mediaType": ""})).await?;
        let answered = Instant::now();
        let (push, play) = tokio::join!(
            async { ffmpeg.exited_within(TEST_TIMEOUT).await.map(|_| answered.elapsed()) },
            async { playing.end(TEST_TIMEOUT).await.map(|()| answered.elapsed()) },
        );
        pushes.push(push?);
        plays.push(play?);
    }
    for (what, times) in [("a push", &mut pushes), ("a play", &mut plays)] {
        times.sort();
        let (median, longest) = (middle(times), times.last().copied().unwrap_or_default());
        println!(
            "cut: {what} ends {median:.1?} after the answer, {longest:.1?} at most, of {cuts}"
        );
    }
    Ok(())
}

fn middle(sorted: &[Duration]) -> Duration {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

//! Processor time of the server while one 2 Mbit/s stream has many HTTP-FLV pullers.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lianmai_test_support::process::ServerProcess;
use lianmai_test_support::raw_ws::RawWs;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::sleep;

use crate::Scratch;

const WINDOW: Duration = Duration::from_secs(12);

#[expect(clippy::print_stdout, reason = "figures are the output")]
pub(crate) async fn run(server: &Path, pullers: usize) -> Result<()> {
    let scratch = Scratch::new("pullers")?;
    let server =
        ServerProcess::start(server, &scratch.0, &[("LIANMAI_LOG__FILTER", "warn")]).await?;
    let join = |uid: u32| json!({"appkey": "demo", "channelName": "room", "uid": uid.to_string()});
    let mut publisher = RawWs::connect(server.public).await?;
    publisher.call("join", join(1)).await?;
    let push = publisher.call("publish", json!({})).await?;
    let sample = scratch.0.with_file_name("sample.flv");
    let encode =
        ["-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25", "-f", "lavfi", "-i", "sine"];
    let codec = ["-t", "10", "-c:v", "libx264", "-preset", "veryfast", "-g", "25", "-b:v", "2M"];
    let rate =
        ["-minrate", "2M", "-maxrate", "2M", "-bufsize", "2M", "-nal-hrd", "cbr", "-c:a", "aac"];
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-y"])
        .args(encode.iter().chain(&codec).chain(&rate))
        .arg(&sample)
        .status()
        .await
        .context("ffmpeg")?;
    ensure!(made.success(), "ffmpeg could not make the sample");
    let _push = Command::new("ffmpeg")
        .args(["-v", "error", "-re", "-stream_loop", "-1", "-i"])
        .arg(&sample)
        .args(["-c", "copy", "-f", "flv", push["url"].as_str().context("no push URL")?])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut readers = tokio::task::JoinSet::new();
    let mut viewers = Vec::with_capacity(pullers);
    for uid in 2..2 + u32::try_from(pullers)? {
        // One member each: a viewer may play a stream a few times only.
        let mut viewer = RawWs::connect(server.public).await?;
        viewer.call("join", join(uid)).await?;
        let pull = viewer.call("subscribe", json!({"uid": "1", "mediaType": "video"})).await?;
        viewers.push(viewer);
        let url = pull["urls"]["flv"].as_str().context("no FLV URL")?;
        let path = url.splitn(4, '/').nth(3).context("no path")?;
        let request = format!("GET /{path} HTTP/1.1\r\nHost: {}\r\n\r\n", server.public);
        let mut stream = TcpStream::connect(server.public).await?;
        stream.write_all(request.as_bytes()).await?;
        readers.spawn(async move {
            let (mut bytes, mut buffer) = (0, vec![0; 64 * 1024]);
            while let Ok(Ok(read)) = tokio::time::timeout(WINDOW, stream.read(&mut buffer)).await {
                if read == 0 {
                    break;
                }
                bytes += read;
            }
            bytes
        });
    }
    sleep(Duration::from_secs(3)).await;
    let (before, start) = (server.cpu_s()?, std::time::Instant::now());
    sleep(WINDOW).await;
    let cpu = (server.cpu_s()? - before) / start.elapsed().as_secs_f64() * 100.0;
    ensure!(readers.try_join_next().is_none(), "a puller was cut");
    println!(
        "relay: 2 Mbit/s to {pullers} HTTP-FLV pullers: {cpu:.1} % of a core, RSS {} KiB",
        server.rss_kib()?
    );
    Ok(())
}

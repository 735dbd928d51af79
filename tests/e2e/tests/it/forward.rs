//! What a member publishes is forwarded to another media server for as long as it is published.
//! Proves no rule of the protocol: forwards.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lianmai_test_support::arrivals;
use lianmai_test_support::media::{Ffmpeg, decode, probe_media};
use lianmai_test_support::nginx::Nginx;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::server::{Scratch, TEST_TIMEOUT, TestServer};

/// The forwards of channel `room`, once they are as wanted.
async fn forwards(server: &TestServer, wanted: impl Fn(&[Value]) -> bool) -> Result<Vec<Value>> {
    let request = format!(
        "GET /v1/apps/demo/channels/room HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
        server.process.admin,
        server.process.admin_token()?,
    );
    let mut last = String::new();
    let search = async {
        loop {
            last = arrivals::ask(server.process.admin, &request).await?.text().await?;
            let shown: Value = serde_json::from_str(&last)?;
            let forwards = shown["forwards"].as_array().context("no forwards")?;
            if wanted(forwards) {
                return anyhow::Ok(forwards.clone());
            }
            // There is no notification of a change, so the test polls.
            sleep(Duration::from_millis(20)).await;
        }
    };
    let found = timeout(TEST_TIMEOUT, search).await;
    found.with_context(|| format!("the forwards do not come to that: {last}"))?
}

fn is_publishing(forwards: &[Value]) -> bool {
    matches!(forwards, [forward] if forward["state"] == "publishing")
}

#[tokio::test]
async fn a_publish_is_forwarded_and_comes_back_after_a_restart_of_the_upstream() -> Result<()> {
    let scratch = Scratch::new()?;
    let nginx = Nginx::start(&scratch.0).await?;
    let apps = format!(
        "[{{ appkey = \"demo\", mode = \"debug\", forward = [{{ url = \
         \"rtmp://{}/live/{{channel}}-{{uid}}?key=streamsecret\" }}] }}]",
        nginx.address
    );
    let server = TestServer::start_with(&[("LIANMAI_APPS", &apps)]).await?;
    let mut ann = server.join("room", 1).await?;
    let _push = Ffmpeg::push(&ann.publish().await?)?;
    let upstream = format!("rtmp://{}/live/room-1", nginx.address);
    // nginx gives sound at once and the picture from the next keyframe.
    let codecs = probe_media(&upstream, Duration::from_secs(10), TEST_TIMEOUT).await?;
    ensure!(codecs == ["aac", "h264"], "{codecs:?}");
    let shown = forwards(&server, is_publishing).await?;
    ensure!(shown[0]["uid"] == "1" && shown[0]["kind"] == "av", "{shown:?}");
    ensure!(shown[0]["url"] == format!("rtmp://{}/live", nginx.address), "{shown:?}");

    let nginx = nginx.restart().await?;
    let moving = decode(&upstream, 3).await?;
    ensure!(moving.frames >= 25 && moving.distinct >= 10, "{moving:?}");
    let shown = forwards(&server, is_publishing).await?;
    ensure!(shown[0]["failures"].as_u64() >= Some(1), "{shown:?}");
    ensure!(shown[0]["lastError"]["code"].is_string(), "{shown:?}");

    ann.call("unpublish", serde_json::json!({"mediaType": ""})).await?;
    forwards(&server, <[Value]>::is_empty).await?;
    let told = server.process.log().join("\n");
    ensure!(told.contains("forward publishes") && told.contains("forward failed"), "{told}");
    ensure!(!told.contains("streamsecret"), "the key is in the log: {told}");
    drop(nginx);
    server.finish().await
}

//! A client that was written from `docs/protocol.md` alone, without code of this repository, works with the server.
//! Proves no rule of the protocol: that a client can be written from the document alone.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use lianmai_test_support::process::root;
use tokio::process::Command;
use tokio::time::timeout;

use crate::server::{TEST_TIMEOUT, TestServer};

#[tokio::test]
async fn the_raw_python_client_completes_its_scenario() -> Result<()> {
    let server = TestServer::start().await?;
    // Twice, because the first run may leave state behind.
    for _ in 0..2 {
        let client = Command::new("python3")
            .current_dir(root())
            .args(["examples/raw-python/client.py", "--channel", "room"])
            .args(["--server", &format!("ws://{}", server.process.public)])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(TEST_TIMEOUT, client).await.context("it does not end")??;
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {text}{errors}", output.status);
        let relay = format!("rtmp://{}/live/", server.process.rtmp);
        let printed = |start: &str| text.lines().any(|line| line.starts_with(start));
        for start in [
            &format!("push {relay}"),
            &format!("pull {relay}"),
            "message hello from A",
            "ping A",
            "ping B",
            "removed",
            "both left",
        ] {
            ensure!(printed(start), "no line begins with `{start}`: {text}");
        }
    }
    server.finish().await
}

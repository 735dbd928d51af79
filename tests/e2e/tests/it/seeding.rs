//! Two starts have nothing in common: ids and secrets come from the operating system, not from a built-in seed.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use lianmai_test_support::raw_ws::RawWs;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::server::{TEST_TIMEOUT, TestServer};

/// The ids and secrets that a server gives to its first two members for the same requests.
async fn given() -> Result<Vec<String>> {
    let server = TestServer::start().await?;
    let mut given = Vec::new();
    for uid in ["1", "2"] {
        let mut socket = RawWs::connect(server.process.public).await?;
        let join = json!({"appkey": "demo", "channelName": "room", "uid": uid});
        let joined = timeout(TEST_TIMEOUT, socket.call("join", join)).await??;
        let push = timeout(TEST_TIMEOUT, socket.call("publish", json!({}))).await??;
        let fields = [
            &joined["mid"],
            &joined["sessionId"],
            &joined["ticket"],
            &joined["cid"],
            &joined["epoch"],
            &push["gen"],
        ];
        for field in fields {
            given.push(field.as_str().context("an id or a secret")?.to_owned());
        }
        given.push(signature(&push)?);
    }
    given.push(server.process.admin_token()?);
    server.finish().await?;
    Ok(given)
}

fn signature(push: &Value) -> Result<String> {
    let url = push["url"].as_str().context("a URL")?;
    Ok(url.rsplit_once('?').context("a signature")?.1.to_owned())
}

/// Proves FRM-10.
#[tokio::test]
async fn two_starts_share_no_id_and_no_secret() -> Result<()> {
    let first: BTreeSet<String> = given().await?.into_iter().collect();
    let second: BTreeSet<String> = given().await?.into_iter().collect();
    // The channel has one `cid` and one `epoch` for its two members.
    ensure!(first.len() == 13 && second.len() == 13, "{first:?} {second:?}");
    let shared: Vec<_> = first.intersection(&second).collect();
    ensure!(shared.is_empty(), "both starts gave {shared:?}");
    Ok(())
}

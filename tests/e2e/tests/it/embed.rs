//! The server as a library: two of them in one process, which do not affect each other.
//! Proves no rule of the protocol: the server as a library.

use anyhow::{Result, ensure};
use lianmai_signal_server::{Config, Server};
use lianmai_test_support::raw_ws::{RawWs, Received};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::server::{Scratch, TEST_TIMEOUT};

async fn bind(scratch: &Scratch) -> Result<Server> {
    let free = "127.0.0.1:0".to_owned();
    let flags = [
        ("server.listen", free.clone()),
        ("server.admin_listen", free.clone()),
        ("server.rtmp_listen", free),
        ("server.data_dir", scratch.0.to_string_lossy().into_owned()),
    ];
    Ok(Server::bind(Config::load(None, std::iter::empty(), &flags)?).await?)
}

#[tokio::test]
async fn two_servers_live_in_one_process_and_end_apart() -> Result<()> {
    let scratches = [Scratch::new()?, Scratch::new()?];
    let (a, b) = (bind(&scratches[0]).await?, bind(&scratches[1]).await?);
    let addresses = [a.addresses(), b.addresses()];
    let (stop_a, stopped_a) = oneshot::channel::<()>();
    let (stop_b, stopped_b) = oneshot::channel::<()>();
    let a = tokio::spawn(a.run(async { drop(stopped_a.await) }));
    let b = tokio::spawn(b.run(async { drop(stopped_b.await) }));

    let join = json!({"appkey": "demo", "channelName": "room", "uid": "1"});
    let mut in_a = RawWs::connect(addresses[0].public).await?;
    let mut in_b = RawWs::connect(addresses[1].public).await?;
    let (seen_a, seen_b) = (in_a.call("join", join.clone()).await?, in_b.call("join", join).await?);
    ensure!(seen_a["cid"] != seen_b["cid"] && seen_a["epoch"] != seen_b["epoch"]);
    ensure!(seen_a["memberCount"] == 1 && seen_b["memberCount"] == 1, "one room each");

    drop(stop_a);
    let closed = async {
        loop {
            if let Received::Close(code, _) = in_a.receive().await? {
                return anyhow::Ok(code);
            }
        }
    };
    ensure!(timeout(TEST_TIMEOUT, closed).await?? == 4003);
    drop(in_a);
    ensure!(timeout(TEST_TIMEOUT, a).await??, "it ends in time");
    in_b.call("ping", json!({})).await?;
    drop(stop_b);
    drop(in_b);
    ensure!(timeout(TEST_TIMEOUT, b).await??, "it ends in time");
    Ok(())
}

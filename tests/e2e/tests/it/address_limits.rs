//! How much of the shared capacity of a real server one address can take. In safe mode, where loopback has no privilege
//! except that it can be the address of a proxy on this machine.
//! Proves no rule of the protocol: bounds of the relay.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lianmai_test_support::arrivals;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use crate::server::{Scratch, TEST_TIMEOUT, TestServer};

const SAFE: &str = r#"
[[apps]]
appkey = "safe"
[[apps.jwt]]
kid = "k1"
secret = "a secret of thirty-two bytes or more"
"#;

/// A server without an app in debug mode.
async fn safe(env: &[(&str, &str)]) -> Result<(TestServer, Scratch)> {
    let config = Scratch::new()?;
    let file = config.0.join("config.toml");
    std::fs::write(&file, SAFE)?;
    let file = file.to_str().context("a path that is text")?;
    let env = [&[("LIANMAI_CONFIG", file)], env].concat();
    Ok((TestServer::start_with(&env).await?, config))
}

/// A value of `/metrics`.
async fn metric(server: &TestServer, name: &str) -> Result<u64> {
    let request = format!(
        "GET /metrics HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
        server.process.admin,
        server.process.admin_token()?,
    );
    let text = arrivals::ask(server.process.admin, &request).await?.text().await?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(lines.next().with_context(|| format!("no {name}"))?.parse()?)
}

/// Sends something that is not RTMP from an address of this machine, and reads until the connection ends.
async fn disturb(server: &TestServer, host: u8) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 2, host], 0)))?;
    let mut stream = socket.connect(server.process.rtmp).await?;
    let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
    let end = async { while matches!(stream.read(&mut [0; 64]).await, Ok(1..)) {} };
    timeout(TEST_TIMEOUT, end).await.context("the connection does not end")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_writes_a_few_lines_of_the_log_and_the_rest_is_counted() -> Result<()> {
    const ALL: usize = 300;
    const BURST: usize = 10;
    let (server, _config) = safe(&[
        ("LIANMAI_LIMITS__CONNECTIONS_PER_SECOND", "0"),
        ("LIANMAI_LOG__LINES_PER_SECOND", "1"),
        ("LIANMAI_LOG__LINE_BURST", &BURST.to_string()),
    ])
    .await?;
    let start = Instant::now();
    for _ in 0..ALL {
        disturb(&server, 1).await?;
    }
    let seconds = usize::try_from(start.elapsed().as_secs())? + 1;
    disturb(&server, 2).await?;
    server.process.logged(0, |line| line.contains("127.0.2.2:")).await?;
    server.process.logged(0, |line| line.contains("were left out")).await?;
    let logged = server.process.log().iter().filter(|line| line.contains("127.0.2.1:")).count();
    ensure!(logged <= BURST + seconds, "{logged} lines in {seconds} s");
    let left_out = metric(&server, "lianmai_log_lines_left_out_total").await?;
    ensure!(logged as u64 + left_out == ALL as u64, "{logged} lines, {left_out} left out");
    server.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_connects_too_often_is_refused_and_others_are_not() -> Result<()> {
    let (server, _config) = safe(&[
        ("LIANMAI_LIMITS__CONNECTIONS_PER_SECOND", "1"),
        ("LIANMAI_LIMITS__CONNECTION_BURST", "10"),
    ])
    .await?;
    let start = Instant::now();
    for _ in 0..100 {
        disturb(&server, 1).await?;
    }
    let seconds = start.elapsed().as_secs() + 1;
    let served = metric(&server, "lianmai_relay_connections_total").await?;
    let refused = metric(&server, "lianmai_relay_refused_connections_total").await?;
    ensure!(
        served + refused == 100 && served <= 10 + seconds,
        "{served} served, {refused} refused"
    );
    disturb(&server, 2).await?;
    let after = metric(&server, "lianmai_relay_connections_total").await?;
    ensure!(after == served + 1, "another address is served");
    server.finish().await
}

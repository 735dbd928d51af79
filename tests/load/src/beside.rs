//! How long a member waits for its answers, first alone, then next to members of another channel of its shard that send
//! the costliest frames. In: a release server. Out: the waits, and their ratio within one run. Deliberately absent:
//! several shards.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use hdrhistogram::Histogram;
use lianmai_test_support::process::ServerProcess;
use lianmai_test_support::raw_ws::{RawWs, Received};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use crate::Scratch;

/// Interval between two requests of the measured member, which stays within the rate limit of a session.
const PERIOD: Duration = Duration::from_millis(55);
/// Number of keys in a frame, which then has 61 kB.
const KEYS: usize = 5_500;

#[expect(clippy::print_stdout, reason = "figures are the output")]
pub(crate) async fn run(server: &Path, greedy: usize, pace_ms: u64, seconds: u64) -> Result<()> {
    let scratch = Scratch::new("beside")?;
    let env = [("LIANMAI_LOG__FILTER", "warn"), ("LIANMAI_SERVER__SHARDS", "1")];
    let server = ServerProcess::start(server, &scratch.0, &env).await?;
    let address = server.public;
    let alone = answer_times(address, seconds).await?;
    let mut others = JoinSet::new();
    for number in 0..greedy {
        others.spawn(flood(address, number, Duration::from_millis(pace_ms.max(1))));
    }
    let rss = server.rss_kib()?;
    let beside = answer_times(address, seconds).await?;
    let grown = server.rss_kib()?.saturating_sub(rss);
    others.abort_all();
    let [alone, beside] = [alone, beside].map(|times| {
        let us = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
        (us(0.5), us(0.99))
    });
    println!(
        "beside: an answer takes {:.2} ms (p99 {:.2}) alone, {:.2} ms (p99 {:.2}) beside {greedy} that send a frame of \
         {KEYS} keys each {pace_ms} ms; ratio of p99 {:.1}; {grown} KiB more memory",
        alone.0,
        alone.1,
        beside.0,
        beside.1,
        beside.1 / alone.1
    );
    Ok(())
}

/// Times of a member from request to answer, in microseconds. The member runs on a thread of its own.
async fn answer_times(server: SocketAddr, seconds: u64) -> Result<Histogram<u64>> {
    let measure = async move {
        let mut member = RawWs::connect(server).await?;
        member.call("join", join("witness", 1)).await?;
        let mut times = Histogram::<u64>::new(3)?;
        let until = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < until {
            let start = Instant::now();
            member.call("ping", json!({})).await?;
            times.record(u64::try_from(start.elapsed().as_micros())?)?;
            sleep(PERIOD).await;
        }
        member.call("leave", json!({})).await?;
        anyhow::Ok(times)
    };
    let (told, times) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let times = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(measure));
        let _ = told.send(times);
    });
    times.await.map_err(|_| anyhow!("the member ended"))?
}

fn join(channel: &str, uid: usize) -> Value {
    json!({"appkey": "demo", "channelName": channel, "uid": uid.to_string()})
}

/// Sends as long as the server permits it, then reconnects.
async fn flood(server: SocketAddr, number: usize, pace: Duration) {
    let keys: Map<String, Value> = (0..KEYS).map(|key| (format!("{key:x}"), "".into())).collect();
    let params = json!({"attributes": keys});
    let request =
        json!({"jsonrpc": "2.0", "id": 1000, "method": "setAttributes", "params": params});
    let request = request.to_string();
    loop {
        let Ok(mut member) = RawWs::connect(server).await else { continue };
        if member.call("join", join("greedy", 1000 + number)).await.is_err() {
            continue;
        }
        let mut ticks = interval(pace);
        'told: loop {
            ticks.tick().await;
            if member.send(&request).await.is_err() {
                break;
            }
            loop {
                match timeout(Duration::ZERO, member.receive()).await {
                    Ok(Ok(Received::Text(_) | Received::Pong(_))) => {}
                    Ok(_) => break 'told,
                    Err(_) => break,
                }
            }
        }
    }
}

//! Time from a `join` request to its answer. In: a release server, a number of joins. Out: quantiles in microseconds.
//! Deliberately absent: parallel joins.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use hdrhistogram::Histogram;
use lianmai_test_support::process::ServerProcess;
use lianmai_test_support::raw_ws::RawWs;
use serde_json::json;

use crate::Scratch;

#[expect(clippy::print_stdout, reason = "figures are the output")]
pub(crate) async fn run(server: &Path, joins: usize) -> Result<()> {
    let scratch = Scratch::new("join")?;
    let server =
        ServerProcess::start(server, &scratch.0, &[("LIANMAI_LOG__FILTER", "warn")]).await?;
    let mut times = Histogram::<u64>::new(3)?;
    let mut members = Vec::with_capacity(joins);
    for index in 0..joins {
        let mut member = RawWs::connect(server.public).await?;
        let params = json!({
            "appkey": "demo", "channelName": format!("room-{}", index / 10), "uid": index.to_string(),
        });
        let start = Instant::now();
        member.call("join", params).await?;
        times.record(u64::try_from(start.elapsed().as_micros())?)?;
        members.push(member);
    }
    println!(
        "join: {joins} one after the other, p50 {} us, p99 {} us, max {} us",
        times.value_at_quantile(0.5),
        times.value_at_quantile(0.99),
        times.max()
    );
    Ok(())
}

//! The native cost of reading one event, to be compared with the cost across the WebAssembly boundary
//! (`crates/wasm-bindings/js/bench.mjs`). In: one frame. Out: microseconds. Deliberately absent: a server.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use lianmai_protocol::codec::decode_server_text;

/// Number of events per round.
const EVENTS: u32 = 10_000;

const ROUNDS: usize = 31;

#[expect(clippy::print_stdout, reason = "figures are the output")]
pub(crate) fn run() -> Result<()> {
    let frame = r#"{"jsonrpc":"2.0","method":"message","params":{"epoch":"ujzdegxdncf32epf3dha","seq":11,"uid":"200","data":"hello"}}"#;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..EVENTS {
            black_box(decode_server_text(black_box(frame))?);
        }
        rounds.push(start.elapsed().as_secs_f64() * 1e6 / f64::from(EVENTS));
    }
    rounds.sort_by(f64::total_cmp);
    if let [fastest, ..] = rounds[..]
        && let Some(median) = rounds.get(ROUNDS / 2)
    {
        println!(
            "native: {median:.2} us (median of {ROUNDS} rounds, fastest {fastest:.2}) to read one event"
        );
    }
    Ok(())
}

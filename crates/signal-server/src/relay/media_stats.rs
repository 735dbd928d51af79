//! Reports the quality of media in the relay to the engines. Comes in: snapshots of the hub. Goes out: one input for
//! each stream. Deliberately absent: their meaning, which the engine decides.

use std::collections::BTreeMap;
use std::time::Duration;

use lianmai_media_plane::{Hub, PlaySample as Played, PushSample as Pushed, StreamSample};
use lianmai_protocol::{Gen, Mid};
use lianmai_signal_engine::{Input, PlayStats, PushStats, StreamStats};
use tokio::time::{MissedTickBehavior, interval};

use crate::shard::{ShardMsg, Shards};

/// Interval of the snapshots.
const INTERVAL: Duration = Duration::from_secs(2);

/// Reports snapshots. Never returns.
pub(crate) async fn report(hub: Hub, shards: Shards) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut snapshots = Vec::new();
        hub.sample(|stream| snapshots.extend(stream_stats(stream)));
        for stats in snapshots {
            let shard = shards.of(stats.generation.route);
            let _ = shard.send(ShardMsg::Input(Input::StreamStats(Box::new(stats)))).await;
        }
    }
}

/// A snapshot as input of an engine; `None` for a stream that is not of an engine.
fn stream_stats(stream: StreamSample) -> Option<StreamStats> {
    let StreamSample { stream, passed, push, plays } = stream;
    let generation = stream.name().parse::<Gen>().ok()?;
    let ms = millis(passed);
    let push = push.map(|push| {
        let Pushed { bytes, frames, keyframe_ms, gaps, longest_gap, audio, video } = push;
        let keyframe_ms = keyframe_ms.map(u64::from);
        let longest_gap_ms = millis(longest_gap);
        PushStats { ms, bytes, frames, keyframe_ms, gaps, longest_gap_ms, audio, video }
    });
    let mut viewers: BTreeMap<Mid, PlayStats> = BTreeMap::new();
    for Played { viewer, bytes, lag } in plays {
        let Ok(mid) = viewer.parse::<Mid>() else { continue };
        // A viewer with two plays has the lower lag of the two, and the bytes of both.
        let play = viewers.entry(mid).or_insert(PlayStats { ms, bytes: 0, lag_ms: u64::MAX });
        play.bytes += bytes;
        play.lag_ms = play.lag_ms.min(millis(lag));
    }
    Some(StreamStats { generation, push, plays: viewers.into_iter().collect() })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: snapshots as inputs of an engine.

    use lianmai_media_plane::StreamName;

    use super::*;

    fn play(viewer: &str, bytes: u64, lag: u64) -> Played {
        Played { viewer: viewer.into(), bytes, lag: Duration::from_millis(lag) }
    }

    #[test]
    fn plays_of_one_viewer_count_once() {
        let generation = Gen { route: 7, random: [1; 12] };
        let (one, two) = (Mid([1; 12]), Mid([2; 12]));
        let stream = StreamSample {
            stream: StreamName::new("live", &generation.to_string()),
            passed: Duration::from_secs(2),
            push: Some(Pushed { bytes: 5, ..Pushed::default() }),
            plays: vec![
                play(&one.to_string(), 1, 900),
                play(&two.to_string(), 2, 10),
                play(&one.to_string(), 3, 20),
                play("somebody", 9, 9),
            ],
        };
        let stats = stream_stats(stream.clone()).unwrap();
        assert_eq!((stats.generation, stats.push.unwrap().bytes), (generation, 5));
        let play_stats = |bytes, lag_ms| PlayStats { ms: 2_000, bytes, lag_ms };
        assert_eq!(stats.plays, [(one, play_stats(4, 20)), (two, play_stats(2, 10))]);
        assert!(
            stream_stats(StreamSample { stream: StreamName::new("live", "x"), ..stream }).is_none()
        );
    }
}

//! Sends the state of streams in the relay to the engine, for their liveness, and to the forwarder. The quality of
//! media is in `media_stats`.

use lianmai_media_plane::{FactState, StreamFact};
use lianmai_protocol::Gen;
use lianmai_signal_engine::{Input, PushState};
use tokio::sync::mpsc;

use crate::shard::{ShardMsg, Shards};

/// Sends the facts of the relay to the shards until the relay ends, and streams with a publisher to `live`.
pub(crate) async fn send_facts(
    mut facts: mpsc::Receiver<StreamFact>,
    shards: Shards,
    live: Option<mpsc::Sender<Gen>>,
) {
    while let Some(fact) = facts.recv().await {
        let Ok(generation) = fact.stream.name().parse::<Gen>() else { continue };
        if let Some(live) = &live
            && matches!(fact.state, FactState::Started | FactState::Flowing)
        {
            // If the queue is full, a later fact of the flowing stream is sent.
            let _ = live.try_send(generation);
        }
        let push = |state| Input::Push { generation, state };
        let input = match fact.state {
            FactState::Started => push(PushState::Began),
            FactState::Flowing => Input::MediaFlow { generation },
            FactState::Stalled => push(PushState::Stalled),
            FactState::Ended => push(PushState::Ended),
        };
        let _ = shards.of(generation.route).send(ShardMsg::Input(input)).await;
    }
}

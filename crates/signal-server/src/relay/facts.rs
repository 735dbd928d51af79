//! What the relay sees of a stream goes to the engine as its liveness, and to whoever forwards it. How well media goes is in
//! `seen`.

use lianmai_media_plane::{FactState, StreamFact};
use lianmai_protocol::Gen;
use lianmai_signal_engine::{Input, PushState};
use tokio::sync::mpsc;

use crate::shard::{ShardMsg, Shards};

/// Hands what the relay sees to the shards until the relay is gone, and streams with a publisher to `live`.
pub(crate) async fn forward(
    mut facts: mpsc::Receiver<StreamFact>,
    shards: Shards,
    live: Option<mpsc::Sender<Gen>>,
) {
    while let Some(fact) = facts.recv().await {
        let Ok(generation) = fact.stream.name().parse::<Gen>() else { continue };
        if let Some(live) = &live
            && matches!(fact.state, FactState::Started | FactState::Flowing)
        {
            // What finds no room comes again while the stream flows.
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

//! What the relay sees of a stream goes to the engine as its liveness.

use lianmai_media_plane::{FactState, StreamFact};
use lianmai_protocol::Gen;
use lianmai_signal_engine::Input;
use tokio::sync::mpsc;

use crate::shard::{ShardMsg, Shards};

/// Hands what the relay sees to the shards until the relay is gone.
pub(crate) async fn forward(mut facts: mpsc::Receiver<StreamFact>, shards: Shards) {
    while let Some(fact) = facts.recv().await {
        let Ok(generation) = fact.stream.name().parse::<Gen>() else { continue };
        if fact.state != FactState::Flowing {
            continue;
        }
        let message = ShardMsg::Input(Input::MediaFlow { generation });
        let _ = shards.of(generation.route).send(message).await;
    }
}

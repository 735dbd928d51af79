//! Which shard owns what.

/// Which of so many shards owns a routing value.
pub(crate) fn shard_of(route: u32, shards: usize) -> usize {
    route as usize % shards
}

//! Which shard owns a routing value.

/// The shard, of `shards` in all, that owns a routing value.
pub(crate) fn shard_of(route: u32, shards: usize) -> usize {
    route as usize % shards
}

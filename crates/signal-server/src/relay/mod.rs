//! Between the embedded relay and the shards.

pub(crate) mod authorizer;
pub(crate) mod cuts;
pub(crate) mod facts;

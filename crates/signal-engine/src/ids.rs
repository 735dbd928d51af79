//! Numbers by which an engine and its shell name things, and the places in an engine. Plain values, never
//! reused within a process.

use lianmai_protocol::{RequestId, UserId};

/// A connection, numbered by the shell and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// A question of the shell, answered with an output that carries the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub u64);

/// A question of the engine, answered with an input that carries the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// Whom a connection counts for besides its uid: an app and an address, as a number that the shell has for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(pub u64);

/// A connection that enters, and what it is answered by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) conn: ConnId,
    pub(crate) peer: Peer,
    pub(crate) id: RequestId,
}

/// A channel's place in its engine; a late timer or answer finds nothing there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChannelRef(pub(crate) u64);

/// Where a connection sits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    pub(crate) channel: ChannelRef,
    pub(crate) uid: UserId,
}

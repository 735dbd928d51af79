//! Ids that an engine and its shell use, and references within an engine. Plain values, never reused within a process.

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

/// The app and the address of a connection, as a number that the shell assigns. Debts are kept by it as well as by uid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddrId(pub u64);

/// A connection that joins or resumes, and the id to answer to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) conn: ConnId,
    pub(crate) addr: AddrId,
    pub(crate) id: RequestId,
}

/// A channel of an engine. It is not reused, so a late timer or answer finds no channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChannelRef(pub(crate) u64);

/// The channel and the uid of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemberRef {
    pub(crate) channel: ChannelRef,
    pub(crate) uid: UserId,
}

//! Checks that no client is refused for what others did: worlds contain members that use up everything they can get.
//! Comes in: refusals. Goes out: those whose cause is not the refused client alone. Deliberately absent: refusals of
//! the greedy clients, and rates (the model counts them, also for a uid that another client uses, too).

use lianmai_protocol::{ErrorName, RpcError};
use lianmai_signal_engine::ConnId;

use crate::net::{End, LinkId};
use crate::world::World;

impl World {
    pub(crate) fn check_fair(&mut self, conn: ConnId, error: &RpcError) {
        let end = self.links.get(&LinkId(conn.0)).map(|link| link.end);
        let Some(End::Client(c)) = end else { return };
        // Apps of a world have a few short attributes, and join with a short name.
        if *error.name() == ErrorName::AttributesTooLarge {
            self.fail("fair", format!("c{c} is told {} for what others do", error.name()));
        }
    }
}

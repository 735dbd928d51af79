//! Whether somebody pays for what others do: worlds have members who take all that they can get, and nobody else may be
//! refused for that. Comes in: refusals. Goes out: those that the refused one has not brought on itself, by what it
//! did alone. Deliberately absent: what the greedy ones are told, and rates (the model counts them, also those of a uid
//! that somebody else uses, too).

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

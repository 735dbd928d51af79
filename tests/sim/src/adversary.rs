//! A thief that records tickets, join ids and URLs, and replays them. Comes in: everything that was ever on a wire.
//! Goes out: the same later, on a socket of its own. The model decides whether a replay may succeed: the run fails if
//! the engine accepts something that is invalid by the model, or if a refused attempt changes anything.

use lianmai_protocol::Epoch;
use lianmai_protocol::message::Call;
use lianmai_protocol::message::session::{Join, Reconnect};

use crate::rng::Rng;
use crate::world::World;

/// The recorded material.
#[derive(Debug)]
pub(crate) struct Spy {
    tickets: Vec<(String, Epoch)>,
    joins: Vec<Join>,
    rng: Rng,
}

impl Spy {
    pub(crate) fn new(rng: Rng) -> Self {
        Spy { tickets: Vec::new(), joins: Vec::new(), rng }
    }

    pub(crate) fn ticket(&mut self, ticket: &str, epoch: Epoch) {
        self.tickets.push((ticket.to_owned(), epoch));
    }
}

impl World {
    pub(crate) fn spy_join(&mut self, join: &Join) {
        if join.join_id.is_some() {
            self.spy.joins.push(join.clone());
        }
    }

    pub(crate) fn replay(&mut self, what: u8) {
        self.cov.count("fault:replay");
        match what {
            0 => {
                // Only the older two thirds are replayed: the newest tickets may belong to living memberships.
                let most = self.spy.tickets.len() * 2 / 3;
                if most == 0 {
                    return;
                }
                let (ticket, epoch) = self.spy.tickets[self.spy.rng.index(most)].clone();
                let attempt = if self.spy.rng.chance(500) { 1 } else { 1 << 40 };
                let reconnect = Reconnect { ticket, attempt, epoch, seq: 1, n: 0, want: None };
                self.add_replay(Call::Reconnect(reconnect));
            }
            1 => {
                let most = self.spy.joins.len() * 2 / 3;
                if most > 0 {
                    let join = self.spy.joins[self.spy.rng.index(most)].clone();
                    self.add_replay(Call::Join(join));
                }
            }
            what => self.replay_url(what == 3),
        }
    }
}

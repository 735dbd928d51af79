//! The ledger of messages: what was sent, how the call ended, and who received it. Comes in: calls. Goes out:
//! contradictions. Each message is received at most once; and exactly once, unless the sender was told that the outcome
//! is unknown, or the receiver that it may have missed something.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lianmai_client_sdk::{Client, ReconnectOutcome, UserId};

use crate::actors::{Actor, Outcome};
use crate::observer::Reconnection;

/// How much later than its event a message may be received, because the proxy may hold it.
const SLACK: Duration = Duration::from_secs(6);

#[derive(Clone, Debug)]
struct Said {
    room: usize,
    from: UserId,
    /// The recipient; `None` for all members.
    to: Option<UserId>,
    at: Instant,
    end: Option<(Instant, Outcome<u64>)>,
}

impl Said {
    /// Whether the receiver may have been away between the call and its `end`.
    fn meets(&self, end: Instant, back: &Reconnection) -> bool {
        back.blind_from < end + SLACK && back.back + SLACK > self.at
    }
}

/// All messages that were sent.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    last: AtomicU64,
    said: Mutex<BTreeMap<u64, Said>>,
}

impl Ledger {
    fn said(&self) -> MutexGuard<'_, BTreeMap<u64, Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a new message to one member or to all, and records the outcome of the call. The number is drawn when the
    /// future is first polled, because the call begins then.
    pub(crate) async fn say(
        &self,
        client: &Client,
        (room, from): (usize, UserId),
        to: Option<UserId>,
    ) -> Outcome<u64> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.said().insert(id, Said { room, from, to, at: Instant::now(), end: None });
        let result = match to {
            Some(uid) => client.send_message_to([uid], id.to_string()).await,
            None => client.send_message(id.to_string()).await.map(|()| 0),
        };
        let settled = Outcome::of(result);
        if let Some(said) = self.said().get_mut(&id) {
            said.end = Some((Instant::now(), settled.clone()));
        }
        settled
    }

    /// Compares calls and receipts. `crashes` are the moments at which servers were killed.
    pub(crate) fn audit(&self, actors: &[Actor], crashes: &[Instant]) -> Audit {
        let mut audit = Audit::default();
        let by_uid: BTreeMap<UserId, &Actor> =
            actors.iter().map(|actor| (actor.observer.uid, actor)).collect();
        let mut budgets: BTreeMap<UserId, u64> = BTreeMap::new();
        for actor in actors {
            let returns = &actor.observer.seen().returns;
            let lost = returns.iter().map(|back| back.messages_lost).sum();
            budgets.insert(actor.observer.uid, lost);
        }
        for (id, said) in &*self.said() {
            let Some((end, settled)) = &said.end else {
                audit.faults.push(format!("the call of message {id} was never settled"));
                continue;
            };
            match said.to {
                None => audit.add_to_all(*id, said, *end, settled, actors),
                Some(to) => {
                    let Some(actor) = by_uid.get(&to) else { continue };
                    let budget = budgets.entry(to).or_default();
                    audit.add_to_one(*id, said, (*end, settled), actor, (budget, crashes));
                }
            }
        }
        audit
    }
}

/// What happened to all messages.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// Messages to all: calls, receipts, and those that a receiver was told to have missed possibly.
    all: u64,
    heard: u64,
    missed: u64,
    /// Messages to one: calls and their outcomes.
    ones: u64,
    received: u64,
    unknown: u64,
    refused: u64,
    nobody: u64,
    /// Not received, and the receiver knows it: because of `messagesLost`, of a crash, or of a new membership.
    told_lost: u64,
    crashed: u64,
    rejoined: u64,
    /// Calls of messages to all whose outcome is unknown.
    all_unknown: u64,
    pub(crate) faults: Vec<String>,
}

impl Audit {
    /// Whether every message was received by all its recipients.
    pub(crate) fn is_exact(&self) -> bool {
        self.received == self.ones && self.missed + self.all_unknown == 0
    }

    fn add_to_all(
        &mut self,
        id: u64,
        said: &Said,
        end: Instant,
        settled: &Outcome<u64>,
        actors: &[Actor],
    ) {
        self.all += 1;
        self.all_unknown += u64::from(matches!(settled, Outcome::Unknown));
        let room = actors.iter().filter(|actor| actor.room == said.room);
        for actor in room.filter(|actor| actor.observer.uid != said.from) {
            let seen = actor.observer.seen();
            let heard = seen.messages.contains(&id);
            self.heard += u64::from(heard);
            match settled {
                Outcome::Refused(name) if heard => {
                    let uid = actor.observer.uid.0;
                    self.faults.push(format!("message {id} was {name}, and uid {uid} heard it"));
                }
                Outcome::Done(_) if !heard && !actor.comes_and_goes => {
                    let told = seen.returns.iter().any(|back| back.missed && said.meets(end, back));
                    self.missed += u64::from(told);
                    if !told {
                        let (uid, from) = (actor.observer.uid.0, said.from.0);
                        let times = seen.returns.iter().map(|back| {
                            let ago = |at: Instant| at.saturating_duration_since(said.at);
                            (ago(back.lost), ago(back.back), back.outcome.clone())
                        });
                        let times: Vec<_> = times.filter(|(_, back, _)| !back.is_zero()).collect();
                        self.faults.push(format!(
                            "message {id} of uid {from} to all, settled after {:?}: uid {uid} never \
                             heard it; its returns after that: {times:?}",
                            end.duration_since(said.at),
                        ));
                    }
                }
                _ => {}
            }
        }
    }

    fn add_to_one(
        &mut self,
        id: u64,
        said: &Said,
        (end, settled): (Instant, &Outcome<u64>),
        actor: &Actor,
        (budget, crashes): (&mut u64, &[Instant]),
    ) {
        self.ones += 1;
        let seen = actor.observer.seen();
        let heard = seen.messages.contains(&id);
        let uid = actor.observer.uid.0;
        match settled {
            Outcome::Refused(name) if heard => {
                self.faults.push(format!("message {id} was {name}, and uid {uid} heard it"));
            }
            Outcome::Done(0) if heard => {
                self.faults.push(format!("message {id} reached nobody, and uid {uid} heard it"));
            }
            _ if heard => self.received += 1,
            Outcome::Unknown => self.unknown += 1,
            Outcome::Refused(_) => self.refused += 1,
            Outcome::Done(delivered) => {
                let met = || seen.returns.iter().filter(|back| said.meets(end, back));
                let anew = |back: &&Reconnection| {
                    matches!(back.outcome, ReconnectOutcome::Rejoined { .. })
                };
                let crashed = |back: &&Reconnection| {
                    let between = |crash: &Instant| said.at <= *crash && *crash < back.back;
                    back.is_after_crash() && !anew(back) && crashes.iter().any(between)
                };
                if *delivered == 0 && met().any(|back| anew(&back)) {
                    self.nobody += 1;
                } else if *budget > 0 {
                    *budget -= 1;
                    self.told_lost += 1;
                } else if met().any(|back| crashed(&back)) {
                    self.crashed += 1;
                } else if met().any(|back| anew(&back)) {
                    self.rejoined += 1;
                } else {
                    let from = said.from.0;
                    self.faults.push(format!(
                        "message {id} of uid {from} to uid {uid}: answered with {delivered}, never heard, \
                         and nothing was said of it"
                    ));
                }
            }
        }
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "messages to all: {} calls ({} unknown), {} heard, {} told as missed\n\
             messages to one: {} calls = {} received + {} unknown + {} refused + {} to nobody + {} told as \
             lost + {} lost in the crash + {} lost with the membership",
            self.all,
            self.all_unknown,
            self.heard,
            self.missed,
            self.ones,
            self.received,
            self.unknown,
            self.refused,
            self.nobody,
            self.told_lost,
            self.crashed,
            self.rejoined,
        )
    }
}

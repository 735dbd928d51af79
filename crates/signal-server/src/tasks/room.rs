//! Shares the resources of this machine among tasks. Comes in: costs and owners of tasks. Goes out: whether there is
//! room. Deliberately absent: clocks; the runs.
//!
//! ```text
//!   (none) -- admit --> [promised, for a moment] -- begin --> [held by a run] -- end --> (none)
//!                                 `-- nothing comes of it --> (none)   `-- end, to be tried again --> [promised]
//! ```

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lianmai_protocol::{Appkey, TaskId, UserId};
use lianmai_shares::{Full, Pool, Reservation, Share};
use lianmai_signal_engine::ChannelKey;
use tokio::time::Instant;

use super::cost::Cost;

/// Time for which promised room is kept: a run that fails begins again within 4 s, and a new one sooner.
const PROMISE: Duration = Duration::from_secs(15);
/// Shares of the free room: a half for one user of several, and three quarters for one app of several.
const OF_A_USER: (u64, u64) = (1, 2);
const OF_AN_APP: (u64, u64) = (3, 4);

/// One life of a task.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Life {
    pub(super) channel: ChannelKey,
    pub(super) task: TaskId,
    pub(super) life: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    App(Appkey),
    User(Appkey, UserId),
}

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

impl From<Full<Key>> for NoRoom {
    fn from(_: Full<Key>) -> Self {
        NoRoom
    }
}

struct Place {
    cpu: Reservation<Key>,
    memory: Reservation<Key>,
    /// The run that uses it.
    run: Option<u64>,
    /// Time at which it is given back, while no run uses it.
    until: Option<Instant>,
    /// After an update was promised a different cost: the cost before, and the time at which the place goes back to it
    /// if the update is not carried out.
    promised: Option<(Cost, Instant)>,
}

impl Place {
    /// Reduces the place, which always succeeds.
    fn shrink(&mut self, cost: Cost) {
        let _ = self.cpu.resize(cost.cpu.min(self.cpu.amount()));
        let _ = self.memory.resize(cost.memory.min(self.memory.amount()));
    }

    fn cost(&self) -> Cost {
        Cost { cpu: self.cpu.amount(), memory: self.memory.amount() }
    }
}

/// A task that needs room.
pub(super) struct Guest {
    pub(super) life: Life,
    /// Its run, if it has one.
    pub(super) run: Option<u64>,
    pub(super) owner: Option<UserId>,
    pub(super) cost: Cost,
}

/// The resources that tasks may use.
pub(super) struct Rooms {
    cpu: Pool<Key>,
    memory: Pool<Key>,
    several_apps: bool,
    places: Mutex<BTreeMap<Life, Place>>,
}

/// The room that is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RoomStats {
    /// Used thousandths of a core.
    pub(crate) cpu: usize,
    /// Total thousandths of a core.
    pub(crate) cpu_whole: usize,
    /// Used bytes of memory.
    pub(crate) memory: usize,
    /// Total bytes of memory.
    pub(crate) memory_whole: usize,
}

impl Rooms {
    pub(super) fn new(whole: Cost, apps: usize) -> Self {
        Rooms {
            cpu: Pool::new(whole.cpu),
            memory: Pool::new(whole.memory),
            several_apps: apps > 1,
            places: Mutex::default(),
        }
    }

    /// Promises room to all tasks, or to none.
    ///
    /// # Errors
    /// The index of the first task without room.
    pub(super) fn admit(&self, guests: &[Guest], now: Instant) -> Result<(), usize> {
        let mut places = self.places(now);
        // The state before: `None` for new tasks.
        let mut changed: Vec<(&Life, Option<(Cost, _)>)> = Vec::new();
        for (at, guest) in guests.iter().enumerate() {
            let before = places.get(&guest.life).map(|place| (place.cost(), place.promised));
            // A run may need as much as before until it receives the update.
            let wanted = before.map_or(guest.cost, |(before, _)| Cost {
                cpu: before.cpu.max(guest.cost.cpu),
                memory: before.memory.max(guest.cost.memory),
            });
            if self.take(&mut places, guest, wanted, Some(now + PROMISE)).is_err() {
                for (life, before) in changed {
                    if let (Some((cost, promised)), Some(place)) = (before, places.get_mut(life)) {
                        place.shrink(cost);
                        place.promised = promised;
                    } else {
                        places.remove(life);
                    }
                }
                return Err(at);
            }
            changed.push((&guest.life, before));
        }
        Ok(())
    }

    /// Takes room for a run that begins or changes.
    ///
    /// # Errors
    /// There is no room. A run that changes keeps the room that it had.
    pub(super) fn run(&self, guest: &Guest, now: Instant) -> Result<(), NoRoom> {
        let mut places = self.places(now);
        self.take(&mut places, guest, guest.cost, None)
    }

    /// Gives back the room of a run that has ended. `again`: the room is promised to a next run. Does nothing if the
    /// task has another run already.
    pub(super) fn end(&self, life: &Life, run: u64, again: bool, now: Instant) {
        let mut places = self.places(now);
        let Some(place) = places.get_mut(life).filter(|place| place.run == Some(run)) else {
            return;
        };
        if again {
            place.until = Some(now + PROMISE);
            place.promised = None;
        } else {
            places.remove(life);
        }
    }

    pub(super) fn stats(&self) -> RoomStats {
        RoomStats {
            cpu: self.cpu.used(),
            cpu_whole: self.cpu.capacity(),
            memory: self.memory.used(),
            memory_whole: self.memory.capacity(),
        }
    }

    fn take(
        &self,
        places: &mut BTreeMap<Life, Place>,
        guest: &Guest,
        cost: Cost,
        until: Option<Instant>,
    ) -> Result<(), NoRoom> {
        let cpu = self.cpu.account(self.path(guest, cost.cpu));
        let memory = self.memory.account(self.path(guest, cost.memory));
        if let Some(place) = places.get_mut(&guest.life) {
            let before = place.cost();
            // Less processor time always succeeds, so it comes second: either all of the cost is held, or what was held
            // before.
            let less = cost.cpu <= before.cpu;
            if !less {
                place.cpu.resize_on(&cpu, cost.cpu)?;
            }
            if let Err(full) = place.memory.resize_on(&memory, cost.memory) {
                place.shrink(before);
                return Err(full.into());
            }
            if less {
                place.cpu.resize_on(&cpu, cost.cpu)?;
            }
            let base = place.promised.map_or(before, |(base, _)| base);
            place.promised = match (place.until, until) {
                (None, Some(until)) if cost != base => Some((base, until)),
                _ => None,
            };
            // A run keeps its room until it ends.
            place.until = place.until.and(until);
            place.run = guest.run.or(place.run);
            return Ok(());
        }
        let place = Place {
            cpu: cpu.take(cost.cpu)?,
            memory: memory.take(cost.memory)?,
            run: guest.run,
            until,
            promised: None,
        };
        places.insert(guest.life.clone(), place);
        Ok(())
    }

    /// The shares that a task counts in. As long as there is room at all, each app and user may have one task.
    fn path(&self, guest: &Guest, amount: usize) -> Vec<(Key, Share)> {
        let app = &guest.life.channel.appkey;
        let share = |(num, den)| Share::of(num, den).at_least(amount);
        let of_app = if self.several_apps { share(OF_AN_APP) } else { Share::ALL };
        let mut path = vec![(Key::App(app.clone()), of_app)];
        path.extend(guest.owner.map(|uid| (Key::User(app.clone(), uid), share(OF_A_USER))));
        path
    }

    /// The places, after promises that have expired are given back.
    fn places(&self, now: Instant) -> MutexGuard<'_, BTreeMap<Life, Place>> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|_, place| place.until.is_none_or(|until| until > now));
        for place in places.values_mut() {
            if let Some((cost, _)) = place.promised.take_if(|(_, until)| *until <= now) {
                place.shrink(cost);
            }
        }
        places
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: shares of the room for tasks.

    use super::*;

    fn guest(task: &str, owner: u64, cpu: usize) -> Guest {
        let channel = ChannelKey { appkey: "demo".parse().unwrap(), name: "room".parse().unwrap() };
        let life = Life { channel, task: task.parse().unwrap(), life: 1 };
        let owner = (owner > 0).then_some(UserId(owner));
        Guest { life, run: Some(1), owner, cost: Cost { cpu, memory: 1 } }
    }

    fn rooms() -> Rooms {
        Rooms::new(Cost { cpu: 1000, memory: 100 }, 1)
    }

    #[test]
    fn one_user_has_a_half_and_everybody_one_task() {
        let (rooms, now) = (rooms(), Instant::now());
        let admit = |task, owner, cpu| rooms.admit(&[guest(task, owner, cpu)], now);
        assert_eq!(admit("a", 1, 300), Ok(()));
        assert_eq!(admit("b", 1, 300), Err(0), "more than a half");
        assert_eq!(admit("c", 2, 600), Ok(()), "one task, however large");
        assert_eq!(admit("d", 3, 300), Err(0), "there is no room at all");
        assert_eq!(admit("e", 0, 100), Ok(()), "the app's server has no share of its own");
        assert_eq!(rooms.stats().cpu, 1000);
    }

    #[test]
    fn the_only_task_of_a_user_may_grow_as_large_as_a_new_one_may_be() {
        let (rooms, now) = (rooms(), Instant::now());
        assert_eq!(rooms.admit(&[guest("a", 1, 141)], now), Ok(()));
        assert_eq!(rooms.run(&guest("a", 1, 141), now), Ok(()));
        assert_eq!(rooms.admit(&[guest("a", 1, 691)], now), Ok(()));
        assert_eq!(rooms.run(&guest("a", 1, 691), now), Ok(()));
        // With a second task, the share counts again.
        assert_eq!(rooms.admit(&[guest("b", 1, 10)], now), Err(0));
        assert_eq!(rooms.admit(&[guest("a", 1, 1001)], now), Err(0));
        assert_eq!(rooms.stats().cpu, 691);
    }

    #[test]
    fn what_an_update_was_promised_is_given_back_if_nothing_comes_of_it() {
        let (rooms, now) = (rooms(), Instant::now());
        assert_eq!(rooms.run(&guest("a", 0, 100), now), Ok(()));
        for at in [now, now + PROMISE / 2] {
            assert_eq!(rooms.admit(&[guest("a", 0, 900)], at), Ok(()));
            assert_eq!(rooms.admit(&[guest("b", 0, 200)], at), Err(0));
        }
        assert_eq!(rooms.admit(&[guest("b", 0, 200)], now + PROMISE), Err(0), "promised again");
        let later = now + PROMISE + PROMISE / 2;
        assert_eq!(rooms.admit(&[guest("b", 0, 200)], later), Ok(()));
        assert_eq!(rooms.stats().cpu, 300);
        // A run keeps the room that its update was promised.
        assert_eq!(rooms.admit(&[guest("a", 0, 500)], later), Ok(()));
        assert_eq!(rooms.run(&guest("a", 0, 500), later), Ok(()));
        assert_eq!(rooms.admit(&[guest("c", 0, 400)], later + PROMISE), Ok(()));
        assert_eq!(rooms.stats().cpu, 900);
        // Less processor time and more memory, for which there is no room: the run keeps what it had.
        let mut other = guest("a", 0, 100);
        other.cost.memory = 101;
        assert_eq!(rooms.run(&other, later), Err(NoRoom));
        assert_eq!(rooms.stats().cpu, 900);
    }

    #[test]
    fn all_have_room_or_none() {
        let (rooms, now) = (rooms(), Instant::now());
        let guests = [guest("a", 0, 500), guest("b", 0, 400), guest("c", 0, 200)];
        assert_eq!(rooms.admit(&guests, now), Err(2));
        assert_eq!(rooms.stats().cpu, 0);
        assert_eq!(rooms.run(&guests[0], now), Ok(()));
        // A run keeps its room when another task or an update is refused.
        assert_eq!(rooms.admit(&[guest("a", 0, 600), guest("b", 0, 500)], now), Err(1));
        assert_eq!(rooms.stats().cpu, 500);
        assert_eq!(rooms.run(&guest("a", 0, 1001), now), Err(NoRoom));
        assert_eq!(rooms.stats().cpu, 500);
    }

    #[test]
    fn a_promise_ends_and_a_run_does_not() {
        let (rooms, now) = (rooms(), Instant::now());
        assert_eq!(rooms.admit(&[guest("a", 0, 500), guest("b", 0, 500)], now), Ok(()));
        assert_eq!(rooms.run(&guest("a", 0, 400), now), Ok(()));
        let later = now + PROMISE;
        assert_eq!(rooms.admit(&[guest("c", 0, 600)], later), Ok(()), "b was never begun");
        // An update of a run does not turn its room into a promise.
        assert_eq!(rooms.admit(&[guest("a", 0, 300)], later), Ok(()));
        assert_eq!(rooms.admit(&[guest("d", 0, 100)], later + PROMISE), Ok(()));
        assert_eq!(rooms.stats().cpu, 500);
        let life = guest("a", 0, 0).life;
        rooms.end(&life, 2, false, later + PROMISE);
        rooms.end(&life, 1, true, later + PROMISE);
        assert_eq!(rooms.stats().cpu, 500);
        rooms.end(&life, 1, false, later + PROMISE);
        assert_eq!(rooms.stats().cpu, 100);
    }
}

//! Shares the resources of this machine among tasks. Comes in: costs and owners of tasks. Goes out: whether there is
//! room. Deliberately absent: clocks; the runs.
//!
//! ```text
//!   (none) -- reserve --> [reserved, for a moment] -- allocate --> [allocated to a run] -- release --> (none)
//!                                   `-- nothing comes of it --> (none)      `-- release, kept --> [reserved]
//! ```

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lianmai_protocol::{Appkey, TaskId, UserId};
use lianmai_shares::{Full, Pool, Reservation, Share};
use lianmai_signal_engine::ChannelKey;
use tokio::time::Instant;

use super::cost::Cost;

/// Time for which a reservation is kept: a run that fails begins again within 4 s, and a new one sooner.
const RESERVATION_TIME: Duration = Duration::from_secs(15);
/// Shares of the free room: a half for one user of several, and three quarters for one app of several.
const USER_SHARE: (u64, u64) = (1, 2);
const APP_SHARE: (u64, u64) = (3, 4);

/// One life of a task.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TaskLife {
    pub(super) channel: ChannelKey,
    pub(super) task: TaskId,
    pub(super) life: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ShareKey {
    App(Appkey),
    User(Appkey, UserId),
}

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoCapacity;

impl From<Full<ShareKey>> for NoCapacity {
    fn from(_: Full<ShareKey>) -> Self {
        NoCapacity
    }
}

struct Allocation {
    cpu: Reservation<ShareKey>,
    memory: Reservation<ShareKey>,
    /// The run that uses it.
    run: Option<u64>,
    /// Time at which it is given back, while no run uses it.
    until: Option<Instant>,
    /// After a different cost was reserved for an update: the cost before, and the time at which the allocation goes
    /// back to it if the update is not carried out.
    reserved: Option<(Cost, Instant)>,
}

impl Allocation {
    /// Reduces the allocation, which always succeeds.
    fn shrink(&mut self, cost: Cost) {
        let _ = self.cpu.resize(cost.cpu.min(self.cpu.amount()));
        let _ = self.memory.resize(cost.memory.min(self.memory.amount()));
    }

    fn cost(&self) -> Cost {
        Cost { cpu: self.cpu.amount(), memory: self.memory.amount() }
    }
}

/// A task that needs room.
pub(super) struct TaskDemand {
    pub(super) life: TaskLife,
    /// Its run, if it has one.
    pub(super) run: Option<u64>,
    pub(super) owner: Option<UserId>,
    pub(super) cost: Cost,
}

/// The resources that tasks may use.
pub(super) struct TaskCapacity {
    cpu: Pool<ShareKey>,
    memory: Pool<ShareKey>,
    several_apps: bool,
    allocations: Mutex<BTreeMap<TaskLife, Allocation>>,
}

/// The room that is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CapacityStats {
    /// Used thousandths of a core.
    pub(crate) cpu: usize,
    /// Total thousandths of a core.
    pub(crate) cpu_total: usize,
    /// Used bytes of memory.
    pub(crate) memory: usize,
    /// Total bytes of memory.
    pub(crate) memory_total: usize,
}

impl TaskCapacity {
    pub(super) fn new(total: Cost, apps: usize) -> Self {
        TaskCapacity {
            cpu: Pool::new(total.cpu),
            memory: Pool::new(total.memory),
            several_apps: apps > 1,
            allocations: Mutex::default(),
        }
    }

    /// Reserves room for all tasks, or for none.
    ///
    /// # Errors
    /// The index of the first task without room.
    pub(super) fn reserve(&self, demands: &[TaskDemand], now: Instant) -> Result<(), usize> {
        let mut allocations = self.allocations(now);
        // The state before: `None` for new tasks.
        let mut changed: Vec<(&TaskLife, Option<(Cost, _)>)> = Vec::new();
        for (at, demand) in demands.iter().enumerate() {
            let before = allocations
                .get(&demand.life)
                .map(|allocation| (allocation.cost(), allocation.reserved));
            // A run may need as much as before until it receives the update.
            let wanted = before.map_or(demand.cost, |(before, _)| Cost {
                cpu: before.cpu.max(demand.cost.cpu),
                memory: before.memory.max(demand.cost.memory),
            });
            if self.take(&mut allocations, demand, wanted, Some(now + RESERVATION_TIME)).is_err() {
                for (life, before) in changed {
                    if let (Some((cost, reserved)), Some(allocation)) =
                        (before, allocations.get_mut(life))
                    {
                        allocation.shrink(cost);
                        allocation.reserved = reserved;
                    } else {
                        allocations.remove(life);
                    }
                }
                return Err(at);
            }
            changed.push((&demand.life, before));
        }
        Ok(())
    }

    /// Takes room for a run that begins or changes.
    ///
    /// # Errors
    /// There is no room. A run that changes keeps the room that it had.
    pub(super) fn allocate(&self, demand: &TaskDemand, now: Instant) -> Result<(), NoCapacity> {
        let mut allocations = self.allocations(now);
        self.take(&mut allocations, demand, demand.cost, None)
    }

    /// Gives back the room of a run that has ended. `keep_reserved`: the room stays reserved for a next run. Does
    /// nothing if the task has another run already.
    pub(super) fn release(&self, life: &TaskLife, run: u64, keep_reserved: bool, now: Instant) {
        let mut allocations = self.allocations(now);
        let Some(allocation) =
            allocations.get_mut(life).filter(|allocation| allocation.run == Some(run))
        else {
            return;
        };
        if keep_reserved {
            allocation.until = Some(now + RESERVATION_TIME);
            allocation.reserved = None;
        } else {
            allocations.remove(life);
        }
    }

    pub(super) fn stats(&self) -> CapacityStats {
        CapacityStats {
            cpu: self.cpu.used(),
            cpu_total: self.cpu.capacity(),
            memory: self.memory.used(),
            memory_total: self.memory.capacity(),
        }
    }

    fn take(
        &self,
        allocations: &mut BTreeMap<TaskLife, Allocation>,
        demand: &TaskDemand,
        cost: Cost,
        until: Option<Instant>,
    ) -> Result<(), NoCapacity> {
        let cpu = self.cpu.account(self.path(demand, cost.cpu));
        let memory = self.memory.account(self.path(demand, cost.memory));
        if let Some(allocation) = allocations.get_mut(&demand.life) {
            let before = allocation.cost();
            // Less processor time always succeeds, so it comes second: either all of the cost is held, or what was held
            // before.
            let less = cost.cpu <= before.cpu;
            if !less {
                allocation.cpu.resize_on(&cpu, cost.cpu)?;
            }
            if let Err(full) = allocation.memory.resize_on(&memory, cost.memory) {
                allocation.shrink(before);
                return Err(full.into());
            }
            if less {
                allocation.cpu.resize_on(&cpu, cost.cpu)?;
            }
            let base = allocation.reserved.map_or(before, |(base, _)| base);
            allocation.reserved = match (allocation.until, until) {
                (None, Some(until)) if cost != base => Some((base, until)),
                _ => None,
            };
            // A run keeps its room until it ends.
            allocation.until = allocation.until.and(until);
            allocation.run = demand.run.or(allocation.run);
            return Ok(());
        }
        let allocation = Allocation {
            cpu: cpu.take(cost.cpu)?,
            memory: memory.take(cost.memory)?,
            run: demand.run,
            until,
            reserved: None,
        };
        allocations.insert(demand.life.clone(), allocation);
        Ok(())
    }

    /// The shares that a task counts in. As long as there is room at all, each app and user may have one task.
    fn path(&self, demand: &TaskDemand, amount: usize) -> Vec<(ShareKey, Share)> {
        let app = &demand.life.channel.appkey;
        let share = |(num, den)| Share::of(num, den).at_least(amount);
        let of_app = if self.several_apps { share(APP_SHARE) } else { Share::ALL };
        let mut path = vec![(ShareKey::App(app.clone()), of_app)];
        path.extend(demand.owner.map(|uid| (ShareKey::User(app.clone(), uid), share(USER_SHARE))));
        path
    }

    /// The allocations, after reservations that have expired are given back.
    fn allocations(&self, now: Instant) -> MutexGuard<'_, BTreeMap<TaskLife, Allocation>> {
        let mut allocations = self.allocations.lock().unwrap_or_else(PoisonError::into_inner);
        allocations.retain(|_, allocation| allocation.until.is_none_or(|until| until > now));
        for allocation in allocations.values_mut() {
            if let Some((cost, _)) = allocation.reserved.take_if(|(_, until)| *until <= now) {
                allocation.shrink(cost);
            }
        }
        allocations
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: shares of the room for tasks.

    use super::*;

    fn demand(task: &str, owner: u64, cpu: usize) -> TaskDemand {
        let channel = ChannelKey { appkey: "demo".parse().unwrap(), name: "room".parse().unwrap() };
        let life = TaskLife { channel, task: task.parse().unwrap(), life: 1 };
        let owner = (owner > 0).then_some(UserId(owner));
        TaskDemand { life, run: Some(1), owner, cost: Cost { cpu, memory: 1 } }
    }

    fn capacity() -> TaskCapacity {
        TaskCapacity::new(Cost { cpu: 1000, memory: 100 }, 1)
    }

    #[test]
    fn a_user_gets_at_most_half_but_always_one_task() {
        let (capacity, now) = (capacity(), Instant::now());
        let admit = |task, owner, cpu| capacity.reserve(&[demand(task, owner, cpu)], now);
        assert_eq!(admit("a", 1, 300), Ok(()));
        assert_eq!(admit("b", 1, 300), Err(0), "more than a half");
        assert_eq!(admit("c", 2, 600), Ok(()), "one task, however large");
        assert_eq!(admit("d", 3, 300), Err(0), "the capacity is used up");
        assert_eq!(admit("e", 0, 100), Ok(()), "the app's server has no share of its own");
        assert_eq!(capacity.stats().cpu, 1000);
    }

    #[test]
    fn a_single_task_may_grow_as_large_as_a_new_one() {
        let (capacity, now) = (capacity(), Instant::now());
        assert_eq!(capacity.reserve(&[demand("a", 1, 141)], now), Ok(()));
        assert_eq!(capacity.allocate(&demand("a", 1, 141), now), Ok(()));
        assert_eq!(capacity.reserve(&[demand("a", 1, 691)], now), Ok(()));
        assert_eq!(capacity.allocate(&demand("a", 1, 691), now), Ok(()));
        // With a second task, the share counts again.
        assert_eq!(capacity.reserve(&[demand("b", 1, 10)], now), Err(0));
        assert_eq!(capacity.reserve(&[demand("a", 1, 1001)], now), Err(0));
        assert_eq!(capacity.stats().cpu, 691);
    }

    #[test]
    fn the_reservation_of_a_failed_update_is_released() {
        let (capacity, now) = (capacity(), Instant::now());
        assert_eq!(capacity.allocate(&demand("a", 0, 100), now), Ok(()));
        for at in [now, now + RESERVATION_TIME / 2] {
            assert_eq!(capacity.reserve(&[demand("a", 0, 900)], at), Ok(()));
            assert_eq!(capacity.reserve(&[demand("b", 0, 200)], at), Err(0));
        }
        assert_eq!(
            capacity.reserve(&[demand("b", 0, 200)], now + RESERVATION_TIME),
            Err(0),
            "the reservation is renewed"
        );
        let later = now + RESERVATION_TIME + RESERVATION_TIME / 2;
        assert_eq!(capacity.reserve(&[demand("b", 0, 200)], later), Ok(()));
        assert_eq!(capacity.stats().cpu, 300);
        // A run keeps the room that its update was promised.
        assert_eq!(capacity.reserve(&[demand("a", 0, 500)], later), Ok(()));
        assert_eq!(capacity.allocate(&demand("a", 0, 500), later), Ok(()));
        assert_eq!(capacity.reserve(&[demand("c", 0, 400)], later + RESERVATION_TIME), Ok(()));
        assert_eq!(capacity.stats().cpu, 900);
        // Less processor time and more memory, for which there is no room: the run keeps what it had.
        let mut other = demand("a", 0, 100);
        other.cost.memory = 101;
        assert_eq!(capacity.allocate(&other, later), Err(NoCapacity));
        assert_eq!(capacity.stats().cpu, 900);
    }

    #[test]
    fn tasks_are_admitted_together_or_not_at_all() {
        let (capacity, now) = (capacity(), Instant::now());
        let demands = [demand("a", 0, 500), demand("b", 0, 400), demand("c", 0, 200)];
        assert_eq!(capacity.reserve(&demands, now), Err(2));
        assert_eq!(capacity.stats().cpu, 0);
        assert_eq!(capacity.allocate(&demands[0], now), Ok(()));
        // A run keeps its room when another task or an update is refused.
        assert_eq!(capacity.reserve(&[demand("a", 0, 600), demand("b", 0, 500)], now), Err(1));
        assert_eq!(capacity.stats().cpu, 500);
        assert_eq!(capacity.allocate(&demand("a", 0, 1001), now), Err(NoCapacity));
        assert_eq!(capacity.stats().cpu, 500);
    }

    #[test]
    fn a_reservation_expires_and_an_allocation_does_not() {
        let (capacity, now) = (capacity(), Instant::now());
        assert_eq!(capacity.reserve(&[demand("a", 0, 500), demand("b", 0, 500)], now), Ok(()));
        assert_eq!(capacity.allocate(&demand("a", 0, 400), now), Ok(()));
        let later = now + RESERVATION_TIME;
        assert_eq!(capacity.reserve(&[demand("c", 0, 600)], later), Ok(()), "b never started");
        // An update of a run does not turn its room into a reservation.
        assert_eq!(capacity.reserve(&[demand("a", 0, 300)], later), Ok(()));
        assert_eq!(capacity.reserve(&[demand("d", 0, 100)], later + RESERVATION_TIME), Ok(()));
        assert_eq!(capacity.stats().cpu, 500);
        let life = demand("a", 0, 0).life;
        capacity.release(&life, 2, false, later + RESERVATION_TIME);
        capacity.release(&life, 1, true, later + RESERVATION_TIME);
        assert_eq!(capacity.stats().cpu, 500);
        capacity.release(&life, 1, false, later + RESERVATION_TIME);
        assert_eq!(capacity.stats().cpu, 100);
    }
}

//! Connections that are closed to make room for new ones. Comes in: connections, when they are busy, and when they wait
//! for others. Goes out: which of them must close. Deliberately absent: how it closes, and the limit of connections, see
//! `connection_limit.rs`.
//!
//! This is for a listener with few connections, where a share for each address does not help: operators come from one
//! address, and on loopback all clients do. A new connection is never refused because others are idle. The connection
//! that closes is an idle one of the address with the most idle connections, and among those the one that has waited
//! longest. If none is idle, a waiting one is chosen by the same rule: its client decides how long it waits.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::connection_limit::address_group;

/// The idle connections of one listener. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct IdleConnections(Arc<Mutex<IdleTable>>);

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    /// It closes first.
    Idle,
    /// It closes after all idle ones.
    Waiting,
    /// It does not close.
    Busy,
}

/// Connections by number, which is the order in which they became what they are.
type NumberedConnections = BTreeMap<u64, (IpAddr, Arc<Notify>)>;

#[derive(Debug, Default)]
struct IdleTable {
    last: u64,
    idle: NumberedConnections,
    waiting: NumberedConnections,
}

impl IdleTable {
    fn of(&mut self, activity: Activity) -> Option<&mut NumberedConnections> {
        match activity {
            Activity::Idle => Some(&mut self.idle),
            Activity::Waiting => Some(&mut self.waiting),
            Activity::Busy => None,
        }
    }
}

/// A connection of such a listener. It is idle while no guard of it exists, until the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct TrackedConnection(Arc<Tracked>);

#[derive(Debug)]
struct Tracked {
    all: IdleConnections,
    address: IpAddr,
    end: Arc<Notify>,
    state: Mutex<TrackedState>,
}

#[derive(Debug, Default)]
struct TrackedState {
    /// The number of its [`BusyGuard`]s.
    busy: usize,
    /// The number of its [`WaitingGuard`]s.
    waiting: usize,
    /// Its position in the table; `None` if it has none.
    position: Option<(Activity, u64)>,
}

impl TrackedState {
    fn activity(&self) -> Activity {
        match (self.waiting, self.busy) {
            (0, 0) => Activity::Idle,
            (0, _) => Activity::Busy,
            _ => Activity::Waiting,
        }
    }
}

/// The connection is not closed to make room while this is held, unless it waits.
#[derive(Debug)]
pub(crate) struct BusyGuard(TrackedConnection);

/// The connection waits for its client, or has a request beyond the share of its app. It is closed to make room only if no
/// connection is idle.
#[derive(Debug)]
pub(crate) struct WaitingGuard(TrackedConnection);

impl IdleConnections {
    /// Registers an idle connection. The connection must close when `end` is notified.
    pub(crate) fn track(&self, address: IpAddr, end: Arc<Notify>) -> TrackedConnection {
        let address = address_group(address.to_canonical());
        let tracked = TrackedConnection(Arc::new(Tracked {
            all: self.clone(),
            address,
            end,
            state: Mutex::default(),
        }));
        tracked.0.update(|_| {});
        tracked
    }

    /// Tells one idle or waiting connection to close. Returns `false` when all are busy.
    pub(crate) fn make_room(&self) -> bool {
        let mut table = self.lock();
        let IdleTable { idle, waiting, .. } = &mut *table;
        let connections = if idle.is_empty() { waiting } else { idle };
        let mut counts = BTreeMap::<IpAddr, usize>::new();
        for (address, _) in connections.values() {
            *counts.entry(*address).or_default() += 1;
        }
        let most = counts.values().max().copied();
        let longest =
            connections.iter().find(|(_, (address, _))| counts.get(address).copied() == most);
        let Some(number) = longest.map(|(number, _)| *number) else { return false };
        if let Some((_, end)) = connections.remove(&number) {
            end.notify_one();
        }
        true
    }

    /// Ignores poisoning: no code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, IdleTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TrackedConnection {
    /// Marks the connection as busy: its request is authenticated, and all of it has arrived.
    pub(crate) fn mark_busy(&self) -> BusyGuard {
        self.0.update(|state| state.busy += 1);
        BusyGuard(self.clone())
    }

    /// Marks the connection as waiting, also if it is busy.
    pub(crate) fn mark_waiting(&self) -> WaitingGuard {
        self.0.update(|state| state.waiting += 1);
        WaitingGuard(self.clone())
    }
}

impl Tracked {
    /// Changes the state, and the position in the table if that changes its activity. Ignores poisoning, as
    /// [`IdleConnections::lock`] does.
    fn update(&self, change: impl FnOnce(&mut TrackedState)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let activity = state.activity();
        if state.position.is_some_and(|(old, _)| old == activity) {
            return;
        }
        let mut table = self.all.lock();
        Self::remove(&mut table, state.position.take());
        table.last += 1;
        let number = table.last;
        if let Some(connections) = table.of(activity) {
            connections.insert(number, (self.address, self.end.clone()));
            state.position = Some((activity, number));
        }
    }

    fn remove(table: &mut IdleTable, position: Option<(Activity, u64)>) {
        if let Some((activity, number)) = position
            && let Some(connections) = table.of(activity)
        {
            connections.remove(&number);
        }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let position = self.state.get_mut().unwrap_or_else(PoisonError::into_inner).position.take();
        Self::remove(&mut self.all.lock(), position);
    }
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.0.0.update(|state| state.busy -= 1);
    }
}

impl Drop for WaitingGuard {
    fn drop(&mut self) {
        self.0.0.update(|state| state.waiting -= 1);
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: which connection closes to make room.

    use super::*;

    /// Whether a connection was told to end.
    fn was_told_to_end(end: &Notify) -> bool {
        let waiter = std::pin::pin!(end.notified());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        waiter.poll(&mut cx).is_ready()
    }

    struct Fixture(IdleConnections);

    impl Fixture {
        fn track(&self, address: &str) -> (TrackedConnection, Arc<Notify>) {
            let end = Arc::new(Notify::new());
            (self.0.track(address.parse().unwrap(), end.clone()), end)
        }
    }

    #[test]
    fn the_longest_idle_connection_of_the_largest_holder_is_closed() {
        let fixture = Fixture(IdleConnections::default());
        let monitor = fixture.track("192.0.2.1");
        let greedy: Vec<_> = (0..3).map(|_| fixture.track("192.0.2.2")).collect();
        assert!(fixture.0.make_room() && fixture.0.make_room());
        let ended: Vec<bool> = greedy.iter().map(|(_, end)| was_told_to_end(end)).collect();
        assert_eq!(ended, [true, true, false]);
        assert!(!was_told_to_end(&monitor.1), "the holder has fewer");
        // One connection each: the older one closes first.
        assert!(fixture.0.make_room() && was_told_to_end(&monitor.1));
        assert!(fixture.0.make_room() && was_told_to_end(&greedy[2].1) && !fixture.0.make_room());
    }

    #[test]
    fn a_busy_connection_is_not_closed() {
        let fixture = Fixture(IdleConnections::default());
        let (first, first_end) = fixture.track("127.0.0.1");
        let (_second, second_end) = fixture.track("127.0.0.1");
        let busy = first.mark_busy();
        assert!(fixture.0.make_room() && was_told_to_end(&second_end));
        assert!(!fixture.0.make_room() && !was_told_to_end(&first_end));
        drop(first);
        assert!(!fixture.0.make_room(), "the connection is still busy");
        drop(busy);
        assert!(!fixture.0.make_room(), "the connection is closed");
        let (third, third_end) = fixture.track("127.0.0.1");
        let (_fourth, fourth_end) = fixture.track("127.0.0.1");
        drop(third.mark_busy());
        assert!(
            fixture.0.make_room() && was_told_to_end(&fourth_end) && !was_told_to_end(&third_end),
            "its idle time has started again"
        );
        drop(third);
        assert!(fixture.0.lock().idle.is_empty(), "nothing is left");
    }

    #[test]
    fn who_waits_gives_way_after_all_idle_ones() {
        let fixture = Fixture(IdleConnections::default());
        let (first, first_end) = fixture.track("127.0.0.1");
        let (second, second_end) = fixture.track("127.0.0.1");
        let (busy, waiting) = (first.mark_busy(), first.mark_waiting());
        let _busy = second.mark_busy();
        let (_third, third_end) = fixture.track("192.0.2.1");
        assert!(fixture.0.make_room() && was_told_to_end(&third_end), "it is idle");
        assert!(fixture.0.make_room() && was_told_to_end(&first_end), "none is idle");
        assert!(!fixture.0.make_room() && !was_told_to_end(&second_end), "it is busy");
        let (fourth, fourth_end) = fixture.track("127.0.0.1");
        drop(fourth.mark_waiting());
        assert!(fixture.0.make_room() && was_told_to_end(&fourth_end), "it is idle again");
        drop((first, busy, waiting));
        let table = fixture.0.lock();
        assert!(table.idle.is_empty() && table.waiting.is_empty(), "nothing is left");
    }
}

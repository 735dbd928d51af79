//! Connections that are closed to make room for new ones. Comes in: connections, and when they are busy. Goes out:
//! which of them must close. Deliberately absent: how it closes, and the limit of connections, see
//! `connection_limit.rs`.
//!
//! This is for a listener with few connections, where a share for each address does not help: operators come from one
//! address, and on loopback all clients do. A new connection is never refused because others are idle. The connection
//! that closes is an idle one of the address with the most idle connections, and among those the one that has waited
//! longest.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::connection_limit::address_group;

/// The idle connections of one listener. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct IdleConnections(Arc<Mutex<IdleTable>>);

#[derive(Debug, Default)]
struct IdleTable {
    last: u64,
    /// The idle connections by number, which is the order in which they became idle.
    idle: BTreeMap<u64, (IpAddr, Arc<Notify>)>,
}

/// A connection of such a listener. It is idle while no [`BusyGuard`] of it exists, until the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct TrackedConnection(Arc<Tracked>);

#[derive(Debug)]
struct Tracked {
    all: IdleConnections,
    address: IpAddr,
    end: Arc<Notify>,
    /// Its key in [`IdleTable::idle`] while it is idle.
    number: Mutex<Option<u64>>,
}

/// The connection is not closed to make room while this is held.
#[derive(Debug)]
pub(crate) struct BusyGuard(TrackedConnection);

impl IdleConnections {
    /// Registers an idle connection. The connection must close when `end` is notified.
    pub(crate) fn track(&self, address: IpAddr, end: Arc<Notify>) -> TrackedConnection {
        let address = address_group(address.to_canonical());
        let tracked = TrackedConnection(Arc::new(Tracked {
            all: self.clone(),
            address,
            end,
            number: Mutex::default(),
        }));
        tracked.mark_idle();
        tracked
    }

    /// Tells one idle connection to close. Returns `false` when all are busy.
    pub(crate) fn make_room(&self) -> bool {
        let mut table = self.lock();
        let mut counts = BTreeMap::<IpAddr, usize>::new();
        for (address, _) in table.idle.values() {
            *counts.entry(*address).or_default() += 1;
        }
        let most = counts.values().max().copied();
        let longest =
            table.idle.iter().find(|(_, (address, _))| counts.get(address).copied() == most);
        let Some(number) = longest.map(|(number, _)| *number) else { return false };
        if let Some((_, end)) = table.idle.remove(&number) {
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
        self.0.remove();
        BusyGuard(self.clone())
    }

    fn mark_idle(&self) {
        let Tracked { all, address, end, number } = &*self.0;
        let mut table = all.lock();
        table.last += 1;
        let new = table.last;
        table.idle.insert(new, (*address, end.clone()));
        drop(table);
        *number.lock().unwrap_or_else(PoisonError::into_inner) = Some(new);
    }
}

impl Tracked {
    fn remove(&self) {
        let number = self.number.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(number) = number {
            self.all.lock().idle.remove(&number);
        }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.0.mark_idle();
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
    fn of_those_that_hold_most_the_one_that_waits_longest_gives_way() {
        let fixture = Fixture(IdleConnections::default());
        let monitor = fixture.track("192.0.2.1");
        let greedy: Vec<_> = (0..3).map(|_| fixture.track("192.0.2.2")).collect();
        assert!(fixture.0.make_room() && fixture.0.make_room());
        let ended: Vec<bool> = greedy.iter().map(|(_, end)| was_told_to_end(end)).collect();
        assert_eq!(ended, [true, true, false]);
        assert!(!was_told_to_end(&monitor.1), "it has fewer");
        // One connection each: the older one closes first.
        assert!(fixture.0.make_room() && was_told_to_end(&monitor.1));
        assert!(fixture.0.make_room() && was_told_to_end(&greedy[2].1) && !fixture.0.make_room());
    }

    #[test]
    fn who_is_busy_does_not_give_way() {
        let fixture = Fixture(IdleConnections::default());
        let (first, first_end) = fixture.track("127.0.0.1");
        let (_second, second_end) = fixture.track("127.0.0.1");
        let busy = first.mark_busy();
        assert!(fixture.0.make_room() && was_told_to_end(&second_end));
        assert!(!fixture.0.make_room() && !was_told_to_end(&first_end));
        drop(first);
        assert!(!fixture.0.make_room(), "it is busy still");
        drop(busy);
        assert!(!fixture.0.make_room(), "it has gone");
        let (third, third_end) = fixture.track("127.0.0.1");
        let (_fourth, fourth_end) = fixture.track("127.0.0.1");
        drop(third.mark_busy());
        assert!(
            fixture.0.make_room() && was_told_to_end(&fourth_end) && !was_told_to_end(&third_end),
            "it waits anew"
        );
        drop(third);
        assert!(fixture.0.lock().idle.is_empty(), "nothing is left");
    }
}

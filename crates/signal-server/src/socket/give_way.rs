//! Connections that are closed to make room for new ones. Comes in: connections, and when they are busy. Goes out:
//! which of them must close. Deliberately absent: how it closes, and the limit of connections, see `places.rs`.
//!
//! This is for a listener with few connections, where a share for each address does not help: operators come from one
//! address, and on loopback all clients do. A new connection is never refused because others are idle. The connection
//! that closes is an idle one of the address with the most idle connections, and among those the one that has waited
//! longest.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::places::group;

/// The connections of one listener that give way. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct GiveWay(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    last: u64,
    /// The waiting connections by number, which is the order in which they began to wait.
    waiting: BTreeMap<u64, (IpAddr, Arc<Notify>)>,
}

/// A connection of such a listener. It waits while no [`Busy`] of it exists, until the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Seat(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    all: GiveWay,
    address: IpAddr,
    end: Arc<Notify>,
    /// Its key in [`Table::waiting`] while it waits.
    number: Mutex<Option<u64>>,
}

/// The connection is not closed to make room while this is held.
#[derive(Debug)]
pub(crate) struct Busy(Seat);

impl GiveWay {
    /// Registers a connection that waits. The connection must close when `end` is notified.
    pub(crate) fn enter(&self, address: IpAddr, end: Arc<Notify>) -> Seat {
        let address = group(address.to_canonical());
        let seat =
            Seat(Arc::new(Inner { all: self.clone(), address, end, number: Mutex::default() }));
        seat.wait();
        seat
    }

    /// Tells one waiting connection to close. Returns `false` when all are busy.
    pub(crate) fn make_room(&self) -> bool {
        let mut table = self.lock();
        let mut counts = BTreeMap::<IpAddr, usize>::new();
        for (address, _) in table.waiting.values() {
            *counts.entry(*address).or_default() += 1;
        }
        let most = counts.values().max().copied();
        let longest =
            table.waiting.iter().find(|(_, (address, _))| counts.get(address).copied() == most);
        let Some(number) = longest.map(|(number, _)| *number) else { return false };
        if let Some((_, end)) = table.waiting.remove(&number) {
            end.notify_one();
        }
        true
    }

    /// Ignores poisoning: no code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Marks the connection as busy: its request is authenticated.
    pub(crate) fn busy(&self) -> Busy {
        self.0.leave();
        Busy(self.clone())
    }

    fn wait(&self) {
        let Inner { all, address, end, number } = &*self.0;
        let mut table = all.lock();
        table.last += 1;
        let new = table.last;
        table.waiting.insert(new, (*address, end.clone()));
        drop(table);
        *number.lock().unwrap_or_else(PoisonError::into_inner) = Some(new);
    }
}

impl Inner {
    fn leave(&self) {
        let number = self.number.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(number) = number {
            self.all.lock().waiting.remove(&number);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: which connection closes to make room.

    use super::*;

    /// Whether a connection was told to end.
    fn ends(end: &Notify) -> bool {
        let waiter = std::pin::pin!(end.notified());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        waiter.poll(&mut cx).is_ready()
    }

    struct Rig(GiveWay);

    impl Rig {
        fn enter(&self, address: &str) -> (Seat, Arc<Notify>) {
            let end = Arc::new(Notify::new());
            (self.0.enter(address.parse().unwrap(), end.clone()), end)
        }
    }

    #[test]
    fn of_those_that_hold_most_the_one_that_waits_longest_gives_way() {
        let rig = Rig(GiveWay::default());
        let monitor = rig.enter("192.0.2.1");
        let greedy: Vec<_> = (0..3).map(|_| rig.enter("192.0.2.2")).collect();
        assert!(rig.0.make_room() && rig.0.make_room());
        let ended: Vec<bool> = greedy.iter().map(|(_, end)| ends(end)).collect();
        assert_eq!(ended, [true, true, false]);
        assert!(!ends(&monitor.1), "it has fewer");
        // One connection each: the older one closes first.
        assert!(rig.0.make_room() && ends(&monitor.1));
        assert!(rig.0.make_room() && ends(&greedy[2].1) && !rig.0.make_room());
    }

    #[test]
    fn who_is_busy_does_not_give_way() {
        let rig = Rig(GiveWay::default());
        let (first, first_end) = rig.enter("127.0.0.1");
        let (_second, second_end) = rig.enter("127.0.0.1");
        let busy = first.busy();
        assert!(rig.0.make_room() && ends(&second_end));
        assert!(!rig.0.make_room() && !ends(&first_end));
        drop(first);
        assert!(!rig.0.make_room(), "it is busy still");
        drop(busy);
        assert!(!rig.0.make_room(), "it has gone");
        let (third, third_end) = rig.enter("127.0.0.1");
        let (_fourth, fourth_end) = rig.enter("127.0.0.1");
        drop(third.busy());
        assert!(rig.0.make_room() && ends(&fourth_end) && !ends(&third_end), "it waits anew");
        drop(third);
        assert!(rig.0.lock().waiting.is_empty(), "nothing is left");
    }
}

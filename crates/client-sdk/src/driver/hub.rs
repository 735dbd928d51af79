//! The shared state of a client's two tasks, its handles and its streams: a [`Delivery`] behind a lock, and the callers
//! and streams that wait.
//!
//! In: the session's outputs, handlers, waiting callers. Out: handler calls and outcomes, in the session's order.
//! Deliberately absent: that order and the pausing of reads; [`Delivery`] decides both.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::{Notify, oneshot};

use crate::error::CallError;
use crate::session::{
    CallId, ConnectionState, Delivered, Delivery, Event, EventKind, Input, Output, Picture, Reader,
    Reply,
};

/// The caller that waits for the outcome of a call.
pub(super) type Waiter = oneshot::Sender<Result<Reply, CallError>>;

type Handler = Arc<dyn Fn(&Event) + Send + Sync>;

/// Identifies one handler, for [`super::Client::off`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(u64);

struct Shared {
    delivery: Delivery,
    waiters: BTreeMap<CallId, Waiter>,
    /// Wakers of the streams that have no event to take, by the number of their reader.
    idle: BTreeMap<u64, Waker>,
    /// The session has ended; it makes no more outputs.
    stopped: bool,
    /// Everything was delivered.
    ended: bool,
}

#[derive(Default)]
struct Listeners {
    last: u64,
    by_id: BTreeMap<ListenerId, (EventKind, Handler)>,
}

/// Shared by the handles, the streams and the two tasks of one client. No lock is held while code of the app runs.
pub(super) struct Hub {
    shared: Mutex<Shared>,
    listeners: Mutex<Listeners>,
    /// Signals that there is something to deliver.
    news: Notify,
    /// Signals that an entry was taken.
    room: Notify,
}

/// Wakes all streams that wait for an event.
fn wake(mut shared: MutexGuard<'_, Shared>) {
    let idle = std::mem::take(&mut shared.idle);
    drop(shared);
    idle.into_values().for_each(Waker::wake);
}

impl Hub {
    pub(super) fn new(capacity: usize) -> Self {
        let shared = Shared {
            delivery: Delivery::new(capacity),
            waiters: BTreeMap::new(),
            idle: BTreeMap::new(),
            stopped: false,
            ended: false,
        };
        Hub {
            shared: Mutex::new(shared),
            listeners: Mutex::default(),
            news: Notify::new(),
            room: Notify::new(),
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // No code panics while it holds the lock.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn await_call(&self, call: CallId, waiter: Waiter) {
        self.shared().waiters.insert(call, waiter);
    }

    /// Queues an output for the app; returns an output for the host.
    pub(super) fn push(&self, output: Output) -> Option<Output> {
        let rest = self.shared().delivery.push(output);
        if rest.is_none() {
            self.news.notify_one();
        }
        rest
    }

    /// The input for the session when the app fell behind or caught up.
    pub(super) fn reading(&self) -> Option<Input<'static>> {
        self.shared().delivery.reading()
    }

    /// Waits until an entry was taken. A signal given before the wait is not lost.
    pub(super) async fn room(&self) {
        self.room.notified().await;
    }

    /// Ends the delivery after everything that the session has output so far.
    pub(super) fn stop(&self) {
        self.shared().stopped = true;
        self.news.notify_one();
    }

    pub(super) fn state(&self) -> ConnectionState {
        self.shared().delivery.state()
    }

    /// Passes `see` the picture as of the event that is being delivered.
    pub(super) fn with_picture<T>(&self, see: impl FnOnce(Option<&Picture>) -> T) -> T {
        see(self.shared().delivery.picture())
    }

    pub(super) fn on(&self, kind: EventKind, handler: Handler) -> ListenerId {
        let mut listeners = self.listeners();
        listeners.last += 1;
        let id = ListenerId(listeners.last);
        listeners.by_id.insert(id, (kind, handler));
        id
    }

    pub(super) fn off(&self, id: ListenerId) -> bool {
        // Dropped after the lock is released: a handler may own a client handle.
        let removed = self.listeners().by_id.remove(&id);
        removed.is_some()
    }

    pub(super) fn attach(&self) -> Reader {
        self.shared().delivery.attach()
    }

    pub(super) fn detach(&self, reader: &Reader) {
        let mut shared = self.shared();
        shared.delivery.detach(reader);
        let waker = shared.idle.remove(&reader.number());
        drop(shared);
        drop(waker);
        self.room.notify_one();
    }

    pub(super) fn backlog(&self, reader: &Reader) -> usize {
        self.shared().delivery.backlog(reader)
    }

    /// The next event of a stream; `None` after the last one.
    pub(super) fn poll_read(&self, reader: &mut Reader, cx: &Context<'_>) -> Poll<Option<Event>> {
        let mut shared = self.shared();
        let event = shared.delivery.read(reader);
        let result = match event {
            Some(event) => Poll::Ready(Some(event)),
            None if shared.ended => Poll::Ready(None),
            None => {
                shared.idle.insert(reader.number(), cx.waker().clone());
                Poll::Pending
            }
        };
        drop(shared);
        // Also if the reader took only picture changes.
        self.room.notify_one();
        result
    }

    /// Delivers one item. Returns whether there was one.
    fn deliver(&self) -> bool {
        let mut shared = self.shared();
        let Some(next) = shared.delivery.next() else { return false };
        match next {
            Delivered::Settled { call, outcome } => {
                let waiter = shared.waiters.remove(&call);
                drop(shared);
                if let Some(waiter) = waiter {
                    // The caller may have dropped its future.
                    drop(waiter.send(outcome));
                }
            }
            Delivered::Picture(_) => wake(shared),
            Delivered::Event(event) => {
                wake(shared);
                self.call_handlers(&event);
            }
        }
        self.room.notify_one();
        true
    }

    fn call_handlers(&self, event: &Event) {
        let kind = event.kind();
        let wanted = |on: &EventKind| *on == kind || *on == EventKind::All;
        let handlers: Vec<Handler> = {
            let listeners = self.listeners();
            let by_id = listeners.by_id.values();
            by_id.filter(|(on, _)| wanted(on)).map(|(_, handler)| Arc::clone(handler)).collect()
        };
        for handler in handlers {
            // A handler that panics must not stop the events and settlements of others.
            if catch_unwind(AssertUnwindSafe(|| handler(event))).is_err() {
                tracing::error!(event = kind.name(), "an event handler panicked");
            }
        }
    }

    /// Delivers until the session has ended, then ends the streams.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            let stopped = self.shared().stopped;
            while self.deliver() {
                tokio::task::consume_budget().await;
            }
            if stopped {
                break;
            }
            self.news.notified().await;
        }
        let mut shared = self.shared();
        shared.ended = true;
        let waiters = std::mem::take(&mut shared.waiters);
        wake(shared);
        drop(waiters);
        // Handlers may own handles that keep parts of this client alive.
        let listeners = std::mem::take(&mut *self.listeners());
        drop(listeners);
    }
}

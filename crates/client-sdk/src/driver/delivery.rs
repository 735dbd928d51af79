//! From the session's ordered outputs to the app: handlers, streams, waiting calls.
//!
//! Comes in: items in the session's order. Goes out: handler calls and settlements, in that order.
//! Deliberately absent: waiting. The queue has no hard bound; the event loop stops reading the socket
//! while it is full, so it outgrows its capacity by one frame at most, and a call is always settled.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot};

use super::events::{Buffer, EventStream, ListenerId, StreamItem};
use crate::error::CallError;
use crate::session::{Change, ConnectionState, Event, EventKind, Picture, Reply};

/// Who waits for a call.
pub(super) type Waiter = oneshot::Sender<Result<Reply, CallError>>;

/// One thing to deliver.
pub(super) enum Item {
    Picture(Arc<Change>),
    Event(Event),
    Settled(Waiter, Result<Reply, CallError>),
}

type Handler = Arc<dyn Fn(&Event) + Send + Sync>;

/// What the app sees right now.
#[derive(Default)]
struct Shown {
    picture: Option<Picture>,
    state: ConnectionState,
    streams: Vec<Arc<Buffer>>,
}

#[derive(Default)]
struct Listeners {
    last: u64,
    by_id: BTreeMap<ListenerId, (EventKind, Handler)>,
}

/// Shared by the handles, the streams and the two tasks of one client. No lock is held while code of
/// the app runs.
pub(super) struct Hub {
    capacity: usize,
    /// Items that the delivery task has not finished.
    queued: AtomicUsize,
    room: Notify,
    shown: Mutex<Shown>,
    listeners: Mutex<Listeners>,
}

impl Hub {
    pub(super) fn new(capacity: usize) -> Self {
        Hub {
            capacity: capacity.max(1),
            queued: AtomicUsize::new(0),
            room: Notify::new(),
            shown: Mutex::default(),
            listeners: Mutex::default(),
        }
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        // Nothing panics while it holds the lock.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the app is so far behind that the socket should not be read.
    pub(super) fn is_full(&self) -> bool {
        let behind = self.shown().streams.iter().map(|stream| stream.len()).max().unwrap_or(0);
        self.queued.load(Ordering::Acquire) + behind >= self.capacity
    }

    /// Waits until something was taken. A signal given before the wait is not lost.
    pub(super) async fn room(&self) {
        self.room.notified().await;
    }

    pub(super) fn made_room(&self) {
        self.room.notify_one();
    }

    pub(super) fn state(&self) -> ConnectionState {
        self.shown().state
    }

    /// Looks at the picture as of the event that is being delivered.
    pub(super) fn look<T>(&self, see: impl FnOnce(Option<&Picture>) -> T) -> T {
        see(self.shown().picture.as_ref())
    }

    pub(super) fn on(&self, kind: EventKind, handler: Handler) -> ListenerId {
        let mut listeners = self.listeners();
        listeners.last += 1;
        let id = ListenerId(listeners.last);
        listeners.by_id.insert(id, (kind, handler));
        id
    }

    pub(super) fn off(&self, id: ListenerId) -> bool {
        // Dropped after the lock: a handler may own a client handle.
        let removed = self.listeners().by_id.remove(&id);
        removed.is_some()
    }

    pub(super) fn attach(self: &Arc<Self>) -> EventStream {
        let buffer = Arc::new(Buffer::default());
        let mut shown = self.shown();
        shown.streams.push(Arc::clone(&buffer));
        EventStream::new(Arc::clone(self), buffer, shown.picture.clone())
    }

    pub(super) fn detach(&self, buffer: &Arc<Buffer>) {
        self.shown().streams.retain(|other| !Arc::ptr_eq(other, buffer));
        self.made_room();
    }

    /// Puts an item into the delivery task's queue.
    pub(super) fn enqueue(&self, queue: &mpsc::UnboundedSender<Item>, item: Item) {
        self.queued.fetch_add(1, Ordering::AcqRel);
        // The delivery task lives as long as the sender.
        let _ = queue.send(item);
    }

    fn deliver(&self, item: Item) {
        match item {
            Item::Picture(change) => {
                let mut shown = self.shown();
                change.apply(&mut shown.picture);
                for stream in &shown.streams {
                    stream.push(StreamItem::Picture(Arc::clone(&change)));
                }
            }
            Item::Event(event) => {
                let mut shown = self.shown();
                if let Event::ConnectionStateChange { state, .. } = event {
                    shown.state = state;
                }
                for stream in &shown.streams {
                    stream.push(StreamItem::Event(event.clone()));
                }
                drop(shown);
                self.call_handlers(&event);
            }
            // A caller that went away does not want to know.
            Item::Settled(waiter, outcome) => drop(waiter.send(outcome)),
        }
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
            // One bad handler must not keep events and settlements from everybody else.
            if catch_unwind(AssertUnwindSafe(|| handler(event))).is_err() {
                tracing::error!(event = kind.name(), "an event handler panicked");
            }
        }
    }
}

/// Delivers until the event loop is gone, then ends the streams.
pub(super) async fn run(hub: Arc<Hub>, mut queue: mpsc::UnboundedReceiver<Item>) {
    while let Some(item) = queue.recv().await {
        hub.deliver(item);
        hub.queued.fetch_sub(1, Ordering::AcqRel);
        hub.made_room();
    }
    // Handlers may own what keeps this client's parts alive.
    let listeners = std::mem::take(&mut *hub.listeners());
    drop(listeners);
    for stream in &hub.shown().streams {
        stream.end();
    }
}

//! The app's side of the event queue: streams and listener ids.
//!
//! Comes in: what the delivery task hands over. Goes out: events, one at a time and in order.
//! Deliberately absent: dropping. A full stream makes the event loop stop reading its socket (rule
//! A17).

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::delivery::Hub;
use crate::session::{Change, Event, Picture};

/// Names one handler, for [`super::Client::off`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub(super) u64);

/// What a stream holds.
#[derive(Clone)]
pub(super) enum StreamItem {
    Picture(Arc<Change>),
    Event(Event),
}

#[derive(Default)]
struct Queue {
    items: VecDeque<StreamItem>,
    waker: Option<Waker>,
    ended: bool,
}

/// The queue between the delivery task and one stream.
#[derive(Default)]
pub(super) struct Buffer(Mutex<Queue>);

impl Buffer {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().items.len()
    }

    pub(super) fn push(&self, item: StreamItem) {
        let mut queue = self.lock();
        queue.items.push_back(item);
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn end(&self) {
        let mut queue = self.lock();
        queue.ended = true;
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Every event of a client from the moment [`super::Client::events`] was called.
///
/// It holds at most `event_capacity` entries (1024 unless told otherwise; changes of the picture that
/// the app does not hear count too) plus what one frame brings. It never drops: when it is full, the
/// client stops reading its socket until the app took some, and a call that is made meanwhile may end
/// with `OutcomeUnknown`. Take events or drop the stream. It ends when the last [`super::Client`] handle
/// is gone.
pub struct EventStream {
    hub: Arc<Hub>,
    buffer: Arc<Buffer>,
    picture: Option<Picture>,
}

impl EventStream {
    pub(super) fn new(hub: Arc<Hub>, buffer: Arc<Buffer>, picture: Option<Picture>) -> Self {
        EventStream { hub, buffer, picture }
    }

    /// The next event; `None` after the last client handle was dropped. May be cancelled without loss.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    /// The channel as of the event that was taken last, however far ahead the client is; `None` while
    /// in no channel.
    #[must_use]
    pub fn picture(&self) -> Option<&Picture> {
        self.picture.as_ref()
    }

    /// Entries that wait to be taken.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.buffer.len()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            let mut queue = self.buffer.lock();
            let Some(item) = queue.items.pop_front() else {
                if queue.ended {
                    return Poll::Ready(None);
                }
                queue.waker = Some(cx.waker().clone());
                return Poll::Pending;
            };
            drop(queue);
            self.hub.made_room();
            match item {
                StreamItem::Picture(change) => change.apply(&mut self.picture),
                StreamItem::Event(event) => return Poll::Ready(Some(event)),
            }
        }
    }
}

impl futures_util::Stream for EventStream {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(cx)
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.hub.detach(&self.buffer);
    }
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream").field("backlog", &self.backlog()).finish_non_exhaustive()
    }
}

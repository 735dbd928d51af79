//! The app's side of the event queue. In: delivered entries. Out: events, one at a time and in order. Deliberately
//! absent: dropping; a full stream makes the event loop stop reading its socket.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::hub::Hub;
use crate::session::{Event, Picture, Reader};

/// All events of a client from the moment [`super::Client::events`] was called.
///
/// The stream holds at most `event_capacity` entries (default 1024; picture changes without an event count, too), plus
/// those that one frame causes. It drops nothing: when it is full, the client stops reading its socket until the app
/// has taken some, and a call that is made meanwhile may end with `OutcomeUnknown`. Take events regularly, or drop the
/// stream. It ends when the last [`super::Client`] handle is dropped.
pub struct EventStream {
    hub: Arc<Hub>,
    reader: Reader,
}

impl EventStream {
    pub(super) fn new(hub: Arc<Hub>) -> Self {
        let reader = hub.attach();
        EventStream { hub, reader }
    }

    /// The next event; `None` after the last client handle was dropped. Cancelling the future loses no event.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    /// The channel as of the event that was taken last, even if the client is further ahead; `None` while in no
    /// channel.
    #[must_use]
    pub fn picture(&self) -> Option<&Picture> {
        self.reader.picture()
    }

    /// Number of entries that wait to be taken.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.hub.backlog(&self.reader)
    }

    fn poll_event(&mut self, cx: &Context<'_>) -> Poll<Option<Event>> {
        self.hub.poll_read(&mut self.reader, cx)
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
        self.hub.detach(&self.reader);
    }
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream").field("backlog", &self.backlog()).finish_non_exhaustive()
    }
}

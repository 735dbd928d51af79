//! Delivery of outputs to the app at its own pace. In: the outputs of a session, in order. Out: events and settlements
//! one at a time, the picture as of each, and whether the host should read the socket. Deliberately absent: handlers,
//! wake-ups and locks, which the host has.
//!
//! ```text
//!   poll_output ──> push ──> log ──> next     handlers and settlements, with the picture as of them
//!                                └─> read     each reader for itself, never ahead of `next`
//! ```
//!
//! A host that runs the app's code before it polls the next output does not need this module: there the session's own
//! picture is always correct.

use alloc::sync::Arc;

use super::change::Change;
use super::event::Event;
use super::input::{CallId, Input};
use super::output::{Output, Reply};
use super::picture::Picture;
use super::queue::Queue;
use super::state::ConnectionState;
use crate::error::CallError;
use crate::prelude::*;
use lianmai_protocol::Map;

/// The queue between a session and an app that may be slower.
///
/// Nothing is dropped. The queue has no hard limit: while it is full the host does not read its socket, so it exceeds
/// its capacity only by what one input causes. Calls are settled all the same.
pub struct Delivery {
    capacity: usize,
    /// The entries that the app or a reader has not taken yet.
    log: Queue<Entry>,
    /// Number of the first entry of the log.
    first: u64,
    /// Number of the entry that is delivered next.
    at: u64,
    /// Settlements, each with the number of the entry before which it is delivered.
    settlements: Vec<(u64, CallId, Result<Reply, CallError>)>,
    picture: Option<Picture>,
    state: ConnectionState,
    /// The number of the entry that each reader takes next.
    readers: Map<u64, u64>,
    last_reader: u64,
    paused: bool,
}

enum Entry {
    Picture(Arc<Change>),
    Event(Arc<Event>),
}

/// One item for the app.
#[derive(Clone, Debug)]
pub enum Delivered {
    /// The picture changed; the app receives no event for it.
    Picture(Arc<Change>),
    /// An event.
    Event(Arc<Event>),
    /// A call has its outcome.
    Settled {
        /// The call.
        call: CallId,
        /// The outcome.
        outcome: Result<Reply, CallError>,
    },
}

/// A reader that takes events at its own pace, with the picture as of the last event that it took.
pub struct Reader {
    id: u64,
    picture: Option<Picture>,
}

impl Reader {
    /// The number of the reader, unique within its queue.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.id
    }

    /// The channel as of the event that was taken last; `None` while in no channel.
    #[must_use]
    pub fn picture(&self) -> Option<&Picture> {
        self.picture.as_ref()
    }
}

impl Delivery {
    /// Creates a queue that is full with `capacity` entries, at least one.
    #[must_use]
    pub fn new(capacity: usize) -> Delivery {
        Delivery {
            capacity: capacity.max(1),
            log: Queue::new(),
            first: 0,
            at: 0,
            settlements: Vec::new(),
            picture: None,
            state: ConnectionState::Disconnected,
            readers: Map::new(),
            last_reader: 0,
            paused: false,
        }
    }

    /// Queues an output for the app; returns an output for the host.
    pub fn push(&mut self, output: Output) -> Option<Output> {
        match output {
            Output::Picture(change) => self.log.push_back(Entry::Picture(change)),
            Output::Event(event) => self.log.push_back(Entry::Event(Arc::new(event))),
            Output::Settled { call, outcome } => {
                self.settlements.push((self.end(), call, outcome));
            }
            other => return Some(other),
        }
        None
    }

    /// The next item for the app, if there is one. Afterwards the picture is as of that item.
    #[expect(clippy::should_implement_trait, reason = "more may come after `None`")]
    pub fn next(&mut self) -> Option<Delivered> {
        if self.settlements.first().is_some_and(|(at, ..)| *at == self.at) {
            let (_, call, outcome) = self.settlements.remove(0);
            return Some(Delivered::Settled { call, outcome });
        }
        let delivered = match self.entry(self.at)? {
            Entry::Picture(change) => Delivered::Picture(Arc::clone(change)),
            Entry::Event(event) => Delivered::Event(Arc::clone(event)),
        };
        match &delivered {
            Delivered::Picture(change) => change.apply(&mut self.picture),
            Delivered::Event(event) => {
                if let Event::ConnectionStateChange { state, .. } = **event {
                    self.state = state;
                }
            }
            Delivered::Settled { .. } => {}
        }
        self.at += 1;
        self.trim();
        Some(delivered)
    }

    /// The channel as of what was delivered last; `None` while in no channel.
    #[must_use]
    pub fn picture(&self) -> Option<&Picture> {
        self.picture.as_ref()
    }

    /// The state of the connection as of what was delivered last.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        self.state
    }

    /// Creates a reader for everything that is delivered from now on.
    pub fn attach(&mut self) -> Reader {
        self.last_reader += 1;
        self.readers.insert(self.last_reader, self.at);
        Reader { id: self.last_reader, picture: self.picture.clone() }
    }

    /// The next event for a reader, among those that were delivered already.
    pub fn read(&mut self, reader: &mut Reader) -> Option<Event> {
        loop {
            let at = *self.readers.get(&reader.id)?;
            if at == self.at {
                return None;
            }
            let event = match self.entry(at)? {
                Entry::Picture(change) => {
                    change.apply(&mut reader.picture);
                    None
                }
                Entry::Event(event) => Some(Event::clone(event)),
            };
            self.readers.insert(reader.id, at + 1);
            self.trim();
            if event.is_some() {
                return event;
            }
        }
    }

    /// Number of entries that a reader has not taken: events, and picture changes without an event.
    #[must_use]
    pub fn backlog(&self, reader: &Reader) -> usize {
        let at = self.readers.get(&reader.id).map_or(self.at, |at| *at);
        usize::try_from(self.at - at).unwrap_or(usize::MAX)
    }

    /// Removes a reader, so that no entry is kept for it.
    pub fn detach(&mut self, reader: &Reader) {
        self.readers.remove(&reader.id);
        self.trim();
    }

    /// Whether the host should stop reading its socket, because the app or a reader is too far behind.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.log.len() + self.settlements.len() >= self.capacity
    }

    /// The input for the session when reading has to pause or resume; `None` if nothing changed.
    pub fn reading(&mut self) -> Option<Input<'static>> {
        let full = self.is_full();
        let changed = core::mem::replace(&mut self.paused, full) != full;
        changed.then_some(if full { Input::ReadingPaused } else { Input::ReadingResumed })
    }

    fn end(&self) -> u64 {
        self.first + self.log.len() as u64
    }

    fn entry(&self, at: u64) -> Option<&Entry> {
        self.log.get(usize::try_from(at - self.first).ok()?)
    }

    /// Drops the entries that the app and all readers have taken.
    fn trim(&mut self) {
        let least = self.readers.values().copied().fold(self.at, u64::min);
        while self.first < least && self.log.pop_front().is_some() {
            self.first += 1;
        }
    }
}

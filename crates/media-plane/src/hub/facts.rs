//! Liveness facts for the embedding server.
//!
//! In: states of streams. Out: [`StreamFact`]s in a bounded sink, in order for each stream. Absent: blocking. A fact
//! that finds no room is kept until the next report or tick; of several facts of one stream only the newest is kept.

use std::collections::HashMap;
use std::sync::Mutex;

use tokio::sync::mpsc;

use super::lock;
use super::stats::Counters;
use crate::auth::StreamName;

/// The state of a stream's publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FactState {
    /// A publisher was accepted. This says nothing about media.
    Started,
    /// Audio or video comes in. Repeated while it does, see [`crate::RelayConfig::heartbeat`].
    Flowing,
    /// A publisher is connected, but no audio or video comes in.
    Stalled,
    /// The publisher is gone.
    Ended,
}

/// A fact about a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamFact {
    /// The stream.
    pub stream: StreamName,
    /// The state of its publisher.
    pub state: FactState,
}

#[derive(Debug)]
pub(super) struct FactSink {
    sink: Option<mpsc::Sender<StreamFact>>,
    owed: Mutex<HashMap<StreamName, FactState>>,
}

impl FactSink {
    pub(super) fn new(sink: Option<mpsc::Sender<StreamFact>>) -> Self {
        Self { sink, owed: Mutex::default() }
    }

    /// Reports a fact. The caller holds the lock of the stream, which keeps its facts in order.
    pub(super) fn report(&self, counters: &Counters, stream: &StreamName, state: FactState) {
        let Some(sink) = &self.sink else { return };
        let mut owed = lock(&self.owed);
        match sink.try_send(StreamFact { stream: stream.clone(), state }) {
            Ok(()) => {
                owed.remove(stream);
            }
            Err(mpsc::error::TrySendError::Full(_)) => {
                counters.fact_delayed();
                owed.insert(stream.clone(), state);
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {}
        }
    }

    pub(super) fn flush(&self) {
        let Some(sink) = &self.sink else { return };
        let mut owed = lock(&self.owed);
        owed.retain(|stream, state| {
            let sent = sink.try_send(StreamFact { stream: stream.clone(), state: *state });
            matches!(sent, Err(mpsc::error::TrySendError::Full(_)))
        });
        if owed.is_empty() {
            owed.shrink_to_fit();
        }
    }
}

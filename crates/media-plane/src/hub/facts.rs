//! Liveness facts for the embedding server.
//!
//! In: states of streams. Out: [`StreamFact`]s in a bounded sink, in order per stream. Absent:
//! blocking; what finds no room is owed, newest state only, and paid at the next report or tick.

use std::collections::HashMap;
use std::sync::Mutex;

use tokio::sync::mpsc;

use super::lock;
use super::stats::Counters;
use crate::auth::StreamName;

/// What is known of a stream's publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FactState {
    /// A publisher was accepted. Says nothing about media.
    Started,
    /// Payload comes in; repeated while it does.
    Flowing,
    /// A publisher is connected, but no payload comes in.
    Stalled,
    /// The publisher is gone.
    Ended,
}

/// A fact about a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamFact {
    /// The stream.
    pub stream: StreamName,
    /// Its state.
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

    /// Called under the lock of the stream, which keeps its facts in order.
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

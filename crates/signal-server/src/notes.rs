//! Passes the notes of the engines to their readers. Comes in: notes of all shards. Goes out: the same notes to each
//! reader, those of one shard in order. Deliberately absent: what a reader does.
//!
//! **Shards never wait.** A shard sends a note and continues. The newest [`CAPACITY`] notes are kept; a reader that is
//! further behind misses the older ones, which is counted and logged. No reader delays another.

use std::sync::Arc;
use std::time::Duration;

use lianmai_signal_engine::Note;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::Instant;
use tracing::warn;

/// Number of notes that are kept for slow readers. All clients of a large server may come back at once, with a few
/// notes each.
const CAPACITY: usize = 16 * 1024;
/// Minimum time between warnings of a reader that misses notes.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// The sender of notes. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Notes(broadcast::Sender<Arc<Note>>);

impl Notes {
    pub(crate) fn new() -> Self {
        Notes(broadcast::Sender::new(CAPACITY))
    }

    /// Sends a note to all readers.
    pub(crate) fn note(&self, note: Note) {
        // An error: there is no reader.
        let _ = self.0.send(Arc::new(note));
    }

    /// A reader of all notes from now on.
    pub(crate) fn reader(&self, name: &'static str, missed: Counter) -> NoteReader {
        NoteReader { name, notes: self.0.subscribe(), missed, last_warning: None }
    }
}

/// One reader of the notes.
#[derive(Debug)]
pub(crate) struct NoteReader {
    name: &'static str,
    notes: broadcast::Receiver<Arc<Note>>,
    missed: Counter,
    last_warning: Option<Instant>,
}

impl NoteReader {
    /// The next note; `None` when all are read and all senders are dropped. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Arc<Note>> {
        loop {
            match self.notes.recv().await {
                Ok(note) => return Some(note),
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(count)) => {
                    self.missed.inc_by(count);
                    if self.take_warning(Instant::now()) {
                        let (reader, missed) = (self.name, self.missed.get());
                        warn!(reader, missed, "a reader of notes is too slow and misses some");
                    }
                }
            }
        }
    }

    /// Takes the next warning about missed notes, if it is due.
    fn take_warning(&mut self, now: Instant) -> bool {
        let due = self.last_warning.is_none_or(|last| now >= last + WARNING_INTERVAL);
        if due {
            self.last_warning = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: how notes get to their readers.

    use lianmai_protocol::CloseCode;
    use lianmai_signal_engine::ConnId;

    use super::*;

    fn note(number: u64) -> Note {
        Note::Closing { conn: ConnId(number), code: CloseCode::NORMAL }
    }

    /// Reads `count` notes.
    async fn read(reader: &mut NoteReader, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        for _ in 0..count {
            let note = reader.next().await.expect("a sender exists");
            let Note::Closing { conn, .. } = *note else { panic!("{note:?}") };
            numbers.push(conn.0);
        }
        numbers
    }

    #[tokio::test]
    async fn every_reader_gets_every_note_in_order() {
        let notes = Notes::new();
        let mut readers =
            [notes.reader("a", Counter::default()), notes.reader("b", Counter::default())];
        let other = notes.clone();
        for number in 0..10 {
            if number % 2 == 0 { &notes } else { &other }.note(note(number));
        }
        drop((notes, other));
        for reader in &mut readers {
            assert_eq!(read(reader, 10).await, Vec::from_iter(0..10));
            assert!(reader.next().await.is_none(), "every sender is dropped");
            assert_eq!(reader.missed.get(), 0);
        }
    }

    #[tokio::test]
    async fn a_slow_reader_delays_nobody_and_its_lost_notes_are_counted() {
        const MORE: u64 = 100;
        let notes = Notes::new();
        let (mut slow, mut quick) =
            (notes.reader("slow", Counter::default()), notes.reader("quick", Counter::default()));
        let all = CAPACITY as u64 + MORE;
        for number in 0..all {
            // Returns, although the slow reader reads nothing.
            notes.note(note(number));
            assert_eq!(read(&mut quick, 1).await, [number]);
        }
        assert_eq!(read(&mut slow, CAPACITY).await, Vec::from_iter(MORE..all));
        assert_eq!((slow.missed.get(), quick.missed.get()), (MORE, 0));
    }

    #[tokio::test]
    async fn lost_notes_are_logged_at_a_limited_rate() {
        let mut reader = Notes::new().reader("slow", Counter::default());
        let start = Instant::now();
        assert!(
            reader.take_warning(start)
                && !reader.take_warning(start)
                && !reader.take_warning(start + WARNING_INTERVAL / 2)
        );
        assert!(
            reader.take_warning(start + WARNING_INTERVAL)
                && !reader.take_warning(start + WARNING_INTERVAL)
        );
    }
}

//! What the engines note, on its way to whoever reads it. Comes in: notes of every shard. Goes out: the same notes to
//! each reader, those of one shard in the order in which they happened. Deliberately absent: what a reader does.
//!
//! **Never in the way.** A shard hands a note over and goes on. The newest [`CAPACITY`] notes are kept; a reader that is
//! further behind misses the older ones, which is counted and logged. No reader delays another.

use std::sync::Arc;
use std::time::Duration;

use lianmai_signal_engine::Note;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::Instant;
use tracing::warn;

/// Notes that are kept for slow readers. Everybody of a large server may come back at once, with some notes each.
const CAPACITY: usize = 16 * 1024;
/// A reader that misses notes says so this often.
const WORD: Duration = Duration::from_secs(10);

/// Where notes are handed over. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Notes(broadcast::Sender<Arc<Note>>);

impl Notes {
    pub(crate) fn new() -> Self {
        Notes(broadcast::Sender::new(CAPACITY))
    }

    /// Hands a note to every reader.
    pub(crate) fn note(&self, note: Note) {
        // An error: nobody reads.
        let _ = self.0.send(Arc::new(note));
    }

    /// A reader of what is noted from now on.
    pub(crate) fn reader(&self, name: &'static str, missed: Counter) -> NoteReader {
        NoteReader { name, notes: self.0.subscribe(), missed, last_word: None }
    }
}

/// One reader of the notes.
#[derive(Debug)]
pub(crate) struct NoteReader {
    name: &'static str,
    notes: broadcast::Receiver<Arc<Note>>,
    missed: Counter,
    last_word: Option<Instant>,
}

impl NoteReader {
    /// The next note; `None` when all are read and nobody is left who notes. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Arc<Note>> {
        loop {
            match self.notes.recv().await {
                Ok(note) => return Some(note),
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(count)) => {
                    self.missed.inc_by(count);
                    if self.has_word(Instant::now()) {
                        let (reader, missed) = (self.name, self.missed.get());
                        warn!(reader, missed, "a reader of notes is too slow and misses some");
                    }
                }
            }
        }
    }

    /// Whether it is time to say again that notes are missed.
    fn has_word(&mut self, now: Instant) -> bool {
        let due = self.last_word.is_none_or(|last| now >= last + WORD);
        if due {
            self.last_word = Some(now);
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

    /// Reads what is there.
    async fn read(reader: &mut NoteReader, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        for _ in 0..count {
            let note = reader.next().await.expect("somebody still notes");
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
            assert!(reader.next().await.is_none(), "nobody is left who notes");
            assert_eq!(reader.missed.get(), 0);
        }
    }

    #[tokio::test]
    async fn a_slow_reader_delays_nobody_and_its_loss_is_counted() {
        const MORE: u64 = 100;
        let notes = Notes::new();
        let (mut slow, mut quick) =
            (notes.reader("slow", Counter::default()), notes.reader("quick", Counter::default()));
        let all = CAPACITY as u64 + MORE;
        for number in 0..all {
            // Returns, though the slow one reads nothing.
            notes.note(note(number));
            assert_eq!(read(&mut quick, 1).await, [number]);
        }
        assert_eq!(read(&mut slow, CAPACITY).await, Vec::from_iter(MORE..all));
        assert_eq!((slow.missed.get(), quick.missed.get()), (MORE, 0));
    }

    #[tokio::test]
    async fn a_loss_is_logged_once_in_a_while() {
        let mut reader = Notes::new().reader("slow", Counter::default());
        let start = Instant::now();
        assert!(
            reader.has_word(start) && !reader.has_word(start) && !reader.has_word(start + WORD / 2)
        );
        assert!(reader.has_word(start + WORD) && !reader.has_word(start + WORD));
    }
}

//! Proves no rule of the protocol: numbers for operators.

use lianmai_signal_engine::ConnId;

use super::*;
use crate::notes::Notes;

#[tokio::test]
async fn what_was_noted_before_is_counted_when_it_is_asked_for() {
    let notes = Notes::new();
    let (metrics, questions) = Metrics::new();
    let reader = notes.reader("metrics", metrics.missed_by("metrics"));
    let counting = tokio::spawn(count(metrics.clone(), reader, questions));
    for number in 1..=100 {
        notes.note(Note::Closing { conn: ConnId(number), code: CloseCode::NORMAL });
        metrics.caught_up().await;
        let reason = CloseCode::NORMAL.row().unwrap().name.to_owned();
        assert_eq!(metrics.closes.get_or_create(&[("reason", reason)]).get(), number);
    }
    drop(notes);
    counting.await.unwrap();
    // Nobody counts any more, and nobody waits for that.
    metrics.caught_up().await;
}

//! The numbered events of one incarnation of a channel: those that wait to be sent, and sent ones that a returning
//! member may have missed. An event is encoded once; a frame of several is built once per distinct cursor among its
//! receivers, which is once unless a member joined or was answered in between (ORD-1, ORD-4).
//!
//! ```text
//!            floor                    sent          head
//!   forgotten  | kept for resumes        | waiting    |
//! ```

use std::collections::VecDeque;

use bytes::Bytes;
use lianmai_protocol::codec;
use lianmai_protocol::message::{ChannelEvent, Position};
use lianmai_protocol::{Epoch, MonoTime};
use smallvec::SmallVec;

use crate::record::{LogRecord, MAX_NUMBER};

/// Longest frame that several events are put into.
const MAX_FRAME_BYTES: usize = 256 * 1024;
/// Bytes that an event costs besides its text.
pub(super) const EVENT_COST: usize = 64;
/// Most bytes that a log keeps of what was sent; fewer for a small channel (RES-7).
const MAX_LOG_BYTES: usize = 256 * 1024;
const LEAST_LOG_BYTES: usize = 16 * 1024;
const LOG_BYTES_PER_MEMBER: usize = 512;

#[derive(Debug)]
struct Logged {
    at: MonoTime,
    text: Bytes,
}

#[derive(Debug)]
pub(crate) struct EventLog {
    epoch: Epoch,
    head: u64,
    /// Events `head - events.len() + 1 ..= head`.
    events: VecDeque<Logged>,
    bytes: usize,
    /// Events up to here were sent to every member that has a connection.
    sent: u64,
    /// When events were sent last; the next may be sent an interval later.
    flushed_at: Option<MonoTime>,
    pub(crate) flush_armed: bool,
}

impl EventLog {
    pub(crate) fn new(epoch: Epoch) -> Self {
        EventLog {
            epoch,
            head: 0,
            events: VecDeque::new(),
            bytes: 0,
            sent: 0,
            flushed_at: None,
            flush_armed: false,
        }
    }

    /// The log that an earlier process handed over; `None` if the record is damaged.
    pub(crate) fn restored(record: &LogRecord, now: MonoTime) -> Option<Self> {
        if record.head > MAX_NUMBER || record.events.len() as u64 > record.head {
            return None;
        }
        let mut log = EventLog { head: record.head, sent: record.head, ..Self::new(record.epoch) };
        for (age_ms, text) in &record.events {
            log.bytes += text.len() + EVENT_COST;
            log.events.push_back(Logged { at: now - *age_ms, text: Bytes::from(text.clone()) });
        }
        Some(log)
    }

    pub(crate) fn record(&self, now: MonoTime) -> LogRecord {
        let text = |event: &Logged| String::from_utf8_lossy(&event.text).into_owned();
        LogRecord {
            epoch: self.epoch,
            head: self.head,
            events: self.events.iter().map(|e| (now.since(e.at), text(e))).collect(),
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Bytes of the kept events.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The last event that is not kept any more.
    pub(crate) fn floor(&self) -> u64 {
        self.head - self.events.len() as u64
    }

    /// Adds an event. Returns the bytes that it takes.
    pub(crate) fn append(&mut self, event: &ChannelEvent, now: MonoTime) -> usize {
        self.head += 1;
        let position = Position { epoch: self.epoch, seq: self.head };
        // Kept for minutes, so the spare capacity of the buffer is given back.
        let text =
            Bytes::from(codec::encode_event(position, event).into_boxed_str().into_boxed_bytes());
        let bytes = text.len() + EVENT_COST;
        self.bytes += bytes;
        self.events.push_back(Logged { at: now, text });
        bytes
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.sent < self.head
    }

    /// When waiting events may be sent.
    pub(crate) fn flush_at(&self, interval_ms: u64) -> MonoTime {
        self.flushed_at.map_or(MonoTime(0), |at| at + interval_ms)
    }

    /// The events after `cursor` that are kept, as frames.
    pub(crate) fn frames_after(&self, cursor: u64) -> SmallVec<[Bytes; 1]> {
        let skip = usize::try_from(cursor.saturating_sub(self.floor())).unwrap_or(usize::MAX);
        let mut rest = self.events.iter().skip(skip).peekable();
        let mut frames = SmallVec::new();
        while let Some(first) = rest.next() {
            let mut bytes = first.text.len();
            let mut batch = vec![&first.text];
            while let Some(next) = rest.next_if(|next| bytes + next.text.len() < MAX_FRAME_BYTES) {
                bytes += next.text.len() + 1;
                batch.push(&next.text);
            }
            frames.push(match batch[..] {
                [only] => only.clone(),
                _ => codec::join_batch(&batch).into(),
            });
        }
        frames
    }

    /// The waiting events were sent.
    pub(crate) fn flushed(&mut self, now: MonoTime) {
        self.sent = self.head;
        self.flushed_at = Some(now);
    }

    /// Forgets events above the budget of a channel with so many members, and those that are older than `max_age_ms`
    /// (RES-7). Returns the bytes that are freed, as all methods that forget.
    pub(crate) fn trim(&mut self, members: usize, max_age_ms: u64, now: MonoTime) -> usize {
        let budget = (LEAST_LOG_BYTES + LOG_BYTES_PER_MEMBER * members).min(MAX_LOG_BYTES);
        self.forget(|log, event| log.bytes > budget || event.at + max_age_ms < now)
    }

    /// Forgets the older half.
    pub(crate) fn halve(&mut self) -> usize {
        let half = self.bytes / 2;
        self.forget(|log, _| log.bytes > half)
    }

    /// Forgets events that were sent, the oldest first, as long as `unwanted`.
    fn forget(&mut self, unwanted: impl Fn(&Self, &Logged) -> bool) -> usize {
        let before = self.bytes;
        while self.floor() < self.sent
            && let Some(oldest) = self.events.front()
            && unwanted(self, oldest)
        {
            self.bytes -= oldest.text.len() + EVENT_COST;
            self.events.pop_front();
        }
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
        before - self.bytes
    }
}

#[cfg(test)]
mod tests {
    use lianmai_protocol::UserId;
    use lianmai_protocol::message::event::ChannelMessage;

    use super::*;

    fn filled(events: u64) -> EventLog {
        let mut log = EventLog::new(Epoch([1; 12]));
        for at in 0..events {
            let message = ChannelMessage { uid: UserId(1), data: "x".repeat(100) };
            log.append(&ChannelEvent::Message(message), MonoTime(at));
        }
        log
    }

    /// Proves RES-7.
    #[test]
    fn res_7_only_what_was_sent_is_forgotten_the_oldest_first() {
        let mut log = filled(1_000);
        log.trim(0, u64::MAX, MonoTime(1_000));
        assert_eq!(log.floor(), 0, "nothing was sent yet");
        log.flushed(MonoTime(1_000));
        log.trim(0, u64::MAX, MonoTime(1_000));
        assert!(log.bytes() <= LEAST_LOG_BYTES && log.bytes() > LEAST_LOG_BYTES - 400);
        let floor = log.floor();
        log.trim(0, 100, MonoTime(1_000));
        assert_eq!(log.floor(), 900.max(floor));
        log.halve();
        assert!(log.floor() > 900 && log.head() == 1_000);
    }

    /// Proves RST-2.
    #[test]
    fn rst_2_a_log_continues_after_a_hand_over() {
        let mut log = filled(10);
        log.flushed(MonoTime(10));
        let other = EventLog::restored(&log.record(MonoTime(10)), MonoTime(500)).unwrap();
        assert_eq!((other.head(), other.floor(), other.bytes()), (10, 0, log.bytes()));
        assert_eq!(other.frames_after(3), log.frames_after(3));
        assert!(!other.has_pending());
    }
}

//! The numbered events of one incarnation of a channel, and which of them wait to be sent. An event is
//! encoded once; a frame of several is built once per distinct cursor among its receivers, which is once
//! unless somebody joined or was answered in between (contract rules B1, B27).

use bytes::Bytes;
use lianmai_protocol::codec;
use lianmai_protocol::message::{ChannelEvent, Position};
use lianmai_protocol::{Epoch, MonoTime};
use smallvec::SmallVec;

/// Longest frame that several events are put into.
const MAX_FRAME_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub(crate) struct EventLog {
    epoch: Epoch,
    head: u64,
    /// Encoded events `head - pending.len() + 1 ..= head`.
    pending: Vec<Bytes>,
    /// When events left last; the next may leave an interval later.
    flushed_at: Option<MonoTime>,
    pub(crate) flush_armed: bool,
}

impl EventLog {
    pub(crate) fn new(epoch: Epoch) -> Self {
        EventLog { epoch, head: 0, pending: Vec::new(), flushed_at: None, flush_armed: false }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    pub(crate) fn append(&mut self, event: &ChannelEvent) {
        self.head += 1;
        let position = Position { epoch: self.epoch, seq: self.head };
        self.pending.push(codec::encode_event(position, event).into());
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// When waiting events may leave.
    pub(crate) fn flush_at(&self, interval_ms: u64) -> MonoTime {
        self.flushed_at.map_or(MonoTime(0), |at| at + interval_ms)
    }

    /// The waiting events after `cursor`, as frames.
    pub(crate) fn frames_after(&self, cursor: u64) -> SmallVec<[Bytes; 1]> {
        let first = self.head - self.pending.len() as u64;
        let skip = usize::try_from(cursor.saturating_sub(first)).unwrap_or(usize::MAX);
        let mut rest = self.pending.get(skip..).unwrap_or_default();
        let mut frames = SmallVec::new();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest
                .iter()
                .take_while(|event| {
                    bytes += event.len() + 1;
                    bytes <= MAX_FRAME_BYTES
                })
                .count();
            let (now, later) = rest.split_at(fits.max(1));
            frames.push(match now {
                [only] => only.clone(),
                many => codec::join_batch(many).into(),
            });
            rest = later;
        }
        frames
    }

    /// The waiting events have left.
    pub(crate) fn flushed(&mut self, now: MonoTime) {
        self.pending = Vec::new();
        self.flushed_at = Some(now);
    }
}

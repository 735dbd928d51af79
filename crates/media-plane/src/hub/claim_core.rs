//! The part of a claim that the hub and the claim's owner share.
//!
//! In: ends, packets. Out: the end signal, and the bounded queue of a player. Absent: names as
//! identity; a claim is known by its number, so that a late end of an old publisher or player never
//! touches a new one.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::lock;
use super::samples::PlaySample;
use crate::auth::StreamName;
use crate::kinds::Kinds;
use crate::media::Packet;
use crate::shares::WaitingSlots;

/// So many times the bytes that a player may lag end it at once, however short the time.
const HARD_LAG_FACTOR: usize = 8;
/// Bytes after which a batch ends.
const BATCH_BYTES: usize = 256 << 10;

/// Why a publisher or player ended without its own doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// [`crate::Hub::cut_stream`] or [`crate::Hub::cut_viewer`].
    Cut,
    /// A publisher was silent and another took its place, or a player gave way to newer plays of its
    /// viewer.
    Replaced,
    /// A player lagged beyond its queue, in bytes and in time.
    TooSlow,
    /// A publisher sent more, or longer, sequence headers than are kept for late players.
    TooManyHeaders,
    /// A publisher's share of the memory is used up, and nothing of the push can be done without.
    NoRoom,
    /// The publisher ended and did not return in time. A player gets all that is queued first.
    StreamEnded,
    /// A kind of media came that the header of an FLV play does not name. A play that begins now has it.
    KindBegan,
}

/// The part of a claim that the hub and its owner share. One task takes packets at a time.
#[derive(Debug)]
pub(super) struct ClaimCore {
    pub(super) id: u64,
    pub(super) stream: StreamName,
    /// Where it is from.
    pub(super) peer: IpAddr,
    /// Counted as a player without publisher.
    pub(super) waiting: AtomicBool,
    /// The kinds that a play may have. Unset until somebody says so.
    allowed: Mutex<Option<Kinds>>,
    /// The kinds that a play gets now: the bits of [`Kinds`].
    delivered_kinds: AtomicU8,
    /// Its slots among the players that came without a publisher.
    pub(super) slots: Mutex<Option<WaitingSlots>>,
    /// Who plays, as the verdict said.
    viewer: OnceLock<Arc<str>>,
    /// Bytes that were handed to the player since the last sample.
    sent: AtomicU64,
    ended: OnceLock<EndReason>,
    /// It gets nothing more, even of what was queued when the stream ended.
    given_up: AtomicBool,
    queue: Mutex<Queue>,
    /// Wakes the one task that takes packets.
    wake: Notify,
    /// Wakes whoever waits for the end.
    over: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    packets: VecDeque<Arc<Packet>>,
    bytes: usize,
    /// Bytes of the largest packet since the queue was empty.
    largest: usize,
    /// Bytes of the start burst, which do not count as lag until the queue was empty once.
    allowance: usize,
}

/// Outcome of [`ClaimCore::push`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Push {
    Queued,
    Ended,
    /// The queue was full; the claim has ended now.
    Lagging,
}

impl ClaimCore {
    pub(super) fn new(id: u64, stream: StreamName, peer: IpAddr) -> Self {
        Self {
            id,
            stream,
            peer,
            waiting: AtomicBool::new(false),
            allowed: Mutex::default(),
            delivered_kinds: AtomicU8::new(0),
            slots: Mutex::default(),
            viewer: OnceLock::new(),
            sent: AtomicU64::new(0),
            ended: OnceLock::new(),
            given_up: AtomicBool::new(false),
            queue: Mutex::default(),
            wake: Notify::new(),
            over: Notify::new(),
        }
    }

    /// Ends the claim; says whether it was this call that ended it.
    pub(super) fn end(&self, reason: EndReason) -> bool {
        let first = self.ended.set(reason).is_ok();
        if first {
            if reason != EndReason::StreamEnded {
                *lock(&self.queue) = Queue::default();
            }
            self.wake.notify_one();
            self.over.notify_waiters();
        }
        first
    }

    pub(super) fn ended(&self) -> Option<EndReason> {
        self.ended.get().copied()
    }

    /// An end that does not wait for the queue.
    pub(super) fn interrupted(&self) -> Option<EndReason> {
        match self.ended() {
            Some(EndReason::StreamEnded) => {
                self.given_up.load(Relaxed).then_some(EndReason::TooSlow)
            }
            reason => reason,
        }
    }

    /// Waits for an end that does not wait for the queue.
    pub(super) async fn wait_interrupted(&self) -> EndReason {
        loop {
            let mut over = pin!(self.over.notified());
            // From here on an end wakes this task; an earlier one is seen below.
            over.as_mut().enable();
            if let Some(reason) = self.interrupted() {
                return reason;
            }
            over.await;
        }
    }

    /// The kinds that a play may have; all until somebody says so.
    pub(super) fn allowed(&self) -> Kinds {
        lock(&self.allowed).unwrap_or(Kinds::BOTH)
    }

    /// Takes what a verdict says, unless something newer was said.
    pub(super) fn allow_at_first(&self, kinds: Kinds) {
        lock(&self.allowed).get_or_insert(kinds);
    }

    /// Takes what is said from now on.
    pub(super) fn allow(&self, kinds: Kinds) {
        *lock(&self.allowed) = Some(kinds);
    }

    /// The kinds that a play gets now.
    pub(super) fn delivered_kinds(&self) -> Kinds {
        Kinds::from_bits(self.delivered_kinds.load(Relaxed))
    }

    /// Says which kinds a play gets from now on. What is queued of others is dropped.
    pub(super) fn set_delivered_kinds(&self, kinds: Kinds) {
        let before = Kinds::from_bits(self.delivered_kinds.swap(kinds.to_bits(), Relaxed));
        if before.without(kinds) != Kinds::NONE {
            let mut queue = lock(&self.queue);
            queue.packets.retain(|packet| kinds.has(packet.kind()));
            queue.bytes = queue.packets.iter().map(|packet| packet.flv().len()).sum();
            queue.allowance = queue.allowance.min(queue.bytes);
        }
    }

    /// Takes who plays from a verdict.
    pub(super) fn set_viewer(&self, viewer: &str) {
        let _ = self.viewer.set(viewer.into());
    }

    /// Counts bytes that were handed to the player.
    pub(super) fn count_out(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Relaxed);
    }

    /// What the player got since the previous sample, and how old what waits is; nothing where nobody is known to play.
    pub(super) fn sample(&self, now: Instant) -> Option<PlaySample> {
        let viewer = self.viewer.get()?.clone();
        let queue = lock(&self.queue);
        let lag = queue
            .packets
            .front()
            .map_or(Duration::ZERO, |first| now.saturating_duration_since(first.received));
        drop(queue);
        Some(PlaySample { viewer, bytes: self.sent.swap(0, Relaxed), lag })
    }

    /// Bytes that wait.
    pub(super) fn queued(&self) -> usize {
        lock(&self.queue).bytes
    }

    /// As [`ClaimCore::end`], but a player of a stream that has ended does not get what is queued, either.
    pub(super) fn stop(&self, reason: EndReason) -> bool {
        if self.end(reason) {
            return true;
        }
        let stops =
            self.ended() == Some(EndReason::StreamEnded) && !self.given_up.swap(true, Relaxed);
        if stops {
            *lock(&self.queue) = Queue::default();
            self.wake.notify_one();
            self.over.notify_waiters();
        }
        stops
    }

    /// Queues what a player starts with, in place of what was queued.
    pub(super) fn start(&self, burst: Vec<Arc<Packet>>) {
        let bytes = burst.iter().map(|packet| packet.flv().len()).sum();
        let mut queue = lock(&self.queue);
        if self.interrupted().is_none() {
            *queue = Queue { packets: burst.into(), bytes, largest: 0, allowance: bytes };
        }
        drop(queue);
        self.wake.notify_one();
    }

    /// Queues a packet. A player lags when more than `limit` bytes wait beside the largest packet, which a player takes
    /// its time for however fast it reads, and the first of them for `max_lag`; or many times as many bytes.
    pub(super) fn push(&self, packet: &Arc<Packet>, limit: usize, max_lag: Duration) -> Push {
        if self.ended().is_some() {
            return Push::Ended;
        }
        let size = packet.flv().len();
        let mut queue = lock(&self.queue);
        queue.largest = queue.largest.max(size);
        // The largest may be taken already, and less be left than it.
        let beside = (queue.bytes + size).saturating_sub(queue.largest);
        let waits = queue.packets.front().map(|first| packet.received - first.received);
        let lags = beside > limit + queue.allowance && waits >= Some(max_lag);
        if lags || beside > limit.saturating_mul(HARD_LAG_FACTOR) + queue.allowance {
            drop(queue);
            self.end(EndReason::TooSlow);
            return Push::Lagging;
        }
        let was_empty = queue.packets.is_empty();
        queue.bytes += size;
        queue.packets.push_back(packet.clone());
        drop(queue);
        if was_empty {
            self.wake.notify_one();
        }
        Push::Queued
    }

    /// Moves packets to `batch`, up to `count` and about [`BATCH_BYTES`]; says whether there were any.
    pub(super) fn take(&self, batch: &mut Vec<Arc<Packet>>, count: usize) -> bool {
        let mut queue = lock(&self.queue);
        if queue.bytes < BATCH_BYTES && queue.packets.len() <= count {
            // Mostly all of it.
            let any = !queue.packets.is_empty();
            batch.extend(queue.packets.drain(..));
            (queue.bytes, queue.allowance, queue.largest) = (0, 0, 0);
            return any;
        }
        let mut bytes = 0;
        let mut taken = 0;
        while taken < count && bytes < BATCH_BYTES {
            let Some(packet) = queue.packets.pop_front() else { break };
            bytes += packet.flv().len();
            taken += 1;
            batch.push(packet);
        }
        queue.bytes -= bytes;
        if queue.packets.is_empty() {
            queue.allowance = 0;
            queue.largest = 0;
        }
        taken > 0
    }

    /// Waits for packets. Cancel safe.
    pub(super) async fn next(
        &self,
        batch: &mut Vec<Arc<Packet>>,
        count: usize,
    ) -> Result<(), EndReason> {
        loop {
            // Before the queue: what is queued when the stream ends is still delivered.
            let ended = self.ended();
            if let Some(reason) = self.interrupted() {
                return Err(reason);
            }
            if self.take(batch, count) {
                return Ok(());
            }
            if let Some(reason) = ended {
                return Err(reason);
            }
            self.wake.notified().await;
        }
    }
}

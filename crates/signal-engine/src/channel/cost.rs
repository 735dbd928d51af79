//! The cost of a command: the session's rate is charged for the bytes that are read, and for the bytes that all others
//! get; the events of a channel have a rate of their own (IDS-6, IDS-8). Comes in: a command and its length, events.
//! Goes out: whether it may pass, or when. Deliberately absent: the effect of the command.

use lianmai_protocol::limits::{Limits, MAX_CLIENT_FRAME_BYTES};
use lianmai_protocol::message::Call;
use lianmai_protocol::message::session::AttributeTarget;
use lianmai_protocol::{MonoTime, Role, UserId};
use lianmai_shares::Share;

use super::Channel;
use super::member::Member;
use crate::context::Context;

/// A command costs one unit of the rate, and one more for each full number of bytes like this.
const UNIT_BYTES: usize = 1024;
/// Bytes of a request around its parameters, which are free.
const ENVELOPE_BYTES: usize = 256;
/// Bytes of an event around its content.
const EVENT_BYTES: usize = 160;
/// A member that sends more than a short text, or has sent more than this lately, leaves this part of the channel's
/// bytes to others.
const QUIET_BYTES: usize = 16 * 1024;
const QUIET_PART: usize = 8;
/// Share of one member in the bytes that a channel may still send.
const SPEAKER_SHARE: Share = Share::of(1, 2);
/// The burst of a channel has at least this many bytes, so that any one command passes.
const LEAST_BURST_BYTES: usize = 4 * MAX_CLIENT_FRAME_BYTES;

/// The cost of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    /// Bytes that are read for it, without the free envelope.
    bytes: usize,
    /// Units of its session's rate.
    pub(super) units: u32,
    /// Bytes of its channel's rate, which all members get. 0 if there is no such event, or if it must be sent.
    event_bytes: usize,
}

impl Cost {
    /// The cost of reading so many bytes.
    pub(super) fn reading(bytes: usize) -> Self {
        Cost { bytes, units: units(bytes), event_bytes: 0 }
    }

    /// The cost of reading the same command.
    pub(super) fn reading_again(self) -> Self {
        Cost::reading(self.bytes)
    }

    /// Units for reading it.
    pub(super) fn read(self) -> u32 {
        units(self.bytes)
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(1 + bytes / UNIT_BYTES).unwrap_or(u32::MAX)
}

/// Units for a name and attributes of so many bytes that all members get.
pub(super) fn event_units(event_bytes: usize) -> u32 {
    units(event_bytes) - 1
}

/// Bytes of a frame that belong neither to parameters nor to the free envelopes.
pub(super) fn padding(frame: usize, params: usize, elements: usize) -> usize {
    frame.saturating_sub(params + ENVELOPE_BYTES * elements)
}

/// Bytes that a channel has sent lately and has not earned again at its rate.
#[derive(Debug, Default)]
pub(super) struct EventRate {
    bytes: usize,
    at: MonoTime,
}

impl EventRate {
    fn now(&self, now: MonoTime, per_second: u32) -> usize {
        let passed = now.since(self.at).saturating_mul(u64::from(per_second)) / 1_000;
        self.bytes.saturating_sub(usize::try_from(passed).unwrap_or(usize::MAX))
    }

    /// Counts an event of so many bytes, which all members get.
    pub(super) fn add(&mut self, bytes: usize, now: MonoTime, limits: &Limits) {
        self.bytes = self.now(now, limits.channel_bytes_per_second) + bytes;
        self.at = now;
    }
}

impl Channel {
    /// The whole cost of a command, from the cost of reading it.
    pub(super) fn cost(&self, uid: UserId, call: &Call, reading: Cost) -> Cost {
        let bytes = reading.bytes;
        let own = self.members.get(&uid);
        // Bytes of names and attributes that the event repeats as a whole.
        let (repeats, is_event) = match call {
            Call::SendMessage(message) => (0, message.to.is_none()),
            Call::SetAttributes(set) if set.target == Some(AttributeTarget::Channel) => {
                (self.attributes.bytes(), true)
            }
            Call::SetAttributes(_) => {
                let visible = own.filter(|member| member.is_visible());
                (visible.map_or(0, Member::text_bytes), visible.is_some())
            }
            Call::SetRole(set) if set.role == Role::Broadcaster => {
                let of = set.uid.map_or(own, |uid| self.members.get(&uid));
                let hidden = of.filter(|member| !member.is_visible());
                (hidden.map_or(0, Member::text_bytes), hidden.is_some())
            }
            _ => (0, false),
        };
        let event_bytes = if is_event { bytes + repeats + EVENT_BYTES } else { 0 };
        Cost { units: reading.units.max(event_units(repeats)), event_bytes, ..reading }
    }

    /// Milliseconds until the channel may send what a member wants to say; `None` for now. The less is left, the less
    /// may a member send that has sent much lately (IDS-8).
    pub(super) fn channel_wait_ms(&self, cx: &Context, member: &Member, cost: Cost) -> Option<u64> {
        let Cost { units, event_bytes, .. } = cost;
        if event_bytes == 0 {
            return None;
        }
        let (now, limits) = (cx.mono(), &cx.config.limits);
        let per_second = limits.channel_bytes_per_second.max(1);
        let most = cx.config.channel_burst_bytes.max(LEAST_BURST_BYTES);
        let left = most.saturating_sub(self.event_rate.now(now, per_second));
        // As if all units that it has not earned again had been for commands like this one.
        let used = usize::try_from(member.rate.used(now, limits)).unwrap_or(usize::MAX);
        let held = used.saturating_mul(event_bytes) / usize::try_from(units.max(1)).unwrap_or(1);
        let quiet = event_bytes <= UNIT_BYTES && held <= QUIET_BYTES;
        let left = if quiet { left } else { left.saturating_sub(most / QUIET_PART) };
        if SPEAKER_SHARE.room(left, held) >= event_bytes {
            return None;
        }
        let missing = (2 * event_bytes).saturating_add(held).saturating_sub(left);
        let ms = missing as u64 * 1_000 / u64::from(per_second);
        Some(ms.clamp(1, 1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves IDS-6.
    #[test]
    fn a_full_kib_is_a_unit_more() {
        assert_eq!(
            [0, 1_023, 1_024, 65_536].map(|bytes| Cost::reading(bytes).units),
            [1, 1, 2, 65]
        );
        assert_eq!([0, 1_023, 1_024, 4_100].map(event_units), [0, 0, 1, 4]);
        assert_eq!((padding(300, 100, 1), padding(5_000, 100, 2)), (0, 4_388));
    }

    /// Proves IDS-8.
    #[test]
    fn the_event_rate_recovers_over_time() {
        let limits = Limits { channel_bytes_per_second: 10_000, ..Limits::default() };
        let mut rate = EventRate::default();
        rate.add(5_000, MonoTime(1_000), &limits);
        rate.add(1_000, MonoTime(1_100), &limits);
        assert_eq!(rate.now(MonoTime(1_100), 10_000), 5_000);
        assert_eq!((rate.now(MonoTime(1_599), 10_000), rate.now(MonoTime(9_999), 10_000)), (10, 0));
    }
}

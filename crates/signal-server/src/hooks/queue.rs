//! The order of deliveries. Comes in: new events of a channel for an endpoint, results of attempts, the time. Goes out:
//! the next lane to serve, and when to look again. A lane is one endpoint and one channel: it has one attempt at a
//! time, and waits longer after each refusal. Lanes of one endpoint do not wait for each other, but the attempts of an
//! endpoint are limited. Deliberately absent: events, sockets and clocks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lianmai_shares::Share;

/// Maximum number of concurrent attempts of one endpoint.
const MAX_ATTEMPTS_PER_ENDPOINT: usize = 32;
/// Maximum number of concurrent attempts in all.
const MAX_ATTEMPTS: usize = 256;
/// The share of one endpoint in them. An app has several endpoints, so a number alone would not leave room for others.
const ATTEMPTS_OF_ENDPOINT: Share =
    Share::capped(MAX_ATTEMPTS_PER_ENDPOINT, MAX_ATTEMPTS).at_least(1);
/// Time that a lane waits after its first refusal, in milliseconds; doubled after each further one.
const FIRST_WAIT_MS: u64 = 500;
/// Maximum time that a lane waits, in milliseconds.
const MAX_WAIT_MS: u64 = 60_000;

/// One endpoint and one channel of its app.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneKey {
    pub(super) endpoint: String,
    pub(super) channel: String,
}

/// The result of serving a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An event was accepted or given up; there may be more.
    Advanced {
        /// It was accepted: one of the waiting lanes of the endpoint is ready.
        accepted: bool,
    },
    /// There was no event.
    Empty,
    /// The endpoint did not accept it.
    Refused,
}

/// The refusals before an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Refusals {
    /// Since the lane was accepted last, or had nothing to deliver.
    pub(super) in_a_row: u32,
    /// Of the event that is next.
    pub(super) of_event: u32,
}

#[derive(Debug)]
enum Lane {
    Ready,
    Running {
        /// New events have come meanwhile.
        has_new_events: bool,
    },
    Waiting,
}

#[derive(Debug, Default)]
struct EndpointQueue {
    lanes: BTreeMap<String, (Lane, Refusals)>,
    ready: VecDeque<String>,
    waiting: BTreeSet<(u64, String)>,
    running: usize,
}

/// The lanes of all endpoints; see the module. Times are milliseconds of any one clock.
#[derive(Debug, Default)]
pub(super) struct Queue {
    endpoints: BTreeMap<String, EndpointQueue>,
    running: usize,
    /// The endpoint that was served last; the search begins after it.
    last: Option<String>,
}

impl Queue {
    /// Adds new events of a channel for an endpoint.
    pub(super) fn enqueue(&mut self, key: LaneKey) {
        let endpoint = self.endpoints.entry(key.endpoint).or_default();
        match endpoint.lanes.get_mut(&key.channel) {
            Some((Lane::Running { has_new_events }, _)) => *has_new_events = true,
            Some(_) => {}
            None => {
                let lane = (Lane::Ready, Refusals::default());
                endpoint.lanes.insert(key.channel.clone(), lane);
                endpoint.ready.push_back(key.channel);
            }
        }
    }

    /// The next lane to serve, and its refusals.
    pub(super) fn next(&mut self, now: u64) -> Option<(LaneKey, Refusals)> {
        if self.running >= MAX_ATTEMPTS {
            return None;
        }
        use std::ops::Bound::{Excluded, Unbounded};
        let behind = self.last.clone().map_or(Unbounded, Excluded);
        let names = self.endpoints.range((behind, Unbounded)).chain(self.endpoints.iter());
        let is_next = |endpoint: &EndpointQueue| {
            let due = endpoint.waiting.first().is_some_and(|(until, _)| *until <= now);
            self.has_room(endpoint) && (due || !endpoint.ready.is_empty())
        };
        let name = names.into_iter().find(|(_, endpoint)| is_next(endpoint))?.0.clone();
        let endpoint = self.endpoints.get_mut(&name)?;
        while let Some((until, channel)) = endpoint.waiting.pop_first() {
            if until > now {
                endpoint.waiting.insert((until, channel));
                break;
            }
            endpoint.make_ready(channel);
        }
        let channel = endpoint.ready.pop_front()?;
        let (lane, refusals) = endpoint.lanes.get_mut(&channel)?;
        *lane = Lane::Running { has_new_events: false };
        let refusals = *refusals;
        endpoint.running += 1;
        self.running += 1;
        self.last = Some(name.clone());
        Some((LaneKey { endpoint: name, channel }, refusals))
    }

    /// Takes the result of serving a lane.
    pub(super) fn finish(&mut self, key: &LaneKey, outcome: Outcome, now: u64) {
        self.running -= 1;
        let Some(endpoint) = self.endpoints.get_mut(&key.endpoint) else { return };
        endpoint.running = endpoint.running.saturating_sub(1);
        let Some((Lane::Running { has_new_events }, refusals)) =
            endpoint.lanes.get_mut(&key.channel)
        else {
            return;
        };
        let has_new_events = *has_new_events;
        match outcome {
            Outcome::Empty if !has_new_events => {
                endpoint.lanes.remove(&key.channel);
            }
            Outcome::Empty | Outcome::Advanced { .. } => {
                refusals.of_event = 0;
                if outcome != (Outcome::Advanced { accepted: false }) {
                    refusals.in_a_row = 0;
                }
                endpoint.make_ready(key.channel.clone());
            }
            Outcome::Refused => {
                let wait = FIRST_WAIT_MS.checked_shl(refusals.in_a_row).unwrap_or(MAX_WAIT_MS);
                let until = now + wait.min(MAX_WAIT_MS);
                refusals.in_a_row = (refusals.in_a_row + 1).min(20);
                refusals.of_event = refusals.of_event.saturating_add(1);
                endpoint.lanes.get_mut(&key.channel).expect("the lane exists").0 = Lane::Waiting;
                endpoint.waiting.insert((until, key.channel.clone()));
            }
        }
        if outcome == (Outcome::Advanced { accepted: true }) {
            // The endpoint may work again. One lane only: it may also refuse some channels and accept others, and then
            // the backoff of those must hold.
            if let Some((_, channel)) = endpoint.waiting.pop_first() {
                endpoint.make_ready(channel);
            }
        }
        if endpoint.lanes.is_empty() && endpoint.running == 0 {
            self.endpoints.remove(&key.endpoint);
        }
    }

    /// Removes the lanes of an endpoint. Those with an attempt in progress stay until it ends: a lane that is queued
    /// again must not have two.
    pub(super) fn forget(&mut self, name: &str) {
        let Some(endpoint) = self.endpoints.get_mut(name) else { return };
        endpoint.lanes.retain(|_, (lane, _)| matches!(lane, Lane::Running { .. }));
        endpoint.ready.clear();
        endpoint.waiting.clear();
        if endpoint.lanes.is_empty() {
            self.endpoints.remove(name);
        }
    }

    /// Time at which the first waiting lane is due.
    pub(super) fn deadline(&self) -> Option<u64> {
        if self.running >= MAX_ATTEMPTS {
            return None;
        }
        let free = self.endpoints.values().filter(|endpoint| self.has_room(endpoint));
        free.filter_map(|endpoint| endpoint.waiting.first().map(|(until, _)| *until)).min()
    }

    /// Whether an endpoint may have another attempt.
    fn has_room(&self, endpoint: &EndpointQueue) -> bool {
        ATTEMPTS_OF_ENDPOINT.room(MAX_ATTEMPTS - self.running, endpoint.running) > 0
    }

    /// The number of lanes.
    pub(super) fn lanes(&self) -> usize {
        self.endpoints.values().map(|endpoint| endpoint.lanes.len()).sum()
    }
}

impl EndpointQueue {
    fn make_ready(&mut self, channel: String) {
        if let Some((lane, _)) = self.lanes.get_mut(&channel) {
            *lane = Lane::Ready;
            self.ready.push_back(channel);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: the order of deliveries.

    use super::*;

    fn key(endpoint: &str, channel: &str) -> LaneKey {
        LaneKey { endpoint: endpoint.to_owned(), channel: channel.to_owned() }
    }

    fn served(queue: &mut Queue, now: u64) -> Vec<String> {
        let next = std::iter::from_fn(|| queue.next(now));
        next.map(|(key, _)| format!("{}{}", key.endpoint, key.channel)).collect()
    }

    #[test]
    fn a_lane_runs_again_if_events_came_while_it_ran() {
        let mut queue = Queue::default();
        for _ in 0..3 {
            queue.enqueue(key("a", "1"));
        }
        queue.enqueue(key("a", "2"));
        queue.enqueue(key("b", "1"));
        assert_eq!(served(&mut queue, 0), ["a1", "b1", "a2"]);
        queue.enqueue(key("a", "1"));
        queue.finish(&key("a", "1"), Outcome::Empty, 0);
        queue.finish(&key("a", "2"), Outcome::Empty, 0);
        assert_eq!(served(&mut queue, 0), ["a1"], "an event came while the lane ran");
        queue.finish(&key("a", "1"), Outcome::Advanced { accepted: true }, 0);
        assert_eq!(served(&mut queue, 0), ["a1"], "more events may wait");
        queue.finish(&key("a", "1"), Outcome::Empty, 0);
        queue.finish(&key("b", "1"), Outcome::Empty, 0);
        assert_eq!((queue.lanes(), queue.endpoints.len(), queue.running), (0, 0, 0));
    }

    #[test]
    fn retries_back_off_until_a_delivery_succeeds() {
        let mut queue = Queue::default();
        let (one, other) = (key("a", "1"), key("a", "2"));
        queue.enqueue(one.clone());
        let mut now = 0;
        for wait in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            assert_eq!(served(&mut queue, now).len(), 1);
            queue.finish(&one, Outcome::Refused, now);
            queue.enqueue(one.clone());
            assert_eq!(queue.deadline(), Some(now + wait));
            assert!(served(&mut queue, now + wait - 1).is_empty());
            now += wait;
        }
        served(&mut queue, now);
        queue.finish(&one, Outcome::Refused, now);
        queue.enqueue(other.clone());
        assert_eq!(served(&mut queue, now), ["a2"], "the lane of another channel does not wait");
        queue.finish(&other, Outcome::Advanced { accepted: true }, now);
        assert_eq!(served(&mut queue, now), ["a2", "a1"], "the endpoint may have recovered");
        queue.finish(&one, Outcome::Advanced { accepted: true }, now);
        served(&mut queue, now);
        queue.finish(&one, Outcome::Refused, now);
        assert_eq!(queue.deadline(), Some(now + 500), "the backoff starts again");
    }

    #[test]
    fn an_accepted_delivery_wakes_one_waiting_lane() {
        let mut queue = Queue::default();
        for channel in ["1", "2", "3", "4"] {
            queue.enqueue(key("a", channel));
        }
        assert_eq!(served(&mut queue, 0), ["a1", "a2", "a3", "a4"]);
        for channel in ["1", "2", "3"] {
            queue.finish(&key("a", channel), Outcome::Refused, 0);
        }
        queue.finish(&key("a", "4"), Outcome::Advanced { accepted: true }, 0);
        assert_eq!(served(&mut queue, 0), ["a4", "a1"]);
        queue.finish(&key("a", "4"), Outcome::Empty, 0);
        queue.finish(&key("a", "1"), Outcome::Refused, 0);
        assert!(served(&mut queue, 499).is_empty(), "the others keep their wait");
        assert_eq!(served(&mut queue, 500), ["a2", "a3"]);
    }

    #[test]
    fn refusals_in_a_row_outlive_an_event_that_is_given_up() {
        let mut queue = Queue::default();
        let lane = key("a", "1");
        queue.enqueue(lane.clone());
        let mut refusals = |outcome| {
            let (_, refusals) = queue.next(u64::MAX).unwrap();
            queue.finish(&lane, outcome, 0);
            (refusals.in_a_row, refusals.of_event)
        };
        assert_eq!(refusals(Outcome::Refused), (0, 0));
        assert_eq!(refusals(Outcome::Refused), (1, 1));
        assert_eq!(refusals(Outcome::Advanced { accepted: false }), (2, 2));
        assert_eq!(refusals(Outcome::Refused), (2, 0));
        assert_eq!(refusals(Outcome::Advanced { accepted: true }), (3, 1));
        assert_eq!(refusals(Outcome::Refused), (0, 0));
    }

    #[test]
    fn a_lane_that_is_queued_again_has_one_attempt() {
        let mut queue = Queue::default();
        queue.enqueue(key("a", "1"));
        queue.enqueue(key("a", "2"));
        assert_eq!(queue.next(0).unwrap().0, key("a", "1"));
        // Disabled and enabled again.
        queue.forget("a");
        assert_eq!(queue.lanes(), 1, "a lane with an attempt is forgotten");
        queue.enqueue(key("a", "1"));
        assert!(served(&mut queue, 0).is_empty(), "a second attempt beside the first");
        queue.finish(&key("a", "1"), Outcome::Empty, 0);
        assert_eq!(served(&mut queue, 0), ["a1"]);
        queue.forget("a");
        queue.finish(&key("a", "1"), Outcome::Empty, 0);
        assert_eq!((queue.lanes(), queue.endpoints.len(), queue.running), (0, 0, 0));
    }

    #[test]
    fn no_endpoint_takes_all_attempts() {
        let mut queue = Queue::default();
        for channel in 0..200 {
            queue.enqueue(key("a", &channel.to_string()));
        }
        assert_eq!(served(&mut queue, 0).len(), MAX_ATTEMPTS_PER_ENDPOINT);
        for endpoint in 0..20 {
            for channel in 0..40 {
                queue.enqueue(key(&format!("b{endpoint}"), &channel.to_string()));
            }
        }
        let others = served(&mut queue, 0).len();
        for channel in 0..40 {
            queue.enqueue(key("c", &channel.to_string()));
        }
        let rest = served(&mut queue, 0);
        assert!(!rest.is_empty() && rest.iter().all(|lane| lane.starts_with('c')), "{rest:?}");
        queue.forget("a");
        for channel in 0..MAX_ATTEMPTS_PER_ENDPOINT {
            queue.finish(&key("a", &channel.to_string()), Outcome::Empty, 0);
        }
        assert_eq!(queue.running, others + rest.len());
        assert!(!served(&mut queue, 0).is_empty(), "what is given back is used");
    }
}

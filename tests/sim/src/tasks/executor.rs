//! Executors, good and bad ones, and receivers, which check who pushes where. Comes in: orders, time. Goes out:
//! reports, and what a receiver must not see. Each run behaves in one way: it may refuse, be silent, be late, stall
//! while it pushes, end without a report, flap, or send reports about other runs. All of them keep to the lease:
//! without one they do not push, and a lease ends by the executor's own clock, counted from the request. Deliberately
//! absent: an executor that pushes without a lease, because there is no protection from that.

use std::collections::{BTreeMap, VecDeque};

use lianmai_signal_engine::task::{ClaimKey, RunFailure as Why, RunId, RunOrder, RunReport};

use crate::rng::Rng;

/// How long a place rests between two tasks, in milliseconds.
const REST_MS: u64 = 10_000;
const RENEW_MS: u64 = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behaviour {
    Good,
    Refuses,
    Silent,
    /// Accepts after this many milliseconds.
    Late(u64),
    /// Renews this often, then sends nothing more and continues to push.
    Stalls(u32),
    /// Renews this often, then stops the push and sends nothing.
    Dies(u32),
    Flaps,
    /// Also sends reports about other runs.
    Lies,
}

#[derive(Debug)]
struct Run {
    id: RunId,
    place: ClaimKey,
    way: Behaviour,
    inbox: VecDeque<(u64, RunOrder)>,
    /// The times of its requests for leases that were not answered yet, by number.
    asks: BTreeMap<u64, u64>,
    lease_until: Option<u64>,
    renewals: u32,
    next_ask: Option<u64>,
    /// When it reports that it pushes, or flaps.
    tells: Option<u64>,
    stops_at: Option<u64>,
    pushing: bool,
    over: bool,
    /// Times of the newest report and the newest order: both arrive in order.
    last_report_at: u64,
    last_order_at: u64,
}

/// The run that pushed to a place last, and when the push ended.
#[derive(Debug)]
struct Receiver {
    run: usize,
    life: u64,
    ended_at: u64,
}

#[derive(Debug)]
pub(super) struct Executors {
    rng: Rng,
    runs: Vec<Run>,
    by_id: BTreeMap<RunId, usize>,
    receivers: BTreeMap<ClaimKey, Receiver>,
    last_ask: u64,
}

/// The results of a step.
#[derive(Debug, Default)]
pub(super) struct StepResult {
    pub(super) reports: Vec<(u64, RunId, RunReport)>,
    pub(super) next: Option<u64>,
    pub(super) wrong: Option<String>,
}

impl Executors {
    pub(super) fn new(rng: Rng) -> Executors {
        Executors {
            rng,
            runs: Vec::new(),
            by_id: BTreeMap::new(),
            receivers: BTreeMap::new(),
            last_ask: 0,
        }
    }

    /// Sends an order. Returns when to step which executor.
    pub(super) fn order(&mut self, order: RunOrder, now: u64, quiet: bool) -> Option<(u64, usize)> {
        let id = match &order {
            RunOrder::Start { run, .. }
            | RunOrder::Lease { run, .. }
            | RunOrder::Update { run, .. }
            | RunOrder::Stop { run } => run.clone(),
        };
        if let RunOrder::Start { job, .. } = &order {
            let way = if quiet { Behaviour::Good } else { self.some_way() };
            let place = job.spec.address.key();
            self.by_id.insert(id.clone(), self.runs.len());
            self.runs.push(Run {
                id: id.clone(),
                place,
                way,
                inbox: VecDeque::new(),
                asks: BTreeMap::new(),
                lease_until: None,
                renewals: 0,
                next_ask: None,
                tells: None,
                stops_at: None,
                pushing: false,
                over: false,
                last_report_at: 0,
                last_order_at: 0,
            });
        }
        let &at = self.by_id.get(&id)?;
        let run = &mut self.runs[at];
        let slow = if quiet || !self.rng.chance(30) { 60 } else { 6_000 };
        run.last_order_at = (now + self.rng.skewed(slow)).max(run.last_order_at);
        run.inbox.push_back((run.last_order_at, order));
        Some((run.last_order_at, at))
    }

    fn some_way(&mut self) -> Behaviour {
        match self.rng.weighted(&[450, 90, 60, 60, 90, 60, 90, 100]) {
            0 => Behaviour::Good,
            1 => Behaviour::Refuses,
            2 => Behaviour::Silent,
            3 => Behaviour::Late(self.rng.between(1_000, 12_000)),
            4 => Behaviour::Stalls(u32::try_from(self.rng.below(30)).unwrap_or(0)),
            5 => Behaviour::Dies(u32::try_from(self.rng.below(30)).unwrap_or(0)),
            6 => Behaviour::Flaps,
            _ => Behaviour::Lies,
        }
    }

    /// Whether a run pushes to a place.
    pub(super) fn pushes(&self, place: &ClaimKey, now: u64) -> bool {
        let receiver = self.receivers.get(place);
        receiver.is_some_and(|receiver| self.runs[receiver.run].pushes(now))
    }

    pub(super) fn step(&mut self, at: usize, now: u64, quiet: bool) -> StepResult {
        let mut step = StepResult::default();
        // The lease ends by the executor's clock, even if a renewal arrives in this step.
        if self.runs[at].lease_until.is_some_and(|until| until <= now) {
            self.end(at, self.runs[at].lease_until.unwrap_or(now));
        }
        if self.runs[at].stops_at.is_some_and(|stops| stops <= now) {
            self.runs[at].stops_at = None;
            self.end(at, now);
            if self.runs[at].way != Behaviour::Silent {
                self.say(at, now, RunReport::Stopped, &mut step);
            }
        }
        while let Some((due, _)) = self.runs[at].inbox.front()
            && *due <= now
            && let Some((_, order)) = self.runs[at].inbox.pop_front()
        {
            self.obey(at, now, &order, &mut step);
        }
        self.act(at, now, quiet, &mut step);
        let run = &self.runs[at];
        let inbox = run.inbox.front().map(|(due, _)| *due);
        let own = [run.next_ask, run.tells, run.stops_at, run.lease_until.filter(|_| !run.over)];
        step.next = own.into_iter().flatten().chain(inbox).min().map(|next| next.max(now + 1));
        step
    }

    fn obey(&mut self, at: usize, now: u64, order: &RunOrder, step: &mut StepResult) {
        let wait = self.rng.skewed(200);
        let run = &mut self.runs[at];
        match order {
            RunOrder::Start { .. } => {
                run.next_ask = match run.way {
                    Behaviour::Silent => None,
                    Behaviour::Late(ms) => Some(now + ms),
                    _ => Some(now + wait),
                };
            }
            RunOrder::Lease { ask, ms, .. } => {
                let Some(asked) = run.asks.remove(ask) else { return };
                if run.over || asked + ms <= now {
                    return;
                }
                let first = run.lease_until.is_none();
                run.lease_until = Some(asked + ms);
                if first {
                    self.begin(at, now, step);
                }
            }
            RunOrder::Update { job, .. } => {
                if job.spec.address.key() != run.place {
                    step.wrong = Some(format!("{:?} is sent elsewhere while it runs", run.id));
                }
            }
            RunOrder::Stop { .. } => {
                run.next_ask = None;
                run.tells = None;
                if run.over {
                    self.say(at, now, RunReport::Stopped, step);
                } else {
                    run.stops_at = Some(now + wait);
                }
            }
        }
    }

    fn act(&mut self, at: usize, now: u64, quiet: bool, step: &mut StepResult) {
        let wait = self.rng.between(1_000, 9_000);
        let run = &mut self.runs[at];
        if run.over {
            (run.next_ask, run.tells) = (None, None);
            return;
        }
        if run.next_ask.is_some_and(|due| due <= now) {
            let first = run.renewals == 0;
            run.renewals += 1;
            run.next_ask = Some(now + RENEW_MS);
            match run.way {
                Behaviour::Refuses if run.renewals > 1 => {
                    run.next_ask = None;
                    self.end(at, now);
                    return self.say(at, now, RunReport::Failed(Why::Rejected), step);
                }
                Behaviour::Stalls(times) if run.renewals > times + 1 => run.next_ask = None,
                Behaviour::Dies(times) if run.renewals > times + 1 => {
                    run.next_ask = None;
                    return self.end(at, now);
                }
                _ => {
                    let ask = self.last_ask + 1;
                    self.last_ask = ask;
                    self.runs[at].asks.insert(ask, now);
                    let report =
                        if first { RunReport::Accepted { ask } } else { RunReport::Renew { ask } };
                    self.say(at, now, report, step);
                }
            }
        }
        let run = &mut self.runs[at];
        if run.tells.is_some_and(|due| due <= now) {
            run.tells = None;
            let way = if quiet { Behaviour::Good } else { run.way };
            let report = match way {
                Behaviour::Flaps if self.rng.chance(500) => RunReport::Retrying(Why::Broken),
                _ => RunReport::Pushing,
            };
            if matches!(way, Behaviour::Flaps | Behaviour::Lies) || report != RunReport::Pushing {
                self.runs[at].tells = Some(now + wait);
            }
            self.say(at, now, report, step);
            if way == Behaviour::Lies {
                self.lie(at, step);
            }
        }
    }

    /// Sends a report about another run, or about a run that does not exist.
    fn lie(&mut self, at: usize, step: &mut StepResult) {
        let mut id = self.runs[at].id.clone();
        match self.rng.below(3) {
            0 => id.number += 1,
            1 => id.number = id.number.saturating_sub(1),
            _ => id.life ^= 1,
        }
        let ask = self.rng.below(self.last_ask + 1);
        let reports = [
            RunReport::Accepted { ask },
            RunReport::Renew { ask },
            RunReport::Pushing,
            RunReport::ImageFailed,
        ];
        let report = *self.rng.pick(&reports);
        step.reports.push((self.rng.skewed(2_000), id, report));
    }

    fn say(&mut self, at: usize, now: u64, report: RunReport, step: &mut StepResult) {
        let delay = self.rng.skewed(60);
        let run = &mut self.runs[at];
        run.last_report_at = (now + delay).max(run.last_report_at);
        step.reports.push((run.last_report_at - now, run.id.clone(), report));
    }

    /// The run begins to push. Checks what the receiver sees.
    fn begin(&mut self, at: usize, now: u64, step: &mut StepResult) {
        let tells = now + self.rng.skewed(300);
        let run = &mut self.runs[at];
        run.pushing = true;
        run.tells = Some(tells);
        let (place, life) = (run.place, run.id.life);
        if let Some(before) = self.receivers.get(&place) {
            let other = &self.runs[before.run];
            let ended = match other.lease_until {
                Some(until) if other.pushing && !other.over => until,
                _ => before.ended_at,
            };
            let rested = before.life == life || now >= ended + REST_MS;
            let what = format!("{:?} and {:?}", other.id, self.runs[at].id);
            if before.run != at && other.pushes(now) {
                step.wrong = Some(format!("two push to one place: {what}"));
            } else if !rested {
                let ms = now.saturating_sub(ended);
                step.wrong = Some(format!("a place rested {ms} ms between {what}"));
            }
        }
        self.receivers.insert(place, Receiver { run: at, life, ended_at: now });
    }

    fn end(&mut self, at: usize, when: u64) {
        let run = &mut self.runs[at];
        if !std::mem::replace(&mut run.over, true) && run.pushing {
            run.pushing = false;
            if let Some(receiver) = self.receivers.get_mut(&run.place).filter(|r| r.run == at) {
                receiver.ended_at = when;
            }
        }
    }
}

impl Run {
    fn pushes(&self, now: u64) -> bool {
        self.pushing && !self.over && self.lease_until.is_some_and(|until| until > now)
    }
}

//! The start, crash, drain and stop of the process, and the commits of the disk: how long one takes, and whether it
//! fails. Comes in: actions and times. Goes out: engines that begin with the stored rows, results of commits, and the
//! ends of sockets.

use std::collections::BTreeMap;

use lianmai_signal_engine::{Answer, AskId, DrainPlan, Engine, Input, RowOp};

use super::shard::{Msg, Shard};
use super::{Phase, Process};
use crate::net::{LinkId, Way};
use crate::world::{Ev, World, log};

/// From the freeze to the end of the process, in milliseconds.
pub(crate) const FREEZE_MS: u64 = 2_000;

impl World {
    pub(crate) fn server_start(&mut self) {
        if self.server.process.is_some() || self.server.starts_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.server.starts_at = None;
        self.server.processes += 1;
        let id = self.server.processes;
        let count = self.scenario.knobs.shards;
        let grace = self.scenario.knobs.timers[2];
        let wall = self.wall();
        let restored = self.server.store.load(wall, grace, count);
        let clean = restored.iter().all(|restored| restored.clean);
        log!(self, "process {id} starts, clean {clean}");
        self.server.move_relay();
        let config = self.server.config().clone();
        let shards = (0..count)
            .map(|_| Shard::new(Engine::new(config.clone(), self.server.rng.bytes())))
            .collect();
        let mono_off = self.server.rng.below(1 << 30);
        self.server.process = Some(Process {
            id,
            mono_off,
            shards,
            lobbies: BTreeMap::new(),
            connections: BTreeMap::new(),
            phase: Phase::Serving,
            drained: 0,
            handed_over: true,
            down_ms: 1_000,
            started_at: self.now,
        });
        self.model_started(&restored);
        for (shard, restored) in restored.into_iter().enumerate() {
            self.engine_input(shard, Input::Restore(Box::new(restored)));
            self.finish_turn(shard);
        }
    }

    /// The process is gone. Its sockets are reset; with `silent`, no client is informed.
    fn server_gone(&mut self, silent: bool, down_ms: u64) {
        let Some(mut process) = self.server.process.take() else { return };
        self.check_footprint(&mut process);
        let mut links: Vec<LinkId> = process.lobbies.keys().copied().collect();
        links.extend(process.shards.iter().flat_map(Shard::links));
        links.extend(process.connections.keys());
        links.extend(std::mem::take(&mut self.server.closing_outboxes).into_keys());
        links.sort_unstable();
        links.dedup();
        self.server.paused_until = 0;
        for id in links {
            let Some(link) = self.links.get_mut(&id) else { continue };
            link.server_open = false;
            link.disturbed_at = self.now;
            if silent {
                link.down.black = true;
            } else {
                let at = self.now + link.rng.below(50);
                link.down.cut(at, true);
                self.at(at, Ev::Deliver(id, Way::Down));
            }
        }
        self.media_server_gone();
        let at = self.now + down_ms;
        self.server.starts_at = Some(at);
        self.at(at, Ev::Start);
    }

    pub(crate) fn crash(&mut self, down_ms: u64, silent: bool) {
        if self.server.process.is_none() {
            return;
        }
        self.cov.crashes += 1;
        let mut rng = self.server.rng.clone();
        let last = self.server.store.crash(&mut rng);
        self.server.rng = rng;
        log!(self, "process crashes, silent {silent}, writes kept up to {last}");
        self.follow();
        self.model_ended(last, false);
        self.server_gone(silent, down_ms);
    }

    pub(crate) fn start_drain(
        &mut self,
        [notice, freeze, retry, jitter, _]: [u64; 5],
        down_ms: u64,
    ) {
        let Some(process) = self.server.process.as_mut().filter(|p| p.phase == Phase::Serving)
        else {
            return;
        };
        self.cov.drains += 1;
        process.phase = Phase::Draining;
        process.down_ms = down_ms;
        let (id, shards) = (process.id, process.shards.len());
        log!(self, "process {id} drains");
        let plan = DrainPlan {
            notice_ms: notice,
            freeze_ms: freeze,
            deadline_ms: freeze + FREEZE_MS,
            retry_after_ms: retry,
            jitter_ms: jitter,
        };
        for shard in 0..shards {
            self.post(shard, Msg::Drain(plan));
        }
        self.after(freeze, Ev::Freeze(id));
        self.after(freeze + FREEZE_MS, Ev::DrainDeadline(id));
    }

    pub(crate) fn server_freeze(&mut self, id: u64) {
        if let Some(process) = self.server.process(id) {
            process.phase = Phase::Frozen;
        }
    }

    /// A shard has finished its drain.
    pub(crate) fn server_drained(&mut self, handed_over: bool) {
        let Some(process) = self.server.process.as_mut() else { return };
        process.drained += 1;
        process.handed_over &= handed_over;
        log!(self, "a shard is drained, handed over {handed_over}");
        let Some(process) = self.server.process.as_mut() else { return };
        if process.drained == process.shards.len() {
            process.phase = Phase::Frozen;
            let id = process.id;
            let delay = self.server.rng.below(self.scenario.knobs.store_ms + 1);
            self.after(delay, Ev::HandOver(id));
        }
    }

    pub(crate) fn server_hand_over(&mut self, id: u64) {
        let wall = self.wall();
        let Some(process) = self.server.process(id) else { return };
        let (good, down_ms) = (process.handed_over, process.down_ms);
        let last = self.server.store.close(good.then_some(wall));
        log!(self, "process {id} exits, handed over {good}");
        self.follow();
        self.cov.count(if good { "drain:handedOver" } else { "drain:notStored" });
        self.model_ended(last, good);
        self.server_gone(false, down_ms);
    }

    /// The deadline of a drain: the process ends without a hand-over.
    pub(crate) fn server_drain_deadline(&mut self, id: u64) {
        let Some(process) = self.server.process(id) else { return };
        let down_ms = process.down_ms;
        self.exit_unclean(down_ms);
        self.cov.count("drain:deadline");
    }

    /// The process is told to stop at once.
    pub(crate) fn stop(&mut self, down_ms: u64) {
        let Some(process) = self.server.process.as_ref() else { return };
        for shard in 0..process.shards.len() {
            self.engine_input(shard, Input::Stop);
            self.finish_turn(shard);
        }
        self.cov.count("stop");
        self.exit_unclean(down_ms);
    }

    fn exit_unclean(&mut self, down_ms: u64) {
        let last = self.server.store.close(None);
        log!(self, "process exits without handing over");
        self.follow();
        self.model_ended(last, false);
        // Outputs are still written: the sockets end after them.
        let open: Vec<LinkId> = self.links.keys().copied().collect();
        for id in open {
            self.server_lets_go(id);
        }
        self.server_gone(false, down_ms);
    }

    pub(crate) fn pause(&mut self, ms: u64) {
        if self.server.process.is_some() {
            let until = self.now + ms;
            log!(self, "server stands still for {ms}");
            self.server.paused_until = self.server.paused_until.max(until);
            self.model_paused(ms);
        }
    }

    pub(crate) fn store_write(&mut self, shard: usize, ops: Vec<RowOp>, ask: Option<AskId>) {
        let n = self.server.store.write(shard, ops, ask);
        log!(self, "write {n} of shard {shard}");
        self.model_wrote(shard, n);
        self.begin_commit();
    }

    /// Reports what the reader of the journal found.
    fn follow(&mut self) {
        if let Some(what) = self.server.store.wrong() {
            self.fail("journal", what);
        }
    }

    fn begin_commit(&mut self) {
        if self.server.store.begin() {
            let (until, slow, _) = self.server.disk_trouble;
            let delay = if until > self.now {
                self.server.rng.below(slow + 1)
            } else {
                self.server.rng.skewed(self.scenario.knobs.store_ms)
            };
            let process = self.server.process.as_ref().map_or(0, |process| process.id);
            self.after(delay, Ev::Commit(process));
        }
    }

    pub(crate) fn store_commit(&mut self, id: u64) {
        if let Some(until) = self.server.standing_still(self.now) {
            return self.at(until, Ev::Commit(id));
        }
        if self.server.process(id).is_none() || !self.server.store.commit_running {
            return;
        }
        let (until, _, fails) = self.server.disk_trouble;
        let fails = if until > self.now { fails } else { self.scenario.knobs.store_fails };
        let well = !self.server.rng.chance(fails);
        let acks = self.server.store.end(well);
        log!(self, "commit {}, stored {well}, {} waited", self.server.store.commits, acks.len());
        self.follow();
        for (shard, id) in acks {
            self.post(shard, Msg::Input(Input::Answer { id, answer: Answer::Stored(well) }));
        }
        self.begin_commit();
    }
}

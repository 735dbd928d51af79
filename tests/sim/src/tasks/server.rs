//! The server of a world of tasks: two engines, messages between them, a disk that acknowledges late, starts and ends.
//! Comes in: inputs of engines. Goes out: the effects of their outputs.

use std::collections::BTreeSet;

use lianmai_protocol::WallTime;
use lianmai_protocol::message::media::Urls;
use lianmai_signal_engine::task::{Refusal, RefusalReason};
use lianmai_signal_engine::{
    Answer, AskId, Engine, Input, Minted, Output, QueryId, Question, Record, Restored, RowOp,
};

use super::{CHANNELS, CLOCK_0, PendingWrite, SHARDS, TaskEvent, TaskWorld};
use crate::server::store::shard_of;

impl TaskWorld {
    pub(super) fn start(&mut self) {
        self.process += 1;
        self.up = true;
        self.drained = 0;
        self.arrives.clear();
        self.claims.clear();
        self.writes.clear();
        self.commit_due = false;
        self.conns.clear();
        for member in &mut self.members {
            member.conn = None;
            member.asked = None;
        }
        self.engines =
            (0..SHARDS).map(|_| Engine::new(self.config.clone(), self.rng.bytes())).collect();
        self.ticks = vec![u64::MAX; SHARDS];
        let mut rows = vec![Vec::new(); SHARDS];
        for (key, record) in &self.rows {
            let record =
                Record::read(&key.row, &record.text()).expect("a written record can be read");
            rows[shard_of(&key.channel, SHARDS)].push((key.clone(), record));
        }
        for (shard, rows) in rows.into_iter().enumerate() {
            let restored = Restored::of(rows, false);
            if !restored.invalid_rows.is_empty() {
                self.fail("tasks", format!("rows that fit nowhere: {:?}", restored.invalid_rows));
            }
            self.input(shard, Input::Restore(Box::new(restored)));
        }
        self.model.started(self.now);
        for ch in 0..CHANNELS {
            self.join(ch);
            self.compare(ch, "after a start");
        }
    }

    pub(super) fn go_down(&mut self, keep: usize) {
        for write in std::mem::take(&mut self.writes).into_iter().take(keep) {
            self.apply(write.ops);
        }
        for ch in 0..CHANNELS {
            let unanswered = self.members[ch].asked.take().map(|(_, call)| call);
            self.model.crashed(ch, unanswered);
        }
        self.up = false;
        let at = self.now + self.rng.between(1, 4_000);
        self.at(at, TaskEvent::Start);
    }

    pub(super) fn apply(&mut self, ops: Vec<RowOp>) {
        let mut changed = BTreeSet::new();
        for op in ops {
            match op {
                RowOp::Put(key, record) => {
                    changed.insert(key.channel.clone());
                    self.rows.insert(key, record);
                }
                RowOp::Drop(key) => {
                    changed.insert(key.channel.clone());
                    self.rows.remove(&key);
                }
                RowOp::AppendEvent(channel, record) => {
                    if let Err(wrong) = self.follower.append(&channel, &record) {
                        self.fail("journal", wrong);
                    }
                    changed.insert(channel);
                }
                RowOp::AppendHistory(..) => {}
                RowOp::DropChannel(channel) => {
                    self.rows
                        .retain(|key, _| key.channel != channel || !key.row.ends_with_channel());
                    changed.insert(channel);
                }
            }
        }
        // The journal must agree with the rows after each write.
        for channel in changed {
            if let Err(wrong) = self.follower.agrees(&channel, &self.rows) {
                self.fail("journal", wrong);
            }
        }
    }

    pub(super) fn write(&mut self, shard: usize, ops: Vec<RowOp>, ask: Option<AskId>) {
        self.writes.push_back(PendingWrite { shard, ops, ask });
        if !std::mem::replace(&mut self.commit_due, true) {
            let delay = if self.is_quiet() { 2 } else { self.rng.skewed(400) };
            self.at(self.now + delay, TaskEvent::Commit);
        }
    }

    pub(super) fn commit(&mut self) {
        self.commit_due = false;
        for PendingWrite { shard, ops, ask } in std::mem::take(&mut self.writes) {
            self.apply(ops);
            if let Some(id) = ask {
                let input = Input::Answer { id, answer: Answer::Stored(true) };
                self.at(self.now, TaskEvent::Input(shard, Box::new(input)));
            }
        }
    }

    /// Sends a message to an engine; it arrives after earlier ones of the same sender.
    pub(super) fn send(&mut self, from: usize, to: usize, input: Input) {
        let delay = self.rng.skewed(100);
        let least = self.arrives.get(&(from, to)).copied().unwrap_or(0);
        let at = (self.now + delay).max(least);
        self.arrives.insert((from, to), at);
        self.at(at, TaskEvent::Input(to, Box::new(input)));
    }

    pub(super) fn input(&mut self, shard: usize, input: Input) {
        let now = self.clock();
        let Some(engine) = self.engines.get_mut(shard) else { return };
        engine.handle(now, input);
        let outputs: Vec<Output> = std::iter::from_fn(|| engine.poll_output()).collect();
        let due = engine.next_deadline();
        for output in outputs {
            self.output(shard, output);
        }
        if let Some(due) = due.map(|due| due.0.saturating_sub(CLOCK_0).max(self.now))
            && due < self.ticks[shard]
        {
            self.ticks[shard] = due;
            self.at(due, TaskEvent::Tick(shard));
        }
    }

    pub(super) fn output(&mut self, shard: usize, output: Output) {
        match output {
            Output::Send { conn, frame } => self.receive(conn, &frame),
            Output::Ask { id, question } => match question {
                Question::Mint(request) => {
                    let url = format!("rtmp://media/{}", request.generation);
                    let urls = Urls { rtmp: Some(url.clone()), ..Urls::default() };
                    let minted = Minted { url, urls, renew_after: WallTime(u64::MAX) };
                    let answer = Answer::Minted(Some(minted));
                    self.at(
                        self.now,
                        TaskEvent::Input(shard, Box::new(Input::Answer { id, answer })),
                    );
                }
                Question::Admit(admission) => {
                    let refused = !self.is_quiet() && self.rng.chance(50);
                    let at = admission.tasks.first().map_or(0, |task| task.at);
                    let answer = match refused {
                        true => Err(Refusal { at, why: RefusalReason::NoRoom }),
                        false => Ok(()),
                    };
                    let late = self.now + self.rng.skewed(200);
                    let answer = Answer::Admitted(Some(answer));
                    self.at(late, TaskEvent::Input(shard, Box::new(Input::Answer { id, answer })));
                }
                Question::Claim(claim) => {
                    let to = shard_of(&claim.key.name(), SHARDS);
                    self.last_query += 1;
                    let query = QueryId(self.last_query);
                    self.claims.insert((to, query), (shard, id));
                    self.send(shard, to, Input::Claim { query, claim });
                }
                Question::Store(ops) => self.write(shard, ops, Some(id)),
                Question::Verify(_) => self.fail("tasks", "a token is looked at".to_owned()),
            },
            Output::Claimed { query, claimed } => {
                if let Some((to, id)) = self.claims.remove(&(shard, query)) {
                    let answer = Answer::Claimed(claimed);
                    self.send(shard, to, Input::Answer { id, answer });
                }
            }
            Output::Release { claim, rest } => {
                let to = shard_of(&claim.key.name(), SHARDS);
                self.send(shard, to, Input::Release { claim, rest });
            }
            Output::Store(ops) => self.write(shard, ops, None),
            Output::Order(order) => {
                let quiet = self.is_quiet();
                if let Some((at, executor)) = self.executors.order(order, self.now, quiet) {
                    self.at(at, TaskEvent::Executor(executor));
                }
            }
            Output::Drained { .. } => {
                self.drained += 1;
                if self.drained == SHARDS {
                    let keep = self.writes.len();
                    self.go_down(keep);
                }
            }
            _ => {}
        }
    }

    /// Steps an executor, and delivers its reports and what the receiver found.
    pub(super) fn executor_step(&mut self, at: usize) {
        let quiet = self.is_quiet();
        let step = self.executors.step(at, self.now, quiet);
        if let Some(wrong) = step.wrong {
            return self.fail("receiver", wrong);
        }
        for (delay, run, report) in step.reports {
            let shard = shard_of(&run.channel, SHARDS);
            let input = Input::Task { run, report };
            self.at(self.now + delay, TaskEvent::Input(shard, Box::new(input)));
        }
        if let Some(next) = step.next {
            self.at(next, TaskEvent::Executor(at));
        }
    }
}

//! The engine of one shard: routes each input and each due timer to its channel. This file is the loop; joins and
//! resumes are in `arrival`, the admin API in `admin`, the continuations of answers in `answers`, the relay's questions
//! in `relay`, the begin and end of a process in `restart`.
//!
//! The contract of the run loop: call [`Engine::handle`] with one input and the moment, then take every
//! output with [`Engine::poll_output`] and execute it in order, then sleep no longer than
//! [`Engine::next_deadline`] and hand in [`Input::Tick`].

mod admin;
mod answers;
mod arrival;
mod claims;
mod relay;
mod restart;
mod tasks;
mod waiting_plays;

use std::collections::{BTreeMap, BinaryHeap};

use lianmai_protocol::{CloseCode, MonoTime, Now, UserId};
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use crate::channel::Channel;
use crate::config::{EngineConfig, STALL_MS};
use crate::context::Context;
use crate::ids::{ChannelRef, ConnId};
use crate::input::Input;
use crate::key::ChannelKey;
use crate::output::{Note, Output, Stats};
use crate::rows::RowOp;
use crate::timers::Timer;

/// How often bans, holds and logs are swept, in milliseconds.
const SWEEP_MS: u64 = 60_000;

/// While it has channels an engine is called at least this often, in milliseconds, so that it notices a stall.
const PULSE_MS: u64 = 1_000;

/// See the module.
pub struct Engine {
    pub(crate) context: Context,
    channels: BTreeMap<ChannelRef, Channel>,
    names: BTreeMap<ChannelKey, ChannelRef>,
    last_channel: u64,
    sweeping: bool,
    /// Plays that wait for their viewer to come back.
    waiting_plays: waiting_plays::WaitingPlays,
    /// The claims of push addresses.
    claims: claims::Claims,
}

impl Engine {
    /// An engine without channels. `seed` must come from the operating system: ids and secrets follow
    /// from it.
    #[must_use]
    pub fn new(config: EngineConfig, seed: [u8; 32]) -> Self {
        Engine {
            context: Context::new(config, ChaCha12Rng::from_seed(seed)),
            channels: BTreeMap::new(),
            names: BTreeMap::new(),
            last_channel: 0,
            sweeping: false,
            waiting_plays: waiting_plays::WaitingPlays::default(),
            claims: claims::Claims::default(),
        }
    }

    /// Handles one input, and then every deadline that is due.
    pub fn handle(&mut self, now: Now, input: Input) {
        let before = self.context.now.mono;
        let mono = now.mono.max(before);
        self.context.now = Now { mono, wall: now.wall };
        self.forgive_stall(mono.since(before));
        self.input(input);
        while let Some(timer) = self.context.timers.pop_due(mono) {
            // While the engine is frozen only the deadlines of writes count; other timers are dropped.
            let is_write = matches!(timer, Timer::Ask(id) if self.context.asks.is_write(id));
            if !self.context.is_frozen() || is_write {
                self.timer(timer);
            }
        }
        self.hand_over();
        self.context.write_rows();
        self.fit_logs();
    }

    /// After a stall of the process: the time does not count as silence of members.
    fn forgive_stall(&mut self, gap_ms: u64) {
        if gap_ms <= STALL_MS {
            return;
        }
        for channel in self.channels.values_mut() {
            // With a margin in which the input that waits meanwhile is read.
            channel.forgive(gap_ms + STALL_MS);
        }
    }

    /// The next output, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.context.outputs.pop_front()
    }

    /// When [`Engine::handle`] must be called again if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<MonoTime> {
        let pulse = (!self.channels.is_empty()).then(|| self.context.now.mono + PULSE_MS);
        self.context.timers.next().into_iter().chain(pulse).min()
    }

    /// Counters for metrics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            channels: self.channels.len(),
            waiting_plays: self.waiting_plays.len(),
            ..self.context.stats
        }
    }

    fn input(&mut self, input: Input) {
        if self.context.is_frozen() && !self.completes_open_work(&input) {
            return self.refuse_frozen(input);
        }
        match input {
            Input::Restore(restored) => self.restore(*restored),
            Input::Join { conn, addr, request } => self.join(conn, addr, *request),
            Input::Reconnect { conn, addr, request } => self.reconnect(conn, addr, *request),
            Input::Frame { conn, frame } => {
                self.with_member(conn, |channel, cx, uid| channel.frame(cx, uid, conn, &frame));
            }
            Input::BinaryFrame { conn } => self.with_member(conn, |channel, cx, uid| {
                channel.drop_connection(cx, uid, CloseCode::PROTOCOL_VIOLATION);
            }),
            Input::ControlFrame { conn } => {
                self.with_member(conn, |channel, cx, uid| channel.control_frame(cx, uid, conn));
            }
            Input::Closed { conn } => {
                self.with_member(conn, |channel, cx, uid| channel.connection_lost(cx, uid, conn));
                if self.context.connections.remove(&conn).is_some() {
                    self.context.stats.connected -= 1;
                }
            }
            Input::Lagging { conn } => self.with_member(conn, |channel, cx, uid| {
                channel.drop_connection(cx, uid, CloseCode::SLOW_READER);
            }),
            Input::Answer { id, answer } => self.answered(id, answer),
            Input::Authorize { query, generation, access } => {
                self.authorize(query, generation, access);
            }
            Input::CancelAuthorize { query } => self.waiting_plays.remove(query),
            Input::MediaFlow { generation } => {
                if let Some(&id) = self.context.streams.get(&generation) {
                    self.with_channel(id, |channel, cx| channel.media_flow(cx, generation));
                }
            }
            Input::Push { generation, state } => {
                if let Some(&id) = self.context.streams.get(&generation) {
                    self.with_channel(id, |channel, cx| {
                        channel.push_changed(cx, generation, state)
                    });
                }
            }
            Input::StreamStats(stats) => {
                if let Some(&id) = self.context.streams.get(&stats.generation) {
                    self.with_channel(id, |channel, cx| channel.measured(cx, &stats));
                }
            }
            Input::Claim { query, claim } => self.claim(query, claim),
            Input::Release { claim, rest } => self.released(&claim, rest),
            Input::Task { run, report } => self.task_report(run, report),
            Input::Admin { query, command } => {
                // No reply yet if the change must be written first.
                if let Some(reply) = self.admin(query, command).transpose() {
                    self.context.outputs.push_back(Output::AdminReply { query, reply });
                }
            }
            Input::Drain(plan) => self.drain(plan),
            Input::Stop => {
                for conn in self.context.connections.keys().copied().collect::<Vec<_>>() {
                    self.with_member(conn, |channel, cx, uid| {
                        channel.drop_connection(cx, uid, CloseCode::GOING_AWAY);
                    });
                }
            }
            Input::Tick => {}
        }
    }

    fn sweep_from_now_on(&mut self) {
        if !std::mem::replace(&mut self.sweeping, true) {
            self.context.arm_in(SWEEP_MS, Timer::Sweep);
        }
    }

    /// Keeps all logs together within their budget: the largest ones are halved (RES-7).
    fn fit_logs(&mut self) {
        let most = self.context.config.log_bytes;
        if self.context.stats.log_bytes <= most {
            return;
        }
        // Somewhat more than needed, so that the next event does not ask for it again.
        let enough = most - most / 16;
        let sizes = self.channels.iter().map(|(id, channel)| (channel.log_bytes(), *id));
        let mut sizes: BinaryHeap<_> = sizes.collect();
        while self.context.stats.log_bytes > enough
            && let Some((bytes, id)) = sizes.pop()
            && let Some(channel) = self.channels.get_mut(&id)
        {
            channel.halve_log(&mut self.context);
            // Events that were not sent stay, so a log may give nothing.
            if channel.log_bytes() < bytes {
                sizes.push((channel.log_bytes(), id));
            }
        }
    }

    pub(crate) fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.channels.values()
    }

    fn timer(&mut self, timer: Timer) {
        match timer {
            Timer::Flush(id) => self.with_channel(id, Channel::flush_due),
            Timer::Count(id) => self.with_channel(id, Channel::count_due),
            Timer::Levels(id) => self.with_channel(id, Channel::levels_due),
            Timer::Liveness(id, uid) => {
                self.with_channel(id, |channel, cx| channel.liveness_due(cx, uid));
            }
            Timer::Grace(id, uid) => {
                self.with_channel(id, |channel, cx| channel.grace_due(cx, uid))
            }
            Timer::Token(id, uid) => {
                self.with_channel(id, |channel, cx| channel.token_due(cx, uid))
            }
            Timer::Ask(id) => self.question_timed_out(id),
            Timer::Tasks(id) => self.with_channel(id, Channel::tasks_due),
            Timer::Stopping => self.stopping_due(),
            Timer::Sweep => {
                let cx = &mut self.context;
                cx.restrictions.sweep(cx.now, &mut cx.ops);
                let names = &self.names;
                cx.journal.sweep(cx.now.wall, |key| names.contains_key(key), &mut cx.ops);
                cx.arm_in(SWEEP_MS, Timer::Sweep);
                self.sweep_claims();
                for channel in self.channels.values_mut() {
                    channel.sweep(&mut self.context);
                }
                let over = self.channels.iter().filter(|(_, channel)| channel.is_over());
                for id in over.map(|(id, _)| *id).collect::<Vec<_>>() {
                    self.with_channel(id, |_, _| ());
                }
            }
            Timer::WaitingPlays => self.check_waiting_plays(),
            Timer::Drain => self.drain_due(),
        }
    }

    pub(crate) fn with_member(
        &mut self,
        conn: ConnId,
        run: impl FnOnce(&mut Channel, &mut Context, UserId),
    ) {
        if let Some(&member) = self.context.connections.get(&conn) {
            self.with_channel(member.channel, |channel, cx| run(channel, cx, member.uid));
        }
    }

    fn with_channel(&mut self, id: ChannelRef, run: impl FnOnce(&mut Channel, &mut Context)) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        run(channel, &mut self.context);
        channel.settle(&mut self.context);
        if channel.is_over() {
            channel.end_tasks(&mut self.context);
            channel.end_history(&mut self.context);
            let note = Note::ChannelEnded { channel: channel.key().clone(), cid: channel.cid() };
            self.context.note(note);
            self.context.ops.push(RowOp::DropChannel(channel.key().clone()));
            self.context.stats.log_bytes -= channel.log_bytes();
            self.names.remove(channel.key());
            self.channels.remove(&id);
        }
    }
}

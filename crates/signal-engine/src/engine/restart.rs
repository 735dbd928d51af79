//! Begin of a process from the state of an earlier one, and the hand-over to the next one (ADR 0009, RST-1, RST-2).
//! Comes in: records, or a plan. Goes out: channels with all members in grace; `serverRestarting` to every member, the
//! close of their sockets, spread over time, and all state as rows.
//!
//! ```text
//!   notice       notice over              last one closed            all is written
//!    |--- served ----|--- served, sockets close ---|--- no more input ------|--> Drained
//! ```

use lianmai_protocol::message::event::LeaveReason;
use lianmai_protocol::message::session::ResumeReason;
use lianmai_protocol::{CloseCode, ErrorName, RpcError};

use super::Engine;
use crate::asks::{AfterWrite, Answer};
use crate::channel::{Channel, RESTARTED};
use crate::drain::{Drain, DrainPlan};
use crate::ids::ChannelRef;
use crate::input::{Input, ReconnectRequest};
use crate::key::ChannelKey;
use crate::output::{Note, Output};
use crate::record::{ChannelRecord, MemberRecord, TaskRecord};
use crate::rows::{Restored, RowOp};
use crate::timers::Timer;

/// Sockets are closed in steps of this many milliseconds.
const STEP_MS: u64 = 50;

impl Engine {
    /// Restores the state of an earlier process: all members are in grace from now on.
    pub(super) fn restore(&mut self, restored: Restored) {
        let cx = &mut self.context;
        cx.restrictions.restore(cx.now, &restored, &mut cx.ops);
        cx.journal.restore(&restored.journals);
        cx.ops.extend(restored.invalid_rows.into_iter().map(RowOp::Drop));
        if !restored.clean {
            cx.crash_grace_end = Some(cx.now.mono + cx.config.restart_grace_ms);
        }
        self.restore_claims(restored.claims);
        let mut tasks = restored.tasks;
        for (key, record, members) in restored.channels {
            let policy = self.context.config.apps.get(&key.appkey).cloned();
            let stays = !members.is_empty() || record.outlives_members(self.context.now.wall);
            let Some(policy) = policy.filter(|_| stays) else {
                let tasks = tasks.remove(&key).unwrap_or_default();
                self.journal_unrestored(&key, &record, &members, &tasks);
                self.context.ops.push(RowOp::DropChannel(key));
                continue;
            };
            if self.names.contains_key(&key) {
                continue;
            }
            self.last_channel += 1;
            let id = ChannelRef(self.last_channel);
            let channel =
                Channel::restored(&mut self.context, id, key.clone(), policy, record, members);
            self.channels.insert(id, channel);
            if let Some(tasks) = tasks.remove(&key) {
                self.with_channel(id, |channel, cx| {
                    channel.restore_tasks(cx, tasks, restored.clean);
                });
            }
            self.names.insert(key, id);
        }
        self.sweep_from_now_on();
    }

    /// Tells journal and history the end of a channel that is not restored, for instance because its app was removed.
    fn journal_unrestored(
        &mut self,
        channel: &ChannelKey,
        record: &ChannelRecord,
        members: &[MemberRecord],
        tasks: &[TaskRecord],
    ) {
        let cid = record.cid;
        for member in members {
            let (uid, mid, reason) = (member.uid, member.mid, LeaveReason::ServerRestart);
            for (kind, publication) in member.published.iter().cloned() {
                let channel = channel.clone();
                let note = Note::StreamRemoved { channel, cid, uid, mid, kind, publication };
                self.context.journal_event(&note);
            }
            let channel = channel.clone();
            self.context.journal_event(&Note::MemberLeft { channel, cid, uid, mid, reason });
        }
        for task in tasks {
            let (channel, task) = (channel.clone(), task.task.clone());
            let msg = RESTARTED.to_owned();
            self.context.journal_event(&Note::TaskEnded { channel, cid, task, msg });
        }
        self.context.journal_event(&Note::ChannelEnded { channel: channel.clone(), cid });
    }

    /// Whether an input completes work that was begun before the freeze. State that is being handed over no longer
    /// changes: a command that still waits then runs in the next process, when its client repeats it.
    pub(super) fn completes_open_work(&self, input: &Input) -> bool {
        let handing_over = self.context.drain.as_ref().is_some_and(|drain| drain.handing_over);
        match input {
            Input::Answer { answer: Answer::Stored(_) | Answer::Claimed(_), .. }
            | Input::Claim { .. }
            | Input::Release { .. } => true,
            Input::Answer { .. } => !handing_over,
            _ => false,
        }
    }

    /// Refuses an input that comes too late.
    pub(super) fn refuse_frozen(&mut self, input: Input) {
        match input {
            Input::Join { conn, request, .. } => {
                let away_ms =
                    self.context.drain.as_ref().map_or(0, |d| d.away_ms(self.context.mono()));
                let error = RpcError::new(ErrorName::Draining).retry_after_ms(away_ms);
                self.context.refuse_join(conn, request.id, &error);
            }
            Input::Reconnect { conn, request, .. } => {
                let ReconnectRequest { id, claims, .. } = *request;
                self.context.refuse_resume(conn, id, claims, ResumeReason::Draining);
            }
            Input::Admin { query, .. } => {
                let reply = Err(ErrorName::Draining.into());
                self.context.outputs.push_back(Output::AdminReply { query, reply });
            }
            // A question changes nothing: pushes and plays continue (RST-4).
            Input::Authorize { query, generation, access } => {
                let verdict = self.may_use(generation, access);
                self.context.outputs.push_back(Output::Verdict { query, verdict });
            }
            _ => {}
        }
    }

    pub(crate) fn drain(&mut self, plan: DrainPlan) {
        if self.context.drain.is_some() {
            return;
        }
        self.context.drain = Some(Drain::begin(plan, self.context.mono()));
        if let Some(notice) = self.context.restart_notice() {
            let notice = bytes::Bytes::from(notice);
            for conn in self.context.connections.keys().copied().collect::<Vec<_>>() {
                self.context.send(conn, notice.clone());
            }
        }
        let first = if self.context.connections.is_empty() { 0 } else { plan.notice_ms };
        self.context.arm_in(first, Timer::Drain);
    }

    /// Closes so many sockets per step that all are closed when the engine freezes.
    pub(crate) fn drain_due(&mut self) {
        let now = self.context.mono();
        let Some(drain) = self.context.drain.as_ref().filter(|drain| !drain.frozen) else { return };
        let steps = drain.closed_by().since(now).div_ceil(STEP_MS);
        let open: Vec<_> = self.context.connections.keys().copied().collect();
        let close = usize::try_from(steps).map_or(0, |steps| open.len().div_ceil(steps.max(1)));
        for conn in open.into_iter().take(close) {
            self.with_member(conn, |channel, cx, uid| {
                channel.drop_connection(cx, uid, CloseCode::SERVER_RESTART);
            });
        }
        if self.context.connections.is_empty() {
            self.freeze();
        } else {
            self.context.arm_in(STEP_MS, Timer::Drain);
        }
    }

    fn freeze(&mut self) {
        if let Some(drain) = &mut self.context.drain {
            drain.frozen = true;
        }
        self.hand_over();
    }

    /// Writes all state as soon as no write is open: work that was begun is finished first.
    pub(crate) fn hand_over(&mut self) {
        let Some(drain) = self.context.drain.as_mut().filter(|drain| drain.frozen) else { return };
        if self.context.asks.has_writes() || std::mem::replace(&mut drain.handing_over, true) {
            return;
        }
        let now = self.context.mono();
        for channel in self.channels.values_mut() {
            channel.end_history(&mut self.context);
            channel.refuse_waiting_requests(&mut self.context);
        }
        let mut ops = std::mem::take(&mut self.context.ops);
        for channel in self.channels() {
            channel.hand_over(now, &mut ops);
        }
        self.context.ops = ops;
        self.context.store(AfterWrite::HandOver);
    }
}

//! One channel: its members, streams and log. Comes in: joins, frames, timers. Goes out: events to all, answers to one.
//! This file holds the state and the sending of events; the path of a command is in `command`, the effect of each
//! command in the other siblings.
//!
//! ```text
//!   frame -> elements -> id, rate -> command (entry, media, moderation, talk) -> events in the log
//!                                                                            -> answer, behind them
//!   log -- at once, or 20 ms after the last flush --> one shared frame to every connected member
//!     `-- sent events stay for a while, for members that come back (resume)
//!   touched members -- at the end of the turn --> records (persist) --> store
//! ```

mod admin;
mod command;
mod cost;
mod entry;
mod flow;
mod history;
mod log;
mod media;
mod member;
mod moderation;
mod persist;
mod quality;
mod report;
mod resume;
mod session;
mod snapshot;
mod talk;
mod tasks;
mod text_budget;
mod urls;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use lianmai_protocol::codec::{self};
use lianmai_protocol::message::media::Urls;
use lianmai_protocol::message::notice::MemberCount;
use lianmai_protocol::message::{ChannelEvent, Notice};
use lianmai_protocol::{
    Attributes, Cid, Gen, KindSet, MediaKind, RequestId, Rights, RpcError, UserId, WallTime,
};

pub(crate) use self::moderation::{check_kick, not_stored};
pub(crate) use self::tasks::RESTARTED;

use self::cost::EventRate;
use self::history::HistoryBudget;
use self::log::{EVENT_COST, EventLog};
use self::media::Stream;
use self::member::Member;
use self::quality::Flows;
use self::snapshot::SnapshotCache;
use self::tasks::Tasks;
use self::text_budget::TextBudget;
use crate::config::AppPolicy;
use crate::context::Context;
use crate::ids::{AskId, ChannelRef, ConnId, MemberRef};
use crate::key::ChannelKey;
use crate::output::{ChannelView, MemberView, Note};
use crate::record::ChannelRules;
use crate::restrictions::RestrictionSlot;
use crate::timers::Timer;

/// `memberCount` notices are at least this far apart, in milliseconds.
const COUNT_INTERVAL_MS: u64 = 1_000;

/// The answer of a command, before the head of the log is known.
#[derive(Debug)]
enum Reply {
    Done,
    Empty,
    Published {
        url: String,
        urls: Urls,
        generation: Gen,
    },
    Subscribed {
        uid: UserId,
        url: String,
        urls: Urls,
    },
    Sent {
        delivered: u64,
    },
    Renewed {
        rights: Rights,
        token_expires_in_ms: Option<u64>,
    },
    /// The answer comes after that of the shell.
    Deferred,
    /// Answered and closed already.
    AlreadyAnswered,
}

type CommandResult = Result<Reply, RpcError>;

pub(crate) struct Channel {
    id: ChannelRef,
    key: ChannelKey,
    cid: Cid,
    policy: AppPolicy,
    /// Its creator; `None` until the first join, if it was created without one.
    creator: Option<UserId>,
    /// Rules that an operator set for it.
    rules: ChannelRules,
    /// Created before its first join: it waits until then for one.
    prepared_until: Option<WallTime>,
    /// Its begin was noted.
    opened: bool,
    attributes: Attributes,
    log: EventLog,
    members: BTreeMap<UserId, Member>,
    broadcasters: usize,
    /// Bytes that names and attributes take.
    text_budget: TextBudget,
    /// Bytes of events lately.
    event_rate: EventRate,
    /// Members that were made audience: the moderator that did it (`None`: an operator), and the place of the
    /// restriction (ROL-4).
    demoted: BTreeMap<UserId, (Option<UserId>, Option<RestrictionSlot>)>,
    /// Kinds that a uid may not publish, as an operator set them.
    barred: BTreeMap<UserId, KindSet>,
    streams: BTreeMap<Gen, Stream>,
    tasks: Tasks,
    snapshot: SnapshotCache,
    announced_count: usize,
    count_armed: bool,
    /// Recent replacements by uid: how many, and since when (JOI-4).
    replaced: BTreeMap<UserId, (u32, lianmai_protocol::MonoTime)>,
    /// Quality of media, and the number of steps that the history got lately.
    flows: Flows,
    history_budget: HistoryBudget,
    /// Members that differ from their rows, and whether the channel differs from its row.
    touched: BTreeSet<UserId>,
    unwritten: bool,
    /// The last write of a moderator's change of `demoted`, or of an operator's change, until it is known to be stored
    /// (RST-5).
    unstored: Option<AskId>,
    /// Members whose command was superseded in this turn; the commands behind it run at its end.
    superseded: VecDeque<UserId>,
    /// The close is written or being written, and not visible yet.
    ending: bool,
    closed: bool,
}

impl Channel {
    /// Whether the channel has ended and can be dropped.
    pub(crate) fn is_over(&self) -> bool {
        self.closed || (self.members.is_empty() && !self.outlives_members())
    }

    pub(crate) fn key(&self) -> &ChannelKey {
        &self.key
    }

    pub(crate) fn cid(&self) -> Cid {
        self.cid
    }

    pub(crate) fn view(&self) -> ChannelView {
        ChannelView {
            channel: self.key.clone(),
            cid: self.cid,
            creator: self.creator,
            members: self.members.len(),
            broadcasters: self.broadcasters,
        }
    }

    pub(crate) fn member_views(&self) -> Vec<MemberView> {
        self.members
            .values()
            .map(|member| MemberView {
                uid: member.uid,
                mid: member.mid,
                role: member.role.clone(),
                connected: member.conn.is_some(),
                published: member.published(),
                muted: member.muted,
            })
            .collect()
    }

    fn member_ref(&self, uid: UserId) -> MemberRef {
        MemberRef { channel: self.id, uid }
    }

    fn refuse(
        &mut self,
        cx: &mut Context,
        conn: ConnId,
        id: Option<RequestId>,
        method: Option<&'static str>,
        error: &RpcError,
    ) {
        cx.stats.refusals += 1;
        cx.note(Note::CommandRefused { conn, method, error: error.name().clone() });
        cx.send_text(conn, codec::encode_error(id, error));
    }

    /// Sends a text to one member, after the events that it has not been sent yet.
    fn send_behind_events(&mut self, cx: &mut Context, uid: UserId, text: Bytes) {
        let Some(member) = self.members.get_mut(&uid) else { return };
        let Some(conn) = member.conn else { return };
        for frame in self.log.frames_after(member.cursor) {
            cx.send(conn, frame);
        }
        member.cursor = self.log.head();
        cx.send(conn, text);
    }

    fn notify(&mut self, cx: &mut Context, uid: UserId, notice: &Notice) {
        self.send_behind_events(cx, uid, codec::encode_notice(notice).into());
    }

    /// Appends an event for all members. Nothing follows the end of a channel (EVT-5).
    fn emit(&mut self, cx: &mut Context, event: &ChannelEvent) {
        if self.closed {
            return;
        }
        let bytes = self.log.append(event, cx.mono());
        self.event_rate.add(bytes - EVENT_COST, cx.mono(), &cx.config.limits);
        cx.stats.log_bytes += bytes;
        cx.stats.events += 1;
        if let ChannelEvent::StreamAdded(change) | ChannelEvent::StreamRemoved(change) = event {
            let composed = [MediaKind::Audio, MediaKind::Video];
            let member = self.members.get(&change.uid);
            let publishes = member.is_some_and(|member| {
                composed.iter().any(|kind| member.publication(kind).is_some())
            });
            self.tasks.media_changed(change.uid, publishes);
        }
    }

    /// After each input: sends the waiting events if they are due, otherwise arms a timer for them.
    pub(crate) fn settle(&mut self, cx: &mut Context) {
        self.resume_superseded(cx);
        self.settle_tasks(cx);
        if self.log.has_pending() {
            let at = self.log.flush_at(cx.config.flush_interval_ms);
            if at <= cx.mono() {
                self.flush(cx);
            } else if !self.log.flush_armed {
                self.log.flush_armed = true;
                cx.timers.arm(at, Timer::Flush(self.id));
            }
        }
        self.write_rows(cx);
        if !self.count_armed && self.announced_count != self.members.len() && !self.is_over() {
            self.count_armed = true;
            cx.arm_in(COUNT_INTERVAL_MS, Timer::Count(self.id));
        }
    }

    pub(crate) fn flush_due(&mut self, cx: &mut Context) {
        self.log.flush_armed = false;
        if self.log.has_pending() {
            self.flush(cx);
        }
    }

    fn flush(&mut self, cx: &mut Context) {
        let head = self.log.head();
        let mut by_cursor = BTreeMap::new();
        for member in self.members.values_mut() {
            let Some(conn) = member.conn else { continue };
            if member.cursor == head {
                continue;
            }
            let frames = by_cursor
                .entry(member.cursor)
                .or_insert_with(|| self.log.frames_after(member.cursor));
            for frame in frames.iter() {
                cx.send(conn, Bytes::clone(frame));
            }
            member.cursor = head;
        }
        self.log.flushed(cx.mono());
        self.trim_log(cx);
    }

    /// Forgets events that no returning member can need.
    pub(crate) fn trim_log(&mut self, cx: &mut Context) {
        let timers = &cx.config.timers;
        let age = timers.dead_after_ms + timers.media_cap_ms;
        cx.stats.log_bytes -= self.log.trim(self.members.len(), age, cx.mono());
    }

    /// Forgets state that is no longer needed.
    pub(crate) fn sweep(&mut self, cx: &mut Context) {
        if self.prepared_until.is_some_and(|until| until <= cx.now.wall) {
            self.prepared_until = None;
        }
        self.trim_log(cx);
        self.forget_replacements(cx);
        self.close_budget_windows(cx, false);
    }

    /// Forgets the older half of the log.
    pub(crate) fn halve_log(&mut self, cx: &mut Context) {
        cx.stats.log_bytes -= self.log.halve();
    }

    /// Bytes of the log.
    pub(crate) fn log_bytes(&self) -> usize {
        self.log.bytes()
    }

    pub(crate) fn count_due(&mut self, cx: &mut Context) {
        self.count_armed = false;
        if self.announced_count == self.members.len() {
            return;
        }
        self.announced_count = self.members.len();
        let notice = Notice::MemberCount(MemberCount { count: self.announced_count as u64 });
        let frame = Bytes::from(codec::encode_notice(&notice));
        for conn in self.members.values().filter_map(|member| member.conn) {
            cx.send(conn, frame.clone());
        }
    }
}

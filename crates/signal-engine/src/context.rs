//! State that the channels of an engine share: the time, the queue of outputs, timers, the members of connections, and
//! the bans. A channel gets it with each call, so it needs no reference to its engine.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use lianmai_protocol::message::Notice;
use lianmai_protocol::message::notice::ServerRestarting;
use lianmai_protocol::message::session::{CloseChannel, Kick, Outcome, ResumeReason};
use lianmai_protocol::{
    Action, Cid, CloseCode, Epoch, ErrorName, Gen, Mid, MonoTime, Now, Pub, RequestId, RpcError,
    SessionId, UserId, codec,
};
use rand_chacha::ChaCha12Rng;
use rand_core::Rng;

use crate::asks::{AfterWrite, Continuation, OpenQuestions, Question};
use crate::config::EngineConfig;
use crate::debts::Debts;
use crate::drain::Drain;
use crate::endings::Endings;
use crate::history::{HistoryEntry, HistoryRecord};
use crate::ids::{AskId, ChannelRef, ConnId, MemberRef};
use crate::journal::Journal;
use crate::key::{self, ChannelKey};
use crate::lobby::{closing_notice, refused_resume};
use crate::output::{Note, Output, Stats};
use crate::restrictions::{Maker, Restrictions};
use crate::rows::RowOp;
use crate::stopping_runs::StoppingRuns;
use crate::ticket::TicketClaims;
use crate::timers::{Timer, Timers};

/// See the module.
pub(crate) struct Context {
    pub(crate) config: EngineConfig,
    pub(crate) now: Now,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) timers: Timers,
    pub(crate) connections: BTreeMap<ConnId, MemberRef>,
    pub(crate) streams: BTreeMap<Gen, ChannelRef>,
    pub(crate) asks: OpenQuestions,
    pub(crate) restrictions: Restrictions,
    pub(crate) debts: Debts,
    pub(crate) endings: Endings,
    /// Runs of tasks that were told to stop.
    pub(crate) stopping: StoppingRuns,
    pub(crate) journal: Journal,
    /// Row operations to write at the end of this turn.
    pub(crate) ops: Vec<RowOp>,
    pub(crate) drain: Option<Drain>,
    /// After a crash: until then a ticket can replace a token (RES-9), and plays wait for their viewers (RST-4).
    pub(crate) crash_grace_end: Option<MonoTime>,
    /// Memberships that were restored after a crash, for as long as plays wait for viewers.
    pub(crate) awaited_viewers: BTreeMap<Mid, MemberRef>,
    pub(crate) stats: Stats,
    rng: ChaCha12Rng,
}

impl Context {
    pub(crate) fn new(config: EngineConfig, rng: ChaCha12Rng) -> Self {
        let restrictions = Restrictions::new(config.limits.bans, config.apps.len());
        Context {
            config,
            now: Now::default(),
            outputs: VecDeque::new(),
            timers: Timers::default(),
            connections: BTreeMap::new(),
            streams: BTreeMap::new(),
            asks: OpenQuestions::default(),
            restrictions,
            debts: Debts::default(),
            endings: Endings::default(),
            stopping: StoppingRuns::default(),
            journal: Journal::default(),
            ops: Vec::new(),
            drain: None,
            crash_grace_end: None,
            awaited_viewers: BTreeMap::new(),
            stats: Stats::default(),
            rng,
        }
    }

    pub(crate) fn mono(&self) -> MonoTime {
        self.now.mono
    }

    pub(crate) fn arm_in(&mut self, ms: u64, timer: Timer) {
        self.timers.arm(self.now.mono + ms, timer);
    }

    pub(crate) fn send(&mut self, conn: ConnId, frame: Bytes) {
        self.stats.frames += 1;
        self.outputs.push_back(Output::Send { conn, frame });
    }

    pub(crate) fn send_text(&mut self, conn: ConnId, text: String) {
        self.send(conn, Bytes::from(text));
    }

    pub(crate) fn note(&mut self, note: Note) {
        self.journal_event(&note);
        self.outputs.push_back(Output::Note(note));
    }

    /// Appends the event of a note to the journal and the history, once: with the note, or before it.
    pub(crate) fn journal_event(&mut self, note: &Note) {
        if !self.config.records_events() {
            return;
        }
        let Some((channel, cid, event)) = self.journal.take_event(note) else { return };
        if self.config.history {
            self.record_history(channel, cid, HistoryEntry::Event(event.clone()));
        }
        if self.config.journal {
            self.journal.append(channel, cid, event, self.now.wall, &mut self.ops);
        }
    }

    /// Adds an entry to the history of a channel.
    pub(crate) fn record_history(&mut self, channel: &ChannelKey, cid: Cid, entry: HistoryEntry) {
        let record = HistoryRecord { at: self.now.wall, cid, entry };
        self.ops.push(RowOp::AppendHistory(channel.clone(), Box::new(record)));
    }

    /// Announces and closes a connection, and forgets it. A slow reader gets no announcement, since it
    /// would not arrive.
    pub(crate) fn close(&mut self, conn: ConnId, code: CloseCode) {
        if self.connections.remove(&conn).is_some() {
            self.stats.connected -= 1;
        }
        if code != CloseCode::SLOW_READER {
            let drain = self.drain.as_ref().filter(|_| code == CloseCode::SERVER_RESTART);
            let retry_after_ms = drain.map(|drain| drain.away_ms(self.mono()));
            self.send_text(conn, closing_notice(code, None, retry_after_ms));
        }
        self.note(Note::Closing { conn, code });
        self.outputs.push_back(Output::Close { conn, code });
    }

    /// The notice of a drain as of now, as text; `None` without a drain.
    pub(crate) fn restart_notice(&self) -> Option<String> {
        let drain = self.drain.as_ref()?;
        Some(codec::encode_notice(&Notice::ServerRestarting(ServerRestarting {
            retry_after_ms: drain.plan.retry_after_ms,
            jitter_ms: drain.plan.jitter_ms,
            deadline_ms: drain.gone_by().since(self.mono()),
        })))
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| drain.frozen)
    }

    /// Answers a join with an error, announces what to do about it, and closes.
    pub(crate) fn refuse_join(&mut self, conn: ConnId, id: RequestId, error: &RpcError) {
        self.stats.refusals += 1;
        let code = CloseCode::JOIN_REFUSED;
        // The error tells whether and when to come back (SES-4).
        let action = match error.name() {
            ErrorName::TokenExpired => Action::RenewToken,
            _ => Action::None,
        };
        self.send_text(conn, codec::encode_error(Some(id), error));
        self.send_text(conn, closing_notice(code, Some(action), error.data.retry_after_ms));
        self.note(Note::Closing { conn, code });
        self.outputs.push_back(Output::Close { conn, code });
    }

    /// Answers a reconnect with a refusal, and closes.
    pub(crate) fn refuse_resume(
        &mut self,
        conn: ConnId,
        id: RequestId,
        claims: TicketClaims,
        reason: ResumeReason,
    ) {
        let (channel, uid) = (claims.channel, claims.uid);
        let (outcome, why) = (Outcome::Refused, Some(reason.clone()));
        self.note(Note::Resumed { channel, uid, mid: None, conn, outcome, reason: why });
        self.stats.refusals += 1;
        let retry_after_ms = self.drain.as_ref().map(|drain| drain.away_ms(self.mono()));
        for text in refused_resume(id, reason, retry_after_ms) {
            self.send_text(conn, text);
        }
        let code = CloseCode::JOIN_REFUSED;
        self.note(Note::Closing { conn, code });
        self.outputs.push_back(Output::Close { conn, code });
    }

    /// Asks the shell; `then` continues with the answer, or at the deadline.
    pub(crate) fn ask(&mut self, question: Question, then: Continuation) -> AskId {
        let timeout_ms = then.timeout_ms();
        let id = self.asks.open(then);
        if let Some(ms) = timeout_ms {
            self.arm_in(ms, Timer::Ask(id));
        }
        self.outputs.push_back(Output::Ask { id, question });
        id
    }

    /// Writes the pending row operations, and continues with `then` after that.
    pub(crate) fn store(&mut self, then: AfterWrite) -> AskId {
        let ops = std::mem::take(&mut self.ops);
        self.ask(Question::Store(ops), Continuation::AfterWrite(then))
    }

    /// Writes the pending row operations; nothing waits for the result.
    pub(crate) fn write_rows(&mut self) {
        if !self.ops.is_empty() {
            let ops = std::mem::take(&mut self.ops);
            self.outputs.push_back(Output::Store(ops));
        }
    }

    /// Bans a uid: the first change of a kick, and the only one that can be refused.
    pub(crate) fn ban(
        &mut self,
        key: &ChannelKey,
        params: &Kick,
        maker: Maker,
    ) -> Result<(), RpcError> {
        let (uid, duration_s) = (params.uid, params.duration_s);
        self.restrictions.ban(key, uid, maker, self.now, duration_s, &mut self.ops)
    }

    /// Holds a channel's name: the first change of a close, as [`Context::ban`] is of a kick.
    pub(crate) fn hold(
        &mut self,
        key: &ChannelKey,
        params: &CloseChannel,
        maker: Maker,
    ) -> Result<(), RpcError> {
        self.restrictions.hold(key, maker, self.now, params.hold_s, &mut self.ops)
    }

    fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    pub(crate) fn new_epoch(&mut self) -> Epoch {
        Epoch(self.random())
    }

    pub(crate) fn new_mid(&mut self) -> Mid {
        Mid(self.random())
    }

    pub(crate) fn new_pub(&mut self) -> Pub {
        Pub(self.random())
    }

    pub(crate) fn new_session_id(&mut self) -> SessionId {
        SessionId(self.random())
    }

    pub(crate) fn new_generation(&mut self, route: u32) -> Gen {
        Gen { route, random: self.random() }
    }

    /// A number 1..2^53.
    pub(crate) fn new_cid(&mut self) -> Cid {
        Cid((self.rng.next_u64() >> 11).max(1))
    }

    /// Bytes of targeted messages that a member may keep, one of `bytes` included: as many as the shard may keep, or an
    /// equal share if the shard would keep too many. So a member that confirms none takes no room from the others.
    pub(crate) fn message_room(&self, bytes: usize) -> usize {
        let most = self.config.message_bytes;
        if self.stats.message_bytes + bytes <= most {
            return most;
        }
        most / self.stats.members.max(1)
    }

    /// A uid 2^32..2^53; the caller checks that it is free.
    pub(crate) fn new_uid(&mut self) -> UserId {
        key::given_uid(self.rng.next_u64())
    }
}

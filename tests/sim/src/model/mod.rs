//! The reference model: a second, plain implementation of the rules of docs/protocol.md, which gets the same inputs in
//! the same order as the engine. It predicts every event, answer, close and cut; any difference is a failure. It shares
//! only protocol types with the engine, and the two values that the shell passes to it with a join or a resume: the
//! grant of a token, and the claims of a ticket.
//!
//! Where the rules leave a choice, the model takes the engine's choice and checks it: random ids, the moment at which
//! something is due within its bounds, whether a request exceeds a rate.
//!
//! Comes in: inputs and their outputs (decoded by `check/wire.rs`). Goes out: the first difference. `state.rs` holds
//! the state. `entry.rs`, `resume.rs` and `ending.rs` cover the beginning, continuation and end of memberships,
//! `frames.rs` the input of connections, `commands.rs`, `media.rs` and `moderation.rs` the commands, `notices.rs` the
//! notices, `kinds.rs` the kinds that the relay is told, `moved.rs` the URLs after the relay moved, `due.rs` the
//! effects of time, `durable.rs` what must survive the process; `verify.rs` compares.

mod commands;
mod due;
mod durable;
mod ending;
mod entry;
mod frames;
mod kinds;
mod media;
mod moderation;
mod moved;
mod notices;
mod resume;
mod state;
mod verify;

use std::collections::{BTreeMap, VecDeque};

use lianmai_client_sdk::session::Picture;
use lianmai_protocol::message::Notice;
use lianmai_protocol::message::session::{Joined, Resumed};
use lianmai_protocol::{
    Appkey, CloseCode, Epoch, ErrorName, Gen, Mid, Pub, RequestId, RpcError, UserId,
};
use lianmai_signal_engine::{
    AdminReply, Answer, AskId, ChannelKey, ConnId, Input, MintRequest, Note, Output, QueryId,
    Question, Restored, Stats, TicketKey,
};

use crate::check::wire::DecodedOutputs;
use crate::scenario::Scenario;
use crate::world::World;
use durable::Expected;
use state::{MemberRef, ModelShard, Rules};

/// A difference from the model: the checker that reports it, and what is wrong.
pub(crate) type Difference = (&'static str, String);
type Verdict<T = ()> = Result<T, Difference>;

/// The expected answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expect {
    /// A result with this `seq`.
    Done {
        seq: u64,
    },
    Published {
        seq: u64,
        generation: Gen,
    },
    Subscribed {
        seq: u64,
        uid: UserId,
    },
    Sent {
        seq: u64,
        delivered: u64,
    },
    Renewed {
        seq: u64,
    },
    Nothing,
    Pong,
    /// An error of this name.
    Error(ErrorName),
    /// The same bytes as the first answer, if they were seen.
    Again(Option<u64>),
    /// `entry.rs` or `resume.rs` checks this answer.
    Entered,
}

/// The processing of one input.
pub(crate) struct InputStep<'a> {
    now: u64,
    wall: u64,
    caused: &'a DecodedOutputs,
    mints: VecDeque<(AskId, MintRequest)>,
    writes: VecDeque<AskId>,
    verifications: VecDeque<AskId>,
    /// `rateLimited` answers of the engine that are not attributed to a request yet.
    limited: Vec<(ConnId, RequestId)>,
    closed: Vec<(ConnId, CloseCode)>,
    cut: Vec<Gen>,
    cut_viewers: Vec<(Gen, Mid)>,
    /// What the model expects.
    answers: Vec<(ConnId, Option<RequestId>, Expect)>,
    closes: Vec<(ConnId, CloseCode)>,
    cuts: Vec<Gen>,
    viewer_cuts: Vec<(Gen, Mid)>,
    replies: Vec<(QueryId, Result<AdminReply, ErrorName>)>,
    notices: Vec<(ConnId, Notice)>,
    /// Members whose command was superseded and is not answered yet.
    superseded: VecDeque<(ChannelKey, UserId)>,
}

impl InputStep<'_> {
    /// The decoded answer to a join on a connection.
    fn joined(&self, conn: ConnId) -> Option<Joined> {
        self.first(conn).and_then(|json| serde_json::from_str(json).ok())
    }

    fn resumed(&self, conn: ConnId) -> Option<Resumed> {
        self.first(conn).and_then(|json| serde_json::from_str(json).ok())
    }

    fn first(&self, conn: ConnId) -> Option<&str> {
        let mut answers = self.caused.answers.iter().filter(|answer| answer.conn == conn);
        answers.next()?.outcome.as_ref().ok().map(|json| json.get())
    }

    fn error(&self, conn: ConnId) -> Option<&ErrorName> {
        self.refusal(conn).map(RpcError::name)
    }

    fn refusal(&self, conn: ConnId) -> Option<&RpcError> {
        let mut answers = self.caused.answers.iter().filter(|answer| answer.conn == conn);
        answers.next()?.outcome.as_ref().err()
    }

    /// Takes the request for a URL that the engine made for this input.
    fn take_mint(&mut self, viewer: Option<Mid>) -> Verdict<(AskId, Gen)> {
        let at = self.mints.iter().position(|(_, request)| request.viewer == viewer);
        let taken = at.and_then(|at| self.mints.remove(at));
        let (ask, request) = taken.ok_or(("model", "no URL was asked for".to_owned()))?;
        Ok((ask, request.generation))
    }

    fn take_verification(&mut self) -> Verdict<AskId> {
        self.verifications.pop_front().ok_or(("model", "a token is not looked at".to_owned()))
    }

    fn take_write(&mut self) -> Verdict<AskId> {
        self.writes.pop_front().ok_or(("model", "nothing is written that must be".to_owned()))
    }
}

/// The state of the model.
pub(crate) struct Model {
    rules: Rules,
    shards: Vec<ModelShard>,
    /// Publications; their names are `None` until they are seen.
    pubs: Vec<Option<Pub>>,
    expected: Option<Vec<Expected>>,
    saved: durable::Saves,
    /// Periods in which the server stood still.
    pauses: Vec<(u64, u64)>,
    /// When the wall clock was set last.
    pub(crate) wall_set: Option<u64>,
    targeted: BTreeMap<Mid, Vec<u64>>,
    asked_from: BTreeMap<ConnId, (UserId, Epoch, u64)>,
    sent_notices: BTreeMap<ConnId, notices::SentNotices>,
    /// Number of restrictions that each moderator has made.
    made: BTreeMap<(Appkey, UserId), u64>,
}

impl Model {
    pub(crate) fn new(scenario: &Scenario, key: TicketKey) -> Self {
        Model {
            rules: Rules::new(scenario, key),
            shards: Vec::new(),
            pubs: Vec::new(),
            expected: None,
            saved: durable::Saves::default(),
            pauses: Vec::new(),
            wall_set: None,
            targeted: BTreeMap::new(),
            asked_from: BTreeMap::new(),
            sent_notices: BTreeMap::new(),
            made: BTreeMap::new(),
        }
    }

    /// The position from which a connection asked to resume.
    pub(crate) fn resumes_at(&self, conn: ConnId) -> Option<(UserId, Epoch, u64)> {
        self.asked_from.get(&conn).copied()
    }

    pub(crate) fn note_input(&mut self, input: &Input) {
        if let Input::Reconnect { conn, request, .. } = input {
            let reconnect = &request.reconnect;
            let from = (request.claims.uid, reconnect.epoch, reconnect.seq);
            self.asked_from.insert(*conn, from);
        }
    }

    /// Numbers of the targeted messages to a membership.
    pub(crate) fn targeted(&self, mid: Mid) -> Vec<u64> {
        self.targeted.get(&mid).cloned().unwrap_or_default()
    }

    /// The epoch of a channel, its head some time ago, and its head now.
    pub(crate) fn head(&self, key: &ChannelKey, ago: u64) -> Option<(Option<Epoch>, u64, u64)> {
        let channel = self.shards.iter().find_map(|shard| shard.channels.get(key))?;
        if channel.epoch == verify::UNSEEN {
            return Some((None, 0, 0));
        }
        let old = channel.log.iter().take_while(|logged| logged.at <= ago).count() as u64;
        Some((Some(channel.epoch), channel.base + old, channel.head()))
    }

    /// Compares the picture of an app with the model.
    pub(crate) fn compare(
        &self,
        key: &ChannelKey,
        uid: UserId,
        picture: &Picture,
        busy: bool,
    ) -> Result<(), String> {
        let channel = self.shards.iter().find_map(|shard| shard.channels.get(key));
        channel.ok_or("no such channel")?.compare(uid, picture, busy, &self.pubs)
    }

    /// Like [`Model::compare`], for subscriptions, which a session restores by itself.
    pub(crate) fn compare_plays(
        &self,
        key: &ChannelKey,
        uid: UserId,
        picture: &Picture,
    ) -> Result<(), String> {
        let channel = self.shards.iter().find_map(|shard| shard.channels.get(key));
        channel.map_or(Ok(()), |channel| channel.compare_plays(uid, picture))
    }

    fn step(
        &mut self,
        shard: usize,
        input: &Input,
        outputs: &[Output],
        mut step: InputStep<'_>,
        stats: Stats,
    ) -> Verdict {
        let holds = &self.shards[shard].holds;
        let over = holds.iter().filter(|(_, (until, _))| *until <= step.wall);
        let over: Vec<ChannelKey> = over.map(|(key, _)| key.clone()).collect();
        self.shards[shard].lapsed.extend(over);
        self.input(shard, input, outputs, &mut step)?;
        self.go_on_superseded(shard, &mut step)?;
        self.due(shard, outputs, &mut step)?;
        self.verify(shard, outputs, step, stats)
    }

    fn input(
        &mut self,
        s: usize,
        input: &Input,
        outputs: &[Output],
        step: &mut InputStep<'_>,
    ) -> Verdict {
        match input {
            Input::Join { conn, addr, request } => self.join(s, *conn, *addr, request, step),
            Input::Reconnect { conn, request, .. } => self.reconnect(s, *conn, request, step),
            Input::Frame { conn, frame } => self.frame(s, *conn, frame, step),
            Input::BinaryFrame { conn } => {
                self.drop_member_conn(s, *conn, CloseCode::PROTOCOL_VIOLATION, step);
                Ok(())
            }
            Input::ControlFrame { conn } => {
                if let Some((key, uid)) = self.member_of(s, *conn)
                    && let Some(member) = self.member(MemberRef { s, key: &key, uid })
                {
                    member.last_in = step.now;
                    // An answer to a ping of the server is free.
                    if !std::mem::take(&mut member.pinged) {
                        member.count_again(step.now);
                    }
                }
                Ok(())
            }
            Input::Closed { conn } => {
                self.sent_notices.remove(conn);
                if let Some((key, uid)) = self.shards[s].connections.remove(conn)
                    && let Some(member) = self.member(MemberRef { s, key: &key, uid })
                {
                    member.lose(step.now);
                }
                Ok(())
            }
            Input::Lagging { conn } => {
                self.drop_member_conn(s, *conn, CloseCode::SLOW_READER, step);
                Ok(())
            }
            // A command that still waits when everything is stored runs in the next process.
            Input::Answer { answer: Answer::Minted(_) | Answer::Verified(_), .. }
                if self.shards[s].handed_over_at.is_some() =>
            {
                Ok(())
            }
            Input::Answer { id, answer } => match answer {
                Answer::Minted(minted) if self.renewed(s, *id, minted.as_ref(), step) => Ok(()),
                Answer::Minted(minted) => self.minted(s, *id, minted.as_ref(), step),
                Answer::Verified(grant) => self.token_verified(s, *id, grant, step),
                Answer::Stored(stored) => self.stored(s, *id, *stored, step),
                Answer::Admitted(_) | Answer::Claimed(_) => Ok(()),
            },
            Input::Authorize { query, generation, access } => {
                self.access_asked(s, *query, *generation, *access, step);
                Ok(())
            }
            // In these worlds no media client gives up while it waits.
            Input::CancelAuthorize { .. } => Ok(()),
            // Like everything after the freeze.
            Input::MediaFlow { .. } if self.shards[s].handed_over_at.is_some() => Ok(()),
            Input::MediaFlow { generation } => {
                let owner = self.shards[s].channels.values_mut().find_map(|channel| {
                    let owner = channel.streams.get(generation)?.owner;
                    channel.members.get_mut(&owner)
                });
                if let Some(member) = owner {
                    member.last_media = Some(step.now);
                }
                Ok(())
            }
            Input::Admin { query, command } => self.admin(s, *query, command, outputs, step),
            Input::Drain(plan) => {
                if self.shards[s].drain.is_none() {
                    self.shards[s].drain = Some((step.now, *plan));
                    // There is no connection to notify.
                    let nobody = self.shards[s].connections.is_empty();
                    self.shards[s].frozen_since = nobody.then_some(step.now);
                    let conns = self.shards[s].connections.keys();
                    let notice = self.restarting(s, step.now);
                    step.notices
                        .extend(conns.zip(notice.into_iter().cycle()).map(|(c, n)| (*c, n)));
                }
                Ok(())
            }
            Input::Stop => {
                for conn in self.shards[s].connections.keys().copied().collect::<Vec<_>>() {
                    self.drop_member_conn(s, conn, CloseCode::GOING_AWAY, step);
                }
                Ok(())
            }
            // Restored rows were taken over when the process started.
            Input::Restore(_) | Input::Tick => Ok(()),
            // Tasks have a world of their own.
            Input::Claim { .. } | Input::Release { .. } | Input::Task { .. } => Ok(()),
            // These worlds have no media statistics.
            Input::Push { .. } | Input::StreamStats(_) => Ok(()),
        }
    }
}

impl World {
    pub(crate) fn model_step(
        &mut self,
        shard: usize,
        input: &Input,
        outputs: &[Output],
        caused: &DecodedOutputs,
        stats: Stats,
    ) {
        let mut step = InputStep {
            now: self.now,
            wall: self.wall().0,
            caused,
            mints: VecDeque::new(),
            writes: VecDeque::new(),
            verifications: VecDeque::new(),
            limited: Vec::new(),
            closed: Vec::new(),
            cut: Vec::new(),
            cut_viewers: Vec::new(),
            answers: Vec::new(),
            closes: Vec::new(),
            cuts: Vec::new(),
            viewer_cuts: Vec::new(),
            replies: Vec::new(),
            notices: Vec::new(),
            superseded: VecDeque::new(),
        };
        for output in outputs {
            match output {
                Output::Ask { id, question } => match question {
                    Question::Mint(request) => step.mints.push_back((*id, request.clone())),
                    Question::Verify(_) => step.verifications.push_back(*id),
                    Question::Store(_) => step.writes.push_back(*id),
                    // Tasks have a world of their own.
                    Question::Admit(_) | Question::Claim(_) => {}
                },
                Output::Close { conn, code } => step.closed.push((*conn, *code)),
                Output::CutStream { generation, .. } => step.cut.push(*generation),
                Output::CutViewer { generation, viewer, .. } => {
                    step.cut_viewers.push((*generation, *viewer));
                }
                _ => {}
            }
        }
        for answer in &caused.answers {
            if let (Some(id), Err(error)) = (answer.id, &answer.outcome)
                && *error.name() == ErrorName::RateLimited
            {
                step.limited.push((answer.conn, id));
            }
        }
        if let Err((checker, what)) = self.model.step(shard, input, outputs, step, stats) {
            self.fail(checker, what);
        }
    }

    pub(crate) fn model_started(&mut self, restored: &[Restored]) {
        let relay = self.server.relay;
        if let Err((checker, what)) = self.model.started(self.now, self.wall().0, relay, restored) {
            self.fail(checker, what);
        }
    }

    pub(crate) fn model_ended(&mut self, last: u64, handed_over: bool) {
        self.model.ended(self.now, last, handed_over);
    }

    pub(crate) fn model_paused(&mut self, ms: u64) {
        let now = self.now;
        self.model.pauses.push((now, now + ms));
    }

    pub(crate) fn model_wrote(&mut self, shard: usize, n: u64) {
        self.model.saved.numbered(shard, n);
    }
}

impl InputStep<'_> {
    fn is_answered_with(&self, conn: ConnId, id: RequestId, name: &ErrorName) -> bool {
        self.caused.answers.iter().any(|answer| {
            answer.conn == conn
                && answer.id == Some(id)
                && answer.outcome.as_ref().is_err_and(|error| error.name() == name)
        })
    }
}

/// The members that ended according to the engine's notes, with the reasons.
fn left(
    outputs: &[Output],
) -> impl Iterator<Item = (&ChannelKey, UserId, &lianmai_protocol::message::event::LeaveReason)> {
    outputs.iter().filter_map(|output| match output {
        Output::Note(Note::MemberLeft { channel, uid, reason, .. }) => {
            Some((channel, *uid, reason))
        }
        _ => None,
    })
}

//! The loop of one shard, as `signal-server/src/shard` runs it: a turn takes the messages of the mailbox, lets the
//! engine handle them, executes its outputs in order, then writes to each connection that got something. The model gets
//! each input and its outputs, and decides whether they are right.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use lianmai_protocol::message::media::Urls;
use lianmai_protocol::{CloseCode, WallTime};
use lianmai_signal_engine::{
    Access, AdminCommand, Answer, AskId, ConnId, DrainPlan, Engine, Input, MintRequest, Minted,
    Outbox, Output, QueryId, Question,
};

use crate::net::{Frame, LinkId, Way};
use crate::world::{Ev, World, log};

/// Messages that one turn takes at most.
const TURN: u64 = 256;
/// A socket that takes nothing for this time is given up, in milliseconds.
const WRITE_STALL_MS: u64 = 10_000;
/// How long the server waits for a client that should close.
const LINGER_MS: u64 = 2_000;

/// A message in a mailbox.
pub(crate) enum Msg {
    Adopt(LinkId, Input),
    Input(Input),
    Over(LinkId),
    /// A sign of life; `true` for a ping, which must be answered, `false` for a pong.
    Alive(LinkId, bool),
    Writable(LinkId),
    Authorize(usize, lianmai_protocol::Gen, Access),
    Admin(AdminCommand),
    Drain(DrainPlan),
}

/// The origin of a question to the engine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum QueryOrigin {
    Media(usize),
    Admin,
}

/// The writing side of a connection.
#[derive(Default)]
struct Slot {
    outbox: Outbox,
    /// Time since when the socket has taken nothing.
    blocked: Option<u64>,
    dirty: bool,
}

pub(crate) struct Shard {
    pub(crate) engine: Engine,
    slots: BTreeMap<LinkId, Slot>,
    dirty: Vec<LinkId>,
    mailbox: VecDeque<Msg>,
    outputs: VecDeque<Output>,
    turn_due: bool,
    tick_at: Option<u64>,
    origins: BTreeMap<QueryId, QueryOrigin>,
    last_query: u64,
}

impl Shard {
    pub(super) fn new(engine: Engine) -> Self {
        Shard {
            engine,
            slots: BTreeMap::new(),
            dirty: Vec::new(),
            mailbox: VecDeque::new(),
            outputs: VecDeque::new(),
            turn_due: false,
            tick_at: None,
            origins: BTreeMap::new(),
            last_query: 0,
        }
    }

    pub(super) fn has(&self, id: LinkId) -> bool {
        self.slots.contains_key(&id)
    }

    pub(super) fn links(&self) -> impl Iterator<Item = LinkId> {
        self.slots.keys().copied()
    }

    fn push(&mut self, id: LinkId, frame: Bytes) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.outbox.push(frame);
            if !std::mem::replace(&mut slot.dirty, true) {
                self.dirty.push(id);
            }
        }
    }
}

impl World {
    /// Puts a message into a mailbox.
    pub(crate) fn post(&mut self, shard: usize, message: Msg) {
        let delay = self.server.rng.below(3);
        let Some(process) = self.server.process.as_mut() else { return };
        let number = process.id;
        let Some(target) = process.shards.get_mut(shard) else { return };
        target.mailbox.push_back(message);
        if !std::mem::replace(&mut target.turn_due, true) {
            self.after(delay, Ev::Turn(number, shard));
        }
    }

    pub(crate) fn server_post(&mut self, process: u64, shard: usize, input: Input) {
        if self.server.process(process).is_some() {
            self.post(shard, Msg::Input(input));
        }
    }

    fn shard(&mut self, shard: usize) -> Option<&mut Shard> {
        self.server.process.as_mut().and_then(|process| process.shards.get_mut(shard))
    }

    pub(crate) fn server_turn(&mut self, process: u64, shard: usize) {
        if let Some(until) = self.server.standing_still(self.now) {
            return self.at(until, Ev::Turn(process, shard));
        }
        let most = if self.server.rng.chance(200) { 1 } else { TURN };
        for _ in 0..most {
            if self.server.process(process).is_none() {
                return;
            }
            let Some(message) = self.shard(shard).and_then(|shard| shard.mailbox.pop_front())
            else {
                break;
            };
            self.take(shard, message);
        }
        self.finish_turn(shard);
        let Some(target) = self.shard(shard) else { return };
        target.turn_due = !target.mailbox.is_empty();
        if target.turn_due {
            self.after(1, Ev::Turn(process, shard));
        }
    }

    pub(crate) fn server_tick(&mut self, process: u64, shard: usize) {
        if let Some(until) = self.server.standing_still(self.now) {
            return self.at(until, Ev::Tick(process, shard));
        }
        if self.server.process(process).is_none() {
            return;
        }
        let now = self.now;
        if let Some(target) = self.shard(shard)
            && target.tick_at.is_some_and(|at| at <= now)
        {
            target.tick_at = None;
            self.engine_input(shard, Input::Tick);
            self.finish_turn(shard);
        }
    }

    fn take(&mut self, shard: usize, message: Msg) {
        match message {
            Msg::Adopt(id, entry) => {
                if let Some(shard) = self.shard(shard) {
                    shard.slots.insert(id, Slot::default());
                }
                self.engine_input(shard, entry);
            }
            Msg::Input(input) => self.engine_input(shard, input),
            Msg::Over(id) => {
                self.execute_outputs(shard);
                if let Some(slot) = self.shard(shard).and_then(|shard| shard.slots.remove(&id)) {
                    self.server_farewell(id, slot.outbox);
                } else {
                    self.server_lets_go(id);
                }
                self.engine_input(shard, Input::Closed { conn: ConnId(id.0) });
            }
            Msg::Alive(id, ping) => {
                if ping && let Some(shard) = self.shard(shard) {
                    shard.push(id, Frame::Pong.encode().into());
                }
                self.engine_input(shard, Input::ControlFrame { conn: ConnId(id.0) });
            }
            Msg::Writable(id) => {
                if let Some(shard) = self.shard(shard)
                    && let Some(slot) = shard.slots.get_mut(&id)
                {
                    slot.blocked = None;
                    if !std::mem::replace(&mut slot.dirty, true) {
                        shard.dirty.push(id);
                    }
                }
            }
            Msg::Authorize(media, generation, access) => {
                if let Some(query) = self.ask(shard, QueryOrigin::Media(media)) {
                    self.engine_input(shard, Input::Authorize { query, generation, access });
                }
            }
            Msg::Admin(command) => {
                if let Some(query) = self.ask(shard, QueryOrigin::Admin) {
                    self.engine_input(shard, Input::Admin { query, command });
                }
            }
            Msg::Drain(plan) => self.engine_input(shard, Input::Drain(plan)),
        }
    }

    fn ask(&mut self, shard: usize, asker: QueryOrigin) -> Option<QueryId> {
        let shard = self.shard(shard)?;
        shard.last_query += 1;
        let query = QueryId(shard.last_query);
        shard.origins.insert(query, asker);
        Some(query)
    }

    /// Passes one input to the engine, and the input and its outputs to the model.
    pub(crate) fn engine_input(&mut self, shard: usize, input: Input) {
        let now = self.server_now();
        let off = now.mono.0 - self.now;
        let copy = input.clone();
        let world_now = self.now;
        let Some(target) = self.shard(shard) else { return };
        target.engine.handle(now, input);
        let outputs: Vec<Output> = std::iter::from_fn(|| target.engine.poll_output()).collect();
        let (due, stats) = (target.engine.next_deadline(), target.engine.stats());
        target.outputs.extend(outputs.iter().cloned());
        let due = due.map(|at| at.0.saturating_sub(off).max(world_now));
        let earlier = |at: u64| target.tick_at.is_none_or(|tick| at < tick);
        if let Some(at) = due.filter(|at| earlier(*at)) {
            target.tick_at = Some(at);
            let process = self.server.process.as_ref().map_or(0, |process| process.id);
            self.at(at, Ev::Tick(process, shard));
        }
        self.check_step(shard, &copy, &outputs, stats);
    }

    fn execute_outputs(&mut self, shard: usize) {
        while let Some(output) = self.shard(shard).and_then(|shard| shard.outputs.pop_front()) {
            self.execute(shard, output);
        }
    }

    fn execute(&mut self, shard: usize, output: Output) {
        match output {
            Output::Send { conn, frame } => {
                let text = Frame::Text(frame.to_vec()).encode();
                if let Some(shard) = self.shard(shard) {
                    shard.push(LinkId(conn.0), text.into());
                }
            }
            Output::Ping { conn } => {
                self.cov.count("ping:server");
                if let Some(shard) = self.shard(shard) {
                    shard.push(LinkId(conn.0), Frame::Ping.encode().into());
                }
            }
            Output::Close { conn, code } => self.shard_closes(shard, LinkId(conn.0), code),
            Output::Ask { id, question } => match question {
                Question::Mint(request) => self.mint(shard, id, &request),
                Question::Verify(request) => {
                    let grant = self.tokens.verify_renewal(&request.appkey, &request.token.0);
                    self.engine_input(shard, Input::Answer { id, answer: Answer::Verified(grant) });
                }
                Question::Admit(_) | Question::Claim(_) => {
                    self.fail("model", "a claim, and no tasks are served".to_owned())
                }
                Question::Store(ops) => self.store_write(shard, ops, Some(id)),
            },
            Output::AuthorizePending { .. } => self.cov.count("media:waits"),
            Output::Verdict { query, verdict } => {
                let asker = self.shard(shard).and_then(|shard| shard.origins.remove(&query));
                if let Some(QueryOrigin::Media(media)) = asker {
                    self.media_verdict(media, verdict.is_ok());
                }
            }
            Output::AdminReply { query, .. } => {
                if let Some(shard) = self.shard(shard) {
                    shard.origins.remove(&query);
                }
            }
            // Only the model uses these.
            Output::SetPublished { .. } | Output::SetSubscribed { .. } => {}
            Output::CutStream { generation, .. } => self.media_cut(generation, None),
            Output::CutViewer { generation, viewer, .. } => {
                self.media_cut(generation, Some(viewer))
            }
            Output::Store(ops) => self.store_write(shard, ops, None),
            Output::Drained { handed_over } => self.server_drained(handed_over),
            Output::Order(_) | Output::Release { .. } | Output::Claimed { .. } => {
                self.fail("model", "an order, and no tasks are served".to_owned());
            }
            Output::Note(_) => {}
        }
    }

    fn mint(&mut self, shard: usize, id: AskId, request: &MintRequest) {
        let knobs = self.scenario.clone();
        let knobs = &knobs.knobs;
        let (until, slow, fails) = self.server.mint_trouble;
        let trouble = until > self.now;
        let fails = if trouble { fails } else { knobs.mint_fails };
        let slow = if trouble { slow } else { knobs.mint_ms };
        let rng = &mut self.server.rng;
        let (failed, delay) = (rng.chance(fails), rng.skewed(slow));
        let nonce = rng.next();
        let base = self.server.relay_base();
        let result = (!failed).then(|| {
            let generation = request.generation;
            let way = if request.viewer.is_some() { 'v' } else { 't' };
            let url = format!("{base}{generation}?{way}={nonce:x}");
            self.media.issued(&url, generation, request.viewer);
            Minted {
                urls: Urls { rtmp: Some(url.clone()), ..Urls::default() },
                url,
                renew_after: WallTime(self.wall().0 + knobs.url_ms),
            }
        });
        if delay == 0 {
            // A shell that signs URLs itself answers at once.
            let answer = Answer::Minted(result);
            return self.engine_input(shard, Input::Answer { id, answer });
        }
        let process = self.server.process.as_ref().map_or(0, |process| process.id);
        self.after(delay, Ev::Minted(process, shard, id, result));
    }

    pub(crate) fn server_minted(
        &mut self,
        process: u64,
        shard: usize,
        id: AskId,
        result: Option<Minted>,
    ) {
        let answer = Answer::Minted(result);
        self.server_post(process, shard, Input::Answer { id, answer });
    }

    /// Executes the outputs of the engine, then writes to every connection that got something.
    pub(crate) fn finish_turn(&mut self, shard: usize) {
        self.execute_outputs(shard);
        let max_lag = self.scenario.knobs.max_lag;
        loop {
            let Some(target) = self.shard(shard) else { return };
            let dirty = std::mem::take(&mut target.dirty);
            if dirty.is_empty() {
                return;
            }
            for id in dirty {
                let Some(mut slot) = self.shard(shard).and_then(|shard| shard.slots.remove(&id))
                else {
                    continue;
                };
                slot.dirty = false;
                if slot.blocked.is_none() && !self.flush_outbox(id, &mut slot.outbox) {
                    slot.blocked = Some(self.now);
                    self.after(WRITE_STALL_MS, Ev::WriteStall(id, self.now));
                }
                let lags = slot.outbox.lags(max_lag);
                if let Some(shard) = self.shard(shard) {
                    shard.slots.insert(id, slot);
                }
                if lags {
                    self.engine_input(shard, Input::Lagging { conn: ConnId(id.0) });
                    self.execute_outputs(shard);
                }
                let slot = self.shard(shard).and_then(|shard| shard.slots.get(&id));
                // The memory of each frame counts, too.
                let cost = |outbox: &Outbox| outbox.bytes() + 64 * outbox.slices().count();
                let waits = slot.filter(|slot| slot.outbox.bytes() > max_lag / 2);
                if let Some(bytes) = waits.map(|s| cost(&s.outbox)).filter(|b| *b > max_lag) {
                    return self.fail("bounded", format!("{bytes} bytes wait for {id:?}"));
                }
            }
            self.execute_outputs(shard);
        }
    }

    /// Writes as much as the socket takes. False if something is left.
    fn flush_outbox(&mut self, id: LinkId, outbox: &mut Outbox) -> bool {
        while !outbox.is_empty() {
            // One vectored write.
            let bytes: Vec<u8> = outbox.slices().flatten().copied().collect();
            let taken = self.write(id, Way::Down, &bytes);
            outbox.advance(taken);
            if taken < bytes.len() {
                return !self.links.contains_key(&id);
            }
        }
        true
    }

    /// The socket can take bytes again.
    pub(crate) fn server_writable(&mut self, id: LinkId) {
        if self.links.get(&id).is_none_or(|link| link.down.room() == 0) {
            return;
        }
        if let Some(outbox) = self.server.closing_outboxes.remove(&id) {
            return self.server_farewell(id, outbox);
        }
        let Some(process) = self.server.process.as_ref() else { return };
        let blocked = |shard: &Shard| shard.slots.get(&id).is_some_and(|s| s.blocked.is_some());
        if let Some(shard) = process.shards.iter().position(blocked) {
            self.post(shard, Msg::Writable(id));
        }
    }

    pub(crate) fn server_write_stall(&mut self, id: LinkId, since: u64) {
        if let Some(until) = self.server.standing_still(self.now) {
            return self.at(until, Ev::WriteStall(id, since));
        }
        let Some(process) = self.server.process.as_ref() else { return };
        let blocked =
            |shard: &Shard| shard.slots.get(&id).is_some_and(|slot| slot.blocked == Some(since));
        if let Some(shard) = process.shards.iter().position(blocked) {
            self.post(shard, Msg::Input(Input::Lagging { conn: ConnId(id.0) }));
        }
    }

    fn shard_closes(&mut self, shard: usize, id: LinkId, code: CloseCode) {
        log!(self, "{id:?} server closes {}", code.0);
        self.cov.close(code.0);
        let Some(slot) = self.shard(shard).and_then(|shard| shard.slots.remove(&id)) else {
            return;
        };
        let Slot { mut outbox, .. } = slot;
        if code == CloseCode::SLOW_READER {
            outbox.keep_begun();
        }
        outbox.push(Frame::Close(Some(code.0)).encode().into());
        self.server_farewell(id, outbox);
        if let Some(process) = self.server.process.as_mut() {
            process.connections.remove(&id);
        }
    }

    /// Writes the rest of a socket that the server closes, then closes it.
    pub(crate) fn server_farewell(&mut self, id: LinkId, mut outbox: Outbox) {
        if self.flush_outbox(id, &mut outbox) {
            self.server_lets_go(id);
        } else {
            self.server.closing_outboxes.insert(id, outbox);
            self.after(LINGER_MS, Ev::Linger(id));
        }
    }

    pub(crate) fn server_linger(&mut self, id: LinkId) {
        if self.server.closing_outboxes.remove(&id).is_some() {
            self.server_lets_go(id);
        }
    }
}

//! Push tasks in a world of their own, beside each world of sessions: two engines, channels whose tasks claim
//! addresses of each other's engines, a disk that forgets what it did not acknowledge, crashes, hand-overs, pauses,
//! and executors that fail, stall, lie and are late (`executor.rs`). Comes in: a seed. Goes out: the first thing that
//! was wrong. What should be is said by `model.rs`, which sees commands and answers only.
//!
//! | checker | demands |
//! |---|---|
//! | `receiver` | a place never sees two pushes at once, and rests between those of two tasks |
//! | `tasks` | answers are as the model says, and true; what is told folds; empty tasks are idle; the others push at last |
//!
//! Deliberately absent: sessions, sockets, roles; the other worlds have those.

mod executor;
mod idle;
mod model;
mod server;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use lianmai_protocol::codec::{self, ServerMessage};
use lianmai_protocol::message::media::Publish;
use lianmai_protocol::message::session::{Join, Joined};
use lianmai_protocol::message::task::{TaskInfo, TaskState};
use lianmai_protocol::message::{Call, ChannelEvent, Request};
use lianmai_protocol::{
    ErrorName, MediaKind, MediaSelector, MonoTime, Now, RequestId, TaskId, UserId, WallTime,
};
use lianmai_signal_engine::{
    AdminCommand, AdminReply, AppPolicy, AskId, ChannelKey, ConnId, DrainPlan, Engine,
    EngineConfig, Grant, Input, JoinRequest, Output, Peer, QueryId, Record, Row, RowKey, RowOp,
    SessionTimers, TaskPolicy,
};

use crate::rng::Rng;
use crate::server::store::shard_of;
use crate::world::Failure;
use executor::Executors;
use idle::Idle;
use model::Model;

const SHARDS: usize = 2;
const CHANNELS: usize = 3;
/// Faults stop then, in milliseconds; and the world ends.
const QUIET_AT: u64 = 600_000;
const END_AT: u64 = 760_000;
/// A day, since engines are started with durations of before.
const CLOCK_0: u64 = 86_400_000;
const WALL_0: u64 = 1_800_000_000_000;

/// What is due.
#[derive(Debug)]
enum Ev {
    Input(usize, Box<Input>),
    Commit,
    Executor(usize),
    Act,
    Start,
    Heal,
    Tick(usize),
}

/// A write that was not acknowledged.
struct Write {
    shard: usize,
    ops: Vec<RowOp>,
    ask: Option<AskId>,
}

/// The only member of a channel that anybody looks at.
#[derive(Default)]
struct Member {
    conn: Option<ConnId>,
    seq: u64,
    tasks: BTreeMap<TaskId, TaskInfo>,
    next_id: u64,
    /// What it asked and was not answered.
    asked: Option<(u64, Call)>,
    publishes: Kinds,
    /// What of it was told.
    told: Kinds,
}

/// What a member publishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kinds {
    audio: bool,
    video: bool,
}

impl Kinds {
    fn set(&mut self, kind: &MediaKind, publishes: bool) {
        match kind {
            MediaKind::Audio => self.audio = publishes,
            _ => self.video = publishes,
        }
    }
}

pub(crate) struct TaskWorld {
    rng: Rng,
    now: u64,
    queue: BTreeMap<(u64, u64), (u64, Ev)>,
    events: u64,
    process: u64,
    up: bool,
    config: EngineConfig,
    engines: Vec<Engine>,
    ticks: Vec<u64>,
    /// A message between two engines arrives no earlier than the one before.
    arrives: BTreeMap<(usize, usize), u64>,
    claims: BTreeMap<(usize, QueryId), (usize, AskId)>,
    last_query: u64,
    rows: BTreeMap<RowKey, Record>,
    writes: VecDeque<Write>,
    commit_due: bool,
    members: Vec<Member>,
    conns: BTreeMap<ConnId, usize>,
    last_conn: u64,
    executors: Executors,
    model: Model,
    idle: Idle,
    drained: usize,
    failure: Option<Failure>,
}

fn key_of(ch: usize) -> ChannelKey {
    ChannelKey {
        appkey: "demo".parse().expect("an appkey"),
        name: format!("room {ch}").parse().expect("a name"),
    }
}

/// Runs the world of a seed: what was wrong, if anything was.
pub(crate) fn run(seed: u64) -> Option<Failure> {
    let mut world = TaskWorld::new(seed);
    world.start();
    world.at(0, Ev::Act);
    world.at(QUIET_AT, Ev::Heal);
    while world.failure.is_none()
        && let Some(((at, _), (process, ev))) = world.queue.pop_first()
        && at <= END_AT
    {
        world.now = at;
        world.happen(process, ev);
    }
    if world.failure.is_none() {
        world.look_at_the_end();
    }
    world.failure
}

impl TaskWorld {
    fn new(seed: u64) -> TaskWorld {
        let rng = Rng::new(seed).fork(13);
        let timers = SessionTimers {
            ping_interval_ms: 10 * END_AT,
            dead_after_ms: 20 * END_AT,
            ..SessionTimers::default()
        };
        let mut config = EngineConfig {
            timers,
            tasks: Some(TaskPolicy { idle_ms: idle::IDLE_MS, max_retries: 4, lease_ms: 2_000 }),
            ..EngineConfig::default()
        };
        config.limits.tasks = 3;
        config.apps.insert("demo".parse().expect("an appkey"), AppPolicy::default());
        TaskWorld {
            executors: Executors::new(rng.fork(1)),
            rng,
            now: 0,
            queue: BTreeMap::new(),
            events: 0,
            process: 0,
            up: false,
            config,
            engines: Vec::new(),
            ticks: Vec::new(),
            arrives: BTreeMap::new(),
            claims: BTreeMap::new(),
            last_query: 0,
            rows: BTreeMap::new(),
            writes: VecDeque::new(),
            commit_due: false,
            members: (0..CHANNELS).map(|_| Member::default()).collect(),
            conns: BTreeMap::new(),
            last_conn: 0,
            model: Model::default(),
            idle: Idle::default(),
            drained: 0,
            failure: None,
        }
    }

    fn fail(&mut self, checker: &'static str, what: String) {
        let at = self.now;
        self.failure.get_or_insert(Failure { checker, at, what });
    }

    fn at(&mut self, at: u64, ev: Ev) {
        self.events += 1;
        // Of what is due at once any may come first, but what one engine is told keeps its order.
        let tie = match &ev {
            Ev::Input(..) => self.events,
            _ => self.rng.below(2 * self.events + 1),
        };
        let mut key = (at.max(self.now), tie);
        while self.queue.contains_key(&key) {
            key.1 += 1;
        }
        self.queue.insert(key, (self.process, ev));
    }

    fn is_quiet(&self) -> bool {
        self.now >= QUIET_AT
    }

    fn happen(&mut self, process: u64, ev: Ev) {
        let stale = process != self.process || !self.up;
        match ev {
            Ev::Executor(at) => self.executor_step(at),
            Ev::Act => self.act(),
            Ev::Start => self.start(),
            Ev::Heal => self.heal(),
            Ev::Input(shard, input) if !stale => self.input(shard, *input),
            Ev::Commit if !stale => self.commit(),
            Ev::Tick(shard) if !stale && self.ticks[shard] <= self.now => {
                self.ticks[shard] = u64::MAX;
                self.input(shard, Input::Tick);
            }
            Ev::Input(..) | Ev::Commit | Ev::Tick(_) => {}
        }
    }

    fn clock(&self) -> Now {
        Now { mono: MonoTime(CLOCK_0 + self.now), wall: WallTime(WALL_0 + self.now) }
    }

    // The members.

    fn join(&mut self, ch: usize) {
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        self.conns.insert(conn, ch);
        self.members[ch] = Member { conn: Some(conn), next_id: 2, ..Member::default() };
        let key = key_of(ch);
        let join = Join {
            appkey: key.appkey.clone(),
            channel_name: key.name.clone(),
            uid: Some(UserId(1)),
            token: None,
            role: None,
            join_id: None,
            continues: None,
            name: None,
            attributes: Default::default(),
        };
        let request = JoinRequest { id: RequestId(1), join, grant: Ok(Grant::debug()) };
        self.input(
            shard_of(&key, SHARDS),
            Input::Join { conn, peer: Peer::default(), request: Box::new(request) },
        );
        self.call(ch, &Call::Publish(Publish { media_type: MediaSelector::Both, uid: None }));
        self.members[ch].publishes = Kinds { audio: true, video: true };
    }

    fn call(&mut self, ch: usize, call: &Call) {
        let member = &mut self.members[ch];
        let Some(conn) = member.conn else { return };
        let id = member.next_id;
        member.next_id += 1;
        if matches!(call, Call::AddTasks(_) | Call::UpdateTasks(_) | Call::DeleteTasks(_)) {
            member.asked = Some((id, call.clone()));
            self.model.asked(ch, self.now);
        }
        let request =
            Request { id: RequestId(id), ack: Some(RequestId(id - 1)), call: call.clone() };
        let frame = Bytes::from(codec::encode_request(&request));
        self.input(shard_of(&key_of(ch), SHARDS), Input::Frame { conn, frame });
    }

    fn receive(&mut self, conn: ConnId, frame: &[u8]) {
        let Some(&ch) = self.conns.get(&conn) else { return };
        if self.members[ch].conn != Some(conn) {
            return;
        }
        let Ok(messages) = codec::decode_server_frame(frame) else {
            return self.fail("tasks", "a frame cannot be read".to_owned());
        };
        for message in messages {
            match message {
                ServerMessage::Answer { id: Some(id), outcome } => {
                    if let (RequestId(1), Ok(json)) = (id, &outcome) {
                        match serde_json::from_str::<Joined>(json.get()) {
                            Ok(joined) => self.entered(ch, joined),
                            Err(error) => self.fail("tasks", error.to_string()),
                        }
                        continue;
                    }
                    let outcome = outcome.map(drop).map_err(|error| error.name().clone());
                    self.answered(ch, id, outcome);
                }
                ServerMessage::Event(position, event) => {
                    self.members[ch].seq = position.seq;
                    self.told(ch, event);
                }
                _ => {}
            }
        }
    }

    fn entered(&mut self, ch: usize, joined: Joined) {
        let member = &mut self.members[ch];
        member.seq = joined.seq;
        let tasks = joined.channel.tasks.into_iter();
        member.tasks = tasks.map(|task| (task.task_id.clone(), task)).collect();
    }

    fn told(&mut self, ch: usize, event: ChannelEvent) {
        let status = match event {
            ChannelEvent::RtmpTasksStatus(status) => status,
            ChannelEvent::StreamAdded(stream) => {
                return self.members[ch].told.set(&stream.media_type, true);
            }
            ChannelEvent::StreamRemoved(stream) => {
                return self.members[ch].told.set(&stream.media_type, false);
            }
            _ => return,
        };
        let max = self.config.tasks.map_or(0, |policy| policy.max_retries);
        if status.retries > max {
            self.fail(
                "tasks",
                format!("{} was tried again {} times", status.task_id, status.retries),
            );
        }
        let member = &mut self.members[ch];
        if status.state == Some(TaskState::Ended) {
            if member.tasks.remove(&status.task_id).is_none() {
                self.fail("tasks", format!("{} ends and was not there", status.task_id));
            }
            return;
        }
        let info = TaskInfo {
            task_id: status.task_id.clone(),
            uid: status.uid,
            state: status.state,
            code: status.code,
            revision: status.revision,
            retries: status.retries,
        };
        if member.tasks.insert(status.task_id, info.clone()).as_ref() == Some(&info) {
            self.fail("tasks", format!("{info:?} is told twice"));
        }
    }

    fn answered(&mut self, ch: usize, id: RequestId, outcome: Result<(), ErrorName>) {
        let asked = self.members[ch].asked.take_if(|(of, _)| *of == id.0);
        let Some((_, call)) = asked else {
            if let Err(error) = outcome {
                self.fail("tasks", format!("a command is answered {error}"));
            }
            return;
        };
        if let Err(wrong) = self.model.answered(ch, &call, &outcome, self.now) {
            return self.fail("tasks", wrong);
        }
        self.compare(ch, "behind an answer");
    }

    /// What the engine says of the tasks of a channel, what members were told, and what should be.
    fn compare(&mut self, ch: usize, when: &str) {
        let key = key_of(ch);
        let query = QueryId(u64::MAX - ch as u64);
        let now = self.clock();
        let shard = shard_of(&key, SHARDS);
        let command = AdminCommand::GetTasks(key);
        let Some(engine) = self.engines.get_mut(shard) else { return };
        engine.handle(now, Input::Admin { query, command });
        let outputs: Vec<Output> = std::iter::from_fn(|| engine.poll_output()).collect();
        let mut views = None;
        for output in outputs {
            match output {
                Output::AdminReply { query: of, reply } if of == query => views = reply.ok(),
                other => self.output(shard, other),
            }
        }
        let Some(AdminReply::Tasks(views)) = views else {
            return self.fail("tasks", format!("no tasks of channel {ch}, {when}"));
        };
        if let Err(wrong) = self.model.compare(ch, &views) {
            self.fail("tasks", format!("{wrong}, {when}"));
        }
    }

    // What is done to the world.

    fn act(&mut self) {
        // Now and then much happens at once: a place is asked for while its last push is hardly over.
        let most = if self.rng.chance(300) { 500 } else { 6_000 };
        let next = self.now + self.rng.between(100, most);
        if next < QUIET_AT {
            self.at(next, Ev::Act);
        }
        self.look_at_idle();
        if self.up {
            self.do_something();
            self.look_at_idle();
        }
    }

    fn do_something(&mut self) {
        let ch = self.rng.index(CHANNELS);
        let weights = if self.members[ch].asked.is_some() {
            [0, 0, 0, 60, 12, 3]
        } else {
            [250, 200, 160, 300, 12, 3]
        };
        match self.rng.weighted(&weights) {
            0 => {
                let call = self.model.some_add(self.now, &mut self.rng);
                self.call(ch, &call);
            }
            1 => {
                let call = self.model.some_update(ch, self.now, &mut self.rng);
                self.call(ch, &call);
            }
            2 => {
                let troubled = self.members[ch].tasks.values().filter(|task| {
                    matches!(task.state, Some(TaskState::Retrying | TaskState::Failed))
                });
                let troubled: Vec<TaskId> = troubled.map(|task| task.task_id.clone()).collect();
                let call = self.model.some_delete(ch, &troubled, &mut self.rng);
                self.call(ch, &call);
            }
            3 => self.publish_or_not(ch),
            4 => {
                let keep = self.rng.index(self.writes.len() + 1);
                self.go_down(keep);
            }
            _ => {
                for shard in 0..SHARDS {
                    let plan = DrainPlan {
                        notice_ms: 50,
                        freeze_ms: 300,
                        deadline_ms: 9_000,
                        retry_after_ms: 10,
                        jitter_ms: 10,
                    };
                    self.input(shard, Input::Drain(plan));
                }
                for member in &mut self.members {
                    // What is not answered any more may have been done.
                    member.conn = None;
                }
            }
        }
    }

    /// Begins or ends to publish a kind, or both.
    fn publish_or_not(&mut self, ch: usize) {
        let Kinds { audio, video } = self.members[ch].publishes;
        let both = audio == video && self.rng.chance(500);
        let of_audio = both || self.rng.chance(500);
        let of_video = both || !of_audio;
        let (publishes, media_type) = match (of_audio, of_video) {
            (true, true) => (!audio, MediaSelector::Both),
            (true, false) => (!audio, MediaSelector::Kind(MediaKind::Audio)),
            _ => (!video, MediaSelector::Kind(MediaKind::Video)),
        };
        let kinds = &mut self.members[ch].publishes;
        kinds.audio = if of_audio { publishes } else { audio };
        kinds.video = if of_video { publishes } else { video };
        let publish = Publish { media_type, uid: None };
        let call = if publishes { Call::Publish(publish) } else { Call::Unpublish(publish) };
        self.call(ch, &call);
    }

    /// From now on everything is as it should be.
    fn heal(&mut self) {
        for ch in 0..CHANNELS {
            if !self.up || self.members[ch].conn.is_none() {
                continue;
            }
            let Kinds { audio, video } = self.members[ch].publishes;
            for (publishes, media_type) in [
                (audio, MediaSelector::Kind(MediaKind::Audio)),
                (video, MediaSelector::Kind(MediaKind::Video)),
            ] {
                if !publishes {
                    self.call(ch, &Call::Publish(Publish { media_type, uid: None }));
                }
            }
            self.members[ch].publishes = Kinds { audio: true, video: true };
        }
    }

    fn look_at_the_end(&mut self) {
        for ch in 0..CHANNELS {
            self.compare(ch, "at the end");
            let told = std::mem::take(&mut self.members[ch].tasks);
            let publishes = self.members[ch].publishes;
            for (id, info) in told {
                let Some(place) = self.model.place(ch, &id) else {
                    self.fail("tasks", format!("{id} of channel {ch} is told and is not there"));
                    continue;
                };
                let pushes = self.executors.pushes(&place, self.now);
                let state = info.state.clone();
                let fits = match state {
                    Some(TaskState::Pushing) => pushes,
                    Some(TaskState::Failed) => !pushes,
                    _ => !self.model.shows(ch, &id, publishes),
                };
                if !fits {
                    self.fail("tasks", format!("{id} of channel {ch} is {state:?} at the end"));
                }
            }
        }
        let claims = self.rows.keys().filter(|key| key.row == Row::Claim).count();
        if claims > self.model.live() + 20 {
            self.fail("tasks", format!("{claims} claims are left"));
        }
    }
}

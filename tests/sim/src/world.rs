//! One virtual world: its time, its events, its sockets and its participants. Comes in: a scenario. Goes out: a log,
//! counters, and the first failure. Events that are due at the same moment happen in an order that follows from the
//! seed. Deliberately absent: servers, clients and pushers; they are further `impl`s of [`World`] in their own files.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::rc::Rc;

use lianmai_protocol::WallTime;
use lianmai_signal_engine::{AskId, Input, Minted};

use crate::adversary::Spy;
use crate::check::Checks;
use crate::client::Client;
use crate::coverage::Coverage;
use crate::log::Log;
use crate::media::Media;
use crate::model::Model;
use crate::net::{End, Link, LinkId, Pipe, Way};
use crate::raw::Raw;
use crate::rng::Rng;
use crate::scenario::Scenario;
use crate::server::Server;
use crate::tokens::Tokens;

/// Wall time at the beginning of a world.
const WALL_0: u64 = 1_750_000_000_000;
/// A world with more events than this is taken for one that never ends.
const MAX_EVENTS: u64 = 3_000_000;

/// Longest text of a failure.
const MAX_TEXT: usize = 1_200;

/// A scheduled event.
#[derive(Debug)]
pub(crate) enum Ev {
    Action(usize),
    /// A socket reaches the server.
    Connect(LinkId),
    /// The client's end learns that it is open.
    Opened(LinkId),
    Refused(LinkId),
    Deliver(LinkId, Way),
    /// The server can write again.
    Writable(LinkId),
    /// A socket of the server has taken nothing since this time, for too long.
    WriteStall(LinkId, u64),
    /// The server has waited long enough for a client to close.
    Linger(LinkId),
    LobbyTimeout(LinkId),
    Turn(u64, usize),
    Tick(u64, usize),
    Commit(u64),
    Minted(u64, usize, AskId, Option<Minted>),
    Freeze(u64),
    HandOver(u64),
    DrainDeadline(u64),
    Start,
    ClientTimer(usize, u64),
    Wake(usize),
    /// A host learns that a socket is closed which its session gave up.
    LateClose(usize, LinkId),
    /// An app returns to the foreground.
    App(usize),
    Reads(usize),
    Join(usize),
    Raw(usize),
    Media(usize),
    /// A socket is cut.
    Trip(LinkId),
    Look,
    /// An input of a shard that the world makes itself.
    Post(u64, usize, Box<Input>),
}

struct QueuedEvent(u64, u64, u64, Ev);

impl QueuedEvent {
    fn key(&self) -> Reverse<(u64, u64, u64)> {
        Reverse((self.0, self.1, self.2))
    }
}

impl PartialEq for QueuedEvent {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl Eq for QueuedEvent {}
impl PartialOrd for QueuedEvent {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for QueuedEvent {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The checker that found it.
    pub checker: &'static str,
    /// Virtual time in milliseconds.
    pub at: u64,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] at {}.{:03}: {}", self.checker, self.at / 1000, self.at % 1000, self.what)
    }
}

/// The state of a world.
pub(crate) struct World {
    pub(crate) now: u64,
    queue: BinaryHeap<QueuedEvent>,
    events: u64,
    ties: Rng,
    pub(crate) rng: Rng,
    pub(crate) log: Log,
    pub(crate) cov: Coverage,
    pub(crate) scenario: Rc<Scenario>,
    pub(crate) links: BTreeMap<LinkId, Link>,
    last_link: u64,
    pub(crate) server: Server,
    pub(crate) clients: Vec<Client>,
    pub(crate) raws: Vec<Raw>,
    pub(crate) media: Media,
    pub(crate) spy: Spy,
    pub(crate) tokens: Tokens,
    pub(crate) model: Model,
    pub(crate) checks: Checks,
    /// Offset of the wall clock in milliseconds.
    pub(crate) wall_off: i64,
    pub(crate) failure: Option<Failure>,
    /// No more faults are injected.
    pub(crate) healing: bool,
}

/// Appends a line to the log of a world.
macro_rules! log {
    ($world:expr, $($what:tt)*) => {{
        let now = $world.now;
        $world.log.line(now, format_args!($($what)*));
    }};
}
pub(crate) use log;

impl World {
    pub(crate) fn new(scenario: Scenario, keep_text: bool) -> Self {
        let scenario = Rc::new(scenario);
        let rng = Rng::new(scenario.seed);
        let clients = Client::all(&scenario, &rng);
        let server = Server::new(&scenario, rng.fork(3));
        let key = server.key().clone();
        let mut world = World {
            now: 0,
            queue: BinaryHeap::new(),
            events: 0,
            ties: rng.fork(1),
            rng: rng.fork(2),
            log: Log::new(keep_text),
            cov: Coverage::default(),
            links: BTreeMap::new(),
            last_link: 0,
            server,
            raws: Vec::new(),
            media: Media::new(rng.fork(4)),
            spy: Spy::new(rng.fork(5)),
            tokens: Tokens::default(),
            model: Model::new(&scenario, key),
            checks: Checks::default(),
            wall_off: 0,
            failure: None,
            healing: false,
            clients,
            scenario,
        };
        for (index, action) in world.scenario.clone().actions.iter().enumerate() {
            world.at(action.at, Ev::Action(index));
        }
        world.at(0, Ev::Start);
        world
    }

    pub(crate) fn at(&mut self, at: u64, ev: Ev) {
        self.events += 1;
        let tie = self.ties.next();
        self.queue.push(QueuedEvent(at.max(self.now), tie, self.events, ev));
    }

    pub(crate) fn after(&mut self, ms: u64, ev: Ev) {
        self.at(self.now + ms, ev);
    }

    pub(crate) fn wall(&self) -> WallTime {
        WallTime((WALL_0 + self.now).saturating_add_signed(self.wall_off))
    }

    /// Reports a failure; only the first one is kept.
    pub(crate) fn fail(&mut self, checker: &'static str, what: String) {
        if self.failure.is_none() {
            log!(self, "FAILURE [{checker}] {what}");
            let what = what.chars().take(MAX_TEXT).collect();
            self.failure = Some(Failure { checker, at: self.now, what });
        }
    }

    /// Executes all events that are due until then.
    pub(crate) fn run_until(&mut self, end: u64) {
        while self.failure.is_none()
            && let Some(QueuedEvent(at, ..)) = self.queue.peek()
            && *at <= end
        {
            let Some(QueuedEvent(at, _, _, ev)) = self.queue.pop() else { break };
            self.now = at;
            if self.events > MAX_EVENTS {
                self.fail("bounded", "the world does not come to rest".to_owned());
            }
            self.happen(ev);
        }
        self.now = self.now.max(end);
    }

    fn happen(&mut self, ev: Ev) {
        match ev {
            Ev::Action(index) => {
                let scenario = Rc::clone(&self.scenario);
                self.act(&scenario.actions[index].what);
            }
            Ev::Connect(link) => self.server_connect(link),
            Ev::Opened(link) => self.end_opened(link),
            Ev::Refused(link) => self.end_closed(link, 1006),
            Ev::Deliver(link, Way::Up) => self.deliver_up(link),
            Ev::Deliver(link, Way::Down) => self.deliver_down(link),
            Ev::Writable(link) => self.server_writable(link),
            Ev::WriteStall(link, since) => self.server_write_stall(link, since),
            Ev::Linger(link) => self.server_linger(link),
            Ev::LobbyTimeout(link) => self.lobby_timeout(link),
            Ev::Turn(process, shard) => self.server_turn(process, shard),
            Ev::Tick(process, shard) => self.server_tick(process, shard),
            Ev::Commit(process) => self.store_commit(process),
            Ev::Minted(process, shard, id, result) => {
                self.server_minted(process, shard, id, result);
            }
            Ev::Freeze(process) => self.server_freeze(process),
            Ev::HandOver(process) => self.server_hand_over(process),
            Ev::DrainDeadline(process) => self.server_drain_deadline(process),
            Ev::Start => self.server_start(),
            Ev::ClientTimer(client, generation) => self.client_timer(client, generation),
            Ev::Wake(client) => self.client_wake(client),
            Ev::LateClose(client, link) => self.client_late_close(client, link),
            Ev::App(client) => self.app_acts(client),
            Ev::Reads(client) => self.client_reads(client),
            Ev::Join(client) => self.app_joins(client),
            Ev::Raw(raw) => self.raw_step(raw),
            Ev::Media(media) => self.media_step(media),
            Ev::Trip(id) => self.cut(id, true),
            Ev::Look => self.look(),
            Ev::Post(process, shard, input) => self.server_post(process, shard, *input),
        }
    }

    /// Opens a socket towards the server.
    pub(crate) fn connect(&mut self, end: End) -> LinkId {
        self.last_link += 1;
        let id = LinkId(self.last_link);
        let knobs = &self.scenario.knobs;
        let mut rng = self.rng.fork(1_000_000 + id.0);
        // Each socket has its own delay: some are slower than others.
        let (low, high) = knobs.delay;
        let high = rng.between(low, high);
        let pipe = |capacity| Pipe::new(capacity, (low, high));
        let link = Link {
            end,
            up: pipe(knobs.capacity.max(70_000)),
            down: pipe(knobs.capacity),
            client_open: true,
            server_open: false,
            accepted: false,
            process: 0,
            rng,
            disturbed_at: self.now,
        };
        self.links.insert(id, link);
        let delay = self.link_delay(id, Way::Up);
        let offline = match end {
            End::Client(client) => self.clients[client].offline(self.now),
            End::Raw(_) => None,
        };
        log!(self, "{id:?} opens for {end:?}");
        match offline {
            None => self.after(delay, Ev::Connect(id)),
            Some(true) => {}
            Some(false) => self.after(delay, Ev::Refused(id)),
        }
        id
    }

    pub(crate) fn link_delay(&mut self, id: LinkId, way: Way) -> u64 {
        self.links.get_mut(&id).map_or(0, |link| link.delay(way))
    }

    /// Writes bytes as far as the socket takes them, in pieces. Returns how many it took.
    pub(crate) fn write(&mut self, id: LinkId, way: Way, bytes: &[u8]) -> usize {
        let now = self.now;
        let mut at = 0;
        let mut due = Vec::new();
        let Some(link) = self.links.get_mut(&id) else { return 0 };
        while at < bytes.len() {
            let rest = &bytes[at..];
            // Sometimes a piece ends at a random byte.
            let len =
                if link.rng.chance(150) { 1 + link.rng.index(rest.len()) } else { rest.len() };
            let delay = link.delay(way);
            let (taken, arrives) = link.pipe(way).write(now, &rest[..len], delay);
            if taken == 0 {
                break;
            }
            due.push(arrives);
            at += taken;
        }
        for arrives in due {
            self.at(arrives, Ev::Deliver(id, way));
        }
        at
    }

    /// One side closes after the bytes that it has written.
    pub(crate) fn finish(&mut self, id: LinkId, way: Way) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return };
        let delay = link.delay(way);
        let at = link.pipe(way).finish(now, delay);
        self.at(at, Ev::Deliver(id, way));
    }

    fn deliver_up(&mut self, id: LinkId) {
        if let Some(until) = self.server.standing_still(self.now) {
            return self.at(until, Ev::Deliver(id, Way::Up));
        }
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return };
        let over = link.up.deliver(now, usize::MAX);
        if !link.server_open {
            link.up.forget();
            // A process that is gone causes a reset, unless its machine is gone as well.
            if link.client_open && link.accepted && self.server.is_up() && !link.down.is_finished()
            {
                link.down.black = false;
                self.finish(id, Way::Down);
            }
            return;
        }
        while let Some(frame) = self.links.get_mut(&id).and_then(|link| link.up.reader.next()) {
            self.server_frame(id, frame);
        }
        if over {
            self.server_eof(id);
        }
    }

    fn deliver_down(&mut self, id: LinkId) {
        let now = self.now;
        let Some(link) = self.links.get(&id) else { return };
        let end = link.end;
        if link.client_open && !self.end_reads(end) {
            return;
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        let over = link.down.deliver(now, usize::MAX);
        if !link.client_open {
            link.down.forget();
        }
        while let Some(frame) = self.links.get_mut(&id).and_then(|link| link.down.reader.next()) {
            self.end_frame(id, frame);
        }
        if over {
            self.end_closed(id, 1006);
        }
        self.after(0, Ev::Writable(id));
        self.bury(id);
    }

    /// Removes a socket that both sides have closed.
    pub(crate) fn bury(&mut self, id: LinkId) {
        if self.links.get(&id).is_some_and(|link| {
            !link.client_open && !link.server_open && (link.down.is_finished() || !link.accepted)
        }) {
            self.links.remove(&id);
        }
    }

    /// The present socket of a client, if it still exists.
    pub(crate) fn link_of(&self, client: usize) -> Option<LinkId> {
        self.clients[client].link.filter(|id| self.links.contains_key(id))
    }
}

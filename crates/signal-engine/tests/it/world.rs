//! A shell in virtual time: apps, clients, URL issuing and token checks around one engine. All output of the engine is
//! decoded and checked here, so that each test asserts the general rules as well:
//!
//! - `seq` is contiguous on each connection from its snapshot on, and no event at or below it comes;
//! - an event has one text, whoever receives it (ORD-1), and holds no URL (EVT-2);
//! - an answer's `seq` is that of the last event on the connection (ORD-4);
//! - each picture folds (see [`Picture`]);
//! - `closing` with the same code precedes each close but that of a slow reader (NOT-2), nothing follows;
//! - only a stream that was asked for is cut, and once;
//! - the counters agree with what is open.

mod audit;
mod disk;
mod entry;
mod relay;
mod resume;
mod shell;
mod tasks;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use lianmai_protocol::codec;
use lianmai_protocol::message::media::{Published, Subscribed, Urls};
use lianmai_protocol::message::notice::Closing;
use lianmai_protocol::message::session::{Joined, Resumed};
use lianmai_protocol::message::{Call, ChannelEvent, Notice, Request};
use lianmai_protocol::{
    CloseCode, Epoch, ErrorName, Gen, KindSet, Mid, MonoTime, Now, RequestId, RpcError, UserId,
    WallTime,
};
use lianmai_signal_engine::output::{ChannelView, MemberView};
use lianmai_signal_engine::{
    Access, AddrId, AdminCommand, AdminReply, Answer, AppPolicy, AskId, ChannelKey, ConnId, Denial,
    DuplicatePolicy, Engine, EngineConfig, Grant, Input, JoinRequest, MintRequest, Minted, Note,
    QueryId,
};
use serde_json::Value;

pub(crate) use self::disk::{Disk, DiskMode};
pub(crate) use self::entry::{Entry, entry};
use self::relay::Relay;
pub(crate) use self::tasks::{ACCEPTED, RENEW, add, delete, task, update};
use crate::calls::ping;
use crate::picture::{Picture, words};

/// Where the clock of every process begins.
pub(crate) const BEGIN_MS: u64 = 24 * 3600 * 1000;

/// What the issuer of URLs does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Issuer {
    AtOnce,
    Hold,
    Fail,
}

/// A client, named by its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Client(pub(crate) ConnId);

/// One event as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedEvent {
    pub(crate) at: MonoTime,
    pub(crate) seq: u64,
    pub(crate) event: ChannelEvent,
}

#[derive(Debug, Default)]
pub(crate) struct Conn {
    pub(crate) joined: Option<Joined>,
    /// `None` for a client that forgot events, until its next snapshot.
    pub(crate) picture: Option<Picture>,
    pub(crate) last_seq: u64,
    pub(crate) events: Vec<ReceivedEvent>,
    events_read: usize,
    pub(crate) notices: Vec<(MonoTime, Notice)>,
    notices_read: usize,
    pub(crate) answers: BTreeMap<u64, Result<Value, RpcError>>,
    /// Refusals of elements without a readable id.
    pub(crate) anonymous: Vec<ErrorName>,
    methods: BTreeMap<u64, &'static str>,
    /// Ids that were sent more than once: their answers may be older than the last event.
    pub(crate) again: BTreeSet<u64>,
    /// Everything in order of arrival, in words.
    log: Vec<String>,
    log_read: usize,
    pub(crate) frames: Vec<Bytes>,
    /// When the server pinged.
    pub(crate) pings: Vec<MonoTime>,
    closing: Option<Closing>,
    pub(crate) closed: Option<CloseCode>,
    /// The client closed the socket.
    gone: bool,
    next_id: u64,
    /// Smaller ids were used on an earlier connection.
    first_id: u64,
    /// The newest ticket, its number, the last attempt and the last targeted message.
    pub(crate) ticket: String,
    pub(crate) k: u64,
    attempt: u64,
    pub(crate) n: u64,
    /// The client's state before it came back, until that is answered.
    before: Option<Box<Conn>>,
    pub(crate) resumed: Option<Resumed>,
}

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) config: EngineConfig,
    /// Number of processes so far.
    starts: u8,
    pub(crate) disk: Disk,
    pub(crate) drained: Option<bool>,
    pub(crate) draining: bool,
    /// Writes that were lost with a process, or failed.
    pub(crate) writes_lost: usize,
    pub(crate) now: Now,
    pub(crate) issuer: Issuer,
    pub(crate) url_life_ms: u64,
    pub(crate) held_mints: VecDeque<(AskId, MintRequest)>,
    /// The results of `renewToken`; the check of a token that is not here is held.
    pub(crate) tokens: BTreeMap<String, Result<Grant, ErrorName>>,
    pub(crate) held_tokens: VecDeque<(AskId, String)>,
    last_ask: Option<AskId>,
    pub(crate) conns: BTreeMap<ConnId, Conn>,
    pub(crate) minted: BTreeSet<Gen>,
    pub(crate) mints: usize,
    pub(crate) cut: BTreeSet<Gen>,
    pub(crate) cut_viewers: Vec<(Gen, Mid)>,
    pub(crate) notes: Vec<Note>,
    pub(crate) tasks: tasks::TaskShell,
    pub(crate) texts: BTreeMap<(Epoch, u64), String>,
    pub(crate) waiting: BTreeSet<QueryId>,
    pub(crate) verdicts: BTreeMap<QueryId, Result<KindSet, Denial>>,
    /// What the relay was told of streams and their viewers.
    pub(crate) relay: Relay,
    replies: BTreeMap<QueryId, Result<AdminReply, RpcError>>,
    last_conn: u64,
    last_query: u64,
}

/// The stream in the URL of an answer, where [`World`] writes it.
pub(crate) fn gen_of(url: &str) -> Gen {
    url.trim_start_matches("rtmp://media/").split('?').next().expect("one").parse().expect("a gen")
}

impl World {
    pub(crate) fn new() -> World {
        World::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut EngineConfig)) -> World {
        let mut config = EngineConfig { deployment_id: "dep".to_owned(), ..Default::default() };
        let mut app = |name: &str, policy: AppPolicy| {
            config.apps.insert(name.parse().expect("valid"), policy);
        };
        app("plain", AppPolicy::default());
        app("reject", AppPolicy { duplicate: DuplicatePolicy::RejectNew, ..Default::default() });
        app("creator", AppPolicy { creator_moderates: true, ..Default::default() });
        app("dissolve", AppPolicy { dissolve_on_creator_leave: true, ..Default::default() });
        change(&mut config);
        World {
            engine: Engine::new(config.clone(), [7; 32]),
            config,
            starts: 1,
            disk: Disk::default(),
            drained: None,
            draining: false,
            writes_lost: 0,
            now: Now { mono: MonoTime(BEGIN_MS), wall: WallTime(1_800_000_000_000) },
            issuer: Issuer::AtOnce,
            url_life_ms: 3_600_000,
            held_mints: VecDeque::new(),
            tokens: BTreeMap::new(),
            held_tokens: VecDeque::new(),
            last_ask: None,
            conns: BTreeMap::new(),
            minted: BTreeSet::new(),
            mints: 0,
            cut: BTreeSet::new(),
            cut_viewers: Vec::new(),
            notes: Vec::new(),
            tasks: tasks::TaskShell::default(),
            texts: BTreeMap::new(),
            waiting: BTreeSet::new(),
            verdicts: BTreeMap::new(),
            relay: Relay::default(),
            replies: BTreeMap::new(),
            last_conn: 0,
            last_query: 0,
        }
    }

    /// The next process is started with another configuration.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut EngineConfig)) {
        change(&mut self.config);
    }

    // Joins.

    pub(crate) fn enter(&mut self, entry: Entry) -> Result<Client, RpcError> {
        let client = self.send_join(entry);
        match self.conns[&client.0].answers.get(&1).expect("a join is answered") {
            Ok(_) => Ok(client),
            Err(error) => {
                assert_eq!(self.conns[&client.0].closed, Some(CloseCode::JOIN_REFUSED));
                Err(error.clone())
            }
        }
    }

    /// Sends a join and does not look at its answer.
    pub(crate) fn send_join(&mut self, entry: Entry) -> Client {
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        let mut state = Conn { next_id: 2, ..Conn::default() };
        state.methods.insert(1, "join");
        self.conns.insert(conn, state);
        let request = JoinRequest { id: RequestId(1), join: entry.join, grant: entry.grant };
        let addr = AddrId(entry.addr);
        self.input(Input::Join { conn, addr, request: Box::new(request) });
        Client(conn)
    }

    #[track_caller]
    pub(crate) fn join(&mut self, uid: u64) -> Client {
        self.admit(entry(uid))
    }

    #[track_caller]
    pub(crate) fn admit(&mut self, entry: Entry) -> Client {
        self.enter(entry).expect("the join is accepted")
    }

    #[track_caller]
    pub(crate) fn refusal(&mut self, entry: Entry) -> ErrorName {
        self.enter(entry).expect_err("the join is refused").name().clone()
    }

    // Commands.

    pub(crate) fn send(&mut self, client: Client, call: Call) -> u64 {
        let state = self.conns.get_mut(&client.0).expect("a client");
        let id = state.next_id;
        state.next_id += 1;
        self.send_as(client, id, call);
        id
    }

    pub(crate) fn send_as(&mut self, client: Client, id: u64, call: Call) {
        let state = self.conns.get_mut(&client.0).expect("a client");
        if state.methods.insert(id, call.method()).is_some() || id < state.first_id {
            state.again.insert(id);
        }
        let text = codec::encode_request(&Request { id: RequestId(id), ack: None, call });
        self.text(client, text);
    }

    /// Sends several commands as one array; returns the first id.
    pub(crate) fn batch(&mut self, client: Client, calls: Vec<Call>) -> u64 {
        let state = self.conns.get_mut(&client.0).expect("a client");
        let first = state.next_id;
        let mut texts = Vec::new();
        for call in calls {
            let id = state.next_id;
            state.next_id += 1;
            state.methods.insert(id, call.method());
            texts.push(codec::encode_request(&Request { id: RequestId(id), ack: None, call }));
        }
        self.text(client, codec::join_batch(&texts));
        first
    }

    pub(crate) fn text(&mut self, client: Client, frame: impl Into<Bytes>) {
        self.input(Input::Frame { conn: client.0, frame: frame.into() });
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, client: Client, call: Call) -> Result<Value, RpcError> {
        let id = self.send(client, call);
        self.answer(client, id).expect("the command is answered")
    }

    #[track_caller]
    pub(crate) fn ok(&mut self, client: Client, call: Call) -> Value {
        self.ask(client, call).expect("the command is accepted")
    }

    #[track_caller]
    pub(crate) fn err(&mut self, client: Client, call: Call) -> ErrorName {
        self.ask(client, call).expect_err("the command is refused").name().clone()
    }

    pub(crate) fn answer(&self, client: Client, id: u64) -> Option<Result<Value, RpcError>> {
        self.conns[&client.0].answers.get(&id).cloned()
    }

    /// The name of the error that a command was answered with.
    #[track_caller]
    pub(crate) fn error(&self, client: Client, id: u64) -> ErrorName {
        let answer = self.answer(client, id).expect("the command is answered");
        answer.expect_err("the command is refused").name().clone()
    }

    #[track_caller]
    pub(crate) fn push_url(&mut self, client: Client, kind: &str) -> (String, Gen) {
        let value = self.ok(client, crate::calls::publish(kind));
        let published: Published = serde_json::from_value(value).expect("published");
        assert_eq!(gen_of(&published.url), published.generation);
        (published.url, published.generation)
    }

    #[track_caller]
    pub(crate) fn pull_url(&mut self, client: Client, uid: u64, kind: &str) -> String {
        let value = self.ok(client, crate::calls::subscribe(uid, kind));
        let subscribed: Subscribed = serde_json::from_value(value).expect("subscribed");
        assert_eq!(subscribed.uid, UserId(uid));
        subscribed.url
    }

    // Answers, events and notices.

    pub(crate) fn joined(&self, client: Client) -> &Joined {
        self.conns[&client.0].joined.as_ref().expect("a joined client")
    }

    pub(crate) fn mid(&self, client: Client) -> Mid {
        self.joined(client).mid
    }

    /// The events since the last call, in words.
    pub(crate) fn new_events(&mut self, client: Client) -> Vec<String> {
        let state = self.conns.get_mut(&client.0).expect("a client");
        let new = state.events[state.events_read..].iter().map(|heard| words(&heard.event));
        let new = new.collect();
        state.events_read = state.events.len();
        new
    }

    /// The notices since the last call, without `memberCount`.
    pub(crate) fn notices(&mut self, client: Client) -> Vec<Notice> {
        let state = self.conns.get_mut(&client.0).expect("a client");
        let new = state.notices[state.notices_read..].iter().map(|(_, notice)| notice.clone());
        let new = new.filter(|notice| !matches!(notice, Notice::MemberCount(_))).collect();
        state.notices_read = state.notices.len();
        new
    }

    /// Everything since the last call, in words and in order, without `memberCount`.
    pub(crate) fn log(&mut self, client: Client) -> Vec<String> {
        let state = self.conns.get_mut(&client.0).expect("a client");
        let new = state.log[state.log_read..].to_vec();
        state.log_read = state.log.len();
        new
    }

    /// Skips everything that has come so far.
    pub(crate) fn skip_received(&mut self) {
        for state in self.conns.values_mut() {
            state.events_read = state.events.len();
            state.notices_read = state.notices.len();
            state.log_read = state.log.len();
        }
    }

    pub(crate) fn closed(&self, client: Client) -> Option<CloseCode> {
        self.conns[&client.0].closed
    }

    pub(crate) fn closing(&self, client: Client) -> Option<Closing> {
        self.conns[&client.0].closing.clone()
    }

    pub(crate) fn open(&self) -> Vec<Client> {
        let open = self.conns.iter().filter(|(_, conn)| conn.is_seated());
        open.map(|(conn, _)| Client(*conn)).collect()
    }

    // Time and the shell.

    pub(crate) fn advance(&mut self, ms: u64) {
        let target = self.now.mono + ms;
        while let Some(due) = self.engine.next_deadline().filter(|due| *due <= target) {
            let step = due.since(self.now.mono);
            self.now.mono = self.now.mono + step;
            self.now.wall.0 += step;
            self.input(Input::Tick);
        }
        let step = target.since(self.now.mono);
        self.now.mono = target;
        self.now.wall.0 += step;
        self.input(Input::Tick);
    }

    /// The process stalls: the clock goes on and no input is handled until then.
    pub(crate) fn stall(&mut self, ms: u64) {
        self.now.mono = self.now.mono + ms;
        self.now.wall.0 += ms;
        self.input(Input::Tick);
    }

    /// Lets time pass while these clients keep to their ping interval.
    pub(crate) fn advance_alive(&mut self, ms: u64, clients: &[Client]) {
        let mut left = ms;
        while left > 0 {
            let step = left.min(10_000);
            self.advance(step);
            left -= step;
            for client in clients {
                if self.conns[&client.0].is_seated() {
                    self.ok(*client, ping());
                }
            }
        }
    }

    pub(crate) fn drop_socket(&mut self, client: Client) {
        self.conns.get_mut(&client.0).expect("a client").gone = true;
        self.input(Input::Closed { conn: client.0 });
    }

    pub(crate) fn mint_result(&self, id: AskId, request: &MintRequest) -> Minted {
        let viewer = request.viewer.map_or("push".to_owned(), |mid| mid.to_string());
        Minted {
            url: format!(
                "rtmp://media/{}?for={viewer}&n={}.{}",
                request.generation, self.starts, id.0
            ),
            urls: Urls::default(),
            renew_after: WallTime(self.now.wall.0 + self.url_life_ms),
        }
    }

    /// Answers the oldest request for URLs that is held.
    pub(crate) fn issue(&mut self) {
        let (id, request) = self.held_mints.pop_front().expect("a request for URLs");
        let answer = Answer::Minted(Some(self.mint_result(id, &request)));
        self.input(Input::Answer { id, answer });
    }

    pub(crate) fn fail_to_issue(&mut self) {
        let (id, _) = self.held_mints.pop_front().expect("a request for URLs");
        self.input(Input::Answer { id, answer: Answer::Minted(None) });
    }

    pub(crate) fn flow(&mut self, generation: Gen) {
        self.input(Input::MediaFlow { generation });
    }

    pub(crate) fn may_push(&mut self, generation: Gen) -> Result<(), Denial> {
        self.pushed(generation).map(drop)
    }

    pub(crate) fn may_play(&mut self, generation: Gen, viewer: Mid) -> Result<(), Denial> {
        self.played(generation, viewer).map(drop)
    }

    /// The kinds that may be pushed.
    pub(crate) fn pushed(&mut self, generation: Gen) -> Result<KindSet, Denial> {
        self.authorize(generation, Access::Publish)
    }

    /// The kinds that a viewer may play.
    pub(crate) fn played(&mut self, generation: Gen, viewer: Mid) -> Result<KindSet, Denial> {
        self.authorize(generation, Access::Play { viewer })
    }

    /// Asks for a play whose verdict may come later.
    pub(crate) fn ask_to_play(&mut self, generation: Gen, viewer: Mid) -> QueryId {
        self.ask_for(generation, Access::Play { viewer })
    }

    fn ask_for(&mut self, generation: Gen, access: Access) -> QueryId {
        self.last_query += 1;
        let query = QueryId(self.last_query);
        self.input(Input::Authorize { query, generation, access });
        query
    }

    fn authorize(&mut self, generation: Gen, access: Access) -> Result<KindSet, Denial> {
        let query = self.ask_for(generation, access);
        let verdict = self.verdicts.remove(&query).expect("a verdict");
        self.relay.judged(generation, access, verdict);
        verdict
    }

    pub(crate) fn admin(&mut self, command: AdminCommand) -> Result<AdminReply, RpcError> {
        self.last_query += 1;
        let query = QueryId(self.last_query);
        self.input(Input::Admin { query, command });
        self.replies.remove(&query).expect("a reply")
    }

    /// As [`World::admin`], if the answer comes after a write.
    pub(crate) fn admin_later(&mut self, command: AdminCommand) {
        self.last_query += 1;
        let query = QueryId(self.last_query);
        self.input(Input::Admin { query, command });
        assert!(!self.replies.contains_key(&query), "a reply already");
    }

    /// The replies since the last call that no [`World::admin`] took.
    pub(crate) fn later_replies(&mut self) -> Vec<Result<AdminReply, RpcError>> {
        std::mem::take(&mut self.replies).into_values().collect()
    }

    pub(crate) fn channels(&mut self) -> Vec<ChannelView> {
        match self.admin(AdminCommand::ListChannels) {
            Ok(AdminReply::Channels(channels)) => channels,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn members(&mut self, channel: &ChannelKey) -> Vec<MemberView> {
        match self.admin(AdminCommand::GetChannel(channel.clone())) {
            Ok(AdminReply::Channel(_, members)) => members,
            other => panic!("{other:?}"),
        }
    }

    /// The view that the admin API has of one member.
    pub(crate) fn member(&mut self, app: &str, uid: u64) -> Option<MemberView> {
        let members = self.members(&room(app));
        members.into_iter().find(|member| member.uid == UserId(uid))
    }
}

/// The channel `room` of an app.
pub(crate) fn room(app: &str) -> ChannelKey {
    ChannelKey { appkey: app.parse().expect("valid"), name: "room".parse().expect("valid") }
}

impl Conn {
    pub(crate) fn is_seated(&self) -> bool {
        self.joined.is_some() && self.closed.is_none() && !self.gone
    }
}

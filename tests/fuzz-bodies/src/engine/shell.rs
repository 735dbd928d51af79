//! The environment of an engine, in virtual time: clients, a URL issuer, token checks, a disk. In: operations. Out:
//! inputs of the engine, the states that were reached. Checked after every input: outputs are bounded, no deadline is
//! overdue, sockets and members are counted correctly, a stream is cut once, a question is answered once. Deliberately
//! absent: real sockets and clocks.

mod clients;
mod process;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lianmai_protocol::limits::Limits;
use lianmai_protocol::message::media::Urls;
use lianmai_protocol::{
    ErrorName, Gen, KindSet, MediaKind, Mid, MonoTime, Now, Role, RpcError, WallTime,
};
use lianmai_signal_engine::output::MemberView;
use lianmai_signal_engine::{
    Access, AdminCommand, AdminReply, Answer, AppPolicy, AskId, ChannelKey, ConnId, Denial,
    DuplicatePolicy, Engine, EngineConfig, Grant, Input, MintRequest, Minted, Note, Output,
    QueryId, Question, Stats, TicketClaims,
};

use super::client::{Client, Membership, Observed};
use super::disk::{Disk, Mode};
use super::grant;
use crate::reached_states::ReachedStates;

pub(super) use clients::ResumeOptions;

/// Maximum number of outputs per input: a frame holds 32 commands, and each causes a few messages to 6 members.
const MAX_OUTPUTS: usize = 4_000;
/// Maximum number of deadlines within the longest single advance of time.
const MAX_DEADLINES: usize = 12_000;
/// No membership without a socket lives longer than this, in milliseconds.
const LONGEST_LIFE_MS: u64 = 400_000;
/// The start of a process's clock: one day, see [`Input::Restore`].
const BEGIN_MS: u64 = 86_400_000;
/// Maximum bytes of targeted messages that wait for one membership.
const MESSAGE_BYTES: usize = 64 << 10;
/// Events are flushed within this time if nothing waits for them, in milliseconds.
const FLUSHED_MS: u64 = 100;
/// Small, so that a program reaches the limit.
const LOG_BYTES: usize = 24 << 10;

#[derive(Clone, Copy)]
pub(super) enum Issuer {
    AtOnce,
    Hold,
    Fail,
}

pub(super) struct Shell {
    engine: Engine,
    config: EngineConfig,
    pub(super) now: Now,
    pub(super) issuer: Issuer,
    disk: Disk,
    clients: BTreeMap<ConnId, Client>,
    pub(super) observed: Observed,
    held_mints: VecDeque<(AskId, MintRequest)>,
    held_tokens: VecDeque<AskId>,
    minted: Vec<Gen>,
    /// Streams, with the membership for which a pull URL was requested.
    plays: Vec<(Gen, Mid)>,
    cut: BTreeSet<Gen>,
    /// Number of memberships that began minus those that ended.
    members: usize,
    /// The newest ticket of each membership.
    tickets: BTreeMap<Mid, String>,
    /// The last targeted message that some connection of a membership confirmed.
    confirmed: BTreeMap<Mid, u64>,
    attempts: u64,
    processes: u8,
    /// Set while the process is stopping; the inner value says whether it has handed over.
    drain: Option<Option<bool>>,
    last_query: u64,
    /// Ids of unanswered questions, and the answers to the others.
    asked: BTreeSet<QueryId>,
    verdicts: BTreeMap<QueryId, Result<KindSet, Denial>>,
    replies: BTreeMap<QueryId, Result<AdminReply, RpcError>>,
}

impl Shell {
    pub(super) fn new() -> Self {
        let app = |name: &str, policy: AppPolicy| (name.parse().expect("valid"), policy);
        let plain = AppPolicy::default;
        let config = EngineConfig {
            limits: Limits {
                members: 6,
                broadcasters: 4,
                channels: 3,
                subscriptions: 4,
                attribute_bytes: 512,
                channel_attribute_bytes: 1024,
                ..Limits::default()
            },
            apps: [
                app("plain", plain()),
                app("reject", AppPolicy { duplicate: DuplicatePolicy::RejectNew, ..plain() }),
                app("creator", AppPolicy { creator_moderates: true, ..plain() }),
                app("dissolve", AppPolicy { dissolve_on_creator_leave: true, ..plain() }),
            ]
            .into(),
            log_bytes: LOG_BYTES,
            ..EngineConfig::default()
        };
        Shell {
            engine: Engine::new(config.clone(), [1; 32]),
            config,
            now: Now { mono: MonoTime(BEGIN_MS), wall: WallTime(1_800_000_000_000) },
            issuer: Issuer::AtOnce,
            disk: Disk::new(),
            clients: BTreeMap::new(),
            observed: Observed::default(),
            held_mints: VecDeque::new(),
            held_tokens: VecDeque::new(),
            minted: Vec::new(),
            plays: Vec::new(),
            cut: BTreeSet::new(),
            members: 0,
            tickets: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            attempts: 0,
            processes: 1,
            drain: None,
            last_query: 0,
            asked: BTreeSet::new(),
            verdicts: BTreeMap::new(),
            replies: BTreeMap::new(),
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.config.limits
    }

    pub(super) fn stats(&self) -> Stats {
        self.engine.stats()
    }

    pub(super) fn connections(&self) -> usize {
        self.clients.len()
    }

    pub(super) fn seated(&self) -> Vec<ConnId> {
        let seated = self.clients.iter().filter(|(_, client)| client.is_seated());
        seated.map(|(conn, _)| *conn).collect()
    }

    /// A stream for which a push URL was requested.
    pub(super) fn minted(&self, which: usize) -> Option<Gen> {
        self.minted.get(which % self.minted.len().max(1)).copied()
    }

    /// A stream, and a membership that may have a pull URL for it.
    pub(super) fn play(&self, which: usize) -> Option<(Gen, Mid)> {
        self.plays.get(which % self.plays.len().max(1)).copied()
    }

    /// A membership, which may have ended.
    pub(super) fn mid(&self, which: usize) -> Option<Mid> {
        Some(self.clients.get(&ConnId(which as u64))?.membership.as_ref()?.mid)
    }

    // Methods of the environment.

    pub(super) fn answer_mint(&mut self, fail: bool) {
        let Some((id, request)) = self.held_mints.pop_front() else { return };
        self.observed.states.note("late URL", if fail { "failed" } else { "issued" });
        let result = (!fail).then(|| self.issue(id, &request));
        self.input(Input::Answer { id, answer: Answer::Minted(result) });
    }

    pub(super) fn answer_token(&mut self, grant: Result<Grant, ErrorName>) {
        if let Some(id) = self.held_tokens.pop_front() {
            self.observed.states.note("late token", if grant.is_ok() { "good" } else { "bad" });
            self.input(Input::Answer { id, answer: Answer::Verified(grant) });
        }
    }

    /// The answer to a question if it comes at once.
    fn answer(&mut self, id: AskId, question: Question) -> Option<Answer> {
        match question {
            Question::Mint(request) => {
                self.minted.push(request.generation);
                self.plays.extend(request.viewer.map(|viewer| (request.generation, viewer)));
                match self.issuer {
                    Issuer::AtOnce => Some(Answer::Minted(Some(self.issue(id, &request)))),
                    Issuer::Fail => Some(Answer::Minted(None)),
                    Issuer::Hold => {
                        self.held_mints.push_back((id, request));
                        None
                    }
                }
            }
            Question::Verify(request) if request.token.0 == "held" => {
                self.held_tokens.push_back(id);
                None
            }
            Question::Verify(request) => {
                Some(Answer::Verified(grant(&request.token.0, self.now.wall)))
            }
            Question::Store(ops) => self.disk.write(ops, Some(id)).map(Answer::Stored),
            Question::Admit(_) | Question::Claim(_) => unreachable!("no tasks are served"),
        }
    }

    fn key_of(&self, membership: &Membership) -> ChannelKey {
        let claims = TicketClaims::open(&self.config.ticket_key, &membership.ticket);
        claims.expect("the engine gave a genuine ticket").channel
    }

    fn issue(&self, id: AskId, request: &MintRequest) -> Minted {
        Minted {
            url: format!("rtmp://media/{}?n={}", request.generation, id.0),
            urls: Urls::default(),
            renew_after: WallTime(self.now.wall.0 + 20_000),
        }
    }

    fn question(&mut self, input: impl FnOnce(QueryId) -> Input) -> QueryId {
        self.last_query += 1;
        let query = QueryId(self.last_query);
        self.asked.insert(query);
        self.input(input(query));
        query
    }

    /// The verdict, if it comes at once: shortly after a crash it may come later.
    pub(super) fn authorize(&mut self, generation: Gen, access: Access) -> Option<bool> {
        let query = self.question(|query| Input::Authorize { query, generation, access });
        let verdict = self.verdicts.remove(&query)?;
        let how = if access == Access::Publish { "publish" } else { "play" };
        self.observed.states.note(how, if verdict.is_ok() { "allowed" } else { "denied" });
        assert!(verdict.is_err() || !self.cut.contains(&generation), "a cut stream stays cut");
        Some(verdict.is_ok())
    }

    /// The reply, if it comes at once: it may have to wait for a write.
    pub(super) fn admin(&mut self, command: AdminCommand) -> Option<Result<AdminReply, RpcError>> {
        let what = match &command {
            AdminCommand::Kick { .. } => "kick",
            AdminCommand::CloseChannel { .. } => "close",
            _ => "look",
        };
        let query = self.question(|query| Input::Admin { query, command });
        let Some(reply) = self.replies.remove(&query) else {
            self.observed.states.note("admin", format_args!("{what} waits"));
            return None;
        };
        let how = reply.as_ref().map_or_else(|error| error.name().as_str(), |_| "done");
        self.observed.states.note("admin", format_args!("{what} {how}"));
        Some(reply)
    }

    /// All members, without their connection state; `None` if the process answers nothing because it is stopping.
    fn members(&mut self) -> Option<BTreeSet<(ChannelKey, String)>> {
        let Some(Ok(AdminReply::Channels(views))) = self.admin(AdminCommand::ListChannels) else {
            return None;
        };
        let mut all = BTreeSet::new();
        for view in views {
            let reply = self.admin(AdminCommand::GetChannel(view.channel.clone()));
            let Some(Ok(AdminReply::Channel(_, members))) = reply else { panic!("it was listed") };
            for member in members {
                let MemberView { uid, mid, role, published, muted, .. } = member;
                let text = format!("{uid} {mid} {role:?} {published:?} {muted:?}");
                all.insert((view.channel.clone(), text));
            }
        }
        Some(all)
    }

    /// Compares the roster that each client derived from its events with the actual one.
    pub(super) fn compare_rosters(&mut self) {
        for conn in self.seated() {
            let Some(membership) = &self.clients[&conn].membership else { continue };
            let Some(roster) = membership.rosters.back() else { continue };
            let (key, shown) = (self.key_of(membership), roster.shown());
            let reply = self.admin(AdminCommand::GetChannel(key));
            let Some(Ok(AdminReply::Channel(_, members))) = reply else { continue };
            let visible = members.into_iter().filter(|m| m.role == Role::Broadcaster);
            let so: BTreeSet<_> = visible
                .map(|m| (m.mid, m.uid.0, format!("{:?}", (m.published, m.muted))))
                .collect();
            let observed: BTreeSet<_> = shown
                .into_iter()
                .map(|(mid, uid, kinds, muted)| (mid, uid.0, format!("{:?}", (kinds, muted))))
                .collect();
            assert_eq!(observed, so, "a client's picture");
            self.observed.states.note("compared", if so.len() > 1 { "several" } else { "few" });
        }
    }

    pub(super) fn advance(&mut self, ms: u64) {
        let target = self.now.mono + ms;
        let mut deadlines = 0;
        while let Some(due) = self.engine.next_deadline().filter(|due| *due <= target) {
            self.pass(due.since(self.now.mono));
            deadlines += 1;
            assert!(deadlines < MAX_DEADLINES, "deadlines without end");
        }
        self.pass(target.since(self.now.mono));
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono = self.now.mono + ms;
        self.now.wall.0 += ms;
        self.input(Input::Tick);
    }

    /// Answers everything that is pending in the environment; then every request and every question must have its
    /// answer.
    pub(super) fn settle(&mut self) {
        self.issuer = Issuer::AtOnce;
        self.set_disk(Mode::AtOnce);
        while !self.held_mints.is_empty() || !self.held_tokens.is_empty() {
            self.answer_mint(false);
            self.answer_token(grant("all", self.now.wall));
        }
        for client in self.clients.values().filter(|client| client.is_seated()) {
            client.assert_answered();
        }
        self.advance(FLUSHED_MS);
        self.compare_rosters();
        assert!(self.stats().log_bytes <= LOG_BYTES, "logs are within their budget");
    }

    /// Ends all clients and lets time pass; afterwards no member may be left.
    pub(super) fn end(mut self) -> ReachedStates {
        if self.drain.is_some() {
            self.next_process();
        }
        for conn in self.seated() {
            self.drop_socket(conn);
        }
        self.advance(LONGEST_LIFE_MS);
        assert!(self.asked.is_empty(), "every question is answered");
        let stats = self.engine.stats();
        let left = (stats.channels, stats.members, stats.connected, stats.streams);
        assert_eq!(left, (0, 0, 0, 0), "channels, members, sockets, streams");
        assert_eq!((stats.log_bytes, stats.message_bytes), (0, 0), "bytes of events and messages");
        assert_eq!(self.members, 0, "each membership ends once");
        assert!(self.disk.lost || self.disk.is_empty(), "no member is stored");
        for generation in std::mem::take(&mut self.minted) {
            let verdict = self.authorize(generation, Access::Publish);
            assert_eq!(verdict, Some(false), "no stream is left");
        }
        assert_eq!(self.engine.stats().frames, stats.frames, "no frame is sent without members");
        self.observed.states
    }

    // Methods that drive the engine.

    pub(super) fn input(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.engine.handle(self.now, input);
            let mut outputs = 0;
            while let Some(output) = self.engine.poll_output() {
                outputs += 1;
                assert!(outputs < MAX_OUTPUTS, "outputs without end");
                self.see(&output);
                self.output(output, &mut inputs);
            }
            let due = self.engine.next_deadline();
            assert!(due.is_none_or(|due| due > self.now.mono), "no deadline is overdue");
        }
        let stats = self.engine.stats();
        assert_eq!(stats.connected, self.seated().len(), "sockets are counted");
        assert_eq!(stats.members, self.members, "members are counted");
        assert!(stats.message_bytes <= stats.members * MESSAGE_BYTES, "messages are bounded");
        assert!(stats.streams <= stats.members * MediaKind::ALL.len(), "streams are bounded");
    }

    fn see(&mut self, output: &Output) {
        let seen = &mut self.observed.states;
        match output {
            Output::Ping { .. } => seen.note("ping", "sent"),
            Output::Close { code, .. } => seen.note("close", code.0),
            Output::CutStream { .. } => seen.note("cut", "stream"),
            Output::CutViewer { .. } => seen.note("cut", "viewer"),
            Output::Drained { handed_over } => seen.note("drained", handed_over),
            Output::Ask { question: Question::Store(_), .. } => seen.note("write", "awaited"),
            Output::Note(Note::MemberLeft { reason, .. }) => seen.note("left", reason),
            Output::Note(Note::JoinRefused { error, .. }) => seen.note("no join", error),
            Output::Note(Note::CommandRefused { error, .. }) => seen.note("no", error),
            _ => {}
        }
    }

    fn output(&mut self, output: Output, inputs: &mut VecDeque<Input>) {
        match output {
            Output::Send { conn, frame } => {
                let client = self.clients.get_mut(&conn).expect("a connection that exists");
                client.receive(&frame, &mut self.observed);
                if let Some(membership) = &client.membership {
                    self.tickets.insert(membership.mid, membership.ticket.clone());
                }
            }
            Output::Ping { conn } => {
                let client = self.clients.get(&conn).expect("a connection that exists");
                assert!(client.is_seated(), "only a joined connection is pinged");
            }
            Output::Close { conn, code } => {
                let client = self.clients.get_mut(&conn).expect("a connection that exists");
                client.close(code);
            }
            Output::Ask { id, question } => {
                if let Some(answer) = self.answer(id, question) {
                    inputs.push_back(Input::Answer { id, answer });
                }
            }
            Output::Store(ops) => _ = self.disk.write(ops, None),
            Output::AuthorizePending { query } => {
                assert!(self.asked.contains(&query), "a question that is open");
            }
            Output::Verdict { query, verdict } => {
                assert!(self.asked.remove(&query), "one verdict for each question");
                self.verdicts.insert(query, verdict.map(|allowed| allowed.kinds));
            }
            Output::AdminReply { query, reply } => {
                assert!(self.asked.remove(&query), "one reply for each question");
                self.replies.insert(query, reply);
            }
            Output::Drained { handed_over } => {
                let before = self.drain.replace(Some(handed_over));
                assert_eq!(before, Some(None), "a drain ends once");
            }
            Output::SetPublished { generation, kinds, .. } => {
                assert!(
                    !kinds.is_empty() && !self.cut.contains(&generation),
                    "a stream that lives"
                );
            }
            Output::SetSubscribed { generation, kinds, .. } => {
                assert!(
                    !kinds.is_empty() && !self.cut.contains(&generation),
                    "the stream is live and has kinds"
                );
            }
            Output::CutStream { generation, .. } => {
                assert!(self.minted.contains(&generation), "a stream that exists is cut");
                assert!(self.cut.insert(generation), "a stream is cut once");
            }
            Output::CutViewer { generation, .. } => {
                assert!(!self.cut.contains(&generation), "a viewer of a live stream is cut");
            }
            Output::Note(Note::MemberJoined { .. }) => self.members += 1,
            Output::Note(Note::MemberLeft { .. }) => {
                self.members = self.members.checked_sub(1).expect("a membership ends once");
            }
            Output::Note(_) => {}
            Output::Order(_) | Output::Release { .. } | Output::Claimed { .. } => {
                unreachable!("no tasks are served")
            }
        }
    }
}

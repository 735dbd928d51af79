//! Everything around an engine, in virtual time: clients, issuing of URLs, checks of tokens, a disk. Checked
//! after every input: outputs are bounded, nothing is due any more, sockets and members are counted, a stream
//! is cut once, a question is answered once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use lianmai_protocol::limits::Limits;
use lianmai_protocol::message::media::Urls;
use lianmai_protocol::message::session::ResumeReason;
use lianmai_protocol::{ErrorName, Gen, Mid, MonoTime, Now, RpcError, WallTime};
use lianmai_signal_engine::{
    Access, AdminCommand, AdminReply, AppPolicy, Claims, ConnId, Denial, DrainPlan,
    DuplicatePolicy, Engine, EngineConfig, Grant, Input, JoinRequest, Lobby, LobbyOutput, MintId,
    MintRequest, Minted, Note, Output, QueryId, Stats, VerifyId,
};
use serde_json::{Value, json};

use super::client::{Client, Place, Texts};
use super::disk::{Disk, Mode};
use super::grant;

/// Most outputs of one input: a frame holds 32 commands, each of which tells 6 members few things.
const MAX_OUTPUTS: usize = 4_000;
/// Most deadlines within the longest time that passes at once.
const MAX_DEADLINES: usize = 12_000;
/// Nobody without a socket lives longer, in milliseconds.
const LONGEST_LIFE_MS: u64 = 400_000;
/// Targeted messages that a membership keeps (RES-8); their bytes matter only for longer ones than here.
const MAX_MESSAGES_KEPT: u64 = 32;
/// Small, so that a program reaches it.
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
    texts: Texts,
    held_mints: VecDeque<(MintId, MintRequest)>,
    held_tokens: VecDeque<VerifyId>,
    minted: Vec<Gen>,
    cut: BTreeSet<Gen>,
    /// Memberships that began, less those that ended.
    members: usize,
    /// The newest ticket of each membership.
    tickets: BTreeMap<Mid, String>,
    /// Up to which targeted message some connection of a membership has told that it has them.
    confirmed: BTreeMap<Mid, u64>,
    attempts: u64,
    processes: u8,
    /// Set while a process is about to stop: whether it has handed over.
    drain: Option<Option<bool>>,
    last_query: u64,
    /// Questions without an answer, and answers.
    asked: BTreeSet<QueryId>,
    verdicts: BTreeMap<QueryId, Result<(), Denial>>,
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
            engine: Engine::new(config.clone(), [7; 32]),
            config,
            now: Now { mono: MonoTime(1_000), wall: WallTime(1_800_000_000_000) },
            issuer: Issuer::AtOnce,
            disk: Disk::new(),
            clients: BTreeMap::new(),
            texts: Texts::new(),
            held_mints: VecDeque::new(),
            held_tokens: VecDeque::new(),
            minted: Vec::new(),
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

    /// A stream that a URL was asked for.
    pub(super) fn minted(&self, which: usize) -> Option<Gen> {
        self.minted.get(which % self.minted.len().max(1)).copied()
    }

    /// A membership, over or not.
    pub(super) fn mid(&self, which: usize) -> Option<Mid> {
        Some(self.clients.get(&ConnId(which as u64))?.stay.as_ref()?.mid)
    }

    // Clients.

    fn new_conn(&self) -> ConnId {
        ConnId(self.clients.len() as u64 + 1)
    }

    fn lobby(&self) -> Lobby {
        Lobby::new(self.config.ticket_key.clone())
    }

    pub(super) fn connect(&mut self) -> ConnId {
        let conn = self.new_conn();
        self.clients.insert(conn, Client::new(self.lobby()));
        conn
    }

    pub(super) fn next_id(&mut self, conn: ConnId) -> u64 {
        let Some(client) = self.clients.get_mut(&conn) else { return 1 };
        client.next_id += 1;
        client.next_id - 1
    }

    pub(super) fn call(&mut self, conn: ConnId, method: &str, params: &Value) {
        let id = self.next_id(conn);
        self.call_as(conn, id, method, params);
    }

    pub(super) fn call_as(&mut self, conn: ConnId, id: u64, method: &str, params: &Value) {
        let frame = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.frame(conn, frame.to_string().as_bytes());
    }

    pub(super) fn calls(&mut self, conn: ConnId, calls: &[(&str, Value)]) {
        let mut frame = Vec::new();
        for (method, params) in calls {
            let id = self.next_id(conn);
            frame.push(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        }
        self.frame(conn, Value::Array(frame).to_string().as_bytes());
    }

    pub(super) fn ping_all(&mut self) {
        for conn in self.seated() {
            self.call(conn, "ping", &json!({}));
        }
    }

    pub(super) fn frame(&mut self, conn: ConnId, frame: &[u8]) {
        if let Some(client) = self.clients.get_mut(&conn) {
            match &mut client.place {
                Place::Lobby(lobby) => {
                    let outputs = lobby.frame(frame);
                    client.asks(frame);
                    return self.lobby_outputs(conn, outputs);
                }
                Place::Engine => {
                    let confirmed = client.asks(frame);
                    if let Some(stay) = &client.stay {
                        let before = self.confirmed.entry(stay.mid).or_default();
                        *before = confirmed.max(*before);
                    }
                }
                // A shell may still have read something.
                Place::Closed | Place::Gone => {}
            }
        }
        self.input(Input::Frame { conn, frame: Bytes::copy_from_slice(frame) });
    }

    pub(super) fn binary(&mut self, conn: ConnId) {
        match self.clients.get(&conn).map(|client| &client.place) {
            Some(Place::Lobby(lobby)) => {
                let outputs = lobby.binary();
                self.lobby_outputs(conn, outputs);
            }
            _ => self.input(Input::BinaryFrame { conn }),
        }
    }

    fn lobby_outputs(&mut self, conn: ConnId, outputs: Vec<LobbyOutput>) {
        assert!(outputs.len() <= 40, "a frame has at most 32 elements");
        for output in outputs {
            let Some(client) = self.clients.get_mut(&conn) else { return };
            match output {
                LobbyOutput::Send(text) => client.receive(text.as_bytes(), &mut self.texts),
                LobbyOutput::Close(code) => client.close(code),
                LobbyOutput::Join(id, join) => {
                    client.place = Place::Engine;
                    let grant = match join.token.as_deref() {
                        None => Ok(Grant::debug()),
                        Some(token) => grant(token, self.now.wall),
                    };
                    let request = Box::new(JoinRequest { id, join: *join, grant });
                    self.input(Input::Join { conn, request });
                }
                LobbyOutput::Reconnect(request) => {
                    client.place = Place::Engine;
                    self.input(Input::Reconnect { conn, request });
                }
            }
        }
    }

    pub(super) fn drop_socket(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get_mut(&conn) {
            client.place = Place::Gone;
        }
        self.input(Input::Closed { conn });
    }

    /// Comes back as the one on `old`, which may have heard less than was sent; its requests go again.
    pub(super) fn resume(&mut self, old: ConnId, how: Return) {
        let Some(client) = self.clients.get(&old) else { return };
        let Some(mut stay) = client.stay.clone() else { return };
        stay.last = stay.last.saturating_sub(how.behind);
        let sent = std::mem::take(&mut stay.sent);
        let ticket = (how.change)(&stay.ticket);
        let genuine = ticket == stay.ticket;
        let claims = Claims::open(&self.config.ticket_key, &ticket);
        assert_eq!(claims.is_some(), genuine, "a ticket that was changed is none: {ticket}");
        let newest = genuine && self.tickets.get(&stay.mid) == Some(&ticket);
        let is_member = claims.as_ref().is_some_and(|claims| self.is_member(claims));
        self.attempts += 1;
        let attempt = if how.stale { 1 } else { self.attempts + 1 };
        let mut params = json!({
            "ticket": ticket, "attempt": attempt, "epoch": stay.epoch, "seq": stay.last,
            "n": stay.n.unwrap_or(0),
        });
        if how.snapshot {
            params["want"] = "snapshot".into();
        }
        let (mid, n) = (stay.mid, stay.n.unwrap_or(0));
        let conn = self.new_conn();
        let client = Client::returning(self.lobby(), &self.clients[&old], stay);
        self.clients.insert(conn, client);
        let before = self.stats();
        self.call(conn, "reconnect", &params);
        match self.clients[&conn].refused.clone() {
            Some(reason) => {
                assert!(matches!(self.clients[&conn].place, Place::Closed), "refused and closed");
                let now = self.stats();
                let shape = |s: Stats| (s.channels, s.members, s.connected, s.streams, s.events);
                assert_eq!(shape(now), shape(before), "a refusal changes nothing");
                let wrong = matches!(
                    reason,
                    ResumeReason::Invalid
                        | ResumeReason::StaleAttempt
                        | ResumeReason::Gone
                        | ResumeReason::Left
                        | ResumeReason::Replaced
                );
                let good = newest && is_member && !how.stale;
                assert!(!(good && wrong), "who holds the newest ticket is refused as {reason}");
            }
            None => {
                assert!(genuine && self.clients[&conn].is_seated(), "refused, or back");
                let confirmed = self.confirmed.entry(mid).or_default();
                // As many are kept, whatever they say here.
                if let Some((messages, lost)) = self.clients[&conn].messages
                    && messages + lost <= MAX_MESSAGES_KEPT
                {
                    assert!(lost <= confirmed.saturating_sub(n), "{lost} messages are lost");
                }
                *confirmed = n.max(*confirmed);
                // What was sent is sent again, and begun once.
                for frame in sent {
                    self.frame(conn, &frame);
                }
            }
        }
    }

    fn is_member(&mut self, claims: &Claims) -> bool {
        match self.admin(AdminCommand::GetChannel(claims.channel.clone())) {
            Some(Ok(AdminReply::Channel(_, members))) => {
                members.iter().any(|member| member.mid == claims.mid)
            }
            _ => false,
        }
    }

    pub(super) fn stop(&mut self) {
        self.input(Input::Stop);
        assert!(self.drain.is_some() || self.seated().is_empty(), "everybody is told to go");
    }

    // The outside.

    pub(super) fn answer_mint(&mut self, fail: bool) {
        let Some((mint, request)) = self.held_mints.pop_front() else { return };
        let result = (!fail).then(|| self.issue(mint, &request));
        self.input(Input::Minted { mint, result });
    }

    pub(super) fn answer_token(&mut self, grant: Result<Grant, ErrorName>) {
        if let Some(verify) = self.held_tokens.pop_front() {
            self.input(Input::TokenVerified { verify, grant });
        }
    }

    fn issue(&self, mint: MintId, request: &MintRequest) -> Minted {
        Minted {
            url: format!("rtmp://media/{}?n={}", request.generation, mint.0),
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

    /// The verdict, if it comes at once: shortly after a crash it may be awaited.
    pub(super) fn authorize(&mut self, generation: Gen, access: Access) -> Option<bool> {
        let query = self.question(|query| Input::Authorize { query, generation, access });
        let verdict = self.verdicts.remove(&query)?;
        assert!(verdict.is_err() || !self.cut.contains(&generation), "what was cut stays cut");
        Some(verdict.is_ok())
    }

    /// The reply, if it comes at once: what is written down before may be awaited.
    pub(super) fn admin(&mut self, command: AdminCommand) -> Option<Result<AdminReply, RpcError>> {
        let query = self.question(|query| Input::Admin { query, command });
        self.replies.remove(&query)
    }

    pub(super) fn set_disk(&mut self, mode: Mode) {
        self.flush();
        self.disk.set(mode);
    }

    /// Carries out the writes that were held.
    pub(super) fn flush(&mut self) {
        loop {
            let done = self.disk.flush();
            for persist in &done {
                self.input(Input::Persisted { persist: *persist, stored: true });
            }
            if done.is_empty() {
                return;
            }
        }
    }

    pub(super) fn drain(&mut self) {
        self.drain.get_or_insert(None);
        self.input(Input::Drain(DrainPlan {
            notice_ms: 500,
            freeze_ms: 1_500,
            deadline_ms: 5_000,
            retry_after_ms: 100,
            jitter_ms: 100,
        }));
    }

    /// The process is gone with every socket; the next one begins, where this one handed over or with what
    /// was written down.
    pub(super) fn next_process(&mut self) {
        let clean = self.drain.take() == Some(Some(true));
        self.disk.forget_held();
        for client in self.clients.values_mut() {
            client.place = Place::Gone;
        }
        self.held_mints.clear();
        self.held_tokens.clear();
        self.asked.clear();
        let before = self.members;
        self.processes = self.processes.wrapping_add(1);
        // Clocks of two processes have nothing in common.
        self.now.mono = MonoTime(1_000 + 7_000_000 / u64::from(self.processes.max(1)));
        self.engine = Engine::new(self.config.clone(), [self.processes; 32]);
        let restored = self.disk.restored(clean);
        let members = restored.channels.iter().flat_map(|(_, _, members)| members);
        for push in members.flat_map(|member| &member.pushes) {
            // A cut that was not written down is made again.
            self.cut.remove(&push.generation);
            self.minted.push(push.generation);
        }
        self.members = restored.channels.iter().map(|(_, _, members)| members.len()).sum();
        assert!(self.disk.lost || self.members == before, "every member was written down");
        self.input(Input::Restore(Box::new(restored)));
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

    /// Everything that the outside owes is answered; then so is every request and every question.
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
    }

    /// Everybody goes; nobody is there past every cap.
    pub(super) fn end(mut self) {
        if self.drain.is_some() {
            self.next_process();
        }
        for conn in self.seated() {
            self.drop_socket(conn);
        }
        self.advance(LONGEST_LIFE_MS);
        assert!(self.asked.is_empty(), "every question is answered");
        let stats = self.engine.stats();
        let left = (stats.channels, stats.members, stats.connected, stats.streams, stats.log_bytes);
        assert_eq!(left, (0, 0, 0, 0, 0), "channels, members, sockets, streams, bytes of logs");
        assert_eq!(self.members, 0, "each membership ends once");
        assert!(self.disk.lost || self.disk.is_empty(), "nobody is written down");
        for generation in std::mem::take(&mut self.minted) {
            let verdict = self.authorize(generation, Access::Publish);
            assert_eq!(verdict, Some(false), "no stream is left");
        }
        assert_eq!(self.engine.stats().frames, stats.frames, "nobody is there to be told");
    }

    // The engine.

    pub(super) fn input(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.engine.handle(self.now, input);
            let mut outputs = 0;
            while let Some(output) = self.engine.poll_output() {
                outputs += 1;
                assert!(outputs < MAX_OUTPUTS, "outputs without end");
                self.output(output, &mut inputs);
            }
            let due = self.engine.next_deadline();
            assert!(due.is_none_or(|due| due > self.now.mono), "what is due was done");
        }
        let stats = self.engine.stats();
        assert_eq!(stats.connected, self.seated().len(), "sockets are counted");
        assert_eq!(stats.members, self.members, "members are counted");
    }

    fn output(&mut self, output: Output, inputs: &mut VecDeque<Input>) {
        match output {
            Output::Send { conn, frame } => {
                let client = self.clients.get_mut(&conn).expect("a connection that exists");
                client.receive(&frame, &mut self.texts);
                if let Some(stay) = &client.stay {
                    self.tickets.insert(stay.mid, stay.ticket.clone());
                }
            }
            Output::Close { conn, code } => {
                let client = self.clients.get_mut(&conn).expect("a connection that exists");
                client.close(code);
            }
            Output::MintUrls { mint, request } => {
                self.minted.push(request.generation);
                match self.issuer {
                    Issuer::AtOnce => {
                        let result = Some(self.issue(mint, &request));
                        inputs.push_back(Input::Minted { mint, result });
                    }
                    Issuer::Fail => inputs.push_back(Input::Minted { mint, result: None }),
                    Issuer::Hold => self.held_mints.push_back((mint, request)),
                }
            }
            Output::VerifyToken { verify, token, .. } => {
                if token.0 == "held" {
                    self.held_tokens.push_back(verify);
                } else {
                    let grant = grant(&token.0, self.now.wall);
                    inputs.push_back(Input::TokenVerified { verify, grant });
                }
            }
            Output::Store { ops, persist } => {
                if let Some((persist, stored)) = self.disk.write(ops, persist) {
                    inputs.push_back(Input::Persisted { persist, stored });
                }
            }
            Output::Verdict { query, verdict } => {
                assert!(self.asked.remove(&query), "one verdict for each question");
                self.verdicts.insert(query, verdict);
            }
            Output::AdminReply { query, reply } => {
                assert!(self.asked.remove(&query), "one reply for each question");
                self.replies.insert(query, reply);
            }
            Output::Drained { handed_over } => {
                let before = self.drain.replace(Some(handed_over));
                assert_eq!(before, Some(None), "a drain ends once");
            }
            Output::CutStream { generation } => {
                assert!(self.minted.contains(&generation), "a stream that exists is cut");
                assert!(self.cut.insert(generation), "a stream is cut once");
            }
            Output::CutViewer { generation, .. } => {
                assert!(!self.cut.contains(&generation), "a viewer of a live stream is cut");
            }
            Output::Note(Note::MemberJoined { .. }) => self.members += 1,
            Output::Note(Note::MemberLeft { .. }) => {
                self.members = self.members.checked_sub(1).expect("who joined leaves");
            }
            Output::Note(_) => {}
        }
    }
}

/// How somebody comes back.
pub(super) struct Return<'a> {
    /// So many events did not arrive.
    pub(super) behind: u64,
    /// Asks for a snapshot.
    pub(super) snapshot: bool,
    /// With the number of an earlier attempt.
    pub(super) stale: bool,
    /// What becomes of the ticket on the way.
    pub(super) change: &'a mut dyn FnMut(&str) -> String,
}

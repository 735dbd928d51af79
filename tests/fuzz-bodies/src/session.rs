//! The client's session. In: a program of calls, of messages of a server (correct or not), of sockets and passing time,
//! in virtual time only. Out: the states that were reached. Checked: every call is settled once, in time; the picture
//! equals the result of its changes; nothing is sent without a socket; the sent frames can be read by a server; every
//! overdue deadline is handled. Deliberately absent: I/O.

mod server;

use std::collections::BTreeMap;

use lianmai_client_sdk::session::{
    CallId, Command, ConnectionState, Event, Input, Output, Picture, ReconnectOutcome, Reply,
    Session, SessionConfig, SocketId,
};
use lianmai_protocol::MonoTime;
use lianmai_protocol::codec::{Element, decode_client_frame};
use lianmai_protocol::limits::MAX_IN_FLIGHT;
use lianmai_protocol::message::Call;
use serde_json::{Value, json};

use crate::calls;
use crate::program::Program;
use crate::reached_states::ReachedStates;
use server::Server;

const MAX_STEPS: usize = 300;
/// Maximum number of outputs per input: a frame of 1 MiB may contain many messages.
const MAX_OUTPUTS: usize = 20_000;
/// Maximum number of deadlines until the session comes to rest.
const MAX_DEADLINES: usize = 4_000;
/// Maximum time for the outcome of a call, in milliseconds: a call whose host wakes at the end of its time gets the
/// same time again.
const CALL_MS: u64 = 20_000;
/// Additional time if the server announced a restart, in milliseconds, once per call.
const RESTART_MS: u64 = 60_000;
/// A session without a connection gives up within this time, in milliseconds.
const GIVES_UP_MS: u64 = 700_000;
const URLS: [&str; 2] = ["ws://server/v1/signal", "ws://spare/v1/signal"];
/// The latest time, so that additions do not overflow.
const LAST_MS: u64 = u64::MAX / 4;

/// Interprets any bytes as the life of a session.
pub fn session(data: &[u8]) {
    session_states(data);
}

/// Like [`session`], and returns the states that were reached.
pub fn session_states(data: &[u8]) -> ReachedStates {
    let mut program = Program::new(data);
    let mut host = Host::new();
    for _ in 0..MAX_STEPS {
        if program.is_over() {
            break;
        }
        host.step(&mut program);
    }
    host.end()
}

struct Host {
    session: Session,
    now: u64,
    server: Server,
    /// Messages that will be sent in one frame.
    pending: Vec<String>,
    last_call: u64,
    /// Open calls, with their method.
    open: BTreeMap<CallId, &'static str>,
    socket: Socket,
    number: SocketId,
    view: Option<Picture>,
    polls: bool,
    /// The last command id on this connection.
    last_id: u64,
    states: ReachedStates,
}

#[derive(Clone, Copy, PartialEq)]
enum Socket {
    None,
    Asked,
    Open,
}

impl Host {
    fn new() -> Self {
        Host {
            session: Session::new(SessionConfig {
                urls: URLS.map(str::to_owned).into(),
                ..SessionConfig::new("")
            })
            .expect("the addresses are addresses"),
            now: 1_000,
            server: Server::default(),
            pending: Vec::new(),
            last_call: 0,
            open: BTreeMap::new(),
            socket: Socket::None,
            number: SocketId(0),
            view: None,
            polls: true,
            last_id: 0,
            states: ReachedStates::default(),
        }
    }

    fn step(&mut self, program: &mut Program<'_>) {
        match program.byte() & 0x1F {
            0 => {
                let join = calls::join(program);
                self.call("join", join);
            }
            1 | 2 => {
                let (method, params) = calls::any(program);
                self.call(method, params);
            }
            3 => {
                // More calls than may be in flight.
                for _ in 0..program.byte() {
                    self.call("publish", json!({}));
                }
            }
            4 => self.opened(),
            // A complete join.
            5 => {
                let join = calls::join(program);
                self.call("join", join);
                self.opened();
                if let Some(answer) = self.server.answer(program, false) {
                    self.say(answer, false);
                }
            }
            6..=8 => {
                let answer = self.server.answer(program, false);
                self.say_some(answer, program);
            }
            9 => {
                let answer = self.server.answer(program, true);
                self.say_some(answer, program);
            }
            10..=12 => {
                let event = self.server.event(program);
                self.say_some(Some(event), program);
            }
            13 => {
                let notice = self.server.notice(program);
                self.say_some(Some(notice), program);
            }
            14 => self.deliver(),
            15 => {
                let bytes = program.short();
                self.frame(bytes);
            }
            16 => {
                let text = program.text();
                self.frame(text.as_bytes());
            }
            17 => {
                let code = program.pick(&[1000, 1001, 1006, 4000, 4003, 4005, 4500, 4503, 4504]);
                let code = if program.flag() { program.word() } else { code };
                self.lost(code);
            }
            18 => self.advance(u64::from(program.byte()) * 8),
            19 => self.advance(u64::from(program.word())),
            20 => {
                // The host was frozen: it handled no deadline.
                self.now = (self.now + u64::from(program.word())).min(LAST_MS);
                self.input(Input::Timeout);
            }
            21 => {
                let paused = program.flag();
                self.input(if paused { Input::ReadingPaused } else { Input::ReadingResumed });
            }
            22 => self.polls = !self.polls,
            23 => self.server.forget(program),
            24 => {
                if program.byte() == 0xFF {
                    self.now = LAST_MS;
                    self.input(Input::Timeout);
                }
            }
            25 => {
                self.poll();
                if self.socket == Socket::Open {
                    self.input(Input::Unreadable { socket: self.number });
                }
            }
            26 => self.input(Input::NetworkChanged),
            27 => self.input(Input::Foreground),
            28 => {
                // The connection is lost, and comes back as far as the program lets it.
                self.lost(1006);
                self.advance(u64::from(program.byte()) * 64);
                self.opened();
                if let Some(answer) = self.server.answer(program, false) {
                    self.say_some(Some(answer), program);
                }
            }
            29 => self.late(program),
            _ => self.input(Input::Timeout),
        }
    }

    fn call(&mut self, method: &'static str, params: Value) {
        let Some(Ok(command)) = Command::decode(method, params) else { return };
        self.last_call += 1;
        let call = CallId(self.last_call);
        self.open.insert(call, method);
        self.input(Input::Command { call, command });
    }

    /// A host executes its outputs before it reports anything about a socket.
    fn opened(&mut self) {
        self.poll();
        if self.socket == Socket::Asked {
            self.socket = Socket::Open;
            self.server.begin();
            self.last_id = 0;
            self.input(Input::SocketOpened { socket: self.number });
        }
    }

    fn lost(&mut self, code: u16) {
        self.poll();
        if self.socket != Socket::None {
            self.socket = Socket::None;
            self.server.begin();
            let (socket, reason) = (self.number, "gone".to_owned());
            self.input(Input::SocketClosed { socket, code, reason });
        }
    }

    fn say_some(&mut self, message: Option<String>, program: &mut Program<'_>) {
        let waits = program.byte() & 3 == 3;
        if let Some(message) = message {
            self.say(message, waits);
        }
    }

    /// Sends a message now, or together with the next one.
    fn say(&mut self, message: String, waits: bool) {
        self.pending.push(message);
        if !waits {
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        let messages = std::mem::take(&mut self.pending);
        let frame = lianmai_protocol::codec::join_batch(&messages);
        self.frame(&frame);
    }

    /// A frame on the socket that the host knows, which the session may have given up.
    fn frame(&mut self, bytes: &[u8]) {
        let socket = self.number;
        self.input(match std::str::from_utf8(bytes) {
            Ok(text) => Input::Frame { socket, text },
            Err(_) => Input::Unreadable { socket },
        });
    }

    /// A report about an earlier socket, long after it is gone.
    fn late(&mut self, program: &mut Program<'_>) {
        let what = program.byte();
        let before = self.number.0.saturating_sub(u64::from(self.socket != Socket::None));
        let socket = SocketId(u64::from(what / 4).min(before));
        self.input(match what % 4 {
            0 => Input::SocketOpened { socket },
            1 => Input::Frame { socket, text: "{" },
            2 => Input::SocketClosed { socket, code: 4500, reason: "late".to_owned() },
            _ => Input::Unreadable { socket },
        });
    }

    /// Advances the time, stopping at each deadline.
    fn advance(&mut self, ms: u64) {
        self.poll();
        let end = (self.now + ms).min(LAST_MS);
        let mut deadlines = 0;
        while let Some(due) = self.session.next_deadline().filter(|due| due.0 <= end) {
            self.now = self.now.max(due.0);
            self.input(Input::Timeout);
            self.poll();
            deadlines += 1;
            assert!(deadlines < MAX_DEADLINES, "deadlines without end");
        }
        self.now = end;
    }

    fn input(&mut self, input: Input<'_>) {
        self.session.handle(MonoTime(self.now), input);
        if self.polls {
            self.poll();
        }
    }

    fn poll(&mut self) {
        let mut outputs = 0;
        while let Some(output) = self.session.poll_output() {
            outputs += 1;
            assert!(outputs < MAX_OUTPUTS, "outputs without end");
            self.output(output);
        }
        assert_eq!(self.session.picture(), self.view.as_ref(), "the changes make the picture");
        let due = self.session.next_deadline();
        assert!(due.is_none_or(|due| due.0 > self.now), "no deadline is overdue");
        if self.session.state() == ConnectionState::Disconnected {
            assert!(self.view.is_none() && self.open.is_empty(), "out is out");
        } else {
            assert!(due.is_some(), "whoever is in, or on the way, does not wait for ever");
        }
    }

    fn see(&mut self, output: &Output) {
        match output {
            Output::Event(event) => {
                self.states.note("event", event.kind().name());
                match event {
                    Event::Reconnected { outcome, messages_lost, .. } => {
                        match outcome {
                            ReconnectOutcome::Replayed { events: 0, .. } => {
                                self.states.note("reconnected", "to nothing new");
                            }
                            ReconnectOutcome::Replayed { .. } => {
                                self.states.note("reconnected", "replayed");
                            }
                            ReconnectOutcome::Snapshot { reason } => {
                                self.states.note("snapshot", reason);
                            }
                            ReconnectOutcome::Rejoined { reason } => {
                                self.states.note("rejoined", reason);
                            }
                            _ => {}
                        }
                        if *messages_lost > 0 {
                            self.states.note("reconnected", "without some messages");
                        }
                    }
                    Event::Disconnected { code, terminal: true, .. } => {
                        self.states.note("ended", code);
                    }
                    _ => {}
                }
            }
            Output::Settled { outcome: Ok(reply), .. } => {
                self.states.note("reply", format_args!("{reply:?}"));
            }
            Output::Settled { outcome: Err(error), .. } => {
                self.states.note("error", error.name());
            }
            Output::Connect { url, .. } => self.states.note("connect", url),
            Output::CloseSocket { code, .. } => self.states.note("close", code),
            _ => {}
        }
        self.states.note("state", format_args!("{:?}", self.session.state()));
    }

    fn output(&mut self, output: Output) {
        self.see(&output);
        match output {
            Output::Connect { socket, url } => {
                assert!(socket > self.number, "a number is used once");
                self.number = socket;
                assert!(self.socket == Socket::None, "one socket at a time");
                assert!(
                    URLS.contains(&&*url) || url == server::OTHER_URL,
                    "a known address: {url}"
                );
                self.socket = Socket::Asked;
                self.server.begin();
            }
            Output::CloseSocket { socket, .. } => {
                assert!(socket == self.number, "the last socket is closed");
                assert!(self.socket != Socket::None, "a socket that is there is closed");
                self.socket = Socket::None;
                self.server.begin();
            }
            Output::Send { socket, text } => {
                assert!(socket == self.number, "nothing is said to a dead socket");
                assert!(self.socket == Socket::Open, "nothing is sent into nothing");
                self.sent(&text);
            }
            Output::Settled { call, outcome } => {
                let method = self.open.remove(&call);
                let method = method.unwrap_or_else(|| panic!("{call:?} is settled once"));
                if let Ok(reply) = &outcome {
                    assert!(is_reply_to(method, reply), "{reply:?} to {method}");
                }
            }
            Output::Picture(change) => change.apply(&mut self.view),
            _ => {}
        }
    }

    fn sent(&mut self, text: &str) {
        for element in decode_client_frame(text.as_bytes()).expect("a frame that servers read") {
            let Element::Request(request) = element else { panic!("refused: {text}") };
            assert!(
                request.ack.is_none_or(|ack| ack < request.id),
                "only received answers are confirmed"
            );
            if is_command(&request.call) {
                assert!(request.id.0 > self.last_id, "ids grow");
                self.last_id = request.id.0;
            }
            self.server.asked(request);
        }
        // `leave` does not wait for the window.
        assert!(self.server.commands() <= MAX_IN_FLIGHT + 1, "few are without an answer");
    }

    /// The server is silent: every open call ends by its deadline.
    fn end(mut self) -> ReachedStates {
        self.polls = true;
        self.poll();
        let (mut deadlines, begin) = (0, self.now);
        let longest = CALL_MS + if self.server.restarts { RESTART_MS } else { 0 };
        while !self.open.is_empty() {
            let due = self.session.next_deadline().expect("open calls have a deadline");
            assert!(due.0 - begin <= longest, "open for long: {:?}", self.open);
            self.now = self.now.max(due.0);
            self.input(Input::Timeout);
            deadlines += 1;
            assert!(deadlines < MAX_DEADLINES, "open without end: {:?}", self.open);
        }
        // The server stays out of reach: the session must not retry forever.
        self.lost(1006);
        let begin = self.now;
        while self.session.state() != ConnectionState::Disconnected {
            let due = self.session.next_deadline().expect("a connecting session has a deadline");
            assert!(due.0 - begin <= GIVES_UP_MS, "on the way for ever");
            self.now = self.now.max(due.0);
            self.input(Input::Timeout);
            deadlines += 1;
            assert!(deadlines < MAX_DEADLINES, "deadlines without end");
        }
        self.states
    }
}

fn is_reply_to(method: &str, reply: &Reply) -> bool {
    match reply {
        Reply::Joined(_) => method == "join",
        Reply::Published(_) => method == "publish",
        Reply::Subscribed(_) => method == "subscribe",
        Reply::MessageSent { .. } => method == "sendMessage",
        Reply::TokenRenewed { .. } => method == "renewToken",
        _ => !matches!(method, "join" | "publish" | "subscribe" | "sendMessage" | "renewToken"),
    }
}

/// Whether a request concerns the session, not the connection.
fn is_command(call: &Call) -> bool {
    !matches!(call, Call::Ping(_) | Call::Join(_) | Call::Reconnect(_))
}

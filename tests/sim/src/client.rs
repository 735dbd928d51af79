//! A host around the shipped session, like the native driver: one socket at a time, outputs in order, deadlines. Comes
//! in: data of the network, calls of the app, faults of the device. Goes out: bytes, and the events of the app, which
//! `check/app.rs` checks. Deliberately absent: decisions about connections.

use std::collections::BTreeMap;

use lianmai_client_sdk::session::{
    CallId, Command, Event, Input, Output, Picture, Reply, Session, SessionConfig, SocketId,
};
use lianmai_protocol::{KindSet, MonoTime, UserId};

use crate::check::app::App;
use crate::check::ends::UnreportedEnds;
use crate::check::sent::{Sent, content};
use crate::net::{End, Frame, LinkId, Way};
use crate::rng::Rng;
use crate::scenario::{ClientSpec, Scenario};
use crate::trace::Trace;
use crate::world::{Ev, World, log};

/// The addresses that a session gets; the same server listens at both.
const URLS: [&str; 2] = ["ws://one.sim/v1/signal", "ws://two.sim/v1/signal"];

/// How long a session tries to come back.
pub(crate) const GIVE_UP_MS: u64 = 90_000;

/// A call that is not settled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenCall {
    pub(crate) method: &'static str,
    pub(crate) at: u64,
    /// Hash of the parameters, and the media kinds that they name.
    pub(crate) content: u64,
    pub(crate) kinds: KindSet,
    /// The publisher, for a subscription.
    pub(crate) of: Option<UserId>,
    /// Milliseconds by which the call may take longer: because the server restarts, and because its host was frozen.
    pub(crate) restart_ms: u64,
    pub(crate) frozen_ms: u64,
    /// The longest delay that the server announced while the call waited.
    pub(crate) least_ms: u64,
    /// The server may have forgotten it.
    pub(crate) forgotten: bool,
}

pub(crate) struct Client {
    pub(crate) spec: ClientSpec,
    pub(crate) rng: Rng,
    pub(crate) session: Session,
    pub(crate) config: SessionConfig,
    /// The recording of its first session, if it is recorded.
    pub(crate) trace: Option<Trace>,
    pub(crate) link: Option<LinkId>,
    /// Every socket of its session, by number.
    pub(crate) sockets: BTreeMap<LinkId, SocketId>,
    /// Its monotonic clock minus the time of the world.
    mono_off: u64,
    /// Frozen until this time, and whether its clock goes on meanwhile.
    pub(crate) frozen: Option<(u64, bool)>,
    frozen_since: u64,
    /// It was frozen directly before its last input.
    pub(crate) woke: bool,
    pub(crate) slow_until: u64,
    /// Its session was told that reading is paused.
    pub(crate) paused: bool,
    offline: (u64, bool),
    timer: Option<u64>,
    timers: u64,
    outgoing: Vec<u8>,
    last_call: u64,
    pub(crate) calls: BTreeMap<CallId, OpenCall>,
    /// The picture that the app folded from changes.
    pub(crate) copy: Option<Picture>,
    pub(crate) app: App,
    pub(crate) sent: Sent,
    pub(crate) unreported: UnreportedEnds,
    /// Calls that it makes as soon as the present events are handled.
    later: Vec<Command>,
    /// For how many checks in a row the streams that it plays were wrong.
    pub(crate) plays_off: u32,
    /// How many of its next sockets will be cut.
    pub(crate) trips: u32,
    /// The next frame of the server will be lost.
    pub(crate) swallows: bool,
    /// It does not join again by itself.
    pub(crate) retired: bool,
    /// Number of restarts of its process.
    generation: u64,
    /// When a fault last affected it.
    pub(crate) disturbed_at: u64,
}

impl Client {
    pub(crate) fn all(scenario: &Scenario, rng: &Rng) -> Vec<Client> {
        let specs = scenario.knobs.clients.iter().enumerate();
        specs.map(|(index, spec)| Client::new(*spec, rng.fork(100 + index as u64))).collect()
    }

    fn new(spec: ClientSpec, mut rng: Rng) -> Client {
        let config = fresh(&mut rng);
        let session = begin(&config);
        Client {
            spec,
            session,
            config,
            trace: None,
            link: None,
            sockets: BTreeMap::new(),
            mono_off: rng.below(1 << 32),
            frozen: None,
            frozen_since: 0,
            woke: false,
            slow_until: 0,
            paused: false,
            offline: (0, false),
            timer: None,
            timers: 0,
            outgoing: Vec::new(),
            last_call: 0,
            calls: BTreeMap::new(),
            copy: None,
            app: App::default(),
            sent: Sent::default(),
            unreported: UnreportedEnds::default(),
            later: Vec::new(),
            plays_off: 0,
            trips: 0,
            swallows: false,
            retired: false,
            generation: 0,
            disturbed_at: 0,
            rng,
        }
    }

    /// Whether it is offline: `Some(true)` if its attempts fail without a notice.
    pub(crate) fn offline(&self, now: u64) -> Option<bool> {
        (self.offline.0 > now).then_some(self.offline.1)
    }

    /// The server may have forgotten its calls.
    pub(crate) fn forgets(&mut self) {
        for open in self.calls.values_mut() {
            open.forgotten = true;
        }
    }

    pub(crate) fn go_online(&mut self) {
        self.offline = (0, false);
    }

    fn handle(&mut self, now: MonoTime, input: Input<'_>) {
        if let Some(trace) = &mut self.trace {
            trace.input(now, &input);
        }
        self.session.handle(now, input);
    }

    /// The last output of an input was polled.
    fn polled(&mut self) {
        if let Some(trace) = &mut self.trace {
            trace.polled(self.session.next_deadline(), self.session.picture());
        }
    }

    fn mono(&self, now: u64) -> MonoTime {
        MonoTime(now + self.mono_off)
    }
}

fn fresh(rng: &mut Rng) -> SessionConfig {
    let mut config = SessionConfig::new(URLS[0]);
    if rng.chance(500) {
        config.urls.push(URLS[1].to_owned());
    }
    config.seed = rng.next();
    // A client that finds no room gives up within the part of the run without faults.
    config.give_up_after_ms = GIVE_UP_MS;
    config
}

fn begin(config: &SessionConfig) -> Session {
    Session::new(config.clone()).expect("the addresses of a world are addresses")
}

impl World {
    /// Passes an input to a session and executes its outputs.
    pub(crate) fn feed(&mut self, c: usize, input: Input<'_>) {
        let now = self.clients[c].mono(self.now);
        log!(self, "c{c} <- {input:?}");
        self.clients[c].handle(now, input);
        while let Some(output) = self.clients[c].session.poll_output() {
            if self.failure.is_some() {
                return;
            }
            if let Some(trace) = &mut self.clients[c].trace {
                trace.output(&output);
            }
            self.client_output(c, output);
        }
        self.clients[c].polled();
        self.check_app_rests(c);
        self.check_answered(c);
        self.clients[c].woke = false;
        for command in std::mem::take(&mut self.clients[c].later) {
            self.call(c, command);
        }
        self.set_timer(c);
    }

    /// Passes a session an input of a socket that it gave up. This must change nothing (CLI-8).
    pub(crate) fn feed_late(&mut self, c: usize, input: Input<'_>) {
        let now = self.clients[c].mono(self.now);
        log!(self, "c{c} <- late {input:?}");
        let client = &mut self.clients[c];
        let due = client.session.next_deadline();
        client.handle(now, input);
        if client.session.next_deadline() != due || client.session.poll_output().is_some() {
            self.fail("host", format!("c{c} heeds a socket that it gave up"));
        }
        self.clients[c].polled();
    }

    fn set_timer(&mut self, c: usize) {
        let client = &mut self.clients[c];
        let due = client.session.next_deadline();
        let at = due.map(|at| at.0.saturating_sub(client.mono_off).max(self.now));
        if let Some(at) = at
            && client.timer.is_none_or(|timer| at < timer)
        {
            client.timers += 1;
            client.timer = Some(at);
            let generation = client.timers;
            self.at(at, Ev::ClientTimer(c, generation));
        }
    }

    pub(crate) fn client_timer(&mut self, c: usize, generation: u64) {
        let client = &mut self.clients[c];
        if client.timers != generation || client.frozen.is_some() {
            return;
        }
        client.timer = None;
        let now = client.mono(self.now);
        if client.session.next_deadline().is_some_and(|at| at <= now) {
            self.feed(c, Input::Timeout);
        } else {
            self.set_timer(c);
        }
    }

    fn client_output(&mut self, c: usize, output: Output) {
        match output {
            Output::Connect { socket, url } => {
                log!(self, "c{c} connects to {url}");
                if let Some(old) = self.clients[c].link {
                    self.fail("host", format!("c{c} connects while {old:?} is open"));
                }
                self.clients[c].sent.connects();
                self.clients[c].unreported.connects();
                let id = self.connect(End::Client(c));
                self.clients[c].outgoing.clear();
                self.clients[c].link = Some(id);
                self.clients[c].sockets.insert(id, socket);
            }
            Output::Send { socket, text } => {
                self.check_last(c, socket);
                log!(self, "c{c} sends {} {:x}", text.len(), crate::log::mix(0, text.as_bytes()));
                self.check_said(c, &text);
                let bytes = Frame::Text(text.into_bytes()).encode();
                self.clients[c].outgoing.extend(bytes);
                self.client_flush(c);
            }
            Output::CloseSocket { socket, code } => {
                self.check_last(c, socket);
                self.cov.client_close(code);
                log!(self, "c{c} closes its socket with {code}");
                let Some(id) = self.clients[c].link.take() else { return };
                let bytes = Frame::Close(Some(code)).encode();
                if self.clients[c].outgoing.is_empty() {
                    self.write(id, Way::Up, &bytes);
                }
                self.client_lets_go(id);
                // A host may learn of the close later, and report it.
                self.after(self.now % 1_999, Ev::LateClose(c, id));
            }
            Output::Picture(change) => {
                log!(self, "c{c} picture {change:?}");
                self.check_change(c, &change);
            }
            Output::Event(event) => {
                log!(self, "c{c} hears {event:?}");
                self.app_hears(c, &event);
            }
            Output::Settled { call, outcome } => {
                log!(self, "c{c} settled {} {outcome:?}", call.0);
                self.app_settled(c, call, outcome);
            }
            other => self.fail("host", format!("an output that no host knows: {other:?}")),
        }
    }

    /// Checks that an output concerns the newest socket of the session. If this socket is gone already, the output is
    /// dropped.
    fn check_last(&mut self, c: usize, socket: SocketId) {
        let last = self.clients[c].sockets.last_key_value().map(|(_, last)| *last);
        if last != Some(socket) {
            self.fail("host", format!("c{c} speaks of {socket:?}, and has {last:?}"));
        }
    }

    pub(crate) fn client_late_close(&mut self, c: usize, id: LinkId) {
        if self.clients[c].frozen.is_none()
            && let Some(socket) = self.socket_of(c, id)
        {
            self.cov.count("fault:lateClose");
            let reason = "late".to_owned();
            self.feed_late(c, Input::SocketClosed { socket, code: 4500, reason });
        }
    }

    /// The WebSocket of a client answers a ping without the session.
    pub(crate) fn client_pongs(&mut self, c: usize) {
        self.clients[c].outgoing.extend(Frame::Pong.encode());
        self.client_flush(c);
    }

    pub(crate) fn client_flush(&mut self, c: usize) {
        let Some(id) = self.clients[c].link else { return };
        let bytes = std::mem::take(&mut self.clients[c].outgoing);
        let taken = self.write(id, Way::Up, &bytes);
        self.clients[c].outgoing = bytes[taken..].to_vec();
    }

    /// The app makes a call.
    pub(crate) fn call(&mut self, c: usize, command: Command) -> CallId {
        let (call, method) = self.new_call(c, &command);
        log!(self, "c{c} calls {method} as {}", call.0);
        self.feed(c, Input::Command { call, command });
        call
    }

    fn new_call(&mut self, c: usize, command: &Command) -> (CallId, &'static str) {
        let at = self.now;
        let client = &mut self.clients[c];
        client.last_call += 1;
        let call = CallId(client.last_call);
        let method = command.method();
        let content = content(command);
        let restart_ms = client.app.restart_ms;
        let kinds = match command {
            Command::Publish(publish) => publish.media_type.kinds(),
            Command::Subscribe(subscribe) => KindSet::of(&subscribe.media_type),
            _ => KindSet::NONE,
        };
        let of = match command {
            Command::Subscribe(subscribe) => Some(subscribe.uid),
            _ => None,
        };
        let open = OpenCall {
            method,
            at,
            content,
            kinds,
            of,
            restart_ms,
            frozen_ms: 0,
            least_ms: 0,
            forgotten: false,
        };
        client.calls.insert(call, open);
        client.read_own_state();
        self.cov.calls += 1;
        (call, method)
    }

    /// The app makes a call from inside a handler, or after all events are handled.
    pub(crate) fn react(&mut self, c: usize, command: Command) {
        let reenters = self.scenario.knobs.reenters;
        if self.clients[c].rng.chance(reenters) {
            let (call, _) = self.new_call(c, &command);
            let now = self.clients[c].mono(self.now);
            self.cov.count("fault:reentrant");
            self.clients[c].handle(now, Input::Command { call, command });
        } else {
            self.clients[c].later.push(command);
        }
    }

    fn app_settled(
        &mut self,
        c: usize,
        call: CallId,
        outcome: Result<Reply, lianmai_client_sdk::CallError>,
    ) {
        if let Err(error) = &outcome {
            self.cov.settled_error(error.name().as_str());
        }
        let Some(open) = self.clients[c].calls.remove(&call) else {
            return self.fail("settle", format!("c{c}: call {} is settled twice", call.0));
        };
        self.check_settled_sent(c, call, open, outcome.is_err());
        self.check_settled(c, call, &open, &outcome);
        self.check_reply(c, &open, &outcome);
        if open.method == "join" && outcome.is_err() && self.clients[c].rng.chance(500) {
            self.join_again(c, 20_000);
        }
        match outcome {
            Ok(Reply::Published(published)) => {
                self.media_url(c, &published.url);
            }
            Ok(Reply::Subscribed(subscribed)) => self.media_url(c, &subscribed.url),
            _ => {}
        }
    }

    /// Freezes the app for a while.
    pub(crate) fn suspend(&mut self, c: usize, ms: u64, clock: bool) {
        let client = &mut self.clients[c];
        if client.frozen.is_some() {
            return;
        }
        let until = self.now + ms;
        client.frozen = Some((until, clock));
        client.frozen_since = self.now;
        log!(self, "c{c} is frozen for {ms}, clock {clock}");
        self.at(until, Ev::Wake(c));
    }

    pub(crate) fn client_wake(&mut self, c: usize) {
        let now = self.now;
        let client = &mut self.clients[c];
        let Some((until, clock)) = client.frozen.take_if(|(until, _)| *until <= now) else {
            return;
        };
        log!(self, "c{c} wakes");
        let client = &mut self.clients[c];
        if !clock {
            client.mono_off = client.mono_off.saturating_sub(until - client.frozen_since);
        }
        client.sent.froze(now - client.frozen_since);
        for open in client.calls.values_mut() {
            // Once, some time in which the call can be settled.
            let moment = if open.frozen_ms == 0 { 11_000 } else { 0 };
            open.frozen_ms += now - client.frozen_since + moment;
        }
        client.disturbed_at = now;
        client.woke = true;
        client.timer = None;
        let foreground = client.rng.below(3);
        // The order of the inputs after a wake-up is random.
        if foreground == 0 {
            self.feed(c, Input::Foreground);
        }
        self.client_reads(c);
        self.set_timer(c);
        if foreground == 1 {
            self.after(1, Ev::App(c));
        }
    }

    /// The app returns to the foreground after the late frames of its socket.
    pub(crate) fn app_acts(&mut self, c: usize) {
        if self.clients[c].frozen.is_none() {
            self.feed(c, Input::Foreground);
        }
    }

    pub(crate) fn slow(&mut self, c: usize, ms: u64) {
        self.clients[c].slow_until = self.now + ms;
        self.clients[c].disturbed_at = self.now + ms;
        if self.clients[c].rng.chance(500) && self.clients[c].frozen.is_none() {
            self.clients[c].paused = true;
            self.feed(c, Input::ReadingPaused);
        }
        self.after(ms, Ev::Reads(c));
    }

    pub(crate) fn client_reads(&mut self, c: usize) {
        if self.clients[c].slow_until > self.now || self.clients[c].frozen.is_some() {
            return;
        }
        if std::mem::take(&mut self.clients[c].paused) {
            self.feed(c, Input::ReadingResumed);
        }
        if let Some(id) = self.clients[c].link {
            self.after(0, Ev::Deliver(id, Way::Down));
        }
    }

    pub(crate) fn go_offline(&mut self, c: usize, ms: u64, silent: bool) {
        self.clients[c].offline = (self.now + ms, silent);
        self.clients[c].disturbed_at = self.now + ms;
        let Some(id) = self.clients[c].link else { return };
        if silent {
            self.half_open(id, true, true);
        } else {
            self.cut(id, true);
        }
    }

    /// The process of the app ends and starts again; the session is lost.
    pub(crate) fn restart_client(&mut self, c: usize) {
        if let Some(id) = self.clients[c].link.take() {
            self.client_lets_go(id);
        }
        log!(self, "c{c} begins anew");
        self.check_client_ends(c);
        let client = &mut self.clients[c];
        client.generation += 1;
        client.config = fresh(&mut client.rng);
        client.session = begin(&client.config);
        if let Some(trace) = &mut client.trace {
            trace.end();
        }
        client.calls.clear();
        client.outgoing.clear();
        client.sockets.clear();
        client.later.clear();
        client.copy = None;
        client.timer = None;
        client.timers += 1;
        client.frozen = None;
        client.woke = false;
        client.paused = false;
        client.sent = Sent::default();
        client.unreported = UnreportedEnds::default();
        client.disturbed_at = self.now;
        client.app.restart();
        self.join_again(c, 2_000);
    }

    /// Handles an event of the app.
    pub(crate) fn app_hears(&mut self, c: usize, event: &Event) {
        self.check_app_event(c, event);
        if self.failure.is_some() || self.clients[c].retired {
            return;
        }
        self.app_reacts(c, event);
    }
}

//! An app that only uses events, on an unreliable network, with a server that follows the protocol. In any order of
//! faults: each call settles once, no event is delivered twice, the state that the app derives from events equals the
//! getters after each event, and at the end app and server agree.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lianmai_client_sdk::Event;
use lianmai_client_sdk::protocol::message::media::*;
use lianmai_client_sdk::protocol::message::session::{Empty, Join};
use lianmai_client_sdk::protocol::*;
use lianmai_client_sdk::session::*;
use proptest::prelude::*;

use super::honest_server::HonestServer;
use super::support::*;

/// The other members by uid: the membership and its publications.
type Others = BTreeMap<UserId, (Mid, BTreeMap<MediaKind, Pub>)>;

/// The state that the app derives from events.
#[derive(Default)]
struct App {
    open: BTreeSet<CallId>,
    members: Option<Others>,
    heard: BTreeSet<String>,
    ok: Vec<CallId>,
    reconnects: u32,
    away: bool,
}

impl App {
    fn others(picture: &Picture) -> Others {
        picture
            .others()
            .map(|m| (m.uid, (m.mid, m.streams.iter().map(|(k, p)| (k.clone(), *p)).collect())))
            .collect()
    }

    fn hear(&mut self, output: &Output, picture: Option<&Picture>) {
        match output {
            Output::Settled { call, outcome } => {
                assert!(self.open.remove(call), "{call:?} is settled once");
                if let Ok(reply) = outcome {
                    self.ok.push(*call);
                    if let Reply::Joined(joined) = reply {
                        assert!(self.members.is_none());
                        self.members = Some(App::others(&joined.picture));
                    }
                }
            }
            Output::Event(event) => {
                self.event(event);
                if let (Some(members), Some(picture)) = (&self.members, picture) {
                    assert_eq!(members, &App::others(picture), "after {event:?}");
                }
            }
            _ => {}
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::ClientJoin(e) => {
                let members = self.members.as_mut().unwrap();
                assert!(members.insert(e.uid, (e.mid, BTreeMap::new())).is_none());
            }
            Event::ClientLeave(e) => {
                let left = self.members.as_mut().unwrap().remove(&e.uid);
                assert_eq!(left, Some((e.mid, BTreeMap::new())), "streams go first");
            }
            Event::StreamAdded(e) => {
                let member = self.members.as_mut().unwrap().get_mut(&e.uid).unwrap();
                assert!(member.1.insert(e.media_type.clone(), e.publication).is_none());
            }
            Event::StreamRemoved(e) => {
                let member = self.members.as_mut().unwrap().get_mut(&e.uid).unwrap();
                assert_eq!(member.1.remove(&e.media_type), Some(e.publication));
            }
            Event::Message { data, .. } => {
                assert!(self.heard.insert(data.clone()), "{data} is heard once");
            }
            Event::ConnectionStateChange { state, .. } => match state {
                ConnectionState::Reconnecting => self.away = true,
                // Until `reconnected`, the session is still returning.
                ConnectionState::Connected | ConnectionState::Disconnecting => {}
                _ => self.away = false,
            },
            Event::Reconnected { .. } => {
                assert!(self.away, "it was away");
                self.away = false;
                self.reconnects += 1;
            }
            Event::Disconnected { .. } => self.members = None,
            _ => {}
        }
    }
}

struct World {
    rig: Rig,
    server: HonestServer,
    app: App,
    up: VecDeque<String>,
    socket: SocketPhase,
    texts: BTreeMap<CallId, String>,
    joins: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum SocketPhase {
    None,
    Opening,
    Open,
}

impl World {
    fn new(seed: u64) -> World {
        let config = SessionConfig { seed, ..SessionConfig::new("ws://server") };
        World {
            rig: Rig::with(config),
            server: HonestServer::new(),
            app: App::default(),
            up: VecDeque::new(),
            socket: SocketPhase::None,
            texts: BTreeMap::new(),
            joins: 0,
        }
    }

    fn call(&mut self, command: Command) {
        let text = match &command {
            Command::SendMessage(message) => Some(message.data.clone()),
            _ => None,
        };
        let call = self.rig.call(command);
        self.app.open.insert(call);
        self.texts.extend(text.map(|text| (call, text)));
        self.poll();
    }

    /// Each `join` of the app has a new `joinId`.
    fn join(&mut self) {
        let Command::Join(params) = join() else { panic!("a join") };
        self.joins += 1;
        let join_id = Some(format!("{:032}", self.joins));
        self.call(Command::Join(Join { join_id, ..params }));
    }

    fn poll(&mut self) {
        while let Some(output) = self.rig.poll() {
            match &output {
                Output::Connect { .. } => {
                    assert!(self.socket == SocketPhase::None, "one socket at a time");
                    self.socket = SocketPhase::Opening;
                }
                Output::CloseSocket { .. } => {
                    assert!(self.socket != SocketPhase::None);
                    self.drop_socket();
                }
                Output::Send { text, .. } => {
                    assert!(self.socket == SocketPhase::Open);
                    self.up.push_back(text.clone());
                }
                _ => {}
            }
            self.app.hear(&output, self.rig.session.picture());
        }
    }

    fn drop_socket(&mut self) {
        self.socket = SocketPhase::None;
        self.up.clear();
        self.server.lost();
    }

    fn cut(&mut self) {
        if self.socket != SocketPhase::None {
            self.drop_socket();
            self.rig.closed(1006, "");
            self.poll();
        }
    }

    fn deliver(&mut self, up: usize, down: usize) {
        if self.socket == SocketPhase::Opening {
            self.socket = SocketPhase::Open;
            self.rig.open();
            self.poll();
        }
        for _ in 0..up {
            let Some(frame) = self.up.pop_front() else { break };
            self.server.hear(&frame);
        }
        for _ in 0..down {
            let Some(frame) = self.server.down.pop_front() else { break };
            self.rig.frame(&frame);
            self.poll();
        }
    }

    fn wait(&mut self, ms: u64, talk: bool) {
        let end = self.rig.now + ms;
        loop {
            if talk {
                while self.socket == SocketPhase::Opening
                    || !self.up.is_empty()
                    || !self.server.down.is_empty()
                {
                    self.deliver(64, 64);
                }
            }
            let Some(at) = self.rig.session.next_deadline().filter(|at| at.0 <= end) else { break };
            self.rig.now = self.rig.now.max(at.0);
            self.rig.input(Input::Timeout);
            self.poll();
        }
        self.rig.now = end;
    }

    fn step(&mut self, (what, detail): (u8, u8)) {
        let bob = Subscribe { uid: BOB, media_type: MediaKind::Video };
        let count = self.texts.len();
        match what % 16 {
            0 | 1 => self.call(message(&format!("mine {count}"))),
            2 => self.call(publish()),
            3 => self.call(Command::Unpublish(Publish::default())),
            4 => self.call(Command::Subscribe(bob)),
            5 | 6 => self.server.world(detail),
            7 | 8 => self.deliver(usize::from(detail % 4), usize::from(detail / 4 % 8)),
            9 => self.deliver(64, 64),
            10 => self.cut(),
            11 => self.wait(u64::from(detail) * 40, detail % 2 == 0),
            12 if detail % 4 == 0 => {
                self.server.crash(detail % 8 == 0);
                self.cut();
            }
            12 if detail % 4 == 1 => {
                self.cut();
                self.server.grace_ends();
            }
            12 if detail % 4 == 2 => self.server.trim(),
            12 => {
                // The host was frozen; data that the socket kept arrives first.
                self.rig.now += 100_000;
                self.deliver(0, 1);
                self.wait(0, false);
            }
            13 if detail % 2 == 0 => {
                self.rig.input(Input::NetworkChanged);
                self.poll();
            }
            13 => {
                self.rig.input(Input::Foreground);
                self.poll();
            }
            14 if detail % 8 == 0 => self.call(Command::Leave(Empty {})),
            14 | 15 if self.rig.session.state() == ConnectionState::Disconnected => {
                self.join();
            }
            // An unreadable frame.
            15 if detail % 8 == 0 && self.socket == SocketPhase::Open => {
                self.rig.frame("{");
                self.poll();
            }
            _ => {}
        }
    }

    /// The network is reliable from here on.
    fn heal(&mut self) {
        self.wait(120_000, true);
        assert!(self.app.open.is_empty(), "open: {:?}", self.app.open);
        for (call, text) in &self.texts {
            let times = self.server.said.get(text).copied().unwrap_or(0);
            assert!(times <= 1, "{text} took effect {times} times");
            assert!(times == 1 || !self.app.ok.contains(call), "{text} was answered and lost");
        }
        if self.rig.session.state() == ConnectionState::Disconnected {
            assert!(self.app.members.is_none());
            return;
        }
        assert_eq!(self.rig.session.state(), ConnectionState::Connected);
        assert!(!self.app.away, "it was announced");
        let mut truth = Picture::from_snapshot(self.server.snapshot(), MonoTime(0));
        let mut seen = self.rig.picture().clone();
        truth.member_count = seen.member_count;
        for picture in [&mut truth, &mut seen] {
            for (_, own) in picture.own.published.iter_mut() {
                own.generation = None;
            }
        }
        assert_eq!(seen, truth);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Proves CLI-1, CLI-2, CLI-4, CLI-8, IDS-7, ORD-3, SES-7.
    #[test]
    fn all_clients_agree_in_the_end(seed in any::<u64>(), steps in prop::collection::vec(any::<(u8, u8)>(), 0..150)) {
        let mut world = World::new(seed);
        world.join();
        world.deliver(64, 64);
        for step in steps {
            world.step(step);
        }
        world.heal();
    }
}

/// A client that never reconnects would satisfy the property, too; this test shows that every way back occurs.
/// Proves CLI-3, RES-9.
#[test]
fn the_simulated_world_covers_every_reconnect_outcome() {
    let mut world = World::new(1);
    world.join();
    world.deliver(64, 64);
    for (crash, grace, trim) in
        [(false, false, false), (false, false, true), (true, false, false), (false, true, false)]
    {
        world.server.world(2);
        world.cut();
        world.server.world(3);
        if crash {
            world.server.crash(true);
        }
        if grace {
            world.server.grace_ends();
        }
        if trim {
            world.server.trim();
        }
        world.wait(20_000, true);
    }
    world.heal();
    assert_eq!(world.app.reconnects, 4);
}

//! Two hundred members and one that sends as much as it can: what each reader is sent, and which member is refused.
//! Frames are not decoded, so that a minute of a full channel takes little time.

use std::collections::BTreeMap;

use bytes::Bytes;
use lianmai_protocol::codec;
use lianmai_protocol::message::{Call, Request};
use lianmai_protocol::{MonoTime, Now, RequestId, WallTime};
use lianmai_signal_engine::{AddrId, ConnId, Engine, EngineConfig, Input, JoinRequest, Output};

use crate::calls::*;
use crate::world::{BEGIN_MS, Entry, entry};

const MEMBERS: u64 = 200;
/// Bytes that a line of 1 Mbit/s carries in a millisecond.
const LINE_BYTES: usize = 125;
/// A server cuts a connection that lags by 2 MiB.
const CUT_BYTES: usize = 2 << 20;

struct Crowd {
    engine: Engine,
    now: Now,
    last_conn: u64,
    last_id: u64,
    /// Bytes that the witness was sent and has not read.
    lag: usize,
    worst: usize,
    sent: usize,
    /// Refusals by connection, and of joins.
    limited: BTreeMap<ConnId, usize>,
    refused_join: usize,
    closed: BTreeMap<ConnId, u16>,
    /// The wait that the last refusal told.
    retry_ms: u64,
}

/// The first member, which reads slowly.
const WITNESS: ConnId = ConnId(1);

impl Crowd {
    fn new() -> Crowd {
        let mut config = EngineConfig::default();
        config.apps.insert("plain".parse().expect("valid"), Default::default());
        let now = Now { mono: MonoTime(BEGIN_MS), wall: WallTime(1_800_000_000_000) };
        let mut crowd = Crowd {
            engine: Engine::new(config, [7; 32]),
            now,
            last_conn: 0,
            last_id: 0,
            lag: 0,
            worst: 0,
            sent: 0,
            limited: BTreeMap::new(),
            refused_join: 0,
            closed: BTreeMap::new(),
            retry_ms: 0,
        };
        for uid in 1..=MEMBERS {
            crowd.join(entry(uid).audience());
        }
        crowd.pass(5_000);
        (crowd.worst, crowd.sent) = (0, 0);
        crowd
    }

    fn input(&mut self, input: Input) {
        self.engine.handle(self.now, input);
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Send { conn, frame } => self.hear(conn, &frame),
                Output::Close { conn, code } => _ = self.closed.insert(conn, code.0),
                _ => {}
            }
        }
        self.worst = self.worst.max(self.lag);
    }

    fn hear(&mut self, conn: ConnId, frame: &Bytes) {
        if conn == WITNESS {
            self.lag += frame.len();
            self.sent += frame.len();
        }
        // Answers are short, and no text of a member contains this word.
        if frame.len() < 400
            && let Ok(text) = std::str::from_utf8(frame)
            && text.contains("\"rateLimited\"")
        {
            *self.limited.entry(conn).or_default() += 1;
            let wait = text.split("\"retryAfterMs\":").nth(1);
            let wait = wait.and_then(|rest| rest.split(['}', ',']).next()?.parse().ok());
            self.retry_ms = wait.unwrap_or(self.retry_ms);
        }
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now.mono = self.now.mono + 1;
            self.now.wall.0 += 1;
            self.lag = self.lag.saturating_sub(LINE_BYTES);
            self.input(Input::Tick);
            if self.now.mono.0.is_multiple_of(10_000) {
                for conn in 1..=MEMBERS {
                    self.input(Input::ControlFrame { conn: ConnId(conn) });
                }
            }
        }
    }

    fn join(&mut self, entry: Entry) -> ConnId {
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        let request = JoinRequest { id: RequestId(1), join: entry.join, grant: entry.grant };
        self.input(Input::Join { conn, addr: AddrId(entry.addr), request: Box::new(request) });
        self.refused_join += usize::from(self.is_closed(conn));
        conn
    }

    fn is_closed(&self, conn: ConnId) -> bool {
        self.closed.contains_key(&conn)
    }

    /// Whether the call was accepted.
    fn call(&mut self, conn: ConnId, call: Call) -> bool {
        self.last_id += 1;
        let id = RequestId(self.last_id);
        let text = codec::encode_request(&Request { id, ack: None, call });
        let before = self.limited.get(&conn).copied();
        self.input(Input::Frame { conn, frame: text.into() });
        self.limited.get(&conn).copied() == before
    }

    /// Sends one call after the other for a minute, as soon as each is allowed; joins again after a close.
    fn attack(
        &mut self,
        seconds: u64,
        join: impl Fn(u64) -> Entry,
        mut what: impl FnMut(u64) -> Call,
    ) {
        let end = self.now.mono + seconds * 1_000;
        let (mut n, mut joins) = (0, 0);
        let mut conn = self.join(join(joins));
        while self.now.mono < end {
            let passed = !self.is_closed(conn) && self.call(conn, what(n));
            n += 1;
            if self.is_closed(conn) {
                joins += 1;
                // As many connections as an address may open.
                self.pass(20);
                conn = self.join(join(joins));
                if self.is_closed(conn) {
                    self.pass(self.retry_ms.clamp(1, 1_000));
                }
            } else if !passed {
                self.pass(self.retry_ms.clamp(1, 1_000));
            }
        }
    }

    /// No reader of 1 Mbit/s was cut, and no other member was refused.
    #[track_caller]
    fn assert_undisturbed(&mut self) {
        assert!(self.worst < CUT_BYTES * 3 / 4, "a slow reader lagged by {} bytes", self.worst);
        let honest = self.limited.range(..=ConnId(MEMBERS)).next();
        assert_eq!(honest, None, "another member is refused");
        for uid in 1..=MEMBERS {
            assert!(self.call(ConnId(uid), send_message("hello")), "{uid} may speak");
        }
    }
}

fn big(uid: u64) -> Entry {
    let keys = (0..7).map(|n| (format!("k{n}"), "x".repeat(500)));
    keys.fold(entry(uid), |entry, (key, value)| entry.attribute(&key, &value))
        .attribute("z", &"x".repeat(400))
}

/// Proves IDS-6.
#[test]
fn long_messages_are_charged_by_length() {
    let mut crowd = Crowd::new();
    crowd.attack(30, |_| entry(900), |_| send_message(&"y".repeat(8_000)));
    assert!(crowd.sent < 30 * 31_000 + 60_000, "{} bytes", crowd.sent);
    crowd.assert_undisturbed();
}

/// A patch of some bytes sends 4 KiB to all members.
/// Proves IDS-6.
#[test]
fn repeated_parts_of_an_event_are_charged() {
    let mut crowd = Crowd::new();
    crowd.attack(30, |_| big(900), |n| set_attributes(&[("z", &n.to_string())]));
    assert!(crowd.sent < 30 * 31_000 + 60_000, "{} bytes", crowd.sent);
    crowd.assert_undisturbed();
    let mut crowd = Crowd::new();
    let role = |n: u64| set_role(if n.is_multiple_of(2) { "audience" } else { "broadcaster" });
    crowd.attack(30, |_| big(900), role);
    assert!(crowd.sent < 30 * 31_000 + 60_000, "{} bytes", crowd.sent);
    crowd.assert_undisturbed();
}

/// Four messages of 8 kB, then a leave: a new membership has no burst of its own any more.
/// Proves IDS-9.
#[test]
fn a_new_membership_gets_no_new_burst() {
    let turn = |n: u64| if n % 5 < 4 { send_message(&"y".repeat(8_000)) } else { leave() };
    let mut crowd = Crowd::new();
    crowd.attack(30, |_| big(900), turn);
    assert!(crowd.sent < 30 * 31_000 + 60_000, "{} bytes", crowd.sent);
    crowd.assert_undisturbed();
}

/// The same, each time with another uid from the same address.
/// Proves IDS-9.
#[test]
fn an_address_owes_the_debts_of_its_members() {
    let turn = |n: u64| if n % 5 < 4 { send_message(&"y".repeat(8_000)) } else { leave() };
    let mut crowd = Crowd::new();
    crowd.attack(60, |n| big(10_000 + n).from(9), turn);
    assert!(crowd.refused_join > 0 && crowd.sent < 60 * 65_000 + (1 << 20), "{}", crowd.sent);
    crowd.assert_undisturbed();
    // Other addresses join as before.
    let other = crowd.join(entry(5_000));
    assert!(!crowd.is_closed(other));
}

/// Proves IDS-8.
#[test]
fn a_busy_channel_refuses_the_loudest_members_first() {
    let mut crowd = Crowd::new();
    let loud: Vec<ConnId> = (0..150).map(|n| crowd.join(entry(900 + n))).collect();
    let text = "y".repeat(7_000);
    let mut before = 0;
    for _ in 0..20 {
        for conn in &loud {
            while crowd.call(*conn, send_message(&text)) {}
        }
        before = before.max(crowd.sent);
        for uid in 1..=MEMBERS {
            assert!(crowd.call(ConnId(uid), send_message("a word")), "{uid} may speak");
        }
        crowd.pass(250);
    }
    // What a channel may send in five seconds, and its burst.
    assert!(crowd.sent < 5 * (2 << 20) + (7 << 18) + 500_000, "{} bytes", crowd.sent);
}

/// Two hundred members that all send as fast as they may at the same time; half of them leave and join again.
/// Proves IDS-6, IDS-8.
#[test]
fn members_within_their_rate_are_not_refused() {
    let mut crowd = Crowd::new();
    let text = "a usual remark of some length, as people make them";
    for conn in 1..=MEMBERS {
        for _ in 0..40 {
            assert!(crowd.call(ConnId(conn), send_message(text)));
        }
    }
    for round in 0..60 {
        crowd.pass(50);
        for conn in 1..=MEMBERS {
            assert!(crowd.call(ConnId(conn), send_message(text)), "round {round}");
        }
    }
    // All members leave from one address, and come back to send messages.
    for round in 0..3 {
        crowd.pass(2_000);
        let first = crowd.last_conn + 1 - MEMBERS;
        for conn in first..first + MEMBERS {
            for _ in 0..5 {
                assert!(crowd.call(ConnId(conn), send_message(text)), "round {round}");
            }
            assert!(crowd.call(ConnId(conn), leave()));
        }
        for uid in 1..=MEMBERS {
            let conn = crowd.join(entry(uid));
            assert!(!crowd.is_closed(conn), "round {round}");
            for _ in 0..30 {
                assert!(crowd.call(conn, send_message(text)), "round {round}");
            }
        }
    }
    assert!(crowd.limited.is_empty());
}

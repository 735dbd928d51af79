//! No input of a server or a host makes the session panic or lose a call.

use std::collections::BTreeSet;

use lianmai_client_sdk::protocol::codec::encode_result;
use lianmai_client_sdk::protocol::message::notice::ServerRestarting;
use lianmai_client_sdk::protocol::message::session::{
    Done, Empty, Join, Outcome, Pong, ResumeReason, Resumed,
};
use lianmai_client_sdk::protocol::message::{ChannelEvent, Notice};
use lianmai_client_sdk::protocol::*;
use lianmai_client_sdk::session::*;
use proptest::prelude::*;

use super::support::*;

#[derive(Clone, Debug)]
enum Step {
    Join,
    Leave,
    Publish,
    Message,
    Opened,
    Closed(u16),
    Garbage(Vec<u8>),
    Text(String),
    Answer(u64, u8),
    Event(u64, u8),
    Closing,
    Pause(bool),
    Wait(u64),
    Unpolled,
    Unreadable,
    NetworkChanged,
    Foreground,
    /// The answer to the first request of the present socket.
    Enter(u8),
    Restarting(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fragment = prop_oneof![
        Just(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.to_owned()),
        Just(r#"{"id":2,"error":{"code":1,"message":"","data":{"name":"banned"}}}"#.to_owned()),
        Just(r#"[]"#.to_owned()),
        Just(r#"{"method":"memberCount","params":{"count":18446744073709551615}}"#.to_owned()),
        Just(
            r#"{"method":"tokenWillExpire","params":{"expiresInMs":18446744073709551615}}"#
                .to_owned()
        ),
        Just(
            r#"{"id":null,"error":{"code":-32700,"message":"","data":{"name":"parseError"}}}"#
                .to_owned()
        ),
        "[\\[\\]{}\":,a-z0-9]{0,60}",
    ];
    let step = prop_oneof![
        3 => Just(Step::Join),
        1 => Just(Step::Leave),
        3 => Just(Step::Publish),
        3 => Just(Step::Message),
        3 => Just(Step::Opened),
        1 => any::<u16>().prop_map(Step::Closed),
        1 => prop::collection::vec(any::<u8>(), 0..80).prop_map(Step::Garbage),
        2 => fragment.prop_map(Step::Text),
        8 => (0u64..8, any::<u8>()).prop_map(|(id, kind)| Step::Answer(id, kind)),
        6 => (prop_oneof![9u64..14, Just(u64::MAX)], any::<u8>())
            .prop_map(|(seq, kind)| Step::Event(seq, kind)),
        1 => Just(Step::Closing),
        1 => any::<bool>().prop_map(Step::Pause),
        3 => prop_oneof![0u64..30_000, Just(u64::MAX)].prop_map(Step::Wait),
        2 => Just(Step::Unpolled),
        1 => Just(Step::Unreadable),
        1 => Just(Step::NetworkChanged),
        1 => Just(Step::Foreground),
        6 => any::<u8>().prop_map(Step::Enter),
        1 => prop_oneof![0u64..20_000, Just(u64::MAX)].prop_map(Step::Restarting),
    ];
    prop::collection::vec(step, 0..60)
}

fn hello(kind: u8) -> lianmai_client_sdk::protocol::message::session::Joined {
    let role = if kind & 1 == 0 { Role::Broadcaster } else { Role::Audience };
    let mut hello = snapshot(role, 10, vec![member(BOB, BOB_MID)]);
    if kind & 2 == 2 {
        hello.seq = u64::MAX;
        hello.own.token_expires_in_ms = Some(u64::MAX);
        hello.timers.ping_interval_ms = u64::MAX;
    }
    hello
}

fn answer(id: u64, kind: u8) -> String {
    let id = RequestId(id.max(1));
    match kind % 5 {
        0 => encode_result(id, &hello(kind / 5)),
        1 => encode_result(id, &published(u64::from(kind % 16))),
        2 => encode_result(id, &Done { seq: u64::from(kind % 16) }),
        3 => encode_result(id, &Pong { epoch: EPOCH, seq: u64::from(kind % 16) }),
        _ => encode_result(id, &Empty {}),
    }
}

/// An answer to `reconnect` or `join` that may or may not fit the request.
fn entrance(id: u64, kind: u8) -> String {
    let id = RequestId(id);
    let reason = ResumeReason::ALL[usize::from(kind / 8) % ResumeReason::ALL.len()].clone();
    let outcome = match kind % 8 {
        0..=2 => Outcome::Replayed,
        3..=5 => Outcome::Snapshot,
        6 => Outcome::Refused,
        _ => return answer(id.0, kind / 8),
    };
    let mut hello = hello(kind / 8);
    hello.epoch = if kind & 64 == 0 { EPOCH } else { Epoch([2; 12]) };
    let snapshot = (kind % 8 != 5).then(|| Box::new(hello));
    let (reason, restore) = (Some(reason), kind & 128 == 0);
    encode_result(id, &Resumed { reason, restore, snapshot, ..resumed(outcome, 7) })
}

fn event(kind: u8) -> ChannelEvent {
    let (uid, mid) = if kind & 1 == 0 { (ME, MY_MID) } else { (BOB, BOB_MID) };
    match kind / 2 % 4 {
        0 => client_join(uid, mid),
        1 => ChannelEvent::StreamAdded(stream(uid, mid, MediaKind::Audio, kind)),
        2 => ChannelEvent::StreamRemoved(stream(uid, mid, MediaKind::Unknown("x".into()), kind)),
        _ => says(uid, "x"),
    }
}

/// A host's view: the outputs that it received, and the state of its sockets.
#[derive(Default)]
struct Tally {
    open: BTreeSet<CallId>,
    /// The open socket.
    present: Option<SocketId>,
    /// The last socket that closed by itself; outputs about it have no effect.
    gone: Option<SocketId>,
    last: u64,
    view: Option<Picture>,
    /// The first request of the present socket.
    entering: Option<u64>,
}

impl Tally {
    fn take(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Connect { socket, .. } => {
                    assert!(self.present.is_none(), "one socket at a time");
                    assert!(socket.0 > self.last, "a number is used once");
                    self.present = Some(socket);
                    self.last = socket.0;
                    self.entering = None;
                }
                Output::CloseSocket { socket, .. } => {
                    let known = self.present == Some(socket) || self.gone == Some(socket);
                    assert!(known, "only an open socket is closed");
                    self.present.take_if(|present| *present == socket);
                }
                Output::Send { socket, .. } if self.gone == Some(socket) => {}
                Output::Send { socket, .. } => {
                    assert_eq!(
                        self.present,
                        Some(socket),
                        "frames are only sent on the present socket"
                    );
                    let id = requests(&[output])[0].id.0;
                    self.entering.get_or_insert(id);
                }
                Output::Settled { call, .. } => {
                    assert!(self.open.remove(&call), "{call:?} is settled once");
                }
                Output::Picture(change) => change.apply(&mut self.view),
                _ => {}
            }
        }
    }
}

/// A session with its host.
struct Play {
    rig: Rig,
    tally: Tally,
    polls: bool,
}

impl Play {
    /// A session that has sent `join` (`None`) or is in a channel (`Some`).
    fn new(joined: Option<u8>) -> Play {
        let mut play = Play { rig: Rig::new(), tally: Tally::default(), polls: true };
        if let Some(kind) = joined {
            let call = play.rig.call(join());
            play.tally.open.insert(call);
            play.poll();
            play.rig.open();
            play.rig.frame(&answer(1, kind % 4 * 5));
            play.poll();
            assert!(play.rig.session.picture().is_some());
        }
        play
    }

    fn poll(&mut self) -> Vec<Output> {
        let outputs = self.rig.drain();
        self.tally.take(outputs.clone());
        outputs
    }

    fn step(&mut self, step: &Step) -> Vec<Output> {
        let Play { rig, tally, .. } = self;
        let command = match step {
            Step::Join => Some(join()),
            Step::Leave => Some(Command::Leave(Empty {})),
            Step::Publish => Some(publish()),
            Step::Message => Some(message("x")),
            _ => None,
        };
        if let Some(command) = command {
            let call = rig.call(command);
            tally.open.insert(call);
        }
        match step {
            Step::Opened if tally.present.is_some() => rig.open(),
            Step::Closed(code) if tally.present.is_some() => {
                tally.gone = tally.present.take();
                rig.closed(*code, "");
            }
            Step::Garbage(bytes) => rig.bytes(bytes),
            Step::Text(text) => rig.frame(text),
            Step::Answer(id, kind) => rig.frame(&answer(*id, *kind)),
            Step::Event(seq, kind) => rig.events(*seq, &[event(*kind)]),
            Step::Closing => rig.frame(CLOSING),
            Step::Pause(true) => rig.input(Input::ReadingPaused),
            Step::Pause(false) => rig.input(Input::ReadingResumed),
            Step::Wait(ms) => {
                rig.now = rig.now.saturating_add(*ms).min(u64::MAX / 2);
                rig.input(Input::Timeout);
            }
            Step::Unpolled => self.polls = !self.polls,
            Step::Unreadable => rig.unreadable(),
            Step::NetworkChanged => rig.input(Input::NetworkChanged),
            Step::Foreground => rig.input(Input::Foreground),
            Step::Enter(kind) => {
                if let Some(id) = tally.entering {
                    rig.frame(&entrance(id, *kind));
                }
            }
            Step::Restarting(ms) => {
                rig.frame(&notice(Notice::ServerRestarting(ServerRestarting {
                    retry_after_ms: *ms,
                    jitter_ms: *ms,
                    deadline_ms: *ms,
                })))
            }
            _ => {}
        }
        if !self.polls {
            return vec![];
        }
        let outputs = self.poll();
        assert_eq!(self.rig.session.picture(), self.tally.view.as_ref());
        outputs
    }

    /// A report about a socket that is gone or never existed.
    fn late(&mut self, of: u64, what: u8) {
        let dead = self.tally.last + u64::from(self.tally.present.is_none());
        let socket = if what & 16 == 0 { SocketId(of % dead.max(1)) } else { SocketId(u64::MAX) };
        self.rig.input(match what % 4 {
            0 => Input::SocketOpened { socket },
            1 => Input::Frame { socket, text: CLOSING },
            2 => Input::SocketClosed { socket, code: 4500, reason: "late".to_owned() },
            _ => Input::Unreadable { socket },
        });
    }

    /// Silence: every open call ends by its deadline.
    fn end(&mut self) -> Vec<Output> {
        let mut outputs = self.poll();
        let rest = self.rig.advance(100_000);
        self.tally.take(rest.clone());
        outputs.extend(rest);
        assert!(self.tally.open.is_empty(), "open: {:?}", self.tally.open);
        assert_eq!(self.rig.session.picture(), self.tally.view.as_ref());
        outputs
    }
}

const CLOSING: &str = r#"{"jsonrpc":"2.0","method":"closing","params":{"code":4500,"reason":"kicked","action":"none"}}"#;

/// The outputs with their full contents.
fn words(outputs: &[Output]) -> Vec<String> {
    let word = |output: &Output| match output {
        Output::Send { text, .. } => format!("{output:?} {text}"),
        Output::Event(event) => format!("{event:?}"),
        Output::Picture(change) => format!("{change:?}"),
        other => format!("{other:?}"),
    };
    outputs.iter().map(word).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Proves CLI-8, SES-7.
    #[test]
    fn nothing_panics_and_every_call_settles_once(joined in any::<Option<u8>>(), steps in steps()) {
        let mut play = Play::new(joined);
        for step in steps {
            play.step(&step);
        }
        play.end();
    }

    /// Proves CLI-8.
    #[test]
    fn reports_of_another_socket_change_nothing(
        joined in any::<Option<u8>>(),
        steps in steps(),
        late in prop::collection::vec((any::<u64>(), any::<u8>()), 1..60),
    ) {
        let (mut punctual, mut disturbed) = (Play::new(joined), Play::new(joined));
        let mut late = late.into_iter().cycle();
        let mut said = 0;
        for step in steps {
            let (of, what) = late.next().expect("without end");
            if what & 32 == 0 {
                disturbed.late(of, what);
                said += 1;
            }
            prop_assert_eq!(words(&disturbed.step(&step)), words(&punctual.step(&step)));
            if punctual.polls {
                let due = punctual.rig.session.next_deadline();
                prop_assert_eq!(disturbed.rig.session.next_deadline(), due);
            }
        }
        prop_assert_eq!(words(&disturbed.end()), words(&punctual.end()));
        let mut usual = punctual.rig.session.ignored();
        usual.late += said;
        prop_assert_eq!(disturbed.rig.session.ignored(), usual);
    }
}

/// The host reports the end of a socket that the session gave up before the host knew about it.
/// Proves CLI-8.
#[test]
fn the_end_of_a_socket_is_not_that_of_the_next() {
    let mut play = Play::new(Some(0));
    play.step(&Step::Wait(u64::MAX));
    play.step(&Step::Unpolled);
    play.step(&Step::Opened);
    let banned = r#"{"id":2,"error":{"code":1,"message":"","data":{"name":"banned"}}}"#;
    play.step(&Step::Text(banned.to_owned()));
    play.step(&Step::Closed(0));
    // The server refuses to resume, so the session joins again on a new socket, about which no report exists.
    let outputs = play.poll();
    let last = outputs.last().map(|output| format!("{output:?}"));
    assert_eq!(last.as_deref(), Some("Connect(3, ws://server/v1/signal)"));
    assert_eq!(play.rig.session.ignored().late, 1);
    play.rig.open();
    assert_eq!(methods(&play.poll()), ["join"]);
    play.end();
}

/// Proves CLI-9.
#[test]
fn debug_output_holds_no_secret() {
    let Command::Join(params) = join() else { panic!("a join") };
    let command = Command::Join(Join { token: Some("s3cret".to_owned()), ..params });
    assert!(!format!("{command:?}").contains("s3cret"));
    let reply = Reply::Published(published(1));
    assert!(!format!("{reply:?}").contains("rtmp"));
    let mut rig = Rig::new();
    rig.call(command);
    let mut outputs = rig.drain();
    rig.open();
    outputs.extend(rig.drain());
    assert!(!format!("{:?} {outputs:?}", rig.session).contains("s3cret"));
}

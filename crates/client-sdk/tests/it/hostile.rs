//! Whatever a server sends and whatever a host does, the session neither panics nor forgets a call.

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
    /// The answer of the last request that went out first on a socket.
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

/// What a server may say to `reconnect` or `join`, fitting or not.
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

#[derive(Default)]
struct Tally {
    open: BTreeSet<CallId>,
    connected: bool,
    view: Option<Picture>,
    /// The first request of the present socket.
    entering: Option<u64>,
}

impl Tally {
    fn take(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Connect { .. } => {
                    assert!(!self.connected, "one socket at a time");
                    self.connected = true;
                    self.entering = None;
                }
                Output::CloseSocket { .. } => {
                    assert!(self.connected, "only an open socket is closed");
                    self.connected = false;
                }
                Output::Send(_) => {
                    assert!(self.connected, "nothing is sent into nothing");
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Proves CLI-8, SES-7.
    #[test]
    fn nothing_panics_and_every_call_settles_once(joined in any::<Option<u8>>(), steps in steps()) {
        let mut rig = Rig::new();
        let mut tally = Tally::default();
        if let Some(kind) = joined {
            tally.open.insert(rig.call(join()));
            rig.input(Input::SocketOpened);
            rig.frame(&answer(1, kind % 4 * 5));
            tally.take(rig.drain());
            prop_assert!(rig.session.picture().is_some());
        }
        let mut poll = true;
        for step in steps {
            let command = match &step {
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
                Step::Opened if tally.connected => rig.input(Input::SocketOpened),
                Step::Closed(code) if tally.connected => {
                    // The host's socket is gone; whatever the session had to say to it is moot.
                    rig.input(Input::SocketClosed { code, reason: String::new() });
                    tally.take(rig.drain());
                    tally.connected = false;
                }
                Step::Garbage(bytes) => rig.input(Input::Frame(&bytes)),
                Step::Text(text) => rig.frame(&text),
                Step::Answer(id, kind) => rig.frame(&answer(id, kind)),
                Step::Event(seq, kind) => rig.events(seq, &[event(kind)]),
                Step::Closing => rig.frame(r#"{"jsonrpc":"2.0","method":"closing","params":{"code":4500,"reason":"kicked","action":"none"}}"#),
                Step::Pause(true) => rig.input(Input::ReadingPaused),
                Step::Pause(false) => rig.input(Input::ReadingResumed),
                Step::Wait(ms) => {
                    rig.now = rig.now.saturating_add(ms).min(u64::MAX / 2);
                    rig.input(Input::Timeout);
                }
                Step::Unpolled => poll = !poll,
                Step::Unreadable => rig.input(Input::Unreadable),
                Step::NetworkChanged => rig.input(Input::NetworkChanged),
                Step::Foreground => rig.input(Input::Foreground),
                Step::Enter(kind) => {
                    if let Some(id) = tally.entering {
                        rig.frame(&entrance(id, kind));
                    }
                }
                Step::Restarting(ms) => rig.frame(&notice(Notice::ServerRestarting(
                    ServerRestarting { retry_after_ms: ms, jitter_ms: ms, deadline_ms: ms },
                ))),
                _ => {}
            }
            if poll {
                tally.take(rig.drain());
                prop_assert_eq!(rig.session.picture(), tally.view.as_ref());
            }
        }
        // Silence: whatever is open ends by its deadline.
        tally.take(rig.drain());
        tally.take(rig.advance(100_000));
        prop_assert!(tally.open.is_empty(), "open: {:?}", tally.open);
        prop_assert_eq!(rig.session.picture(), tally.view.as_ref());
    }
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
    rig.input(Input::SocketOpened);
    let outputs = rig.drain();
    assert!(!format!("{:?} {outputs:?}", rig.session).contains("s3cret"));
}

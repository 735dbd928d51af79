//! Random histories: several channels and apps, duplicates, lost sockets, URLs that come late or never, garbage,
//! silence. Nothing panics, the checks of [`World`] always hold, and nothing is left at the end.

use lianmai_protocol::message::Call;
use lianmai_signal_engine::{Answer, Input};
use proptest::prelude::*;

use crate::calls::*;
use crate::world::{Client, DiskMode, Issuer, World, entry};

const KINDS: [&str; 5] = ["", "audio", "video", "screenShare", "slaveAudio"];
const APPS: [&str; 4] = ["plain", "reject", "creator", "dissolve"];
const TOKENS: [&str; 4] = ["all", "little", "bad", "never checked"];
const JOIN_IDS: [&str; 2] = ["0123456789abcdef", "fedcba9876543210"];

#[derive(Clone, Debug)]
enum Op {
    Join { uid: u64, app: usize, audience: bool, join_id: Option<usize>, jwt_ms: Option<u64> },
    Send { who: usize, call: Call },
    Array { who: usize, calls: Vec<Call> },
    Bytes { who: usize, bytes: Vec<u8> },
    Json { who: usize, text: String },
    Binary { who: usize },
    Drop { who: usize },
    Lag { who: usize },
    Alive { who: usize },
    Pass { ms: u64 },
    PingAll,
    Issuer { how: u8 },
    Issue { fail: bool },
    IssueTwice,
    Check,
    Flow { which: usize },
    Audit,
    Resume { which: usize, behind: u64 },
    Disk { how: u8 },
    Write,
    Crash,
    Drain { ms: u64, begin_again: bool },
    Stop,
}

fn a_call() -> impl Strategy<Value = Call> {
    let kind = || proptest::sample::select(&KINDS[..]);
    let uid = || 1u64..=5;
    prop_oneof![
        6 => kind().prop_map(publish),
        3 => kind().prop_map(unpublish),
        2 => (uid(), kind()).prop_map(|(uid, kind)| unpublish_of(uid, kind)),
        6 => (uid(), kind()).prop_map(|(uid, kind)| subscribe(uid, kind)),
        2 => (uid(), kind()).prop_map(|(uid, kind)| unsubscribe(uid, kind)),
        2 => Just(set_role("audience")),
        2 => Just(set_role("broadcaster")),
        2 => uid().prop_map(|uid| set_role_of(uid, "audience")),
        2 => uid().prop_map(|uid| set_role_of(uid, "broadcaster")),
        2 => kind().prop_map(mute),
        2 => kind().prop_map(unmute),
        1 => (uid(), kind()).prop_map(|(uid, kind)| mute_of(uid, kind)),
        1 => (uid(), 0u32..3).prop_map(|(uid, duration)| kick(uid, duration)),
        1 => (0u32..2).prop_map(close_channel),
        2 => Just(send_message("hello")),
        2 => proptest::collection::vec(uid(), 0..4).prop_map(|to| send_to(&to, "psst")),
        1 => ("[ab]?", "[xy]?").prop_map(|(key, value)| set_attributes(&[(&key, &value)])),
        1 => "[xy]?".prop_map(|value| set_channel_attributes(&[("t", &value)])),
        1 => "[AB]".prop_map(|name| rename(&name)),
        2 => proptest::sample::select(&TOKENS[..]).prop_map(renew_token),
        1 => Just(leave()),
        2 => Just(ping()),
    ]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let who = || 0usize..8;
    let json = prop_oneof![
        Just("[]"),
        Just("{}"),
        Just("[[]]"),
        Just("null"),
        Just(r#"{"jsonrpc":"2.0","id":1,"method":"publish"}"#),
        Just(r#"{"jsonrpc":"2.0","id":9007199254740991,"method":"leave","params":[]}"#),
        Just(r#"[{"jsonrpc":"2.0","id":50,"method":"subscribe","params":{"uid":"-1"}}, 7]"#),
    ];
    let op = prop_oneof![
        8 => (
            1u64..=5,
            0..APPS.len(),
            any::<bool>(),
            proptest::option::of(0..JOIN_IDS.len()),
            proptest::option::weighted(0.2, 1u64..90_000),
        )
            .prop_map(|(uid, app, audience, join_id, jwt_ms)| Op::Join {
                uid, app, audience, join_id, jwt_ms,
            }),
        30 => (who(), a_call()).prop_map(|(who, call)| Op::Send { who, call }),
        4 => (who(), proptest::collection::vec(a_call(), 1..6))
            .prop_map(|(who, calls)| Op::Array { who, calls }),
        1 => (who(), proptest::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(who, bytes)| Op::Bytes { who, bytes }),
        2 => (who(), json).prop_map(|(who, text)| Op::Json { who, text: text.to_owned() }),
        1 => who().prop_map(|who| Op::Binary { who }),
        3 => who().prop_map(|who| Op::Drop { who }),
        1 => who().prop_map(|who| Op::Lag { who }),
        1 => who().prop_map(|who| Op::Alive { who }),
        6 => prop_oneof![0u64..30, 30u64..4_000, 4_000u64..40_000].prop_map(|ms| Op::Pass { ms }),
        4 => Just(Op::PingAll),
        2 => (0u8..3).prop_map(|how| Op::Issuer { how }),
        6 => any::<bool>().prop_map(|fail| Op::Issue { fail }),
        1 => Just(Op::IssueTwice),
        2 => Just(Op::Check),
        3 => any::<usize>().prop_map(|which| Op::Flow { which }),
        2 => Just(Op::Audit),
        8 => (any::<usize>(), 0u64..4).prop_map(|(which, behind)| Op::Resume { which, behind }),
        2 => (0u8..3).prop_map(|how| Op::Disk { how }),
        2 => Just(Op::Write),
        1 => Just(Op::Crash),
        1 => (0u64..5_000, any::<bool>())
            .prop_map(|(ms, begin_again)| Op::Drain { ms, begin_again }),
        1 => Just(Op::Stop),
    ];
    proptest::collection::vec(op, 1..150)
}

/// One of the connected members, if there is one.
fn one_of(w: &World, who: usize) -> Option<Client> {
    let open = w.open();
    (!open.is_empty()).then(|| open[who % open.len()])
}

fn step(w: &mut World, op: Op) {
    match op {
        Op::Join { uid, app, audience, join_id, jwt_ms } => {
            let mut entry = entry(uid).app(APPS[app]);
            if audience {
                entry = entry.audience();
            }
            if uid == 1 {
                entry = entry.moderator();
            }
            if let Some(which) = join_id {
                entry = entry.join_id(JOIN_IDS[which]);
            }
            if let Some(ms) = jwt_ms {
                entry = entry.jwt(w, 0, ms);
            }
            let _either_way = w.enter(entry);
        }
        Op::Send { who, call } => {
            if let Some(client) = one_of(w, who) {
                w.send(client, call);
            }
        }
        Op::Array { who, calls } => {
            if let Some(client) = one_of(w, who) {
                w.batch(client, calls);
            }
        }
        Op::Bytes { who, bytes } => {
            if let Some(client) = one_of(w, who) {
                w.text(client, bytes);
            }
        }
        Op::Json { who, text } => {
            if let Some(client) = one_of(w, who) {
                // The ids in these texts are always the same.
                let again = &mut w.conns.get_mut(&client.0).expect("a client").again;
                again.extend([1, 50, 9_007_199_254_740_991]);
                w.text(client, text);
            }
        }
        Op::Binary { who } => {
            if let Some(client) = one_of(w, who) {
                w.input(Input::BinaryFrame { conn: client.0 });
            }
        }
        Op::Drop { who } => {
            if let Some(client) = one_of(w, who) {
                w.drop_socket(client);
            }
        }
        Op::Lag { who } => {
            if let Some(client) = one_of(w, who) {
                w.input(Input::Lagging { conn: client.0 });
            }
        }
        Op::Alive { who } => {
            if let Some(client) = one_of(w, who) {
                w.input(Input::ControlFrame { conn: client.0 });
            }
        }
        Op::Pass { ms } => w.advance(ms),
        Op::PingAll => {
            for client in w.open() {
                w.send(client, ping());
            }
        }
        Op::Issuer { how } => w.issuer = [Issuer::AtOnce, Issuer::Hold, Issuer::Fail][how as usize],
        Op::Issue { fail } => match (w.held_mints.is_empty(), fail) {
            (true, _) => {}
            (false, true) => w.fail_to_issue(),
            (false, false) => w.issue(),
        },
        Op::IssueTwice => {
            if let Some(first) = w.held_mints.front().cloned() {
                w.held_mints.push_front(first);
                w.issue();
                w.issue();
            }
        }
        Op::Check => {
            if let Some((id, _)) = w.held_tokens.pop_front() {
                let answer = Answer::Verified(Ok(lianmai_signal_engine::Grant::debug()));
                w.input(Input::Answer { id, answer });
            }
        }
        Op::Flow { which } => {
            let all: Vec<_> = w.minted.iter().copied().collect();
            if !all.is_empty() {
                let generation = all[which % all.len()];
                w.input(Input::MediaFlow { generation });
            }
        }
        // With a disk that holds or fails writes, the auditor's own changes would fail.
        Op::Audit if w.disk.mode == DiskMode::AtOnce && !w.draining => w.audit(),
        Op::Audit => {}
        Op::Resume { which, behind } => {
            let met: Vec<Client> = w
                .conns
                .iter()
                .filter(|(_, c)| c.joined.is_some())
                .map(|(c, _)| Client(*c))
                .collect();
            if !met.is_empty() {
                let client = met[which % met.len()];
                w.forget_events(client, behind);
                let reconnect = w.reconnect_request(client);
                w.send_reconnect(client, reconnect);
            }
        }
        Op::Disk { how } => {
            w.disk.mode = [DiskMode::AtOnce, DiskMode::Hold, DiskMode::Fail][how as usize];
            w.write_held();
        }
        Op::Write => w.write_held(),
        Op::Crash => w.crash(),
        Op::Drain { ms, begin_again } => {
            w.drain();
            w.advance(ms);
            match w.drained {
                Some(true) if begin_again => w.start_again(),
                _ if begin_again => w.crash(),
                _ => {}
            }
        }
        Op::Stop => w.input(Input::Stop),
    }
}

fn world() -> World {
    let mut w = World::with(|config| {
        config.limits.members = 6; // Leaves room for the auditor.
        config.limits.broadcasters = 4;
        config.limits.channels = 3;
        config.limits.subscriptions = 3;
        config.limits.command_burst = 60;
    });
    w.url_life_ms = 20_000;
    let mut little = lianmai_signal_engine::Grant::debug();
    little.rights = lianmai_protocol::Rights {
        publish: [lianmai_protocol::MediaKind::Audio].into_iter().collect(),
        subscribe: [lianmai_protocol::MediaKind::Video].into_iter().collect(),
        ..Default::default()
    };
    w.tokens.insert("all".to_owned(), Ok(lianmai_signal_engine::Grant::debug()));
    w.tokens.insert("little".to_owned(), Ok(little));
    w.tokens.insert("bad".to_owned(), Err(lianmai_protocol::ErrorName::TokenInvalid));
    w
}

/// All sockets close; after this time no cap keeps a member.
fn end(w: &mut World) {
    w.disk.mode = DiskMode::AtOnce;
    w.write_held();
    if w.draining {
        w.crash();
    }
    for client in w.open() {
        w.drop_socket(client);
    }
    w.advance(301_000);
    w.assert_empty();
    // Late answers have no effect.
    while !w.held_mints.is_empty() {
        w.issue();
    }
    assert_eq!(w.engine.stats().streams, 0);
    let joined = w.notes.iter().filter(|note| format!("{note:?}").starts_with("MemberJoined"));
    let left = w.notes.iter().filter(|note| format!("{note:?}").starts_with("MemberLeft"));
    let (joined, left) = (joined.count(), left.count());
    if w.writes_lost == 0 {
        assert_eq!(joined, left, "each membership ends once");
        assert!(w.disk.is_empty(), "nothing left behind");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// Proves EVT-2, NOT-2, ORD-1, ORD-3, ORD-4.
    #[test]
    fn random_inputs_break_nothing_and_leave_nothing(ops in ops()) {
        let mut w = world();
        for op in ops {
            step(&mut w, op);
        }
        step(&mut w, Op::Audit);
        end(&mut w);
    }
}

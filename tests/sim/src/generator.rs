//! Makes a scenario from a seed. Each seed draws which kinds of faults and commands occur at all, and how often (swarm
//! testing): a world in which everything happens a little finds less than many worlds in which some things happen a
//! lot. Comes in: a seed. Goes out: a scenario. Deliberately absent: any knowledge of the effect.
//!
//! One generator of numbers runs through most of this file. A further draw from it changes everything that is drawn
//! after it, and with it the worlds of all seeds. What is added later draws from a fork of its own, as `greedy` does.

use crate::rng::Rng;
use crate::scenario::{Action, ActionKind, ClientSpec, Cmd, Knobs, Scenario, usual_shares};
use crate::scripts;
use crate::tokens::{APPS, TokenSpec, is_safe};

const LENGTH_MS: u64 = 300_000;
/// The first uid of the clients.
const FIRST_UID: u64 = 100;
/// The uid of a script that reconnects at once to a server that is stopping.
const HASTY_UID: u64 = 2_000;
/// The first uid of the scripts that use up every share.
const GREEDY_UID: u64 = 3_000;

/// The scenario of a seed.
pub(crate) fn scenario(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed).fork(9);
    let mut knobs = knobs(&mut rng);
    let mut actions = Vec::new();
    joins(&mut rng, &knobs, &mut actions);
    commands(&mut rng, &knobs, &mut actions);
    faults(&mut rng, &knobs, &mut actions);
    server_faults(&mut rng, &knobs, &mut actions);
    strangers(&mut rng, &knobs, &mut actions);
    greedy(&mut Rng::new(seed).fork(10), &mut knobs, &mut actions);
    actions.sort_by_key(|action| action.at);
    Scenario { seed, knobs, actions }
}

fn knobs(rng: &mut Rng) -> Knobs {
    let tight = rng.chance(150);
    let shards = if rng.chance(500) { 2 } else { 1 };
    // In a tight world not all of its five channels fit.
    let count = if tight { 5 } else { rng.between(3, 4) };
    let channels: Vec<usize> = (0..count).map(|_| rng.weighted(&[5, 4, 2, 2])).collect();
    let count = rng.between(24, 30);
    let mut clients: Vec<ClientSpec> = Vec::new();
    for index in 0..count {
        let channel = usize::try_from(index).expect("it is small") % channels.len();
        // Sometimes two clients share a uid, like two devices of one user.
        let twin = clients.iter().rposition(|other| other.channel == channel && rng.chance(80));
        let uid = twin.map_or(FIRST_UID + index, |twin| clients[twin].uid);
        let token = if is_safe(APPS[channels[channel]]) { token(rng) } else { TokenSpec::None };
        let role = *rng.pick(&[None, None, None, Some(true), Some(false)]);
        clients.push(ClientSpec { uid, channel, role, token });
    }
    let timers = match rng.below(3) {
        0 => [10_000, 25_000, 30_000, 15_000, 300_000],
        1 => [4_000, 10_000, 12_000, 8_000, 60_000],
        _ => [3_000, 8_000, 8_000, 6_000, 20_000],
    };
    let limits = if tight {
        [rng.between(5, 9), rng.between(3, 6), if shards == 1 { 3 } else { 2 }, rng.between(1, 4)]
            .map(|limit| usize::try_from(limit).expect("it is small"))
    } else {
        [10_000, 2_000, 100_000, 256]
    };
    let small = rng.chance(250);
    Knobs {
        length_ms: LENGTH_MS,
        channels,
        clients,
        shards,
        timers,
        limits,
        shares: usual_shares(),
        log_bytes: if rng.chance(200) { 20_000 } else { 64 << 20 },
        max_lag: if small { 40_000 } else { 2 << 20 },
        capacity: if small { 16_384 } else { 262_144 },
        delay: *rng.pick(&[(1, 5), (5, 60), (20, 250), (1, 400)]),
        mint_ms: *rng.pick(&[0, 0, 0, 300, 3_000]),
        mint_fails: *rng.pick(&[0, 0, 20]),
        url_ms: *rng.pick(&[20_000, 3_600_000]),
        store_ms: *rng.pick(&[5, 50, 600]),
        store_fails: *rng.pick(&[0, 0, 30]),
        subscribes: rng.below(500),
        rejoins: rng.between(600, 1_000),
        reenters: *rng.pick(&[0, 300, 1_000]),
        media: rng.below(700),
        chatter: true,
    }
}

fn token(rng: &mut Rng) -> TokenSpec {
    let rights = u8::try_from(rng.weighted(&[12, 1, 1, 1, 1])).expect("it is small");
    match rng.below(10) {
        0 => TokenSpec::Basic { ttl_ms: rng.between(20_000, 400_000) },
        1 | 2 => TokenSpec::Jwt { ttl_ms: rng.between(20_000, 120_000), rights, moderate: false },
        n => TokenSpec::Jwt { ttl_ms: 3_600_000, rights, moderate: n < 6 },
    }
}

fn joins(rng: &mut Rng, knobs: &Knobs, actions: &mut Vec<Action>) {
    for c in 0..knobs.clients.len() {
        let cmd = Cmd::Join { token: None, role: None, name: rng.index(20) };
        actions.push(Action { at: rng.skewed(20_000) + 5, what: ActionKind::Call { c, cmd } });
        // Clients that were removed or refused try again later.
        for _ in 0..3 {
            let cmd = Cmd::Join { token: None, role: None, name: 0 };
            let at = rng.between(30_000, LENGTH_MS - 30_000);
            actions.push(Action { at, what: ActionKind::Call { c, cmd } });
        }
    }
}

/// Random weights, some of them 0.
fn swarm<const N: usize>(rng: &mut Rng, base: [u64; N]) -> [u64; N] {
    base.map(|weight| if rng.chance(250) { 0 } else { weight * rng.between(1, 4) })
}

fn commands(rng: &mut Rng, knobs: &Knobs, actions: &mut Vec<Action>) {
    let weights = {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m] =
            swarm(rng, [0, 40, 40, 15, 20, 40, 2, 0, 20, 25, 4, 3, 6]);
        // The last two weights, publishing and messages, guarantee enough events.
        [a, b, c, d, e, f, g, h + 1, i, j, k, l, m, 60, 50]
    };
    // Slow readers fall behind if messages are long.
    let long = if rng.chance(100) || knobs.capacity < 20_000 { 3_000 } else { 80 };
    let count = rng.between(900, 1_300);
    let mut at = 0;
    for _ in 0..count {
        at = if rng.chance(150) { at } else { rng.between(3_000, LENGTH_MS - 1_000) };
        let c = rng.index(knobs.clients.len());
        let channel = knobs.clients[c].channel;
        let others: Vec<usize> =
            (0..knobs.clients.len()).filter(|of| knobs.clients[*of].channel == channel).collect();
        let other = *rng.pick(&others);
        let of = rng.chance(150).then_some(other);
        let cmd = match rng.weighted(&weights) {
            1 => Cmd::Unpublish { kind: rng.index(5), of },
            2 => Cmd::Subscribe { of: other, kind: rng.index(4) },
            3 => Cmd::Unsubscribe { of: other, kind: rng.index(4) },
            4 => Cmd::SetRole { broadcaster: rng.chance(700), of },
            5 => Cmd::Mute { kind: *rng.pick(&[0, 1, 4]), on: rng.chance(500), of },
            6 => Cmd::Kick { of: other, s: *rng.pick(&[0, 0, 5, 60]) },
            7 => Cmd::Close { hold_s: *rng.pick(&[0, 5, 30]) },
            8 => {
                let to = (0..rng.between(1, 4)).map(|_| *rng.pick(&others)).collect();
                Cmd::Message { to: Some(to), bytes: rng.index(long) }
            }
            9 => Cmd::Attributes {
                channel: rng.chance(200),
                key: rng.index(4),
                bytes: rng.chance(700).then(|| rng.index(40)),
                name: rng.chance(200).then(|| rng.index(20)),
            },
            10 => {
                let good = token(rng);
                Cmd::Renew { token: *rng.pick(&[good, TokenSpec::Garbage, TokenSpec::Expired]) }
            }
            11 => Cmd::Leave,
            12 if rng.chance(30) => Cmd::Tasks,
            12 => Cmd::Report { deep: *rng.pick(&[0, 0, 3, 40]) },
            13 => Cmd::Publish { kind: *rng.pick(&[4, 4, 0, 1, 2, 3]) },
            _ if rng.chance(3) => Cmd::Message { to: None, bytes: 70_000 },
            _ => Cmd::Message { to: None, bytes: rng.index(long) },
        };
        actions.push(Action { at, what: ActionKind::Call { c, cmd } });
    }
}

fn faults(rng: &mut Rng, knobs: &Knobs, actions: &mut Vec<Action>) {
    let weights = swarm(rng, [10, 4, 14, 4, 2, 8, 8, 8, 2, 4]);
    if weights.iter().sum::<u64>() == 0 {
        return;
    }
    let [_, dead, grace, ..] = knobs.timers;
    for _ in 0..rng.between(20, 60) {
        let at = rng.between(5_000, LENGTH_MS - 1_000);
        let c = rng.index(knobs.clients.len());
        // Short, or so long that the grace may end.
        let ms =
            if rng.chance(250) { rng.skewed(5_000) } else { rng.between(dead, 3 * (dead + grace)) };
        let (up, down) = *rng.pick(&[(true, true), (true, false), (false, true)]);
        let what = match rng.weighted(&weights) {
            0 => ActionKind::Suspend { c, ms, clock: rng.chance(600) },
            1 => ActionKind::Network { c },
            2 => ActionKind::Offline { c, ms, silent: rng.chance(600) },
            3 => ActionKind::Slow { c, ms },
            4 => ActionKind::Restart { c },
            5 => ActionKind::Cut { c, lose: rng.chance(500) },
            6 => ActionKind::Half { c, up, down },
            8 => ActionKind::Swallow { c },
            9 => {
                // The present socket is cut, too.
                actions.push(Action {
                    at,
                    what: ActionKind::Trip {
                        c,
                        times: 1 + u32::try_from(rng.below(3)).unwrap_or(0),
                    },
                });
                ActionKind::Cut { c, lose: rng.chance(500) }
            }
            _ => ActionKind::Stall { c, up, down, ms },
        };
        actions.push(Action { at, what });
    }
    if rng.chance(100) {
        // All clients at once.
        let at = rng.between(30_000, LENGTH_MS - 60_000);
        actions.extend((0..knobs.clients.len()).map(|c| {
            let what =
                ActionKind::Offline { c, ms: rng.between(1_000, 9_000), silent: rng.chance(500) };
            Action { at: at + rng.below(100), what }
        }));
    }
}

fn server_faults(rng: &mut Rng, knobs: &Knobs, actions: &mut Vec<Action>) {
    let [crash, drain, stop, pause, wall, disk, mint] = swarm(rng, [4, 4, 1, 2, 2, 2, 3]);
    let many = |rng: &mut Rng, weight: u64, most: u64| {
        if weight == 0 { 0 } else { rng.below(most + 1) }
    };
    let at = |rng: &mut Rng| rng.between(10_000, LENGTH_MS - 20_000);
    let down = |rng: &mut Rng| {
        if rng.chance(100) { rng.between(20_000, 50_000) } else { rng.between(300, 5_000) }
    };
    for _ in 0..many(rng, crash, 2) {
        let (at, down_ms, silent) = (at(rng), down(rng), rng.chance(300));
        actions.push(Action { at, what: ActionKind::Crash { down_ms, silent } });
        if rng.chance(300) {
            // The frames after the restart are lost, so that restored state meets gaps.
            let lost = (0..knobs.clients.len()).map(|c| ActionKind::Swallow { c });
            actions.extend(lost.map(|what| Action { at: at + down_ms, what }));
        }
        if rng.chance(200) {
            // A crash loop.
            for n in 1..3 {
                let at = at + n * rng.between(1_000, 8_000);
                actions.push(Action { at, what: ActionKind::Crash { down_ms: 500, silent } });
            }
        }
    }
    for _ in 0..many(rng, drain, 2) {
        let (at, down_ms) = (at(rng), down(rng));
        let notice = rng.below(2_000);
        let freeze = notice + rng.between(500, 8_000);
        let plan = [notice, freeze, rng.below(2_000), rng.below(2_000), 0];
        actions.push(Action { at, what: ActionKind::Drain { plan, down_ms } });
        if rng.chance(300) {
            // The hand-over is slow.
            let (ms, slow) = (freeze + 2_000, rng.below(8_000));
            actions.push(Action { at, what: ActionKind::Disk { ms, slow, fails: 0 } });
            let script = scripts::hasty(rng);
            let what =
                ActionKind::Raw { ch: rng.index(knobs.channels.len()), uid: HASTY_UID, script };
            actions.push(Action { at: at - rng.below(2_000), what });
        }
        if rng.chance(200) {
            let at = at + rng.below(freeze + 2_000);
            actions.push(Action { at, what: ActionKind::Crash { down_ms, silent: false } });
        }
    }
    if stop > 0 && rng.chance(200) {
        actions.push(Action { at: at(rng), what: ActionKind::Stop { down_ms: down(rng) } });
    }
    for _ in 0..many(rng, pause, 1) {
        let ms = if rng.chance(500) { 60_000 } else { rng.between(500, 8_000) };
        actions
            .push(Action { at: at(rng).min(LENGTH_MS - 70_000), what: ActionKind::Pause { ms } });
    }
    for _ in 0..many(rng, wall, 2) {
        let far = if rng.chance(500) { 3_000 } else { 100_000 };
        let ms = i64::try_from(rng.below(2 * far)).unwrap_or(0) - i64::try_from(far).unwrap_or(0);
        actions.push(Action { at: at(rng), what: ActionKind::Wall { ms } });
    }
    for _ in 0..many(rng, disk, 2) {
        let (ms, slow, fails) = (rng.between(1_000, 20_000), rng.below(5_000), rng.below(1_000));
        actions.push(Action { at: at(rng), what: ActionKind::Disk { ms, slow, fails } });
    }
    for _ in 0..many(rng, mint, 3) {
        let (ms, slow, fails) = (rng.between(1_000, 20_000), rng.below(9_000), rng.below(600));
        actions.push(Action { at: at(rng), what: ActionKind::Mint { ms, slow, fails } });
    }
}

fn strangers(rng: &mut Rng, knobs: &Knobs, actions: &mut Vec<Action>) {
    let channels = knobs.channels.len();
    for number in 0..rng.between(6, 14) {
        let at = rng.between(5_000, LENGTH_MS - 10_000);
        let deaf = knobs.capacity < 20_000 && number < 3;
        let number_of = if deaf { scripts::DEAF } else { rng.index(scripts::COUNT) };
        let script = scripts::script(number_of, rng);
        let ch = rng.index(channels);
        let what = ActionKind::Raw { ch, uid: 1_000 + number, script };
        if deaf {
            // More is sent at once than the socket holds.
            let there = (0..knobs.clients.len()).filter(|c| knobs.clients[*c].channel == ch);
            for c in there.take(5) {
                let at = at + rng.between(3_000, 6_000);
                actions.extend((0..10).map(|_| {
                    let cmd = Cmd::Message { to: None, bytes: 3_000 };
                    Action { at, what: ActionKind::Call { c, cmd } }
                }));
            }
        }
        actions.push(Action { at, what });
    }
    for _ in 0..rng.below(10) {
        let at = rng.between(30_000, LENGTH_MS - 10_000);
        let what = u8::try_from(rng.weighted(&[4, 1, 4, 4])).expect("it is small");
        actions.push(Action { at, what: ActionKind::Replay { what } });
    }
    for _ in 0..rng.below(5) {
        let at = rng.between(20_000, LENGTH_MS - 10_000);
        let (ch, c) = (rng.index(channels), rng.index(knobs.clients.len()));
        let what = match rng.below(8) {
            0 => ActionKind::AdminClose { ch, hold_s: *rng.pick(&[0, 10]) },
            1..=4 => ActionKind::AdminKick {
                ch: knobs.clients[c].channel,
                c,
                s: *rng.pick(&[0, 10, 90]),
            },
            _ => ActionKind::AdminLook { ch },
        };
        actions.push(Action { at, what });
    }
}

/// Adds clients that use up every share that they have, in a world with small shares.
fn greedy(rng: &mut Rng, knobs: &mut Knobs, actions: &mut Vec<Action>) {
    if !rng.chance(400) {
        return;
    }
    knobs.shares = [128, 56 * 1024];
    for number in 0..rng.between(1, 2) {
        let at = rng.between(5_000, LENGTH_MS / 2);
        let (ch, uid) = (rng.index(knobs.channels.len()), GREEDY_UID + number);
        actions
            .push(Action { at, what: ActionKind::Raw { ch, uid, script: scripts::greedy(rng) } });
    }
}

//! Scripts of raw clients: one for each thing that a well-behaved client never does. Comes in: the number of a script,
//! randomness. Goes out: its steps. Deliberately absent: the expected effect, which the model knows.

use crate::raw::{Script, Step};
use crate::rng::Rng;
use crate::tokens::TokenSpec;

use Step::{
    Binary, Close, Crowd, Deaf, Deep, Flood, Join, Long, Open, Ping, Resume, Text, Vanish, Wait,
};

/// Number of scripts.
pub(crate) const COUNT: usize = 18;
/// The script that reads nothing.
pub(crate) const DEAF: usize = 15;

fn request(method: &str, params: &str) -> Step {
    Text(format!(r#"{{"jsonrpc":"2.0","id":$id,"method":"{method}","params":{params}}}"#))
}

fn join_with(params: &str) -> Step {
    request("join", &format!(r#"{{"appkey":"$app","channelName":"$room","uid":"$uid"{params}}}"#))
}

fn good(rng: &mut Rng) -> Step {
    let role = if rng.chance(300) { Some(false) } else { None };
    Join {
        token: TokenSpec::Jwt { ttl_ms: 3_600_000, rights: 0, moderate: true },
        role,
        same: true,
    }
}

fn resume(ticket: u8, attempt: u64, off: i64, snapshot: bool) -> Step {
    Resume { ticket, attempt, off, snapshot }
}

/// Requests that are wrong inside a channel.
fn wrong_requests() -> Vec<Step> {
    let long = |n: usize| "x".repeat(n);
    let many = |n: usize| (0..n).map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(",");
    vec![
        Text(r#"{"id":1}"#.to_owned()),
        Text(r#"{"jsonrpc":"2.0","id":-1,"method":"leave"}"#.to_owned()),
        Text("[]".to_owned()),
        Text("[[1]]".to_owned()),
        request("fly", "{}"),
        request("addTasks", r#"{"rtmpTasks":[]}"#),
        request("publish", "[1]"),
        request("kick", "{}"),
        request("publish", r#"{"mediaType":"smell"}"#),
        request("mute", r#"{"mediaType":"screenShare"}"#),
        request("subscribe", r#"{"uid":"07","mediaType":"audio"}"#),
        request("subscribe", r#"{"uid":"18446744073709551616","mediaType":"audio"}"#),
        request("subscribe", r#"{"uid":"$uid","mediaType":"audio"}"#),
        request("subscribe", r#"{"uid":"424242","mediaType":"audio"}"#),
        request("subscribe", r#"{"uid":"100","mediaType":"slaveAudio"}"#),
        request("setRole", r#"{"role":"king"}"#),
        request("kick", r#"{"uid":"$uid"}"#),
        request("kick", r#"{"uid":"424242"}"#),
        request("kick", r#"{"uid":"424242","durationS":999999999}"#),
        request("kick", &format!(r#"{{"uid":"424242","reason":"{}"}}"#, long(300))),
        request("setAttributes", r#"{"attributes":{"":"x"}}"#),
        request("setAttributes", &format!(r#"{{"attributes":{{"a":"{}"}}}}"#, long(5_000))),
        request("setAttributes", &format!(r#"{{"attributes":{{}},"name":"{}"}}"#, long(200))),
        request("sendMessage", &format!(r#"{{"data":"{}"}}"#, long(9_000))),
        request("sendMessage", &format!(r#"{{"data":"x","to":[{}]}}"#, many(65))),
        request("renewToken", r#"{"token":"garbage"}"#),
        join_with(""),
        request("leave", r#"{"x":1}"#),
    ]
}

/// One script.
pub(crate) fn script(number: usize, rng: &mut Rng) -> Script {
    let mut steps = vec![Open];
    match number % COUNT {
        0 => steps.extend([good(rng), Text("not json".to_owned()), Wait(500)]),
        1 => steps.extend([good(rng), Deep(40), Wait(500)]),
        2 => steps.extend([good(rng), Binary, Wait(500)]),
        3 => steps.extend([good(rng), Long(70_000), Wait(500)]),
        4 => {
            steps.push(good(rng));
            let mut wrong = wrong_requests();
            for _ in 0..14 {
                let at = rng.index(wrong.len());
                steps.push(wrong.swap_remove(at));
            }
            steps.push(Close);
        }
        5 => {
            // Uses ids again.
            steps.extend([good(rng), request("setRole", r#"{"role":"audience"}"#)]);
            steps.push(Text(
                r#"{"jsonrpc":"2.0","id":$last,"method":"leave","params":{}}"#.to_owned(),
            ));
            steps.push(Text(
                r#"{"jsonrpc":"2.0","id":$last,"method":"setRole","params":{"role":"audience"}}"#
                    .to_owned(),
            ));
            steps.push(Text(
                r#"{"jsonrpc":"2.0","id":$id,"ack":$last,"method":"ping","params":{}}"#.to_owned(),
            ));
            steps.push(Text(r#"{"jsonrpc":"2.0","id":1,"method":"mute","params":{}}"#.to_owned()));
            steps.push(Close);
        }
        6 => {
            for _ in 0..9 {
                steps.push(request("leave", "{}"));
            }
        }
        7 => steps.push(Wait(11_000)),
        8 => steps.extend([Long(10_000), Long(9_000), Wait(500)]),
        9 => {
            // Joins with invalid parameters.
            let wrong = [
                r#"{"appkey":"$app","channelName":"","uid":"1"}"#,
                r#"{"appkey":"$app","channelName":"é","uid":"1"}"#,
                r#"{"appkey":"nobody","channelName":"$room","uid":"1"}"#,
                r#"{"appkey":"$app","channelName":"$room","uid":"01"}"#,
                r#"{"appkey":"$app","channelName":"$room","uid":"99999999999999999999"}"#,
                r#"{"appkey":"$app","channelName":"$room","uid":"$uid","joinId":"short"}"#,
                r#"{"appkey":"$app","channelName":"$room","uid":"$uid","role":"king"}"#,
                r#"{"appkey":"$app","channelName":"$room"}"#,
            ];
            for _ in 0..4 {
                steps.extend([request("join", wrong[rng.index(wrong.len())]), Wait(300), Open]);
            }
            steps.push(join_with(&format!(r#","name":"{}""#, "n".repeat(200))));
            steps.extend([Open, join_with(r#","attributes":{"":"x"}"#)]);
        }
        10 => {
            let specs = [
                TokenSpec::None,
                TokenSpec::Expired,
                TokenSpec::Future,
                TokenSpec::Garbage,
                TokenSpec::OtherUid,
                TokenSpec::OtherChannel,
                TokenSpec::OtherApp,
            ];
            for _ in 0..5 {
                let token = *rng.pick(&specs);
                steps.extend([Join { token, role: None, same: false }, Wait(300), Open]);
            }
            let token = TokenSpec::Jwt { ttl_ms: 60_000, rights: 2, moderate: false };
            steps.push(Join { token, role: Some(true), same: false });
        }
        11 => steps.extend([good(rng), Flood(60, ping()), Wait(1_000), Close]),
        12 => steps.extend([good(rng), Flood(250, ping()), Wait(2_000), Close]),
        13 => {
            // Every way to resume.
            steps.extend([good(rng), request("publish", "{}"), Wait(1_500)]);
            let ways = [
                resume(0, 1, 0, false),
                resume(0, 1, 0, true),
                resume(0, 1, -3, false),
                resume(0, 1, -2_000, false),
                resume(0, 1, 50, false),
                resume(1, 1, 0, false),
                resume(2, 1, 0, false),
                resume(3, 1, 0, false),
                resume(0, 0, 0, false),
                resume(0, 0, 0, true),
            ];
            for _ in 0..7 {
                if rng.chance(500) {
                    steps.push(Vanish);
                }
                steps.extend([Open, *Box::new(rng.pick(&ways).clone()), Wait(rng.below(2_000))]);
            }
            steps.push(Close);
        }
        14 => steps.extend([good(rng), request("publish", "{}"), Wait(70_000)]),
        DEAF => {
            // Stays alive, but reads nothing.
            steps.extend([good(rng), Deaf]);
            steps.extend((0..60).flat_map(|_| [Wait(1_500), Ping]));
        }
        16 => {
            // The same uid joins from many places.
            for _ in 0..6 {
                let token = TokenSpec::Jwt { ttl_ms: 3_600_000, rights: 0, moderate: false };
                steps.extend([
                    Join { token, role: None, same: false },
                    Wait(rng.between(100, 900)),
                    Open,
                ]);
            }
            steps.extend([good(rng), Ping, Wait(500), Open, good(rng), Wait(500), Close]);
        }
        _ => {
            // More requests at once than may wait.
            steps.push(good(rng));
            let kinds = ["audio", "screenShare", "slaveAudio", "video"];
            for kind in kinds {
                steps.push(request("publish", &format!(r#"{{"mediaType":"{kind}"}}"#)));
            }
            steps.push(Flood(
                36,
                r#"{"jsonrpc":"2.0","id":$id,"method":"mute","params":{}}"#.to_owned(),
            ));
            steps.extend([request("leave", "{}"), Wait(500)]);
        }
    }
    steps
}

/// Reconnects at once after each refusal, which no client of the SDK does.
pub(crate) fn hasty(rng: &mut Rng) -> Script {
    let mut steps = vec![Open, good(rng), Wait(400)];
    for _ in 0..14 {
        steps.extend([Open, resume(0, 1, 0, false), Wait(rng.between(50, 400))]);
    }
    steps.push(Close);
    steps
}

fn ping() -> String {
    r#"{"jsonrpc":"2.0","id":$id,"method":"ping","params":{}}"#.to_owned()
}

/// Uses up every share in every way, again and again: attributes, long events for short commands, bans of unknown uids,
/// roles, messages to many members; then comes back and continues.
pub(crate) fn greedy(rng: &mut Rng) -> Script {
    let text = |method: &str, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":$id,"method":"{method}","params":{params}}}"#)
    };
    let token = TokenSpec::Jwt { ttl_ms: 3_600_000, rights: 0, moderate: true };
    let all = (100..160).map(|uid| format!("\"{uid}\"")).collect::<Vec<_>>().join(",");
    let long = "y".repeat(3_000);
    let mut steps = Vec::new();
    for _ in 0..rng.between(4, 12) {
        let role = if rng.chance(300) { Some(false) } else { None };
        steps.extend([
            Open,
            Crowd { token, role, bytes: *rng.pick(&[3_000, 3_000, 3_000, 4_000, 100]) },
        ]);
        for _ in 0..rng.between(1, 5) {
            steps.push(match rng.below(8) {
                0 => Flood(45, text("setAttributes", r#"{"attributes":{"z":"$id"}}"#)),
                1 => Flood(12, text("sendMessage", &format!(r#"{{"data":"{long}"}}"#))),
                2 => Flood(6, text("sendMessage", &format!(r#"{{"data":"{long}","to":[{all}]}}"#))),
                3..=5 => Flood(30, text("kick", r#"{"uid":"77$id","durationS":604800}"#)),
                6 => Flood(20, text("setRole", r#"{"role":"audience"}"#)),
                _ => Flood(20, text("setRole", r#"{"role":"broadcaster"}"#)),
            });
            if rng.chance(500) {
                steps.push(Wait(rng.between(100, 3_000)));
            }
        }
        steps.push(match rng.below(3) {
            0 => Flood(1, text("leave", "{}")),
            1 => Close,
            _ => Vanish,
        });
    }
    steps
}

//! The engine target. In: a program of joins, frames, lost sockets and resumes, late answers of the environment,
//! crashes, restarts and passing time, in virtual time only. Out: the states that were reached. Checked: the conditions
//! that [`shell`], [`client`] and [`roster`] state after every input, and that nothing is left when all clients are
//! gone. Deliberately absent: I/O.

mod client;
mod disk;
mod roster;
mod shell;

use lianmai_protocol::{ErrorName, UserId, WallTime};
use lianmai_signal_engine::{
    Access, AdminCommand, AdminReply, Answer, AskId, ChannelKey, ConnId, Grant, Input,
};

use crate::calls::{self, APPS, CHANNELS, TOKENS};
use crate::program::Program;
use crate::reached_states::ReachedStates;
use disk::Mode;
use shell::{Issuer, ResumeOptions, Shell};

const MAX_STEPS: usize = 200;
/// Maximum number of connections of one program.
const MAX_CONNECTIONS: usize = 24;

/// Interprets any bytes as the life of one shard.
pub fn engine(data: &[u8]) {
    engine_states(data);
}

/// Like [`engine`], and returns the states that were reached.
pub fn engine_states(data: &[u8]) -> ReachedStates {
    let mut program = Program::new(data);
    let mut shell = Shell::new();
    for _ in 0..MAX_STEPS {
        if program.is_over() {
            break;
        }
        step(&mut shell, &mut program);
    }
    shell.settle();
    audit(&mut shell);
    shell.end()
}

fn step(shell: &mut Shell, program: &mut Program<'_>) {
    match program.byte() & 0x1F {
        0 => _ = shell.connect(),
        1 => {
            if shell.connections() < MAX_CONNECTIONS {
                let conn = shell.connect();
                let join = calls::join(program);
                shell.call(conn, "join", &join);
            }
        }
        2 => {
            let conn = any(shell, program);
            let bytes = program.short();
            shell.frame(conn, bytes);
        }
        // The most common operation has two numbers.
        3 | 4 => {
            let conn = seated(shell, program);
            let (method, params) = calls::any(program);
            shell.call(conn, method, &params);
        }
        5 => {
            let conn = seated(shell, program);
            let calls: Vec<_> = (0..program.byte() % 40).map(|_| calls::any(program)).collect();
            shell.calls(conn, &calls);
        }
        6 => {
            // Arbitrary parameters of the program.
            let conn = any(shell, program);
            let method = calls::method(program);
            let params = program.text();
            let id = shell.next_id(conn);
            let frame =
                format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
            shell.frame(conn, frame.as_bytes());
        }
        7 => {
            // An arbitrary id of the program: used before, too old, or far ahead.
            let conn = seated(shell, program);
            let id = program.huge() >> (program.byte() & 63);
            let (method, params) = calls::any(program);
            shell.call_as(conn, id.max(1), method, &params);
        }
        8 => {
            let conn = any(shell, program);
            shell.drop_socket(conn);
        }
        9 => {
            let conn = seated(shell, program);
            shell.input(Input::Lagging { conn });
        }
        10 => {
            let conn = any(shell, program);
            shell.input(Input::ControlFrame { conn });
        }
        11 => {
            let conn = any(shell, program);
            shell.binary(conn);
        }
        12 => shell.advance(u64::from(program.byte())),
        13 => shell.advance(u64::from(program.word())),
        14 => {
            // A long time, in which all clients send pings.
            for _ in 0..program.byte() & 0xF {
                shell.advance(9_000);
                shell.ping_all();
            }
        }
        15 => {
            // The process is suspended.
            let ms = u64::from(program.word());
            if ms > 10_000 {
                shell.observed.states.note("process", "stood still");
            }
            shell.now.mono = shell.now.mono + ms;
            shell.input(Input::Tick);
        }
        16 => {
            // The wall clock is changed.
            let ms = u64::from(program.word()) << (program.byte() & 0xF);
            let wall = shell.now.wall.0;
            shell.now.wall =
                WallTime(if program.flag() { wall + ms } else { wall.saturating_sub(ms) });
            shell.input(Input::Tick);
        }
        17 => {
            shell.issuer = program.pick(&[Issuer::AtOnce, Issuer::Hold, Issuer::Fail]);
        }
        18 => {
            let fail = program.flag();
            shell.answer_mint(fail);
        }
        19 => {
            // An answer to no question, or a second answer.
            let id = AskId(u64::from(program.byte()));
            shell.input(Input::Answer { id, answer: Answer::Minted(None) });
        }
        20 => {
            let grant = grant(program.pick(&TOKENS), shell.now.wall);
            shell.answer_token(grant);
        }
        21 => {
            if let Some(generation) = shell.minted(usize::from(program.byte())) {
                shell.input(Input::MediaFlow { generation });
            }
        }
        22 => {
            let (which, whom) = (program.byte(), program.byte());
            if whom == 0xFF {
                let Some((generation, viewer)) = shell.play(usize::from(which)) else { return };
                _ = shell.authorize(generation, Access::Play { viewer });
                return;
            }
            let Some(generation) = shell.minted(usize::from(which)) else { return };
            let access = match shell.mid(usize::from(whom)) {
                Some(viewer) if program.flag() => Access::Play { viewer },
                _ => Access::Publish,
            };
            _ = shell.authorize(generation, access);
        }
        23 => admin(shell, program),
        24 => audit(shell),
        25 => shell.ping_all(),
        26 => {
            if program.byte() == 0xFF {
                shell.stop();
            }
        }
        27 => {
            // A long frame, possibly too long.
            let conn = any(shell, program);
            let frame = vec![program.byte(); 2 * usize::from(program.word())];
            shell.frame(conn, &frame);
        }
        28 => {
            let old = any(shell, program);
            let bits = program.byte();
            let mut change = |ticket: &str| {
                if bits & 0x30 == 0x30 { changed(program, ticket) } else { ticket.to_owned() }
            };
            if shell.connections() < MAX_CONNECTIONS {
                shell.resume(
                    old,
                    ResumeOptions {
                        behind: u64::from(bits & 3),
                        ahead: bits & 8 != 0,
                        snapshot: bits & 4 != 0,
                        stale: bits & 0xC0 == 0xC0,
                        change: &mut change,
                    },
                );
            }
        }
        29 => match program.byte() & 7 {
            0 => shell.set_disk(Mode::AtOnce),
            1 => shell.set_disk(Mode::Hold),
            2 => shell.set_disk(Mode::Fail),
            // An answer to no question, or too early.
            3 => {
                let id = AskId(u64::from(program.byte()) + 1_000_000);
                shell.input(Input::Answer { id, answer: Answer::Stored(true) });
            }
            6 => shell.write_one(true),
            7 => shell.write_one(false),
            _ => shell.flush(),
        },
        30 => match program.byte() & 3 {
            0 => shell.drain(),
            1 => {
                shell.drain();
                shell.advance(2_000);
                shell.flush();
                shell.next_process();
            }
            2 => shell.next_process(),
            _ => shell.damage(program),
        },
        _ => shell.input(Input::Tick),
    }
}

/// Any connection, in any state, possibly one that never existed.
fn any(shell: &Shell, program: &mut Program<'_>) -> ConnId {
    ConnId(u64::from(program.byte()) % (shell.connections() as u64 + 2))
}

/// A joined connection, if there is one.
fn seated(shell: &Shell, program: &mut Program<'_>) -> ConnId {
    let seated = shell.seated();
    let which = usize::from(program.byte());
    if seated.is_empty() { ConnId(0) } else { seated[which % seated.len()] }
}

fn key(app: &str, name: &str) -> ChannelKey {
    ChannelKey { appkey: app.parse().expect("valid"), name: name.parse().expect("valid") }
}

fn admin(shell: &mut Shell, program: &mut Program<'_>) {
    let channel = key(program.pick(&APPS), program.pick(&CHANNELS));
    let uid = UserId(u64::from(program.byte() & 7));
    let seconds = u32::from(program.word());
    let command = match program.byte() & 3 {
        0 => AdminCommand::ListChannels,
        1 => AdminCommand::GetChannel(channel),
        2 => AdminCommand::Kick { channel, uid, duration_s: seconds, reason: None },
        _ => AdminCommand::CloseChannel {
            channel,
            hold_s: seconds,
            reason: Some("by hand".to_owned()),
        },
    };
    _ = shell.admin(command);
}

/// The grant of a token.
fn grant(token: &str, now: WallTime) -> Result<Grant, ErrorName> {
    let mut grant = Grant::debug();
    match token {
        "all" => grant.rights.moderate = true,
        "little" => {
            grant.rights = serde_json::from_str(r#"{"publish":["audio"],"subscribe":["video"]}"#)
                .expect("rights");
        }
        "short" => {
            grant.issued_at = Some(now);
            grant.expires = Some(WallTime(now.0 + 45_000));
            grant.ends_membership = true;
        }
        "old" => grant.issued_at = Some(WallTime(now.0.saturating_sub(600_000))),
        _ => return Err(ErrorName::TokenInvalid),
    }
    Ok(grant)
}

/// Asserts that the counters match the channels that the admin API lists, and are within their limits.
fn audit(shell: &mut Shell) {
    // A process that is stopping answers nothing.
    let Some(Ok(AdminReply::Channels(channels))) = shell.admin(AdminCommand::ListChannels) else {
        return;
    };
    let stats = shell.stats();
    let limits = shell.limits().clone();
    assert_eq!(stats.channels, channels.len());
    assert!(stats.channels <= limits.channels);
    assert_eq!(stats.members, channels.iter().map(|channel| channel.members).sum::<usize>());
    let (mut connected, mut streams) = (0, 0);
    for view in channels {
        let reply = shell.admin(AdminCommand::GetChannel(view.channel.clone()));
        let Some(Ok(AdminReply::Channel(again, members))) = reply else { panic!("it was listed") };
        assert_eq!(again, view);
        assert_eq!(members.len(), view.members);
        assert!((1..=limits.members).contains(&members.len()), "within the limit, and never empty");
        assert!(view.broadcasters <= limits.broadcasters);
        let broadcasters = members.iter().filter(|member| member.role.as_str() == "broadcaster");
        assert_eq!(broadcasters.count(), view.broadcasters);
        for member in members {
            connected += usize::from(member.connected);
            let kinds: Vec<_> = member.published.iter().map(|kind| kind.as_str()).collect();
            // Audio and video share one URL.
            streams += usize::from(kinds.iter().any(|kind| matches!(*kind, "audio" | "video")));
            streams += kinds.iter().filter(|kind| !matches!(**kind, "audio" | "video")).count();
            assert!(kinds.is_empty() || member.role.as_str() == "broadcaster");
        }
    }
    assert_eq!(stats.connected, connected);
    assert_eq!(stats.streams, streams);
}

/// A ticket with a changed byte, or with bytes added or removed.
fn changed(program: &mut Program<'_>, ticket: &str) -> String {
    let mut bytes = ticket.as_bytes().to_vec();
    let at = usize::from(program.word()) % bytes.len().max(1);
    match program.byte() & 3 {
        0 => bytes.truncate(at),
        1 => bytes.extend_from_slice(program.short()),
        2 => {
            bytes[at] = program.pick(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123-_=")
        }
        _ => bytes[at] ^= 1 << (program.byte() & 7),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

//! A scenario: the parameters of a world, and a list of actions with their times. It is explicit, so that a failing
//! scenario can be shrunk by leaving actions out, and can be kept when the meaning of its seed has changed. Comes in
//! and goes out: values, and their text. Deliberately absent: how actions are chosen (`generator.rs`) and executed
//! (`act.rs`).

use serde::{Deserialize, Serialize};

use crate::raw::Script;
use crate::tokens::TokenSpec;

/// One world from its beginning to its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) knobs: Knobs,
    pub(crate) actions: Vec<Action>,
}

/// The parameters of a world.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Knobs {
    /// Milliseconds until the faults stop.
    pub(crate) length_ms: u64,
    /// The app of each channel.
    pub(crate) channels: Vec<usize>,
    pub(crate) clients: Vec<ClientSpec>,
    pub(crate) shards: usize,
    /// Ping, dead after, grace, media idle, media cap.
    pub(crate) timers: [u64; 5],
    /// Most members, broadcasters, channels of a shard, subscriptions.
    pub(crate) limits: [usize; 4],
    /// Most bans of a shard, bytes of attributes of a channel.
    #[serde(default = "usual_shares")]
    pub(crate) shares: [usize; 2],
    pub(crate) log_bytes: usize,
    pub(crate) max_lag: usize,
    /// Most bytes that a socket holds each way.
    pub(crate) capacity: usize,
    pub(crate) delay: (u64, u64),
    pub(crate) mint_ms: u64,
    pub(crate) mint_fails: u64,
    /// How long a URL is handed out again.
    pub(crate) url_ms: u64,
    pub(crate) store_ms: u64,
    pub(crate) store_fails: u64,
    /// Per mille: how often an app subscribes to a new stream, joins again after an end, calls from inside a handler,
    /// and pushes or plays a URL that it received.
    pub(crate) subscribes: u64,
    pub(crate) rejoins: u64,
    pub(crate) reenters: u64,
    pub(crate) media: u64,
    /// Connected clients send messages while the world is too quiet.
    pub(crate) chatter: bool,
}

/// Limits that no client reaches.
pub(crate) fn usual_shares() -> [usize; 2] {
    [100_000, 192 * 1024]
}

/// The identity of a client.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ClientSpec {
    pub(crate) uid: u64,
    pub(crate) channel: usize,
    /// Broadcaster, audience, or the server's choice.
    pub(crate) role: Option<bool>,
    pub(crate) token: TokenSpec,
}

/// One action.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Action {
    pub(crate) at: u64,
    pub(crate) what: ActionKind,
}

/// Kinds of actions. `c` is the number of a client, `ch` that of a channel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ActionKind {
    /// The app makes a call.
    Call {
        c: usize,
        cmd: Cmd,
    },
    /// The app is frozen; `clock` says whether its clock goes on.
    Suspend {
        c: usize,
        ms: u64,
        clock: bool,
    },
    /// The operating system reports another network.
    Network {
        c: usize,
    },
    /// The client cannot reach the server.
    Offline {
        c: usize,
        ms: u64,
        silent: bool,
    },
    /// The client does not read.
    Slow {
        c: usize,
        ms: u64,
    },
    /// The client's process ends and starts again; the ticket is lost.
    Restart {
        c: usize,
    },
    /// Both sides learn that the socket is cut; bytes under way may be lost.
    Cut {
        c: usize,
        lose: bool,
    },
    /// The next frame from the server is lost, which cannot happen with a real WebSocket.
    Swallow {
        c: usize,
    },
    /// The client's next sockets are cut as soon as they are open: answers are lost.
    Trip {
        c: usize,
        times: u32,
    },
    /// The socket is cut in one or both directions, and neither side is informed.
    Half {
        c: usize,
        up: bool,
        down: bool,
    },
    /// Nothing arrives for a while.
    Stall {
        c: usize,
        up: bool,
        down: bool,
        ms: u64,
    },
    /// The server process crashes.
    Crash {
        down_ms: u64,
        silent: bool,
    },
    /// The server is told to drain.
    Drain {
        plan: [u64; 5],
        down_ms: u64,
    },
    /// The server is told to stop at once.
    Stop {
        down_ms: u64,
    },
    /// The server process stands still.
    Pause {
        ms: u64,
    },
    /// The wall clock jumps.
    Wall {
        ms: i64,
    },
    /// The disk is slow or fails.
    Disk {
        ms: u64,
        slow: u64,
        fails: u64,
    },
    /// The issuer of URLs is slow or fails.
    Mint {
        ms: u64,
        slow: u64,
        fails: u64,
    },
    AdminKick {
        ch: usize,
        c: usize,
        s: u32,
    },
    AdminClose {
        ch: usize,
        hold_s: u32,
    },
    AdminLook {
        ch: usize,
    },
    /// A client without the SDK.
    Raw {
        ch: usize,
        uid: u64,
        script: Script,
    },
    /// The adversary replays what it has recorded: 0 tickets, 1 join ids, 2 push URLs, 3 pull URLs.
    Replay {
        what: u8,
    },
}

/// Calls of an app. `of` is the number of a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Cmd {
    Join {
        token: Option<TokenSpec>,
        role: Option<bool>,
        name: usize,
    },
    Leave,
    /// Kind by number; 4 is audio and video.
    Publish {
        kind: usize,
    },
    Unpublish {
        kind: usize,
        of: Option<usize>,
    },
    Subscribe {
        of: usize,
        kind: usize,
    },
    Unsubscribe {
        of: usize,
        kind: usize,
    },
    SetRole {
        broadcaster: bool,
        of: Option<usize>,
    },
    Mute {
        kind: usize,
        on: bool,
        of: Option<usize>,
    },
    Kick {
        of: usize,
        s: u32,
    },
    Close {
        hold_s: u32,
    },
    Message {
        to: Option<Vec<usize>>,
        bytes: usize,
    },
    Attributes {
        channel: bool,
        key: usize,
        bytes: Option<usize>,
        name: Option<usize>,
    },
    Renew {
        token: TokenSpec,
    },
    Report {
        deep: usize,
    },
    Tasks,
}

impl ActionKind {
    /// The client that the action affects.
    pub(crate) fn client(&self) -> Option<usize> {
        match self {
            ActionKind::Call { c, .. }
            | ActionKind::Suspend { c, .. }
            | ActionKind::Network { c }
            | ActionKind::Offline { c, .. }
            | ActionKind::Slow { c, .. }
            | ActionKind::Restart { c }
            | ActionKind::Cut { c, .. }
            | ActionKind::Swallow { c }
            | ActionKind::Trip { c, .. }
            | ActionKind::Half { c, .. }
            | ActionKind::Stall { c, .. }
            | ActionKind::AdminKick { c, .. } => Some(*c),
            _ => None,
        }
    }
}

impl Scenario {
    /// As text: one line for the seed, one for the parameters, one for each action.
    pub(crate) fn to_text(&self) -> String {
        let json = |value: serde_json::Result<String>| value.expect("it has string keys only");
        let mut text = format!("{}\n{}\n", self.seed, json(serde_json::to_string(&self.knobs)));
        for action in &self.actions {
            text.push_str(&json(serde_json::to_string(action)));
            text.push('\n');
        }
        text
    }

    pub(crate) fn from_text(text: &str) -> Result<Self, String> {
        let mut lines =
            text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        let seed = lines.next().and_then(|line| line.trim().parse().ok()).ok_or("no seed")?;
        let read = |line: Option<&str>| line.ok_or("no knobs").map(str::to_owned);
        let knobs =
            serde_json::from_str(&read(lines.next())?).map_err(|e| format!("knobs: {e}"))?;
        let actions = lines
            .map(|line| serde_json::from_str(line).map_err(|e| format!("{line}: {e}")))
            .collect::<Result<_, _>>()?;
        Ok(Scenario { seed, knobs, actions })
    }
}

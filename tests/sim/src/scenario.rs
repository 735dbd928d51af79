//! What is done to a world: how it is made, and a list of actions with their times. A scenario is explicit, so that
//! a failing one can be shrunk by leaving things out, and kept when the meaning of its seed has changed. Comes in and
//! goes out: values, and their text. Deliberately absent: where they come from (`generator.rs`) and what they do
//! (`world.rs`).

use serde::{Deserialize, Serialize};

use crate::raw::Script;
use crate::tokens::TokenSpec;

/// One world from its begin to its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) knobs: Knobs,
    pub(crate) actions: Vec<Action>,
}

/// How a world is made.
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
    /// URLs are handed out again for so long.
    pub(crate) url_ms: u64,
    pub(crate) store_ms: u64,
    pub(crate) store_fails: u64,
    /// Per mille: an app subscribes to what it sees, comes back after an end, calls from inside a handler, pushes
    /// and plays what it has URLs for.
    pub(crate) subscribes: u64,
    pub(crate) rejoins: u64,
    pub(crate) reenters: u64,
    pub(crate) media: u64,
    /// Whoever is there says something where a world is too quiet.
    pub(crate) chatter: bool,
}

/// More than anybody uses up.
pub(crate) fn usual_shares() -> [usize; 2] {
    [100_000, 192 * 1024]
}

/// Who a client is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ClientSpec {
    pub(crate) uid: u64,
    pub(crate) channel: usize,
    /// Broadcaster, audience, or what the server makes of it.
    pub(crate) role: Option<bool>,
    pub(crate) token: TokenSpec,
}

/// One thing that is done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Action {
    pub(crate) at: u64,
    pub(crate) what: What,
}

/// Things that can be done. `c` is a client by number, `ch` a channel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum What {
    /// The app calls.
    Call {
        c: usize,
        cmd: Cmd,
    },
    /// The app is frozen; its clock goes on or not.
    Suspend {
        c: usize,
        ms: u64,
        clock: bool,
    },
    /// The system says that the network is another one.
    Network {
        c: usize,
    },
    /// Whatever it tries, it reaches nobody.
    Offline {
        c: usize,
        ms: u64,
        silent: bool,
    },
    /// Does not read.
    Slow {
        c: usize,
        ms: u64,
    },
    /// The client's process ends and begins again; the ticket is lost.
    Restart {
        c: usize,
    },
    /// Both sides hear of it; what is under way may be lost.
    Cut {
        c: usize,
        lose: bool,
    },
    /// The next frame from the server is lost on the way, which no WebSocket does.
    Swallow {
        c: usize,
    },
    /// Its next sockets are cut as soon as they are open: answers are lost.
    Trip {
        c: usize,
        times: u32,
    },
    /// Nobody hears of it.
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
    /// The server process is gone at once.
    Crash {
        down_ms: u64,
        silent: bool,
    },
    /// It is told to stop.
    Drain {
        plan: [u64; 5],
        down_ms: u64,
    },
    /// It is told to stop at once.
    Stop {
        down_ms: u64,
    },
    /// It stands still.
    Pause {
        ms: u64,
    },
    /// The wall clock jumps.
    Wall {
        ms: i64,
    },
    /// The disk takes long, or says no.
    Disk {
        ms: u64,
        slow: u64,
        fails: u64,
    },
    /// Who issues URLs takes long, or says no.
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
    /// A client that is not ours.
    Raw {
        ch: usize,
        uid: u64,
        script: Script,
    },
    /// Somebody tries what he has seen: 0 tickets, 1 join ids, 2 push URLs, 3 pull URLs.
    Replay {
        what: u8,
    },
}

/// What an app can call. `of` is a client by number.
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

impl What {
    /// The client that it is about.
    pub(crate) fn client(&self) -> Option<usize> {
        match self {
            What::Call { c, .. }
            | What::Suspend { c, .. }
            | What::Network { c }
            | What::Offline { c, .. }
            | What::Slow { c, .. }
            | What::Restart { c }
            | What::Cut { c, .. }
            | What::Swallow { c }
            | What::Trip { c, .. }
            | What::Half { c, .. }
            | What::Stall { c, .. }
            | What::AdminKick { c, .. } => Some(*c),
            _ => None,
        }
    }
}

impl Scenario {
    /// As text: one line for how it is made, one for each action.
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

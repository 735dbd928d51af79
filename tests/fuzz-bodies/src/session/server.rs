//! The messages of a server to a session. In: the requests that the session sent, and the program. Out: answers, events
//! and notices as text, correct unless the program decides otherwise. Deliberately absent: the engine.

use lianmai_protocol::message::{Call, Request};
use serde_json::{Value, json};

use super::is_command;
use crate::program::Program;

const EPOCHS: [&str; 2] = ["ujzdegxdncf32epf3dha", "v4tahd6qlyz3bsmwk7na"];
const MIDS: [&str; 3] = ["dzdocis2jhtlgmxgedna", "3u55xtplpft7v4seh2ka", "j72ceuvw75efr6edt4sa"];
const PUBS: [&str; 3] = ["i3r2wyojfljooa7lqsaa", "2xuid5zzzzg6zdmen4ka", "kq4mzt7xw2h6yb3nrs5a"];
/// The address in redirects.
pub(super) const OTHER_URL: &str = "ws://other/v1/signal";
const GEN: &str = "66tfjgvq6kbnxjbtfqxkwovomi";
const KINDS: [&str; 5] = ["audio", "video", "screenShare", "slaveAudio", "smell"];
const ERRORS: [&str; 6] =
    ["forbidden", "rateLimited", "notJoined", "banned", "draining", "somethingNew"];

const ACTIONS: [&str; 6] = ["reconnect", "rejoin", "renewToken", "redirect", "none", "x"];

/// The server's side of the connection.
pub(super) struct Server {
    waiting: Vec<Request>,
    epoch: usize,
    seq: u64,
    /// Whether it announced a restart.
    pub(super) restarts: bool,
}

impl Default for Server {
    fn default() -> Self {
        Server { waiting: Vec::new(), epoch: 0, seq: 10, restarts: false }
    }
}

impl Server {
    /// Starts another connection, on which no request is pending.
    pub(super) fn begin(&mut self) {
        self.waiting.clear();
    }

    pub(super) fn asked(&mut self, request: Request) {
        self.waiting.push(request);
    }

    /// Number of unanswered commands.
    pub(super) fn commands(&self) -> usize {
        self.waiting.iter().filter(|request| is_command(&request.call)).count()
    }

    /// Advances the channel while the client is away.
    pub(super) fn forget(&mut self, program: &mut Program<'_>) {
        self.seq = self.seq.saturating_add(u64::from(program.byte() & 3));
        self.epoch = usize::from(program.flag());
    }

    /// Answers a pending request, or one that does not exist.
    pub(super) fn answer(&mut self, program: &mut Program<'_>, wrongly: bool) -> Option<String> {
        let which = usize::from(program.byte());
        if wrongly {
            return Some(self.wrong_answer(program, which));
        }
        if self.waiting.is_empty() {
            return None;
        }
        let request = self.waiting.remove(which % self.waiting.len());
        let how = program.byte();
        if how & 0xF == 0xF {
            return Some(refusal(program, request.id.0));
        }
        let seq = self.seq;
        let result = match &request.call {
            Call::Join(_) => self.joined(program),
            Call::Reconnect(asked) => self.resumed(program, asked.seq),
            Call::Publish(_) => json!({
                "uid": "7", "url": "rtmp://host/live/x", "urls": {}, "gen": GEN, "seq": seq,
            }),
            Call::Subscribe(asked) => json!({
                "uid": asked.uid, "url": "rtmp://host/live/y", "urls": {}, "seq": seq,
            }),
            Call::SendMessage(_) => json!({"seq": seq, "delivered": 1}),
            Call::RenewToken(_) => json!({
                "seq": seq, "rights": {"publish": ["audio"]}, "tokenExpiresInMs": program.long(),
            }),
            Call::Report(_) => json!({}),
            Call::Ping(_) => json!({"epoch": EPOCHS[self.epoch], "seq": seq}),
            _ => json!({"seq": seq}),
        };
        Some(json!({"jsonrpc": "2.0", "id": request.id, "result": result}).to_string())
    }

    fn wrong_answer(&mut self, program: &mut Program<'_>, id: usize) -> String {
        let result = match program.byte() & 7 {
            0 => self.joined(program),
            1 => json!({"seq": self.seq.saturating_add(1)}),
            2 => json!({"epoch": EPOCHS[0], "seq": program.byte()}),
            3 => json!({}),
            4 => return refusal(program, id as u64),
            5 => return r#"{"jsonrpc":"2.0","id":null,"result":{}}"#.to_owned(),
            6 => json!({"seq": program.huge()}),
            _ => json!([]),
        };
        json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()
    }

    fn joined(&mut self, program: &mut Program<'_>) -> Value {
        let bits = program.byte();
        self.epoch = usize::from(bits & 1);
        self.seq = if bits & 2 == 0 { 10 } else { program.huge() };
        let role = if bits & 4 == 0 { "broadcaster" } else { "audience" };
        let member = |uid: &str, mid: &str, streams: Value| {
            json!({
                "uid": uid, "mid": mid, "role": "broadcaster", "streams": streams,
            })
        };
        let mut members = Vec::new();
        if bits & 8 != 0 {
            let streams = json!([{"mediaType": "audio", "pub": PUBS[0]}]);
            members.push(member("8", MIDS[1], streams));
        }
        if role == "broadcaster" {
            members.push(member("7", MIDS[0], json!([])));
        }
        let ms = |program: &mut Program<'_>, usual: u64| {
            if bits & 16 == 0 { usual } else { program.huge() >> (program.byte() & 63) }
        };
        let timers = json!({
            "pingIntervalMs": ms(program, 10_000), "deadAfterMs": ms(program, 25_000),
            "graceMs": ms(program, 30_000), "mediaCapMs": ms(program, 300_000),
        });
        let mut own = json!({
            "uid": "7", "mid": MIDS[0], "role": role,
            "rights": {"publish": KINDS, "subscribe": KINDS, "broadcast": true, "message": true},
        });
        if bits & 32 != 0 {
            own["tokenExpiresInMs"] = json!(program.huge() >> (program.byte() & 63));
        }
        if bits & 64 != 0 {
            own["published"] = json!([{"mediaType": "audio", "pub": PUBS[1], "gen": GEN}]);
            own["subscriptions"] = json!([{"uid": "8", "mediaType": "audio", "pub": PUBS[0]}]);
        }
        json!({
            "cid": "3", "uid": "7", "mid": MIDS[0], "sessionId": MIDS[2], "deploymentId": "here",
            "ticket": "AWFiYw", "k": 1, "epoch": EPOCHS[self.epoch], "seq": self.seq,
            "channel": {"name": "room", "creator": "7"}, "members": members, "self": own,
            "memberCount": members.len(), "timers": timers,
        })
    }

    /// Answers `reconnect`: with a replay from the event that the session has seen, with a snapshot, or with a refusal.
    fn resumed(&mut self, program: &mut Program<'_>, seen: u64) -> Value {
        let bits = program.byte();
        let k = u64::from(bits & 7);
        match bits >> 4 & 3 {
            0 => {
                let replayed = self.seq.saturating_sub(seen);
                json!({"outcome": "replayed", "ticket": "AWFiZA", "k": k, "replayed": replayed,
                    "messages": bits >> 6})
            }
            1 | 2 => {
                let snapshot = self.joined(program);
                let reason = program.pick(&["epochChanged", "logTrimmed", "ahead", "asked", "x"]);
                json!({"outcome": "snapshot", "reason": reason, "ticket": "AWFiZA", "k": k,
                    "messagesLost": bits >> 6, "restore": bits & 8 != 0, "snapshot": snapshot})
            }
            _ => {
                let reason = program.pick(&[
                    "invalid",
                    "expired",
                    "staleAttempt",
                    "gone",
                    "left",
                    "kicked",
                    "replaced",
                    "tokenExpired",
                    "channelClosed",
                    "draining",
                    "somethingNew",
                ]);
                let action = program.pick(&ACTIONS);
                json!({"outcome": "refused", "reason": reason, "action": action})
            }
        }
    }

    /// The next event of the log, or one that is out of order.
    pub(super) fn event(&mut self, program: &mut Program<'_>) -> String {
        let bits = program.byte();
        let (mut epoch, mut seq) = (self.epoch, self.seq.saturating_add(1));
        match program.byte() {
            0xFF => epoch = 1 - epoch,
            0xFE => seq = program.huge(),
            0xF0..=0xFD => seq = seq.saturating_sub(u64::from(program.byte() & 7)),
            0xEF => seq = seq.saturating_add(1),
            _ => self.seq = seq,
        }
        let who = usize::from(bits >> 6) % 3;
        let (uid, mid) = (["7", "8", "9"][who], MIDS[who]);
        let kind = KINDS[usize::from(bits >> 4 & 3)];
        let mut params = match bits & 0xF {
            0 => json!({"uid": uid, "mid": mid}),
            1 => json!({"uid": uid, "mid": mid, "reason": "left"}),
            2 => json!({"uid": uid, "mid": mid, "name": program.text(), "attributes": {"a": "b"}}),
            3 => json!({"attributes": {"t": program.text()}}),
            4 | 5 => {
                let role = program.pick(&["broadcaster", "audience", "king"]);
                json!({"uid": uid, "mid": mid, "role": role})
            }
            6 | 7 => {
                let publication = program.pick(&PUBS);
                json!({"uid": uid, "mid": mid, "mediaType": kind, "pub": publication})
            }
            8 | 9 => json!({"uid": uid, "mid": mid, "mediaType": kind}),
            10 => json!({"uid": uid, "data": program.text()}),
            11 => json!({
                "taskId": program.pick(&["a", "b"]), "uid": uid, "streamUrl": "rtmp://h/a/***",
                "code": program.pick(&[0, 505, 506, 511]), "msg": "", "revision": program.byte(),
            }),
            12 => json!({"cid": "3", "reason": "closed"}),
            _ => json!({"more": program.text()}),
        };
        params["epoch"] = EPOCHS[epoch].into();
        params["seq"] = seq.into();
        let method = [
            "clientJoin",
            "clientLeave",
            "clientUpdate",
            "channelUpdate",
            "roleChanged",
            "roleChanged",
            "streamAdded",
            "streamRemoved",
            "muted",
            "unmuted",
            "message",
            "rtmpTasksStatus",
            "liveRoomClose",
            "somethingNew",
            "somethingNewer",
            "clientJoin",
        ][usize::from(bits & 0xF)];
        json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string()
    }

    pub(super) fn notice(&mut self, program: &mut Program<'_>) -> String {
        let (method, params) = match program.byte() & 0xF {
            0 => ("memberCount", json!({"count": program.huge()})),
            1 => {
                let ms = program.huge() >> (program.byte() & 63);
                ("tokenWillExpire", json!({"expiresInMs": ms}))
            }
            2 => ("kicked", json!({"durationS": program.word(), "reason": program.text()})),
            3 => {
                let url = "rtmp://host/live/z";
                let direction = program.pick(&["push", "pull"]);
                let kind = program.pick(&KINDS);
                let uid = program.pick(&["7", "8"]);
                let params = json!({
                    "uid": uid, "direction": direction, "mediaType": kind, "url": url, "urls": {},
                });
                ("syncDone", params)
            }
            4 => {
                self.restarts = true;
                let mut ms = || program.huge() >> (program.byte() & 63);
                let params = json!({
                    "retryAfterMs": ms(), "jitterMs": ms(), "deadlineMs": ms(),
                });
                ("serverRestarting", params)
            }
            5 => (
                "networkQuality",
                json!({"uid": "8", "direction": "pull", "level": program.byte()}),
            ),
            6 => ("message", json!({"uid": "8", "data": program.text(), "n": program.byte()})),
            7 | 8 => {
                let code = program.pick(&[1000, 4000, 4001, 4003, 4004, 4500, 4501, 4503, 4507, 9]);
                let action = program.pick(&ACTIONS);
                let wait = program.huge() >> (program.byte() & 63);
                (
                    "closing",
                    json!({
                        "code": code, "reason": "why", "action": action, "retryAfterMs": wait,
                        "url": OTHER_URL,
                    }),
                )
            }
            _ => ("somethingNew", json!({"x": program.text()})),
        };
        json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string()
    }
}

fn refusal(program: &mut Program<'_>, id: u64) -> String {
    let name = program.pick(&ERRORS);
    json!({
        "jsonrpc": "2.0", "id": id,
        "error": {"code": 1, "message": "no", "data": {"name": name, "retryable": false}},
    })
    .to_string()
}

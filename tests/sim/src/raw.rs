//! Clients without the SDK: each executes a script, byte for byte. Most are hostile. Comes in: a script, and the
//! answers of the server. Goes out: frames. Deliberately absent: reactions that are not in the script; only what a
//! resume needs is kept.

use lianmai_protocol::codec::{self, ServerMessage};
use lianmai_protocol::message::session::{Join, Joined, Outcome, Reconnect, Resumed, Want};
use lianmai_protocol::message::{Call, Request};
use lianmai_protocol::{Epoch, RequestId, Role, UserId};
use serde::{Deserialize, Serialize};

use crate::net::{End, Frame, LinkId, Way};
use crate::rng::Rng;
use crate::tokens::{self, TokenSpec};
use crate::world::{Ev, World, log};

pub(crate) type Script = Vec<Step>;

/// One step of a script.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Step {
    Open,
    /// Text in which `$id`, `$uid`, `$room` and `$app` are replaced.
    Text(String),
    Join {
        token: TokenSpec,
        role: Option<bool>,
        same: bool,
    },
    /// Joins as a new member with this many bytes of attributes.
    Crowd {
        token: TokenSpec,
        role: Option<bool>,
        bytes: usize,
    },
    /// `ticket`: 0 newest, 1 the one before, 2 the first, 3 forged. `off` is added to the sequence number.
    Resume {
        ticket: u8,
        attempt: u64,
        off: i64,
        snapshot: bool,
    },
    /// Sends the text this many times at once.
    Flood(u32, String),
    /// A text of this many bytes; a text nested this deep.
    Long(usize),
    Deep(usize),
    Binary,
    Ping,
    /// Sends nothing for this many milliseconds.
    Wait(u64),
    /// Reads nothing from here on.
    Deaf,
    Close,
    /// Disappears without a close.
    Vanish,
}

pub(crate) struct Raw {
    script: Script,
    at: usize,
    pub(crate) link: Option<LinkId>,
    pub(crate) reads: bool,
    app: &'static str,
    room: String,
    uid: u64,
    rng: Rng,
    last_id: u64,
    join_id: String,
    tickets: Vec<String>,
    attempt: u64,
    epoch: Option<Epoch>,
    seq: u64,
    messages: u64,
    answers: u64,
    outgoing: Vec<u8>,
}

impl World {
    pub(crate) fn add_raw(&mut self, ch: usize, uid: u64, script: Script) {
        let index = self.raws.len();
        let app = tokens::APPS[self.scenario.knobs.channels[ch]];
        let mut rng = self.rng.fork(50_000 + index as u64);
        let join_id = format!("raw-{index}-{:016x}", rng.next());
        self.raws.push(Raw {
            script,
            at: 0,
            link: None,
            reads: true,
            app,
            room: format!("room {ch}"),
            uid,
            rng,
            last_id: 0,
            join_id,
            tickets: Vec::new(),
            attempt: 0,
            epoch: None,
            seq: 0,
            messages: 0,
            answers: 0,
            outgoing: Vec::new(),
        });
        self.raw_step(index);
    }

    pub(crate) fn raw_step(&mut self, r: usize) {
        let at = self.raws[r].at;
        let Some(step) = self.raws[r].script.get(at).cloned() else { return };
        self.raws[r].at += 1;
        let mut pause = 1 + self.raws[r].rng.skewed(200);
        match step {
            Step::Open => {
                if let Some(old) = self.raws[r].link.take() {
                    self.raw_lets_go(old);
                }
                self.raws[r].outgoing.clear();
                self.raws[r].reads = true;
                let id = self.connect(End::Raw(r));
                self.raws[r].link = Some(id);
                // Continues when the socket is open.
                return;
            }
            Step::Text(text) => self.raw_text(r, &text),
            Step::Join { token, role, same } => self.raw_join(r, token, role, same, 0),
            Step::Crowd { token, role, bytes } => self.raw_join(r, token, role, false, bytes),
            Step::Resume { ticket, attempt, off, snapshot } => {
                self.raw_resume(r, ticket, attempt, off, snapshot);
            }
            Step::Flood(count, text) => {
                for _ in 0..count {
                    self.raw_text(r, &text);
                }
            }
            Step::Long(bytes) => {
                let text = format!("{{\"jsonrpc\":\"{}\"}}", "x".repeat(bytes));
                self.raw_text(r, &text);
            }
            Step::Deep(depth) => {
                let text = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
                self.raw_text(r, &text);
            }
            Step::Binary => self.raw_send(r, &Frame::Binary(vec![1, 2, 3])),
            Step::Ping => self.raw_send(r, &Frame::Ping),
            Step::Wait(ms) => pause = ms,
            Step::Deaf => self.raws[r].reads = false,
            Step::Close => {
                self.raw_send(r, &Frame::Close(Some(1000)));
                if let Some(old) = self.raws[r].link.take() {
                    self.raw_lets_go(old);
                }
            }
            Step::Vanish => {
                if let Some(old) = self.raws[r].link.take() {
                    self.half_open(old, true, true);
                    self.raw_lets_go(old);
                }
            }
        }
        self.after(pause, Ev::Raw(r));
    }

    fn raw_lets_go(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.client_open = false;
            self.finish(id, Way::Up);
            self.bury(id);
        }
    }

    fn raw_send(&mut self, r: usize, frame: &Frame) {
        self.raws[r].outgoing.extend(frame.encode());
        self.raw_flush(r);
    }

    pub(crate) fn raw_flush(&mut self, r: usize) {
        let Some(id) = self.raws[r].link else { return };
        let bytes = std::mem::take(&mut self.raws[r].outgoing);
        let taken = self.write(id, Way::Up, &bytes);
        self.raws[r].outgoing = bytes[taken..].to_vec();
    }

    fn raw_text(&mut self, r: usize, text: &str) {
        let raw = &mut self.raws[r];
        let mut text = text.to_owned();
        while text.contains("$id") {
            raw.last_id += 1;
            text = text.replacen("$id", &raw.last_id.to_string(), 1);
        }
        let text = text
            .replace("$last", &raw.last_id.to_string())
            .replace("$uid", &raw.uid.to_string())
            .replace("$room", &raw.room)
            .replace("$app", raw.app);
        log!(self, "r{r} sends {}", &text.chars().take(200).collect::<String>());
        self.raw_send(r, &Frame::Text(text.into_bytes()));
    }

    fn raw_request(&mut self, r: usize, call: Call) {
        let raw = &mut self.raws[r];
        raw.last_id += 1;
        let request = Request { id: RequestId(raw.last_id), ack: None, call };
        let text = codec::encode_request(&request);
        log!(self, "r{r} sends {}", request.call.method());
        self.raw_send(r, &Frame::Text(text.into_bytes()));
    }

    fn raw_join(
        &mut self,
        r: usize,
        token: TokenSpec,
        role: Option<bool>,
        same: bool,
        bytes: usize,
    ) {
        let wall = self.wall().0;
        let raw = &mut self.raws[r];
        if !same {
            raw.join_id = format!("raw-{r}-{:016x}", raw.rng.next());
        }
        let name = raw.room.parse().expect("a room has a good name");
        let token = self.tokens.make(token, raw.app, UserId(raw.uid), &name, wall);
        let join = Join {
            appkey: tokens::appkey(raw.app),
            channel_name: name,
            uid: Some(UserId(raw.uid)),
            token,
            role: role.map(|on| if on { Role::Broadcaster } else { Role::Audience }),
            join_id: Some(raw.join_id.clone()),
            continues: None,
            name: None,
            attributes: (bytes > 0)
                .then(|| ("k".to_owned(), "x".repeat(bytes)))
                .into_iter()
                .collect(),
        };
        self.raw_request(r, Call::Join(join));
    }

    fn raw_resume(&mut self, r: usize, ticket: u8, attempt: u64, off: i64, snapshot: bool) {
        let raw = &mut self.raws[r];
        raw.attempt = raw.attempt.saturating_add(attempt);
        let newest = raw.tickets.len();
        let ticket = match ticket {
            0 => raw.tickets.last().cloned(),
            1 => newest.checked_sub(2).map(|at| raw.tickets[at].clone()),
            2 => raw.tickets.first().cloned(),
            _ => None,
        };
        let reconnect = Reconnect {
            ticket: ticket.unwrap_or_else(|| "Zm9yZ2Vk".to_owned()),
            attempt: raw.attempt,
            epoch: raw.epoch.unwrap_or(Epoch([7; 12])),
            seq: raw.seq.saturating_add_signed(off),
            n: raw.messages,
            want: snapshot.then_some(Want::Snapshot),
        };
        self.raw_request(r, Call::Reconnect(reconnect));
    }

    /// Adds a client that replays a recorded request.
    pub(crate) fn add_replay(&mut self, call: Call) {
        let text = codec::encode_request(&Request { id: RequestId(1), ack: None, call });
        self.add_raw(0, 9_999, vec![Step::Open, Step::Text(text), Step::Wait(3_000), Step::Close]);
    }

    /// Ends the script.
    pub(crate) fn raw_stops(&mut self, r: usize) {
        self.raws[r].script.clear();
        self.raws[r].reads = true;
        if let Some(id) = self.raws[r].link.take() {
            self.raw_lets_go(id);
        }
    }

    pub(crate) fn raw_opened(&mut self, r: usize) {
        self.after(1, Ev::Raw(r));
    }

    pub(crate) fn raw_frame(&mut self, r: usize, frame: Frame) {
        let text = match frame {
            Frame::Text(text) => text,
            Frame::Close(_) => {
                if let Some(id) = self.raws[r].link {
                    self.end_closed(id, 1000);
                }
                return;
            }
            _ => return,
        };
        let Ok(messages) = codec::decode_server_frame(&text) else {
            return self.fail("delivery", format!("r{r} cannot read a frame"));
        };
        let raw = &mut self.raws[r];
        for message in messages {
            match message {
                ServerMessage::Event(position, _) => raw.seq = position.seq,
                ServerMessage::Answer { outcome: Ok(json), .. } => {
                    raw.answers += 1;
                    if let Ok(joined) = serde_json::from_str::<Joined>(json.get()) {
                        raw.tickets.extend(joined.ticket);
                        raw.epoch = Some(joined.epoch);
                        raw.seq = joined.seq;
                    } else if let Ok(resumed) = serde_json::from_str::<Resumed>(json.get())
                        && resumed.outcome != Outcome::Refused
                    {
                        raw.tickets.extend(resumed.ticket);
                        if let Some(snapshot) = resumed.snapshot {
                            raw.epoch = Some(snapshot.epoch);
                            raw.seq = snapshot.seq;
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// The rest of the script continues after the socket is gone.
    pub(crate) fn raw_closed(&mut self, r: usize) {
        let raw = &mut self.raws[r];
        let opening = raw.link.take().is_some();
        let rest = raw.script.get(raw.at.min(raw.script.len())..).unwrap_or_default();
        // Another step is scheduled already, unless the script waited for the socket to open.
        let waits = raw.at > 0 && matches!(raw.script.get(raw.at - 1), Some(Step::Open));
        if opening && waits && !rest.is_empty() {
            self.after(500, Ev::Raw(r));
        }
    }
}

//! The clients' side of a connection. Comes in: frames of the engine. Checked: they can be read; events are
//! contiguous, of one log, and the same for everybody, also across a resume; an answer comes after every
//! event up to its effect, and for each request once; `closing` announces the close, and nothing follows.

use std::collections::{BTreeMap, BTreeSet};

use lianmai_protocol::codec::{Element, ServerMessage, decode_client_frame, decode_server_frame};
use lianmai_protocol::message::session::{Joined, Outcome, ResumeReason, Resumed};
use lianmai_protocol::message::{Call, Notice};
use lianmai_protocol::{CloseCode, Epoch, Mid};
use lianmai_signal_engine::Lobby;
use serde_json::Value;

/// Where a connection stands.
pub(super) enum Place {
    /// It has not joined.
    Lobby(Lobby),
    /// The engine has it.
    Engine,
    /// The engine closed it.
    Closed,
    /// The client gave it up.
    Gone,
}

/// What a client needs to come back.
#[derive(Clone)]
pub(super) struct Stay {
    pub(super) mid: Mid,
    pub(super) ticket: String,
    /// The log that it follows, and the last event of it.
    pub(super) epoch: Epoch,
    pub(super) last: u64,
    /// The last targeted message.
    pub(super) n: Option<u64>,
    /// Frames without an answer to all that is in them.
    pub(super) sent: Vec<Vec<u8>>,
}

pub(super) struct Client {
    pub(super) place: Place,
    pub(super) next_id: u64,
    /// How often each id was asked on this connection, and how often answered; 0 is one that could not
    /// be read.
    asked: BTreeMap<u64, u32>,
    answered: BTreeMap<u64, u32>,
    /// Asked on an earlier connection: may be answered here.
    before: BTreeMap<u64, u32>,
    /// Ids of a `join` or `reconnect` that may succeed.
    entries: BTreeSet<u64>,
    /// Whom it comes back as.
    returns: Option<Stay>,
    pub(super) stay: Option<Stay>,
    /// Why it was not let back in.
    pub(super) refused: Option<ResumeReason>,
    /// Targeted messages that follow a return to the same log, and that are lost.
    pub(super) messages: Option<(u64, u64)>,
    closing: Option<CloseCode>,
}

/// The text of every event, by log and number.
pub(super) type Texts = BTreeMap<(Epoch, u64), String>;

impl Client {
    pub(super) fn new(lobby: Lobby) -> Self {
        Client {
            place: Place::Lobby(lobby),
            next_id: 1,
            asked: BTreeMap::new(),
            answered: BTreeMap::new(),
            before: BTreeMap::new(),
            entries: BTreeSet::new(),
            returns: None,
            stay: None,
            refused: None,
            messages: None,
            closing: None,
        }
    }

    /// Whoever was on `old`, on a new connection, with what it knew `stay` of.
    pub(super) fn returning(lobby: Lobby, old: &Client, stay: Stay) -> Self {
        let mut client = Client::new(lobby);
        client.next_id = old.next_id;
        client.before = old.before.clone();
        for (id, count) in &old.asked {
            *client.before.entry(*id).or_default() += count;
        }
        client.returns = Some(stay);
        client
    }

    /// Whether it has joined and has its socket.
    pub(super) fn is_seated(&self) -> bool {
        matches!(self.place, Place::Engine) && self.stay.is_some()
    }

    /// Notes what a frame asks. Says up to which targeted message it confirms.
    pub(super) fn asks(&mut self, frame: &[u8]) -> u64 {
        let Ok(elements) = decode_client_frame(frame) else {
            *self.asked.entry(0).or_default() += 1;
            return 0;
        };
        let mut confirmed = 0;
        // What is worked on is not begun a second time, nor answered twice.
        let waits = |id: &u64| self.asked.get(id) > self.answered.get(id);
        let ids = elements.iter().filter_map(|element| match element {
            Element::Request(request) => Some(request.id.0),
            Element::Refused { .. } => None,
        });
        let waiting: BTreeSet<u64> = ids.filter(waits).collect();
        for element in elements {
            let (id, call) = match &element {
                Element::Request(request) => (request.id.0, Some(&request.call)),
                Element::Refused { id, .. } => (id.map_or(0, |id| id.0), None),
            };
            match call {
                Some(Call::Join(_) | Call::Reconnect(_)) if self.stay.is_none() => {
                    self.entries.insert(id);
                }
                Some(Call::Ping(ping)) => confirmed = confirmed.max(ping.n.unwrap_or(0)),
                Some(_) if self.stay.is_some() && waiting.contains(&id) => continue,
                _ => {}
            }
            *self.asked.entry(id).or_default() += 1;
        }
        if let Some(stay) = &mut self.stay {
            stay.sent.push(frame.to_vec());
        }
        confirmed
    }

    /// Every request was answered. One that was sent again while it was worked on is answered once.
    pub(super) fn assert_answered(&self) {
        for (id, asked) in &self.asked {
            let answered = self.answered.get(id).copied().unwrap_or(0);
            let enough = if *id == 0 { *asked } else { 1 };
            assert!(answered >= enough, "{id} has {answered} of {asked} answers");
        }
    }

    pub(super) fn receive(&mut self, frame: &[u8], texts: &mut Texts) {
        assert!(
            matches!(self.place, Place::Engine | Place::Lobby(_)),
            "nothing is sent to a socket that is gone"
        );
        assert_eq!(self.closing, None, "nothing follows `closing`");
        let messages = decode_server_frame(frame).expect("clients can read it");
        assert!(!messages.is_empty(), "no empty frame");
        let raw: Vec<Box<serde_json::value::RawValue>> = match frame.first() {
            Some(b'[') => serde_json::from_slice(frame).expect("an array"),
            _ => vec![serde_json::from_slice(frame).expect("a message")],
        };
        for (message, raw) in messages.into_iter().zip(raw) {
            match message {
                ServerMessage::Answer { id, outcome } => {
                    let id = id.map_or(0, |id| id.0);
                    let count = |of: &BTreeMap<u64, u32>| of.get(&id).copied().unwrap_or(0);
                    let (asked, before) = (count(&self.asked), count(&self.before));
                    assert!(count(&self.answered) < asked + before, "answer to nothing: {id}");
                    *self.answered.entry(id).or_default() += 1;
                    if let Ok(result) = outcome {
                        // The first of several answers may be given again.
                        self.result(id, result.get(), asked + before > 1 || asked == 0);
                    }
                }
                ServerMessage::Event(position, event) => {
                    let stay = self.stay.as_mut().expect("events come after the answer");
                    assert_eq!(position.epoch, stay.epoch, "one log");
                    assert_eq!(position.seq, stay.last + 1, "contiguous: {}", event.method());
                    stay.last = position.seq;
                    let at = (position.epoch, position.seq);
                    let text = texts.entry(at).or_insert_with(|| raw.get().to_owned());
                    assert_eq!(text, raw.get(), "an event is the same for everybody");
                }
                ServerMessage::Notice(Notice::Closing(closing)) => {
                    self.closing = Some(closing.code);
                }
                ServerMessage::Notice(notice) => {
                    let stay = self.stay.as_mut().expect("a notice comes after the answer");
                    if let Notice::Message(message) = notice {
                        assert!(stay.n.is_none_or(|n| message.n == n + 1), "messages are counted");
                        stay.n = Some(message.n);
                    }
                }
            }
        }
    }

    fn result(&mut self, id: u64, result: &str, again: bool) {
        let Some(stay) = &self.stay else {
            assert!(self.entries.contains(&id), "nothing else succeeds before");
            match self.returns.take() {
                Some(stay) => self.resumed(stay, result),
                None => self.joined(result),
            }
            return;
        };
        let result: Value = serde_json::from_str(result).expect("JSON");
        if let Some(seq) = result.get("seq") {
            let seq = seq.as_u64().expect("a number");
            let older = seq < stay.last && again;
            assert!(seq == stay.last || older, "{seq}: events come before the answer");
        }
    }

    fn joined(&mut self, result: &str) {
        // Whoever guesses at a `reconnect` is refused by a result.
        if let Ok(Resumed { outcome, reason, .. }) = serde_json::from_str(result) {
            assert_eq!(outcome, Outcome::Refused, "nobody comes back without a ticket");
            self.refused = reason;
            return;
        }
        let joined: Joined = serde_json::from_str(result).expect("an answer of `join`");
        let shown = joined.members.iter().any(|member| member.mid == joined.mid);
        assert_eq!(shown, joined.own.role.as_str() == "broadcaster");
        self.stay = Some(Stay {
            mid: joined.mid,
            ticket: joined.ticket.expect("a ticket"),
            epoch: joined.epoch,
            last: joined.seq,
            n: None,
            sent: Vec::new(),
        });
    }

    fn resumed(&mut self, mut stay: Stay, result: &str) {
        let resumed: Resumed = serde_json::from_str(result).expect("an answer of `reconnect`");
        if resumed.outcome == Outcome::Refused {
            self.refused = Some(resumed.reason.expect("a reason"));
            return;
        }
        stay.ticket = resumed.ticket.expect("a ticket");
        stay.n = Some(stay.n.unwrap_or(0) + resumed.messages_lost);
        stay.sent.clear();
        match (resumed.outcome, resumed.snapshot) {
            (Outcome::Replayed, None) => {
                self.messages = Some((resumed.messages, resumed.messages_lost));
            }
            (Outcome::Snapshot, Some(snapshot)) => {
                assert_eq!(snapshot.mid, stay.mid, "the same membership");
                if snapshot.epoch == stay.epoch {
                    self.messages = Some((resumed.messages, resumed.messages_lost));
                } else {
                    stay.n = None;
                }
                (stay.epoch, stay.last) = (snapshot.epoch, snapshot.seq);
            }
            (outcome, _) => panic!("{outcome} without what belongs to it"),
        }
        self.stay = Some(stay);
    }

    /// The engine, or the lobby, closes.
    pub(super) fn close(&mut self, code: CloseCode) {
        assert!(
            matches!(self.place, Place::Engine | Place::Lobby(_)),
            "an open connection is closed"
        );
        match self.closing {
            Some(announced) => assert_eq!(announced, code, "as announced"),
            None => assert_eq!(code, CloseCode::SLOW_READER, "a close is announced"),
        }
        self.place = Place::Closed;
    }
}

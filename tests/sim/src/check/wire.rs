//! Checks what the engine sends on each connection. Comes in: every input and its outputs. Goes out: whether events are
//! contiguous and the same for all, answers come after their events, and messages reach only their recipients. Then the
//! model gets everything and decides whether it was right.

use std::collections::BTreeMap;
use std::rc::Rc;

use lianmai_protocol::codec::{self, ServerMessage};
use lianmai_protocol::message::session::{Joined, Outcome, Resumed};
use lianmai_protocol::message::{ChannelEvent, Notice, Position};
use lianmai_protocol::raw::RawJson;
use lianmai_protocol::{Epoch, RequestId, RpcError, UserId};
use lianmai_signal_engine::{ConnId, Input, Note, Output, Question, Stats};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::app::payload;
use crate::log::mix;
use crate::net::LinkId;
use crate::world::{World, log};

/// One message of a frame, and a hash of its text.
#[derive(Debug)]
pub(crate) struct SentMessage {
    pub(crate) message: ServerMessage,
    hash: u64,
}

/// An answer, in the form in which the model compares it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) conn: ConnId,
    pub(crate) id: Option<RequestId>,
    pub(crate) outcome: Result<RawJson, RpcError>,
    pub(crate) hash: u64,
}

/// The decoded outputs of one input, in order.
#[derive(Debug, Default)]
pub(crate) struct DecodedOutputs {
    pub(crate) answers: Vec<Answer>,
    pub(crate) events: Vec<(ConnId, Position, Rc<Vec<SentMessage>>, usize)>,
    pub(crate) notices: Vec<(ConnId, Notice)>,
}

/// What a connection received.
#[derive(Debug, Default)]
pub(crate) struct Conn {
    epoch: Option<Epoch>,
    cursor: u64,
    uid: Option<UserId>,
    /// Number of the last event of a replay that must come before anything else.
    replay_to: u64,
}

#[derive(Deserialize)]
struct Seq {
    epoch: Option<Epoch>,
    seq: Option<u64>,
}

fn read(frame: &[u8]) -> Option<Vec<SentMessage>> {
    let text = std::str::from_utf8(frame).ok()?;
    let elements: Vec<&str> = if text.starts_with('[') {
        let raws: Vec<&RawValue> = serde_json::from_str(text).ok()?;
        raws.into_iter().map(RawValue::get).collect()
    } else {
        vec![text]
    };
    let messages = elements.into_iter().map(|text| {
        let [message] =
            <[_; 1]>::try_from(codec::decode_server_frame(text.as_bytes()).ok()?).ok()?;
        Some(SentMessage { message, hash: mix(7, text.as_bytes()) })
    });
    messages.collect()
}

impl World {
    /// Checks one input and its outputs.
    pub(crate) fn check_step(
        &mut self,
        shard: usize,
        input: &Input,
        outputs: &[Output],
        stats: Stats,
    ) {
        if self.failure.is_some() {
            return;
        }
        match input {
            Input::Tick if outputs.is_empty() => {}
            Input::Frame { conn, frame } => {
                log!(self, "s{shard} <- {conn:?} {} {:x}", frame.len(), mix(0, frame));
            }
            Input::Restore(_) => log!(self, "s{shard} <- Restore"),
            Input::Join { conn, request, .. } => {
                log!(
                    self,
                    "s{shard} <- {conn:?} join {:?} {:?}",
                    request.join,
                    request.grant.is_ok()
                );
            }
            Input::Reconnect { conn, request, .. } => {
                let claims = &request.claims;
                log!(
                    self,
                    "s{shard} <- {conn:?} reconnect {} {} k {} attempt {} seq {}",
                    claims.uid,
                    claims.mid,
                    claims.k,
                    request.reconnect.attempt,
                    request.reconnect.seq
                );
            }
            other => log!(self, "s{shard} <- {other:?}"),
        }
        self.model.note_input(input);
        let mut caused = DecodedOutputs::default();
        let mut frames: BTreeMap<(usize, usize), Rc<Vec<SentMessage>>> = BTreeMap::new();
        for output in outputs {
            match output {
                Output::Send { conn, frame } => {
                    log!(self, "s{shard} -> {conn:?} {} {:x}", frame.len(), mix(0, frame));
                    let place = (frame.as_ptr().addr(), frame.len());
                    let messages = match frames.get(&place) {
                        Some(messages) => Rc::clone(messages),
                        None => {
                            let Some(messages) = read(frame) else {
                                return self.fail("delivery", "a frame cannot be read".to_owned());
                            };
                            Rc::clone(frames.entry(place).or_insert(Rc::new(messages)))
                        }
                    };
                    self.check_sent(*conn, &messages, &mut caused);
                }
                Output::Note(note) => {
                    log!(self, "s{shard} -> {note:?}");
                    self.count_note(note);
                }
                Output::Store(ops) => log!(self, "s{shard} -> Store {}", ops.len()),
                Output::Ask { id, question: Question::Store(ops) } => {
                    log!(self, "s{shard} -> Store {} {id:?}", ops.len());
                }
                Output::Close { conn, code } => {
                    log!(self, "s{shard} -> Close {conn:?} {}", code.0);
                    self.checks.conns.remove(&LinkId(conn.0));
                }
                other => log!(self, "s{shard} -> {other:?}"),
            }
            if self.failure.is_some() {
                return;
            }
        }
        self.model_step(shard, input, outputs, &caused, stats);
    }

    fn check_sent(
        &mut self,
        conn: ConnId,
        messages: &Rc<Vec<SentMessage>>,
        caused: &mut DecodedOutputs,
    ) {
        for (index, SentMessage { message, hash }) in messages.iter().enumerate() {
            match message {
                ServerMessage::Event(position, event) => {
                    self.check_event(conn, *position, event, *hash);
                    caused.events.push((conn, *position, Rc::clone(messages), index));
                }
                ServerMessage::Answer { id, outcome } => {
                    self.check_answer(conn, outcome);
                    let outcome = outcome.clone();
                    caused.answers.push(Answer { conn, id: *id, outcome, hash: *hash });
                }
                ServerMessage::Notice(notice) => {
                    if let Notice::Message(message) = notice {
                        self.check_private(conn, &message.data);
                    }
                    self.cov.count(&format!("notice:{}", notice.method()));
                    caused.notices.push((conn, notice.clone()));
                }
            }
        }
    }

    fn check_event(&mut self, conn: ConnId, position: Position, event: &ChannelEvent, hash: u64) {
        let Position { epoch, seq } = position;
        let known = self.checks.conns.entry(LinkId(conn.0)).or_default();
        if known.epoch != Some(epoch) || seq != known.cursor + 1 {
            let what = format!("{conn:?} at {:?} {} gets {epoch} {seq}", known.epoch, known.cursor);
            return self.fail("delivery", what);
        }
        known.cursor = seq;
        if let ChannelEvent::Message(message) = event
            && payload(&message.data)
                .and_then(|n| self.checks.recipients.get(&n))
                .is_some_and(Option::is_some)
        {
            return self.fail("transients", format!("{} is told to all", message.data));
        }
        match self.checks.texts.get(&(epoch, seq)) {
            None => {
                self.checks.texts.insert((epoch, seq), hash);
                self.cov.count(&format!("event:{}", event.method()));
                if let ChannelEvent::ClientLeave(leave) = event
                    && leave.reason == lianmai_protocol::message::event::LeaveReason::RoleChanged
                {
                    self.cov.count("leave:roleChanged");
                }
                if let ChannelEvent::LiveRoomClose(close) = event {
                    self.cov.count(&format!("roomClose:{}", close.reason));
                }
            }
            Some(text) if *text == hash => {}
            Some(_) => self.fail("delivery", format!("event {epoch} {seq} has two texts")),
        }
    }

    fn check_answer(&mut self, conn: ConnId, outcome: &Result<RawJson, RpcError>) {
        let json = match outcome {
            Err(error) => {
                self.check_fair(conn, error);
                return self.cov.error(error.name());
            }
            Ok(json) => json.get(),
        };
        let known = self.checks.conns.entry(LinkId(conn.0)).or_default();
        if known.epoch.is_none() {
            if let Ok(joined) = serde_json::from_str::<Joined>(json) {
                *known = Conn {
                    epoch: Some(joined.epoch),
                    cursor: joined.seq,
                    uid: Some(joined.uid),
                    replay_to: joined.seq,
                };
                if let Some(ticket) = &joined.ticket {
                    self.spy.ticket(ticket, joined.epoch);
                }
            } else if let Ok(resumed) = serde_json::from_str::<Resumed>(json) {
                self.check_resumed(conn, &resumed);
            }
            return;
        }
        if known.cursor < known.replay_to {
            let what = format!("{conn:?} is answered before all of its replay");
            return self.fail("order", what);
        }
        let Ok(Seq { epoch, seq: Some(seq) }) = serde_json::from_str(json) else { return };
        // The answer to a ping has the position of the connection; other answers may be repeated later.
        let pong = epoch.is_some();
        if seq > known.cursor || (pong && (seq != known.cursor || epoch != known.epoch)) {
            let what =
                format!("{conn:?} is answered with {seq}, and got events up to {}", known.cursor);
            self.fail("order", what);
        }
    }

    fn check_resumed(&mut self, conn: ConnId, resumed: &Resumed) {
        if resumed.outcome == Outcome::Refused {
            return;
        }
        let Some((uid, epoch, seq)) = self.model.resumes_at(conn) else {
            return self.fail("outcome", format!("{conn:?} is resumed and did not ask"));
        };
        let (epoch, cursor) = match &resumed.snapshot {
            Some(snapshot) => (snapshot.epoch, snapshot.seq),
            None => (epoch, seq),
        };
        let replay_to = cursor + resumed.replayed;
        let known = Conn { epoch: Some(epoch), cursor, uid: Some(uid), replay_to };
        self.checks.conns.insert(LinkId(conn.0), known);
        if let Some(ticket) = &resumed.ticket {
            self.spy.ticket(ticket, epoch);
        }
    }

    /// Checks that a targeted message reaches nobody else.
    fn check_private(&mut self, conn: ConnId, data: &str) {
        let uid = self.checks.conns.get(&LinkId(conn.0)).and_then(|conn| conn.uid);
        let Some(number) = payload(data) else { return };
        let to = self.checks.recipients.get(&number).cloned().flatten().unwrap_or_default();
        if uid.is_none_or(|uid| !to.contains(&uid)) {
            self.fail(
                "transients",
                format!("{conn:?} of {uid:?} gets message {number} for {to:?}"),
            );
        }
    }

    /// Checks a text of a lobby.
    pub(crate) fn checks_lobby_text(&mut self, id: LinkId, text: &str) {
        log!(self, "{id:?} lobby says {}", text.len());
        let Ok(messages) = codec::decode_server_frame(text.as_bytes()) else {
            return self.fail("delivery", "a lobby's text cannot be read".to_owned());
        };
        for message in messages {
            match message {
                ServerMessage::Answer { outcome: Err(error), .. } => self.cov.error(error.name()),
                ServerMessage::Answer { outcome: Ok(json), .. } => {
                    if let Ok(resumed) = serde_json::from_str::<Resumed>(json.get())
                        && let Some(reason) = resumed.reason
                    {
                        self.cov.resumes += 1;
                        self.cov.count("outcome:refused");
                        self.cov.count(&format!("resume:{reason}"));
                    }
                }
                _ => {}
            }
        }
    }

    fn count_note(&mut self, note: &Note) {
        match note {
            Note::Resumed { outcome, reason, .. } => {
                self.cov.resumes += 1;
                self.cov.count(&format!("outcome:{outcome}"));
                if let Some(reason) = reason {
                    self.cov.count(&format!("resume:{reason}"));
                }
            }
            Note::MemberLeft { reason, .. } => self.cov.count(&format!("leave:{reason}")),
            _ => {}
        }
    }
}

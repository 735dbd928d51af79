//! The output of the engine: frames are decoded and checked as they arrive, questions are answered.

use std::collections::VecDeque;

use bytes::Bytes;
use lianmai_protocol::codec::{self, ServerMessage};
use lianmai_protocol::message::session::Joined;
use lianmai_protocol::message::{ChannelEvent, Notice};
use lianmai_protocol::raw::RawJson;
use lianmai_protocol::{CloseCode, RequestId, RpcError};
use lianmai_signal_engine::{Answer, AskId, ConnId, Input, Output, Question};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Conn, DiskMode, Issuer, ReceivedEvent, World};
use crate::picture::{Picture, words};

impl World {
    pub(crate) fn input(&mut self, input: Input) {
        self.engine.handle(self.now, input);
        let mut inputs = VecDeque::new();
        loop {
            while let Some(output) = self.engine.poll_output() {
                self.output(output, &mut inputs);
            }
            let Some(next) = inputs.pop_front() else { break };
            self.engine.handle(self.now, next);
        }
        let connected = self.conns.values().filter(|conn| conn.is_seated()).count();
        assert_eq!(self.engine.stats().connected, connected, "sockets are counted");
    }

    fn output(&mut self, output: Output, inputs: &mut VecDeque<Input>) {
        match output {
            Output::Send { conn, frame } => self.receive(conn, frame),
            Output::Ping { conn } => {
                let state = self.conns.get_mut(&conn).expect("a ping of a known connection");
                assert!(state.is_seated(), "only a joined connection is pinged");
                state.pings.push(self.now.mono);
            }
            Output::Close { conn, code } => {
                let state = self.conns.get_mut(&conn).expect("a close of a known connection");
                assert_eq!(state.closed, None, "a connection is closed once");
                assert!(!state.gone, "a connection that is gone is not closed");
                match &state.closing {
                    Some(closing) => assert_eq!(closing.code, code, "the announced code"),
                    None => {
                        assert_eq!(code, CloseCode::SLOW_READER, "a close is announced (NOT-2)")
                    }
                }
                state.closed = Some(code);
            }
            Output::Ask { id, question } => {
                assert!(self.last_ask.replace(id) < Some(id), "a question has a number of its own");
                if let Question::Claim(claim) = question {
                    inputs.extend(self.claim(id, claim));
                } else if let Some(answer) = self.reply(id, question) {
                    inputs.push_back(Input::Answer { id, answer });
                }
            }
            Output::AuthorizePending { query } => {
                assert!(self.waiting.insert(query), "it is sent once");
            }
            Output::Verdict { query, verdict } => {
                self.waiting.remove(&query);
                self.verdicts.insert(query, verdict.map(|allowed| allowed.kinds));
            }
            Output::SetPublished { generation, kinds, .. } => {
                assert!(self.minted.contains(&generation), "of a stream that was asked for");
                self.relay.set_published(generation, kinds);
            }
            Output::SetSubscribed { generation, viewer, kinds, .. } => {
                assert!(!self.cut.contains(&generation), "of a live stream");
                self.relay.set_subscribed(generation, viewer, kinds);
            }
            Output::CutStream { generation, .. } => {
                self.relay.cut(generation);
                assert!(self.minted.contains(&generation), "a stream that was asked for is cut");
                assert!(self.cut.insert(generation), "a stream is cut once");
            }
            Output::CutViewer { generation, viewer, .. } => {
                self.relay.cut_viewer(generation, viewer);
                assert!(self.minted.contains(&generation), "a viewer of a known stream is cut");
                assert!(!self.cut.contains(&generation), "a viewer of a live stream is cut");
                self.cut_viewers.push((generation, viewer));
            }
            Output::AdminReply { query, reply } => {
                self.replies.insert(query, reply);
            }
            Output::Order(order) => self.tasks.orders.push(order),
            Output::Release { claim, rest } => inputs.push_back(Input::Release { claim, rest }),
            Output::Claimed { query, claimed } => {
                let id = self.tasks.claims.remove(&query).expect("a claim is answered once");
                inputs.push_back(Input::Answer { id, answer: Answer::Claimed(claimed) });
            }
            Output::Note(note) => self.notes.push(note),
            Output::Store(ops) => {
                self.writes_lost += usize::from(self.disk.mode == DiskMode::Fail);
                self.disk.write(ops, None);
            }
            Output::Drained { handed_over } => {
                assert_eq!(self.drained.replace(handed_over), None, "a drain ends once");
            }
        }
    }

    /// The answer to a question that is answered at once.
    fn reply(&mut self, id: AskId, question: Question) -> Option<Answer> {
        match question {
            Question::Mint(request) => {
                self.minted.insert(request.generation);
                self.mints += 1;
                match self.issuer {
                    Issuer::AtOnce => Some(Answer::Minted(Some(self.mint_result(id, &request)))),
                    Issuer::Fail => Some(Answer::Minted(None)),
                    Issuer::Hold => {
                        self.held_mints.push_back((id, request));
                        None
                    }
                }
            }
            Question::Verify(request) => match self.tokens.get(&request.token.0) {
                Some(grant) => Some(Answer::Verified(grant.clone())),
                None => {
                    self.held_tokens.push_back((id, request.token.0));
                    None
                }
            },
            Question::Admit(admission) => self.admit_tasks(*admission).map(Answer::Admitted),
            Question::Claim(_) => unreachable!("handed to the engine that keeps claims"),
            Question::Store(ops) => {
                self.writes_lost += usize::from(self.disk.mode == DiskMode::Fail);
                self.disk.write(ops, Some(id)).map(Answer::Stored)
            }
        }
    }

    fn receive(&mut self, conn: ConnId, frame: Bytes) {
        let state = self.conns.get_mut(&conn).expect("a frame for a known connection");
        assert_eq!(state.closed, None, "nothing follows a close");
        assert!(!state.gone, "nothing is sent to a socket that is gone");
        assert!(state.closing.is_none(), "nothing follows `closing`");
        let messages = codec::decode_server_frame(&frame).expect("a frame that clients can read");
        let raw: Vec<&RawValue> = if frame.starts_with(b"[") {
            serde_json::from_slice(&frame).expect("an array")
        } else {
            vec![serde_json::from_slice(&frame).expect("a message")]
        };
        assert!(!raw.is_empty(), "no empty frame");
        for (message, raw) in messages.into_iter().zip(raw) {
            match message {
                ServerMessage::Answer { id, outcome } => state.answered(id, outcome),
                ServerMessage::Event(position, event) => {
                    let joined = state.joined.as_ref().expect("events come after the join answer");
                    assert_eq!(position.epoch, joined.epoch, "one epoch per connection");
                    assert_eq!(position.seq, state.last_seq + 1, "seq is contiguous (ORD-1)");
                    state.last_seq = position.seq;
                    let text = raw.get();
                    let told = match &event {
                        ChannelEvent::RtmpTasksStatus(status) => {
                            text.replace(&status.stream_url, "")
                        }
                        _ => text.to_owned(),
                    };
                    assert!(!told.contains("://"), "an event holds no URL (EVT-2): {text}");
                    let first = self
                        .texts
                        .entry((position.epoch, position.seq))
                        .or_insert_with(|| text.to_owned());
                    assert_eq!(first, text, "an event is the same for all members (ORD-1)");
                    if let Some(picture) = &mut state.picture {
                        picture.fold(&event);
                    }
                    state.log.push(words(&event));
                    let (at, seq) = (self.now.mono, position.seq);
                    state.events.push(ReceivedEvent { at, seq, event });
                }
                ServerMessage::Notice(notice) => {
                    match &notice {
                        Notice::Closing(closing) => {
                            state.log.push(format!("~closing {}", closing.reason));
                            state.closing = Some(closing.clone());
                        }
                        Notice::MemberCount(_) => {}
                        Notice::Message(m) => {
                            assert!(
                                m.n > state.n,
                                "targeted messages are numbered, and none comes twice"
                            );
                            state.n = m.n;
                            state.log.push(format!("~message {}", m.data));
                        }
                        other => state.log.push(format!("~{}", other.method())),
                    }
                    state.notices.push((self.now.mono, notice));
                }
            }
        }
        state.frames.push(frame);
    }
}

impl Conn {
    fn answered(&mut self, id: Option<RequestId>, outcome: Result<RawJson, RpcError>) {
        let Some(RequestId(id)) = id else {
            let error = outcome.expect_err("only a refusal has no id");
            self.log.push(format!("? !{}", error.name()));
            self.anonymous.push(error.name().clone());
            return;
        };
        let method = self.methods.get(&id).copied().unwrap_or("?");
        let outcome = outcome.map(|json| serde_json::from_str::<Value>(json.get()).expect("JSON"));
        match &outcome {
            Ok(value) if method == "join" && self.joined.is_none() => {
                let joined: Joined = serde_json::from_value(value.clone()).expect("Joined");
                self.ticket = joined.ticket.clone().expect("a ticket");
                self.k = joined.k.expect("a number");
                self.last_seq = joined.seq;
                self.picture = Some(Picture::of(&joined));
                self.joined = Some(joined);
                self.log.push("join ok".to_owned());
            }
            Ok(value) if method == "reconnect" => self.check_resumed(value),
            Ok(value) => {
                if let Some(seq) = value.get("seq") {
                    let (seq, last) = (seq.as_u64().expect("a number"), self.last_seq);
                    let older = seq < last && self.again.contains(&id);
                    assert!(seq == last || older, "events precede answers (ORD-4)");
                }
                self.log.push(format!("{method} ok"));
            }
            Err(error) => self.log.push(format!("{method} !{}", error.name())),
        }
        self.answers.insert(id, outcome);
    }
}

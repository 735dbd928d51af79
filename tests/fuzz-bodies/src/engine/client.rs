//! The client's side of a connection. In: frames of the engine. Checked: the frames can be read; events are contiguous,
//! of one log, and the same for all clients, also across a resume; consecutive events are consistent
//! ([`super::roster`]); an answer comes after every event up to its effect, and once for each request; `closing`
//! announces the close, and nothing follows it. Deliberately absent: the SDK.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lianmai_protocol::codec::{Element, ServerMessage, decode_client_frame, decode_server_frame};
use lianmai_protocol::message::session::{Joined, Outcome, ResumeReason, Resumed};
use lianmai_protocol::message::{Call, ChannelEvent, Notice};
use lianmai_protocol::raw::RawJson;
use lianmai_protocol::{CloseCode, Epoch, Mid};
use lianmai_signal_engine::Lobby;
use serde_json::Value;

use super::roster::Roster;
use crate::reached_states::ReachedStates;

/// The state of a connection.
pub(super) enum ConnState {
    /// Not joined yet.
    Lobby(Lobby),
    /// Passed to the engine.
    Engine,
    /// Closed by the engine.
    Closed,
    /// Given up by the client.
    Gone,
}

/// The state that a client needs to resume.
#[derive(Clone)]
pub(super) struct Membership {
    pub(super) mid: Mid,
    pub(super) ticket: String,
    /// The log that it follows, and the number of its last event.
    pub(super) epoch: Epoch,
    pub(super) last: u64,
    /// Number of the last targeted message.
    pub(super) n: Option<u64>,
    /// The rosters after the most recent events, the newest last; empty if unknown.
    pub(super) rosters: VecDeque<Roster>,
    /// Frames that contain an unanswered request.
    pub(super) sent: Vec<Vec<u8>>,
}

pub(super) struct Client {
    pub(super) state: ConnState,
    /// Number of the process that it is connected to.
    pub(super) process: u8,
    pub(super) next_id: u64,
    /// How often each id was requested and answered on this connection; id 0 stands for requests whose id could not be
    /// read.
    asked: BTreeMap<u64, u32>,
    answered: BTreeMap<u64, u32>,
    /// The request of each id, from a moment when no other request with this id was unanswered.
    first: BTreeMap<u64, Call>,
    /// Requests on earlier connections of the membership, which may be answered here.
    before: BTreeMap<u64, u32>,
    /// Ids of `join` and `reconnect` requests that may succeed.
    entries: BTreeSet<u64>,
    /// The membership that it wants to resume.
    resuming: Option<Membership>,
    pub(super) membership: Option<Membership>,
    /// The reason why resuming was refused.
    pub(super) refused: Option<ResumeReason>,
    /// After a resume in the same log: the number of targeted messages that follow, and of those that are lost.
    pub(super) messages: Option<(u64, u64)>,
    closing: Option<CloseCode>,
}

/// What all clients were told.
#[derive(Default)]
pub(super) struct Observed {
    /// The text of every event, by log and number.
    texts: BTreeMap<(Epoch, u64), String>,
    pub(super) states: ReachedStates,
}

/// Maximum number of events that a resuming client may claim to have missed.
pub(super) const MAX_BEHIND: usize = 3;

impl Membership {
    fn apply(&mut self, event: &ChannelEvent) {
        let Some(newest) = self.rosters.back() else { return };
        let mut roster = newest.clone();
        roster.apply(event);
        if self.rosters.len() > MAX_BEHIND {
            self.rosters.pop_front();
        }
        self.rosters.push_back(roster);
    }

    /// Pretends that the last `events` events did not arrive.
    pub(super) fn forget(&mut self, events: u64) {
        self.last = self.last.saturating_sub(events);
        for _ in 0..events {
            self.rosters.pop_back();
        }
    }
}

impl Client {
    pub(super) fn new(lobby: Lobby, process: u8) -> Self {
        Client {
            state: ConnState::Lobby(lobby),
            process,
            next_id: 1,
            asked: BTreeMap::new(),
            answered: BTreeMap::new(),
            first: BTreeMap::new(),
            before: BTreeMap::new(),
            entries: BTreeSet::new(),
            resuming: None,
            membership: None,
            refused: None,
            messages: None,
            closing: None,
        }
    }

    /// Creates a client that resumes `membership` on a new connection; `earlier` are the previous connections of the
    /// membership.
    pub(super) fn returning<'a>(
        (lobby, process): (Lobby, u8),
        next_id: u64,
        earlier: impl Iterator<Item = &'a Client>,
        membership: Membership,
    ) -> Self {
        let mut client = Client::new(lobby, process);
        client.next_id = next_id;
        for (id, count) in earlier.flat_map(|client| &client.asked) {
            *client.before.entry(*id).or_default() += count;
        }
        client.resuming = Some(membership);
        client
    }

    /// Whether it has joined and has a socket.
    pub(super) fn is_seated(&self) -> bool {
        matches!(self.state, ConnState::Engine) && self.membership.is_some()
    }

    /// Records the requests of a frame. Returns the last targeted message that it confirms.
    pub(super) fn asks(&mut self, frame: &[u8]) -> u64 {
        let Ok(elements) = decode_client_frame(frame) else {
            *self.asked.entry(0).or_default() += 1;
            return 0;
        };
        let mut confirmed = 0;
        let outstanding = |id: &u64| self.asked.get(id) > self.answered.get(id);
        let before: BTreeSet<u64> = self.asked.keys().copied().filter(outstanding).collect();
        let mut fresh = BTreeSet::new();
        for element in elements {
            let (id, call) = match element {
                Element::Request(request) => (request.id.0, Some(request.call)),
                Element::Refused { id, .. } => (id.map_or(0, |id| id.0), None),
            };
            match call {
                Some(Call::Join(_) | Call::Reconnect(_)) if self.membership.is_none() => {
                    self.entries.insert(id);
                }
                Some(Call::Ping(ping)) => confirmed = confirmed.max(ping.n.unwrap_or(0)),
                // A request that is being processed is not started again, nor answered twice.
                Some(call) if before.contains(&id) && self.first.get(&id) == Some(&call) => {
                    continue;
                }
                Some(call) if !before.contains(&id) && fresh.insert(id) => {
                    self.first.insert(id, call);
                }
                _ => {}
            }
            *self.asked.entry(id).or_default() += 1;
        }
        if let Some(membership) = &mut self.membership {
            membership.sent.push(frame.to_vec());
        }
        confirmed
    }

    /// Asserts that every request was answered. A request that was sent again while it was processed is answered once.
    pub(super) fn assert_answered(&self) {
        for (id, asked) in &self.asked {
            let answered = self.answered.get(id).copied().unwrap_or(0);
            let enough = if *id == 0 { *asked } else { 1 };
            assert!(answered >= enough, "{id} has {answered} of {asked} answers");
        }
    }

    pub(super) fn receive(&mut self, frame: &[u8], observed: &mut Observed) {
        assert!(
            matches!(self.state, ConnState::Engine | ConnState::Lobby(_)),
            "nothing is sent to a socket that is gone"
        );
        assert_eq!(self.closing, None, "nothing follows `closing`");
        let messages = decode_server_frame(frame).expect("clients can read it");
        assert!(!messages.is_empty(), "no empty frame");
        let raw: Vec<RawJson> = match frame.first() {
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
                    match &outcome {
                        Ok(_) => {
                            let method = self.first.get(&id).map_or("unknown", Call::method);
                            observed.states.note("answer", method);
                        }
                        Err(error) => observed.states.note("error", error.name()),
                    }
                    if let Ok(result) = outcome {
                        // If an id was used several times, its first answer may be given again.
                        let again = asked + before > 1 || asked == 0;
                        self.result(id, result.get(), again, &mut observed.states);
                    }
                }
                ServerMessage::Event(position, event) => {
                    let membership =
                        self.membership.as_mut().expect("events come after the answer");
                    assert_eq!(position.epoch, membership.epoch, "one log");
                    assert_eq!(position.seq, membership.last + 1, "contiguous: {}", event.method());
                    membership.last = position.seq;
                    let at = (position.epoch, position.seq);
                    let text = observed.texts.entry(at).or_insert_with(|| raw.get().to_owned());
                    assert_eq!(text, raw.get(), "an event is the same for all members");
                    membership.apply(&event);
                    observed.states.note("event", event.method());
                }
                ServerMessage::Notice(Notice::Closing(closing)) => {
                    observed.states.note("closing", closing.code.0);
                    self.closing = Some(closing.code);
                }
                ServerMessage::Notice(notice) => {
                    observed.states.note("notice", notice.method());
                    let membership =
                        self.membership.as_mut().expect("a notice comes after the answer");
                    if let Notice::Message(message) = notice {
                        assert!(
                            membership.n.is_none_or(|n| message.n == n + 1),
                            "messages are counted"
                        );
                        membership.n = Some(message.n);
                    }
                }
            }
        }
    }

    fn result(&mut self, id: u64, result: &str, again: bool, states: &mut ReachedStates) {
        let Some(membership) = &self.membership else {
            assert!(self.entries.contains(&id), "nothing else succeeds before");
            match self.resuming.take() {
                Some(membership) => self.resumed(membership, result, states),
                None => self.joined(result, states),
            }
            return;
        };
        let result: Value = serde_json::from_str(result).expect("JSON");
        if let Some(seq) = result.get("seq") {
            let seq = seq.as_u64().expect("a number");
            let older = seq < membership.last && again;
            assert!(seq == membership.last || older, "{seq}: events come before the answer");
        }
    }

    fn joined(&mut self, result: &str, states: &mut ReachedStates) {
        // A `reconnect` with an invented ticket is refused by a result.
        if let Ok(Resumed { outcome, reason, .. }) = serde_json::from_str(result) {
            assert_eq!(outcome, Outcome::Refused, "no client resumes without a ticket");
            states.note("resume", "guessed");
            self.refused = reason;
            return;
        }
        let joined: Joined = serde_json::from_str(result).expect("an answer of `join`");
        states.note("join", joined.own.role.as_str());
        let shown = joined.members.iter().any(|member| member.mid == joined.mid);
        assert_eq!(shown, joined.own.role.as_str() == "broadcaster");
        self.membership = Some(Membership {
            mid: joined.mid,
            rosters: [Roster::new(&joined)].into(),
            ticket: joined.ticket.expect("a ticket"),
            epoch: joined.epoch,
            last: joined.seq,
            n: None,
            sent: Vec::new(),
        });
    }

    fn resumed(&mut self, mut membership: Membership, result: &str, states: &mut ReachedStates) {
        let resumed: Resumed = serde_json::from_str(result).expect("an answer of `reconnect`");
        if resumed.outcome == Outcome::Refused {
            let reason = resumed.reason.expect("a reason");
            states.note("refused", &reason);
            self.refused = Some(reason);
            return;
        }
        let reason = resumed.reason.as_ref().map_or("", ResumeReason::as_str);
        states.note(resumed.outcome.as_str(), reason);
        for (is_so, what) in [
            (resumed.replayed > 0, "events"),
            (resumed.messages > 0, "messages"),
            (resumed.messages_lost > 0, "lost messages"),
            (resumed.restore, "what it must say again"),
        ] {
            if is_so {
                states.note("resumed with", what);
            }
        }
        membership.ticket = resumed.ticket.expect("a ticket");
        membership.n = Some(membership.n.unwrap_or(0) + resumed.messages_lost);
        membership.sent.clear();
        match (resumed.outcome, resumed.snapshot) {
            (Outcome::Replayed, None) => {
                self.messages = Some((resumed.messages, resumed.messages_lost));
            }
            (Outcome::Snapshot, Some(snapshot)) => {
                assert_eq!(snapshot.mid, membership.mid, "the same membership");
                if snapshot.epoch == membership.epoch {
                    self.messages = Some((resumed.messages, resumed.messages_lost));
                } else {
                    membership.n = None;
                }
                (membership.epoch, membership.last) = (snapshot.epoch, snapshot.seq);
                membership.rosters = [Roster::new(&snapshot)].into();
            }
            (outcome, _) => panic!("{outcome} without what belongs to it"),
        }
        self.membership = Some(membership);
    }

    /// The engine or the lobby closes the connection.
    pub(super) fn close(&mut self, code: CloseCode) {
        assert!(
            matches!(self.state, ConnState::Engine | ConnState::Lobby(_)),
            "an open connection is closed"
        );
        match self.closing {
            Some(announced) => assert_eq!(announced, code, "as announced"),
            None => assert_eq!(code, CloseCode::SLOW_READER, "a close is announced"),
        }
        self.state = ConnState::Closed;
    }
}

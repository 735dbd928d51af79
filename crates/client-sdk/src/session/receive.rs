//! What the session does with one message of the server: events, notices, and whose answers they are.

use lianmai_protocol::codec::ServerMessage;
use lianmai_protocol::message::notice::Closing;
use lianmai_protocol::message::session::Pong;
use lianmai_protocol::message::{ChannelEvent, Notice, Position};

use super::state::{Farewell, State};
use super::translate::{self, Cause};
use super::{Change, Session, StateReason};

impl Session {
    /// Works one message off. Whatever it says, the session stays whole.
    pub(super) fn receive(&mut self, message: ServerMessage) {
        match message {
            ServerMessage::Answer { id: Some(id), outcome } => {
                if let State::Joined(live) = &mut self.state
                    && live.take_ping(id.0)
                {
                    if let Ok(pong) = outcome {
                        self.pong(pong.get());
                    }
                    return;
                }
                match self.requests.answered(id.0) {
                    Some(pending) => self.answer(pending, outcome),
                    None => self.ignored.answers += 1,
                }
                self.send_waiting();
            }
            // A refusal of something without an id: the session sends no such thing.
            ServerMessage::Answer { id: None, .. } => self.ignored.answers += 1,
            ServerMessage::Event(position, event) => self.channel_event(position, event),
            ServerMessage::Notice(notice) => self.notice(notice),
        }
    }

    /// The head of the log comes after every event up to it: another picture has lost one (rule B21).
    fn pong(&mut self, json: &str) {
        let Some(picture) = &self.picture else { return };
        match serde_json::from_str::<Pong>(json) {
            Ok(pong) if pong.epoch == picture.epoch && pong.seq == picture.seq => {}
            _ => self.gap(),
        }
    }

    fn channel_event(&mut self, position: Position, event: ChannelEvent) {
        let Some(picture) = &self.picture else {
            self.ignored.early += 1;
            return;
        };
        if position.epoch != picture.epoch {
            return self.gap();
        }
        if position.seq <= picture.seq {
            self.ignored.repeats += 1;
            return;
        }
        if position.seq - picture.seq > 1 {
            return self.gap();
        }
        let (uid, mid) = (picture.own.uid, picture.own.mid);
        let told = Cause { uid, mid, requests: &self.requests }.channel_event(&event);
        self.change(Change::Event { seq: position.seq, event });
        if let Some(event) = told {
            self.event(event);
        }
    }

    fn notice(&mut self, notice: Notice) {
        match &notice {
            Notice::MemberCount(n) => self.change(Change::MemberCount(n.count)),
            Notice::TokenWillExpire(n) => {
                self.change(Change::TokenExpiry(Some(self.now + n.expires_in_ms)));
            }
            Notice::Closing(closing) => self.closing(closing),
            _ => {}
        }
        if let Some(event) = translate::notice(notice) {
            self.event(event);
        }
    }

    fn closing(&mut self, closing: &Closing) {
        if let State::Joining | State::Joined(_) = self.state {
            let farewell = Farewell {
                code: closing.code.0,
                reason: closing.reason.clone(),
                terminal: translate::is_terminal(closing.code.0, Some(&closing.action)),
                give_up: self.now + self.config.closing_timeout_ms,
            };
            self.go(State::Closing(farewell), StateReason::ServerClosing);
        }
    }
}

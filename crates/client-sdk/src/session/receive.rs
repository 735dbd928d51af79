//! Handling of one message of the server. In: events, notices, answers. Out: changes of the picture, events for the
//! app, settled calls. Deliberately absent: the meaning of answers (`answer.rs`, `entry.rs`, `resume.rs`).

use crate::prelude::*;
use lianmai_protocol::codec::ServerMessage;
use lianmai_protocol::message::media::Subscribe;
use lianmai_protocol::message::notice::{Closing, Direction, SyncDone, TargetedMessage};
use lianmai_protocol::message::session::Pong;
use lianmai_protocol::message::{ChannelEvent, Notice, Position};
use lianmai_protocol::wire;

use super::phase::Phase;
use super::state::{AfterClose, FirstRequest, State};
use super::translate::{self, Cause};
use super::{Change, Session};

impl Session {
    /// Handles one message. No message can make the session inconsistent.
    pub(super) fn receive(&mut self, message: ServerMessage) {
        if let Phase::Leaving(_) = self.phase {
            return self.late_leave_message(message);
        }
        match &mut self.state {
            State::Entering { asked, id, .. } => {
                let (asked, id) = (*asked, *id);
                self.receive_entering(asked, id, message);
            }
            State::Joined(_) => self.receive_joined(message),
            State::Closing(said) => match (message, &mut said.then) {
                (
                    ServerMessage::Notice(Notice::Closing(closing)),
                    AfterClose::Back { at_least, .. },
                ) => {
                    *at_least = (*at_least).max(closing.retry_after_ms.unwrap_or(0));
                    self.redirected(&closing);
                }
                _ => self.ignored.early += 1,
            },
            State::Idle | State::Backoff { .. } | State::Connecting { .. } => {
                self.ignored.early += 1;
            }
        }
    }

    /// Before the answer to the first request only that answer and `closing` matter: there is no picture yet.
    fn receive_entering(&mut self, asked: FirstRequest, entering: u64, message: ServerMessage) {
        match message {
            ServerMessage::Answer { id: Some(id), outcome } if id.0 == entering => {
                match (asked, &self.phase) {
                    (FirstRequest::Join, Phase::Joining(_)) => self.entry_answer(outcome),
                    (FirstRequest::Join, Phase::Member(_)) => self.rejoin_answer(outcome),
                    (FirstRequest::Reconnect, _) => self.resume_answer(outcome),
                    _ => self.ignored.answers += 1,
                }
            }
            ServerMessage::Answer { .. } => self.ignored.answers += 1,
            ServerMessage::Notice(Notice::Closing(closing)) => self.announced_closing(closing),
            _ => self.ignored.early += 1,
        }
    }

    fn receive_joined(&mut self, message: ServerMessage) {
        match message {
            ServerMessage::Answer { id: Some(id), outcome } => {
                if let State::Joined(live) = &mut self.state
                    && live.take_ping(id.0)
                {
                    match outcome {
                        Ok(pong) => self.pong(id.0, pong.get()),
                        Err(_) => self.pinged_back(id.0),
                    }
                    return;
                }
                match self.requests.answered(id.0) {
                    Some(pending) => self.answer(pending, outcome),
                    None => self.ignored.answers += 1,
                }
                self.send_waiting();
                self.check_return();
            }
            // An error for a request without an id: the session sends no such request.
            ServerMessage::Answer { id: None, .. } => self.ignored.answers += 1,
            ServerMessage::Event(position, event) => self.channel_event(position, event),
            ServerMessage::Notice(notice) => self.notice(notice),
        }
    }

    /// A `pong` contains the head of the log, after every event up to it. If the picture differs, an event was lost
    /// (PIN-1).
    fn pong(&mut self, id: u64, json: &str) {
        let Some(picture) = self.picture() else { return };
        match wire::from_text::<Pong>(json) {
            Ok(pong) if pong.epoch == picture.epoch && pong.seq == picture.seq => {
                self.pinged_back(id);
            }
            _ => self.gap(),
        }
    }

    fn channel_event(&mut self, position: Position, event: ChannelEvent) {
        let Phase::Member(member) = &mut self.phase else { return };
        let picture = &member.picture;
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
        let cause = Cause { uid, mid, requests: &self.requests };
        let told = cause.channel_event(&event);
        let own = match &event {
            ChannelEvent::ClientJoin(join) => cause.own_entry(join, &picture.own),
            _ => vec![],
        };
        match &event {
            ChannelEvent::StreamAdded(e) => {
                member.restore.appeared(&(e.uid, e.media_type.clone()), self.now);
            }
            ChannelEvent::StreamRemoved(e) => {
                member.urls.drop_pull(e.uid, &e.media_type);
                let ends =
                    |asked: &Subscribe| asked.uid == e.uid && asked.media_type == e.media_type;
                self.requests.ended(position.seq, ends);
            }
            ChannelEvent::RoleChanged(e) if e.mid == mid => member.own_since = position.seq,
            _ => {}
        }
        for (change, event) in own {
            self.apply(change);
            if let Some(event) = event {
                self.event(event);
            }
        }
        self.change(Change::Event { seq: position.seq, event });
        if let Some(event) = told {
            self.event(event);
        }
    }

    fn notice(&mut self, notice: Notice) {
        match &notice {
            Notice::MemberCount(n) => self.change(Change::MemberCount(n.count)),
            Notice::TokenWillExpire(n) => {
                self.change(Change::TokenExpiry(self.now + n.expires_in_ms));
            }
            Notice::ServerRestarting(n) => {
                if let Phase::Member(member) = &mut self.phase {
                    member.restarts(n, self.now);
                }
                self.extend_calls();
            }
            // The server repeats `syncDone` if it may have been lost. The app is told only about a URL that differs.
            Notice::SyncDone(sync) if !self.store_url(sync) => return,
            Notice::Message(message) if !self.record_message(message) => return,
            Notice::Closing(closing) => return self.announced_closing(closing.clone()),
            _ => {}
        }
        if let Some(event) = translate::notice(notice) {
            self.event(event);
        }
    }

    fn announced_closing(&mut self, closing: Closing) {
        self.closing(&closing);
        if let Some(event) = translate::notice(Notice::Closing(closing)) {
            self.event(event);
        }
    }

    /// Targeted messages are numbered across connections, so that none is told twice (RES-8).
    fn record_message(&mut self, message: &TargetedMessage) -> bool {
        let Phase::Member(member) = &mut self.phase else { return false };
        let new = message.n > member.messages;
        if new {
            member.messages = message.n;
        } else {
            self.ignored.repeats += 1;
        }
        new
    }

    /// Stores a URL. Returns whether it differs from the one that the app holds (URL-10).
    fn store_url(&mut self, sync: &SyncDone) -> bool {
        let Phase::Member(member) = &mut self.phase else { return true };
        match &sync.direction {
            Direction::Push => member.urls.push(&sync.media_type, &sync.url),
            Direction::Pull => member.urls.pull(sync.uid, &sync.media_type, &sync.url),
            _ => true,
        }
    }
}

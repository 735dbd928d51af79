//! What an answer means for the command that it settles. Events up to the answer's number were applied
//! before (rule B1); one that is missing is a gap.

use lianmai_protocol::RpcError;
use lianmai_protocol::message::Call;
use lianmai_protocol::message::media::{Mute, Published, Subscribed};
use lianmai_protocol::message::session::{
    AttributeTarget, Done, Empty, Joined as JoinedMessage, MessageSent, TokenRenewed,
};
use lianmai_protocol::{CloseCode, Role, UserId};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::liveness::Liveness;
use super::requests::Pending;
use super::state::State;
use super::{Change, End, Joined, Picture, Reply, Session, StateReason};
use crate::error::CallError;

/// An answer that cannot be what it claims to be.
struct Broken;

impl Session {
    pub(super) fn answer(&mut self, pending: Pending, outcome: Result<Box<RawValue>, RpcError>) {
        let is_join = matches!(pending.request, Call::Join(_));
        let is_leave = matches!(pending.request, Call::Leave(_));
        let result = match outcome {
            Ok(json) => self.accept(&pending.request, &json).map(Ok),
            Err(error) => Ok(Err(CallError::Refused(error))),
        };
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(Broken) => {
                self.gap();
                Err(CallError::OutcomeUnknown)
            }
        };
        if is_join && outcome.is_err() {
            self.end(End::local(CloseCode::NORMAL, "joinRefused", true, StateReason::JoinRefused));
        }
        // Out is out: whatever the server says to `leave`, and the refusals it has mean "not in".
        if is_leave {
            self.end(End::local(CloseCode::NORMAL, "left", true, StateReason::Left));
        }
        if let Some(call) = pending.call {
            self.settle(call, outcome);
        }
    }

    /// Applies what only the answer tells, and says what the app gets.
    fn accept(&mut self, request: &Call, json: &RawValue) -> Result<Reply, Broken> {
        match request {
            Call::Join(_) => self.joined(json),
            Call::Publish(asked) => {
                let answer: Published = read(json)?;
                self.covers(answer.seq)?;
                let kinds = asked.media_type.kinds();
                self.change(Change::Generation { kinds, generation: answer.generation });
                Ok(Reply::Published(answer))
            }
            Call::Subscribe(asked) => {
                let answer: Subscribed = read(json)?;
                self.covers(answer.seq)?;
                let media_type = asked.media_type.clone();
                self.change(Change::Subscribed { uid: asked.uid, media_type });
                Ok(Reply::Subscribed(answer))
            }
            Call::SendMessage(_) => {
                let answer: MessageSent = read(json)?;
                self.covers(answer.seq)?;
                Ok(Reply::MessageSent { delivered: answer.delivered })
            }
            Call::RenewToken(_) => {
                let answer: TokenRenewed = read(json)?;
                self.covers(answer.seq)?;
                let expires_in_ms = answer.token_expires_in_ms;
                self.change(Change::Rights(answer.rights));
                self.change(Change::TokenExpiry(expires_in_ms.map(|ms| self.now + ms)));
                Ok(Reply::TokenRenewed { expires_in_ms })
            }
            Call::Report(_) => read::<Empty>(json).map(|_| Reply::Done),
            _ => {
                let answer: Done = read(json)?;
                self.covers(answer.seq)?;
                self.own_effect(request);
                Ok(Reply::Done)
            }
        }
    }

    fn joined(&mut self, json: &RawValue) -> Result<Reply, Broken> {
        let State::Joining = self.state else {
            // A `closing` overtook the answer: there is no membership to enter.
            return Err(Broken);
        };
        let answer: JoinedMessage = read(json)?;
        let live = Liveness::new(&answer.timers, self.now, self.reading_paused);
        let (session_id, deployment_id) = (answer.session_id, answer.deployment_id.clone());
        let picture = Picture::from_snapshot(answer, self.now);
        self.change(Change::Entered(Box::new(picture.clone())));
        self.go(State::Joined(live), StateReason::Joined);
        Ok(Reply::Joined(Box::new(Joined {
            cid: picture.cid,
            uid: picture.own.uid,
            mid: picture.own.mid,
            session_id,
            deployment_id,
            picture,
        })))
    }

    /// Checks that every event up to `seq` was applied.
    fn covers(&self, seq: u64) -> Result<(), Broken> {
        let applied = self.picture.as_ref().is_some_and(|picture| seq <= picture.seq);
        if applied { Ok(()) } else { Err(Broken) }
    }

    /// Effects on the app's own state that no event tells: those of an audience member, and the end of
    /// a subscription.
    fn own_effect(&mut self, request: &Call) {
        let Some(own) = self.picture.as_ref().map(|picture| &picture.own) else { return };
        let unseen = own.role == Role::Audience;
        let uid = own.uid;
        let is_own = |target: Option<UserId>| target.is_none_or(|of| of == uid);
        let muted = |asked: &Mute, muted: bool| {
            let kinds = asked.media_type.kinds();
            (unseen && is_own(asked.uid)).then_some(Change::OwnMuted { kinds, muted })
        };
        let change = match request {
            Call::Unsubscribe(asked) => {
                Some(Change::Unsubscribed { uid: asked.uid, media_type: asked.media_type.clone() })
            }
            Call::Mute(asked) => muted(asked, true),
            Call::Unmute(asked) => muted(asked, false),
            Call::SetAttributes(asked) if asked.target != Some(AttributeTarget::Channel) => unseen
                .then(|| Change::OwnAttributes {
                    patch: asked.attributes.clone(),
                    name: asked.name.clone(),
                }),
            _ => None,
        };
        if let Some(change) = change {
            self.change(change);
        }
    }
}

fn read<T: DeserializeOwned>(json: &RawValue) -> Result<T, Broken> {
    serde_json::from_str(json.get()).map_err(|_| Broken)
}

//! What an answer means for the command that it settles. Events up to the answer's number were applied
//! before (ORD-4); one that is missing is a gap.

use crate::prelude::*;
use alloc::sync::Arc;

use lianmai_protocol::codec;
use lianmai_protocol::message::Call;
use lianmai_protocol::message::media::{Mute, Published, Subscribed};
use lianmai_protocol::message::notice::{Direction, SyncDone};
use lianmai_protocol::message::session::{AttributeTarget, Done, Empty, MessageSent, TokenRenewed};
use lianmai_protocol::raw::RawJson;
use lianmai_protocol::wire::Wire;
use lianmai_protocol::{ErrorName, KindSet, Role, RpcError, UserId};

use super::link::End;
use super::requests::{Owner, Pending};
use super::restore::without;
use super::stay::Stay;
use super::translate;
use super::{Change, Event, Reply, Session, Work};
use crate::error::CallError;

/// An answer that cannot be what it claims to be.
pub(super) enum Broken {
    /// It cannot be read: asking again gives the same.
    Garbled,
    /// It is about events that did not come: they come with the next connection, and it again.
    Ahead,
}

impl Session {
    pub(super) fn answer(&mut self, pending: Pending, outcome: Result<RawJson, RpcError>) {
        let is_leave = matches!(pending.request, Call::Leave(_));
        let result = match outcome {
            Ok(json) => self.accept(&pending, &json),
            Err(error) => Ok(Err(error)),
        };
        // Out is out: whatever the server says to `leave`, and the refusals it has mean "not in".
        if is_leave {
            self.end(End::left());
            if let Owner::App(call) = pending.owner {
                let refused = |error| Err(CallError::Refused(error));
                let outcome = result.map(|outcome| outcome.or_else(refused));
                self.settle(call, outcome.unwrap_or(Err(CallError::OutcomeUnknown)));
            }
            return;
        }
        match (result, pending.owner) {
            (Ok(Ok(reply)), Owner::App(call)) => {
                self.note_urls(&pending.request, &reply);
                self.settle(call, Ok(reply));
            }
            (Ok(Err(error)), Owner::App(call)) => self.settle(call, Err(CallError::Refused(error))),
            // The app waits for no answer: what it holds now it is told.
            (Ok(Ok(reply)), Owner::GivenUp | Owner::Session) => {
                if self.note_urls(&pending.request, &reply)
                    && let Some(sync) = sync_done(&pending.request, reply)
                {
                    self.event(Event::SyncDone(sync));
                }
            }
            (Ok(Err(error)), Owner::Session) => self.restore_refused(pending.request, &error),
            (Ok(Err(_)), Owner::GivenUp) => {}
            (Err(Broken::Ahead), _) => {
                self.requests.put_back(pending);
                self.gap();
            }
            (Err(Broken::Garbled), owner) => {
                self.gap();
                if let Owner::App(call) = owner {
                    self.settle(call, Err(CallError::OutcomeUnknown));
                }
            }
        }
    }

    /// What the session itself asked for was refused: the app has heard that it is not so any more.
    fn restore_refused(&mut self, request: Call, error: &RpcError) {
        let Stay::Member(member) = &mut self.stay else { return };
        match (error.name(), request) {
            (ErrorName::RateLimited | ErrorName::TooManyInFlight, request) => {
                let after = error.data.retry_after_ms.unwrap_or(0);
                let own = member.picture.own.uid;
                let rest = (self.requests.of_app())
                    .try_fold(request, |rest, call| without(rest, call, own));
                if let Some(rest) = rest {
                    member.restore.slow_down(rest, after, self.now);
                }
            }
            // It may be on its way back, like this session.
            (ErrorName::NotPublished | ErrorName::NoSuchMember, Call::Subscribe(asked)) => {
                member.restore.want((asked.uid, asked.media_type), self.now);
            }
            _ => {}
        }
    }

    /// Notes the URLs that are handed out. Whether the app does not hold this one yet.
    fn note_urls(&mut self, request: &Call, reply: &Reply) -> bool {
        let Stay::Member(member) = &mut self.stay else { return false };
        match (request, reply) {
            (Call::Publish(asked), Reply::Published(answer)) => {
                let kinds = asked.media_type.kinds();
                kinds.iter().next().is_some_and(|kind| member.urls.push(kind, &answer.url))
            }
            (Call::Subscribe(asked), Reply::Subscribed(answer)) => {
                member.urls.pull(asked.uid, &asked.media_type, &answer.url)
            }
            (Call::Unsubscribe(asked), _) => {
                member.urls.drop_pull(asked.uid, &asked.media_type);
                false
            }
            _ => false,
        }
    }

    /// Applies what only the answer tells, and says what the app gets.
    fn accept(
        &mut self,
        pending: &Pending,
        json: &RawJson,
    ) -> Result<Result<Reply, RpcError>, Broken> {
        let reply = match &pending.request {
            Call::Publish(asked) => {
                let answer: Published = read(json)?;
                self.covers(answer.seq)?;
                let kinds = asked.media_type.kinds();
                // What took effect is in the picture, unless it ended since.
                if !self.publishes_any(kinds) {
                    return Ok(Err(RpcError::bare(ErrorName::Superseded)));
                }
                let learnt = Change::Generation { kinds, generation: answer.generation };
                self.learn(pending.id, Arc::new(learnt));
                Reply::Published(answer)
            }
            Call::Subscribe(asked) => {
                let answer: Subscribed = read(json)?;
                self.covers(answer.seq)?;
                if pending.is_over_since(answer.seq) {
                    return Ok(Err(RpcError::bare(ErrorName::Superseded)));
                }
                let media_type = asked.media_type.clone();
                self.learn(pending.id, Arc::new(Change::Subscribed { uid: asked.uid, media_type }));
                Reply::Subscribed(answer)
            }
            Call::SendMessage(_) => {
                let answer: MessageSent = read(json)?;
                self.covers(answer.seq)?;
                Reply::MessageSent { delivered: answer.delivered }
            }
            Call::RenewToken(asked) => {
                let answer: TokenRenewed = read(json)?;
                self.covers(answer.seq)?;
                let expires_in_ms = answer.token_expires_in_ms;
                if let Stay::Member(member) = &mut self.stay {
                    member.entry.token = Some(asked.token.clone());
                    member.urls.keep_pulls(|(_, kind)| answer.rights.subscribe.contains(kind));
                }
                let expires_at = expires_in_ms.map(|ms| self.now + ms);
                let learnt = Change::TokenRenewed { rights: answer.rights, expires_at };
                self.learn(pending.id, Arc::new(learnt));
                Reply::TokenRenewed { expires_in_ms }
            }
            Call::Report(_) => {
                read::<Empty>(json)?;
                Reply::Done
            }
            _ => {
                let answer: Done = read(json)?;
                self.covers(answer.seq)?;
                self.own_effect(pending, answer.seq);
                Reply::Done
            }
        };
        Ok(Ok(reply))
    }

    fn publishes_any(&self, kinds: KindSet) -> bool {
        let own = self.picture().map(|picture| &picture.own);
        own.is_some_and(|own| kinds.iter().any(|kind| own.published.contains_key(kind)))
    }

    /// Checks that every event up to `seq` was applied.
    fn covers(&self, seq: u64) -> Result<(), Broken> {
        let applied = self.picture().is_some_and(|picture| seq <= picture.seq);
        if applied { Ok(()) } else { Err(Broken::Ahead) }
    }

    /// Effects on the app's own state that no event tells: those of an audience member, and the end of
    /// a subscription. Where no call of the app waits for the answer, the app hears of them.
    fn own_effect(&mut self, pending: &Pending, seq: u64) {
        let Stay::Member(member) = &self.stay else { return };
        let own = &member.picture.own;
        let unseen = own.role == Role::Audience && seq >= member.own_since;
        let uid = own.uid;
        let is_own = |target: Option<UserId>| target.is_none_or(|of| of == uid);
        let muted = |asked: &Mute, muted: bool| {
            let kinds = asked.media_type.kinds();
            (unseen && is_own(asked.uid)).then_some(Change::OwnMuted { kinds, muted })
        };
        let change = match &pending.request {
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
        let Some(change) = change.map(Arc::new) else { return };
        if let Owner::App(_) = pending.owner {
            return self.learn(pending.id, change);
        }
        let mut steps = translate::own_changes(&change, own);
        steps.extend(self.learnt_later(pending.id, change).into_iter().map(|later| (later, None)));
        for (change, event) in steps.into_iter().rev() {
            self.inbox.push_front(Work::Step(change, event));
        }
    }

    /// Applies what only an answer tells.
    fn learn(&mut self, id: u64, change: Arc<Change>) {
        self.apply(Arc::clone(&change));
        for later in self.learnt_later(id, change) {
            self.apply(later);
        }
    }

    /// What the answers of later calls have told already, to be applied once more: calls took effect in the order of
    /// their ids, and their answers may come in any (ORD-8). Remembers this one for as long as an earlier call waits.
    fn learnt_later(&mut self, id: u64, change: Arc<Change>) -> Vec<Arc<Change>> {
        let oldest = self.requests.oldest();
        let Stay::Member(member) = &mut self.stay else { return Vec::new() };
        let at = member.learnt.partition_point(|(of, _)| *of < id);
        let later = member.learnt[at..].iter().map(|(_, change)| Arc::clone(change)).collect();
        member.learnt.insert(at, (id, change));
        member.learnt.retain(|(of, _)| oldest.is_some_and(|oldest| oldest < *of));
        later
    }
}

/// What the app hears of a URL that the session itself asked for.
fn sync_done(request: &Call, reply: Reply) -> Option<SyncDone> {
    Some(match (request, reply) {
        (Call::Publish(asked), Reply::Published(Published { uid, url, urls, .. })) => {
            let media_type = asked.media_type.kinds().iter().next()?.clone();
            SyncDone { uid, direction: Direction::Push, media_type, url, urls }
        }
        (Call::Subscribe(asked), Reply::Subscribed(Subscribed { url, urls, .. })) => {
            let (uid, media_type) = (asked.uid, asked.media_type.clone());
            SyncDone { uid, direction: Direction::Pull, media_type, url, urls }
        }
        _ => return None,
    })
}

pub(super) fn read<T: Wire>(json: &RawJson) -> Result<T, Broken> {
    codec::decode_result(json).map_err(|_| Broken::Garbled)
}

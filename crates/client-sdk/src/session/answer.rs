//! Handling of answers. In: a command with its answer. Out: the settled call, and the changes that only the answer
//! reports. Deliberately absent: events; all events up to the `seq` of the answer were applied before (ORD-4), and a
//! missing one is a gap.

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
use super::phase::Phase;
use super::requests::{Owner, Pending};
use super::restore::without;
use super::translate;
use super::{Change, Event, Reply, Session, Work};
use crate::error::CallError;

/// An answer that cannot be used.
pub(super) enum Broken {
    /// The answer cannot be read. Sending the request again would not help.
    Garbled,
    /// The answer refers to events that did not arrive. They come with the next connection, and the answer again.
    Ahead,
}

impl Session {
    pub(super) fn answer(&mut self, pending: Pending, outcome: Result<RawJson, RpcError>) {
        let is_leave = matches!(pending.request, Call::Leave(_));
        let result = match outcome {
            Ok(json) => self.accept(&pending, &json),
            Err(error) => Ok(Err(error)),
        };
        // Any answer to `leave` means that the app is out: the errors of `leave` say that it is not in the channel.
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
            // No call of the app waits for this answer, so the app is told the new URL by an event.
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

    /// A command of the session was refused. The app has been told already that this part of its state is lost.
    fn restore_refused(&mut self, request: Call, error: &RpcError) {
        let Phase::Member(member) = &mut self.phase else { return };
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
            // The member may be reconnecting, like this session.
            (ErrorName::NotPublished | ErrorName::NoSuchMember, Call::Subscribe(asked)) => {
                member.restore.want((asked.uid, asked.media_type), self.now);
            }
            _ => {}
        }
    }

    /// Stores the URL of an answer. Returns whether it differs from the one that the app holds.
    fn note_urls(&mut self, request: &Call, reply: &Reply) -> bool {
        let Phase::Member(member) = &mut self.phase else { return false };
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

    /// Applies the changes that only the answer reports, and returns the reply for the app.
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
                // A publication that took effect is in the picture, unless it has ended since.
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
                if let Phase::Member(member) = &mut self.phase {
                    member.join.token = Some(asked.token.clone());
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

    /// Applies effects on the app's own state that no event reports: those on an audience member, and the end of a
    /// subscription. If no call of the app waits for the answer, the app is told by events.
    fn own_effect(&mut self, pending: &Pending, seq: u64) {
        let Phase::Member(member) = &self.phase else { return };
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

    /// Applies a change that only an answer reports.
    fn learn(&mut self, id: u64, change: Arc<Change>) {
        self.apply(Arc::clone(&change));
        for later in self.learnt_later(id, change) {
            self.apply(later);
        }
    }

    /// Stores `change` for as long as an earlier call waits, and returns the stored changes of later calls, which must
    /// be applied again after it: calls take effect in the order of their ids, but their answers may come in any order
    /// (ORD-8).
    fn learnt_later(&mut self, id: u64, change: Arc<Change>) -> Vec<Arc<Change>> {
        let oldest = self.requests.oldest();
        let Phase::Member(member) = &mut self.phase else { return Vec::new() };
        let at = member.learnt.partition_point(|(of, _)| *of < id);
        let later = member.learnt[at..].iter().map(|(_, change)| Arc::clone(change)).collect();
        member.learnt.insert(at, (id, change));
        member.learnt.retain(|(of, _)| oldest.is_some_and(|oldest| oldest < *of));
        later
    }
}

/// The event for a URL that the session itself requested.
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

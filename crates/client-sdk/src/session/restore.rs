//! Restoring the app's state after a crash of the server or in a new membership (CLI-5). In: the picture before and the
//! one now. Out: commands of the session itself, at a rate that the server accepts. Deliberately absent: the meaning of
//! their answers (`answer.rs`), and calls of the app that have no answer yet, because those are sent again anyway.

use crate::prelude::*;

use lianmai_protocol::Map;
use lianmai_protocol::message::Call;
use lianmai_protocol::message::media::{Mute, Publish, SetRole, Subscribe};
use lianmai_protocol::message::session::{AttributeTarget, SetAttributes};
use lianmai_protocol::{Attributes, KindSet, MediaKind, MediaSelector, MonoTime, Role, UserId};

use super::picture::{Own, Picture};
use super::urls::Urls;

/// A member and a kind of its media.
pub(super) type StreamKey = (UserId, MediaKind);

/// A lost subscription is restored if its stream returns within this time.
const RESTORE_WINDOW_MS: u64 = 60_000;
/// Number of commands that are sent at once. A server allows 40, and the app needs some of them.
const BURST: usize = 32;
/// Pause between the other commands: half the rate that a server allows.
const PACE_MS: u64 = 100;
/// The shortest pause after the server answered `rateLimited`.
const RATE_LIMITED_PACE_MS: u64 = 1_000;

/// The state that the app wants.
pub(super) struct Intent {
    role: Role,
    name: Option<String>,
    attributes: Attributes,
    muted: KindSet,
    published: KindSet,
    /// Those of `published` that the session itself requested and that have no answer: the app may have no URL for
    /// them.
    unanswered: KindSet,
    streams: Map<StreamKey, ()>,
}

impl Intent {
    /// The last state of the app, plus the parts of an earlier state that the session had not yet restored.
    pub(super) fn of<'a>(picture: &Picture, unfinished: impl Iterator<Item = &'a Call>) -> Intent {
        let own = &picture.own;
        let mut intent = Intent {
            role: own.role.clone(),
            name: own.name.clone(),
            attributes: own.attributes.clone(),
            muted: own.muted,
            published: own.published.keys().cloned().collect(),
            unanswered: KindSet::NONE,
            streams: Map::from_iter(own.subscriptions.keys().map(|stream| (stream.clone(), ()))),
        };
        for call in unfinished {
            intent.add(call);
        }
        intent
    }

    fn add(&mut self, call: &Call) {
        match call {
            Call::SetRole(asked) => self.role = asked.role.clone(),
            Call::SetAttributes(asked) => {
                self.attributes.apply(&asked.attributes);
                if asked.name.is_some() {
                    self.name.clone_from(&asked.name);
                }
            }
            Call::Mute(asked) => self.muted = self.muted.union(asked.media_type.kinds()),
            Call::Unmute(asked) => self.muted = self.muted.difference(asked.media_type.kinds()),
            Call::Publish(asked) => {
                let kinds = asked.media_type.kinds();
                self.published = self.published.union(kinds);
                self.unanswered = self.unanswered.union(kinds);
            }
            Call::Subscribe(asked) => {
                self.streams.insert((asked.uid, asked.media_type.clone()), ());
            }
            _ => {}
        }
    }

    /// Excludes the state that a pending call of the app sets. That call is sent again after the restore commands and
    /// may have taken effect before; other members must not see an older value in between.
    pub(super) fn leave_to(&mut self, call: &Call, now: &Own) {
        let is_own = |uid: Option<UserId>| uid.is_none_or(|uid| uid == now.uid);
        match call {
            Call::SetRole(asked) if is_own(asked.uid) && asked.role != self.role => {
                self.role = now.role.clone();
                if asked.role == Role::Audience {
                    self.published = KindSet::NONE;
                }
            }
            Call::SetAttributes(asked) if asked.target != Some(AttributeTarget::Channel) => {
                for key in asked.attributes.keys() {
                    match now.attributes.0.get(key) {
                        Some(value) => self.attributes.0.insert(key.clone(), value.clone()),
                        None => self.attributes.0.remove(key),
                    };
                }
                if asked.name.is_some() {
                    self.name.clone_from(&now.name);
                }
            }
            Call::Mute(asked) | Call::Unmute(asked) if is_own(asked.uid) => {
                let kinds = asked.media_type.kinds();
                self.muted = self.muted.difference(kinds).union(now.muted.intersection(kinds));
            }
            Call::Publish(asked) | Call::Unpublish(asked) if is_own(asked.uid) => {
                self.published = self.published.difference(asked.media_type.kinds());
            }
            _ => {}
        }
    }

    /// The commands that change the state `now` into the wanted one. `before` shows which push URLs the app holds.
    pub(super) fn own_calls(&self, before: &Own, now: &Own) -> Vec<Call> {
        let mut calls = vec![];
        if self.role != now.role && matches!(self.role, Role::Broadcaster | Role::Audience) {
            calls.push(Call::SetRole(SetRole { role: self.role.clone(), uid: None }));
        }
        let attributes = patch(&now.attributes, &self.attributes);
        let name = self.name.clone().filter(|name| now.name.as_ref() != Some(name));
        if !attributes.is_empty() || name.is_some() {
            calls.push(Call::SetAttributes(SetAttributes { attributes, target: None, name }));
        }
        let mute = |kinds: KindSet| {
            let media_type = selector(kinds.intersection(KindSet::AUDIO_VIDEO))?;
            Some(Mute { media_type, uid: None })
        };
        calls.extend(mute(self.muted.difference(now.muted)).map(Call::Mute));
        calls.extend(mute(now.muted.difference(self.muted)).map(Call::Unmute));
        if self.role == Role::Broadcaster {
            let wanted = Urls::slots().map(|slot| self.published.intersection(slot));
            let lost = wanted.into_iter().filter(|kinds| {
                !kinds.intersection(self.unanswered).is_empty() || !is_intact(*kinds, before, now)
            });
            calls.extend(
                lost.filter_map(selector)
                    .map(|media_type| Call::Publish(Publish { media_type, uid: None })),
            );
        }
        calls
    }

    pub(super) fn streams(&self) -> impl Iterator<Item = &StreamKey> {
        self.streams.keys()
    }
}

/// Whether all `kinds` are published on the push URL that the app holds.
fn is_intact(kinds: KindSet, before: &Own, now: &Own) -> bool {
    kinds.iter().all(|kind| {
        let (Some(held), Some(published)) = (before.published.get(kind), now.published.get(kind))
        else {
            return false;
        };
        held.generation.is_none() || held.generation == published.generation
    })
}

fn selector(kinds: KindSet) -> Option<MediaSelector> {
    let mut all = kinds.iter();
    match (all.next(), all.next()) {
        (None, _) => None,
        (Some(kind), None) => Some(MediaSelector::Kind(kind.clone())),
        (Some(_), Some(_)) => Some(MediaSelector::Both),
    }
}

/// The patch that changes `from` into `to`.
pub(super) fn patch(from: &Attributes, to: &Attributes) -> Map<String, Option<String>> {
    let gone = from.0.keys().filter(|key| !to.0.contains_key(*key)).map(|key| (key.clone(), None));
    let set = to.0.iter().filter(|(key, value)| from.0.get(*key) != Some(value));
    Map::from_iter(gone.chain(set.map(|(key, value)| (key.clone(), Some(value.clone())))))
}

/// The commands that are still to be sent.
#[derive(Default)]
pub(super) struct Restore {
    queue: Vec<Call>,
    /// Number of commands that may be sent without a pause.
    burst: usize,
    next_at: MonoTime,
    /// Subscriptions to streams that do not exist, and until when they are wanted.
    wanted: Map<StreamKey, MonoTime>,
}

impl Restore {
    /// Starts again with `streams`. `busy` commands in the request table count against the burst.
    pub(super) fn begin(&mut self, streams: Vec<StreamKey>, busy: usize, now: MonoTime) {
        self.queue = streams.into_iter().map(subscribe).collect();
        self.burst = BURST.saturating_sub(busy);
        self.next_at = now + PACE_MS;
    }

    /// Drops the pending commands: the state that the server reports is valid.
    pub(super) fn drop_queue(&mut self) {
        self.queue.clear();
    }

    /// Records that a stream is wanted that does not exist.
    pub(super) fn want(&mut self, stream: StreamKey, now: MonoTime) {
        self.wanted.retain(|_, until| now <= *until);
        self.wanted.insert(stream, now + RESTORE_WINDOW_MS);
    }

    /// A stream was added: subscribes to it if it is wanted.
    pub(super) fn appeared(&mut self, stream: &StreamKey, now: MonoTime) {
        if self.wanted.remove(stream).is_some_and(|until| now <= until) {
            if self.queue.is_empty() {
                // The command is due from now on, not since the old `next_at`: an overdue deadline would look like a
                // frozen host.
                self.next_at = self.next_at.max(now);
            }
            self.queue.push(subscribe(stream.clone()));
        }
    }

    /// The app itself now sets what `call` sets: removes older commands for it.
    pub(super) fn decided(&mut self, call: &Call, own: UserId) {
        if let Call::Subscribe(asked) | Call::Unsubscribe(asked) = call {
            self.wanted.remove(&(asked.uid, asked.media_type.clone()));
        }
        let queue = core::mem::take(&mut self.queue);
        self.queue = queue.into_iter().filter_map(|queued| without(queued, call, own)).collect();
    }

    pub(super) fn is_wanted(&self, stream: &StreamKey) -> bool {
        self.wanted.contains_key(stream)
    }

    /// The server answered that the rate is too high: `call` is sent again later.
    pub(super) fn slow_down(&mut self, call: Call, after_ms: u64, now: MonoTime) {
        self.queue.insert(0, call);
        self.burst = 0;
        self.next_at = self.next_at.max(now + after_ms.max(RATE_LIMITED_PACE_MS));
    }

    /// The next command, if one is due.
    pub(super) fn take(&mut self, now: MonoTime) -> Option<Call> {
        if self.queue.is_empty() || (self.burst == 0 && now < self.next_at) {
            return None;
        }
        self.burst = self.burst.saturating_sub(1);
        self.next_at = now + PACE_MS;
        Some(self.queue.remove(0))
    }

    /// The time at which [`Restore::take`] returns a command.
    pub(super) fn next_at(&self) -> Option<MonoTime> {
        (!self.queue.is_empty()).then_some(self.next_at)
    }

    /// The commands that were not sent yet.
    pub(super) fn queue(&self) -> impl Iterator<Item = &Call> {
        self.queue.iter()
    }

    pub(super) fn is_done(&self) -> bool {
        self.queue.is_empty()
    }
}

/// The rest of a queued command of the session, without the parts that the app's later call `decided` sets.
pub(super) fn without(queued: Call, decided: &Call, own: UserId) -> Option<Call> {
    let is_own = |uid: Option<UserId>| uid.is_none_or(|uid| uid == own);
    let rest =
        |of: MediaSelector, gone: &MediaSelector| selector(of.kinds().difference(gone.kinds()));
    match (queued, decided) {
        (Call::Subscribe(asked), Call::Subscribe(by) | Call::Unsubscribe(by)) if asked == *by => {
            None
        }
        (Call::SetRole(_), Call::SetRole(by)) if is_own(by.uid) => None,
        (Call::Publish(_), Call::SetRole(by)) if is_own(by.uid) && by.role == Role::Audience => {
            None
        }
        (Call::Publish(asked), Call::Publish(by) | Call::Unpublish(by)) if is_own(by.uid) => {
            let media_type = rest(asked.media_type, &by.media_type)?;
            Some(Call::Publish(Publish { media_type, uid: None }))
        }
        (Call::Mute(asked), Call::Mute(by) | Call::Unmute(by)) if is_own(by.uid) => {
            let media_type = rest(asked.media_type, &by.media_type)?;
            Some(Call::Mute(Mute { media_type, uid: None }))
        }
        (Call::Unmute(asked), Call::Mute(by) | Call::Unmute(by)) if is_own(by.uid) => {
            let media_type = rest(asked.media_type, &by.media_type)?;
            Some(Call::Unmute(Mute { media_type, uid: None }))
        }
        (Call::SetAttributes(mut asked), Call::SetAttributes(by))
            if by.target != Some(AttributeTarget::Channel) =>
        {
            asked.attributes.retain(|key, _| !by.attributes.contains_key(key));
            asked.name.take_if(|_| by.name.is_some());
            (!asked.attributes.is_empty() || asked.name.is_some())
                .then_some(Call::SetAttributes(asked))
        }
        (queued, _) => Some(queued),
    }
}

fn subscribe((uid, media_type): StreamKey) -> Call {
    Call::Subscribe(Subscribe { uid, media_type })
}

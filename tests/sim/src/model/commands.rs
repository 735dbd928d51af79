//! What each command does, as docs/protocol.md section 6 tells it, and what goes on when the outside has answered.

use lianmai_protocol::attributes::escaped_bytes;
use lianmai_protocol::limits::{MAX_BAN_S, MAX_HOLD_S};
use lianmai_protocol::message::Call;
use lianmai_protocol::message::event::{LeaveReason, RoomCloseReason};
use lianmai_protocol::message::media::{Mute, SetRole};
use lianmai_protocol::message::session::{AttributeTarget, Kick, SendMessage, SetAttributes};
use lianmai_protocol::{CloseCode, ErrorName, KindSet, RequestId, Role, UserId};
use lianmai_signal_engine::{ChannelKey, Grant, PersistId, VerifyId};

use super::state::{Made, On, Then, Waiting};
use super::verify::UNSEEN;
use super::{Expect, Model, Step, Verdict};
use crate::check::app::payload;

/// What a command comes to: an answer, or nothing yet.
pub(super) type Outcome = Result<Option<Expect>, ErrorName>;
pub(super) type Asked = (RequestId, u64);

impl Model {
    pub(super) fn execute(
        &mut self,
        s: usize,
        key: &ChannelKey,
        uid: UserId,
        asked: Asked,
        call: Call,
        step: &mut Step<'_>,
    ) -> Verdict {
        let outcome = match call {
            Call::Leave(_) => return self.leave(s, key, uid, asked, step),
            Call::Publish(params) => self.publish(s, key, uid, asked, &params, step)?,
            Call::Unpublish(params) => self.unpublish(s, key, uid, asked, &params, step)?,
            Call::Subscribe(params) => self.subscribe(s, key, uid, asked, &params, step)?,
            Call::Unsubscribe(params) => self.unsubscribe(s, key, uid, &params, step),
            Call::SetRole(params) => self.set_role(s, key, uid, asked, &params, step)?,
            Call::Mute(params) => self.mute(s, key, uid, asked, &params, true, step)?,
            Call::Unmute(params) => self.mute(s, key, uid, asked, &params, false, step)?,
            Call::Kick(params) => self.kick(s, key, uid, asked, params, step)?,
            Call::CloseChannel(params) => {
                let (hold_s, reason) = (params.hold_s, params.reason);
                self.close(s, key, uid, asked, hold_s, reason, step)?
            }
            Call::SendMessage(params) => self.send_message(s, key, uid, params, step),
            Call::SetAttributes(params) => self.set_attributes(s, key, uid, &params, step),
            Call::RenewToken(_) => {
                let verify = step.take_verify()?;
                self.wait(s, key, uid, asked, On::Token { verify });
                Ok(None)
            }
            Call::Report(_) => Ok(Some(Expect::Nothing)),
            // Answered where they come in.
            Call::Join(_) | Call::Reconnect(_) | Call::Ping(_) => return Ok(()),
            Call::AddTasks(_) | Call::UpdateTasks(_) | Call::DeleteTasks(_) => {
                Err(ErrorName::MethodNotFound)
            }
        };
        match outcome {
            Ok(None) => Ok(()),
            Ok(Some(expect)) => self.answer(s, key, uid, asked, Ok(expect), step),
            Err(error) => self.answer(s, key, uid, asked, Err(error), step),
        }
    }

    pub(super) fn wait(
        &mut self,
        s: usize,
        key: &ChannelKey,
        uid: UserId,
        (id, hash): Asked,
        on: On,
    ) {
        if let Some(member) = self.member(s, key, uid) {
            member.waiting = Some(Waiting { id, hash, on, held: Default::default() });
        }
    }

    /// A command that waited has its answer; those behind it go on.
    pub(super) fn go_on(
        &mut self,
        s: usize,
        key: &ChannelKey,
        uid: UserId,
        outcome: Result<Expect, ErrorName>,
        step: &mut Step<'_>,
    ) -> Verdict {
        let waiting = self.member(s, key, uid).and_then(|member| member.waiting.take());
        let Some(Waiting { id, hash, mut held, .. }) = waiting else { return Ok(()) };
        self.answer(s, key, uid, (id, hash), outcome, step)?;
        while let Some((id, hash, call)) = held.pop_front() {
            // Who leaves overtakes what waits.
            if held.iter().any(|(.., later)| matches!(later, Call::Leave(_))) {
                self.answer(s, key, uid, (id, hash), Err(ErrorName::Superseded), step)?;
                continue;
            }
            self.execute(s, key, uid, (id, hash), call, step)?;
            let Some(member) = self.member(s, key, uid) else { return Ok(()) };
            if let Some(waiting) = &mut member.waiting {
                waiting.held = held;
                return Ok(());
            }
        }
        Ok(())
    }

    fn leave(
        &mut self,
        s: usize,
        key: &ChannelKey,
        uid: UserId,
        asked: Asked,
        step: &mut Step<'_>,
    ) -> Verdict {
        let waiting = self.member(s, key, uid).and_then(|member| member.waiting.take());
        if let Some(waiting) = waiting {
            let held = waiting.held.iter().map(|(id, hash, _)| (*id, *hash));
            for asked in std::iter::once((waiting.id, waiting.hash)).chain(held) {
                self.answer(s, key, uid, asked, Err(ErrorName::Superseded), step)?;
            }
        }
        self.announce_end(s, key, uid, LeaveReason::Left, step);
        let done = self.done(s, key);
        self.answer(s, key, uid, asked, Ok(done), step)?;
        self.drop_conn(s, key, uid, CloseCode::NORMAL, step);
        self.forget(s, key, uid, &LeaveReason::Left);
        self.dissolve(s, key, uid, step);
        Ok(())
    }

    fn moderates(&self, s: usize, key: &ChannelKey, uid: UserId) -> Result<(), ErrorName> {
        let channel = self.shards[s].channels.get(key);
        let member = channel.and_then(|channel| channel.members.get(&uid));
        if member.is_some_and(|member| member.rights.moderate) {
            Ok(())
        } else {
            Err(ErrorName::Forbidden)
        }
    }

    /// Whom a command is about.
    pub(super) fn target(
        &self,
        s: usize,
        key: &ChannelKey,
        uid: UserId,
        of: Option<UserId>,
    ) -> Result<UserId, ErrorName> {
        let of = of.unwrap_or(uid);
        if of != uid {
            self.moderates(s, key, uid)?;
            let channel = self.shards[s].channels.get(key);
            if channel.is_none_or(|channel| !channel.members.contains_key(&of)) {
                return Err(ErrorName::NoSuchMember);
            }
        }
        Ok(of)
    }

    /// Done at once, or, where somebody else was changed, when it is written down.
    pub(super) fn changed(
        &mut self,
        s: usize,
        key: &ChannelKey,
        (uid, of): (UserId, UserId),
        asked: Asked,
        events: u64,
        step: &mut Step<'_>,
    ) -> Verdict<Outcome> {
        let done = self.done(s, key);
        if uid == of || self.shards[s].events == events {
            return Ok(Ok(Some(done)));
        }
        let place = self.channel(s, key).map(|channel| (channel.epoch, channel.head()));
        if let Some(member) = self.member(s, key, of) {
            member.forced = place;
        }
        let persist = step.take_persist()?;
        let then = Then::Answer { key: key.clone(), uid };
        self.shards[s].persists.insert(persist, (step.now, then));
        self.wait(s, key, uid, asked, On::Write { persist });
        Ok(Ok(None))
    }

    fn set_role(
        &mut self,
        s: usize,
        key: &ChannelKey,
        uid: UserId,
        asked: Asked,
        params: &SetRole,
        step: &mut Step<'_>,
    ) -> Verdict<Outcome> {
        let events = self.shards[s].events;
        let of = match self.target(s, key, uid, params.uid) {
            Ok(of) => of,
            Err(error) => return Ok(Err(error)),
        };
        let most = self.rules.limits.broadcasters;
        let Some(channel) = self.channel(s, key) else { return Ok(Ok(None)) };
        let full = channel.broadcasters() >= most;
        let Some(member) = channel.members.get_mut(&of) else { return Ok(Ok(None)) };
        if member.role == params.role {
            return Ok(Ok(Some(self.done(s, key))));
        }
        match params.role {
            Role::Broadcaster if full => return Ok(Err(ErrorName::TooManyBroadcasters)),
            Role::Broadcaster if !member.rights.broadcast => return Ok(Err(ErrorName::Forbidden)),
            Role::Broadcaster => {
                member.role = Role::Broadcaster;
                let mid = member.mid;
                let made = Made::Join {
                    uid: of,
                    mid,
                    name: member.name.clone(),
                    attributes: member.attributes.clone(),
                    muted: member.muted,
                };
                self.emit(s, key, made, step.now);
                let role = Role::Broadcaster;
                self.emit(s, key, Made::Role { uid: of, mid, role }, step.now);
            }
            Role::Audience => self.demote(s, key, of, step)?,
            _ => return Ok(Err(ErrorName::BadRole)),
        }
        self.changed(s, key, (uid, of), asked, events, step)
    }

    pub(super) fn demote(
        &mut self,
        s: usize,
        key: &ChannelKey,
        uid: UserId,
        step: &mut Step<'_>,
    ) -> Verdict {
        self.remove_streams(s, key, uid, KindSet::ALL, step);
        let Some(member) = self.member(s, key, uid) else { return Ok(()) };
        member.role = Role::Audience;
        let mid = member.mid;
        let waits = member.waiting.as_ref().is_some_and(|w| matches!(w.on, On::Push { .. }));
        self.emit(s, key, Made::Role { uid, mid, role: Role::Audience }, step.now);
        let reason = LeaveReason::RoleChanged;
        self.emit(s, key, Made::Leave { uid, mid, reason }, step.now);
        if waits {
            self.go_on(s, key, uid, Err(ErrorName::Superseded), step)?;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "as the other commands, and which way")]
    fn mute(
        &mut self,
        s: usize,
        key: &ChannelKey,
        uid: UserId,
        asked: Asked,
        params: &Mute,
        on: bool,
        step: &mut Step<'_>,
    ) -> Verdict<Outcome> {
        let events = self.shards[s].events;
        let of = match self.target(s, key, uid, params.uid) {
            Ok(of) => of,
            Err(error) => return Ok(Err(error)),
        };
        let kinds = params.media_type.kinds();
        if kinds.is_empty() || !kinds.difference(KindSet::AUDIO_VIDEO).is_empty() {
            return Ok(Err(ErrorName::BadMediaType));
        }
        let Some(member) = self.member(s, key, of) else { return Ok(Ok(None)) };
        if of != uid && !member.is_visible() {
            return Ok(Err(ErrorName::NoSuchMember));
        }
        let (mid, visible, before) = (member.mid, member.is_visible(), member.muted);
        member.muted = if on { before.union(kinds) } else { before.difference(kinds) };
        for kind in kinds.iter().filter(|kind| before.contains(kind) != on && visible) {
            let made = Made::Muted { uid: of, mid, kind: kind.clone(), on };
            self.emit(s, key, made, step.now);
        }
        self.changed(s, key, (uid, of), asked, events, step)
    }

    fn kick(
        &mut self,
        s: usize,
        key: &ChannelKey,
        uid: UserId,
        asked: Asked,
        params: Kick,
        step: &mut Step<'_>,
    ) -> Verdict<Outcome> {
        if let Err(error) = self.moderates(s, key, uid) {
            return Ok(Err(error));
        }
        if params.uid == uid {
            return Ok(Err(ErrorName::SelfTarget));
        }
        if params.reason.as_ref().is_some_and(|reason| reason.len() > 256) {
            return Ok(Err(ErrorName::BadReason));
        }
        if params.duration_s > MAX_BAN_S {
            return Ok(Err(ErrorName::BadDuration));
        }
        if self.member(s, key, params.uid).is_none() && params.duration_s == 0 {
            return Ok(Err(ErrorName::NoSuchMember));
        }
        let persist = self.begin_kick(s, key, params, Some(uid), step)?;
        self.wait(s, key, uid, asked, On::Write { persist });
        Ok(Ok(None))
    }

    /// Fenced and on its way to the disk.
    pub(super) fn begin_kick(
        &mut self,
        s: usize,
        key: &ChannelKey,
        kick: Kick,
        by: Option<UserId>,
        step: &mut Step<'_>,
    ) -> Verdict<PersistId> {
        let persist = step.take_persist()?;
        let mid = self.member(s, key, kick.uid).map(|member| {
            member.fenced = true;
            member.waiting = None;
            member.mid
        });
        let place = (key.clone(), kick.uid);
        let before = self.shards[s].bans.get(&place).copied();
        let until = step.wall + u64::from(kick.duration_s) * 1000;
        let until = before.map_or(until, |(old, _)| old.max(until));
        self.shards[s].bans.insert(place, (until, step.wall));
        let then = Then::Kick { key: key.clone(), mid, kick, by };
        self.shards[s].persists.insert(persist, (step.now, then));
        Ok(persist)
    }

    #[expect(clippy::too_many_arguments, reason = "as the other commands")]
    fn close(
        &mut self,
        s: usize,
        key: &ChannelKey,
        uid: UserId,
        asked: Asked,
        hold_s: u32,
        reason: Option<String>,
        step: &mut Step<'_>,
    ) -> Verdict<Outcome> {
        if let Err(error) = self.moderates(s, key, uid) {
            return Ok(Err(error));
        }
        if reason.as_ref().is_some_and(|reason| reason.len() > 256) {
            return Ok(Err(ErrorName::BadReason));
        }
        if hold_s > MAX_HOLD_S {
            return Ok(Err(ErrorName::BadDuration));
        }
        let persist = self.begin_close(s, key, hold_s, reason, Some(uid), step)?;
        self.wait(s, key, uid, asked, On::Write { persist });
        Ok(Ok(None))
    }

    pub(super) fn begin_close(
        &mut self,
        s: usize,
        key: &ChannelKey,
        hold_s: u32,
        text: Option<String>,
        by: Option<UserId>,
        step: &mut Step<'_>,
    ) -> Verdict<PersistId> {
        let persist = step.take_persist()?;
        let before = self.shards[s].holds.get(key).copied();
        let until = step.wall + u64::from(hold_s) * 1000;
        let until = before.map_or(until, |(old, _)| old.max(until));
        self.shards[s].holds.insert(key.clone(), (until, step.wall));
        self.shards[s].lapsed.remove(key);
        let epoch = self.channel(s, key).map(|channel| {
            channel.closing = true;
            channel.epoch
        });
        let then = Then::Close { key: key.clone(), epoch, text, by };
        self.shards[s].persists.insert(persist, (step.now, then));
        Ok(persist)
    }

    fn send_message(
        &mut self,
        s: usize,
        key: &ChannelKey,
        uid: UserId,
        params: SendMessage,
        step: &mut Step<'_>,
    ) -> Outcome {
        let most = self.rules.limits.message_bytes;
        let member = self.member(s, key, uid).ok_or(ErrorName::NotJoined)?;
        if !member.rights.message {
            return Err(ErrorName::Forbidden);
        }
        if escaped_bytes(&params.data) > most {
            return Err(ErrorName::MessageTooLarge);
        }
        let Some(mut to) = params.to else {
            self.emit(s, key, Made::Message { uid, data: params.data }, step.now);
            let seq = self.channel(s, key).map_or(0, |channel| channel.head());
            return Ok(Some(Expect::Sent { seq, delivered: 0 }));
        };
        if to.len() > 64 {
            return Err(ErrorName::TooManyRecipients);
        }
        to.sort_unstable();
        to.dedup();
        let mut delivered = 0;
        for of in to {
            // Who is away gets it when it comes back (RES-8).
            let Some(member) = self.member(s, key, of) else { continue };
            member.messages += 1;
            delivered += 1;
            let mid = member.mid;
            if let Some(number) = payload(&params.data) {
                self.targeted.entry(mid).or_default().push(number);
            }
        }
        let seq = self.channel(s, key).map_or(0, |channel| channel.head());
        Ok(Some(Expect::Sent { seq, delivered }))
    }

    fn set_attributes(
        &mut self,
        s: usize,
        key: &ChannelKey,
        uid: UserId,
        params: &SetAttributes,
        step: &mut Step<'_>,
    ) -> Outcome {
        if params.name.as_ref().is_some_and(|name| name.len() > 128) {
            return Err(ErrorName::BadName);
        }
        let most = self.rules.limits.attribute_bytes;
        let check = |attributes: &lianmai_protocol::Attributes| {
            let bad = |key: &String| key.is_empty() || key.len() > 64;
            if attributes.0.len() > 64 || attributes.0.keys().any(bad) {
                return Err(ErrorName::BadAttributes);
            }
            if attributes.bytes() > most { Err(ErrorName::AttributesTooLarge) } else { Ok(()) }
        };
        match params.target.as_ref().unwrap_or(&AttributeTarget::Own) {
            AttributeTarget::Own => {
                let member = self.member(s, key, uid).ok_or(ErrorName::NotJoined)?;
                let before = (member.name.clone(), member.attributes.clone());
                let mut attributes = before.1.clone();
                attributes.apply(&params.attributes);
                check(&attributes)?;
                let name = params.name.clone().or(before.0.clone());
                member.name.clone_from(&name);
                member.attributes = attributes.clone();
                if member.is_visible() && (name.clone(), attributes.clone()) != before {
                    let mid = member.mid;
                    self.emit(s, key, Made::Update { uid, mid, name, attributes }, step.now);
                }
            }
            AttributeTarget::Channel => {
                self.moderates(s, key, uid)?;
                if params.name.is_some() {
                    return Err(ErrorName::InvalidParams);
                }
                let channel = self.channel(s, key).ok_or(ErrorName::NotJoined)?;
                let mut attributes = channel.attributes.clone();
                attributes.apply(&params.attributes);
                check(&attributes)?;
                if attributes != channel.attributes {
                    channel.attributes = attributes.clone();
                    self.emit(s, key, Made::Channel(attributes), step.now);
                }
            }
            _ => return Err(ErrorName::InvalidParams),
        }
        Ok(Some(self.done(s, key)))
    }

    pub(super) fn token_verified(
        &mut self,
        s: usize,
        verify: VerifyId,
        grant: &Result<Grant, ErrorName>,
        step: &mut Step<'_>,
    ) -> Verdict {
        let place = self.shards[s].channels.iter().find_map(|(key, channel)| {
            let waits = |(_, member): &(&UserId, &super::state::Member)| {
                let on = member.waiting.as_ref().map(|waiting| &waiting.on);
                matches!(on, Some(On::Token { verify: of }) if *of == verify)
            };
            channel.members.iter().find(waits).map(|(uid, _)| (key.clone(), *uid))
        });
        let Some((key, uid)) = place else { return Ok(()) };
        let outcome = match grant {
            Err(error) => Err(error.clone()),
            Ok(grant) => match self.check_token(s, &key, uid, grant, step) {
                Err(error) => Err(error),
                Ok(()) => {
                    self.grant(s, &key, uid, grant, step)?;
                    let seq = self.channel(s, &key).map_or(0, |channel| channel.head());
                    Ok(Expect::Renewed { seq })
                }
            },
        };
        self.go_on(s, &key, uid, outcome, step)
    }

    /// A write is done, or cannot be.
    pub(super) fn persisted(
        &mut self,
        s: usize,
        persist: PersistId,
        stored: bool,
        step: &mut Step<'_>,
    ) -> Verdict {
        let Some((_, then)) = self.shards[s].persists.remove(&persist) else { return Ok(()) };
        match then {
            Then::HandOver => Ok(()),
            Then::Answer { key, uid } => {
                if self.waits_for(s, &key, uid, persist) {
                    let outcome = self.written(s, &key, stored);
                    self.go_on(s, &key, uid, outcome, step)?;
                }
                Ok(())
            }
            // Both take effect whatever became of the write; who asked is told (RST-5).
            Then::Kick { key, mid, kick, by } => {
                let uid = kick.uid;
                let there = self.member(s, &key, uid).is_some_and(|member| Some(member.mid) == mid);
                if there {
                    let (reason, code) = (LeaveReason::Kicked, CloseCode::KICKED);
                    self.remove(s, &key, uid, reason, code, step);
                }
                if let Some(caller) = by.filter(|caller| self.waits_for(s, &key, *caller, persist))
                {
                    let outcome = self.written(s, &key, stored);
                    self.go_on(s, &key, caller, outcome, step)?;
                }
                if there {
                    self.dissolve(s, &key, uid, step);
                }
                Ok(())
            }
            Then::Close { key, epoch, text, by } => {
                // It may have ended meanwhile, and another one begun.
                let is = self.shards[s].channels.get(&key);
                let seen_since = epoch == Some(UNSEEN) && is.is_some_and(|is| is.closing);
                let same = seen_since || is.map(|channel| channel.epoch) == epoch;
                let caller = by.filter(|by| same && self.waits_for(s, &key, *by, persist));
                if same && epoch.is_some() {
                    let reason =
                        if by.is_some() { RoomCloseReason::Closed } else { RoomCloseReason::Admin };
                    let answer = caller.and_then(|caller| {
                        let waiting = self.member(s, &key, caller)?.waiting.take()?;
                        Some((caller, waiting.id))
                    });
                    self.close_channel(s, &key, reason, text, (answer, stored), step);
                }
                Ok(())
            }
        }
    }

    fn written(&self, s: usize, key: &ChannelKey, stored: bool) -> Result<Expect, ErrorName> {
        if stored { Ok(self.done(s, key)) } else { Err(ErrorName::NotStored) }
    }

    fn waits_for(&mut self, s: usize, key: &ChannelKey, uid: UserId, write: PersistId) -> bool {
        let waiting = self.member(s, key, uid).and_then(|member| member.waiting.as_ref());
        waiting.is_some_and(|w| matches!(w.on, On::Write { persist } if persist == write))
    }
}

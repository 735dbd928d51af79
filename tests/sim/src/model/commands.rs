//! The effect of each command, as docs/protocol.md section 6 states it, and the continuation when an answer from
//! outside arrives.

use lianmai_protocol::attributes::escaped_bytes;
use lianmai_protocol::message::Call;
use lianmai_protocol::message::event::LeaveReason;
use lianmai_protocol::message::media::{Mute, SetRole};
use lianmai_protocol::message::session::{AttributeTarget, SendMessage, SetAttributes};
use lianmai_protocol::{CloseCode, ErrorName, KindSet, RequestId, Role, UserId};
use lianmai_signal_engine::{AskId, Grant};

use super::frames::units;
use super::state::{AfterWrite, MemberRef, ModelEvent, PendingCommand, PendingOn, text_bytes};
use super::{Expect, InputStep, Model, Verdict};
use crate::check::app::payload;

/// The outcome of a command: an answer, or `None` while it waits.
pub(super) type CommandResult = Result<Option<Expect>, ErrorName>;
pub(super) type CommandKey = (RequestId, u64);

impl Model {
    pub(super) fn execute(
        &mut self,
        who: MemberRef<'_>,
        command: CommandKey,
        call: Call,
        step: &mut InputStep<'_>,
    ) -> Verdict {
        let outcome = match call {
            Call::Leave(_) => return self.leave(who, command, step),
            Call::Publish(params) => self.publish(who, command, &params, step)?,
            Call::Unpublish(params) => self.unpublish(who, command, &params, step)?,
            Call::Subscribe(params) => self.subscribe(who, command, &params, step)?,
            Call::Unsubscribe(params) => self.unsubscribe(who, &params, step),
            Call::SetRole(params) => self.set_role(who, command, &params, step)?,
            Call::Mute(params) => self.mute(who, command, &params, true, step)?,
            Call::Unmute(params) => self.mute(who, command, &params, false, step)?,
            Call::Kick(params) => self.kick(who, command, params, step)?,
            Call::CloseChannel(params) => {
                let (hold_s, reason) = (params.hold_s, params.reason);
                self.close(who, command, hold_s, reason, step)?
            }
            Call::SendMessage(params) => self.send_message(who, params, step),
            Call::SetAttributes(params) => self.set_attributes(who, &params, step),
            Call::RenewToken(_) => {
                let ask = step.take_verification()?;
                self.wait(who, command, PendingOn::Token { ask });
                Ok(None)
            }
            Call::Report(_) => Ok(Some(Expect::Nothing)),
            // These are answered where they arrive.
            Call::Join(_) | Call::Reconnect(_) | Call::Ping(_) => return Ok(()),
            Call::AddTasks(_) | Call::UpdateTasks(_) | Call::DeleteTasks(_) => {
                Err(ErrorName::MethodNotFound)
            }
        };
        match outcome {
            Ok(None) => Ok(()),
            Ok(Some(expect)) => self.answer(who, command, Ok(expect), step),
            Err(error) => self.answer(who, command, Err(error), step),
        }
    }

    pub(super) fn wait(&mut self, who: MemberRef<'_>, (id, hash): CommandKey, on: PendingOn) {
        if let Some(member) = self.member(who) {
            member.pending = Some(PendingCommand { id, hash, on, queue: Default::default() });
        }
    }

    /// A waiting command gets its outcome; the commands behind it continue.
    pub(super) fn go_on(
        &mut self,
        who: MemberRef<'_>,
        outcome: Result<Expect, ErrorName>,
        step: &mut InputStep<'_>,
    ) -> Verdict {
        let pending = self.member(who).and_then(|member| member.pending.take());
        let Some(PendingCommand { id, hash, mut queue, .. }) = pending else { return Ok(()) };
        self.answer(who, (id, hash), outcome, step)?;
        while let Some((id, hash, (bytes, paid), call)) = queue.pop_front() {
            // `leave` overtakes waiting commands.
            if queue.iter().any(|(.., later)| matches!(later, Call::Leave(_))) {
                self.answer(who, (id, hash), Err(ErrorName::Superseded), step)?;
                continue;
            }
            // An earlier command may have increased the bytes that this one repeats.
            let more = units(bytes, self.repeats(who, &call)) - paid;
            if let Some(member) = self.member(who) {
                member.budget = (member.left(step.now) - more.max(0) * 1_000, step.now);
            }
            self.execute(who, (id, hash), call, step)?;
            let Some(member) = self.member(who) else { return Ok(()) };
            if let Some(pending) = &mut member.pending {
                pending.queue = queue;
                return Ok(());
            }
        }
        Ok(())
    }

    fn leave(
        &mut self,
        who: MemberRef<'_>,
        command: CommandKey,
        step: &mut InputStep<'_>,
    ) -> Verdict {
        let MemberRef { s, key, .. } = who;
        let pending = self.member(who).and_then(|member| member.pending.take());
        if let Some(pending) = pending {
            let queue = pending.queue.iter().map(|(id, hash, ..)| (*id, *hash));
            for command in std::iter::once((pending.id, pending.hash)).chain(queue) {
                self.answer(who, command, Err(ErrorName::Superseded), step)?;
            }
        }
        let named = self.member(who).is_some_and(|member| member.named);
        self.announce_end(who, LeaveReason::Left, step);
        let done = self.done(s, key);
        self.answer(who, command, Ok(done), step)?;
        self.drop_conn(who, CloseCode::NORMAL, step);
        self.forget(who, &LeaveReason::Left, step.now);
        self.dissolve(who, named, step);
        Ok(())
    }

    pub(super) fn moderates(&self, who: MemberRef<'_>) -> Result<(), ErrorName> {
        let MemberRef { s, key, uid } = who;
        let channel = self.shards[s].channels.get(key);
        let member = channel.and_then(|channel| channel.members.get(&uid));
        if member.is_some_and(|member| member.rights.moderate) {
            Ok(())
        } else {
            Err(ErrorName::Forbidden)
        }
    }

    /// The member that a command affects.
    pub(super) fn target(
        &self,
        who: MemberRef<'_>,
        of: Option<UserId>,
    ) -> Result<UserId, ErrorName> {
        let MemberRef { s, key, uid } = who;
        let of = of.unwrap_or(uid);
        if of != uid {
            self.moderates(who)?;
            let channel = self.shards[s].channels.get(key);
            if channel.is_none_or(|channel| !channel.members.contains_key(&of)) {
                return Err(ErrorName::NoSuchMember);
            }
        }
        Ok(of)
    }

    /// The outcome of a change: done at once, or, for a change of another member, done when it is stored. A command
    /// that changes nothing waits as well if the present state may not be stored.
    pub(super) fn changed(
        &mut self,
        who: MemberRef<'_>,
        of: UserId,
        command: CommandKey,
        events: u64,
        step: &mut InputStep<'_>,
    ) -> Verdict<CommandResult> {
        let MemberRef { s, key, uid } = who;
        let done = self.done(s, key);
        let is_new = self.shards[s].events != events;
        let channel = self.channel(s, key);
        let open = channel.is_some_and(|channel| {
            let member = channel.members.get(&of).and_then(|member| member.unstored);
            channel.unstored.or(member).is_some()
        });
        if uid == of || !(is_new || open) {
            return Ok(Ok(Some(done)));
        }
        if is_new {
            self.forces(who.of(of));
        }
        self.stored_first(who, of, command, false, step)
    }

    /// Notes that the client of a member may not have seen its present state.
    fn forces(&mut self, who: MemberRef<'_>) {
        let MemberRef { s, key, .. } = who;
        let place = self.channel(s, key).map(|channel| (channel.epoch, channel.head()));
        if let Some(member) = self.member(who) {
            member.forced = place;
        }
    }

    /// The command is done when its write is stored. `keeps`: this write also changes who is kept in the audience.
    fn stored_first(
        &mut self,
        who: MemberRef<'_>,
        of: UserId,
        command: CommandKey,
        keeps: bool,
        step: &mut InputStep<'_>,
    ) -> Verdict<CommandResult> {
        let MemberRef { s, key, uid } = who;
        let ask = step.take_write()?;
        if let Some(channel) = self.channel(s, key) {
            if keeps || channel.unstored.is_some() {
                channel.unstored = Some(ask);
            }
            if let Some(member) = channel.members.get_mut(&of) {
                member.unstored = Some(ask);
            }
        }
        let then = AfterWrite::Answer { key: key.clone(), uid, of };
        self.shards[s].writes.insert(ask, (step.now, then));
        self.wait(who, command, PendingOn::Write { ask });
        Ok(Ok(None))
    }

    fn set_role(
        &mut self,
        who: MemberRef<'_>,
        command: CommandKey,
        params: &SetRole,
        step: &mut InputStep<'_>,
    ) -> Verdict<CommandResult> {
        let MemberRef { s, key, .. } = who;
        let events = self.shards[s].events;
        let of = match self.target(who, params.uid) {
            Ok(of) => of,
            Err(error) => return Ok(Err(error)),
        };
        let (most, most_told) =
            (self.rules.limits.broadcasters, self.rules.limits.channel_attribute_bytes);
        // The role is a decision of a moderator about another member, until a moderator decides otherwise (ROL-4).
        let moderated = of != who.uid;
        let kept = self.channel(s, key).is_some_and(|channel| channel.demoted.contains_key(&of));
        let keeps = moderated && params.role == Role::Audience && !kept;
        if keeps && self.check_refused_for_share(who, command, step)? {
            return Ok(Err(ErrorName::TooManyBans));
        }
        let Some(channel) = self.channel(s, key) else { return Ok(Ok(None)) };
        if keeps {
            channel.demoted.insert(of, who.uid);
        }
        let mut allowed = false;
        let full = channel.broadcasters() >= most;
        let Some(member) = channel.members.get(&of) else { return Ok(Ok(None)) };
        if member.role == params.role {
            if keeps {
                self.forces(who.of(of));
                return self.stored_first(who, of, command, true, step);
            }
            return self.changed(who, of, command, events, step);
        }
        let bytes = text_bytes(member.name.as_deref(), &member.attributes);
        let may = if moderated {
            member.rights.broadcast
        } else {
            channel.may_broadcast(of, member.rights)
        };
        let room = channel.has_room(of, true, bytes, most_told);
        match params.role {
            Role::Broadcaster if full => return Ok(Err(ErrorName::TooManyBroadcasters)),
            Role::Broadcaster if !may => return Ok(Err(ErrorName::Forbidden)),
            Role::Broadcaster if room.is_err() => return Ok(Err(ErrorName::AttributesTooLarge)),
            Role::Broadcaster => {
                allowed = channel.demoted.remove(&of).is_some();
                let Some(member) = channel.members.get_mut(&of) else { return Ok(Ok(None)) };
                member.role = Role::Broadcaster;
                let mid = member.mid;
                let event = ModelEvent::Join {
                    uid: of,
                    mid,
                    name: member.name.clone(),
                    attributes: member.attributes.clone(),
                    muted: member.muted,
                };
                self.emit(s, key, event, step.now);
                let role = Role::Broadcaster;
                self.emit(s, key, ModelEvent::Role { uid: of, mid, role }, step.now);
            }
            Role::Audience => self.demote(who.of(of), step)?,
            _ => return Ok(Err(ErrorName::BadRole)),
        }
        if moderated {
            self.forces(who.of(of));
            return self.stored_first(who, of, command, keeps || allowed, step);
        }
        Ok(Ok(Some(self.done(s, key))))
    }

    pub(super) fn demote(&mut self, who: MemberRef<'_>, step: &mut InputStep<'_>) -> Verdict {
        let MemberRef { s, key, uid } = who;
        self.remove_streams(who, KindSet::ALL, step);
        let Some(channel) = self.channel(s, key) else { return Ok(()) };
        let Some(member) = channel.members.get_mut(&uid) else { return Ok(()) };
        member.role = Role::Audience;
        if let Some(pending) = &mut member.pending
            && matches!(pending.on, PendingOn::Push { .. })
        {
            pending.on = PendingOn::Superseded;
            step.superseded.push_back((key.clone(), uid));
        }
        let mid = member.mid;
        channel.keep_hidden_texts(uid);
        self.emit(s, key, ModelEvent::Role { uid, mid, role: Role::Audience }, step.now);
        let reason = LeaveReason::RoleChanged;
        self.emit(s, key, ModelEvent::Leave { uid, mid, reason }, step.now);
        Ok(())
    }

    /// Sessions whose command was superseded continue one after the other, after everything that came at once.
    pub(super) fn go_on_superseded(&mut self, s: usize, step: &mut InputStep<'_>) -> Verdict {
        while let Some((key, uid)) = step.superseded.pop_front() {
            let who = MemberRef { s, key: &key, uid };
            let pending = self.member(who).and_then(|member| member.pending.as_ref());
            if pending.is_some_and(|pending| matches!(pending.on, PendingOn::Superseded)) {
                self.go_on(who, Err(ErrorName::Superseded), step)?;
            }
        }
        Ok(())
    }

    fn mute(
        &mut self,
        who: MemberRef<'_>,
        command: CommandKey,
        params: &Mute,
        on: bool,
        step: &mut InputStep<'_>,
    ) -> Verdict<CommandResult> {
        let MemberRef { s, key, uid } = who;
        let events = self.shards[s].events;
        let of = match self.target(who, params.uid) {
            Ok(of) => of,
            Err(error) => return Ok(Err(error)),
        };
        let kinds = params.media_type.kinds();
        if kinds.is_empty() || !kinds.difference(KindSet::AUDIO_VIDEO).is_empty() {
            return Ok(Err(ErrorName::BadMediaType));
        }
        let Some(member) = self.member(who.of(of)) else { return Ok(Ok(None)) };
        if of != uid && !member.is_visible() {
            return Ok(Err(ErrorName::NoSuchMember));
        }
        let (mid, visible, before) = (member.mid, member.is_visible(), member.muted);
        member.muted = if on { before.union(kinds) } else { before.difference(kinds) };
        for kind in kinds.iter().filter(|kind| before.contains(kind) != on && visible) {
            let event = ModelEvent::Muted { uid: of, mid, kind: kind.clone(), on };
            self.emit(s, key, event, step.now);
        }
        self.changed(who, of, command, events, step)
    }

    fn send_message(
        &mut self,
        who: MemberRef<'_>,
        params: SendMessage,
        step: &mut InputStep<'_>,
    ) -> CommandResult {
        let MemberRef { s, key, uid } = who;
        let most = self.rules.limits.message_bytes;
        let member = self.member(who).ok_or(ErrorName::NotJoined)?;
        if !member.rights.message {
            return Err(ErrorName::Forbidden);
        }
        if escaped_bytes(&params.data) > most {
            return Err(ErrorName::MessageTooLarge);
        }
        let Some(mut to) = params.to else {
            self.emit(s, key, ModelEvent::Message { uid, data: params.data }, step.now);
            let seq = self.channel(s, key).map_or(0, |channel| channel.head());
            return Ok(Some(Expect::Sent { seq, delivered: 0 }));
        };
        if to.len() > 64 {
            return Err(ErrorName::TooManyRecipients);
        }
        to.sort_unstable();
        to.dedup();
        // The number does not reveal who is in the audience.
        let delivered = to.len() as u64;
        for of in to {
            // A member that is away gets it when it comes back (RES-8).
            let Some(member) = self.member(who.of(of)) else { continue };
            member.messages += 1;
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
        who: MemberRef<'_>,
        params: &SetAttributes,
        step: &mut InputStep<'_>,
    ) -> CommandResult {
        let MemberRef { s, key, uid } = who;
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
        let most_told = self.rules.limits.channel_attribute_bytes;
        let bad_patch = params.attributes.keys().any(|key| key.is_empty() || key.len() > 64);
        match params.target.as_ref().unwrap_or(&AttributeTarget::Own) {
            AttributeTarget::Own => {
                let channel = self.channel(s, key).ok_or(ErrorName::NotJoined)?;
                let member = channel.members.get(&uid).ok_or(ErrorName::NotJoined)?;
                if !member.rights.message {
                    return Err(ErrorName::Forbidden);
                }
                if bad_patch {
                    return Err(ErrorName::BadAttributes);
                }
                let before = (member.name.clone(), member.attributes.clone());
                let mut attributes = before.1.clone();
                attributes.apply(&params.attributes);
                check(&attributes)?;
                let name = params.name.clone().or(before.0.clone());
                let bytes = text_bytes(name.as_deref(), &attributes);
                channel.has_room(uid, member.is_visible(), bytes, most_told)?;
                let member = channel.members.get_mut(&uid).ok_or(ErrorName::NotJoined)?;
                member.name.clone_from(&name);
                member.attributes = attributes.clone();
                if member.is_visible() && (name.clone(), attributes.clone()) != before {
                    let mid = member.mid;
                    self.emit(s, key, ModelEvent::Update { uid, mid, name, attributes }, step.now);
                }
            }
            AttributeTarget::Channel => {
                self.moderates(who)?;
                if params.name.is_some() {
                    return Err(ErrorName::InvalidParams);
                }
                if bad_patch {
                    return Err(ErrorName::BadAttributes);
                }
                let channel = self.channel(s, key).ok_or(ErrorName::NotJoined)?;
                let mut attributes = channel.attributes.clone();
                attributes.apply(&params.attributes);
                check(&attributes)?;
                if attributes != channel.attributes {
                    channel.attributes = attributes.clone();
                    self.emit(s, key, ModelEvent::Channel(attributes), step.now);
                }
            }
            _ => return Err(ErrorName::InvalidParams),
        }
        Ok(Some(self.done(s, key)))
    }

    pub(super) fn token_verified(
        &mut self,
        s: usize,
        ask: AskId,
        grant: &Result<Grant, ErrorName>,
        step: &mut InputStep<'_>,
    ) -> Verdict {
        let place = self.shards[s].channels.iter().find_map(|(key, channel)| {
            let waits = |(_, member): &(&UserId, &super::state::Member)| {
                let on = member.pending.as_ref().map(|pending| &pending.on);
                matches!(on, Some(PendingOn::Token { ask: of }) if *of == ask)
            };
            channel.members.iter().find(waits).map(|(uid, _)| (key.clone(), *uid))
        });
        let Some((key, uid)) = place else { return Ok(()) };
        let who = MemberRef { s, key: &key, uid };
        let outcome = match grant {
            Err(error) => Err(error.clone()),
            Ok(grant) => match self.check_token(who, grant, step) {
                Err(error) => Err(error),
                Ok(()) => {
                    self.grant(who, grant, step)?;
                    let seq = self.channel(s, &key).map_or(0, |channel| channel.head());
                    Ok(Expect::Renewed { seq })
                }
            },
        };
        self.go_on(who, outcome, step)
    }
}

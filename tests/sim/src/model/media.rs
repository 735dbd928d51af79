//! Publications, subscriptions, and permissions to push and play, as docs/protocol.md sections 6 and 9 state them.

use lianmai_protocol::message::media::{Publish, Subscribe};
use lianmai_protocol::{ErrorName, Gen, KindSet, MediaKind};
use lianmai_signal_engine::{Access, AskId, Minted, QueryId};

use super::commands::{CommandKey, CommandResult};
use super::state::{Member, MemberRef, ModelEvent, PendingOn, Stream};
use super::{Expect, InputStep, Model, Verdict};

/// The index of the push URL that carries a kind.
pub(super) fn slot(kind: &MediaKind) -> Option<usize> {
    match kind {
        MediaKind::Audio | MediaKind::Video => Some(0),
        MediaKind::ScreenShare => Some(1),
        MediaKind::SlaveAudio => Some(2),
        _ => None,
    }
}

/// The kinds that a URL carries.
fn kinds_of(slot: usize) -> KindSet {
    match slot {
        0 => KindSet::AUDIO_VIDEO,
        1 => KindSet::of(&MediaKind::ScreenShare),
        _ => KindSet::of(&MediaKind::SlaveAudio),
    }
}

fn first_slot(kinds: KindSet) -> Option<usize> {
    kinds.iter().next().and_then(slot)
}

impl Model {
    pub(super) fn publish(
        &mut self,
        who: MemberRef<'_>,
        command: CommandKey,
        params: &Publish,
        step: &mut InputStep<'_>,
    ) -> Verdict<CommandResult> {
        let MemberRef { s, key, uid } = who;
        if params.uid.is_some_and(|of| of != uid) {
            return Ok(Err(ErrorName::Forbidden));
        }
        let kinds = params.media_type.kinds();
        let Some(at) = first_slot(kinds) else { return Ok(Err(ErrorName::BadMediaType)) };
        let Some(channel) = self.channel(s, key) else { return Ok(Ok(None)) };
        let Some(member) = channel.members.get(&uid) else { return Ok(Ok(None)) };
        if !member.is_visible() {
            return Ok(Err(ErrorName::NotBroadcaster));
        }
        if !kinds.difference(member.rights.publish).is_empty() {
            return Ok(Err(ErrorName::PublishForbidden));
        }
        let live = member.pushes[at];
        let good =
            live.filter(|of| channel.streams.get(of).is_some_and(|s| step.wall < s.renew_after));
        let fresh = good.filter(|of| !self.shards[s].moved.contains_key(&(*of, None)));
        if let Some(generation) = fresh {
            return Ok(Ok(Some(self.published(who, generation, kinds, step))));
        }
        let (ask, generation) = step.take_mint(None)?;
        if live.is_some_and(|live| live != generation) {
            return Err(("media", format!("the URL of {uid} is renewed under another name")));
        }
        let (renewed, since) = (live.is_some(), step.now);
        self.wait(who, command, PendingOn::Push { ask, generation, kinds, renewed, since });
        Ok(Ok(None))
    }

    fn published(
        &mut self,
        who: MemberRef<'_>,
        generation: Gen,
        kinds: KindSet,
        step: &InputStep<'_>,
    ) -> Expect {
        let MemberRef { s, key, uid } = who;
        let before = self.member(who).map_or(KindSet::NONE, |member| member.published());
        for kind in kinds.difference(before).iter() {
            let publication = self.pubs.len();
            self.pubs.push(None);
            let Some(member) = self.member(who) else { break };
            if let Some(at) = kind.index() {
                member.pubs[at] = Some(publication);
            }
            let event = ModelEvent::Added { uid, mid: member.mid, kind: kind.clone(), publication };
            self.emit(s, key, event, step.now);
        }
        let seq = self.channel(s, key).map_or(0, |channel| channel.head());
        Expect::Published { seq, generation }
    }

    pub(super) fn unpublish(
        &mut self,
        who: MemberRef<'_>,
        command: CommandKey,
        params: &Publish,
        step: &mut InputStep<'_>,
    ) -> Verdict<CommandResult> {
        let events = self.shards[who.s].events;
        let of = match self.target(who, params.uid) {
            Ok(of) => of,
            Err(error) => return Ok(Err(error)),
        };
        let kinds = params.media_type.kinds();
        if first_slot(kinds).is_none() {
            return Ok(Err(ErrorName::BadMediaType));
        }
        self.remove_streams(who.of(of), kinds, step);
        self.changed(who, of, command, events, step)
    }

    /// Ends publications, their subscriptions, and every URL that carries no kind any more.
    pub(super) fn remove_streams(
        &mut self,
        who: MemberRef<'_>,
        kinds: KindSet,
        step: &mut InputStep<'_>,
    ) {
        let MemberRef { s, key, uid } = who;
        for kind in kinds.iter() {
            let Some(member) = self.member(who) else { return };
            let Some(publication) = kind.index().and_then(|at| member.pubs[at].take()) else {
                continue;
            };
            let event =
                ModelEvent::Removed { uid, mid: member.mid, kind: kind.clone(), publication };
            self.emit(s, key, event, step.now);
        }
        self.end_urls(who, kinds, step);
    }

    fn end_urls(&mut self, who: MemberRef<'_>, kinds: KindSet, step: &mut InputStep<'_>) {
        let MemberRef { s, key, uid } = who;
        for at in 0..3 {
            let Some(channel) = self.channel(s, key) else { return };
            let Some(member) = channel.members.get_mut(&uid) else { return };
            let Some(generation) = member.pushes[at] else { continue };
            let over = member.published().intersection(kinds_of(at)).is_empty();
            if over {
                member.pushes[at] = None;
                channel.streams.remove(&generation);
                step.cuts.push(generation);
            }
            // Subscriptions end with the publication.
            let ended = if over { KindSet::ALL } else { kinds };
            for viewer in channel.members.values_mut() {
                end_pull(viewer, generation, ended, !over, step);
            }
        }
    }

    /// Ends the subscriptions of a member to kinds that are not allowed.
    pub(super) fn restrict_pulls(
        &mut self,
        who: MemberRef<'_>,
        allowed: KindSet,
        step: &mut InputStep<'_>,
    ) {
        let Some(member) = self.member(who) else { return };
        for generation in member.pulls.keys().copied().collect::<Vec<_>>() {
            end_pull(member, generation, KindSet::ALL.difference(allowed), true, step);
        }
    }

    pub(super) fn subscribe(
        &mut self,
        who: MemberRef<'_>,
        command: CommandKey,
        params: &Subscribe,
        step: &mut InputStep<'_>,
    ) -> Verdict<CommandResult> {
        let MemberRef { s, key, uid } = who;
        let kind = params.media_type.clone();
        let most = self.rules.limits.subscriptions;
        let Some(at) = slot(&kind) else { return Ok(Err(ErrorName::BadMediaType)) };
        if params.uid == uid {
            return Ok(Err(ErrorName::SelfTarget));
        }
        let Some(channel) = self.channel(s, key) else { return Ok(Ok(None)) };
        let Some(of) = channel.members.get(&params.uid).filter(|of| of.is_visible()) else {
            return Ok(Err(ErrorName::NoSuchMember));
        };
        let Some(member) = channel.members.get(&uid) else { return Ok(Ok(None)) };
        if !member.rights.subscribe.contains(&kind) {
            return Ok(Err(ErrorName::SubscribeForbidden));
        }
        let publication = kind.index().and_then(|at| of.pubs[at]);
        let (Some(publication), Some(generation)) = (publication, of.pushes[at]) else {
            return Ok(Err(ErrorName::NotPublished));
        };
        let plays = channel.plays(member).len();
        let pull = member.pulls.get(&generation).copied();
        let mid = member.mid;
        if plays >= most && pull.is_none_or(|(kinds, _)| !kinds.contains(&kind)) {
            return Ok(Err(ErrorName::TooManySubscriptions));
        }
        let head = channel.head();
        if let Some((kinds, renew_after)) = pull
            && step.wall < renew_after
            && !self.shards[s].moved.contains_key(&(generation, Some(mid)))
        {
            let of = params.uid;
            if let Some(member) = self.member(who) {
                member.pulls.insert(generation, (kinds.union(KindSet::of(&kind)), renew_after));
            }
            return Ok(Ok(Some(Expect::Subscribed { seq: head, uid: of })));
        }
        let (ask, named) = step.take_mint(Some(mid))?;
        if named != generation {
            return Err(("media", format!("{uid} gets a URL of another stream")));
        }
        let (of, since) = (params.uid, step.now);
        let on = PendingOn::Pull { ask, generation, of, kind, publication, since };
        self.wait(who, command, on);
        Ok(Ok(None))
    }

    pub(super) fn unsubscribe(
        &mut self,
        who: MemberRef<'_>,
        params: &Subscribe,
        step: &mut InputStep<'_>,
    ) -> CommandResult {
        let MemberRef { s, key, uid } = who;
        let at = slot(&params.media_type).ok_or(ErrorName::BadMediaType)?;
        let channel = self.channel(s, key).ok_or(ErrorName::NotJoined)?;
        let generation = channel.members.get(&params.uid).and_then(|of| of.pushes[at]);
        if let (Some(generation), Some(member)) = (generation, channel.members.get_mut(&uid)) {
            end_pull(member, generation, KindSet::of(&params.media_type), true, step);
        }
        Ok(Some(self.done(s, key)))
    }

    pub(super) fn minted(
        &mut self,
        s: usize,
        ask: AskId,
        result: Option<&Minted>,
        step: &mut InputStep<'_>,
    ) -> Verdict {
        let place = self.shards[s].channels.iter().find_map(|(key, channel)| {
            channel.members.iter().find_map(|(uid, member)| match &member.pending.as_ref()?.on {
                on @ (PendingOn::Push { ask: of, .. } | PendingOn::Pull { ask: of, .. })
                    if *of == ask =>
                {
                    Some((key.clone(), *uid, on.clone()))
                }
                _ => None,
            })
        });
        let Some((key, uid, on)) = place else { return Ok(()) };
        let who = MemberRef { s, key: &key, uid };
        let outcome = self.mint_comes_to(who, on, result, step);
        self.go_on(who, outcome, step)
    }

    pub(super) fn mint_comes_to(
        &mut self,
        who: MemberRef<'_>,
        on: PendingOn,
        result: Option<&Minted>,
        step: &mut InputStep<'_>,
    ) -> Result<Expect, ErrorName> {
        let MemberRef { s, key, uid } = who;
        let channel = self.channel(s, key).ok_or(ErrorName::Superseded)?;
        match on {
            PendingOn::Push { generation, kinds, renewed, .. } => {
                if renewed && !channel.streams.contains_key(&generation) {
                    return Err(ErrorName::Superseded);
                }
                let minted = result.ok_or(ErrorName::UrlUnavailable)?;
                let member = channel.members.get_mut(&uid).ok_or(ErrorName::Superseded)?;
                if !member.is_visible() {
                    return Err(ErrorName::Superseded);
                }
                if let Some(at) = first_slot(kinds) {
                    member.pushes[at] = Some(generation);
                }
                let stream = Stream { owner: uid, renew_after: minted.renew_after.0 };
                channel.streams.insert(generation, stream);
                self.shards[s].moved.remove(&(generation, None));
                Ok(self.published(who, generation, kinds, step))
            }
            PendingOn::Pull { generation, of, kind, publication, .. } => {
                let current = channel.members.get(&of).and_then(|of| of.pubs[kind.index()?]);
                if current != Some(publication) {
                    return Err(ErrorName::Superseded);
                }
                let minted = result.ok_or(ErrorName::UrlUnavailable)?;
                let head = channel.head();
                let member = channel.members.get_mut(&uid).ok_or(ErrorName::Superseded)?;
                let before =
                    member.pulls.get(&generation).map_or(KindSet::NONE, |(kinds, _)| *kinds);
                let kinds = before.union(KindSet::of(&kind));
                let others = before.difference(KindSet::of(&kind));
                member.pulls.insert(generation, (others, minted.renew_after.0));
                let held = (generation, Some(member.mid));
                let moved = self.shards[s].moved.remove(&held).is_some();
                if moved && !others.is_empty() {
                    // The kinds that it played before still have the old address.
                    self.shards[s].moved.insert(held, Some(minted.clone()));
                    self.expect_url_notice(who, held, minted, step);
                }
                if let Some(member) = self.member(who) {
                    member.pulls.insert(generation, (kinds, minted.renew_after.0));
                }
                Ok(Expect::Subscribed { seq: head, uid: of })
            }
            PendingOn::Token { .. } | PendingOn::Write { .. } | PendingOn::Superseded => {
                Err(ErrorName::Superseded)
            }
        }
    }

    /// The relay asks whether a URL may be used.
    pub(super) fn access_asked(
        &mut self,
        s: usize,
        query: QueryId,
        generation: Gen,
        access: Access,
        step: &InputStep<'_>,
    ) {
        let may = self.may_use(s, generation, access);
        self.shards[s].questions.insert(query, (generation, access, step.now, may));
    }

    pub(super) fn may_use(&self, s: usize, generation: Gen, access: Access) -> bool {
        let mut channels = self.shards[s].channels.values();
        let Some(channel) = channels.find(|channel| channel.streams.contains_key(&generation))
        else {
            return false;
        };
        match access {
            Access::Publish => true,
            Access::Play { viewer } => channel
                .members
                .values()
                .any(|member| member.mid == viewer && member.pulls.contains_key(&generation)),
        }
    }
}

/// Takes kinds from a subscription; with the last kind the play is cut.
fn end_pull(
    member: &mut Member,
    generation: Gen,
    kinds: KindSet,
    cut: bool,
    step: &mut InputStep<'_>,
) {
    let Some((has, _)) = member.pulls.get_mut(&generation) else { return };
    *has = has.difference(kinds);
    if has.is_empty() {
        member.pulls.remove(&generation);
        if cut {
            step.viewer_cuts.push((generation, member.mid));
        }
    }
}

//! Publish, unpublish, subscribe, unsubscribe: streams, their URLs and their viewers. A stream lives from the answer of
//! its first `publish` until none of its kinds is published; its end cuts the push and all plays, at once (URL-5,
//! URL-6).

use std::collections::BTreeMap;

use lianmai_protocol::message::ChannelEvent;
use lianmai_protocol::message::event::StreamChange;
use lianmai_protocol::message::media::{Publish, Subscribe};
use lianmai_protocol::{ErrorName, Gen, KindSet, MediaKind, MediaSelector, Mid, RpcError, UserId};

use super::member::{PendingOn, SLOT_KINDS, slot_of};
use super::session::CommandKey;
use super::urls::IssuedUrl;
use super::{Channel, CommandResult, Reply};
use crate::asks::{Continuation, MintRequest, Question, UrlPurpose};
use crate::context::Context;
use crate::ids::AskId;
use crate::input::Access;
use crate::output::{Allowed, Denial, Note, Output, Publication};
use crate::record::Minted;

/// A member that may play a stream.
#[derive(Debug)]
pub(crate) struct Viewer {
    pub(crate) uid: UserId,
    pub(crate) kinds: KindSet,
    pub(crate) url: IssuedUrl,
}

/// One life of one push URL.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) owner: UserId,
    pub(crate) url: IssuedUrl,
    pub(crate) viewers: BTreeMap<Mid, Viewer>,
}

impl Channel {
    pub(super) fn publish(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        command: CommandKey,
        params: &Publish,
    ) -> CommandResult {
        let barred = self.barred_of(uid);
        let member = self.members.get_mut(&uid).ok_or(ErrorName::NotJoined)?;
        if params.uid.is_some_and(|other| other != uid) {
            return Err(RpcError::new(ErrorName::Forbidden)
                .message("Nobody can publish for somebody else.")
                .field("uid"));
        }
        let (slot, kinds) = selected(&params.media_type)?;
        if !member.is_visible() {
            return Err(ErrorName::NotBroadcaster.into());
        }
        if !kinds.difference(member.rights.publish.difference(barred)).is_empty() {
            return Err(ErrorName::PublishForbidden.into());
        }
        let live = member.pushes[slot];
        if let Some(generation) = live
            && let Some(stream) = self.streams.get(&generation)
            && stream.url.is_current(cx, self.policy.media.push)
        {
            let minted = stream.url.minted.clone();
            return Ok(self.published(cx, uid, generation, kinds, minted));
        }
        let renewed = live.is_some();
        let generation = live.unwrap_or_else(|| cx.new_generation(self.key.route()));
        let request = MintRequest { appkey: self.key.appkey.clone(), generation, viewer: None };
        let purpose = UrlPurpose::Push { generation, kinds, renewed };
        let then = Continuation::Url { member: self.member_ref(uid), purpose };
        let ask = cx.ask(Question::Mint(request), then);
        self.set_pending(uid, command, ask, PendingOn::Push);
        Ok(Reply::Deferred)
    }

    /// The URL exists: announces the kinds that are new on it.
    fn published(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        generation: Gen,
        kinds: KindSet,
        minted: Minted,
    ) -> Reply {
        let new = kinds.difference(self.members[&uid].published());
        self.touch(uid);
        for kind in new.iter() {
            let publication = cx.new_pub();
            let Some(member) = self.members.get_mut(&uid) else { break };
            if let Some(index) = kind.index() {
                member.pubs[index] = Some(publication);
            }
            let mid = member.mid;
            let (channel, cid) = (self.key.clone(), self.cid);
            cx.note(Note::StreamAdded { channel, cid, uid, mid, kind: kind.clone(), publication });
            let change = StreamChange { uid, mid, media_type: kind.clone(), publication };
            self.emit(cx, &ChannelEvent::StreamAdded(change));
        }
        if !new.is_empty() {
            self.announce_published(cx, generation);
        }
        Reply::Published { url: minted.url, urls: minted.urls, generation }
    }

    pub(super) fn unpublish(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        command: CommandKey,
        params: &Publish,
    ) -> CommandResult {
        let target = self.own_or_moderated(uid, params.uid)?;
        let (_, kinds) = selected(&params.media_type)?;
        let before = self.log.head();
        self.remove_streams(cx, target, kinds);
        self.answer_change(cx, uid, command, target, before != self.log.head(), false)
    }

    /// Ends publications: `streamRemoved` for each, their subscriptions, and each URL that carries no kind any more.
    pub(super) fn remove_streams(&mut self, cx: &mut Context, uid: UserId, kinds: KindSet) {
        let Some(member) = self.members.get(&uid) else { return };
        let (mid, pushes) = (member.mid, member.pushes);
        let gone = kinds.intersection(member.published());
        self.touch(uid);
        for kind in gone.iter() {
            let Some(member) = self.members.get_mut(&uid) else { return };
            let Some(publication) = kind.index().and_then(|index| member.pubs[index].take()) else {
                continue;
            };
            let (channel, cid) = (self.key.clone(), self.cid);
            cx.note(Note::StreamRemoved {
                channel,
                cid,
                uid,
                mid,
                kind: kind.clone(),
                publication,
            });
            let change = StreamChange { uid, mid, media_type: kind.clone(), publication };
            self.emit(cx, &ChannelEvent::StreamRemoved(change));
        }
        let left = self.members[&uid].published();
        for (slot, generation) in pushes.into_iter().enumerate() {
            let Some(generation) = generation else { continue };
            if left.iter().any(|kind| slot_of(kind) == Some(slot)) {
                if gone.iter().any(|kind| slot_of(kind) == Some(slot)) {
                    self.announce_published(cx, generation);
                }
                self.drop_viewer_kinds(cx, generation, kinds);
            } else {
                self.end_stream(cx, uid, slot, generation);
            }
        }
    }

    /// The only place where a stream ends: its push and plays end as well.
    fn end_stream(&mut self, cx: &mut Context, uid: UserId, slot: usize, generation: Gen) {
        if let Some(member) = self.members.get_mut(&uid) {
            member.pushes[slot] = None;
        }
        self.push_cut(cx, generation);
        cx.streams.remove(&generation);
        if let Some(stream) = self.streams.remove(&generation) {
            for viewer in stream.viewers.values() {
                if let Some(member) = self.members.get_mut(&viewer.uid) {
                    member.pulls.retain(|pull| *pull != generation);
                }
            }
            cx.stats.streams -= 1;
            let appkey = self.key.appkey.clone();
            cx.outputs.push_back(Output::CutStream { appkey, generation });
        }
    }

    /// The kinds that are published on a stream.
    fn published_on(&self, generation: Gen) -> KindSet {
        let owner = self.streams.get(&generation).and_then(|s| self.members.get(&s.owner));
        owner.map_or(KindSet::NONE, |owner| owner.published_on(generation))
    }

    fn announce_published(&self, cx: &mut Context, generation: Gen) {
        let (appkey, kinds) = (self.key.appkey.clone(), self.published_on(generation));
        cx.outputs.push_back(Output::SetPublished { appkey, generation, kinds });
    }

    /// Removes kinds from every viewer of a stream; a viewer that has none left is removed.
    fn drop_viewer_kinds(&mut self, cx: &mut Context, generation: Gen, kinds: KindSet) {
        let Some(stream) = self.streams.get(&generation) else { return };
        let viewers = stream.viewers.iter().map(|(mid, viewer)| (*mid, viewer.kinds));
        for (mid, has) in viewers.collect::<Vec<_>>() {
            self.set_viewer_kinds(cx, generation, mid, has.difference(kinds));
        }
    }

    /// The only place where a viewer of a stream gets other kinds of it; no kinds end its play.
    fn set_viewer_kinds(&mut self, cx: &mut Context, generation: Gen, mid: Mid, kinds: KindSet) {
        let Some(stream) = self.streams.get_mut(&generation) else { return };
        let Some(viewer) = stream.viewers.get_mut(&mid) else { return };
        let (uid, owner) = (viewer.uid, stream.owner);
        let before = std::mem::replace(&mut viewer.kinds, kinds);
        self.subscribed(cx, (uid, mid), owner, (before, kinds));
        if kinds.is_empty() {
            self.end_viewer(cx, generation, mid, uid);
        } else if kinds != before {
            let appkey = self.key.appkey.clone();
            cx.outputs.push_back(Output::SetSubscribed { appkey, generation, viewer: mid, kinds });
        }
    }

    fn end_viewer(&mut self, cx: &mut Context, generation: Gen, mid: Mid, uid: UserId) {
        self.play_cut(cx, generation, mid);
        if let Some(stream) = self.streams.get_mut(&generation)
            && stream.viewers.remove(&mid).is_some()
        {
            let appkey = self.key.appkey.clone();
            cx.outputs.push_back(Output::CutViewer { appkey, generation, viewer: mid });
        }
        if let Some(member) = self.members.get_mut(&uid) {
            member.pulls.retain(|pull| *pull != generation);
        }
    }

    /// Ends the subscriptions of a member to kinds that are no longer allowed.
    pub(super) fn restrict_pulls(&mut self, cx: &mut Context, uid: UserId, allowed: KindSet) {
        let Some(member) = self.members.get(&uid) else { return };
        let (mid, pulls) = (member.mid, member.pulls.clone());
        for generation in pulls {
            let viewer = self.streams.get(&generation).and_then(|s| s.viewers.get(&mid));
            if let Some(has) = viewer.map(|viewer| viewer.kinds) {
                self.set_viewer_kinds(cx, generation, mid, has.intersection(allowed));
            }
        }
    }

    /// Ends all plays of a member.
    pub(super) fn end_pulls(&mut self, cx: &mut Context, uid: UserId) {
        let Some(member) = self.members.get_mut(&uid) else { return };
        let mid = member.mid;
        for generation in std::mem::take(&mut member.pulls) {
            self.end_viewer(cx, generation, mid, uid);
        }
    }

    pub(super) fn subscribe(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        command: CommandKey,
        params: &Subscribe,
    ) -> CommandResult {
        let member = self.members.get(&uid).ok_or(ErrorName::NotJoined)?;
        let slot = slot_of(&params.media_type)
            .ok_or_else(|| RpcError::new(ErrorName::BadMediaType).field("mediaType"))?;
        if params.uid == uid {
            return Err(ErrorName::SelfTarget.into());
        }
        let publisher = self
            .members
            .get(&params.uid)
            .filter(|member| member.is_visible())
            .ok_or_else(|| RpcError::new(ErrorName::NoSuchMember).field("uid"))?;
        if !member.rights.subscribe.contains(&params.media_type) {
            return Err(ErrorName::SubscribeForbidden.into());
        }
        let (Some(publication), Some(generation)) =
            (publisher.publication(&params.media_type), publisher.pushes[slot])
        else {
            return Err(ErrorName::NotPublished.into());
        };
        let mid = member.mid;
        let full = self.subscription_count(uid) >= cx.config.limits.subscriptions;
        let viewer = self.streams.get(&generation).and_then(|s| s.viewers.get(&mid));
        let has = viewer.as_ref().is_some_and(|viewer| viewer.kinds.contains(&params.media_type));
        if full && !has {
            return Err(ErrorName::TooManySubscriptions.into());
        }
        if let Some(viewer) = viewer
            && viewer.url.is_current(cx, self.policy.media.pull)
        {
            let kinds = viewer.kinds.union(KindSet::of(&params.media_type));
            let Minted { url, urls, .. } = viewer.url.minted.clone();
            self.set_viewer_kinds(cx, generation, mid, kinds);
            return Ok(Reply::Subscribed { uid: params.uid, url, urls });
        }
        let request =
            MintRequest { appkey: self.key.appkey.clone(), generation, viewer: Some(mid) };
        let (publisher, kind) = (params.uid, params.media_type.clone());
        let purpose = UrlPurpose::Pull { generation, publisher, kind, publication };
        let then = Continuation::Url { member: self.member_ref(uid), purpose };
        let ask = cx.ask(Question::Mint(request), then);
        self.set_pending(uid, command, ask, PendingOn::Pull);
        Ok(Reply::Deferred)
    }

    fn subscription_count(&self, uid: UserId) -> usize {
        let Some(member) = self.members.get(&uid) else { return 0 };
        let viewers = member.pulls.iter().filter_map(|pull| self.streams.get(pull));
        viewers
            .filter_map(|stream| stream.viewers.get(&member.mid))
            .map(|v| v.kinds.iter().count())
            .sum()
    }

    pub(super) fn unsubscribe(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        params: &Subscribe,
    ) -> CommandResult {
        let slot = slot_of(&params.media_type)
            .ok_or_else(|| RpcError::new(ErrorName::BadMediaType).field("mediaType"))?;
        let mid = self.members.get(&uid).ok_or(ErrorName::NotJoined)?.mid;
        let generation = self.members.get(&params.uid).and_then(|member| member.pushes[slot]);
        if let Some(generation) = generation
            && let Some(stream) = self.streams.get(&generation)
            && let Some(viewer) = stream.viewers.get(&mid)
        {
            let kinds = viewer.kinds.difference(KindSet::of(&params.media_type));
            self.set_viewer_kinds(cx, generation, mid, kinds);
        }
        Ok(Reply::Done)
    }

    /// A URL was issued or could not be. It is used only if its purpose still exists.
    pub(crate) fn minted(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        ask: AskId,
        purpose: UrlPurpose,
        result: Option<Minted>,
    ) {
        if let UrlPurpose::Moved { generation, mid } = purpose {
            return self.url_renewed(cx, uid, generation, mid, result);
        }
        if !self.awaits(uid, ask) {
            return;
        }
        match purpose {
            UrlPurpose::Moved { .. } => {}
            UrlPurpose::Push { generation, kinds, renewed } => {
                let outcome = if renewed && !self.streams.contains_key(&generation) {
                    // The stream ended meanwhile; a generation never comes back (URL-5).
                    Err(ErrorName::Superseded.into())
                } else {
                    self.push_minted(cx, uid, generation, kinds, result)
                };
                self.finish_pending(cx, uid, "publish", outcome);
            }
            UrlPurpose::Pull { generation, publisher, kind, publication } => {
                let current = self.members.get(&publisher).and_then(|m| m.publication(&kind));
                let outcome = if current == Some(publication) {
                    self.pull_minted(cx, uid, publisher, generation, &kind, result)
                } else {
                    Err(ErrorName::Superseded.into())
                };
                self.finish_pending(cx, uid, "subscribe", outcome);
            }
        }
    }

    fn push_minted(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        generation: Gen,
        kinds: KindSet,
        result: Option<Minted>,
    ) -> CommandResult {
        let minted = result.ok_or(ErrorName::UrlUnavailable)?;
        let Some(member) = self.members.get_mut(&uid).filter(|member| member.is_visible()) else {
            return Err(ErrorName::Superseded.into());
        };
        if let Some(slot) = kinds.iter().next().and_then(slot_of) {
            member.pushes[slot] = Some(generation);
        }
        let url = IssuedUrl::answered(minted.clone(), self.policy.media.push);
        if let Some(stream) = self.streams.get_mut(&generation) {
            stream.url = url;
        } else {
            self.streams.insert(generation, Stream { owner: uid, url, viewers: BTreeMap::new() });
            cx.streams.insert(generation, self.id);
            cx.stats.streams += 1;
        }
        self.url_issued(cx, uid, generation);
        Ok(self.published(cx, uid, generation, kinds, minted))
    }

    fn pull_minted(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        publisher: UserId,
        generation: Gen,
        kind: &MediaKind,
        result: Option<Minted>,
    ) -> CommandResult {
        let minted = result.ok_or(ErrorName::UrlUnavailable)?;
        let (Some(member), Some(stream)) =
            (self.members.get_mut(&uid), self.streams.get_mut(&generation))
        else {
            return Err(ErrorName::Superseded.into());
        };
        let (mid, kind) = (member.mid, KindSet::of(kind));
        if !member.pulls.contains(&generation) {
            member.pulls.push(generation);
        }
        let address = self.policy.media.pull;
        let held = IssuedUrl::answered(minted.clone(), address);
        let before = stream.viewers.remove(&mid);
        // A new viewer has its kinds from here on: the verdict on its play contains them, so they need no
        // `SetSubscribed`.
        let kinds = before.as_ref().map_or(kind, |before| before.kinds);
        stream.viewers.insert(mid, Viewer { uid, kinds, url: held });
        self.url_issued(cx, uid, generation);
        if before.is_none() {
            self.subscribed(cx, (uid, mid), publisher, (KindSet::NONE, kind));
            self.notify_levels_of(cx, uid, publisher);
        }
        self.set_viewer_kinds(cx, generation, mid, kinds.union(kind));
        if let Some(before) = before {
            self.notify_other_kinds(cx, uid, generation, &before, kind);
        }
        let Minted { url, urls, .. } = minted;
        Ok(Reply::Subscribed { uid: publisher, url, urls })
    }

    /// Ends a command that waits for a push URL, since its member may no longer publish. The session continues at the
    /// end of the turn.
    pub(super) fn supersede_push(&mut self, uid: UserId) {
        let pending = self.members.get_mut(&uid).and_then(|member| member.pending.as_mut());
        if let Some(pending) = pending
            && pending.on == PendingOn::Push
        {
            pending.on = PendingOn::Superseded;
            self.superseded.push_back(uid);
        }
    }

    /// Whether a URL whose signature is valid may be used now, by which member and for which kinds.
    pub(crate) fn authorize(&self, generation: Gen, access: Access) -> Result<Allowed, Denial> {
        let stream = self.streams.get(&generation).ok_or(Denial::UnknownStream)?;
        let (uid, kinds) = match access {
            Access::Publish => (stream.owner, self.published_on(generation)),
            // A play by a task counts for the owner of the stream.
            Access::Play { viewer } if self.is_played_by_a_task(generation, viewer) => {
                (stream.owner, KindSet::AUDIO_VIDEO)
            }
            Access::Play { viewer } => {
                let viewer = stream.viewers.get(&viewer).ok_or(Denial::NotSubscribed)?;
                (viewer.uid, viewer.kinds)
            }
        };
        Ok(Allowed { appkey: self.key.appkey.clone(), uid, kinds })
    }

    /// The owner and content of a stream that lives.
    pub(crate) fn publication(&self, generation: Gen) -> Option<Publication> {
        let uid = self.streams.get(&generation)?.owner;
        let mut pushes = self.members.get(&uid)?.pushes.iter().zip(SLOT_KINDS);
        let (_, kind) = pushes.find(|(push, _)| **push == Some(generation))?;
        Some(Publication { channel: self.key.clone(), uid, kind })
    }

    /// Payload was seen on a stream: its owner is alive (LIV-3).
    pub(crate) fn media_flow(&mut self, cx: &Context, generation: Gen) {
        if let Some(stream) = self.streams.get(&generation)
            && let Some(member) = self.members.get_mut(&stream.owner)
        {
            member.last_media = Some(cx.mono());
        }
    }
}

/// The slot and kinds of a `mediaType` that can be published.
fn selected(selector: &MediaSelector) -> Result<(usize, KindSet), RpcError> {
    let kinds = selector.kinds();
    let slot = kinds.iter().next().and_then(slot_of);
    slot.map(|slot| (slot, kinds))
        .ok_or_else(|| RpcError::new(ErrorName::BadMediaType).field("mediaType"))
}

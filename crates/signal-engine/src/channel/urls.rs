//! URLs that members hold, and their renewal when the media servers have another address after a restart (ADR 0014).
//! Comes in: members that are back, repeated answers, issued URLs. Goes out: questions for URLs, `syncDone`.
//!
//! ```text
//!   back --> address as of its last answer? --no--> renewed before? --no--> Ask --> syncDone
//!                                                        `--yes-------------------> syncDone, the same URL
//! ```

use lianmai_protocol::message::notice::{Direction, SyncDone};
use lianmai_protocol::message::{Call, Notice};
use lianmai_protocol::{Gen, KindSet, Mid, UserId};

use super::Channel;
use super::media::Viewer;
use super::member::slot_of;
use crate::asks::{Continuation, MintRequest, Question, UrlPurpose};
use crate::context::Context;
use crate::record::Minted;

/// A URL that a member holds.
#[derive(Debug)]
pub(crate) struct IssuedUrl {
    pub(crate) minted: Minted,
    /// Number of the address for which an answer has given it to its holder. A notice does not change it, since it may
    /// be lost with the socket.
    pub(crate) address: u64,
    /// Issued again for the present address; its holder has only a notice of it.
    renewed: bool,
}

impl IssuedUrl {
    /// A URL that is about to be answered, or was.
    pub(crate) fn answered(minted: Minted, address: u64) -> Self {
        IssuedUrl { minted, address, renewed: false }
    }

    /// Whether it may be answered again, while the address has this number.
    pub(super) fn is_current(&self, cx: &Context, address: u64) -> bool {
        self.address == address && cx.now.wall < self.minted.renew_after
    }
}

impl Channel {
    /// A member is back: it is told every URL that it holds whose address has changed since it was answered.
    pub(super) fn notify_moved_urls(&mut self, cx: &mut Context, uid: UserId) {
        let Some(member) = self.members.get(&uid) else { return };
        let mid = member.mid;
        let held = member.pushes.iter().flatten().chain(&member.pulls).copied();
        for generation in held.collect::<Vec<_>>() {
            let Some((url, address)) = self.url_of(generation, uid, mid) else { continue };
            if url.address == address {
                continue;
            }
            if url.renewed {
                self.notify_url(cx, uid, generation, mid);
                continue;
            }
            let viewer = (!self.is_owner(generation, uid)).then_some(mid);
            let request = MintRequest { appkey: self.key.appkey.clone(), generation, viewer };
            let purpose = UrlPurpose::Moved { generation, mid };
            cx.ask(
                Question::Mint(request),
                Continuation::Url { member: self.member_ref(uid), purpose },
            );
        }
    }

    /// The answer of `call` was repeated: the URL in it may be older than one that a notice has told since.
    pub(super) fn notify_renewed_url(&mut self, cx: &mut Context, uid: UserId, call: &Call) {
        let (of, kind) = match call {
            Call::Publish(params) => (uid, params.media_type.kinds().iter().next().cloned()),
            Call::Subscribe(params) => (params.uid, Some(params.media_type.clone())),
            _ => return,
        };
        let push = |slot: usize| self.members.get(&of).and_then(|member| member.pushes[slot]);
        let generation = kind.as_ref().and_then(slot_of).and_then(push);
        let Some((generation, member)) = generation.zip(self.members.get(&uid)) else { return };
        let mid = member.mid;
        let url = self.url_of(generation, uid, mid);
        if url.is_some_and(|(url, address)| url.address != address && url.renewed) {
            self.notify_url(cx, uid, generation, mid);
        }
    }

    /// A URL was issued for the present address. If not, its holder is told when it is back the next time.
    pub(super) fn url_renewed(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        generation: Gen,
        mid: Mid,
        result: Option<Minted>,
    ) {
        let Some(minted) = result.filter(|_| self.has_membership(uid, mid)) else { return };
        // It may have been answered meanwhile.
        if let Some((url, address)) = self.url_of(generation, uid, mid)
            && url.address != address
        {
            (url.minted, url.renewed) = (minted, true);
            self.url_issued(cx, uid, generation);
            self.notify_url(cx, uid, generation, mid);
        }
    }

    /// A pull URL was issued for one kind of a stream. If its holder has an earlier URL for other kinds of the stream,
    /// it is told the new one for these, and the URL does not count as answered before it is answered for these, too.
    pub(super) fn notify_other_kinds(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        generation: Gen,
        before: &Viewer,
        answered: KindSet,
    ) {
        let Some(mid) = self.members.get(&uid).map(|member| member.mid) else { return };
        let others = before.kinds.difference(answered);
        let Some((url, address)) = self.url_of(generation, uid, mid) else { return };
        if !others.is_empty() && before.url.address != address {
            (url.address, url.renewed) = (before.url.address, true);
            self.notify_kinds(cx, uid, generation, others);
        }
    }

    fn is_owner(&self, generation: Gen, uid: UserId) -> bool {
        self.streams.get(&generation).is_some_and(|stream| stream.owner == uid)
    }

    /// The URL of a stream that a membership holds, and the present address of such URLs.
    fn url_of(&mut self, generation: Gen, uid: UserId, mid: Mid) -> Option<(&mut IssuedUrl, u64)> {
        let media = self.policy.media;
        let stream = self.streams.get_mut(&generation)?;
        if stream.owner == uid {
            return Some((&mut stream.url, media.push));
        }
        stream.viewers.get_mut(&mid).map(|viewer| (&mut viewer.url, media.pull))
    }

    /// `syncDone`: once for a push URL, for a pull URL once for each kind that is subscribed on it.
    fn notify_url(&mut self, cx: &mut Context, uid: UserId, generation: Gen, mid: Mid) {
        let Some(stream) = self.streams.get(&generation) else { return };
        let kinds = if stream.owner == uid {
            let Some(publisher) = self.members.get(&uid) else { return };
            publisher.published_on(generation).iter().next().map_or(KindSet::NONE, KindSet::of)
        } else {
            stream.viewers.get(&mid).map_or(KindSet::NONE, |viewer| viewer.kinds)
        };
        self.notify_kinds(cx, uid, generation, kinds);
    }

    /// `syncDone` for these kinds of a stream.
    fn notify_kinds(&mut self, cx: &mut Context, uid: UserId, generation: Gen, kinds: KindSet) {
        let Some(mid) = self.members.get(&uid).map(|member| member.mid) else { return };
        let Some(of) = self.streams.get(&generation).map(|stream| stream.owner) else { return };
        let Some((url, _)) = self.url_of(generation, uid, mid) else { return };
        let Minted { url, urls, .. } = url.minted.clone();
        let direction = if of == uid { Direction::Push } else { Direction::Pull };
        for media_type in kinds.iter().cloned() {
            let (url, urls, direction) = (url.clone(), urls.clone(), direction.clone());
            let notice = SyncDone { uid: of, direction, media_type, url, urls };
            self.notify(cx, uid, &Notice::SyncDone(notice));
        }
    }
}

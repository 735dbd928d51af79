//! A relay that moved with a restart (URL-10): a member that holds a URL with an old address is told the new URL when
//! it is back, unless an answer has given it already. Comes in: records, members that are back, issued URLs. Goes out:
//! the URLs that must be requested and sent.

use std::collections::BTreeMap;

use lianmai_protocol::message::notice::{Direction, SyncDone};
use lianmai_protocol::message::{Call, Notice};
use lianmai_protocol::{Gen, MediaKind, Mid, UserId};
use lianmai_signal_engine::{AskId, ChannelKey, Minted, Restored};

use super::media::slot;
use super::state::{MemberRef, ModelShard};
use super::{InputStep, Model, Verdict};

/// A stream, and its viewer; `None` for the push.
pub(super) type UrlKey = (Gen, Option<Mid>);

/// A URL that was requested for a member.
#[derive(Clone, Debug)]
pub(super) struct Renewal {
    key: ChannelKey,
    uid: UserId,
    mid: Mid,
    url_key: UrlKey,
    since: u64,
}

/// URLs whose holder has no answer with the present address, and the URL that was issued since, if there is one.
pub(super) type MovedUrls = BTreeMap<UrlKey, Option<Minted>>;

/// An issuer that takes longer than this has failed.
const MINT_MS: u64 = 5_000;

impl ModelShard {
    /// The URLs of the records that have an old address.
    pub(super) fn moved_of(restored: &Restored, relay: u64) -> MovedUrls {
        let mut moved = MovedUrls::new();
        for member in restored.channels.iter().flat_map(|(_, _, members)| members) {
            let pushes = member.pushes.iter().map(|push| ((push.generation, None), push.address));
            let live = member.live.iter().flat_map(|live| &live.pulls);
            let pulls = live.map(|pull| ((pull.0, Some(member.mid)), pull.3));
            for (url_key, address) in pushes.chain(pulls) {
                if address != Some(relay) {
                    moved.insert(url_key, None);
                }
            }
        }
        moved
    }
}

impl Model {
    /// Whether the URL of a stream may still have an old address: none was issued since.
    pub(crate) fn owes_url(&self, url_key: UrlKey) -> bool {
        self.shards.iter().any(|shard| shard.moved.get(&url_key) == Some(&None))
    }

    /// A member is back: it must be told each moved URL.
    pub(super) fn expect_moved_urls(
        &mut self,
        who: MemberRef<'_>,
        step: &mut InputStep<'_>,
    ) -> Verdict {
        let MemberRef { s, key, uid } = who;
        let Some(member) = self.member(who) else { return Ok(()) };
        let mid = member.mid;
        let pushes = member.pushes.iter().flatten().map(|generation| (*generation, None));
        let pulls = member.pulls.keys().map(|generation| (*generation, Some(mid)));
        for url_key in pushes.chain(pulls).collect::<Vec<_>>() {
            match self.shards[s].moved.get(&url_key).cloned() {
                None => {}
                Some(Some(minted)) => self.expect_url_notice(who, url_key, &minted, step),
                Some(None) => {
                    let is = |(_, request): &(AskId, lianmai_signal_engine::MintRequest)| {
                        (request.generation, request.viewer) == url_key
                    };
                    let at = step.mints.iter().position(is);
                    let Some((ask, _)) = at.and_then(|at| step.mints.remove(at)) else {
                        return Err(("media", format!("{uid} is back, and {url_key:?} has moved")));
                    };
                    let since = step.now;
                    let renewal = Renewal { key: key.clone(), uid, mid, url_key, since };
                    self.shards[s].renewals.insert(ask, renewal);
                }
            }
        }
        Ok(())
    }

    /// An answer with a URL is repeated: a new URL that was sent since is sent again after it.
    pub(super) fn expect_renewed_url(
        &mut self,
        who: MemberRef<'_>,
        call: &Call,
        step: &mut InputStep<'_>,
    ) {
        let MemberRef { s, key, uid } = who;
        let (of, kind) = match call {
            Call::Publish(asked) => (uid, asked.media_type.kinds().iter().next().cloned()),
            Call::Subscribe(asked) => (asked.uid, Some(asked.media_type.clone())),
            _ => return,
        };
        let Some(at) = kind.as_ref().and_then(slot) else { return };
        let Some(channel) = self.channel(s, key) else { return };
        let Some(generation) = channel.members.get(&of).and_then(|of| of.pushes[at]) else {
            return;
        };
        let Some(member) = channel.members.get(&uid) else { return };
        let url_key = (generation, (of != uid).then_some(member.mid));
        let plays = member.pulls.contains_key(&generation);
        if let Some(Some(minted)) = self.shards[s].moved.get(&url_key).cloned()
            && (of == uid || plays)
        {
            self.expect_url_notice(who, url_key, &minted, step);
        }
    }

    /// A URL was issued. False if it is not for a member that is back.
    pub(super) fn renewed(
        &mut self,
        s: usize,
        ask: AskId,
        result: Option<&Minted>,
        step: &mut InputStep<'_>,
    ) -> bool {
        let Some(renewal) = self.shards[s].renewals.remove(&ask) else { return false };
        let Renewal { key, uid, mid, url_key, .. } = renewal;
        let who = MemberRef { s, key: &key, uid };
        let there = self.member(who).is_some_and(|member| {
            let pushes = member.pushes.contains(&Some(url_key.0)) && url_key.1.is_none();
            member.mid == mid
                && (pushes || (url_key.1.is_some() && member.pulls.contains_key(&url_key.0)))
        });
        if let Some(minted) = result
            && there
            && let Some(moved) = self.shards[s].moved.get_mut(&url_key)
        {
            *moved = Some(minted.clone());
            self.expect_url_notice(who, url_key, minted, step);
        }
        true
    }

    /// Forgets requests that took too long; this comes after the input of a step. Between two processes no time passes.
    pub(super) fn end_renewals(&mut self, s: usize, now: u64) {
        let shard = &mut self.shards[s];
        if shard.frozen_since.is_none() {
            shard.renewals.retain(|_, renewal| renewal.since + MINT_MS > now);
        }
    }

    pub(super) fn expect_url_notice(
        &mut self,
        who: MemberRef<'_>,
        url_key: UrlKey,
        minted: &Minted,
        step: &mut InputStep<'_>,
    ) {
        let (generation, viewer) = url_key;
        let Some(channel) = self.channel(who.s, who.key) else { return };
        let Some(stream) = channel.streams.get(&generation) else { return };
        let owner = stream.owner;
        let Some(publisher) = channel.members.get(&owner) else { return };
        let Some(member) = channel.members.get(&who.uid) else { return };
        let Some(conn) = member.conn else { return };
        let on_it = |kind: &&MediaKind| {
            slot(kind).is_some_and(|slot| publisher.pushes[slot] == Some(generation))
        };
        let (direction, kinds): (_, Vec<MediaKind>) = match viewer {
            None => {
                let first = publisher.published().iter().find(on_it).cloned();
                (Direction::Push, first.into_iter().collect())
            }
            Some(_) => {
                let kinds = member.pulls.get(&generation).map(|(kinds, _)| *kinds);
                (Direction::Pull, kinds.iter().flat_map(|kinds| kinds.iter().cloned()).collect())
            }
        };
        for media_type in kinds {
            let (url, urls) = (minted.url.clone(), minted.urls.clone());
            let (uid, direction) = (owner, direction.clone());
            let told = SyncDone { uid, direction, media_type, url, urls };
            step.notices.push((conn, Notice::SyncDone(told)));
        }
    }
}

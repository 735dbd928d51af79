//! The own state of an app, and the URLs that it holds. Comes in: its calls, its events, its answers. Goes out: whether
//! it was told each change of its own state that it did not request, and whether the URLs that it holds belong to what
//! it pushes and plays.

use std::collections::{BTreeMap, BTreeSet};

use lianmai_client_sdk::CallError;
use lianmai_client_sdk::session::{Event, Own, Reply};
use lianmai_protocol::message::notice::{Direction, SyncDone};
use lianmai_protocol::{Attributes, Gen, KindSet, MediaKind, Mid, Role, UserId};
use lianmai_signal_engine::ChannelKey;

use super::app::App;
use crate::client::{Client, OpenCall};
use crate::world::World;

/// Calls that change the own state. While one is not settled, the app gets no event of its effect; then it reads its
/// state.
const OWN: &[&str] =
    &["publish", "unpublish", "setRole", "mute", "unmute", "setAttributes", "leave"];

/// Whether it is a push, the publisher, and the kind.
pub(crate) type UrlSlot = (bool, UserId, MediaKind);

/// A stream, and its viewer; `None` for the push.
pub(crate) type StreamAccess = (Gen, Option<Mid>);

/// The state of an app by its own knowledge.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OwnState {
    role: Role,
    name: Option<String>,
    attributes: Attributes,
    muted: KindSet,
    published: KindSet,
}

impl OwnState {
    pub(super) fn of(own: &Own) -> OwnState {
        OwnState {
            role: own.role.clone(),
            name: own.name.clone(),
            attributes: own.attributes.clone(),
            muted: own.muted,
            published: own.published.keys().cloned().collect(),
        }
    }

    /// Applies an event that concerns the app itself.
    pub(super) fn follow(&mut self, event: &Event, own: UserId) {
        match event {
            Event::RoleChanged(e) if e.uid == own => self.role = e.role.clone(),
            Event::ClientUpdate(e) if e.uid == own => {
                self.name.clone_from(&e.name);
                self.attributes = e.attributes.clone();
            }
            Event::Muted(e) if e.uid == own => {
                self.muted = self.muted.union(KindSet::of(&e.media_type));
            }
            Event::Unmuted(e) if e.uid == own => {
                self.muted = self.muted.difference(KindSet::of(&e.media_type));
            }
            Event::Published { media_type } => {
                self.published = self.published.union(KindSet::of(media_type));
            }
            Event::Unpublished { media_type } => {
                self.published = self.published.difference(KindSet::of(media_type));
            }
            _ => {}
        }
    }
}

/// The URLs that an app holds.
#[derive(Debug, Default)]
pub(super) struct HeldUrls {
    held: BTreeMap<UrlSlot, String>,
    /// Places of calls whose outcome the app does not know.
    unknown: BTreeSet<UrlSlot>,
}

impl HeldUrls {
    /// The app gets a URL. Returns the one that it held before.
    fn take(&mut self, push: bool, uid: UserId, kind: &MediaKind, url: &str) -> Option<String> {
        let before = self.held.get(&(push, uid, kind.clone())).cloned();
        for kind in carried(push, KindSet::of(kind)).iter() {
            let place = (push, uid, kind.clone());
            self.unknown.remove(&place);
            self.held.insert(place, url.to_owned());
        }
        before
    }

    /// A publication of another member ended, and its URL with it.
    pub(super) fn ended(&mut self, of: UserId, kind: &MediaKind) {
        self.held.remove(&(false, of, kind.clone()));
    }

    pub(super) fn sync(&mut self, sync: &SyncDone) -> Option<String> {
        self.take(sync.direction == Direction::Push, sync.uid, &sync.media_type, &sync.url)
    }
}

/// The kinds that share a URL with `kinds`: a push of audio or video carries both.
fn carried(push: bool, kinds: KindSet) -> KindSet {
    let shared = push && !kinds.intersection(KindSet::AUDIO_VIDEO).is_empty();
    if shared { kinds.union(KindSet::AUDIO_VIDEO) } else { kinds }
}

impl App {
    /// Applies what an app learns about URLs from a settlement.
    pub(crate) fn replied(&mut self, open: &OpenCall, outcome: &Result<Reply, CallError>) {
        let Some(own) = self.uid() else { return };
        let kinds = open.kinds.iter();
        match (outcome, open.of) {
            (Ok(Reply::Published(published)), _) => {
                kinds.for_each(|kind| drop(self.urls.take(true, own, kind, &published.url)));
            }
            (Ok(Reply::Subscribed(subscribed)), Some(of)) => {
                kinds.for_each(|kind| drop(self.urls.take(false, of, kind, &subscribed.url)));
            }
            (Err(CallError::OutcomeUnknown), of) => {
                let push = of.is_none();
                let uid = of.unwrap_or(own);
                let places = carried(push, open.kinds);
                self.urls.unknown.extend(places.iter().map(|kind| (push, uid, kind.clone())));
            }
            _ => {}
        }
    }
}

impl Client {
    /// The app reads its own state, unless a call that changes it is not settled.
    pub(crate) fn read_own_state(&mut self) {
        let waits = self.calls.values().any(|open| OWN.contains(&open.method));
        let own = self.copy.as_ref().filter(|_| !waits).map(|picture| &picture.own);
        self.app.mine = own.map(OwnState::of);
    }
}

impl World {
    /// With no call under way, checks that the URL of each stream that the app pushes or plays is the one that it
    /// holds.
    pub(crate) fn check_urls(&mut self, c: usize, key: &ChannelKey) {
        let uid = UserId(self.clients[c].spec.uid);
        for (place, is) in self.model.urls(key, uid) {
            let urls = &self.clients[c].app.urls;
            if urls.unknown.contains(&place) {
                continue;
            }
            let held = urls.held.get(&place);
            let old = held.is_some_and(|url| !url.starts_with(&self.server.relay_base()));
            if old && !self.model.owes_url(is) {
                let what = format!("c{c}: {place:?} is at another address, and it holds {held:?}");
                return self.fail("app", what);
            }
            let holds = held.map(|url| self.media.stream_of(url));
            if holds != Some(Some(is)) {
                let what = format!("c{c}: {place:?} is {is:?}, and it holds a URL of {holds:?}");
                return self.fail("app", what);
            }
        }
    }
}

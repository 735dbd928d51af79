//! What an app knows of itself, and which URLs it holds. Comes in: what it calls, what it hears, what it is answered.
//! Goes out: whether it was told of every change of its own state that it did not ask for, and whether the URLs
//! that it holds are those of what it pushes and plays.

use std::collections::{BTreeMap, BTreeSet};

use lianmai_client_sdk::CallError;
use lianmai_client_sdk::session::{Event, Own, Reply};
use lianmai_protocol::message::notice::{Direction, SyncDone};
use lianmai_protocol::{Attributes, Gen, KindSet, MediaKind, Mid, Role, UserId};
use lianmai_signal_engine::ChannelKey;

use super::app::App;
use crate::client::{Client, Open};
use crate::world::World;

/// What it asks about itself. Until that is settled it is told nothing of it, and then it looks.
const OWN: &[&str] =
    &["publish", "unpublish", "setRole", "mute", "unmute", "setAttributes", "leave"];

/// Push or not, whose, of which kind.
pub(crate) type Place = (bool, UserId, MediaKind);

/// A stream, and as which viewer.
pub(crate) type Access = (Gen, Option<Mid>);

/// What an app believes to be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mine {
    role: Role,
    name: Option<String>,
    attributes: Attributes,
    muted: KindSet,
    published: KindSet,
}

impl Mine {
    pub(super) fn of(own: &Own) -> Mine {
        Mine {
            role: own.role.clone(),
            name: own.name.clone(),
            attributes: own.attributes.clone(),
            muted: own.muted,
            published: own.published.keys().cloned().collect(),
        }
    }

    /// Applies what befell the app itself.
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
pub(super) struct Urls {
    held: BTreeMap<Place, String>,
    /// Of calls whose outcome it does not know.
    unknown: BTreeSet<Place>,
}

impl Urls {
    /// It is told a URL; the one that it held there.
    fn take(&mut self, push: bool, uid: UserId, kind: &MediaKind, url: &str) -> Option<String> {
        let before = self.held.get(&(push, uid, kind.clone())).cloned();
        for kind in carried(push, KindSet::of(kind)).iter() {
            let place = (push, uid, kind.clone());
            self.unknown.remove(&place);
            self.held.insert(place, url.to_owned());
        }
        before
    }

    /// What somebody else published has ended: a player of it is gone, and its URL with it.
    pub(super) fn ended(&mut self, of: UserId, kind: &MediaKind) {
        self.held.remove(&(false, of, kind.clone()));
    }

    pub(super) fn sync(&mut self, sync: &SyncDone) -> Option<String> {
        self.take(sync.direction == Direction::Push, sync.uid, &sync.media_type, &sync.url)
    }
}

/// What travels on the URL of these: audio and video share that of a push.
fn carried(push: bool, kinds: KindSet) -> KindSet {
    let shared = push && !kinds.intersection(KindSet::AUDIO_VIDEO).is_empty();
    if shared { kinds.union(KindSet::AUDIO_VIDEO) } else { kinds }
}

impl App {
    /// What an app learns of URLs by a settlement.
    pub(crate) fn replied(&mut self, open: &Open, outcome: &Result<Reply, CallError>) {
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
    /// The app looks at what it is, unless it waits for what it asked.
    pub(crate) fn looks_at_itself(&mut self) {
        let waits = self.calls.values().any(|open| OWN.contains(&open.method));
        let own = self.copy.as_ref().filter(|_| !waits).map(|picture| &picture.own);
        self.app.mine = own.map(Mine::of);
    }
}

impl World {
    /// Nothing is under way: each stream that it pushes or plays is the one whose URL it holds.
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

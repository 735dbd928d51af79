//! The URLs that the app holds, so that it hears of a new one only where it is another one (CLI-5).
//! Comes in: URLs that are handed out. Goes out: whether one is new. Deliberately absent: looking into them;
//! they are secrets, and this has no `Debug`.

use crate::prelude::*;
use lianmai_protocol::Map;
use lianmai_protocol::{KindSet, MediaKind, UserId};

/// Audio and video share the push URL of the first of these; each other kind has its own.
const MAIN: MediaKind = MediaKind::Audio;

/// The last URL that was handed out per push URL, and per member and kind.
#[derive(Default)]
pub(super) struct Urls {
    push: Map<MediaKind, String>,
    pull: Map<(UserId, MediaKind), String>,
}

impl Urls {
    /// The kinds of each push URL.
    pub(super) fn slots() -> [KindSet; 3] {
        let one = |kind| KindSet::of(&kind);
        [KindSet::AUDIO_VIDEO, one(MediaKind::ScreenShare), one(MediaKind::SlaveAudio)]
    }

    /// Notes the push URL of `kind`. Whether the app holds another one.
    pub(super) fn push(&mut self, kind: &MediaKind, url: &str) -> bool {
        let slot = if KindSet::AUDIO_VIDEO.contains(kind) { &MAIN } else { kind };
        note(&mut self.push, slot.clone(), url)
    }

    /// Notes the pull URL of a member's kind. Whether the app holds another one.
    pub(super) fn pull(&mut self, uid: UserId, kind: &MediaKind, url: &str) -> bool {
        note(&mut self.pull, (uid, kind.clone()), url)
    }

    /// The app plays it no longer.
    pub(super) fn drop_pull(&mut self, uid: UserId, kind: &MediaKind) {
        self.pull.remove(&(uid, kind.clone()));
    }

    /// Forgets every pull URL that `wanted` does not name.
    pub(super) fn keep_pulls(&mut self, wanted: impl Fn(&(UserId, MediaKind)) -> bool) {
        self.pull.retain(|key, _| wanted(key));
    }
}

fn note<K: Ord>(held: &mut Map<K, String>, key: K, url: &str) -> bool {
    held.insert(key, url.to_owned()).as_deref() != Some(url)
}

//! The URLs that the app holds, so that it is told only about URLs that differ (CLI-5). In: URLs from the server. Out:
//! whether a URL is new. Deliberately absent: any parsing. URLs are secret, so this type has no `Debug`.

use crate::prelude::*;
use lianmai_protocol::Map;
use lianmai_protocol::{KindSet, MediaKind, UserId};

/// The key for audio and video, which share a push URL. Each other kind has its own.
const MAIN: MediaKind = MediaKind::Audio;

/// The last URL for each push URL, and for each member and kind.
#[derive(Default)]
pub(super) struct Urls {
    push: Map<MediaKind, String>,
    pull: Map<(UserId, MediaKind), String>,
}

impl Urls {
    /// The kinds that share each push URL.
    pub(super) fn slots() -> [KindSet; 3] {
        let one = |kind| KindSet::of(&kind);
        [KindSet::AUDIO_VIDEO, one(MediaKind::ScreenShare), one(MediaKind::SlaveAudio)]
    }

    /// Stores the push URL of `kind`. Returns whether it differs from the one that the app holds.
    pub(super) fn push(&mut self, kind: &MediaKind, url: &str) -> bool {
        let slot = if KindSet::AUDIO_VIDEO.contains(kind) { &MAIN } else { kind };
        note(&mut self.push, slot.clone(), url)
    }

    /// Stores the pull URL of a member's kind. Returns whether it differs from the one that the app holds.
    pub(super) fn pull(&mut self, uid: UserId, kind: &MediaKind, url: &str) -> bool {
        note(&mut self.pull, (uid, kind.clone()), url)
    }

    /// Forgets a pull URL that the app no longer plays.
    pub(super) fn drop_pull(&mut self, uid: UserId, kind: &MediaKind) {
        self.pull.remove(&(uid, kind.clone()));
    }

    /// Forgets every pull URL for which `wanted` is false.
    pub(super) fn keep_pulls(&mut self, wanted: impl Fn(&(UserId, MediaKind)) -> bool) {
        self.pull.retain(|key, _| wanted(key));
    }
}

fn note<K: Ord>(held: &mut Map<K, String>, key: K, url: &str) -> bool {
    held.insert(key, url.to_owned()).as_deref() != Some(url)
}

//! Which viewer plays what.
//!
//! In: claims under the viewer their request or verdict names. Out: ends, by cuts and by newer plays
//! of the same viewer. Absent: a bound on claims under a name that only the request gave: anybody may
//! write any name there, and must not be able to end the plays of others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::claim_core::{ClaimCore, EndReason};
use super::lock;
use crate::auth::StreamName;

/// Plays of one viewer on one stream. A client needs one, and a second while it reconnects.
const MAX_PLAYS_PER_VIEWER: usize = 4;

#[derive(Debug)]
struct Entry {
    core: Arc<ClaimCore>,
    /// Plays under this name by the word of the authorizer.
    playing: bool,
}

/// The index. In each list those that play stand in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct Viewers(Mutex<HashMap<String, Vec<Entry>>>);

impl Viewers {
    pub(super) fn add(&self, viewer: &str, core: &Arc<ClaimCore>) {
        let entry = Entry { core: core.clone(), playing: false };
        lock(&self.0).entry(viewer.to_owned()).or_default().push(entry);
    }

    pub(super) fn remove(&self, viewer: &str, core: &ClaimCore) {
        let mut viewers = lock(&self.0);
        if let Some(entries) = viewers.get_mut(viewer) {
            entries.retain(|entry| entry.core.id != core.id);
            if entries.is_empty() {
                viewers.remove(viewer);
            }
        }
    }

    /// Whether a viewer has so many plays of a stream, ended ones that still exist included, that there is no room for
    /// another: it does not read, and its connections are about to be ended.
    pub(super) fn is_full(&self, viewer: &str, stream: &StreamName) -> bool {
        let viewers = lock(&self.0);
        let entries = viewers.get(viewer).map(Vec::as_slice).unwrap_or_default();
        let plays = entries.iter().filter(|entry| entry.playing && entry.core.stream == *stream);
        plays.count() >= 2 * MAX_PLAYS_PER_VIEWER
    }

    /// Says that a claim plays now under a name the authorizer gave. Ends the oldest plays of the
    /// viewer on that stream as far as there are too many, and returns them.
    pub(super) fn begin(&self, viewer: &str, core: &ClaimCore) -> Vec<Arc<ClaimCore>> {
        let mut viewers = lock(&self.0);
        let Some(entries) = viewers.get_mut(viewer) else { return Vec::new() };
        if let Some(at) = entries.iter().position(|entry| entry.core.id == core.id) {
            let entry = entries.remove(at);
            entries.push(Entry { playing: true, ..entry });
        }
        let plays = entries.iter().filter(|entry| {
            entry.playing && entry.core.stream == core.stream && entry.core.ended().is_none()
        });
        let surplus = plays.clone().count().saturating_sub(MAX_PLAYS_PER_VIEWER);
        let oldest = plays.take(surplus).filter(|entry| entry.core.end(EndReason::Replaced));
        oldest.map(|entry| entry.core.clone()).collect()
    }

    /// What a viewer plays of a stream, and claims of it that name the viewer.
    pub(super) fn claims(&self, viewer: &str, stream: &StreamName) -> Vec<Arc<ClaimCore>> {
        let viewers = lock(&self.0);
        let entries = viewers.get(viewer).map(Vec::as_slice).unwrap_or_default();
        let wanted = entries.iter().filter(|entry| entry.core.stream == *stream);
        wanted.map(|entry| entry.core.clone()).collect()
    }

    /// Cuts what a viewer plays, and claims that name it, as far as wanted; says how many.
    pub(super) fn cut(&self, viewer: &str, wanted: impl Fn(&ClaimCore) -> bool) -> usize {
        let viewers = lock(&self.0);
        let entries = viewers.get(viewer).map(Vec::as_slice).unwrap_or_default();
        entries
            .iter()
            .filter(|entry| wanted(&entry.core) && entry.core.stop(EndReason::Cut))
            .count()
    }
}

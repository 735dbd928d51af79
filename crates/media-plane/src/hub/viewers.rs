//! The index of plays by viewer.
//!
//! In: claims, each under the viewers that its request and its verdict name. Out: claims to end, because of a cut or
//! of newer plays of the same viewer. Absent: a bound on claims under a name that only the request gave. Anyone can
//! write any name into a request, and must not be able to end the plays of others that way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::claim_core::{ClaimCore, EndReason};
use super::lock;
use crate::auth::StreamName;

/// Plays of one viewer on one stream. A client needs one, and a second one while it reconnects.
const MAX_PLAYS_PER_VIEWER: usize = 4;

#[derive(Debug)]
struct Entry {
    core: Arc<ClaimCore>,
    /// Whether the claim plays, and the authorizer confirmed the viewer.
    playing: bool,
}

/// The index. In each list, the entries with `playing` are ordered by the start of their plays.
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

    /// Whether a viewer has so many plays of a stream, including ended plays that still exist, that another one is
    /// refused. That happens to a viewer that does not read: its ended connections are still being closed.
    pub(super) fn is_full(&self, viewer: &str, stream: &StreamName) -> bool {
        let viewers = lock(&self.0);
        let entries = viewers.get(viewer).map(Vec::as_slice).unwrap_or_default();
        let plays = entries.iter().filter(|entry| entry.playing && entry.core.stream == *stream);
        plays.count() >= 2 * MAX_PLAYS_PER_VIEWER
    }

    /// Marks a claim as playing under a viewer that the authorizer confirmed. Ends the viewer's oldest surplus plays
    /// on that stream and returns them.
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

    /// The plays of a viewer on a stream, and the pending claims on it that name the viewer.
    pub(super) fn claims(&self, viewer: &str, stream: &StreamName) -> Vec<Arc<ClaimCore>> {
        let viewers = lock(&self.0);
        let entries = viewers.get(viewer).map(Vec::as_slice).unwrap_or_default();
        let wanted = entries.iter().filter(|entry| entry.core.stream == *stream);
        wanted.map(|entry| entry.core.clone()).collect()
    }

    /// Cuts the plays of a viewer, and the pending claims that name the viewer, where `wanted` holds. Returns their
    /// number.
    pub(super) fn cut(&self, viewer: &str, wanted: impl Fn(&ClaimCore) -> bool) -> usize {
        let viewers = lock(&self.0);
        let entries = viewers.get(viewer).map(Vec::as_slice).unwrap_or_default();
        entries
            .iter()
            .filter(|entry| wanted(&entry.core) && entry.core.stop(EndReason::Cut))
            .count()
    }
}

//! Which states an input reached. Comes in: names of them, from the bodies. Goes out: a set. Deliberately
//! absent: counts; the replay of the corpus asks whether a state is reached at all, so that the corpus does
//! not lose its meaning unnoticed when a body reads its bytes in another way.

use std::collections::BTreeSet;

/// Names such as `close 4003`.
#[derive(Debug, Default)]
pub struct Seen(BTreeSet<String>);

impl Seen {
    pub(crate) fn note(&mut self, kind: &str, what: impl std::fmt::Display) {
        self.0.insert(format!("{kind} {what}"));
    }

    /// Every name, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether a state was reached.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Adds what another input reached.
    pub fn extend(&mut self, other: Seen) {
        self.0.extend(other.0);
    }
}

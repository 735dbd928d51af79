//! The states that an input reached. In: names of states, from the bodies. Out: a set. Deliberately absent: counts; the
//! replay of the corpus only asks whether a state is reached, so that it notices if a body interprets its bytes
//! differently and the corpus loses its meaning.

use std::collections::BTreeSet;

/// A set of names such as `close 4003`.
#[derive(Debug, Default)]
pub struct ReachedStates(BTreeSet<String>);

impl ReachedStates {
    pub(crate) fn note(&mut self, kind: &str, what: impl std::fmt::Display) {
        self.0.insert(format!("{kind} {what}"));
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether a state was reached.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Adds the states that another input reached.
    pub fn extend(&mut self, other: ReachedStates) {
        self.0.extend(other.0);
    }
}
